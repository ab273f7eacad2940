# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Refuse settings that cannot work, before a host is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: problems
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: What is wrong with the settings of an app
description:
  - Takes the variables of the role C(flaskfleet.web.flask_gunicorn_nginx) and returns a sentence for each thing that is
    wrong with them, with the variable's name, what it holds and what to set.
  - An argument specification checks types, but neither what a value may look like nor how values fit together, and it
    does not notice a misspelled name. What nginx and systemd would take for their own syntax is refused here as well.
  - Of C(flask_gunicorn_nginx_env) and C(flask_gunicorn_nginx_credentials) only names are shown, never values.
positional: known, serial
options:
  _input:
    description: The variables, full name to value.
    type: dict
    required: true
  known:
    description: The full names of all variables that the role has.
    type: list
    elements: str
    required: true
  serial:
    description: Whether the play has hosts that are not in its present batch.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Refuse settings that cannot work
  ansible.builtin.assert:
    that: __problems | length == 0
    fail_msg: "{{ __problems | join('\n') }}"
  vars:
    __problems: "{{ {'flask_gunicorn_nginx_prot': 5000} | flaskfleet.web.problems(['flask_gunicorn_nginx_port']) }}"
"""

RETURN = r"""
_value:
  description: One sentence or two for each problem; empty when there is none.
  type: list
  elements: str
"""

import ast
import difflib
import ipaddress
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.source import SourceError, mask, parse

PREFIX = "flask_gunicorn_nginx_"
KIB = 1024
MIB = 1024 * KIB
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# for one of these systemd drops a whole EnvironmentFile
NONCHARACTER = re.compile(
    f"[\ufdd0-\ufdef{''.join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))}]"
)

# Users, units, and directories of /var/lib and /srv that a Debian or Ubuntu machine has: an app of that name would take
# them over, and removing the app would remove them.
TAKEN_NAMES = frozenset(
    """
    adm apparmor apt apps backup bin bluetooth boltd certbot chrony cloud colord combined containerd cron cups daemon
    dbus dconf default dhcp dhcpcd disk docker dpkg emergency exim4 fail2ban flaskctl flaskfleet ftp fwupd games gdm
    getty git gnats grafana grub http initramfs-tools irc kernel landscape letsencrypt list locate lp lxd mail man
    mariadb memcached messagebus misc mongodb monit mysql netplan networking news nfs nginx nobody nscd ntp os-prober
    pam plymouth polkit polkitd postfix postgres postgresql private prometheus proxy python python3 rabbitmq redis
    rescue resolvconf root rpcbind rsync rsyslog shadow shells snapd ssh sshd ssl sudo sync sys syslog systemd tcpdump
    tor tty ubuntu-advantage ucf udev udisks2 ufw usbmux users utmp uucp uuidd vim voice www-data xfonts xml-core
    """.split()
)
RESERVED_ENVIRONMENT = frozenset(
    """
    CREDENTIALS_DIRECTORY FLASKFLEET_RELEASE FLASKFLEET_TRY LISTEN_FDNAMES LISTEN_FDS LISTEN_PID NOTIFY_SOCKET
    PYTHONPATH SCRIPT_NAME STATE_DIRECTORY
    """.split()
)

# Gunicorn's settings, so that a misspelled one, which Gunicorn itself ignores, can be told from one that is too new.
GUNICORN_SETTINGS = frozenset(
    """
    access_log_format accesslog asgi_disconnect_grace_period asgi_lifespan asgi_loop backlog ca_certs
    capture_output casefold_http_method cert_reqs certfile check_config ciphers default_proc_name dirty_apps
    dirty_graceful_timeout dirty_threads dirty_timeout dirty_workers disable_redirect_access_to_syslog
    do_handshake_on_connect dogstatsd_tags enable_backlog_metric enable_stdio_inheritance errorlog
    forwarded_allow_ips forwarder_headers graceful_timeout header_map http2_cleartext http2_initial_window_size
    http2_max_concurrent_streams http2_max_frame_size http2_max_header_list_size http_parser http_protocols
    initgroups keepalive keyfile limit_request_field_size limit_request_fields limit_request_line logconfig
    logconfig_dict logconfig_json logger_class loglevel max_requests max_requests_jitter paste
    permit_obsolete_folding permit_unconventional_http_method permit_unconventional_http_version preload_app
    print_config protocol proxy_allow_ips proxy_protocol pythonpath raw_paste_global_conf root_path
    secure_scheme_headers sendfile spew ssl_version statsd_host statsd_prefix strip_header_spaces
    suppress_ragged_eofs syslog syslog_addr syslog_facility syslog_prefix threads timeout tmp_upload_dir
    uwsgi_allow_ips websocket_max_message_size worker_class worker_connections worker_tmp_dir workers
    """.split()
)
GUNICORN_HOOKS = frozenset(
    """
    child_exit dirty_post_fork dirty_worker_exit dirty_worker_init nworkers_changed on_dirty_starting on_exit
    on_reload on_starting post_fork post_request post_worker_init pre_exec pre_fork pre_request ssl_context
    when_ready worker_abort worker_exit worker_int
    """.split()
)
GUNICORN_OWNED = {
    "bind": "systemd holds the socket; set flask_gunicorn_nginx_port",
    "chdir": "the directory is the release's own",
    "config": "the role writes the file",
    "daemon": "systemd runs Gunicorn",
    "group": "systemd sets the group",
    "pidfile": "systemd knows the process",
    "proc_name": "it names the release",
    "raw_env": "set flask_gunicorn_nginx_env",
    "reload": "a release never changes; run the playbook",
    "reload_engine": "a release never changes; run the playbook",
    "reload_extra_files": "a release never changes; run the playbook",
    "reuse_port": "systemd holds the socket",
    "umask": "set UMask in flask_gunicorn_nginx_service_settings",
    "user": "systemd sets the user",
    "wsgi_app": "set flask_gunicorn_nginx_wsgi_app",
}
GUNICORN_NUMBERS = ("workers", "threads", "worker_connections", "timeout", "graceful_timeout", "keepalive")

SERVICE_OWNED = {
    "BusName": "the service tells that it is ready by itself",
    "DynamicUser": "the role makes the user",
    "Environment": "set flask_gunicorn_nginx_env",
    "EnvironmentFile": "set flask_gunicorn_nginx_env",
    "Group": "it is the app's own",
    "GuessMainPID": "the service tells its process by itself",
    "KillMode": "another one cuts requests off when a release is replaced",
    "LoadCredential": "set flask_gunicorn_nginx_credentials",
    "NotifyAccess": "the health check depends on it",
    "PIDFile": "the service tells its process by itself",
    "PassEnvironment": "set flask_gunicorn_nginx_env",
    "RemainAfterExit": "systemd must see that the app has ended",
    "RootDirectory": "the release is outside of it",
    "RootImage": "the release is outside of it",
    "SetCredential": "set flask_gunicorn_nginx_credentials",
    "Sockets": "the role connects the socket",
    "StateDirectory": "it is the app's own, /var/lib and its name",
    "Type": "the health check depends on it",
    "UnsetEnvironment": "set flask_gunicorn_nginx_env",
    "User": "it is the app's own",
    "WorkingDirectory": "it is the release's own",
}
NGINX_OWNED = {
    "alias": "set flask_gunicorn_nginx_static",
    "http2": "it comes with flask_gunicorn_nginx_tls",
    "if": "a condition needs a block",
    "include": "the role writes the whole site",
    "listen": "set flask_gunicorn_nginx_listen",
    "location": "the role writes the locations",
    "proxy_pass": "requests go to the app",
    "return": "requests go to the app",
    "rewrite": "requests go to the app",
    "root": "set flask_gunicorn_nginx_static",
    "server_name": "set flask_gunicorn_nginx_server_names",
    "set_real_ip_from": "set flask_gunicorn_nginx_trusted_proxies",
    "real_ip_header": "set flask_gunicorn_nginx_trusted_proxies",
    "real_ip_recursive": "set flask_gunicorn_nginx_trusted_proxies",
}

Problems = Iterator[str]
Rule = Callable[[Any], Problems]


# telling


def shown(value: Any) -> str:
    """Return a value as it may be printed: short, on one line, no password of a URL in it."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, Mapping):
        return "a dictionary"
    if isinstance(value, (list, tuple, set)):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return shortened(str(value))
    return f"'{shortened(mask(str(value)))}'"


def shortened(text: str, limit: int = 60) -> str:
    """Return at most `limit` characters of a text, what cannot be printed written out."""
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= limit else f"{text[:limit]}..."


def meant(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' when a known name is near, else nothing."""
    full = {item.removeprefix(PREFIX): item for item in known}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), sorted(full), n=1, cutoff=0.7)
    return f" Did you mean {full[near[0]]}?" if near else ""


# what values may look like


def number(value: Any) -> int | None:
    """Return a whole number, given as one or as digits (a value from the command line is a text), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    return None


def truth(value: Any) -> bool | None:
    """Return true or false for what Ansible takes for one of them, else None."""
    text = str(value).lower() if isinstance(value, (bool, int, str)) else ""
    if text in ("true", "yes", "on", "1", "y", "t"):
        return True
    return False if text in ("false", "no", "off", "0", "n", "f") else None


def a_bool(value: Any) -> Problems:
    """Accept true and false."""
    if truth(value) is None:
        yield f"is {shown(value)}. Set it to true or false."


def a_number(low: int, high: int | None, example: str) -> Rule:
    """Accept a whole number from `low` to `high`."""

    def rule(value: Any) -> Problems:
        found = number(value)
        if found is None or found < low or (high is not None and found > high):
            reach = f"from {low} to {high}" if high is not None else f"of at least {low}"
            yield f"is {shown(value)}, not a whole number {reach}. {example}"

    return rule


def a_text(pattern: str, what: str) -> Rule:
    """Accept a text that fully matches a pattern; `what` completes 'it must be'."""
    form = re.compile(pattern)

    def rule(value: Any) -> Problems:
        if not isinstance(value, str) or not form.fullmatch(value):
            yield f"is {shown(value)}. It must be {what}."

    return rule


def a_list(value: Any, items: Rule, example: str) -> Problems:
    """Accept a list, each item of which `items` accepts."""
    if not isinstance(value, (list, tuple)):
        yield f"is {shown(value)}. It must be a list: {example}."
        return
    for position, item in enumerate(value, 1):
        for text in items(item):
            yield f"item {position} {text}"


def a_dict(value: Any, example: str) -> Problems:
    """Accept a dictionary."""
    if not isinstance(value, Mapping):
        yield f"is {shown(value)}. It must be a dictionary: {example}."


def a_record(example: str, **rules: Rule) -> Rule:
    """Accept a dictionary with some of these keys, each held to a rule of its own."""

    def rule(value: Any) -> Problems:
        yield from a_dict(value, example)
        for key, held in value.items() if isinstance(value, Mapping) else ():
            if key in rules:
                yield from (f"has {key}, which {text}" for text in rules[key](held))
            else:
                yield f"has {shown(key)}, which is not known.{meant(str(key), rules)} It can have {', '.join(rules)}."

    return rule


def relative_path(value: Any, example: str) -> Problems:
    """Accept a path that stays below where it starts."""
    if not isinstance(value, str) or not value or CONTROL.search(value):
        yield f"is {shown(value)}. It must be a path inside the source: {example}."
    elif value.startswith(("/", "~")) or ".." in value.split("/"):
        yield f"is {shown(value)}, which leaves the source. It must be a path inside it: {example}."


# the variables, one function or table entry each


def name(value: Any) -> Problems:
    """Accept what can be a user, a unit and a directory at once."""
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", value):
        yield (
            f"is {shown(value)}. It names a user, units and directories: a lower-case letter, then up to 30 lower-case"
            " letters, digits or dashes, such as hello."
        )
    elif value in TAKEN_NAMES or value.startswith("systemd-"):
        yield f"is {shown(value)}, which belongs to the system. Choose another name, such as {value}-app."


def state(value: Any) -> Problems:
    """Accept one of the three states."""
    if value not in ("present", "absent", "purged"):
        yield f"is {shown(value)}. It must be present, absent or purged."


def source(value: Any) -> Problems:
    """Accept what module archive can pack."""
    if not isinstance(value, str):
        yield f"is {shown(value)}. Set it to a directory, a git revision or a requirement."
        return
    try:
        found = parse(str(value))
    except SourceError as error:
        yield f"cannot be used: {error}"
        return
    if found.kind == "directory" and not found.location.startswith(("/", "~")):
        yield f"is the relative path {shown(value)}, seen from nowhere. Write {{{{ playbook_dir }}}}/{value}."


def exclude(value: Any) -> Problems:
    """Accept patterns for file names."""
    yield from a_list(value, a_text(r"[^\x00-\x1f\x7f]+", "a pattern for names, such as *.sqlite3"), "['*.sqlite3']")


def wsgi_app(value: Any) -> Problems:
    """Accept what Gunicorn can import: module:name, or a call of a factory with literals."""
    example = "It must be MODULE:NAME or a factory, such as app:app or flaskr:create_app('production')."
    if not isinstance(value, str) or CONTROL.search(value):
        yield f"is {shown(value)}. {example}"
        return
    module, _colon, called = value.partition(":")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
        yield f"is {shown(value)}, and {shown(module)} is no Python module. {example}"
        return
    if not called:
        if _colon:
            yield f"is {shown(value)}, and after the colon is nothing. {example}"
        return
    try:
        tree = ast.parse(called, mode="eval").body
        if isinstance(tree, ast.Call):
            for argument in (*tree.args, *(keyword.value for keyword in tree.keywords)):
                ast.literal_eval(argument)
            tree = tree.func
        fits = isinstance(tree, ast.Name)
    except (SyntaxError, ValueError):
        fits = False
    if not fits:
        yield f"is {shown(value)}. After the colon Gunicorn takes only a name, or a call with plain values. {example}"


def requirements(value: Any) -> Problems:
    """Accept a path inside the source."""
    yield from relative_path(value, "requirements.txt")


def index_url(value: Any) -> Problems:
    """Accept a package index that pip can read, or none."""
    if not isinstance(value, str) or (value and not re.fullmatch(r"(https|http|file)://[^\s\x00-\x1f\x7f]+", value)):
        yield (
            f"is {shown(value)}. It must be a URL that starts with https://, http:// or file:// and has no space, or"
            " empty for pip's own index."
        )


def absolute_or_empty(value: Any) -> Problems:
    """Accept an absolute path or an empty text."""
    if not isinstance(value, str) or (value and not value.startswith("/")) or CONTROL.search(value):
        yield f"is {shown(value)}. It must be an absolute path on the host, or empty."


def variables(value: Any, reserved: frozenset[str], limit: int) -> Problems:
    """Accept names and values of environment variables or credentials; `limit` is in bytes for name=value.

    No message holds a value: it may be a password.
    """
    yield from a_dict(value, "{NAME: value}")
    if not isinstance(value, Mapping):
        return
    for key, held in value.items():
        label = f"has {shown(key)},"
        if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key):
            yield f"{label} which is no name. Use letters, digits and underscores, and no digit first."
            continue
        if len(key) > 64:
            yield f"{label} which has {len(key)} characters. Use at most 64."
        if key in reserved:
            yield f"{label} which the role or systemd sets. Remove it or take another name."
        if held is None or isinstance(held, bool):
            yield f'{label} whose value is {shown(held)}, and it is not clear as which text. Quote it: {key}: "1".'
        elif not isinstance(held, (str, int, float)):
            yield f"{label} whose value is {shown(held)}. It must be a text; write JSON with the filter to_json."
        else:
            yield from (f"{label} {text}" for text in text_problems(str(held), limit - len(key) - 1))


def text_problems(text: str, limit: int) -> Problems:
    """Accept a text that can be in a process's environment; `limit` is in bytes."""
    if "\0" in text:
        yield "whose value holds a NUL character. Encode it, for example as base64."
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        yield "whose value is not UTF-8. Encode it, for example as base64."
        return
    if size >= limit:
        yield f"whose value has {size} bytes; {limit - 1} are possible. Put it into a file of the app."
    elif NONCHARACTER.search(text):
        yield "whose value holds a character that systemd takes for no text, and it would drop every value. Encode it."


def env(value: Any) -> Problems:
    """Accept the environment: Linux takes less than 128 KiB for each name=value."""
    yield from variables(value, RESERVED_ENVIRONMENT, 128 * KIB)


def credentials(value: Any) -> Problems:
    """Accept credentials: systemd takes less than 1 MiB for all of them."""
    yield from variables(value, frozenset(), MIB)
    if isinstance(value, Mapping):
        total = sum(len(held.encode(errors="replace")) for held in value.values() if isinstance(held, str))
        if total >= MIB and len(value) > 1:
            yield f"has {total} bytes together, and systemd takes less than {MIB}. Put large ones into files."


def plain(value: Any) -> bool:
    """Tell whether a value can be written as a Python literal."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and plain(key) and plain(held) for key, held in value.items())
    if isinstance(value, (list, tuple)):
        return all(plain(item) for item in value)
    if isinstance(value, str):
        return "\0" not in value
    return value is None or isinstance(value, (bool, int, float))


def settings(value: Any) -> Problems:
    """Accept Gunicorn's settings, except those on which the role's promises depend."""
    yield from a_dict(value, "{timeout: 60}")
    if not isinstance(value, Mapping):
        return
    for key, held in value.items():
        label = f"has {shown(key)},"
        if not isinstance(key, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", key):
            yield f"{label} which is no setting of Gunicorn. Use the names of its configuration file, such as timeout."
        elif key in GUNICORN_OWNED:
            yield f"{label} which is the role's own: {GUNICORN_OWNED[key]}. Remove it."
        elif key.startswith("control_socket"):
            yield f"{label} which is the role's own: two releases would share the socket. Remove it."
        elif key in GUNICORN_HOOKS:
            yield f"{label} which is a function and not a value. Do it in the app."
        elif key not in GUNICORN_SETTINGS and meant(key, GUNICORN_SETTINGS):
            yield f"{label} which Gunicorn would ignore.{meant(key, GUNICORN_SETTINGS)}"
        elif not plain(held):
            yield f"{label} whose value is not made of text, numbers, true, false, null, lists and dictionaries."
        elif key in GUNICORN_NUMBERS and (isinstance(held, bool) or not isinstance(held, int) or held < 0):
            yield f"{label} whose value is {shown(held)}. It must be a whole number, without quotes."
        elif key == "workers" and held < 1:
            yield f"{label} whose value is {shown(held)}. One worker at least is needed; without it there is one a CPU."


def service_settings(value: Any) -> Problems:
    """Accept directives of systemd's [Service]; no value may become a second line of the unit."""
    yield from a_dict(value, "{MemoryMax: 512M}")
    if not isinstance(value, Mapping):
        return
    for key, held in value.items():
        label = f"has {shown(key)},"
        if not isinstance(key, str) or not re.fullmatch(r"[A-Z][A-Za-z0-9]+", key):
            yield f"{label} which is no directive of systemd. Use its names as in a unit file, such as MemoryMax."
            continue
        owned = SERVICE_OWNED.get(key) or SERVICE_OWNED.get(key.removesuffix("Encrypted"))
        if key.startswith("Exec") and key != "ExecPaths":
            owned = "the role runs the release"
        if owned:
            yield f"{label} which is the role's own: {owned}. Remove it."
            continue
        for item in held if isinstance(held, (list, tuple)) else [held]:
            if not isinstance(item, (str, int)):
                yield f"{label} whose value is {shown(item)}. It must be a text, a number, a boolean or a list of them."
            elif isinstance(item, str) and (CONTROL.search(item) or item.rstrip().endswith("\\")):
                yield (
                    f"{label} whose value is {shown(item)}. No line break, no other control character and no backslash"
                    " at the end can be in it."
                )
            elif isinstance(item, str) and len(item) >= MIB // 4:
                yield f"{label} whose value has {len(item)} characters: systemd would not load the unit."


def health_path(value: Any) -> Problems:
    """Accept a path that is the same in a URL and in WSGI: nothing in it needs a code."""
    if not isinstance(value, str) or not re.fullmatch(r"/[A-Za-z0-9._~@:+,=/-]*", value):
        yield (
            f"is {shown(value)}. It must start with / and hold only letters, digits and ._~@:+,=/- (no query), such as"
            " /healthz."
        )


def server_name(value: Any) -> Problems:
    """Accept a host name of RFC 1123, or such a one after `*.`; everything else has a meaning of its own to nginx."""
    if not isinstance(value, str) or not value:
        yield f"is {shown(value)}. It must be a host name, such as www.example.com."
        return
    bare = value.removeprefix("*.")
    label = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
    if len(value) > 253:
        yield f"is {shown(value)}, {len(value)} characters long. A host name has at most 253."
    elif not bare.isascii():
        advice = ""
        try:
            encoded = bare.encode("idna").decode()
            if all(label.fullmatch(part) for part in encoded.split(".")):
                advice = f": {value[: -len(bare)]}{encoded}"
        except UnicodeError:
            pass
        yield f"is {shown(value)}. Write it in punycode{advice}."
    elif not all(label.fullmatch(part) for part in bare.split(".")):
        yield (
            f"is {shown(value)}, which is no host name. Use letters, digits, dashes and dots, such as www.example.com,"
            " with *. before it for all names below. For any name at all set flask_gunicorn_nginx_default_server: true."
        )


def server_names(value: Any) -> Problems:
    """Accept host names."""
    yield from a_list(value, server_name, "[www.example.com]")
    if isinstance(value, (list, tuple)):
        names = [item.lower() for item in value if isinstance(item, str)]
        for twice in sorted({item for item in names if names.count(item) > 1}):
            yield f"has {shown(twice)} twice. Remove one."


def tls(value: Any) -> Problems:
    """Accept certificate and key, both or neither."""
    yield from a_dict(value, "{certificate: /etc/ssl/hello.pem, key: /etc/ssl/private/hello.key}")
    if not isinstance(value, Mapping) or not value:
        return
    known = ("certificate", "key", "hsts_max_age")
    for key in value:
        if key not in known:
            yield f"has {shown(key)}, which is not known.{meant(str(key), known)} It can have {', '.join(known)}."
    paths = {key: value.get(key) for key in known[:2]}
    for key, path in paths.items():
        if path in (None, ""):
            yield f"has no {key}. Set certificate and key, or neither for plain HTTP."
        elif not isinstance(path, str) or not re.fullmatch(r"/[A-Za-z0-9._~@:+,=/*-]*", path) or "*" in path:
            yield (
                f"has the {key} {shown(path)}. It must be an absolute path on the host, of letters, digits and"
                " ._~@:+,=/- only."
            )
    age = value.get("hsts_max_age")
    if age is not None and number(age) is None:
        yield f"has the hsts_max_age {shown(age)}. It must be a whole number of seconds, such as 63072000."


def server_settings(value: Any) -> Problems:
    """Accept nginx directives; no value may end its directive and begin another."""
    yield from a_dict(value, "{client_max_body_size: 20m}")
    if not isinstance(value, Mapping):
        return
    for key, held in value.items():
        label = f"has {shown(key)},"
        if not isinstance(key, str) or not re.fullmatch(r"[a-z][a-z0-9_]+", key):
            yield f"{label} which is no directive of nginx. Use its names, such as client_max_body_size."
        elif key in NGINX_OWNED:
            yield f"{label} which is the role's own: {NGINX_OWNED[key]}. Remove it."
        elif key.startswith("ssl_"):
            yield f"{label} which is the role's own: set flask_gunicorn_nginx_tls. Remove it."
        elif isinstance(held, bool):
            word = "on" if held else "off"
            yield f'{label} whose value is {shown(held)}, which YAML makes of {word}. Quote it: {key}: "{word}".'
        elif not isinstance(held, (str, int)):
            yield f"{label} whose value is {shown(held)}. It must be a text or a number."
        elif isinstance(held, str) and (not held.strip() or CONTROL.search(held) or re.search(r"[;{}$'\"`\\#]", held)):
            yield (
                f"{label} whose value is {shown(held)}. It must not be empty, and no quote, control character or one"
                " of ; { } $ # ` \\ can be in it."
            )


def proxy_network(value: Any) -> Problems:
    """Accept an address or a network that is not everybody."""
    example = "an address or a network of a load balancer, such as 10.0.0.0/24"
    if not isinstance(value, str) or "%" in value:
        yield f"is {shown(value)}. It must be {example}."
        return
    try:
        network = ipaddress.ip_network(value, strict=False)
    except ValueError:
        yield f"is {shown(value)}. It must be {example}."
        return
    if network.prefixlen == 0:
        yield f"is {shown(value)}: then any client could claim any address. Name {example}."
    elif "/" in value and str(network.network_address) != str(ipaddress.ip_address(value.partition("/")[0])):
        yield f"is {shown(value)}, which has bits beyond its mask. Write {network}."


def trusted_proxies(value: Any) -> Problems:
    """Accept addresses and networks."""
    yield from a_list(value, proxy_network, "[10.0.0.0/24]")


def static_dir(value: Any) -> Problems:
    """Accept a path inside the source, or none."""
    if value != "":
        yield from relative_path(value, "static (empty when nginx has no files to serve)")


def command(value: Any) -> Problems:
    """Accept a command line, or none."""
    if not isinstance(value, str) or CONTROL.search(value) or value.rstrip().endswith("\\"):
        yield f"is {shown(value)}. It must be a command on one line, such as flask db upgrade, or empty."
    elif re.match(r"\s*[@:+!|-]", value):
        yield f"is {shown(value)}. Its first character would mean something to systemd. Begin with the program's name."


def batches(value: Any) -> Problems:
    """Accept sizes as `serial` of a play takes them."""
    yield from a_list(value, batch, '[1, "10%", "100%"]')
    if isinstance(value, (list, tuple)) and not value:
        yield 'is empty. Set the sizes of the batches, such as [1, "10%", "100%"].'


def batch(value: Any) -> Problems:
    """Accept a number of hosts or a share of them."""
    share = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", value) if isinstance(value, str) else None
    if not ((number(value) or 0) > 0 or (share and 0 < float(share[1]) <= 100)):
        yield f'is {shown(value)}. It must be a number of hosts, 1 or more, or a share of them, "10%".'


def an_amount(value: Any) -> Problems:
    """Accept a number that need not be whole."""
    text = str(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"\d{1,6}(\.\d+)?", text):
        yield f"is {shown(value)}. It must be a number, such as 1.5."


def ready_path(value: Any) -> Problems:
    """Accept a path of its own: it stands beside the app's."""
    yield from health_path(value)
    if value == "/":
        yield "is '/', which belongs to the app. Set a path that it does not have, such as /readyz."


def hooks(value: Any) -> Problems:
    """Accept files of tasks that run around a release."""
    known = ("before_batch", "pre_release", "post_release", "after_batch")
    yield from a_dict(value, "{pre_release: /srv/deploy/before.yml}")
    for key, path in value.items() if isinstance(value, Mapping) else ():
        if key not in known:
            yield f"has {shown(key)}, which is not known.{meant(str(key), known)} It can have {', '.join(known)}."
        elif not isinstance(path, str) or not path.startswith("/") or CONTROL.search(path):
            yield (
                f"has the {key} {shown(path)}. It must be an absolute path on the control node, such as"
                " {{ playbook_dir }}/before.yml."
            )


def processes(value: Any) -> Problems:
    """Accept what runs beside the web server."""
    yield from a_list(value, process, "[{name: worker, command: celery -A app worker, count: 2}]")
    if isinstance(value, (list, tuple)):
        names = [unit for item in value if isinstance(item, Mapping) for unit in units(item)]
        for twice in sorted({unit for unit in names if names.count(unit) > 1}):
            yield f"has {shown(twice)} twice. Give each process a name of its own."


def units(item: Mapping[str, Any]) -> list[str]:
    """Return the units that a process becomes: NAME, or NAME-1 to NAME-N where several run side by side."""
    count = number(item.get("count", 1)) or 0
    return (
        [f"{item.get('name')}-{copy}" for copy in range(1, min(count, 100) + 1)]
        if count > 1
        else [str(item.get("name"))]
    )


def process(value: Any) -> Problems:
    """Accept one process: a number of copies all the time, or one at certain times."""
    known = ("name", "command", "count", "schedule")
    if not isinstance(value, Mapping):
        yield f"is {shown(value)}. It must be a dictionary with {', '.join(known[:2])} and count or schedule."
        return
    for key in value:
        if key not in known:
            yield f"has {shown(key)}, which is not known.{meant(str(key), known)} It can have {', '.join(known)}."
    called = value.get("name")
    if not isinstance(called, str) or not re.fullmatch(r"[a-z][a-z0-9-]{0,30}", called):
        yield f"has the name {shown(called)}. It must be lower-case letters, digits and dashes, such as worker."
    if not value.get("command"):
        yield "has no command. Set what it runs, such as celery -A app worker."
    else:
        yield from (f"has a command that {text}" for text in command(value["command"]))
    if "count" in value and "schedule" in value:
        yield "has count and schedule. Set count for what runs all the time, schedule for what runs at times."
    elif "count" in value:
        yield from (f"has a count that {text}" for text in a_number(0, 100, "Set it to 1 or more.")(value["count"]))
    elif "schedule" in value:
        when = value["schedule"]
        if not isinstance(when, str) or not when.strip() or CONTROL.search(when) or when.rstrip().endswith("\\"):
            yield f"has the schedule {shown(when)}. It must be a time as systemd's OnCalendar reads it, such as daily."


RULES: dict[str, Rule] = {
    "name": name,
    "state": state,
    "source": source,
    "exclude": exclude,
    "wsgi_app": wsgi_app,
    "requirements": requirements,
    "python": a_text(
        r"[A-Za-z0-9_][A-Za-z0-9._+-]*|(/[A-Za-z0-9._+-]+)+",
        "the name of an interpreter or its absolute path, such as python3.12",
    ),
    "pip": a_record("{index_url: https://pypi.example.com/simple}", index_url=index_url, ca_bundle=absolute_or_empty),
    "env": env,
    "credentials": credentials,
    "settings": settings,
    "service_settings": service_settings,
    "port": a_number(1024, 65535, "Set a free port, such as 5000."),
    "health_path": health_path,
    "keep_releases": a_number(2, None, "The current and the previous release always stay: set 2 or more."),
    "server_names": server_names,
    "default_server": a_bool,
    "listen": a_number(1, 65535, "Set the port that nginx listens on, such as 80."),
    "tls": tls,
    "url_prefix": a_text(r"|(/[A-Za-z0-9._~-]+)+", "empty, or a path without a slash at its end, such as /api"),
    "url_prefix_in_routes": a_bool,
    "static": a_record(
        "{url: /static/, dir: static}",
        url=a_text(r"/([A-Za-z0-9._~-]+/)+", "a path with a slash at both ends, such as /static/"),
        dir=static_dir,
    ),
    "server_settings": server_settings,
    "trusted_proxies": trusted_proxies,
    "harden_nginx": a_bool,
    "migrate_command": command,
    "processes": processes,
    "hooks": hooks,
    "batches": batches,
    "rollout": a_record(
        "{max_unreachable: 1}",
        max_unreachable=a_number(0, None, "Set how many hosts may be down, such as 1."),
        revert=a_bool,
        bake=a_record(
            "{seconds: 60}",
            seconds=a_number(0, 86400, "Set how long to watch, or 0 for not at all."),
            max_errors=an_amount,
            max_slower=an_amount,
            min_requests=a_number(0, None, "Set how many requests are enough, such as 50."),
        ),
        ready_path=ready_path,
        report=absolute_or_empty,
    ),
}


def relations(get: Callable[[str], Any], has: Callable[[str], bool]) -> Iterator[str]:
    """Yield what is wrong between variables that are each right: `get` returns a value, None when it is not there."""
    if not get("source"):
        yield f"{PREFIX}source is not set. Set it to a directory, a git revision or a requirement."
    if has("server_names") and not get("server_names") and not truth(get("default_server")):
        yield (
            f"{PREFIX}server_names is empty, so nginx would never choose this app. Set it to the app's host names, or"
            f" {PREFIX}default_server: true to answer every name."
        )
    if number(get("port")) is not None and number(get("port")) == number(get("listen")):
        yield (
            f"{PREFIX}port and {PREFIX}listen are both {number(get('port'))}. The app and nginx need a port each: set"
            f" {PREFIX}port: 5000, for example."
        )
    ready = f"{get('url_prefix') or ''}/readyz" if truth(get("url_prefix_in_routes")) else "/readyz"
    if get("health_path") == ready:
        yield (
            f"{PREFIX}health_path is {ready}, which nginx answers for load balancers, and which says no while the host"
            " is drained. Set another path of the app, such as /healthz."
        )
    if get("tls") and number(get("listen")) == 443:
        yield (
            f"{PREFIX}listen is 443, where nginx listens for HTTPS when {PREFIX}tls is set. Set {PREFIX}listen: 80: it"
            " redirects to HTTPS."
        )
    if truth(get("url_prefix_in_routes")) and has("url_prefix") and not get("url_prefix"):
        yield (
            f"{PREFIX}url_prefix_in_routes is true and {PREFIX}url_prefix is empty. Set the prefix of the routes,"
            f" such as /api, or {PREFIX}url_prefix_in_routes: false."
        )


def problems(values: Mapping[str, Any], known: Iterable[str], serial: bool = False) -> list[str]:
    """Return what is wrong with the variables, in the order in which they are documented.

    `values` maps full names to values; `known` are the full names that the role has. For an app that is to be removed
    only what the removal needs is checked: a setting that went wrong must not keep it on the host. `serial` says
    whether the play has its hosts in batches of its own.
    """
    known = sorted(str(item) for item in known)
    found = [
        f"{PREFIX}{str(item).removeprefix(PREFIX)} is no variable of this role.{meant(str(item), known)}"
        f" All are described by: ansible-doc -t role flaskfleet.web.flask_gunicorn_nginx"
        for item in sorted(values, key=str)
        if str(item) not in known
    ]

    def has(option: str) -> bool:
        return PREFIX + option in values

    def get(option: str) -> Any:
        return values.get(PREFIX + option)

    removal = get("state") in ("absent", "purged")
    for option, rule in RULES.items():
        if not has(option) or (removal and option not in ("name", "state")):
            continue
        if option == "source" and not get("source"):
            continue  # said once, by relations()
        found += [f"{PREFIX}{option} {text}" for text in rule(get(option))]
    if not has("name"):
        found.insert(0, f"{PREFIX}name is not set. Set it to the app's name, such as hello.")
    if not removal:
        found += relations(get, has)
    if not removal and serial:
        found.append(
            f"The play sets serial, and then no host could wait for all others to be ready. Remove it and set"
            f" {PREFIX}batches instead."
        )
    return found


def host_problems(contact: Mapping[str, Any], host: str, name: str, port: Any) -> list[str]:
    """Return why a host cannot have the app, from what flaskfleet.web.host says; no `port` where it is to go."""
    if not (contact["debian"] and contact["systemd"]):
        return [
            f"{host} is {contact['distribution']}, {'with' if contact['systemd'] else 'without'} systemd:"
            " flask_gunicorn_nginx needs Debian 11 or Ubuntu 22.04, or newer, with systemd as PID 1."
        ]
    if not port:
        return []
    if contact["foreign"]:
        return [taken(contact["foreign"], host, name)]
    if contact["unreadable_schedules"]:
        times = ", ".join(shown(when) for when in contact["unreadable_schedules"])
        return [
            f"systemd on {host} cannot read {times} in {PREFIX}processes. A schedule is a time as systemd.time(7) has"
            " it, such as daily, Mon 03:00 or *-*-* 03:00:00; `systemd-analyze calendar` there tells what one means."
        ]
    if contact["services"][f"{name}.socket"]["active"] and int(port) not in contact["listening"]:
        return [
            f"On {host} {name}.socket does not listen on port {port}, and a socket cannot move while releases share it."
            f" Either set {PREFIX}port back, or take an outage of some seconds: run `systemctl stop {name}.socket"
            f" '{name}@*.service'` there, then run the playbook again."
        ]
    return []


def taken(foreign: Iterable[str], host: str, name: str) -> str:
    """Return the refusal of a name under which something stands that the role did not make."""
    things = "".join(f"\n  {thing}" for thing in foreign)
    return (
        f"On {host} this is in the way of {name}, and flask_gunicorn_nginx did not make it:{things}\nNothing is taken"
        f" over and nothing was changed. Choose another {PREFIX}name, or move these away first: docs/operations.md,"
        ' "A name that is taken".'
    )


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"problems": problems, "host_problems": host_problems}

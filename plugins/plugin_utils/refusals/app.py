# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What the app itself is: its name, its source and how that is built and imported, its environment and its secrets."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.source import CONTROL, NONCHARACTERS, SourceError, parse
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import (
    KIB,
    MIB,
    NAME,
    a_bool,
    a_dict,
    a_list,
    a_record,
    a_text,
    absolute_or_empty,
    relative_path,
)
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems, shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import options

# for one of these systemd drops a whole EnvironmentFile
NONCHARACTER = re.compile(f"[{NONCHARACTERS}]")
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
# what systemd and flaskctl set for each release, and what the role's own unit and Gunicorn's configuration set
RESERVED_BY_FLASKCTL = frozenset(
    """
    CREDENTIALS_DIRECTORY FLASKFLEET_RELEASE FLASKFLEET_TRY LISTEN_FDNAMES LISTEN_FDS LISTEN_PID NOTIFY_SOCKET
    """.split()
)
RESERVED_BY_THE_ROLE = frozenset({"PYTHONPATH", "SCRIPT_NAME", "STATE_DIRECTORY"})
ENVIRONMENT_NAME = "[A-Za-z_][A-Za-z0-9_]*"
CREDENTIAL_NAME = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}"


def name(value: Any) -> Problems:
    """Accept what can be a user, a unit and a directory at once."""
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
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
    yield from a_list(value, a_text(r".+", "a pattern for names, such as *.sqlite3"), "['*.sqlite3']")


def writable(value: Any) -> Problems:
    """Accept directories inside the source, none of them within another."""
    inside = r"(?!/)(?!.*(^|/)\.\.?(/|$)).*[^/]"
    a_directory = a_text(inside, "a directory by its path in the source, such as instance or var/uploads")
    problems = list(a_list(value, a_directory, "[instance]"))
    yield from problems
    for one in () if problems else value:
        for other in value:
            if other.startswith(f"{one}/"):
                yield f"holds {shown(one)} and {shown(other)}, which lies in it. Name the outer one alone."
    if not problems and len(set(value)) < len(value):
        yield "names a directory twice. Name it once."


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


def build_requirements(value: Any) -> Problems:
    """Accept a path inside the source, or none."""
    if value != "":
        yield from relative_path(value, "build-requirements.txt")


def index_url(value: Any) -> Problems:
    """Accept a package index that pip can read, or none."""
    form = r"(https|http|file)://\S+"
    if not isinstance(value, str) or CONTROL.search(value) or (value and not re.fullmatch(form, value)):
        yield (
            f"is {shown(value)}. It must be a URL that starts with https://, http:// or file:// and has no space, or"
            " empty for pip's own index."
        )


def packages(value: Any) -> Problems:
    """Accept names of packages, none of which apt could take for an option or a file."""
    a_package = a_text(r"[a-z0-9][a-z0-9+.-]+", "the name of a package of Debian or Ubuntu, such as libpq-dev")
    yield from a_list(value, a_package, "[libpq-dev, ffmpeg]")


def signing_key(value: Any) -> Problems:
    """Accept a path on the control node, or none."""
    if not isinstance(value, str) or (value and not re.fullmatch(r"[/~][^\x00-\x1f\x7f]*", value)):
        yield f"is {shown(value)}. It must be an absolute path on the control node, such as ~/.ssh/releases."


A_SIGNER = a_text(
    r"[^\s#\"]+( [a-z][^\s#\"]*=(\"[^\"\n]*\"|\S+)| cert-authority)*"
    r" (ssh-|sk-|ecdsa-)[a-z0-9@.-]+ [A-Za-z0-9+/]+=*( [^\n]*)?",
    "a line of ssh-keygen's list of allowed signers, such as: ada@example.com ssh-ed25519 AAAA...",
)


def allowed_signers(value: Any) -> Problems:
    """Accept lines of an allowed_signers file."""
    yield from a_list(value, A_SIGNER, "['ada@example.com ssh-ed25519 AAAA...']")


signing = a_record(options("signing"), "{key: ~/.ssh/releases}", key=signing_key, allowed_signers=allowed_signers)
pip = a_record(
    options("pip"),
    "{index_url: https://pypi.example.com/simple}",
    index_url=index_url,
    ca_bundle=absolute_or_empty,
    only_binary=a_bool,
    build_requirements=build_requirements,
)


def texts(value: Any, names: str, what: str, limit: int) -> Problems:
    """Accept environment variables or credentials, whose names have this pattern; `limit` is in bytes for name=value.

    No message holds a value: it may be a password.
    """
    yield from a_dict(value, "{NAME: value}")
    if not isinstance(value, Mapping):
        return
    for key, held in value.items():
        label = f"has {shown(key)},"
        if not isinstance(key, str) or not re.fullmatch(names, key):
            yield f"{label} which is no name. Use {what}."
        elif held is None or isinstance(held, bool):
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
    yield from texts(value, ENVIRONMENT_NAME, "letters, digits and underscores, and no digit first", 128 * KIB)
    for key in value if isinstance(value, Mapping) else ():
        if key in RESERVED_BY_FLASKCTL | RESERVED_BY_THE_ROLE:
            yield f"has {shown(key)}, which the role or systemd sets. Remove it or take another name."


def credentials(value: Any) -> Problems:
    """Accept credentials: systemd takes less than 1 MiB for all of them."""
    yield from texts(value, CREDENTIAL_NAME, "up to 64 letters, digits, underscores, dots and dashes", MIB)
    if isinstance(value, Mapping):
        total = sum(len(held.encode(errors="replace")) for held in value.values() if isinstance(held, str))
        if total >= MIB and len(value) > 1:
            yield f"has {total} bytes together, and systemd takes less than {MIB}. Put large ones into files."

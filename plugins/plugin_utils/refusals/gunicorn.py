# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Gunicorn's settings: which there are, which are the role's own, and what the health path may be."""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import a_dict
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems, meant, shown

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
    "bind": "systemd holds the socket; set flask_gunicorn_nginx_port or flask_gunicorn_nginx_unix_socket",
    "chdir": "the directory is the release's own",
    "config": "the role writes the file",
    "control_socket": "two releases would share it",
    "control_socket_disable": "two releases would share it",
    "control_socket_mode": "two releases would share it",
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
# what gunicorn.conf.py, which is Python, would have instead of its own; a test holds them to the file
GUNICORN_USES = frozenset("gevent importlib inspect io mmap os psycogreen signal socket sys tempfile time".split())
GUNICORN_NUMBERS = ("workers", "threads", "worker_connections", "timeout", "graceful_timeout", "keepalive")


def plain(value: Any) -> bool:
    """Tell whether a value can be written as a Python literal."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and plain(key) and plain(held) for key, held in value.items())
    if isinstance(value, (list, tuple)):
        return all(plain(item) for item in value)
    if isinstance(value, str):
        return "\0" not in value
    return value is None or isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value))


def settings(value: Any) -> Problems:
    """Accept Gunicorn's settings, except those on which the role's promises depend."""
    yield from a_dict(value, "{timeout: 60}")
    if not isinstance(value, Mapping):
        return
    for key, held in value.items():
        label = f"has {shown(key)},"
        if not isinstance(key, str) or not re.fullmatch(r"[a-z][a-z0-9_]*", key):
            yield f"{label} which is no setting of Gunicorn. Use the names of its configuration file, such as timeout."
        elif keyword.iskeyword(key) or hasattr(builtins, key) or key in GUNICORN_USES:
            yield f"{label} which is no setting of Gunicorn, and a word of its configuration file. Remove it."
        elif key in GUNICORN_OWNED:
            yield f"{label} which is the role's own: {GUNICORN_OWNED[key]}. Remove it."
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


def health_path(value: Any) -> Problems:
    """Accept a path that is the same in a URL and in WSGI: nothing in it needs a code."""
    if not isinstance(value, str) or not re.fullmatch(r"/[A-Za-z0-9._~@:+,=/-]*", value):
        yield (
            f"is {shown(value)}. It must start with / and hold only letters, digits and ._~@:+,=/- (no query), such as"
            " /healthz."
        )

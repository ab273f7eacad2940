# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What nginx's configuration names: the files, directories and sockets that nginx needs to start and to serve.

Pure functions. Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import CONFIGURATION, Directive


class Need(NamedTuple):
    """A path that nginx uses. `how` is read, write or connect; `where` says which directive of which file names it."""

    path: str
    how: str
    where: str
    shown: str = ""  # as the configuration has it, where `path` is only the part of it that is certain
    worker: bool = False  # only the workers use it, and root's rights do not count
    same: bool = False  # what is there inside has to be what is there outside
    guess: bool = False  # maybe no path at all: it counts only where it exists
    above: bool = False  # it is not there yet, and `path` is the directory above that is


# Their arguments are addresses, patterns or text. Not `set` and not the bodies of `map`: a root can come from there.
TEXT = re.compile(
    r"location|rewrite|return|try_files|error_page|index|server_name|add_header|add_trailer|log_format|charset\w*|types"
    r"|\w+_set_header|\w+_param|\w+_cookie_\w+|\w+_redirect|\w+_cache_key|fastcgi_index|fastcgi_split_path_info"
    r"|auth_request\w*|auth_basic|mirror|post_action|sub_filter\w*|add_(before|after)_body|default_type|env"
    r"|more_\w+_headers|echo\w*|limit_\w+|health_check|internal|stub_status|status_zone|expires"
)
WRITES = re.compile(r"\w+_log|\w+_temp_path|\w+_cache_path|\w+_store|pid|lock_file")
READS = re.compile(r"root|alias|include|ssl_\w+|\w+_ssl_\w+|\w+_file|load_module")
BESIDE = re.compile(r"include|ssl_\w+|\w+_ssl_\w+|\w+_file")  # relative to nginx.conf, all else to the prefix
NO_PATH = re.compile(r"syslog:|memory:|data:|engine:|store:|stderr$|off$|on$")
SOCKET = re.compile(r"unix:(?://)?(/[^\s:;,]+)")
OPEN = re.compile(r"[$*?\[]")
VALUES = ("map", "geo", "split_clients")
DAV = "dav_methods"


def certain(path: str) -> str:
    """Return the directory up to which a path is certain, where it has variables or wildcards; else the path."""
    found = OPEN.search(path)
    return os.path.dirname(path[: found.start()]) or "/" if found else path


def sockets(directive: Directive, where: str) -> Iterator[Need]:
    """Return the sockets a directive names: nginx connects to them, or makes one that others connect to."""
    for arg in directive.args:
        for path in SOCKET.findall(arg):
            if directive.name == "listen":
                yield Need(os.path.dirname(path), "write", where, shown=path, same=True)
            else:
                plain = certain(path)
                yield Need(plain, "connect", where, shown=path, worker=True, same=plain != path)


def files(directive: Directive, where: str, prefix: str) -> Iterator[Need]:
    """Return the files and directories that a directive names."""
    name = directive.name
    how = "write" if WRITES.fullmatch(name) else "read"
    known = how == "write" or bool(READS.fullmatch(name))
    served = name in ("root", "alias") or name.endswith("_store")
    args = directive.args
    if name == "if":
        args = tuple(arg.rstrip(")") for arg in args)
    elif known and not name.startswith("ssl_"):
        args = args[:1]  # what follows a path are options
    for arg in args:
        if NO_PATH.match(arg) or "unix:" in arg:
            continue
        if not arg.startswith("/"):
            if arg.startswith("$") or not (known and "/" in arg or served):
                continue
            arg = os.path.join(CONFIGURATION if BESIDE.fullmatch(name) else prefix, arg)
        if known or arg.count("/") > 1:
            plain = certain(arg)
            open_ended = plain != arg or name in ("root", "alias")
            yield Need(plain, how, where, shown=arg, worker=served, same=open_ended, guess=not known)


def of_directive(directive: Directive, prefix: str) -> Iterator[Need]:
    """Return what a directive needs."""
    around = directive.context[-1][0] if directive.context else ""
    values = around in VALUES and directive.name != "include"
    said = around if values else directive.name
    where = f"{said} in {directive.file}" if directive.file else said
    yield from sockets(directive, where)
    if values:
        guessed = (arg for arg in directive.args if arg.startswith("/") and arg.count("/") > 1)
        yield from (Need(certain(arg), "read", where, shown=arg, worker=True, guess=True) for arg in guessed)
    elif around != "types" and not TEXT.fullmatch(directive.name):
        yield from files(directive, where, prefix)


def server_of(directive: Directive) -> tuple[tuple[str, int], ...]:
    """Return the blocks down to the server of a directive: one that is in a file of its own has no http around it."""
    context: tuple[tuple[str, int], ...] = directive.context
    names = [name for name, _number in context]
    return context[: names.index("server") + 1] if "server" in names else context


def uploads(every: Sequence[Directive]) -> Iterator[Need]:
    """Return the directories that clients may write by WebDAV: those of the servers that allow it."""
    servers = {server_of(each) for each in every if each.name == DAV and each.args[:1] != ("off",)}
    for each in every:
        if each.name in ("root", "alias") and any(each.context[: len(server)] == server for server in servers):
            for need in of_directive(each, "/"):
                yield need._replace(how="write")


BUILT_IN = {
    "prefix": "prefix",
    "user": "user",
    "error_log": "error_log_path",
    "access_log": "http_log_path",
    "pid": "pid_path",
    "lock_file": "lock_path",
}


def defaults(said: str) -> dict[str, str]:
    """Return what nginx was built with, from `nginx -V`: by the names of its directives where there are some."""
    built = {name.replace("-", "_"): value for name, value in re.findall(r"--([\w-]+)=([^\s']+)", said)}
    found = {name: built[option] for name, option in BUILT_IN.items() if option in built}
    temporary = {name: value for name, value in built.items() if name.endswith("_temp_path")}
    return {**found, **{name.replace("http_", "", 1): value for name, value in temporary.items()}}


def needs(every: Sequence[Directive], built: Mapping[str, str]) -> list[Need]:
    """Return all that nginx uses: what the configuration names, and where it names nothing what it was built with."""
    outer = {each.name for each in every if all(name == "http" for name, _number in each.context)}
    unsaid = [Directive(name, (path,), "nginx itself") for name, path in built.items() if name not in outer]
    unsaid = [each for each in unsaid if each.name not in ("prefix", "user")]
    prefix = built.get("prefix", "/")
    found = [need for each in [*every, *unsaid] for need in of_directive(each, prefix)]
    return list(dict.fromkeys([*found, *uploads(every)]))

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Tell why nginx could not give a site its ports: what the rest of its configuration does with them.

`nginx -t` says nothing of it, and a running nginx ignores the whole configuration then. Pure functions, part of the
program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import Directive, at, blocks, listens

Json = dict[str, Any]

UNIT = "nginx.service"
ANYWHERE = {False: "0.0.0.0", True: "::"}  # nosec B104: read, not bound. Whether it is of IPv6


def port_problems(every: Sequence[Directive], asked: Json, record: Collection[str], held: Sequence[Json]) -> list[str]:
    """Return what of others keeps nginx from giving a site its ports, each with the remedy.

    `held` is who listens there now.
    """
    away = {*asked["paths"].values(), *record, *([asked["default_site"]] if asked["default"] else [])}
    tls = {each["port"]: each["ssl"] for each in asked["catch_all"]["listens"]}
    old = {(each.file, each.context) for each in every if each.name == "ssl" and each.args == ("on",)}
    every = [
        each._replace(args=(*each.args, "ssl")) if each.name == "listen" and (each.file, each.context) in old else each
        for each in every
    ]
    found = [
        problem
        for each in every
        if each.name == "listen" and each.file not in away and not {"udp", "quic"} & set(each.args)
        for one in listens(each.args)
        if one.port in tls
        for problem in beside(every, each, one.address, one.port, tls[one.port])
    ]
    return [*dict.fromkeys(found), *narrower(held, sorted(tls))]


def beside(every: Sequence[Directive], each: Directive, address: str, port: int, tls: bool) -> Iterator[str]:
    """Yield why a site of ours cannot stand beside one `listen` of somebody else."""
    around = (blocks(every, each.file) or [()])[0]
    kind = (*around, *(name for name, _number in each.context))[:1]
    said = f"`listen {' '.join(each.args)}` in {each.file}"
    if kind and kind[0] in ("stream", "mail"):
        yield (
            f"{said} is of a {kind[0]} block, and nginx gives a port to one kind of server: it would not start. Set"
            " another flask_gunicorn_nginx_listen, or port of flask_gunicorn_nginx_tls, and send what is for the app"
            " there."
        )
    elif address not in ("*", "::"):
        return
    elif "ipv6only=off" in each.args and address == "::":
        yield (
            f"{said} takes port {port} of IPv4 too, and beside it nginx would not start with a site that listens on"
            f" both. Write in its place: listen {port}; listen [::]:{port};"
        )
    elif "proxy_protocol" in each.args:
        yield (
            f"{said} has nginx expect the PROXY protocol of all that comes to port {port}, for each site. Set another"
            " flask_gunicorn_nginx_listen, or port of flask_gunicorn_nginx_tls."
        )
    elif ("ssl" in each.args) != tls:
        yield (
            f"{said} {'speaks TLS' if 'ssl' in each.args else 'speaks no TLS'} on port {port}, where this app's site"
            f" {'does' if tls else 'does not'}, and nginx does the same for all sites of a port. Set another"
            f" {'port of flask_gunicorn_nginx_tls' if tls else 'flask_gunicorn_nginx_listen'}."
        )


def narrower(held: Sequence[Json], ports: Sequence[int]) -> Iterator[str]:
    """Yield where the nginx that runs has a port at some addresses alone: it cannot take up all of them meanwhile."""
    for port in ports:
        has = {each["address"] for each in held if each["port"] == port and each["unit"] == UNIT}
        for six, anywhere in ANYWHERE.items():
            some = sorted(address for address in has if (":" in address) == six)
            if some and anywhere not in some:
                where = ", ".join(f"{at(address)}:{port}" for address in some)
                yield (
                    f"nginx listens on {where} alone, and while it runs it cannot take up port {port} of all addresses,"
                    " as the app's site has it. Stop it and run this again, which starts it: systemctl stop nginx"
                )


def started_with(unit: str, built: str, program: str) -> str:
    """Return why what `nginx -T` says is not what runs: nginx.service starts another program, or with other files.

    `unit` is what `systemctl cat` says, `built` what `nginx -V` does, `program` the path of the nginx that was asked.
    """
    made = dict(re.findall(r"--(conf-path|prefix)=(\S+)", built))
    known = dict(re.findall(r"(?m)^Environment=[\"']?(\w+)=([^\s\"']+)", unit))
    unit = re.sub(r"\$\{(\w+)\}", lambda found: known.get(found[1], found[0]), unit)
    starts: list[str] = []
    for value in re.findall(r"(?m)^ExecStart\s*=(.*)$", re.sub(r"\\\n", " ", unit)):
        starts = [*starts, value.strip()] if value.strip() else []
    for start in starts:
        try:
            words = shlex.split(start.lstrip("@-:+!|"))
        except ValueError:
            continue
        other = {name: value for name, value in options(words) if os.path.normpath(value) != made.get(name)}
        if program and words and os.path.realpath(words[0]) != os.path.realpath(program):
            return f"{UNIT} starts {words[0]}, and `nginx` is {program}. {ONE_NGINX}"
        if other:
            told = ", ".join(other.values())
            return (
                f"{UNIT} starts nginx with {told}, and `nginx -t` reads {made.get('conf-path', 'another')}. {ONE_NGINX}"
            )
    return ""


ONE_NGINX = (
    "What is tested would not be what runs. Have nginx.service start the nginx of the PATH with its own configuration:"
    " a link or an `include` in /etc/nginx/nginx.conf leads to files elsewhere."
)


def options(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield what a command line of nginx says of its files."""
    names: Mapping[str, str] = {"-c": "conf-path", "-p": "prefix"}
    for number, word in enumerate(words):
        if word[:2] in names:
            value = word[2:] or (words[number + 1] if number + 1 < len(words) else "")
            if "$" not in value:  # of a file that systemd reads: nobody knows here
                yield names[word[:2]], value

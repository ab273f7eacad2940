# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Decide on the server for requests that name no site of a host: on which ports, and what load balancers find there.

There is one for all apps of a host, and only where nobody else's site listens. It is nginx's default server by being
read first and not by its words, so that a site that says default_server is that, whenever it comes.
Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import glob
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.host_facts import read
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import (
    Directive,
    Server,
    is_read,
    listens,
    servers,
)
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_site import app_of, decide

Json = dict[str, Any]

# What nginx takes from its default server while it does not know yet for which site a request is
BEFORE_THE_NAME = ("client_header_buffer_size", "client_header_timeout", "large_client_header_buffers")
SIZES = {"": 1.0, "k": 1024.0, "m": 1024.0**2, "g": 1024.0**3}
TIMES = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def site_of_host(every: Sequence[Directive], said: str, built: str, asked: Json, record: Collection[str]) -> Json:
    """Return what is decided of an app's site, the server for all other names with it."""
    found = decide(every, said, built, asked, record)
    return {**found, "catch_all": catch_all(every, asked, record, others_settings(asked, record))}


def written(site: Json) -> list[str]:
    """Return the files of nginx that a release writes, and that nobody else is to have changed."""
    return sorted({site["file"], site["read"], site["catch_all"]["path"]} - {""})


def others_settings(asked: Json, record: Collection[str]) -> dict[str, Json]:
    """Return what flaskctl knows of each other app of the host."""
    found = {}
    for path in sorted(glob.glob(os.path.join(asked["catch_all"]["settings"], "*.json"))):
        if path in record:
            try:
                settings = json.loads(read(path))
            except ValueError:
                continue
            if isinstance(settings, dict):
                found[os.path.basename(path)[: -len(".json")]] = settings
    return found


def catch_all(every: Sequence[Directive], asked: Json, record: Collection[str], settings: Mapping[str, Json]) -> Json:
    """Return where that server goes, where it listens, what it has of its apps, and which file of it goes.

    Where nginx's configuration cannot be read nothing is known of the others, and what stands stays.
    """
    paths = asked["catch_all"]["paths"]
    if not every:
        return {"path": "", "gone": [], "listens": [], "ready": [], "limits": {}}
    ours, strangers = split(servers(every), asked, record)
    own = {each["port"]: each["ssl"] for each in asked["catch_all"]["listens"]}
    taken = everywhere(strangers) | {each.port for site in ours for each in site.listens if each.default}
    taken |= set(own) if asked["default"] else set()
    secure = {port for port, ssl in own.items() if ssl} | with_tls(every, ours)
    ports = sorted((set(own) | everywhere(ours)) - taken)
    answers = [{"port": port, "ssl": port in secure} for port in ports]
    standing = [path for path in paths if path in record]
    place = next((path for path in [*standing, *paths] if is_read(every, path)), "") if answers else ""
    return {
        "path": place,
        "gone": [{"path": path, "state": "absent"} for path in standing if path != place],
        "listens": answers if place else [],
        "ready": list(ready(ours, asked, record, settings)) if place else [],
        "limits": limits(every, ours, asked) if place else {},
    }


def split(every: Sequence[Server], asked: Json, record: Collection[str]) -> tuple[list[Server], list[Server]]:
    """Return the sites of the host's other apps, and those of anybody else that stay."""
    away = {*asked["paths"].values(), *asked["catch_all"]["paths"]}
    away |= {asked["default_site"]} if asked["default"] else set()
    others = [site for site in every if site.file not in away]
    return [site for site in others if site.file in record], [site for site in others if site.file not in record]


def everywhere(sites: Sequence[Server]) -> set[int]:
    """Return the ports on which sites listen at any address of the host."""
    return {each.port for site in sites for each in site.listens if each.address in ("*", "::")}


def with_tls(every: Sequence[Directive], sites: Sequence[Server]) -> set[int]:
    """Return the ports on which sites speak TLS."""
    files = {site.file for site in sites}
    said = (each.args for each in every if each.name == "listen" and "ssl" in each.args and each.file in files)
    return {one.port for args in said for one in listens(args)}


def ready(ours: Sequence[Server], asked: Json, record: Collection[str], settings: Mapping[str, Json]) -> Iterator[Json]:
    """Yield what load balancers ask by address, once for each path: of two apps the first by name has it."""
    defaults = {app_of(site, record) for site in ours if any(each.default for each in site.listens)}
    apps = {app_of(site, record) for site in ours} - defaults
    own = asked["catch_all"]["ready"]
    found = [own] if own and not asked["default"] else []
    found += [settings[app]["ready"] for app in apps & set(settings) if settings[app].get("ready")]
    told = set()
    for each in sorted(found, key=lambda each: each["app"]):
        if each["path"] not in told:
            told.add(each["path"])
            yield each


def limits(every: Sequence[Directive], ours: Sequence[Server], asked: Json) -> dict[str, str]:
    """Return what any app of the host lets a client take, the most of each: it counts before the name is known."""
    found = {name: [value] for name, value in asked["catch_all"]["limits"].items()}
    files = {site.file for site in ours}
    for each in every:
        if each.name in BEFORE_THE_NAME and each.file in files:
            found.setdefault(each.name, []).append(" ".join(each.args))
    return {
        name: max(values, key=lambda value: amount(value, TIMES if name.endswith("timeout") else SIZES))
        for name, values in sorted(found.items())
    }


def amount(value: str, units: Mapping[str, float]) -> float:
    """Return how much a time, a size or a number of sizes of nginx is."""
    total = 1.0
    for number, unit in re.findall(r"(\d+)([a-z]*)", value.lower()):
        total *= float(number) * units.get(unit, 1.0)
    return total

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Decide where the site of an app goes, and whether nginx would choose it: what else stands in the configuration tells.

Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import (
    Directive,
    Server,
    blocks,
    is_read,
    servers,
)

Json = dict[str, Any]

SIZE = "server_names_hash_bucket_size"
SLOW = "client_header_timeout"
VARIABLES = "variables_hash_max_size"
MANY_VARIABLES = (
    "4096"  # nginx warns at each start where its usual 1024 are few: of some apps, or of one behind proxies
)
SOME_APPS = 3
SLOW_SECONDS = "10s"
USUAL_SIZE = 64  # a cache line: what nginx takes where nobody says anything
CONFLICT = re.compile(r'conflicting server name "([^"]*)"[^\n]*')


def needed_size(names: Sequence[str]) -> int:
    """Return the bucket that nginx's table of names needs: a name with its length, in words, and two words more."""
    longest = max((len(name) for name in names), default=0)
    size = USUAL_SIZE
    while size < 16 + (longest + 2 + 7) // 8 * 8:
        size *= 2
    return size


def place(every: Sequence[Directive], paths: Mapping[str, str], record: Collection[str]) -> Json | None:
    """Return where the site's text goes, and where nginx reads it; None where it would read it nowhere.

    Without a configuration it is as the distribution will have it. A site that stands where it is read stays there.
    """
    linked = {"file": paths["available"], "read": paths["enabled"]}
    alone = {"file": paths["alone"], "read": paths["alone"]}
    usual = [alone, linked] if paths["alone"] in record else [linked, alone]
    return next((found for found in usual if is_read(every, found["read"])), None if every else usual[0])


def entries(found: Json, paths: Mapping[str, str], record: Collection[str]) -> list[Json]:
    """Return what goes with the site's text: the link to it, and what of it stood elsewhere."""
    link = [{"path": found["read"], "link": found["file"]}] if found["read"] != found["file"] else []
    places = (paths["enabled"], paths["available"], paths["alone"])
    old = [path for path in places if path in record and path not in (found["file"], found["read"])]
    return [*link, *({"path": path, "state": "absent"} for path in old)]


def app_of(server: Server, record: Collection[str]) -> str:
    """Return the app whose site it is, nothing where it is not one of the role's."""
    return os.path.basename(server.file).rpartition(".conf")[0] if server.file in record else ""


def clashes(
    every: Sequence[Server], ours: Collection[str], asked: Json, record: Collection[str]
) -> Iterator[tuple[str, Server]]:
    """Yield each name (empty: any) that another site has on a port of ours; which one answers is up to file order.

    Not where ours comes first: then nginx serves it, and says itself what it ignores.
    """
    names = [name.lower() for name in asked["names"]]
    first = next((position for position, server in enumerate(every) if server.file in ours), len(every))
    for position, server in enumerate(every):
        listens = [each for each in server.listens if each.port in asked["ports"] and each.address in ("*", "::")]
        if server.file in ours or not listens:
            continue
        held = {name.lstrip(".") if name.startswith(".") else name for name in server.names}
        if position < first or app_of(server, record):
            yield from ((name, server) for name in names if name in held)
        if asked["default"] and any(each.default for each in listens) and server.file != asked["default_site"]:
            yield "", server


def shared(every: Sequence[Directive], asked: Json, record: Collection[str]) -> tuple[list[Json], str]:
    """Return the file with what all sites of the host need together, and what is in the way of that.

    One file for all apps of a host: nginx takes each of the directives once. Room for a long name; and where somebody
    else's site is nginx's default server, a limit for headers that come slowly, for it counts before a name is known.
    """
    said = {name: values(every, name) for name in (SIZE, SLOW, VARIABLES)}
    own = {name: [value for value, file in found if file in record] for name, found in said.items()}
    theirs = [(int(value), file) for value, file in said[SIZE] if file not in record and value.isdigit()]
    wanted = {name: found[0] for name, found in own.items() if found}
    size = needed_size(asked["names"])
    if size > max([USUAL_SIZE, *(held for held, _file in theirs), *(int(value) for value in own[SIZE])]):
        if theirs:
            name = max(asked["names"], key=len)
            return [], (
                f"{SIZE} is {theirs[0][0]} in {theirs[0][1]}, and the name {name} needs {size}. Set it there:"
                f" {SIZE} {size};"
            )
        wanted[SIZE] = str(size)
    if not said[SLOW] and shared_port(every, asked, record):
        wanted[SLOW] = SLOW_SECONDS
    others = {site.file for site in servers(every) if site.file in record}
    others -= {*asked["paths"].values(), *asked["catch_all"]["paths"]}
    # with the app that this is about, whose site may not stand yet: the next run decides the same
    if not said[VARIABLES] and (asked["modules"] or len(others) + 1 >= SOME_APPS):
        wanted[VARIABLES] = MANY_VARIABLES
    if wanted == {name: found[0] for name, found in own.items() if found}:
        return [], ""
    standing = [path for path in asked["shared"] if path in record]
    found = standing or [path for path in asked["shared"] if not every or is_read(every, path)]
    text = "".join(f"{name} {value};\n" for name, value in sorted(wanted.items()))
    text = f'# Managed by flaskfleet.web, for all sites of this host: docs/operations.md, "Other sites".\n{text}'
    return [{"path": path, "content": text, "mode": "0644"} for path in found[:1]], ""


def values(every: Sequence[Directive], name: str) -> list[tuple[str, str]]:
    """Return what the http block says of a directive, each with its file."""
    found = [each for each in every if each.name == name and each.args]
    return [(each.args[0], each.file) for each in found if not each.context or each.context[-1][0] == "http"]


def shared_port(every: Sequence[Directive], asked: Json, record: Collection[str]) -> bool:
    """Tell whether somebody else's site listens at any address on a port of ours."""
    away = [asked["default_site"]] if asked["default"] else []
    sites = [site for site in servers(every) if site.file not in record and site.file not in away]
    return any(each.port in asked["ports"] and each.address in ("*", "::") for site in sites for each in site.listens)


def unread(every: Sequence[Directive], paths: Mapping[str, str]) -> str:
    """Return why nginx would not read a site."""
    main = every[0].file
    looked = ", ".join(sorted({each.args[0] for each in every if each.name == "include" and outer(every, each)}))
    directory = os.path.dirname(paths["alone"])
    return (
        f"nginx would not read the site: the http block of {main} includes {looked or 'nothing'}. Put this line"
        f" into it: include {directory}/*.conf;"
    )


def outer(every: Sequence[Directive], include: Directive) -> bool:
    """Tell whether an include stands in the http block itself."""
    around = tuple(name for name, _number in include.context)
    return any((*above, *around) == ("http",) for above in blocks(every, include.file) or [()])


def lacks(built: str, asked: Json) -> list[str]:
    """Return what the site needs and this nginx was built without, as nginx-light of Debian 11 is without geo."""
    return [
        f"nginx was built without {module}, and {why} needs it. Leave that out, or install a fuller nginx: nginx-core."
        for module, why in asked["modules"].items()
        if f"--without-{module}" in built
    ]


def group(every: Sequence[Directive], built: str) -> str:
    """Return the group of nginx's workers, as nginx chooses it; without nginx that of the distribution's."""
    user = next((each.args for each in every if each.name == "user" and each.args and not each.context), ())
    made = {name: value for name, value in re.findall(r"--(user|group)=(\S+)", built)}
    usual = made.get("group") or made.get("user") or ("nogroup" if built else "www-data")
    return user[-1] if user else usual


def decide(every: Sequence[Directive], said: str, built: str, asked: Json, record: Collection[str]) -> Json:
    """Return where the site goes, what goes with it, and what is wrong.

    `said` is what `nginx -T` says beside the configuration, `built` what `nginx -V` does.
    """
    paths = asked["paths"]
    found = place(every, paths, record)
    problems = [] if found else [unread(every, paths)]
    found = found or {"file": paths["available"], "read": paths["enabled"]}
    sites = servers(every)
    others = [
        {"name": name, "app": app_of(server, record), "site": str(server)}
        for name, server in clashes(sites, set(paths.values()), asked, record)
    ]
    room, narrow = shared(every, asked, record)
    names = {name.lower() for name in asked["names"]}
    aside = [asked["default_site"]] if asked["default"] else []
    return {
        **found,
        "files": [*entries(found, paths, record), *room],
        "problems": [*problems, *([narrow] if narrow else []), *lacks(built, asked)],
        "clashes": others,
        "ports": asked["ports"],
        "group": group(every, built),
        "said": sorted({each[0] for each in CONFLICT.finditer(said) if each[1] in names}),
        "listens": sorted({each.port for site in sites if site.file not in aside for each in site.listens}),
    }

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What others on a host have that an app needs: a port, a host name, the place where nginx reads sites."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import PREFIX

ANY = ("0.0.0.0", "::")  # nosec B104: read, not bound
NGINX = "nginx.service"
RENAMED = ' Where {name} is the new name of {other}: docs/operations.md, "Another name".'


def neighbour_problems(contact: Mapping[str, Any], host: str, name: str, port: int) -> list[str]:
    """Return what is in the way of an app, from what flaskfleet.web.host says."""
    site = contact["nginx_site"]
    return [
        *held_ports(contact, host, name, port),
        *(f"On {host} {problem}" for problem in site.get("problems", [])),
        *held_names(site.get("clashes", []), host, name),
    ]


def held_ports(contact: Mapping[str, Any], host: str, name: str, port: int) -> Problems:
    """Yield each port that somebody else listens on, with who that is."""
    told = set()
    for holder in contact["holders"]:
        of_app = holder["port"] == port
        if of_app and holder["address"] not in (*ANY, "127.0.0.1"):
            continue  # beside it the app has room
        if holder["unit"] == NGINX and not of_app or of_app and is_own(holder["unit"], name):
            continue
        said = (holder["port"], holder["unit"], holder["pid"])
        if said not in told:
            told.add(said)
            yield held_port(contact, holder, host, name, of_app)


def is_own(unit: str, name: str) -> bool:
    """Tell whether a unit is one of the app."""
    return unit == f"{name}.socket" or unit.startswith((f"{name}@", f"{name}.try-", f"{name}.twin-"))


def held_port(contact: Mapping[str, Any], holder: Mapping[str, Any], host: str, name: str, of_app: bool) -> str:
    """Return the refusal of one port."""
    number, unit = holder["port"], holder["unit"]
    process = f"{holder['process']}, pid {holder['pid']}" if holder["pid"] else "a process that cannot be seen"
    who = f"{process}, {unit}" if unit else process
    if of_app:
        free = next(each for each in range(number + 1, 65536) if each not in contact["listening"])
        other = unit.partition(".socket")[0] if unit.endswith(".socket") else ""
        renamed = RENAMED.format(name=name, other=other) if other else ""
        return (
            f"On {host} {who} listens on {holder['address']}:{number}, the port of {name}. Set another one, such as"
            f" {PREFIX}port: {free}.{renamed}"
        )
    site = contact["nginx_site"]
    if number not in site["ports"]:
        return (
            f"On {host} {who} listens on port {number}, and so would a site that nginx has or comes with: nginx would"
            f" not start. Stop the one, or take the other away; {PREFIX}default_server: true sets the distribution's"
            " default site aside."
        )
    ways = "Stop it or give it another port"
    https = len(site["ports"]) > 1 and number == site["ports"][-1]
    other = f"{PREFIX}tls: {{port: 8443}}" if https else f"{PREFIX}listen: 8080"
    ways += f", or set another one for nginx, such as {other}"
    return f"On {host} {who} listens on port {number}, which nginx needs. {ways}. Nothing was changed."


def held_names(clashes: list[Mapping[str, str]], host: str, name: str) -> Iterator[str]:
    """Yield each name that another site has."""
    told = set()
    for clash in clashes:
        said = (clash["name"], clash["site"])
        if said in told:
            continue
        told.add(said)
        if not clash["name"]:
            yield (
                f"On {host} another site answers every name already: {clash['site']}. There can be one: take"
                f" default_server from it, or set {PREFIX}default_server: false and a name of {PREFIX}server_names."
            )
        elif clash["app"]:
            yield (
                f"On {host} the name {clash['name']} belongs to the app {clash['app']}: {clash['site']}. A name is one"
                f" app's: take it out of {PREFIX}server_names here or there."
                f"{RENAMED.format(name=name, other=clash['app'])}"
            )
        else:
            yield (
                f"On {host} another site has the name {clash['name']}: {clash['site']}. nginx would ignore one of the"
                f" two. Take the name out of that site, or remove it; until nginx is reloaded, which the next run does,"
                " it goes on serving."
            )

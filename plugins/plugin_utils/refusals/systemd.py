# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What goes into units of systemd: directives of the service, command lines, processes beside the web server."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import (
    CONTROL,
    MIB,
    NAME,
    a_dict,
    a_list,
    a_number,
    a_record,
    number,
)
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems, shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import options

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
    "RuntimeDirectoryPreserve": "releases share such a directory, and it is always kept",
    "Sockets": "the role connects the socket",
    "StateDirectory": "it is the app's own, /var/lib and its name",
    "Type": "the health check depends on it",
    "UnsetEnvironment": "set flask_gunicorn_nginx_env",
    "User": "it is the app's own",
    "WorkingDirectory": "it is the release's own",
}


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


def unquoted(command: str) -> str:
    """Return a command line with a letter for all that is quoted, as a shell and systemd read quotes."""
    return re.sub(r"""\\.|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'""", "q", command)


def command(value: Any) -> Problems:
    """Accept a command line, or none. systemd reads quotes and codes before it looks at the first character."""
    if not isinstance(value, str) or CONTROL.search(value) or value.rstrip().endswith("\\"):
        yield f"is {shown(value)}. It must be a command on one line, such as flask db upgrade, or empty."
    elif re.search(r"[\"']", unquoted(value)):
        yield f"is {shown(value)}, and a quote in it has no end. Close it, or write it as \\' or \\\"."
    elif value and not re.sub(r"[\s\"']", "", value):
        yield f"is {shown(value)}, and names no program. Leave it empty, or name one, such as flask db upgrade."
    elif re.match(r"[\s\"']*[@:+!|\\-]", value):
        yield f"is {shown(value)}. Its first character would mean something to systemd. Begin with the program's name."


def process_command(value: Any) -> Problems:
    """Accept one command: a lone semicolon would begin another one, outside of the sandbox for a + before it."""
    yield from command(value)
    if isinstance(value, str) and re.search(r"(?<!\S);(?!\S)", unquoted(value)):
        yield (
            f"is {shown(value)}: systemd begins another command at a semicolon. Quote it where it is an argument, or"
            " have a shell run both: sh -c 'first; second'."
        )
    if isinstance(value, str) and re.match(r"[\s\"']*[^\s\"'/][^\s/]*/", value):
        yield f"is {shown(value)}, a path from nowhere. Name a program of the virtualenv, or an absolute path."


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


def process_name(value: Any) -> Problems:
    """Accept what becomes a part of the name of units."""
    if not isinstance(value, str) or not re.fullmatch(NAME, value):
        yield f"is {shown(value)}. It must be a lower-case letter, then lower-case letters, digits and dashes: worker."


def schedule(value: Any) -> Problems:
    """Accept what can be one line of a timer."""
    if not isinstance(value, str) or not value.strip() or CONTROL.search(value) or value.rstrip().endswith("\\"):
        yield f"is {shown(value)}. It must be a time as systemd's OnCalendar reads it, such as daily."


PROCESS = a_record(
    options("processes"),
    "{name: worker, command: celery -A app worker}",
    name=process_name,
    command=process_command,
    count=a_number(1, 100, "Set it to 1 or more."),
    schedule=schedule,
)


def process(value: Any) -> Problems:
    """Accept one process: a number of copies all the time, or one at certain times."""
    yield from PROCESS(value)
    if not isinstance(value, Mapping):
        return
    for key in (key for key in ("name", "command") if not value.get(key)):
        yield f"has no {key}. Set what it is called and what it runs, such as worker and celery -A app worker."
    if "count" in value and "schedule" in value:
        yield "has count and schedule. Set count for what runs all the time, schedule for what runs at times."
    if re.fullmatch(NAME, str(value.get("name"))) and not re.fullmatch(NAME, units(value)[-1]):
        yield f"has the copies {shown(value['name'])}-1 and so on, and with a number a name has at most 31 characters."


def outbound(value: Any) -> Problems:
    """Accept any, none, or addresses and networks."""
    example = "It must be any, none, or a list of addresses and networks, such as [10.0.0.5, 10.2.0.0/16]."
    if value in ("any", "none"):
        return
    if not isinstance(value, (list, tuple)) or not value:
        yield f"is {shown(value)}. {example}"
        return
    for position, item in enumerate(value, 1):
        try:
            # after a % Python takes anything for a zone
            network = ipaddress.ip_network(item if isinstance(item, str) and "%" not in item else "", strict=False)
        except ValueError:
            yield f"item {position} is {shown(item)}, no address or network: systemd looks up no names. {example}"
            continue
        if network.prefixlen == 0:
            yield f"item {position} is {shown(item)}: every address. Write any instead of the list."

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Why a host cannot have an app, from what it says of itself: nothing that the settings alone could tell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.neighbours import neighbour_problems
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import PREFIX


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
    moves = contact["services"][f"{name}.socket"]["active"] and int(port) not in contact["listening"]
    if moves and contact["released"]:
        return [
            f"On {host} {name}.socket does not listen on port {port}, and a socket cannot move while releases share it."
            f" Either set {PREFIX}port back, or take an outage of some seconds: run `systemctl stop {name}.socket"
            f" '{name}@*.service'` there, then run the playbook again."
        ]
    found: list[str] = neighbour_problems(contact, host, name, int(port))
    return found


def taken(foreign: Iterable[str], host: str, name: str) -> str:
    """Return the refusal of a name under which something stands that the role did not make."""
    things = "".join(f"\n  {thing}" for thing in foreign)
    return (
        f"On {host} this is in the way of {name}, and flask_gunicorn_nginx did not make it:{things}\nNothing is taken"
        f" over and nothing was changed. Choose another {PREFIX}name, or move these away first: docs/operations.md,"
        ' "A name that is taken".'
    )

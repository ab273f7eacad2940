# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Why a host cannot have an app, from what it says of itself: nothing that the settings alone could tell."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.source import mask
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.neighbours import neighbour_problems
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import PREFIX

DIFF_LINES = 40
ROOT = "0:0"  # who owns all of them
# what a file's path ends in, and where else what somebody wants of it can stand; {0} is the app
KEEPS = {
    r"/nginx/(sites-available|conf\.d)/[^/]+": f"{PREFIX}server_settings",
    r"/gunicorn\.conf\.py": f"{PREFIX}settings",
    r"/environment": f"{PREFIX}env",
    r"/credentials/[^/]+": f"{PREFIX}credentials",
    r"\.[^./]+@[0-9a-f]{12}\.(service|timer)": f"{PREFIX}processes",
    r"/[^/@]+@\.service": f"{PREFIX}service_settings, or a drop-in of your own (systemctl edit {{0}}@.service)",
    r"/[^/@]+\.(service|socket)": "a drop-in of your own (systemctl edit UNIT)",
    r"/nginx\.service\.d/[^/]+": f"{PREFIX}harden_nginx: false, or a drop-in of your own (systemctl edit nginx)",
    r"/needrestart/conf\.d/[^/]+": "a file of your own beside it",
}


def host_problems(
    contact: Mapping[str, Any], host: str, name: str, port: Any, files: Iterable[Mapping[str, Any]] | None = None
) -> list[str]:
    """Return why a host cannot have the app, from what flaskfleet.web.host says.

    `port` is none where the app is to go, and 0 where it has a Unix socket.
    `files` are those that the run would write; without them it may overwrite what somebody else has changed.
    """
    if not (contact["debian"] and contact["systemd"]):
        return [
            f"{host} is {contact['distribution']}, {'with' if contact['systemd'] else 'without'} systemd:"
            " flask_gunicorn_nginx needs Debian 11 or Ubuntu 22.04, or newer, with systemd as PID 1."
        ]
    if port is None:
        return []
    if contact["foreign"]:
        return [taken(contact["foreign"], host, name)]
    if contact["noexec"]:
        return [
            f"On {host} {contact['noexec']} is mounted noexec, and releases run from /srv/{name}. Let programs run"
            f" there: take noexec out of its line in /etc/fstab, then `mount -o remount,exec {contact['noexec']}`."
        ]
    changed = [] if files is None else by_hand(contact["altered"], files, host, name)
    if changed:
        return ["\n".join(changed)]
    if contact["unreadable_schedules"]:
        times = ", ".join(shown(when) for when in contact["unreadable_schedules"])
        return [
            f"systemd on {host} cannot read {times} in {PREFIX}processes. A schedule is a time as systemd.time(7) has"
            " it, such as daily, Mon 03:00 or *-*-* 03:00:00; `systemd-analyze calendar` there tells what one means."
        ]
    opened = contact["services"][f"{name}.socket"]["active"]
    if int(port) and opened and contact["released"] and int(port) not in contact["listening"]:
        return [
            f"On {host} {name}.socket does not listen on port {port}, and a socket cannot move while releases share it."
            f" Set {PREFIX}port back. Or go by way of a Unix socket, without an outage: run the playbook with"
            f" {PREFIX}unix_socket: true, then with false. Or take an outage of some seconds: run `systemctl stop"
            f" {name}.socket '{name}@*.service'` there, then run the playbook again."
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


def by_hand(
    altered: Iterable[Mapping[str, Any]], files: Iterable[Mapping[str, Any]], host: str, name: str
) -> list[str]:
    """Return the lines that tell what somebody else has changed and this run would write over; none for nothing."""
    writes = {entry["path"]: entry for entry in files}
    lost = [item for item in altered if item["kind"] != "absent" and is_lost(item, writes.get(item["path"]))]
    if not lost:
        return []
    told = [f"On {host} somebody has changed what flask_gunicorn_nginx wrote. Nothing was changed by this run:"]
    for item in lost:
        told += described(item, writes.get(item["path"], {}), host)
    told += [
        "What is to stay goes where a run finds it:",
        *dict.fromkeys(f"  {item['path']}: {keeps(item, name)}" for item in lost),
        f"Then let one run put back the files as the role writes them: -e {PREFIX}overwrite=true.",
    ]
    return told


def is_lost(item: Mapping[str, Any], entry: Mapping[str, Any] | None) -> bool:
    """Return whether a run would change what somebody has made of a file: not where it would write just that."""
    if entry is None:
        return bool(item["release"])
    if item["kind"] == "link" and entry.get("link"):
        here, targets = os.path.dirname(item["path"]), (item["text"][len("link to ") : -1], entry["link"])
        return len({os.path.normpath(os.path.join(here, target)) for target in targets}) > 1
    if entry.get("state", "present") == "absent" or item["kind"] != "file":
        return True
    same = item["text"] == entry.get("content") and item["standing"] == f"{entry.get('mode', '0644')} {ROOT}"
    return not same


def described(item: Mapping[str, Any], entry: Mapping[str, Any], host: str) -> list[str]:
    """Return what became of a file: the difference, unless it may hold secrets."""
    wants = item["wrote"] if item["release"] else (entry.get("content") or "")
    if item["kind"] != "file" or item["words"].startswith("has mode"):
        return [f"  {item['path']} {item['words']}"]
    if item["text"] is None or wants is None:
        return [f"  {item['path']} {item['words']}; not everybody may read it, so it is not shown"]
    wanted, stands = (mask(text).splitlines() for text in (wants, item["text"]))
    names = ("as it was written" if item["release"] else "as this run would write it", f"as it stands on {host}")
    diff = list(difflib.unified_diff(wanted, stands, names[0], names[1], lineterm="", n=2))
    more = [f"... and {len(diff) - DIFF_LINES} lines more"] if len(diff) > DIFF_LINES else []
    return [f"  {item['path']} {item['words']}:", *(f"    {line}" for line in [*diff[:DIFF_LINES], *more])]


def keeps(item: Mapping[str, Any], name: str) -> str:
    """Return where else what somebody wants of a file can stand."""
    text = item["text"] or ""
    if "managed by Certbot" in text:
        words = ("ssl_certificate", "ssl_certificate_key")
        found = [re.search(rf"(?m)^\s*{word}\s+([^\s;]+);", text) for word in words]
        certificate, key = (match[1] if match else "FILE" for match in found)
        return f"certbot's edits are {PREFIX}tls: {{certificate: {certificate}, key: {key}}}"
    hints = (hint for pattern, hint in KEEPS.items() if re.search(f"{pattern}$", item["path"]))
    return next(hints, "nowhere: it is the role's own").format(name)

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Who rolls out: this run of ansible-playbook, so that no other one moves the same app meanwhile."""

from __future__ import annotations

DOCUMENTATION = r"""
name: holder
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: Tell which rollout this is
description:
  - Returns what C(flaskctl) keeps as the rollout lock, who runs it, where, and in which process.
  - Given the lock that a host has, it also says whether this run takes it over, when the lock comes from
    the same user on the same machine and that process is not there any more.
options:
  _terms:
    description: The lock that a host has, if any.
    type: list
    elements: dict
"""

EXAMPLES = r"""
- name: Acquire the rollout lock
  flaskfleet.web.flaskctl:
    app: hello
    command: lock
    holder: "{{ lookup('flaskfleet.web.holder') | to_json }}"
"""

RETURN = r"""
_raw:
  description: A dictionary with id, by, from and pid, and takes_over where a lock is taken over.
  type: list
  elements: dict
"""

import contextlib
import getpass
import multiprocessing
import os
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase


def started(pid: int) -> str:
    """Return when a process began, in a form that no later process of that number has; nothing where there is none."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError), open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
        return "" if fields[0] == "Z" else fields[19]  # a zombie does nothing any more
    if os.path.exists("/proc/self/stat"):
        return ""
    shown = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return "-".join(shown.stdout.split())


def world() -> str:
    """Return what tells apart places on one machine that number their processes differently."""
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid").strip("pid:[]")
    return "0"


def identity(pid: int, place: str, began: Callable[[int], str] = started) -> str:
    """Return the id of a run; it ends in nothing where the process is gone."""
    return f"{place}.{pid}.{began(pid)}"


def taken_over(lease: Mapping[str, Any], me: Mapping[str, Any], began: Callable[[int], str] = started) -> str:
    """Return the id of a lease that this run takes over: ours, of a process that is dead. Nothing for any other."""
    id_, pid = str(lease.get("id", "")), str(lease.get("pid", ""))
    place = str(me["id"]).partition(".")[0]
    if not pid.isdigit() or id_ == me["id"] or not id_.startswith(f"{place}."):
        return ""
    if (lease.get("by"), lease.get("from")) != (me["by"], me["from"]):
        return ""
    return "" if identity(int(pid), place, began) == id_ else id_


def user() -> str:
    """Return who runs this; a user without a name is a number."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


class LookupModule(LookupBase):  # type: ignore[misc]
    """The lookup."""

    def run(self, terms: Sequence[Any], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """Return the holder. A task's arguments are made in a process of its own; the run is what started that."""
        parent = multiprocessing.parent_process()
        pid = parent.pid if parent and parent.pid else os.getpid()
        if not started(pid):  # a killed run leaves its workers behind, and they would go on with their task
            raise AnsibleError(f"the ansible-playbook that started this task (pid {pid}) is not there any more")
        me = {"id": identity(pid, world()), "by": user(), "from": socket.gethostname(), "pid": str(pid)}
        for lease in terms:
            old = taken_over(lease, me) if isinstance(lease, Mapping) else ""
            me.update({"takes_over": old} if old else {})
        return [me]

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Which phase of the role a task belongs to, whose task it is, and what it ran on: what the output is told by."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

ROLE = "flask_gunicorn_nginx"
# The task files of the role that a person would name; a task of the others goes on with the phase that runs.
PHASES = (
    *("preflight", "package", "install", "stage", "migrate", "switch", "certificate", "bake", "revert"),
    *("rollback", "restart", "remove", "status", "upgrade_os"),
)
ENDS_A_PHASE = ("batch", "unlock", "report")  # each batch has a line of its own; these have none
CHECKS_ARGUMENTS = "validate_argument_spec"


def hooked(thing: Any) -> bool:
    """Tell whether a task or block runs in the role, as the hooks of a user do too."""
    role = getattr(thing, "_role", None)
    return role is not None and role.get_name(include_role_fqcn=False) == ROLE


def ours(thing: Any) -> bool:
    """Tell whether a task or block stands in the role itself, or is Ansible's check of its arguments."""
    if not hooked(thing):
        return False
    file = os.path.realpath(thing.get_path().rpartition(":")[0])
    checks = str(getattr(thing, "action", "")).endswith(CHECKS_ARGUMENTS)
    return checks or file.startswith(thing._role.get_role_path() + os.sep)


def phase_of(name: str, running: str) -> str:
    """Return the phase that a task of the role belongs to: the one that runs, another, or none."""
    name = name.rpartition(" : ")[2]
    file, bar, _ = name.partition(" | ")
    if not bar:
        return name
    if file in ENDS_A_PHASE:
        return ""
    return file if file in PHASES else running


def phase_for(task: Any, running: str) -> str:
    """Return the phase that any task belongs to: one of somebody else is one by itself."""
    name = str(task.get_name().strip())
    if not ours(task):
        return name.removeprefix(f"{task._role.get_name()} : ") if hooked(task) else name
    # the one that Ansible makes of the argument specification has a sentence as its name
    return "preflight" if task.action.endswith(CHECKS_ARGUMENTS) else phase_of(name, running)


def parents(task: Any) -> Iterator[Any]:
    """Yield what a task stands in, from the inside to the outside."""
    block = task._parent
    while block is not None:
        yield block
        block = block._parent


def rescuer(task: Any) -> Any:
    """Return the block that takes care of the failure of a task, or None."""
    return next((block for block in parents(task) if getattr(block, "rescue", None)), None)


def app_of(task: Any) -> str:
    """Return the name of the app where the role is given it at its place in the play, as one of several is."""
    name = {**task._role.get_role_params(), **task.get_vars()}.get(f"{ROLE}_name", "")
    return "" if "{{" in str(name) else str(name)


def delegate_of(result: Any) -> str:
    """Return the host that a task ran on in place of its own, or nothing."""
    known = result.result.get("_ansible_delegated_vars") or {}
    return str(known.get("ansible_delegated_host") or result.task.delegate_to or "")


def label_of(result: Any) -> str:
    """Return the host of a result, and what it ran on in its place."""
    host, delegate = result.host.get_name(), delegate_of(result)
    return f"{host} -> {delegate}" if delegate not in ("", host) else host

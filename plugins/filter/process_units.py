# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The units that stand behind flask_gunicorn_nginx_processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

DOCUMENTATION = r"""
name: process_units
short_description: List the units of an app's processes
version_added: 0.1.0
description:
  - Turns the variable C(flask_gunicorn_nginx_processes) into one entry a unit, with the command as systemd's
    C(ExecStart) reads it.
positional: root
options:
  _input:
    description: The processes, each with a name, a command, and a count or a schedule.
    type: list
    elements: dict
    required: true
  root:
    description: The directory of the app on the host.
    type: str
    required: true
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Show the units of two workers
  ansible.builtin.debug:
    msg: "{{ __workers | flaskfleet.web.process_units('/srv/hello') }}"
  vars:
    __workers:
      - name: worker
        command: celery -A app worker
        count: 2
"""

RETURN = r"""
_value:
  description: One dictionary a unit, with unit, name, exec and schedule (empty for what runs all the time).
  type: list
  elements: dict
"""


def exec_start(command: str, root: str) -> str:
    """Return the command as ExecStart= reads it: a program without a slash is one of the release's virtualenv.

    A % stays a %: for systemd it would begin a specifier.
    """
    program, _, arguments = command.strip().replace("%", "%%").partition(" ")
    if "/" not in program:
        program = f"{root}/releases/%i/venv/bin/{program}"
    return f"{program} {arguments}".strip()


def process_units(processes: Sequence[Mapping[str, Any]], root: str) -> list[dict[str, str]]:
    """Return one entry a unit: NAME, or NAME-1 to NAME-N where several run side by side."""
    units = []
    for process in processes:
        count = int(process.get("count") or 1)
        schedule = str(process.get("schedule") or "")
        for number in range(1, count + 1):
            units.append(
                {
                    "unit": f"{process['name']}-{number}" if count > 1 else str(process["name"]),
                    "name": str(process["name"]),
                    "exec": exec_start(str(process["command"]), root),
                    "schedule": schedule,
                }
            )
    return units


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"process_units": process_units}

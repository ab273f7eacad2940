# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""`host` on the control node: its program goes to the host through standard input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

# for the processes that Ansible forks for the hosts: it has imported this by then, and they would import them anew
from ansible_collections.flaskfleet.web.plugins.filter import (  # noqa: F401
    fleet,
    immutable_files,
    plan,
    problems,
    process_units,
    service_lines,
    site_headers,
    with_defaults,
)
from ansible_collections.flaskfleet.web.plugins.plugin_utils.stdin_program import Json, WarningAction

NAMES = {"type": "list", "elements": "str", "default": []}
SITE = {
    "names": {"type": "list", "elements": "str", "required": True},
    "ports": {"type": "list", "elements": "int", "required": True},
    "default": {"type": "bool", "required": True},
    "default_site": {"type": "str", "required": True},
    "modules": {"type": "dict", "default": {}},
    "shared": {"type": "list", "elements": "str", "required": True},
    "paths": {"type": "dict", "required": True},
    "catch_all": {"type": "dict", "required": True},
}
PAIR = {
    "path": {"type": "str", "required": True},
    "key": {"type": "str", "required": True},
    "names": {"type": "list", "elements": "str", "required": True},
}
SANDBOX = {
    "path": {"type": "str", "required": True},
    "content": {"type": "str", "required": True},
    "site": {"type": "dict", "default": {}},
}


class ActionModule(WarningAction):  # type: ignore[misc]
    """Nothing but what every such action does."""

    MODULE = "host"
    USES = (
        *(
            "engine",
            "file_state",
            "alterations",
            "host_facts",
            "nginx_config",
            "nginx_needs",
            "nginx_sandbox",
            "nginx_site",
            "nginx_catch_all",
            "nginx_ports",
            "default_site",
        ),
        *("ownership", "port_holders", "tls_pair", "site_answers"),
    )
    SPEC = {
        **dict.fromkeys(("packages", "users", "services", "schedules", "paths", "directories", "edits"), NAMES),
        **dict.fromkeys(("app", "claim", "current", "launcher", "tree", "units"), {"type": "str", "default": ""}),
        "port": {"type": "int", "default": 0},
        "nginx_site": {"type": "dict", "options": SITE},
        "certificate": {"type": "dict", "options": PAIR},
        "nginx_sandbox": {"type": "dict", "options": SANDBOX},
    }

    def run(self, tmp: Any = None, task_vars: Json | None = None) -> Json:
        """Return what the host answered."""
        result = super().run(tmp, task_vars)
        known = task_vars or {}
        everywhere = runs_everywhere(self._task.args.get("schedules") or [], known.get("ansible_play_hosts_all") or [])
        if everywhere:
            self._display.warning(everywhere)  # the same words for all hosts, so they are shown once
        return result


def runs_everywhere(schedules: Sequence[str], hosts: Sequence[str]) -> str:
    """Return what to know where a schedule runs on more than one host, or nothing."""
    if not schedules or len(hosts) < 2:
        return ""
    return (
        f"What has a schedule ({', '.join(schedules)}) runs on each of the {len(hosts)} hosts of this play. A job that"
        " must run once for all of them has to see to that itself, with a lock in the database, say."
    )

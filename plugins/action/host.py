# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""`host` on the control node: its program goes to the host through standard input."""

from __future__ import annotations

from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.piped import Json, ProgramAction

NAMES = {"type": "list", "elements": "str", "default": []}
SANDBOX = {
    "path": {"type": "str", "required": True},
    "content": {"type": "str", "required": True},
    "site": {"type": "dict", "default": {}},
}


class ActionModule(ProgramAction):  # type: ignore[misc]
    """What every such action does; and a warning says which host it is about."""

    MODULE = "host"
    USES = ("engine", "nginx_config", "nginx_sandbox", "ownership")
    SPEC = {
        **dict.fromkeys(("packages", "users", "services", "schedules", "paths", "directories"), NAMES),
        **dict.fromkeys(("app", "claim", "current", "launcher"), {"type": "str", "default": ""}),
        "nginx_sandbox": {"type": "dict", "options": SANDBOX},
    }

    def run(self, tmp: Any = None, task_vars: Json | None = None) -> Json:
        """Return what the host answered."""
        result = super().run(tmp, task_vars)
        name = (task_vars or {}).get("inventory_hostname", "the host")
        if result.get("warnings"):
            result["warnings"] = [f"On {name} {warning}" for warning in result["warnings"]]
        return result

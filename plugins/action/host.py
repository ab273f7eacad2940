# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""`host` on the control node: its program goes to the host through standard input."""

from __future__ import annotations

from ansible_collections.flaskfleet.web.plugins.plugin_utils.piped import ProgramAction

NAMES = {"type": "list", "elements": "str", "default": []}


class ActionModule(ProgramAction):  # type: ignore[misc]
    """Nothing but what every such action does."""

    MODULE = "host"
    SPEC = {
        **dict.fromkeys(("packages", "users", "services", "schedules", "paths", "directories"), NAMES),
        **dict.fromkeys(("app", "claim"), {"type": "str", "default": ""}),
    }

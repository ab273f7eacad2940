# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""`packages` on the control node: its program goes to the host through standard input."""

from __future__ import annotations

from ansible_collections.flaskfleet.web.plugins.plugin_utils.stdin_program import WarningAction


class ActionModule(WarningAction):  # type: ignore[misc]
    """Nothing but what every such action does."""

    MODULE = "packages"
    SPEC = {"names": {"type": "list", "elements": "str", "required": True}}

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""`config_files` on the control node: its program goes to the host through standard input."""

from __future__ import annotations

from ansible_collections.flaskfleet.web.plugins.plugin_utils.stdin_program import ProgramAction

ENTRY = {
    "path": {"type": "str", "required": True},
    "content": {"type": "str"},
    "link": {"type": "str"},
    "regexp": {"type": "str"},
    "replace": {"type": "str"},
    "disabled_as": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent", "disabled", "restored"], "default": "present"},
    "mode": {"type": "str", "default": "0644"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
}
SET = {
    "files": {"type": "list", "elements": "dict", "required": True, "options": ENTRY},
    "validate": {"type": "list", "elements": "str"},
    "apply": {"type": "list", "elements": "str"},
}


class ActionModule(ProgramAction):  # type: ignore[misc]
    """Nothing but what every such action does."""

    MODULE = "config_files"
    USES = ("file_state", "file_entries", "file_record", "file_transaction")
    SPEC = {**SET, "overwrite": {"type": "bool", "default": False}, "preview": {"type": "dict", "options": SET}}

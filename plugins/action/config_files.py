# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""`config_files` on the control node: its program goes to the host through standard input."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.stdin_program import WarningAction

ENTRY = {
    "path": {"type": "str", "required": True},
    "content": {"type": "str"},
    "link": {"type": "str"},
    "regexp": {"type": "str"},
    "replace": {"type": "str"},
    "disabled_as": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "offered", "absent", "disabled", "restored"], "default": "present"},
    "mode": {"type": "str", "default": "0644"},
    "owner": {"type": "str"},
    "group": {"type": "str"},
}
SET = {
    "files": {"type": "list", "elements": "dict", "required": True, "options": ENTRY},
    "validate": {"type": "list", "elements": "str"},
    "apply": {"type": "list", "elements": "str"},
}


MANY = 5  # new files in one directory: a line for all of them

Diff = dict[str, str]


def whole(diff: Diff) -> tuple[str, str, str]:
    """Return the path of a file that comes or goes whole, "new" or "removed", and what it is; else nothing."""
    before, after = diff.get("before_header", ""), diff.get("after_header", "")
    for word, absent, header, text in (("new", before, after, diff.get("after")), ("removed", after, before, "")):
        path, _, kind = header.rpartition(" (")
        if path and absent == f"{path} (absent)":
            return path, word, (text or "").strip() if kind == "link)" else kind.rstrip(")")
    return "", "", ""


def folded(diffs: Sequence[Diff]) -> list[Diff]:
    """Return differences with a line for each file that comes or goes whole: of a new one all lines are new.

    Of many new ones in one directory there is one line.
    """
    found = [(diff, *whole(diff)) for diff in diffs]
    new = Counter(os.path.dirname(path) for _diff, path, word, _about in found if word == "new")
    lines: dict[str, None] = {}
    rest: list[Diff] = []
    for diff, path, word, about in found:
        directory = os.path.dirname(path)
        if not path:
            rest.append(diff)
        elif word == "new" and new[directory] >= MANY:
            lines[f"{directory}: {new[directory]} new files"] = None
        else:
            lines[f"{path}: {word}{f', {about}' if about else ''}"] = None
    return [{"prepared": "".join(f"{line}\n" for line in lines)}, *rest] if lines else rest


class ActionModule(WarningAction):  # type: ignore[misc]
    """Does what every such action does, and keeps the text of new files for -v."""

    MODULE = "config_files"
    USES = ("file_state", "file_entries", "file_record", "nginx_reload", "file_transaction")
    SPEC = {**SET, "overwrite": {"type": "bool", "default": False}, "preview": {"type": "dict", "options": SET}}

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the program wrote."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if result.get("diff") and not self._display.verbosity:
            result["diff"] = folded(result["diff"])
        return result

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What of the module `flaskctl` runs on the control node: taking over from a dead rollout, and sending the archive."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.flaskfleet.web.plugins.lookup.holder import taken_over

Json = dict[str, Any]


class ActionModule(ActionBase):  # type: ignore[misc]
    """Run the module, and again where that helps: one task, and one question to a host that has the release already.

    ansible.builtin.copy would look at the host before it sends, and put the file in its place afterwards: two round
    trips more, and the tasks around it cost the control node time for each host.
    """

    _supports_check_mode = True
    # with True, Ansible makes and removes a directory on the host for each task of flaskctl: two round trips
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: Json | None = None) -> Json:
        """Return the answer of the module; where it ran with the archive, of what only the question told as well."""
        result: Json = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        src = arguments.pop("src", None)
        try:
            answer = self._execute_module(module_args=arguments, task_vars=task_vars)
            over = takeover(arguments, answer) if answer.get("failed") else ""
            if over:
                whose = str(answer["msg"]).splitlines()[0]
                self._display.display(f"This run takes over: {whose}; that process is dead.")
                arguments["holder"] = over
                answer = self._execute_module(module_args=arguments, task_vars=task_vars)
            if src and answer.get("archive_needed") and not self._task.check_mode:
                # the module left one where it does not go through a pipe
                directory = self._connection._shell.tmpdir or self._make_tmp_path()
                path = self._connection._shell.join_path(directory, os.path.basename(src))
                self._transfer_file(src, path)
                staged = self._execute_module(module_args={**arguments, "archive": path}, task_vars=task_vars)
                answer.update({key: value for key, value in staged.items() if key != "archive_needed"})
            result.update(answer)
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result


def takeover(arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Return the holder that takes the lease over, when it was refused for that of a dead rollout from here."""
    lease, holder = answer.get("lease"), arguments.get("holder")
    if not isinstance(lease, Mapping) or not holder:
        return ""
    me = json.loads(holder)
    old = taken_over(lease, me)
    return json.dumps({**me, "takes_over": old}) if old else ""

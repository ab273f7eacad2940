# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Run a program on a host with one command.

Ansible sends its own library with each module, and the host compiles it anew for each task: 0.2 s of its CPU, against
0.02 s for a command over the same connection. So what every rollout asks of every host is an action here, its program
goes through standard input, and it needs nothing but the host's Python.
"""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ansible.plugins.action import ActionBase

Json = dict[str, Any]

PYTHON = "/usr/bin/python3"
# the first line of standard input is the program, the rest is for the program itself
STUB = "import json, sys; exec(json.loads(sys.stdin.readline()))"
PLUGINS = Path(__file__).parent.parent
PACKAGE = "ansible_collections.flaskfleet.web.plugins.module_utils"
# a program with what it imports of module_utils: there is no such package on a host
CARRIER = """\
import sys, types
for name, text in {texts!r}:
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(text, name, "exec"), module.__dict__)
exec({program!r})
"""
NOT_FOUND = 127  # the shell's exit code


class Done(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """All that it said."""
        return "\n".join(text.strip("\n") for text in (self.err, self.out) if text.strip())


class StdinAction(ActionBase):  # type: ignore[misc]
    """An action that needs one command on the host."""

    _supports_check_mode = True

    def call(self, argv: Sequence[str], data: bytes) -> Done:
        """Run a command on the host, as the user that the task becomes, with `data` as its standard input.

        `data` is never empty: without any ssh makes a terminal, which mixes errors into the output. Where a connection
        or a way to become root takes none (su with a password wants a terminal), standard input is a file.
        """
        command = f"{self._compute_environment_string()} LC_ALL=C.UTF-8 {shlex.join(argv)}".strip()
        if self._connection.is_pipelining_enabled():
            done = self._low_level_execute_command(command, in_data=data)
        else:
            path = self._connection._shell.join_path(self.directory(), "stdin")
            self._transfer_data(path, data)
            self._fixup_perms2((self._connection._shell.tmpdir, path), execute=False)
            done = self._low_level_execute_command(f"{command} < {shlex.quote(path)}")
        return Done(done["rc"], done["stdout"], done["stderr"])

    def directory(self) -> str:
        """Return this task's directory on the host; Ansible removes it when the task ends."""
        return str(self._connection._shell.tmpdir or self._make_tmp_path())


class ProgramAction(StdinAction):
    """An action whose module file is a program: that reads options and check mode as JSON, and writes its result."""

    MODULE: ClassVar[str]
    SPEC: ClassVar[Json]
    USES: ClassVar[Sequence[str]] = ()  # what it imports of module_utils, in the order in which they need each other

    def run(self, tmp: Any = None, task_vars: Json | None = None) -> Json:
        """Return the result that the program wrote."""
        result: Json = super().run(tmp, task_vars)
        _validated, params = self.validate_argument_spec(argument_spec=self.SPEC)
        program = program_of(self.MODULE, self.USES)
        given = {"params": params, "check": bool(self._task.check_mode)}
        data = f"{json.dumps(program)}\n{json.dumps(given)}".encode()
        return {**result, **understood(self.MODULE, self.call([PYTHON, "-IS", "-c", STUB], data))}


class WarningAction(ProgramAction):
    """One that says with each warning which host it is about."""

    def run(self, tmp: Any = None, task_vars: Json | None = None) -> Json:
        """Return what the host answered."""
        result = super().run(tmp, task_vars)
        name = (task_vars or {}).get("inventory_hostname", "the host")
        if result.get("warnings"):
            result["warnings"] = [f"On {name} {warning}" for warning in result["warnings"]]
        return result


def program_of(module: str, uses: Sequence[str]) -> str:
    """Return the text of a module, with what it imports of module_utils."""
    texts = [(f"{PACKAGE}.{name}", (PLUGINS / f"module_utils/{name}.py").read_text(encoding="utf-8")) for name in uses]
    program = (PLUGINS / f"modules/{module}.py").read_text(encoding="utf-8")
    return CARRIER.format(texts=texts, program=program) if texts else program


def answer_in(said: str) -> Json | None:
    """Return the one line of JSON that a program wrote: before and after it a login shell may have said something."""
    for line in reversed(said.splitlines()):
        if line.startswith("{"):
            with contextlib.suppress(ValueError):
                found: Json = json.loads(line)
                return found
    return None


def understood(module: str, done: Done) -> Json:
    """Return the result that a program wrote; no result is a failure that shows all that was said."""
    answer = answer_in(done.out)
    if done.code == 0 and answer is not None:
        return answer
    if done.code == NOT_FOUND:
        msg = f"The host has no {PYTHON}. Install it there: apt-get install python3."
    else:
        msg = f"{module} ended with exit code {done.code} and gave no answer.\n\n{done.words}".rstrip()
    return {"failed": True, "changed": False, "msg": msg}

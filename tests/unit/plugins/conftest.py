"""Runs modules and actions as Ansible does, in this process and on this machine."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.module_utils.testing import patch_module_args
from ansible.plugins.action import ActionBase

# Sets up Ansible's own import of collections. That must come before the first import of a plugin: other tests in this
# process template with the filters, and Ansible would not find them any more.
import tests.rendering  # noqa: F401
from tests.unit.plugins.etc_host import Host, file_record, file_transaction

Answer = dict[str, Any]
RunModule = Callable[..., Answer]
ACTIONS = "ansible_collections.flaskfleet.web.plugins.action"


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunModule:
    """Return a function that runs a module and returns what it tells Ansible."""
    warnings: list[str] = []
    # Ansible prints a warning at once where any of its own controller code was imported, as other tests do
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, warning, **_more: warnings.append(warning))

    def run(module: ModuleType, arguments: dict[str, Any], check: bool = False, diff: bool = True) -> Answer:
        settings = {"_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args({**arguments, **settings}), pytest.raises(SystemExit):
            module.main()
        answer: Answer = json.loads(capsys.readouterr().out)
        if warnings:
            answer["warnings"] = warnings.copy()
            warnings.clear()
        return answer

    return run


@pytest.fixture
def run_program(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunModule:
    """Return a function that runs a module that is a program, with the options as its action makes them."""

    def run(module: ModuleType, arguments: dict[str, Any], check: bool = False) -> Answer:
        spec = importlib.import_module(f"{ACTIONS}.{module.__name__.rpartition('.')[2]}").ActionModule.SPEC
        params = ArgumentSpecValidator(spec).validate(arguments).validated_parameters
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"params": params, "check": check})))
        module.main()
        answer: Answer = json.loads(capsys.readouterr().out)
        return answer

    return run


class Here:
    """Mixed into an action: its host is this machine, and what would go to it goes to a directory."""

    def __init__(
        self, root: Path, arguments: Answer, check: bool = False, pipelining: bool = True, verbosity: int = 0
    ) -> None:
        self._task = types.SimpleNamespace(args=arguments, check_mode=check, async_val=0, diff=False)
        self._load_name = "flaskctl"
        shell = types.SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        self._connection = types.SimpleNamespace(_shell=shell, is_pipelining_enabled=lambda: pipelining)
        self._display = types.SimpleNamespace(verbosity=verbosity, display=lambda text: self.said.append(text))
        self.root = root
        self.said: list[str] = []
        self.commands: list[str] = []
        self.sent: list[str] = []

    def _low_level_execute_command(self, command: str, in_data: bytes | None = None) -> Answer:
        self.commands.append(command)
        done = subprocess.run(["/bin/sh", "-c", command], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}

    def _compute_environment_string(self) -> str:
        return "COLOUR=blue"

    def _make_tmp_path(self) -> str:
        self._connection._shell.tmpdir = str(self.root)
        return str(self.root)

    def _transfer_data(self, path: str, data: bytes) -> None:
        Path(path).write_bytes(data)
        self.sent.append(path)

    def _transfer_file(self, source: str, path: str) -> None:
        self._transfer_data(path, Path(source).read_bytes())

    def _fixup_perms2(self, paths: tuple[str, ...], execute: bool) -> None:
        assert not execute and all(Path(path).exists() for path in paths)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that makes an action for this machine: of its module, with its options."""
    monkeypatch.setattr(ActionBase, "run", lambda self, tmp, task_vars: {})
    place = tmp_path / "of-the-task"
    place.mkdir()

    def make(module: ModuleType, arguments: Answer, **more: Any) -> Any:
        return type("Action", (Here, module.ActionModule), {})(place, arguments, **more)

    return make


@pytest.fixture
def host(tmp_path: Path, run_program: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Return a host with the files of an app in their old form."""
    monkeypatch.setattr(file_transaction, "STATE_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(file_record, "RECORD", str(tmp_path / "lib" / "flaskfleet" / "files.json"))
    monkeypatch.setattr(file_transaction, "UNFINISHED", str(tmp_path / "lib" / "flaskfleet" / "unfinished-{}.json"))
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    host = Host(tmp_path, run_program)
    monkeypatch.setattr(file_transaction.Transaction, "command", lambda self, argv: host.command(argv))
    yield host
    assert not list(tmp_path.rglob("*.flaskfleet-new")), "a file that was being written is left"

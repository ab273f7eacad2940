"""The actions over a real connection, `local`, with Ansible's own ActionBase: other tests put theirs in its place."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.playbook.play_context import PlayContext
from ansible.playbook.task import Task
from ansible.plugins import loader
from ansible.plugins.loader import action_loader, connection_loader
from ansible.template import Templar
from ansible_collections.flaskfleet.web.plugins.action import flaskctl

Run = Callable[..., dict[str, Any]]


@pytest.fixture(params=[True, False], ids=["pipelining", "files"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return a function that runs a task on this machine, as Ansible's executor does."""

    def run(name: str, arguments: dict[str, Any], check: bool = False) -> dict[str, Any]:
        task = Task.load({"name": name, f"flaskfleet.web.{name}": arguments, "environment": [{"COLOUR": "blue"}]})
        task.check_mode, task.diff = check, False
        task.environment = [{"COLOUR": "blue"}]
        connection = connection_loader.get("ansible.builtin.local", PlayContext(), os.devnull)
        options = {"ansible_pipelining": request.param, "ansible_remote_tmp": str(tmp_path / "remote")}
        connection.set_options(var_options=options)
        connection._shell.set_options(var_options=options)
        assert connection.is_pipelining_enabled() is request.param
        action = action_loader.get(
            f"flaskfleet.web.{name}",
            task=task,
            connection=connection,
            play_context=PlayContext(),
            loader=DataLoader(),
            templar=Templar(DataLoader(), variables={}),
            shared_loader_obj=loader,
        )
        try:
            answer: dict[str, Any] = action.run(task_vars={})
        finally:
            action.cleanup(force=True)
        left = list((tmp_path / "remote").glob("*")) if (tmp_path / "remote").exists() else []
        assert not left, "a directory on the host outlives its task"
        return answer

    return run


def test_a_program_is_run_on_the_host(run: Run) -> None:
    answer = run("host", {"packages": ["no-such-package"], "users": ["root"]})
    assert answer["users"]["root"]["home"] == "/root" and answer["missing_packages"] == ["no-such-package"], answer


def test_a_file_is_changed_and_the_change_foretold(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    files = {"files": [{"path": str(path), "content": "ü'\"$x\n", "mode": "0640"}]}
    foretold = run("config_files", files, check=True)
    assert foretold["changed"] and not path.exists(), foretold


def test_flaskctl_is_asked_with_its_options_and_standard_input(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "flaskctl"
    program.write_text(
        "#!/usr/bin/python3\nimport json, os, sys\n"
        "print(json.dumps({'command': 'stage', 'changed': True, 'argv': sys.argv[1:], 'colour': os.environ['COLOUR'],"
        " 'given': sys.stdin.buffer.read().decode('latin-1'), 'locale': os.environ['LC_ALL']}))\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(flaskctl, "FLASKCTL", str(program))
    source = tmp_path / "4f2a.tar.gz"
    source.write_bytes(b"\x1f\x8b\0'\xff\n")
    config = json.dumps({"environment": {"A": "it's $HOME"}})
    answer = run("flaskctl", {"app": "hello", "command": "stage", "src": str(source), "sha256": "4f", "config": config})
    assert answer["argv"] == ["--json", "hello", "stage", "--sha256", "4f", "--config", "-", "-"], answer
    assert answer["given"] == config + "\n\x1f\x8b\0'\xff\n"
    assert (answer["colour"], answer["locale"]) == ("blue", "C.UTF-8")


def test_a_large_archive_is_copied_and_its_copy_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "flaskctl"
    program.write_text(
        "#!/usr/bin/python3\nimport json, os, sys\nlast = sys.argv[-1]\nthere = os.path.isfile(last)\n"
        "print(json.dumps({'command': 'stage', 'changed': there, 'archive_needed': not there,"
        " 'size': os.path.getsize(last) if there else None}))\nsys.exit(0 if there else 3)\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(flaskctl, "FLASKCTL", str(program))
    source = tmp_path / "4f2a.tar.gz"
    source.write_bytes(b"x" * (flaskctl.SMALL + 1))
    answer = run("flaskctl", {"app": "hello", "command": "stage", "src": str(source), "sha256": "4f", "config": "{}"})
    assert answer["changed"] and answer["size"] == flaskctl.SMALL + 1, answer


def test_a_host_without_flaskctl_is_told_from_one_that_fails(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flaskctl, "FLASKCTL", str(tmp_path / "nothing"))
    assert "is not on this host" in run("flaskctl", {"app": "hello", "command": "status"})["msg"]
    assert run("flaskctl", {"app": "hello", "command": "prune"}, check=True)["predicted"] is True

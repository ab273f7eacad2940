"""A task of flaskctl on the control node: the archive goes only where it is needed, and dead leases pass."""

from __future__ import annotations

import json
import types
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.action import flaskctl
from ansible_collections.flaskfleet.web.plugins.lookup import holder

Json = dict[str, Any]
ME = {"id": "4026531836.100.5", "by": "ada", "from": "laptop", "pid": "100"}
DEAD = {"id": "4026531836.90.4", "by": "ada", "from": "laptop", "pid": "90"}
STAGE = {"app": "hello", "command": "stage", "src": "/cache/4f2a.tar.gz", "sha256": "4f2a", "holder": json.dumps(ME)}
NEEDED = {"changed": False, "archive_needed": True, "id": "1", "current": "0"}
STAGED = {"changed": True, "archive_needed": False, "id": "1", "current": "0", "staged": True}


class Action(flaskctl.ActionModule):  # type: ignore[misc]
    """The plugin on a host that gives the answers it is told, one after the other."""

    def __init__(self, arguments: Json, *answers: Json, check_mode: bool = False) -> None:
        self._task = types.SimpleNamespace(args=arguments, check_mode=check_mode, async_val=0, diff=False)
        shell = types.SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts))
        self._connection = types.SimpleNamespace(_shell=shell)
        self._display = types.SimpleNamespace(display=lambda text: self.said.append(text))
        self.answers = list(answers)
        self.asked: list[Json] = []
        self.sent: list[tuple[str, str]] = []
        self.said: list[str] = []
        self.removed: list[str | None] = []

    def _execute_module(self, module_args: Json, task_vars: Any = None) -> Json:
        self.asked.append(dict(module_args))
        return dict(self.answers.pop(0))

    def _make_tmp_path(self) -> str:
        self._connection._shell.tmpdir = "/tmp/x"
        return "/tmp/x"

    def _transfer_file(self, src: str, dest: str) -> None:
        self.sent.append((src, dest))

    def _remove_tmp_path(self, path: str | None) -> None:
        self.removed.append(path)


@pytest.fixture(autouse=True)
def base_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaskctl.ActionBase, "run", lambda self, tmp, task_vars: {})
    monkeypatch.setattr(holder, "started", lambda pid: "")
    monkeypatch.setattr(flaskctl, "taken_over", lambda lease, me: holder.taken_over(lease, me, lambda pid: ""))


def test_a_host_that_has_the_release_is_asked_once() -> None:
    action = Action(STAGE, STAGED)
    assert action.run() == STAGED
    assert len(action.asked) == 1 and "src" not in action.asked[0] and not action.sent
    assert action.removed == [None] and not action._early_needs_tmp_path(), "no directory is made there"


def test_a_host_that_needs_the_archive_is_sent_it_and_nothing_is_left_there() -> None:
    action = Action(STAGE, NEEDED, STAGED)
    assert action.run() == {**STAGED, "archive_needed": True}
    assert action.sent == [("/cache/4f2a.tar.gz", "/tmp/x/4f2a.tar.gz")]
    assert [arguments.get("archive") for arguments in action.asked] == [None, "/tmp/x/4f2a.tar.gz"]
    assert action.removed == ["/tmp/x"]


def test_a_directory_that_the_module_has_made_is_used_again() -> None:
    action = Action(STAGE, NEEDED, STAGED)
    action._connection._shell.tmpdir = "/tmp/of-the-module"
    action.run()
    assert action.sent == [("/cache/4f2a.tar.gz", "/tmp/of-the-module/4f2a.tar.gz")]
    assert action.removed == ["/tmp/of-the-module"]


def test_a_stage_that_fails_still_tells_how_the_host_stands() -> None:
    answer = Action(STAGE, NEEDED, {"failed": True, "msg": "no space", "changed": False}).run()
    assert answer["failed"] and (answer["current"], answer["msg"]) == ("0", "no space")


def test_check_mode_sends_nothing() -> None:
    action = Action(STAGE, NEEDED, check_mode=True)
    assert action.run() == NEEDED and not action.sent


def test_a_lease_of_a_dead_rollout_from_here_is_taken_over() -> None:
    refused = {"failed": True, "msg": "ada rolls out hello\n\nwait", "lease": DEAD}
    action = Action(STAGE, refused, NEEDED, STAGED)
    assert action.run()["staged"]
    assert [json.loads(arguments["holder"]).get("takes_over") for arguments in action.asked] == [
        None,
        DEAD["id"],
        DEAD["id"],
    ]
    assert action.said == ["This run takes over: ada rolls out hello; that process is dead."]


@pytest.mark.parametrize("lease", [None, {**DEAD, "by": "bob"}, {**ME}])
def test_no_other_failure_is_tried_again(lease: Json | None) -> None:
    refused = {"failed": True, "msg": "no", "lease": lease}
    action = Action(STAGE, refused)
    assert action.run() == refused and len(action.asked) == 1


def test_other_commands_pass_as_they_are() -> None:
    action = Action({"app": "hello", "command": "status"}, {"changed": False})
    assert action.run() == {"changed": False}
    assert action.asked == [{"app": "hello", "command": "status"}]

"""The module that calls flaskctl: what it asks, and how it tells the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.modules import flaskctl

Answer = dict[str, Any]
TRACEBACK = "Traceback (most recent call last):\n  File \"app.py\", line 1\nModuleNotFoundError: No module named 'flsk'"


class Engine:
    """A flaskctl that gives the answer it was told to, and keeps what it was asked."""

    def __init__(self, root: Path, run_module: Callable[..., Answer]) -> None:
        self.path, self.root, self.run_module = root / "flaskctl", root, run_module
        self.answers("{}")

    def answers(self, out: str | Answer, code: int = 0, err: str = "") -> None:
        """Set the answer, as JSON or as text."""
        (self.root / "out").write_text(out if isinstance(out, str) else json.dumps(out))
        (self.root / "err").write_text(err)
        self.path.write_text(
            f'#!/bin/sh\ncd {self.root}\nprintf "%s\\n" "$@" >argv\ncat >stdin\ncat out\ncat err >&2\nexit {code}\n'
        )
        self.path.chmod(0o755)

    def run(self, check: bool = False, **arguments: Any) -> Answer:
        """Run the module for the app hello."""
        return self.run_module(flaskctl, {"app": "hello", **arguments}, check=check)

    @property
    def argv(self) -> list[str]:
        """The arguments of the last call."""
        return (self.root / "argv").read_text().splitlines()

    @property
    def stdin(self) -> str:
        """The standard input of the last call."""
        return (self.root / "stdin").read_text()


@pytest.fixture
def engine(tmp_path: Path, run_module: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return a flaskctl in the place of the real one."""
    found = Engine(tmp_path, run_module)
    monkeypatch.setattr(flaskctl, "FLASKCTL", str(found.path))
    return found


@pytest.mark.parametrize(
    ("arguments", "argv"),
    [
        ({"command": "status"}, ["--json", "hello", "status"]),
        (
            {"command": "stage", "archive": "/x.tar.gz", "sha256": "ab", "config": "{}"},
            ["--json", "hello", "stage", "--sha256", "ab", "--config", "-", "/x.tar.gz"],
        ),
        ({"command": "stage", "sha256": "ab"}, ["--json", "hello", "stage", "--sha256", "ab"]),
        (
            {"command": "stage", "sha256": "ab", "try": "import"},
            ["--json", "hello", "stage", "--sha256", "ab", "--try", "import"],
        ),
        ({"command": "activate", "release": "4f0c"}, ["--json", "hello", "activate", "4f0c"]),
        (
            {"command": "activate", "release": "4f0c", "holder": '{"id": "1"}'},
            ["--json", "hello", "activate", "--holder", '{"id": "1"}', "4f0c"],
        ),
        (
            {"command": "bake", "seconds": 60, "max_errors": 0.5, "max_slower": 3, "min_requests": 10},
            ["--json", "hello", "bake", "--seconds", "60"]
            + ["--max-errors", "0.5", "--max-slower", "3.0", "--min-requests", "10"],
        ),
        ({"command": "drain", "seconds": 5}, ["--json", "hello", "drain", "--seconds", "5"]),
        ({"command": "status", "drift": True}, ["--json", "hello", "status", "--drift"]),
        ({"command": "restart"}, ["--json", "hello", "restart"]),
        ({"command": "undrain"}, ["--json", "hello", "undrain"]),
        (
            {"command": "maintenance", "mode": "on", "page": "/p.html"},
            ["--json", "hello", "maintenance", "--page", "/p.html", "on"],
        ),
        ({"command": "bake", "seconds": 5}, ["--json", "hello", "bake", "--seconds", "5"]),
        ({"command": "lock", "holder": '{"id": "1"}'}, ["--json", "hello", "lock", "--holder", '{"id": "1"}']),
        ({"command": "unlock", "force": True}, ["--json", "hello", "unlock", "--force"]),
        ({"command": "rollback"}, ["--json", "hello", "rollback"]),
        ({"command": "rollback", "release": "4f0c"}, ["--json", "hello", "rollback", "4f0c"]),
        ({"command": "verify", "release": "4f0c"}, ["--json", "hello", "verify", "4f0c"]),
        ({"command": "prune", "keep": 3}, ["--json", "hello", "prune", "--keep", "3"]),
        ({"command": "remove", "purge": True}, ["--json", "hello", "remove", "--purge"]),
        ({"command": "remove", "purge": False}, ["--json", "hello", "remove"]),
    ],
)
def test_each_command_is_asked_for_in_flaskctls_own_words(
    engine: Engine, arguments: dict[str, Any], argv: list[str]
) -> None:
    assert not engine.run(**arguments).get("failed")
    assert engine.argv == argv
    engine.run(check=True, **arguments)
    assert engine.argv == ["--json", "--dry-run", *argv[1:]]


def test_the_configuration_goes_to_standard_input_byte_for_byte_and_nowhere_else(engine: Engine) -> None:
    config = json.dumps({"environment": {"TOKEN": "s3cr3t\n\\ü'\"", "DEBUG": "1"}}, ensure_ascii=False)
    engine.answers({"command": "stage", "changed": True, "msg": "staged 1 release", "id": "1"})
    answer = engine.run(command="stage", archive="/x", config=config)
    assert engine.stdin == config
    assert "s3cr3t" not in " ".join(engine.argv) and "s3cr3t" not in str(answer)
    assert answer["msg"] == "staged 1 release", "the short value 1 is not scrubbed from the output"


def test_an_answer_is_passed_on_with_its_warnings(engine: Engine) -> None:
    engine.answers({"command": "stage", "changed": True, "msg": "staged", "id": "4f0c", "warnings": ["no hashes"]})
    answer = engine.run(command="stage", archive="/x")
    assert answer["changed"] and answer["id"] == "4f0c" and answer["warnings"] == ["no hashes"]
    assert answer["archive_needed"] is False
    assert "rc" not in answer, "Ansible takes an rc that is not 0 for a failure"


def test_an_archive_that_is_needed_is_no_failure(engine: Engine) -> None:
    engine.answers({"command": "stage", "changed": False, "msg": "needs it", "archive_needed": True, "id": "4f"}, 3)
    answer = engine.run(command="stage", sha256="ab")
    assert not answer.get("failed") and answer["archive_needed"] is True and "rc" not in answer


def test_a_failure_is_told_whole_as_one_readable_text(engine: Engine) -> None:
    said = {"msg": "4f0c cannot start", "detail": TRACEBACK, "remedy": "Add flsk to requirements.txt.", "failed": True}
    engine.answers({**said, "command": "activate", "changed": False}, 1, "")
    answer = engine.run(command="activate", release="4f0c")
    assert answer["failed"] and answer["rc"] == 1
    assert answer["msg"] == f"4f0c cannot start\n\n{TRACEBACK}\n\nAdd flsk to requirements.txt."
    assert "detail" not in answer and "remedy" not in answer, "Ansible would print the traceback again"


def test_a_lock_that_another_holds_is_a_failure_that_names_the_holder(engine: Engine) -> None:
    engine.answers({"failed": True, "msg": "ada holds the lock of hello", "command": "stage"}, 75)
    answer = engine.run(command="stage", archive="/x")
    assert answer["failed"] and answer["rc"] == 75 and "ada holds" in answer["msg"]


@pytest.mark.parametrize(
    ("out", "code", "err"),
    [
        ("", 1, "Traceback: a bug of flaskctl"),
        ("Killed", 137, ""),
        ("[]", 0, "not an object"),
        ("", 0, ""),
        ("{", 0, "half"),
        ("", 2, "usage: flaskctl [-h]"),
    ],
)
def test_an_answer_that_is_no_json_is_a_failure_that_shows_all_that_was_said(
    engine: Engine, out: str, code: int, err: str
) -> None:
    engine.answers(out, code, err)
    answer = engine.run(command="status")
    assert answer["failed"] and f"exit code {code} and gave no answer" in answer["msg"]
    assert err in answer["msg"] and out in answer["msg"]


def test_an_exit_code_is_believed_more_than_the_answer(engine: Engine) -> None:
    engine.answers({"command": "activate", "changed": True, "msg": "done"}, 1)
    assert engine.run(command="activate", release="4f")["failed"]


def test_no_failure_shows_the_password_of_an_index(engine: Engine) -> None:
    engine.answers({"failed": True, "msg": "pip failed", "detail": "Looking in https://ada:pw@index.example/simple"}, 1)
    answer = engine.run(command="stage", archive="/x")
    assert "https://***@index.example/simple" in answer["msg"] and "ada:pw" not in str(answer)


def test_a_difference_is_shown_by_name(engine: Engine) -> None:
    diff = {
        "environment": {"added": ["NEW"], "removed": ["GONE"], "changed": ["TOKEN"]},
        "credentials": {"added": ["KEY"], "removed": [], "changed": []},
        "settings": ["gunicorn_conf"],
    }
    engine.answers({"command": "stage", "changed": True, "msg": "staged", "diff": diff})
    assert engine.run(command="stage", archive="/x")["diff"]["prepared"].splitlines() == [
        "hello: how the release differs from the one that serves",
        "- environment variable GONE",
        "+ environment variable NEW",
        "~ environment variable TOKEN",
        "+ credential KEY",
        "~ gunicorn_conf",
    ]
    engine.answers({"command": "stage", "changed": False, "msg": "staged", "diff": {}})
    assert "diff" not in engine.run(command="stage", archive="/x")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"command": "activate"}, "activate needs release"),
        ({"command": "status", "release": "4f"}, "status takes no release"),
        ({"command": "rollback", "keep": 2, "config": "{}"}, "rollback takes no config and no keep"),
        ({"command": "prune", "purge": True}, "prune takes no purge"),
        ({"command": "maintenance"}, "maintenance needs mode"),
        ({"command": "bake"}, "bake needs seconds"),
        ({"command": "lock"}, "lock needs holder"),
        ({"command": "unlock"}, "unlock needs either holder or force"),
        ({"command": "unlock", "holder": "{}", "force": True}, "unlock needs either holder or force"),
        ({"command": "reboot"}, "value of command must be one of"),
    ],
)
def test_options_that_do_not_fit_the_command_are_refused(engine: Engine, arguments: dict[str, Any], words: str) -> None:
    answer = engine.run(**arguments)
    assert answer["failed"] and words in answer["msg"] and not (engine.root / "argv").exists()


# a host without flaskctl


@pytest.mark.parametrize(
    ("arguments", "changed"),
    [
        ({"command": "stage", "sha256": "ab", "config": "{}"}, True),
        ({"command": "activate", "release": None}, True),
        ({"command": "activate", "release": "4f"}, True),
        ({"command": "prune", "keep": 5}, False),
        ({"command": "lock", "holder": '{"id": "1"}'}, False),
        ({"command": "unlock", "force": True}, False),
        ({"command": "remove"}, False),
    ],
)
def test_check_mode_predicts_a_first_installation(engine: Engine, arguments: dict[str, Any], changed: bool) -> None:
    engine.path.unlink()
    answer = engine.run(check=True, **arguments)
    assert not answer.get("failed") and answer["predicted"] is True and answer["changed"] is changed


def test_a_prediction_holds_all_that_a_stage_answers(engine: Engine) -> None:
    engine.path.unlink()
    answer = engine.run(check=True, command="stage", sha256="ab")
    assert answer["archive_needed"] and answer["staged"] is False and answer["releases"] == answer["active"] == []
    assert all(answer[key] is None for key in ("id", "current", "previous", "nginx", "openssl", "systemd", "python"))
    assert answer["socket"] == {"active": False, "enabled": False, "stale": False}


@pytest.mark.parametrize("command", ["status", "rollback", "verify"])
@pytest.mark.parametrize("check", [True, False])
def test_what_needs_an_app_says_that_there_is_none(engine: Engine, command: str, check: bool) -> None:
    engine.path.unlink()
    answer = engine.run(check=check, command=command)
    assert answer["failed"] and "is not on this host" in answer["msg"] and "site.yml" in answer["msg"]


def test_nothing_is_left_to_remove_where_flaskctl_is_gone(engine: Engine) -> None:
    engine.path.unlink()
    answer = engine.run(command="remove", purge=True)
    assert not answer.get("failed") and answer["changed"] is False and answer["others"] == []


def test_staging_on_a_host_without_flaskctl_fails(engine: Engine) -> None:
    engine.path.unlink()
    assert engine.run(command="stage", archive="/x")["failed"]

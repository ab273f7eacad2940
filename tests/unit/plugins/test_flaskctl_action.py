"""A task of flaskctl: what the host is asked and sent, how the answer is told, and that dead leases pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.flaskfleet.web.plugins.action import flaskctl
from ansible_collections.flaskfleet.web.plugins.lookup import holder
from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheel_tags import Unfit
from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheelhouse import Wheels

Answer = dict[str, Any]
TRACEBACK = "Traceback (most recent call last):\n  File \"app.py\", line 1\nModuleNotFoundError: No module named 'flsk'"
ME = {"id": "4026531836.100.5", "by": "ada", "from": "laptop", "pid": "100"}
DEAD = {"id": "4026531836.90.4", "by": "ada", "from": "laptop", "pid": "90"}
NEEDED = {"command": "stage", "changed": False, "archive_needed": True, "id": "1", "current": "0"}
STAGED = {"command": "stage", "changed": True, "archive_needed": False, "id": "1", "current": "0", "staged": True}


class Engine:
    """A flaskctl that gives the answers it was told to, the last one for ever, and keeps what it was asked."""

    def __init__(self, root: Path, here: Callable[..., Any]) -> None:
        self.path, self.root, self.here = root / "flaskctl", root, here
        self.answers("{}")

    def answers(self, out: str | Answer, code: int = 0, err: str = "", turn: int = 0) -> None:
        """Set the answer, as JSON or as text; `turn` for more than one, from 0 on."""
        texts = {"out": out if isinstance(out, str) else json.dumps(out), "err": err, "code": str(code)}
        for name, text in texts.items():
            (self.root / f"{name}.{turn}").write_text(text)
        (self.root / "turn").write_text("0")
        self.path.write_text(
            f'#!/bin/sh\ncd {self.root}\nturn=$(cat turn)\nprintf "%s\\n" "$@" >argv.$turn\ncat >stdin.$turn\n'
            f"cat out.$turn\ncat err.$turn >&2\ncode=$(cat code.$turn)\n"
            f"[ -e out.$((turn + 1)) ] && echo $((turn + 1)) >turn\nexit $code\n"
        )
        self.path.chmod(0o755)

    def action(self, check: bool = False, pipelining: bool = True, **arguments: Any) -> Any:
        """Return the action for the app hello."""
        return self.here(flaskctl, {"app": "hello", **arguments}, check=check, pipelining=pipelining)

    def run(self, check: bool = False, **arguments: Any) -> Answer:
        """Run the action, and return what it tells Ansible."""
        answer: Answer = self.action(check, **arguments).run()
        return answer

    def argv(self, turn: int = 0) -> list[str]:
        """The arguments of a call."""
        return (self.root / f"argv.{turn}").read_text().splitlines()

    def stdin(self, turn: int = 0) -> bytes:
        """The standard input of a call."""
        return (self.root / f"stdin.{turn}").read_bytes()


@pytest.fixture
def engine(tmp_path: Path, here: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Return a flaskctl in the place of the real one."""
    found = Engine(tmp_path, here)
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
        (
            {"command": "unlock", "holder": '{"id": "1"}', "keep": 3},
            ["--json", "hello", "unlock", "--keep", "3", "--holder", '{"id": "1"}'],
        ),
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
    assert engine.argv() == argv
    engine.run(check=True, **arguments)
    assert engine.argv() == ["--json", "--dry-run", *argv[1:]]


def test_flaskctl_is_told_who_runs_the_playbook(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaskctl, "user", lambda: "ada lovelace")
    action = engine.action(command="maintenance", mode="on")
    action.run()
    assert "env 'FLASKCTL_BY=ada lovelace' " in action.commands[0]


def test_the_key_of_an_account_goes_to_standard_input_and_nowhere_else(engine: Engine) -> None:
    account = json.dumps({"key_id": "kid-1", "hmac_key": "s3cr3t"})
    result = engine.run(command="certificate", account=account)
    assert engine.stdin() == account.encode() and "s3cr3t" not in str(engine.argv()) + str(result)
    assert engine.argv()[-2:] == ["--account", "-"]
    engine.run(command="certificate", account="")
    assert "--account" not in engine.argv() and engine.stdin() == b"\n"


def test_the_configuration_goes_to_standard_input_byte_for_byte_and_nowhere_else(engine: Engine) -> None:
    config = json.dumps({"environment": {"TOKEN": "s3cr3t\n\\ü'\"", "DEBUG": "1"}}, ensure_ascii=False)
    engine.answers({"command": "stage", "changed": True, "msg": "staged 1 release", "id": "1"})
    action = engine.action(command="stage", archive="/x", config=config)
    answer = action.run()
    assert engine.stdin() == config.encode() + b"\n"
    assert "s3cr3t" not in " ".join(action.commands) and "s3cr3t" not in str(answer)
    assert answer["msg"] == "staged 1 release", "the short value 1 is not scrubbed from the output"


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("page", ["<p>Zurück um\nzwölf\n".encode(), b"<p>" + b"x" * 300_000, b""], ids=len)
def test_a_page_of_the_control_node_goes_to_standard_input(
    engine: Engine, tmp_path: Path, page: bytes, check: bool
) -> None:
    (tmp_path / "page.html").write_bytes(page)
    assert not engine.run(check, command="maintenance", mode="on", src=str(tmp_path / "page.html")).get("failed")
    assert engine.argv()[-3:] == ["--page", "-", "on"]
    assert engine.stdin() == page or (page, engine.stdin()) == (b"", b"\n")


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
        ({"command": "maintenance", "mode": "on", "page": "/p", "src": "/q"}, "takes either page or src"),
        ({"command": "maintenance", "mode": "on", "src": "/nowhere/p.html"}, "There is no file /nowhere/p.html on the"),
        ({"command": "bake"}, "bake needs seconds"),
        ({"command": "lock"}, "lock needs holder"),
        ({"command": "unlock"}, "unlock needs either holder or force"),
        ({"command": "unlock", "holder": "{}", "force": True}, "unlock needs either holder or force"),
    ],
)
def test_options_that_do_not_fit_the_command_are_refused(engine: Engine, arguments: dict[str, Any], words: str) -> None:
    answer = engine.run(**arguments)
    assert answer["failed"] and words in answer["msg"] and not (engine.root / "argv.0").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"command": "reboot"}, "value of command must be one of"),
        ({"command": "prune", "keep": "many"}, "keep"),
        ({"command": "status", "colour": "blue"}, "Unsupported parameters"),
        ({}, "missing required arguments: command"),
    ],
)
def test_options_that_there_are_not_are_refused(engine: Engine, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(AnsibleActionFail, match=words):
        engine.run(**arguments)
    assert not (engine.root / "argv.0").exists()


# the archive


STAGE: Answer = {"command": "stage", "sha256": "4f2a", "config": "{}"}


@pytest.fixture
def src(tmp_path: Path) -> Path:
    path = tmp_path / "4f2a.tar.gz"
    path.write_bytes(b"\x1f\x8b\n\0archive")
    return path


def test_a_small_archive_goes_along_with_the_question(engine: Engine, src: Path) -> None:
    engine.answers(STAGED)
    action = engine.action(**STAGE, src=str(src))
    assert action.run()["staged"] and len(action.commands) == 1 and not action.sent
    assert engine.argv()[-1] == "-" and engine.stdin() == b"{}\n\x1f\x8b\n\0archive"


def test_a_configuration_of_many_lines_is_one_line_before_the_archive(engine: Engine, src: Path) -> None:
    engine.answers(STAGED)
    engine.run(command="stage", src=str(src), config='{\n "environment": {}\n}\n')
    config, _line, archive = engine.stdin().partition(b"\n")
    assert json.loads(config) == {"environment": {}} and archive == src.read_bytes()


def test_a_large_archive_is_sent_only_where_it_is_needed(
    engine: Engine, src: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flaskctl, "SMALL", 5)
    engine.answers(STAGED)
    action = engine.action(**STAGE, src=str(src))
    assert action.run()["staged"] and not action.sent and "4f2a.tar.gz" not in engine.argv()
    engine.answers({**NEEDED, "diff": {}}, 3)
    engine.answers(STAGED, turn=1)
    action = engine.action(**STAGE, src=str(src))
    assert action.run() == STAGED
    assert engine.argv(1)[-1] == action.sent[0] == f"{action.root}/4f2a.tar.gz"


def test_a_stage_that_fails_still_tells_how_the_host_stands(
    engine: Engine, src: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flaskctl, "SMALL", 5)
    engine.answers(NEEDED, 3)
    engine.answers({"failed": True, "msg": "no space", "command": "stage"}, 1, turn=1)
    answer = engine.run(**STAGE, src=str(src))
    assert answer["failed"] and (answer["current"], answer["msg"]) == ("0", "no space")


def test_check_mode_sends_nothing(engine: Engine, src: Path) -> None:
    engine.answers(NEEDED)
    action = engine.action(**STAGE, src=str(src), check=True)
    assert action.run()["archive_needed"] and len(action.commands) == 1 and engine.stdin() == b"{}\n"


# the lease


def test_a_lease_of_a_dead_rollout_from_here_is_taken_over(
    engine: Engine, src: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flaskctl, "taken_over", lambda lease, me: holder.taken_over(lease, me, lambda pid: ""))
    engine.answers({"failed": True, "msg": "ada rolls out hello", "remedy": "wait", "lease": DEAD}, 75)
    engine.answers(STAGED, turn=1)
    action = engine.action(**STAGE, src=str(src), holder=json.dumps(ME))
    assert action.run()["staged"]
    asked = [json.loads(engine.argv(turn)[engine.argv(turn).index("--holder") + 1]) for turn in (0, 1)]
    assert [each.get("takes_over") for each in asked] == [None, DEAD["id"]]
    assert action.said == ["This run takes over: ada rolls out hello; that process is dead."]


@pytest.mark.parametrize("lease", [None, {**DEAD, "by": "bob"}, {**ME}])
def test_no_other_failure_is_tried_again(engine: Engine, lease: Answer | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flaskctl, "taken_over", lambda lease, me: holder.taken_over(lease, me, lambda pid: ""))
    engine.answers({"failed": True, "msg": "no", "lease": lease}, 75)
    action = engine.action(**STAGE, holder=json.dumps(ME))
    assert action.run()["failed"] and len(action.commands) == 1


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


def test_check_mode_predicts_a_first_installation_beside_another_app(engine: Engine) -> None:
    said = {"msg": flaskctl.unknown("hello"), "detail": "", "remedy": "apps here: shop", "failed": True}
    engine.answers({**said, "command": "stage", "changed": False}, 1)
    answer = engine.run(check=True, command="stage", config="{}")
    assert not answer.get("failed") and answer["predicted"] and answer["changed"]
    assert engine.run(command="stage", config="{}")["failed"] and engine.run(check=True, command="rollback")["failed"]


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


WHEELS = {**NEEDED, "archive_needed": False, "wheels_needed": {"key": "k"}, "staged": False}


def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Have the wheels be there; returns what was asked of whoever fetches them."""
    asked: list[Any] = []
    (tmp_path / "wheels.tar.gz").write_bytes(b"wheels")

    def wheels_for(*words: Any) -> Wheels:
        asked.append(words)
        return Wheels(tmp_path / "wheels.tar.gz", "5" * 64)

    monkeypatch.setattr(flaskctl, "wheels_for", wheels_for)
    return asked


@pytest.mark.parametrize("size", [10, 300_000])
def test_wheels_that_a_host_asks_for_are_fetched_and_sent_with_the_archive(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    asked = fetched(monkeypatch, tmp_path)
    src = tmp_path / "a.tar.gz"
    src.write_bytes(b"x" * size)
    answers = [NEEDED, WHEELS, STAGED] if size > flaskctl.SMALL else [WHEELS, STAGED]
    for turn, answer in enumerate(answers):
        engine.answers(answer, code=3 if answer is not STAGED else 0, turn=turn)
    answer = engine.run(command="stage", src=str(src), sha256="ab", config="{}")
    assert answer["staged"] and not answer.get("wheels_needed"), answer
    assert asked == [(str(src), {}, {"key": "k"}, "the host")]
    last = engine.argv(len(answers) - 1)
    assert last[last.index("--wheels-sha256") + 1] == "5" * 64 and "--wheels" in last
    assert (last[-1] == "-") is (size <= flaskctl.SMALL), "the archive goes along as it did"


def test_wheels_that_cannot_be_had_are_told_and_nothing_is_sent(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wheels_for(*_words: Any) -> Wheels:
        raise Unfit("old==1 has no wheel")

    monkeypatch.setattr(flaskctl, "wheels_for", wheels_for)
    (tmp_path / "a.tar.gz").write_bytes(b"x")
    engine.answers(WHEELS, code=3)
    answer = engine.run(command="stage", src=str(tmp_path / "a.tar.gz"), config="{}")
    assert answer["failed"] and answer["msg"] == "old==1 has no wheel"
    fetched(monkeypatch, tmp_path)
    answer = engine.run(command="stage", src=str(tmp_path / "a.tar.gz"), config="{}")
    assert answer["failed"] and "does not take the wheels" in answer["msg"], "a host that asks for ever"

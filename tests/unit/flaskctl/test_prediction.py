"""What a task predicts for a host without flaskctl is what flaskctl would answer there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.action.flaskctl import SPEC, understood, without_flaskctl

from tests.rendering import ROLE  # sets up Ansible's import of collections, before the first plugin
from tests.unit.flaskctl.fake_host import FakeHost, call
from tests.unit.flaskctl.given import archive, config

HOLDER = '{"id": "1"}'


def kinds(answer: Any) -> Any:
    """The keys of an answer and the kinds of its values; nothing (None) is of any kind."""
    if isinstance(answer, dict):
        return {key: kinds(value) for key, value in sorted(answer.items())}
    return None if answer is None else type(answer).__name__


def agree(one: Any, other: Any) -> bool:
    """Whether two answers have the same keys, and values of the same kind where both have one."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(agree(one[key], other[key]) for key in one)
    return one is None or other is None or one == other


@pytest.fixture
def predicted() -> Any:
    def answer(command: str) -> dict[str, Any]:
        params = {**dict.fromkeys(SPEC), "app": "hello", "command": command}
        found: dict[str, Any] = without_flaskctl(params, dry_run=True)
        assert found.pop("predicted") is True
        return found

    return answer


@pytest.mark.parametrize("known", [True, False])
def test_a_prediction_of_a_stage_is_what_flaskctl_answers_on_a_new_host(
    host: FakeHost, tmp_path: Path, predicted: Any, known: bool
) -> None:
    path = archive(tmp_path / "x.tar.gz", {"app.py": "x", "requirements.txt": "flask\n"})
    how = [str(path)] if known else ["--sha256", "0" * 64]
    asked = call(host, "hello", "stage", *how, "--config", "-", "--dry-run", "--json", stdin=config())
    answer = understood(asked.rc, asked.out, asked.err)
    del answer["warnings"]  # the action leaves out an empty list
    real, prediction = kinds(answer), kinds(predicted("stage"))
    assert agree(real, prediction), f"{real}\n{prediction}"
    # a new host: neither a release nor a unit that systemd knows
    assert predicted("stage")["changed"] is answer["changed"] is True


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("activate", []),
        ("prune", []),
        ("lock", ["--holder", HOLDER]),
        ("unlock", ["--holder", HOLDER]),
        ("remove", []),
    ],
)
def test_a_prediction_has_what_the_role_reads_of_the_answer(
    host: FakeHost, stage: Any, predicted: Any, command: str, words: list[str]
) -> None:
    argv = [stage("v1")] if command == "activate" else words
    answer = call(host, "hello", command, *argv, "--dry-run", "--json").json
    registered = {"activate": "activated", "lock": "locked", "remove": "removed"}.get(command, "")
    texts = "\n".join(path.read_text() for part in ("tasks", "vars") for path in (ROLE / part).glob("*.yml"))
    read = set(re.findall(rf"__flask_gunicorn_nginx_{registered}\.(\w+)", texts)) if registered else set()
    prediction = predicted(command)
    assert read <= set(prediction) and read <= set(answer), read
    both = prediction.keys() & answer.keys()
    assert {"app", "command", "changed", "msg"} <= both
    assert all(agree(kinds(prediction[key]), kinds(answer[key])) for key in both), f"{prediction}\n{answer}"

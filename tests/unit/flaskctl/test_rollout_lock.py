"""The rollout lock: one rollout at a time on a host, whatever process or reboot comes between."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl, killed
from tests.unit.flaskctl.given import config

Stage = Callable[..., str]
Json = dict[str, Any]
ADA = json.dumps({"id": "r1", "by": "ada", "from": "desk", "pid": 42, "since": "2026-11-18T08:00:00Z"})
BOB = json.dumps({"id": "r2", "by": "bob", "from": "ci"})


@pytest.mark.parametrize(
    ("lease", "holder", "becomes"),
    [
        (None, {"id": "a", "by": "ada"}, {"id": "a", "by": "ada", "since": "now", "seen": "now"}),
        ({"id": "a", "since": "then", "seen": "then"}, {"id": "a"}, {"id": "a", "since": "then", "seen": "now"}),
        ({"id": "a", "since": "then"}, {"id": "b"}, None),
        (
            {"id": "a", "since": "then", "by": "x"},
            {"id": "b", "takes_over": "a"},
            {"id": "b", "since": "now", "seen": "now"},
        ),
        ({"id": "a"}, {"id": "b", "takes_over": "c"}, None),
        ({}, {"id": "b"}, {"id": "b", "since": "now", "seen": "now"}),
    ],
)
def test_a_lease_passes_to_nobody_but_its_holder_and_who_takes_over_from_it(
    lease: Json | None, holder: Json, becomes: Json | None
) -> None:
    assert flaskctl.plan_lock(lease, holder, "now") == becomes


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"id": ""}', '{"id": "1", "age": 2}', '{"id": ["1"]}'])
def test_a_holder_that_makes_no_sense_is_a_wrong_usage(host: FakeHost, text: str) -> None:
    assert call(host, "hello", "lock", "--holder", text).rc == 2


def test_a_second_rollout_is_told_who_is_at_work_and_what_to_do_when_that_one_is_dead(host: FakeHost) -> None:
    assert call(host, "hello", "lock", "--holder", ADA, "--json").json["changed"] is True
    host.sleep(600)
    refused = call(host, "hello", "lock", "--holder", BOB, "--json")
    assert refused.rc == 75
    assert refused.json["msg"].startswith("ada on desk (pid 42) rolls out hello since 2026-11-18T08:00:00Z, ")
    assert refused.json["msg"].endswith(", 10 min ago")
    assert "flaskfleet.web.unlock" in refused.json["remedy"] and "unlock --force" in refused.json["remedy"]
    assert call(host, "hello", "unlock", "--holder", BOB).rc == 75
    over = json.dumps({**json.loads(BOB), "takes_over": "r1"})
    assert call(host, "hello", "lock", "--holder", over).rc == 0
    assert call(host, "hello", "lock", "--holder", ADA).rc == 75
    ended = call(host, "hello", "unlock", "--holder", BOB, "--json").json
    assert ended["changed"] and ended["was"]["id"] == "r2"
    assert call(host, "hello", "unlock", "--holder", BOB, "--json").json["changed"] is False


def test_each_step_of_a_rollout_is_a_sign_of_life(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    steps = [("activate", one), ("activate", two), ("rollback",), ("lock",)]
    for words in steps:
        host.sleep(60)
        now = flaskctl.utc(host.clock)
        assert call(host, "hello", *words, "--holder", ADA).rc == 0
        lease = call(host, "hello", "status", "--json").json["lease"]
        assert lease["id"] == "r1" and lease["seen"] == now
    assert call(host, "hello", "activate", two, "--holder", BOB).rc == 75


def test_an_activation_takes_the_lease_only_where_something_moves_and_tells(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    words = ("hello", "activate", one, "--holder", ADA, "--json")
    assert call(host, *words).json["lease"]["id"] == "r1"
    assert call(host, "hello", "unlock", "--holder", ADA).rc == 0
    assert call(host, *words).json["lease"] is None, "it serves, and was only asked"
    host.set_unit(f"hello@{one}.service", ActiveState="inactive")
    assert call(host, *words).json["lease"]["id"] == "r1"
    two = stage("v2")
    host.broken[two] = "import"
    refused = call(host, "hello", "activate", two, "--holder", ADA, "--json")
    assert refused.rc == 1 and refused.json["lease"]["id"] == "r1"


def test_a_stage_takes_the_lease_only_for_a_release_that_does_not_serve(
    host: FakeHost, stage: Stage, tmp_path: Path
) -> None:
    call(host, "hello", "activate", stage("v1"))

    def staged(version: str, holder: str, *more: str) -> int:
        words = ("stage", str(tmp_path / f"{version}.tar.gz"), "--config", "-", "--holder", holder, *more)
        return call(host, "hello", *words, stdin=config()).rc

    lease = base(host) / "rollout.json"
    assert staged("v1", ADA) == 0 and not lease.exists()
    stage("v2")
    assert staged("v2", ADA, "--dry-run") == 0 and not lease.exists()
    assert staged("v2", ADA) == 0 and lease.exists()
    assert staged("v2", BOB) == 75
    assert staged("v1", BOB) == 0, "nothing is rolled out where the release serves already"
    host.sleep(60)
    assert staged("v1", ADA) == 0
    assert json.loads(lease.read_text())["seen"] == flaskctl.utc(host.clock)


def test_a_person_at_three_in_the_morning_is_warned_and_not_stopped(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    call(host, "hello", "lock", "--holder", ADA)
    for words in (("activate", two), ("rollback",)):
        result = call(host, "hello", *words, "--json")
        assert result.rc == 0 and "ada on desk" in result.json["warnings"][0]
    assert host.active() == [one]


def test_status_shows_the_lease_and_asks_when_it_has_long_been_quiet(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1"))
    assert call(host, "hello", "status", "--json").json["lease"] is None
    call(host, "hello", "lock", "--holder", ADA)
    status = call(host, "hello", "status", "--json").json
    assert status["problems"] == [] and "rollout   ada on desk" in status["msg"]
    host.sleep(2 * 3600)
    assert "unlock --force" in call(host, "hello", "status", "--json").json["problems"][0]
    assert call(host, "hello", "unlock", "--force").rc == 0
    assert call(host, "hello", "status", "--json").json["problems"] == []
    assert json.loads((host.root / "var/log/flaskctl/hello.jsonl").read_text().splitlines()[-1])["was"]["by"] == "ada"


@pytest.mark.parametrize("step", flaskctl.LOCK_CHECKPOINTS)
def test_a_lease_that_was_cut_is_had_or_not_had(host: FakeHost, step: str) -> None:
    call(host, "hello", "lock", "--holder", ADA)
    words = ("lock", "--holder", ADA) if step == "lock-acquire" else ("unlock", "--force")
    assert killed(host, step, "hello", *words)
    assert call(host, "hello", "lock", "--holder", BOB).rc == 75
    assert call(host, "hello", "unlock", "--holder", ADA).rc == 0
    assert call(host, "hello", "lock", "--holder", BOB).rc == 0


def test_stage_tells_of_the_lease_whether_it_went_well_or_not(host: FakeHost, stage: Stage) -> None:
    sha = json.loads((base(host) / "releases" / stage("v1") / "manifest.json").read_text())["archive_sha256"]

    def staged(holder: str, **settings: Any) -> Any:
        words = ("stage", "--sha256", sha, "--config", "-", "--holder", holder, "--json")
        return call(host, "hello", *words, stdin=config(**settings))

    assert staged(ADA).json["lease"]["id"] == "r1"
    refused = staged(BOB)
    assert (refused.rc, refused.json["lease"]["id"]) == (75, "r1")
    wrong = staged(ADA, requirements="gone.txt")
    assert wrong.rc == 1 and wrong.json["lease"]["id"] == "r1", wrong.json


def test_a_stranger_cannot_open_a_lock(tmp_path: Path) -> None:
    """Whoever can open one for reading can hold it shared, for ever; an older flaskctl made them for everybody."""
    path = tmp_path / "run/flaskctl/hello.lock"
    path.parent.mkdir(mode=0o755, parents=True)
    path.touch(mode=0o644)
    with flaskctl.open_lock(path):
        assert [where.stat().st_mode & 0o777 for where in (path.parent, path)] == [0o700, 0o600]


def test_no_lock_is_waited_for_without_an_end(host: FakeHost, stage: Stage) -> None:
    app = flaskctl.App(host, "hello")
    stage("v1")
    began = host.clock
    with flaskctl.open_lock(app.record_lock_file) as file:
        assert flaskctl.try_lock(file)
        refused = call(host, "hello", "remove")
    assert refused.rc == 75 and "wait for it to end, then run this again" in refused.err, refused
    assert 59 < host.clock - began < 700

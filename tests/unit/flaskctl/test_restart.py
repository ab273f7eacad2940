"""Restart: fresh processes of the same release, and at no time nobody that serves."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl, killed, links, note
from tests.unit.flaskctl.given import PROCESSES

Stage = Callable[..., str]


@pytest.fixture
def release(host: FakeHost, stage: Stage) -> str:
    text = "[Service]\nUser=hello\nSockets=hello.socket\nExecStart=/srv/hello/releases/%i/x 100%%\n"
    (host.root / "etc/systemd/system/hello@.service").write_text(text)
    release = stage("v1", credentials={"K": "v"}, processes=PROCESSES)
    assert call(host, "hello", "activate", release).rc == 0
    return release


def standby(host: FakeHost, release: str) -> str:
    return str(host.units.get(f"hello.twin-{release}.service", {}).get("ActiveState"))


def serving(host: FakeHost, release: str) -> bool:
    return host.active() == [release] or standby(host, release) == "active"


def settled(host: FakeHost, release: str) -> bool:
    """Whether the release itself serves, alone, and nothing of a restart is left."""
    left = list((host.root / "run/systemd/system").glob("*"))
    return host.active() == [release] and standby(host, release) != "active" and not left


def test_a_standby_instance_serves_while_the_release_is_started_anew(
    host: FakeHost, release: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit, watched = host.root / f"run/systemd/system/hello.twin-{release}.service", []
    run = host.run_systemctl

    def watch(verb: str, words: list[str]) -> object:
        done = run(verb, words)
        watched.append((verb, words, serving(host, release)))
        if verb == "start" and "twin" in words[0]:
            text = unit.read_text()
            assert f"ExecStart=/srv/hello/releases/{release}/x 100%%" in text and "Sockets=hello.socket" in text
            assert f"LoadCredential=K:/srv/hello/releases/{release}/credentials/K" in text and "%i" not in text
        return done

    monkeypatch.setattr(host, "run_systemctl", watch)
    answer = call(host, "hello", "restart", "--json").json
    assert answer["changed"] and answer["id"] == release and answer["repairs"] == []
    assert all(served for _, _, served in watched)
    verbs = [(verb, words[0]) for verb, words, _ in watched if verb in ("start", "stop") and release in words[0]]
    first, second = f"hello@{release}.service", f"hello.twin-{release}.service"
    assert verbs == [("start", second), ("stop", first), ("start", first), ("stop", second)]
    assert ("restart", [f"hello.worker-1@{release}.service"]) in [(verb, words) for verb, words, _ in watched]
    assert settled(host, release) and links(host) == (release, "")
    assert call(host, "hello", "status", "--json").json["problems"] == []
    assert json.loads((host.root / "var/log/flaskctl/hello.jsonl").read_text().splitlines()[-1])["event"] == "restart"


def test_a_release_that_would_not_start_anew_goes_on_as_it_is(host: FakeHost, release: str) -> None:
    host.broken["twin"] = "import"
    result = call(host, "hello", "restart", "--json")
    assert result.rc == 1 and "it goes on as it is" in result.json["msg"]
    assert "No module named 'nosuchthing'" in result.json["detail"]
    assert settled(host, release)
    assert call(host, "hello", "releases", "--json").json["releases"][0]["state"] == ["current", "active"]


def test_a_standby_instance_goes_on_where_the_release_itself_does_not_start_again(
    host: FakeHost, release: str, stage: Stage
) -> None:
    host.broken[f"hello@{release}"] = "import"
    result = call(host, "hello", "restart", "--json")
    assert result.rc == 1 and "its standby instance serves" in result.json["msg"] and standby(host, release) == "active"
    status = call(host, "hello", "status", "--json").json
    assert any("a restart was cut" in problem for problem in status["problems"])
    two = stage("v2")
    assert standby(host, release) == "active", "what comes next does not take it away"
    assert call(host, "hello", "activate", two).rc == 0
    assert settled(host, two)


def test_a_release_that_does_not_run_is_started(host: FakeHost, release: str) -> None:
    host.set_unit(f"hello@{release}.service", ActiveState="failed")
    assert call(host, "hello", "restart").rc == 0 and settled(host, release)
    assert not [argv for argv in host.calls if "twin" in " ".join(argv) and "start" in argv]


def test_nothing_that_was_activated_is_nothing_to_restart(host: FakeHost, stage: Stage) -> None:
    stage("v1")
    assert call(host, "hello", "restart").rc == 1


def test_a_dry_run_restarts_nothing(host: FakeHost, release: str) -> None:
    host.calls.clear()
    assert call(host, "hello", "restart", "--dry-run", "--json").json["changed"] is True
    assert {argv[1] for argv in host.calls if argv[0] == "systemctl"} == {"show"}


@pytest.mark.parametrize("then", ["restart", "stage", "activate"])
@pytest.mark.parametrize("step", flaskctl.RESTART_CHECKPOINTS)
def test_a_restart_that_was_killed_is_ended_by_whatever_comes_next(
    host: FakeHost, release: str, stage: Stage, step: str, then: str
) -> None:
    two = stage("v2")
    assert killed(host, step, "hello", "restart")
    assert serving(host, release)
    if then == "stage":
        stage("v3")
    else:
        assert call(host, "hello", then, *([two] if then == "activate" else [])).rc == 0
    assert settled(host, two if then == "activate" else release)
    assert not (base(host) / "activating.json").exists()


def test_a_removed_app_leaves_no_standby_instance(host: FakeHost, release: str) -> None:
    note(host)
    assert killed(host, "restart-first", "hello", "restart")
    assert call(host, "hello", "remove").rc == 0
    assert not list((host.root / "run/systemd/system").glob("*")) and standby(host, release) == "inactive"

"""What systemd was asked to do is looked at afterwards: it may refuse, and one bad unit may hold back the others."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, killed, links, note
from tests.unit.flaskctl.given import PROCESSES, config

Stage = Callable[..., str]


def running(host: FakeHost) -> set[str]:
    return {name for name, unit in host.units.items() if unit["ActiveState"] == "active"} - {
        "hello.socket",
        "nginx.service",
    }


def audit(host: FakeHost) -> list[dict[str, str]]:
    text = (host.root / "var/log/flaskctl/hello.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_a_unit_that_cannot_be_loaded_holds_no_other_back(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1", processes=PROCESSES), stage("v2")
    call(host, "hello", "activate", one)
    host.bad_units = {f"hello.tick@{one}.timer"}
    host.set_unit(f"hello.tick@{one}.timer", LoadState="bad-setting", ActiveState="inactive")
    assert call(host, "hello", "activate", two).rc == 0
    assert running(host) == {f"hello@{two}.service"}


@pytest.mark.parametrize("unit", ["hello.worker-1@{}.service", "hello.tick@{}.timer"])
def test_an_activation_that_leaves_another_release_running_fails_and_says_so(
    host: FakeHost, stage: Stage, unit: str
) -> None:
    one, two = stage("v1", processes=PROCESSES), stage("v2")
    call(host, "hello", "activate", one)
    unit = unit.format(one)
    host.stubborn = {unit}
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"{two} is current and serves, but beside it {unit} runs on" in result.err
    assert links(host) == (two, one) and unit in running(host)
    assert unit in audit(host)[-1]["still"]

    host.stubborn = set()
    assert call(host, "hello", "activate", two).rc == 0
    assert running(host) == {f"hello@{two}.service"}


def test_a_web_part_that_does_not_stop_is_found_by_the_proof_through_nginx(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.stubborn = {f"hello@{one}.service"}
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"{one} serves again" in result.err
    assert running(host) == {f"hello@{one}.service"}


def test_a_refused_release_that_does_not_stop_is_named(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.broken[two] = "import"
    host.stubborn = {f"hello@{two}.service"}
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"hello@{two}.service runs on" in result.err


def test_a_stray_that_does_not_stop_is_not_called_stopped(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", two)
    host.set_unit(f"hello@{one}.service", ActiveState="active")
    host.stubborn = {f"hello@{one}.service"}
    result = call(host, "hello", "prune", "--json")
    assert "runs on" in str(result.json["warnings"]) and not result.json["repairs"]
    assert "stopped" not in str(audit(host)[-1])
    assert call(host, "hello", "activate", two).rc == 1


def test_a_schedule_that_does_not_start_is_a_failure_that_says_so(host: FakeHost, stage: Stage) -> None:
    one = stage("v1", processes=PROCESSES)
    host.bad_units = {f"hello.tick@{one}.timer"}
    result = call(host, "hello", "activate", one)
    assert result.rc == 1 and f"serves, but hello.tick@{one}.timer is stopped" in result.err


def test_at_boot_a_schedule_that_cannot_be_loaded_does_not_keep_the_site_down(host: FakeHost, stage: Stage) -> None:
    one = stage("v1", processes=PROCESSES)
    call(host, "hello", "activate", one)
    for name in running(host):
        host.set_unit(name, ActiveState="inactive")
    host.bad_units = {f"hello.tick@{one}.timer"}
    result = call(host, "hello", "start")
    assert result.rc == 1 and f"hello.tick@{one}.timer cannot be started" in result.err
    assert running(host) == {f"hello@{one}.service", f"hello.worker-1@{one}.service"}


def test_an_instance_that_does_not_stop_is_not_restarted(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    host.stubborn = {f"hello@{one}.service"}
    result = call(host, "hello", "restart")
    assert result.rc == 1 and f"hello@{one}.service does not stop; it and its standby instance serve" in result.err


def test_a_worker_that_is_as_before_was_not_restarted(host: FakeHost, stage: Stage) -> None:
    one = stage("v1", processes=PROCESSES)
    call(host, "hello", "activate", one)
    host.stubborn = {f"hello.worker-1@{one}.service"}
    result = call(host, "hello", "restart")
    assert result.rc == 1 and f"hello.worker-1@{one}.service could not be restarted" in result.err


def test_nothing_is_removed_of_an_app_that_does_not_stop(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    note(host)
    host.stubborn = {f"hello@{one}.service"}
    result = call(host, "hello", "remove")
    assert result.rc == 1 and f"hello@{one}.service cannot be stopped" in result.err
    assert (base(host) / "releases" / one / "manifest.json").exists()


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_a_schedule_that_systemd_cannot_read_is_refused_before_anything_is_made(
    host: FakeHost, stage: Stage, dry: list[str]
) -> None:
    one = stage("v1")
    nightly = {"nightly": {"service": "[Service]\n", "timer": "[Timer]\nOnCalendar=every night\n"}}
    hexes = json.loads((base(host) / "releases" / one / "manifest.json").read_text())["archive_sha256"]
    words = ("hello", "stage", "--sha256", hexes, "--config", "-", *dry)
    result = call(host, *words, stdin=config(processes=nightly))
    assert result.rc == 1 and "'every night' of nightly is none that systemd can read" in result.err
    assert [path.name for path in (base(host) / "releases").iterdir()] == [one]
    assert not list((host.root / "etc/systemd/system").glob("hello.nightly*"))


def test_a_unit_that_systemd_cannot_load_is_no_release_and_leaves_nothing(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    monkeypatch.setattr(host, "load_state", lambda name: "bad-setting" if "worker" in name else "loaded")
    hexes = json.loads((base(host) / "releases" / one / "manifest.json").read_text())["archive_sha256"]
    result = call(
        host,
        "hello",
        "stage",
        "--sha256",
        hexes,
        "--config",
        "-",
        stdin=config(processes=PROCESSES, credentials={"K": "v"}),
    )
    assert result.rc == 1 and "systemd cannot load hello.worker-1@" in result.err
    assert "org.freedesktop.systemd1 says: bad-setting" in result.err
    assert [path.name for path in (base(host) / "releases").iterdir()] == [one]
    assert not list((host.root / "etc/systemd/system").glob("hello.*@*"))


def test_what_ends_during_the_drain_is_seen_at_the_last_look(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2", processes=PROCESSES)
    call(host, "hello", "activate", one)
    change = host.change_units

    def slow(verb: str, names: list[str], waits: bool) -> object:
        if verb == "stop" and waits and one in names[0]:
            host.set_unit(f"hello.worker-1@{two}.service", ActiveState="failed")
        return change(verb, names, waits)

    host.change_units = slow  # type: ignore[method-assign,assignment]
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"is current and serves, but hello.worker-1@{two}.service has failed" in result.err
    assert "has failed" in audit(host)[-1]["still"]


def test_a_recovery_that_ends_badly_is_not_called_finished(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    assert killed(host, "verify", "hello", "activate", two)
    host.broken[two] = "nginx"
    answer = call(host, "hello", "prune", "--json").json
    assert "is refused" in answer["warnings"][0] and not answer["repairs"]
    assert "is refused" in audit(host)[-1]["still"] and host.active() == [one]


@pytest.mark.parametrize("how", ["refuses", "does nothing"])
def test_an_old_release_that_does_not_come_up_again_takes_nothing_from_the_new_one(
    host: FakeHost, stage: Stage, how: str
) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.broken[two] = "nginx"
    start, done = host.start_unit, int(how == "refuses")
    host.start_unit = lambda name, verb: done if one in name else start(name, verb)  # type: ignore[method-assign]
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"{one} does not start again, so {two} stays" in result.err
    assert host.active() == [two] and links(host)[0] == two


def test_a_worker_that_runs_without_its_unit_file_is_stopped_too(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", two)
    host.set_unit(f"hello.gone@{one}.service", ActiveState="active")
    answer = call(host, "hello", "activate", two, "--json").json
    assert answer["repairs"] == [f"stopped: {one} ran beside the current release"]
    assert running(host) == {f"hello@{two}.service"}

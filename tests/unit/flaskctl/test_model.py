"""flaskctl in any order of commands, on a systemd that refuses, ignores, delays and drops: what is said is what stands.

The model is the fake host itself. After each step its units are read, and `status` has to say what they say; a command
that ends well has done what it was told; what is wrong is never passed over.
"""

from __future__ import annotations

import atexit
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from tests.unit.flaskctl.fake_host import FakeHost, Result, base, call, flaskctl, links, note, with_app
from tests.unit.flaskctl.given import PROCESSES, archive, config

VERSIONS = ("v1", "v2", "v3")
KINDS = ("web", "worker", "timer", "socket", "service", "standby", "try")
# refuse: an error, and nothing is done; ignore: no error, and nothing is done; slow: done, after its time;
# drop: done, and gone a little later, or much later
HOWS = {
    "start": ("refuse", "ignore", "slow", "drop soon", "drop late"),
    "stop": ("refuse", "ignore", "slow"),
    "restart": ("refuse", "ignore", "drop soon"),
    "enable": ("refuse", "ignore"),
    "disable": ("refuse", "ignore"),
}
ABOUT = {
    "start": ("web", "worker", "timer", "socket", "standby"),
    "stop": ("web", "worker", "timer", "socket", "standby", "try"),
    "restart": ("worker",),
    "enable": ("socket", "service"),
    "disable": ("socket", "service"),
}
Faults = dict[tuple[str, str], str]
FAULT = st.sampled_from([((verb, unit), how) for verb, units in ABOUT.items() for unit in units for how in HOWS[verb]])
FAULTS = st.lists(FAULT, max_size=2).map(dict)
POINTS = (
    "intent",
    "start",
    "started",
    "current",
    "previous",
    "verify",
    "drain",
    "timers",
    "drained",
    "audit",
    "done",
    "restart-standby",
    "restart-first",
    "restart-again",
    "restart-done",
)


def kind(unit: str) -> str:
    for word, found in (
        ("hello.twin-", "standby"),
        ("hello.try-", "try"),
        ("hello@", "web"),
        ("hello.socket", "socket"),
    ):
        if unit.startswith(word):
            return found
    return "service" if unit == "hello.service" else "timer" if unit.endswith(".timer") else "worker"


class Killed(BaseException):
    """flaskctl ends here. What it has started with systemd goes on."""


class FaultyHost(FakeHost):
    """systemd with `faults`: how it fails, by verb and kind of unit. What it does late happens as the clock goes on."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.faults: Faults = {}
        self.later: list[tuple[float, str, dict[str, str]]] = []

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self.catch_up()

    def catch_up(self) -> None:
        due = [entry for entry in self.later if entry[0] <= self.clock]
        self.later = [entry for entry in self.later if entry[0] > self.clock]
        for _, unit, properties in due:
            self.set_unit(unit, **properties)

    def fault(self, verb: str, unit: str) -> str:
        return self.faults.get((verb, kind(unit)), "")

    def run_systemctl(self, verb: str, words: Sequence[str]) -> Any:
        names = [word for word in words if not word.startswith("--")]
        if verb in ("start", "stop", "restart") or any((verb, k) in self.faults for k in KINDS):
            return self.one_by_one(verb, names, "--no-block" in words)
        return super().run_systemctl(verb, words)

    def one_by_one(self, verb: str, names: Sequence[str], at_once: bool) -> Any:
        rc = 0
        if verb == "daemon-reload":
            rc = int("refuse" in [how for (word, _), how in self.faults.items() if word == verb])
            return flaskctl.Done(rc, "", "Access denied" if rc else "") if rc else super().run_systemctl(verb, [])
        for name in names:
            how = self.fault(verb, name)
            if how in ("refuse", "ignore"):
                rc = int(how == "refuse") or rc
            elif how == "slow" and at_once and verb in ("start", "stop"):
                end = {"start": "active", "stop": "inactive"}[verb]
                self.set_unit(name, ActiveState={"start": "activating", "stop": "deactivating"}[verb])
                self.later.append((self.clock + 40, name, {"ActiveState": end}))
            else:
                self.sleep(40 if how == "slow" else 0)
                rc = super().run_systemctl(verb, [*(["--no-block"] if at_once else []), name]).rc or rc
                if how.startswith("drop") and verb in ("start", "restart"):
                    after = 0.3 if how == "drop soon" else 5
                    self.later.append((self.clock + after, name, {"ActiveState": "failed", "MainPID": "0"}))
        return flaskctl.Done(rc, "", f"Failed to {verb} {names[0]}." if rc else "")

    def http_get(self, *asked: Any) -> Any:
        """Answer as nginx does; by the standby instance of a restart where that alone serves."""
        standby = next((u for u in self.units if kind(u) == "standby" and self.state_of(u) == "active"), "")
        if self.active() or not standby:
            return super().http_get(*asked)
        return flaskctl.Answer(200, standby.rpartition("-")[2].partition(".")[0], "ok")

    def checkpoint(self, name: str) -> None:
        if name == self.die_at:
            raise Killed(name)
        super().checkpoint(name)


# by whether a release is active: a tree, the units, and what is staged
PREPARED: dict[bool, tuple[Path, str, dict[str, bool]]] = {}


class Machine(RuleBasedStateMachine):
    """One host, from the first release on."""

    @initialize(activated=st.sampled_from([True, True, True, False]))
    def begin(self, activated: bool) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="model-"))
        self.host = FaultyHost(self.scratch / "host")
        self.staged: dict[str, bool] = {}  # by id: whether it has a worker and a schedule
        if activated not in PREPARED:
            self.prepare(activated)
            kept = Path(tempfile.mkdtemp(prefix="model-"))
            atexit.register(shutil.rmtree, kept, ignore_errors=True)
            shutil.copytree(self.host.root, kept / "host", symlinks=True)
            PREPARED[activated] = kept / "host", json.dumps(self.host.units), dict(self.staged)
            shutil.rmtree(self.host.root)
        self.begin_with(activated)

    def begin_with(self, activated: bool) -> None:
        tree, units, staged = PREPARED[activated]
        shutil.copytree(tree, self.host.root, symlinks=True)
        self.host.units, self.staged = json.loads(units), dict(staged)
        self.host.last_pid += 1000

    def prepare(self, activated: bool) -> None:
        """Put three releases on the host, as if nothing had ever failed there."""
        with_app(self.host)
        for version, beside in (("v1", True), ("v2", False), ("v3", True)):
            self.stage(version, beside, False, {})
        for number in range(2 * activated):
            self.moves(["activate", self.pick(number)], {})

    def teardown(self) -> None:
        shutil.rmtree(getattr(self, "scratch", "/nonexistent"), ignore_errors=True)

    # what stands

    def up(self, *kinds: str, but: str = "") -> list[str]:
        """Return the units of releases that have not stopped; jobs are none of them."""
        return sorted(
            name
            for name, unit in self.host.units.items()
            if kind(name) in kinds
            and unit["ActiveState"] not in ("inactive", "failed")
            and not name.startswith("hello.tick@" if name.endswith(".service") else "-")
            and "@" in name + "@" * (kind(name) in ("socket", "standby", "try"))
            and not (but and f"@{but}." in name)
        )

    def wanted(self, release: str) -> list[str]:
        processes = [f"hello.worker-1@{release}.service", f"hello.tick@{release}.timer"]
        return ["hello.socket", f"hello@{release}.service", *(processes if self.staged[release] else [])]

    def lacks(self, release: str) -> list[str]:
        """Return what does not stand where this release is current."""
        host = self.host
        enabled = [unit for unit in ("hello.socket", "hello.service") if host.units[unit]["UnitFileState"] != "enabled"]
        return [unit for unit in self.wanted(release) if host.state_of(unit) != "active"] + enabled

    def wrong(self) -> list[str]:
        """Return all that is wrong on the host."""
        current = links(self.host)[0]
        found = self.lacks(current) if current else ["no current release"]
        found += self.up("web", "worker", "timer", but=current) if current else []
        found += self.up("standby", "try")
        found += [name for name, unit in self.host.units.items() if unit["ActiveState"] == "failed"]
        found += [path.name for path in (self.host.root / "run/systemd/system").glob("*")]
        found += ["intent"] if (base(self.host) / "activating.json").exists() else []
        return found + (["nginx"] if self.host.state_of("nginx.service") != "active" else [])

    def serves(self) -> bool:
        return int(self.host.http_get("http", 80, "example.com", "/").status) == 200

    # what is asked

    def ask(self, *words: str, faults: Faults | None = None, stdin: str = "", die_at: str = "") -> Result | None:
        """Run a command among faults; None where it was killed."""
        host = self.host
        host.faults, host.die_at = dict(faults or {}), die_at
        self.known = len(self.events())
        try:
            result = call(host, "hello", *words, "--json", stdin=stdin)
        except Killed:
            return None
        finally:
            host.faults, host.die_at = {}, ""
        assert result.rc in (0, 1, 2), result
        assert result.rc == 0 or result.json["msg"], "who fails says why"
        return result

    def pick(self, number: int) -> str:
        return sorted(self.staged)[number % len(self.staged)]

    def moved_to(self, release: str, result: Result | None) -> None:
        """Hold an answer that says that this release is current and serves."""
        if result is None or result.rc:
            return
        assert links(self.host)[0] == release, result
        assert self.lacks(release) == [], result
        assert self.up("web", "worker", "timer", but=release) == [] and self.up("standby") == [], result
        said = self.events()[self.known :]
        assert not [event for event in said if "still" in event], said
        moves = [event["release"] for event in said if event["event"] in ("activate", "rollback")]
        assert not moves or moves[-1] == release, said

    def events(self) -> list[Any]:
        log = self.host.root / "var/log/flaskctl/hello.jsonl"
        return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []

    @rule(version=st.sampled_from(VERSIONS), beside=st.booleans(), tried=st.booleans(), faults=FAULTS)
    def stages(self, version: str, beside: bool, tried: bool, faults: Faults) -> None:
        self.stage(version, beside, tried, faults)

    def stage(self, version: str, beside: bool, tried: bool, faults: Faults) -> None:
        self.host.sleep(60)
        before = self.serves() and links(self.host)[0]
        path = archive(self.scratch / f"{version}.tar.gz", {"app.py": version, "requirements.txt": "flask==3.0.3\n"})
        given = config(processes=PROCESSES if beside else {})
        how = ["--try", "health"] if tried else []
        result = self.ask("stage", str(path), "--config", "-", *how, stdin=given, faults=faults)
        assert result
        if result.rc == 0:
            release = result.json["id"]
            self.staged[release] = beside
            assert (base(self.host) / "releases" / release / "manifest.json").exists()
            current = links(self.host)[0]
            assert not result.json["verified"] or (release == current and not self.lacks(current))
            assert (release == current and bool(self.lacks(current))) <= bool(result.json["lacks"])
        assert self.serves() or not before, "to stage is no outage"

    @precondition(lambda self: self.staged)
    @rule(number=st.integers(0, 5), faults=FAULTS)
    def activates(self, number: int, faults: Faults) -> None:
        self.moves(["activate", self.pick(number)], faults)

    @precondition(lambda self: self.staged)
    @rule(faults=FAULTS)
    def rolls_back(self, faults: Faults) -> None:
        self.moves(["rollback"], faults)

    @precondition(lambda self: self.staged)
    @rule(number=st.integers(0, 5), faults=st.lists(FAULT, min_size=1, max_size=2).map(dict), back=st.booleans())
    def moves_on_a_bad_day(self, number: int, faults: Faults, back: bool) -> None:
        self.moves(["restart"] if back else ["activate", self.pick(number)], faults)

    @precondition(lambda self: self.staged)
    @rule(faults=FAULTS)
    def restarts(self, faults: Faults) -> None:
        self.moves(["restart"], faults)

    def moves(self, words: list[str], faults: Faults) -> None:
        current = links(self.host)[0]
        before = self.serves() and current in self.host.active()
        pids = {unit: self.host.units.get(unit, {}).get("MainPID") for unit in self.wanted(current)} if current else {}
        result = self.ask(*words, faults=faults)
        assert faults or not before or self.serves(), "what is refused is no outage"
        if result is None or result.rc:
            return
        release = links(self.host)[0]
        assert result.json["id"] == release
        self.moved_to(release, result)
        for unit, pid in pids.items() if words == ["restart"] and release == current else ():
            fresh = self.host.units[unit]["MainPID"] != pid
            assert fresh or not unit.endswith(".service"), f"{unit} is as before"

    @precondition(lambda self: self.staged)
    @rule(keep=st.integers(1, 3), faults=FAULTS)
    def prune(self, keep: int, faults: Faults) -> None:
        """Which recovers, and changes nothing else of what runs."""
        served = self.host.active()
        result = self.ask("prune", "--keep", str(keep), faults=faults)
        assert result
        there = {path.name for path in (base(self.host) / "releases").iterdir()}
        for unit in self.up("web", "worker", "timer"):
            assert re.split("[@.]", unit.partition("@")[2])[0] in there, "what runs is never taken away"
        current = links(self.host)[0]
        if result.rc == 0 and not result.json["warnings"] and current in served:
            assert self.up("web", "worker", "timer", but=current) == [], result
        self.staged = {release: beside for release, beside in self.staged.items() if release in there}

    def starts(self) -> None:
        current = links(self.host)[0]
        result = self.ask("start")
        assert result
        if current and result.rc == 0:
            assert not [unit for unit in self.wanted(current)[1:] if unit not in self.up(kind(unit))]

    @precondition(lambda self: self.staged)
    @rule(number=st.integers(0, 5), point=st.sampled_from(POINTS), back=st.booleans())
    def killed(self, number: int, point: str, back: bool) -> None:
        words = (
            ["restart"] if point.startswith("restart") else ["rollback"] if back else ["activate", self.pick(number)]
        )
        before = self.serves() and links(self.host)[0]
        result = self.ask(*words, die_at=point)
        assert result is not None or self.serves() or not before, "a cut is no outage"

    @rule(faults=FAULTS)
    def remove(self, faults: Faults) -> None:
        note(self.host)
        result = self.ask("remove", faults=faults)
        assert result
        if result.rc == 0:
            assert self.up("web", "worker", "timer", "socket", "standby") == [], result
            enabled = [
                unit
                for unit in ("hello.socket", "hello.service")
                if self.host.units[unit]["UnitFileState"] == "enabled"
            ]
            assert enabled == [] and not (base(self.host) / "releases").exists()
            assert call(self.host, "hello", "status").rc == 1
            self.begin_anew()

    def begin_anew(self) -> None:
        shutil.rmtree(self.scratch / "host")
        self.host.later.clear()
        self.host.broken.clear()
        self.begin_with(True)

    # what happens to a host

    @precondition(lambda self: self.staged)
    @rule(
        what=st.sampled_from(["goes", "fails", "hangs", "comes", "turns bad", "disabled", "link", "start", "time"]),
        number=st.integers(0, 30),
    )
    def a_hand_or_an_accident(self, what: str, number: int) -> None:
        host = self.host
        if what in ("goes", "fails", "hangs"):
            units = [name for name in sorted(host.units) if host.state_of(name) == "active"]
            states = {"goes": "inactive", "fails": "failed", "hangs": "activating"}
            if units:
                host.set_unit(units[number % len(units)], ActiveState=states[what], MainPID="0")
        elif what == "comes":
            part = ["hello@{}.service", "hello.worker-1@{}.service"][number % 2]
            host.set_unit(part.format(self.pick(number)), ActiveState="active", MainPID="4000")
        elif what == "turns bad":  # with the database that it asks, say: it goes on, and would not start again
            how = ["import", "timeout", "nginx", "worker process"][number % 4]
            host.broken = {} if number % 5 == 0 else {self.pick(number): how}
        elif what == "disabled":
            unit = ["hello.socket", "hello.service"][number % 2]
            host.set_unit(unit, ActiveState=host.state_of(unit), UnitFileState="disabled")
        elif what == "link":
            (base(host) / "current").unlink(missing_ok=True)
        elif what == "start":
            self.starts()
        else:
            host.sleep(number)

    @precondition(lambda self: self.staged)
    @rule()
    def a_calm_run_mends_all(self) -> None:
        """After one activation on a systemd that does as it is told, nothing is wrong."""
        self.host.sleep(100)
        self.host.broken = {}
        current = links(self.host)[0]
        if not current or self.host.state_of("nginx.service") != "active":
            return
        result = self.ask("activate", current)
        assert result
        if result.rc == 0:
            self.moved_to(current, result)
            # a job that failed and a standby whose stop was refused are for a person to look at
            assert self.wrong() == [], (self.wrong(), self.host.units, result)
        else:
            assert "outage of seconds" in result.json["remedy"] and self.host.state_of("hello.socket") != "active", (
                result
            )

    # what is said

    @invariant()
    def status_says_what_stands(self) -> None:
        if not hasattr(self, "host"):
            return
        told = call(self.host, "hello", "status", "--json").json
        current, previous = links(self.host)
        assert (told["current"] or "", told["previous"] or "") == (current, previous)
        assert sorted(told["active"]) == sorted(self.host.active())
        for unit, shown in told["units"].items():
            assert shown["state"] == self.host.state_of(unit), unit
            assert shown.get("enabled", True) == (
                self.host.units.get(unit, {}).get("UnitFileState", "enabled") == "enabled"
            )
        assert set(self.up("web", "worker", "timer", "socket", "standby", "try")) <= set(told["units"])
        wrong = self.wrong()
        assert bool(told["problems"]) == bool(wrong), (told["problems"], wrong)
        for unit in self.lacks(current) if current else []:
            assert any(
                unit in problem or "the current release does not run" in problem for problem in told["problems"]
            ), unit


@pytest.mark.parametrize("number", range(1))
def test_what_flaskctl_says_is_what_stands(number: int) -> None:
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=200,
            stateful_step_count=12,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
            verbosity=Verbosity.normal,
        ),
    )

"""doctor reads what serves has said, and tells the walls in it with when and how often."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl
from tests.unit.flaskctl.given import PROCESSES

SERVICE = "[Service]\nUser=hello\nProcSubset=pid\nProtectProc=invisible\n"
Stage = Callable[..., str]
APP = "/srv/hello/releases/0123456789ab/app"
JOURNAL = f"""\
1795000000.000001 web1 python[10]: Traceback (most recent call last):
1795000000.000002 web1 python[10]:   File "{APP}/app.py", line 3, in index
1795000000.000003 web1 python[10]: PermissionError: [Errno 13] Permission denied: '{APP}/instance'
-- Boot 0123456789abcdef --
1795000060.000001 web1 python[11]: FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'
1795000090.000001 web1 python[11]: FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'
"""


def deployed(host: FakeHost, more: str = "") -> None:
    """Have the unit that the role writes stand on the host."""
    host.path("/etc/systemd/system/hello@.service").write_text(SERVICE + more)


def test_each_wall_is_told_with_how_often_and_when_last(host: FakeHost, stage: Stage) -> None:
    current = stage("v1", service=SERVICE, processes=PROCESSES)
    deployed(host)
    call(host, "hello", "activate", current)
    host.said, host.clock = JOURNAL, 1_795_000_100.0
    answer = call(host, "hello", "doctor", "--json").json
    assert [(wall["name"], wall["times"], wall["last"]) for wall in answer["walls"]] == [
        ("the kernel's tables", 2, "2026-11-18T11:08:10Z"),
        ("write beside the code", 1, "2026-11-18T11:06:40Z"),
    ]
    assert (answer["lines"], answer["since"]) == (5, "2026-11-18T11:06:40Z")
    said = call(host, "hello", "doctor").out.splitlines()
    assert said[0].endswith("; 2 times, last 2026-11-18T11:08:10Z, 10 s ago")
    assert said[1:3] == [
        "  flask_gunicorn_nginx_service_settings: {ProcSubset: all}",
        "  costs: the app sees the host's load, memory and hardware",
    ]
    assert said[3].endswith("; once 2026-11-18T11:06:40Z, 100 s ago")
    assert said[4].startswith("  flask_gunicorn_nginx_writable: [instance]") and len(said) == 6
    (asked,) = [words for words in host.calls if "short-unix" in words][-1:]
    assert {f"_SYSTEMD_UNIT=hello@{current}.service", f"_SYSTEMD_UNIT=hello.tick@{current}.service"} <= set(asked)
    assert asked[asked.index("+") + 1 :][:2] == ["_PID=1", f"UNIT=hello@{current}.service"]


def test_an_app_that_met_none_is_told_so_and_one_that_serves_nothing_too(host: FakeHost, stage: Stage) -> None:
    assert "no current release" in call(host, "hello", "doctor").err
    call(host, "hello", "activate", stage("v1"))
    answer = call(host, "hello", "doctor", "--json").json
    assert answer["walls"] == [] and answer["since"] is None and answer["lines"] == 0
    assert answer["msg"].endswith("has met no wall that its words tell of; the journal has no line of it, or no longer")
    host.said = JOURNAL.splitlines()[0]
    said = call(host, "hello", "doctor").out
    assert said.endswith("tell of; lines read: 1, from 2026-11-18T11:06:40Z on\n")


def test_a_wall_that_was_opened_since_is_told_no_more(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1"))
    deployed(host, "ProcSubset=all\n")
    host.said = JOURNAL
    answer = call(host, "hello", "doctor", "--json").json
    assert [wall["name"] for wall in answer["walls"]] == ["write beside the code"]


def test_the_settings_for_several_walls_are_one_line_too(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1"))
    deployed(host)
    host.said = JOURNAL + JOURNAL.splitlines()[-1].replace("/proc/meminfo", "/proc/1/stat")
    last = call(host, "hello", "doctor").out.splitlines()[-1]
    assert last == "together: flask_gunicorn_nginx_service_settings: {ProcSubset: all, ProtectProc: default}"


def test_one_who_may_not_read_the_journal_is_told_so(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1"))
    host.root_user = False
    done = call(host, "hello", "doctor")
    assert done.rc == 1 and done.err == (
        "flaskctl: this reads the journal, and needs root or the group systemd-journal\n"
        "remedy: sudo flaskctl hello doctor\n"
    )


def test_the_journal_can_be_read_by_one_who_may_read_its_file(tmp_path: Path) -> None:
    host = flaskctl.Host()
    host.root = tmp_path
    assert not host.reads_journal()
    kept = tmp_path / "run/log/journal/0123/system.journal"
    kept.parent.mkdir(parents=True)
    kept.write_text("")
    assert host.reads_journal()


def test_a_refused_release_is_told_what_systemd_said_of_it(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.broken[two] = "import"
    host.verdict_said = f"hello@{two}.service: A process of this unit has been killed by the OOM killer.\n"
    said = call(host, "hello", "activate", two).err
    assert "  memory: the memory that MemoryMax allows was not enough" in said and "nosuchthing" in said
    assert "remedy: fewer workers" in said


def test_a_command_that_meets_a_wall_is_told_so(host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    deployed(host)
    call(host, "hello", "activate", stage("v1"))
    failed = flaskctl.Done(1, "", "FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'\n")
    monkeypatch.setattr(host, "run_systemd_run", lambda argv: failed)
    answer = call(host, "hello", "--json", "run", "--", "flask", "db", "upgrade").json
    assert answer["detail"].startswith("the kernel's tables: ") and answer["detail"].endswith("'/proc/meminfo'")
    assert answer["remedy"] == "flask_gunicorn_nginx_service_settings: {ProcSubset: all}"

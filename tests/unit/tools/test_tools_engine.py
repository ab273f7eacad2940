"""Only an engine that was started from here is ever stopped from here."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from tools import engine
from tools.run import Problem

HYBRID = """\
tmpfs /sys/fs/cgroup tmpfs rw,relatime,mode=755 0 0
cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw,relatime 0 0
"""
PURE = "sysfs /sys sysfs rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n"


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "engine.json"
    monkeypatch.setattr(engine, "RECORD", path)
    return path


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Processes that would have been ended; they count as gone at once."""
    pids: list[int] = []

    def kill(pid: int, number: int) -> None:
        assert number == signal.SIGTERM
        pids.append(pid)

    monkeypatch.setattr("tools.engine.os.kill", kill)
    monkeypatch.setattr(engine, "running", lambda pid: False)
    return pids


@pytest.mark.parametrize(("mounts", "pure"), [(PURE, True), (HYBRID, False), ("", False), (HYBRID + PURE, True)])
def test_pure_cgroup2_is_told_from_v1_and_hybrid(mounts: str, pure: bool) -> None:
    assert engine.has_pure_cgroup2(mounts) is pure


def test_an_engine_that_nobody_recorded_is_left_as_it_is(record: Path, killed: list[int]) -> None:
    assert engine.down().startswith("left as it is")
    assert not killed


def test_a_process_that_only_has_the_recorded_id_is_not_the_engine(record: Path, killed: list[int]) -> None:
    record.write_text(json.dumps({"pid": os.getpid(), "started_at": "1"}))
    assert engine.ours() is None
    assert engine.down().startswith("left as it is")
    assert not killed


def test_the_recorded_engine_is_stopped(record: Path, killed: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    record.write_text(json.dumps({"pid": os.getpid(), "started_at": engine.started_at(os.getpid())}))
    monkeypatch.setattr(engine, "output", lambda argv: "")
    assert engine.down() == "stopped"
    assert killed == [os.getpid()]
    assert not record.exists()


def test_an_engine_with_other_containers_goes_on(
    record: Path, killed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    record.write_text(json.dumps({"pid": os.getpid(), "started_at": engine.started_at(os.getpid())}))
    monkeypatch.setattr(engine, "output", lambda argv: "0123\n4567")
    assert engine.down() == "left running: 2 other container(s) use it"
    assert not killed
    assert record.exists()


def test_an_engine_that_answers_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> None:
        raise AssertionError("touched")

    monkeypatch.setattr(engine, "answers", lambda: True)
    monkeypatch.setattr(engine, "apt_install", never)
    monkeypatch.setattr(engine, "start_by_hand", never)
    monkeypatch.setattr("tools.engine.subprocess.run", never)
    engine.up()


def test_without_root_and_engine_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "answers", lambda: False)
    monkeypatch.setattr("tools.engine.os.geteuid", lambda: 1000)
    monkeypatch.setattr(engine, "SOCKET", tmp_path / "docker.sock")
    with pytest.raises(Problem) as refused:
        engine.up()
    assert "sudo apt install docker.io" in str(refused.value)
    (tmp_path / "docker.sock").touch()
    with pytest.raises(Problem, match="group docker"):
        engine.up()


def test_dockerd_gets_legacy_iptables_where_the_kernel_has_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CACHE", tmp_path)
    monkeypatch.setattr(engine, "output", lambda argv: None)
    monkeypatch.setattr("tools.engine.shutil.which", lambda name, path: "/usr/sbin/iptables-legacy")
    first = Path(engine.search_path().split(":")[0])
    assert (first / "iptables").readlink() == Path("/usr/sbin/iptables-legacy")
    assert (first / "ip6tables").readlink() == Path("/usr/sbin/ip6tables-legacy")


def test_dockerd_gets_the_machines_own_iptables_where_that_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CACHE", tmp_path)
    monkeypatch.setattr(engine, "output", lambda argv: "-P PREROUTING ACCEPT")
    assert str(tmp_path) not in engine.search_path()

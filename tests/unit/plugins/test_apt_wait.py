"""Who installs packages on a host, as the kernel tells it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.modules import apt_wait

HOLD = """import fcntl, sys, time
file = open(sys.argv[1], 'w')
fcntl.lockf(file, fcntl.LOCK_EX)
print('held', flush=True)
time.sleep(60)
"""


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "lock"
    monkeypatch.setattr(apt_wait, "LOCKS", (str(path), str(tmp_path / "none")))
    monkeypatch.setattr(apt_wait.holders, "__defaults__", (apt_wait.LOCKS,))
    return path


@pytest.fixture
def busy(lock: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(lock)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_without_a_lock_nobody_waits(lock: Path, run_module: Callable[..., dict[str, Any]]) -> None:
    assert run_module(apt_wait, {})["waited"] == 0
    lock.touch()
    assert run_module(apt_wait, {})["waited"] == 0


def test_who_holds_it_is_named(busy: subprocess.Popen[str], run_module: Callable[..., dict[str, Any]]) -> None:
    answer = run_module(apt_wait, {"timeout": 0})
    assert answer["failed"] and f"installed by {busy.pid} ({sys.executable} -c import fcntl" in answer["msg"]
    assert run_module(apt_wait, {"timeout": 0}, check=True)["changed"] is False


def test_it_goes_on_when_the_other_is_done(
    busy: subprocess.Popen[str], run_module: Callable[..., dict[str, Any]]
) -> None:
    subprocess.Popen(["sh", "-c", f"sleep 1; kill {busy.pid}"])
    answer = run_module(apt_wait, {"timeout": 20})
    assert "failed" not in answer and answer["waited"] >= 1


def test_the_kernel_answers_in_the_form_that_is_read() -> None:
    assert apt_wait.struct.calcsize(apt_wait.FLOCK) == 32 and os.sysconf("SC_LONG_BIT") == 64

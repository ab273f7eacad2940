"""What a release may take of its host, and what of that is in force."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rendering import render
from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl

Stage = Callable[..., str]
GTHREAD = {"worker_class": "gthread"}


@pytest.mark.parametrize(
    ("settings", "processors", "tasks"),
    [
        ({}, 1, 256 + 2 * 32),
        ({}, 64, 256 + 64 * 32),
        ({"workers": 3}, 64, 256 + 3 * 32),
        (GTHREAD, 2, 256 + 2 * (16 + 32)),
        ({**GTHREAD, "workers": 4, "threads": 100}, 2, 256 + 4 * (100 + 32)),
    ],
)
def test_there_are_tasks_for_all_threads_that_a_release_has(
    settings: dict[str, object], processors: int, tasks: int
) -> None:
    server = flaskctl.server_of(render("gunicorn.conf.py", {"settings": settings}))
    assert flaskctl.tasks_max(server, processors) == tasks


def test_a_unit_that_says_its_tasks_itself_keeps_them() -> None:
    """So did those of an older role, and their releases stay as they are."""
    server = flaskctl.Server("gevent")
    assert flaskctl.ceilings_drop_in([("MemoryMax", "80%")], server, 2).endswith("[Service]\nTasksMax=320\n")
    assert flaskctl.ceilings_drop_in([("TasksMax", "256")], server, 2) == ""


def test_each_service_of_a_release_has_its_tasks(host: FakeHost, stage: Stage) -> None:
    processes = {
        "own": {"service": "[Service]\nTasksMax=7\n"},
        "job": {"service": "[Service]\n", "timer": "[Timer]\n"},
    }
    release = stage("v1", processes=processes)
    found = {path.parent.name for path in (host.root / "etc/systemd/system").glob("*/ceilings.conf")}
    assert found == {f"hello@{release}.service.d", f"hello.job@{release}.service.d"}


def in_group(host: FakeHost, release: str, **files: str) -> str:
    """Have the release run in a control group with these files; return the line of status."""
    host.set_unit(f"hello@{release}.service", ControlGroup="/system.slice/x")
    group: Path = host.root / "sys/fs/cgroup/system.slice/x"
    group.mkdir(parents=True)
    for name, text in files.items():
        (group / name.replace("_", ".")).write_text(f"{text}\n")
    return next(line for line in call(host, "hello", "status").out.splitlines() if "ceilings" in line)


def test_status_shows_what_the_kernel_has(host: FakeHost, stage: Stage) -> None:
    release = stage("v1")
    call(host, "hello", "activate", release)
    line = in_group(host, release, memory_max="1073741824", pids_max="320", cpu_weight="50")
    assert line.endswith("memory 1.0 GiB; tasks 320; CPU weight 50")
    assert call(host, "hello", "status", "--json").json["ceilings"] == {
        "memory": 2**30, "tasks": 320, "cpu_weight": 50,
    }  # fmt: skip


def test_status_says_what_is_not_in_force(host: FakeHost, stage: Stage) -> None:
    release = stage("v1")
    call(host, "hello", "activate", release)
    line = in_group(host, release, pids_max="max")
    assert line.endswith("tasks without a limit; not in force: memory, CPU weight (this host has no controller for it)")


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ("low 0\nmax 9\noom 3\noom_kill 3\noom_group_kill 0", "3 processes were killed since it started"),
        ("oom_kill 1", "1 process was killed since it started"),
        ("max 9\noom_kill 0", ""),
        ("", ""),
        ("oom", ""),
    ],
)
def test_status_tells_what_the_kernel_killed_for_want_of_memory(
    host: FakeHost, stage: Stage, events: str, says: str
) -> None:
    release = stage("v1")
    call(host, "hello", "activate", release)
    line = in_group(host, release, memory_max=str(300 << 20), memory_events=events)
    assert "memory 300 MiB" in line and ("killed" in line) == bool(says) and says in line
    told = call(host, "hello", "status", "--json").json["memory_kills"]
    assert told == (int(says.split()[0]) if says else 0)

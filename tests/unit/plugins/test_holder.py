"""Which rollout this is, and whose lease it may take over."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
from typing import Any

import pytest
from ansible.errors import AnsibleError
from ansible_collections.flaskfleet.web.plugins.lookup.holder import LookupModule, identity, started, taken_over

ME = {"id": "17.100.5", "by": "ada", "from": "laptop", "pid": "100"}
LEASE = {"id": "17.90.4", "by": "ada", "from": "laptop", "pid": "90", "since": "2026-01-01T00:00:00Z"}


def dead(_pid: int) -> str:
    return ""


def test_the_lease_of_an_own_process_that_is_dead_is_taken_over() -> None:
    assert taken_over(LEASE, ME, dead) == "17.90.4"


def test_a_number_that_another_process_has_now_does_not_save_it() -> None:
    assert taken_over(LEASE, ME, lambda pid: "9") == "17.90.4"


@pytest.mark.parametrize(
    "other",
    [
        {"by": "bob"},
        {"from": "other"},
        {"id": "18.90.4"},  # another container on this machine: its processes cannot be seen
        {"id": ME["id"]},
        {"pid": ""},
        {"id": ""},
    ],
)
def test_no_other_lease_is(other: dict[str, str]) -> None:
    assert taken_over({**LEASE, **other}, ME, dead) == ""


def test_one_whose_process_lives_is_not() -> None:
    assert taken_over(LEASE, ME, lambda pid: "4") == ""


def test_a_process_has_a_beginning_until_it_ends() -> None:
    child = subprocess.Popen(["sleep", "60"])
    before = identity(child.pid, "1")
    assert started(child.pid) and before == identity(child.pid, "1")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert started(child.pid) == "", "a zombie has ended"
    child.wait()
    assert started(child.pid) == "" and identity(child.pid, "1") != before


def test_a_worker_whose_run_was_killed_rolls_out_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: child)
    with pytest.raises(AnsibleError, match=f"pid {child.pid}"):
        LookupModule().run([])


def asked(pipe: Any) -> None:
    pipe.send(LookupModule().run([]))


def test_a_worker_of_ansible_says_the_same_as_the_run_that_started_it() -> None:
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("fork")
    worker = context.Process(target=asked, args=(theirs,))
    worker.start()
    (holder,) = ours.recv()
    worker.join()
    assert holder == LookupModule().run([{}])[0]
    assert holder["pid"] == str(os.getpid())

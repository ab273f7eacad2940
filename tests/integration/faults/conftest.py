"""Hosts to break, one with a small disk, and what a release that nobody disturbed leaves behind.

Most of a test is waiting, for a release, for a boot, for users to meet what there is to meet. So each host is broken in
a process of its own, the first half of the tests on one host and the second on another.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator

import pytest

from tests.load.fixtures import hosts, place, workshop
from tests.load.fleet import ARCHIVES, BASE, NAME, REPOSITORY, Answer, Books, Host, HostError, Workshop

__all__ = ["hosts", "place", "workshop"]

REPORTS = REPOSITORY / ".cache" / "reports"
HERE: list[str] = []  # the host that is broken in this process
# what differs between versions on purpose, and whether a release was tried before it was activated
VARIED = ("/app/version.txt", "/app/requirements.txt", "/app/large.txt", "/tried.json", "/sbom.json")
ALLOW = "/run/flaskctl/allow-fault-injection"  # what makes flaskctl look at FLASKCTL_KILL_AT


class Patient:
    """The host to break: releases that are numbered, with users on it while it happens."""

    def __init__(self, host: Host, workshop: Workshop) -> None:
        self.host, self.workshop = host, workshop
        self.books = Books([host])
        self.number = 100
        self.undisturbed: dict[str, str] = {}

    def next_version(self, files: dict[str, str | None] | None = None) -> str:
        self.number += 1
        self.archive = self.workshop.version(str(self.number), files, stylesheet=False)
        return str(self.number)

    def put(self) -> str:
        """Bring the archive of the next version to the host; its path there."""
        path = f"{ARCHIVES}/{self.archive.name}"
        self.host.put(path, self.archive.read_bytes())
        return path

    def release(self) -> str:
        """Release the next version, undisturbed; its id."""
        answer = self.host.release(self.archive)
        assert answer.rc == 0, answer.story
        return str(answer.data["id"])

    def allow_faults(self) -> None:
        self.host.run(f"touch {ALLOW}")

    def tree(self) -> dict[str, str]:
        """What stands on the host, with the ids of the two releases that are left by their parts in it."""
        pruned = self.host.flaskctl("prune", "--keep", "2")
        assert pruned.rc == 0, pruned.story
        status = self.host.status()
        names = {status["current"]: "CURRENT", status["previous"]: "PREVIOUS"}
        pattern = re.compile("|".join(names))
        found = {}
        for path, what in self.host.tree().items():
            if path.startswith(f"srv/{NAME}/venvs/") or path.endswith(VARIED):
                continue
            what = re.sub(r"venvs/\S+", "venvs/VENV", what)
            path, what = (re.sub(r"\.kept\.[ab]", ".kept.X", text) for text in (path, what))
            found[pattern.sub(lambda m: names[m[0]], path)] = pattern.sub(lambda m: names[m[0]], what)
        return found

    def is_as_undisturbed(self) -> None:
        """Assert that nothing of the fault is left, and that nothing is missing."""
        tree = self.tree()
        differ = {
            path: (self.undisturbed.get(path), tree.get(path))
            for path in set(tree) | set(self.undisturbed)
            if tree.get(path) != self.undisturbed.get(path)
        }
        assert not differ, "\n".join(f"{path}: {was} -> {now}" for path, (was, now) in sorted(differ.items()))
        used = self.host.run(f"for r in {BASE}/releases/*; do basename $(readlink $r/venv); done | sort -u")
        assert self.host.run(f"ls -A {BASE}/venvs") == used
        assert self.host.run(f"ls {BASE}/venvs/*/.complete | wc -l") == str(len(used.split()))
        status = self.host.status()
        assert not status["problems"] and status["active"] == [status["current"]], status

    def again(self, version: str) -> Answer:
        """Release the same version again, undisturbed; then it serves, and all is as if nothing had happened."""
        answer = self.host.stage(self.archive)
        assert answer.rc == 0, answer.story
        activated = self.host.flaskctl("activate", answer.data["id"])
        assert activated.rc == 0, activated.story
        assert self.host.version() == version
        self.is_as_undisturbed()
        return answer

    def power_cut(self) -> None:
        """Cut the power, and wait until the host is up again and answers."""
        self.books.close()
        subprocess.run(["docker", "kill", self.host.name], check=True, capture_output=True, timeout=60)
        subprocess.run(["docker", "start", self.host.name], check=True, capture_output=True, timeout=60)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                self.host.version()
                break
            except HostError:
                time.sleep(0.5)
        else:
            raise AssertionError(
                f"nobody answers a minute after a power cut:\n{self.host.run('flaskctl hello status')}"
            )
        self.books.open()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Deal the tests that need no host in particular to two of them."""
    dealt = [item for item in items if not item.get_closest_marker("on")]
    for number, item in enumerate(dealt):
        item.add_marker(pytest.mark.on("first" if number < len(dealt) / 2 else "second"))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note whose tests run in this process."""
    HERE.extend(mark.args[0] for mark in item.iter_markers("on"))


@pytest.fixture(scope="session")
def patient(hosts: list[Host], workshop: Workshop) -> Iterator[Patient]:
    """The host to break, after two releases that nobody disturbs, with users on it."""
    patient = Patient(next(host for host in hosts if HERE[0] in host.name), workshop)
    for _ in range(2):
        patient.next_version()
        patient.release()
    patient.undisturbed = patient.tree()
    patient.books.open()
    try:
        yield patient
    finally:
        patient.books.close()
        patient.books.save(f"faults-{patient.host.name}")


def pytest_sessionstart() -> None:
    for path in REPORTS.glob("faults-*"):
        path.unlink()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for path in sorted(REPORTS.glob("faults-*.md")):
        terminalreporter.write_sep("=", f"what the users of {path.stem} met")
        terminalreporter.write_line(path.read_text())

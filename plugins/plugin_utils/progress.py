# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How far a run has come: its phases, and the batches of a rollout. Says nothing itself: the callback does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from ansible_collections.flaskfleet.web.plugins.plugin_utils.told import NAMES, listed, seconds

LONG = 20.0  # seconds: a phase that takes longer is told of in a log, where nothing stands in place
OUTCOMES = ("failed", "unreachable", "failed, ignored", "changed", "")  # the worst first


class Batches:
    """The batches of a rollout, as the files that are included for them tell."""

    def __init__(self) -> None:
        self.loop, self.hosts = "", list[list[str]]()

    def note(self, loop: str, hosts: Sequence[str]) -> None:
        """Keep one batch; those of another loop are another rollout's."""
        if loop != self.loop:
            self.loop, self.hosts = loop, []
        self.hosts.append(list(hosts))

    def place(self, hosts: Sequence[str]) -> str:
        """Return which batch hosts are, and how many had their turn before; nothing where there is one batch."""
        if len(self.hosts) < 2 or list(hosts) not in self.hosts:
            return ""
        number = self.hosts.index(list(hosts))
        before, every = sum(map(len, self.hosts[:number])), sum(map(len, self.hosts))
        return f"batch {number + 1} of {len(self.hosts)}, {before} of {every} hosts before it"


class Phase:
    """A part of a run: since when it runs, and how far each host has come in it."""

    def __init__(self, name: str, now: float) -> None:
        self.name, self.began = name, now
        self.hosts: dict[str, str] = {}
        self.asked: list[str] = []
        self.done: set[str] = set()
        self.place = ""

    def begin(self, asked: Sequence[str], place: str) -> None:
        """Begin with a task of hosts, at their place in the rollout."""
        self.asked, self.done, self.place = list(asked), set(), place

    def note(self, host: str, outcome: str) -> None:
        """Keep the worst of what happened on a host."""
        self.hosts[host] = min(outcome, self.hosts.get(host, ""), key=OUTCOMES.index)

    def worst(self) -> str:
        """Return the worst of what happened on any host."""
        return min(self.hosts.values(), key=OUTCOMES.index)

    def line(self, now: float, width: int = 80) -> str:
        """Return what happened, as a line; on a narrow terminal without the columns."""
        by: dict[str, list[str]] = {}
        for host, outcome in sorted(self.hosts.items()):
            by.setdefault(outcome, []).append(host)
        parts = [f"{listed(by[outcome])} {outcome}".rstrip() for outcome in OUTCOMES if outcome in by]
        if len(parts) > 1 and "" in by:
            parts[-1] += " unchanged"
        text = f"  {self.name:<12} {'; '.join(parts)}"
        return f"{text:<{max(0, min(width, 80) - 15)}} {seconds(now - self.began):>12}"

    def so_far(self) -> str:
        """Return since when it runs, which batch, and of several hosts how many are done and who keeps them waiting."""
        parts = [f"since {time.strftime('%H:%M:%S', time.localtime(self.began))}"]
        parts += [self.place] if self.place else []
        if len(self.asked) > 1:
            waiting = [host for host in self.asked if host not in self.done]
            parts.append(f"{len(self.asked) - len(waiting)} of {len(self.asked)} done")
            parts += [f"waiting for {listed(waiting)}"] if self.done and 0 < len(waiting) <= NAMES else []
        return ", ".join(parts)


class Watch:
    """Calls back once for each phase that takes long. Other events of it there may be none: one task can be all."""

    def __init__(self, tell: Callable[[Phase], None]) -> None:
        self.tell = tell
        self.lock = threading.Lock()
        self.timer: threading.Timer | None = None

    def over(self, phase: Phase | None) -> None:
        """Look at this phase from now on, or at none; when this returns, nothing more is told of the one before."""
        with self.lock:
            if self.timer:
                self.timer.cancel()
            self.timer = threading.Timer(LONG, self.late, [phase]) if phase else None
            if self.timer:
                self.timer.daemon = True  # ends with the run
                self.timer.start()

    def late(self, phase: Phase) -> None:
        """Tell of the phase, if it is still the one that is looked at."""
        with self.lock:
            if threading.current_thread() is self.timer:
                self.tell(phase)

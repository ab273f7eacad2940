"""What nginx logged of an app, and whether that has become worse. Pure functions."""

from __future__ import annotations

import bisect
import datetime
import json
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, NamedTuple

from flaskctl import Json

SLOWER_SECONDS = 0.05  # less than that is no slower, whatever the ratio: of 2 ms and 6 ms nobody takes note


SLOWER_SHARE = 0.05  # a release is slow when so much more of its traffic takes longer than the limit


class Traffic(NamedTuple):
    """What nginx passed to the app in some time: how many requests, how many 5xx, and the seconds each took, sorted."""

    requests: int
    errors: int
    times: Sequence[float] = ()  # without websockets, which last as they like

    @property
    def p95(self) -> float | None:
        """The seconds within which 95 % were answered; none where nothing was."""
        return self.times[-(-len(self.times) * 95 // 100) - 1] if self.times else None

    def share(self) -> float:
        """Return the errors in percent."""
        return 100 * self.errors / self.requests if self.requests else 0.0

    def slow(self, seconds: float) -> int:
        """Return how many took longer."""
        return len(self.times) - bisect.bisect_right(self.times, seconds)

    def as_json(self) -> Json:
        return {"requests": self.requests, "errors": self.errors, "p95": self.p95}

    def __str__(self) -> str:
        return f"{self.errors} of {self.requests} failed ({self.share():.2f} %)" + (
            f", 95 % within {self.p95:.3f} s" if self.p95 is not None else ""
        )


def traffic(entries: Iterable[Json], start: float, end: float) -> Traffic:
    """Sum up the entries of nginx's log in [start, end). What nginx answers itself, files say, is not the release's.

    Nor is what Gunicorn refuses by itself, a request that it cannot read: only the app's own answers name a release. A
    5xx without one is an app that raised or died.
    """
    requests, errors, seconds = 0, 0, []
    for entry in entries:
        asked = entry.get("upstream_status", "-") not in ("", "-")
        if start <= entry["time"] < end and asked and (entry.get("release", "-") or failed(entry)):
            requests += 1
            errors += failed(entry)
            seconds += [float(entry["seconds"])] if entry["status"] != 101 else []
    return Traffic(requests, errors, sorted(seconds))


def failed(entry: Json) -> bool:
    """Whether the app failed, whatever the visitor got: nginx may have gone on with an answer that it had kept."""
    last = re.split(r"[,:\s]+", str(entry.get("upstream_status", "")).strip())[-1]
    return int(entry["status"]) >= 500 or (last.isdigit() and int(last) >= 500)


def timeline(entries: Iterable[Json], start: float, step: int, count: int) -> Json:
    """Return how many requests the app had in each of `count` steps of so many seconds, and how many of them failed.

    `start` is in seconds of the epoch. What nginx answers itself, files say, is not the release's.
    """
    requests, errors = [0] * count, [0] * count
    for entry in entries:
        number = int((entry["time"] - start) // step)
        if 0 <= number < count and entry.get("upstream_status", "-") not in ("", "-"):
            requests[number] += 1
            errors[number] += failed(entry)
    return {"start": start, "step": step, "requests": requests, "errors": errors}


def log_entry(line: bytes) -> Json | None:
    """Read one line of nginx's log, its time in seconds; None for one that is cut or is not ours."""
    try:
        entry = json.loads(line)
        return {**entry, "time": datetime.datetime.fromisoformat(entry["time"]).timestamp()}
    except (ValueError, KeyError, TypeError):
        return None


def lines_from_end(file: IO[bytes], block: int = 1 << 16) -> Iterator[bytes]:
    """Yield the lines of a file, the last one first; no more of it is read than they need."""
    position, rest = file.seek(0, os.SEEK_END), b""
    while position:
        size = min(block, position)
        position = file.seek(position - size)
        rest, *lines = (file.read(size) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
    if rest:
        yield rest


class Limits(NamedTuple):
    """How much worse a release may be: 5xx in percentage points, the time for 95 % as a ratio; and from how many on."""

    errors: float = 1.0
    slower: float = 2.0
    requests: int = 50


def worse(before: Traffic, after: Traffic, limits: Limits) -> str:
    """Return in what the traffic after a release is worse than the limits allow; nothing if it is not."""
    points = after.share() - before.share()
    if points > limits.errors:
        return f"{points:.2f} percentage points more requests fail, {limits.errors:g} may"
    if before.p95 is None or not after.times:
        return ""
    limit = max(before.p95 * limits.slower, before.p95 + SLOWER_SECONDS)
    slow, were = after.slow(limit), before.slow(limit)
    if not more_than_chance(were, len(before.times), slow, len(after.times), SLOWER_SHARE):
        return ""
    return (
        f"{slow} of {len(after.times)} requests take longer than {limit:.3f} s, {were} of {len(before.times)} did:"
        f" {limits.slower:g} times as long as 95 % took they may"
    )


def more_than_chance(old: int, of_old: int, new: int, of_new: int, rise: float) -> bool:
    """Whether a share has risen by more than `rise`, and by more than two samples of the same differ by chance.

    Three standard deviations of a difference of shares (two-proportion z-test, pooled): one false alarm in 700.
    """
    difference = new / of_new - old / of_old
    pooled = (old + new) / (of_old + of_new)
    chance = 3 * math.sqrt(pooled * (1 - pooled) * (1 / of_old + 1 / of_new))
    return difference > max(rise, chance)


def looks(seconds: int) -> list[int]:
    """Return after how many seconds a bake looks: early too, for a release that fails outright."""
    return [*(5 * 2**n for n in range(20) if 5 * 2**n < seconds), seconds]

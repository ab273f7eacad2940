"""What people read: times, tables, and what of a journal tells why something failed. Pure functions."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Sequence


def extract_traceback(journal: str, limit: int = 30) -> str:
    """Return what a person wants to see of a failure: the last tracebacks, from the app's own code on, or lines."""
    lines = [line.rstrip() for line in journal.splitlines()]
    blocks: dict[str, bool] = {}  # whether the app's code is in it, by text: each worker says the same
    for start in [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]:
        end = start + 1
        while end < len(lines) and (lines[end].startswith((" ", "\t")) or not lines[end]):
            end += 1
        frames = [number for number in range(start, end) if lines[number].startswith('  File "')]
        own = [number for number in frames if re.search(r"/releases/[^/]+/(app/|site/|gunicorn.conf)", lines[number])]
        block = [lines[start], *lines[own[0] if own else start + 1 : end + 1]]
        if "HaltServer" not in block[-1]:  # Gunicorn's way to say that a worker said more
            blocks["\n".join(block)] = bool(own)
    found = [block for block, own in blocks.items() if own or not any(blocks.values())]
    return "\n".join(found[-2:] if found else lines[-limit:])


def utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def moment(when: object) -> int | None:
    """Return the seconds of a time that utc() wrote; None for one that cannot be read."""
    try:
        return calendar.timegm(time.strptime(str(when), "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None


def ago(when: object, now: float) -> str:
    then = moment(when)
    if then is None:
        return str(when)
    seconds = max(0, int(now) - then)
    return f"{when}, {seconds} s ago" if seconds < 120 else f"{when}, {seconds // 60} min ago"


def short_revision(revision: str) -> str:
    """Return a revision for people: of a commit its beginning, and always whether the source held something else."""
    return re.sub(r"\A([0-9a-f]{12})(?:[0-9a-f]{28}|[0-9a-f]{52})(-dirty)?\Z", r"\1\2", revision)


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

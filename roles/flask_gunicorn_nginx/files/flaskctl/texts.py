"""What people read: times, tables, and what of a journal tells why something failed. Pure functions."""

from __future__ import annotations

import calendar
import re
import time
from collections.abc import Sequence

MOST = 15  # lines of one traceback
APP, CONFIGURATION = (re.compile(rf"/releases/[^/]+/{name}") for name in ("(app|site)/", r"gunicorn\.conf"))
LOGGED = re.compile(r"\[[^]]+\] \[\d+\] \[([A-Z]+)\] ")  # Gunicorn's beginning of a line: time, process, level
# what a terminal obeys or cannot show: controls of ASCII and Latin-1, those of writing direction, halves of characters
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# what Gunicorn says of a worker that has said more
EMPTY = re.compile(r"Worker \(pid:\d+\) (exited|was sent)|Worker exiting|Shutting down: Master|Reason: |HaltServer")
RAISED_FROM = "The above exception was the direct cause of"


def extract_traceback(journal: str, limit: int = 30) -> str:
    """Return what a person wants to see of a failure: its cause, then the frames of the app's own code; or lines.

    Nothing in it is another on another host, such as a time or the number of a process: there it is the same failure.
    """
    lines = [line.rstrip() for line in journal.splitlines()]
    blocks: dict[str, bool] = {}  # whether the app's code is in it, by text: each worker says the same
    causes: list[str] = []  # of the exceptions that led to the next one, the first in front
    for start in [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]:
        end = start + 1
        while end < len(lines) and (lines[end].startswith((" ", "\t")) or not lines[end]):
            end += 1
        cause, own = "".join(lines[end : end + 1]), own_frames(lines[start + 1 : end])
        if not EMPTY.search(cause):
            shown = lines[start + 1 : end] if own is None else own
            blocks["\n".join([cause, *causes[::-1], *shortened(shown)])] = own is not None
        # what a library makes of an error names neither file nor address: those are in the one that it was raised from
        causes = [*causes, f"from {cause}"] if any(RAISED_FROM in line for line in lines[end + 1 : end + 3]) else []
    found = [block for block, own in blocks.items() if own or not any(blocks.values())]
    return "\n".join(found[-2:] if found else telling(lines)[-limit:])


def own_frames(lines: Sequence[str]) -> Sequence[str] | None:
    """Return the lines of a traceback from the first to the last frame in the app's own code.

    Without one, as in a failed health check, what the configuration called: where it refuses by itself, its words tell
    all. None where neither is in it.
    """
    frames = [number for number, line in enumerate(lines) if line.startswith('  File "')]
    app, called = ([number for number in frames if kind.search(lines[number])] for kind in (APP, CONFIGURATION))
    last = (app or called)[-1:]
    after = next((number for number in frames if last and number > last[0]), len(lines))
    return lines[app[0] : after] if app else lines[after:] if called else None


def shortened(lines: Sequence[str]) -> Sequence[str]:
    return lines if len(lines) <= MOST else [*lines[:4], "  ...", *lines[5 - MOST :]]


def telling(lines: Sequence[str]) -> Sequence[str]:
    """Return the lines of a log without a traceback that may say why; all, where none does."""
    logged = [(LOGGED.match(line), LOGGED.sub("", line)) for line in lines]
    kept = [
        text for level, text in logged if (not level or level[1] not in ("DEBUG", "INFO")) and not EMPTY.search(text)
    ]
    return list(dict.fromkeys(filter(None, kept))) or lines


def printable(text: str) -> str:
    """Return a text as any terminal shows it: what an app writes could clear the screen, or hide a line."""
    return CONTROLS.sub(lambda found: repr(found[0])[1:-1], text)


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

"""What ought to stand of an app, held against what stands, and what systemd does not take of it. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from flaskctl.units import KNOWN_SINCE

STATES = {"failed": "has failed", "inactive": "is stopped", "activating": "does not come up"}  # by ActiveState


class Lack(NamedTuple):
    """A unit that does not stand as it ought to, and the verb of systemctl that puts it right."""

    unit: str
    what: str
    verb: str

    def __str__(self) -> str:
        return f"{self.unit} {self.what}"


def lacks(units: Mapping[str, Mapping[str, str]], up: Iterable[str], at_boot: Iterable[str]) -> list[Lack]:
    """Return which units do not run though they ought to, and which do not start at boot."""
    found = []
    for unit in up:
        state = units.get(unit, {}).get("ActiveState", "inactive")
        found += [Lack(unit, STATES.get(state, f"is {state}"), "start")] if state != "active" else []
    asleep = [unit for unit in at_boot if units.get(unit, {}).get("UnitFileState") != "enabled"]
    return found + [Lack(unit, "does not start at boot", "enable") for unit in asleep]


class Complaint(NamedTuple):
    """A line of a unit file that systemd does not take."""

    file: str
    line: int
    words: str  # of systemd


SAID = re.compile(r"(?P<file>/[^:]*):(?P<line>\d+): (?P<words>.*)")
# there are words that tell of no more than age: a directive that is called otherwise now, and still counts
IGNORED = re.compile(r"(?i)ignor|unknown|failed to|invalid|not supported")


def complaints(said: str, systemd: int) -> list[Complaint]:
    """Return what of a unit's file this systemd ignores, from the words of systemd-analyze or of the journal.

    What the role's own sandbox has and an older systemd does not know is no complaint.
    """
    found: dict[Complaint, None] = {}
    for line in re.sub(r"\x1b\[[\d;]*m", "", said).splitlines():  # systemd 247 colours what goes to a pipe too
        match = SAID.match(line.strip())
        if not match or not IGNORED.search(match["words"]):
            continue
        quoted = re.search(r"'(\w+)'", match["words"])
        if not (quoted and KNOWN_SINCE.get(quoted[1], 0) > systemd):
            found[Complaint(match["file"], int(match["line"]), match["words"])] = None
    return list(found)


def directive(text: str, line: int) -> str:
    """Return the name of the directive on a line of a unit file."""
    lines = text.splitlines()
    return lines[line - 1].partition("=")[0].strip() if 0 < line <= len(lines) else ""

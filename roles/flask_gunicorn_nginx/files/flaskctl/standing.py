"""What ought to stand of an app, held against what stands, and what systemd does not take of it. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
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


def lacks(
    units: Mapping[str, Mapping[str, str]], up: Iterable[str], at_boot: Iterable[str], deaf: Iterable[str] = ()
) -> list[Lack]:
    """Return which units do not run though they ought to, which do not start at boot, and which have no socket."""
    found = []
    for unit in up:
        state = units.get(unit, {}).get("ActiveState", "inactive")
        found += [Lack(unit, STATES.get(state, f"is {state}"), "start")] if state != "active" else []
    found += [Lack(unit, "started before its socket was opened, and hears nothing", "restart") for unit in deaf]
    asleep = [unit for unit in at_boot if units.get(unit, {}).get("UnitFileState") != "enabled"]
    return found + [Lack(unit, "does not start at boot", "enable") for unit in asleep]


ACCEPTS = 0x10000  # __SO_ACCEPTCON, the flag of a Unix socket that listens


def listeners(tcp: str, unix: str, held: Collection[str]) -> list[str]:
    """Return where something listens, by the kernel's tables: IPv4 addresses and paths.

    `held`: the sockets among which to look, all where that is empty.
    """
    found = []
    for fields in (line.split() for line in tcp.splitlines()[1:]):
        if fields[3] == "0A" and (not held or f"socket:[{fields[9]}]" in held):
            host, port = fields[1].split(":")
            found.append(".".join(str(byte) for byte in reversed(bytes.fromhex(host))) + f":{int(port, 16)}")
    for fields in (line.split() for line in unix.splitlines()[1:]):
        named = len(fields) > 7 and fields[7].startswith("/")  # not of the abstract ones
        if named and int(fields[3], 16) & ACCEPTS and (not held or f"socket:[{fields[6]}]" in held):
            found.append(fields[7])
    return found


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
    lines = text.split("\n")
    return lines[line - 1].partition("=")[0].strip() if 0 < line <= len(lines) else ""

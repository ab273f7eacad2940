"""What Molecule scenarios there are, on which hosts each runs, and which images these need.

A scenario writes the kind of a host as `${HOST_1:-debian12}`, which Molecule fills in: debian12, or what
`make test HOSTS=...` chooses. A host that is no system to be tested has a kind of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import yaml

from tools.run import ROOT, Problem

MOLECULE = ROOT / "molecule"
BASE = ROOT / ".config/molecule/config.yml"
CHOICE = re.compile(r"\$\{(HOST_\d+):-(\w+)\}")


@dataclass(frozen=True)
class Scenario:
    """A directory of molecule/ that describes hosts."""

    name: str
    path: Path

    @property
    def choices(self) -> list[str]:
        """The variables by which the kinds of its hosts are chosen."""
        return list(dict.fromkeys(found[1] for found in CHOICE.finditer(self.path.read_text())))

    def runs(self, kinds: Sequence[str]) -> list[dict[str, str]]:
        """What the variables are in each run, so that all kinds have their turn; one run as it stands for none."""
        most = len(self.choices)
        parts = [kinds[begin : begin + most] for begin in range(0, len(kinds), most)] if kinds and most else [[]]
        return [dict(zip(self.choices, islice(cycle(part), most), strict=False)) for part in parts]

    def images(self, kinds: Sequence[str]) -> tuple[str, ...]:
        """The host images that all its runs need."""
        every = [image_of(platform) for chosen in self.runs(kinds) for platform in platforms(self.path, chosen)]
        return tuple(dict.fromkeys(every))


def image_of(platform: dict[str, Any]) -> str:
    """The host image of a platform: named, or the part of its name after the last dash."""
    return str(platform.get("image") or str(platform["name"]).rpartition("-")[2])


def read(path: Path, chosen: Mapping[str, str] | None = None) -> dict[str, Any]:
    """The content of a Molecule file with the choice of hosts."""
    text = CHOICE.sub(lambda found: (chosen or {}).get(found[1], found[2]), path.read_text())
    return yaml.safe_load(text) or {}


def platforms(path: Path, chosen: Mapping[str, str]) -> list[dict[str, Any]]:
    """The hosts of a scenario."""
    return read(path, chosen).get("platforms") or read(BASE, chosen).get("platforms") or []


def find(directory: Path = MOLECULE) -> list[Scenario]:
    """All scenarios on containers, `default` first; raises Problem for one without hosts.

    One with a driver of its own is none of them: `vm`, which `make vm` runs.
    """
    found = []
    for path in sorted(directory.glob("*/molecule.yml")):
        name = path.parent.name
        if "driver" in read(path, {}):
            continue
        if not platforms(path, {}):
            raise Problem(f"The Molecule scenario {name} names no platforms: {path}.")
        found.append(Scenario(name, path))
    return sorted(found, key=lambda scenario: (scenario.name != "default", scenario.name))

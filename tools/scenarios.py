"""What Molecule scenarios there are, and which host images each needs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tools.run import ROOT, Problem

MOLECULE = ROOT / "molecule"
BASE = ROOT / ".config/molecule/config.yml"


@dataclass(frozen=True)
class Scenario:
    """A directory of molecule/ that describes hosts."""

    name: str
    images: tuple[str, ...]


def image_of(platform: dict[str, Any]) -> str:
    """The host image of a platform: named, or the part of its name after the last dash."""
    return str(platform.get("image") or str(platform["name"]).rpartition("-")[2])


def read(path: Path) -> dict[str, Any]:
    """The content of a Molecule file."""
    return yaml.safe_load(path.read_text()) or {}


def find(directory: Path = MOLECULE) -> list[Scenario]:
    """All scenarios, `default` first; raises Problem for one without hosts."""
    found = []
    for path in sorted(directory.glob("*/molecule.yml")):
        name = path.parent.name
        platforms = read(path).get("platforms") or read(BASE).get("platforms") or []
        if not platforms:
            raise Problem(f"The Molecule scenario {name} names no platforms: {path}.")
        found.append(Scenario(name, tuple(dict.fromkeys(image_of(platform) for platform in platforms))))
    return sorted(found, key=lambda scenario: (scenario.name != "default", scenario.name))

"""What was measured, in bench/figures/: results of each case, when, at which revision, by which command, on what."""

from __future__ import annotations

import datetime
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cases import Result
from tools.run import ROOT, output

FIGURES = ROOT / "bench/figures"
Figures = dict[str, dict[str, Any]]


def path(name: str) -> Path:
    """Where the figures of a bench are."""
    return FIGURES / f"{name}.json"


def read(name: str) -> Figures:
    """The cases of a bench that have been measured."""
    figures: Figures = json.loads(path(name).read_text()) if path(name).exists() else {}
    return figures


def keep(name: str, case: str, command: str, machine: dict[str, str], results: Sequence[Result]) -> None:
    """Keep what a case gave, in place of what it gave before."""
    figures = read(name)
    figures[case] = {
        "when": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
        "revision": output(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]),
        "command": command,
        "machine": machine,
        "results": [result._asdict() for result in results],
    }
    FIGURES.mkdir(parents=True, exist_ok=True)
    path(name).write_text(json.dumps(figures, indent=1) + "\n")


def results(figures: Figures, case: str) -> list[Result]:
    """What was measured of a case."""
    return [Result(**each) for each in figures.get(case, {"results": []})["results"]]


def this_machine() -> dict[str, str]:
    """On what it was measured."""
    cpus = re.findall(r"(?m)^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text())
    memory = int(Path("/proc/meminfo").read_text().split()[1]) // 1024**2
    return {"cpu": f"{len(cpus)} x {cpus[0]}", "memory": f"{memory} GB", "kernel": os.uname().release}

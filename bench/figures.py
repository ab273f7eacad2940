"""What the bench makes of its measurements: pure functions, so that a unit test can check each of them."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

RECAP = re.compile(r"(?m)^(\S+) +: ok=(\d+) +changed=(\d+) +unreachable=(\d+) +failed=(\d+) ")
TASK = re.compile(r"^(?:TASK|RUNNING HANDLER) \[")
# one line for each ssh or sftp process that Ansible starts with -vvv
EXEC = re.compile(r"^<([^>]+)> SSH: EXEC ")


@dataclass(frozen=True)
class Sample:
    """One measured run: `kind` is what was done, `cpu` that of the control node alone.

    `side` is fleet, the other side that it is measured against (plain, or the revision of an older role), or floor.
    """

    side: str
    kind: str
    hosts: int
    seconds: float
    cpu: float


@dataclass(frozen=True)
class Line:
    """seconds = fixed + slope * hosts, and which part of the variance that explains (1: all of it)."""

    fixed: float
    slope: float
    explained: float

    def at(self, hosts: int) -> float:
        """What a run on so many hosts takes by this line."""
        return self.fixed + self.slope * hosts


@dataclass(frozen=True)
class Trips:
    """Per host: how many tasks reached it, and how many ssh or sftp processes that took."""

    tasks: float
    processes: float


def fit(points: Iterable[tuple[int, float]]) -> Line:
    """The line with the least squares through (hosts, seconds)."""
    xs, ys = zip(*points, strict=True)
    slope, fixed = statistics.linear_regression(xs, ys)
    mean = statistics.fmean(ys)
    total = sum((y - mean) ** 2 for y in ys)
    left = sum((y - fixed - slope * x) ** 2 for x, y in zip(xs, ys, strict=True))
    return Line(fixed, slope, 1 - left / total if total else 1.0)


def recap(output: str) -> dict[str, tuple[int, bool]]:
    """Each host of a playbook's recap: how many tasks changed something, and whether all went well."""
    return {
        host: (int(changed), unreachable == failed == "0")
        for host, _ok, changed, unreachable, failed in RECAP.findall(output)
    }


def trips(output: str) -> Trips:
    """Count round trips in the output of a playbook run with -vvv."""
    task = 0
    reached: set[tuple[int, str]] = set()
    processes: list[str] = []
    for line in output.splitlines():
        if TASK.match(line):
            task += 1
        elif found := EXEC.match(line):
            reached.add((task, found[1]))
            processes.append(found[1])
    hosts = len(set(processes))
    if not hosts:
        return Trips(0.0, 0.0)
    return Trips(len(reached) / hosts, len(processes) / hosts)


def of(samples: Iterable[Sample], side: str, kind: str, hosts: int | None = None) -> list[Sample]:
    """The samples of one side and kind, in the order in which they were taken."""
    return [s for s in samples if (s.side, s.kind) == (side, kind) and hosts in (None, s.hosts)]


def other(samples: Iterable[Sample]) -> str:
    """The side that fleet was measured against."""
    return next((s.side for s in samples if s.side not in ("fleet", "floor")), "plain")


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Median and, of more than one value, the smallest and the largest."""
    middle = f"{statistics.median(values):.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def ratios(samples: Sequence[Sample], kind: str, hosts: int) -> list[float]:
    """fleet / the other side, pair by pair: the two that ran one after the other."""
    pairs = zip(of(samples, "fleet", kind, hosts), of(samples, other(samples), kind, hosts), strict=False)
    return [fleet.seconds / against.seconds for fleet, against in pairs]


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def times_table(samples: Sequence[Sample], kinds: Sequence[str]) -> str:
    """Seconds of each run, side by side."""
    rows, second = [], other(samples)
    for kind in kinds:
        for hosts in sorted({s.hosts for s in samples if s.kind == kind}):
            fleet, against = of(samples, "fleet", kind, hosts), of(samples, second, kind, hosts)
            floor = of(samples, "floor", "ssh true", hosts)
            if fleet and against:
                cpu = [f"{statistics.median(s.cpu for s in each):.1f}" for each in (fleet, against)]
                rows.append(
                    [
                        kind,
                        str(hosts),
                        spread([s.seconds for s in fleet]),
                        spread([s.seconds for s in against]),
                        spread(ratios(samples, kind, hosts), 2),
                        " / ".join(cpu),
                        spread([s.seconds for s in floor]) if floor else "",
                    ]
                )
    head = ["run", "hosts", "Flask Fleet, s", f"{second}, s", "ratio", "CPU of the control node, s", "floor, s"]
    return markdown(head, rows)


def lines_table(samples: Sequence[Sample], kinds: Sequence[str]) -> str:
    """How each run grows with the hosts, where it was measured on more than two sizes."""
    rows = []
    for side, kind in [*((s, k) for k in kinds for s in ("fleet", other(samples))), ("floor", "ssh true")]:
        chosen = of(samples, side, kind)
        if len({s.hosts for s in chosen}) < 3:
            continue
        wall = fit((s.hosts, s.seconds) for s in chosen)
        cpu = fit((s.hosts, s.cpu) for s in chosen)
        rows.append(
            [
                kind,
                side,
                f"{wall.fixed:.1f} + {wall.slope:.2f} N",
                f"{wall.explained:.3f}",
                f"{cpu.fixed:.1f} + {cpu.slope:.2f} N",
                f"{wall.at(1000) / 60:.1f} min",
                f"{cpu.at(1000) / 60:.1f} min",
            ]
        )
    head = ["run", "side", "seconds", "R²", "CPU of the control node, s", "1,000 hosts", "CPU of that"]
    return markdown(head, rows)


def trips_table(counted: Iterable[tuple[str, str, Trips]]) -> str:
    """Round trips per host of each (side, kind)."""
    rows = [[kind, side, f"{t.tasks:.1f}", f"{t.processes:.1f}"] for side, kind, t in counted]
    return markdown(["run", "side", "tasks that reach a host", "ssh and sftp processes"], rows)

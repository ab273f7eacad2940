"""What `make bench` measures: the cases, and how what a tool says is read. Pure functions."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SECONDS = 4
UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60000.0}


@dataclass(frozen=True)
class Case:
    """One comparison: what is asked, with which tool, and the ratio that is wanted."""

    name: str
    title: str
    tool: str
    path: str
    clients: int
    figure: str  # what is compared
    goal: float | None  # of the ratio role / the other side; of errors where there is none
    sides: tuple[str, ...] = ("seed", "role")
    against: str = "seed"
    inside: bool = False  # asked from the host itself: Gunicorn listens on its loopback alone

    @property
    def paced(self) -> bool:
        """Whether a load is offered, and not as much asked as is answered."""
        return self.tool == "paced"

    @property
    def less_is_better(self) -> bool:
        """Whether the ratio is not to exceed the goal."""
        return self.figure in ("p50", "p99", "errors")

    def argv(self, address: str, port: int, rate: float) -> list[str]:
        """The command."""
        if self.tool == "wrk":
            threads = 2 if self.clients > 64 else 1
            url = f"http://{address}:{port}{self.path}"
            return ["wrk", f"-t{threads}", f"-c{self.clients}", f"-d{SECONDS}s", "--latency", url]
        program = ["python3", "-", address, str(port)]
        if self.tool == "slow":
            return [*program, "--clients", str(self.clients)]
        return [*program, self.path, "--rate", f"{rate:g}", "--clients", str(self.clients)]


CASES = (
    Case("hello", "hello through nginx, 64 clients", "wrk", "/", 64, "rate", 1.8),
    Case(
        "io",
        "JSON after 20 ms of waiting, 64 clients; against Gunicorn itself",
        "wrk",
        "/json",
        64,
        "rate",
        0.94,
        ("seed", "role", "bare"),
        "bare",
        True,
    ),
    Case("static", "a static file of 4 KB, 64 clients", "wrk", "/static/4k.css", 64, "rate", 1.0),
    Case("paced", "99 % of hello within, at the same offered load, 64 clients", "paced", "/", 64, "p99", 1.0),
    Case("thousand", "1,000 clients, 100 ms each", "wrk", "/wait", 1000, "rate", None),
    Case("slow", "200 slow clients, and others meanwhile", "slow", "/", 200, "errors", None),
)


class Result(NamedTuple):
    """What one measurement of a case gave for a side: rate in requests a second, p50 and p99 in milliseconds."""

    case: str
    side: str
    round: int
    figures: dict[str, float]


def milliseconds(text: str) -> float:
    """A time as wrk prints it: 1.23ms."""
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s|m)", text).groups()  # type: ignore[union-attr]
    return float(number) * UNITS[unit]


def read_wrk(said: str) -> dict[str, float]:
    """What wrk says: answers a second that are 2xx or 3xx, p50, p99, and all that went wrong."""
    requests, seconds = re.search(r"(\d+) requests in ([\d.]+m?s)", said).groups()  # type: ignore[union-attr]
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    broken = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    bad = int(refused[1]) if refused else 0
    return {
        "rate": round((int(requests) - bad) / (milliseconds(seconds) / 1000), 1),
        **{f"p{percent}": milliseconds(re.search(rf"{percent}% +(\S+)", said)[1]) for percent in (50, 99)},  # type: ignore[index]
        "errors": bad + (sum(map(int, broken.groups())) if broken else 0),
    }


def read_paced(said: str) -> dict[str, float]:
    """What our own clients say, less the words for what went wrong."""
    return {name: value for name, value in json.loads(said).items() if name != "wrong"}


def of(results: Sequence[Result], side: str, figure: str) -> list[float]:
    """A figure of a side, round by round."""
    return [result.figures[figure] for result in sorted(results, key=lambda r: r.round) if result.side == side]


def ratios(results: Sequence[Result], side: str, against: str, figure: str) -> list[float]:
    """One side as a multiple of another, within each round."""
    pairs = zip(of(results, side, figure), of(results, against, figure), strict=True)
    return [mine / other for mine, other in pairs if other]


def ratio(results: Sequence[Result], side: str, against: str, figure: str) -> float | None:
    """The median of the ratios; none where nothing can be compared."""
    found = ratios(results, side, against, figure)
    return statistics.median(found) if found else None


def met(case: Case, results: Sequence[Result]) -> bool:
    """Whether a goal is reached: a ratio, and no error of the role's side anywhere."""
    if any(of(results, "role", "errors")):
        return False
    if case.goal is None:
        return True
    found = ratio(results, "role", case.against, case.figure)
    return found is not None and (found <= case.goal if case.less_is_better else found >= case.goal)

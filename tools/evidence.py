"""Read what a test run left behind: counts from JUnit files, and the part of a log that says why it failed."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

SHOWN = 70


@dataclass(frozen=True)
class Counts:
    """How many tests of a run passed, failed (or broke on the way), were skipped, and why."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: tuple[str, ...] = ()

    @property
    def collected(self) -> int:
        """How many tests there were."""
        return self.passed + self.failed + self.skipped

    def __add__(self, other: Counts) -> Counts:
        """Both runs as one; a reason that both have stands once."""
        reasons = tuple(dict.fromkeys([*self.reasons, *other.reasons]))
        return Counts(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped, reasons)

    def __str__(self) -> str:
        parts = [f"{self.passed} passed"]
        parts += [f"{self.failed} FAILED"] if self.failed else []
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        return ", ".join(parts)


def read_junit(path: Path) -> Counts:
    """The counts of a JUnit file; none at all when a run ended before it wrote one."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))  # nosec B314: written here
    except (OSError, ElementTree.ParseError):
        return Counts()
    kinds: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    for case in cases:
        skipped = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            kinds["failed"] += 1
        elif skipped is not None:
            kinds["skipped"] += 1
            reasons[skipped.get("message") or "no reason given"] += 1
        else:
            kinds["passed"] += 1
    why = tuple(f"{number} x {reason}" for reason, number in reasons.most_common())
    return Counts(kinds["passed"], kinds["failed"], kinds["skipped"], why)


def why_playbook_failed(log: str) -> str | None:
    """From the first failure to the recap of a playbook's output, headed by its task; None when nothing failed."""
    lines = log.splitlines()
    failed = re.compile(r"fatal: \[|failed: \[|\[?ERROR\]?[: ]")
    for number, line in enumerate(lines):
        # a failure that the play itself deals with is followed by "...ignoring" and is none
        if failed.match(line) and not any(after.startswith("...ignoring") for after in lines[number : number + 60]):
            task = [before for before in lines[:number] if before.startswith(("TASK [", "RUNNING HANDLER ["))][-1:]
            rest = "\n".join(lines[number:]).partition("\nPLAY RECAP")[0].splitlines()
            return "\n".join([*task, *rest[:SHOWN]])
    return None


def cut(lines: list[str], most: int) -> list[str]:
    """The lines, without those in the middle when they are many: a failure is named first and its cause comes last."""
    if len(lines) <= most:
        return lines
    head = most // 3
    left = len(lines) - most
    return [*lines[:head], f"... {left} more lines in the log ...", *lines[head + left :]]


def why_tests_failed(log: str) -> str | None:
    """Each failure of a pytest run, cut, and a line for each in its summary; None when it reports none."""
    found = re.search(r"= (?:FAILURES|ERRORS) =+\n", log)
    if not found:
        return None
    lines = log[found.end() :].splitlines()
    summary = next((number for number, line in enumerate(lines) if "short test summary info" in line), len(lines))
    heads = [number for number, line in enumerate(lines[:summary]) if re.match(r"_+ .+ _+$", line)] or [0]
    failures = [lines[head:end] for head, end in zip(heads, [*heads[1:], summary], strict=True)]
    shown = [line for failure in failures for line in cut(failure, max(SHOWN // 3, 2 * SHOWN // len(failures)))]
    # a message of many lines goes on below its own
    told = [line for line in lines[summary:] if re.match(r"(?:FAILED|ERROR) |=+ .* in [\d.]+s.* =+$", line)]
    return "\n".join([*cut(shown, 4 * SHOWN), *told[:SHOWN]])


def why_failed(log: str) -> str:
    """The part of any log that matters most; its end where nothing stands out."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    return why_tests_failed(plain) or why_playbook_failed(plain) or "\n".join(plain.splitlines()[-SHOWN // 2 :])

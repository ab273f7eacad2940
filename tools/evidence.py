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

    def __str__(self) -> str:
        parts = [f"{self.passed} passed"]
        parts += [f"{self.failed} FAILED"] if self.failed else []
        parts += [f"{self.skipped} skipped"] if self.skipped else []
        return ", ".join(parts)


def read_junit(path: Path) -> Counts:
    """The counts of a JUnit file; none at all when a run ended before it wrote one."""
    try:
        cases = list(ElementTree.parse(path).iter("testcase"))
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


def why_tests_failed(log: str) -> str | None:
    """The failures of a pytest run and its summary, cut in the middle when long; None when it reports none."""
    _, failures, rest = log.partition("= FAILURES =")
    if not failures:
        _, failures, rest = log.partition("= ERRORS =")
    if not failures:
        return None
    lines = rest.splitlines()[1:]
    summary = next((number for number, line in enumerate(lines) if "short test summary info" in line), len(lines))
    ends = [number for number, line in enumerate(lines) if re.match(r"=+ .* in [\d.]+s.* =+$", line)]
    shown = lines[:summary][:SHOWN]
    if summary > SHOWN:
        shown.append(f"... {summary - SHOWN} more lines in the log ...")
    return "\n".join([*shown, *lines[summary : (ends[-1] + 1) if ends else None][:SHOWN]])


def why_failed(log: str) -> str:
    """The part of any log that matters most; its end where nothing stands out."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", log)
    return why_tests_failed(plain) or why_playbook_failed(plain) or "\n".join(plain.splitlines()[-SHOWN // 2 :])

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How the hosts of a fleet stand: after a rollout, and when somebody looks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# what a task may have registered of a host; a fact of another app of the same play is told by its `app`
FACTS = ("contact", "status", "locked", "installed", "staged", "proxied", "switched", "failed", "reverted")

SEEN = (
    *("current", "previous", "workers", "certificate_days", "restart_pending", "drift", "failed_units"),
    *("drained", "maintenance", "lease", "since", "units", "processes", "lacks", "ignored", "traffic"),
)

# by the goal of a rollout: the fact that told at the first contact which release serves, and what is said of a host
FIRST = {"activate": "contact", "rollback": "status"}
ENDED = {"activate": "released", "rollback": "rolled back"}

HEAD, TAIL = 12, 18  # lines of a reason that a table shows, of one that has more; a report for programs has all

Row = dict[str, Any]
Known = Mapping[str, Mapping[str, Any]]


def standing(hostvars: Mapping[str, Any], facts: Mapping[str, str], app: str) -> Known:
    """Return what is known of a host, by what it is called here; {} for what is not."""
    found: dict[str, Mapping[str, Any]] = {}
    for name in FACTS:
        fact = hostvars.get(facts[name], {}) if name in facts else {}
        usable = isinstance(fact, Mapping) and not fact.get("skipped") and fact.get("app", app) == app
        found[name] = fact if usable else {}
    return found


def moved(known: Known) -> bool:
    """Tell whether a host has switched; flaskctl itself undoes what fails, and may have nothing to do."""
    switched = known["switched"]
    ended = bool(switched.get("changed")) and not switched.get("failed")
    return ended and switched.get("id") == known["staged"].get("id")


def row(host: str, here: bool, known: Known, goal: str) -> Row:
    """Return one line of the report."""
    staged, failed = known["staged"], known["failed"]
    switched = known["switched"] if moved(known) else {}
    # where staging failed, nothing of what serves has changed since the first contact
    before = staged.get("current", known[FIRST[goal]].get("current"))
    new, seconds, reason = staged.get("id"), switched.get("seconds"), failed.get("reason", "")
    after, step = before, failed.get("step", "")
    if known["contact"].get("unreachable") or known["status"].get("unreachable"):
        result, after, reason = "down", None, ""
    elif not here:
        result, after, reason = "lost", None, "it stopped answering"
    elif known["reverted"].get("failed"):
        result, after = "not reverted", new if switched else before
        reason = "\n\n".join(filter(None, [reason, known["reverted"].get("reason", "")]))
    elif before and switched and known["reverted"].get("id") == before:
        result = "reverted"
    elif failed:
        result, after = "failed", new if switched else before
    elif switched:
        result, after = ENDED[goal] if new != before else "put right", new
    elif not staged:
        result = "not reached"
    elif new == before:
        result = "unchanged"
    else:
        result = "staged"
    return {
        "host": host,
        "before": before,
        "after": after,
        "result": result,
        "seconds": seconds,
        "step": step,
        "reason": reason,
    }


def listed(hosts: Iterable[str], most: int = 5) -> str:
    """Return names for a sentence: a fleet's would fill the screen."""
    names = list(hosts)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of words as lines with columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def shortened(reason: str) -> str:
    """Return a reason for a screen: of a long one its begin, which names it, and its end, which tells most."""
    lines = reason.strip().splitlines()
    left = len(lines) - HEAD - TAIL
    return "\n".join(lines if left < 2 else [*lines[:HEAD], f"... {left} more lines ...", *lines[-TAIL:]])


def table(rows: Sequence[Row]) -> str:
    """Return the report for people: a line a host, then each reason once with the hosts that gave it."""
    head = ("host", "before", "after", "result", "seconds")
    lines = aligned([head, *(tuple(cell(line[key]) for key in head) for line in rows)])
    reasons: dict[str, list[str]] = {}
    for line in rows:
        if line["reason"]:
            reasons.setdefault(f"{line['step']}\n\n{shortened(line['reason'])}".strip(), []).append(line["host"])
    lines += [f"\n{listed(hosts)}: {reason}" for reason, hosts in reasons.items()]
    return "\n".join(lines)


def seen(host: str, here: bool, known: Known) -> Row:
    """Return one line of the status: what a host says of itself, or why it says nothing."""
    status, failed = known["status"], known["failed"]
    if status.get("unreachable") or not here:
        return {"host": host, "serving": None, "problems": ["it does not answer"]}
    if failed or not status:
        return {"host": host, "serving": None, "problems": [failed.get("reason") or "it was not asked"]}
    line = {name: status.get(name) for name in SEEN}
    return {"host": host, "serving": ", ".join(status["active"]) or None, **line, "problems": list(status["problems"])}


def fleet_status(
    hostvars: Mapping[str, Mapping[str, Any]],
    app: str,
    hosts: Sequence[str],
    here: Sequence[str],
    facts: Mapping[str, str],
) -> dict[str, Any]:
    """Return how the fleet stands: the lines, a table, and whether all hosts serve one release without a problem."""
    rows = [seen(host, host in here, standing(hostvars[host], facts, app)) for host in hosts]
    wrong = [f"{line['host']}: {problem}" for line in rows for problem in line["problems"]]
    releases: dict[Any, list[str]] = {}
    for line in rows:
        if line["serving"]:
            releases.setdefault(line["serving"], []).append(line["host"])
    if len(releases) > 1:
        wrong.insert(
            0, "the hosts serve different releases: " + "; ".join(f"{i} on {listed(n)}" for i, n in releases.items())
        )
    head = ("host", "serving", "current", "workers", "certificate_days", "restart_pending", "drift", "failed_units")
    cells = [tuple(name.replace("_", " ") for name in head)]
    cells += [tuple(cell(line.get(name)) for name in head) for line in rows]
    agrees = not wrong and len(releases) == 1
    return {"agrees": agrees, "wrong": wrong, "hosts": rows, "table": "\n".join([*aligned(cells), "", *wrong]).rstrip()}


def cell(value: Any) -> str:
    """Return a value for a table: of a list only how long it is, the words stand below."""
    if isinstance(value, (list, tuple)):
        return str(len(value)) if value else "-"
    return "-" if value in (None, "") else str(value)

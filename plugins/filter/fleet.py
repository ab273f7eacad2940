# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a rollout decides: who switches when, whether it goes on, and what is told of it."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: How the hosts of a rollout stand, and whether it may go on
description:
  - Reads what the tasks of the role C(flaskfleet.web.flask_gunicorn_nginx) have registered of every host of a play, and
    returns what the whole fleet has to know, who switches in which batch, what stops the rollout, and the report.
  - Evaluated once for all hosts (C(run_once)), because it looks at every host.
positional: app, hosts, here
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  app:
    description: The name of the app.
    type: str
    required: true
  hosts:
    description: All hosts of the play, C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
  here:
    description: Those that have not been lost, C(ansible_play_hosts).
    type: list
    elements: str
    required: true
  batches:
    description: Sizes of the batches, as C(serial) of a play takes them. The last one repeats.
    type: list
    elements: raw
    default: ["100%"]
  max_unreachable:
    description: How many hosts may be down at the first contact.
    type: int
    default: 0
  agree:
    description: Whether all hosts must go to the same release.
    type: bool
    default: false
  deploy:
    description: Whether hosts on which nothing is to be switched are in no batch.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Look how every host stands
  ansible.builtin.set_fact:
    __fleet: "{{ hostvars | flaskfleet.web.fleet('hello', ansible_play_hosts_all, ansible_play_hosts) }}"
  run_once: true
"""

RETURN = r"""
_value:
  description: How the fleet stands.
  type: dict
  contains:
    stop:
      description: Why the rollout must not go on; empty when it may.
      type: str
    first:
      description: The first of the hosts, which migrates for all; empty when the rollout must not go on.
      type: str
    batches:
      description: The hosts, batch by batch; none when the rollout must not go on.
      type: list
      elements: list
    rows:
      description: For each host its name, the release before and after, result, seconds and reason.
      type: list
      elements: dict
    released:
      description: Whether any host has switched.
      type: bool
    switched:
      description: The hosts that have switched, and could go back.
      type: list
      elements: str
    table:
      description: The rows as a table, and after it each reason once.
      type: str
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

PREFIX = "__flask_gunicorn_nginx_"
# what the tasks register; a fact of another app of the same play is told by its `app`
KEPT = ("contact", "status", "staged", "installed", "activated", "failed", "reverted", "unreverted")

SEEN = (
    *("current", "previous", "workers", "certificate_days", "restart_pending", "drift", "failed_units"),
    *("drained", "maintenance", "lease", "since"),
)

Row = dict[str, Any]


def share(size: Any, count: int) -> int:
    """Return a batch size in hosts, as `serial` reads it: a share is rounded down, and at least one."""
    if isinstance(size, str) and size.endswith("%"):
        return int(float(size[:-1]) / 100 * count) or 1
    return int(size)


def in_batches(hosts: Sequence[str], sizes: Sequence[Any]) -> list[list[str]]:
    """Return the hosts in batches. Sizes are taken one after the other, and the last one repeats."""
    found: list[list[str]] = []
    left = list(hosts)
    while left:
        size = share(sizes[min(len(found), len(sizes) - 1)], len(hosts)) if sizes else len(hosts)
        size = size if size > 0 else len(left)
        found.append(left[:size])
        left = left[size:]
    return found


def standing(facts: Mapping[str, Any], app: str) -> dict[str, dict[str, Any]]:
    """Return what is known of a host in this rollout, by the tails of the names; {} for what is not."""
    found: dict[str, dict[str, Any]] = {}
    for tail in KEPT:
        fact = facts.get(PREFIX + tail, {})
        usable = isinstance(fact, Mapping) and not fact.get("skipped") and fact.get("app", app) == app
        found[tail] = dict(fact) if usable else {}
    switched = found["activated"]
    if switched.get("id") != found["staged"].get("id") or not switched.get("changed") or switched.get("failed"):
        found["activated"] = {}  # of an earlier rollout, nothing to do, or undone by flaskctl itself
    return found


def row(host: str, here: bool, known: Mapping[str, Mapping[str, Any]]) -> Row:
    """Return one line of the report."""
    staged, switched, failed = known["staged"], known["activated"], known["failed"]
    before = staged.get("current")
    new, seconds, reason = staged.get("id"), switched.get("seconds"), failed.get("reason", "")
    after, step = before, failed.get("step", "")
    if known["contact"].get("unreachable") or known["status"].get("unreachable"):
        result, after, reason = "down", None, ""
    elif not here:
        result, after, reason = "lost", None, "it stopped answering"
    elif known["unreverted"]:
        result, after = "not reverted", new if switched else before
        reason = "\n\n".join(filter(None, [reason, known["unreverted"].get("reason", "")]))
    elif before and switched and known["reverted"].get("id") == before:
        result = "reverted"
    elif failed:
        result, after = "failed", new if switched else before
    elif switched:
        result, after = "released", new
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


def why_stop(rows: Sequence[Row], known: Mapping[str, Any], max_unreachable: int, agree: bool) -> str:
    """Return what stops the rollout, in a sentence, or nothing."""
    down = [line["host"] for line in rows if line["result"] == "down"]
    lost = [line["host"] for line in rows if line["result"] == "lost"]
    failed = [line["host"] for line in rows if line["step"]]
    ids = {host: found["staged"].get("id") for host, found in known.items() if found["staged"]}
    strangers = [line["host"] for line in rows if line["result"] == "not reached"]
    found = []
    if failed:
        found.append(f"{listed(failed)} failed")
    if lost:
        found.append(f"{listed(lost)} stopped answering")
    if len(down) > max_unreachable or (down and len(down) == len(rows)):
        found.append(
            f"{listed(down)} did not answer (flask_gunicorn_nginx_rollout.max_unreachable is {max_unreachable})"
        )
    if ids and strangers:
        found.append(f"{listed(strangers)} staged nothing (all hosts of a play have one flask_gunicorn_nginx_name)")
    if agree and len(set(ids.values())) > 1:
        found.append(
            "the hosts would not go to the same release: "
            + ", ".join(f"{host} to {release}" for host, release in ids.items())
            + ". Name one with -e release=ID"
        )
    return "; ".join(found)


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of words as lines with columns."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def table(rows: Sequence[Row]) -> str:
    """Return the report for people: a line a host, then each reason once with the hosts that gave it."""
    head = ("host", "before", "after", "result", "seconds")
    lines = aligned([head, *(tuple(cell(line[key]) for key in head) for line in rows)])
    reasons: dict[str, list[str]] = {}
    for line in rows:
        if line["reason"]:
            reasons.setdefault(f"{line['step']}\n\n{line['reason'].strip()}".strip(), []).append(line["host"])
    lines += [f"\n{listed(hosts)}: {reason}" for reason, hosts in reasons.items()]
    return "\n".join(lines)


def settled(known: Mapping[str, Mapping[str, Any]]) -> bool:
    """Tell whether there is nothing to switch: the release serves, and the site is to stay as it is."""
    nginx = known["contact"].get("services", {}).get("nginx.service", {})
    stays = nginx.get("active") and nginx.get("enabled") and known["installed"].get("preview_changed") is False
    return bool(stays and known["staged"].get("verified"))


def fleet(
    hostvars: Mapping[str, Mapping[str, Any]],
    app: str,
    hosts: Sequence[str],
    here: Sequence[str],
    batches: Sequence[Any] = ("100%",),
    max_unreachable: int = 0,
    agree: bool = False,
    deploy: bool = False,
) -> dict[str, Any]:
    """Return how the fleet stands; see the documentation of the filter."""
    known = {host: standing(hostvars[host], app) for host in hosts}
    rows = [row(host, host in here, known[host]) for host in hosts]
    stop = why_stop(rows, known, int(max_unreachable), agree)
    active = [line["host"] for line in rows if line["result"] not in ("down", "lost")]
    return {
        "stop": stop,
        "first": "" if stop or not active else active[0],
        "batches": [] if stop else in_batches([h for h in active if not (deploy and settled(known[h]))], batches),
        "rows": rows,
        "released": any(found["activated"] for found in known.values()),
        "switched": [host for host, found in known.items() if found["activated"] and found["staged"].get("current")],
        "table": table(rows),
    }


def seen(host: str, here: bool, known: Mapping[str, Mapping[str, Any]]) -> Row:
    """Return one line of the status: what a host says of itself, or why it says nothing."""
    status, failed = known["status"], known["failed"]
    if status.get("unreachable") or not here:
        return {"host": host, "serving": None, "problems": ["it does not answer"]}
    if failed or not status:
        return {"host": host, "serving": None, "problems": [failed.get("reason") or "it was not asked"]}
    line = {name: status.get(name) for name in SEEN}
    return {"host": host, "serving": ", ".join(status["active"]) or None, **line, "problems": list(status["problems"])}


def fleet_status(
    hostvars: Mapping[str, Mapping[str, Any]], app: str, hosts: Sequence[str], here: Sequence[str]
) -> dict[str, Any]:
    """Return how the fleet stands: the lines, a table, and whether all hosts serve one release without a problem."""
    rows = [seen(host, host in here, standing(hostvars[host], app)) for host in hosts]
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


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"fleet": fleet, "fleet_status": fleet_status}

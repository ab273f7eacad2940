# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a rollout does next: whether it goes on, who switches when, and what each host is to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.flaskfleet.web.plugins.lookup.holder import taken_over
from ansible_collections.flaskfleet.web.plugins.plugin_utils.fleet import (
    Known,
    Row,
    listed,
    moved,
    row,
    standing,
    table,
)

Json = dict[str, Any]


# which hosts, and whether at all


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


def why_stop(rows: Sequence[Row], known: Mapping[str, Known], max_unreachable: int, one_release: bool) -> str:
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
    if one_release and len(set(ids.values())) > 1:
        found.append(
            "the hosts would not go to the same release: "
            + ", ".join(f"{host} to {release}" for host, release in ids.items())
            + ". Name one with -e release=ID"
        )
    return "; ".join(found)


# what one host is to do


def site_stays(known: Known) -> bool:
    """Tell whether nginx runs, now and at boot, and its site is to stay as it is."""
    nginx = known["contact"].get("services", {}).get("nginx.service", {})
    stays = nginx.get("active") and nginx.get("enabled") and known["installed"].get("preview_changed") is False
    return bool(stays)


def changes_socket(known: Known) -> bool:
    """Tell whether the app has another socket than it is to have: it moves while it serves."""
    return bool(known["staged"].get("current") and known["staged"].get("socket", {}).get("former"))


def up_to_date(known: Known) -> bool:
    """Tell whether there is nothing to switch: the release serves, through the site as it is to be."""
    due = known["staged"].get("certificate") in FETCHED
    return site_stays(known) and bool(known["staged"].get("verified")) and not due and not changes_socket(known)


def is_new(known: Known, goal: str) -> bool:
    """Tell whether the host gets a release that it does not serve yet."""
    return goal == "activate" and known["staged"].get("id") != known["staged"].get("current")


# what flaskctl says of a certificate, where its command `certificate` has something to do
FETCHED = ("due", "new")


def turn(known: Known, goal: str, canary: bool, check: bool, migrates: bool) -> Json:
    """Return what a host does in its turn.

    The site comes before the release: flaskctl asks through nginx, and it asks as the new site is asked. A rollback has
    the hooks around a batch; what is of a release goes with a new one. A migration comes last, for a hook may be what
    saves the database; where it fails, the host does not switch. A certificate is fetched when the site stands, for the
    directory looks at it, and before a load balancer takes the host in again. Where the app gets another socket, what
    serves has to hear there before nginx asks there.
    """
    new = is_new(known, goal)
    release = [*(["pre_release"] if new else []), *(["migrate"] if new and migrates and not check else [])]
    site = goal == "activate" and not site_stays(known)
    heard = ["listen"] if goal == "activate" and changes_socket(known) and not check else []
    fetched = ["certificate"] if known["staged"].get("certificate") in FETCHED else []
    # what check mode did not stage, flaskctl could not find
    there = goal == "rollback" or known["staged"].get("staged") or not check
    return {
        "before": ["before_batch", *heard, *(["proxy"] if site else []), *release],
        "do": goal if there else "",
        "release": known["staged"].get("id"),
        "after": [*fetched, *(["post_release"] if new else []), "after_batch", *(["bake"] if canary else [])],
        "canary": canary,
    }


NO_TURN: Json = {"before": [], "do": "", "release": None, "after": [], "canary": False}


def files_before(done: Mapping[str, Any], stays: Sequence[str]) -> list[Json]:
    """Return what `config_files` found and replaced. A file that was not there before (it has a state) stays."""
    return [entry for entry in done.get("undo", []) if "state" not in entry and entry["path"] not in stays]


def undo(known: Known, goal: str, stays: Sequence[str]) -> Json:
    """Return what a host has to put back, nothing where that is nothing.

    After a first deploy there is no release to go back to. Where only files go back, flaskctl asks whether it still
    answers.
    """
    current = known["staged"].get("current") or ""
    units = files_before(known["installed"], stays) if goal == "activate" else []
    site = files_before(known["proxied"], ()) if goal == "activate" else []
    # what was only put right stays so
    release = current if moved(known) and current != known["staged"].get("id") else ""
    if not (units or site or release):
        return {}
    return {"units": units, "site": site, "release": release, "verify": bool(current and not release)}


def ending(known: Known, me: Mapping[str, Any], prune: bool, check: bool) -> Json:
    """Return what is left to do at the end: to end the lease, where it is this run's to end, and to prune.

    A host has a lease where something was staged, or started again. The lease of somebody else stays, and its releases.
    """
    leases = (known[name].get("lease") for name in ("locked", "switched", "staged"))
    lease: Mapping[str, Any] = next((found for found in leases if found), {})
    dead = taken_over(lease, me) if lease else ""
    ours = bool(lease) and not check and lease.get("id") in (me["id"], dead)
    prune = prune and (ours or not lease)
    return {"prune": prune, "unlock": ours or prune, "holder": {**me, **({"takes_over": dead} if dead else {})}}


# the whole


def plan(
    hostvars: Mapping[str, Mapping[str, Any]],
    app: str,
    hosts: Sequence[str],
    here: Sequence[str],
    goal: str,
    facts: Mapping[str, str],
    me: Mapping[str, Any],
    rollout: Mapping[str, Any],
    batches: Sequence[Any] = ("100%",),
    migrates: bool = False,
    keep: int = 5,
    stays: Sequence[str] = (),
    check: bool = False,
) -> Json:
    """Return the plan; see the documentation of the filter."""
    known = {host: standing(hostvars[host], facts, app) for host in hosts}
    rows = [row(host, host in here, known[host], goal) for host in hosts]
    stop = why_stop(rows, known, int(rollout["max_unreachable"]), one_release=goal == "rollback")
    active = [line["host"] for line in rows if line["result"] not in ("down", "lost")]
    waiting = [host for host in active if goal == "rollback" or not up_to_date(known[host])]
    turns = [] if stop else in_batches(waiting, batches)
    # the first batch, where others are to follow, and where there is something to compare with
    watched = turns[0] if len(turns) > 1 and int(rollout["bake"]["seconds"]) > 0 and not check else []
    own_databases = migrates and rollout["migrate_on"] == "every"
    goes_back = bool(stop) and boolean(rollout["revert"], strict=False) and not check

    def of(host: str) -> Json:
        found, new = known[host], is_new(known[host], goal)
        canary = host in watched and new and found["staged"].get("current") is not None
        unused = bool(found["staged"].get("certificate_unused"))
        # with the releases that are too many goes the socket that the app has left
        too_many = len(found["staged"].get("releases", [])) > keep or unused or changes_socket(found)
        return {
            # for all, from the first host. Where that has the release, it was migrated for by the run that was cut
            "migrate": migrates and not own_databases and new and not stop and not check and host == active[0],
            **(turn(found, goal, canary, check, own_databases) if any(host in batch for batch in turns) else NO_TURN),
            "undo": undo(found, goal, stays) if goes_back else {},
            **ending(found, me, prune=goal == "activate" and not stop and too_many, check=check),
        }

    each = {host: of(host) for host in hosts}
    return {
        "go": not stop,
        "stop": stop,
        "batches": turns,
        # whether any host has anything to do, from the migration to the end of the lock
        "moves": bool(turns) or any(mine["migrate"] or mine["undo"] or mine["unlock"] for mine in each.values()),
        "hosts": each,
        "rows": rows,
        "table": table(rows),
        "tell": bool(stop) or (not check and any(moved(found) for found in known.values())),
    }

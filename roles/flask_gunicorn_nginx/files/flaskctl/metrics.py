"""The command metrics: an app in figures for a monitoring system, from what stands on the host. It only looks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flaskctl import Json
from flaskctl.app import App, apps
from flaskctl.bake import log_entries
from flaskctl.certificate_state import renewal_failed
from flaskctl.errors import Refused
from flaskctl.exposition import PREFIX, Sample, exposition, stub_status
from flaskctl.files import read_text, write
from flaskctl.host import Host, Units
from flaskctl.layout import WEB
from flaskctl.queues import accepted, queue
from flaskctl.status import own_units, status
from flaskctl.texts import moment
from flaskctl.traffic import traffic

RECENT_SECONDS = 300
HOW = {"activate": "activated", "rollback": "rolled back", "refuse": "refused"}  # by event of the audit log
# files of a control group: what is limited, by what it is called here
USED = {"memory_bytes": "memory.current", "memory_limit_bytes": "memory.max"}
USED.update({"tasks": "pids.current", "tasks_limit": "pids.max"})
COUNTED = {"oom_kills_total": ("memory.events", "oom_kill", 1), "cpu_seconds_total": ("cpu.stat", "usage_usec", 1e6)}
STATES = ("active", "reading", "writing", "waiting")  # of nginx's connections
TOTALS = {"accepts": "nginx_connections_accepted_total", "handled": "nginx_connections_handled_total"}
TOTALS["requests"] = "nginx_requests_total"


def metrics(app: App, textfile: Path | None = None) -> Json:
    """Return the figures of one app; with `textfile` they are put there whole, for node_exporter."""
    if textfile and textfile.suffix != ".prom":
        raise Refused(f"{textfile} does not end in .prom, and node_exporter reads no other file")
    if textfile and not textfile.parent.is_dir():
        raise Refused(f"there is no directory {textfile.parent}", remedy=f"mkdir -p {textfile.parent}")
    samples = list(measured(app))
    text = exposition(samples)
    changed = bool(textfile) and not app.dry
    if textfile and changed:
        write(textfile, text)
    return {**told(samples), "changed": changed, "msg": "" if changed else text.rstrip("\n")}


def all_metrics(host: Host, warnings: list[str]) -> Json:
    """Return the figures of all apps of this host; one of which nothing can be told is a warning."""
    samples: list[Sample] = []
    for name in apps(host):
        app = App(host, name, said="flaskctl metrics")
        app.warnings = warnings
        try:
            samples += measured(app)
        except Refused as error:
            warnings.append(f"{name}: {error.msg}" + (f"; {error.remedy}" if error.remedy else ""))
    return {**told(samples), "msg": exposition(samples).rstrip("\n")}


def told(samples: list[Sample]) -> Json:
    return {"metrics": [{"name": PREFIX + each.name, "labels": each.labels, "value": each.value} for each in samples]}


def measured(app: App) -> Iterator[Sample]:
    """Yield all that can be told of an app here."""
    answer, units = status(app), app.units()
    for name, labels, value in (
        *of_release(app, answer),
        *of_socket(app, answer, units),
        *of_units(app, answer["current"], units),
        *of_rollouts(app),
        *of_problems(app, answer),
        *of_traffic(app),
        *of_nginx(app),
    ):
        if value is not None:
            yield Sample(name, {"app": app.name, **labels}, float(value))


Found = Iterator["tuple[str, dict[str, str], float | None]"]


def of_release(app: App, answer: Json) -> Found:
    current = answer["current"]
    listens = answer["socket"]["active"] and not answer["socket"]["stale"]
    yield "up", {}, current in answer["active"] and listens
    yield "measured_timestamp_seconds", {}, app.host.now()
    if current:
        revision = str((app.manifest(current) or {}).get("revision") or "")
        yield "release_info", {"release": current, "revision": revision}, 1
    yield "release_activated_timestamp_seconds", {}, moment(answer["since"])
    yield "releases", {}, len(answer["releases"])
    yield "releases_running", {}, len(answer["processes"])
    yield "workers", {}, answer["workers"] if current in answer["active"] else 0


def of_socket(app: App, answer: Json, units: Units) -> Found:
    address = answer["address"]
    said = app.host.run(["ss", "-Hlntx"]).out if address else ""
    found = queue(said, address)
    if found:
        yield "socket_queue_connections", {}, found[0]
        yield "socket_queue_limit_connections", {}, found[1]
    if not address or not app.host.is_root():
        return  # whose connection it is only root may see
    tcp, unix = (read_text(app.at(f"/proc/net/{name}")) or "" for name in ("tcp", "unix"))
    there, busy, held = accepted(tcp, unix, address), 0, 0
    for release in answer["active"]:
        for pid in app.host.children(int(units.get(app.unit(release), {}).get("MainPID") or 0)):
            own = len(there & app.host.open_files(int(pid)))
            busy, held = busy + bool(own), held + own
    yield "workers_busy", {}, busy
    yield "connections", {}, held


def of_units(app: App, current: str | None, units: Units) -> Found:
    for unit in own_units(app, current):
        shown = units.get(unit, {})
        labels = {"process": WEB if unit == app.unit(str(current)) else unit[len(app.name) + 1 :].partition("@")[0]}
        restarts = shown.get("NRestarts", "")
        yield "unit_restarts_total", labels, int(restarts) if restarts.isdigit() else None
        group = shown.get("ControlGroup")
        for name, file in USED.items() if group else ():
            yield name, labels, whole(group_file(app, str(group), file).strip())
        for name, (file, key, unit_of) in COUNTED.items() if group else ():
            values = dict(line.split(" ", 1) for line in group_file(app, str(group), file).splitlines() if " " in line)
            found = whole(values.get(key, ""))
            yield name, labels, None if found is None else found / unit_of


def group_file(app: App, group: str, file: str) -> str:
    with contextlib.suppress(OSError):  # it ended
        return read_text(app.at(f"/sys/fs/cgroup{group}/{file}")) or ""
    return ""


def whole(text: str) -> int | None:
    """Return a number of the kernel's; none where there is no controller of that kind, and none without a limit."""
    return int(text) if text.isdigit() else None


def of_rollouts(app: App) -> Found:
    events = [event for event in app.events() if event.get("event") in HOW]
    for event, how in HOW.items() if events else ():
        yield "rollouts_total", {"result": how}, sum(each["event"] == event for each in events)
    if events:
        last = events[-1]
        good = last["event"] != "refuse" and not last.get("still")
        ended, began = moment(last.get("when")), moment(last.get("began"))
        yield "last_rollout_info", {"result": HOW[last["event"]], "release": str(last.get("release") or "")}, 1
        yield "last_rollout_success", {}, good
        yield "last_rollout_timestamp_seconds", {}, ended
        yield "last_rollout_duration_seconds", {}, max(0, ended - began) if ended and began else None


def of_problems(app: App, answer: Json) -> Found:
    yield "certificate_expiry_timestamp_seconds", {}, answer["certificate_ends"]
    yield "certificate_renewal_failed", {}, renewal_failed(app, app.settings())
    yield "problems", {}, len(answer["problems"])
    yield "drifted", {}, len(answer["drift"])
    pending = answer["restart_pending"]
    yield "restart_pending", {}, None if pending is None else len(pending)
    yield "maintenance", {}, answer["maintenance"]
    yield "drained", {}, answer["drained"]
    yield "lock_held", {}, bool(answer["lease"])
    yield "lock_seen_timestamp_seconds", {}, moment((answer["lease"] or {}).get("seen"))


def of_traffic(app: App) -> Found:
    now = app.host.now()
    try:
        found = traffic(log_entries(app, now - RECENT_SECONDS), now - RECENT_SECONDS, now + 1)
    except PermissionError:  # of who may not read nginx's log
        return
    yield "recent_requests", {}, found.requests
    yield "recent_errors", {}, found.errors
    yield "recent_p95_seconds", {}, found.p95


def of_nginx(app: App) -> Found:
    at, _, port = str(app.settings().get("nginx_status") or "").partition(":")
    if not at:
        return
    said = stub_status(app.host.http_get("http", int(port), "localhost", "/nginx_status", at).body)
    for state in STATES if said else ():
        yield "nginx_connections", {"state": state}, said[state]
    for key, name in TOTALS.items() if said else ():
        yield name, {}, said[key]

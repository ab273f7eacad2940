"""The commands that only look: status with drift and all that is wrong, and releases."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping

from flaskctl import Json
from flaskctl.app import App, apps
from flaskctl.bake import log_entries
from flaskctl.ceilings import EVENTS, FILES, ceilings_text, in_force, killed_of
from flaskctl.certificate_state import certificate_problems
from flaskctl.damage import find_damage
from flaskctl.errors import Refused
from flaskctl.files import as_noted, read_json, read_text
from flaskctl.host import Units, stopped
from flaskctl.instances import lacking, standbys
from flaskctl.lock import busy_message, lock_holder, lock_text
from flaskctl.plan import Release, State, plan_recovery
from flaskctl.release import parse_config
from flaskctl.sockets import is_free, reopen
from flaskctl.standing import Lack, complaints, lacks
from flaskctl.texts import moment, short_revision, table
from flaskctl.traffic import timeline
from flaskctl.verify import has_site

CERTIFICATE_DAYS = 7  # with less left `status` asks for a new one


TRAFFIC_SECONDS, TRAFFIC_STEP = 300, 10  # what is shown of the traffic before the last activation, and after it


QUIET_SECONDS = 3600  # after so long without a sign of life `status` asks whether a rollout is still there


def replaced(maps: str) -> set[str]:
    """Return the libraries and the Python of a process, from its /proc/PID/maps, that are others on the disk now."""
    return set(re.findall(r"(?m)^\S+ +\S+ +\S+ +\S+ +\S+ +(/.*(?:\.so(?:\.[\d.]+)?|/python[\d.]*)) \(deleted\)$", maps))


def ends_at(end_date: str) -> int | None:
    """Return when a certificate ends, from `openssl x509 -enddate`; None where that said nothing."""
    import ssl

    try:
        return int(ssl.cert_time_to_seconds(end_date.splitlines()[0].strip().partition("=")[2]))
    except (ValueError, IndexError):
        return None


def days_left(end_date: str, now: float) -> int | None:
    """Return for how many days a certificate is valid; None where openssl said nothing."""
    ends = ends_at(end_date)
    return None if ends is None else int((ends - now) // 86400)


def belongs(path: str, others: Iterable[str]) -> bool:
    """Whether a file that the role put in place is of this app, or of all: no other app has its name."""
    return re.split("[.@]", os.path.basename(path))[0] not in set(others)


def status(app: App, drift: bool = False, traffic: bool = False) -> Json:
    """Return where the host stands, and what is wrong; with `drift` each file of the release is read.

    With `traffic` what the app had to do before its last activation, and since.
    """
    settings, units = app.settings(), app.units("nginx.service")
    state, releases, holder = app.state(units), app.releases(), lock_holder(app)
    lacks = lacking(app, state.current, units) if state.current else []
    masters = [int(units.get(unit, {}).get("MainPID") or 0) for unit in own_units(app, state.current)]
    workers = app.host.children(masters[0]) if masters and masters[0] else set()
    answer: Json = {
        **app.where(state, units),
        "since": serves_since(app, state.current),
        "rollback": app.rollback_to(state, releases),
        "releases": [release.id for release in releases],
        "port": settings.get("port"),
        "address": app.address(app.socket),
        "interrupted": state.intent.as_json() if state.intent and holder is None else None,
        "locked": holder,
        "lease": read_json(app.rollout_file),
        "drained": app.drained_file.exists(),
        "maintenance": app.page_file.exists(),
        "workers": len(workers),
        "units": unit_states(app, state, units),
        "processes": {release: count_processes(app, release, units) for release in state.running},
        "lacks": [str(lack) for lack in lacks],
        "failed_units": sorted(unit for unit, shown in units.items() if shown.get("ActiveState") == "failed"),
        "restart_pending": restart_pending(app, [*filter(None, masters), *map(int, workers)]),
        **certificate_answer(app, settings),
        **ceilings_of(app, state.current, units),
        "drift": find_drift(app, state.current, units, drift),
        "traffic": around_activation(app) if traffic else None,
    }
    answer["ignored"] = ignored_lines(app, state, units)
    answer["problems"] = [
        *service_problems(app, state, answer),
        *unit_problems(app, state, answer, lacks),
        *(nginx_problems(app, units) if has_site(app, settings) else []),
        *certificate_problems(app, settings, answer["certificate_days"]),
        *other_problems(app, answer),
    ]
    return {**answer, "msg": status_text(app, answer, {release.id: release for release in releases})}


def serves_since(app: App, release: str | None) -> object:
    """Return when the release was activated last."""
    found = [event.get("when") for event in app.moves() if event.get("release") == release]
    return found[-1] if found and release else None


def around_activation(app: App) -> Json | None:
    """Return the requests of some minutes before the last activation and after it; none where nothing tells of them."""
    moves = app.moves()
    switched = moment(moves[-1].get("when")) if moves else None
    if switched is None:
        return None
    start = switched - TRAFFIC_SECONDS
    after = int(min(app.host.now() - switched, TRAFFIC_SECONDS) // TRAFFIC_STEP)
    with contextlib.suppress(PermissionError):  # of who may not read nginx's log
        found = timeline(log_entries(app, start), start, TRAFFIC_STEP, TRAFFIC_SECONDS // TRAFFIC_STEP + after)
        return {**found, "switched": switched}
    return None


def own_units(app: App, release: str | None) -> list[str]:
    """Return the services of a release, the web server first."""
    return [app.unit(release), *app.processes(release, ".service")] if release else []


def unit_states(app: App, state: State, units: Units) -> Json:
    """Return how each unit of the app stands that runs or ought to, by name."""
    wanted = [app.socket, *app.former, *own_units(app, state.current)] if state.current else []
    wanted += app.processes(state.current, ".timer") if state.current else []
    wanted += [app.metrics_timer] if state.current and app.metrics_timer in units else []
    there = (name for name, shown in units.items() if name != "nginx.service" and not stopped(shown))
    names = dict.fromkeys([*wanted, app.service, *sorted(there)])
    return {
        unit: {
            "state": units.get(unit, {}).get("ActiveState", "inactive"),
            "wanted": unit in wanted,
            **(
                {"enabled": units.get(unit, {}).get("UnitFileState") == "enabled"}
                if unit in (app.socket, *app.former, app.service)
                else {}
            ),
        }
        for unit in names
    }


def count_processes(app: App, release: str, units: Units) -> int:
    """Return how many processes a release has: of each of its services the main one and what that has forked."""
    pids = [int(units.get(unit, {}).get("MainPID") or 0) for unit in own_units(app, release)]
    return sum(1 + len(app.host.children(pid)) for pid in pids if pid)


def ceilings_of(app: App, release: str | None, units: Units) -> Json:
    """Return what the kernel holds the release that serves to, and how many processes that has cost it.

    From its control group; nothing where none runs.
    """
    group = units.get(app.unit(release), {}).get("ControlGroup") if release else ""
    found: dict[str, str | None] = {}
    for file in (*FILES.values(), EVENTS) if group else ():
        found[file] = None
        with contextlib.suppress(OSError):  # it ended
            found[file] = read_text(app.at(f"/sys/fs/cgroup{group}/{file}"))
    limits = in_force({name: found[file] for name, file in FILES.items()} if group else {})
    return {"ceilings": limits, "memory_kills": killed_of(found.get(EVENTS))}


def ignored_lines(app: App, state: State, units: Units) -> list[str]:
    """Return the lines of the app's unit files that systemd has ignored and that still stand so, in words."""
    written: list[str] = []
    for entry in app.host.complaints([app.socket, *unit_states(app, state, units)]):
        path, said = str(entry.get("CONFIG_FILE")), str(entry.get("MESSAGE"))
        with contextlib.suppress(OSError, ValueError):  # the file is gone, and its line with it
            if int(entry.get("__REALTIME_TIMESTAMP", 0)) >= app.at(path).stat().st_mtime * 1e6:
                written.append(said if said.startswith(path) else f"{path}:{entry.get('CONFIG_LINE')}: {said}")
    found = complaints("\n".join(dict.fromkeys(written)), app.host.systemd_version()) if written else []
    return [f"{each.file}, line {each.line}: {each.words}" for each in found]


def restart_pending(app: App, pids: Iterable[int]) -> list[str] | None:
    """Return the libraries that the processes have and an update has replaced; none for who may not see that."""
    if not app.host.is_root():
        return None
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended
            found |= replaced(app.at(f"/proc/{pid}/maps").read_bytes().decode("utf-8", "replace"))
    return sorted(found)


def certificate_answer(app: App, settings: Json) -> Json:
    """Return the days that the certificate has left, and whether nobody else has signed it."""
    path = settings.get("certificate")
    ours = bool(settings.get("acme") or settings.get("selfsigned"))  # with the key in it, which only root may read
    if not path or (ours and not app.host.is_root()):
        return {"certificate_days": None, "certificate_self_signed": None, "certificate_ends": None}
    words = ["-noout", "-enddate", "-subject", "-issuer"]
    done = app.host.run(["openssl", "x509", *words, "-in", str(app.at(path))])
    told = {name: value for name, _, value in (line.partition("=") for line in done.out.splitlines())}
    days = days_left(done.out, app.host.now())
    if days is None:
        app.warnings.append(f"the certificate {path} cannot be read: {done.err.strip()}")
    alone = "issuer" in told and told["issuer"] == told.get("subject")
    alone_told = None if days is None else alone
    return {"certificate_days": days, "certificate_self_signed": alone_told, "certificate_ends": ends_at(done.out)}


def find_drift(app: App, release: str | None, units: Units, whole: bool) -> list[str]:
    """Return what differs from what was deployed, in words; `whole`: the files of the release too, each is read."""
    found = recorded_drift(app)
    found += [f"{n}, not as systemd has read it" for n, u in units.items() if u.get("NeedDaemonReload") == "yes"]
    manifest = app.manifest(release) if whole else None
    if not release or not manifest:
        return found
    if not app.host.is_root():
        raise Refused("this reads what only root may", remedy=app.as_root(app.said))
    try:
        config = parse_config(read_text(app.releases_dir / release / "config.json") or "")
        damage, foreign = find_damage(app, release, manifest, config, app.host.python_version(config.python))
    except Refused as error:
        return [*found, error.msg]
    return [*found, *damage, *foreign]


def recorded_drift(app: App) -> list[str]:
    """Return what is not as the role noted it."""
    others = [name for name in apps(app.host) if name != app.name]
    found = []
    for name, wanted in sorted((read_json(app.record_file) or {}).items()):
        if name.startswith("user "):
            found += [name] if name == f"user {app.name}" and str(app.host.account(app.name)) != wanted else []
        elif name.startswith("/") and wanted != "directory":
            with contextlib.suppress(PermissionError):
                found += [name] if belongs(name, others) and not as_noted(app.at(name), wanted) else []
    return found


def service_problems(app: App, state: State, answer: Json) -> list[str]:
    """Return what is wrong with what serves: releases, restarts and the socket."""
    idle = answer["locked"] is None
    again = app.as_root(f"flaskctl {app.name} activate {state.current}")
    found = []
    if answer["interrupted"] and state.intent:
        undo = app.as_root(f"flaskctl {app.name} prune")
        found.append(f"the activation of {state.intent.to} was cut: {undo} finishes or undoes it")
    if state.current is None:
        last = plan_recovery(state, app.last_activated()).release
        remedy = app.as_root(f"flaskctl {app.name} activate {last}") + " puts it back" if last else ""
        found.append(f"there is no current release: {remedy or 'nothing was activated yet, run the playbook'}")
    elif state.current not in state.active:
        found.append(f"the current release does not run: {again}; {app.as_root(f'flaskctl {app.name} logs')} tells why")
    strays = ", ".join(release for release in state.running if release != state.current)
    if state.current and strays and idle and not state.intent:
        found.append(f"{strays} runs beside the current release: {again}")
    if standbys(app) and idle:
        found.append(f"a restart was cut: {app.as_root(f'flaskctl {app.name} restart')} ends it")
    if state.current and not (answer["socket"]["active"] and not answer["socket"]["stale"]):
        wrong = "does not listen where it should" if answer["socket"]["active"] else "is not active"
        cure = f"an outage of seconds opens it: {reopen(app, state)}" if state.running and not is_free(app) else again
        found.append(f"{app.socket} {wrong}, no release can start: {cure}")
    if state.current and app.former:
        found.append(f"{app.former[0]} is still there, of a move to {app.socket} that was cut: run the playbook")
    return found


def unit_problems(app: App, state: State, answer: Json, lacks: Iterable[Lack]) -> list[str]:
    """Return what is wrong with units: those that do not stand, and those that are not what was deployed."""
    again = app.as_root(f"flaskctl {app.name} activate {state.current}")
    told = {app.socket, app.unit(str(state.current)), "nginx.service"}
    quiet = answer["locked"] is not None and not answer["interrupted"]  # a flaskctl is at work: wait for its word
    found = [f"{lack}: {again}" for lack in lacks if not quiet and (lack.unit not in told or lack.verb != "start")]
    found += [f"{what} is not what was deployed: run the playbook" for what in answer["drift"]]
    for line in answer["ignored"]:
        cure = (
            "mend or remove that line, then systemctl daemon-reload"
            if ".d/" in line.split(",")[0]
            else ("correct flask_gunicorn_nginx_service_settings or _processes, and run the playbook")
        )
        found.append(f"systemd ignores {line}: {cure}")
    told |= {lack.unit for lack in lacks}
    for unit in (unit for unit in answer["failed_units"] if unit not in told):
        current = bool(state.current) and f"@{state.current}." in unit
        forget = app.as_root(f"systemctl {'start' if current else 'reset-failed'} {unit}")
        why = app.as_root(f"journalctl -u {unit}")
        found.append(f"{unit} has failed: {why} tells why, {forget} {'runs it again' if current else 'forgets it'}")
    return found


def nginx_problems(app: App, units: Units) -> list[str]:
    """Return what is wrong with nginx, as the role has set it."""
    found = []
    for lack in lacks(units, ["nginx.service"], ["nginx.service"]):
        found.append(f"{lack}: {app.as_root(f'systemctl {lack.verb} nginx.service')}")
    return found


def other_problems(app: App, answer: Json) -> list[str]:
    """Return what waits for somebody: updates, a certificate, a drained host, a rollout that died."""
    found = []
    if answer["restart_pending"]:
        libraries = ", ".join(map(os.path.basename, answer["restart_pending"][:3]))
        found.append(f"updates wait for a restart ({libraries}): {app.as_root(f'flaskctl {app.name} restart')}")
    days = answer["certificate_days"]
    if days is not None and days < CERTIFICATE_DAYS:
        found.append(f"the certificate ends in {days} days" if days >= 0 else "the certificate has ended")
    if answer["drained"]:
        found.append(f"drained, so no load balancer sends requests: {app.as_root(f'flaskctl {app.name} undrain')}")
    if answer["maintenance"]:
        off = app.as_root(f"flaskctl {app.name} maintenance off")
        found.append(f"in maintenance, so users get a page that says so: {off}")
    seen = moment((answer["lease"] or {}).get("seen"))
    if seen is not None and app.host.now() - seen > QUIET_SECONDS:
        force = app.as_root(f"flaskctl {app.name} unlock --force")
        found.append(f"a rollout gives no sign of life: if it is dead, {force}")
    return found


def status_text(app: App, answer: Json, releases: Mapping[str, Release]) -> str:
    def describe(release: str | None) -> str:
        found = releases.get(release or "")
        by = f"by {found.by}" if found and found.by else ""
        return " ".join(filter(None, [found.id, short_revision(found.revision), by])) if found else "none"

    socket = answer["socket"]
    wanted = [unit for unit, shown in answer["units"].items() if shown["wanted"]]
    down = [unit for unit in wanted if answer["units"][unit]["state"] != "active"]
    days = answer["certificate_days"]
    alone = "; nobody else has signed it, so browsers warn of it" if answer["certificate_self_signed"] else ""
    rows = [
        ("current", describe(answer["current"]) + (f", since {answer['since']}" if answer["since"] else "")),
        ("previous", describe(answer["previous"])),
        (
            "serving",
            ", ".join(answer["active"]) + f", {answer['workers']} workers" if answer["active"] else "nothing",
        ),
        ("rollback", f"goes to {answer['rollback']}" if answer["rollback"] else "has nowhere to go"),
        ("socket", f"{'active' if socket['active'] else 'NOT active'}, {answer['address']}"),
        (
            "units",
            f"{len(wanted) - len(down)} of {len(wanted)} run, with {sum(answer['processes'].values())} processes",
        ),
        *([("ceilings", ceilings_text(answer["ceilings"], answer["memory_kills"]))] if answer["ceilings"] else []),
        *([("certificate", f"{days} days left{alone}")] if days is not None else []),
        *([("busy", busy_message(app.name, answer["locked"]))] if answer["locked"] is not None else []),
        *([("rollout", lock_text(app.name, answer["lease"], app.host.now()))] if answer["lease"] else []),
        *(("problem", problem) for problem in answer["problems"]),
    ]
    if answer["restart_pending"] is None:
        rows.append(("not seen", "whether updates wait for a restart, and the journal, which only root may"))
    return table([(app.name, *row) for row in rows])


def list_releases(app: App) -> Json:
    app.settings()
    state, releases = app.state(), app.releases()
    rows, listed = [("ID", "STAGED", "BY", "REVISION", "STATE")], []
    for release in releases:
        marks = [name for name in ("current", "previous") if getattr(state, name) == release.id]
        marks += ["active"] if release.id in state.active else []
        marks += ["refused"] if release.refused else []
        listed.append({**release.as_json(), "state": marks})
        rows.append(
            (release.id, release.when, release.by or "-", short_revision(release.revision) or "-", " ".join(marks))
        )
    return {"releases": listed, "msg": table(rows) if releases else f"{app.name} has no release yet"}

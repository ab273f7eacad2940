"""The commands that only look: status with drift and all that is wrong, and releases."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping

from flaskctl import Json
from flaskctl.app import App, apps
from flaskctl.damage import find_damage
from flaskctl.errors import Refused
from flaskctl.files import as_noted, read_json, read_text
from flaskctl.host import Units
from flaskctl.instances import standbys
from flaskctl.lock import busy_message, lock_holder, lock_text
from flaskctl.plan import Release, State, plan_recovery
from flaskctl.release import parse_config
from flaskctl.texts import moment, short_revision, table

CERTIFICATE_DAYS = 7  # with less left `status` asks for a new one


QUIET_SECONDS = 3600  # after so long without a sign of life `status` asks whether a rollout is still there


def replaced(maps: str) -> set[str]:
    """Return the libraries and the Python of a process, from its /proc/PID/maps, that are others on the disk now."""
    return set(re.findall(r"(?m)^\S+ +\S+ +\S+ +\S+ +\S+ +(/.*(?:\.so(?:\.[\d.]+)?|/python[\d.]*)) \(deleted\)$", maps))


def days_left(end_date: str, now: float) -> int | None:
    """Return for how many days a certificate is valid, from `openssl x509 -enddate`; None where that said nothing."""
    import ssl

    try:
        return int((ssl.cert_time_to_seconds(end_date.strip().partition("=")[2]) - now) // 86400)
    except ValueError:
        return None


def belongs(path: str, others: Iterable[str]) -> bool:
    """Whether a file that the role put in place is of this app, or of all: no other app has its name."""
    return re.split("[.@]", os.path.basename(path))[0] not in set(others)


def status(app: App, drift: bool = False) -> Json:
    """Return where the host stands, and what is wrong; with `drift` each file of the release is read."""
    settings, units = app.settings(), app.units("nginx.service")
    state, releases, holder = app.state(units), app.releases(), lock_holder(app)
    masters = [int(units.get(unit, {}).get("MainPID") or 0) for unit in own_units(app, state.current)]
    workers = app.host.children(masters[0]) if masters and masters[0] else set()
    answer: Json = {
        **app.where(state, units),
        "since": serves_since(app, state.current),
        "rollback": app.rollback_to(state, releases),
        "releases": [release.id for release in releases],
        "port": settings.get("port"),
        "interrupted": state.intent.as_json() if state.intent and holder is None else None,
        "locked": holder,
        "lease": read_json(app.rollout_file),
        "drained": app.drained_file.exists(),
        "maintenance": app.page_file.exists(),
        "workers": len(workers),
        "failed_units": sorted(unit for unit, shown in units.items() if shown.get("ActiveState") == "failed"),
        "restart_pending": restart_pending(app, [*filter(None, masters), *map(int, workers)]),
        "certificate_days": certificate_days(app, settings),
        "drift": find_drift(app, state.current, units, drift),
    }
    answer["problems"] = [*service_problems(app, state, answer), *other_problems(app, answer)]
    return {**answer, "msg": status_text(app, answer, {release.id: release for release in releases})}


def serves_since(app: App, release: str | None) -> object:
    """Return when the release was activated last."""
    found = [event.get("when") for event in app.moves() if event.get("release") == release]
    return found[-1] if found and release else None


def own_units(app: App, release: str | None) -> list[str]:
    """Return the services of a release, the web server first."""
    return [app.unit(release), *app.processes(release, ".service")] if release else []


def restart_pending(app: App, pids: Iterable[int]) -> list[str] | None:
    """Return the libraries that the processes have and an update has replaced; none for who may not see that."""
    if not app.host.is_root():
        return None
    found: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):  # it ended
            found |= replaced(app.at(f"/proc/{pid}/maps").read_bytes().decode("utf-8", "replace"))
    return sorted(found)


def certificate_days(app: App, settings: Json) -> int | None:
    path = settings.get("certificate")
    if not path:
        return None
    done = app.host.run(["openssl", "x509", "-noout", "-enddate", "-in", str(app.at(path))])
    days = days_left(done.out, app.host.now())
    if days is None:
        app.warnings.append(f"the certificate {path} cannot be read: {done.err.strip()}")
    return days


def find_drift(app: App, release: str | None, units: Units, whole: bool) -> list[str]:
    """Return what differs from what was deployed, in words; `whole`: the files of the release too, each is read."""
    found = recorded_drift(app)
    found += [f"{n}, not as systemd has read it" for n, u in units.items() if u.get("NeedDaemonReload") == "yes"]
    manifest = app.manifest(release) if whole else None
    if not release or not manifest:
        return found
    if not app.host.is_root():
        raise Refused("this reads what only root may", remedy=f"sudo {app.said}")
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
    found = []
    if answer["interrupted"] and state.intent:
        found.append(f"the activation of {state.intent.to} was cut: the next stage or activate finishes or undoes it")
    if state.current is None:
        last = plan_recovery(state, app.last_activated()).release
        remedy = f"flaskctl {app.name} activate {last} puts it back" if last else "nothing was activated yet"
        found.append(f"there is no current release: {remedy}")
    elif state.current not in state.active:
        found.append(f"the current release does not run: flaskctl {app.name} logs tells why")
    strays = ", ".join(release for release in state.running if release != state.current)
    if state.current and strays and idle and not state.intent:
        found.append(f"{strays} runs beside the current release: the next stage or activate stops it")
    if standbys(app) and idle:
        found.append(f"a restart was cut: flaskctl {app.name} restart ends it")
    if not answer["socket"]["active"]:
        found.append(f"{app.socket} is not active: systemctl start {app.socket}")
    if answer["socket"]["stale"]:
        found.append(f"{app.socket} does not listen where it should: no release can start")
    told = {app.socket, app.unit(str(state.current))}
    found += [f"{what} is not what was deployed: run the playbook" for what in answer["drift"]]
    return found + [f"{x} has failed: systemctl status {x}" for x in answer["failed_units"] if x not in told]


def other_problems(app: App, answer: Json) -> list[str]:
    """Return what waits for somebody: updates, a certificate, a drained host, a rollout that died."""
    found = []
    if answer["restart_pending"]:
        libraries = ", ".join(map(os.path.basename, answer["restart_pending"][:3]))
        found.append(f"updates wait for a restart ({libraries}): flaskctl {app.name} restart")
    days = answer["certificate_days"]
    if days is not None and days < CERTIFICATE_DAYS:
        found.append(f"the certificate ends in {days} days" if days >= 0 else "the certificate has ended")
    if answer["drained"]:
        found.append(f"drained, so no load balancer sends requests: flaskctl {app.name} undrain")
    if answer["maintenance"]:
        found.append(f"in maintenance, so users get a page that says so: flaskctl {app.name} maintenance off")
    seen = moment((answer["lease"] or {}).get("seen"))
    if seen is not None and app.host.now() - seen > QUIET_SECONDS:
        found.append(f"a rollout gives no sign of life: if it is dead, flaskctl {app.name} unlock --force")
    return found


def status_text(app: App, answer: Json, releases: Mapping[str, Release]) -> str:
    def describe(release: str | None) -> str:
        found = releases.get(release or "")
        by = f"by {found.by}" if found and found.by else ""
        return " ".join(filter(None, [found.id, short_revision(found.revision), by])) if found else "none"

    socket = answer["socket"]
    rows = [
        ("current", describe(answer["current"]) + (f", since {answer['since']}" if answer["since"] else "")),
        ("previous", describe(answer["previous"])),
        (
            "serving",
            ", ".join(answer["active"]) + f", {answer['workers']} workers" if answer["active"] else "nothing",
        ),
        ("rollback", f"goes to {answer['rollback']}" if answer["rollback"] else "has nowhere to go"),
        ("socket", f"{'active' if socket['active'] else 'NOT active'}, port {answer['port']}"),
        *([("busy", busy_message(app.name, answer["locked"]))] if answer["locked"] is not None else []),
        *([("rollout", lock_text(app.name, answer["lease"], app.host.now()))] if answer["lease"] else []),
        *(("problem", problem) for problem in answer["problems"]),
    ]
    if answer["restart_pending"] is None:
        rows.append(("not seen", "whether updates wait for a restart, which only root may"))
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

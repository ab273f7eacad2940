"""The commands that hand over to something else: run, start, logs."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Refused, Usage
from flaskctl.layout import PATH, WEB, release_path
from flaskctl.lock import lock_holder
from flaskctl.units import run_argv

PATIENCE = 600.0  # seconds that `start` waits for the first activation of an app to come to its end


def logs(app: App, follow: bool, lines: int, capture: bool, process: str | None) -> Json:
    app.settings()
    units = [*app.unit_patterns(), app.service, app.socket, *app.former]
    if process:
        known = processes(app)
        if process not in known:
            raise Refused(f"{app.name} has no process {process}", remedy=f"--process {'|'.join(known)}")
        units = app.process_patterns(process)
    argv = ["journalctl", "--no-pager", f"--lines={lines}", *(f"--unit={unit}" for unit in units)]
    if capture:
        return {"lines": app.host.run([*argv, "--output=short-iso"]).out.splitlines(), "msg": ""}
    app.host.become([*argv, "--follow"] if follow else argv)
    return {"msg": ""}


def processes(app: App) -> list[str]:
    """Return the names of the app's processes, `web` first; copies of one by its name, and each by its own."""
    found = {path.name[len(app.name) + 1 :].partition("@")[0] for path in app.units_dir.glob(f"{app.name}.*@*.service")}
    return [WEB, *sorted((found | {re.sub(r"-\d+\Z", "", name) for name in found}) - {WEB})]


def run_command(app: App, command: Sequence[str], wanted: str | None, tty: bool, capture: bool) -> Json:
    """Run a command as the release runs: its user, sandbox, environment, credentials. `rc` is the command's."""
    app.settings()
    if not command:
        raise Usage("run wants a command", remedy=app.as_root(f"flaskctl {app.name} run -- flask db upgrade"))
    if not app.host.is_root():
        raise Refused("this enters the app's sandbox, and needs root", remedy=app.as_root(app.said))
    release = app.find(wanted) if wanted else app.linked("current")
    if not release:
        raise Refused(f"{app.name} has no current release", remedy="run --release ID -- COMMAND")
    unit, name = app.unit(release), app.command_unit(app.host.pid())
    words = [executable(app, release, command[0]), *command[1:]]
    argv = run_argv(unit, app.unit_texts(unit), app.host.systemd_version(), words, name, tty)
    try:
        if capture:
            done = app.host.run(argv)
            found = {"rc": done.rc, "stdout": done.out, "stderr": done.err, "msg": done.out.strip()}
        else:
            done = app.host.attached(argv)
            found = {"rc": done.rc, "stdout": done.out, "stderr": done.err, "msg": ""}
    except KeyboardInterrupt:
        app.host.each("stop", f"{name}.service")
        app.warnings += [
            f"{unit} runs on: {app.as_root(f'systemctl stop {unit}')}" for unit in app.host.up(f"{name}.service")
        ]
        raise
    return {"id": release, "changed": True, **found}


def executable(app: App, release: str, word: str) -> str:
    """Return the path of a command: systemd-run would look in its own PATH, not in the virtualenv."""
    home = release_path(app.name, release)
    if "/" in word:
        return os.path.join(f"{home}/app", word)
    places = f"{home}/site/bin:{home}/venv/bin:{PATH}"
    for directory in places.split(":"):
        if os.access(app.at(f"{directory}/{word}"), os.X_OK):
            return f"{directory}/{word}"
    raise Refused(f"there is no command {word} in release {release}", remedy=f"looked in {places}")


def start(app: App) -> Json:
    """Start the current release: at boot, and on the first connection after a stop. Takes no lock."""
    app.settings()
    end = app.host.ticks() + PATIENCE
    # the first activation has opened the socket, and somebody connects before it has come to its end
    while not app.linked("current") and lock_holder(app) is not None and app.host.ticks() < end:
        app.host.sleep(0.5)
    current = app.linked("current")
    if not current:
        current = app.last_activated()
        if not current:
            return nothing_to_start(app)
        app.warnings.append(f"the link `current` is missing: starting {current}, which was activated last")
    units = [app.unit(current), *app.processes(current, ".service"), *app.processes(current, ".timer")]
    # one by one: a schedule that systemd cannot load must not keep the site down
    done = {unit: app.host.systemctl("start", "--no-block", unit) for unit in units}
    refused = [unit for unit in units if done[unit].rc]
    if refused:
        detail = "\n".join(done[unit].err.strip() for unit in refused)
        raise Refused(f"{', '.join(refused)} cannot be started", detail, f"flaskctl {app.name} status")
    return {"id": current, "changed": True, "msg": f"starting {current}"}


def nothing_to_start(app: App) -> Json:
    """Have systemd listen no more: it would ask again at once while a client waits, and whoever connects would hang."""
    said = f"{app.name} has no release to start"
    if lock_holder(app) is not None or app.state().running:  # which may have the socket
        return {"id": None, "changed": False, "msg": said}
    # without waiting: systemd may want to see the end of this unit first
    sockets = [app.socket, *app.former]
    for unit in sockets:
        done = app.host.systemctl("stop", "--no-block", unit)
        if done.rc:
            raise Refused(f"{said}, and {unit} does not stop", done.err.strip(), f"systemctl stop {unit}")
    return {"id": None, "changed": True, "msg": f"{said}: {sockets[0]} stops, so that clients are refused at once"}

"""The socket of an app: opened, closed, and left for another one while releases run on both."""

from __future__ import annotations

import os
import re

from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import erase, link, read_text
from flaskctl.host import Units
from flaskctl.plan import State
from flaskctl.record import recorded, recorded_name
from flaskctl.texts import extract_traceback


def open_socket(app: App, state: State, units: Units) -> None:
    """See that the socket is open before a release starts: without it a release would get no connection."""
    socket = app.socket_state(units)
    if socket["active"] and not socket["stale"]:
        return
    wrong = "does not listen where it should" if socket["active"] else "is not active"
    if state.running and not is_free(app):
        what = f"{app.socket} {wrong} while {', '.join(state.running)} runs on it: no release can join"
        raise Refused(what, remedy=f"an outage of seconds: {reopen(app, state)}")
    since = app.host.now()
    app.host.each("stop", app.socket)
    app.host.systemctl("reset-failed", app.socket)
    app.host.each("start", app.socket)
    if not app.socket_state(app.units())["active"]:
        said = extract_traceback(app.host.journal(app.socket, since), 5)
        users = app.host.run(["ss", "-Hltnp", f"sport = :{app.settings().get('port')}"]).out.strip()
        raise Refused(
            f"{app.socket} does not start", f"{said}\n{users}".strip(), f"is its port taken? {app.as_root('ss -ltnp')}"
        )
    app.repairs += [f"started {app.socket}: it {wrong}"] if state.current else []


def is_free(app: App) -> bool:
    """Whether the socket can be opened while releases run: a path can at any time, a port where they have another."""
    return app.socket == app.unix_unit or bool(app.former)


def reopen(app: App, state: State) -> str:
    """Return the commands that open the socket anew where releases run on it: they have to leave it first."""
    stop = app.as_root(f"systemctl stop {app.socket} '{app.name}@*' '{app.name}.*@*'")
    return f"{stop}; {app.as_root(f'flaskctl {app.name} activate {state.current or state.running[0]}')}"


def close_socket(app: App) -> str:
    """Have systemd listen no more, where no release can start: each connection would try that in vain, for ever.

    Returns what does not stop and why, nothing if all is well.
    """
    sockets = [app.socket, *app.former]
    refused = app.host.each("stop", *sockets)
    return "; ".join(f"{unit} listens on: {refused.get(unit, '')}" for unit in app.host.up(*sockets))


def is_left(app: App) -> bool:
    """Whether the app has moved to another socket, and nginx asks at the former one no more."""
    site = read_text(app.at(app.site_path(app.settings()))) or ""
    asked = re.findall(r"(?m)^\s*server\s+(?:unix:)?([^\s;]+)", site)
    return any(not set(app.listens(unit)) & set(asked) for unit in app.former)


def close_former(app: App) -> bool:
    """Close the socket that the app has left; True where it did. What runs has it until it starts anew.

    Masked, so that no release that starts opens it again, and whoever comes after a kill knows what is left to do.
    """
    if not is_left(app):
        return False
    for unit in app.former:
        for verb in ("disable", "stop"):
            app.host.each(verb, unit)
        if app.host.up(unit):
            app.warnings.append(f"{unit} listens on, and nothing asks there: {app.as_root(f'systemctl stop {unit}')}")
            return False
        link(app.units_dir / unit, os.devnull)
        app.reload()
        app.host.checkpoint("socket-closed")
    return True


def forget_former(app: App) -> None:
    """Remove the unit of the socket that the app has left, which nothing has any more."""
    for unit in app.former:
        erase(app.units_dir / unit)
        app.reload()
        with recorded(app) as record:
            record.pop(recorded_name(app, app.units_dir / unit), None)
        app.repairs.append(f"closed {unit}: nginx asks at {app.address(app.socket)}")

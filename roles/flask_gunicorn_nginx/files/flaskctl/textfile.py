"""The timer that puts the figures of an app where node_exporter reads them: it stands as long as the settings ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from flaskctl.app import App
from flaskctl.files import erase, fingerprint, read_json, read_text, write
from flaskctl.host import Units
from flaskctl.layout import LAUNCHER
from flaskctl.record import recorded, recorded_name
from flaskctl.standing import Lack, lacks

SERVICE = """[Unit]
Description=Put the figures of {app} where node_exporter reads them

[Service]
Type=oneshot
ExecStart={launcher} {app} metrics --textfile {file}
TimeoutStartSec=50
Nice=15
IOSchedulingClass=idle
# not three lines in the journal each minute; systemd 247 writes them all the same
LogLevelMax=notice
"""
TIMER = """[Unit]
Description=Put the figures of {app} where node_exporter reads them, each minute

[Timer]
OnActiveSec=0
OnUnitActiveSec=60
AccuracySec=5

[Install]
WantedBy=timers.target
"""
WRITES = re.compile(r"(?m)^ExecStart=.* metrics --textfile (/\S+)$")


def directory(app: App) -> str:
    """Return where the file is to be; nothing where none is wanted. Settings of an older role do not say it."""
    return str((read_json(app.settings_file) or {}).get("metrics") or "")


def units(app: App) -> dict[Path, str]:
    """Return the units that are wanted, with what they say; the timer last."""
    where = directory(app)
    file = f"{where}/{app.textfile_name}"
    values = {"app": app.name, "launcher": LAUNCHER, "file": file}
    wanted = {app.metrics_service: SERVICE, app.metrics_timer: TIMER} if where else {}
    return {app.units_dir / name: text.format(**values) for name, text in wanted.items()}


def standing(app: App) -> list[Path]:
    """Return those that stand and are on record."""
    record = read_json(app.record_file) or {}
    found = [app.units_dir / name for name in (app.metrics_service, app.metrics_timer)]
    return [path for path in found if path.exists() and recorded_name(app, path) in record]


def written(app: App) -> Path | None:
    """Return the file that the service puts there, as its unit says: the settings may want another one by now."""
    service = app.units_dir / app.metrics_service
    found = WRITES.search(read_text(service) or "") if service in standing(app) else None
    return app.at(found[1]) if found else None


def lacking(app: App, shown: Units) -> list[Lack]:
    """Return what is to be put right: a timer that does not run as it is set, and one that nobody wants any more."""
    wanted, timer = units(app), app.metrics_timer
    if not wanted:
        return [Lack(timer, "is left of what was switched off", "stop")] if standing(app) else []
    if any(read_text(path) != text for path, text in wanted.items()):
        return [Lack(timer, "is not as it is set", "restart")]
    return lacks(shown, [timer], [timer])


def settle(app: App) -> None:
    """Have the units say what is wanted, or take them away; whoever starts all other units starts the timer."""
    wanted, before = units(app), written(app)
    if not wanted:
        forget(app)
        return
    file = app.at(f"{directory(app)}/{app.textfile_name}")
    if before and before != file:
        erase_file(app, before)
    make_directory(app, file.parent)
    for path, text in wanted.items():
        if read_text(path) != text:
            write(path, text)
            with recorded(app) as record:
                record[recorded_name(app, path)] = fingerprint(path)
    app.reload()
    app.host.each("enable", app.metrics_timer)


def forget(app: App) -> list[str]:
    """Take the timer away, and the file, which node_exporter would show for ever; say what."""
    found, file = standing(app), written(app)
    gone = [recorded_name(app, path) for path in [*found, *([file] if file and file.exists() else [])]]
    if app.dry or not found:
        return gone
    names = [path.name for path in reversed(found)]
    app.host.each("stop", *names)
    app.host.each("disable", *(name for name in names if name == app.metrics_timer))
    if file:
        erase_file(app, file)
    for path in found:
        erase(path)
    app.reload()
    with recorded(app) as record:
        for path in found:
            record.pop(recorded_name(app, path), None)
    return gone


def missing(path: Path) -> Iterator[Path]:
    """Yield the directories that are not there, the outer ones first."""
    if not path.is_dir():
        yield from missing(path.parent)
        yield path


def make_directory(app: App, path: Path) -> None:
    """Make a directory where the package that reads it has not made it yet, and note what was made."""
    for each in list(missing(path)):
        each.mkdir(mode=0o755)
        with recorded(app) as record:
            record[recorded_name(app, each)] = "directory"


def erase_file(app: App, file: Path) -> None:
    """Remove the file, and the directories that were made for it, hold nothing else and are of no package since."""
    erase(file)
    with recorded(app) as record:
        for path in (file.parent, *file.parent.parents):
            if record.get(recorded_name(app, path)) != "directory":
                return
            owned = app.host.run(["dpkg-query", "--search", recorded_name(app, path)]).rc == 0
            try:
                if not owned:
                    path.rmdir()
            except OSError:  # somebody keeps something there
                return
            record.pop(recorded_name(app, path))

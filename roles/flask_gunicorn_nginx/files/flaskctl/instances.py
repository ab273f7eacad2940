"""Starting, watching and stopping the units of a release, the standby instance of a restart among them."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch

from flaskctl import textfile
from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import erase, read_json, write
from flaskctl.host import Units, stopped
from flaskctl.server import SETTINGS, server_of
from flaskctl.standing import Lack, lacks
from flaskctl.texts import extract_traceback
from flaskctl.units import specified

LONG = 5.0  # seconds that releases may take to stop without a word
SETTLE_SECONDS = 1.0  # how long a release must live after READY before `current` moves to it


DONE = {"enable": "enabled", "start": "started", "restart": "restarted", "stop": "stopped"}  # by verb of systemctl
KINDS = (".timer", ".service")  # of what runs beside the web server
HANGS = "it was not ready in time (TimeoutStartSec): it hangs at import or in its health check"


def started(app: App, units: Sequence[str]) -> tuple[str, str] | None:
    """Start units and watch them: why one does not live, and what it said; None when all is well."""
    since = app.host.now()
    unit, why = start_and_watch(app, units)
    return (why, extract_traceback(app.host.journal(unit, since))) if why else None


def start_standby(app: App, release: str) -> None:
    """Start a standby instance of a release, from the same unit and on the same socket, under another name."""
    unit, name = app.unit(release), app.standby_unit(release)
    texts = "\n".join(app.unit_texts(unit))
    write(app.passing_units_dir / name, specified(unit, texts, percent="%%"))
    app.reload()
    app.host.checkpoint("restart-standby")
    failed = started(app, [name])
    if failed:
        left = end_standbys(app)
        app.warnings += [left] if left else []
        remedy = f"mend the cause, then {app.as_root(f'flaskctl {app.name} restart')}"
        raise Refused(f"{release} would not start anew: {failed[0]}; it goes on as it is", failed[1], remedy)


def standbys(app: App) -> list[str]:
    """Return the units of a restart that is under way, or was cut: the file goes last."""
    return sorted(path.name for path in app.passing_units_dir.glob(app.standby_unit("*")))


def end_standbys(app: App) -> str:
    """Stop the standby instances of a restart; return what runs all the same and why, nothing if all is well."""
    left = []
    for unit in standbys(app):
        refused = app.host.each("stop", unit)
        if app.host.up(unit):  # its file stays, so that the next run tries again
            left.append(f"{unit} runs on: {refused.get(unit, '')}".rstrip(": "))
            continue
        app.host.systemctl("reset-failed", unit)
        erase(app.passing_units_dir / unit)
        app.reload()
    return "; ".join(left)


def check_whole(app: App, release: str) -> None:
    for name in ("app", "environment", "gunicorn.conf.py", "venv/.complete", "venv/bin/python"):
        path = app.releases_dir / release / name
        if not path.exists():
            raise Refused(f"release {release} is damaged: {path} is missing", remedy="run the playbook: it mends it")


def forget_failures(app: App, units: Units, current: str) -> None:
    """Have systemd forget that units failed which do not matter any more: of releases that are gone or do not serve.

    What starts at boot has failed only for want of a release, and there is one now.
    """
    for unit, shown in units.items():
        if shown.get("ActiveState") == "failed" and f"@{current}." not in unit and not unit.endswith(".socket"):
            app.host.systemctl("reset-failed", unit)


def start_and_watch(app: App, units: Sequence[str]) -> tuple[str, str]:
    """Start units and watch them for a while: the one that does not live on and why, or two empty words."""
    if not units:
        return "", ""
    webs = [unit for unit in units if fnmatch(unit, app.unit("*")) or fnmatch(unit, app.standby_unit("*"))]
    if app.host.systemctl("start", *units).rc:
        states = app.host.show(*units)
        unit = next((unit for unit in units if states.get(unit, {}).get("ActiveState") != "active"), units[0])
        return unit, "it did not pass its gate" if unit in webs else f"{unit} does not start"
    pids = {unit: shown.get("MainPID", "0") for unit, shown in app.host.show(*units).items()}
    children = {unit: app.host.children(int(pids.get(unit, "0"))) for unit in webs}
    end, died = app.host.ticks() + SETTLE_SECONDS, ""
    while app.host.ticks() < end and not died:
        app.host.sleep(0.2)
        lost = (unit for unit, known in children.items() if known - app.host.children(int(pids.get(unit, "0"))))
        died = next(lost, "")
    for unit, shown in app.host.show(*units).items():
        if shown.get("ActiveState") != "active" or shown.get("MainPID", "0") != pids[unit]:
            return unit, f"{unit} crashed right after it had started"
    return (died, "a worker died right after it had started") if died else ("", "")


def lacking(app: App, release: str, units: Units | None = None) -> list[Lack]:
    """Return what ought to stand where a release is current, and does not."""
    processes = [*app.processes(release, ".service"), *app.processes(release, ".timer")]
    wanted = [app.socket, app.unit(release), *processes]
    units = app.units() if units is None else units
    deaf = [app.unit(release)] if app.is_deaf(units, release) else []
    return lacks(units, wanted, [app.socket, app.service], deaf) + textfile.lacking(app, units)


def stand(app: App, release: str) -> tuple[list[str], str]:
    """Start and enable what ought to stand where a release is current; what stands already is left alone.

    Returns what was put right, a sentence each, and what does not stand all the same and why, nothing if all is well.
    """
    before = lacking(app, release)
    refused: dict[str, str] = {}
    if any(lack.unit == app.metrics_timer for lack in before):
        textfile.settle(app)
    for verb in ("enable", "start", "restart"):
        refused.update(app.host.each(verb, *(lack.unit for lack in before if lack.verb == verb)))
    after = lacking(app, release) if before else []
    left = {(lack.unit, lack.verb) for lack in after}
    done = [f"{DONE[lack.verb]} {lack.unit}: it {lack.what}" for lack in before if (lack.unit, lack.verb) not in left]
    return done, "; ".join(f"{lack}" + f": {refused.get(lack.unit, '')}".rstrip(": ") for lack in after)


def begin_schedules(app: App, release: str) -> None:
    """Have the schedules of a release that takes over count from now on, as that of the one before end now.

    A timer that ran last when the release was current before would make up for all that others have run since.
    """
    for timer in app.processes(release, ".timer"):
        stamp = app.timer_stamp(timer)
        write(stamp, "")
        os.utime(stamp, (app.host.now(), app.host.now()))


@contextlib.contextmanager
def patiently(app: App, releases: Sequence[str]) -> Iterator[None]:
    """Stop releases in the block; where that lasts, say what it waits for."""

    def tell() -> None:
        up: list[str] = []
        with contextlib.suppress(Refused):  # the block itself tells what systemd does not
            up = app.host.up(*units_of(app, releases))
        confs = (
            (read_json(app.releases_dir / release / "config.json") or {}).get("gunicorn_conf", "")
            for release in releases
        )
        seconds = max((server_of(str(conf)).graceful_timeout for conf in confs), default=0)
        if up:
            app.tell(
                f"waits for {', '.join(up)}: what was accepted there and lasts (a websocket, a stream, a job) is given"
                f" {seconds} s, the graceful_timeout of that release. Less for later ones: {SETTINGS}:"
                " {graceful_timeout: 5}"
            )

    with app.host.meanwhile(LONG, tell):
        yield


def drain_off(app: App, releases: Sequence[str]) -> None:
    """Begin to stop releases: they accept no more, and answer what they have accepted."""
    for unit in units_of(app, releases):
        app.host.systemctl("stop", "--no-block", unit)


def stop(app: App, releases: Sequence[str]) -> str:
    """Stop releases with their workers and schedules; what they have accepted is answered first.

    Returns what runs all the same and why, nothing if all is well.
    """
    units = units_of(app, releases)
    refused = app.host.each("stop", *units)
    left = app.host.up(*units)
    for unit in units:
        if unit not in left:
            app.host.systemctl("reset-failed", unit)
    return "; ".join(f"{unit} runs on" + (f": {refused[unit]}" if unit in refused else "") for unit in left)


def units_of(app: App, releases: Sequence[str]) -> list[str]:
    """Return the units of releases, in the order in which they are stopped; what runs without a file is one too."""
    found = [x for i in releases for x in (*(p for kind in KINDS for p in app.processes(i, kind)), app.unit(i))]
    up = {unit for unit, shown in app.units().items() if app.release_of(unit) in releases and not stopped(shown)}
    return found + sorted(unit for unit in up - set(found) if not app.is_job(unit)) if releases else []

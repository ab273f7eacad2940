"""The command doctor: which walls around it the release that serves has met. It only looks."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

from flaskctl import Json
from flaskctl.app import App
from flaskctl.diagnosis import Met, met, near_trouble, together, told_once
from flaskctl.errors import Refused
from flaskctl.signs import Settings
from flaskctl.texts import ago, utc

MOST, FEW = 100_000, 1000  # lines of the journal


def doctor(app: App) -> Json:
    """Read what the current release has written to the journal, its workers and schedules among it."""
    app.settings()
    current = app.linked("current")
    if not current:
        raise Refused(f"{app.name} has no current release", remedy=f"flaskctl {app.name} releases")
    if not app.host.reads_journal():
        raise Refused(
            "this reads the journal, and needs root or the group systemd-journal", remedy=app.as_root(app.said)
        )
    beside = sorted(path.name for path in app.units_dir.glob(app.process_unit("*", current)))
    units = [app.unit(current), app.standby_unit(current), *beside]
    lines = app.host.journal_lines(units, MOST)
    since = utc(lines[0][0]) if lines else None
    walls, hint = diagnose(app.name, lines, app.service_settings(current))
    read = f"lines read: {len(lines)}, from {since} on" if lines else "the journal has no line of it, or no longer"
    told = [f"{current} of {app.name} has met no wall that its words tell of; {read}"] if not walls else []
    for wall in walls:
        times = "once" if wall["times"] == 1 else f"{wall['times']} times, last"
        told.append(f"{wall['name']}: {wall['tells']}; {times} {ago(wall['last'], app.host.now())}")
        told.append(f"  {wall['opens']}\n  costs: {wall['costs']}")
    answer = {"id": current, "changed": False, "walls": walls, "lines": len(lines), "since": since}
    return {**answer, "msg": "\n".join(told + hint)}


def tell_walls(app: App, release: str) -> None:
    """Warn of walls that a release has met by now: an app may have caught the error, and look well without its data."""
    if app.host.reads_journal():
        lines = near_trouble(app.host.journal_lines([app.unit(release)], FEW))
        said = "\n".join(line for _when, line in lines)
        app.warnings += told_once(app.name, said, app.service_settings(release))


def diagnose(name: str, lines: Sequence[tuple[float, str]], settings: Settings) -> tuple[list[Json], list[str]]:
    """Return the walls that a journal shows signs of, with how often and when last, the most frequent first.

    And in one line the settings that open them, where it takes several.
    """
    starts, texts, length = [], [], 0
    lines = near_trouble(lines)
    for _when, line in lines:
        starts.append(length)
        texts.append(f"{line}\n")
        length += len(texts[-1])
    found: dict[tuple[str, str], Json] = {}
    doors: dict[str, Met] = {}
    for one in met(name, "".join(texts), settings):
        when = utc(lines[bisect(starts, one.at) - 1][0])
        known = {"name": one.name, "tells": one.tells, "opens": one.opens, "costs": one.costs, "times": 0}
        wall = found.setdefault((one.name, one.opens), known)
        wall.update(times=wall["times"] + 1, last=when)
        doors[one.opens] = one
    return sorted(found.values(), key=lambda wall: -wall["times"]), together(list(doors.values()))

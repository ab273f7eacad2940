"""The command doctor: which walls around it the release that serves has met. It only looks."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Sequence

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.texts import ago, utc
from flaskctl.walls import met


def doctor(app: App) -> Json:
    """Read what the current release has written to the journal, its workers and schedules among it."""
    app.settings()
    current = app.linked("current")
    if not current:
        raise Refused(f"{app.name} has no current release", remedy=f"flaskctl {app.name} releases")
    beside = sorted(path.name for path in app.units_dir.glob(app.process_unit("*", current)))
    units = [app.unit(current), app.standby_unit(current), *beside]
    walls = diagnose(app.name, app.host.journal_lines(units))
    lines = [f"{current} of {app.name} has met no wall that its words tell of"] if not walls else []
    for wall in walls:
        when = ago(wall["last"], app.host.now())
        lines.append(f"{wall['name']}: {wall['tells']}; {wall['times']} times, last {when}")
        lines.append(f"  {wall['opens']}\n  costs: {wall['costs']}")
    return {"id": current, "changed": False, "walls": walls, "msg": "\n".join(lines)}


def diagnose(name: str, lines: Sequence[tuple[float, str]]) -> list[Json]:
    """Return the walls that a journal shows signs of, with how often and when last; the most frequent first."""
    starts, text = [], ""
    for _when, line in lines:
        starts.append(len(text))
        text += f"{line}\n"
    found: dict[tuple[str, str], Json] = {}
    for one in met(name, text):
        when = utc(lines[bisect(starts, one.at) - 1][0])
        known = {"name": one.name, "tells": one.tells, "opens": one.opens, "costs": one.costs, "times": 0}
        wall = found.setdefault((one.name, one.opens), known)
        wall.update(times=wall["times"] + 1, last=when)
    return sorted(found.values(), key=lambda wall: -wall["times"])

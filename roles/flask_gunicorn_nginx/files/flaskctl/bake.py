"""The command bake: watch the real traffic after a switch; `traffic` decides what is worse."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Refused, Usage
from flaskctl.texts import moment
from flaskctl.traffic import Limits, Traffic, lines_from_end, log_entry, looks, traffic, worse

CLOCK_SECONDS = 3  # by so much a clock may be set meanwhile: the times in nginx's log are by it


def bake(app: App, seconds: int, limits: Limits) -> Json:
    """Watch the real traffic, against that before the last activation. Takes no lock: a rollback need not wait."""
    app.settings()
    if seconds < 1:
        raise Usage("--seconds wants 1 or more")
    release = app.linked("current")
    moved = app.moves()
    switched = moment(moved[-1].get("began") or moved[-1].get("when")) if moved else None
    if not release or switched is None:
        raise Refused(
            f"{app.name} has no activation to compare with", remedy=app.as_root(f"flaskctl {app.name} activate ID")
        )
    start, began = int(app.host.now()), app.host.ticks()
    # Requests that failed between the switch and now count: a load balancer sends fewer to a host that fails, and what
    # comes later could be too little to judge by. While the old release was drained its answers are not of the new one.
    # When the switch was long ago there is no end of them.
    drained = moment(moved[-1].get("when")) or start
    since = switched if start - drained <= seconds else start - seconds
    ahead = max(drained, switched) - start  # set back since the switch ended, or while it went on
    if ahead > CLOCK_SECONDS:
        return cannot_judge(app, release, -ahead)
    before = traffic(log_entries(app, switched - seconds), switched - seconds, switched)
    after, enough = Traffic(0, 0), False
    # with too little to compare with nothing that comes can be judged, and the rollout need not wait for it
    idle = before.requests < limits.requests
    for look in [] if app.dry or idle else looks(seconds):
        app.host.sleep(max(0.0, began + look - app.host.ticks()))
        if app.linked("current") != release:
            raise Refused(f"{release} is no longer current, {app.linked('current')} is")
        was_set = app.host.now() - start - (app.host.ticks() - began)
        if abs(was_set) > CLOCK_SECONDS:
            return cannot_judge(app, release, was_set)
        entries = [
            entry for entry in log_entries(app, since) if entry["time"] >= drained or entry.get("release") == release
        ]
        # latency is for the whole time alone, and from now on: a release is slow while it is new
        times = traffic(entries, start, start + look).times if look == seconds else ()
        after = traffic(entries, since, start + look)._replace(times=times)
        enough = min(before.requests, after.requests) >= limits.requests
        wrong = worse(before, after, limits) if enough else ""
        if wrong:
            what = f"release {release} of {app.name} does worse than what ran before: {wrong}"
            detail = f"before: {before}\nafter:  {after}, in {start + look - since} s"
            raise Refused(what, detail, app.as_root(f"flaskctl {app.name} rollback"))
    said = f"before: {before}; after: {after}, in {start + seconds - since} s"
    said = said if enough else f"too few requests to judge, {limits.requests} are wanted; {said}"
    if idle:
        said = f"too few requests in the {seconds} s before to judge by, {limits.requests} are wanted: {before}"
    figures = {"before": before.as_json(), "after": after.as_json(), "judged": enough}
    return {"id": release, **figures, "msg": f"would watch for {seconds} s" if app.dry else said}


def cannot_judge(app: App, release: str, was_set: float) -> Json:
    """Say that the times in nginx's log mean nothing: the rollout goes on, as with too few requests."""
    msg = f"the clock of this host was set by {was_set:+.0f} s since the switch: the traffic cannot be judged"
    app.warnings.append(msg)
    return {"id": release, "before": {}, "after": {}, "judged": False, "msg": msg}


def log_entries(app: App, since: float) -> Iterator[Json]:
    """Yield what nginx has logged of the app since then, the last first; the log was rotated at most once."""
    for path in app.access_logs:
        with contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            for entry in map(log_entry, lines_from_end(file)):
                if entry and entry["time"] < since - 1:
                    return
                if entry:
                    yield entry

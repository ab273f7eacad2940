"""What to do, given what stands on the host. Pure functions and the records that they decide by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from flaskctl import Json
from flaskctl.requirements import venv_base


class Intent(NamedTuple):
    """What an activation is about to do, on disk until it is done: a later flaskctl finishes or undoes it."""

    to: str
    origin: str | None  # what was current; "from" in the file
    previous: str | None
    how: str = "activate"
    began: str = ""

    def as_json(self) -> Json:
        return {"to": self.to, "from": self.origin, "previous": self.previous, "how": self.how, "began": self.began}


class State(NamedTuple):
    """What stands on the host."""

    current: str | None
    previous: str | None
    running: tuple[str, ...] = ()  # starting and stopping ones too
    active: tuple[str, ...] = ()  # those that serve
    jobs: tuple[str, ...] = ()  # those with a scheduled job under way
    intent: Intent | None = None


class Recovery(NamedTuple):
    action: str = "none"  # or "finish", "undo", "relink", "stop"
    release: str | None = None
    stop: tuple[str, ...] = ()
    why: str = ""


def plan_recovery(state: State, last: str | None) -> Recovery:
    """Decide what to put right that an earlier flaskctl, cut at any point, or a careless hand has left.

    `last`: the release that was activated last by the audit log, if it is still there.
    """
    intent = state.intent
    if intent:
        # with neither running (after a reboot, say) the one that has passed its gate is the one to start
        if state.current == intent.to and (intent.to in state.running or intent.origin not in state.running):
            return Recovery("finish", intent.to, why=f"the activation of {intent.to} was cut after the switch")
        stop = tuple(release for release in state.running if release == intent.to and release != intent.origin)
        return Recovery("undo", intent.origin, stop, f"the activation of {intent.to} was cut before the switch")
    if state.current is None:
        serving = (*state.active, *state.running)
        found = serving[0] if serving and last not in serving else last
        return Recovery("relink", found, why=f"`current` was missing, now {found} again") if found else Recovery()
    strays = tuple(release for release in state.running if release != state.current)
    if strays and state.current in state.active:
        return Recovery("stop", state.current, strays, f"{', '.join(strays)} ran beside the current release")
    return Recovery()


class Activation(NamedTuple):
    start: bool
    switch: bool
    drain: tuple[str, ...]


def plan_activation(state: State, to: str) -> Activation:
    others = tuple(release for release in state.running if release != to)
    return Activation(to not in state.active, state.current != to, others)


def lineage(events: Iterable[Json], previous: str | None, current: str | None) -> list[str]:
    """Return the releases that led to the current one, oldest first. A rollback cuts off what lies above its target."""
    line: list[str] = []
    for event in events:
        release = event.get("release")
        if event.get("event") == "rollback" and release in line:
            del line[line.index(release) + 1 :]
        elif event.get("event") in ("activate", "rollback") and isinstance(release, str):
            line = [item for item in line if item != release] + [release]
    if current in line:
        del line[line.index(current) + 1 :]
    elif current:  # an audit log that was lost, or that knows nothing of it
        line += [previous] if previous and previous not in line else []
        line.append(current)
    return line


def rollback_target(line: Sequence[str], current: str | None, good: Iterable[str]) -> str | None:
    """Return the nearest release before the current one in its line that is there and was not refused."""
    usable = set(good)
    return next((release for release in reversed(line) if release != current and release in usable), None)


class Release(NamedTuple):
    """A complete release, from its manifest."""

    id: str
    when: str = ""
    by: str = ""
    origin: str = ""
    revision: str = ""
    archive_sha256: str = ""
    venv: str = ""
    refused: str = ""  # why it was, "" if it was not

    def as_json(self) -> Json:
        fields = self._asdict()
        return {"from": fields.pop("origin"), **fields}


class Pruning(NamedTuple):
    releases: tuple[str, ...]
    venvs: tuple[str, ...]
    beyond: tuple[str, ...] = ()  # what stays although `keep` others do


def plan_pruning(releases: Sequence[Release], venvs: Iterable[str], keep: int, bound: Iterable[str]) -> Pruning:
    """Keep `keep` releases: those that must stay, in the order of `bound`, then the newest, refused ones last."""
    newest = sorted(releases, key=lambda release: (release.when, release.id), reverse=True)
    there = [release.id for release in newest]
    must = [release for release in dict.fromkeys(bound) if release in there]
    good_first = [release.id for release in sorted(newest, key=lambda release: bool(release.refused))]
    may = [release for release in good_first if release not in must]
    kept = {*must, *may[: max(0, keep - len(must))]}
    used = {venv_base(release.venv) for release in releases if release.id in kept}
    gone = tuple(release for release in reversed(there) if release not in kept)
    unused = tuple(sorted(venv for venv in venvs if venv_base(venv) not in used))
    return Pruning(gone, unused, tuple(must[keep:]))

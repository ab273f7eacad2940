"""Who may change an app: the lock of one flaskctl, which the kernel holds, and the rollout lock, which is a file."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Busy, Refused, Usage
from flaskctl.files import read_json, write_json
from flaskctl.texts import ago, utc

LOCK_SECONDS = 60.0  # how long a rollout waits for what a killed one has left running on the host


def busy_message(app: str, holder: Json | None) -> str:
    try:
        assert holder
        return "{user} holds the lock of {app}: `{command}`, pid {pid}, since {since}".format(app=app, **holder)
    except (AssertionError, KeyError, TypeError):
        return f"another flaskctl holds the lock of {app}"


HOLDER = ("id", "by", "from", "pid", "since")


def parse_holder(text: str | None) -> Json | None:
    """Read who rolls out, as the control node says it: {"id", "by", "from", "pid", "since"}, perhaps "takes_over"."""
    if text is None:
        return None
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    known = {*HOLDER, "takes_over"}
    if not isinstance(data, dict) or not data.get("id") or not set(data) <= known:
        raise Usage("--holder wants a JSON object with id, by, from, pid, since, perhaps takes_over")
    if not all(isinstance(value, (str, int)) for value in data.values()):
        raise Usage("--holder wants words and numbers")
    return {key: str(value) for key, value in data.items() if value not in ("", None)}


def plan_lock(rollout: Json | None, holder: Json, now: str) -> Json | None:
    """Return the rollout lock as the holder has it now; None where another rollout has it."""
    mine = rollout is not None and rollout.get("id") == holder["id"]
    if rollout and not mine and rollout.get("id") != holder.get("takes_over"):
        return None
    known = {key: holder[key] for key in HOLDER if key in holder}
    return {"since": now, **(rollout if rollout and mine else {}), **known, "seen": now}


def open_lock(path: Path) -> IO[str]:
    """Open the file of a lock where root alone sees it: whoever can open it could hold the lock for ever."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.chmod(0o700)  # an older flaskctl let everybody in, and to the files
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    os.fchmod(descriptor, 0o600)
    return open(descriptor, "a+", encoding="utf-8")


def try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def wait_for_lock(app: App, file: IO[str], seconds: float, what: str) -> None:
    """Take a lock that others hold for a while; raise Busy when they hold it longer than that."""
    end = app.host.ticks() + seconds
    while not try_lock(file):
        if app.host.ticks() >= end:
            raise Busy(f"{what}, after {seconds:.0f} s too", remedy="wait for it to end, then run this again")
        app.host.sleep(0.5)


def lock_text(app: str, rollout: Json, now: float) -> str:
    who = " on ".join(str(rollout[key]) for key in ("by", "from") if rollout.get(key)) or str(rollout.get("id"))
    pid = f" (pid {rollout['pid']})" if rollout.get("pid") else ""
    since, seen = ago(rollout.get("since"), now), ago(rollout.get("seen"), now)
    return f"{who}{pid} rolls out {app} since {since}; last sign of life {seen}"


@contextlib.contextmanager
def locked(app: App, holder: Json | None = None) -> Iterator[None]:
    """Hold the app's lock. The kernel lets go of it when we die; the file only says who holds it.

    A person hears at once that another has it. A rollout waits: what a run that was killed had begun on this host
    goes on without it for a while. It waits for nothing that another rollout does.
    """
    if app.dry:
        yield
        return
    if not app.host.is_root():
        raise Refused("this changes the host, and needs root", remedy=app.as_root(app.said))
    with open_lock(app.lock_file) as file:
        end = app.host.ticks() + LOCK_SECONDS
        while not try_lock(file):
            ours = holder and plan_lock(read_json(app.rollout_file), holder, "")
            if not ours or app.host.ticks() >= end:
                message = busy_message(app.name, read_json(app.lock_file))
                raise Busy(message, remedy="wait for it to end, then run this again")
            app.host.sleep(0.5)
        file.truncate(0)
        now = utc(app.host.now())
        file.write(json.dumps({"pid": app.host.pid(), "user": app.by, "command": app.said, "since": now}))
        file.flush()
        yield
        file.truncate(0)


def lock_holder(app: App) -> Json | None:
    """Return who holds the lock; None if nobody does."""
    try:
        with open(app.lock_file, encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return read_json(app.lock_file) or {}
    except OSError:
        pass
    return None


def acquire(app: App, holder: Json | None) -> bool:
    """Take the rollout lock, or show a sign of life; True if that was not its own before."""
    if not holder:
        return False
    rollout = read_json(app.rollout_file)
    now = app.host.now()
    mine = plan_lock(rollout, holder, utc(now))
    if mine is None:
        assert rollout
        raise Busy(
            lock_text(app.name, rollout, now),
            remedy="wait for it to end; if it is dead: ansible-playbook flaskfleet.web.unlock, or here:"
            f" {app.as_root(f'flaskctl {app.name} unlock --force')}",
        )
    if not app.dry:
        app.host.checkpoint("lock-acquire")
        write_json(app.rollout_file, mine, 0o600)
    return not rollout or rollout.get("id") != mine["id"]


def renew(app: App, holder: Json | None) -> None:
    """Heed the rollout lock before traffic moves. It stops another rollout, not a person at three in the morning."""
    rollout = read_json(app.rollout_file)
    if rollout and not holder:
        app.warnings.append(f"{lock_text(app.name, rollout, app.host.now())}: it may move the app again")
    try:
        acquire(app, holder)
    except OSError as error:  # a rollback must go on a full disk too
        app.warnings.append(f"no sign of life in {app.rollout_file}: {error.strerror}")

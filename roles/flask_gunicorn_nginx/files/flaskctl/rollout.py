"""The commands that begin and end a rollout: lock, unlock."""

from __future__ import annotations

import os

from flaskctl import Json
from flaskctl.app import App
from flaskctl.engines import prune_engines
from flaskctl.errors import Busy, Usage
from flaskctl.files import erase, read_json
from flaskctl.lock import acquire, lock_text, locked
from flaskctl.prune import prune_to
from flaskctl.restart import begin_anew
from flaskctl.sockets import close_former, forget_former


def lock(app: App, holder: Json | None) -> Json:
    app.settings()
    if not holder:
        raise Usage("lock wants --holder")
    with locked(app, holder):
        taken = acquire(app, holder)
        rollout = read_json(app.rollout_file)
    said = f"{holder['id']} {'has' if taken else 'still has'} the rollout lock"
    return {"lease": rollout, "changed": taken, "msg": said}


def unlock(app: App, holder: Json | None, force: bool, keep: int | None) -> Json:
    """Release the rollout lock; with `keep`, prune before, so that the last call of a rollout does both.

    It also leaves the socket from which the rollout has moved the app: until here the host could have gone back.
    """
    app.settings()
    if bool(holder) == force:
        raise Usage("unlock wants --holder, or --force to release that of another")
    with locked(app, holder):
        rollout, there = read_json(app.rollout_file), os.path.lexists(app.rollout_file)
        if holder and rollout and rollout.get("id") not in (holder["id"], holder.get("takes_over")):
            raise Busy(lock_text(app.name, rollout, app.host.now()), remedy="unlock --force releases it")
        pruned: Json = prune_to(app, keep) if keep is not None else {"changed": False, "msg": ""}
        current = app.linked("current")
        if keep is not None and current and not app.dry and close_former(app):
            begin_anew(app, current, current in app.state().active)
            forget_former(app)
            pruned.update(changed=True, msg="; ".join([pruned["msg"], app.repairs[-1]]))
        if there and not app.dry:
            app.host.checkpoint("lock-release")
            erase(app.rollout_file)
            if force:
                app.audit("unlock", None, was=rollout)
        if not app.dry:
            prune_engines(app)
    said: list[str] = ["the rollout lock is released" if there else "there is no rollout lock", pruned["msg"]]
    return {
        **pruned,
        "lease": None,
        "was": rollout,
        "changed": there or pruned["changed"],
        "msg": "; ".join(filter(None, said)),
    }

"""The commands that move traffic: activate, rollback."""

from __future__ import annotations

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import read_json
from flaskctl.layout import RELEASE_ID
from flaskctl.lock import locked, renew
from flaskctl.recover import recover
from flaskctl.switch import switch_to


def activate(app: App, wanted: str, holder: Json | None = None) -> Json:
    settings = app.settings()
    with locked(app, holder):
        state = app.state()
        if state.intent or wanted != state.current or wanted not in state.active:
            renew(app, holder)  # where it serves already nothing moves
        if app.dry and RELEASE_ID.match(wanted) and not app.manifest(wanted):
            return {"id": wanted, "changed": True, "msg": f"would activate {wanted}, once it is staged"}
        release = app.find(wanted)
        recover(app)
        answer = switch_to(app, release, "activate", settings)
        return {**answer, "lease": read_json(app.rollout_file)}


def rollback(app: App, wanted: str | None, holder: Json | None = None) -> Json:
    settings = app.settings()
    with locked(app, holder):
        renew(app, holder)
        recover(app)
        state, releases = app.state(), app.releases()
        release = app.find(wanted) if wanted else app.rollback_to(state, releases)
        if not release:
            others = ", ".join(item.id for item in releases if item.id != state.current and not item.refused)
            what = f"{app.name} has no good release before {state.current or 'the first one'} to go back to"
            name_one = app.as_root(f"flaskctl {app.name} rollback ID")
            raise Refused(what, remedy=f"name one: {name_one}; there is {others}" if others else "")
        return switch_to(app, release, "rollback", settings)

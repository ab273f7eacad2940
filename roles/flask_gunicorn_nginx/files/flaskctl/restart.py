"""The command restart: fresh processes for the current release."""

from __future__ import annotations

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.instances import (
    check_whole,
    end_standbys,
    patiently,
    stand,
    standbys,
    start_standby,
    started,
)
from flaskctl.lock import locked, renew
from flaskctl.recover import recover
from flaskctl.sockets import close_former, forget_former, open_socket
from flaskctl.verify import VERIFY_SECONDS, ask, has_site


def restart(app: App, holder: Json | None = None) -> Json:
    """Give the current release fresh processes, and no request a wait: a standby instance serves meanwhile.

    So the release gets a socket that was opened meanwhile, and loses the one that the app has left.
    """
    settings = app.settings()
    with locked(app, holder):
        renew(app, holder)
        recover(app)
        units = app.units()
        state = app.state(units)
        release = state.current
        if not release:
            raise Refused(f"{app.name} has no current release", remedy=app.as_root(f"flaskctl {app.name} activate ID"))
        answer: Json = {"id": release, "changed": True, "repairs": app.repairs}
        if app.dry:
            return {**answer, "msg": f"would restart {release}"}
        began = app.host.ticks()
        check_whole(app, release)
        open_socket(app, state, units)
        left = close_former(app)
        begin_anew(app, release, release in state.active)
        if left:
            forget_former(app)
        # while it moves nginx may not ask yet as the settings say
        proven = has_site(app, settings) and not app.former
        wrong = ask(app, settings["verify"], release, VERIFY_SECONDS)[1] if proven else ""
        if wrong:
            raise Refused(f"{release} runs anew, but through nginx: {wrong}", remedy=app.look_at_nginx())
        seconds = round(app.host.ticks() - began, 2)
        return {**answer, "seconds": seconds, "msg": f"restarted {release}, in {seconds:.1f} s"}


def begin_anew(app: App, release: str, active: bool) -> None:
    """Start a release anew, with its workers; where it serves, a standby instance does until it serves again."""
    again = app.as_root(f"flaskctl {app.name} restart")
    if active:
        start_standby(app, release)
        app.host.checkpoint("restart-first")
        with patiently(app, [release]):
            refused = app.host.each("stop", app.unit(release))
        if app.host.up(app.unit(release)):
            raise Refused(
                f"{app.unit(release)} does not stop; it and its standby instance serve",
                "\n".join(refused.values()),
                f"mend the cause, then {again}",
            )
    app.host.checkpoint("restart-again")
    failed = started(app, [app.unit(release)])
    if failed:
        serves = "; its standby instance serves" if standbys(app) else ""
        what = f"{release} does not start again: {failed[0]}{serves}"
        raise Refused(what, failed[1], f"mend the cause, then {again}")
    app.host.checkpoint("restart-done")
    standby = end_standbys(app)
    same, words = restart_workers(app, release)
    done, left = stand(app, release)
    app.repairs += done
    beside = [f"beside it {other} runs on" for other in app.state().running if other != release]
    left = "; ".join(filter(None, [standby, *(f"{unit} could not be restarted" for unit in same), left, *beside]))
    app.audit("restart", release, **({"still": left} if left else {}))
    if left:
        raise Refused(f"{release} runs anew, but {left}", words, f"mend the cause, then {again}")


def restart_workers(app: App, release: str) -> tuple[list[str], str]:
    """Give the workers of a release fresh processes; return those that have not got them, and systemd's words."""
    workers = app.processes(release, ".service")
    before = app.host.show(*workers) if workers else {}
    refused = app.host.each("restart", *workers)
    after = app.host.show(*workers) if workers else {}
    pids = {unit: (shown.get(unit, {}).get("MainPID", "0") for shown in (before, after)) for unit in workers}
    same = [unit for unit, (old, new) in pids.items() if unit in refused or old == new]
    return same, "\n".join(refused.values())

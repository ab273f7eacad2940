"""The one way that traffic moves from a release to another: start, prove, switch, prove, drain."""

from __future__ import annotations

from typing import NoReturn

from flaskctl import Json
from flaskctl.app import App
from flaskctl.diagnosis import explain
from flaskctl.doctor import tell_walls
from flaskctl.errors import Refused
from flaskctl.files import erase, link, sync_directory, write_json
from flaskctl.host import Units
from flaskctl.instances import (
    HANGS,
    begin_schedules,
    check_whole,
    drain_off,
    end_standbys,
    forget_failures,
    lacking,
    patiently,
    stand,
    standbys,
    start_and_watch,
    stop,
)
from flaskctl.plan import Intent, State, plan_activation
from flaskctl.sockets import close_socket, open_socket
from flaskctl.static import link_kept
from flaskctl.texts import utc
from flaskctl.verify import VERIFY_SECONDS, ask, has_site, open_firewall, tell_closed_ports, verify


def switch_to(app: App, release: str, how: str, settings: Json) -> Json:
    """Start, prove, switch, prove, drain: the whole switch of a host is here and in finish()."""
    units = app.units()
    state = app.state(units)
    plan = plan_activation(state, release)
    answer: Json = {"id": release, "from": state.current, "repairs": app.repairs}
    if app.dry or not any(plan):
        return {**answer, **nothing_moves(app, state, units, release, how, any(plan), settings)}
    began = app.host.ticks()
    check_whole(app, release)
    open_socket(app, state, units)
    intent = Intent(release, state.current, state.previous, how, utc(app.host.now()))
    app.host.checkpoint("intent")
    try:
        write_json(app.intent_file, intent.as_json(), 0o600)
    except OSError as error:  # a rollback must go on a full disk too; a recovery can do without
        app.warnings.append(f"do not interrupt this: {error}")
    if plan.start:
        gate(app, release, state)
    try:
        move_links(app, intent)
    except OSError:
        restore_links(app, intent)
        left = stop(app, [release] if plan.switch else [])
        app.warnings += [left] if left else []
        erase(app.intent_file)
        raise
    finish(app, intent, settings)
    after, seconds = app.state(), app.host.ticks() - began
    answer.update(current=after.current, previous=after.previous, active=list(after.active), changed=True)
    done = "rolled back to" if how == "rollback" else "activated"
    origin = f", from {state.current}" if plan.switch and state.current else ""
    return {**answer, "seconds": round(seconds, 2), "msg": f"{done} {release}{origin}, in {seconds:.1f} s"}


def finish(app: App, intent: Intent, settings: Json) -> None:
    """From the switch to the end: ask through nginx, drain the others, and forget the intent.

    nginx keeps connections to the old instance open for as long as that accepts requests on them. So whether nginx
    answers at all is asked before the drain, and whether it is this release that answers once the drain has begun.
    """
    app.host.checkpoint("verify")
    address = settings.get("verify") if has_site(app, settings) else None
    others = [release for release in app.state().running if release != intent.to]
    if address:
        open_firewall(app, settings)
    if address and others:
        prove(app, intent, address, others=True)
    app.host.checkpoint("drain")
    standby = end_standbys(app)
    if intent.to != intent.origin:
        begin_schedules(app, intent.to)
    drain_off(app, others)
    if address:
        prove(app, intent, address)
        tell_closed_ports(app, settings)
    if intent.how != "rollback":  # in a hurry, to one that is known
        tell_walls(app, intent.to)
    app.host.checkpoint("timers")
    idle = stand(app, intent.to)[1]
    app.host.checkpoint("drained")
    with patiently(app, others):
        left = "; ".join(filter(None, [standby, stop(app, others)]))
    units = app.units()  # a drain takes its time: something may have ended meanwhile
    idle = idle or "; ".join(map(str, lacking(app, intent.to, units)))
    forget_failures(app, units, intent.to)
    erase(app.releases_dir / intent.to / "refused.json")
    app.host.checkpoint("audit")
    more = {"was": intent.origin, "began": intent.began, "still": "; ".join(filter(None, [left, idle]))}
    app.audit(intent.how, intent.to, **{key: value for key, value in more.items() if value})
    link_kept(app)
    app.host.checkpoint("done")
    erase(app.intent_file)
    sync_directory(app.base)
    again = app.as_root(f"flaskctl {app.name} activate {intent.to}")
    if left:
        what = f"{intent.to} is current and serves, but beside it {left}: users meet both"
        raise Refused(what, remedy=f"stop it, then {again}")
    if idle:
        raise Refused(f"{intent.to} is current and serves, but {idle}", remedy=f"mend the cause, then {again}")


def nothing_moves(app: App, state: State, units: Units, release: str, how: str, would: bool, settings: Json) -> Json:
    """Return the answer where nothing moves, or it is only said what would.

    What was stopped or switched off by hand is put right, and what serves is proven, all the same.
    """
    said = f"would {how}: {release}" if would else f"{release} is current and serves"
    if app.dry and not would:
        wrong = [str(lack) for lack in lacking(app, release, units)]
        would, said = bool(wrong), f"would put right: {', '.join(wrong)}" if wrong else said
    if not app.dry:
        open_socket(app, state, units)
        done, left = stand(app, release)
        left = "; ".join(filter(None, [left, *(f"{unit} runs on" for unit in standbys(app))]))
        app.repairs += done
        if done:
            app.audit("repair", release, what=done)
        if left:
            remedy = f"mend the cause, then {app.as_root(f'flaskctl {app.name} activate {release}')}"
            raise Refused(f"{release} is current, but {left}", remedy=remedy)
        if has_site(app, settings):
            open_firewall(app, settings)
            said = str(verify(app, release)["msg"])
        said += f"; {'; '.join(app.repairs)}" if app.repairs else ""
    where = {"current": state.current, "previous": state.previous, "active": list(state.active)}
    return {**where, "changed": would or bool(app.repairs), "msg": said}


def gate(app: App, release: str, state: State) -> None:
    """Start the release beside the one that serves; `systemctl start` succeeds when each worker is healthy."""
    web, workers = app.unit(release), app.processes(release, ".service")
    if any(shown.get("NeedDaemonReload") == "yes" for shown in app.host.show(web, *workers).values()):
        app.reload()
    app.host.checkpoint("start")
    since = app.host.now()
    # workers first: the web part answers users from its READY on, so all that can refuse a release comes before
    unit, why = start_and_watch(app, workers)
    if not why:
        unit, why = start_and_watch(app, [web, *workers])
    app.host.checkpoint("started")
    if why:
        refuse(app, release, state, unit, since, why)


def refuse(app: App, release: str, state: State, unit: str, since: float, why: str) -> NoReturn:
    """Stop a release that failed its gate, mark it, and let it speak for itself."""
    if app.host.show(unit).get(unit, {}).get("Result") == "timeout":
        why = HANGS
    said = app.host.journal(unit, since)
    detail, remedy = explain(app.name, said, app.host.verdict(unit, since), app.service_settings(release))
    if release == state.current:  # nothing else is there to serve: systemd goes on trying
        erase(app.intent_file)
        raise Refused(
            f"the current release {release} does not start: {why}", detail, app.as_root(f"flaskctl {app.name} rollback")
        )
    left = stop(app, [release])
    if not state.current and not state.running:
        left = "; ".join(filter(None, [left, close_socket(app)]))
    app.mark_refused(release, why)
    erase(app.intent_file)
    serves = f"{', '.join(state.active)} goes on serving" if state.active else "nothing serves"
    serves += f"; {left}" if left else ""
    raise Refused(f"release {release} of {app.name} is refused: {why}; {serves}", detail, remedy)


def move_links(app: App, intent: Intent) -> None:
    """Move `current`, and `previous` after it: by `current` a recovery knows which side of the switch it is on."""
    app.host.checkpoint("current")
    if app.linked("current") != intent.to:
        link(app.base / "current", f"releases/{intent.to}")
    app.host.checkpoint("previous")
    if intent.origin and intent.origin != intent.to and app.linked("previous") != intent.origin:
        link(app.base / "previous", f"releases/{intent.origin}")


def prove(app: App, intent: Intent, address: Json, others: bool = False) -> None:
    """Ask through nginx for an answer of the release, or of `others` too. Where none comes, go back, and prove that."""
    answer, wrong = ask(app, address, intent.to, VERIFY_SECONDS, others)
    if not wrong:
        return
    origin = intent.origin if intent.origin != intent.to and app.manifest(intent.origin) else None
    look = app.look_at_nginx()
    if not origin:
        erase(app.intent_file)
        raise Refused(f"release {intent.to} runs, but through nginx: {wrong}", answer.body, look)
    app.host.each("start", app.unit(origin), *app.processes(origin, ".service"))
    if origin not in app.state().active:
        erase(app.intent_file)
        raise Refused(f"{wrong}; and {origin} does not start again, so {intent.to} stays", answer.body, look)
    restore_links(app, intent)
    idle = stand(app, origin)[1]
    left = stop(app, [intent.to])
    erase(app.intent_file)
    also = "".join(f"; {what}" for what in (left, idle) if what)
    if ask(app, address, origin, VERIFY_SECONDS)[1]:
        what = f"neither {intent.to} nor {origin} answers through nginx, {origin} is current again: {wrong}{also}"
        raise Refused(what, answer.body, f"no release is the cause: {look}")
    app.mark_refused(intent.to, wrong)
    what = f"release {intent.to} of {app.name} is refused: {wrong}; {origin} serves again, proven through nginx"
    raise Refused(what + also, answer.body)


def restore_links(app: App, intent: Intent) -> None:
    """Put the links back as they were before the activation."""
    for name, release in (("current", intent.origin), ("previous", intent.previous)):
        if not app.manifest(release):
            erase(app.base / name)
        elif app.linked(name) != release:
            link(app.base / name, f"releases/{release}")

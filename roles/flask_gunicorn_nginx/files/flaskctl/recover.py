"""What an earlier flaskctl was cut in, or a careless hand has left, is put right. Nothing else is done here."""

from __future__ import annotations

from fnmatch import fnmatch

from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import erase, link
from flaskctl.host import Units
from flaskctl.instances import end_standbys, forget_failures, standbys, started, stop
from flaskctl.plan import Recovery, State, plan_recovery
from flaskctl.static import link_kept
from flaskctl.switch import finish, move_links, restore_links


def recover_standby(app: App, state: State) -> None:
    """End a restart that was cut: start the release itself where only its standby instance serves, and stop that."""
    if state.current and state.current not in state.active and started(app, [app.unit(state.current)]):
        app.warnings.append(f"{state.current} does not start again, its standby instance from a cut restart serves")
        return
    left = end_standbys(app)
    app.warnings += [left] if left else []
    app.repairs += [] if left else ["finished: a restart was cut"]


def recover(app: App) -> None:
    """Finish or undo what an earlier flaskctl was cut in, mend a missing `current`, sweep up what is half made."""
    units = app.units()
    state = app.state(units)
    plan = plan_recovery(state, app.last_activated())
    if app.dry:
        app.warnings += [plan.why] if plan.why else []
        return
    reload_units(app, units)
    stop_trials(app, units)
    if not state.intent and standbys(app):
        recover_standby(app, state)
        state = app.state()
    for path in app.releases_dir.glob(".*"):
        erase(path)
    carry_out(app, state, start_again(app, state, plan))
    if plan.action not in ("none", "stop"):  # and what runs beside the current release is known only now
        state = app.state()
        again = plan_recovery(state, state.current)
        if again.action == "stop":
            carry_out(app, state, again)
    if state.current and state.current in state.active:
        forget_failures(app, units, state.current)


def carry_out(app: App, state: State, plan: Recovery) -> None:
    """Put right what the plan says, and say what came of it."""
    still = mend(app, state, plan)
    if still:
        app.warnings.append(f"{plan.why}; {still}")
        app.audit("recover", plan.release, why=plan.why, still=still)
    elif plan.action != "none":
        said = {"finish": "finished: ", "undo": "undone: ", "stop": "stopped: "}.get(plan.action, "") + plan.why
        app.repairs.append(said)
        app.audit("recover", plan.release, why=said)
    link_kept(app)


def reload_units(app: App, units: Units) -> None:
    changed = [unit for unit, shown in units.items() if shown.get("NeedDaemonReload") == "yes"]
    if changed:
        app.reload()
        after = app.host.show(*changed)
        still = [unit for unit in changed if after.get(unit, {}).get("NeedDaemonReload") == "yes"]
        read = [unit for unit in changed if unit not in still]
        app.repairs += [f"had systemd read anew: {', '.join(read)}"] if read else []
        app.warnings += [f"systemd does not read {unit} anew" for unit in still]


def stop_trials(app: App, units: Units) -> None:
    """Stop what a stage that was cut has left of its trial."""
    left = [unit for unit in units if fnmatch(unit, app.trial_unit("*"))]
    refused = app.host.each("stop", *left)
    up = app.host.up(*left)
    for unit in left:
        if unit not in up:
            app.host.systemctl("reset-failed", unit)
    app.warnings += [f"{unit}, of a trial that was cut, runs on: {refused.get(unit, '')}" for unit in up]


def start_again(app: App, state: State, plan: Recovery) -> Recovery:
    """Start what an activation that was cut has switched to; return the plan, another one where it does not start."""
    intent = state.intent
    if not intent or plan.action != "finish" or intent.to in state.active:
        return plan
    refused = app.host.each("start", app.unit(intent.to), *app.processes(intent.to, ".service"))
    if not refused or intent.to == intent.origin:
        return plan
    return Recovery("undo", intent.origin, (intent.to,), f"{intent.to}, cut after the switch, does not start")


def mend(app: App, state: State, plan: Recovery) -> str:
    """Put right what the plan says; return what is as wrong as before, nothing if all is well."""
    if state.intent and plan.action == "finish":
        try:
            move_links(app, state.intent)
            finish(app, state.intent, app.settings())
        except Refused as error:
            return error.msg
        return ""
    if state.intent:
        restore_links(app, state.intent)
        still = stop(app, plan.stop)
        erase(app.intent_file)
        return still
    if plan.action == "relink":
        link(app.base / "current", f"releases/{plan.release}")
    return stop(app, plan.stop) if plan.action == "stop" else ""

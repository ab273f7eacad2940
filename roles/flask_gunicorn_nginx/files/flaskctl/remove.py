"""The command remove: an app leaves the host."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from flaskctl import Json, textfile
from flaskctl.app import App, apps
from flaskctl.certificate import forget_certificate
from flaskctl.engines import forget_engines
from flaskctl.errors import Refused
from flaskctl.files import erase, fingerprint, read_json, read_text
from flaskctl.firewall import UFW_RULES, ufw_opened
from flaskctl.layout import ENGINES, SOCKETS
from flaskctl.lock import locked
from flaskctl.record import on_record, recorded, recorded_name

# what stays on purpose, in words
RUNTIME = re.compile(r"(?m)^RuntimeDirectory=(.*)$")
DATA, OWNER, LOGS = " (its data)", " (owns its data)", " (what nginx logged of it)"


def remove(app: App, purge: bool) -> Json:
    """Take what the role made of the app off this host, and say what stays; data and logs go only with `purge`."""
    with locked(app):
        record = read_json(app.record_file) or {}
        answer: Json = {"removed": [], "left": [], "changed": False}
        if on_record(app) or f"user {app.name}" in record:
            answer = remove_recorded(app, record, purge)
    names = {name.partition(" ")[2] for name in read_json(app.record_file) or {} if name.startswith("user ")}
    answer["others"] = [name for name in apps(app.host) if name != app.name]
    answer["data_of"] = sorted(name for name in names if data_of(app, name))
    if not (answer["others"] or answer["data_of"] or app.dry):
        forget_engines(app, [ENGINES])  # the role takes them away next
        answer["removed"] += close_firewall(app)
    app.warnings += [f"{thing} stays" for thing in answer["left"] if not thing.endswith((DATA, OWNER, LOGS))]
    done = f"{'would remove' if app.dry else 'removed'} {app.name}" if answer["changed"] else ""
    left = f"left: {', '.join(answer['left'])}" if answer["left"] else ""
    return {**answer, "msg": "; ".join(filter(None, [done, left])) or f"{app.name} is not here"}


def close_firewall(app: App) -> list[str]:
    """Take away the rules of ufw that were made for apps, the last of which is gone; say which."""
    opened = ufw_opened(read_text(app.at(UFW_RULES[False])) or "")
    done = {port: app.host.run(["ufw", "delete", "allow", f"{port}/tcp"]).rc for port in opened}
    return [f"ufw allow {port}/tcp" for port, rc in done.items() if not rc]


def data_of(app: App, name: str) -> list[Path]:
    """Return the directories in which an app keeps what it writes."""
    return [path for path in app.data_dirs(name) if os.path.lexists(path)]


class Removal(NamedTuple):
    """What a removal is to do, and what it leaves."""

    goes: list[Path]
    stops: list[str]
    account: bool  # the user goes
    keeps: bool  # the user stays ours, for the data that it owns
    left: list[str]


def plan_removal(app: App, record: Mapping[str, str], purge: bool) -> Removal:
    data, user = data_of(app, app.name), app.host.account(app.name)
    known = record.get(f"user {app.name}")
    ours = user is not None and (str(user) == known if known else user.as_made())
    keeps = ours and bool(data) and not purge
    left = left_alone(app, record)
    logs = app.nginx_logs()
    if not purge:
        left += [f"{recorded_name(app, path)}{DATA}" for path in data]
        left += [f"{recorded_name(app, app.nginx_logs_dir)}/{app.name}.*.log*{LOGS}"] if logs else []
    if user and (keeps or not ours):
        left.append(f"user {app.name}{OWNER if ours else ' (not made by the role)'}")
    units = [unit for unit in (*sockets_of(app), app.service) if recorded_name(app, app.units_dir / unit) in record]
    stops = [name for name in app.units() if is_release_unit(app, name) or is_passing_unit(app, name)]
    stops = [*units, *app.host.up(app.build_unit, *stops)]
    return Removal(made_by_us(app, record) + (data + logs if purge else []), stops, ours and not keeps, keeps, left)


def remove_recorded(app: App, record: Mapping[str, str], purge: bool) -> Json:
    plan = plan_removal(app, record, purge)
    beside = forget_certificate(app, {}) + textfile.forget(app)
    changed = bool(plan.goes or app.host.up(*plan.stops) or plan.account or beside)
    if changed and not app.dry:
        mounts = [point for path in plan.goes for point in app.host.mounts_below(path)]
        if mounts:
            raise Refused(
                f"{', '.join(mounts)} is mounted in {app.name}", remedy=app.as_root(f"umount {' '.join(mounts)}")
            )
        app.host.checkpoint("remove-stop")
        stop_all(app, plan.stops)
        app.host.checkpoint("remove-files")
        for path in plan.goes:
            erase(path)
        with contextlib.suppress(OSError):  # somebody keeps something there
            app.base.rmdir()
        app.reload()
        app.host.systemctl("reset-failed", f"{app.name}.*", f"{app.name}@*")
        if plan.account:
            remove_account(app)
    if not app.dry:  # where nothing was left to change too: what was cut may have come as far as here
        forget(app, plan.goes, plan.keeps)
        erase(app.lock_file)
    removed = list(dict.fromkeys([*(recorded_name(app, path) for path in plan.goes), *beside]))
    return {"removed": removed, "left": plan.left, "changed": changed}


def stop_all(app: App, units: list[str]) -> None:
    """Stop the app, and have systemd start nothing of it any more."""
    refused = app.host.each("stop", *units)
    still = app.host.up(*units)
    if still:
        raise Refused(
            f"{', '.join(still)} cannot be stopped, so nothing of {app.name} is removed",
            "\n".join(filter(None, refused.values())),
            f"systemctl status {still[0]}",
        )
    enabled = [unit for unit in units if unit in (*sockets_of(app), app.service)]
    refused = app.host.each("disable", *enabled)
    shown = app.host.show(*enabled) if enabled else {}
    awake = [unit for unit in enabled if shown.get(unit, {}).get("UnitFileState") == "enabled"]
    if awake:
        raise Refused(
            f"{', '.join(awake)} cannot be disabled, so nothing of {app.name} is removed",
            "\n".join(filter(None, refused.values())),
            app.as_root(f"systemctl disable {' '.join(awake)}"),
        )


def remove_account(app: App) -> None:
    """Remove the user, and its group also where somebody was put into that, who is named."""
    user, members = app.host.account(app.name), app.host.members(app.name)
    done = app.host.run(["userdel", app.name])
    if app.host.account(app.name):
        raise Refused(f"the user {app.name} cannot be removed", done.err.strip(), "then run this again")
    if user and app.host.group(app.name) == user.gid:
        done = app.host.run(["groupdel", app.name])
    if app.host.group(app.name) is not None:
        app.warnings.append(f"the group {app.name} stays: {done.err.strip()}")
    elif members:
        app.warnings.append(f"{', '.join(members)} had been put into the group {app.name}, which is gone")


def forget(app: App, gone: Iterable[Path], account: bool) -> None:
    """Take what was removed, or left as somebody's, out of the record; what was kept for the data is still ours."""
    directories = [app.settings_file.parent, app.audit_file.parent, app.at(SOCKETS)]
    for directory in directories:
        with contextlib.suppress(OSError):  # other apps have theirs there
            directory.rmdir()
    with recorded(app) as record:
        for path in [*gone, app.settings_file, app.signers_file, *directories]:
            if not os.path.lexists(path):
                record.pop(recorded_name(app, path), None)
        for unit in own_units(app):
            record.pop(recorded_name(app, unit), None)
        record.pop(f"user {app.name}", None)
        if account:
            record[f"user {app.name}"] = str(app.host.account(app.name))
            record.update({recorded_name(app, path): "directory" for path in data_of(app, app.name)})


def made_by_us(app: App, record: Mapping[str, str]) -> list[Path]:
    """Return what stands of the app that the role or flaskctl made, the settings last: by them the app is known."""
    names = ("releases", "venvs", "wheels", "current", "previous", "activating.json", "rollout.json", "drained")
    found = [app.base / name for name in (*names, "maintenance.html")]
    found += [app.kept_link, *app.kept_dirs]
    found += [path for path in app.base.glob(".*.new")]
    found += [path for path in app.units_dir.glob(f"{app.name}[.@]*") if is_release_unit(app, path.name)]
    found += [path for path in app.passing_units_dir.glob(app.standby_unit("*"))]
    found += [app.timer_stamp(path.name) for path in app.units_dir.glob(f"{app.name}.*@*.timer")]
    found += runtime_directories(app)
    found += [path for path in own_units(app) if as_recorded(app, path, record)]
    found += [app.signers_file] if recorded_name(app, app.signers_file) in record else []
    found += [app.cache_dir, app.audit_file]
    found += [app.settings_file] if recorded_name(app, app.settings_file) in record else []
    return [path for path in found if os.path.lexists(path)]


def runtime_directories(app: App) -> list[Path]:
    """Return what systemd keeps in /run for the app's units; what belongs to another user is not ours."""
    user = app.host.account(app.name)
    texts = [read_text(path) or "" for path in app.units_dir.glob(f"{app.name}[.@]*.service")]
    words = {word.partition(":")[0] for text in texts for line in re.findall(RUNTIME, text) for word in line.split()}
    paths = [app.at(f"/run/{word.strip('/')}") for word in sorted(words) if ".." not in word and word.strip("/")]
    return [path for path in paths if user and path.is_dir() and path.stat().st_uid == user.uid]


def own_units(app: App) -> list[Path]:
    """Return the units that the role writes for the app, beside those of releases."""
    units = (*sockets_of(app), app.service, app.unit(""), app.renewal_service, app.renewal_timer)
    units += (app.metrics_service, app.metrics_timer)
    return [app.units_dir / unit for unit in units]


def sockets_of(app: App) -> list[str]:
    """Return the socket units that the app has; the settings, which tell which it is to have, may be gone."""
    both = (app.port_unit, app.unix_unit)
    return [unit for unit in both if os.path.lexists(app.units_dir / unit)] or [app.port_unit]


def left_alone(app: App, record: Mapping[str, str]) -> list[str]:
    """Return what stands under the app's name and stays: not made by the role, or changed by somebody."""
    ours = set(made_by_us(app, record))
    known = [*app.units_dir.glob(f"{app.name}[.@]*"), *app.base.glob("*")]
    return [f"{recorded_name(app, path)} (not as the role made it)" for path in sorted(known) if path not in ours]


def as_recorded(app: App, path: Path, record: Mapping[str, str]) -> bool:
    """Whether a unit holds what the role wrote: with it nothing of anybody else goes."""
    now = fingerprint(path).split(" ")[0]
    return now in [line.split(" ")[0] for line in record.get(recorded_name(app, path), "").splitlines()]


def is_release_unit(app: App, name: str) -> bool:
    """Return whether flaskctl wrote it with a release: a unit of one, or the directory of its drop-in."""
    return bool(re.fullmatch(rf"{app.name}(\.[a-z0-9-]+)?@[0-9a-f]{{12}}\.(service|timer)(\.d)?", name))


def is_passing_unit(app: App, name: str) -> bool:
    """Return whether it is a trial or a standby instance of a release."""
    return bool(re.fullmatch(rf"{app.name}\.(try|twin)-[0-9a-f]{{12}}\.service", name))

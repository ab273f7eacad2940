"""The command stage: a release comes to this host, whole, tried, and beside what serves."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

from flaskctl import Json
from flaskctl.app import App
from flaskctl.archive import unpack
from flaskctl.build import build, check_directives, check_schedules
from flaskctl.certificate_state import certificate_standing, unused
from flaskctl.damage import drop_ins, find_damage, sound_copy
from flaskctl.diagnosis import explain
from flaskctl.errors import Refused, Usage
from flaskctl.files import copy_code, read_json, read_text, stream_sha256, write_json
from flaskctl.instances import HANGS, lacking
from flaskctl.lock import acquire, locked
from flaskctl.permissions import close_app, close_what_was_open
from flaskctl.record import record_account
from flaskctl.recover import recover
from flaskctl.release import SHA256, Config, changes, parse_config, release_id
from flaskctl.signatures import vouched
from flaskctl.texts import utc
from flaskctl.units import service_settings, try_argv
from flaskctl.verify import serves
from flaskctl.wheels import WheelsNeeded, receive


class Sent(NamedTuple):
    """What goes along with an archive."""

    signature: str | None = None
    wheels: Path | None = None
    wheels_sha256: str | None = None
    wheels_signature: str | None = None


def stage(
    app: App,
    archive: Path | IO[bytes] | None,
    config_text: str | None,
    sha256: str | None,
    how: str | None = None,
    holder: Json | None = None,
    sent: Sent = Sent(),  # noqa: B008
) -> Json:
    """Make the release stand on this host, whole and sound. Nothing that is served changes.

    `how`: start it too, on a socket of its own: "import" to see that it starts, "health" to ask its health path.
    """
    settings = app.settings()
    if sha256 and not SHA256.match(sha256):
        raise Usage("--sha256 wants 64 hex digits")
    with contextlib.ExitStack() as stack:
        stack.enter_context(locked(app, holder))
        recover(app)
        app.repairs += close_what_was_open(app)
        app.host.give_way()
        current = app.linked("current")
        kept = read_text(app.releases_dir / str(current) / "config.json")
        config = config_to_stage(app, config_text, kept)
        file = stack.enter_context(open(archive, "rb")) if isinstance(archive, Path) else archive
        name = str(archive) if isinstance(archive, Path) else "the archive"
        serving = (app.manifest(current) or {}).get("archive_sha256")
        sha256 = checked(file, name, sha256) or serving
        if not sha256:
            raise Usage(f"{app.name} has no current release: which archive?", remedy="stage ARCHIVE --config FILE")
        diff = difference(kept, config)
        # what is made of the same as the current release has its id, and pays nothing for that
        release = str(current) if diff == {} and sha256 == serving else release_id(sha256, config)
        if release != current or (read_json(app.rollout_file) or {}).get("id") == (holder or {}).get("id"):
            acquire(app, holder)
        if sent.wheels and not app.dry:
            opened = stack.enter_context(open(sent.wheels, "rb"))
            with vouched(app, opened, str(sent.wheels), sent.wheels_signature, None) as wheels:
                receive(app, wheels, str(sent.wheels), sent.wheels_sha256)
        answer = stage_release(app, release, sha256, config, file, os.path.basename(name), sent.signature)
        record_account(app)
        if answer["changed"] and not app.dry:
            close_app(app)  # the virtualenv that was made too
        if release != current:
            if diff is not None:
                answer["diff"] = diff
            if how and answer["staged"] and not app.dry:
                answer["changed"] = try_out(app, release, config, how) or answer["changed"]
        answer["lease"] = read_json(app.rollout_file)
        answer["certificate"] = certificate_standing(app, settings)
        answer["certificate_unused"] = bool(unused(app, settings))
        answer["tried"] = bool(tried(app, release))
        answer["verified"] = release in answer["active"] and not answer["lacks"] and serves(app, release)
        return answer


def config_to_stage(app: App, text: str | None, kept: str | None) -> Config:
    """Return the configuration that was given, or that of the current release for a person who gives none."""
    if text is not None:
        return parse_config(text)
    if kept is None:
        raise Usage(f"{app.name} has no current release to take the configuration from", remedy="give --config")
    notes = {"by": app.by, "from": app.host.node_name()}
    return parse_config(kept)._replace(notes=notes)


def difference(kept: str | None, config: Config) -> Json | None:
    """Return what differs from the configuration of the current release; None where there is none that is known."""
    try:
        return changes(parse_config(kept), config) if kept else None
    except Refused:  # one that an older flaskctl wrote
        return None


def checked(file: IO[bytes] | None, name: str, sha256: str | None) -> str | None:
    """Return the checksum of the archive, where there is one; refuse it when it is another than was said."""
    if file is None:
        return sha256
    found = stream_sha256(file)
    file.seek(0)
    if sha256 and sha256 != found:
        raise Refused(f"{name} is corrupt: its sha256 is {found}, not {sha256}", remedy="send it again")
    return found


def tried(app: App, release: str) -> str:
    return str((read_json(app.releases_dir / release / "tried.json") or {}).get("how", ""))


def try_out(app: App, release: str, config: Config, how: str) -> bool:
    """Start a release in its own sandbox, without its socket, for its own gate to judge; False: that was done."""
    if tried(app, release) in (how, "health"):
        return False
    if "FLASKFLEET_TRY" not in config.gunicorn_conf:  # of a release that an older role configured
        app.warnings.append(f"{release} cannot be tried: its gunicorn.conf.py knows no other socket than the shared")
        return False
    unit, name = app.unit(release), app.trial_unit(release)
    texts = [config.service, *drop_ins(app, release, config, unit, config.service).values()]
    systemd = app.host.systemd_version()
    app.host.checkpoint("try-start")
    since = app.host.now()
    try:
        done = app.host.run(try_argv(unit, texts, systemd, name, how))
        result = app.host.show(name).get(name, {}).get("Result", "success") if done.rc else ""
        app.host.checkpoint("try-stop")
    finally:
        left = app.host.each("stop", name)
        app.warnings += [f"{unit}, which tried it, runs on: {left.get(unit, '')}" for unit in app.host.up(name)]
    if done.rc:
        said = app.host.journal(name, since)
        settings = list(service_settings(unit, texts, systemd))
        detail, remedy = explain(app.name, said, app.host.verdict(name, since), settings)
        app.host.systemctl("reset-failed", name)
        if result == "success":  # it was not even started
            raise Refused(f"release {release} of {app.name} could not be tried", done.err.strip())
        why = HANGS if result == "timeout" else "it does not pass its gate"
        app.mark_refused(release, why)
        raise Refused(f"release {release} of {app.name} is refused: {why}; nothing was switched", detail, remedy)
    write_json(app.releases_dir / release / "tried.json", {"when": utc(app.host.now()), "how": how}, 0o600)
    return True


def stage_release(
    app: App, release: str, sha256: str, config: Config, file: IO[bytes] | None, file_name: str, signature: str | None
) -> Json:
    """Make a release, or mend it, and say what was done or would be."""
    python = app.host.python_version(config.python)
    manifest = app.manifest(release)
    damage, foreign = find_damage(app, release, manifest, config, python) if manifest else ([], [])
    app.warnings += [f"{path} was not deployed; it stays as long as something runs from there" for path in foreign]
    todo = manifest is None or bool(damage)
    if manifest is None:
        check_schedules(app, config)
        check_directives(app, release, config)
    # where archives have to be signed, code that stands already is better than an archive that is not
    like = sound_copy(app, sha256, config) if todo and (file is None or app.signers_file.exists()) else None
    needed = todo and file is None and like is None
    key, built, wheels = (manifest or {}).get("venv"), False, None
    if todo and not needed and not app.dry:
        try:
            fill = code_from(app, sha256, file, file_name, signature, like)
            key, built = build(app, release, sha256, config, python, fill, damage)
            app.repairs += damage
        except WheelsNeeded as lacking_wheels:
            wheels = lacking_wheels.facts
    units = app.units()
    state = app.state(units)
    return {
        "id": release,
        **app.where(state, units),
        # of the release that serves: an activation puts it right
        "lacks": [str(lack) for lack in lacking(app, state.current, units)] if state.current else [],
        "changed": bool(app.repairs) or (todo and (app.dry or not (needed or wheels))),
        "staged": manifest is not None or (todo and not (needed or wheels) and not app.dry),
        "archive_needed": needed,
        "wheels_needed": wheels,
        "repairs": [*app.repairs, *damage] if app.dry else app.repairs,
        "releases": [item.id for item in app.releases()],
        "python": python,
        "venv": {"key": key, "built": built},
        "msg": said(app, release, manifest is not None, damage, needed, wheels),
    }


def code_from(
    app: App, sha256: str, file: IO[bytes] | None, name: str, signature: str | None, like: Path | None
) -> Callable[[Path], None]:
    """Return what puts the code in a directory: from a release that has the same, or from the archive."""

    def fill(code: Path) -> None:
        if file is None or like:
            copy_code(Path(str(like)), code)
            return
        with vouched(app, file, name, signature, sha256) as archive:
            code.mkdir()
            unpack(archive, name, code)

    return fill


def said(app: App, release: str, there: bool, damage: Sequence[str], needed: bool, wheels: Json | None) -> str:
    """Return what came of it, in words."""
    if wheels:
        return f"{release} needs the wheels for {wheels['key']}: run the playbook, which sends them"
    if needed:
        return f"{release} needs its archive"
    if not there:
        return f"{'would stage' if app.dry else 'staged'} {release}"
    mended = f", {'would mend' if app.dry else 'mended'}: {', '.join(damage)}" if damage else ""
    return f"{release} is staged{mended}"

"""What has drifted in a release that stands: status tells it, stage mends it. Reads, changes nothing."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from flaskctl import Json
from flaskctl.app import App
from flaskctl.ceilings import ceilings_drop_in
from flaskctl.errors import Refused
from flaskctl.files import differs, for_owner, inventory, mode_of, read_json
from flaskctl.layout import SBOM, release_path
from flaskctl.outbound import resolvers_drop_in, shut_out
from flaskctl.release import Config, credentials_drop_in, python_drop_in, release_files, static_target
from flaskctl.requirements import dependencies_of, venv_base, venv_key
from flaskctl.server import needs, server_of
from flaskctl.units import lies_on, mount_points, service_settings, shuts_all
from flaskctl.venv import venv_sound
from flaskctl.writable import missing_writable


def find_damage(app: App, release: str, manifest: Json, config: Config, python: str) -> tuple[list[str], list[str]]:
    """Return what is wrong with a release that stands, in words; and what is foreign in it, but must stay.

    What no one deployed goes only when nothing runs from the release: a process may use it.
    """
    home = app.releases_dir / release
    wanted, there = for_owner(manifest.get("files") or {}), for_owner(inventory(home / "app"))
    extra, stray = foreign_names(app, release, config, there.keys() - wanted.keys())
    stay = sorted(str(home / name) for name in extra + stray) if extra + stray and release in app.in_use() else []
    # below a link that somebody has put in place of a directory, nothing is ours
    beyond = tuple(f"{name[len('app/') :]}/" for name in extra if stay)
    broken = any(there.get(name) != what for name, what in wanted.items() if not name.startswith(beyond))
    broken = broken or bool(extra and not stay)
    found = [f"files of {release}/app"] if broken else []
    generated = {home / name: file for name, file in release_files(config).items()}
    for path, (text, mode) in {**generated, **unit_files(app, release, config)}.items():
        found += [str(path)] if differs(path, text, mode) else []
    if config.credentials and mode_of(home / "credentials") != "0o700":
        found.append(str(home / "credentials"))
    found += venv_damage(app, release, manifest, config, python, code_is_whole=not broken)
    if manifest.get("site") and not (home / "site").is_dir():
        found.append(f"{release}/site")
    found += missing_writable(app, config)
    static = os.readlink(home / "static") if (home / "static").is_symlink() else None
    if static != static_target(home, config.static_dir):
        found.append(f"{release}/static")
    return found + sorted(str(home / name) for name in stray if not stay), stay


def foreign_names(app: App, release: str, config: Config, unknown: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return what nobody deployed, in the code and beside it; mount points are none of it."""
    known = {"app", "site", "static", "venv", "credentials", "config.json"}
    known |= {"manifest.json", "refused.json", "tried.json", SBOM, *release_files(config)}
    points = mount_points_of(app, release, config)
    extra = [f"app/{os.path.normpath(name)}" for name in unknown]
    stray = set(os.listdir(app.releases_dir / release)) - known
    return [name for name in extra if not lies_on(name, points)], [name for name in stray if not lies_on(name, points)]


def venv_damage(app: App, release: str, manifest: Json, config: Config, python: str, code_is_whole: bool) -> list[str]:
    """Return what is wrong with the virtualenv of a release; with damaged code there is no telling what it wants."""
    home, key = app.releases_dir / release, manifest.get("venv", "")
    base = venv_base(key)
    if code_is_whole:
        source = dependencies_of(home / "app", config.requirements, needs(server_of(config.gunicorn_conf)))
        base = venv_key(python, app.host.machine(), source, config)
    if venv_base(key) != base or os.path.realpath(home / "venv") != os.path.realpath(app.venvs_dir / key):
        return [f"{release}/venv"]
    return [] if venv_sound(app, key, python) else [f"virtualenv {key}"]


def mount_points_of(app: App, release: str, config: Config) -> list[str]:
    """Return where the release's own units mount something into it, by path in the release."""
    home = app.releases_dir / release
    texts = {app.unit(release): [config.service]}
    with contextlib.suppress(Refused):
        texts[app.unit(release)] += app.unit_texts(app.unit(release))
    for name, own in config.processes.items():
        texts[app.process_unit(name, release)] = [own["service"]]
    found = []
    for unit, lines in texts.items():
        for point in mount_points(service_settings(unit, lines, sys.maxsize)):
            # each release was or will be the current one
            inside = re.sub(rf"^/srv/{app.name}/(current|previous)/", f"{release_path(app.name, release)}/", point)
            path = os.path.realpath(app.at(inside))
            if path.startswith(f"{os.path.realpath(home)}/"):
                found.append(os.path.relpath(path, os.path.realpath(home)))
    return found


def own_commands(config: Config, home: Path) -> dict[str, dict[str, str]]:
    """Return the units of the processes, of which a command of the project itself is in the release, not its venv."""

    def place(found: re.Match[str]) -> str:
        here = home / "site/bin" / found[2]
        return f"{found[1]}/site/bin/{found[2]}" if here.exists() else found[0]

    program = re.compile(r"(?m)(?<=^ExecStart=)(\S*)/venv/bin/(\S+)")
    return {
        name: {kind: program.sub(place, text) for kind, text in texts.items()}
        for name, texts in config.processes.items()
    }


def unit_files(app: App, release: str, config: Config, home: Path | None = None) -> dict[Path, tuple[str, int]]:
    """Return the files of a release that stand with systemd's units: text and mode by path; `home` is where it is."""
    files, services = {}, {app.unit(release): config.service}
    for name, texts in own_commands(config, home or app.releases_dir / release).items():
        own = {app.process_unit(name, release, kind): text for kind, text in texts.items()}
        files.update({app.units_dir / unit: (text, 0o644) for unit, text in own.items()})
        services[app.process_unit(name, release)] = texts["service"]
    for service, text in services.items():
        for drop_in, lines in drop_ins(app, release, config, service, text).items():
            files[app.units_dir / f"{service}.d" / drop_in] = (lines, 0o644)
    return files


def drop_ins(app: App, release: str, config: Config, unit: str, text: str) -> dict[str, str]:
    """Return the texts that go beside that of a service: what is secret's, and what is this host's alone."""
    found = {}
    if config.credentials:
        found["credentials.conf"] = credentials_drop_in(app.name, release, config.credentials)
    settings = list(service_settings(unit, [text], sys.maxsize))
    ceilings = ceilings_drop_in(settings, server_of(config.gunicorn_conf), app.host.processors())
    if ceilings:
        found["ceilings.conf"] = ceilings
    python = python_drop_in(app.host.python_homes(config.python)) if shuts_all(settings) else ""
    if python:
        found["python.conf"] = python
    resolvers = shut_out(settings, app.host.resolvers())
    if resolvers:
        found["resolvers.conf"] = resolvers_drop_in(resolvers)
    return found


def sound_copy(app: App, sha256: str, config: Config) -> Path | None:
    """Return the code of a release that was made from this archive and still has each of its files.

    A directory that the app writes to is a link there: what the source holds in its place is gone.
    """
    for release in app.releases():
        home = app.releases_dir / release.id
        links = (read_json(home / "config.json") or {}).get("writable", [])
        if release.archive_sha256 != sha256 or not set(links) <= set(config.writable):
            continue
        if for_owner(inventory(home / "app")) == for_owner((app.manifest(release.id) or {}).get("files") or {}):
            return home / "app"
    return None

"""A release is made beside what serves and put in place whole, its units with it."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from flaskctl.app import App
from flaskctl.compress import END, compress
from flaskctl.damage import mount_points_of, own_commands, sound_copy, unit_files
from flaskctl.errors import Refused
from flaskctl.files import differs, erase, inventory, mirror, read_text, sync_directory, write, write_json
from flaskctl.layout import SBOM, release_path
from flaskctl.packages import installed_in, oldest_gevent
from flaskctl.permissions import close_release
from flaskctl.release import Config, release_files, static_target
from flaskctl.requirements import dependencies_of
from flaskctl.sbom import document
from flaskctl.server import Server, cautions, needs, server_of, unfit
from flaskctl.standing import complaints, directive
from flaskctl.texts import utc
from flaskctl.units import lies_on
from flaskctl.venv import ensure_venv, install_site
from flaskctl.writable import link_writable, link_writable_of_package

TEXTS = (".py", ".cfg", ".conf", ".ini", ".toml", ".yml", ".yaml", ".json", ".env", ".sh")
MOST_OF_A_TEXT = 256 * 1024  # characters that are looked at


def build(
    app: App, release: str, sha256: str, config: Config, python: str, fill: Callable[[Path], None], damage: list[str]
) -> tuple[str, bool]:
    """Make the release beside, then put it in place whole; or mend the `damage` of one that stands, and may serve.

    Returns the key of the virtualenv and whether that was built.
    """
    work, final = app.releases_dir / f".{release}.{app.host.pid()}", app.releases_dir / release
    old = app.manifest(release) if damage else None
    try:
        work.mkdir(parents=True)
        app.host.checkpoint("unpack")
        fill(work / "app")
        link_writable(app, work / "app", config)
        compress_static(app, work, config, "app/")
        files, server = inventory(work / "app"), server_of(config.gunicorn_conf)
        app.warnings += names_of_current(work / "app", files, config, app.releases_dir.with_name("current"))
        source = dependencies_of(work / "app", config.requirements, needs(server))
        key, built = ensure_venv(app, work / "app", source, config, python)
        check_packages(app, app.venvs_dir / key, server)
        in_use = final.is_dir() and release in app.in_use()
        app.host.checkpoint("build")
        os.symlink(f"../../venvs/{key}", work / "venv")
        if source.project:
            install_site(app, work, key, config, source, sound_copy(app, sha256, config))
            link_writable_of_package(app, work / "site", config)
        compress_static(app, work, config, "site/", "venv/")
        write_configuration(app, work, config)
        app.host.checkpoint("manifest")
        noted = {name: config.notes.get(name, "") for name in ("by", "from", "revision")}
        noted["by"] = noted["by"] or app.by
        known = {"id": release, "app": app.name, "when": utc(app.host.now()), **noted, **(old or {})}
        made = {"archive_sha256": sha256, "venv": key, "python": python, "site": source.project, "files": files}
        made.update({"signed_by": app.signed_by} if app.signed_by else {})
        write_json(work / SBOM, document(app, work, {**known, **made}, config))
        write_json(work / "manifest.json", {**known, **made})
        app.host.checkpoint("units")
        check_commands(app, release, config, work)
        write_units(app, release, config, work)
        check_units(app, release, config)
        app.audit("repair" if old else "stage", release, **noted, **({"what": damage} if old else {}))
        close_release(app, work)
        if old or in_use:
            mend_in_place(app, release, work, final, config, in_use)
        else:
            compile_code(app, work, final, config.python)
            app.host.sync()
            app.host.checkpoint("publish")
            erase(final)  # a directory without a manifest is no release
            os.rename(work, final)
        sync_directory(app.releases_dir)
        app.host.checkpoint("staged")
        return key, built
    finally:
        with contextlib.suppress(OSError):
            erase(work)


def names_of_current(tree: Path, files: Iterable[str], config: Config, link: Path) -> list[str]:
    """Return a warning where the source or the environment names the link to the release that serves.

    While a release is tried and proven that is the one before it, whose file it would read; or none.
    """
    name_of_it = re.compile(rf"{re.escape(str(link))}(?![\w.-])")
    named = [
        f"the environment variable {name}" for name, value in config.environment.items() if name_of_it.search(value)
    ]
    for name in sorted(name for name in files if name.endswith(TEXTS)):
        if not (tree / name).is_symlink():
            with open(tree / name, encoding="utf-8", errors="replace") as file:
                named += [name] if name_of_it.search(file.read(MOST_OF_A_TEXT)) else []
    if not named:
        return []
    return [
        f"{', '.join(named[:3])}{' and others' if len(named) > 3 else ''}: {link} is the release before, or none, while"
        " this one is tried and proven. Remedy: the app starts in its own code, so that ./FILE is there; in Python"
        " os.path.join(os.path.dirname(__file__), 'FILE')"
    ]


def compress_static(app: App, work: Path, config: Config, *within: str) -> None:
    """Compress the static files, where they lie in one of these parts of a release."""
    target = static_target(work, config.static_dir)
    if target and target.startswith(within):
        for name in compress(work / target, work, app.venvs_dir):
            plain = name[: -len(END)]
            app.warnings.append(
                f"{config.static_dir}/{name} does not unpack to {plain}, in whose place nginx sends it: made anew."
                f" Remedy: compress {plain} after its last change, or leave {name} out of the source"
            )


def check_packages(app: App, venv: Path, server: Server) -> None:
    """Refuse what cannot serve, and warn of what will not serve well."""
    packages = installed_in(venv)
    what, remedy = unfit(server, packages, oldest_gevent(venv))
    if what:
        raise Refused(what, remedy=remedy)
    app.warnings += cautions(server, packages)


def write_configuration(app: App, work: Path, config: Config) -> None:
    """Write what of a release comes from its configuration; the link to the static files is part of that."""
    for name, (text, mode) in release_files(config).items():
        write(work / name, text, mode)
    if config.credentials:
        (work / "credentials").chmod(0o700)
    write_json(work / "config.json", config._asdict(), 0o600)
    target = static_target(work, config.static_dir)
    if target:
        os.symlink(target, work / "static")
    elif config.static_dir:
        there = static_directories(work / "app")
        if config.static_asked:
            known = f" (there {'are' if len(there) > 1 else 'is'} {', '.join(there)})" if there else ""
            raise Refused(
                f"there is no directory {config.static_dir}, neither in the source nor in a package that it installs",
                remedy=f"correct `dir` of flask_gunicorn_nginx_static{known}; an empty one serves no static files",
            )
        if there:
            app.warnings.append(
                f"the app serves its static files itself, for there is no {config.static_dir} in the source. Remedy:"
                f" have nginx do it, flask_gunicorn_nginx_static: {{dir: {there[0]}}}"
            )


def static_directories(code: Path) -> list[str]:
    """Return where a source keeps static files, by the name that Flask gives them; of a src layout as installed."""
    found = [path.relative_to(code) for path in code.glob("**/static") if path.is_dir()]
    names = [str(path).removeprefix("src/") for path in found]
    return sorted(names, key=lambda name: (name.count("/"), name))[:3]


def mend_in_place(app: App, release: str, work: Path, final: Path, config: Config, in_use: bool) -> None:
    """Make a release that stands hold what was made beside it. Something may run from there."""
    refused = read_text(final / "refused.json")
    if refused:
        write(work / "refused.json", refused)
    points = mount_points_of(app, release, config)
    mirror(work, final, lambda name: in_use or lies_on(name, points))
    compile_code(app, final, final, config.python)


def check_commands(app: App, release: str, config: Config, home: Path) -> None:
    """Refuse a process whose program is not there: that of a schedule would be missed when its time comes."""
    place = f"{release_path(app.name, release)}/"
    for name, texts in own_commands(config, home).items():
        # of one in quotes systemd tells
        for word in re.findall(r"(?m)^ExecStart=([^\s\"'\\]+)(?=\s|$)", texts["service"]):
            program = word.replace("%i", release).replace("%%", "%")
            program = program.replace(f"{place.partition('/releases/')[0]}/current/", place)
            inside = program.startswith(place)
            if not os.path.lexists(home / program[len(place) :] if inside else app.at(program)):
                looked = "the release has no such command" if inside else "this host has no such program"
                raise Refused(
                    f"{name} of flask_gunicorn_nginx_processes is to run {os.path.basename(program)}: {looked}",
                    remedy="correct its command, or name the package that has it in the requirements",
                )


def write_units(app: App, release: str, config: Config, home: Path) -> None:
    changed = {path: file for path, file in unit_files(app, release, config, home).items() if differs(path, *file)}
    for path, (text, mode) in changed.items():
        write(path, text, mode)
    if changed:
        app.reload()


def check_units(app: App, release: str, config: Config) -> None:
    """Refuse a release with a unit that systemd cannot load, and take its units away again."""
    kinds = ((name, kind) for name, texts in config.processes.items() for kind in texts)
    units = [app.unit(release), *(app.process_unit(name, release, kind) for name, kind in kinds)]
    shown = app.host.show(*units)
    bad = {unit: shown.get(unit, {}) for unit in units if shown.get(unit, {}).get("LoadState") != "loaded"}
    if not bad:
        return
    if not app.manifest(release):
        for path in unit_files(app, release, config):
            erase(path if path.parent == app.units_dir else path.parent)
        app.reload()
    said = "\n".join(f"{unit}: {found.get('LoadError') or found.get('LoadState')}" for unit, found in bad.items())
    raise Refused(
        f"release {release} of {app.name} is refused: systemd cannot load {', '.join(bad)}; nothing was switched",
        said,
        "look at flask_gunicorn_nginx_processes and flask_gunicorn_nginx_service_settings",
    )


def check_schedules(app: App, config: Config) -> None:
    """Refuse a schedule that this host's systemd cannot read: its timer would never run."""
    for name, texts in config.processes.items():
        for when in re.findall(r"(?m)^OnCalendar=(.*)$", texts.get("timer", "")):
            done = app.host.run(["systemd-analyze", "calendar", "--", when])
            if done.rc not in (0, 127):
                what = f"the schedule {when!r} of {name} is none that systemd can read"
                raise Refused(what, done.err.strip(), "see systemd.time(7): daily, Mon 03:00, *-*-* 03:00:00")


def check_directives(app: App, release: str, config: Config) -> None:
    """Refuse a release whose units have a line that this host's systemd would ignore; it reads copies of them."""
    texts = {path.relative_to(app.units_dir): text for path, (text, _) in unit_files(app, release, config).items()}
    texts[Path(app.unit(release))] = config.service
    with tempfile.TemporaryDirectory(prefix="flaskctl-units-") as name:
        copies = Path(name)
        for path, text in texts.items():
            (copies / path).parent.mkdir(exist_ok=True)
            (copies / path).write_text(text, "utf-8")
        units = [str(copies / path) for path in sorted(texts) if path.suffix != ".conf"]
        # its exit code says nothing of these lines: it also fails for what is not there yet, and for units of others
        said = app.host.run(["systemd-analyze", "verify", "--man=no", *units]).err
        found = [each for each in complaints(said, app.host.systemd_version()) if copies in Path(each.file).parents]
        lines = [(Path(each.file).relative_to(copies), each) for each in found]
    told = [f"{directive(texts[path], each.line)} in {path}, line {each.line}: {each.words}" for path, each in lines]
    if told:
        names = ", ".join(dict.fromkeys(directive(texts[path], each.line) for path, each in lines))
        raise Refused(
            f"release {release} of {app.name} is refused: systemd ignores {names}; nothing was switched",
            "\n".join(told),
            "correct flask_gunicorn_nginx_service_settings or flask_gunicorn_nginx_processes, in systemd's own words",
        )


def compile_code(app: App, home: Path, final: Path, python: str) -> None:
    """Make byte code, with the final path in it. What does not compile, the gate refuses if the app imports it.

    By the Python that the virtualenv is made of, and not by the virtualenv's: that runs what packages have put there.
    """
    trees = [str(home / name) for name in ("app", "site") if (home / name).is_dir()]
    app.host.run([python, "-I", "-m", "compileall", "-q", "-s", str(home), "-p", str(final), *trees])

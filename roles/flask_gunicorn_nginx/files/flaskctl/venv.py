"""A virtualenv is made for a source: pip, Gunicorn, and the project itself. The only room that knows pip."""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import FULL, erase, write, write_json
from flaskctl.layout import PATH
from flaskctl.lock import open_lock, wait_for_lock
from flaskctl.packages import installed_in
from flaskctl.pip_words import pip_story
from flaskctl.release import Config
from flaskctl.requirements import (
    Dependencies,
    requirement_files,
    requirement_lines,
    requirement_name,
    venv_base,
    venv_key,
    without,
)
from flaskctl.texts import utc
from flaskctl.wheels import LOCKED, pip_settings, take_wheels

BUILD_SECONDS = 600.0  # how long to wait for what a flaskctl that was killed has left building


def venv_sound(app: App, key: str, python: str) -> bool:
    venv = app.venvs_dir / key
    if not (venv / ".complete").exists():
        return False
    done = app.host.run([str(venv / "bin" / "python"), "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
    return done.rc == 0 and done.out.strip() == python


def ensure_venv(app: App, tree: Path, source: Dependencies, config: Config, python: str) -> tuple[str, bool]:
    """Return the key of the virtualenv for this source, and whether it had to be built.

    It is built in place, for its scripts hold its path; `.complete`, written last, says that it is whole.
    """
    app.warnings += [source.warning] if source.warning else []
    if source.server and not config.server_requirements:
        what = "the source does not name all that serves it"
        raise Refused(what, remedy="add gunicorn[gevent], or give server_requirements")
    base = venv_key(python, app.host.machine(), source, config)
    names = [base, *(f"{base}.{number}" for number in range(2, 100))]
    sound = next((name for name in names if venv_sound(app, name, python)), None)
    if sound:
        return sound, False
    take_wheels(app, base, config)
    # a damaged one is not taken from under what runs from it: the next name is built, and the release's link moves
    users = {(app.manifest(release) or {}).get("venv") for release in app.in_use()}
    key = next(name for name in names if name not in users or not (app.venvs_dir / name).exists())
    venv = app.venvs_dir / key
    # pip inherits this second lock: where flaskctl was killed it may be writing still
    with open_lock(app.build_lock_file) as lock:
        wait_for_lock(app, lock, BUILD_SECONDS, "what a killed flaskctl has left still builds")
        try:
            app.host.checkpoint("venv")
            erase(venv)
            venv.mkdir(parents=True)
            tool(app, [config.python, "-m", "venv", str(venv)], config, tree, lock, "no virtualenv could be made")
            app.host.checkpoint("dependencies")
            install(app, venv, tree, source, config, lock)
            app.host.checkpoint("venv-complete")
            app.host.sync()
            write_json(venv / ".complete", {"key": key, "when": utc(app.host.now())})
        except BaseException:
            with contextlib.suppress(OSError):
                erase(venv)
            raise
    return key, True


def install(app: App, venv: Path, tree: Path, source: Dependencies, config: Config, lock: IO[str]) -> None:
    """Install what the source wants, then what it lacks to be served, then see whether all that fits together."""

    def pip(what: str, *words: str, where: Path = tree) -> None:
        tool(app, [str(venv / "bin" / "python"), "-I", "-m", "pip", *words], config, where, lock, what)

    if app.wheels:  # all that there is; what follows finds it there, and builds what the source itself holds
        install_wheels(app.wheels, pip)
    copy = venv / ".build"
    if source.paths or not source.file:
        shutil.copytree(tree, copy, symlinks=True)
    if source.file and not (app.wheels and not source.paths):
        if source.paths:
            make_plain(copy, source.file)
        hashes = ["--require-hashes"] if source.hashed else []
        where = copy if source.paths else tree
        pip(f"{source.file} could not be installed", "install", *hashes, "-r", source.file, where=where)
    elif not source.file:
        pip("the project's dependencies could not be installed", "install", str(copy))
    if copy.exists():  # what the project names stays; the project itself goes: it belongs to the release
        itself = installed_from(app, venv, f'{copy}"')
        if itself:
            pip("the project could not be taken out again", "uninstall", "-y", *itself)
        erase(copy)
    rest = without(config.server_requirements, installed_in(venv)) if source.server else ""
    if rest:
        file = venv / ".server.txt"
        write(file, rest)
        pip("what serves the app could not be installed", "install", "--require-hashes", "--no-deps", "-r", str(file))
        erase(file)
    try:
        pip("the requirements do not fit together", "check")
    except Refused:
        if not rest or source.hashed:
            raise
        install_older_server(app, venv, rest, pip)
        pip("the requirements do not fit together", "check")


def install_wheels(wheels: Path, pip: Callable[..., None]) -> None:
    """Install what the control node has sent."""
    try:
        pip("the wheels could not be installed", "install", "--require-hashes", "--no-deps", "-r", str(wheels / LOCKED))
    except Refused as error:
        erase(wheels)
        raise Refused(error.msg, error.detail, "run the playbook: it sends the wheels anew") from None


def install_older_server(app: App, venv: Path, rest: str, pip: Callable[..., None]) -> None:
    """Have pip look for a server that takes what the app pins, greenlet<3 say, where the role's own does not.

    Nothing locks it then, and nothing locks the app: one whose requirements have hashes never comes here.
    """
    names = [str(requirement_name(line)) for line in requirement_lines(rest)]
    freeze = app.host.run([str(venv / "bin" / "python"), "-I", "-m", "pip", "freeze", "--all"]).out
    pins = venv / ".pins.txt"
    write(pins, without(freeze, names))
    # only its extra says which gevent a Gunicorn takes
    server = [*names, "gunicorn[gevent]"] if "gevent" in names else names
    pip("no Gunicorn and gevent take what the app pins", "install", "-c", str(pins), *server)
    erase(pins)
    app.warnings.append(
        "the role's own Gunicorn and gevent do not take what the app pins: older ones serve it, unlocked"
    )


def make_plain(copy: Path, file: str) -> None:
    """Have what a requirements file installs from a path of the source copied, and not linked to (-e)."""
    for name, text in requirement_files(copy, file).items():
        write(copy / name, re.sub(r"(?m)^\s*(?:-e|--editable)[\s=]*(?!\S*://)(?:\./)?(?=[^\s/])", "./", text))


def installed_from(app: App, venv: Path, origin: str) -> list[str]:
    """Return the names of the packages of a virtualenv that were installed from a directory."""
    script = (
        "import importlib.metadata, sys\n"
        "for found in importlib.metadata.distributions():\n"
        "    if sys.argv[1] in (found.read_text('direct_url.json') or ''): print(found.metadata['Name'])\n"
    )
    return app.host.run([str(venv / "bin" / "python"), "-I", "-c", script, origin]).out.split()


def install_site(app: App, work: Path, key: str, config: Config, like: Path | None) -> None:
    """Put the project itself into the release: so releases with the same lock file share one virtualenv."""
    if like and (like.parent / "site").is_dir() and (app.manifest(like.parent.name) or {}).get("venv") == key:
        skip = shutil.ignore_patterns("__pycache__")
        shutil.copytree(like.parent / "site", work / "site", symlinks=True, ignore=skip)
        return
    take_wheels(app, venv_base(key), config)
    copy = work / ".build"  # setuptools writes into the source it builds
    shutil.copytree(work / "app", copy, symlinks=True)
    argv = [str(work / "venv" / "bin" / "python"), "-I", "-m", "pip", "install", "--no-deps", "--target"]
    tool(app, [*argv, str(work / "site"), str(copy)], config, work, None, "the project could not be installed")
    erase(copy)


def tool(app: App, argv: Sequence[str], config: Config, cwd: Path, lock: IO[str] | None, what: str) -> None:
    """Run one tool of the build, in an environment of our own: of host and caller only the proxy counts."""
    given = app.host.environment().items()
    environment = {k: v for k, v in given if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
    environment.update(PATH=PATH, HOME="/nonexistent", LANG="C.UTF-8", PIP_CONFIG_FILE="/dev/null", PIP_NO_INPUT="1")
    environment.update(PIP_NO_CACHE_DIR="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_PROGRESS_BAR="off")
    environment.update(PIP_ROOT_USER_ACTION="ignore", PIP_RETRIES="3", PIP_TIMEOUT="20")
    environment.update({"PIP_INDEX_URL": config.index_url} if config.index_url else {})
    environment.update({"PIP_CERT": config.ca_bundle} if config.ca_bundle else {})
    environment.update(pip_settings(app.wheels))
    # a build runs programs that it has made, and /tmp may be mounted noexec; the next call sweeps up what a kill leaves
    with tempfile.TemporaryDirectory(prefix=".build-", dir=app.releases_dir) as place:
        environment["TMPDIR"] = place
        done = app.host.run(argv, env=environment, cwd=cwd, pass_fds=[lock.fileno()] if lock else [])
    if done.rc:
        output = re.sub(r"(https?://)[^/@\s]+@", r"\1****@", f"{done.out}\n{done.err}".strip())
        lines = [line for line in output.splitlines() if line and not line.startswith("Looking in")]
        full = app.host.free_bytes(app.venvs_dir) < 16 * 1024**2
        cause, remedy = pip_story(output, app.host.python_version(config.python))
        raise Refused(f"{what}: {cause}" if cause else what, "\n".join(lines[-25:]), FULL if full else remedy)

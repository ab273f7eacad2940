"""A virtualenv is made for a source: pip, Gunicorn, and the project itself. The only room that knows pip."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from flaskctl.app import App
from flaskctl.backends import build_requires, chosen
from flaskctl.errors import Refused
from flaskctl.files import FULL, copy_code, erase, read_text, sync_directory, write, write_json
from flaskctl.layout import PATH
from flaskctl.packages import installed_in
from flaskctl.pip_words import needs_build, pip_story
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
from flaskctl.sandbox import Sandbox
from flaskctl.takeover import take_over
from flaskctl.texts import utc
from flaskctl.wheels import LOCKED, pip_settings, take_wheels

WHEELS = ("--only-binary", ":all:")
SETTING = "flask_gunicorn_nginx_pip"


def venv_sound(app: App, key: str, python: str) -> bool:
    """Tell whether a virtualenv is whole and of this Python, by its files: it would run what packages put there."""
    venv = app.venvs_dir / key
    made_of = re.search(r"(?m)^version *= *(\d+\.\d+)", read_text(venv / "pyvenv.cfg") or "")
    whole = (venv / ".complete").exists() and (venv / f"lib/python{python}/site-packages").is_dir()
    return whole and bool(made_of and made_of.group(1) == python) and os.access(venv / "bin" / "python", os.X_OK)


def ensure_venv(app: App, tree: Path, source: Dependencies, config: Config, python: str) -> tuple[str, bool]:
    """Return the key of the virtualenv for this source, and whether it had to be built.

    It is built beside its place, and within the sandbox in it, for its scripts hold its path.
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
    app.venvs_dir.mkdir(parents=True, exist_ok=True)
    app.host.checkpoint("venv")
    erase(venv)
    with Sandbox(app, venv, app.venvs_dir / f".{key}.build", [tree, *places(app, config)]) as box:
        pip = Pip(app, box, config, venv)
        copy = box.copy_in(tree) if source.paths or not source.file else None
        if copy and source.file:
            make_plain(copy, source.file)
        pip.tool([config.python, "-m", "venv", str(venv)], "no virtualenv could be made", tree)
        app.host.checkpoint("dependencies")
        install(app, pip, tree, source, copy)
        app.host.checkpoint("venv-complete")
        take_over(box.tree, box.makers(), app.host.python_program(config.python))
        app.host.sync()
        write_json(box.tree / ".complete", {"key": key, "when": utc(app.host.now())})
        if box.tree != venv:
            os.rename(box.tree, venv)
    sync_directory(app.venvs_dir)
    return key, True


class Pip(NamedTuple):
    """The pip of a virtualenv, in the sandbox in which something is built."""

    app: App
    box: Sandbox
    config: Config
    venv: Path

    def __call__(self, what: str, *words: str, where: Path, network: bool = False, tools: bool = False) -> None:
        self.tool([str(self.venv / "bin" / "python"), "-I", "-m", "pip", *words], what, where, network, tools)

    def tool(self, argv: Sequence[str], what: str, where: Path, network: bool = False, tools: bool = False) -> str:
        """Run one tool of the build; `network`: it asks the index, and `tools`: it builds with what is locked."""
        network = network and not self.app.wheels
        done = self.box.run(argv, self.environment(network, tools), where, network)
        if not done.rc:
            return done.out
        output = re.sub(r"(https?://)[^/@\s]+@", r"\1****@", f"{done.out}\n{done.err}".strip())
        lines = [line for line in output.splitlines() if line and not line.startswith("Looking in")]
        full = self.app.host.free_bytes(self.app.venvs_dir) < 16 * 1024**2
        cause, remedy = pip_story(output, self.app.host.python_version(self.config.python), self.config.only_binary)
        raise Refused(f"{what}: {cause}" if cause else what, "\n".join(lines[-25:]), FULL if full else remedy)

    def environment(self, network: bool, tools: bool) -> dict[str, str]:
        """Return an environment of our own; of host and caller the proxy counts, and only where there is a network."""
        place, index = str(self.box.scratch), self.config.index_url
        found = {"PATH": PATH, "HOME": place, "LANG": "C.UTF-8", "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INPUT": "1"}
        found.update(PIP_NO_CACHE_DIR="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_PROGRESS_BAR="off")
        # a build runs programs that it has made, and /tmp may be mounted noexec
        found.update(PIP_RETRIES="3", PIP_TIMEOUT="20", TMPDIR=place)
        if tools:
            found.update(PYTHONPATH=f"{place}/tools", PATH=f"{place}/tools/bin:{PATH}")
        if network:
            given = self.app.host.environment().items()
            found.update({k: v for k, v in given if k.lower() in ("http_proxy", "https_proxy", "no_proxy")})
            found.update({"PIP_INDEX_URL": index} if index else {})
            found.update({"PIP_CERT": self.authorities()} if self.config.ca_bundle else {})
        return {**found, **pip_settings(self.app.wheels)}

    def authorities(self) -> str:
        """Return the path of a copy of the certificates: where they stand, root alone may be let in."""
        copy = self.box.given / "ca.pem"
        try:
            write(copy, Path(self.config.ca_bundle).read_text("utf-8"))
        except (OSError, UnicodeError):
            return self.config.ca_bundle  # pip has the words for it
        return str(copy)

    def locked(self, what: str, where: Path, *words: str) -> None:
        """Install what has hashes: wheels; and where there is none, what is built with what has hashes too.

        As long as all are wheels nothing of a package runs, and most need nothing to be built with.
        """
        common = ("install", "--require-hashes", "--no-build-isolation")
        try:
            self(what, *common, *WHEELS, *words, where=where, network=True)
        except Refused as error:
            if self.config.only_binary or not needs_build(error.detail):
                raise
            if not self.locks_builds:
                self(what, "install", "--require-hashes", *words, where=where, network=True)
                return
            self.install_tools(where, None)
            self(what, *common, "--use-pep517", *words, where=where, network=True, tools=True)

    @property
    def locks_builds(self) -> bool:
        """Whether it is told what to build with; a configuration that an older role wrote does not."""
        return bool(self.config.build_requirements or self.config.build_set)

    def install_tools(self, source: Path, wanted: Sequence[str] | None) -> None:
        """Install what sources are built with, by hash: of the app's own list all, of the role's what is wanted."""
        if (self.box.scratch / "tools").exists():
            return
        own, lacking = self.config.build_requirements, list[str]()
        locked = requirement_files(source, own)[own] if own else self.config.build_set
        if wanted is not None and not own:
            locked, lacking = chosen(locked, wanted)
        if lacking:
            raise Refused(
                f"what the source is built with is not locked: {', '.join(lacking)}",
                remedy=f"lock all of it, with hashes, in a file of the source, and name that in {SETTING}:"
                " {build_requirements: FILE}",
            )
        write(self.box.given / "build.txt", locked)
        words = ("install", "--target", f"{self.box.scratch}/tools", "--require-hashes", "--no-deps", *WHEELS)
        what = "what the source is built with could not be installed"
        self(what, *words, "-r", str(self.box.given / "build.txt"), where=self.box.given, network=True)


def install(app: App, pip: Pip, tree: Path, source: Dependencies, copy: Path | None) -> None:
    """Install what the source wants, then what it lacks to be served, then see whether all that fits together."""
    wheels = WHEELS if pip.config.only_binary else ()
    if app.wheels:  # all that there is; what follows finds it there, and builds what the source itself holds
        install_wheels(app.wheels, pip, tree)
    if source.file and not (app.wheels and not source.paths):
        what, where = f"{source.file} could not be installed", copy or tree
        if source.hashed:
            pip.locked(what, where, "-r", source.file)
        else:
            pip(what, "install", *wheels, "-r", source.file, where=where, network=True)
    elif not source.file:
        what = "the project's dependencies could not be installed"
        pip(what, "install", *wheels, str(copy), where=tree, network=True)
    if copy:  # what the project names stays; the project itself goes: it belongs to the release
        itself = installed_from(pip, f'{copy}"')
        if itself:
            pip("the project could not be taken out again", "uninstall", "-y", *itself, where=tree)
    rest = without(pip.config.server_requirements, installed_in(pip.box.tree)) if source.server else ""
    if rest:
        file = pip.box.given / "server.txt"
        write(file, rest)
        pip.locked("what serves the app could not be installed", tree, "--no-deps", "-r", str(file))
    try:
        pip("the requirements do not fit together", "check", where=tree)
    except Refused:
        if not rest or source.hashed:
            raise
        install_older_server(app, pip, rest)
        pip("the requirements do not fit together", "check", where=tree)


def install_wheels(wheels: Path, pip: Pip, where: Path) -> None:
    """Install what the control node has sent."""
    words = ("install", "--require-hashes", "--no-deps", *WHEELS, "-r", str(wheels / LOCKED))
    try:
        pip("the wheels could not be installed", *words, where=where)
    except Refused as error:
        erase(wheels)
        raise Refused(error.msg, error.detail, "run the playbook: it sends the wheels anew") from None


def install_older_server(app: App, pip: Pip, rest: str) -> None:
    """Have pip look for a server that takes what the app pins, greenlet<3 say, where the role's own does not.

    Nothing locks it then, and nothing locks the app: one whose requirements have hashes never comes here.
    """
    names = [str(requirement_name(line)) for line in requirement_lines(rest)]
    pins = pip.box.given / "pins.txt"
    installed = "".join(f"{name}=={version}\n" for name, version in installed_in(pip.box.tree).items())
    write(pins, without(installed, names))
    # only its extra says which gevent a Gunicorn takes
    server = [*names, "gunicorn[gevent]"] if "gevent" in names else names
    wheels = WHEELS if pip.config.only_binary else ()
    what = "no Gunicorn and gevent take what the app pins"
    pip(what, "install", *wheels, "-c", str(pins), *server, where=pip.box.given, network=True)
    app.warnings.append(
        "the role's own Gunicorn and gevent do not take what the app pins: older ones serve it, unlocked"
    )


def make_plain(copy: Path, file: str) -> None:
    """Have what a requirements file installs from a path of the source copied, and not linked to (-e)."""
    for name, text in requirement_files(copy, file).items():
        write(copy / name, re.sub(r"(?m)^\s*(?:-e|--editable)[\s=]*(?!\S*://)(?:\./)?(?=[^\s/])", "./", text))


def installed_from(pip: Pip, origin: str) -> list[str]:
    """Return the names of the packages of a virtualenv that were installed from a directory."""
    script = (
        "import importlib.metadata, sys\n"
        "for found in importlib.metadata.distributions():\n"
        "    if sys.argv[1] in (found.read_text('direct_url.json') or ''): print(found.metadata['Name'])\n"
    )
    argv = [str(pip.venv / "bin" / "python"), "-I", "-c", script, origin]
    said = pip.tool(argv, "the virtualenv's Python does not run", pip.box.given)
    return [word for word in said.split() if requirement_name(word)]


def install_site(app: App, work: Path, key: str, config: Config, source: Dependencies, like: Path | None) -> None:
    """Put the project itself into the release: so releases with the same lock file share one virtualenv."""
    if like and (like.parent / "site").is_dir() and (app.manifest(like.parent.name) or {}).get("venv") == key:
        copy_code(like.parent / "site", work / "site")
        return
    what, target = "the project could not be installed", ("install", "--no-deps", "--target", str(work / "site"))
    take_wheels(app, venv_base(key), config)
    shown = [app.venvs_dir, work / "app", *places(app, config)]
    with Sandbox(app, work / "site", work / ".build", shown) as box:
        pip = Pip(app, box, config, app.venvs_dir / key)
        copy = str(box.copy_in(work / "app"))
        if config.build_requirements or (source.hashed and pip.locks_builds):
            pip.install_tools(work / "app", build_requires(read_text(work / "app" / "pyproject.toml") or ""))
            pip(what, *target, "--no-build-isolation", "--use-pep517", copy, where=box.given, tools=True)
        else:
            pip(what, *target, copy, where=box.given, network=True)
        take_over(box.tree, box.makers(), "")
        if box.tree != work / "site":
            os.rename(box.tree, work / "site")


def places(app: App, config: Config) -> list[Path]:
    """Return from where pip installs on this host."""
    return [app.wheels] if app.wheels else index_here(config.index_url)


def index_here(url: str) -> list[Path]:
    """Return the directory of an index that is one of this host; what it lists mostly stands beside it."""
    found = re.fullmatch(r"file://(/[\w./@+-]+)", url)
    if not found:
        return []
    path = Path(os.path.normpath(found.group(1)))
    return [path.parent if len(path.parts) > 3 else path]

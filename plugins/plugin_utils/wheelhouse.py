# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""All wheels of a virtualenv in one file, fetched once on the control node, for hosts that reach no index.

What goes in is read from the archive of the source by the rooms of flaskctl that decide it on a host; of a host is
believed only which Python it has.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from gzip import GzipFile
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from ansible_collections.flaskfleet.web.plugins.module_utils.source import mask
from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheel_tags import (
    Unfit,
    checked,
    described,
    restrictions,
    runs_there,
)

ENGINE = Path(__file__).resolve().parents[2] / "roles" / "flask_gunicorn_nginx" / "files"
CACHE = "~/.cache/flaskfleet/wheels"
KEPT_SECONDS = 30 * 24 * 3600
MOST_BUILDS = 20  # packages without a wheel; each is found by a run of pip
# pip decides by the Python that runs it which requirements count (`; python_version < "3.10"`): it is told the host's
PIP = """\
import json, sys
import pip._vendor.packaging.markers as markers
given = json.loads(sys.argv.pop(1))
markers.default_environment = lambda: dict(given)
from pip._internal.cli.main import main
sys.exit(main())
"""
# in place of what compiles, where the outcome could not run on the host: a package that needs it fails at once
NO_COMPILER = dict.fromkeys(("CC", "CXX", "FC", "CARGO", "RUSTC"), "false")
# a requirement that is a repository, or a file elsewhere
LINK = re.compile(
    r"(?:(?:-e|--editable)[\s=]*)?(?P<all>(?:[\w.-]+(?:\[[^\]]*\])?\s*@\s*)?(?P<url>(?:(?:git|hg|svn|bzr)\+|https?://)\S+))"
    r"\s*(?:;(?P<marker>[^;]*?))?(?P<hashes>(?:\s+--hash\S+)*)\Z"
)
LACKS = re.compile(r"No matching distribution found for ([^\s;(]+(?:\s*,\s*[<>=!~][^\s;(]+)*)")


class Wheels(NamedTuple):
    """The file, and its SHA-256."""

    path: Path
    sha256: str


def room(name: str) -> Any:
    """Return a room of flaskctl: the one source of what a source asks to be installed."""
    if str(ENGINE) not in sys.path:
        sys.path.append(str(ENGINE))
    return importlib.import_module(f"flaskctl.{name}")


def wheels_for(archive: str, config: Mapping[str, Any], told: Mapping[str, Any], host: str) -> Wheels:
    """Return the wheels that a host asked for, from the cache where another host has asked for the same."""
    facts = checked(told, host)
    cache = Path(CACHE).expanduser()
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    began = time.time()
    with tempfile.TemporaryDirectory(prefix=".work-", dir=cache) as directory:
        job = Job(Path(directory), config, facts, archive)
        path = cache / f"{job.name}.tar.gz"
        # the hosts of a rollout ask at once: the first one fetches, the others wait and find it
        with locked(path.with_suffix(".lock")):
            failed = path.with_suffix(".failed")
            if failed.exists() and failed.stat().st_mtime >= began:
                raise Unfit(failed.read_text(encoding="utf-8"))
            if not path.exists():
                try:
                    job.make(path)
                except Unfit as error:
                    failed.write_text(str(error), encoding="utf-8")
                    raise
            os.utime(path)
            forget(cache, began)
            return Wheels(path, sha256_of(path))


class Job:
    """What is fetched for one lock and one Python."""

    def __init__(self, work: Path, config: Mapping[str, Any], facts: dict[str, Any], archive: str) -> None:
        self.work, self.facts = work, facts
        self.tree, self.home = work / "tree", work / "home"
        for name in (self.tree, self.home / "wheels", self.home / "build", work / "built"):
            name.mkdir(parents=True)
        release, requirements, server = room("release"), room("requirements"), room("server")
        try:
            with open(archive, "rb") as file, plain_modes():  # they are part of what decides the key
                room("archive").unpack(file, archive, self.tree)
            self.config = release.parse_config(json.dumps(config))
            needs = server.needs(server.server_of(self.config.gunicorn_conf))
            self.source = requirements.dependencies_of(self.tree, self.config.requirements, needs)
        except room("errors").Refused as error:
            raise Unfit(f"{error.msg}. {error.remedy}".rstrip(". ") + ".") from error
        self.key = requirements.venv_key(
            facts["markers"]["python_version"], facts["markers"]["platform_machine"], self.source, self.config
        )
        if self.key != facts["key"]:
            raise Unfit(f"A host asks for the wheels of {facts['key']}, and this source has {self.key}: run again.")
        build = [self.build_requirements(), self.config.build_set, self.config.build_requirements]
        same = {**facts, "index": self.config.index_url, "build": build}
        self.name = f"{self.key}-{hashlib.sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()[:12]}"

    def make(self, path: Path) -> None:
        """Fetch all, and write the file."""
        self.build_links()
        named = ["-r", self.source.file] if self.source.file else ["."]
        self.download(self.home / "wheels", named)
        if self.source.server:
            have = [wheel.name.partition("-")[0] for wheel in (self.home / "wheels").glob("*.whl")]
            rest = room("requirements").without(self.config.server_requirements, have)
            (self.work / "server.txt").write_text(rest, encoding="utf-8")
            if rest:
                self.download(
                    self.home / "wheels", ["--no-deps", "--require-hashes", "-r", str(self.work / "server.txt")]
                )
        self.fetch_tools()
        for stray in (self.home / "wheels").iterdir():
            if stray.suffix != ".whl":  # the source's own projects: the host has them, and builds them
                stray.unlink()
        lines = [
            f"{wheel_id(path.name)} --hash=sha256:{sha256_of(path)}"
            for path in sorted((self.home / "wheels").iterdir())
        ]
        (self.home / "requirements.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        (self.home / "key").write_text(f"{self.key}\n", encoding="utf-8")
        write_tar(self.home, path)

    def fetch_tools(self) -> None:
        """Fetch what the host builds the source with, by hash where that is locked there too."""
        wanted, own = self.build_requirements(), self.config.build_requirements
        if not wanted:
            return
        if not own and not self.source.hashed:
            self.download(self.home / "build", ["--", *wanted])
            return
        names = [str(room("requirements").requirement_name(each)) for each in wanted]
        text = (self.tree / own).read_text("utf-8") if own else room("backends").chosen(self.config.build_set, names)[0]
        (self.work / "tools.txt").write_text(text, encoding="utf-8")
        self.download(self.home / "build", ["--no-deps", "--require-hashes", "-r", str(self.work / "tools.txt")])

    def build_requirements(self) -> list[str]:
        """Return what pip needs on the host to build the source itself, and the projects in it."""
        places = {self.tree} if self.source.project else set()
        if self.source.paths:
            files = room("requirements").requirement_files(self.tree, self.source.file)
            lines = [line for text in files.values() for line in room("requirements").requirement_lines(text)]
            places |= {self.tree / found for line in lines if (found := room("requirements").path_in(line))}
        projects = sorted(place for place in places if place.is_dir())
        return list(dict.fromkeys(each for place in projects for each in build_system(place)))

    def download(self, dest: Path, words: Sequence[str]) -> None:
        """Have pip fetch the wheels; what has none is built here, one package after the other."""
        for _turn in range(MOST_BUILDS):
            options = [*restrictions(self.facts), "--find-links", str(self.work / "built"), "--dest", str(dest)]
            code, said = self.pip("download", *options, *words, markers=self.facts["markers"])
            if code == 0:
                return
            lacking = LACKS.search(said)
            if not lacking:
                raise Unfit(f"The wheels for {described(self.facts)} cannot be fetched:\n{tail(said)}")
            self.build(lacking[1])
        raise Unfit(f"More than {MOST_BUILDS} packages have no wheel for {described(self.facts)}.")

    def build(self, wanted: str) -> None:
        """Build a wheel of a package that an index has as source alone, and let it pass for what the lock names."""
        name = room("requirements").requirement_name(wanted)
        hashes = self.hashes(name)
        self.allow(name, sha256_of(self.built(" ".join([wanted, *hashes]), wanted, ["--no-binary", name])))

    def build_links(self) -> None:
        """Build what requirements take from a repository or as source from a URL: the host could not fetch it."""
        for path, text in self.texts().items():
            lines = []
            for line in room("requirements").requirement_lines(text):
                link = LINK.match(line)
                if link is None or link["url"].partition("#")[0].endswith(".whl"):
                    lines.append(line)
                elif room("versions").holds(link["marker"] or "True == True", self.facts["markers"]):
                    wheel = self.built(link["all"] + (link["hashes"] or ""), mask(link["all"]), [])
                    lines.append(
                        wheel_id(wheel.name) + (f" --hash=sha256:{sha256_of(wheel)}" if link["hashes"] else "")
                    )
            (self.tree / path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def built(self, line: str, wanted: str, options: Sequence[str]) -> Path:
        """Have pip build a wheel of one line of requirements; return it, or say why there is none for the host."""
        one = self.work / "one.txt"
        one.write_text(f"{line}\n", encoding="utf-8")
        before = set((self.work / "built").iterdir())
        locked_by = ["--require-hashes"] if "--hash" in line else []
        compiles = runs_there(f"x-1-py3-none-linux_{here()['arch']}.whl", self.facts, here())
        words = ["--no-deps", *locked_by, *options, "--wheel-dir", str(self.work / "built"), "-r", str(one)]
        code, said = self.pip("wheel", *words, more={} if compiles else NO_COMPILER)
        made = sorted(set((self.work / "built").iterdir()) - before)
        what = f"{wanted} has no wheel for {described(self.facts)}"
        remedy = (
            f"Build one with that Python (pip wheel --no-deps {wanted}), put it into the source and name it there by"
            " its path (./wheels/...), or require a version that has one."
        )
        if code or not made:
            how = "" if compiles else " (it has another Python, so nothing was compiled)"
            raise Unfit(f"{what}, and this machine could not build it{how}:\n{tail(said)}\n{remedy}")
        if not runs_there(made[0].name, self.facts, here()):
            raise Unfit(f"{what}, and what this machine builds of it ({made[0].name}) does not run there. {remedy}")
        return made[0]

    def hashes(self, name: str) -> list[str]:
        """Return the hashes that the lock has of a package."""
        texts = [*self.texts().values(), self.config.server_requirements]
        lines = [line for text in texts for line in room("requirements").requirement_lines(text)]
        mine = [line for line in lines if room("requirements").requirement_name(line) == name]
        return list(dict.fromkeys(found for line in mine for found in re.findall(r"--hash=\S+", line)))

    def texts(self) -> dict[str, str]:
        """Return the requirements files of the source by their paths."""
        found: dict[str, str] = {}
        if self.source.file:
            found = room("requirements").requirement_files(self.tree, self.source.file)
        return found

    def allow(self, name: str, sha256: str) -> None:
        """Let the wheel that was built of a locked source pass for it: its own hash is in no lock."""
        files = {self.tree / path: text for path, text in self.texts().items()}
        server = self.work / "server.txt"
        files.update({server: server.read_text(encoding="utf-8")} if server.exists() else {})
        for path, text in files.items():
            lines = room("requirements").requirement_lines(text)
            mine = [line for line in lines if room("requirements").requirement_name(line) == name and "--hash" in line]
            if mine:
                more = [f"{line} --hash=sha256:{sha256}" if line in mine else line for line in lines]
                path.write_text("".join(f"{line}\n" for line in more), encoding="utf-8")

    def pip(
        self, *words: str, markers: Mapping[str, str] | None = None, more: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run pip in the source; return its exit code and what it said. It reads its settings of this machine."""
        program = ["-c", PIP, json.dumps(markers)] if markers else ["-m", "pip"]
        environment = {
            **os.environ,
            "PIP_NO_INPUT": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_PROGRESS_BAR": "off",
        }
        environment.update(more or {})
        environment.update({"PIP_INDEX_URL": self.config.index_url} if self.config.index_url else {})
        argv = [pythons_with_pip(), *program, *words]
        done = subprocess.run(
            argv, cwd=self.tree, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        return done.returncode, mask((done.stdout + done.stderr).decode("utf-8", "replace"))


def build_system(place: Path) -> list[str]:
    """Return what a project is built with, by its own word; by pip's, where it says nothing."""
    try:
        import tomllib

        found = tomllib.loads((place / "pyproject.toml").read_text(encoding="utf-8")).get("build-system", {})
    except (ImportError, OSError, ValueError):
        found = {}
    requires = [str(each) for each in found.get("requires", ["setuptools", "wheel"])]
    # setuptools asked for wheel by itself until it had that of its own
    return [*requires, *(["wheel"] if any(re.match(r"setuptools\b", each) for each in requires) else [])]


def pythons_with_pip() -> str:
    """Return an interpreter of this machine that has pip, Ansible's own first."""
    for python in (sys.executable, "python3"):
        with contextlib.suppress(OSError):
            if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0:
                return python
    raise Unfit(
        "flask_gunicorn_nginx_wheelhouse is set, and there is no pip on this machine to fetch wheels with. Install it:"
        " apt-get install python3-pip, or pipx inject ansible-core pip."
    )


def here() -> dict[str, Any]:
    """Return what the Python is that builds wheels on this machine."""
    done = subprocess.run([pythons_with_pip(), "-c", room("wheels").FACTS], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def wheel_id(name: str) -> str:
    """Return NAME==VERSION of a wheel, from the name of its file."""
    package, version = name.split("-")[:2]
    return f"{room('requirements').normalized(package)}=={version}"


def tail(said: str) -> str:
    """Return the end of what pip said."""
    lines = [line for line in said.strip().splitlines() if line and not line.startswith(("Looking in", "WARNING:"))]
    return "\n".join(lines[-8:])


def write_tar(home: Path, path: Path) -> None:
    """Write all files of a directory into one, the same for the same files; wheels are compressed as they are."""
    beside = path.with_name(f".new-{path.name}")
    with beside.open("wb") as raw:
        os.fchmod(raw.fileno(), 0o600)
        with (
            GzipFile(filename="", mode="wb", compresslevel=0, fileobj=raw, mtime=0) as zipped,
            tarfile.open(fileobj=cast("IO[bytes]", zipped), mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for file in sorted(each for each in home.rglob("*") if each.is_file()):
                member = tarfile.TarInfo(str(file.relative_to(home)))
                member.size, member.mode = file.stat().st_size, 0o644
                with file.open("rb") as content:
                    tar.addfile(member, content)
        raw.flush()
        os.fsync(raw.fileno())
    beside.replace(path)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    with path.open("rb") as file:
        found: str = room("files").stream_sha256(file)
    return found


def forget(cache: Path, now: float) -> None:
    """Remove what nobody has asked for in a month; `now` is in seconds."""
    for path in cache.glob("*.*"):
        with contextlib.suppress(OSError):
            if now - path.stat().st_mtime > KEPT_SECONDS:
                shutil.rmtree(path) if path.is_dir() else path.unlink()  # what a killed run has left is a directory


@contextlib.contextmanager
def plain_modes() -> Iterator[None]:
    """Make directories with the modes that they get on a host, whatever this user's umask."""
    before = os.umask(0o022)
    try:
        yield
    finally:
        os.umask(before)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

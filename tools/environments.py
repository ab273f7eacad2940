"""Make the Python environments of the tools from requirements-dev.txt: `tools/bootstrap [--all] [--engine]`.

.venv is made with the Python at hand and is all that the demo needs. The lock file gives Python 3.11 the oldest
ansible-core this project supports and 3.12 and later the newest, so the checks run in a second environment on the
other side of that line, where a Python for it can be found: .venv-newest, or
.cache/venv-oldest where .venv is the newest already.

Standard library only: this runs before anything is installed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools import engine
from tools.run import CACHE, LOGS, ROOT, Problem, apt_install, main, need, output, step

LOCK_FILE = ROOT / "requirements-dev.txt"
STAMP = "made-from"
FIRST, NEWEST, OLDEST = NAMES = (".venv", ".venv-newest", ".cache/venv-oldest")
NEWEST_FROM = (3, 12)  # the first Python that gets the newest ansible-core in the lock file
NO_COLOR = {"NO_COLOR": "1", "PY_COLORS": "0", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
KNOWN = ((3, 14), (3, 13), (3, 12), (3, 11))


@dataclass(frozen=True)
class Environment:
    """A virtual environment and the interpreter it is made with."""

    name: str
    python: str
    version: tuple[int, int]

    @property
    def home(self) -> Path:
        """Where it is."""
        return ROOT / self.name

    @property
    def suffix(self) -> str:
        """What tells the names of its logs apart: nothing for .venv, else -newest or -oldest."""
        return self.name.rpartition("venv")[2]


def version_of(python: str) -> tuple[int, int] | None:
    """The version of an interpreter, None when it does not run; a pyenv shim for another version does not."""
    said = output([python, "-c", "import sys; print(*sys.version_info[:2])"])
    if said is None or len(said.split()) != 2:
        return None
    major, minor = said.split()
    return int(major), int(minor)


def interpreters(wanted: Iterable[tuple[int, int]]) -> Iterator[str]:
    """Where interpreters of these versions may be: on PATH, then among pyenv's; newest wanted first."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    for major, minor in wanted:
        on_path = shutil.which(f"python{major}.{minor}")
        if on_path:
            yield on_path
        yield from (str(path) for path in sorted(pyenv.glob(f"{major}.{minor}.*/bin/python")))


def first_that_runs(wanted: Sequence[tuple[int, int]]) -> Environment | None:
    """An environment still without a name, with the first interpreter that really is one of these versions."""
    for python in interpreters(wanted):
        version = version_of(python)
        if version is not None and version in wanted:
            return Environment("", python, version)
    return None


def at_hand() -> Environment:
    """The environment of the Python that runs this."""
    return Environment(FIRST, sys.executable, (sys.version_info.major, sys.version_info.minor))


def other_side(first: Environment) -> Environment | None:
    """The second environment, None when this machine has no Python for it."""
    newest = first.version < NEWEST_FROM
    found = first_that_runs([version for version in KNOWN if (version >= NEWEST_FROM) == newest])
    if found is None:
        return None
    return Environment(NEWEST if newest else OLDEST, found.python, found.version)


def made() -> list[Environment]:
    """The environments that are there and run, .venv first."""
    found = []
    for name in NAMES:
        python = str(ROOT / name / "bin/python")
        version = version_of(python)
        if version is not None:
            found.append(Environment(name, python, version))
    return found


def wanted_stamp(lock_file: Path | None = None) -> str:
    """What identifies the content of a lock file."""
    return hashlib.sha256((lock_file or LOCK_FILE).read_bytes()).hexdigest()


def is_current(environment: Environment, lock_file: Path | None = None) -> bool:
    """Whether an environment is complete, runs and was made from the lock file of today."""
    stamp = environment.home / STAMP
    if not stamp.exists() or stamp.read_text() != wanted_stamp(lock_file):
        return False
    return version_of(str(environment.home / "bin/python")) is not None


def need_venv(environment: Environment) -> None:
    """Make sure that an interpreter can make environments; Debian packages that apart."""
    if output([environment.python, "-c", "import ensurepip, venv"]) is not None:
        return
    package = f"python{environment.version[0]}.{environment.version[1]}-venv"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Problem(f"{environment.python} cannot make virtual environments: sudo apt install {package}.")
    apt_install([package])


def make(environment: Environment, lock_file: Path | None = None) -> None:
    """Make an environment from nothing; the stamp is written last, so a half-made one is made again."""
    log = LOGS / f"environment{environment.suffix}.log"
    fail = f"The Python environment {environment.name} could not be made."
    need([environment.python, "-m", "venv", "--clear", str(environment.home)], log, fail)
    need(
        [
            *(str(environment.home / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"),
            *("--no-compile", "--require-hashes", "--requirement", str(lock_file or LOCK_FILE)),
        ],
        log,
        fail,
    )
    # Not left to the first import: with PYTHONDONTWRITEBYTECODE, as in many a CI, each process of Ansible would compile
    # what it imports. Of ansible's 30000 files most are collections, of which a run imports next to nothing.
    python, packages = str(environment.home / "bin/python"), str(environment.home / "lib")
    # a package may hold files for other Pythons, which do not compile
    output([python, "-m", "compileall", "-q", "-j", "0", "-x", "/ansible_collections/", packages])
    (environment.home / STAMP).write_text(wanted_stamp(lock_file))


def ensure(everything: bool) -> list[Environment]:
    """Make the environments that are missing or out of date; return them all."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "environments.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = [at_hand()]
        second = other_side(wanted[0]) if everything else None
        if second:
            wanted.append(second)
        stale = [environment for environment in wanted if not is_current(environment)]
        for environment in stale:
            need_venv(environment)
        if stale:
            names = " and ".join(f"{e.name} (Python {e.version[0]}.{e.version[1]})" for e in stale)
            with step(f"making {names} from {LOCK_FILE.name}"), ThreadPoolExecutor(len(stale)) as pool:
                for finished in [pool.submit(make, environment) for environment in stale]:
                    finished.result()
    return wanted


def ensure_from(lock_file: Path, environment: Environment) -> Environment:
    """Make an environment of its own for one tool, where it is missing or out of date; return it."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "environments.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_current(environment, lock_file):
            need_venv(environment)
            with step(f"making {environment.name} from {lock_file.relative_to(ROOT)}"):
                make(environment, lock_file)
    return environment


def in_environment(environment: Environment, **more: str) -> dict[str, str]:
    """The variables under which a tool finds the programs of its environment first, and logs without colours."""
    path = f"{environment.home / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**NO_COLOR, "PATH": path, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), **more}


def program(environment: Environment, name: str) -> str:
    """A program of an environment."""
    return str(environment.home / "bin" / name)


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the Python environments of the tools.")
    parser.add_argument("--all", action="store_true", help="also the second one, for the other ansible-core")
    parser.add_argument("--engine", action="store_true", help="first make sure of a container engine")
    options = parser.parse_args()
    if options.engine:
        # before the minute that follows: without one there is no use for the environments
        engine.up()
    ensure(options.all)
    return 0


if __name__ == "__main__":
    main(work)

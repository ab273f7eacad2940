"""ansible-test sanity over what the collection's archive holds, as far as it goes without network and containers.

It wants the tree at ansible_collections/NAMESPACE/NAME and a git repository, so it is given a copy. What it finds and
what is meant to be so stands in tests/sanity/ignore-*.txt with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import yaml

from tools.environments import Environment
from tools.evidence import Counts
from tools.run import CACHE, LOGS, ROOT, logged

PLACE = CACHE / "sanity"
OWN_PIP = "ansible-test makes an environment of its own for it, with a pip that it fetches from the network"
LEFT_OUT = {
    "ansible-doc": OWN_PIP,
    "import": OWN_PIP,
    "pep8": OWN_PIP,
    "pylint": OWN_PIP,
    "runtime-metadata": OWN_PIP,
    "validate-modules": OWN_PIP,
    "yamllint": OWN_PIP,
}


def copied() -> Path:
    """Copy what belongs to the collection, and its ignore files, into a git repository of its own; return where."""
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    home = PLACE / "ansible_collections" / str(galaxy["namespace"]) / str(galaxy["name"])
    shutil.rmtree(PLACE, ignore_errors=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        left_out = any(Path(name).parts[0] == ignored.rstrip("*") for ignored in galaxy["build_ignore"])
        if os.path.lexists(ROOT / name) and (not left_out or name.startswith("tests/sanity/")):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name, follow_symlinks=False)
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=home, check=True)
    return home


def sanity(environment: Environment) -> tuple[int, Counts, Path]:
    """Run every test that can run here; return exit code, how many there were and were left out, and the log."""
    home, log = copied(), LOGS / f"sanity{environment.suffix}.log"
    program = str(environment.home / "bin" / "ansible-test")
    # no shims of other Pythons, which it would try; no virtualenvs in the home of a person
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PATH": f"{environment.home / 'bin'}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
        "HOME": str(PLACE / "home"),
    }
    listed = subprocess.run(
        [program, "sanity", "--list-tests"], cwd=home, check=True, capture_output=True, text=True, env=variables
    )
    every = listed.stdout.split()
    chosen = [name for name in every if name not in LEFT_OUT]
    argv = ["env", f"--chdir={home}", program, "sanity", "--local", "--python", "default", "--color", "no"]
    code = logged([*argv, *(word for name in chosen for word in ("--test", name))], log, variables)
    reasons = tuple(f"{name}: {LEFT_OUT[name]}" for name in every if name in LEFT_OUT)
    return code, Counts(len(chosen) if code == 0 else 0, 0 if code == 0 else 1, len(reasons), reasons), log

"""ansible-test sanity over what the collection's archive holds, as far as it goes without network and containers.

It wants the tree at ansible_collections/NAMESPACE/NAME and a git repository, so it is given a copy. What it finds and
what is meant to be so stands in tools/sanity-ignore.txt with the reason.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tools.environments import Environment
from tools.evidence import Counts
from tools.run import CACHE, LOGS, POLITE, ROOT, copy_tree, logged

PLACE = CACHE / "sanity"
# ansible-test makes an environment for each of these, with a pip that it fetches; their packages are in ours
PACKAGED = ("ansible-doc", "runtime-metadata", "validate-modules", "yamllint")
LEFT_OUT = {
    "import": "config_files and host are programs that run when they are read (plugins/plugin_utils/stdin_program.py)",
    "pep8": "ruff reads the same, and more",
    "pylint": "ruff and mypy do its work, and its plugins want a version of their own",
}


def copied(version: str) -> Path:
    """Copy what belongs to the collection into a git repository of its own, with the ignore file; return where.

    `version` is that of ansible-core, X.Y: ansible-test wants an ignore file for each.
    """
    galaxy = yaml.safe_load((ROOT / "galaxy.yml").read_text())
    home = PLACE / "ansible_collections" / str(galaxy["namespace"]) / str(galaxy["name"])
    shutil.rmtree(PLACE, ignore_errors=True)
    ignored = [name.rstrip("*") for name in galaxy["build_ignore"]]
    copy_tree(home, lambda name: Path(name).parts[0] in ignored)
    ignore = home / "tests" / "sanity" / f"ignore-{version}.txt"
    ignore.parent.mkdir(parents=True)
    shutil.copy2(ROOT / "tools" / "sanity-ignore.txt", ignore)
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=home, check=True)
    return home


def furnish(environment: Environment, ansible_test: Sequence[str], variables: Mapping[str, str]) -> None:
    """Let ansible-test find its environments made: what it makes without pip is pointed at the packages of ours.

    It knows one that is ready by a marker. Without it ansible-test fetches pip to install what is here already.
    """
    packages = next(environment.home.glob("lib/python*/site-packages"))
    for name in PACKAGED:
        subprocess.run([*ansible_test, "--test", name], check=False, capture_output=True, env=variables)
    for made in (PLACE / "home").glob(".ansible/test/venv/*/*/*/"):
        for theirs in made.glob("lib/python*/site-packages"):
            (theirs / "packages.pth").write_text(f"{packages}\n")
        (made / "meta.yaml.json").write_text('{"yaml": true, "cloader": true}\n')
        (made / "marker.txt").touch()


def sanity(environment: Environment) -> tuple[int, Counts, Path]:
    """Run every test that can run here; return exit code, how many there were and were left out, and the log."""
    (found,) = environment.home.glob("lib/python*/site-packages/ansible_core-*.dist-info")
    version = ".".join(found.name.removeprefix("ansible_core-").split(".")[:2])
    home, log = copied(version), LOGS / f"sanity{environment.suffix}.log"
    program = str(environment.home / "bin" / "ansible-test")
    # no shims of other Pythons, which it would try; no virtualenvs in the home of a person
    variables = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
        "PATH": f"{environment.home / 'bin'}{os.pathsep}/usr/local/bin:/usr/bin:/bin",
        "HOME": str(PLACE / "home"),
        "https_proxy": "http://127.0.0.1:9",  # nobody: nothing is fetched, whatever there is to reach
    }
    listed = subprocess.run(
        [program, "sanity", "--list-tests"], cwd=home, check=True, capture_output=True, text=True, env=variables
    )
    every = listed.stdout.split()
    chosen = [name for name in every if name not in LEFT_OUT]
    argv = [*POLITE, "env", f"--chdir={home}", program, "sanity", "--local", "--python", "default", "--color", "no"]
    furnish(environment, argv, variables)
    code = logged([*argv, *(word for name in chosen for word in ("--test", name))], log, variables)
    reasons = tuple(f"{name}: {LEFT_OUT[name]}" for name in every if name in LEFT_OUT)
    return code, Counts(len(chosen) if code == 0 else 0, 0 if code == 0 else 1, len(reasons), reasons), log

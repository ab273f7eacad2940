"""The collection: its archive (`make collection`), and what it is asked for beside ansible-test.

The programs that ask have an environment of their own, so that nobody waits for them who does not lint.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys

import yaml

from tools.environments import Environment, at_hand, ensure_from
from tools.run import CACHE, ROOT, Problem, copy_tree, main, short

LOCK_FILE = ROOT / "tools" / "collection-requirements.txt"
PLACE = CACHE / "collection"
DOCS_SETTINGS = ROOT / "tools" / "antsibull.cfg"
DOCS_WORDS = ("--plugin-docs", "--validate-collection-refs=self")
EXECUTION_ENVIRONMENT = ROOT / "docs" / "awx" / "execution-environment.yml"
CONTEXT = CACHE / "execution-environment"


def environment() -> Environment:
    """The environment of the programs, made or not."""
    return Environment(".cache/venv-collection", sys.executable, at_hand().version)


def ensure() -> None:
    """Make the environment where it is missing or out of date."""
    ensure_from(LOCK_FILE, environment())


def commands(first: Environment) -> list[tuple[str, Environment, list[str]]]:
    """The commands by name, to be run in the first environment: antsibull-docs asks the ansible-doc of that."""
    programs = environment().home / "bin"

    def program(name: str, *words: str) -> tuple[str, Environment, list[str]]:
        return name, first, [str(programs / name), *words]

    return [
        program("antsibull-changelog", "lint"),
        program("antsibull-docs", f"--config-file={DOCS_SETTINGS}", "lint-collection-docs", *DOCS_WORDS, "."),
        # no image is built of it, for there may be no registry: the definition is read, and the context is made
        program("ansible-builder", "create", f"--file={EXECUTION_ENVIRONMENT}", f"--context={CONTEXT}"),
    ]


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="Build the archive of the collection from the files of this repository."
    )
    parser.add_argument("--version", default="", help="refuse to build another version than this")
    wanted: str = parser.parse_args().version
    version = str(yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"])
    if wanted not in ("", version):
        raise Problem(
            f"galaxy.yml has version {version}, and {wanted} is wanted: change galaxy.yml, commit, and tag that."
        )
    shutil.rmtree(PLACE, ignore_errors=True)
    copy_tree(PLACE / "tree")
    argv = [str(at_hand().home / "bin" / "ansible-galaxy"), "collection", "build", "tree", "--output-path", "."]
    done = subprocess.run(argv, cwd=PLACE, capture_output=True, text=True, check=False)
    shutil.rmtree(PLACE / "tree")
    if done.returncode != 0:
        raise Problem("ansible-galaxy could not build the collection.", done.stdout + done.stderr)
    (built,) = PLACE.glob("*.tar.gz")
    print(short(built))
    return 0


if __name__ == "__main__":
    main(work)

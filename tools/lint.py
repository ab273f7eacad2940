"""The linters by name: `python -m tools.lint ruff yamllint` runs some, as `make lint` and hooks of pre-commit do."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tools import collection, environments
from tools.audit import files as audited
from tools.environments import Environment, in_environment, program
from tools.run import ROOT, Problem, main

Command = tuple[str, Environment, list[str]]


def commands(found: Sequence[Environment]) -> list[Command]:
    """Linters once, ansible-lint with each ansible-core: it loads playbooks the way that core does."""
    first = found[0]
    several = [(f"ansible-lint{e.suffix}", e, [program(e, "ansible-lint"), "--offline", "--nocolor"]) for e in found]
    return [
        *several,
        ("ruff", first, [program(first, "ruff"), "check", "."]),
        ("mypy", first, [program(first, "mypy"), "."]),
        ("yamllint", first, [program(first, "yamllint"), "--strict", "."]),
        ("bandit", first, [program(first, "bandit"), "--quiet", *audited.BANDIT]),
        ("zizmor", first, [program(first, "zizmor"), *audited.ZIZMOR]),
        ("gixy", first, [program(first, "python"), "-m", "tools.audit.sites"]),
        *collection.commands(first),
    ]


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Some of the linters of make lint, and all that they say.")
    parser.add_argument("names", nargs="+", metavar="LINTER")
    names: list[str] = parser.parse_args().names
    found = environments.made()
    if not found:
        raise Problem("There is no environment to lint in: make lint makes it.")
    known = {name: (environment, argv) for name, environment, argv in commands(found)}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise Problem(f"No such linter: {', '.join(unknown)}. There are: {', '.join(known)}.")
    code = 0
    for environment, argv in (known[name] for name in names):
        if not Path(argv[0]).exists():
            raise Problem(f"There is no {Path(argv[0]).name} here yet: make lint makes it.")
        done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **in_environment(environment)}, check=False)
        code = max(code, done.returncode)
    return code


if __name__ == "__main__":
    main(work)

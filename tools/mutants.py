"""`make mutants`: change the pure rooms of flaskctl in every small way, and see whether a unit test minds.

A mutant that no test minds is a decision that nobody holds. mutmut makes and runs them, in a copy below .cache.
"""

from __future__ import annotations

import collections
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tools.run import CACHE, ROOT, Problem, main

ROOMS = ("plan", "release", "requirements", "archive", "lock", "traffic")
TESTS = ("bake", "decisions", "identity", "rollout_lock", "rooms", "sources", "unpack")
LEAST = 85  # percent
WORK = CACHE / "mutants"
UNSEEN = ("survived", "no tests", "suspicious")
SETTINGS = """\
[tool.pytest.ini_options]
pythonpath = ["src", "."]
addopts = ["-p", "no:cacheprovider"]

[tool.mutmut]
source_paths = ["src"]
only_mutate = [{rooms}]
pytest_add_cli_args_test_selection = [{tests}]
"""


def quoted(form: str, names: tuple[str, ...]) -> str:
    return ", ".join(f'"{form.format(name)}"' for name in names)


def prepare(work: Path) -> None:
    """Copy the package and its tests to a place where mutmut may do as it likes."""
    shutil.rmtree(work, ignore_errors=True)
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "roles/flask_gunicorn_nginx/files/flaskctl", work / "src/flaskctl", ignore=skip)
    shutil.copytree(ROOT / "tests/unit/flaskctl", work / "tests/unit/flaskctl", ignore=skip)
    rooms, tests = quoted("src/flaskctl/{}.py", ROOMS), quoted("tests/unit/flaskctl/test_{}.py", TESTS)
    (work / "pyproject.toml").write_text(SETTINGS.format(rooms=rooms, tests=tests))


def mutmut(*words: str) -> str:
    """Run mutmut in its place; return what it said."""
    argv = [sys.executable, "-m", "mutmut", *words]
    done = subprocess.run(argv, cwd=WORK, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise Problem(f"mutmut {' '.join(words)} failed.", (done.stdout + done.stderr)[-4000:])
    return done.stdout


def outcomes(results: str) -> dict[str, str]:
    """Return what became of each mutant, by its name, from `mutmut results --all true`."""
    return dict(re.findall(r"(?m)^\s*(flaskctl\.\S+): (.+?)\s*$", results))


def table(found: dict[str, str]) -> tuple[str, float]:
    """Return a line for each room, and the share of all mutants that a test minds, in percent."""
    made = collections.Counter(name.split(".")[1] for name in found)
    lived = collections.Counter(name.split(".")[1] for name, how in found.items() if how in UNSEEN)
    lines = [f"{room:14} {made[room] - lived[room]:4} of {made[room]:4} killed" for room in ROOMS]
    score = 100 * (1 - sum(lived.values()) / max(1, len(found)))
    return "\n".join([*lines, f"{'all':14} {score:.1f} %"]), score


def run() -> int:
    prepare(WORK)
    print("mutants ... some minutes", flush=True)
    mutmut("run")
    found = outcomes(mutmut("results", "--all", "true"))
    for name in (name for name, how in found.items() if how in UNSEEN):
        print(mutmut("show", name).strip(), end="\n\n")
    text, score = table(found)
    print(text)
    if score < LEAST:
        raise Problem(f"{score:.1f} % of the mutants are killed, {LEAST} % are wanted.")
    return 0


if __name__ == "__main__":
    main(run)

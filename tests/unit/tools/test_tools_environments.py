"""The second environment is on the other side of the line between the oldest and the newest ansible-core."""

from __future__ import annotations

import os
import re
import stat
import sys
from pathlib import Path

import pytest

from tools import environments
from tools.environments import KNOWN, NEWEST, OLDEST, Environment, interpreters, other_side
from tools.run import ROOT


def a_python(path: Path, version: str, code: int = 0) -> Path:
    """A stand-in for an interpreter: it says its version, or fails as a pyenv shim of another version does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho {version}\nexit {code}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without any Python: bin is on its PATH, pyenv is what its name says."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return tmp_path


def test_python_3_11_is_joined_by_the_newest_there_is(machine: Path) -> None:
    a_python(machine / "bin/python3.12", "3 12")
    newest = a_python(machine / "bin/python3.13", "3 13")
    assert other_side(Environment(".venv", "p", (3, 11))) == Environment(NEWEST, str(newest), (3, 13))


def test_a_newer_python_is_joined_by_3_11(machine: Path) -> None:
    a_python(machine / "bin/python3.13", "3 13")
    oldest = a_python(machine / "bin/python3.11", "3 11")
    assert other_side(Environment(".venv", "p", (3, 14))) == Environment(OLDEST, str(oldest), (3, 11))


def test_a_shim_that_does_not_run_is_passed_over_for_pyenvs_own(machine: Path) -> None:
    a_python(machine / "bin/python3.13", "pyenv: python3.13: command not found", 127)
    real = a_python(machine / "pyenv/versions/3.13.0/bin/python", "3 13")
    assert other_side(Environment(".venv", "p", (3, 11))) == Environment(NEWEST, str(real), (3, 13))


def test_without_another_python_there_is_no_second_environment(machine: Path) -> None:
    assert other_side(Environment(".venv", "p", (3, 11))) is None
    assert not list(interpreters(KNOWN))


def test_an_environment_is_current_only_with_the_lock_file_of_today(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements-dev.txt"
    lock.write_text("flask==3.1.3\n")
    monkeypatch.setattr(environments, "LOCK_FILE", lock)
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    environment = Environment(".venv", sys.executable, (3, 11))
    assert not environments.is_current(environment)
    a_python(tmp_path / ".venv/bin/python", "3 11")
    assert not environments.is_current(environment), "half made: no stamp"
    (tmp_path / ".venv" / environments.STAMP).write_text(environments.wanted_stamp())
    assert environments.is_current(environment)
    lock.write_text("flask==3.1.4\n")
    assert not environments.is_current(environment)


def test_the_lock_file_is_hashed_and_names_no_index() -> None:
    lock = (ROOT / "requirements-dev.txt").read_text()
    pins = re.findall(r"(?m)^[a-z0-9].*$", lock)
    assert pins and all(re.match(r"\S+==\S+.* \\$", pin) for pin in pins)
    assert len(re.findall(r"(?m)^[a-z0-9].*\\\n    --hash=sha256:", lock)) == len(pins)
    assert "://" not in lock and "--index-url" not in lock


def test_the_lock_file_has_what_the_requirements_name_and_nothing_that_breaks_testinfra() -> None:
    lock = (ROOT / "requirements-dev.txt").read_text()
    for line in (ROOT / "requirements-dev.in").read_text().splitlines():
        if line and not line.startswith("#"):
            name = re.split(r"[^A-Za-z0-9-]", line)[0].lower()
            assert re.search(rf"(?m)^{name}==", lock), name
    assert "pytest-ansible" not in lock and "ansible-dev-tools" not in lock


def test_bootstrap_says_in_one_sentence_what_is_missing(machine: Path) -> None:
    for tool in ("dirname", "sh"):
        (machine / "bin" / tool).symlink_to(f"/bin/{tool}")
    done = os.popen(f"/bin/sh {ROOT}/tools/bootstrap 2>&1; echo $?").read()  # noqa: S605
    sentence, code = done.strip().rsplit("\n", 1)
    assert code == "1"
    assert sentence.startswith("No Python 3.11 to 3.14 found: install one") and "\n" not in sentence

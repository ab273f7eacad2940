"""ansible-test gets what the collection's archive holds, and what it is not asked for is said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tools import check, sanity
from tools.environments import Environment
from tools.evidence import Counts


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sanity, "PLACE", tmp_path)
    return sanity.copied("2.19")


def test_the_copy_is_a_collection_in_a_repository_of_its_own(copy: Path, tmp_path: Path) -> None:
    assert copy == tmp_path / "ansible_collections/flaskfleet/web"
    listed = subprocess.run(["git", "ls-files"], cwd=copy, check=True, capture_output=True, text=True).stdout
    assert {"galaxy.yml", "plugins/modules/archive.py", "tests/sanity/ignore-2.19.txt"} <= set(listed.splitlines())


def test_the_copy_holds_nothing_that_the_archive_leaves_out(copy: Path) -> None:
    assert not [name for name in ("collections", "tools", "molecule", "tests/unit", ".venv") if (copy / name).exists()]


def test_what_is_not_run_is_told_with_the_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    counts = [Counts(20, 0, 1, ("pylint: why",)), Counts(21, 0, 1, ("pylint: why",))]
    monkeypatch.setattr(sanity, "sanity", lambda environment: (0, counts.pop(0), tmp_path))
    environments = [Environment(name, "", (3, 11)) for name in (".venv", ".venv-newest")]
    result = check.ansible_test(environments)
    assert (result.problem, result.counts) == ("", Counts(41, 0, 2, ("pylint: why",)))
    assert "skipped in sanity: pylint: why" in check.summary([result], 1)


def test_a_finding_fails_the_stage_and_is_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("$ ansible-test\nERROR: plugins/x.py: no-assert\n")
    monkeypatch.setattr(sanity, "sanity", lambda environment: (1, Counts(0, 1), log))
    result = check.ansible_test([Environment(".venv", "", (3, 11))])
    assert result.problem and "no-assert" in result.evidence

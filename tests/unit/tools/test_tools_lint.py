"""The linters are the same by hand, in `make lint` and in the hooks of pre-commit."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
import yaml

from tools import check, collection, lint
from tools.environments import Environment
from tools.run import ROOT, Problem

FIRST = Environment(".venv", "python3.11", (3, 11))


def hooks() -> list[dict[str, Any]]:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local", "nothing is fetched"
    found: list[dict[str, Any]] = repository["hooks"]
    return found


def test_each_linter_of_make_lint_is_a_hook_with_the_same_command(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[lint.Command]] = []
    monkeypatch.setattr(collection, "ensure", lambda: None)
    monkeypatch.setattr(check, "all_of", lambda _stage, commands: asked.append(commands))
    check.lint([FIRST])
    assert asked == [lint.commands([FIRST])]
    names = [name for name, _, _ in asked[0]]
    assert [hook["entry"] for hook in hooks()] == [f".venv/bin/python -m tools.lint {name}" for name in names]
    assert all(hook["language"] == "system" and hook["pass_filenames"] is False for hook in hooks())


@pytest.mark.parametrize(("text", "code"), [("x = 1\n", 0), ("import os\n", 1)])
def test_a_linter_by_name_is_the_real_one(
    text: str, code: int, tmp_path: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file.py").write_text(text)
    monkeypatch.setattr(lint, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["lint", "ruff"])
    assert lint.work() == code
    assert ("F401" in capfd.readouterr().out) == bool(code)


@pytest.mark.parametrize(
    ("name", "told"),
    [("rufff", "No such linter: rufff. There are: ansible-lint, "), ("antsibull-docs", "make lint makes it")],
)
def test_a_linter_that_there_is_not_is_told(name: str, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collection, "environment", lambda: Environment("none", "python3", (3, 11)))
    monkeypatch.setattr(sys, "argv", ["lint", name])
    with pytest.raises(Problem, match=told):
        lint.work()


def test_another_version_than_that_of_the_tag_is_not_built() -> None:
    argv = [sys.executable, "-m", "tools.collection", "--version", "9.9.9"]
    done = subprocess.run(argv, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text())["version"]
    assert (done.returncode, done.stderr) == (
        1,
        f"galaxy.yml has version {version}, and 9.9.9 is wanted: change galaxy.yml, commit, and tag that.\n",
    )

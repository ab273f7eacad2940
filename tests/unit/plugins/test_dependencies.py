"""A source without a requirements file gets one, and nothing of the app is run for that."""

from __future__ import annotations

import io
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import dependencies
from ansible_collections.flaskfleet.web.plugins.module_utils.tree import Entry
from ansible_collections.flaskfleet.web.plugins.modules import archive

RunModule = Callable[..., dict[str, Any]]
PROJECT = '[project]\nname = "shop"\ndependencies = ["flask==3.1.3", "x @ git+https://git.example.com/x@v1"]\n'
EXPORTED = """\
# This file was made by a tool
-i https://index.example.com/simple
--extra-index-url https://other.example.com/simple
flask==3.1.3 ; python_version >= "3.9" \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via shop
"""
PLAIN = 'flask==3.1.3 ; python_version >= "3.9" --hash=sha256:aa --hash=sha256:bb\n'


def write(root: Path, **files: str) -> Path:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def pack(run_module: RunModule, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Pack a directory; return the answer, with the requirements that the archive holds."""

    def packed(root: Path, **more: Any) -> dict[str, Any]:
        answer = run_module(archive, {"source": str(root), "dest": str(tmp_path / "cache"), **more})
        if not answer.get("failed"):
            with tarfile.open(answer["path"]) as tar:
                name = more.get("requirements", "requirements.txt")
                held = tar.extractfile(name) if name in tar.getnames() else None
                answer["requirements"] = held.read().decode() if held else None
        return answer

    return packed


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Put a program in place of each tool; returns the file in which it notes what it was given."""
    noted = tmp_path / "noted.json"

    def made(output: str = EXPORTED, errors: str = "", code: int = 0) -> Path:
        (tmp_path / "bin").mkdir()
        script = (
            f"#!{sys.executable}\nimport json, os, sys\n"
            f"found = sorted(os.path.relpath(os.path.join(d, f)) for d, _, fs in os.walk('.') for f in fs)\n"
            f"json.dump([sys.argv[1:], found, dict(os.environ)], open({str(noted)!r}, 'w'))\n"
            f"sys.stdout.write({output!r})\nsys.stderr.write({errors!r})\nsys.exit({code})\n"
        )
        for each in dependencies.TOOLS:
            (tmp_path / "bin" / each.name).write_text(script)
            (tmp_path / "bin" / each.name).chmod(0o755)
        return noted

    monkeypatch.setattr(dependencies, "program_path", lambda: str(tmp_path / "bin"))
    return made


@pytest.mark.parametrize("each", dependencies.TOOLS, ids=lambda each: each.name)
def test_a_lock_file_is_exported_by_its_own_tool_which_sees_nothing_of_the_app(
    tmp_path: Path, tool: Any, pack: Any, each: dependencies.Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted = tool()
    monkeypatch.setenv("VIRTUAL_ENV", "/x")
    root = write(tmp_path / "app", app_py="raise SystemExit", setup_cfg="x", libs__a__pyproject_toml=PROJECT)
    (root / each.lock).write_text("locked")
    (root / each.project).write_text(PROJECT)
    assert pack(root)["requirements"] == PLAIN
    argv, seen, environment = json.loads(noted.read_text())
    assert [each.name, *argv] == each.export.split()
    assert set(seen) <= {each.lock, each.project, "libs/a/pyproject.toml"} and each.lock in seen
    assert "VIRTUAL_ENV" not in environment and "PATH" in environment


@pytest.mark.parametrize("each", dependencies.TOOLS, ids=lambda each: each.name)
def test_without_the_tool_one_sentence_has_the_command(
    tmp_path: Path, pack: Any, each: dependencies.Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "program_path", lambda: str(tmp_path / "nowhere"))
    (root := tmp_path / "app").mkdir()
    (root / each.lock).write_text("locked")
    said = pack(root)["msg"]
    assert f"{each.name}, which reads it, is not on this machine" in said
    assert each.install in said and said.endswith(f"{each.export} > requirements.txt") and "\n" not in said


def test_a_requirements_file_goes_before_a_lock_file_and_an_excluded_lock_file_is_none(
    tmp_path: Path, pack: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependencies, "program_path", lambda: str(tmp_path / "nowhere"))
    root = write(tmp_path / "app", poetry_lock="locked", requirements_txt="flask\n")
    assert pack(root)["requirements"] == "flask\n"
    assert pack(root, requirements="poetry.lock")["requirements"] == "locked"
    (root / "requirements.txt").unlink()
    assert pack(root)["failed"]
    assert pack(write(root, app_py="x"), exclude=["poetry.lock"])["requirements"] is None


def test_a_lock_file_makes_the_file_that_is_asked_for(tmp_path: Path, tool: Any, pack: Any) -> None:
    tool()
    assert pack(write(tmp_path / "app", uv_lock="x", pyproject_toml=PROJECT), requirements="l.txt")["requirements"]


def test_two_lock_files_are_named(tmp_path: Path, pack: Any) -> None:
    said = pack(write(tmp_path / "app", poetry_lock="x", uv_lock="x", pyproject_toml=PROJECT))["msg"]
    assert "has uv.lock and poetry.lock, and no requirements.txt" in said and "flask_gunicorn_nginx_exclude" in said


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"uv_lock": "x"}, "has uv.lock and no pyproject.toml"),
        ({"Pipfile": "x"}, "Run pipenv lock in it"),
        ({"poetry_lock": "x", "pyproject_toml": "[tool.poetry.requires-plugins]\n"}, "asks poetry for plugins"),
    ],
)
def test_what_cannot_be_exported_is_told(tmp_path: Path, tool: Any, pack: Any, files: Any, says: str) -> None:
    noted = tool()
    assert says in pack(write(tmp_path / "app", **files))["msg"]
    assert not noted.exists(), "nothing was run"


def test_what_a_tool_says_when_it_fails_is_told_without_a_password(tmp_path: Path, tool: Any, pack: Any) -> None:
    tool(code=1, errors="cannot read https://ada:s3cr3t@x.example/a\npoetry.lock is not up to date")
    said = pack(write(tmp_path / "app", poetry_lock="x", pyproject_toml=PROJECT))["msg"]
    assert "poetry.lock is not up to date" in said and "poetry export --without-urls > requirements.txt" in said
    assert "s3cr3t" not in said


def test_a_tool_that_does_not_end_or_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dependencies, "LONGEST", 0.1)
    assert dependencies.run(["sleep", "9"], str(tmp_path))[::2] == (1, "no answer within 0.1 seconds")
    assert dependencies.run([str(tmp_path)], str(tmp_path))[0] == 1


def test_with_a_package_from_git_no_requirement_has_hashes_for_pip_wants_all_or_none() -> None:
    found = dependencies.plain(f"{EXPORTED}x @ git+https://git.example.com/x@{'0' * 40}\n")
    assert found == f'flask==3.1.3 ; python_version >= "3.9"\nx @ git+https://git.example.com/x@{"0" * 40}\n'


FLAT = ("app.py", "static/a.css", "templates/a.html")


@pytest.mark.parametrize(
    ("names", "more", "taken"),
    [
        (FLAT, "", True),
        (("app.py", "models.py"), "", True),
        # one package, or a module: pip builds it
        (("shop/__init__.py", "tests/test_shop.py", "docs/a.md", ".github/a.yml", "a-b/c"), "", False),
        (("shop.py", "setup.cfg"), "", False),
        (("app.py", "conftest.py", "tests/a.py"), "", False),
        (("src/shop/__init__.py", "static/a"), "", False),
        # somebody has said how it is built
        (FLAT, '[build-system]\nrequires = ["hatchling"]\n', False),
        (FLAT, "[tool.setuptools]\npy-modules = []\n", False),
        ((*FLAT, "setup.py"), "", False),
        ((*FLAT, "setup.cfg"), "", False),
        ((*FLAT, "requirements.txt"), "", False),
    ],
)
def test_of_a_project_that_pip_could_not_build_the_dependencies_are_taken(
    names: tuple[str, ...], more: str, taken: bool
) -> None:
    def entry(name: str, text: str = "") -> Entry:
        return Entry(name, open=lambda: io.BytesIO(text.encode()))

    entries = [*map(entry, names), entry("pyproject.toml", PROJECT + more)]
    found = {each.name: each for each in dependencies.complete(entries, "requirements.txt", "here")}
    assert (len(found) == len(entries) + 1) is taken
    if taken:
        said = dependencies.read(found["requirements.txt"])
        assert said == b"flask==3.1.3\nx @ git+https://git.example.com/x@v1\n"


@pytest.mark.parametrize("text", ["", "[tool.black]\n", '[project]\ndynamic = ["dependencies"]\n', "no toml", "\xff"])
def test_a_pyproject_that_declares_nothing_adds_nothing(text: str) -> None:
    entries = [Entry("pyproject.toml", open=lambda: io.BytesIO(text.encode("latin-1"))), *map(Entry, FLAT)]
    assert dependencies.complete(entries, "requirements.txt", "here") == entries


def test_tools_beside_ansible_and_of_pipx_are_found() -> None:
    assert {os.path.dirname(sys.executable), os.path.expanduser("~/.local/bin")} <= {
        *dependencies.program_path().split(os.pathsep)
    }

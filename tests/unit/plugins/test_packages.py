"""A dead source of somebody else stops nothing that apt can do, and hides nothing that it cannot."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.modules import packages

Answer = dict[str, Any]
DEAD = (
    "W: Failed to fetch http://packages.example.invalid/debian/dists/gone/InRelease  Could not resolve\n"
    "W: Some index files failed to download. They have been ignored, or old ones used instead.\n"
    "W: http://deb.example.org/: Key is stored in legacy trusted.gpg keyring\n"
)
UNSIGNED = "E: The repository 'http://packages.example.invalid/debian gone Release' does not have a Release file.\n"


class Apt:
    """A host with an apt that says what a test sets; `fails` counts how often it cannot install."""

    def __init__(self, root: Path, run_program: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.run_program = root, run_program
        self.calls: list[str] = []
        self.update, self.fails, self.words = (0, ""), 0, "E: Unable to locate package nginx"
        (root / "vendor.list").write_text("deb http://packages.example.invalid/debian gone main\n")
        (root / "lists").mkdir()
        monkeypatch.setattr(packages, "SOURCES", [str(root / "*.list")])
        monkeypatch.setattr(packages, "LISTS", str(root / "lists"))
        monkeypatch.setattr(packages, "STAMP", str(root / "stamp"))
        monkeypatch.setattr(packages.subprocess, "run", self.run)

    def run(self, argv: list[str], **_more: Any) -> Any:
        words = argv[argv.index("Dpkg::Options::=--force-confold") + 1 :]
        self.calls.append(words[0])
        code, said = self.update
        if words[0] == "install":
            assert "--no-remove" in words and "--no-install-recommends" in words
            code, said = (100, self.words) if self.fails else (0, "")
            self.fails = max(0, self.fails - 1)
        return packages.subprocess.CompletedProcess(argv, code, said.encode(), b"")

    def old(self) -> None:
        os.utime(self.root / "lists", (1, 1))

    def install(self, *names: str, check: bool = False) -> Answer:
        return self.run_program(packages, {"names": list(names or ["nginx"])}, check)


@pytest.fixture
def apt(tmp_path: Path, run_program: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch) -> Apt:
    return Apt(tmp_path, run_program, monkeypatch)


def test_with_lists_of_today_apt_only_installs(apt: Apt) -> None:
    assert apt.install() == {"changed": True}
    assert apt.calls == ["install"]


def test_old_lists_are_fetched_before(apt: Apt) -> None:
    apt.old()
    assert apt.install() == {"changed": True}
    assert apt.calls == ["update", "install"]


@pytest.mark.parametrize("said", [(0, DEAD), (100, UNSIGNED)])
def test_a_dead_source_is_named_with_its_file_and_stops_nothing(apt: Apt, said: tuple[int, str]) -> None:
    apt.old()
    apt.update = said
    answer = apt.install()
    assert answer["changed"] and not answer.get("failed")
    (warning,) = answer["warnings"]
    assert f"in {apt.root}/vendor.list" in warning and "packages.example.invalid" in warning
    assert "Some index files" not in warning and "legacy" not in warning


def test_lists_that_lack_a_package_are_fetched_once(apt: Apt) -> None:
    apt.fails = 1
    assert apt.install() == {"changed": True}
    assert apt.calls == ["install", "update", "install"]


def test_what_cannot_be_installed_is_said_in_apt_s_words_with_the_dead_source(apt: Apt) -> None:
    apt.fails, apt.update = 9, (0, DEAD)
    answer = apt.install("nginx", "python3-venv")
    assert answer["failed"] and apt.calls == ["install", "update", "install"]
    for words in ("apt cannot install nginx, python3-venv", "Unable to locate", "vendor.list", "Could not resolve"):
        assert words in answer["msg"]
    apt.fails, apt.words = 9, "dpkg was interrupted"
    assert "dpkg was interrupted" in apt.install()["msg"]


def test_check_mode_and_nothing_to_do_ask_nothing(apt: Apt) -> None:
    assert apt.install(check=True) == {"changed": True}
    assert apt.run_program(packages, {"names": []}) == {"changed": False}
    assert apt.calls == []

"""What a source is to pip: whether it is a project that is built, and what it depends on. Reads, changes nothing."""

from __future__ import annotations

import os
import re
from pathlib import Path

from flaskctl.files import read_text

# a tool's own word for "this is an app, there is nothing to build"
NOT_BUILT = (("tool.poetry", "package-mode"), ("tool.uv", "package"), ("tool.pdm", "distribution"))


def table(text: str, name: str) -> str | None:
    """Return what stands below the header [name] of a TOML or INI file; this Python may be too old to read TOML."""
    found = re.search(rf"(?ms)^\[\s*{re.escape(name)}\s*\]\s*?(?:#[^\n]*)?$(.*?)(?=^\[|\Z)", text)
    return found.group(1) if found else None


def says(text: str, name: str, key: str, value: str = "") -> bool:
    """Tell whether a key stands in a table, with this value where one is given."""
    return bool(re.search(rf"(?m)^\s*{re.escape(key)}\s*=\s*{value}", table(text, name) or ""))


def is_project(tree: Path, locked: bool) -> bool:
    """Tell whether pip is to build what is in `tree`; `locked`: a requirements file says what it depends on.

    pip builds with setuptools where no [build-system] names another. Beside a requirements file that is not wanted: an
    app that starts from its own directory needs no build, and most of those cannot be built.
    """
    pyproject, setup = read_text(tree / "pyproject.toml") or "", read_text(tree / "setup.cfg") or ""
    if any(says(pyproject, name, key, r"false\b") for name, key in NOT_BUILT):
        return False
    if (tree / "setup.py").is_file() or table(pyproject, "build-system") is not None:
        return True
    named = table(pyproject, "project") is not None or bool(pyproject and says(setup, "metadata", "name"))
    elsewhere = (tree / "src").is_dir() or "[tool.setuptools" in pyproject or bool(setup and table(setup, "options"))
    return named and (elsewhere or not locked)


def build_texts(tree: Path) -> tuple[str, ...]:
    """Return the texts that decide what a project depends on.

    They may name others (dynamic dependencies), each build backend in a form of its own: so all that could be one.
    """
    first = [tree / name for name in ("pyproject.toml", "setup.py", "setup.cfg")]
    lists = {
        path for place in (tree, tree / "requirements") for end in ("txt", "in") for path in place.glob(f"*.{end}")
    }
    texts = (read_text(path) for path in [*first, *sorted(lists)] if path.is_file())
    return tuple(text for text in texts if text is not None)


def elsewhere(tree: Path) -> list[str]:
    """Return the files, by path in `tree`, that a person may have meant by requirements.txt."""
    found = (path for depth in ("*", "*/*", "*/*/*") for end in ("txt", "in") for path in tree.glob(f"{depth}.{end}"))
    return sorted(os.path.relpath(path, tree) for path in found if "requirements" in str(path.relative_to(tree)))[:5]

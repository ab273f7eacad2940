"""What a source is built with, out of a locked set. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable

from flaskctl.project import table
from flaskctl.requirements import normalized, requirement_name

USUAL = ("setuptools", "wheel")  # what pip takes where nothing is named


def build_requires(pyproject: str) -> list[str]:
    """Return the names of what a project says that it is built with."""
    found = re.search(r"(?ms)^\s*requires\s*=\s*\[(.*?)\]\s*(?:#[^\n]*)?$", table(pyproject, "build-system") or "")
    words = re.findall(r"""["']([^"']+)["']""", found.group(1)) if found else []
    return [name for word in words if (name := requirement_name(word))] if found else list(USUAL)


def entries(locked: str) -> list[tuple[str, str, set[str]]]:
    """Return the entries of a locked set as uv writes it: name, text, and what each is there for ("# via")."""
    found = []
    for text in re.split(r"(?m)^(?=[A-Za-z0-9])", locked):
        name = requirement_name(text)
        if name:
            via = re.findall(r"(?m)^ +#(?: via)? +([A-Za-z0-9][\w.-]*)\s*$", text)
            found.append((name, text, {normalized(word) for word in via}))
    return found


def chosen(locked: str, wanted: Iterable[str]) -> tuple[str, list[str]]:
    """Return the entries of a locked set that are for what is wanted, and the names of what it lacks."""
    known = entries(locked)
    names = set(wanted)
    lacking = sorted(names - {name for name, _, _ in known})
    while more := {name for name, _, via in known if via & names} - names:
        names |= more
    return "".join(text for name, text, _ in known if name in names), lacking

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What came of a task, in the words that a person reads. Says nothing itself: the callback does."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

NAMES = 3  # hosts up to this many are named
FAILED_NAMES = 8  # of those that failed more are
UNDEFINED = re.compile(r"'(\w+)' is undefined")
LAST_LINES = 15  # of what a failed command printed
# what Ansible puts before the words that name the cause
PREFIXES = re.compile(r"\A(?:(?:Task failed|Module failed|Action failed|Validation of arguments failed):\s*)+")


def listed(hosts: Iterable[str], most: int = NAMES) -> str:
    """Return a few hosts by name, more of them as a number."""
    names = list(hosts)
    return ", ".join(names) if len(names) <= most else f"{len(names)} hosts"


def seconds(duration: float) -> str:
    """Return a duration in seconds as a person reads it."""
    if duration < 60:
        return f"{duration:.1f} s"
    return f"{int(duration) // 60} min {int(duration) % 60:02} s"


def words(text: str) -> str:
    """Return a text without its line breaks and blanks, to see whether another has it."""
    return " ".join(text.split())


def plain(text: str) -> str:
    """Return a text as any terminal shows it: what an app, a file's name or a server says could hide a line."""
    return "".join(char if char.isprintable() or char in "\n\t" else repr(char)[1:-1] for char in text)


def why(result: Mapping[str, Any], inventories: Sequence[str] = ()) -> list[str]:
    """Return why a task failed, in its own words: the message, and of a command the end of what it printed."""
    return [plain(part) for part in words_of_failure(result, inventories)]


def words_of_failure(result: Mapping[str, Any], inventories: Sequence[str]) -> list[str]:
    message = PREFIXES.sub("", str(result.get("msg") or result.get("censored") or "").strip())
    missing = UNDEFINED.search(message)
    if missing:
        return [f"{missing[1]} is not defined. {place_for(missing[1], inventories)}"]
    said = [message, *(f"{key}: {result[key]}" for key in ("assertion", "evaluated_to") if key in result)]
    for stream in ("module_stderr", "stderr", "stdout"):
        text = str(result.get(stream) or "").strip()
        if text and words(text) not in words(message):
            said.append("\n".join(text.splitlines()[-LAST_LINES:]))
            break
    return list(filter(None, said)) or ["it failed, and says nothing"]


def place_for(variable: str, inventories: Sequence[str]) -> str:
    """Return where a variable belongs that a play looked for, as a sentence with a file of this inventory."""
    secret = variable.startswith("vault")
    tail = "group_vars/flask_app/" + ("vault.yml" if secret else "flask_gunicorn_nginx.yml")
    path = next(iter(files_for(tail, inventories)), tail)
    if not secret:
        return f"Define it where the inventory keeps the variables of these hosts, such as {path}."
    return f"Put it into the vault: ansible-vault {'edit' if os.path.exists(path) else 'create'} {path}"


def files_for(tail: str, inventories: Sequence[str]) -> list[str]:
    """Return the files of inventories that a variable may stand in, those that are there first."""
    places = [Path(path) if os.path.isdir(path) else Path(path).parent for path in inventories if os.path.exists(path)]
    there = [path for place in places for path in sorted(place.glob(f"group_vars/*/{Path(tail).name}"))]
    return [near(path) for path in [*there, *(place / tail for place in places)]]


def near(path: Path) -> str:
    """Return a path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def origin(error: Any) -> str:
    """Return the file and line that an error of Ansible's came from, the innermost that it knows; or nothing."""
    found = ""
    event = getattr(error, "event", None)
    while event is not None:
        first = (getattr(event, "formatted_source_context", None) or "").strip().partition("\n")[0]
        if first.startswith("Origin: /"):
            path, colon, line = first.removeprefix("Origin: ").partition(":")
            found = os.path.realpath(path) + colon + line
        event = getattr(getattr(event, "chain", None), "event", None)
    return found

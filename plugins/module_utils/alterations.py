# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Tell what of the files that the role has put in place is not as it left them.

Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.file_state import (
    ConfigError,
    State,
    as_noted,
    lost_lines,
    read,
    same_content,
)

Json = dict[str, Any]
SHOWN = 100_000  # bytes of a file that are worth a look
ITEM = {"kind": "other", "text": None, "wrote": None, "standing": "", "release": False}


def alterations(record: Mapping[str, str], paths: Sequence[str], tree: str, release: str, units: str) -> list[Json]:
    """Return what somebody else has changed, of the files on record and of the current release.

    Of the record those at `paths` and below `tree`; what a release was to have, its configuration tells.
    """
    found = []
    for path, note in sorted(record.items()):
        if note != "directory" and (path in paths or (tree and path.startswith(f"{tree}/"))):
            found += altered(path, note, None)
    if release:
        home = os.path.realpath(release)
        for path, (text, mode) in release_files(home, units).items():
            # the role's own user writes it, as it writes the release
            made = State("file", text.encode("utf-8", "surrogateescape"), "", mode, os.geteuid(), os.getegid())
            notes = [made.note()]
            if mode & 0o040:  # the group of the app may read it; everybody could, of an older flaskctl
                group = os.stat(home).st_gid
                notes += [made._replace(gid=group).note(), made._replace(mode=0o644).note()]
            found += [{**item, "release": True} for item in altered(path, "\n".join(notes), text)]
    return found


def altered(path: str, note: str, wrote: str | None) -> list[Json]:
    """Return how a file differs from its note. The text of one that root alone may read stays on the host.

    So does that of any which not everybody may read, but for those that a release has for its app.
    """
    try:
        now = read(path)
    except ConfigError:
        return [{**ITEM, "path": path, "words": "is no file any more"}]
    if as_noted(now, note):
        return []
    readers = 0o004 if wrote is None else 0o040
    public = now.kind == "link" or all(int(mode, 8) & readers for mode in [f"{now.mode:o}", *modes(note)])
    texts = {"text": now.text(), "wrote": wrote} if public and len(now.content) <= SHOWN else {}
    standing = f"{now.mode:04o} {now.uid}:{now.gid}"
    return [{**ITEM, "path": path, "kind": now.kind, **texts, "standing": standing, "words": words(now, note)}]


def words(now: State, note: str) -> str:
    """Return what became of a file."""
    if now.kind == "absent":
        return "was deleted"
    if now.kind == "link":
        return f"is a link to {now.target}"
    if same_content(now, note):
        before = note.splitlines()[-1].partition(" ")[2]
        return f"has mode and owner {now.mode:04o} {now.uid}:{now.gid}, not {before}"
    return "was changed"


def modes(note: str) -> list[str]:
    """Return the modes that a note has; one of an older role has none, and a link none."""
    return [line.split(" ")[1] for line in note.splitlines() if " " in line and not line.startswith("->")]


def edits_undone(record: Mapping[str, str], paths: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return which lines that were put into files of others are not in them any more."""
    found = []
    for path in paths:
        with contextlib.suppress(ConfigError, ValueError):
            lost = lost_lines(read(path), record.get(f"line {path}", "[]"))
            found += [(path, lost)] if lost else []
    return found


def release_files(home: str, units: str) -> dict[str, tuple[str, int]]:
    """Return text and mode of the files that flaskctl made from the configuration of a release, by path."""
    try:
        with open(f"{home}/config.json", encoding="utf-8") as file:
            config = json.load(file)
        made = {"gunicorn.conf.py": (config["gunicorn_conf"], 0o640)}
        made["environment"] = (environment_file(config["environment"]), 0o600)
        made.update({f"credentials/{name}": (value, 0o600) for name, value in config["credentials"].items()})
        found = {f"{home}/{name}": file for name, file in made.items()}
        release, services = os.path.basename(home), ["", *(f".{name}" for name in config["processes"])]
        for name, texts in config["processes"].items():
            own = {kind: own_command(text, home) for kind, text in texts.items()}
            found.update({f"{units}.{name}@{release}.{kind}": (text, 0o644) for kind, text in own.items()})
        drop_in = credentials_drop_in(home, config["credentials"])
        for service in services if config["credentials"] else []:
            found[f"{units}{service}@{release}.service.d/credentials.conf"] = (drop_in, 0o644)
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}  # there is none, or flaskctl tells what is wrong with it
    return found


def own_command(text: str, home: str) -> str:
    """Return a unit as flaskctl writes it: a command of the project itself is in the release, not in its virtualenv."""

    def place(found: re.Match[str]) -> str:
        here = os.path.exists(f"{home}/site/bin/{found[2]}")
        return f"{found[1]}/site/bin/{found[2]}" if here else found[0]

    return re.sub(r"(?m)(?<=^ExecStart=)(\S*)/venv/bin/(\S+)", place, text)


def environment_file(environment: Mapping[str, str]) -> str:
    """Return the text of an EnvironmentFile=, as flaskctl writes it."""
    lines = []
    for name, value in sorted(environment.items()):
        for special in '\\"`$':  # the backslash first
            value = value.replace(special, "\\" + special)
        lines.append(f'{name}="{value}"\n')
    return "".join(lines)


def credentials_drop_in(home: str, names: Iterable[str]) -> str:
    """Return the text of the drop-in by which systemd loads the credentials of a release, as flaskctl writes it."""
    lines = (f"LoadCredential={name}:{home}/credentials/{name}" for name in sorted(names))
    return "\n".join(["# written by flaskctl with the release", "[Service]", *lines, ""])

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Which flaskctl this is: a hash of its files and its launcher, here and on a host."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping

DIRECTORY = "{directory}"  # stands in the launcher for the directory of the version


def version(rooms: Mapping[str, str], launcher: str) -> str:
    """Return the version of a flaskctl, from the text of each file by its name and from that of its launcher."""
    return hashlib.sha256(json.dumps([sorted(rooms.items()), launcher]).encode()).hexdigest()[:12]


def text(path: str) -> str:
    """Return what a file holds; nothing where it is not there, or somebody else could write it."""
    try:
        about = os.lstat(path)
        if about.st_uid != os.geteuid() or about.st_mode & 0o022:
            return ""
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def whole(launcher: str) -> str:
    """Return the version of the flaskctl that a launcher starts; nothing where it is not whole."""
    found = text(launcher)
    named = re.search(r'sys\.path\.insert\(0, "(/[^"]+)"\)', found)
    if not named or not os.access(launcher, os.X_OK):
        return ""
    directory = named[1]
    try:
        names = [name for name in os.listdir(f"{directory}/flaskctl") if name.endswith(".py")]
    except OSError:
        return ""
    rooms = {name: text(f"{directory}/flaskctl/{name}") for name in names}
    known = version(rooms, found.replace(directory, DIRECTORY))
    return known if os.path.basename(directory) == known else ""

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a source holds: the files and links of a directory, or of what git gives, one entry each."""

from __future__ import annotations

import fnmatch
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

# Names are bytes decoded as UTF-8 with surrogates, whatever the locale: a name that is not UTF-8 survives.
ENCODING = "utf-8"
ERRORS = "surrogateescape"


class ArchiveError(Exception):
    """The source cannot be packed; the text says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """One file or link: its path inside the archive, and either how to open it (size in bytes) or the link's target."""

    name: str
    executable: bool = False
    size: int = 0
    target: str | None = None
    open: Callable[[], IO[bytes]] = io.BytesIO


def shown(name: str) -> str:
    """Return a path fit to be printed, also when it is not UTF-8."""
    return name.encode(ENCODING, ERRORS).decode(ENCODING, "backslashreplace")


def excluded(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a path, or a directory that it lies in, matches one of the patterns."""
    parts = name.split("/")
    for pattern in patterns:
        wanted = pattern.rstrip("/")
        if "/" not in wanted:
            if any(fnmatch.fnmatchcase(part, wanted) for part in parts):
                return True
            continue
        steps = wanted.lstrip("/").split("/")
        if len(steps) <= len(parts) and all(
            fnmatch.fnmatchcase(parts[position], step) for position, step in enumerate(steps)
        ):
            return True
    return False


def directory_entries(root: Path, patterns: list[str]) -> Iterator[Entry]:
    """Yield the files and links below a directory; raise ArchiveError for what an archive cannot hold."""
    base = os.fsencode(root)

    def walk(relative: bytes) -> Iterator[Entry]:
        # bytes: a name is no text, and the locale of the control node must not decide what it is
        for item in os.scandir(os.path.join(base, relative)):
            path = os.path.join(relative, item.name)
            name = path.decode(ENCODING, ERRORS)
            if excluded(name, patterns):
                continue
            status = item.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from walk(path)
            elif stat.S_ISLNK(status.st_mode):
                yield Entry(name, target=os.readlink(item.path).decode(ENCODING, ERRORS))
            elif stat.S_ISREG(status.st_mode):
                full = item.path
                yield Entry(
                    name,
                    executable=bool(status.st_mode & stat.S_IXUSR),
                    size=status.st_size,
                    open=lambda full=full: open(full, "rb"),  # type: ignore[misc]  # noqa: SIM115
                )
            else:
                raise ArchiveError(f"{shown(name)} is a socket, a pipe or a device. Remove it, or name it in exclude.")

    return walk(b"")


def tar_entries(tar: tarfile.TarFile, subdirectory: str, patterns: list[str]) -> Iterator[Entry]:
    """Yield the files and links of what `git archive` wrote, below `subdirectory` when one is given."""
    prefix = f"{subdirectory}/" if subdirectory else ""
    for member in tar:
        if not member.name.startswith(prefix) or member.isdir():
            continue
        name = member.name[len(prefix) :]
        if excluded(name, patterns):
            continue
        if member.issym():
            yield Entry(name, target=member.linkname)
        else:
            yield Entry(
                name,
                executable=bool(member.mode & stat.S_IXUSR),
                size=member.size,
                open=lambda member=member: cast("IO[bytes]", tar.extractfile(member)),  # type: ignore[misc]
            )

"""What a build has left becomes root's, whole, or is refused. Knows no release and no app."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from flaskctl.errors import Refused

MAX_ENTRIES, MAX_DEPTH = 500_000, 100
REMEDY = "leave out the package that makes it, or ask its authors why it does"


def take_over(tree: Path, makers: Collection[int], python: str) -> None:
    """Make all in a tree root's, with plain modes. `makers` are the users that it may be of, `python` may be linked to.

    A directory is root's before it is looked into: whoever had it can change nothing in it any more. Nothing is opened,
    and no link is followed.
    """
    own(tree, 0o755)
    left, entries = [(tree, 0)], 0
    while left:
        directory, depth = left.pop()
        with os.scandir(directory) as found:
            names = [entry.name for entry in found]
        entries += len(names)
        if entries > MAX_ENTRIES or depth > MAX_DEPTH:
            raise Refused(
                f"what was built is refused: more than {MAX_ENTRIES} files, or {MAX_DEPTH} directories in one another",
                remedy=REMEDY,
            )
        for path in (directory / name for name in names):
            info = os.lstat(path)
            why = fault(path, info, tree, makers, python)
            if why:
                raise Refused(f"what was built is refused: {path.relative_to(tree)} {why}", remedy=REMEDY)
            if stat.S_ISDIR(info.st_mode):
                own(path, 0o755)
                left.append((path, depth + 1))
            elif stat.S_ISLNK(info.st_mode):
                os.lchown(path, os.geteuid(), os.getegid())
            else:
                own(path, 0o755 if info.st_mode & 0o111 else 0o644)


def own(path: Path, mode: int) -> None:
    os.chown(path, os.geteuid(), os.getegid(), follow_symlinks=False)
    path.chmod(mode)  # and of an access list it takes the right to write


def fault(path: Path, info: os.stat_result, tree: Path, makers: Collection[int], python: str) -> str:
    """Return why something cannot be taken over; empty where it can."""
    if info.st_uid not in makers:
        return f"belongs to another user ({info.st_uid})"
    if stat.S_ISLNK(info.st_mode):
        return "" if leads_inside(path, tree, python) else f"is a link to {os.readlink(path)}, out of it"
    if stat.S_ISDIR(info.st_mode):
        return ""
    if not stat.S_ISREG(info.st_mode):
        return "is neither file, directory nor link"
    if info.st_mode & (stat.S_ISUID | stat.S_ISGID):
        return "is setuid or setgid"
    return "has another name (a hard link)" if info.st_nlink > 1 else ""


def leads_inside(path: Path, tree: Path, python: str) -> bool:
    """Tell whether a link leads to something in the tree, or to the Python that a virtualenv is made of."""
    there = os.path.realpath(path)
    if python and there == os.path.realpath(python):
        return True
    inside = f"{there}/".startswith(f"{os.path.realpath(tree)}/")
    return inside and not os.path.isabs(os.readlink(path))

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a source has only the name of: files that Git LFS keeps elsewhere, submodules that are not checked out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ansible_collections.flaskfleet.web.plugins.module_utils.tree import ArchiveError, Entry, excluded, shown

POINTER = b"version https://git-lfs.github.com/spec/v1\n"
POINTER_SIZE = 1024  # bytes; a pointer is smaller
SHOWN = 5
NOT_NEEDED = "What the app does not need can stand in flask_gunicorn_nginx_exclude."


def some(names: Sequence[str]) -> str:
    """Return some of the names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(shown, names[:SHOWN])) + more


def check_pointers(entries: Iterable[Entry], kind: str) -> None:
    """Raise ArchiveError where files are pointers of Git LFS: the app would serve those."""
    names = []
    for entry in entries:
        if entry.target is None and len(POINTER) < entry.size < POINTER_SIZE:
            with entry.open() as content:
                names += [entry.name] if content.read(len(POINTER)) == POINTER else []
    if names:
        remedy = (
            "Run git lfs pull in it."
            if kind == "directory"
            else "A git source has no more: clone it, run git lfs pull in the clone, and name that directory as source."
        )
        files = "are only pointers of Git LFS" if len(names) > 1 else "is only a pointer of Git LFS"
        raise ArchiveError(f"{some(sorted(names))} {files}. {remedy} {NOT_NEEDED}")


def check_submodules(entries: Iterable[Entry], submodules: Iterable[str], patterns: list[str], kind: str) -> None:
    """Raise ArchiveError where submodules hold nothing."""
    there = [entry.name for entry in entries]
    names = [
        name
        for name in submodules
        if not excluded(name, patterns) and not any(path.startswith(f"{name}/") for path in there)
    ]
    if names:
        remedy = (
            "Run git submodule update --init --recursive in it."
            if kind == "directory"
            else "A git source has none: clone it with --recurse-submodules, and name that directory as source."
        )
        what = "are submodules that are" if len(names) > 1 else "is a submodule that is"
        raise ArchiveError(f"{some(names)} {what} not there. {remedy} {NOT_NEEDED}")

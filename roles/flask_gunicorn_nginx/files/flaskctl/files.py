"""Reading and writing files: whole or not at all, one step at a time. Knows no release and no app."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

from flaskctl import Json

FULL = "the disk is full: make room, flaskctl APP prune helps"


def inventory(tree: Path) -> Json:
    """Return what is in `tree`, by path: directories ("a/") as [mode], links, files as [sha256, mode]; no byte code.

    A name need not be UTF-8: surrogates stand for its other bytes, here and in the manifest.
    """
    found: Json = {}
    for directory, names, files in os.walk(tree):
        names[:] = [name for name in names if name != "__pycache__"]
        relative = os.path.relpath(directory, tree)
        found[f"{relative}/"] = [mode_of(directory)]
        for name in [*files, *(name for name in names if os.path.islink(os.path.join(directory, name)))]:
            path = os.path.join(directory, name)
            key = os.path.normpath(os.path.join(relative, name))
            found[key] = ["link", os.readlink(path)] if os.path.islink(path) else [file_sha256(path), mode_of(path)]
    return found


def for_owner(found: Json) -> Json:
    """Return an inventory whose modes say who may write, and what the owner may: the rest is up to `permissions`."""
    return {
        name: what if what[0] == "link" else [*what[:-1], oct(int(what[-1], 8) & 0o7722)]
        for name, what in found.items()
    }


def mode_of(path: str | Path) -> str:
    return oct(os.stat(path).st_mode & 0o7777)


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return stream_sha256(file)


def stream_sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def mirror(source: Path, dest: Path, stays: Callable[[str], bool]) -> None:
    """Make `dest` hold what `source` holds, file by file, each in one step: an app that runs from there misses none.

    `stays`: whether something in `dest` that `source` does not hold is left there.
    """
    wanted, found = inventory(source), inventory(dest)
    # in place of a directory, and what it leads to is somebody's
    links = tuple(
        f"{name}/" for name, what in found.items() if what[0] == "link" and f"{name}/" in wanted and stays(name)
    )
    for name in sorted(set(found) - set(wanted)):
        if not stays(name.rstrip("/")):
            erase(dest / name)
    for name in sorted(name for name in wanted if found.get(name) != wanted[name] and not name.startswith(links)):
        place = dest / name if name.endswith("/") else dest / f"{name}.new~"
        if name.endswith("/"):
            place.mkdir(exist_ok=True)
            shutil.copymode(source / name, place)
        else:
            erase(place)
            shutil.copy2(source / name, place, follow_symlinks=False)
        os.chown(place, -1, (source / name).lstat().st_gid, follow_symlinks=False)  # whose group may read it
        if not name.endswith("/"):
            os.replace(place, dest / name)


def copy_code(source: Path, dest: Path) -> None:
    """Copy a tree of a release without its byte code, with the groups that may read it: a build is in one of them."""
    shutil.copytree(source, dest, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (dest, *dest.rglob("*")):
        os.chown(path, -1, (source / path.relative_to(dest)).lstat().st_gid, follow_symlinks=False)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Put a whole file in place, or leave the old one: no reader and no crash sees a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    erase(beside)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            erase(beside)
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_json(path: Path, data: Json, mode: int = 0o644) -> None:
    write(path, json.dumps(data, indent=1, sort_keys=True) + "\n", mode)


def link(path: Path, target: str) -> None:
    """Point a link at `target`, in one step and for good."""
    beside = path.with_name(f".{path.name}.new")
    erase(beside)
    os.symlink(target, beside)
    os.replace(beside, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def erase(path: Path) -> bool:
    """Remove a file, a link or a tree; True if there was one."""
    if path.is_dir() and not path.is_symlink():
        if shallow(path):
            shutil.rmtree(path)
        else:
            erase_deep(path)
        return True
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


MAX_NESTED = 200  # directories in one another that rmtree is given: it calls itself, and has each of them open


def shallow(tree: Path) -> bool:
    """Tell whether a tree has no more directories in one another than that; no path gets longer than a kernel takes."""
    level = [str(tree)]
    for _ in range(MAX_NESTED):
        level = [entry.path for place in level for entry in os.scandir(place) if entry.is_dir(follow_symlinks=False)]
        if not level:
            return True
    return False


def erase_deep(tree: Path) -> None:
    """Remove a tree however deep its directories lie in one another: each is taken out before it is looked into."""
    with tempfile.TemporaryDirectory(prefix=".erase-", dir=tree.parent) as place:
        left, number = [os.path.join(place, "0")], 0
        os.rename(tree, left[0])
        while left:
            here = left.pop()
            for entry in list(os.scandir(here)):
                if entry.is_dir(follow_symlinks=False):
                    number += 1
                    left.append(os.path.join(place, str(number)))
                    os.rename(entry.path, left[-1])
                else:
                    os.unlink(entry.path)
            os.rmdir(here)


def read_text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_json(path: Path) -> Json | None:
    """Return the JSON object in a file; None where there is no file, or no object in it."""
    try:
        data = json.loads(read_text(path) or "null")
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def differs(path: Path, text: str, mode: int) -> bool:
    """Whether a file is not just so: content, mode, owner."""
    try:
        stat = os.lstat(path)
        with open(path, encoding="utf-8", newline="") as file:
            return stat.st_mode != 0o100000 | mode or stat.st_uid != os.geteuid() or file.read() != text
    except (OSError, UnicodeError):
        return True


def fingerprint(path: Path) -> str:
    """Return what stands at a path as the role notes it: SHA-256, mode and owner of a file, or where a link leads."""
    try:
        if path.is_symlink():
            return f"-> {os.readlink(path)}"
        stat = path.stat()
        return f"{file_sha256(path)} {stat.st_mode & 0o7777:04o} {stat.st_uid}:{stat.st_gid}"
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def as_noted(path: Path, note: str) -> bool:
    """Whether a path is as the role noted it: two lines where a run was cut, no mode and owner by an older role."""
    now, lines = fingerprint(path), note.splitlines()
    return bool(now) and (now in lines or now.split(" ")[0] in lines)

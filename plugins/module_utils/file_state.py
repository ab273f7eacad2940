# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What is at a path, what is to be there, and how it gets there in one step.

Part of the programs of flaskfleet.web.config_files and flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from typing import Any, NamedTuple


class ConfigError(Exception):
    """The files cannot be changed; the text says why and what to do. `result` goes to the user beside it."""

    def __init__(self, message: str, **result: Any) -> None:
        super().__init__(message)
        self.result = result


class State(NamedTuple):
    """What is, was or is to be at a path. `kind` is absent, file or link; mtime is in nanoseconds, 0 means now."""

    kind: str = "absent"
    content: bytes = b""
    target: str = ""
    mode: int = 0
    uid: int = 0
    gid: int = 0
    mtime: int = 0

    def same_as(self, other: State) -> bool:
        """Tell whether both are the same for whoever reads the path; the time is not part of that."""
        if self.kind != other.kind or self.kind == "absent":
            return self.kind == other.kind
        if self.kind == "link":
            return self.target == other.target
        return (self.content, self.mode, self.uid, self.gid) == (other.content, other.mode, other.uid, other.gid)

    def note(self) -> str:
        """Return it as the record has it: SHA-256, mode and owner of a file, "-> target" of a link."""
        if self.kind == "link":
            return f"-> {self.target}"
        digest = hashlib.sha256(self.content).hexdigest()
        return f"{digest} {self.mode:04o} {self.uid}:{self.gid}" if self.kind == "file" else ""

    def lines(self) -> list[str]:
        """Return the lines of a file; bytes that are not UTF-8 stay as they are."""
        return self.content.decode("utf-8", "surrogateescape").split("\n")

    def text(self) -> str:
        """Return it as a diff shows it."""
        if self.kind == "absent":
            return ""
        if self.kind == "link":
            return f"link to {self.target}\n"
        try:
            return self.content.decode()
        except UnicodeDecodeError:
            return f"{len(self.content)} bytes, not UTF-8, SHA-256 {hashlib.sha256(self.content).hexdigest()}\n"


class Change(NamedTuple):
    """One path and what becomes of it."""

    path: str
    before: State
    after: State


def as_noted(state: State, note: str) -> bool:
    """Tell whether a state is what the record has, in one of its lines: it has two while a run is writing.

    An older role noted the SHA-256 alone; of mode and owner it is not known what they were.
    """
    now, lines = state.note(), note.splitlines()
    return bool(now) and (now in lines or now.split(" ")[0] in lines)


def same_content(state: State, note: str) -> bool:
    """Tell whether a file holds, or a link leads to, what the record has: with it nothing of anybody else goes."""
    if state.kind == "link":
        return as_noted(state, note)
    return state.note().split(" ")[0] in [line.split(" ")[0] for line in note.splitlines()]


def lost_lines(state: State, note: str) -> list[str]:
    """Return the lines that were put into a file of somebody else, by the record, and are not in it any more."""
    there = state.lines()
    return [after for _before, after in json.loads(note) if after not in there]


def read(path: str) -> State:
    """Return what is at a path, not following a link; raise ConfigError for what is neither file nor link."""
    try:
        status = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return State()
    if stat.S_ISLNK(status.st_mode):
        return State("link", target=os.readlink(path))
    if not stat.S_ISREG(status.st_mode):
        what = "a directory" if stat.S_ISDIR(status.st_mode) else "no regular file"
        raise ConfigError(f"{path} is {what}. Move it away, or list another path; nothing was changed.")
    with open(path, "rb") as content:
        data = content.read()
    mode = stat.S_IMODE(status.st_mode)
    return State("file", data, "", mode, status.st_uid, status.st_gid, status.st_mtime_ns)


def flush_directory(path: str) -> None:
    """Make the names in a directory survive a power cut."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write(path: str, state: State) -> None:
    """Bring a path into a state in one step: others see the old or the new, never half of it."""
    directory, name = os.path.split(path)
    # The dot keeps it out of nginx's `include *` and of systemd's lists. One name per path: a cut run leaves at most
    # this one file, and the next run takes it over.
    beside = os.path.join(directory, f".{name}.flaskfleet-new")
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        os.unlink(beside)
    if state.kind == "absent":
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.unlink(path)
            flush_directory(directory)
        return
    try:
        if state.kind == "link":
            os.symlink(state.target, beside)
        else:
            handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as out:
                out.write(state.content)
                out.flush()
                if (state.uid, state.gid) != (os.geteuid(), os.getegid()):
                    os.fchown(handle, state.uid, state.gid)
                os.fchmod(handle, state.mode)
                if state.mtime:
                    os.utime(handle, ns=(state.mtime, state.mtime))
                os.fsync(handle)
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
    flush_directory(directory)


def missing_directories(path: str) -> list[str]:
    """Return the directories above a path that do not exist, the outermost first."""
    found: list[str] = []
    directory = os.path.dirname(path)
    while not os.path.lexists(directory):
        found.insert(0, directory)
        directory = os.path.dirname(directory)
    return found


def make_directory(path: str) -> None:
    """Make one directory with mode 0755, whatever the umask."""
    os.mkdir(path)
    os.chmod(path, 0o755)  # nosec B103: the role's own directories, for everybody to look into

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""A set of files that changes together or not at all, also where a run or the power is cut.

Part of the program of flaskfleet.web.config_files: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import hashlib
import json
import os
import shlex
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.file_entries import Entry, changes_for, edit_left_out
from ansible_collections.flaskfleet.web.plugins.module_utils.file_record import read_record
from ansible_collections.flaskfleet.web.plugins.module_utils.file_state import (
    Change,
    ConfigError,
    State,
    make_directory,
    missing_directories,
    read,
    same_content,
    write,
)
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_reload import Watch, reloads

STATE_DIRECTORY = "/run/flaskfleet"
# On the disk: after a power cut a program starts with files that nobody has judged, and what was there must be known.
UNFINISHED = "/var/lib/flaskfleet/unfinished-{}.json"
LOCK_SECONDS = 60  # how long a run waits for another one on the same host

Command = Sequence[str]


def to_json(state: State) -> dict[str, Any]:
    """Return a state as JSON can hold it."""
    return {**state._asdict(), "content": base64.b64encode(state.content).decode()}


def from_json(data: dict[str, Any]) -> State:
    """Return the state that to_json() was given."""
    return State(**{**data, "content": base64.b64decode(data["content"])})


class Marker:
    """What a run leaves behind when it is cut: what to put back, or that only the apply is missing.

    One per pair of commands, so that two apps whose sites nginx reads share the knowledge that nginx must be reloaded.
    """

    def __init__(self, validate: Command, apply: Command) -> None:
        key = hashlib.sha256(json.dumps([list(validate), list(apply)]).encode()).hexdigest()[:16]
        self.path = UNFINISHED.format(key)
        self.undo: list[Change] = []
        self.directories: list[str] = []
        self.present = False
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            data = json.loads(read(self.path).content or b"null")
            if data is not None:
                self.present = True
                self.directories = data["directories"]
                self.undo = [
                    Change(item["path"], from_json(item["before"]), from_json(item["after"])) for item in data["undo"]
                ]

    def save(self, undo: Sequence[Change], directories: Sequence[str]) -> None:
        """Write it; it is on the disk when this returns."""
        data = {
            "directories": list(directories),
            "undo": [
                {"path": change.path, "before": to_json(change.before), "after": to_json(change.after)}
                for change in undo
            ],
        }
        content = json.dumps(data).encode()
        for directory in missing_directories(self.path):
            make_directory(directory)
        write(self.path, State("file", content, "", 0o600, os.geteuid(), os.getegid()))
        self.undo, self.directories, self.present = list(undo), list(directories), True

    def remove(self) -> None:
        """Forget it: nothing is left to do."""
        write(self.path, State())
        self.undo, self.directories, self.present = [], [], False


def put_back(changes: Sequence[Change], directories: Sequence[str]) -> tuple[list[str], list[str]]:
    """Undo changes, the last first. Returns the paths put back, and an error for each that could not be.

    A path that holds neither what was there nor what was written has been taken in hand by somebody else: it stays.
    """
    done, errors = [], []
    for change in reversed(changes):
        try:
            now = read(change.path)
            if now.same_as(change.after) and not now.same_as(change.before):
                write(change.path, change.before)
                done.append(change.path)
        except (OSError, ConfigError) as error:
            errors.append(f"{change.path} could not be put back: {error}")
    for directory in reversed(directories):
        with contextlib.suppress(OSError):
            os.rmdir(directory)
    return sorted(done), errors


def try_lock(handle: int) -> bool:
    """Return whether the lock is ours now."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let one run at a time change files on this host; the kernel frees the lock of a run that is killed."""
    os.makedirs(STATE_DIRECTORY, mode=0o700, exist_ok=True)
    handle = os.open(os.path.join(STATE_DIRECTORY, "config_files.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    end = time.monotonic() + LOCK_SECONDS
    try:
        while not try_lock(handle):
            if time.monotonic() >= end:
                raise ConfigError(
                    f"another run changes files of this host, for {LOCK_SECONDS} s by now: run this again"
                )
            time.sleep(0.2)
        yield
    finally:
        os.close(handle)


def directories_for(changes: Sequence[Change]) -> list[str]:
    """Return the directories that are to be made for changes, the outermost first."""
    found: list[str] = []
    for change in changes:
        if change.after.kind != "absent":
            found += [path for path in missing_directories(change.path) if path not in found]
    return found


def tidied(record: Mapping[str, str], changes: Sequence[Change]) -> dict[str, str]:
    """Remove the directories that were made here and that the changes have emptied; return the record without them."""
    gone = [change.path for change in changes if change.after.kind == "absent"]
    made = [path for path, note in record.items() if note == "directory"]
    after = dict(record)
    for directory in sorted(made, key=len, reverse=True):
        if any(path.startswith(f"{directory}/") for path in gone):
            with contextlib.suppress(OSError):  # somebody keeps something there
                os.rmdir(directory)
                del after[directory]
    return after


class Transaction:
    """The whole work for one set of files."""

    def __init__(
        self, files: Sequence[Entry], validate: Command | None, apply: Command | None, overwrite: bool = False
    ) -> None:
        self.record, self.overwrite = read_record(), overwrite
        self.left = [entry["path"] for entry in files if entry["state"] == "absent" and not self.is_ours(entry)]
        self.theirs = [entry["path"] for entry in files if entry["state"] == "offered" and not self.is_ours(entry)]
        linked = [entry for entry in files if entry["regexp"] is not None and os.path.islink(entry["path"])]
        # a line in a file of somebody else's, who keeps it elsewhere, in a repository say
        wanted = [entry for entry in linked if entry["state"] == "present"]
        told = (edit_left_out(entry, read(os.path.realpath(entry["path"]))) for entry in wanted)
        self.kept = list(filter(None, told))
        left = (*self.left, *self.theirs, *(entry["path"] for entry in linked))
        self.files = [entry for entry in files if entry["path"] not in left]
        self.validate, self.apply = list(validate or []), list(apply or [])
        self.marker = Marker(self.validate, self.apply)

    def is_ours(self, entry: Entry) -> bool:
        """Tell whether what stands there is ours: on record, and its content is still what was put in place."""
        path, note = entry["path"], self.record.get(entry["path"])
        if entry["regexp"] is not None or not os.path.lexists(path):
            return True
        return note is not None and (self.overwrite or not os.path.isdir(path) and same_content(read(path), note))

    def predict(self) -> tuple[list[Change], bool]:
        """Return what would change, and whether `apply` would run."""
        changes = self.plan(check=True)
        return changes, bool(self.apply) and (bool(changes) or self.marker.present)

    def plan(self, check: bool = False) -> list[Change]:
        """Return what is to change, as seen after a cut run has been undone."""
        undone = {change.path: change.before for change in self.marker.undo if read(change.path).same_as(change.after)}

        def look(path: str) -> State:
            return undone.get(path) or read(path)

        lines = {} if self.overwrite else self.record
        return [
            change
            for entry in self.files
            for change in changes_for(entry, look, self.record if entry["state"] == "absent" else lines, check)
        ]

    def command(self, argv: Command) -> tuple[bool, str]:
        """Run a command; return whether it succeeded and what it wrote."""
        # su leaves a PATH without what only root runs
        environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '/usr/bin')}:/usr/sbin:/sbin"}
        try:
            done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
        except OSError as error:
            return False, f"{argv[0]}: {error.strerror}"
        said = (text.decode("utf-8", "replace").strip() for text in (done.stdout, done.stderr))
        return done.returncode == 0, "\n".join(text for text in said if text)

    def applied(self) -> tuple[bool, str]:
        """Run `apply`; return whether it succeeded, and nginx has what it was to take, and what was said."""
        nginx = Watch() if reloads(self.apply) else None
        good, output = self.command(self.apply)
        refusal = nginx.refusal() if good and nginx else ""
        return good and not refusal, f"nginx does not take them: {refusal}" if refusal else output

    def recover(self) -> bool:
        """Undo the files of a run that was cut before it was known whether they are good; return whether apply ran.

        It runs because a program that was started since, by a boot, has read them, or refused to start with them.
        """
        if not (self.marker.undo or self.marker.directories):
            return False
        _done, errors = put_back(self.marker.undo, self.marker.directories)
        if errors:
            raise ConfigError("An earlier run was cut, and what it wrote could not be put back:\n" + "\n".join(errors))
        self.marker.save([], [])
        if not self.apply or not self.applied()[0]:
            return False
        self.marker.remove()
        return True

    def run(self, changes: Sequence[Change]) -> bool:
        """Make the changes; return whether `apply` ran."""
        if changes:
            directories = directories_for(changes)
            apply_is_due = self.marker.present
            self.marker.save(changes, directories)
            try:
                for directory in directories:
                    make_directory(directory)
                for change in changes:
                    if change.after.kind != "absent" or os.path.isdir(os.path.dirname(change.path)):
                        write(change.path, change.after)
            except OSError as error:
                self.refuse(f"Cannot write {error.filename or change.path}: {error.strerror}", "", apply_is_due)
            if self.validate:
                good, output = self.command(self.validate)
                if not good:
                    self.refuse(
                        f"{shlex.join(self.validate)} refuses the new files", output, apply_is_due, self.validate
                    )
        if not self.apply:
            self.marker.remove()
            return False
        undo, directories = self.marker.undo, self.marker.directories
        self.marker.save([], [])
        good, output = self.applied()
        if not good:
            self.marker.save(undo, directories)
            self.refuse(f"{shlex.join(self.apply)} failed with the new files in place", output, True, self.apply)
        self.marker.remove()
        return True

    def refuse(self, why: str, output: str, apply_is_due: bool, again: Command = ()) -> None:
        """Put everything back and raise ConfigError with the whole story.

        `again` is the command that failed. It runs once more: apply, so that the program has read what is in place, and
        validate, because a fault that is still there is somebody else's, and the person who reads this must know.
        """
        done, errors = put_back(self.marker.undo, self.marker.directories)
        story = [why + (":" if output else "."), output]
        if done:
            story.append(f"Put back as before: {', '.join(done)}.")
        story += errors
        if again:
            applies = again is self.apply
            good, second = self.applied() if applies else self.command(again)
            apply_is_due = not good if applies else apply_is_due
            if not good:
                # a program that does not run may only not have come up yet: that clears nothing of the blame
                cause = "" if applies else ", so this change is not the cause"
                story += [f"With the files as before {shlex.join(again)} fails too{cause}:", second]
            elif applies:
                story.append(f"{shlex.join(again)} ran again and succeeded with the files as before.")
        if not errors:
            if apply_is_due:
                self.marker.save([], [])
            else:
                self.marker.remove()
        raise ConfigError("\n".join(part for part in story if part), put_back=done)

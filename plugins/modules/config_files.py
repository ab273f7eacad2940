# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Change a set of configuration files together, or not at all.

A program that its action (plugins/action/config_files.py) sends to the host: a JSON object in, one out, Python 3.9.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: config_files
short_description: Change a set of configuration files together, or not at all
version_added: 0.1.0
description:
  - Puts all O(files) in place, has O(validate) judge the whole set, and then has O(apply) make the running program read
    it.
  - When a step fails, every file is put back as it was (content, mode, owner, link, time, or its absence) and the task
    fails with the words of the command that refused it. A file that is not listed is never touched.
  - Each file is written beside its place, flushed to the disk and moved there in one step, so that nobody reads half a
    file.
  - What is put in place is noted in C(/var/lib/flaskfleet/files.json), by path the SHA-256 of a file or the target of
    a link, before it stands, so that what was made here can be told from what was not, and a change by hand later. A
    file that somebody else owns, edited by O(files[].regexp), is not.
  - A run that was cut is undone by the next one, or, when the files were already found good, its O(apply) is caught up
    on.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - O(validate) does not run in check mode, because it judges the files that are in place.
  diff_mode:
    description: Returns what has changed or would change in C(diff) mode.
    support: full
  idempotent:
    description: A second run with the same input changes nothing.
    support: full
options:
  files:
    description:
      - The files, in the order in which they are written.
    type: list
    elements: dict
    required: true
    suboptions: &entry
      path:
        description:
          - The absolute path. Directories that are missing above it are made with mode V(0755).
        type: str
        required: true
      content:
        description:
          - What the file holds, to the last line break.
        type: str
      link:
        description:
          - The target of a symbolic link, as it is to be written.
        type: str
      regexp:
        description:
          - Change what this regular expression of Python matches, line by line, in a file that somebody else owns. It
            keeps its mode and its owner. Where nothing matches there is nothing to change.
        type: str
      replace:
        description:
          - What takes the place of each match of O(files[].regexp). What comes of it must stay the same when it is done
            again.
        type: str
      aside:
        description:
          - Where the file waits with O(files[].state=aside), and comes back from with O(files[].state=back).
        type: str
      state:
        description:
          - V(present) needs exactly one of O(files[].content), O(files[].link) and O(files[].regexp).
          - V(absent) removes a file or a link that is on the record, never a directory. One that is not was made by
            somebody else, and stays; RV(left) names it.
          - V(aside) moves it to O(files[].aside) and V(back) moves it back from there. Where nothing is to be moved
            nothing happens.
        type: str
        choices: [present, absent, aside, back]
        default: present
      mode:
        description:
          - The mode of a file with O(files[].content), in octal digits and quoted.
        type: str
        default: "0644"
      owner:
        description:
          - The name of the file's owner. Without it the file belongs to the user that the module runs as.
        type: str
      group:
        description:
          - The name of the file's group. Without it the file belongs to the group that the module runs as.
        type: str
  validate:
    description:
      - A command with its arguments. It runs with the whole set in place; exit code 0 lets the set stay.
    type: list
    elements: str
  apply:
    description:
      - A command with its arguments. It runs once after a change. When it fails the files are put back and it runs
        again, so that the program has read what is in place.
    type: list
    elements: str
  preview:
    description:
      - What a later task of this module is to do. Nothing of it is done now. RV(preview_changed) tells whether that
        task would change anything, so that it can be left out.
    type: dict
    suboptions:
      files:
        description:
          - Its O(files).
        type: list
        elements: dict
        required: true
        suboptions: *entry
      validate:
        description:
          - Its O(validate).
        type: list
        elements: str
      apply:
        description:
          - Its O(apply).
        type: list
        elements: str
notes:
  - Two runs on one host wait for each other.
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Publish the site
  flaskfleet.web.config_files:
    files:
      - path: /etc/nginx/sites-available/hello.conf
        content: "{{ lookup('ansible.builtin.template', 'site.conf.j2') }}"
      - path: /etc/nginx/sites-enabled/hello.conf
        link: ../sites-available/hello.conf
      - path: /etc/nginx/sites-enabled/default
        aside: /etc/nginx/sites-available/default.replaced-by-hello
        state: aside
    validate: [nginx, -t]
    apply: [systemctl, reload, nginx]

- name: Install the units
  flaskfleet.web.config_files:
    files:
      - path: /etc/systemd/system/hello.socket
        content: "{{ lookup('ansible.builtin.template', 'app.socket.j2') }}"
    apply: [systemctl, daemon-reload]
"""

RETURN = r"""
changed_paths:
  description: The paths that were changed, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [/etc/nginx/sites-available/hello.conf]
applied:
  description: Whether O(apply) ran, or would run in check mode.
  returned: success
  type: bool
preview_changed:
  description: Whether a task with O(preview) would change anything.
  returned: with O(preview)
  type: bool
undo:
  description: What was at those paths, in the form of O(files), so that a later task can put it back. A file that was
    only edited, or that is not UTF-8, is not among them.
  returned: success
  type: list
  elements: dict
  sample:
    - path: /etc/nginx/sites-available/hello.conf
      state: absent
left:
  description: The paths that were to be removed and are not on the record.
  returned: success
  type: list
  elements: str
put_back:
  description: The paths that were put back.
  returned: failure of O(validate), of O(apply) or of a write
  type: list
  elements: str
msg:
  description: What failed, with the words of the command, and what was put back.
  returned: failure
  type: str
"""

import base64
import contextlib
import dataclasses
import errno
import fcntl
import grp
import hashlib
import json
import os
import pwd
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

# Emptied by a reboot, and a reboot makes every program read its files: nothing is left to apply then.
STATE_DIRECTORY = "/run/flaskfleet"
# By path what was put in place: the SHA-256 of a file, "-> target" of a link. `flaskctl APP status` compares.
RECORD = "/var/lib/flaskfleet/files.json"

Command = Sequence[str]
Entry = dict[str, Any]  # of `files`


class ConfigError(Exception):
    """The files cannot be changed; the text says why and what to do. `result` goes to the user beside it."""

    def __init__(self, message: str, **result: Any) -> None:
        super().__init__(message)
        self.result = result


@dataclass(frozen=True)
class State:
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


@dataclass(frozen=True)
class Change:
    """One path and what becomes of it."""

    path: str
    before: State
    after: State


# deciding: pure functions


def plain_path(path: str) -> bool:
    """Tell whether a path is absolute and has no detours, so that one file has one name."""
    return os.path.isabs(path) and os.path.normpath(path) == path


def entry_problem(entry: Entry) -> str:
    """Return what is wrong with an entry of `files`, or nothing."""
    if not plain_path(entry["path"]):
        return "is not an absolute, plain path"
    if entry["state"] in ("aside", "back"):
        return (
            ""
            if plain_path(entry["aside"] or "")
            else f"needs an absolute path in aside for the state {entry['state']}"
        )
    if entry["state"] == "absent":
        return ""
    given = [key for key in ("content", "link", "regexp") if entry[key] is not None]
    if len(given) != 1:
        return "needs exactly one of content, link and regexp"
    if given == ["link"] and not entry["link"]:
        return "is a link to nothing"
    if (entry["regexp"] is None) != (entry["replace"] is None):
        return "needs regexp and replace together"
    if given == ["regexp"]:
        try:
            re.compile(entry["regexp"])
        except re.error as error:
            return f"has a regexp that Python cannot read: {error}"
    if not re.fullmatch(r"[0-7]{3,4}", entry["mode"]):
        return f"has the mode {entry['mode']!r}, which is not octal digits in quotes such as '0644'"
    return ""


def edited(state: State, regexp: str, replace: str) -> State:
    """Return a file with every match replaced; bytes that are not UTF-8 stay as they are."""
    text = state.content.decode("utf-8", "surrogateescape")
    changed = re.sub(regexp, replace, text, flags=re.MULTILINE).encode("utf-8", "surrogateescape")
    return dataclasses.replace(state, content=changed, mtime=0)


def moved(path: str, aside: str, back: bool, look: Callable[[str], State]) -> list[Change]:
    """Return the changes that move a file aside or back; one that stands in the way of coming back stays."""
    here, there = look(path), look(aside)
    if back:
        if there.kind == "absent":
            return []
        stays = here if here.kind != "absent" else there
        return [Change(path, here, stays), Change(aside, there, State())]
    if here.kind == "absent":
        return []
    return [Change(aside, there, here), Change(path, here, State())]


def owner_names(uid: int, gid: int) -> str:
    """Return user and group as names, or as numbers where there is no name."""
    user, group = str(uid), str(gid)
    with contextlib.suppress(KeyError):
        user = pwd.getpwuid(uid).pw_name
    with contextlib.suppress(KeyError):
        group = grp.getgrgid(gid).gr_name
    return f"{user}:{group}"


def described(state: State) -> str:
    """Return mode and owner of a file in words for a diff."""
    if state.kind != "file":
        return state.kind
    owner = owner_names(state.uid, state.gid) if state.uid >= 0 and state.gid >= 0 else "a user to be made"
    return f"{state.mode:04o} {owner}"


def noted(record: dict[str, str], entries: Sequence[Entry]) -> dict[str, str]:
    """Return the record after a run: what the entries put in place, and nothing of what they removed or moved."""
    after = dict(record)
    for entry in entries:
        after.pop(entry["path"], None)
        if entry["state"] != "present":
            after.pop(entry["aside"] or "", None)
        elif entry["link"] is not None:
            after[entry["path"]] = f"-> {entry['link']}"
        elif entry["content"] is not None:
            content = entry["content"].encode("utf-8", "surrogateescape")
            after[entry["path"]] = hashlib.sha256(content).hexdigest()
    return after


def diff_of(change: Change) -> dict[str, str]:
    """Return the change as Ansible's --diff shows it."""
    before, after = change.before, change.after
    if before.kind == after.kind and before.text() == after.text():
        return {"prepared": f"{change.path}: {described(before)} -> {described(after)}\n"}
    return {
        "before_header": f"{change.path} ({described(before)})",
        "after_header": f"{change.path} ({described(after)})",
        "before": before.text(),
        "after": after.text(),
    }


def undo_of(change: Change, edited_paths: Collection[str]) -> list[dict[str, str]]:
    """Return the entry of `files` that puts back what was there; none for what is somebody else's or no text."""
    before = change.before
    if change.path in edited_paths:
        return []
    if before.kind == "absent":
        return [{"path": change.path, "state": "absent"}]
    if before.kind == "link":
        return [{"path": change.path, "link": before.target}]
    owner, group = owner_names(before.uid, before.gid).split(":")
    try:
        content = before.content.decode()
    except UnicodeDecodeError:
        return []
    mode = f"{before.mode:04o}"
    return [{"path": change.path, "content": content, "mode": mode, "owner": owner, "group": group}]


def to_json(state: State) -> dict[str, Any]:
    """Return a state as JSON can hold it."""
    return {**dataclasses.asdict(state), "content": base64.b64encode(state.content).decode()}


def from_json(data: dict[str, Any]) -> State:
    """Return the state that to_json() was given."""
    return State(**{**data, "content": base64.b64decode(data["content"])})


# files


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
    os.chmod(path, 0o755)


# the transaction


class Marker:
    """What a run leaves behind when it is cut: what to put back, or that only the apply is missing.

    One per pair of commands, so that two apps whose sites nginx reads share the knowledge that nginx must be reloaded.
    """

    def __init__(self, validate: Command, apply: Command) -> None:
        key = hashlib.sha256(json.dumps([list(validate), list(apply)]).encode()).hexdigest()[:16]
        self.path = os.path.join(STATE_DIRECTORY, f"{key}.json")
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


def owner_ids(entry: Entry, check: bool) -> tuple[int, int]:
    """Return user and group of a file as numbers.

    In check mode one that does not exist counts as one that an earlier task would have made: -1.
    """
    uid, gid = os.geteuid(), os.getegid()
    try:
        if entry["owner"] is not None:
            uid = -1 if check else uid
            uid = pwd.getpwnam(entry["owner"]).pw_uid
    except KeyError as error:
        if not check:
            raise ConfigError(f"{entry['path']}: there is no user {entry['owner']}. Make it first.") from error
    try:
        if entry["group"] is not None:
            gid = -1 if check else gid
            gid = grp.getgrnam(entry["group"]).gr_gid
    except KeyError as error:
        if not check:
            raise ConfigError(f"{entry['path']}: there is no group {entry['group']}. Make it first.") from error
    return uid, gid


def changes_for(entry: Entry, look: Callable[[str], State], check: bool) -> list[Change]:
    """Return the changes that an entry of `files` asks for; `look` tells what is at a path."""
    path = entry["path"]
    if entry["state"] in ("aside", "back"):
        changes = moved(path, entry["aside"], entry["state"] == "back", look)
    elif entry["state"] == "absent":
        changes = [Change(path, look(path), State())]
    elif entry["link"] is not None:
        changes = [Change(path, look(path), State("link", target=entry["link"]))]
    elif entry["regexp"] is not None:
        before = look(path)
        if before.kind == "file":
            changes = [Change(path, before, edited(before, entry["regexp"], entry["replace"]))]
        elif check and before.kind == "absent":
            changes = []  # an earlier task would have made it; what would be in it, nobody knows
        else:
            raise ConfigError(
                f"{path} is to be edited, and it is {before.kind if before.kind == 'absent' else 'a link'}."
            )
    else:
        content = entry["content"].encode("utf-8", "surrogateescape")
        uid, gid = owner_ids(entry, check)
        changes = [Change(path, look(path), State("file", content, "", int(entry["mode"], 8), uid, gid))]
    return [change for change in changes if not change.before.same_as(change.after)]


def read_record() -> dict[str, str]:
    """Return what was put in place here, by path; an unreadable record is a ConfigError: it says what is ours."""
    try:
        record = json.loads(read(RECORD).content or b"{}")
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise ConfigError(f"{RECORD}, which says what was put in place on this host, is damaged. Restore it.")
    return record


def write_record(before: dict[str, str], after: dict[str, str]) -> None:
    """Write the record down; an empty one is no file."""
    if not after:
        write(RECORD, State())
        with contextlib.suppress(OSError):
            os.rmdir(os.path.dirname(RECORD))
    elif after != before or read(RECORD).kind == "absent":
        for directory in missing_directories(RECORD):
            make_directory(directory)
        text = json.dumps(after, indent=1, sort_keys=True) + "\n"
        write(RECORD, State("file", text.encode(), "", 0o644, os.geteuid(), os.getegid()))


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """Let one run at a time change files on this host; the kernel frees the lock of a run that is killed."""
    os.makedirs(STATE_DIRECTORY, mode=0o700, exist_ok=True)
    handle = os.open(os.path.join(STATE_DIRECTORY, "config_files.lock"), os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


class Transaction:
    """The whole work for one set of files."""

    def __init__(self, files: Sequence[Entry], validate: Command | None, apply: Command | None) -> None:
        self.record = read_record()
        self.left = [
            entry["path"]
            for entry in files
            if entry["state"] == "absent" and entry["path"] not in self.record and os.path.lexists(entry["path"])
        ]
        self.files = [entry for entry in files if entry["path"] not in self.left]
        self.validate, self.apply = list(validate or []), list(apply or [])
        self.marker = Marker(self.validate, self.apply)

    def predict(self) -> tuple[list[Change], bool]:
        """Return what would change, and whether `apply` would run."""
        changes = self.plan(check=True)
        return changes, bool(self.apply) and (bool(changes) or self.marker.present)

    def plan(self, check: bool = False) -> list[Change]:
        """Return what is to change, as seen after a cut run has been undone."""
        undone = {change.path: change.before for change in self.marker.undo if read(change.path).same_as(change.after)}

        def look(path: str) -> State:
            return undone.get(path) or read(path)

        return [change for entry in self.files for change in changes_for(entry, look, check)]

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

    def recover(self) -> None:
        """Undo the files of a run that was cut before it was known whether they are good."""
        if self.marker.undo or self.marker.directories:
            _done, errors = put_back(self.marker.undo, self.marker.directories)
            if errors:
                raise ConfigError(
                    "An earlier run was cut, and what it wrote could not be put back:\n" + "\n".join(errors)
                )
            self.marker.remove()

    def run(self, changes: Sequence[Change]) -> bool:
        """Make the changes; return whether `apply` ran."""
        if changes:
            directories: list[str] = []
            for change in changes:
                if change.after.kind != "absent":
                    directories += [path for path in missing_directories(change.path) if path not in directories]
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
        good, output = self.command(self.apply)
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
            good, second = self.command(again)
            if again is self.apply:
                apply_is_due = not good
            if not good:
                story += [
                    f"With the files as before {shlex.join(again)} fails too, so this change is not the cause:",
                    second,
                ]
            elif again is self.apply:
                story.append(f"{shlex.join(again)} ran again and succeeded with the files as before.")
        if not errors:
            if apply_is_due:
                self.marker.save([], [])
            else:
                self.marker.remove()
        raise ConfigError("\n".join(part for part in story if part), put_back=done)


def work(files: list[Entry], validate: Command, apply: Command, preview: Entry | None, check: bool) -> dict[str, Any]:
    """Do all of it, and return the result for Ansible."""
    every = [*files, *(preview["files"] if preview else [])]
    problems = [f"{entry['path']} {entry_problem(entry)}" for entry in every if entry_problem(entry)]
    paths = [path for entry in every for path in (entry["path"], entry["aside"]) if path]
    problems += [f"{path} is listed twice" for path in sorted(set(paths)) if paths.count(path) > 1]
    if problems:
        raise ConfigError("The list of files is not usable: " + "; ".join(problems) + ".")
    if check:
        transaction = Transaction(files, validate, apply)
        changes, applied = transaction.predict()
    else:
        with locked():
            transaction = Transaction(files, validate, apply)
            transaction.recover()
            changes = transaction.plan()
            after = noted(transaction.record, transaction.files)
            # before anything is made: what a cut run leaves is ours too
            write_record(transaction.record, {**transaction.record, **after})
            try:
                applied = transaction.run(changes) if changes or transaction.marker.present else False
            except ConfigError:
                write_record({**transaction.record, **after}, transaction.record)
                raise
            write_record({**transaction.record, **after}, after)
    edited_paths = {entry["path"] for entry in files if entry["regexp"] is not None}
    result: dict[str, Any] = {
        "changed": bool(changes) or applied,
        "changed_paths": [change.path for change in changes],
        "applied": applied,
        "left": transaction.left,
        "warnings": [
            f"{path} stays: it is not on the record of what was put in place here." for path in transaction.left
        ],
        "undo": [entry for change in changes for entry in undo_of(change, edited_paths)],
        "diff": [diff_of(change) for change in changes],
    }
    if preview:
        result["preview_changed"] = any(Transaction(preview["files"], preview["validate"], preview["apply"]).predict())
    return result


def main() -> None:
    """Run on the host."""
    given = json.load(sys.stdin)
    try:
        result = work(**given["params"], check=given["check"])
    except ConfigError as error:
        result = {"failed": True, "changed": False, "msg": str(error), **error.result}
    except OSError as error:
        hint = " Run the task as root (become: true)." if error.errno in (errno.EACCES, errno.EPERM) else ""
        msg = f"Cannot change the files: {error.strerror}: {error.filename}.{hint}"
        result = {"failed": True, "changed": False, "msg": msg}
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

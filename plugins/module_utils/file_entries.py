# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What an entry of `files` asks for: refused, or the changes that it takes, and how they are told and undone.

Part of the program of flaskfleet.web.config_files: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.file_state import (
    Change,
    ConfigError,
    State,
    lost_lines,
)

Entry = dict[str, Any]  # of `files`


def plain_path(path: str) -> bool:
    """Tell whether a path is absolute and has no detours, so that one file has one name."""
    return os.path.isabs(path) and os.path.normpath(path) == path


def entry_problem(entry: Entry) -> str:
    """Return what is wrong with an entry of `files`, or nothing."""
    if not plain_path(entry["path"]):
        return "is not an absolute, plain path"
    if entry["state"] in ("disabled", "restored"):
        return (
            ""
            if plain_path(entry["disabled_as"] or "")
            else f"needs an absolute path in disabled_as for the state {entry['state']}"
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
    return state._replace(content=changed, mtime=0)


def restored(state: State, note: str) -> State:
    """Return a file with the lines put back that were changed in it, by the record, and still look like that."""
    lines = state.lines()
    for before, after in json.loads(note):
        if lines.count(after) == 1:
            lines[lines.index(after)] = before
    return state._replace(content="\n".join(lines).encode("utf-8", "surrogateescape"), mtime=0)


def edit_left_out(entry: Entry, target: State) -> str:
    """Return what was to be edited in a file and stays as it is, for it is a link; nothing where it is so already."""
    before, after = target.lines(), edited(target, entry["regexp"], entry["replace"]).lines()
    lines = [f"`{old.strip()}` to `{new.strip()}`" for old, new in zip(before, after) if old != new]
    return f"{entry['path']} is a link, and what it leads to stays as it is: change {lines[0]}" if lines else ""


def moved(path: str, disabled_as: str, restore: bool, look: Callable[[str], State]) -> list[Change]:
    """Return the changes that disable or restore a file. Neither is ours, so neither is lost where both stand."""
    here, there = look(path), look(disabled_as)
    lossless = "absent" in (here.kind, there.kind) or there.kind == "link" or there.same_as(here)
    if restore:
        if there.kind == "absent" or not lossless:
            return []
        stays = here if here.kind != "absent" else there
        return [Change(path, here, stays), Change(disabled_as, there, State())]
    if here.kind == "absent":
        return []
    if not lossless:
        raise ConfigError(f"{path} is to be moved to {disabled_as}, where another file stands. Move that one away.")
    return [Change(disabled_as, there, here), Change(path, here, State())]


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
        return str(state.kind)
    owner = owner_names(state.uid, state.gid) if state.uid >= 0 and state.gid >= 0 else "a user to be made"
    return f"{state.mode:04o} {owner}"


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


def wanted(entry: Entry, check: bool) -> State:
    """Return what an entry with `content` or `link` puts in place."""
    if entry["link"] is not None:
        return State("link", target=entry["link"])
    uid, gid = owner_ids(entry, check)
    return State("file", entry["content"].encode("utf-8", "surrogateescape"), "", int(entry["mode"], 8), uid, gid)


def changes_for(entry: Entry, look: Callable[[str], State], record: Mapping[str, str], check: bool) -> list[Change]:
    """Return the changes that an entry of `files` asks for; `look` tells what is at a path."""
    path = entry["path"]
    if entry["state"] in ("disabled", "restored"):
        changes = moved(path, entry["disabled_as"], entry["state"] == "restored", look)
    elif entry["state"] == "absent" and entry["regexp"] is not None:
        before = look(path)
        after = restored(before, record.get(f"line {path}", "[]")) if before.kind == "file" else before
        changes = [Change(path, before, after)]
    elif entry["state"] == "absent":
        changes = [Change(path, look(path), State())]
    elif entry["regexp"] is not None:
        before = look(path)
        if before.kind == "file" and lost_lines(before, record.get(f"line {path}", "[]")):
            changes = []  # it was changed once, and since then by whom the file belongs to
        elif before.kind == "file":
            changes = [Change(path, before, edited(before, entry["regexp"], entry["replace"]))]
        elif check and before.kind == "absent":
            changes = []  # an earlier task would have made it; what would be in it, nobody knows
        else:
            raise ConfigError(f"{path} is to be edited, and it is {before.kind}.")
    else:
        changes = [Change(path, look(path), wanted(entry, check))]
    return [change for change in changes if not change.before.same_as(change.after)]

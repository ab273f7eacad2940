# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The record of what was put in place on a host: what is not in it is not ours.

Part of the program of flaskfleet.web.config_files: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Collection, Mapping, Sequence

from ansible_collections.flaskfleet.web.plugins.module_utils.file_entries import Entry, wanted
from ansible_collections.flaskfleet.web.plugins.module_utils.file_state import (
    Change,
    ConfigError,
    State,
    make_directory,
    missing_directories,
    read,
    write,
)

# What was put in place, by path, as State.note() has it, or "directory"; by "line PATH" what was changed in a file of
# somebody else, pairs of the line before and after, as JSON. `flaskctl APP status` and preflight compare.
RECORD = "/var/lib/flaskfleet/files.json"


def noted(
    record: Mapping[str, str], entries: Sequence[Entry], changes: Sequence[Change], theirs: Collection[str] = ()
) -> dict[str, str]:
    """Return the record after a run: what the entries put in place, and nothing of what they removed or moved.

    Nor of what was offered at paths where somebody else has their own, `theirs`.
    """
    after = dict(record)
    changed = {change.path: change for change in changes}
    for entry in entries:
        path = entry["path"]
        if entry["regexp"] is not None:
            pairs = changed_lines(changed[path]) if path in changed else []
            if entry["state"] == "absent":
                after.pop(f"line {path}", None)
            elif pairs:
                after[f"line {path}"] = json.dumps(pairs)
            continue
        after.pop(path, None)
        if entry["state"] in ("present", "offered"):
            if path in theirs:
                continue
            after[path] = wanted(entry, check=False).note()
        else:
            after.pop(entry["disabled_as"] or "", None)
    return after


def changed_lines(change: Change) -> list[tuple[str, str]]:
    """Return which lines of a file became which; none where their number changed."""
    before, after = change.before.lines(), change.after.lines()
    return [pair for pair in zip(before, after) if pair[0] != pair[1]] if len(before) == len(after) else []


def during(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Return the record while a run is writing: a path may hold what was there, or what comes; both are ours.

    So what a cut run leaves is not taken for what somebody else has changed.
    """
    both = {path: f"{note}\n{after[path]}" for path, note in before.items() if after.get(path, note) != note}
    new = {path: note for path, note in after.items() if path not in before}
    # of a line it is not ours before it stands
    return {**before, **{path: note for path, note in {**both, **new}.items() if path.startswith("/")}}


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

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The record of what was put in place on a host: what is not in it is not ours.

Part of the program of flaskfleet.web.config_files: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Sequence

from ansible_collections.flaskfleet.web.plugins.module_utils.file_entries import Entry
from ansible_collections.flaskfleet.web.plugins.module_utils.file_state import (
    ConfigError,
    State,
    make_directory,
    missing_directories,
    read,
    write,
)

# By path what was put in place: the SHA-256 of a file, "-> target" of a link. `flaskctl APP status` compares.
RECORD = "/var/lib/flaskfleet/files.json"


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

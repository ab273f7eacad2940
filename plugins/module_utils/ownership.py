# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Tell what stands under the name of an app and is not the role's: what is not on record is not, whatever its name.

Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import glob
import grp
import json
import os
import pwd
from collections.abc import Callable, Sequence

Ask = Callable[[Sequence[str]], str]  # what a command says

# what was made on this host, by path, and by "user NAME"; plugins/modules/config_files.py and flaskctl write it
RECORD = "/var/lib/flaskfleet/files.json"
UNIT_DIRECTORIES = [
    *("/etc/systemd/system", "/etc/systemd/system.control", "/run/systemd/system"),
    *("/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"),
]
FIRST_PERSON = 1000  # UID_MIN in login.defs


def foreign(app: str, claim: str, paths: Sequence[str], directories: Sequence[str], ask: Ask) -> list[str]:
    """Return what stands under the name of an app and is not on record: it is not the role's, whatever its name."""
    record = recorded()
    found = foreign_account(app, record, claim in record) + [p for p in paths if os.path.lexists(p) and p not in record]
    if (
        claim in record
    ):  # nothing stood there when the role began; what came since, drop-ins say, is the host's own affair
        return found
    found += [path for path in directories if os.path.lexists(path) and path not in record]
    patterns = [
        f"{directory}/{app}[.@]*" for directory in UNIT_DIRECTORIES if not os.path.islink(os.path.dirname(directory))
    ]
    files = sorted(path for pattern in patterns for path in glob.glob(pattern))
    names = [f"{app}.service", f"{app}.socket", f"{app}@flaskfleet.service"]
    known = loaded(ask(["systemctl", "show", "--property=Id,LoadState,ActiveState,FragmentPath", *names]))
    others = [f"unit {name} ({where})" for name, where in known.items() if where not in files]
    return found + [path for path in files if path not in paths] + others


def foreign_account(app: str, record: dict[str, str], claimed: bool) -> list[str]:
    """Return the user and the group of the app's name, if the role did not make them."""
    found, gid = [], -1
    try:
        user = pwd.getpwnam(app)
        # one that an older role made is not on record; it is a system user all the same
        made = (
            f"uid {user.pw_uid}, gid {user.pw_gid}"
            if f"user {app}" in record
            else claimed and user.pw_uid < FIRST_PERSON
        )
        gid = user.pw_gid
        if not (made is True or made == record.get(f"user {app}")):
            found.append(f"user {app} (uid {user.pw_uid}, home {user.pw_dir}, shell {user.pw_shell})")
    except KeyError:
        pass
    try:
        group = grp.getgrnam(app)
    except KeyError:
        return found
    return found + ([f"group {app} (gid {group.gr_gid})"] if group.gr_gid != gid or found else [])


def recorded() -> dict[str, str]:
    """Return the record of what was made on this host; one that cannot be read says nothing."""
    try:
        with open(RECORD, encoding="utf-8") as file:
            record = json.load(file)
    except (OSError, ValueError):
        record = {}
    return record if isinstance(record, dict) else {}


def loaded(shown: str) -> dict[str, str]:
    """Return where each unit that systemd knows comes from, by name; what has no file is described by its state."""
    found = {}
    for block in shown.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if unit.get("LoadState", "not-found") != "not-found" or unit.get("ActiveState", "inactive") != "inactive":
            found[unit["Id"]] = unit.get("FragmentPath") or unit["ActiveState"]
    return found

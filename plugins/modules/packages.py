#!/usr/bin/python
# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Install packages with apt, on a host whose package sources need not all be there.

A program that its action (plugins/action/packages.py) sends to the host: a JSON object in, one out, Python 3.9.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: packages
short_description: Install packages, though a source of somebody else is dead
version_added: 0.1.0
description:
  - Installs packages of the distribution without those that they recommend, and removes none for that.
  - Package lists that are older than a day are fetched before, and others when apt cannot install with them. A source
    that cannot be fetched from is no failure where apt can install all the same. It is named in a warning.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - Says that something would change without asking apt, which may have no lists yet.
  diff_mode:
    description: Returns what has changed or would change in C(diff) mode.
    support: none
  idempotent:
    description: A second run with the same input changes nothing.
    support: full
options:
  names:
    description:
      - The packages, none of which is installed. Without any nothing is done.
    type: list
    elements: str
    required: true
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Install nginx
  flaskfleet.web.packages:
    names: [nginx]
"""

RETURN = r"""
msg:
  description: What apt said, of the packages and of the sources that it could not fetch from.
  returned: failure
  type: str
"""

import glob
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

LISTS = "/var/lib/apt/lists"
STAMP = "/var/lib/apt/periodic/update-success-stamp"
SOURCES = ["/etc/apt/sources.list", "/etc/apt/sources.list.d/*"]
OLD_SECONDS = 86400
OPTIONS = [
    "-o",
    "DPkg::Lock::Timeout=300",
    "-o",
    "Dpkg::Options::=--force-confdef",
    "-o",
    "Dpkg::Options::=--force-confold",
]
# E: of anything; W: of a source that could not be fetched from, and not of a key that is kept in an old way
DEAD = re.compile(r"(?m)^(?:E: |W: Failed to fetch )(.+)$")
UNSAID = re.compile(r"^Some index files failed to download")
HOST = re.compile(r"\w+://(?:[^/@\s]*@)?([^/\s']+)")


class Done(NamedTuple):
    """What came of a command."""

    code: int
    said: str


def apt(*words: str) -> Done:
    """Run apt-get."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
    argv = ["apt-get", "--quiet=2", *OPTIONS, *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
    return Done(done.returncode, (done.stdout + done.stderr).decode("utf-8", "replace"))


def lists_are_old() -> bool:
    """Tell whether the package lists were fetched more than a day ago, as far as apt tells."""
    times = [os.path.getmtime(path) for path in (STAMP, LISTS) if os.path.exists(path)]
    return time.time() - max(times, default=0) > OLD_SECONDS


def complaints(said: str) -> list[str]:
    """Return what apt could not do, each once."""
    return [line for line in dict.fromkeys(DEAD.findall(said)) if not UNSAID.match(line)]


def named_in(lines: Sequence[str]) -> list[str]:
    """Return the files that name the sources of these lines."""
    hosts = {host for line in lines for host in HOST.findall(line)}
    found = []
    for path in sorted(path for pattern in SOURCES for path in glob.glob(pattern)):
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        found += [path] if any(host in text for host in hosts) else []
    return found


def install(names: Sequence[str]) -> dict[str, Any]:
    """Install packages, with fresh lists where it takes them."""
    fetched = apt("update") if lists_are_old() else None
    wanted = ["install", "--yes", "--no-install-recommends", "--no-remove", *names]
    done = apt(*wanted)
    if done.code and not fetched:
        fetched = apt("update")
        done = apt(*wanted)
    dead = complaints(fetched.said) if fetched else []
    where = ", ".join(named_in(dead))
    if done.code:
        why = complaints(done.said) or [done.said.strip()]
        story = [f"apt cannot install {', '.join(names)}:", *why]
        story += [f"And it could not fetch from all sources{f' ({where})' if where else ''}:", *dead] if dead else []
        return {"failed": True, "changed": False, "msg": "\n".join(story)}
    warning = (
        f"apt cannot fetch from a package source{f', in {where}' if where else ''}: {'; '.join(dead)}. What was needed"
        " could be installed. Remove that source or mend it: nothing from it is updated any more."
    )
    return {"changed": True, **({"warnings": [warning]} if dead else {})}


def main() -> None:
    """Run on the host."""
    given = json.load(sys.stdin)
    names = given["params"]["names"]
    result = {"changed": bool(names)} if given["check"] or not names else install(names)
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()

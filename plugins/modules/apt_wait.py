#!/usr/bin/python
# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Wait until nobody else installs packages, and say who does when it takes too long."""

from __future__ import annotations

DOCUMENTATION = r"""
module: apt_wait
short_description: Wait until no other process holds the locks of apt and dpkg
version_added: 0.1.0
description:
  - A host that has just started runs C(unattended-upgrades) for minutes, and apt fails meanwhile with a message that
    does not say which process is at work. This module waits for it, and names it when the time is over.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Returns what has changed or would change in C(diff) mode.
    support: none
  idempotent:
    description: A second run with the same input changes nothing.
    support: full
options:
  timeout:
    description:
      - How many seconds to wait.
    type: int
    default: 600
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Wait for unattended-upgrades
  flaskfleet.web.apt_wait:
    timeout: 900
"""

RETURN = r"""
waited:
  description: How many seconds it took.
  returned: always
  type: int
holders:
  description: The processes that held a lock when the time was over, each with its number and its command.
  returned: failure
  type: list
  elements: str
"""

import errno
import fcntl
import os
import struct
import time
from collections.abc import Sequence

from ansible.module_utils.basic import AnsibleModule

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
# struct flock of 64-bit Linux: type, whence, start, length, pid
FLOCK = "hhqqi4x"


def holder(path: str) -> int:
    """Return the process that has locked a file, 0 if none has."""
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError as error:
        if error.errno == errno.ENOENT:
            return 0
        raise
    try:
        asked = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _whence, _start, _length, pid = struct.unpack(FLOCK, fcntl.fcntl(handle, fcntl.F_GETLK, asked))
    finally:
        os.close(handle)
    return 0 if kind == fcntl.F_UNLCK else int(pid)


def command_of(pid: int) -> str:
    """Return a process for people."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            words = file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        words = ""
    return f"{pid} ({words or 'unknown'})"


def holders(locks: Sequence[str] = LOCKS) -> list[str]:
    """Return who holds a lock, each process once."""
    return [command_of(pid) for pid in sorted({holder(path) for path in locks} - {0})]


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(argument_spec={"timeout": {"type": "int", "default": 600}}, supports_check_mode=True)
    began = time.monotonic()
    try:
        found = holders()
        while found and not module.check_mode and time.monotonic() - began < module.params["timeout"]:
            time.sleep(1)
            found = holders()
    except OSError as error:
        module.fail_json(msg=f"Cannot look at the locks of apt: {error.filename}: {error.strerror}.")
    waited = int(time.monotonic() - began)
    if found and not module.check_mode:
        module.fail_json(
            msg=f"Packages are being installed by {', '.join(found)}, for more than {waited} s."
            " Wait for it to end, or stop it, then run the playbook again.",
            waited=waited,
            holders=found,
        )
    module.exit_json(changed=False, waited=waited)


if __name__ == "__main__":
    main()

#!/usr/bin/python
# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Ask a host in one round trip what would take several tasks to find out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host
short_description: Tell what a host is and has
version_added: 0.1.0
description:
  - Tells which distribution a host runs, and how some packages, users and services stand on it. It changes nothing.
  - Tasks that would find nothing to do can then be skipped, each of which starts Python on the host, loads the package
    lists or asks systemd.
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
  packages:
    description:
      - Names of Debian packages.
    type: list
    elements: str
    default: []
  users:
    description:
      - Names of users.
    type: list
    elements: str
    default: []
  services:
    description:
      - Names of systemd units, such as V(nginx.service).
    type: list
    elements: str
    default: []
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Ask the host what it is
  flaskfleet.web.host:
    packages: [nginx, python3-venv]
    users: [hello]
    services: [nginx.service]
  register: __host

- name: Install nginx
  ansible.builtin.apt:
    name: nginx
  when: __host.missing_packages | length > 0
"""

RETURN = r"""
distribution:
  description: The name of the distribution with its version, as people read it.
  returned: always
  type: str
  sample: Debian GNU/Linux 12 (bookworm)
debian:
  description: Whether it is Debian or made from it.
  returned: always
  type: bool
systemd:
  description: Whether systemd is PID 1.
  returned: always
  type: bool
missing_packages:
  description: The packages that are not installed.
  returned: always
  type: list
  elements: str
users:
  description: For each user that exists its home directory and its shell.
  returned: always
  type: dict
  sample: {hello: {home: /nonexistent, shell: /usr/sbin/nologin}}
services_to_start:
  description: The services that do not run or do not start at boot.
  returned: always
  type: list
  elements: str
"""

import os
import pwd
from collections.abc import Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule

OS_RELEASE = "/etc/os-release"
SYSTEMD = "/run/systemd/system"  # systemd's own test: sd_booted(3)


# deciding: pure functions


def release(text: str) -> dict[str, str]:
    """Return the settings of os-release(5)."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = value.strip().strip("\"'")
    return found


def installed(listed: str) -> set[str]:
    """Return the packages that dpkg-query lists as installed, one `name status` a line."""
    words = (line.split() for line in listed.splitlines())
    return {name for name, *status in words if status == ["installed"]}


def running(shown: str) -> set[str]:
    """Return the units that run and start at boot, from what `systemctl show` says of each."""
    found = set()
    for block in shown.split("\n\n"):
        unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
        if unit.get("ActiveState") == "active" and unit.get("UnitFileState") == "enabled":
            found.update(unit.get("Names", "").split())
    return found


# asking


def read(path: str) -> str:
    """Return a file's text, nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def accounts(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return home and shell of each user that exists."""
    found = {}
    for name in names:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        found[name] = {"home": user.pw_dir, "shell": user.pw_shell}
    return found


def ask(module: AnsibleModule, argv: Sequence[str], names: Sequence[str]) -> str:
    """Return what a command says of names; it may fail for some, and not be there at all."""
    if not names or not module.get_bin_path(argv[0]):
        return ""
    _code, out, _err = module.run_command([*argv, *names], environ_update={"LC_ALL": "C.UTF-8"})
    return str(out)


def answer(module: AnsibleModule) -> dict[str, Any]:
    """Return all that was asked."""
    packages, users, services = (module.params[name] for name in ("packages", "users", "services"))
    said = release(read(OS_RELEASE))
    have = installed(ask(module, ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n"], packages))
    run = running(ask(module, ["systemctl", "show", "--property=Names,ActiveState,UnitFileState"], services))
    return {
        "distribution": said.get("PRETTY_NAME") or said.get("ID") or "an unknown system",
        "debian": "debian" in [said.get("ID"), *said.get("ID_LIKE", "").split()],
        "systemd": os.path.isdir(SYSTEMD),
        "missing_packages": [name for name in packages if name not in have],
        "users": accounts(users),
        "services_to_start": [name for name in services if name not in run],
    }


def main() -> None:
    """Run as a module."""
    lists = {"type": "list", "elements": "str", "default": []}
    module = AnsibleModule(
        argument_spec={"packages": lists, "users": lists, "services": lists}, supports_check_mode=True
    )
    module.exit_json(changed=False, **answer(module))


if __name__ == "__main__":
    main()

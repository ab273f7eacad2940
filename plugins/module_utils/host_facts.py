# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Read what programs and files of a host say of it: os-release, dpkg-query, systemctl, nginx -V, /proc/net.

Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence


def read(path: str) -> str:
    """Return a file's text, nothing where there is none."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def release(text: str) -> dict[str, str]:
    """Return the settings of os-release(5)."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if equals and not name.startswith("#"):
            found[name.strip()] = value.strip().strip("\"'")
    return found


def installed(listed: str, nginx: bool) -> set[str]:
    """Return the packages that dpkg-query lists as installed, one `name status provides` a line, and what they provide.

    `nginx`: it is there with its unit. Then whatever package it came in will do, nginx-extras say, for it stays.
    """
    lines = [line.split(None, 2) for line in listed.splitlines()]
    given = [line[2] for line in lines if line[1:2] == ["installed"] and len(line) > 2]
    provided = {name.split()[0] for names in given for name in names.split(",") if name.strip()} - {"nginx"}
    words = [line[:2] for line in lines]
    broken = {name for name, *status in words if name == "nginx" and status[0].startswith(("half", "unpacked"))}
    found = {name for name, *status in words if status == ["installed"]}
    return found | provided | ({"nginx"} - broken if nginx else set())


def units(shown: str) -> list[dict[str, str]]:
    """Return what `systemctl show` says of each unit, by the names of its properties: of one said twice, the last."""
    return [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in shown.split("\n\n")]


def standing(names: Sequence[str], shown: str) -> dict[str, dict[str, bool]]:
    """Return whether units run and start at boot, from what `systemctl show` says of each."""
    found = {name: {"active": False, "enabled": False} for name in names}
    for unit in units(shown):
        for name in found.keys() & set(unit.get("Names", "").split()):
            found[name]["active"] = unit.get("ActiveState") == "active"
            found[name]["enabled"] = unit.get("UnitFileState") == "enabled"
    return found


def loaded(shown: str) -> set[str]:
    """Return the units that systemd has found, from what `systemctl show` says of each."""
    found = [unit for unit in units(shown) if unit.get("LoadState") == "loaded"]
    return {name for unit in found for name in unit.get("Names", "").split()}


def words(value: str) -> list[str]:
    """Return the words of a list, as systemctl shows one: newer versions quote what has a space or a quote."""
    try:
        return shlex.split(value)
    except ValueError:
        return value.split()


def cat(shown: str, name: str) -> str:
    """Return the files of a unit, as `systemctl cat` prints them, from what `systemctl show` says of some units."""
    for unit in units(shown):
        if name in unit.get("Names", "").split():
            paths = [unit.get("FragmentPath", ""), *words(unit.get("DropInPaths", ""))]
            return "".join(f"# {path}\n{read(path)}\n" for path in paths if path)
    return ""


def ports(table: str) -> set[int]:
    """Return the local ports of the sockets that listen, from a table of proc_net_tcp(5)."""
    rows = (line.split() for line in table.splitlines()[1:])
    return {int(row[1].rpartition(":")[2], 16) for row in rows if len(row) > 3 and row[3] == "0A"}


def versions(said: str) -> dict[str, str | None]:
    """Return the versions of nginx and of its OpenSSL, from `nginx -V`."""
    nginx = re.search(r"nginx/([\d.]+)", said)
    # the first is there where the library is another one than at the build
    openssl = re.search(r"running with OpenSSL ([\w.]+)", said) or re.search(r"built with OpenSSL ([\w.]+)", said)
    return {"nginx": nginx and nginx[1], "openssl": openssl and openssl[1]}

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Tell who listens on a port: process, pid and unit.

Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import struct
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, NamedTuple

from ansible_collections.flaskfleet.web.plugins.module_utils.host_facts import read

PROC = "/proc"
UNIT = re.compile(r"([^/]+\.(?:service|scope|socket|slice))/?$")


class Socket(NamedTuple):
    """A TCP socket that listens."""

    address: str
    port: int
    inode: str


# deciding: pure functions


def sockets(table: str) -> list[Socket]:
    """Return the sockets that listen, from a table of proc_net_tcp(5)."""
    found = []
    for row in (line.split() for line in table.splitlines()[1:]):
        if len(row) > 9 and row[3] == "0A":
            address, _, port = row[1].rpartition(":")
            found.append(Socket(readable(address), int(port, 16), row[9]))
    return found


def readable(address: str) -> str:
    """Return an address as people write it: the kernel has it in words of four bytes of the processor's own order."""
    words = struct.pack(f"={len(address) // 8}I", *(int(address[n : n + 8], 16) for n in range(0, len(address), 8)))
    found = ipaddress.ip_address(words)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def socket_units(shown: str) -> dict[int, str]:
    """Return the socket unit of each port that systemd holds, from `systemctl show`."""
    found = {}
    for block in shown.split("\n\n"):
        name = re.search(r"(?m)^Id=(.*)$", block)
        for port in re.findall(r"(?m)^Listen=.*:(\d+) \(Stream\)$", block):
            found[int(port)] = name[1] if name else ""
    return found


# asking


def owners(inodes: Collection[str]) -> dict[str, int]:
    """Return by socket the first process that has it, the eldest: who made it."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[str, int] = {}
    for pid in sorted(int(name) for name in os.listdir(PROC) if name.isdigit()):
        if len(found) == len(wanted):
            break
        with contextlib.suppress(OSError), os.scandir(f"{PROC}/{pid}/fd") as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    inode = wanted.get(os.readlink(entry.path))
                    if inode:
                        found.setdefault(inode, pid)
    return found


def unit_of(pid: int) -> str:
    """Return the unit that a process belongs to."""
    for line in read(f"{PROC}/{pid}/cgroup").splitlines():
        unit = UNIT.search(line.rpartition(":")[2])
        if unit:
            return unit[1]
    return ""


def listening() -> list[str]:
    """Return the kernel's tables of TCP sockets, of IPv4 and IPv6. Each takes milliseconds, however few there are."""
    return [read(f"{PROC}/net/{name}") for name in ("tcp", "tcp6")]


def holders(
    ports: Iterable[int], tables: Sequence[str], shown: str, ask: Callable[[Sequence[str]], str]
) -> list[dict[str, Any]]:
    """Return who listens on these ports.

    `shown` is what `systemctl show` says of some units; where systemd holds a port by none of them, it is asked.
    """
    wanted = set(ports)
    held = [each for table in tables for each in sockets(table) if each.port in wanted]
    pids = owners({each.inode for each in held})
    units = socket_units(shown)
    found = []
    for each in held:
        pid = pids.get(each.inode, 0)
        unit = unit_of(pid) if pid else ""
        if pid == 1:
            if each.port not in units:
                every = socket_units(ask(["systemctl", "show", "--property=Id,Listen", "*.socket"]))
                units.update({each.port: "", **every})
            unit = units[each.port]
        process = read(f"{PROC}/{pid}/comm").strip() if pid else ""
        holder = {"port": each.port, "address": each.address, "process": process, "pid": pid, "unit": unit}
        found += [holder] if holder not in found else []
    return found

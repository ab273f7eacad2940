# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Where Gunicorn sends its figures, as it reads `statsd_host`. Pure functions."""

from __future__ import annotations

import ipaddress
import re
from typing import Any

UNIX = re.compile(r"unix:(?://)?(/(?!/)[\x21-\x7e]+)")
# a name or an address, an IPv6 one in brackets; without a port it is 8125
PLACE = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?))(?::([0-9]{1,5}))?")


def endpoint(statsd_host: Any) -> tuple[str, str]:
    """Return the path of a Unix socket, or the host that is named; two empty words where it is neither."""
    text = statsd_host if isinstance(statsd_host, str) else ""
    unix = UNIX.fullmatch(text)
    if unix:
        return unix[1], ""
    place = PLACE.fullmatch(text)
    if not place or not 0 < int(place[3] or 8125) < 65536 or place[2] in ("unix", "fd"):
        return "", ""
    if place[1]:
        try:
            ipaddress.IPv6Address(place[1])
        except ValueError:
            return "", ""
    return "", place[1] or place[2]


def address(statsd_host: Any) -> str:
    """Return the address that is to be let through: none for a name, nor for this host, to which all units are let."""
    _path, host = endpoint(statsd_host)
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return ""
    return "" if found.is_loopback else str(found)


def is_name(host: str) -> bool:
    """Tell whether a host has to be looked up; localhost is in every /etc/hosts."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return host != "localhost"
    return False

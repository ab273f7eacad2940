"""At which addresses others reach this host, by what `ip` tells of them. Pure functions."""

from __future__ import annotations

from typing import Any


def reachable(addresses: list[Any], *routes: list[Any]) -> list[str]:
    """Return the addresses at which others reach a host, from what `ip -json` says of them and of default routes.

    A bridge without a default route leads to containers and virtual machines of the host itself.
    """
    ways = {hop.get("dev") for found in routes for route in found for hop in (route, *route.get("nexthops", []))}
    found = [
        (link.get("ifname") not in ways, address.get("family") != "inet", address["local"])
        for link in addresses
        if link.get("ifname") in ways or link.get("linkinfo", {}).get("info_kind") != "bridge"
        for address in link.get("addr_info", [])
        if address.get("scope") == "global" and "UP" in link.get("flags", [])
        if not any(address.get(flag) for flag in ("temporary", "tentative", "dadfailed"))
    ]
    return [local for _way, _family, local in sorted(found)]

"""Where an app may connect to: a resolver of this host that its settings shut out is let in. Pure functions."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# systemd.resource-control(5), IPAddressAllow=
WORDS = {
    "any": ("0.0.0.0/0", "::/0"),
    "localhost": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/64"),
    "multicast": ("224.0.0.0/4", "ff00::/8"),
}


def networks(values: Iterable[str]) -> list[Network]:
    """Return the networks of a setting that is given several times; an empty value forgets those before it."""
    found: list[Network] = []
    for value in values:
        found = found if value.strip() else []
        for word in value.split():
            for address in WORDS.get(word, (word,)):
                try:
                    found.append(ipaddress.ip_network(address, strict=False))
                except ValueError:  # systemd says so, and takes nothing of it
                    continue
    return found


def nameservers(resolv_conf: str) -> list[str]:
    """Return the addresses of the resolvers in a resolv.conf(5)."""
    lines = (line.split() for line in resolv_conf.splitlines())
    return [words[1].partition("%")[0] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def shuts(settings: Sequence[tuple[str, str]], what: str = "") -> bool:
    """Return whether settings keep a unit from an address; of anything else, whether they keep it from most."""
    if ("PrivateNetwork", "yes") in settings:
        return True
    allow = networks(value for key, value in settings if key == "IPAddressAllow")
    deny = networks(value for key, value in settings if key == "IPAddressDeny")
    try:
        address = ipaddress.ip_address(what)
    except ValueError:
        return any(one.prefixlen == 0 for one in deny) and not any(one.prefixlen == 0 for one in allow)
    return any(address in one for one in deny) and not any(address in one for one in allow)


def shut_out(settings: Iterable[tuple[str, str]], resolvers: Sequence[str]) -> list[str]:
    """Return the resolvers that the settings of a unit deny, where they let the unit reach other machines at all."""
    told = list(settings)
    allow = networks(value for key, value in told if key == "IPAddressAllow")
    deny = networks(value for key, value in told if key == "IPAddressDeny")
    if any(network.prefixlen == 0 for network in deny) and all(network.is_loopback for network in allow):
        return []  # it is to reach nothing but this host
    found = []
    for resolver in resolvers:
        try:
            address = ipaddress.ip_address(resolver)
        except ValueError:
            continue
        if any(address in network for network in deny) and not any(address in network for network in allow):
            found.append(str(address))
    return found


def resolvers_drop_in(resolvers: Iterable[str]) -> str:
    """Return the drop-in that lets resolvers in."""
    lines = (f"IPAddressAllow={resolver}" for resolver in resolvers)
    return "\n".join(["# written by flaskctl: the resolvers of this host", "[Service]", *lines, ""])

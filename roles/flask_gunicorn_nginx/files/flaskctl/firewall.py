"""Whether a firewall of this host lets anybody in at a port, by the rules of ufw and of nftables. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Json = dict[str, Any]

UFW_ENABLED, UFW_DEFAULTS = "/etc/ufw/ufw.conf", "/etc/default/ufw"
UFW_RULES = {False: "/etc/ufw/user.rules", True: "/etc/ufw/user6.rules"}  # by whether it is for IPv6
COMMENT = "flaskfleet"  # in a rule of ufw that was made for an app
TUPLE = re.compile(r"(?m)^### tuple ### (\w+) (\w+) (\S+) (\S+) (\S+) (\S+)(.*)$")
ANYBODY = ("0.0.0.0/0", "::/0")
LETS_IN = ("accept", "jump", "goto", "queue", "vmap")


def setting(text: str, name: str) -> str:
    """Return a variable of a shell's file, in lower case; the last one counts."""
    found = re.findall(rf"(?m)^\s*{name}=[\"']?(\w*)", text)
    return found[-1].lower() if found else ""


def among(ports: str, port: int) -> bool:
    """Whether a port is one of `80`, `80,443`, `8000:8010`, `any`."""
    for part in ports.split(","):
        first, _, last = part.partition(":")
        if part == "any" or first.isdigit() and int(first) <= port <= int(last if last.isdigit() else first):
            return True
    return False


def ufw_is_on(enabled: str) -> bool:
    """Whether ufw is active, by its ufw.conf."""
    return setting(enabled, "ENABLED") == "yes"


def ufw_closes(defaults: str, rules: str, port: int) -> bool:
    """Whether ufw lets nobody in at a port: by the first of its rules for it, else by what it does with the rest."""
    for action, protocol, ports, _to, source_port, source, more in TUPLE.findall(rules):
        direction = more.split(" comment=")[0].split()[-1:]
        if protocol not in ("tcp", "any") or not among(ports, port) or not direction[0:1] or direction[0][:2] != "in":
            continue
        if action.partition("_")[0] in ("allow", "limit"):
            return False  # for some at least
        if source in ANYBODY and source_port == "any":
            return True
    return setting(defaults, "DEFAULT_INPUT_POLICY") in ("drop", "reject")


def ufw_opened(rules: str) -> list[int]:
    """Return the ports that were opened for apps."""
    mark = f"comment={COMMENT.encode().hex()}"
    return sorted({int(found[2]) for found in TUPLE.findall(rules) if mark in found[6].split() and found[2].isdigit()})


def nft_closes(ruleset: Sequence[Json], port: int) -> str:
    """Return the chain of nftables that lets nobody in at a port, as nft calls it; nothing where one cannot tell.

    Only what certainly does not hold for a new connection from elsewhere is passed over, and what lets in somebody, or
    what is not understood, lets in.
    """
    for item in ruleset:
        chain = item.get("chain", {})
        if chain.get("hook") == "input" and chain.get("family") in ("ip", "ip6", "inet"):
            verdict = judged(ruleset, chain, port)
            if verdict in ("drop", "reject"):
                return f"{chain['family']} {chain['table']} {chain['name']}"
    return ""


def judged(ruleset: Sequence[Json], chain: Json, port: int) -> str:
    """Return what a chain does with a new connection from elsewhere to a port: drop, reject, or accept."""
    same = ("family", "table")
    for item in ruleset:
        rule = item.get("rule", {})
        if rule.get("chain") != chain["name"] or any(rule.get(key) != chain.get(key) for key in same):
            continue
        matches = [each["match"] for each in rule["expr"] if "match" in each]
        if any(never(match, port) for match in matches):
            continue
        does = next((word for word in (*LETS_IN, "drop", "reject") for each in rule["expr"] if word in each), "")
        if does in LETS_IN or "xt" in str(rule["expr"]):
            return "accept"
        if does and not matches and not any("limit" in each for each in rule["expr"]):
            return does
    return str(chain.get("policy", "accept"))


def never(match: Mapping[str, Any], port: int) -> bool:
    """Whether a match of nftables certainly does not hold for a new TCP connection from elsewhere to a port."""
    left, right, turned = match.get("left"), match.get("right"), match.get("op") == "!="
    if not isinstance(left, dict):
        return False
    values = [right] if not isinstance(right, dict) else right.get("set")
    if not isinstance(values, list) or turned:
        return False
    meta, field = left.get("meta", {}).get("key"), left.get("payload", {})
    if meta in ("iifname", "iif"):
        return values == ["lo"]
    if meta in ("l4proto", "nfproto"):
        return meta == "l4proto" and "tcp" not in values
    if "ct" in left:
        return left["ct"].get("key") == "state" and "new" not in values
    if field.get("protocol") in ("udp", "icmp", "icmpv6"):
        return True
    if (field.get("protocol"), field.get("field")) in (("ip", "protocol"), ("ip6", "nexthdr")):
        return "tcp" not in values
    if field.get("field") == "dport":
        return not any(covers(value, port) for value in values)
    return False


def covers(value: Any, port: int) -> bool:
    """Whether a value of nftables is a port, or may be it: a number, a range, or something else."""
    if isinstance(value, int):
        return value == port
    ends = value.get("range") if isinstance(value, dict) else None
    return not ends or ends[0] <= port <= ends[1]


def told(port: int, closes: str, ufw: bool, root: str = "sudo ") -> Iterator[str]:
    """Yield the sentence for a port at which nobody is let in, and what opens it."""
    if ufw:
        yield (
            f"ufw lets nobody in at port {port}, so nobody elsewhere reaches this app: {root}ufw allow {port}/tcp,"
            " or set flask_gunicorn_nginx_open_firewall: true"
        )
    elif closes:
        yield (
            f"nftables lets nobody in at port {port} (chain {closes}), so nobody elsewhere reaches this app:"
            f" {root}nft insert rule {closes} tcp dport {port} accept, and the same in /etc/nftables.conf"
        )

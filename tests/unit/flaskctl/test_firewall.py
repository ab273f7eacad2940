"""A firewall lets this host in and nobody else: no answer shows it, so its rules are read; opened is what may be."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tests.unit.flaskctl import strict
from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl

Stage = Callable[..., str]
DENY = 'DEFAULT_INPUT_POLICY="DROP"\nIPV6=yes\n'
SSH = "### tuple ### allow tcp 22 0.0.0.0/0 any 0.0.0.0/0 in\n-A ufw-user-input -p tcp --dport 22 -j ACCEPT\n"
OPEN = "### tuple ### allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in\n"


def rule(text: str) -> str:
    return f"{SSH}\n### tuple ### {text}\n"


@pytest.mark.parametrize(
    ("defaults", "rules", "closed"),
    [
        (DENY, SSH, True),
        ('DEFAULT_INPUT_POLICY="REJECT"', "", True),
        ('DEFAULT_INPUT_POLICY="ACCEPT"', "", False),
        ('DEFAULT_INPUT_POLICY="ACCEPT"', rule("deny tcp 80 0.0.0.0/0 any 0.0.0.0/0 in"), True),
        (DENY, rule("allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in"), False),
        (DENY, rule("allow any 80 0.0.0.0/0 any 0.0.0.0/0 in comment=666c"), False),
        (DENY, rule("limit tcp 80 0.0.0.0/0 any 0.0.0.0/0 in"), False),
        (DENY, rule("allow_log tcp 80 0.0.0.0/0 any 0.0.0.0/0 in"), False),
        (DENY, rule("allow udp 80 0.0.0.0/0 any 0.0.0.0/0 in"), True),
        (DENY, rule("allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 out"), True),
        (DENY, rule("allow tcp 8000:8100,80,443 0.0.0.0/0 any 0.0.0.0/0 in"), False),
        (DENY, rule("allow tcp 70:90 0.0.0.0/0 any 0.0.0.0/0 in"), False),
        (DENY, rule("allow tcp 8080 0.0.0.0/0 any 0.0.0.0/0 in"), True),
        # an application of ufw's, an interface, a load balancer alone, a network that is trusted
        (DENY, rule("allow tcp 80,443 0.0.0.0/0 any 0.0.0.0/0 Nginx%20Full - in"), False),
        (DENY, rule("allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in_eth0"), False),
        (DENY, rule("allow tcp 80 0.0.0.0/0 any 10.0.0.9 in"), False),
        (DENY, rule("allow any any 0.0.0.0/0 any 10.0.0.0/8 in"), False),
        # the first that fits counts; one that shuts somebody out says nothing of the others
        (DENY, rule("deny tcp 80 0.0.0.0/0 any 10.6.6.6 in") + OPEN, False),
        (DENY, rule("deny tcp 80 0.0.0.0/0 any 0.0.0.0/0 in") + OPEN, True),
        (DENY, rule("route:allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in"), True),
        ("", "", False),
    ],
)  # fmt: skip
def test_ufw_closes_what_none_of_its_rules_opens(defaults: str, rules: str, closed: bool) -> None:
    assert flaskctl.ufw_closes(defaults, rules, 80) is closed


def match(left: Any, right: Any, op: str = "==") -> Any:
    return {"match": {"op": op, "left": left, "right": right}}


def dport(right: Any, op: str = "==") -> Any:
    return match({"payload": {"protocol": "tcp", "field": "dport"}}, right, op)


LOOPBACK = [match({"meta": {"key": "iifname"}}, "lo"), {"accept": None}]
KNOWN = [match({"ct": {"key": "state"}}, {"set": ["established", "related"]}, "in"), {"accept": None}]
PING = [match({"payload": {"protocol": "icmp", "field": "type"}}, "echo-request"), {"accept": None}]
DNS = [match({"payload": {"protocol": "udp", "field": "dport"}}, 53), {"accept": None}]
DROP: Any = [{"counter": {"packets": 1, "bytes": 2}}, {"drop": None}]


def ruleset(*rules: Any, policy: str = "drop", family: str = "inet", hook: str = "input") -> list[Any]:
    chain = {"family": family, "table": "filter", "name": "input", "hook": hook, "policy": policy}
    more = [{"rule": {"family": family, "table": "filter", "chain": "input", "expr": expr}} for expr in rules]
    return [{"metainfo": {"version": "1.0.6"}}, {"chain": chain}, *more]


@pytest.mark.parametrize(
    ("rules", "closed"),
    [
        (ruleset(LOOPBACK, KNOWN, PING, DNS), True),
        (ruleset(LOOPBACK, KNOWN, [dport(22), {"accept": None}]), True),
        (ruleset(LOOPBACK, KNOWN, DROP, policy="accept"), True),
        (ruleset([match({"payload": {"protocol": "ip6", "field": "nexthdr"}}, "ipv6-icmp"), {"accept": None}]), True),
        (ruleset([match({"payload": {"protocol": "ip", "field": "protocol"}}, "tcp"), {"accept": None}]), False),
        (ruleset([{"reject": {"type": "icmp"}}], policy="accept"), True),
        (ruleset(policy="accept"), False),
        ([], False),
        (ruleset(hook="forward"), False),
        (ruleset(family="bridge"), False),
        (ruleset([dport(80), {"accept": None}]), False),
        (ruleset([dport({"set": [22, 80, 443]}), {"accept": None}]), False),
        (ruleset([dport({"set": [22, {"range": [79, 90]}]}), {"accept": None}]), False),
        (ruleset([dport({"set": [22, {"range": [443, 445]}]}), {"accept": None}]), True),
        (ruleset([dport({"range": [1, 1024]}), {"accept": None}]), False),
        (ruleset([dport(22, "!="), {"accept": None}]), False),
        # what is not understood may let somebody in
        (ruleset([dport("@open"), {"accept": None}]), False),
        (ruleset([match({"meta": {"key": "iifname"}}, "eth1"), {"accept": None}]), False),
        (ruleset([match({"payload": {"protocol": "ip", "field": "saddr"}}, "10.0.0.9"), {"accept": None}]), False),
        (ruleset([{"vmap": {"key": {}, "data": {}}}]), False),
        (ruleset([{"jump": {"target": "ours"}}]), False),
        (ruleset([{"xt": {"type": "match", "name": "multiport"}}, {"accept": None}]), False),
        (ruleset([{"limit": {"rate": 1}}, {"drop": None}], policy="accept"), False),
        (ruleset([dport(80), {"drop": None}], policy="accept"), False),
    ],
)  # fmt: skip
def test_nftables_closes_what_certainly_nothing_opens(rules: list[Any], closed: bool) -> None:
    assert flaskctl.nft_closes(rules, 80) == ("inet filter input" if closed else "")


@pytest.fixture
def firewalled(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[list[str]]]:
    """Give the host a firewall; the calls of ufw."""
    called: list[list[str]] = []
    known: list[Any] = []
    run = FakeHost.run

    def give(rules: str | None = None, nft: Sequence[Any] = ()) -> list[list[str]]:
        known[:] = nft
        if rules is not None:
            for path, text in (
                (flaskctl.UFW_ENABLED, "ENABLED=yes\n"),
                (flaskctl.UFW_DEFAULTS, DENY),
                (flaskctl.UFW_RULES[False], rules),
            ):
                (host.root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
                (host.root / path[1:]).write_text(text)
        return called

    def answer(host: FakeHost, argv: Any, **kwargs: Any) -> Any:
        strict.check(argv, host.systemd)
        if argv[0] == "nft":
            return flaskctl.Done(0, json.dumps({"nftables": known}), "")
        if argv[0] == "ufw":
            called.append(list(argv))
            path = host.root / flaskctl.UFW_RULES[False][1:]
            port = argv[-1 if argv[1] == "delete" else 2].partition("/")[0]
            line = f"### tuple ### allow tcp {port} 0.0.0.0/0 any 0.0.0.0/0 in comment={b'flaskfleet'.hex()}\n"
            text = path.read_text()
            path.write_text(text.replace(line, "") if argv[1] == "delete" else text + line)
            return flaskctl.Done(0, "Rule added", "")
        return run(host, argv, **kwargs)

    monkeypatch.setattr(FakeHost, "run", answer)
    return give


def set_up(host: FakeHost, **settings: Any) -> None:
    path = host.root / "etc/flaskctl/hello.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def test_a_port_that_ufw_keeps_closed_is_named_with_the_command(
    host: FakeHost, stage: Stage, firewalled: Callable[..., Any]
) -> None:
    called = firewalled(SSH)
    for command in (("activate", stage("v1")), ("verify",), ("activate", stage("v2"))):
        result = call(host, "hello", *command, "--json")
        assert result.rc == 0
        (told,) = (text for text in result.json["warnings"] if "ufw" in text)
        assert "lets nobody in at port 80" in told and "ufw allow 80/tcp" in told and "open_firewall: true" in told
    assert called == [], "nobody has said that it may be opened"


def test_both_ports_of_a_site_are_named(host: FakeHost, stage: Stage, firewalled: Callable[..., Any]) -> None:
    firewalled(rule("allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in"))
    set_up(host, ports=[80, 443])
    result = call(host, "hello", "activate", stage("v1"), "--json")
    assert [text[:33] for text in result.json["warnings"]] == ["ufw lets nobody in at port 443, s"]


def test_what_may_be_opened_is_opened_once_and_goes_with_the_last_app(
    host: FakeHost, stage: Stage, firewalled: Callable[..., Any]
) -> None:
    called = firewalled(SSH)
    one = stage("v1")
    assert call(host, "hello", "activate", one).rc == 0
    set_up(host, open_firewall=True, ports=[80, 443])
    asked = call(host, "hello", "activate", one, "--json")
    assert asked.json["changed"] and "ufw lets in at port 80; ufw lets in at port 443" in asked.json["msg"]
    assert called == [["ufw", "allow", f"{port}/tcp", "comment", "flaskfleet"] for port in (80, 443)]
    assert not [text for text in asked.json["warnings"] if "ufw" in text]
    assert not call(host, "hello", "activate", one, "--json").json["changed"] and len(called) == 2
    removed = call(host, "hello", "remove", "--json")
    assert removed.rc == 0 and {"ufw allow 80/tcp", "ufw allow 443/tcp"} <= set(removed.json["removed"])
    assert called[2:] == [["ufw", "delete", "allow", f"{port}/tcp"] for port in (80, 443)]


def test_a_rule_that_somebody_has_made_stays(host: FakeHost, stage: Stage, firewalled: Callable[..., Any]) -> None:
    called = firewalled(rule("allow tcp 80 0.0.0.0/0 any 0.0.0.0/0 in comment=" + b"mine".hex()))
    set_up(host, open_firewall=True)
    assert call(host, "hello", "activate", stage("v1")).rc == 0
    assert call(host, "hello", "remove").rc == 0
    assert called == []


def test_nftables_is_named_with_its_chain_and_never_changed(host: FakeHost, stage: Stage, firewalled: Any) -> None:
    firewalled(nft=ruleset(LOOPBACK, KNOWN))
    set_up(host, open_firewall=True)
    result = call(host, "hello", "activate", stage("v1"), "--json")
    (told,) = (text for text in result.json["warnings"] if "nftables" in text)
    assert "nft insert rule inet filter input tcp dport 80 accept" in told
    assert not [argv for argv in host.calls if argv[0] == "nft" and "insert" in argv]

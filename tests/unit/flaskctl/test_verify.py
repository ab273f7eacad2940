"""The proof goes the way of the traffic: asked is where users come to, and who answers there instead is named."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from flaskctl.addresses import reachable
from flaskctl.host import Host

from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl

Stage = Callable[..., str]
STATUS = flaskctl.Answer(404, "", "no such page")
CONFIGURATION = """\
# configuration file /etc/nginx/nginx.conf:
http { include /etc/nginx/sites-enabled/*; }
# configuration file /etc/nginx/sites-enabled/hello.conf:
server { listen 80; server_name example.com; }
# configuration file /etc/nginx/sites-enabled/anna:
server { listen 10.0.0.5:80; server_name anna.test; }
"""


@pytest.fixture
def serving(host: FakeHost, stage: Stage) -> FakeHost:
    assert call(host, "hello", "activate", stage("v1")).rc == 0
    return host


def test_loopback_may_belong_to_somebody_else(serving: FakeHost) -> None:
    serving.elsewhere = {"127.0.0.1": STATUS}
    assert call(serving, "hello", "verify").rc == 0


def test_a_site_that_has_the_host_s_only_address_is_named_at_once(serving: FakeHost, stage: Stage) -> None:
    serving.elsewhere, serving.nginx_says = {"10.0.0.5": STATUS}, CONFIGURATION
    result, began = call(serving, "hello", "verify", "--json"), serving.clock
    assert result.rc == 1
    said = "at 10.0.0.5 is answered by anna.test on 10.0.0.5:80 (/etc/nginx/sites-enabled/anna), not by hello"
    assert said in result.json["msg"]
    two = stage("v2")
    began = serving.clock
    assert call(serving, "hello", "activate", two).rc == 1
    assert serving.clock - began < flaskctl.VERIFY_SECONDS, "waiting does not help"


def test_a_site_that_has_one_of_several_addresses_is_a_warning(serving: FakeHost, stage: Stage) -> None:
    serving.addresses, serving.elsewhere = ["10.0.0.5", "10.0.0.6", "2001:db8::6"], {"10.0.0.5": STATUS}
    serving.nginx_says = CONFIGURATION.replace("listen 80;", "listen 80; listen [::]:80;")
    result = call(serving, "hello", "activate", stage("v2"), "--json")
    assert result.rc == 0, result
    assert [text for text in result.json["warnings"] if "is answered by anna.test on 10.0.0.5:80" in text]
    assert len(result.json["warnings"]) == 1


def test_every_address_that_is_ours_must_answer(serving: FakeHost) -> None:
    serving.addresses, serving.nginx_says = ["10.0.0.6", "10.0.0.7"], CONFIGURATION
    serving.elsewhere = {"10.0.0.7": flaskctl.Answer(502, "", "Bad Gateway")}
    result = call(serving, "hello", "verify")
    assert result.rc == 1 and "at 10.0.0.7 answers 502" in result.err


def test_where_nginx_does_not_listen_nobody_comes(serving: FakeHost) -> None:
    serving.addresses, serving.nginx_says = ["10.0.0.6", "2001:db8::6"], CONFIGURATION
    serving.elsewhere = {"2001:db8::6": flaskctl.Answer(0, "", "Connection refused")}
    assert call(serving, "hello", "verify").rc == 0
    serving.addresses = ["2001:db8::6"]
    result = call(serving, "hello", "verify")
    assert result.rc == 1 and "Connection refused" in result.err


def test_one_who_may_not_read_the_configuration_is_told_what_answers(serving: FakeHost) -> None:
    serving.elsewhere = {"10.0.0.5": flaskctl.Answer(200, "", "anna's site")}
    result = call(serving, "hello", "verify")
    assert result.rc == 1 and "is answered by something that names no release" in result.err


def test_a_site_that_is_read_elsewhere_is_known_by_its_place(serving: FakeHost) -> None:
    settings = serving.root / "etc/flaskctl/hello.json"
    site = "/etc/nginx/conf.d/hello.conf"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "site": site}))
    serving.nginx_says = CONFIGURATION.replace("/etc/nginx/sites-enabled/hello.conf", site)
    serving.addresses, serving.elsewhere = ["10.0.0.6"], {"10.0.0.6": flaskctl.Answer(502, "", "Bad Gateway")}
    assert "answers 502" in call(serving, "hello", "verify").err


@pytest.mark.parametrize(("release", "public", "told"), [(True, "", True), (True, "https", False), (False, "", False)])
def test_an_app_that_sends_everybody_to_https_is_told_the_setting(
    serving: FakeHost, release: bool, public: str, told: bool
) -> None:
    settings = serving.root / "etc/flaskctl/hello.json"
    found = json.loads(settings.read_text())
    settings.write_text(json.dumps({**found, "verify": {**found["verify"], "public": public}}))
    current = call(serving, "hello", "verify", "--json").json["id"]
    to = "https://example.com/healthz"
    serving.elsewhere = {"10.0.0.5": flaskctl.Answer(302, current if release else "", "", to)}
    result = call(serving, "hello", "verify")
    assert result.rc == 1 and f"answers 302 to {to}" in result.err
    assert ("set flask_gunicorn_nginx_public_url: https://example.com" in result.err) == told


def link(name: str, *addresses: tuple[str, str], up: bool = True, kind: str = "", **more: Any) -> dict[str, Any]:
    found = [
        {"family": "inet6" if ":" in local else "inet", "local": local, "scope": scope, **more}
        for local, scope in addresses
    ]
    return {"ifname": name, "flags": ["UP"] if up else [], "linkinfo": {"info_kind": kind}, "addr_info": found}


LOOPBACK = link("lo", ("127.0.0.1", "host"), ("::1", "host"))
DOCKER = link("docker0", ("172.17.0.1", "global"), kind="bridge")


@pytest.mark.parametrize(
    ("links", "found"),
    [
        ([LOOPBACK, link("eth0", ("10.0.0.5", "global"), ("fe80::1", "link"))], ["10.0.0.5"]),
        ([LOOPBACK, DOCKER, link("eth0", ("10.0.0.5", "global"))], ["10.0.0.5"]),
        ([link("eth1", ("10.9.0.5", "global")), link("eth0", ("192.0.2.1", "global"))], ["192.0.2.1", "10.9.0.5"]),
        ([link("eth0", ("2001:db8::5", "global"), ("10.0.0.5", "global"))], ["10.0.0.5", "2001:db8::5"]),
        ([link("eth0", ("2001:db8::5", "global"))], ["2001:db8::5"]),
        ([link("eth0", ("2001:db8::7", "global"), temporary=True)], []),
        ([link("eth1", ("10.0.0.5", "global"), up=False)], []),
        ([LOOPBACK], []),
        ([], []),
    ],
)
def test_users_come_to_the_addresses_that_others_can_reach(links: list[Any], found: list[str]) -> None:
    assert reachable(links, [{"dst": "default", "dev": "eth0"}], []) == found


def test_a_bridge_with_the_default_route_is_where_users_come() -> None:
    bridge = link("br0", ("10.0.0.5", "global"), kind="bridge")
    assert reachable([bridge, DOCKER], [], [{"dev": "br0"}]) == ["10.0.0.5"]
    assert reachable([bridge, DOCKER], [{"nexthops": [{"dev": "br0"}, {"dev": "eth0"}]}]) == ["10.0.0.5"]


def test_this_machine_tells_its_addresses() -> None:
    assert Host().own_addresses()


@pytest.mark.parametrize("part", ["headers", "body"])
def test_an_answer_that_trickles_is_not_waited_for(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte came within the time that a part of it has, and flaskctl held its lock for an hour."""
    monkeypatch.setattr("flaskctl.host.ANSWER_SECONDS", 0.3)
    listener = socket.create_server(("127.0.0.1", 0))
    heard = threading.Event()

    def trickle() -> None:
        client, _address = listener.accept()
        with client, contextlib.suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\n" + (b"\r\n" if part == "body" else b"X: "))
            while not heard.is_set():
                client.sendall(b"x")
                time.sleep(0.05)

    thread = threading.Thread(target=trickle, daemon=True)
    thread.start()
    answer = Host().http_get("http", listener.getsockname()[1], "a.test", "/")
    heard.set()
    listener.close()
    assert (answer.status, answer.body) == (0, "TimeoutError: no whole answer in 0 s")


@pytest.mark.parametrize("by", [-86400.0, 86400.0])
def test_a_clock_that_is_set_makes_no_wait_longer_or_shorter(
    serving: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    """A host without a battery for its clock gets the time from elsewhere, in the middle of whatever runs."""
    two = stage("v2")
    serving.elsewhere = {"10.0.0.5": flaskctl.Answer(0, "", "ConnectionRefusedError")}

    def sleep(seconds: float) -> None:
        serving.clock += seconds
        serving.clock_was_set = by * (seconds == 0.1)  # what the proof waits between two questions

    monkeypatch.setattr(serving, "sleep", sleep)
    began = serving.clock
    assert call(serving, "hello", "activate", two).rc == 1
    assert flaskctl.VERIFY_SECONDS <= serving.clock - began < 3 * flaskctl.VERIFY_SECONDS

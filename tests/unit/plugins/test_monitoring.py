"""What of metrics and StatsD is refused before a host is touched, and what the sandbox lets through for it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.filter.service_lines import service_lines
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.rules import problems
from ansible_collections.flaskfleet.web.plugins.plugin_utils.statsd import address, endpoint
from gunicorn.config import Config

from tests.rendering import evaluate, prefixed, render

GOOD: dict[str, Any] = {"name": "hello", "source": "/srv/code/hello", "default_server": True}
REMOTE = {"default_server": True, "settings": {"statsd_host": "10.0.0.7:8125"}}


def told(**values: Any) -> str:
    return "\n".join(problems(prefixed({**GOOD, **values})))


@pytest.mark.parametrize(
    "value", [{}, {"textfile": True}, {"textfile": "yes", "directory": "/srv/text-files/node_1.d"}]
)
def test_metrics_that_can_be_had_are_taken(value: Any) -> None:
    assert told(metrics=value) == ""


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (True, "must be a dictionary: {textfile: true}"),
        (["textfile"], "must be a dictionary"),
        ({"textfile": "perhaps"}, "has textfile, which is 'perhaps'. Set it to true or false."),
        ({"textfiles": True}, "Did you mean textfile?"),
        *(
            ({"directory": directory}, "It must be an absolute path")
            for directory in (
                "node",
                "",
                "/",
                "/a b",
                "/a/../b",
                "/a/./b",
                "/a/",
                "/a\n/b",
                "/a%i",
                "/$HOME",
                '/a"b',
                5,
            )
        ),
    ],
)
def test_metrics_that_cannot_be_had_are_refused(value: Any, says: str) -> None:
    assert says in told(metrics=value) and "flask_gunicorn_nginx_metrics" in told(metrics=value)


@pytest.mark.parametrize(
    ("host", "outbound"),
    [
        *((host, "any") for host in ("127.0.0.1:8125", "statsd.example.com", "[2001:db8::7]:9125", "localhost:8125")),
        *(("unix:///run/statsd.sock", outbound) for outbound in ("any", "none", ["10.0.0.5"])),
        *((host, ["10.0.0.5"]) for host in ("10.0.0.7:8125", "localhost", "127.0.0.1", "[::1]:8125")),
        *((host, "any") for host in (None, "unix:/run/datadog/dsd.socket")),
    ],
)
def test_a_statsd_that_can_be_reached_is_taken(host: Any, outbound: Any) -> None:
    assert told(settings={"statsd_host": host}, outbound=outbound) == ""
    config = Config()
    config.set("statsd_host", host)  # Gunicorn takes it too
    path, name = endpoint(host)
    assert config.statsd_host == (None if host is None else path or (name, config.statsd_host[1]))


@pytest.mark.parametrize(
    ("host", "outbound", "says"),
    [
        *(
            (host, "any", "which is no address of StatsD")
            for host in ("", "udp://a:1", "a b:1", "a:99999", "a:0", 8125)
        ),
        *((host, "any", "which is no address of StatsD") for host in ("unix:", "unix://run", "fd://3", "[1.2.3.4]:1")),
        *(
            (f"unix://{path}", "any", "the app does not see")
            for path in ("/tmp/s", "/home/a/s", "/dev/log", "/run/user/1")
        ),
        *((host, "none", "the app reaches no address") for host in ("127.0.0.1:8125", "statsd.example.com")),
        ("statsd.example.com:8125", ["10.0.0.5"], "systemd looks up no names"),
        *((host, "any", "nobody sends to") for host in ("0.0.0.0:8125", "[::]:8125")),
    ],
)
def test_a_statsd_that_cannot_be_reached_is_refused_with_the_remedy(host: Any, outbound: Any, says: str) -> None:
    said = told(settings={"statsd_host": host}, outbound=outbound)
    assert says in said and "statsd_host" in said and re.search(r"Set |Have ", said), said


def test_the_remedies_work_as_they_stand() -> None:
    assert told(settings={"statsd_host": "unix:///run/statsd.sock"}, outbound="none") == ""
    assert told(settings={"statsd_host": "127.0.0.1:8125"}, outbound=["127.0.0.1"]) == ""


@pytest.mark.parametrize(
    ("host", "let"),
    [
        *(
            (host, "")
            for host in ("127.0.0.1:8125", "localhost", "[::1]:8125", "unix:///run/s", "statsd.test", None, "")
        ),
        *(("10.0.0.7:8125", "10.0.0.7"), ("[2001:db8::7]", "2001:db8::7"), ("169.254.169.2:1", "169.254.169.2")),
    ],
)
def test_the_sandbox_lets_through_just_the_statsd_that_is_set(host: Any, let: str) -> None:
    assert address(host) == let
    lines = [line for line in service_lines({}, "hello", host) if line.startswith("IPAddress")]
    assert lines == ([f"IPAddressAllow={let}"] if let else [])


@pytest.mark.parametrize("outbound", ["any", ["10.0.0.5"]])
def test_it_is_the_web_server_alone_that_is_let_through(outbound: Any) -> None:
    processes = [{"name": "worker", "command": "flask work"}]
    values = {**REMOTE, "outbound": outbound, "processes": processes}
    assert "IPAddressAllow=10.0.0.7\n" in render("app@.service", values)
    assert "10.0.0.7" not in render("processes.json", values)
    # who sets none has the unit that he had, and the release that he had
    without = {name: value for name, value in values.items() if name != "settings"}
    assert "IPAddressAllow=10.0.0.7" not in render("app@.service", without)


def test_what_a_user_says_of_addresses_comes_last_and_counts() -> None:
    lines = service_lines({"IPAddressAllow": ["", "10.0.0.9"]}, "hello", "10.0.0.7")
    assert lines[-3:] == ["IPAddressAllow=10.0.0.7", "IPAddressAllow=", "IPAddressAllow=10.0.0.9"]


def test_nginx_tells_its_figures_to_this_host_alone_and_only_where_it_is_asked_to() -> None:
    for values in ({"default_server": True}, {"default_server": True, "metrics": {"directory": "/srv/text"}}):
        assert "stub_status" not in render("app.nginx.conf", values)
        app = evaluate("__flask_gunicorn_nginx_app", values)
        assert (app["metrics"], app["nginx_status"]) == ("", "")
    values = {"default_server": True, "listen": "8080", "metrics": {"textfile": "yes"}}
    (server,) = [text for text in render("app.nginx.conf", values).split("\nserver {") if "stub_status" in text]
    assert re.findall(r"listen (.*);", server) == ["127.0.0.81:8080"]
    assert "allow 127.0.0.0/8;\n    deny all;" in server
    app = evaluate("__flask_gunicorn_nginx_app", values)
    assert (app["metrics"], app["nginx_status"]) == ("/var/lib/prometheus/node-exporter", "127.0.0.81:8080")
    internal = {"__flask_gunicorn_nginx_container": "app"}
    assert "stub_status" not in render("app.nginx.conf", values, internal=internal)


def test_units_of_somebody_else_are_not_taken_over() -> None:
    paths = "__flask_gunicorn_nginx_needs.files"
    own = {f"/etc/systemd/system/hello.metrics.{kind}" for kind in ("service", "timer")}
    assert own <= set(evaluate(paths, {"metrics": {"textfile": True}})) and not own & set(evaluate(paths))

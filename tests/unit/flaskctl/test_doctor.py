"""doctor reads what serves has said, and tells the walls in it with when and how often."""

from __future__ import annotations

from collections.abc import Callable

from tests.unit.flaskctl.fake_host import FakeHost, call
from tests.unit.flaskctl.given import PROCESSES

Stage = Callable[..., str]
APP = "/srv/hello/releases/0123456789ab/app"
JOURNAL = f"""\
1795000000.000001 web1 python[10]: Traceback (most recent call last):
1795000000.000002 web1 python[10]:   File "{APP}/app.py", line 3, in index
1795000000.000003 web1 python[10]: PermissionError: [Errno 13] Permission denied: '{APP}/instance'
-- Boot 0123456789abcdef --
1795000060.000001 web1 python[11]: FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'
1795000090.000001 web1 python[11]: FileNotFoundError: [Errno 2] No such file or directory: '/proc/meminfo'
"""


def test_each_wall_is_told_with_how_often_and_when_last(host: FakeHost, stage: Stage) -> None:
    current = stage("v1", processes=PROCESSES)
    call(host, "hello", "activate", current)
    host.said, host.clock = JOURNAL, 1_795_000_100.0
    answer = call(host, "hello", "doctor", "--json").json
    assert [(wall["name"], wall["times"], wall["last"]) for wall in answer["walls"]] == [
        ("the kernel's tables", 2, "2026-11-18T11:08:10Z"),
        ("write beside the code", 1, "2026-11-18T11:06:40Z"),
    ]
    said = call(host, "hello", "doctor").out
    assert (
        "2 times, last 2026-11-18T11:08:10Z, 10 s ago" in said and "flask_gunicorn_nginx_writable: [instance]" in said
    )
    (asked,) = [words for words in host.calls if "short-unix" in words][-1:]
    assert {f"_SYSTEMD_UNIT=hello@{current}.service", f"_SYSTEMD_UNIT=hello.tick@{current}.service"} <= set(asked)


def test_an_app_that_met_none_is_told_so_and_one_that_serves_nothing_too(host: FakeHost, stage: Stage) -> None:
    assert "no current release" in call(host, "hello", "doctor").err
    call(host, "hello", "activate", stage("v1"))
    answer = call(host, "hello", "doctor", "--json").json
    assert answer["walls"] == [] and "has met no wall" in answer["msg"]

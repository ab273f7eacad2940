"""A Unix socket in place of a port, and the way from the one to the other while the app serves."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import SETTINGS, FakeHost, call, flaskctl, killed, note

Stage = Callable[..., str]

PATH = "/run/flaskfleet-apps/hello.sock"
PORT, UNIX = "127.0.0.1:5000", f"unix:{PATH}"
HOLDER = json.dumps({"id": "run-1", "by": "alice"})


def unit(host: FakeHost, name: str) -> Any:
    return host.root / "etc/systemd/system" / name


def site(host: FakeHost, address: str) -> None:
    path = host.root / "etc/nginx/sites-enabled/hello.conf"
    path.unlink(missing_ok=True)
    path.write_text(
        f"upstream hello {{\n    server {address} max_fails=0;\n}}\nserver {{\n    server_name example.com;\n}}\n"
    )


def wanted(host: FakeHost, path: str) -> None:
    """Say in settings and unit files where the app is to be, as the role does before a rollout."""
    (host.root / "etc/flaskctl/hello.json").write_text(json.dumps({**SETTINGS, "socket": path}))
    name, listen = ("hello.unix.socket", PATH) if path else ("hello.socket", PORT)
    unit(host, name).write_text(f"[Socket]\nListenStream={listen}\n")
    host.listens = {PORT, PATH}


def serving(host: FakeHost, release: str) -> list[str]:
    return host.heard[f"hello@{release}.service"]


@pytest.fixture
def one(host: FakeHost, stage: Stage) -> str:
    """A release that serves at the port, and nginx asks there."""
    release = stage("v1")
    assert call(host, "hello", "activate", release).rc == 0
    site(host, PORT)
    return release


def test_a_move_is_made_in_three_steps_and_can_go_back_until_the_last(host: FakeHost, one: str) -> None:
    wanted(host, PATH)
    staged = call(host, "hello", "status", "--json").json
    assert staged["socket"]["former"] == ["hello.socket"] and not staged["socket"]["active"]
    assert any("hello.socket is still there" in problem for problem in staged["problems"])
    done = call(host, "hello", "restart", "--holder", HOLDER, "--json")
    assert done.rc == 0, done.json
    assert serving(host, one) == ["hello.socket", "hello.unix.socket"], "users come to the old one, and will to the new"
    assert host.state_of("hello.socket") == "active" and unit(host, "hello.socket").is_file()
    call(host, "hello", "unlock", "--holder", HOLDER, "--keep", "5")
    assert unit(host, "hello.socket").is_file(), "nginx asks there"
    site(host, UNIX)
    done = call(host, "hello", "unlock", "--holder", HOLDER, "--keep", "5", "--json")
    assert done.rc == 0 and done.json["changed"], done.json
    assert not unit(host, "hello.socket").exists() and host.state_of("hello.socket") == "inactive"
    assert serving(host, one) == ["hello.unix.socket"] and not flaskctl.standbys(app(host))
    assert call(host, "hello", "status", "--json").json["problems"] == []
    assert not call(host, "hello", "unlock", "--holder", HOLDER, "--keep", "5", "--json").json["changed"]


def app(host: FakeHost) -> Any:
    return flaskctl.App(host, "hello")


def test_the_way_back_is_the_same(host: FakeHost, one: str) -> None:
    wanted(host, PATH)
    call(host, "hello", "restart")
    site(host, UNIX)
    call(host, "hello", "restart")
    assert serving(host, one) == ["hello.unix.socket"]
    wanted(host, "")
    assert call(host, "hello", "restart").rc == 0
    assert serving(host, one) == ["hello.socket", "hello.unix.socket"]
    site(host, PORT)
    assert call(host, "hello", "restart").rc == 0, "a person may end it as well"
    assert serving(host, one) == ["hello.socket"] and not unit(host, "hello.unix.socket").exists()
    assert call(host, "hello", "status", "--json").json["problems"] == []


def test_a_host_that_goes_back_in_the_middle_serves_as_before(host: FakeHost, one: str, stage: Stage) -> None:
    wanted(host, PATH)
    call(host, "hello", "restart")
    site(host, UNIX)
    two = stage("v2")
    assert call(host, "hello", "activate", two).rc == 0
    wanted(host, "")  # as the role puts the settings back, and the site
    site(host, PORT)
    assert call(host, "hello", "rollback", one).rc == 0
    assert "hello.socket" in serving(host, one)
    call(host, "hello", "restart")
    assert serving(host, one) == ["hello.socket"]


@pytest.mark.parametrize("at", ["socket-closed", "restart-standby", "restart-first", "restart-again", "restart-done"])
def test_a_move_that_is_killed_is_ended_by_the_next_run(host: FakeHost, one: str, at: str) -> None:
    wanted(host, PATH)
    call(host, "hello", "restart")
    site(host, UNIX)
    assert killed(host, at, "hello", "unlock", "--holder", HOLDER, "--keep", "5")
    for _ in range(2):  # the second restart begins anew what a cut one left to a standby instance
        assert call(host, "hello", "restart").rc == 0
    assert serving(host, one) == ["hello.unix.socket"] and not unit(host, "hello.socket").exists()
    assert host.state_of("hello.socket") == "inactive"
    assert call(host, "hello", "status", "--json").json["problems"] == []


def test_a_release_that_started_before_its_socket_is_told_and_started_anew(host: FakeHost, one: str) -> None:
    """As `systemctl restart hello.unix.socket` by hand leaves it: systemd binds the path anew under a release."""
    wanted(host, PATH)
    call(host, "hello", "restart")
    site(host, UNIX)
    call(host, "hello", "restart")
    host.start_unit("hello.unix.socket", "restart")
    problems = call(host, "hello", "status", "--json").json["problems"]
    assert [problem for problem in problems if "started before its socket was opened" in problem], problems
    done = call(host, "hello", "activate", one, "--json")
    assert done.rc == 0 and done.json["changed"] and "restarted hello@" in done.json["msg"]
    assert call(host, "hello", "status", "--json").json["problems"] == []


def test_a_unix_socket_that_was_closed_by_hand_is_opened_under_a_release(host: FakeHost, one: str) -> None:
    wanted(host, PATH)
    call(host, "hello", "restart")
    site(host, UNIX)
    call(host, "hello", "restart")
    host.set_unit("hello.unix.socket", ActiveState="inactive")
    assert call(host, "hello", "activate", one).rc == 0
    assert host.state_of("hello.unix.socket") == "active"
    assert call(host, "hello", "status", "--json").json["problems"] == []


def test_a_removed_app_leaves_neither_socket(host: FakeHost, one: str) -> None:
    wanted(host, PATH)
    note(host)
    note(host, "/etc/systemd/system/hello.unix.socket")
    call(host, "hello", "restart")
    assert call(host, "hello", "remove").rc == 0
    for name in ("hello.socket", "hello.unix.socket"):
        assert host.state_of(name) == "inactive" and not unit(host, name).exists()

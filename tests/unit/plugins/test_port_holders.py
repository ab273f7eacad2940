"""Who listens on a port: asked of the kernel, here of this machine's own."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import port_holders
from ansible_collections.flaskfleet.web.plugins.module_utils.port_holders import (
    holders,
    listening,
    readable,
    socket_units,
    unit_of,
)


def nothing(_argv: object) -> str:
    return ""


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_the_process_that_listens_is_named(family: socket.AddressFamily) -> None:
    with socket.socket(family) as server:
        server.bind(("127.0.0.1" if family == socket.AF_INET else "::1", 0))
        server.listen()
        port = server.getsockname()[1]
        (found,) = holders([port], listening(), "", nothing)
        assert (found["port"], found["pid"], found["address"]) == (port, os.getpid(), server.getsockname()[0])
        assert found["process"] == Path("/proc/self/comm").read_text().strip()
    assert holders([port], listening(), "", nothing) == []


def test_who_only_connects_holds_nothing() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        with socket.create_connection(server.getsockname()) as client:
            assert holders([client.getsockname()[1]], listening(), "", nothing) == []


@pytest.mark.parametrize(
    ("kernel", "address"),
    [
        ("0100007F", "127.0.0.1"),
        ("00000000", "0.0.0.0"),
        ("0" * 32, "::"),
        ("0000000000000000FFFF00000100007F", "127.0.0.1"),
    ],
)
def test_an_address_is_read_as_the_kernel_writes_it(kernel: str, address: str) -> None:
    assert readable(kernel) == address


def test_a_socket_of_systemd_is_told_by_its_unit() -> None:
    shown = "Id=hello.socket\nListen=127.0.0.1:5000 (Stream)\n\nId=ssh.socket\nListen=[::]:22 (Stream)\n\n"
    shown += (
        "Id=dbus.socket\nListen=/run/dbus/system_bus_socket (Stream)\n\nId=u.socket\nListen=0.0.0.0:53 (Datagram)\n"
    )
    assert socket_units(shown) == {5000: "hello.socket", 22: "ssh.socket"}


@pytest.mark.parametrize(
    ("cgroup", "unit"),
    [
        ("0::/system.slice/apache2.service\n", "apache2.service"),
        ("0::/system.slice/system-hello.slice/hello@0123456789ab.service\n", "hello@0123456789ab.service"),
        ("0::/system.slice/docker-0123.scope\n", "docker-0123.scope"),
        ("0::/user.slice/user-0.slice/session-3.scope\n", "session-3.scope"),
        ("0::/\n", ""),
        ("", ""),
    ],
)
def test_a_process_belongs_to_a_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cgroup: str, unit: str) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_text(cgroup)
    monkeypatch.setattr(port_holders, "PROC", str(tmp_path))
    assert unit_of(7) == unit


def test_systemd_is_asked_again_only_for_a_port_that_nobody_has_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The app's own socket is in the answer that stands already."""
    table = "header\n" + "".join(f"0: 0100007F:{port:04X} 0:0 0A 0 0 0 0 0 {port}\n" for port in (5000, 22, 23))
    monkeypatch.setattr(port_holders, "owners", lambda inodes: dict.fromkeys(inodes, 1))
    asked: list[object] = []

    def ask(argv: object) -> str:
        asked.append(argv)
        return "Id=ssh.socket\nListen=0.0.0.0:22 (Stream)\n"

    shown = "Id=hello.socket\nListen=127.0.0.1:5000 (Stream)\n"
    assert [each["unit"] for each in holders([5000], [table], shown, ask)] == ["hello.socket"]
    assert asked == []
    assert [each["unit"] for each in holders([5000, 22], [table], shown, ask)] == ["hello.socket", "ssh.socket"]
    assert len(asked) == 1
    assert [each["unit"] for each in holders([23], [table], shown, ask)] == [""]

"""What a host is and has, as the tools of the host say it."""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.modules import host

Answer = dict[str, Any]
RunModule = Callable[..., Answer]
DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\nID=debian\n'
UBUNTU = "# made by hand\nPRETTY_NAME='Ubuntu 24.04.1 LTS'\nID=ubuntu\nID_LIKE=debian\n"
FEDORA = 'PRETTY_NAME="Fedora Linux 42"\nID=fedora\nID_LIKE="rhel centos"\n'
SHOWN = """\
Names=nginx.service
ActiveState=active
UnitFileState=enabled

Names=cron.service
ActiveState=active
UnitFileState=disabled

Names=dead.service
ActiveState=inactive
UnitFileState=enabled
"""


class Tools:
    """A host whose tools say what they are told to."""

    def __init__(self, root: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin, self.run_module = root / "bin", run_module
        self.bin.mkdir()
        (root / "os-release").write_text(DEBIAN)
        (root / "systemd").mkdir()
        monkeypatch.setattr(host, "OS_RELEASE", str(root / "os-release"))
        monkeypatch.setattr(host, "SYSTEMD", str(root / "systemd"))
        monkeypatch.setattr(
            host.AnsibleModule, "get_bin_path", lambda _self, name: str(self.bin / name) if self.has(name) else None
        )
        monkeypatch.setenv("PATH", f"{self.bin}:{os.environ['PATH']}")

    def has(self, name: str) -> bool:
        return (self.bin / name).exists()

    def says(self, name: str, out: str, code: int = 0) -> None:
        """Let a program print this and end with the code."""
        (self.bin / f"{name}.out").write_text(out)
        (self.bin / name).write_text(f"#!/bin/sh\ncat {self.bin}/{name}.out\nexit {code}\n")
        (self.bin / name).chmod(0o755)

    def ask(self, **arguments: Any) -> Answer:
        return self.run_module(host, arguments)


@pytest.fixture
def tools(tmp_path: Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> Tools:
    return Tools(tmp_path, run_module, monkeypatch)


@pytest.mark.parametrize(
    ("text", "name", "debian"),
    [
        (DEBIAN, "Debian GNU/Linux 12 (bookworm)", True),
        (UBUNTU, "Ubuntu 24.04.1 LTS", True),
        (FEDORA, "Fedora Linux 42", False),
        ("ID=alpine\n", "alpine", False),
        ("", "an unknown system", False),
    ],
)
def test_debian_and_what_is_made_from_it_are_told_from_others(
    tools: Tools, tmp_path: Path, text: str, name: str, debian: bool
) -> None:
    (tmp_path / "os-release").write_text(text)
    answer = tools.ask()
    assert (answer["distribution"], answer["debian"]) == (name, debian)


def test_a_host_without_systemd_is_no_failure_here(tools: Tools, tmp_path: Path) -> None:
    assert tools.ask()["systemd"] is True
    (tmp_path / "systemd").rmdir()
    assert tools.ask()["systemd"] is False


def test_a_package_that_is_only_half_there_is_missing(tools: Tools) -> None:
    # dpkg-query ends with 1 when it does not know one of them
    tools.says("dpkg-query", "nginx installed\npython3 half-configured\nold config-files\n", code=1)
    answer = tools.ask(packages=["nginx", "python3", "old", "unknown"])
    assert answer["missing_packages"] == ["python3", "old", "unknown"]


def test_a_service_is_to_be_started_unless_it_runs_and_starts_at_boot(tools: Tools) -> None:
    tools.says("systemctl", SHOWN)
    units = ["nginx.service", "cron.service", "dead.service", "unknown.service"]
    assert tools.ask(services=units)["services_to_start"] == units[1:]


def test_where_the_tools_are_missing_so_is_everything(tools: Tools) -> None:
    answer = tools.ask(packages=["nginx"], services=["nginx.service"])
    assert (answer["missing_packages"], answer["services_to_start"]) == (["nginx"], ["nginx.service"])


def test_a_user_is_told_with_home_and_shell_and_one_that_is_not_there_is_not(tools: Tools) -> None:
    me = pwd.getpwuid(0)
    users = tools.ask(users=[me.pw_name, "nobody-of-this-name"])["users"]
    assert users == {me.pw_name: {"home": me.pw_dir, "shell": me.pw_shell}}


def test_it_never_reports_a_change(tools: Tools) -> None:
    assert tools.ask()["changed"] is False

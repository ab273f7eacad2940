"""What a host is and has, as the tools of the host say it."""

from __future__ import annotations

import pwd
import re
import socket
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.action import host as action
from ansible_collections.flaskfleet.web.plugins.module_utils import host_facts, nginx_sandbox, site_answers
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_sandbox import Done
from ansible_collections.flaskfleet.web.plugins.modules import host

from tests.rendering import ROLE

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

    def __init__(self, root: Path, run_program: RunModule, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bin, self.run_program = root / "bin", run_program
        self.bin.mkdir()
        (root / "os-release").write_text(DEBIAN)
        (root / "systemd").mkdir()
        monkeypatch.setattr(host, "OS_RELEASE", str(root / "os-release"))
        monkeypatch.setattr(host, "SYSTEMD", str(root / "systemd"))
        monkeypatch.setenv("PATH", str(self.bin))
        monkeypatch.setattr(host, "ROOTS_PATH", "")

    def says(self, name: str, out: str, code: int = 0, to: str = "") -> None:
        """Let a program print this and end with the code."""
        (self.bin / f"{name}.out").write_text(out)
        (self.bin / name).write_text(f"#!/bin/sh\n/bin/cat {self.bin}/{name}.out {to}\nexit {code}\n")
        (self.bin / name).chmod(0o755)

    def ask(self, **arguments: Any) -> Answer:
        return self.run_program(host, arguments)


@pytest.fixture
def tools(tmp_path: Path, run_program: RunModule, monkeypatch: pytest.MonkeyPatch) -> Tools:
    return Tools(tmp_path, run_program, monkeypatch)


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


def test_of_a_service_it_is_told_whether_it_runs_and_whether_it_starts_at_boot(tools: Tools) -> None:
    tools.says("systemctl", SHOWN)
    units = ["nginx.service", "cron.service", "dead.service", "unknown.service"]
    assert {name: tuple(unit.values()) for name, unit in tools.ask(services=units)["services"].items()} == {
        "nginx.service": (True, True),
        "cron.service": (True, False),
        "dead.service": (False, True),
        "unknown.service": (False, False),
    }


def test_the_files_of_a_unit_are_read_as_systemctl_cat_prints_them(tmp_path: Path) -> None:
    unit, dropin = tmp_path / "nginx.service", tmp_path / "with space.conf"
    unit.write_text("[Service]\nA=1")
    dropin.write_text("[Service]\nB=2")
    shown = f"Id=a.socket\nNames=a.socket\nFragmentPath=/other\n\nNames=nginx.service\nFragmentPath={unit}\n"
    text = host_facts.cat(f"{shown}DropInPaths='{dropin}' /gone.conf\n", "nginx.service")
    assert text == f"# {unit}\n[Service]\nA=1\n# {dropin}\n[Service]\nB=2\n# /gone.conf\n\n"
    assert nginx_sandbox.next_start(text, "/x.conf", "[Service]\nC=3") == ["A=1", "B=2", "C=3"]
    assert host_facts.words("/a/it's.conf /b") == ["/a/it's.conf", "/b"]
    assert host_facts.cat(shown, "cron.service") == host_facts.cat("", "nginx.service") == ""


@pytest.mark.parametrize(
    ("said", "nginx", "openssl"),
    [
        ("nginx version: nginx/1.22.1\nbuilt with OpenSSL 3.0.8 7 Feb 2023\n", "1.22.1", "3.0.8"),
        ("nginx/1.18.0 (Ubuntu)\nbuilt with OpenSSL 3.0.2 (running with OpenSSL 3.0.17 1)\n", "1.18.0", "3.0.17"),
        ("", None, None),
    ],
)
def test_nginx_tells_its_version_and_that_of_the_library_it_runs_with(
    tools: Tools, said: str, nginx: str | None, openssl: str | None
) -> None:
    tools.says("nginx", said, to=">&2")
    answer = tools.ask()
    assert (answer["nginx"], answer["openssl"]) == (nginx, openssl)


@pytest.mark.parametrize(
    ("listed", "nginx", "have"),
    [
        ("nginx installed\n", True, {"nginx"}),
        ("nginx-extras installed\n", True, {"nginx-extras", "nginx"}),
        ("nginx not-installed\n", True, {"nginx"}),
        ("nginx half-configured\n", True, set()),
        ("nginx unpacked\n", True, set()),
        ("nginx config-files\n", False, set()),
        ("", False, set()),
        # what another package provides is there, and apt has nothing to install
        (
            "libjpeg62-turbo-dev installed libjpeg-dev, libjpeg62-dev (= 1:6b1)\nawk config-files mail\n",
            False,
            {"libjpeg62-turbo-dev", "libjpeg-dev", "libjpeg62-dev"},
        ),
        ("nginx-core installed nginx, httpd\n", False, {"nginx-core", "httpd"}),
    ],
)
def test_whatever_package_nginx_came_in_will_do(listed: str, nginx: bool, have: set[str]) -> None:
    assert host.installed(listed, nginx) == have


def test_nginx_without_its_unit_is_not_there(tools: Tools) -> None:
    tools.says("nginx", "nginx version: nginx/1.22.1\n", to=">&2")
    tools.says("dpkg-query", "dpkg-query: no packages found matching nginx\n", code=1)
    tools.says("systemctl", "Names=nginx.service\nLoadState=not-found\nActiveState=inactive\n")
    assert tools.ask(packages=["nginx"], services=["nginx.service"])["missing_packages"] == ["nginx"]
    tools.says("systemctl", "Names=nginx.service\nLoadState=loaded\nActiveState=active\n")
    assert tools.ask(packages=["nginx"], services=["nginx.service"])["missing_packages"] == []


SITE: dict[str, Any] = {
    "names": ["a.test"],
    "modules": {},
    "default_site": "/etc/nginx/sites-enabled/default",
    "shared": ["/etc/nginx/conf.d/flaskfleet.conf"],
    "catch_all": {"paths": [], "settings": "/nowhere", "listens": [], "ready": {}, "limits": {}},
    "paths": {
        "available": "/etc/nginx/sites-available/a.conf",
        "enabled": "/etc/nginx/sites-enabled/a.conf",
        "alone": "/etc/nginx/conf.d/a.conf",
    },
}
DEBIAN_NGINX = "# configuration file /etc/nginx/nginx.conf:\nhttp { include /etc/nginx/sites-enabled/*; }\n"
CONFIGURATION = "# configuration file /etc/nginx/nginx.conf:\nhttp { server { listen 8081; } }"


@pytest.mark.parametrize(
    ("built", "runs", "default", "asked"),
    [
        ("", False, False, {8080, 5000, 80}),  # the default site will come with nginx
        ("", False, True, {8080, 5000}),
        ("nginx/1.22.1", False, False, {8080, 5000, 8081}),
        ("nginx/1.22.1", True, False, {8080, 5000}),
    ],
)
def test_asked_is_who_has_each_port_that_nginx_is_going_to_need(
    built: str, runs: bool, default: bool, asked: set[int]
) -> None:
    seen: list[set[int]] = []

    def holders(ports: Collection[int]) -> list[Answer]:
        seen.append(set(ports))
        return []

    nginx = site_answers.Nginx(built, Done(0, CONFIGURATION if built else "", ""), "", runs)
    site, _held = site_answers.site_and_ports({**SITE, "ports": [8080], "default": default}, 5000, nginx, holders)
    assert seen == [asked]
    assert site["read"] == "/etc/nginx/sites-enabled/a.conf"


def test_what_nginx_says_of_a_name_is_a_warning(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    line = 'conflicting server name "a.test" on 0.0.0.0:80, ignored'
    monkeypatch.setattr(host, "configuration", lambda built: Done(0, CONFIGURATION, f"nginx: [warn] {line}\n"))
    answer = tools.ask(nginx_site={**SITE, "ports": [80], "default": False})
    assert answer["warnings"] == [f"nginx says: {line}. Another site has the name too."]


def test_where_the_tools_are_missing_so_is_everything(tools: Tools) -> None:
    answer = tools.ask(packages=["nginx"], services=["nginx.service"])
    assert answer["missing_packages"] == ["nginx"] and answer["nginx"] is None
    assert answer["services"] == {"nginx.service": {"active": False, "enabled": False}}


def test_the_ports_are_those_on_which_something_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            found = host.ports(Path("/proc/net/tcp").read_text())
            assert port in found and client.getsockname()[1] not in found


def test_a_user_is_told_with_home_and_shell_and_one_that_is_not_there_is_not(tools: Tools) -> None:
    me = pwd.getpwuid(0)
    users = tools.ask(users=[me.pw_name, "nobody-of-this-name"])["users"]
    assert users == {me.pw_name: {"home": me.pw_dir, "shell": me.pw_shell}}


def test_it_never_reports_a_change(tools: Tools) -> None:
    assert tools.ask()["changed"] is False


def test_the_release_that_serves_is_told(tools: Tools, tmp_path: Path) -> None:
    link = tmp_path / "current"
    assert tools.ask(current=str(link))["current"] is None
    link.symlink_to("releases/4f0c1d2e3a4b")
    assert tools.ask(current=str(link))["current"] is None, "it leads nowhere"
    (tmp_path / "releases/4f0c1d2e3a4b").mkdir(parents=True)
    assert tools.ask(current=str(link))["current"] == "4f0c1d2e3a4b"
    assert tools.ask()["current"] is None


def test_the_filters_of_the_role_are_imported_before_ansible_forks() -> None:
    """By the action: else each process imports them anew, one for each task of each host."""
    texts = [path.read_text() for part in ("vars", "templates", "tasks") for path in (ROLE / part).iterdir()]
    used = set(re.findall(r"\| *flaskfleet\.web\.(\w+)", "".join(texts)))
    modules = [value for value in vars(action).values() if hasattr(value, "FilterModule")]
    given = {name for module in modules for name in module.FilterModule().filters()}
    assert used - given == {"status_page"}, "which makes one page for the whole fleet"
    idle = [module.__name__ for module in modules if not used & set(module.FilterModule().filters())]
    assert idle == []


def test_where_no_program_may_run_is_told_by_its_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host.noexec(f"{tmp_path}/srv/a/current") == ""

    class Shut:
        f_flag = host.os.ST_NOEXEC

    monkeypatch.setattr(host.os, "statvfs", lambda path: Shut)
    monkeypatch.setattr(host.os.path, "ismount", lambda path: path in (str(tmp_path), "/"))
    assert host.noexec(f"{tmp_path}/srv/a/current") == str(tmp_path)


def test_a_default_site_of_somebody_does_not_go_aside(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many write their site into the distribution's file: by its name it was set aside, and nothing was said."""
    theirs = "/etc/nginx/sites-enabled/default"
    nginx = (
        DEBIAN_NGINX
        + f"# configuration file {theirs}:\nserver {{ listen 80 default_server; server_name shop.test; }}\n"
    )
    monkeypatch.setattr(host, "configuration", lambda built: Done(0, nginx, ""))
    asked = {**SITE, "ports": [80], "default": True, "default_site": theirs}
    for own, aside in ((True, theirs), (False, "")):
        monkeypatch.setattr(site_answers, "is_own", lambda path, ask, own=own: own)
        site = tools.ask(nginx_site=asked)["nginx_site"]
        assert site["aside"] == aside and bool(site["clashes"]) is not own


def test_an_nginx_that_reads_other_files_is_a_problem(tools: Tools, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        host, "cat", lambda shown, name: "[Service]\nExecStart=/usr/sbin/nginx -c /opt/web/nginx.conf\n"
    )
    (said,) = tools.ask(nginx_site={**SITE, "ports": [80], "default": False})["nginx_site"]["problems"]
    assert "/opt/web/nginx.conf" in said

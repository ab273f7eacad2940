"""Five hosts over SSH, a load balancer before them, and users of that load balancer from the first test to the last."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.load.client import Load
from tests.load.fixtures import place, workshop
from tests.load.fleet import (
    Host,
    Played,
    Row,
    Workshop,
    begun,
    hosts_of_inventory,
    on_all,
    play,
)

__all__ = ["place", "workshop"]

PREFIX = "flask_gunicorn_nginx_"
PASSWORD = "correct horse"  # of molecule/fleet/prepare.yml
BALANCER_PORT = 8080
# Long answers are among them, but none that begins before it is complete: what a host has begun to send when it dies,
# no load balancer can have sent again.
USERS = "get=3,get-new=2,post=2,static=1,post-idle=2,upload-paused=1,get-slow=2,post-slow=1"
BALANCER = """\
upstream fleet {{
    zone fleet 64k;
{servers}
    keepalive 16;
}}
server {{
    listen {port};
    location / {{
        proxy_pass http://fleet;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_connect_timeout 2s;
        proxy_next_upstream error timeout http_500 http_502 http_503 http_504 non_idempotent;
    }}
}}
"""


@dataclasses.dataclass
class Fleet:
    """The hosts, and what is rolled out to them."""

    hosts: list[Host]
    workshop: Workshop
    place: Path
    variables: dict[str, Any]
    version: str = ""
    before: tuple[str, str] = ("", "")
    made: int = 0
    load: Load | None = None
    rows: list[Row] = dataclasses.field(default_factory=list)
    first: str = ""  # what the first release said, on hosts that had nothing

    def new(self, append: str = "") -> str:
        """Make a version of the app, with more code at its end; it is what is rolled out from now on."""
        self.before = (self.version, self.variables.get(f"{PREFIX}source", ""))
        self.made += 1
        self.version = f"v{self.made}"
        self.variables[f"{PREFIX}source"] = str(self.workshop.source(self.version, append=append, stylesheet=False))
        return self.version

    def back(self) -> None:
        """Roll out from now on what was rolled out before the last new version."""
        self.version, self.variables[f"{PREFIX}source"] = self.before

    def play(self, playbook: str = "site.yml", *options: str, **variables: Any) -> Played:
        """Run a playbook as somebody would; variables without the prefix of the role."""
        extra = {**self.variables, **{PREFIX + name: value for name, value in variables.items()}}
        return play(extra, self.place, playbook, options)

    def read(self, *options: str, **variables: Any) -> Played:
        """Run site.yml with the output that a person reads."""
        extra = {**self.variables, **{PREFIX + name: value for name, value in variables.items()}}
        return play(extra, self.place, "site.yml", options, "flaskfleet.web.rollout")

    def done(self, playbook: str = "site.yml", *options: str, **variables: Any) -> Played:
        """Run a playbook that has to end well."""
        played = self.play(playbook, *options, **variables)
        assert played.rc == 0, played.out
        assert f"(pid {played.pid}) rolls out" not in played.out, f"it warns of itself:\n{played.out}"
        return played

    def begun(self, **variables: Any) -> contextlib.AbstractContextManager[subprocess.Popen[str]]:
        """Have site.yml run beside the test."""
        return begun({**self.variables, **{PREFIX + name: value for name, value in variables.items()}}, self.place)

    def hook(self, text: str) -> str:
        """Write a file of tasks; its path."""
        path = self.place / f"hook-{time.monotonic_ns()}.yml"
        path.write_text(text)
        return str(path)

    def current(self, hosts: Sequence[Host] = ()) -> list[str]:
        return on_all(hosts or self.hosts, lambda host: host.run("basename $(readlink /srv/hello/current)"))

    def versions(self, hosts: Sequence[Host] = ()) -> list[str]:
        return on_all(hosts or self.hosts, lambda host: host.version())

    def leases(self) -> list[Any]:
        return [lease for lease in on_all(self.hosts, lambda host: host.status()["lease"]) if lease]

    def start(self, host: Host) -> None:
        """Switch a host on again, and wait until it serves and can be reached."""
        subprocess.run(["docker", "start", host.name], check=True, capture_output=True, timeout=60)
        deadline = time.monotonic() + 60
        while "ok" not in host.run("systemctl is-active ssh hello.socket nginx >/dev/null && echo ok", check=False):
            assert time.monotonic() < deadline, host.run("systemctl --failed", check=False)
            time.sleep(0.5)
        write_inventory(self.hosts, self.place)

    @contextlib.contextmanager
    def switched_on_again(self, host: Host) -> Iterator[None]:
        """Do for a container what a machine's firmware does when it reboots: start it when it has gone down."""
        with subprocess.Popen(["docker", "wait", host.name], stdout=subprocess.DEVNULL) as down:

            def start() -> None:
                if down.wait() == 0:
                    self.start(host)

            starter = threading.Thread(target=start)
            starter.start()
            try:
                yield
            finally:
                down.kill()
                starter.join()


def write_inventory(hosts: Sequence[Host], place: Path) -> None:
    """Say how the hosts are reached; a container that was started again may have another address."""
    directory = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"])
    known = place / "known_hosts"
    keys = on_all(hosts, lambda host: host.run("cat /etc/ssh/ssh_host_ed25519_key.pub"))
    known.write_text("".join(f"{h.name} {' '.join(k.split()[:2])}\n" for h, k in zip(hosts, keys, strict=True)))
    options = f"-o UserKnownHostsFile={known} -o GlobalKnownHostsFile=/dev/null -o ConnectTimeout=5"
    ca = Path(os.environ.get("SSL_CERT_FILE") or "/etc/ssl/certs/ca-certificates.crt").is_file()
    group = {
        "ansible_user": "deploy",
        "ansible_become_password": PASSWORD,
        "ansible_ssh_private_key_file": str(directory / "key"),
        f"{PREFIX}name": "hello",
        f"{PREFIX}default_server": True,
        f"{PREFIX}health_path": "/healthz",
        f"{PREFIX}pip": {"ca_bundle": "/etc/ssl/control-node.crt"} if ca else {},
        f"{PREFIX}batches": [1, 2, "100%"],
        f"{PREFIX}rollout": {"bake": {"seconds": 5, "min_requests": 5}},
        f"{PREFIX}service_settings": {"TimeoutStartSec": 60},
    }
    each = {
        host.name: {"ansible_host": host.address, "ansible_ssh_common_args": f"{options} -o HostKeyAlias={host.name}"}
        for host in hosts
    }
    with_sudo_rs = [host.name for host in hosts if host.run("command -v sudo-rs || true").strip()]
    assert with_sudo_rs or "HOST_4" in os.environ, "the scenario's own choice of hosts has one with sudo-rs"
    for name in with_sudo_rs:
        each[name]["ansible_become_exe"] = "sudo-rs"
    path = place / "hosts.json"
    path.write_text(json.dumps({"flask_app": {"hosts": each, "vars": group}}, indent=1))
    os.environ["MOLECULE_INVENTORY_FILE"] = str(path)


@pytest.fixture(scope="session")
def fleet(workshop: Workshop, place: Path) -> Iterator[Fleet]:
    """The fleet with its first release, and users at the load balancer."""
    hosts = hosts_of_inventory()
    write_inventory(hosts, place)
    fleet = Fleet(hosts, workshop, place, {})
    fleet.new()
    fleet.first = fleet.done("site.yml", "--diff").out
    put_balancer(hosts)
    FLEETS.append(fleet)
    fleet.load = Load(hosts[-1].address, "--port", str(BALANCER_PORT), "--rate", "30", "--users", USERS).start()
    try:
        yield fleet
    finally:
        fleet.load.stop()


def put_balancer(hosts: Sequence[Host]) -> None:
    """Run the load balancer on the last host, before all others."""
    servers = "\n".join(f"    server {host.address}:80 max_fails=5 fail_timeout=2s;" for host in hosts[:-1])
    text = BALANCER.format(servers=servers, port=BALANCER_PORT)
    hosts[-1].put("/etc/nginx/conf.d/balancer.conf", text.encode())
    hosts[-1].run("nginx -t && systemctl reload nginx")


FLEETS: list[Fleet] = []


@pytest.fixture(autouse=True)
def nobody_noticed(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[None]:
    """After each test: not one request failed while it ran, and no host is left with a lease."""
    load = fleet.load
    assert load
    began, before = time.monotonic(), load.report()
    yield
    now = load.report()
    name = request.node.name.removeprefix("test_").replace("_", " ")
    failed = now.failed - before.failed
    row = Row(name, "balancer", time.monotonic() - began, now.requests - before.requests, failed, now.recent)
    fleet.rows.append(row)
    if not request.node.get_closest_marker("users_see_it"):
        assert not failed, "\n".join(now.failures[len(before.failures) :])


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "users_see_it: what the test does is meant for users to see")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for fleet in FLEETS:
        terminalreporter.write_sep("=", "what the users of the load balancer met")
        terminalreporter.write_line(f"{'seconds':>8} {'requests':>9} {'failed':>7} {'slowest':>8}  what was done")
        for row in fleet.rows:
            terminalreporter.write_line(
                f"{row.seconds:8.1f} {row.requests:9} {row.failed:7} {row.slowest:8.3f}  {row.what}"
            )


def lines_of_table(said: str) -> dict[str, str]:
    """The report of a rollout: the result by host."""
    release = r"\s+(?:[0-9a-f]{12}|-)"
    found = re.findall(rf"^\s*(?:- )?(fleet-\S+){release}{release}\s+(\S+(?: \S+)*?)\s+(?:[\d.]+|-)$", said, re.M)
    return dict(found)

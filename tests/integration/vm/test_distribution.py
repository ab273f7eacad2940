"""What a distribution, and Ubuntu most of all, has at work on a server beside the app; each on this Debian, by name."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.vm.conftest import PREFIX, Bench, Server

APT = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120"
HOLD_THE_LOCK = r"""
import fcntl, time
file = open("/var/lib/dpkg/lock-frontend", "a")
fcntl.lockf(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(25)
"""
NFTABLES = """
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state established,related accept
        tcp dport 22 accept
    }
}
"""


def installed(server: Server, *packages: str) -> None:
    server.run(f"{APT} update && {APT} install -y --no-install-recommends {' '.join(packages)} </dev/null", timeout=600)


def reached(server: Server) -> bool:
    """Whether somebody elsewhere is answered: the load client comes in by the machine's network."""
    try:
        with socket.create_connection(("127.0.0.1", server.machine.http_port), 3) as client:
            client.settimeout(4)
            client.sendall(b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n")
            return client.recv(12).startswith(b"HTTP/")
    except OSError:
        return False


def test_the_user_of_a_cloud_releases(server: Server) -> None:
    """Made by cloud-init: with a key, without a password, with sudo that asks for none."""
    assert server.run("cloud-init status").splitlines()[0] == "status: done"
    assert server.run("passwd -S debian").split()[1] == "L"
    assert "NOPASSWD" in server.run("cat /etc/sudoers.d/90-cloud-init-users")
    assert server.run("echo $SUDO_USER") == "debian"
    assert '"event": "activate"' in server.run("cat /var/log/flaskctl/hello.jsonl")


def test_names_are_asked_of_the_stub_of_systemd_resolved(bench: Bench) -> None:
    """By the app in its sandbox, where it may connect anywhere, and where a list says where."""
    server = bench.server
    assert server.run("awk '/^nameserver/ {print $2}' /etc/resolv.conf") == "127.0.0.53"
    source = server.run("cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null", check=False)
    name = source.split("://", 1)[1].split("/", 1)[0]
    script = f'import json, socket; print(json.dumps(socket.getaddrinfo("{name}", 80)[0][4][0]))'

    def resolved() -> Any:
        return json.loads(server.run(f"flaskctl hello run -- python -c '{script}'").splitlines()[-1])

    assert resolved()
    bench.variables[f"{PREFIX}outbound"] = ["192.0.2.0/24"]
    bench.source()
    bench.done()
    try:
        assert resolved()
    finally:
        del bench.variables[f"{PREFIX}outbound"]
        bench.done("playbooks/rollback.yml")


def test_unattended_upgrades_hold_the_lock_of_apt(bench: Bench) -> None:
    """A run that needs a package waits until they have ended; no user waits meanwhile."""
    server = bench.server
    installed(server, "unattended-upgrades")
    server.put("/run/hold.py", HOLD_THE_LOCK.encode())
    server.run("systemd-run --quiet --unit=at-work python3 /run/hold.py; sleep 1")
    with bench.users("a run while the lock of apt is held"):
        began = time.monotonic()
        bench.done(packages=["tree"])
        assert time.monotonic() - began > 15, "it has waited"
    assert server.run("dpkg-query -W -f '${db:Status-Status}' tree") == "installed"
    with bench.users("unattended-upgrade at work"):
        server.run("unattended-upgrade --verbose", timeout=600)
    assert server.status()["problems"] == []


def test_needrestart_leaves_the_app_to_flaskctl_and_nginx_to_itself(bench: Bench) -> None:
    """A library of all processes is another one: needrestart restarts what it finds, and no request fails.

    nginx closes connections on which nothing is asked, as in any reload of it: a browser opens others.
    """
    server = bench.server
    installed(server, "needrestart")
    bench.done()  # who comes after the role is told by the next run
    pid, nginx = server.shown(server.unit, "MainPID"), server.shown("nginx.service", "MainPID")
    server.run("systemd-run --quiet --unit=old-library sleep 3600; sleep 1")
    other = server.shown("old-library.service", "MainPID")
    library = server.run("ldconfig -p | awk '/libc.so.6 / {print $NF; exit}'")
    server.run(f"cp -a $(readlink -f {library}) /run/libc.new && mv /run/libc.new $(readlink -f {library})")
    with bench.users("needrestart restarts what has an old library", "--rate", "40", "--renew"):
        said = server.run("NEEDRESTART_MODE=a DEBIAN_FRONTEND=noninteractive needrestart -r a </dev/null", timeout=300)
        time.sleep(3)
    assert server.shown(server.unit, "MainPID") == pid, said
    assert server.shown("nginx.service", "MainPID") != nginx, said
    assert server.shown("old-library.service", "MainPID") != other, said
    assert "restart" in str(server.status()["problems"]), "status tells that its library is another"
    with bench.users("flaskctl restarts it"):
        assert server.flaskctl("restart").rc == 0
    assert server.status()["problems"] == []
    server.run("systemctl stop old-library", check=False)


def test_sudo_rs_takes_the_place_of_sudo(bench: Bench) -> None:
    server = bench.server
    if server.run("apt-cache policy sudo-rs | grep -q Candidate: && echo has", check=False) != "has":
        pytest.skip("this Debian has no package sudo-rs: Debian 13 has (VM=debian13 make vm)")
    installed(server, "sudo-rs")
    bench.done("site.yml", "-e", "ansible_become_exe=sudo-rs")
    version = bench.source()
    with bench.users("a release with sudo-rs"):
        bench.done("site.yml", "-e", "ansible_become_exe=sudo-rs")
    assert server.version() == version


@pytest.fixture
def ufw(server: Server) -> Iterator[None]:
    installed(server, "ufw")
    server.run("ufw allow 22/tcp && ufw --force enable")
    try:
        yield
    finally:
        server.run("ufw --force reset && ufw --force disable")


@pytest.mark.usefixtures("ufw")
def test_ufw_is_opened_only_where_somebody_says_so(bench: Bench) -> None:
    server = bench.server
    assert not reached(server), "the firewall is at work"
    bench.source()
    said = bench.done().out
    assert "ufw lets nobody in at port 80" in said and "ufw allow 80/tcp" in said
    assert "80/tcp" not in server.run("ufw status") and not reached(server)
    assert "ufw lets nobody in" in server.run("flaskctl hello verify 2>&1")
    bench.done(open_firewall=True)
    assert "80/tcp" in server.run("ufw status") and reached(server)
    assert "443" not in server.run("ufw status"), "there is no TLS here"
    assert "changed=0" in bench.done(open_firewall=True).out
    assert "ufw lets nobody in" not in server.run("flaskctl hello verify 2>&1")
    with bench.users("a release behind ufw"):
        bench.source()
        bench.done(open_firewall=True)


def test_nftables_is_named_with_its_chain(bench: Bench) -> None:
    server = bench.server
    installed(server, "nftables")
    server.put("/run/filter.nft", NFTABLES.encode())
    server.run("nft -f /run/filter.nft")
    try:
        assert not reached(server)
        said = server.run("flaskctl hello verify 2>&1")
        assert "nftables lets nobody in at port 80 (chain inet filter input)" in said
        remedy = said.split("reaches this app: ", 1)[1].split(", and the same", 1)[0]
        server.run(remedy)
        assert reached(server) and "nftables lets" not in server.run("flaskctl hello verify 2>&1")
    finally:
        server.run("nft delete table inet filter")


def test_an_address_of_ipv6_alone(bench: Bench) -> None:
    """The one at which others reach the host; the IPv4 one, by which the tests come, is of its link alone."""
    server = bench.server
    link = server.run("ip route show default | awk '{print $5; exit}'")
    address = server.run(f"ip -4 -o address show dev {link} | awk '{{print $4; exit}}'")
    server.run("ip link add six type dummy && ip link set six up && ip address add 2001:db8::10/64 dev six nodad")
    # the scope of an address that is there cannot be changed
    server.run(f"ip address del {address} dev {link}; ip address add {address} dev {link} scope link")
    try:
        version = bench.source()
        bench.done()
        ask = 'import urllib.request as r; print(r.urlopen("http://[2001:db8::10]/").headers["X-Version"])'
        assert server.run(f"python3 -c '{ask}'") == version
        server.run("mv /etc/nginx/sites-enabled/hello.conf /run/ && nginx -s reload && sleep 1")
        assert "2001:db8::10" in server.run("flaskctl hello verify 2>&1", check=False)
    finally:
        server.run(
            "test -e /run/hello.conf && mv /run/hello.conf /etc/nginx/sites-enabled/; nginx -s reload", check=False
        )
        server.run(f"ip link del six; ip address del {address} dev {link}; networkctl reconfigure {link}", check=False)

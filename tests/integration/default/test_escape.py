"""What somebody gets at who has broken into the app: each attempt, and what is left. docs/security.md tells it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from flaskctl.units import run_argv

from tests.integration.asking import Site
from tests.rendering import REPOSITORY, render

ESCAPE = Path(__file__).with_name("escape.py").read_text()
SCRIPT = "/var/lib/hello/escape.py"
# what nothing stops, with `outbound` as it is by default; what belongs to the app's user is the app's
OPEN = {
    "connect to a port of this host",
    "listen on a port that the kernel chooses",
    "listen where only this host hears it",
    "end another release of its own",
}
# what an older systemd does not know: NoExecPaths in 247, SocketBindDeny in what was built without BPF
RUNS = {
    *(f"run a program from {place}" for place in ("/var/lib/hello", "/tmp", "/var/tmp", "/dev/shm")),
    *(f"run a program from {place} by the loader" for place in ("/var/lib/hello", "/tmp", "/var/tmp", "/dev/shm")),
    "load a library from its own data",
    "have a namespace by clone3",
}
# sent as one of the app's workers would: by a process in the control group of its unit
SPOOF = """
import os, pwd, socket, sys
with open("/sys/fs/cgroup" + sys.argv[1] + "/cgroup.procs", "w") as file:
    file.write(str(os.getpid()))
os.setuid(pwd.getpwnam("hello").pw_uid)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
    notify.sendto(b"STATUS=spoofed\\nMAINPID=%d\\nSTOPPING=1" % os.getpid(), "/run/systemd/notify")
    import time; time.sleep(0.3)
"""


class Host:
    """What a host's systemd is, and the processes that an attacker would like to end."""

    def __init__(self, site: Site) -> None:
        said = site.root("systemctl --version").splitlines()
        self.systemd, self.binds = int(said[0].split()[1]), "+BPF_FRAMEWORK" not in said[-1]
        self.unit = f"hello@{site.current}.service"
        shown = site.root(f"systemctl show -p MainPID --value nginx {self.unit}")
        self.pids = shown.split()

    def open(self) -> set[str]:
        return OPEN | (RUNS if self.systemd < 248 else set()) | ({"listen on a port"} if self.binds else set())


@pytest.fixture(scope="module")
def computer(site: Site) -> Iterator[Host]:
    """The host, with /tmp and /dev/shm as a machine has them: programs may run from there."""
    remount = "for place in /tmp /dev/shm; do mount -o remount,{} $place; done"
    site.root(remount.format("exec"))
    yield Host(site)
    site.root(remount.format("noexec"))


@pytest.fixture(scope="module")
def attempts(site: Site, computer: Host) -> dict[str, str]:
    """What stopped each attempt in the sandbox of the release that serves; nothing where nothing did."""
    site.root(f"printf %s {shlex.quote(ESCAPE)} > {SCRIPT}")
    try:
        found: dict[str, str] = json.loads(
            site.flaskctl("run", "--", "python", SCRIPT, *computer.pids)["stdout"].splitlines()[-1]
        )
        return found
    finally:
        site.root(f"rm {SCRIPT}")


def test_what_is_tried_is_stopped_but_for_what_the_documentation_says(attempts: dict[str, str], computer: Host) -> None:
    assert len(attempts) > 100
    assert {name for name, stopped in attempts.items() if not stopped} == computer.open()


def test_the_documentation_says_what_is_left(attempts: dict[str, str]) -> None:
    page = " ".join((REPOSITORY / "docs/security.md").read_text().split())
    for name in OPEN | {"run a program from /var/lib/hello", "have a namespace by clone3", "listen on a port"}:
        assert name in page, name


def test_a_sealed_app_reaches_no_port_and_is_reached_at_none(site: Site, computer: Host) -> None:
    unit, text = computer.unit, render("app@.service", {"outbound": "none"})
    release = site.current
    command = [f"/srv/hello/releases/{release}/venv/bin/python", SCRIPT, *computer.pids]
    site.root(f"printf %s {shlex.quote(ESCAPE)} > {SCRIPT}")
    argv = run_argv(unit, [text], computer.systemd, command, "hello-run-sealed", tty=False)
    sealed = json.loads(site.root(f"{shlex.join(argv)}; rm {SCRIPT}").splitlines()[-1])
    left = {name for name, stopped in sealed.items() if not stopped}
    assert left == computer.open() - {
        *("connect to a port of this host", "listen on a port", "listen on a port that the kernel chooses"),
    }


def test_no_process_but_the_master_tells_systemd_how_the_release_is(site: Site, computer: Host) -> None:
    group, pid = site.root(f"systemctl show -p ControlGroup -p MainPID --value {computer.unit}").split()[::-1]
    group, pid = (group, pid) if group.startswith("/") else (pid, group)
    site.python(SPOOF, group)
    shown = site.root(f"systemctl show -p MainPID -p StatusText -p ActiveState {computer.unit}")
    assert f"MainPID={pid}" in shown and "ActiveState=active" in shown and "spoofed" not in shown


def test_a_flood_of_lines_does_not_fill_the_journal(site: Site) -> None:
    """journald takes some 10,000 lines in 30 s of a service, more where the disk is large, and drops the rest."""
    flood = "import sys\nfor n in range(80000): sys.stdout.write('flooded\\n')"
    argv = shlex.join(
        ["systemd-run", "--quiet", "--wait", "--collect", "--unit=hello-run-flood", "python3", "-c", flood]
    )
    site.root(f"{argv}; journalctl --sync")
    kept = int(site.root("journalctl -q -o cat -u hello-run-flood --since=-2min | grep -c flooded"))
    assert kept < 60000


@pytest.mark.parametrize(("outbound", "most"), [("any", 1.1), (["10.0.0.5"], 1.0), (["127.0.0.1"], 0.9), ("none", 0.2)])
def test_what_may_be_reached_has_its_exposure(site: Site, computer: Host, outbound: object, most: float) -> None:
    if computer.systemd not in (252, 257):
        pytest.skip("the bounds are those of Debian 12 and 13: another systemd knows other directives")
    text = render("app@.service", {"outbound": outbound}).replace("%i", "0")
    analyze = "systemd-analyze security --no-pager --offline=true /run/exposed.service"
    said = site.root(f"printf %s {shlex.quote(text)} > /run/exposed.service; {analyze}; rm /run/exposed.service")
    assert exposure(said) <= most, said


def exposure(said: str) -> float:
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found, said
    return float(found[1])

"""The power goes in the middle of things, on a disk of its own: the old or the new serves, and the next run heals.

qemu is killed: what the kernel had not written is lost, as it is when a plug is pulled. What a disk does with what it
has taken but not yet kept is not simulated.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.integration.vm.conftest import PREFIX, Bench, Server
from tests.load.fleet import ARCHIVES, NAME, REPOSITORY, begun
from tools import vm

ALLOW = "/run/flaskctl/allow-fault-injection"
# until flaskctl hangs where it was told to: its process sleeps, and runs no more (230 is clock_nanosleep)
UNTIL_IT_HANGS = r"""
import glob, time
def hanging():
    for path in glob.glob("/proc/[0-9]*"):
        try:
            told = b"FLASKCTL_HANG_AT=" in open(path + "/environ", "rb").read()
            if told and open(path + "/syscall").read().startswith("230 "):
                yield path, open(path + "/schedstat").read()
        except OSError:
            pass
end, seen = time.monotonic() + 120, set()
while time.monotonic() < end:
    found = set(hanging())
    if found & seen:
        break
    seen = found
    time.sleep(0.7)
else:
    raise SystemExit("it does not hang")
"""
# at the very moment when the site that nginx reads is another one, the machine is reset without a last write
RESET_AT_THE_SITE = r"""
import os
site = os.path.realpath("/etc/nginx/sites-enabled/hello.conf")
before = os.stat(site).st_ino
while os.stat(site).st_ino == before:
    pass
open("/proc/sysrq-trigger", "w").write("b")
"""


def hang(server: Server, step: str, *words: str) -> None:
    """Have flaskctl come to a step, and take the power away there."""
    server.run(f"mkdir -p -m 700 /run/flaskctl; touch {ALLOW}")
    argv = server.argv("flaskctl", NAME, *words, environment={"FLASKCTL_HANG_AT": step})
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as hanging:
        server.run(f"python3 -c '{UNTIL_IT_HANGS}'")
        assert hanging.poll() is None
        vm.cut(server.name)
        hanging.wait()
    vm.up(server.name)


def healed(bench: Bench, version: str) -> None:
    """Assert that the next run ends where an undisturbed one does, and that there is nothing left for a second."""
    server = bench.server
    bench.done()
    assert server.version() == version
    status = server.status()
    assert status["problems"] == [] and status["interrupted"] is None, status
    assert status["active"] == [status["current"]]
    assert "changed=0" in bench.done().out
    assert server.run("find /srv/hello /etc/nginx /etc/systemd/system -name '*flaskfleet-new*'") == ""
    server.run(f"for r in /srv/{NAME}/releases/*; do test -s $r/manifest.json -a -s $r/config.json || exit 1; done")


@pytest.mark.parametrize(
    ("step", "command"),
    [
        ("unpack", "stage"),
        ("dependencies", "stage"),
        ("current", "activate"),
        ("previous", "activate"),
        ("prune-release", "prune"),
    ],
)
def test_the_power_goes_at(step: str, command: str, bench: Bench) -> None:
    server = bench.server
    before = server.version()
    lock = (REPOSITORY / "tests/load/app/requirements.txt").read_text()
    version, archive = bench.archive({"requirements.txt": f"# at {step}\n{lock}"} if step == "dependencies" else None)
    if command == "stage":
        what = [f"{ARCHIVES}/{archive.name}"]
        server.put(what[0], archive.read_bytes())
    elif command == "activate":
        what = [str(server.stage(archive).data["id"])]
    else:
        what = ["--keep", "1"]
        for _ in range(2):
            version, archive = bench.archive()
            answer = server.release(archive)
            assert answer.rc == 0, answer.story
        before = version
    hang(server, step, command, *what)
    answered = server.serves()
    assert answered in ((before, version) if command == "activate" else (before,)), "old or new, never neither"
    assert server.run(f"systemctl is-active {NAME}.socket nginx") == "active\nactive"
    assert server.run("systemctl is-system-running") == "running"
    healed(bench, version)


def test_the_power_goes_while_the_site_is_written(bench: Bench, place: Path) -> None:
    server = bench.server
    version, boot = server.version(), server.boot
    bench.variables[f"{PREFIX}server_settings"] = {"client_max_body_size": "7m"}
    watch = server.argv("python3", "-c", RESET_AT_THE_SITE)
    with subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.STDOUT), begun(bench.variables, place):
        assert server.eventually(lambda: server.boot != boot, 240), "the site was not written"
    assert server.serves() == version
    server.run("nginx -t")
    healed(bench, version)
    assert "client_max_body_size 7m" in server.run("nginx -T")

"""The fake host refuses what a host would; and what flaskctl leaves behind where nobody looks at once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.flaskctl import strict
from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl, note
from tests.unit.flaskctl.given import archive, config

Stage = Callable[..., str]
ONE = "hello@0123456789ab.service"


@pytest.mark.parametrize(
    "line",
    [
        f"systemctl reset-faild {ONE}",
        "systemctl disabel hello.socket",
        f"systemctl stop --noblock {ONE}",
        f"systemctl stop --no-block hello@012.service {ONE}",
        "systemctl show --property=Id,ActivState -- hello.socket",
        "systemctl start hello@*.service",
        "systemctl stop",
        "systemctl daemon-reload hello.socket",
        "journalctl --sinc=@1.000000",
        "journalctl --no-pager -q -o katze -u hello.socket",
        f"systemd-run --quiet --unit={ONE} --property=Usr=hello -- true",
        f"systemd-run --quiet --unit={ONE} --expand-environment=no -- true",
        f"systemd-run --quiet --unit={ONE} --",
        "systemd-run --quiet --unit=../../x --",
        "/v/bin/python -m pip check",
        "/v/bin/python -I -m pip instal x",
        "/v/bin/python -I -m compileall -q -s /a -x /b /a/app",
        "useradd hello",
    ],
)
def test_nobody_agrees_to_anything(tmp_path: Path, line: str) -> None:
    with pytest.raises(strict.Refused):
        FakeHost(tmp_path).run(line.split())


def test_only_what_was_asked_for_is_shown(host: FakeHost) -> None:
    said = host.run(["systemctl", "show", "--property=Id,MainPID", "--", "hello.socket"]).out
    assert said == "Id=hello.socket\nMainPID=0\n"


def test_a_release_has_byte_code_that_names_its_place(host: FakeHost, stage: Stage) -> None:
    home = base(host) / "releases" / stage("v1")
    made = home / "app/__pycache__/app.cpython-311.pyc"
    assert made.read_text() == str(home / "app/app.py")
    (home / "app/app.py").write_text("edited")
    made.unlink()
    call(host, "hello", "activate", home.name)
    assert call(host, "hello", "stage", "--config", "-", stdin=config()).rc == 3


def test_a_virtualenv_is_on_the_disk_before_it_counts_as_whole(host: FakeHost, stage: Stage) -> None:
    found: list[tuple[bool, bool]] = []

    def sync() -> None:
        venv = next((base(host) / "venvs").iterdir())
        whole = (venv / ".complete").exists()
        found.append((whole, host.steps[-1] == "venv-complete"))
        host.synced = True

    host.sync = sync  # type: ignore[method-assign]
    stage("v1")
    assert found == [(False, True), (True, False)]


def test_what_was_removed_is_not_started_at_the_next_boot(host: FakeHost) -> None:
    note(host)
    assert call(host, "hello", "remove").rc == 0
    assert {host.units[unit]["UnitFileState"] for unit in ("hello.socket", "hello.service")} == {"disabled"}


def test_a_refused_release_leaves_no_failed_unit(host: FakeHost, stage: Stage) -> None:
    release = stage("v1")
    host.broken[release] = "import"
    assert call(host, "hello", "activate", release).rc == 1
    host.set_unit(f"hello@{release}.service", ActiveState="failed")
    host.set_unit("hello.service", ActiveState="failed")  # somebody asked while nothing could answer
    assert call(host, "hello", "activate", stage("v2")).rc == 0
    assert not [name for name, unit in host.units.items() if unit["ActiveState"] == "failed"]
    host.set_unit(f"hello.try-{release}.service", ActiveState="failed")
    stage("v3")
    assert host.units[f"hello.try-{release}.service"]["ActiveState"] == "inactive"


def test_a_build_that_fails_on_a_full_disk_says_so(host: FakeHost, tmp_path: Path) -> None:
    path = archive(tmp_path / "v1.tar.gz", {"app.py": "v1", "requirements.txt": "flask\n"})
    host.pip_fails = "ERROR: something else"
    for free, remedy in ((1 << 30, ""), (1 << 20, flaskctl.FULL)):
        host.free = free
        result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config())
        assert result.rc == 1 and result.json["remedy"] == remedy


# What of the real host can be tried without systemd


def test_a_program_runs_to_its_end_and_one_that_is_missing_is_127() -> None:
    host = flaskctl.Host()
    done = host.run(["/bin/sh", "-c", "echo out; echo err >&2; exit 3"])
    assert (done.rc, done.out, done.err) == (3, "out\n", "err\n")
    assert host.run(["no-such-program"]).rc == 127
    assert host.attached(["/bin/sh", "-c", "exit 4"]).rc == 4


ATTACHED = """
import sys
sys.path.insert(0, sys.argv[1])
from flaskctl.host import Host
done = Host().attached(['/bin/sh', '-c', sys.argv[2]])
print(done.rc, len(done.out), done.err, file=sys.stderr)
"""


def test_what_an_attached_program_says_is_passed_on_as_it_comes_and_its_end_is_kept() -> None:
    argv = [sys.executable, "-c", ATTACHED, str(Path(flaskctl.__file__).parents[1])]
    script = r"printf '\377out'; echo err >&2; yes | head -c 200000; exit 3"
    done = subprocess.run([*argv, script], capture_output=True, check=True)
    assert done.stdout.startswith(b"\xffout") and len(done.stdout) == 200004
    assert done.stderr == b"err\n3 65536 err\n\n"
    # and one that nobody listens to any more hears of it
    with subprocess.Popen([*argv, "yes"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout and process.stdout.readline() == b"y\n"
        process.stdout.close()
        assert process.wait(20) == 0


def test_what_is_started_after_giving_way_is_nicer() -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        host = flaskctl.Host()
        before = os.nice(0)
        host.give_way()
        os.write(writer, f"{os.nice(0) - before}".encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(reader, 10)) >= min(15, 19 - os.nice(0))


def test_the_host_is_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = flaskctl.Host()
    monkeypatch.setenv("FLASKCTL_TEST", "x")
    synced: list[bool] = []
    monkeypatch.setattr(os, "sync", lambda: synced.append(True))
    host.sync()
    assert synced == [True]
    assert host.environment()["FLASKCTL_TEST"] == "x" and host.pid() == os.getpid()
    assert (host.machine(), host.node_name()) == (os.uname().machine, os.uname().nodename)
    assert 0 < host.free_bytes(tmp_path) <= os.statvfs(tmp_path).f_bfree * os.statvfs(tmp_path).f_frsize


def test_a_child_is_found_whichever_thread_has_forked_it() -> None:
    if not Path(f"/proc/self/task/{os.getpid()}/children").exists():
        pytest.skip("this kernel does not tell whose children processes are")
    started: list[subprocess.Popen[bytes]] = []
    forked, ended = threading.Event(), threading.Event()

    def fork() -> None:
        started.append(subprocess.Popen(["sleep", "60"]))
        forked.set()
        ended.wait(60)

    thread = threading.Thread(target=fork)
    thread.start()
    try:
        assert forked.wait(60)
        assert str(started[0].pid) in flaskctl.Host().children(os.getpid())
    finally:
        ended.set()
        thread.join()
        started[0].kill()
        started[0].wait()

"""A machine that somebody has rented: released to over SSH by an unprivileged user, under load, and started anew."""

from __future__ import annotations

from tests.integration.vm.conftest import Bench, Server


def test_the_machine_runs_its_own_kernel_and_nothing_failed(server: Server) -> None:
    assert server.run("systemd-detect-virt --container || true") == "none"
    assert server.run("systemctl is-system-running") == "running"
    assert server.run("stat -fc %T /sys/fs/cgroup") == "cgroup2fs"
    assert server.status()["problems"] == []


def test_a_second_run_changes_nothing(bench: Bench) -> None:
    assert "changed=0" in bench.done().out


def test_a_release_and_a_rollback_under_load(bench: Bench) -> None:
    server = bench.server
    before, old = server.current, server.version()
    version = bench.source()
    with bench.users("a release by playbook, over SSH"):
        bench.done()
    assert server.version() == version and server.current != before
    with bench.users("a rollback by playbook"):
        bench.done("playbooks/rollback.yml")
    assert (server.current, server.version()) == (before, old)
    with bench.users("the release again"):
        bench.done()
    assert server.version() == version


def test_after_a_reboot_the_same_release_serves(bench: Bench) -> None:
    server = bench.server
    current, version, boot = server.current, server.version(), server.boot
    server.reboot()
    assert server.boot != boot
    assert server.serves() == version
    assert server.current == current
    status = server.status()
    assert status["problems"] == [] and status["active"] == [current], status
    assert "changed=0" in bench.done().out


def test_a_release_that_cannot_serve_is_refused_under_load(bench: Bench) -> None:
    server = bench.server
    before = server.current
    version, files = server.version(), {"app.py": "import nothing_of_that_name\n"}
    with bench.users("a release that is refused"):
        _name, archive = bench.archive(files)
        answer = server.release(archive)
    assert answer.rc == 1 and "nothing_of_that_name" in answer.story
    assert (server.current, server.version()) == (before, version)

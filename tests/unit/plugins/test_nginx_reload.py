"""Whether nginx took its configuration: by its processes and its log, with a program that does as nginx does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import file_transaction, nginx_reload

from tests.unit.plugins.etc_host import Host

# As nginx: on SIGHUP it starts another worker, or says in its log why not.
NGINX = """
import os, signal, subprocess, sys
log, verdict = sys.argv[1:]
os.dup2(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT), 2)

def worker():
    return subprocess.Popen(["sleep", "60"])

def reload(*_):
    said = open(verdict).read()
    if said:
        os.write(2, said.replace("PID", str(os.getpid())).encode())
    else:
        workers.append(worker())

signal.signal(signal.SIGHUP, reload)
workers = [worker()]
print("up", flush=True)
try:
    while sys.stdin.readline():
        pass
finally:
    for each in workers:
        each.kill()
"""
IN_USE = "2026/11/28 12:00:00 [emerg] PID#PID: bind() to 0.0.0.0:80 failed (98: Address already in use)\n"
NOT_OURS = "2026/11/28 12:00:00 [emerg] 1#1: of somebody's nginx -t\n"


class Nginx:
    def __init__(self, home: Path) -> None:
        self.verdict, self.log = home / "verdict", home / "error.log"
        self.verdict.write_text("")
        self.log.write_text("")
        argv = [sys.executable, "-c", NGINX, str(self.log), str(self.verdict)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout and self.process.stdout.readline() == b"up\n"

    def hup(self) -> None:
        os.kill(self.process.pid, signal.SIGHUP)


@pytest.fixture
def nginx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nginx]:
    found = Nginx(tmp_path)
    monkeypatch.setattr(nginx_reload, "main_pid", lambda: found.process.pid)
    yield found
    found.process.communicate(b"")


def test_new_workers_say_that_it_has_it(nginx: Nginx) -> None:
    nginx.log.write_text(IN_USE.replace("PID", str(nginx.process.pid)))  # from before
    watch = nginx_reload.Watch()
    nginx.hup()
    assert watch.refusal() == ""


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (
            IN_USE * 5 + "x [emerg] PID#PID: still could not bind()\n",
            "0.0.0.0:80 failed (98: Address already in use); still",
        ),
        (NOT_OURS + 'x [emerg] PID#PID: open() "/gone/log" failed\n', 'open() "/gone/log" failed'),
    ],
)
def test_it_is_told_why_it_has_it_not(nginx: Nginx, log: str, words: str) -> None:
    watch = nginx_reload.Watch()
    nginx.verdict.write_text(log)
    nginx.hup()
    said = watch.refusal()
    assert words in said and "somebody" not in said and said.count("bind() to") <= 1
    assert ("systemctl stop nginx" in said) is ("in use" in said)


def test_one_that_says_nothing_is_waited_for_and_told(nginx: Nginx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx_reload, "SECONDS", 0.2)
    assert "no new worker in 0 s" in nginx_reload.Watch().refusal()


@pytest.mark.parametrize("then", [0, 1])
def test_one_that_does_not_run_or_was_started_anew_has_read_it(
    nginx: Nginx, monkeypatch: pytest.MonkeyPatch, then: int
) -> None:
    watch = nginx_reload.Watch()
    monkeypatch.setattr(nginx_reload, "main_pid", lambda: then)
    assert watch.refusal() == ""
    assert nginx_reload.Watch().refusal() == "" or then


@pytest.mark.parametrize(
    ("command", "is_one"),
    [
        (["systemctl", "reload-or-restart", "nginx.service"], True),
        (["systemctl", "try-reload-or-restart", "nginx.service"], True),
        (["systemctl", "daemon-reload"], False),
        (["systemctl", "reload", "ssh.service"], False),
        ([], False),
    ],
)
def test_which_command_reloads_it(command: list[str], is_one: bool) -> None:
    assert nginx_reload.reloads(command) is is_one


def test_files_that_nginx_does_not_take_are_put_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """`nginx -t` and systemctl had been content, and the next boot would have ended with no site at all."""
    refusals = iter(["bind() to 0.0.0.0:80 failed", ""])
    monkeypatch.setattr(file_transaction, "reloads", lambda command: True)
    taken: Callable[[object], str] = lambda self: next(refusals)  # noqa: E731
    monkeypatch.setattr(nginx_reload.Watch, "refusal", taken)
    before = host.tree(times=False)
    answer = host.run()
    assert answer["failed"] and "nginx does not take them: bind() to 0.0.0.0:80 failed" in answer["msg"]
    assert "ran again and succeeded with the files as before" in answer["msg"]
    assert host.tree(times=False) == before and not host.markers()

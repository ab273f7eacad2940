"""The walls around an app, by the words that apps really used when they met them."""

from __future__ import annotations

import pytest

from tests.unit.flaskctl.fake_host import flaskctl
from tools.run import ROOT

APP = "/srv/hello/releases/0123456789ab/app"
DENIED = "PermissionError: [Errno 13] Permission denied"
READ_ONLY = "OSError: [Errno 30] Read-only file system"
NONE = "FileNotFoundError: [Errno 2] No such file or directory"

# what was said on hosts, the wall, and a word of what opens it
SAID = [
    (f"{DENIED}: '{APP}/instance'", "write beside the code", "flask_gunicorn_nginx_writable: [instance]"),
    (f"{READ_ONLY}: '{APP}/var/uploads/a.png'", "write beside the code", "flask_gunicorn_nginx_writable: [var]"),
    ("sqlite3.OperationalError: unable to open database file", "write beside the code", "writable: [DIRECTORY]"),
    ("sqlite3.OperationalError: attempt to write a readonly database", "write beside the code", "/var/lib/hello"),
    (f"{READ_ONLY}: '{APP}/site.db'", "a file beside the code", "/var/lib/hello/site.db"),
    (
        "MemoryError: Cannot allocate write+execute memory for ffi.callback(). You might be running on a system",
        "memory that is written and run",
        "{MemoryDenyWriteExecute: false}",
    ),
    ("# Check failed: 12 == (*__errno_location ()).", "memory that is written and run", "MemoryDenyWriteExecute"),
    ("OSError: /opt/v/t: failed to map segment from shared object", "memory that is written and run", "ExecPaths"),
    ("OSError: [Errno 97] Address family not supported by protocol", "the list of network interfaces", "AF_NETLINK"),
    ("  message: 'Unknown system error 97',", "the list of network interfaces", "AF_NETLINK"),
    (
        "PermissionError: [Errno 1] Operation not permitted (while attempting to bind on address ('127.0.0.1', 8123))",
        "a port of its own",
        "SocketBindAllow",
    ),
    ("socket.gaierror: [Errno -3] Temporary failure in name resolution", "names of other machines", "outbound"),
    ('could not translate host name "db" to address', "names of other machines", "flaskctl hello run -- getent"),
    (f"{DENIED}: '/tmp/s.sh'", "running what was written", "{ExecPaths: /tmp}"),
    (f"{DENIED}: '/var/lib/hello/tool'", "running what was written", "{ExecPaths: /var/lib/hello}"),
    (f"{DENIED}: '/opt/vendor/bin/tool'", "programs in /opt", "{ExecPaths: /opt}"),
    (f"{DENIED}: '/root'", "homes", "{ProtectHome: read-only}"),
    (f"{NONE}: '/home/anna/settings.toml'", "homes", "ProtectHome"),
    (f"{NONE}: '/proc/meminfo'", "the kernel's tables", "{ProcSubset: all}"),
    (f"{NONE}: '/proc/1/status'", "other processes", "ProtectProc: default"),
    (f"{NONE}: '/dev/dri/card0'", "devices", "DeviceAllow: '/dev/dri/card0 rw'"),
    (
        'connection to server on socket "/run/postgresql/.s.PGSQL.5432" failed: Permission denied',
        "sockets of other services",
        "SupplementaryGroups",
    ),
    ("postdrop: warning: mail_queue_enter: create file maildrop/1: Permission denied", "mail by sendmail", "127.0.0.1"),
    (
        "    return os.nice(1)\nPermissionError: [Errno 1] Operation not permitted",
        "priorities and processors",
        "@resources",
    ),
    (
        "    os.sched_setaffinity(0, {1})\n           ~~~~^^\nPermissionError: [Errno 1] Operation not permitted",
        "priorities and processors",
        "CPUAffinity",
    ),
    ("    os.setuid(33)\nPermissionError: [Errno 1] Operation not permitted", "users and owners", "this user"),
    (f"{READ_ONLY}: '/srv/uploads/x.png'", "writing elsewhere", "{ReadWritePaths: /srv/uploads}"),
    (f"{DENIED}: '/var/log/hello/app.log'", "writing elsewhere", "write to /var/lib/hello"),
    ("RuntimeError: can't start new thread", "threads and processes", "TasksMax"),
    ("hello@0123456789ab.service: A process of this unit has been killed by the OOM killer.", "memory", "MemoryMax"),
    ("MemoryError", "memory", "MemoryMax"),
]


@pytest.mark.parametrize(("said", "name", "opens"), SAID)
def test_a_wall_is_known_by_what_an_app_says_of_it(said: str, name: str, opens: str) -> None:
    (one,) = flaskctl.met("hello", f"starting\n{said}\nthe end\n")
    assert one.name == name and opens in one.opens, one
    assert "{" not in one.tells and "{0}" not in one.opens and "{app}" not in one.opens


def test_each_wall_has_a_sign_that_was_seen() -> None:
    assert {wall.name for wall in flaskctl.WALLS} == {name for _, name, _ in SAID}


@pytest.mark.parametrize(
    "said",
    [
        "ModuleNotFoundError: No module named 'nosuchthing'",
        "PermissionError: you may not see this page",
        f"{NONE}: 'config.toml'",
        f"{NONE}: '{APP}/config.toml'",
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "127.0.0.1 - - GET /proc/meminfo 404",
        "",
    ],
)
def test_what_is_no_wall_is_none(said: str) -> None:
    assert flaskctl.met("hello", said) == []


def test_walls_are_counted_and_stand_in_the_order_in_which_they_were_met() -> None:
    text = f"{NONE}: '/proc/meminfo'\n{DENIED}: '{APP}/instance'\n{NONE}: '/proc/cpuinfo'\n"
    assert [one.name for one in flaskctl.met("hello", text)] == [
        "the kernel's tables",
        "write beside the code",
        "the kernel's tables",
    ]


def test_the_wall_stands_before_the_words_of_the_app() -> None:
    journal = (
        "Traceback (most recent call last):\n"
        f'  File "{APP}/app.py", line 7, in <module>\n    os.makedirs(app.instance_path)\n'
        f"{DENIED}: '{APP}/instance'\n"
    )
    detail, remedy = flaskctl.explain("hello", journal * 2)
    assert detail.splitlines()[:2] == [
        "write beside the code: the code is read-only, and the app writes beside it",
        f"{DENIED}: '{APP}/instance'",
    ]
    assert remedy.startswith("flask_gunicorn_nginx_writable: [instance]") and "\n" not in remedy
    assert flaskctl.explain("hello", "ValueError: x\n") == ("ValueError: x", "")


@pytest.mark.parametrize("wall", flaskctl.WALLS, ids=lambda wall: wall.name)
def test_the_page_has_each_wall_as_it_is(wall: flaskctl.Wall) -> None:  # type: ignore[name-defined]
    page = (ROOT / "docs/walls.md").read_text()
    tells, opens = (part.format("PATH", app="NAME") for part in (wall.tells, wall.opens))
    assert f"| {wall.name} | {tells} | {opens} | {wall.costs} |" in page

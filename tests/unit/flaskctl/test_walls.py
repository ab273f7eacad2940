"""The walls around an app, by the words that apps really used when they met them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tests.rendering import render
from tests.unit.flaskctl.fake_host import flaskctl
from tools.run import ROOT

APP = "/srv/hello/releases/0123456789ab/app"
DENIED = "PermissionError: [Errno 13] Permission denied"
NOT_PERMITTED = "PermissionError: [Errno 1] Operation not permitted"
READ_ONLY = "OSError: [Errno 30] Read-only file system"
NONE = "FileNotFoundError: [Errno 2] No such file or directory"
EXECUTED = """\
  File "/usr/lib/python3.11/subprocess.py", line 1955, in _execute_child
    raise child_exception_type(errno_num, err_msg, err_filename)
"""


def sandbox(systemd: int = 257, **settings: Any) -> list[tuple[str, str]]:
    """Return what stands in the unit that the role writes, as a systemd knows it."""
    return list(flaskctl.service_settings("hello@0123456789ab.service", [render("app@.service", settings)], systemd))


SANDBOX = sandbox()
SEALED = sandbox(outbound="none")
LISTED = sandbox(outbound=["10.0.0.5", "10.2.0.0/16"])

# what was said on hosts, the wall, and a word of what opens it
SAID = [
    (f"{DENIED}: '{APP}/instance'", "write beside the code", "flask_gunicorn_nginx_writable: [instance]"),
    (
        f"{READ_ONLY}: '{APP}/var/uploads/a.png'",
        "write beside the code",
        "flask_gunicorn_nginx_writable: [var/uploads]",
    ),
    (f"{READ_ONLY}: '{APP}/.data'", "write beside the code", "flask_gunicorn_nginx_writable: [.data]"),
    (f"Error: EROFS: read-only file system, mkdir '{APP}/cache'", "write beside the code", "writable: [cache]"),
    (f"mkdir: cannot create directory ‘{APP}/cache’: Read-only file system", "write beside the code", "[cache]"),
    (f"open {APP}/cache/x.json: read-only file system", "write beside the code", "writable: [cache]"),
    (f"{READ_ONLY}: '{APP}/site.db'", "a file beside the code", "/var/lib/hello/site.db"),
    ("sqlite3.OperationalError: unable to open database file", "a database file", "writable: [DIRECTORY]"),
    ("sqlite3.OperationalError: attempt to write a readonly database", "a database file", "/var/lib/hello"),
    (f"{READ_ONLY}: '/srv/hello/venvs/3/lib/x/cache'", "write into a library", "below /var/lib/hello"),
    (
        "MemoryError: Cannot allocate write+execute memory for ffi.callback(). You might be running on a system",
        "memory that is written and run",
        "{MemoryDenyWriteExecute: false}",
    ),
    ("# Check failed: 12 == (*__errno_location ()).", "memory that is written and run", "MemoryDenyWriteExecute"),
    (
        f"    mmap.mmap(-1, 4096, prot=7)\n    ~~~~~^^^^\n{NOT_PERMITTED}",
        "memory that is written and run",
        "MemoryDenyWriteExecute",
    ),
    (
        "    return socket.if_nameindex()\n           ~~~~^^\n"
        "OSError: [Errno 97] Address family not supported by protocol",
        "the list of network interfaces",
        "{RestrictAddressFamilies: AF_NETLINK}",
    ),
    (
        "    rawlist = _psplatform.net_if_addrs()\nOSError: [Errno 97] Address family not supported by protocol",
        "the list of network interfaces",
        "AF_NETLINK",
    ),
    ("  message: 'Unknown system error 97',", "the list of network interfaces", "AF_NETLINK"),
    ("route ip+net: netlinkrib: address family not supported by protocol", "the list of network interfaces", "NETLINK"),
    (
        "    socket.socket(socket.AF_PACKET, 3)\nOSError: [Errno 97] Address family not supported by protocol",
        "other kinds of sockets",
        "{RestrictAddressFamilies: AF_PACKET}",
    ),
    (f"{NOT_PERMITTED} (while attempting to bind on address ('127.0.0.1', 8123))", "a port of its own", "'tcp:PORT'"),
    ("Error: listen EPERM: operation not permitted 127.0.0.1:8123", "a port of its own", "SocketBindAllow"),
    ("listen tcp 127.0.0.1:8123: bind: operation not permitted", "a port of its own", "SocketBindAllow"),
    (
        "ConnectTimeoutError(<x>, 'Connection to 169.254.169.254 timed out. (connect timeout=1)')",
        "where clouds hand out credentials",
        "{IPAddressAllow: 169.254.169.254}",
    ),
    (
        "botocore.exceptions.NoCredentialsError: Unable to locate credentials",
        "where clouds hand out credentials",
        "flask_gunicorn_nginx_credentials",
    ),
    (f"{EXECUTED}{DENIED}: '/tmp/s.sh'", "programs that it wrote", "{ExecPaths: /tmp}"),
    (f"{EXECUTED}{DENIED}: '/var/tmp/a/tool'", "programs that it wrote", "{ExecPaths: /var/tmp}"),
    ("sh: 1: /tmp/s.sh: Permission denied", "programs that it wrote", "{ExecPaths: /tmp}"),
    ("Error: spawn /tmp/s.sh EACCES", "programs that it wrote", "{ExecPaths: /tmp}"),
    (
        f"{EXECUTED}{DENIED}: '/var/lib/hello/.cache/browsers/chrome'",
        "programs that it wrote",
        "{ExecPaths: /var/lib/hello}",
    ),
    (
        "ImportError: /var/lib/hello/.cache/torch/x.so: failed to map segment from shared object",
        "programs that it wrote",
        "put the program into the source",
    ),
    ("fork/exec /var/lib/hello/bin/tool: permission denied", "programs that it wrote", "{ExecPaths: /var/lib/hello}"),
    (f"    os.memfd_create('x')\n{NOT_PERMITTED}", "programs in memory", "{SystemCallFilter: memfd_create}"),
    ("memfd_create() failed: Operation not permitted", "programs in memory", "/dev/shm"),
    (f"{DENIED}: '/root'", "homes", "{ProtectHome: read-only}"),
    (f"{DENIED}: '/home/anna/settings.toml'", "homes", "ProtectHome"),
    (f"{DENIED}: '/etc/ssl/private/key.pem'", "hidden directories", "flask_gunicorn_nginx_credentials"),
    (f"{NONE}: '/proc/meminfo'", "the kernel's tables", "{ProcSubset: all}"),
    ("cat: /proc/meminfo: No such file or directory", "the kernel's tables", "{ProcSubset: all}"),
    ("OSError: Load averages are unobtainable", "the kernel's tables", "{ProcSubset: all}"),
    (f"{NONE}: '/proc/1/status'", "other processes", "{ProtectProc: default}"),
    (f"{NONE}: '/dev/dri/card0'", "devices", "{PrivateDevices: false, DeviceAllow: '/dev/dri/card0 rw'}"),
    (
        'connection to server on socket "/run/postgresql/.s.PGSQL.5432" failed: Permission denied',
        "sockets of other services",
        "{SupplementaryGroups: GROUP}, the group that owns /run/postgresql/.s.PGSQL.5432",
    ),
    (
        "redis.exceptions.ConnectionError: Error 13 connecting to unix socket: /run/redis/r.sock. Permission denied.",
        "sockets of other services",
        "SupplementaryGroups",
    ),
    ("postdrop: warning: mail_queue_enter: create file maildrop/1: Permission denied", "mail by sendmail", "127.0.0.1"),
    (
        "sendmail: fatal: inet_addr_local[getifaddrs]: getifaddrs: Address family not supported by protocol",
        "mail by sendmail",
        "127.0.0.1",
    ),
    (
        "1xWyJG-00015y-34 Failed to create spool file /var/spool/exim4//input//1-D: Permission denied",
        "mail by sendmail",
        "127.0.0.1",
    ),
    (
        "[CRITICAL] WORKER TIMEOUT (pid:12)\n[ERROR] Worker (pid:12) was sent SIGKILL! Perhaps out of memory?",
        "the time of a worker",
        "{worker_class: gthread}",
    ),
    ('sudo: The "no new privileges" flag is set, which prevents sudo', "rights of root", "/var/lib/hello"),
    ("unshare: unshare failed: Operation not permitted", "a sandbox in the sandbox", "--no-sandbox"),
    (f"    return os.nice(1)\n{NOT_PERMITTED}", "priorities and processors", "'@resources'"),
    (
        f"    os.sched_setaffinity(0, {{1}})\n           ~~~~^^\n{NOT_PERMITTED}",
        "priorities and processors",
        "CPUAffinity",
    ),
    ("nice: cannot set niceness: Operation not permitted", "priorities and processors", "'@resources'"),
    (f"    os.setuid(33)\n{NOT_PERMITTED}", "users and owners", "'@setuid @chown'"),
    ("chown: changing ownership of '/tmp/x': Operation not permitted", "users and owners", "this user"),
    (
        "FileNotFoundError: [Errno 2] No such file or directory: '/var/log/shop/shop.log'",
        "a directory in /var/log",
        "{LogsDirectory: hello}, and log to /var/log/hello",
    ),
    (f"{READ_ONLY}: '/var/log/nginx/today/app.log'", "a directory in /var/log", "{LogsDirectory: hello}"),
    (f"{READ_ONLY}: '/srv/uploads/x.png'", "writing elsewhere", "{ReadWritePaths: /srv/uploads}"),
    (f"{READ_ONLY}: '/var/log/app.log'", "a directory in /var/log", "{LogsDirectory: hello}"),
    (f"{READ_ONLY}: '/var/log/hello'", "a directory in /var/log", "{LogsDirectory: hello}"),
    (f"{READ_ONLY}: '/etc/hello.conf'", "the host's own directories", "write to /var/lib/hello"),
    (f"{READ_ONLY}: '/usr/local/share/x/y'", "the host's own directories", "write to /var/lib/hello"),
    # a directory that many share is none to open
    (f"{READ_ONLY}: '/data'", "writing elsewhere", "{ReadWritePaths: /data}"),
    (f"{READ_ONLY}: '/opt/reports'", "writing elsewhere", "{ReadWritePaths: /opt/reports}"),
    (f"{READ_ONLY}: '/var/lib/other'", "writing elsewhere", "{ReadWritePaths: /var/lib/other}"),
    (f"{READ_ONLY}: '/var/spool/out/1.txt'", "writing elsewhere", "{ReadWritePaths: /var/spool/out}"),
    # the app starts in its own code
    (f"{READ_ONLY}: 'uploads'", "write beside the code", "flask_gunicorn_nginx_writable: [uploads]"),
    (f"{READ_ONLY}: './uploads/2026/a.png'", "write beside the code", "flask_gunicorn_nginx_writable: [uploads/2026]"),
    (f"{READ_ONLY}: 'data.txt'", "a file beside the code", "/var/lib/hello/data.txt"),
    ("touch: cannot touch 'app.db': Read-only file system", "a file beside the code", "/var/lib/hello/app.db"),
    ("mkdir: cannot create directory \u2018out\u2019: Read-only file system", "write beside the code", "[out]"),
    (f"{READ_ONLY}: '{APP[:-4]}/site/instance'", "write beside the code", "flask_gunicorn_nginx_writable: [instance]"),
    ("OSError: cannot load library 'libgobject-2.0-0': no such file", "what the host has not", "libgobject-2.0-0 into"),
    (
        "ImportError: libmagic.so.1: cannot open shared object file: No such file or directory",
        "what the host has not",
        "libmagic.so.1 into flask_gunicorn_nginx_packages",
    ),
    (
        '  File "/usr/lib/python3.11/subprocess.py", line 1955, in _execute_child\n'
        "    raise child_exception_type(errno_num, err_msg, err_filename)\n"
        f"{NONE}: 'git'",
        "what the host has not",
        "the package that has git into",
    ),
    ("Error: spawn wkhtmltopdf ENOENT", "what the host has not", "wkhtmltopdf"),
    ("RuntimeError: can't start new thread", "threads and processes", "{TasksMax: 4096}"),
    (
        "    self.pid = _fork_exec(\nBlockingIOError: [Errno 11] Resource temporarily unavailable",
        "threads and processes",
        "{TasksMax: 4096}",
    ),
    ("hello@0123456789ab.service: A process of this unit has been killed by the OOM killer.", "memory", "MemoryMax"),
    ("CalledProcessError: Command 'x' died with <Signals.SIGSYS: 31>.", "programs for another processor", ""),
    ("uptime: Cannot get system uptime: No such file or directory", "the kernel's tables", "{ProcSubset: all}"),
    ("ps: Unable to get total memory", "the kernel's tables", "{ProcSubset: all}"),
    ("free: Memory information file /proc/meminfo does not exist", "the kernel's tables", "{ProcSubset: all}"),
    ("ping: cap_set_proc: Operation not permitted", "rights of root", "/var/lib/hello"),
    ("renice: failed to set priority for 12 (process ID): Operation not permitted", "priorities and processors", ""),
    ("ionice: ioprio_set failed: Operation not permitted", "priorities and processors", "'@resources'"),
    (
        "PermissionError: [Errno 13] cannot allocate executable memory. This may be due to security restrictions",
        "memory that is written and run",
        "{MemoryDenyWriteExecute: false}",
    ),
    ("OSError: [Errno 24] Too many open files", "open files", "{LimitNOFILE: 65536}"),
    (f"{DENIED}: '/run/hello.pid'", "a directory in /run", "{RuntimeDirectory: hello}, and write to /run/hello"),
    (
        'connection to server on socket "/tmp/.s.PGSQL.5432" failed: No such file or directory',
        "the /tmp of others",
        "{PrivateTmp: false}",
    ),
    ("sh: 1: Bad system call", "programs for another processor", "{SystemCallArchitectures: 'native x86'}"),
]

# the same where outbound is `none`
SAID_SEALED = [
    (
        "socket.gaierror: [Errno -3] Temporary failure in name resolution",
        "names of other machines",
        "outbound: [ADDRESS]",
    ),
    (
        'could not translate host name "db" to address: Temporary failure in name resolution',
        "names of other machines",
        "",
    ),
    ("Error: getaddrinfo EAI_AGAIN db.example.com", "names of other machines", "or any"),
    (
        'connection to server at "192.0.2.5", port 5432 failed: Connection timed out',
        "other machines",
        "flask_gunicorn_nginx_outbound: [192.0.2.5]",
    ),
    ("    socket.create_connection(address, 5)\nTimeoutError: timed out", "other machines", "outbound: [ADDRESS]"),
    ("    client.sendto(b'x', address)\n" + NOT_PERMITTED, "other machines", "outbound: [ADDRESS]"),
    ("Error: connect ETIMEDOUT 192.0.2.5:5432", "other machines", "outbound: [192.0.2.5]"),
    (
        "[Errno 110] Connect call failed ('2001:db8::5', 5432, 0, 0): timed out",
        "other machines",
        "outbound: [2001:db8::5]",
    ),
    ("dial tcp 192.0.2.5:5432: i/o timeout", "other machines", "outbound: [192.0.2.5]"),
    (
        "pymysql.err.OperationalError: (2003, \"Can't connect to MySQL server on '192.0.2.5' (timed out)\")",
        "other machines",
        "outbound: [192.0.2.5]",
    ),
    ("redis.exceptions.ConnectionError: Error 110 connecting to db:6379. Connection timed out.", "other machines", ""),
]


@pytest.mark.parametrize(("said", "name", "opens"), SAID)
def test_a_wall_is_known_by_what_an_app_says_of_it(said: str, name: str, opens: str) -> None:
    (one,) = flaskctl.met("hello", f"starting\n{said}\nthe end\n", SANDBOX)
    assert one.name == name and opens in one.opens, one
    assert "{0}" not in one.opens + one.tells and "{app}" not in one.opens + one.tells and "{door}" not in one.opens


@pytest.mark.parametrize(("said", "name", "opens"), SAID_SEALED)
def test_other_machines_are_a_wall_only_where_outbound_shuts_them(said: str, name: str, opens: str) -> None:
    text = f"starting\n{said}\nthe end\n"
    (one,) = flaskctl.met("hello", text, SEALED)
    assert one.name == name and opens in one.opens, one
    assert flaskctl.met("hello", text, SANDBOX) == []


@pytest.mark.parametrize(("said", "name", "opens"), SAID + SAID_SEALED)
def test_a_wall_is_found_among_lines_that_tell_nothing(said: str, name: str, opens: str) -> None:
    lines = [(1.0, "GET / 200")] * 50 + [(2.0, line) for line in said.splitlines()] + [(3.0, "GET / 200")] * 50
    kept = flaskctl.near_trouble(lines)
    assert len(kept) <= 20
    assert [one.name for one in flaskctl.met("hello", "\n".join(line for _when, line in kept), SEALED)] == [name]


def test_an_address_that_outbound_names_is_no_wall() -> None:
    said = 'connection to server at "{}", port 5432 failed: Connection timed out'
    assert flaskctl.met("hello", said.format("10.2.3.4"), LISTED) == []
    assert flaskctl.met("hello", said.format("127.0.0.1"), LISTED) == []
    (own,) = flaskctl.met("hello", said.format("127.0.0.1"), SEALED)
    assert "outbound: [127.0.0.1]" in own.opens, "it reaches Unix sockets alone"
    (one,) = flaskctl.met("hello", said.format("10.3.3.4"), LISTED)
    assert "outbound: [10.3.3.4]" in one.opens


@pytest.mark.parametrize("settings", [SANDBOX, LISTED, SEALED])
def test_no_route_to_a_machine_is_none_of_ours(settings: list[tuple[str, str]]) -> None:
    said = "    sock.connect(sa)\nOSError: [Errno 101] Network is unreachable"
    assert flaskctl.met("hello", said, settings) == []


def test_each_address_that_is_shut_for_all_is_known_as_a_clouds() -> None:
    (shut,) = [value for key, value in SANDBOX if key == "IPAddressDeny"]
    for network in shut.split():
        address = network.replace("0.0/16", "169.254").replace("::/64", "::a9fe:a9fe")
        (one,) = flaskctl.met("hello", f"Connection to {address} timed out.", SANDBOX)
        assert one.name == "where clouds hand out credentials" and one.door == {"IPAddressAllow": address}


def test_each_wall_has_a_sign_that_was_seen() -> None:
    assert {wall.name for wall in flaskctl.WALLS} == {name for _, name, _ in SAID + SAID_SEALED}


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
        # of its own: files, homes in a message, sockets that do not wait, a service on this host, slow requests
        f"{DENIED}: '/var/lib/hello/closed'",
        f"{DENIED}: '/tmp/closed'",
        f"{DENIED}: '/etc/shadow'",
        f"{DENIED}: '/var/log/nginx/access.log'",
        f"{DENIED}: '/opt/vendor/settings.toml'",
        f"{NONE}: '/home/anna/settings.toml'",
        "    ours.recv(1)\nBlockingIOError: [Errno 11] Resource temporarily unavailable",
        'connection to server at "127.0.0.1", port 5432 failed: Connection refused',
        "[ERROR] Worker (pid:12) was sent SIGKILL! Perhaps out of memory?",
        "    ours.recv(1)\nTimeoutError: timed out",
        "socket.gaierror: [Errno -2] Name or service not known",
        "    socket.socket(socket.AF_INET6)\nOSError: [Errno 97] Address family not supported by protocol",
        "MemoryError",
        f"{NONE}: '/tmp/letter.txt'",
        f"    os.kill(1, 15)\n{NOT_PERMITTED}",
    ],
)
def test_what_is_no_wall_is_none(said: str) -> None:
    assert flaskctl.met("hello", said, SANDBOX) == []


@pytest.mark.parametrize(
    ("said", "systemd", "settings"),
    [
        (f"{EXECUTED}{DENIED}: '/var/lib/hello/tool'", 247, {}),  # which knows no NoExecPaths
        (f"{EXECUTED}{DENIED}: '/opt/vendor/tool'", 257, {}),  # may be run, if its mode says so
        (f"{EXECUTED}{DENIED}: '/tmp/s.sh'", 257, {"ExecPaths": ["/opt", "/tmp"]}),
        (f"{EXECUTED}{DENIED}: '/var/lib/hello/s.sh'", 257, {"ExecPaths": "/var/lib/hello"}),
        (f"    os.memfd_create('x')\n{NOT_PERMITTED}", 257, {"SystemCallFilter": "memfd_create"}),
        (f"{NOT_PERMITTED} (while attempting to bind on address ('127.0.0.1', 8123))", 247, {}),
        (f"{NONE}: '/proc/meminfo'", 257, {"ProcSubset": "all"}),
        (f"{DENIED}: '/home/anna/settings.toml'", 257, {"ProtectHome": False}),
        (f"{DENIED}: '/home/anna/settings.toml'", 257, {"ProtectHome": "read-only"}),
        (f"    mmap.mmap(-1, 4096, prot=7)\n{NOT_PERMITTED}", 257, {"MemoryDenyWriteExecute": False}),
        (f"    return os.nice(1)\n{NOT_PERMITTED}", 257, {"SystemCallFilter": ["@mount", "@resources"]}),
        ("Connection to 169.254.169.254 timed out.", 257, {"IPAddressAllow": "169.254.169.254"}),
        ("socket.gaierror: [Errno -3] Temporary failure in name resolution", 257, {"IPAddressAllow": "any"}),
    ],
)
def test_a_wall_that_does_not_stand_was_not_met(said: str, systemd: int, settings: dict[str, Any]) -> None:
    assert flaskctl.met("hello", said, sandbox(systemd, service_settings=settings, outbound="any")) == []


def test_a_path_that_a_setting_has_let_the_app_write_to_is_named_with_what_opens_it() -> None:
    settings = sandbox(service_settings={"ReadWritePaths": "/srv/media", "BindPaths": "/mnt/nfs:/data"})
    for path, directory in (("/srv/media/tools/x", "/srv/media/tools"), ("/data/x", "/data")):
        (one,) = flaskctl.met("hello", f"{EXECUTED}{DENIED}: '{path}'", settings)
        assert (one.name, one.door) == ("programs that it wrote", {"ExecPaths": directory})


def test_a_ceiling_that_was_raised_can_be_met_again() -> None:
    raised = sandbox(service_settings={"LimitNOFILE": 65536})
    assert [one.name for one in flaskctl.met("hello", "OSError: [Errno 24] Too many open files", raised)] == [
        "open files"
    ]


def test_walls_are_counted_and_stand_in_the_order_in_which_they_were_met() -> None:
    text = f"{NONE}: '/proc/meminfo'\n{DENIED}: '{APP}/instance'\n{NONE}: '/proc/cpuinfo'\n"
    assert [one.name for one in flaskctl.met("hello", text, SANDBOX)] == [
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
    detail, remedy = flaskctl.explain("hello", journal * 2, "", SANDBOX)
    assert detail.splitlines()[:2] == [
        "write beside the code: the code is read-only, and the app writes beside it",
        f"{DENIED}: '{APP}/instance'",
    ]
    assert remedy.startswith("flask_gunicorn_nginx_writable: [instance]") and "\n" not in remedy
    assert flaskctl.explain("hello", "ValueError: x\n", "", SANDBOX) == ("ValueError: x", "")


def test_what_systemd_said_tells_a_wall_and_is_not_repeated() -> None:
    killed = "hello@0123456789ab.service: A process of this unit has been killed by the OOM killer."
    detail, remedy = flaskctl.explain("hello", "ValueError: x\n", killed, SANDBOX)
    assert detail.splitlines()[0].startswith("memory: ") and detail.endswith("\nValueError: x") and killed not in detail
    assert "MemoryMax" in remedy


def test_settings_for_several_walls_come_in_one_line_that_an_inventory_takes() -> None:
    journal = (
        f"{EXECUTED}{DENIED}: '/tmp/s.sh'\nCannot open netlink socket\n{NONE}: '/proc/meminfo'\n"
        "    socket.socket(socket.AF_PACKET, 3)\nOSError: [Errno 97] Address family not supported by protocol\n"
        f"    os.nice(1)\n{NOT_PERMITTED}\n{NONE}: '/dev/dri/card0'\n"
    )
    _detail, remedy = flaskctl.explain("hello", journal, "", SANDBOX)
    last = remedy.splitlines()[-1]
    assert yaml.safe_load(last.removeprefix("together: ")) == {
        "flask_gunicorn_nginx_service_settings": {
            "ExecPaths": "/tmp",
            "RestrictAddressFamilies": ["AF_NETLINK", "AF_PACKET"],
            "ProcSubset": "all",
            "SystemCallFilter": "@resources",
            "PrivateDevices": False,
            "DeviceAllow": "/dev/dri/card0 rw",
        }
    }


@pytest.mark.parametrize("wall", flaskctl.WALLS, ids=lambda wall: wall.name)
def test_the_page_has_each_wall_as_it_is(wall: flaskctl.Wall) -> None:  # type: ignore[name-defined]
    page = (ROOT / "docs/walls.md").read_text()
    one = flaskctl.told(wall, "NAME", "PATH", 0)
    assert f"| {one.name} | {one.tells} | {one.opens} | {one.costs} |" in page


def test_the_page_has_no_wall_that_is_none() -> None:
    lines = (ROOT / "docs/walls.md").read_text().splitlines()
    named = [line.split(" | ")[0].removeprefix("| ") for line in lines if line.startswith("| ")][1:]
    assert named == [wall.name for wall in flaskctl.WALLS]

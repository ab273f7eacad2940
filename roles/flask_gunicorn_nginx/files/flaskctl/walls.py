"""The walls around an app: by which words of its own it shows that it met one, and which setting opens it. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from flaskctl.texts import extract_traceback

SERVICE = "flask_gunicorn_nginx_service_settings"
NO_FILE = r"No such file or directory: '"
# what stands in front of a path in Python's words
DENIED = r"(?:Permission denied|Read-only file system|Operation not permitted): '?"


class Wall(NamedTuple):
    """A restriction of the sandbox. In `tells` and `opens` {0} stands for what the sign has in its first group."""

    name: str
    signs: str
    tells: str
    opens: str
    costs: str


# In the order in which they are asked: of two that would fit, the first knows more.
WALLS = (
    Wall(
        "a file beside the code",
        DENIED + r"/srv/[^/']+/releases/\w+/app/([^/'\s]+\.\w+)(?=['\s]|$)",
        "the code is read-only, and the app writes a file beside it",
        "the app's own setting for that file: /var/lib/{app}/{0}",
        "what is written there is shared by all releases",
    ),
    Wall(
        "write beside the code",
        DENIED
        + r"/srv/[^/']+/releases/\w+/app/([^/'\s]+)|unable to open database file|attempt to write a readonly database",
        "the code is read-only, and the app writes beside it",
        "flask_gunicorn_nginx_writable: [{0}], which keeps it in /var/lib/{app} and links it into each release",
        "what is written there is shared by all releases",
    ),
    Wall(
        "memory that is written and run",
        r"write\+execute memory|failed to map segment from shared object|Check failed: 12 == \(\*__errno_location|"
        r"LLVM ERROR: .*memory|(?:mmap|mprotect)\b.*(?:Operation not permitted|Permission denied)",
        "memory cannot be both written and run, which callbacks of cffi, V8 and numba need",
        SERVICE + ": {{MemoryDenyWriteExecute: false}}; for a library below /opt {{ExecPaths: /opt}}",
        "an attacker who can write to memory can run it",
    ),
    Wall(
        "the list of network interfaces",
        r"Address family not supported by protocol|EAFNOSUPPORT|Unknown system error 97",
        "netlink is shut, which lists network interfaces (psutil, if_nameindex, Node's networkInterfaces)",
        SERVICE + ": {{RestrictAddressFamilies: AF_NETLINK}}",
        "the app sees the host's interfaces and addresses",
    ),
    Wall(
        "a port of its own",
        r"Operation not permitted \(while attempting to bind|bind.*Operation not permitted",
        "the app may not listen on a port: requests come over the socket that systemd holds",
        SERVICE + ": {{SocketBindAllow: 'tcp:PORT'}}",
        "a second way into the app",
    ),
    Wall(
        "names of other machines",
        r"Temporary failure in name resolution|Name or service not known|could not translate host name",
        "no resolver answered",
        "look at flask_gunicorn_nginx_outbound, and with `flaskctl {app} run -- getent hosts HOST`",
        "none",
    ),
    Wall(
        "running what was written",
        r"(?:Permission denied|Operation not permitted): '?(/tmp|/var/tmp|/dev/shm|/var/lib/[^/']+)/",
        "what the app can write it cannot run",
        SERVICE + ": {{ExecPaths: {0}}}",
        "an attacker who can write a file can run it",
    ),
    Wall(
        "programs in /opt",
        r"(?:Permission denied|Operation not permitted): '?(/opt|/srv)/|(/opt)/\S+: failed to execute",
        "programs and libraries run from /usr and from the release alone",
        SERVICE + ": {{ExecPaths: /opt}}",
        "little, where /opt is root's",
    ),
    Wall(
        "homes",
        r"(?:Permission denied|Read-only file system|No such file or directory): '?(/home|/root|/run/user)\b",
        "homes cannot be seen",
        SERVICE + ": {{ProtectHome: read-only}}",
        "the app reads what a home lets others read",
    ),
    Wall(
        "the kernel's tables",
        NO_FILE + r"/proc/(cpuinfo|meminfo|stat|loadavg|uptime|mounts|version|filesystems|diskstats)'",
        "of /proc there are the app's own processes alone (psutil's memory and CPU)",
        SERVICE + ": {{ProcSubset: all}}",
        "the app sees the host's load, memory and hardware",
    ),
    Wall(
        "other processes",
        NO_FILE + r"/proc/\d+",
        "processes of others cannot be seen",
        SERVICE + ": {{ProtectProc: default, ProcSubset: all}}",
        "the app sees the command lines of all processes",
    ),
    Wall(
        "devices",
        NO_FILE + r"(/dev/(?:dri|nvidia|video|snd|tty[A-Z]|i2c|gpio)[^']*)'",
        "there are no devices but the harmless ones",
        SERVICE + ": {{PrivateDevices: false, DeviceAllow: '{0} rw'}}",
        "the app reaches the hardware that is named",
    ),
    Wall(
        "sockets of other services",
        r"(/run/(?:postgresql|redis|mysqld|memcached|rabbitmq)[^\s'\"]*).{0,80}Permission denied|"
        r"Permission denied.{0,80}(/run/(?:postgresql|redis|mysqld|memcached|rabbitmq))",
        "the socket of another service is open to its own group",
        SERVICE + ": {{SupplementaryGroups: GROUP}}, the group that owns the socket; or its port on 127.0.0.1",
        "the app may use that service",
    ),
    Wall(
        "mail by sendmail",
        r"sendmail: .*(?:denied|not permitted)|postdrop: |maildrop.*(?:denied|not permitted)|setgid.*not permitted",
        "sendmail needs rights of its own (setgid), which no program can get here",
        "send by SMTP to 127.0.0.1, which works: MAIL_SERVER = '127.0.0.1'",
        "none",
    ),
    Wall(
        "priorities and processors",
        r"(?:os\.nice|sched_setaffinity|setpriority|ioprio_set|cpu_affinity)\b(?s:.{0,300}?)Operation not permitted",
        "a process may not change its own priority or processors",
        SERVICE + ": {{SystemCallFilter: '@resources'}}; Nice and CPUAffinity there need none of it",
        "the app can slow others down",
    ),
    Wall(
        "writing elsewhere",
        r"(?:Read-only file system|Permission denied): '?(/(?!srv/[^/']+/releases|proc/|sys/|dev/)[^'\s:]*)/[^'\s:/]+",
        "the file system is read-only but for /var/lib/{app}, /tmp and /var/tmp",
        "write to /var/lib/{app}; or " + SERVICE + ": {{ReadWritePaths: {0}}}, a directory that is the app's",
        "what is there is no part of a release",
    ),
    Wall(
        "users and owners",
        r"(?:os\.(?:setuid|setgid|setgroups|chown|chroot)|shutil\.chown)\b(?s:.{0,300}?)Operation not permitted",
        "the app is one user and no other",
        "start it as this user, without a change of user or owner of its own",
        "none",
    ),
    Wall(
        "threads and processes",
        r"can't start new thread|BlockingIOError: \[Errno 11\] Resource temporarily unavailable|fork: retry",
        "there are as many threads and processes as TasksMax allows",
        SERVICE + ": {{TasksMax: 512}}",
        "a loop that forks hurts the host more",
    ),
    Wall(
        "memory",
        r"oom-kill|A process of this unit has been killed by the OOM killer|MemoryError\b(?!: Cannot allocate write)",
        "the memory that there is was not enough",
        SERVICE + ": {{MemoryMax: 1G}} where it is set, or fewer workers",
        "less memory for others",
    ),
)


class Met(NamedTuple):
    """A wall that an app met: which, and where in the text its sign begins."""

    name: str
    tells: str
    opens: str
    costs: str
    at: int


def met(app: str, text: str) -> list[Met]:
    """Return the walls that a text shows signs of, as often as it does. A line is a sign of one wall only."""
    found: dict[int, Met] = {}  # by where the line begins
    for wall in WALLS:
        for match in re.finditer(wall.signs, text):
            line = text.rfind("\n", 0, match.end()) + 1
            if line not in found:
                what = next((group for group in match.groups() if group), None) or "DIRECTORY"
                tells, opens = (part.format(what, app=app) for part in (wall.tells, wall.opens))
                found[line] = Met(wall.name, tells, opens, wall.costs, match.start())
    return [one for _line, one in sorted(found.items())]


def explain(app: str, journal: str) -> tuple[str, str]:
    """Return why something failed, with the walls that it met in front, and what opens these."""
    walls = {one.name: one for one in met(app, journal)}.values()
    causes = [f"{one.name}: {one.tells}" for one in walls]
    return "\n".join([*causes, extract_traceback(journal)]), "\n".join(one.opens for one in walls)

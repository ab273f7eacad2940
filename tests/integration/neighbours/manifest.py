"""All that there is on a host, as JSON: files, accounts, units, what listens, what its sites answer.

Runs on the host. Its arguments are the parts that are asked for; none for all.
"""

from __future__ import annotations

import glob
import hashlib
import http.client
import json
import os
import re
import ssl
import stat
import subprocess
import sys

# What changes by itself: what the kernel shows; logs, caches, stamps; what Docker writes; what Ansible and useradd keep
PASSING = [
    "/proc",
    "/sys",
    "/dev",
    "/run",
    "/tmp",
    "/var/tmp",
    "/var/log",
    "/var/cache",
    "/srv/cache",
    "/home/anna/logs",
    "/var/lib/nginx",
]
PASSING += ["/var/lib/systemd", "/var/lib/apt/periodic", "/var/lib/logrotate", "/etc/hosts", "/etc/hostname"]
PASSING += ["/etc/resolv.conf", "/root/.ansible", "/etc/.pwd.lock"]
PASSING += [f"/etc/{name}-" for name in ("passwd", "group", "shadow", "gshadow", "subuid", "subgid")]
# where a site is asked, and for what
SITES = {
    "anna": ("127.0.0.1", 80, "anna.test", "/"),
    "bert": ("127.0.0.1", 80, "bert.test", "/"),
    "carla": ("127.0.0.1", 80, "carla.test", "/"),
    "dora": ("127.0.0.1", 80, "dora.test", "/files/pictures/"),
    "emil": ("127.0.0.1", 443, "emil.test", "/"),
    "fritz": ("192.0.2.10", 8082, "fritz.test", "/"),
    "gerda": ("127.0.0.1", 443, "gerda.test", "/"),
    "gerda without TLS": ("127.0.0.1", 80, "gerda.test", "/"),
    "Apache": ("127.0.0.1", 8081, "localhost", "/"),
    "who is nobody": ("127.0.0.1", 80, "nobody.test", "/"),
}


def described(path: str) -> str:
    """Kind, mode, owner, and what it holds."""
    status = os.lstat(path)
    held = ""
    if stat.S_ISLNK(status.st_mode):
        held = os.readlink(path)
    elif stat.S_ISREG(status.st_mode):
        with open(path, "rb") as file:
            held = hashlib.sha256(file.read()).hexdigest()
    return f"{stat.filemode(status.st_mode)} {status.st_uid}:{status.st_gid} {held}"


def files() -> dict[str, str]:
    found = {}
    for directory, names, others in os.walk("/"):
        names[:] = [name for name in names if name != "__pycache__" and os.path.join(directory, name) not in PASSING]
        for path in (os.path.join(directory, name) for name in [*names, *others]):
            if path not in PASSING:
                found[os.fsencode(path).decode("utf-8", "replace")] = described(path)
    return found


def said(*argv: str) -> list[str]:
    done = subprocess.run(argv, stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().splitlines()


def accounts() -> dict[str, str]:
    lists = {name: said("getent", name) for name in ("passwd", "group", "shadow", "gshadow")}
    return {f"{name} {line.partition(':')[0]}": line for name, lines in lists.items() for line in lines}


def units() -> dict[str, str]:
    """Which unit files there are with their state, and which services, sockets and timers are up.

    What runs once and exits is none of that: some do only at a first boot.
    """
    known = [line.split() for line in said("systemctl", "list-unit-files", "--no-legend", "--plain")]
    kinds = "--type=service,socket,timer"
    up = [line.split() for line in said("systemctl", "list-units", "--no-legend", "--plain", "--state=active", kinds)]
    return {
        **{words[0]: words[1] for words in known},
        **{f"{words[0]} is": words[3] for words in up if words[3] != "exited"},
    }


def owners() -> dict[str, str]:
    """The name of the process that has a socket, by the socket's inode."""
    found = {}
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        try:
            match = re.match(r"socket:\[(\d+)\]", os.readlink(link))
            if match:
                with open(f"/proc/{link.split('/')[2]}/comm", encoding="utf-8") as file:
                    found[match[1]] = file.read().strip()
        except OSError:
            pass  # it ended
    return found


def listening() -> dict[str, str]:
    """By address and port, as the kernel writes them, the process that listens there."""
    names, found = owners(), {}
    for table in ("tcp", "tcp6"):
        with open(f"/proc/net/{table}", encoding="utf-8") as file:
            rows = [line.split() for line in file][1:]
        found.update({f"{table} {row[1]}": names.get(row[9], "?") for row in rows if row[3] == "0A"})
    return found


def answers() -> dict[str, object]:
    found: dict[str, object] = {}
    for site, (address, port, host, path) in SITES.items():
        try:
            if port == 443:
                connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                    address, port, timeout=20, context=ssl._create_unverified_context()
                )
            else:
                connection = http.client.HTTPConnection(address, port, timeout=20)
            connection.request("GET", path, headers={"Host": host})
            got = connection.getresponse()
            headers = sorted(item for item in got.getheaders() if item[0].lower() != "date")
            found[site] = str((got.status, headers, got.read().decode()))
            connection.close()
        except OSError as error:
            found[site] = str(error)
    return found


PARTS = {"files": files, "accounts": accounts, "units": units, "listening": listening, "answers": answers}
if __name__ == "__main__":
    print(json.dumps({name: part() for name, part in PARTS.items() if name in (sys.argv[1:] or PARTS)}))

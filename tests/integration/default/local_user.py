"""What an account without rights tries on a host: sent there once, answers what came of each attempt.

Run as root with the account's name; it leaves root before the first attempt. Python 3.9, the standard library alone.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

APP, ACCOUNT, SOCKET, PID = sys.argv[1:5]
BASE = f"/srv/{APP}"
CURRENT = f"{BASE}/current"


def read(path: str) -> str:
    return Path(path).read_bytes()[:200].decode("utf-8", "replace")


def names(path: str) -> str:
    return " ".join(sorted(os.listdir(path)))


def write(path: str) -> str:
    with open(path, "a"):
        return "opened to write"


def link(path: str) -> str:
    os.symlink("/tmp", path)
    return "linked"


def remove(path: str) -> str:
    os.unlink(path)
    return "removed"


def lock(path: str) -> str:
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return "held"


def connect(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        return "connected"


def bind(path: str) -> str:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        os.unlink(path)
        return "bound"


def run(*argv: str) -> str:
    """Return what a program says where it succeeds; the refusal of systemd, polkit or journald is one of permission."""
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20, check=False)
    said = f"{done.stdout}{done.stderr}".strip()
    if done.returncode or re.search(r"insufficient permissions|-- No entries --", said):
        denied = r"[Dd]enied|not permitted|insufficient permissions|authentication|No entries|needs root|root and the"
        raise PermissionError(errno.EACCES if re.search(denied, said) else errno.EIO, said[-300:])
    return said or "done"


def open_files(top: str) -> str:
    """Return what the role and its tools have left in a directory of everybody, as root, for others to read."""
    found = []
    for directory, folders, files in os.walk(top):
        for name in [*folders, *files]:
            path = os.path.join(directory, name)
            status = os.lstat(path)
            ours = re.search(rf"ansible|flask|pip|{APP}", path) and status.st_uid == 0
            if ours and status.st_mode & 0o004 and not os.path.islink(path) and os.path.isfile(path):
                found.append(path)
    if not found:
        raise FileNotFoundError(errno.ENOENT, "nothing")
    return " ".join(found)


def signal_to(pid: int) -> str:
    os.kill(pid, signal.SIGCONT)
    return "sent"


def attempts(pid: int, release: str) -> dict[str, Callable[[], str]]:
    home, unit = f"{BASE}/releases/{release}", f"{APP}@{release}.service"
    files = ("app/app.py", "app/requirements.txt", "gunicorn.conf.py", "environment", "config.json", "manifest.json")
    return {
        **{f"read {name}": partial(read, f"{home}/{name}") for name in files},
        **{
            f"list {path}": partial(names, path)
            for path in (
                *(BASE, f"{BASE}/releases", home, f"{home}/app", f"{BASE}/venvs", f"/var/lib/{APP}"),
                *("/run/flaskctl", "/run/flaskfleet", "/var/lib/flaskfleet/tls", "/etc/letsencrypt/accounts"),
                *("/etc/letsencrypt/archive", "/etc/ssl/private", "/var/log/flaskctl-old", f"/run/{APP}"),
            )
        },
        **{
            f"read {path}": partial(read, path)
            for path in (
                *(
                    f"/var/log/nginx/{APP}.access.log",
                    f"/var/log/nginx/{APP}.error.log",
                    f"/var/log/flaskctl/{APP}.jsonl",
                ),
                *(
                    f"/proc/{pid}/environ",
                    f"/proc/{pid}/maps",
                    f"/proc/{pid}/cwd/app.py",
                    f"/proc/{pid}/root/etc/hostname",
                ),
                *(f"{CURRENT}/venv/pyvenv.cfg", f"/run/flaskctl/{APP}.lock", "/run/flaskfleet/config_files.lock"),
            )
        },
        "run the virtualenv's Python": lambda: run(f"{CURRENT}/venv/bin/python", "-c", "print(1)"),
        "hold the lock": lambda: lock(f"/run/flaskctl/{APP}.lock"),
        "hold the lock of the role": lambda: lock("/run/flaskfleet/config_files.lock"),
        "write the code": lambda: write(f"{home}/app/app.py"),
        "put a file beside the releases": lambda: write(f"{BASE}/maintenance.html"),
        "point current elsewhere": lambda: link(f"{BASE}/current.new"),
        "write the site": lambda: write(f"/etc/nginx/sites-available/{APP}.conf"),
        "write a unit": lambda: write(f"/etc/systemd/system/{APP}@.service"),
        "write the log": lambda: write(f"/var/log/nginx/{APP}.access.log"),
        "connect to a Unix socket": lambda: connect(SOCKET),
        "take the place of a Unix socket": lambda: bind(f"{os.path.dirname(SOCKET)}/taken.sock"),
        "remove a Unix socket": lambda: remove(SOCKET),
        "signal the app": lambda: signal_to(pid),
        "stop the app": lambda: run("systemctl", "--no-ask-password", "stop", unit),
        "stop the socket": lambda: run("systemctl", "--no-ask-password", "stop", f"{APP}.socket"),
        "read the journal": lambda: run("journalctl", "--no-pager", "-n1", f"--unit={unit}"),
        "ask flaskctl for its releases": lambda: run("/usr/local/bin/flaskctl", APP, "releases"),
        "roll back": lambda: run("/usr/local/bin/flaskctl", APP, "rollback"),
        "read what root left in /tmp": lambda: open_files("/tmp"),
        "reach an agent of ssh": lambda: connect(next(map(str, Path("/tmp").glob("ssh-*/agent.*")), "/tmp/none")),
        # what anybody may
        "read a static file": lambda: read(f"{CURRENT}/static/index.html"),
        "read the unit": lambda: run("systemctl", "cat", unit),
        "read the state of the unit": lambda: run("systemctl", "show", unit),
        "read the command line": lambda: read(f"/proc/{pid}/cmdline").replace("\0", " "),
    }


def outcome(attempt: Callable[[], str]) -> list[Any]:
    """Return what stopped an attempt, and the words; or nothing, and what it got."""
    try:
        return ["", attempt()]
    except OSError as error:
        return [errno.errorcode.get(error.errno or 0, "?"), error.strerror or str(error)]
    except subprocess.TimeoutExpired:
        return ["ETIMEDOUT", "no answer"]


def main() -> None:
    release = os.path.basename(os.readlink(CURRENT))
    every = attempts(int(PID), release)
    if os.geteuid() == 0:
        account = pwd.getpwnam(ACCOUNT)
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    print(json.dumps({name: outcome(attempt) for name, attempt in every.items()}))


main()

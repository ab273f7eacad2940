"""What a package that means harm tries while it is built and started: its setup.py and its .pth file call `attack`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import Any

WRITES = (
    *(
        "/etc",
        "/etc/cron.d",
        "/root",
        "/usr/local/bin",
        "/srv",
        "/srv/hello",
        "/srv/factory/releases",
        "/var/lib/hello",
    ),
    *("/srv/factory/current/app", "/run", "/run/flaskctl", "/var/tmp", "/tmp", "/dev/shm", "/home", "/srv/open"),
)
READS = (
    *("/etc/shadow", "/etc/flaskctl/hello.json", "/srv/factory/current/environment", "/srv/hello/current/app/app.py"),
    *("/etc/ssh/sshd_config", "/run/flaskctl/factory.lock", "/root/.bashrc"),
)
DAEMON = "import time; 'hostile-daemon'; time.sleep(900)"
# a build waits for whoever has its output
QUIET: dict[str, Any] = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
SPEAKS = (
    "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/dbus/system_bus_socket')",
    "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/systemd/private')",
    "import socket; socket.create_connection(('127.0.0.1', 80), 3)",
    "import os; os.mknod('device', 0o20666, os.makedev(1, 8))",
    "import os, shutil; shutil.copy('/bin/true', 'setuid'); os.chmod('setuid', 0o4755)",
    "import os; os.link('/etc/passwd', 'linked')",
    "import os; os.unshare(0x10000000) if hasattr(os, 'unshare') else 1 / 0",
)


def attack(place: str) -> str:
    """Try it all, and say what went through; `place` is a directory that may be written to."""
    found = [f"uid {os.getuid()}", *(name for name in os.environ if "INDEX" in name)]
    for directory in WRITES:
        with contextlib.suppress(OSError), open(f"{directory}/hostile", "w") as file:
            file.write("x")
            found.append(f"wrote {directory}")
    for path in READS:
        with contextlib.suppress(OSError), open(path) as file:
            file.read()
            found.append(f"read {path}")
    with contextlib.suppress(OSError):
        found += [f"sent {text!r}" for text in [os.read(0, 100)] if text]
    for script in SPEAKS:
        done = subprocess.run([sys.executable, "-I", "-S", "-c", script], cwd=place, capture_output=True, check=False)
        found += [] if done.returncode else [f"did {script}"]
    with contextlib.suppress(OSError):
        subprocess.Popen([sys.executable, "-I", "-S", "-c", DAEMON], start_new_session=True, **QUIET)
    return " | ".join(found)

"""Start a test host from its image, as molecule/shared/create.yml does; a unit test keeps the two the same."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from tools.images import tag
from tools.run import Problem, output

BOOT_TIMEOUT = 60.0
CONTROL_NODE_CA = "/etc/ssl/control-node.crt"
CAPABILITIES = ("SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE")
SECURITY_OPTIONS = ("seccomp=unconfined", "apparmor=unconfined")
TMPFS = ("/run", "/tmp")  # nosec B108: of a container
# the container's own control groups, writable for systemd; mounts shared, so that a unit's namespace gets later ones
COMMAND = ("/bin/sh", "-c", "mount -o remount,rw /sys/fs/cgroup && mount --make-rshared / && exec /lib/systemd/systemd")


def control_node_ca() -> str | None:
    """The certificates this machine trusts, None where there is no such file."""
    candidates = (os.environ.get("SSL_CERT_FILE", ""), "/etc/ssl/certs/ca-certificates.crt")
    return next((path for path in candidates if path and Path(path).is_file()), None)


def run_command(name: str, kind: str, publish: Sequence[str] = (), volumes: Sequence[str] = ()) -> list[str]:
    """The docker command line that starts a host; publish is a list like 127.0.0.1:8080:80, volumes like /a:/b:ro."""
    ca = control_node_ca()
    return [
        *("docker", "run", "--detach", "--tty", "--name", name, "--hostname", name, "--cgroupns=private"),
        *(f"--cap-add={capability}" for capability in CAPABILITIES),
        *(f"--security-opt={option}" for option in SECURITY_OPTIONS),
        *(f"--tmpfs={path}" for path in TMPFS),
        *([f"--volume={ca}:{CONTROL_NODE_CA}:ro"] if ca else []),
        *(f"--volume={volume}" for volume in volumes),
        *(f"--publish={port}" for port in publish),
        tag(kind),
        *COMMAND,
    ]


def state(name: str) -> str | None:
    """running, exited, ... or None when there is no such container."""
    return output(["docker", "container", "inspect", "--format", "{{.State.Status}}", name])


def published_port(name: str) -> int | None:
    """The port on this machine that leads to port 80 of a running host."""
    address = output(["docker", "port", name, "80/tcp"])
    return int(address.splitlines()[0].rpartition(":")[2]) if address else None


def start(name: str, kind: str, publish: Sequence[str] = (), volumes: Sequence[str] = ()) -> None:
    """Start a host that does not exist yet, and wait until it is up."""
    done = subprocess.run(run_command(name, kind, publish, volumes), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        output(["docker", "rm", "--force", name])
        raise Problem(f"The host {name} could not be started.", done.stderr)
    wait_until_up(name)


def wait_until_up(name: str) -> None:
    """Wait until systemd reports the host as running; a failed unit is a failure."""
    deadline = time.monotonic() + BOOT_TIMEOUT
    while True:
        done = subprocess.run(
            ["docker", "exec", name, "systemctl", "is-system-running"], capture_output=True, text=True, check=False
        )
        said = done.stdout.strip()
        if said == "running":
            return
        if said == "degraded" or time.monotonic() > deadline:
            failed = output(["docker", "exec", name, "systemctl", "--failed", "--no-legend", "--plain"])
            raise Problem(
                f"The host {name} did not come up: {said or done.stderr.strip()}.",
                failed or output(["docker", "logs", "--tail", "20", name]) or "",
            )
        time.sleep(0.3)


def remove(name: str) -> bool:
    """Remove a host; whether there was one."""
    return state(name) is not None and output(["docker", "rm", "--force", "--volumes", name]) is not None

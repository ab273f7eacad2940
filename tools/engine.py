"""Find a container engine, or start one: `python -m tools.engine up|down`.

An engine that answers is used and never touched. Only one that this file started, with its process id on
record, is ever stopped by it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tools.run import CACHE, LOGS, Problem, apt_install, main, output, seconds, short, step, tail

RECORD = CACHE / "engine.json"
LOG = LOGS / "dockerd.log"
SOCKET = Path("/var/run/docker.sock")
START_TIMEOUT = 60.0
STOP_TIMEOUT = 60.0

# systemd 256 and later refuses a host with cgroup v1 or the hybrid layout, and containers see what the engine
# sees. A mount namespace of its own shows the engine pure cgroup2 and leaves the machine as it is.
PURE_CGROUP2 = "umount -R /sys/fs/cgroup 2>/dev/null; mount -t cgroup2 cgroup2 /sys/fs/cgroup && exec dockerd"


def answers() -> bool:
    """Whether a container engine answers the docker command line."""
    return output(["docker", "version", "--format", "{{.Server.Version}}"]) is not None


def has_pure_cgroup2(mounts: str) -> bool:
    """Whether the text of /proc/self/mounts shows cgroup2, and nothing else, on /sys/fs/cgroup."""
    found = [line.split()[2] for line in mounts.splitlines() if line.split()[1] == "/sys/fs/cgroup"]
    return found[-1:] == ["cgroup2"]


def started_at(pid: int) -> str | None:
    """When a process started, in clock ticks since boot: with the id it names one process for good."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[19]


def ours() -> int | None:
    """The process id of the engine this file started, when that very process still runs."""
    try:
        record = json.loads(RECORD.read_text())
    except (OSError, ValueError):
        return None
    pid = int(record["pid"])
    return pid if started_at(pid) == record["started_at"] else None


def search_path() -> str:
    """PATH for dockerd: with iptables meaning iptables-legacy where the kernel only has that.

    The machine's own alternatives stay as they are.
    """
    path = os.environ.get("PATH", os.defpath)
    sbin = f"{path}:/usr/local/sbin:/usr/sbin:/sbin"
    legacy = shutil.which("iptables-legacy", path=sbin)
    if output(["/usr/sbin/iptables", "-t", "nat", "-S"]) is not None or legacy is None:
        return sbin
    shims = CACHE / "engine-bin"
    shims.mkdir(parents=True, exist_ok=True)
    for name in ("iptables", "ip6tables"):
        shim = shims / name
        shim.unlink(missing_ok=True)
        shim.symlink_to(Path(legacy).with_name(f"{name}-legacy"))
    return f"{shims}:{sbin}"


def start_by_hand() -> None:
    """Start dockerd without an init system and put its process id on record."""
    pure = has_pure_cgroup2(Path("/proc/self/mounts").read_text())
    argv = ["dockerd"] if pure else ["unshare", "-m", "sh", "-c", PURE_CGROUP2]
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with LOG.open("w") as sink:
        process = subprocess.Popen(
            argv,
            env={**os.environ, "PATH": search_path()},
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            cwd="/",
            start_new_session=True,
        )
    RECORD.write_text(json.dumps({"pid": process.pid, "started_at": started_at(process.pid)}))
    deadline = time.monotonic() + START_TIMEOUT
    while not answers():
        if process.poll() is not None or time.monotonic() > deadline:
            RECORD.unlink(missing_ok=True)
            if process.poll() is None:
                process.terminate()
            raise Problem("dockerd did not start on this machine.", f"{tail(LOG, 15)}\n(whole log: {short(LOG)})")
        time.sleep(0.2)


def up() -> None:
    """Make sure that an engine answers.

    Raises Problem with the one thing to do where this may not or cannot be arranged from here.
    """
    if answers():
        return
    if os.geteuid() != 0:
        if SOCKET.exists():
            raise Problem(
                "A container engine is installed but does not answer this user: start it, or add this user to the"
                " group docker (sudo usermod -aG docker $USER, then log in again)."
            )
        raise Problem("No container engine answers: install one (on Debian or Ubuntu: sudo apt install docker.io).")
    if shutil.which("apt-get") is None:
        raise Problem("No container engine answers, and this is not Debian or Ubuntu: install Docker Engine first.")
    if shutil.which("dockerd", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin") is None:
        apt_install(["docker.io", "iptables"])
    if shutil.which("docker") is None:
        apt_install(["docker-cli"])  # Debian 13 packages the command line apart
    if answers():
        return
    with step("starting a container engine (dockerd)"):
        if Path("/run/systemd/system").is_dir():
            wait_for_systemd()
        else:
            start_by_hand()


def wait_for_systemd() -> None:
    """Let systemd start the engine: it then belongs to the machine and stays."""
    subprocess.run(["systemctl", "start", "docker.service"], check=False, capture_output=True)
    deadline = time.monotonic() + START_TIMEOUT
    while not answers():
        if time.monotonic() > deadline:
            raise Problem(
                "docker.service does not answer: look at `journalctl -u docker`.",
                output(["journalctl", "-u", "docker.service", "-n", "15", "--no-pager"]) or "",
            )
        time.sleep(0.2)


def check_network(image: str) -> None:
    """Prove that a container reaches its archive by name; tests and hosts install packages from there."""
    probe = (
        "import pathlib, re, socket;"
        "text = ''.join(path.read_text() for path in pathlib.Path('/etc/apt').glob('sources.list*') if path.is_file());"
        "socket.create_connection((re.search('http://([^/ ]+)', text)[1], 80), 15).close()"
    )
    done = subprocess.run(
        ["docker", "run", "--rm", image, "python3", "-c", probe], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no answer"]
        raise Problem(
            f"Containers have no way out to the network ({last[0]}): look at forwarding, NAT and DNS of the"
            " engine (docker network inspect bridge; iptables -t nat -S; docker run ... cat /etc/resolv.conf)."
        )


def down() -> str:
    """Stop the engine if this file started it and nothing runs in it; return what was done, in a few words."""
    pid = ours()
    if pid is None:
        return "left as it is (it was not started from here)"
    busy = output(["docker", "ps", "--quiet"])
    if busy:
        return f"left running: {len(busy.split())} other container(s) use it"
    began = time.monotonic()
    os.kill(pid, signal.SIGTERM)
    while running(pid):
        if time.monotonic() - began > STOP_TIMEOUT:
            raise Problem(f"dockerd (process {pid}) did not stop in {seconds(STOP_TIMEOUT)}.")
        time.sleep(0.2)
    RECORD.unlink(missing_ok=True)
    return "stopped"


def running(pid: int) -> bool:
    """Whether a process still runs; a zombie nobody waits for counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Find or start a container engine for the test hosts.")
    parser.add_argument("action", choices=["up", "down"])
    if parser.parse_args().action == "up":
        up()
        version = output(["docker", "version", "--format", "{{.Server.Version}}"])
        whose = "started from here" if ours() else "not started from here"
        print(f"engine {version} answers ({whose})")
    else:
        print(f"engine: {down()}")
    return 0


if __name__ == "__main__":
    main(work)

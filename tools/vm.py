"""Virtual machines for what containers cannot show: `python -m tools.vm up|down|cut NAME`, `python -m tools.vm test`.

A machine is qemu with a layer above the disk of its kind (vm-debian12 has that of debian12): KVM where this machine
has it, software emulation else. Only ports of this machine's own loopback lead to it. `cut` takes its power away,
and `up` starts it again from what had reached its disk.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tools import check, disks, environments, scenarios
from tools.engine import running, started_at
from tools.hosts import CONTROL_NODE_CA, control_node_ca
from tools.run import CACHE, LOGS, Problem, main, need, seconds, short, tail

KVM_TIMEOUT = 8.0
BOOT_TIMEOUT = 600.0  # without KVM a boot takes 40 s on two idle cores
MEMORY = "2048"
PROCESSORS = "2"
SCENARIO = "vm"


@dataclass(frozen=True)
class Machine:
    """A machine on record: the process that it is, and the ports of 127.0.0.1 that lead to it."""

    name: str
    kind: str
    ssh_port: int
    http_port: int
    pid: int = 0
    started_at: str = ""

    @property
    def layer(self) -> Path:
        """What it has written, above the disk of its kind."""
        return disks.PLACE / f"{self.name}.qcow2"

    @property
    def runs(self) -> bool:
        """Whether its very process still runs."""
        return bool(self.pid) and running(self.pid) and started_at(self.pid) == self.started_at


def record(name: str) -> Path:
    """Where it stands how a machine was started."""
    return disks.PLACE / f"{name}.json"


def find(name: str) -> Machine | None:
    """The machine of a name, None when there is none."""
    try:
        return Machine(**json.loads(record(name).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def free_ports() -> tuple[int, int]:
    """Two ports of this machine that nobody uses right now."""
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        return int(first.getsockname()[1]), int(second.getsockname()[1])


@functools.cache
def accelerator(kernel: Path) -> str:
    """kvm where a kernel comes to its first words with it, else tcg, which is qemu's own emulation.

    Where this machine is a virtual one itself there can be a /dev/kvm that this user may open, and no guest runs.
    """
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        return "tcg"
    argv = ["qemu-system-x86_64", "-accel", "kvm", "-cpu", "max", "-m", "512", "-display", "none", "-no-reboot"]
    argv += ["-serial", "stdio", "-kernel", str(kernel), "-append", "console=ttyS0 earlyprintk=ttyS0 panic=-1"]
    try:
        said = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=KVM_TIMEOUT, check=False
        ).stdout
    except subprocess.TimeoutExpired as expired:
        said = expired.stdout or b""
    return "kvm" if b"Linux version" in said else "tcg"


def command(machine: Machine, disk: disks.Disk, accel: str, console: Path) -> list[str]:
    """The command that is a machine; a write that the guest was told is safe is in the layer."""
    ways = f"hostfwd=tcp:127.0.0.1:{machine.ssh_port}-:22,hostfwd=tcp:127.0.0.1:{machine.http_port}-:80"
    return [
        *("qemu-system-x86_64", "-name", machine.name, "-accel", accel, "-cpu", "max"),
        *("-smp", PROCESSORS, "-m", MEMORY, "-display", "none", "-serial", f"file:{console}"),
        *("-kernel", str(disk.kernel), "-initrd", str(disk.initrd)),
        *("-append", "root=/dev/vda rw console=ttyS0 mitigations=off"),
        *("-drive", f"file={machine.layer},if=virtio,format=qcow2,cache=writeback"),
        *("-netdev", f"user,id=net,{ways}", "-device", "virtio-net-pci,netdev=net"),
        *("-device", "virtio-rng-pci"),
    ]


def ssh(machine: Machine, words: Sequence[str] = ()) -> list[str]:
    """The command that logs in as the user that cloud-init made; connections are kept, as Ansible keeps its own."""
    options = {
        "IdentityFile": str(disks.KEY),
        "UserKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "no",
        "LogLevel": "ERROR",
        "ConnectTimeout": "5",
        "ServerAliveInterval": "5",
    }
    given = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return ["ssh", *given, "-p", str(machine.ssh_port), f"{disks.USER}@127.0.0.1", *words]


def boot(machine: Machine, disk: disks.Disk) -> Machine:
    """Switch a machine on, put its process on record, and wait until it is up."""
    console = LOGS / f"{machine.name}.console.log"
    LOGS.mkdir(parents=True, exist_ok=True)
    with (LOGS / f"{machine.name}.qemu.log").open("w") as sink:
        process = subprocess.Popen(
            command(machine, disk, accelerator(disk.kernel), console),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            start_new_session=True,
        )
    started = Machine(**{**asdict(machine), "pid": process.pid, "started_at": started_at(process.pid) or ""})
    record(machine.name).write_text(json.dumps(asdict(started)))
    wait_until_up(started)
    return started


def wait_until_up(machine: Machine) -> None:
    """Wait until a machine can be logged in to and systemd calls it running; a failed unit is a failure."""
    deadline = time.monotonic() + BOOT_TIMEOUT
    while True:
        argv = ssh(machine, ["systemctl is-system-running --wait; systemctl --failed --no-legend --plain"])
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        said = done.stdout.split("\n", 1)
        if said[0] == "running":
            return
        if said[0] == "degraded":
            raise Problem(f"The machine {machine.name} came up with failed units.", said[-1])
        if time.monotonic() > deadline or not machine.runs:
            logs = [LOGS / f"{machine.name}.{what}.log" for what in ("qemu", "console")]
            evidence = "\n".join(tail(log, 15) for log in logs)
            raise Problem(f"The machine {machine.name} did not come up.", f"{evidence}\n{done.stderr}")
        time.sleep(0.3)


def up(name: str) -> Machine:
    """Make sure that a machine runs: a new one has an empty layer, one that was cut off goes on with its own."""
    known = find(name)
    if known and known.runs:
        return known
    kind = name.rpartition("-")[2]
    disk = disks.ensure(kind)
    if known and known.layer.exists():
        return boot(known, disk)
    machine = Machine(name, kind, *free_ports())
    layer = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(disk.image), str(machine.layer)]
    need(layer, LOGS / f"{name}.log", f"The machine {name} got no disk.")
    started = boot(machine, disk)
    bring_certificates(started)
    return started


def bring_certificates(machine: Machine) -> None:
    """Give a machine the certificates that this one trusts, for pip behind a proxy that inspects TLS."""
    ca = control_node_ca()
    if ca is None:
        return
    argv = ssh(machine, [f"sudo sh -c 'cat > {CONTROL_NODE_CA}'"])
    if subprocess.run(argv, input=Path(ca).read_bytes(), capture_output=True, check=False).returncode:
        raise Problem(f"The certificates of this machine did not reach {machine.name}.")


def cut(name: str) -> None:
    """Take a machine's power away: what it had not written to its disk is lost."""
    machine = find(name)
    if machine is None or not machine.runs:
        return
    os.kill(machine.pid, signal.SIGKILL)
    while machine.runs:
        time.sleep(0.05)


def down(name: str) -> None:
    """Remove a machine and what it has written."""
    cut(name)
    for path in (record(name), disks.PLACE / f"{name}.qcow2"):
        path.unlink(missing_ok=True)


def write_instances(machines: Sequence[Machine], path: Path) -> None:
    """Tell Molecule how the machines are reached; JSON is YAML."""
    told = [
        {
            "instance": machine.name,
            "address": "127.0.0.1",
            "port": machine.ssh_port,
            "user": disks.USER,
            "identity_file": str(disks.KEY),
        }
        for machine in machines
    ]
    path.write_text(json.dumps(told, indent=1))


def run_scenario(keep: bool) -> int:
    """Run the Molecule scenario on a machine, and say how its tests ended."""
    disk = disks.ensure(os.environ.setdefault("VM", disks.KINDS[0]))
    found = environments.made()[0]
    print(f"the scenario {SCENARIO}, on {os.environ['VM']} with {accelerator(disk.kernel)} ... ", end="", flush=True)
    began = time.monotonic()
    one = scenarios.Scenario(SCENARIO, scenarios.MOLECULE / SCENARIO / "molecule.yml")
    result = check.scenario(found, one, keep, kinds=())
    print(f"{seconds(time.monotonic() - began)}, {check.said(result)}")
    for log in sorted((CACHE / "reports").glob("vm*.md")):
        print(f"what its users met: {short(log)}")
    if result.evidence:
        print(f"\n{result.evidence.rstrip()}\n")
    return 1 if result.problem else 0


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Virtual machines for tests.")
    parser.add_argument("action", choices=["up", "down", "cut", "test"])
    parser.add_argument("names", nargs="*", metavar="NAME", help="such as vm-debian12")
    parser.add_argument("--instances", type=Path, help="file that tells Molecule how the machines are reached")
    parser.add_argument("--keep", action="store_true", help="leave the machine of the test running")
    options = parser.parse_args()
    if options.action == "test":
        return run_scenario(options.keep)
    machines = []
    for name in options.names:
        if options.action == "up":
            machines.append(up(name))
            print(f"{name} is up: {' '.join(ssh(machines[-1]))}")
        else:
            (cut if options.action == "cut" else down)(name)
    if options.instances:
        write_instances(machines, options.instances)
    return 0


if __name__ == "__main__":
    main(work)

"""The bench: N hosts over SSH, this role and a plain playbook timed side by side. `make bench-fleet`.

Each side has hosts of its own. First deploys are timed on a few hosts, because each of them installs its virtualenv
with the cores of this one machine; no-op runs and code-only releases on growing numbers of hosts, and on all of them a
release while the first host has visitors, so that its traffic is compared. A round runs both sides, one after the
other, in changing order, and every run is judged: a no-op changes nothing, and after a release every host answers with
the new version. BENCH="--sizes 2,4 --repeats 1" make bench-fleet is a short form. With --against REVISION the other
side is this role as it was then, taken from git: does a change cost time?
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import farm, figures
from bench.farm import Machine, Workshop
from bench.figures import Sample, Trips
from tools import hosts
from tools.run import CACHE, LOGS, ROOT, Problem, main, seconds, short, tail

KINDS = ("no-op", "release", "release with visitors", "first deploy")
PACE = 0.1  # seconds from one visit to the next
BEFORE = 12.0  # seconds of visits before a run: longer than what is compared with, flask_gunicorn_nginx_rollout.bake
REPORT = CACHE / "reports" / "bench-fleet.json"


def numbers(text: str) -> list[int]:
    """5,10,20 as a sorted list."""
    return sorted({int(part) for part in text.split(",")})


@dataclass(frozen=True)
class Side:
    """What is measured: a playbook, the directory it is run in, and what its inventory says of the app."""

    playbook: str
    place: Path
    variables: dict[str, object]


def sides(workshop: Workshop, against: str) -> dict[str, Side]:
    """This role, and what it is measured against: a revision of it, or the plain playbook where none is named."""
    ca = hosts.CONTROL_NODE_CA if hosts.control_node_ca() else ""
    role = farm.of_role(workshop.app)
    plain: dict[str, object] = {
        "app_repo": f"file://{farm.REPOSITORY_ON_HOST}",
        "pip_environment": {"PIP_CERT": ca} if ca else {},
    }
    if against:
        name, place = farm.revision(against)
        return {"fleet": Side("site.yml", ROOT, role), name: Side("site.yml", place, role)}
    return {"fleet": Side("site.yml", ROOT, role), "plain": Side("bench/baseline/site.yml", ROOT, plain)}


class Bench:
    """Everything that one run of the bench measures, and with what."""

    def __init__(
        self, sides: dict[str, Side], machines: dict[str, list[Machine]], workshop: Workshop, forks: int, sockets: Path
    ) -> None:
        self.sides, self.machines, self.workshop, self.forks, self.sockets = sides, machines, workshop, forks, sockets
        self.samples: list[Sample] = []
        self.trips: dict[tuple[str, str], Trips] = {}

    def timed(self, argv: Sequence[str], log: Path, place: Path = ROOT) -> tuple[int, float, float]:
        """Run a command on cold connections: its exit code, seconds, and the CPU seconds of it and its children."""
        farm.hang_up(self.sockets)
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(place / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_FORKS": str(self.forks),
            "ANSIBLE_SSH_CONTROL_PATH_DIR": str(self.sockets),
        }
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("w") as sink:
            began = time.monotonic()
            process = subprocess.Popen(
                argv, cwd=place, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
            )
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            took = time.monotonic() - began
        return process.returncode, took, usage.ru_utime + usage.ru_stime

    def play(self, side: str, kind: str, machines: Sequence[Machine], *flags: str) -> Sample:
        """Run a side's playbook on some hosts, and judge how it ended."""
        log = LOGS / f"bench-{side}-{kind.replace(' ', '-')}-{len(machines)}.log"
        what = self.sides[side]
        inventory = farm.inventory(machines, what.variables, side)
        argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), *flags, what.playbook]
        code, took, cpu = self.timed(argv, log, what.place)
        text = log.read_text(errors="replace")
        recap = figures.recap(text)
        if code or len(recap) != len(machines) or not all(well for _, well in recap.values()):
            raise Problem(f"The {kind} run of {side} failed.", f"{tail(log)}\n(whole log: {short(log)})")
        idle = [host for host, (changed, _) in recap.items() if not changed]
        if kind == "no-op" and len(idle) != len(machines):
            raise Problem(f"The no-op run of {side} changed something.", f"{tail(log)}\n(whole log: {short(log)})")
        if kind != "no-op" and idle:
            raise Problem(f"The {kind} run of {side} changed nothing on {', '.join(idle)}.", short(log))
        if flags:
            self.trips[side, kind] = figures.trips(text)
        self.prove(machines)
        return Sample(side, kind, len(machines), took, cpu)

    def prove(self, machines: Sequence[Machine]) -> None:
        """See that every host answers with the version that was sent."""

        def ask(machine: Machine) -> str:
            with urllib.request.urlopen(f"http://{machine.address}/", timeout=20) as response:  # nosec B310: http
                return str(response.read().decode())

        # a restarted Gunicorn may not listen yet: the usual way asks nobody before the play ends
        deadline = time.monotonic() + 20
        with ThreadPoolExecutor(4) as pool:
            while True:
                with contextlib.suppress(OSError):
                    answers = set(pool.map(ask, machines))
                    if answers == {self.workshop.greeting}:
                        return
                if time.monotonic() > deadline:
                    raise Problem(f"Not every host answers {self.workshop.greeting!r}.")
                time.sleep(0.5)

    def floor(self, machines: Sequence[Machine]) -> Sample:
        """One bare `ssh HOST true` for each host, as many at once as Ansible has forks."""
        ssh = ["ssh", "-i", str(farm.KEY), *farm.ssh_options(), "-l", farm.USER]
        addresses = "\n".join(machine.address for machine in machines)
        listed = farm.PLACE / "addresses"
        listed.write_text(addresses)
        argv = ["xargs", "--arg-file", str(listed), "-P", str(self.forks), "-I", "HOST", *ssh, "HOST", "true"]
        log = LOGS / "bench-floor.log"
        code, took, cpu = self.timed(argv, log)
        if code:
            raise Problem("ssh HOST true failed.", tail(log))
        return Sample("floor", "ssh true", len(machines), took, cpu)

    def measure(self, kind: str, which: slice, repeat: int) -> None:
        """One round: both sides, one after the other, in an order that changes."""
        for side in list(self.sides) if repeat % 2 == 0 else list(self.sides)[::-1]:
            machines = self.machines[side][which]
            with visitors(machines[0]) if kind == "release with visitors" else contextlib.nullcontext():
                self.add(self.play(side, kind, machines))

    def add(self, sample: Sample) -> None:
        """Keep a measurement and say it."""
        self.samples.append(sample)
        print(
            f"  {sample.kind:12} {sample.hosts:3} hosts  {sample.side:7}  {seconds(sample.seconds):>12}"
            f"  (control node's CPU {seconds(sample.cpu)})",
            flush=True,
        )
        self.save()

    def save(self) -> None:
        """Write what has been measured so far."""
        REPORT.parent.mkdir(parents=True, exist_ok=True)
        trips = [{"side": side, "kind": kind, **asdict(each)} for (side, kind), each in self.trips.items()]
        data = {"forks": self.forks, "samples": [asdict(each) for each in self.samples], "trips": trips}
        REPORT.write_text(json.dumps(data, indent=1))

    def report(self) -> str:
        """The tables."""
        counted = [
            (side, kind, self.trips[side, kind]) for kind in KINDS for side in self.sides if (side, kind) in self.trips
        ]
        return "\n\n".join(
            [
                figures.times_table(self.samples, KINDS),
                figures.lines_table(self.samples, KINDS),
                figures.trips_table(counted),
            ]
        )


@contextlib.contextmanager
def visitors(machine: Machine) -> Iterator[None]:
    """Have a host visited, from a while before on. What they see is not counted here: tests/integration does."""
    left = threading.Event()

    def visit() -> None:
        while not left.wait(PACE):
            address = f"http://{machine.address}/"
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as page:  # nosec B310: http
                page.read()

    thread = threading.Thread(target=visit, daemon=True)
    thread.start()
    time.sleep(BEFORE)
    try:
        yield
    finally:
        left.set()
        thread.join()


@contextlib.contextmanager
def alone(lock: str) -> Iterator[None]:
    """Hold the lock that the jobs of a shared machine agreed on; nothing without one."""
    if not lock:
        yield
        return
    with open(lock, "a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def run(bench: Bench, options: argparse.Namespace) -> None:
    """Take all measurements."""
    sizes, releases = numbers(options.sizes), numbers(options.releases or options.sizes)
    few, deploys = options.first, min(options.repeats, max(sizes) // options.first)
    with alone(options.lock):
        for repeat in range(deploys):
            bench.measure("first deploy", slice(few * repeat, few * (repeat + 1)), repeat)
        for side in bench.sides:
            if rest := bench.machines[side][few * deploys :]:
                bench.play(side, "first deploy", rest, "-vvv")
        for side in bench.sides:
            bench.play(side, "no-op", bench.machines[side][:few], "-vvv")
    for repeat in range(options.repeats):
        with alone(options.lock):
            for size in sizes:
                bench.add(bench.floor(bench.machines["fleet"][:size]))
                bench.measure("no-op", slice(size), repeat)
            for size in releases:
                bench.workshop.change(f"{repeat}.{size}")
                bench.measure("release", slice(size), repeat)
            bench.workshop.change(f"{repeat}.visited")
            bench.measure("release with visitors", slice(max(releases)), repeat)
            if repeat == options.repeats - 1:
                bench.workshop.change("counted")
                for side in bench.sides:
                    bench.play(side, "release", bench.machines[side][:few], "-vvv")


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time this role and a plain playbook side by side on many hosts.")
    parser.add_argument("--sizes", default="5,10,20,30", help="numbers of hosts (%(default)s)")
    parser.add_argument("--releases", default="", help="numbers of hosts of the releases, where not those of --sizes")
    parser.add_argument("--first", type=int, default=5, help="hosts of one first deploy (%(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of each (%(default)s)")
    parser.add_argument("--forks", type=int, default=20, help="hosts at once, for all sides (%(default)s)")
    parser.add_argument("--against", default="", metavar="REVISION", help="measure against this role as it was then")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running")
    parser.add_argument("--lock", default="", metavar="FILE", help="hold this lock while measuring")
    options = parser.parse_args()
    began = time.monotonic()
    farm.PLACE.mkdir(parents=True, exist_ok=True)
    workshop = Workshop()
    compared = sides(workshop, options.against)
    with farm.control_sockets() as sockets:
        try:
            with alone(options.lock):
                machines = farm.up(list(compared), max(numbers(options.sizes)))
            farm.known_hosts([machine for side in compared for machine in machines[side]])
            bench = Bench(compared, machines, workshop, options.forks, sockets)
            run(bench, options)
            bench.save()
        finally:
            if not options.keep:
                farm.down()
    print(f"\n{bench.report()}\n\nforks: {options.forks}; all of it took {seconds(time.monotonic() - began)};", end=" ")
    print(f"every measurement: {short(REPORT)}")
    return 0


if __name__ == "__main__":
    main(work)

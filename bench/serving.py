"""The bench of serving: a plain configuration as tutorials write it, and this role's defaults. `make bench`.

Two hosts in containers, one for each side, and a third for the clients; all on this machine. A round measures the
sides one after the other, in changing order; what counts is the ratio within a round, and the median of all rounds.
Results go to bench/figures/serving.json, tables and plots of docs/performance.md are drawn from that (`bench/draw.py`).
BENCH="--cases static,hello --rounds 3 --keep" make bench is a short form; what is not measured stays as it was.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from bench import draw, farm, record
from bench.cases import CASES, Case, Result, of, read_paced, read_wrk
from bench.farm import Machine
from tools import hosts
from tools.run import CACHE, LOGS, ROOT, Problem, main, need, step

CLIENT = "serving-client"
SIDES = {"seed": ROOT / "bench/baseline/site.yml", "role": ROOT / "site.yml"}
APP = ROOT / "bench/app/routes.py"
BENCH = "serving"
PROGRAMS = {"paced": ROOT / "bench/paced.py", "slow": ROOT / "bench/slow.py"}
STATIC_BYTES = 4096
LOAD = 0.6  # of what the seed answers at most: the offered load of a case that has a pace
PAUSE = 0.5  # seconds between two measurements, for what the one before has left


def host(side: str) -> str:
    """The container of a side."""
    return f"serving-{side}"


def workshop() -> farm.Workshop:
    """The sample app with the requests that are timed, and a static file."""
    made = farm.Workshop()
    for place in (made.app, made.clone):
        shutil.copy(APP, place / APP.name)
        (place / "static/4k.css").write_text("/* four kilobytes */\n".ljust(STATIC_BYTES, "x"))
    made.original += "\n\nimport routes  # noqa: E402\n\nroutes.add(app)\n"
    made.change("bench")
    return made


def up(shop: farm.Workshop) -> None:
    """Start the hosts, and deploy to each what it is for."""
    farm.make_image()
    machines = {}
    with step("starting three hosts"):
        for name in (CLIENT, *map(host, SIDES)):
            machines[name] = farm.started(name)
    farm.known_hosts(list(machines.values()))
    for side in SIDES:
        with step(f"deploying {side}"):
            deploy(side, machines[host(side)], shop)
        # as after the next boot: the sandbox of nginx counts from its start
        inside(host(side), "systemctl", "restart", "nginx")


def deploy(side: str, machine: Machine, shop: farm.Workshop) -> None:
    """Run a side's playbook."""
    ca = hosts.CONTROL_NODE_CA if hosts.control_node_ca() else ""
    variables = farm.of_role(shop.app)
    if side == "seed":
        variables = {
            "app_repo": f"file://{farm.REPOSITORY_ON_HOST}",
            "pip_environment": {"PIP_CERT": ca} if ca else {},
        }
    inventory = farm.inventory([machine], variables, host(side))
    playbook = Path(sys.executable).with_name("ansible-playbook")
    with farm.control_sockets() as sockets:
        need(
            [str(playbook), "-i", str(inventory), str(SIDES[side])],
            LOGS / f"bench-serving-{side}.log",
            f"The deployment of {side} failed.",
            {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets)},
        )


def down() -> None:
    """Remove the hosts."""
    for name in (CLIENT, *map(host, SIDES)):
        hosts.remove(name)


def inside(name: str, *argv: str, program: Path | None = None) -> str:
    """Run a command in a container, with a program on its standard input; what it says."""
    text = program.read_text() if program else None
    command = ["docker", "exec", "--interactive", name, *argv]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"{' '.join(argv)} failed on {name}.", done.stdout + done.stderr)
    return done.stdout


def measure(case: Case, side: str, rate: float) -> dict[str, float]:
    """Take one measurement."""
    where = "role" if side == "bare" else side
    target = ("127.0.0.1", 5000 if side == "bare" else 80) if case.inside else (farm.address(host(where)), 80)
    on = host(where) if case.inside else CLIENT
    argv = case.argv(*target, rate)
    program = PROGRAMS.get(case.tool)
    said = inside(on, *argv, program=program)
    return read_paced(said) if program else read_wrk(said)


def take(case: Case, rounds: int, rate: float) -> Iterator[Result]:
    """All rounds of a case, its sides one after the other, in changing order."""
    for number in range(rounds):
        for side in case.sides if number % 2 == 0 else case.sides[::-1]:
            time.sleep(PAUSE)
            figures = measure(case, side, rate)
            print(f"  {case.name:9} {number + 1}  {side:5} {said(figures)}", flush=True)
            yield Result(case.name, side, number, figures)


def said(figures: Mapping[str, float]) -> str:
    """Figures on a line."""
    return "  ".join(f"{name} {value:g}" for name, value in figures.items())


def made_with() -> dict[str, str]:
    """On what, and with what, it is measured."""
    python = "/srv/hello/current/venv/bin/python"
    names = ("gunicorn", "gevent", "flask")
    packages = f"import importlib.metadata as m; print(', '.join(f'{{n}} {{m.version(n)}}' for n in {names}))"
    return {
        **record.this_machine(),
        "host": inside(host("role"), "sh", "-c", ". /etc/os-release; echo $PRETTY_NAME").strip(),
        "nginx": inside(host("role"), "sh", "-c", "/usr/sbin/nginx -v 2>&1").strip().rpartition("/")[2],
        "python": inside(host("role"), python, "-V").strip().removeprefix("Python "),
        "packages": inside(host("role"), python, "-c", packages).strip(),
        "wrk": inside(CLIENT, "dpkg-query", "--show", "--showformat=${Version}", "wrk").strip(),
    }


def offered() -> float:
    """The load of a case that has a pace, by what the seed has answered at most."""
    best = of(record.results(record.read(BENCH), "hello"), "seed", "rate")
    if not best:
        raise Problem("Which load is to be offered? Measure hello first, or say --rate.")
    return round(LOAD * statistics.median(best), -1)


def run(names: Sequence[str], rounds: int, rate: float) -> None:
    """Measure, and keep each case when it is whole."""
    for case in (case for case in CASES if case.name in names):
        load = (rate or offered()) if case.paced else 0.0
        results = list(take(case, rounds, load))
        record.keep(BENCH, case.name, " ".join(case.argv("HOST", 80, load)), made_with(), results)


def work() -> int:
    """The command line."""
    every = ",".join(case.name for case in CASES)
    parser = argparse.ArgumentParser(description="Time how a plain configuration and this role serve, side by side.")
    parser.add_argument("--cases", default=every, help="which (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (%(default)s)")
    parser.add_argument("--rate", type=float, default=0, help="offered load, where not by what the seed can do")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running")
    parser.add_argument("--reuse", action="store_true", help="take the hosts that a run with --keep has left")
    parser.add_argument("--prepare", action="store_true", help="start and deploy, measure nothing, keep the hosts")
    options = parser.parse_args()
    farm.PLACE.mkdir(parents=True, exist_ok=True)
    CACHE.mkdir(exist_ok=True)
    keep = options.keep or options.prepare or options.reuse
    try:
        if not options.reuse:
            up(workshop())
        if not options.prepare:
            run(options.cases.split(","), options.rounds, options.rate)
    finally:
        if not keep:
            down()
    if not options.prepare:
        draw.write()
        print(f"\n{draw.table(record.read(BENCH))}")
    return 0


if __name__ == "__main__":
    main(work)

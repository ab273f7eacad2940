"""The bench of a first deploy: a fresh host, by this role and by a bare shell script. `python -m bench.first`.

A host has what a minimal Debian has, an account with sudo, and no package of the stack. The script
(bench/baseline/bare.sh) has the same apt and pip steps and goes over one SSH connection. Both sides take packages from
the same mirror and index, one after the other, in changing order. Results go to bench/figures/first.json.
"""

from __future__ import annotations

import argparse
import io
import os
import shlex
import subprocess
import sys
import tarfile
import time
from pathlib import Path

from bench import draw, farm, record
from bench.cases import Result
from bench.farm import Machine
from tools import hosts
from tools.run import LOGS, ROOT, Problem, main, seconds, short, tail

SIDES = ("bare", "role")
SCRIPT = ROOT / "bench/baseline/bare.sh"


def packed(place: Path) -> bytes:
    """A directory as a tar archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(place, arcname=".", filter=lambda entry: None if "/.git" in entry.name else entry)
    return archive.getvalue()


def bare(machine: Machine, shop: farm.Workshop) -> tuple[list[str], bytes]:
    """The command of the script, and what goes through it."""
    ca = f"PIP_CERT={hosts.CONTROL_NODE_CA} " if hosts.control_node_ca() else ""
    remote = f"sudo {ca}bash -c {shlex.quote(SCRIPT.read_text())}"
    return ["ssh", "-i", str(farm.KEY), *farm.ssh_options(), f"{farm.USER}@{machine.address}", remote], packed(
        shop.clone
    )


def role(machine: Machine, shop: farm.Workshop) -> tuple[list[str], bytes]:
    """The command of the role."""
    variables = farm.of_role(shop.app)
    inventory = farm.inventory([machine], variables, "first")
    return [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "site.yml"], b""


def deploy(side: str, number: int, shop: farm.Workshop) -> float:
    """Deploy to a new host; how long it took."""
    name = f"first-{side}-{number}"
    machine = farm.started(name, farm.FRESH_KIND)
    try:
        farm.known_hosts([machine])
        argv, text = {"bare": bare, "role": role}[side](machine, shop)
        log = LOGS / f"bench-first-{side}.log"
        with farm.control_sockets() as sockets, log.open("w") as sink:
            environment = {
                **os.environ,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_SSH_CONTROL_PATH_DIR": str(sockets),
            }
            began = time.monotonic()
            done = subprocess.run(argv, cwd=ROOT, env=environment, input=text, stdout=sink, stderr=sink, check=False)
            took = time.monotonic() - began
        if done.returncode:
            raise Problem(f"The first deploy of {side} failed.", f"{tail(log)}\n(whole log: {short(log)})")
        return took
    finally:
        hosts.remove(name)


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Time a first deploy to a fresh host, by this role and by a script.")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each (%(default)s)")
    options = parser.parse_args()
    farm.PLACE.mkdir(parents=True, exist_ok=True)
    shop = farm.Workshop()
    farm.make_image(farm.FRESH_KIND, packages="")
    taken: list[Result] = []
    for number in range(options.rounds):
        for side in SIDES if number % 2 == 0 else SIDES[::-1]:
            took = deploy(side, number, shop)
            print(f"  {number + 1}  {side:5} {seconds(took)}", flush=True)
            taken.append(Result("first", side, number, {"seconds": round(took, 2)}))
    record.keep("first", "first", f"python -m bench.first --rounds {options.rounds}", record.this_machine(), taken)
    draw.write()
    return 0


if __name__ == "__main__":
    main(work)

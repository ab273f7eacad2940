"""The long proof: `make soak` releases a hundred times under a million requests, then breaks everything everywhere.

First part: one host, users as fast as they come and some slow ones, and releases of every kind until both numbers are
reached. Second part: the Molecule scenario `faults` at every step and task instead of at a sample. Not in make test: it
takes hours on a small machine. SOAK="--releases 20 --requests 100000 --no-faults" make soak takes a part.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.load.client import Report
from tests.load.fleet import NAME, Answer, Books, Host, Workshop, play
from tools import hosts, images
from tools.run import CACHE, ROOT, Problem, main, seconds, step

HOST = "soak-debian12"
# enough short requests to keep two cores busy, and some long ones for each release to wait for
USERS = "get=6,get-new=2,post=4,static=2,post-idle=4,upload-paused=4,get-slow=4,post-slow=4,stream=4,websocket=4"


def inventory(place: Path) -> None:
    """Describe the host to Ansible, for the playbook that installs the first release."""
    ca = hosts.control_node_ca()
    variables = {
        "ansible_connection": "community.docker.docker",
        "flask_gunicorn_nginx_name": NAME,
        "flask_gunicorn_nginx_source": str(ROOT / "tests/load/app"),
        "flask_gunicorn_nginx_default_server": True,
        "flask_gunicorn_nginx_health_path": "/healthz",
        "flask_gunicorn_nginx_trusted_proxies": ["172.16.0.0/12"],  # this machine may know which release answered
        **({"flask_gunicorn_nginx_pip": {"ca_bundle": hosts.CONTROL_NODE_CA}} if ca else {}),
    }
    path = place / "hosts.json"
    path.write_text(json.dumps({"flask_app": {"hosts": {HOST: {}}, "vars": variables}}))
    os.environ["MOLECULE_INVENTORY_FILE"] = str(path)


def good(answer: Answer) -> str:
    """The id of a release that went well; raises Problem for one that did not."""
    if answer.rc:
        raise Problem("A release was refused that should not have been.", answer.story)
    return str(answer.data["id"])


class Releases:
    """Releases of every kind in turn: new code, a configuration, back, back to an id, and a bad one now and then."""

    def __init__(self, host: Host, books: Books, workshop: Workshop) -> None:
        self.host, self.books, self.workshop = host, books, workshop
        self.last = ""

    def make(self, number: int) -> None:
        """Do the release with this number, and see that it is what answers."""
        kind = number % 10
        if kind == 9:
            self.refuse(number)
        if kind in (3, 6):
            answer = self.host.flaskctl("rollback")
        elif kind == 7:
            answer = self.host.flaskctl("rollback", self.last)
        elif kind == 4:
            config = self.host.config()
            config["environment"]["LOAD_SETTING"] = str(number)
            staged = self.host.flaskctl("stage", "--config", "-", config=config)
            answer = self.host.flaskctl("activate", good(staged))
        else:
            answer = self.host.release(self.workshop.version(str(number)))
            self.last = str(answer.data.get("id"))
        self.books.note(good(answer), self.host.version())
        if kind == 0 and self.host.flaskctl("prune", "--keep", "8").rc:
            raise Problem("prune failed.")

    def refuse(self, number: int) -> None:
        bad = self.host.release(self.workshop.version(f"bad-{number}", append="raise RuntimeError('bad on purpose')"))
        if bad.rc != 1 or "bad on purpose" not in bad.story:
            raise Problem("A bad release was not refused in its own words.", str(bad))
        listed = self.host.flaskctl("releases").data["releases"]
        self.books.refused |= {release["id"] for release in listed if "refused" in release["state"]}


def soak(releases: int, requests: int, rate: float) -> Report:
    """Release until both numbers are reached; the report of the users."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        inventory(place)
        with step("the first release, by playbook"):
            played = play({}, place)
        if played.rc:
            raise Problem("The first release failed.", played.out[-5000:])
        host = Host(HOST)
        books, workshop = Books([host]), Workshop(place)
        books.note(str(host.status()["current"]), host.version())
        books.open("--users", USERS, "--rate", str(rate), "--seconds", str(24 * 3600))
        run = Releases(host, books, workshop)
        began = time.monotonic()
        for number in range(1, releases + 1):
            with books.row(f"release {number}"):
                run.make(number)
            while (now := books.loads[HOST].report()).requests < requests * number // releases:
                time.sleep(1)
            if number % 10 == 0 or now.failed:
                took = seconds(time.monotonic() - began)
                print(f"{number} releases, {now.requests} requests, {now.failed} failed, {took}", flush=True)
        report = books.close()[HOST]
        books.save("soak")
        answered = set(report.releases)
        if answered & books.refused or not answered <= set(books.released):
            raise Problem("A release has answered that should not have.", str(report))
        return report


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Release under load for hours, then break everything.")
    parser.add_argument("--releases", type=int, default=100)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--rate", type=float, default=0.0, help="short requests a second, 0: as fast as they come")
    parser.add_argument("--no-faults", action="store_true", help="leave out the second part")
    options = parser.parse_args()
    images.ensure(["debian12"])
    hosts.remove(HOST)
    with step(f"starting the host {HOST}"):
        hosts.start(HOST, "debian12")
    try:
        report = soak(options.releases, options.requests, options.rate)
    finally:
        hosts.remove(HOST)
    print(report, flush=True)
    failed = report.failed
    if not options.no_faults:
        argv = [str(Path(sys.executable).with_name("molecule")), "test", "--scenario-name", "faults"]
        environment = {**os.environ, "FAULTS": "all", "MOLECULE_GLOB": "molecule/*/molecule.yml"}
        failed += subprocess.run(argv, cwd=ROOT, env=environment, check=False).returncode
    print(f"figures: {CACHE / 'reports'}")
    return 1 if failed else 0


if __name__ == "__main__":
    main(work)

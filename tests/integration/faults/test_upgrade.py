"""A host that was released by an older role is taken over by this one under load, and nobody notices anything.

The older role comes from the history of this repository; where a clone has none, there is nothing to take over from.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load.fleet import NAME, REPOSITORY, Answer, Books, Host, Json, Workshop, playbook_environment
from tools import hosts as containers

pytestmark = pytest.mark.on("upgrade")

OLD = "6558cb6cefc0"  # flaskctl was one file then
SYSTEM = os.environ.get("HOST_1", "debian13")  # as `make test HOSTS=...` chooses


@dataclasses.dataclass
class Fleet:
    """One host, and the two roles that release to it."""

    host: Host
    old: Path
    place: Path

    def play(self, role: Path, source: Path) -> str:
        """Release with one of the roles; what ansible-playbook said."""
        ca = {"ca_bundle": containers.CONTROL_NODE_CA} if containers.control_node_ca() else {}
        variables: Json = {
            "flask_gunicorn_nginx_name": NAME,
            "flask_gunicorn_nginx_source": str(source),
            "flask_gunicorn_nginx_default_server": True,
            "flask_gunicorn_nginx_health_path": "/healthz",
            "flask_gunicorn_nginx_processes": [{"name": "worker", "command": "python worker.py"}],
            "flask_gunicorn_nginx_pip": ca,
        }
        (self.place / "variables.json").write_text(json.dumps(variables))
        known = {self.host.name: {"ansible_connection": "community.docker.docker"}}
        (self.place / "hosts.json").write_text(json.dumps({"flask_app": {"hosts": known}}))
        files = ["-i", str(self.place / "hosts.json"), "-e", f"@{self.place / 'variables.json'}"]
        environment = {**playbook_environment(), "ANSIBLE_CONFIG": str(role / "ansible.cfg")}
        argv = ["ansible-playbook", *files, "site.yml"]
        done = subprocess.run(argv, cwd=role, env=environment, capture_output=True, text=True, timeout=900, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def current(self) -> str:
        return str(self.host.status()["current"])


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    packed = subprocess.run(["git", "archive", OLD], cwd=REPOSITORY, capture_output=True, check=False)
    if packed.returncode:
        pytest.skip(f"no commit {OLD} here to take over from: {packed.stderr.decode().strip()}")
    old = tmp_path_factory.mktemp("old")
    with tarfile.open(fileobj=io.BytesIO(packed.stdout)) as tar:
        tar.extractall(old, filter="data")
    host = Host(f"faults-upgrade-{SYSTEM}")
    containers.remove(host.name)
    containers.start(host.name, SYSTEM)
    try:
        yield Fleet(host, old, tmp_path_factory.mktemp("upgrade"))
    finally:
        containers.remove(host.name)


def good(answer: Answer) -> Answer:
    assert answer.rc == 0, answer.story
    return answer


def test_a_host_of_an_older_role_is_taken_over_and_rolls_back_to_what_that_released(
    fleet: Fleet, workshop: Workshop
) -> None:
    host = fleet.host
    source = workshop.source("old")
    fleet.play(fleet.old, source)
    old = fleet.current
    assert host.run("test -d /usr/local/lib/flaskctl || echo none") == "none"
    users = Books([host])
    users.open("--rate", "40")
    try:
        with users.row("the new role takes the host over"):
            fleet.play(REPOSITORY, source)
        assert host.version() == "old"
        assert "/usr/local/lib/flaskctl/" in host.run("cat /usr/local/bin/flaskctl")
        with users.row("a release by the new role"):
            fleet.play(REPOSITORY, workshop.source("new"))
        new = fleet.current
        assert old in {item["id"] for item in good(host.flaskctl("releases")).data["releases"]}
        for version, release in [("old", old), ("new", new)] * 2:
            with users.row(f"to {version}"):
                good(host.flaskctl("rollback", release))
            assert (host.version(), fleet.current) == (version, release)
        with users.row("fresh processes"):
            good(host.flaskctl("restart"))
        assert host.status()["problems"] == []
    finally:
        (report,) = users.close().values()
        users.save("upgrade")
    # the site is another one, so nginx reloads, once: it closes connections that clients keep and do not use
    other = [text for text in report.failures if "reused connection" not in text]
    assert report.requests > 100 and not other, f"{report}\n{users.table()}"
    assert not any(row.failed for row in users.rows[1:]), users.table()

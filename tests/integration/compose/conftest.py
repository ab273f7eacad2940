"""The two containers of files/compose, from a copy of what they are made of, so that a test may change a line."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.integration.asking import Answer
from tools import check, compose
from tools.compose import PROXY, Project
from tools.run import ROOT, Problem

NAME = "flaskfleet-compose-check"


class Containers(Project):
    """The project as a client asks it, and as its administrator looks at it."""

    def get(self, path: str, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request("GET", path, headers={"Host": f"localhost:{self.port}", **sent})
            response = connection.getresponse()
            got: Mapping[str, str] = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, got, response.read().decode())
        finally:
            connection.close()

    def eventually(self, what: Callable[[], bool], seconds: float = 30) -> bool:
        deadline = time.monotonic() + seconds
        while not what():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def serves(self) -> bool:
        """Whether the app answers before long; until nginx listens, the published port resets connections."""

        def answers() -> bool:
            try:
                return self.get("/").status == 200
            except (OSError, http.client.HTTPException):
                return False

        return self.eventually(answers)

    def logged(self, path: str) -> dict[str, Any]:
        """Ask for a path, and return what nginx wrote of it."""
        mark = f"{path}?{uuid.uuid4()}"
        self.get(mark)
        found: list[dict[str, Any]] = []

        def written() -> bool:
            lines = docker("logs", self.one(PROXY)).splitlines()
            found[:] = [line for line in map(json.loads, lines) if line["uri"] == mark]
            return bool(found)

        assert self.eventually(written, 5), self.said()
        return found[0]

    def one(self, service: str) -> str:
        (container,) = self.containers(service)
        return container

    def inspect(self, service: str) -> dict[str, Any]:
        (data,) = json.loads(docker("inspect", self.one(service)))
        return dict(data)

    def inside(self, service: str, *argv: str, options: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        command = ["docker", "exec", *options, self.one(service), *argv]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def docker(*words: str) -> str:
    """Return the standard output of a docker command, which must succeed."""
    done = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of all that the image and the mounts are made of."""
    root = tmp_path_factory.mktemp("tree")
    root.parent.chmod(0o755)  # the containers' users have to get there
    root.chmod(0o755)
    for name in ("files", "roles/flask_gunicorn_nginx/files"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / ".dockerignore", root)
    return root


@pytest.fixture(scope="session")
def project(tree: Path) -> Iterator[Containers]:
    """The containers up, on a port of their own. The base images are Debian's, unless others are given."""
    found = Containers(NAME, check.free_port(), compose.own_or_built(os.environ), tree)
    found.run("down", "--remove-orphans")
    try:
        found.need("build", "--force-rm")
        found.need("up", "--detach")
        assert found.serves(), found.said()
        yield found
    finally:
        found.run("down", "--remove-orphans")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show beside a failure what the containers said."""
    report = yield
    project = getattr(item, "funcargs", {}).get("project")
    if report.failed and project:
        report.sections.append(("containers", project.said()))
        if call.excinfo and isinstance(call.excinfo.value, Problem):
            report.sections.append(("command", call.excinfo.value.evidence))
    return report

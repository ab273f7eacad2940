"""An app with its instance folder mounted into the release: a run that has nothing to do does nothing to it."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration.asking import Site
from tests.integration.neighbours.conftest import Deploy
from tests.rendering import REPOSITORY

# visits until it is told to stop, and what they met
VISIT = """
import collections, http.client, json, os, time
met = collections.Counter()
while not os.path.exists("/run/visits-end"):
    connection = http.client.HTTPConnection("127.0.0.1", 80, timeout=20)
    connection.request("GET", "/", headers={"Host": "notes.test"})
    met[connection.getresponse().status] += 1
    connection.close()
    json.dump(met, open("/run/visits.new", "w")); os.rename("/run/visits.new", "/run/visits")
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def notes(host: object) -> Site:
    return Site(host, "notes", "notes.test")


@pytest.fixture(scope="module")
def variables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    source: Path = tmp_path_factory.mktemp("notes")
    shutil.copy(REPOSITORY / "molecule/shared/apps/notes/app.py", source)
    shutil.copy(REPOSITORY / "files/app/requirements.txt", source)
    return {
        "name": "notes",
        "port": 5003,
        "source": str(source),
        "wsgi_app": "app:create_app()",
        "server_names": ["notes.test"],
        "static": {"dir": ""},
        "service_settings": {"BindPaths": "/var/lib/notes:/srv/notes/releases/%i/app/instance"},
    }


@pytest.fixture(scope="module")
def released(notes: Site, deploy: Deploy, variables: dict[str, object]) -> str:
    played = deploy(**variables)
    assert played.rc == 0, played.out
    return notes.current


@pytest.fixture
def visits(notes: Site, released: str) -> Iterator[Callable[[], dict[str, int]]]:
    """Visitors, and what they have met so far."""
    notes.root("rm -f /run/visits /run/visits-end")
    notes.root(f"systemd-run --quiet --unit=visits python3 -c {shlex.quote(VISIT)}")
    assert notes.eventually(lambda: bool(notes.host.file("/run/visits").exists))
    yield lambda: json.loads(notes.root("cat /run/visits"))
    # it may have seen the file, and be gone, before it is stopped
    notes.root("touch /run/visits-end; systemctl stop visits.service", check=False)


def test_a_run_with_nothing_to_do_takes_nothing_from_under_the_app(
    notes: Site, deploy: Deploy, variables: dict[str, object], released: str, visits: Callable[[], dict[str, int]]
) -> None:
    before = visits()
    played = deploy(**variables)
    assert played.rc == 0 and "changed=0" in played.out, played.out
    after = visits()
    assert list(after) == ["200"] and after["200"] > before["200"], after
    assert notes.flaskctl("status", "--drift")["problems"] == []


def test_what_somebody_put_into_a_release_that_runs_stays_and_is_told(
    notes: Site, deploy: Deploy, variables: dict[str, object], released: str, visits: Callable[[], dict[str, int]]
) -> None:
    notes.root(
        f"mkdir /srv/notes/releases/{released}/app/uploads; echo 1 > /srv/notes/releases/{released}/app/uploads/a"
    )
    played = deploy(**variables)
    assert played.rc == 0 and "uploads was not deployed" in " ".join(played.out.split()), played.out
    assert notes.root(f"cat /srv/notes/releases/{released}/app/uploads/a") == "1"
    assert list(visits()) == ["200"]


def test_the_next_release_has_the_data_and_is_without_it(
    notes: Site, deploy: Deploy, variables: dict[str, object], released: str, visits: Callable[[], dict[str, int]]
) -> None:
    count = int(notes.get("/").body.split()[0])
    assert deploy(**variables, env={"NEXT": "1"}).rc == 0
    assert notes.current != released and list(visits()) == ["200"]
    assert int(notes.get("/").body.split()[0]) > count
    assert "uploads" not in notes.root(f"ls /srv/notes/releases/{notes.current}/app")

"""The playbook on one host, and users who ask it over HTTPS meanwhile."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.asking import Json, Site
from tests.load.fleet import Played, play
from tests.rendering import PREFIX

# made before the tests of each host get a process: all of them have the same
PLACE = tempfile.TemporaryDirectory()
Deploy = Callable[..., Played]
Users = Callable[[], contextlib.AbstractContextManager[None]]
# Each of them now over a new connection, now over the one before, until the file goes. A connection that nginx closed
# while nothing was asked over it is no failure: a browser asks over a new one, and so do they.
USERS = """
import http.client, json, os, ssl, sys, threading, time
name, out = sys.argv[1:]
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
open(out, "w").close()
asked, failed = [], []
def user(number):
    connection, used = None, False
    while os.path.exists(out):
        try:
            used = connection is not None
            connection = connection or http.client.HTTPSConnection(name, 443, timeout=10, context=context)
            connection.request("GET", "/")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200 or body != b"Hello Flask!":
                failed.append(f"{answer.status} {body[:100]!r}")
            if len(asked) % 3 == number % 3 or answer.will_close:
                connection.close(); connection = None
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError) as error:
            connection.close(); connection = None
            if used:
                continue
            failed.append(repr(error))
        except Exception as error:
            failed.append(repr(error)); connection = None
        asked.append(1)
        time.sleep(0.02)
threads = [threading.Thread(target=user, args=(number,)) for number in range(3)]
[thread.start() for thread in threads]; [thread.join() for thread in threads]
json.dump({"asked": len(asked), "failed": failed}, open(out + ".json", "w"))
"""


@pytest.fixture(scope="module")
def site(host: Any) -> Site:
    return Site(host, "hello", f"{host.backend.get_hostname()}.test")


def hosts_of(session: pytest.Session) -> list[str]:
    """Return the hosts that are tested, each by a process of its own."""
    return sorted({name for item in session.items for name in re.findall(r"ansible://([\w-]+)", item.nodeid)})


@pytest.fixture(scope="module")
def deploy(site: Site, request: pytest.FixtureRequest) -> Deploy:
    """Run site.yml once for all hosts, when all have come to this point; variables without the prefix of the role.

    A run for each host would cost as much as for all, and they would wait for one another.
    """
    every, turns = hosts_of(request.session), itertools.count()

    def run(**variables: Any) -> Played:
        turn = Path(PLACE.name) / f"deploy-{next(turns)}"
        turn.mkdir(exist_ok=True)
        (turn / site.hostname).touch()
        result = turn / "result.json"
        if site.hostname == every[0]:
            assert site.eventually(lambda: all((turn / name).exists() for name in every), 300)
            prefixed = {PREFIX + name: value for name, value in variables.items()}
            played = play(prefixed, turn, options=["--limit", ",".join(every)])
            (turn / "part").write_text(json.dumps(dataclasses.asdict(played)))
            (turn / "part").rename(result)
        assert site.eventually(result.exists, 600)
        return Played(**json.loads(result.read_text()))

    return run


@pytest.fixture
def users(site: Site) -> Users:
    """Nobody may notice what is done meanwhile."""

    @contextlib.contextmanager
    def asking() -> Iterator[None]:
        site.root("rm -f /run/users.json; systemctl reset-failed users 2>/dev/null || true")
        site.root(f"cat > /root/users.py <<'U'\n{USERS}\nU")
        site.root(f"systemd-run --quiet --unit=users python3 /root/users.py {site.name} /run/users")
        assert site.eventually(lambda: site.host.file("/run/users").exists)
        try:
            yield
        finally:
            site.root("rm -f /run/users")
        assert site.eventually(lambda: site.host.file("/run/users.json").exists)
        found: Json = json.loads(site.root("cat /run/users.json"))
        assert found["failed"] == [] and found["asked"] > 20, found

    return asking

"""A person on call releases an archive with flaskctl alone, and rolls back; its app tells what nginx passes on."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.asking import Json, Site
from tests.rendering import REPOSITORY

pytestmark = pytest.mark.bracket

LOCK = (REPOSITORY / "files/app/requirements.txt").read_text()
ECHO = (REPOSITORY / "molecule/shared/apps/echo/app.py").read_text()
ARCHIVE = "/tmp/echo.tar.gz"


@pytest.fixture(scope="module")
def before(site: Site) -> str:
    return site.current


@pytest.fixture(scope="module")
def staged(site: Site, before: str) -> Json:
    site.put_archive(ARCHIVE, {"app.py": ECHO, "requirements.txt": LOCK})
    return site.flaskctl("stage", ARCHIVE)


@pytest.fixture(scope="module")
def echo(site: Site, staged: Json, before: str) -> Iterator[str]:
    release = site.flaskctl("activate", staged["id"])["id"]
    yield release
    site.flaskctl("activate", before)
    site.root(f"rm {ARCHIVE}")


def test_a_staged_release_is_there_and_serves_nothing_yet(site: Site, staged: Json, before: str) -> None:
    assert staged["id"] != before
    assert staged["id"] in [release["id"] for release in site.flaskctl("releases")["releases"]]
    assert (site.current, site.get("/").release) == (before, before)


def test_code_alone_installs_nothing(staged: Json) -> None:
    assert staged["venv"]["built"] is False


def test_the_same_archive_again_changes_nothing(site: Site, staged: Json) -> None:
    again = site.flaskctl("stage", ARCHIVE)
    assert (again["id"], again["changed"]) == (staged["id"], False)


def test_the_new_release_answers_and_the_old_one_is_stopped(site: Site, echo: str) -> None:
    assert site.get("/").release == echo
    assert site.flaskctl("status")["active"] == [echo]


def test_the_app_sees_host_client_and_scheme(site: Site, echo: str) -> None:
    seen = site.get("/", host="shop.example:8080").json
    headers = seen["headers"]
    assert headers["HTTP_HOST"] == "shop.example:8080"
    assert headers["HTTP_X_REAL_IP"] == "127.0.0.1"
    assert headers["HTTP_X_FORWARDED_FOR"] == "127.0.0.1"
    assert headers["HTTP_X_FORWARDED_PROTO"] == "http"
    assert len(headers["HTTP_X_REQUEST_ID"]) == 32
    assert seen["url"] == "http://shop.example:8080/"


def test_what_a_client_claims_about_itself_is_replaced(site: Site, echo: str) -> None:
    claims = {
        "X-Forwarded-For": "6.6.6.6",
        "X-Real-IP": "6.6.6.6",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Port": "666",
        "X-Forwarded-Ssl": "on",
        "X-Script-Name": "/evil",
        "Forwarded": "for=6.6.6.6;proto=https",
        "Proxy": "http://evil.example",
        "Remote-User": "root",
    }
    answer = site.get("/", headers=claims)
    assert answer.status == 200
    assert "evil" not in answer.body and "6.6.6" not in answer.body and "root" not in answer.body
    headers = answer.json["headers"]
    assert (headers["HTTP_X_FORWARDED_FOR"], headers["HTTP_X_FORWARDED_PROTO"]) == ("127.0.0.1", "http")
    assert answer.json["scheme"] == "http" and answer.json["script_name"] == ""


def test_a_header_with_underscores_does_not_arrive(site: Site, echo: str) -> None:
    """nginx drops it; else it would overwrite the one with dashes."""
    done = site.python(
        "import socket; s = socket.create_connection(('127.0.0.1', 80))\n"
        "s.sendall(b'GET / HTTP/1.1\\r\\nHost: a\\r\\nX_Forwarded_For: 6.6.6.6\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "print(b''.join(iter(lambda: s.recv(65536), b'')).decode())"
    )
    assert " 200 " in done and "6.6.6" not in done


def test_a_release_that_cannot_be_imported_is_refused_and_nothing_changes(site: Site, echo: str) -> None:
    site.put_archive("/tmp/bad.tar.gz", {"app.py": "import nothing_there\n", "requirements.txt": LOCK})
    bad = site.flaskctl("stage", "/tmp/bad.tar.gz")["id"]
    refusal = site.flaskctl("activate", bad, rc=1)
    assert "No module named 'nothing_there'" in refusal["detail"]
    assert (site.current, site.get("/").release) == (echo, echo)
    assert site.root("systemctl --failed --no-legend --plain") == ""
    site.root("rm /tmp/bad.tar.gz")


def test_a_rollback_brings_back_the_release_before(site: Site, echo: str, before: str) -> None:
    assert site.flaskctl("rollback")["id"] == before
    answer = site.get("/")
    assert (answer.body, answer.release) == ("Hello Flask!", before)
    again = site.flaskctl("activate", before)
    assert again["changed"] is False


def test_what_happened_is_in_the_audit_log(site: Site, echo: str, before: str) -> None:
    lines = site.root("cat /var/log/flaskctl/hello.jsonl").splitlines()
    events = [json.loads(line) for line in lines]
    done = [(event["event"], event["release"]) for event in events]
    assert ("stage", echo) in done and ("activate", echo) in done and ("rollback", before) in done
    assert "refuse" in {event for event, _release in done}


def test_the_apps_of_the_host_are_listed(site: Site) -> None:
    assert site.root("flaskctl apps") == "hello"


def test_status_says_in_words_what_it_says_in_json(site: Site) -> None:
    text = site.root("flaskctl hello status")
    assert site.current in text and "5000" in text


def test_nothing_was_left_behind(site: Site) -> None:
    strays = site.root("ls -A /srv/hello/releases; ls -A /srv/hello").split()
    kept = site.root("readlink /srv/hello/kept")  # the links to releases that have served
    assert not [name for name in strays if name.startswith(".") and name != kept or name.endswith(".tar.gz")]
    assert "activating.json" not in strays

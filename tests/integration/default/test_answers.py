"""What a visitor of the sample app gets, and from whom."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.integration.asking import Site


def test_the_first_page_is_the_apps(site: Site) -> None:
    answer = site.get("/")
    assert (answer.status, answer.body) == (200, "Hello Flask!")


def test_the_release_that_answers_is_the_one_that_flaskctl_names(site: Site) -> None:
    assert site.get("/").release == site.flaskctl("status")["current"] == site.current


def test_an_address_without_its_slash_leads_to_the_page_on_the_same_port(site: Site) -> None:
    answer = site.get("/admin", host="localhost:8080")
    assert (answer.status, answer.headers["location"]) == (308, "http://localhost:8080/admin/")
    assert site.get("/admin/").body == "Hello Flask Admin!"


def test_the_static_page_comes_from_nginx(site: Site) -> None:
    answer = site.get("/static/")
    assert answer.status == 200
    assert "Static file hosted by Nginx..." in answer.body
    assert answer.release is None
    assert site.get("/static/index.html").body == answer.body


@pytest.mark.parametrize(
    "path", ["/static/nothing.css", "/static/../app.py", "/static../app.py", "/static/%2e%2e/app.py", "/static/.hidden"]
)
def test_nothing_but_static_files_is_served_as_one(site: Site, path: str) -> None:
    answer = site.get(path)
    assert answer.status in (400, 404)
    assert "Flask(" not in answer.body


def test_a_page_that_is_not_there_is_the_apps_own_404(site: Site) -> None:
    answer = site.get("/nowhere")
    assert (answer.status, answer.release) == (404, site.current)


def test_a_challenge_is_answered_from_the_webroot(site: Site) -> None:
    """Whoever fetches the first certificate needs no TLS for that."""
    place = "/var/www/html/.well-known/acme-challenge"
    site.root(f"mkdir -p {place} && printf answer > {place}/token")
    answer = site.get("/.well-known/acme-challenge/token")
    site.root("rm -r /var/www/html/.well-known")
    assert (answer.status, answer.body, answer.release) == (200, "answer", None)
    assert site.get("/.well-known/acme-challenge/token").release is None


def test_any_name_is_answered_by_the_default_server(site: Site) -> None:
    assert site.get("/", host="whatever.example").body == "Hello Flask!"


def test_nginx_does_not_tell_its_version(site: Site) -> None:
    assert site.get("/").headers["server"] == "nginx"


def test_the_app_can_be_reached_through_nginx_only(site: Site) -> None:
    listening = site.root("ss -ltnH").splitlines()
    assert [line.split()[3] for line in listening if ":5000" in line] == ["127.0.0.1:5000"]


def test_the_access_log_names_the_release(site: Site) -> None:
    site.get("/?logged", headers={"User-Agent": '"quoted"'})
    line = site.root("grep logged /var/log/nginx/hello.access.log | tail -n 1")
    logged = json.loads(line)
    assert (logged["uri"], logged["status"], logged["release"]) == ("/?logged", 200, site.current)
    assert logged["agent"] == '"quoted"'


class TestWhileTheAppIsDown:
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def down(cls, site: Site) -> Iterator[None]:
        # nginx lets go of its idle connections at a reload, and the app need not wait for that
        site.root("systemctl stop --no-block hello.socket 'hello@*.service'; nginx -s reload")
        site.root("systemctl stop hello.socket 'hello@*.service'")
        yield
        site.root("systemctl start hello.socket")

    def test_visitors_are_asked_to_come_back(self, site: Site) -> None:
        answer = site.get("/")
        assert (answer.status, answer.headers["retry-after"]) == (503, "10")
        assert "unavailable for a moment" in answer.body
        assert answer.headers["content-type"].startswith("text/html")

    def test_static_files_are_still_served(self, site: Site) -> None:
        assert "Static file hosted by Nginx..." in site.get("/static/").body


def test_the_first_request_after_a_stop_starts_the_app(site: Site) -> None:
    assert site.get("/").body == "Hello Flask!"
    assert site.flaskctl("status")["active"] == [site.current]

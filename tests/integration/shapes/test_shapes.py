"""What an app can be, and how several live on one host. The hosts and apps: molecule/shapes."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.integration.asking import Site

SHAPES = Path(__file__).parents[3] / "molecule/shapes"
APPS = ("mounted", "routes", "factory", "revision", "wheel")


# Ansible's !unsafe marks a text that is no template; a text it is all the same
HOSTILE: dict[str, str] = yaml.safe_load((SHAPES / "vars/hostile.yml").read_text().replace("!unsafe ", ""))["hostile"]


def app(host: Any, name: str) -> Site:
    return Site(host, name, f"{name}.test")


@pytest.fixture
def mounted(host: Any) -> Site:
    return app(host, "mounted")


@pytest.fixture
def routes(host: Any) -> Site:
    return app(host, "routes")


@pytest.mark.parametrize("name", APPS)
def test_each_app_answers_for_its_own_name_with_its_own_release(host: Any, name: str) -> None:
    site = app(host, name)
    answer = site.get("/api/page" if name in ("mounted", "routes") else "/")
    assert (answer.status, answer.release) == (200, site.current)
    assert site.flaskctl("verify")["id"] == site.current


def test_an_app_below_a_path_builds_its_addresses_with_it(mounted: Site) -> None:
    said = mounted.get("/api/").json
    assert (said["script_name"], said["url_for_page"]) == ("/api", "/api/page")
    assert said["url"] == "http://mounted.test/api/"


def test_routes_that_carry_the_path_get_it_as_it_is(routes: Site) -> None:
    said = routes.get("/api/").json
    assert (said["script_name"], said["url_for_page"]) == ("", "/api/page")


@pytest.mark.parametrize("name", ["mounted", "routes"])
def test_the_path_without_its_slash_leads_to_the_app_and_nothing_else_does(host: Any, name: str) -> None:
    site = app(host, name)
    answer = site.get("/api?a=b")
    assert (answer.status, answer.headers["location"]) == (308, "/api/?a=b")
    assert [site.get(path).status for path in ("/", "/page", "/apix")] == [404, 404, 404]


def test_each_value_arrives_byte_for_byte_in_environment_and_credential(mounted: Site) -> None:
    given = mounted.get("/api/given").json
    for kind in ("environment", "credentials"):
        arrived = {name: base64.b64decode(given[kind][name]).decode() for name in HOSTILE}
        assert arrived == HOSTILE, kind


def test_no_value_makes_a_variable_of_its_own(mounted: Site) -> None:
    environment = mounted.get("/api/given").json["environment"]
    assert "EVIL" not in environment
    assert base64.b64decode(environment["LONG"]) == b"x" * 100_000


def test_secrets_are_in_files_of_root_alone(mounted: Site) -> None:
    release = f"/srv/mounted/releases/{mounted.current}"
    secret = f"{release}/environment {release}/config.json {release}/credentials"
    found = mounted.root(f"find {secret} -printf '%m %u %P\\n'")
    assert found
    assert {line.split()[0] for line in found.splitlines()} <= {"600", "700"}
    assert {line.split()[1] for line in found.splitlines()} == {"root"}


@pytest.mark.parametrize("name", ["factory", "wheel"])
def test_an_installed_package_is_served_with_its_own_files_by_nginx(host: Any, name: str) -> None:
    site = app(host, name)
    assert site.get("/").body == "flaskr 1.4.0 /static/style.css"
    style = site.get("/static/style.css")
    assert (style.status, style.release, style.body) == (200, None, "body { color: teal }\n")


def test_an_app_with_a_micro_cache_hears_once_of_what_all_visitors_may_share(host: Any) -> None:
    site = app(host, "wheel")
    answers = [site.get("/no-such-page") for _visitor in range(3)]
    assert [(each.status, each.release) for each in answers] == [(404, site.current)] * 3
    assert [each.headers["x-cache"] for each in answers] == ["MISS", "HIT", "HIT"]
    known = site.get("/no-such-page", headers={"Cookie": "session=mine"})
    assert (known.status, known.headers.get("x-cache")) == (404, None)


def test_the_project_itself_is_in_the_release_and_not_in_the_virtualenv_that_releases_share(host: Any) -> None:
    site = app(host, "factory")
    home = f"/srv/factory/releases/{site.current}"
    assert site.root(f"ls -d {home}/site/flaskr")
    assert not site.root(f"find -L {home}/venv/lib -maxdepth 3 -iname 'flaskr*'")


def test_a_revision_is_served_and_not_what_the_directory_holds_since(host: Any) -> None:
    site = app(host, "revision")
    assert site.get("/").body == "from a revision"
    releases = site.flaskctl("releases")["releases"]
    assert len([item for item in releases if len(item.get("revision") or "") == 40]) == 1, releases


def test_what_serves_an_app_is_completed_and_patched_before_the_master_imports_it(host: Any) -> None:
    site = app(host, "revision")
    packages = site.root(f"ls /srv/revision/releases/{site.current}/venv/lib/python3*/site-packages")
    assert "gunicorn-" in packages and "gevent-" in packages
    assert site.get("/tls").body == "gevent.ssl" * 2


def test_threads_serve_through_the_same_gate_and_what_releases_share_in_run_outlives_each(routes: Site) -> None:
    assert "workers, /api/page is healthy" in routes.root(f"systemctl status routes@{routes.current}.service")
    routes.root("touch /run/routes-shared/kept")
    routes.root("flaskctl routes run -- true")  # a unit of its own that has the directory too, and ends
    assert routes.root("ls /run/routes-shared") == "kept"
    assert (routes.get("/api/page").status, routes.get("/api/page").release) == (200, routes.current)


def test_a_schedule_counts_from_when_its_release_took_over(routes: Site) -> None:
    """What was due while the host was down runs when it is up, and a release that takes over runs nothing at once."""
    timer = f"routes.nightly@{routes.current}.timer"
    assert routes.root(f"systemctl show --value --property=Persistent {timer}") == "yes"
    assert routes.root(f"stat -c %s /var/lib/systemd/timers/stamp-{timer}") == "0"


def test_workers_and_schedules_run_as_the_release(routes: Site) -> None:
    units = routes.root("systemctl list-units --plain --no-legend 'routes.*'")
    for unit in ("worker-1", "worker-2"):
        assert f"routes.{unit}@{routes.current}.service loaded active running" in " ".join(units.split()), units
    assert f"routes.nightly@{routes.current}.timer" in units
    routes.root(f"systemctl start routes.nightly@{routes.current}.service")
    assert "/api/page" in routes.root(f"journalctl --no-pager -q -u routes.nightly@{routes.current}.service")


class TestAnAppThatWasRemoved:
    def test_nothing_of_it_is_left_but_what_it_wrote(self, host: Any) -> None:
        site = app(host, "mounted")
        found = site.root(
            "find / -xdev \\( -path /proc -o -path /sys \\) -prune"
            " -o \\( -name 'leaving*' -o -path '*/leaving/*' \\) -print"
        )
        kept = {"/var/lib/leaving", "/var/lib/leaving/kept"}
        # logs are not of the app but of what happened; logrotate takes them
        assert {path for path in found.splitlines() if not path.startswith("/var/log/nginx/")} == kept
        assert not site.root("ss -ltnH | grep ':5006 '", check=False)
        # no other app may get its number: it owns the data
        assert (
            site.root("stat -c %U /var/lib/leaving; getent passwd leaving | cut -d: -f7")
            == "leaving\n/usr/sbin/nologin"
        )
        assert not site.root("systemctl list-units --all --plain --no-legend 'leaving*'")

    def test_the_distributions_default_site_is_back(self, host: Any) -> None:
        answer = Site(host).get("/", host="leaving.test")
        assert "Welcome to nginx" in answer.body

    def test_purging_takes_what_it_wrote(self, host: Any) -> None:
        site = Site(host, "leaving")
        assert site.flaskctl("remove", "--purge")["changed"]
        assert not site.root("ls -d /var/lib/leaving", check=False).startswith("/var/lib/leaving")
        assert not site.root("getent passwd leaving; getent group leaving", check=False)
        assert not site.flaskctl("remove", "--purge")["changed"]

"""Who answers to which name, what an app hears of who asks, and requests that nobody sends by mistake."""

from __future__ import annotations

import http.client
from typing import Any

import pytest

from tests.integration.asking import Site
from tests.integration.shapes.test_shapes import app
from tools import audit_corpus

PROXY = "127.0.0.3"  # of `routes`, in molecule/shapes
CLAIM = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Forwarded-User": "anna"}


@pytest.fixture
def mounted(host: Any) -> Site:
    return app(host, "mounted")


@pytest.fixture
def routes(host: Any) -> Site:
    return app(host, "routes")


def address(site: Site) -> str:
    return site.root("hostname -I").split()[0]


def from_elsewhere(site: Site, path: str) -> tuple[int, str | None, bytes]:
    """Ask as a visitor does, from another machine: status, release and body."""
    connection = http.client.HTTPConnection(address(site), 80, timeout=10)
    connection.request("GET", path, headers={"Host": site.name})
    answer = connection.getresponse()
    return answer.status, answer.getheader("X-Release"), answer.read()


def heard(site: Site, **options: Any) -> tuple[str, str, str, str, str]:
    """Return what ProxyFix makes of a request: scheme, address with host and port, client, prefix; and the user."""
    said = site.get("/api/", **options).json
    return (
        said["scheme"],
        said["url"],
        said["remote"],
        said["script_name"],
        said["headers"].get("HTTP_X_FORWARDED_USER", ""),
    )


def test_the_app_hears_of_scheme_host_client_and_prefix_what_is_so(mounted: Site) -> None:
    asked = {"host": "mounted.test:8080", "source": "127.0.0.2"}
    told = ("http", "http://mounted.test:8080/api/", "127.0.0.2", "/api", "")
    assert heard(mounted, **asked) == told
    assert heard(mounted, **asked, headers=CLAIM) == told, "nobody has named this address a proxy"


def test_of_a_trusted_proxy_it_hears_who_asked_that(routes: Site) -> None:
    told = ("https", "https://routes.test/api/", "203.0.113.9", "", "anna")
    assert heard(routes, source=PROXY, headers=CLAIM) == told
    # what the client told the proxy counts no more than what it tells nginx
    chain = {**CLAIM, "X-Forwarded-For": "6.6.6.6, 203.0.113.9", "X-Forwarded-Proto": "javascript"}
    assert heard(routes, source=PROXY, headers=chain) == ("http", "http://routes.test/api/", *told[2:])
    # from elsewhere: nginx tells one address, and ProxyFix, which was told of two proxies, believes none
    assert heard(routes, source="127.0.0.2", headers=CLAIM)[2:] == ("127.0.0.1", "", "")


def test_which_release_answers_and_what_it_says_of_its_health_is_not_for_visitors(mounted: Site) -> None:
    status, release, body = from_elsewhere(mounted, "/api/page")
    assert (status, release, body) == (200, None, b"A page")
    assert from_elsewhere(mounted, "/api/readyz") == (200, None, b"")
    assert mounted.get("/api/readyz").release == mounted.current, "for the host itself"
    mounted.flaskctl("drain")
    try:
        assert from_elsewhere(mounted, "/api/readyz") == (503, None, b"")
    finally:
        mounted.flaskctl("undrain")


def test_a_directory_of_static_files_without_an_index_is_not_there(host: Any) -> None:
    factory = app(host, "factory")
    assert [factory.get(path).status for path in ("/static/", "/static")] == [404, 404]


def test_what_nginx_has_no_file_for_the_app_is_asked_for(host: Any) -> None:
    """It may have files of blueprints and packages there; that it has none is said in its own words."""
    nowhere = app(host, "factory").get("/static/nowhere/a.css")
    assert nowhere.status == 404 and "nginx" not in nowhere.body and "Not Found" in nowhere.body


@pytest.mark.parametrize("path", ["//api/page", "/%61pi/page", "/x/../api/page", "/./api/page", "/api/../api/page"])
def test_the_prefix_has_one_spelling(mounted: Site, routes: Site, path: str) -> None:
    assert {site.get(path).status for site in (mounted, routes)} <= {200, 308, 404}


def test_no_request_fools_nginx_or_the_app(mounted: Site) -> None:
    version = mounted.root("nginx -v 2>&1").rpartition("/")[2].split()[0]
    results = audit_corpus.run(address(mounted), [mounted.name], root="/api/", https=0, nginx=version)
    assert len(results) > 200
    assert not [str(result) for result in results if result.wrong]
    # nor is any of them an error of the app: the watch over a canary would count it
    log = "/var/log/nginx/mounted.access.log"
    assert not mounted.root(f'grep -E \'"upstream_status":"[^"]*5[0-9][0-9]\' {log}', check=False)

"""TLS and trusted proxies, as each nginx does them: another one of the host with the rendered site, before a stub."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator

import pytest

from tests.integration.asking import Answer, Site
from tests.rendering import TLS

HTTP, HTTPS, STUB_PORT = 8080, 8443, 5999
TRUSTED = "127.0.0.2"
VALUES = {
    "port": STUB_PORT,
    "listen": HTTP,
    "server_names": ["example.com"],
    "tls": {**TLS, "hsts_max_age": 300},
    "trusted_proxies": [TRUSTED, "10.1.0.0/16"],
    "static": {"dir": ""},
}
# answers with the headers it got
STUB = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps(dict(self.headers.items())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", %d), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def live(site: Site, scratch: str, rendered: Callable[..., str]) -> Iterator[Site]:
    text = rendered(VALUES, ipv6=False).replace("listen 443", f"listen {HTTPS}")
    main = f"pid {scratch}/pid; error_log {scratch}/error.log; events {{}} http {{ include {scratch}/site; }}"
    site.root(f"printf %s {shlex.quote(text)} > {scratch}/site; printf %s {shlex.quote(main)} > {scratch}/main")
    site.root(f"systemd-run --quiet --unit=stub python3 -c {shlex.quote(STUB % STUB_PORT)}")
    site.root(f"nginx -c {scratch}/main")
    assert site.eventually(lambda: str(STUB_PORT) in site.root("ss -ltnH"))
    yield Site(site.host, name="example.com")
    site.root(f"nginx -c {scratch}/main -s quit; systemctl stop stub")


def test_a_load_balancer_may_ask_over_tls_whether_the_host_is_ready(live: Site) -> None:
    answer = live.get("/readyz", port=HTTPS, tls=["http/1.1"])
    assert answer.status == 200 and answer.json["Host"] == "example.com"


def ask(live: Site, source: str = "", **headers: str) -> Answer:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return live.get("/", headers=sent, port=HTTPS, tls=["http/1.1"], source=source)


def seen(answer: Answer) -> tuple[str, str, str]:
    """What the app is told: X-Real-IP, X-Forwarded-For, X-Forwarded-Proto."""
    headers = {name.lower(): value for name, value in answer.json.items()}
    return headers["x-real-ip"], headers["x-forwarded-for"], headers["x-forwarded-proto"]


def test_http_leads_to_https(live: Site) -> None:
    answer = live.get("/a?b=c", port=HTTP)
    assert (answer.status, answer.headers["location"]) == (308, "https://example.com/a?b=c")


def test_https_is_served_and_remembered(live: Site) -> None:
    answer = ask(live)
    assert answer.status == 200
    assert answer.headers["strict-transport-security"] == "max-age=300"


def test_http2_is_offered(live: Site) -> None:
    assert live.get("/", port=HTTPS, tls=["h2", "http/1.1"]).headers["alpn"] == "h2"


def test_a_client_is_who_connects_whatever_it_says(live: Site) -> None:
    claims = {"X_Forwarded_For": "6.6.6.6", "X_Forwarded_Proto": "http"}
    assert seen(ask(live, **claims)) == ("127.0.0.1", "127.0.0.1", "https")


def test_a_trusted_proxy_says_who_the_client_is_and_is_appended(live: Site) -> None:
    said = {"X_Forwarded_For": "203.0.113.9", "X_Forwarded_Proto": "http"}
    assert seen(ask(live, TRUSTED, **said)) == ("203.0.113.9", f"203.0.113.9, {TRUSTED}", "http")


def test_what_the_client_told_the_trusted_proxy_is_not_believed(live: Site) -> None:
    """The client is the last address of the chain that is no trusted proxy."""
    said = {"X_Forwarded_For": "6.6.6.6, 203.0.113.9, 10.1.2.3"}
    assert seen(ask(live, TRUSTED, **said)) == ("203.0.113.9", f"6.6.6.6, 203.0.113.9, 10.1.2.3, {TRUSTED}", "https")


def test_a_trusted_proxy_that_says_nothing_is_the_client(live: Site) -> None:
    assert seen(ask(live, TRUSTED)) == (TRUSTED, TRUSTED, "https")


def test_the_configuration_of_the_host_is_untouched(live: Site) -> None:
    assert json.loads(live.root("flaskctl --json hello verify"))["status"] == 200

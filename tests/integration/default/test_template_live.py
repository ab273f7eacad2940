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
    "tls": {**TLS, "hsts_max_age": 300, "port": HTTPS},
    "headers": {"Content-Security-Policy": "default-src 'self'; report-uri \"/csp\"", "Referrer-Policy": ""},
    "limits": {"requests": 1, "burst": 3, "connections": 2},
    "challenge_peers": ["192.0.2.1", "127.0.0.1"],
    "trusted_proxies": [TRUSTED, "10.1.0.0/16"],
    "static": {"dir": ""},
}
# ten requests at once of clients whom the load balancer names
TEN = """
import http.client, json, socket, ssl, sys
port, source, clients = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 20, (source, 0)))
connection = http.client.HTTPSConnection("127.0.0.1", port); connection.sock = sock
found = []
for number in range(10):
    said = {"X-Forwarded-For": clients[number % len(clients)]} if clients else {}
    connection.request("GET", "/", headers={"Host": "example.com", **said})
    answer = connection.getresponse(); answer.read(); found.append(answer.status)
print(json.dumps(found))
"""
# answers with the headers it got
STUB = """
import http.server, json
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = json.dumps(dict(self.headers.items())).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.path == "/own":
            self.send_header("X-Frame-Options", "DENY")
            self.send_header("X-Request-ID", "mine")
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", %d), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def live(site: Site, scratch: str, rendered: Callable[..., str]) -> Iterator[Site]:
    text = rendered(VALUES, ipv6=False)
    # so that only the peer, which is itself, has answers to challenges
    text = text.replace("root /var/www/html;", f"root {scratch}/nothing;").replace("/var/www/html/", f"{scratch}/web/")
    answers = f"{scratch}/web/.well-known/acme-challenge"
    site.root(f"mkdir -p {answers}; printf t.k > {answers}/to-K_n; chmod a+x {scratch}")
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
    assert (answer.status, answer.headers["location"]) == (308, "https://example.com:8443/a?b=c")


def test_a_challenge_of_another_host_is_answered_whoever_of_the_fleet_is_down(live: Site) -> None:
    answer = live.get("/.well-known/acme-challenge/to-K_n", port=HTTP, headers={"Cookie": "a=b"})
    assert (answer.status, answer.body) == (200, "t.k")
    for name in ("none", "none", "a%20b", ""):
        assert live.get(f"/.well-known/acme-challenge/{name}", port=HTTP).status == 404, name
    assert live.get("/.well-known/flaskfleet-challenge/none", port=HTTP).status == 404


def test_https_is_served_and_remembered(live: Site) -> None:
    answer = ask(live)
    assert answer.status == 200
    assert answer.headers["strict-transport-security"] == "max-age=300"


def added(answer: Answer) -> list[str | None]:
    names = ("x-frame-options", "x-request-id", "x-content-type-options", "content-security-policy", "referrer-policy")
    return [answer.headers.get(name) for name in names]


def test_the_app_has_the_word_on_its_headers_and_none_is_there_twice(live: Site, scratch: str) -> None:
    csp = VALUES["headers"]["Content-Security-Policy"]  # type: ignore[index]
    frame, request, *rest = added(ask(live))
    assert frame == "SAMEORIGIN" and rest == ["nosniff", csp, None]
    assert (
        request and len(request) == 32 and f'"request_id":"{request}"' in live.root(f"cat {scratch}/hello.access.log")
    )
    own = live.get("/own", port=HTTPS, tls=["http/1.1"])
    assert added(own) == ["DENY", "mine", "nosniff", csp, None]


def test_an_answer_of_nginx_itself_has_them_too(live: Site) -> None:
    answer = live.get("/%00", port=HTTPS, tls=["http/1.1"])
    assert answer.status == 400 and added(answer)[0] == "SAMEORIGIN" and len(added(answer)[1] or "") == 32


@pytest.mark.parametrize(
    ("source", "clients", "refused"),
    [
        (TRUSTED, ["198.51.100.7"], True),
        (TRUSTED, ["2001:db8:1:2::1", "2001:db8:1:2:ffff::9", "2001:db8:1:2:0:a00:a:1"], True),
        (TRUSTED, [f"2001:db8:2:{number}::1" for number in range(5)], False),
        (TRUSTED, [f"198.51.100.1{number}" for number in range(5)], False),
        (TRUSTED, [], False),
        ("127.0.0.1", ["198.51.100.8"], False),
    ],
    ids=["one", "a network", "networks", "many", "the load balancer itself", "the host itself"],
)
def test_too_many_requests_of_one_client_are_answered_with_429(
    live: Site, source: str, clients: list[str], refused: bool
) -> None:
    found = json.loads(live.python(TEN, str(HTTPS), source, *clients))
    assert (429 in found) == refused and found[:3] == [200] * 3 and set(found) <= {200, 429}, found


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

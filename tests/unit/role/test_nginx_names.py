"""Which names the site takes, which headers it lets nobody send, and the server for all other names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from tests.rendering import CATCH_ALL, DEBIAN_12, SCENARIOS, evaluate, render
from tests.unit.role.test_nginx_template import block, lines, servers, site

CLAIMS = evaluate("__flask_gunicorn_nginx_server.claims")
NAMES = {"server_names": ["example.com", "*.example.com", "www.other.test"]}


def checks(values: dict[str, Any], number: int = 0) -> list[re.Pattern[str]]:
    """Return what the names of a request are held against: that there is one, and that it is the app's."""
    found = re.findall(r'if \(\$(?:flaskfleet_asked|host) !~\* "(.+)"\) \{', servers(site(values))[number])
    return [re.compile(pattern, re.IGNORECASE) for pattern in found]


@pytest.mark.parametrize(
    ("host", "header", "one"),
    [
        ("a.test", "a.test", True),
        ("a.test", "A.Test", True),
        ("a.test", "a.test.", True),
        ("a.test", "a.test:8080", True),
        ("a.test", "a.test.:65535", True),
        ("[::1]", "[::1]:80", True),
        ("", "", True),
        ("a.test", "b.test", False),
        ("a.test", "a.test:80@b.test", False),
        ("a.test", "a.test:800000", False),
        ("a.test", "a.test:", False),
        ("a.test", "a.test, b.test", False),
        ("a.test", "a.test|a.test", False),
        ("a.test|a.test", "a.test", False),
        ("a.test", "a.test\nb.test", False),
        ("a.test", "axtest", False),
    ],
)
def test_a_request_has_one_name(host: str, header: str, one: bool) -> None:
    """nginx chooses the site by $host, which can be of the first line, and passes Host on."""
    pattern = checks({"default_server": True})[0]
    assert bool(pattern.search(f"{host}|{header}")) is one


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        *(
            (name, True)
            for name in ("example.com", "EXAMPLE.com", "a.example.com", "a.b.example.com", "www.other.test")
        ),
        *(
            (name, False)
            for name in ("evil.test", "examplexcom", "example.com.evil.test", "evilexample.com", "other.test")
        ),
        *((name, False) for name in (".example.com", "", "_", "10.0.0.1", "example.com|example.com")),
    ],
)
def test_a_name_is_one_of_the_app_s(name: str, ours: bool) -> None:
    assert bool(checks(NAMES)[1].search(name)) is ours


def test_another_name_is_refused_or_told_as_the_first_where_any_is_answered() -> None:
    assert "return 421;" in lines(site(NAMES))
    text = site({**NAMES, "default_server": True})
    assert "return 421;" not in lines(text)
    told = block(text, 'if ($host !~* "^(example[.]com|.+[.]example[.]com|www[.]other[.]test)$")')
    assert "set $flaskfleet_host example.com;" in lines(told)


def test_without_names_each_reaches_the_app_and_who_sends_none_is_told_one() -> None:
    text = site({"default_server": True})
    assert len(checks({"default_server": True})) == 1
    assert "set $flaskfleet_host localhost;" in lines(block(text, 'if ($http_host = "")'))
    assert "set $flaskfleet_host $http_host;" in lines(text) and "proxy_set_header Host $flaskfleet_host;" in lines(
        text
    )


def test_the_way_to_https_is_for_the_app_s_names_and_those_of_its_certificate() -> None:
    values = SCENARIOS["a certificate of a directory"]
    plain, secure = checks(values, 0)[1], checks(values, 1)[1]
    assert plain.search("mail.example.com") and not secure.search("mail.example.com")
    assert not plain.search("evil.test")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_client_makes_a_claim(scenario: str) -> None:
    text, trusts = site(SCENARIOS[scenario]), "trusted_proxies" in SCENARIOS[scenario]
    said = dict(re.findall(r"proxy_set_header (\S+) (.+);", text))
    assert {said[header] for header in CLAIMS["of_nobody"]} == {'""'}
    passed = {header: said[header] for header in CLAIMS["of_proxies"]}
    if not trusts:
        assert set(passed.values()) == {'""'}
        return
    # nobody else's request comes to the lines that say so
    (name,) = re.findall(r"if \(\$(\w+)_passes\) \{", text)
    assert f"default ${name}_proxy;" in lines(block(text, f"map $uri ${name}_passes"))
    trusted = lines(block(text, f"if (${name}_passes)"))
    for header, variable in passed.items():
        assert f"set {variable} $http_{header.lower().replace('-', '_')};" in trusted
        assert len(re.findall(rf"set {re.escape(variable)} ", text)) == 1


def test_a_claim_is_listed_once() -> None:
    every = [header.lower() for header in (*CLAIMS["of_nobody"], *CLAIMS["of_proxies"])]
    assert len(every) == len(set(every)) and not any("_" in header for header in every)


def test_who_may_say_the_scheme_may_not_say_who_the_user_is() -> None:
    """With a public URL any process of the host is believed of the scheme: the proof needs that."""
    text = site(SCENARIOS["TLS ends before nginx"])
    assert "127.0.0.1 1;" in lines(block(text, "geo $realip_remote_addr $hello_trusted"))
    assert "127.0.0.1 1;" not in lines(block(text, "geo $realip_remote_addr $hello_proxy"))
    assert {"http    http;", "https   https;", "default $scheme;"} <= set(
        lines(block(text, "map $http_x_forwarded_proto $hello_said"))
    )


@pytest.mark.parametrize(
    ("client", "server", "near"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.2", "127.0.0.1", True),
        ("::1", "::1", True),
        ("10.0.0.5", "10.0.0.5", True),
        ("10.0.0.50", "10.0.0.5", False),
        ("10.0.0.5", "10.0.0.50", False),
        ("2001:db8::1", "2001:db8::1", True),
        ("1270.0.0.1", "10.0.0.5", False),
        ("203.0.113.9", "10.0.0.5", False),
    ],
)
def test_the_host_itself_may_know_which_release_answered(client: str, server: str, near: bool) -> None:
    """The proof asks at the host's own addresses, and then comes from there."""
    text = site({"default_server": True})
    found = re.search(r'if \(\$flaskfleet_peer ~ "(.+)"\)', text)
    assert found and bool(re.search(found[1], f"{client}|{server}")) is near
    assert "proxy_hide_header X-Release;" in lines(text) and "add_header X-Release $hello_release always;" in lines(
        text
    )


@pytest.mark.parametrize(
    ("sent", "spelled"),
    [
        *(
            (path, True)
            for path in ("/api/", "/api/x", "/api/../api/x", "/api//x", "/api", "/api?a=/b", "/api/%2e%2e/")
        ),
        *((path, False) for path in ("//api/x", "/%61pi/x", "/x/../api/x", "/./api/x", "/API/x", "/apix/../api/x")),
    ],
)
def test_a_prefix_has_one_spelling(sent: str, spelled: bool) -> None:
    found = re.search(r'if \(\$request_uri ~ "(.+)"\)', site({"default_server": True, "url_prefix": "/api"}))
    assert found and bool(re.search(found[1], sent)) is spelled


def catch_all(nginx: str = "1.26.3", **changes: Any) -> str:
    made = {**CATCH_ALL, **changes}
    host = {**DEBIAN_12, "nginx": nginx, "nginx_site": {**DEBIAN_12["nginx_site"], "catch_all": made}}
    return render("catch_all.nginx.conf", {"server_names": ["a.test"]}, host)


def test_the_server_for_all_names_refuses_them_and_never_fights_for_its_place() -> None:
    text = catch_all()
    assert "default_server;" not in text
    assert {"listen 80;", "listen [::]:443 ssl;", "ssl_reject_handshake on;"} <= set(lines(text))
    assert "return 421;" in block(text, "location /")
    assert "client_header_timeout 60s;" in lines(text), "as long as the app wants it"
    assert "client_header_timeout 10s;" in lines(catch_all(limits={}))


def test_an_nginx_that_cannot_reject_a_handshake_has_no_certificate_and_no_key() -> None:
    text = catch_all("1.18.0")
    assert "ssl_reject_handshake" not in text.replace("knows no ssl_reject_handshake", "")
    assert {"listen 443 ssl http2;", "ssl_certificate data:$nginx_version;"} <= set(lines(text))


def test_a_load_balancer_that_asks_by_address_gets_a_status_and_no_body() -> None:
    text = catch_all()
    for app, path, port in (("hello", "/readyz", 5000), ("wiki", "/wiki/readyz", 5001)):
        assert f"if (-f /srv/{app}/drained) {{" in block(text, f"location = {path}")
        health = lines(block(text, f"location = /.{app}/health"))
        assert {"internal;", f"proxy_pass http://127.0.0.1:{port}/;", "proxy_set_header Host a.test;"} <= set(health)
    assert "ssl" not in catch_all(listens=CATCH_ALL["listens"][:1])

"""The nginx site: the text of each branch. That nginx accepts it is asked of real hosts (tests/integration)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import nginx_config

from tests.rendering import DEBIAN_12, SCENARIOS, TLS, evaluate, render

NGINX_1_18 = {"nginx": "1.18.0", "openssl": "1.1.1w", "ipv6": True}
NGINX_1_24 = {"nginx": "1.24.0", "openssl": "3.0.13", "ipv6": True}
NGINX_1_26 = {"nginx": "1.26.3", "openssl": "3.5.1", "ipv6": True}
NGINX_1_30 = {"nginx": "1.30.0", "openssl": "3.5.4", "ipv6": True}
NAMED_TLS: dict[str, Any] = {"server_names": ["example.com"], "tls": TLS}


def site(values: dict[str, Any], host: dict[str, Any] = DEBIAN_12) -> str:
    return render("app.nginx.conf", values, host)


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines()]


def block(text: str, head: str) -> str:
    """Return the block that starts with `head`, up to the brace that closes it."""
    start = text.index(head + " {")
    depth = 0
    for position in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0 and text[position] == "}":
            return text[start : position + 1]
    raise AssertionError(f"{head} is not closed in\n{text}")


def servers(text: str) -> list[str]:
    parts = text.split("\nserver {")[1:]
    return ["server {" + part for part in parts]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_file_says_first_that_ansible_owns_it(scenario: str) -> None:
    assert lines(site(SCENARIOS[scenario]))[1] == "# Ansible managed"


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_braces_are_balanced_and_no_template_is_left(scenario: str) -> None:
    text = site(SCENARIOS[scenario])
    assert text.count("{") == text.count("}")
    assert (
        "{{" not in text
        and "{%" not in text
        and "None" not in text
        and "True" not in text.replace("True-Client-IP", "")
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_no_line_is_indented_by_a_template_tag(scenario: str) -> None:
    """Indentation is two levels of four; a stray if-block would leave odd ones."""
    odd = [line for line in site(SCENARIOS[scenario]).splitlines() if (len(line) - len(line.lstrip())) % 4]
    assert not odd


# Who is answered


def test_a_site_with_names_answers_those_only() -> None:
    text = site({"server_names": ["example.com", "*.example.com"]})
    assert "server_name example.com *.example.com;" in lines(text)
    assert "default_server" not in text


def test_the_default_server_answers_whatever_name() -> None:
    text = site({"default_server": True})
    assert "listen 80 default_server;" in lines(text)
    assert "listen [::]:80 default_server;" in lines(text)
    assert "server_name _;" in lines(text)


def test_a_host_without_ipv6_gets_no_ipv6_listener() -> None:
    for values in ({"default_server": True}, NAMED_TLS):
        assert "[::]" in site(values)
        assert "[::]" not in site(values, {**DEBIAN_12, "ipv6": False})


def test_another_port_is_listened_on() -> None:
    text = site({"server_names": ["example.com"], "listen": 8080})
    assert {"listen 8080;", "listen [::]:8080;"} <= set(lines(text))


def test_false_given_as_text_is_false() -> None:
    assert "default_server" not in site({"server_names": ["example.com"], "default_server": "false"})


# TLS


@pytest.mark.parametrize(
    ("host", "listen"),
    [(NGINX_1_18, "listen 443 ssl http2;"), (NGINX_1_24, "listen 443 ssl http2;"), (NGINX_1_26, "listen 443 ssl;")],
)
def test_http2_is_spoken_in_the_form_that_the_version_knows(host: dict[str, Any], listen: str) -> None:
    text = lines(site(NAMED_TLS, host))
    assert listen in text
    assert listen.replace("443", "[::]:443") in text
    assert ("http2 on;" in text) == (host is NGINX_1_26)


@pytest.mark.parametrize(
    ("openssl", "groups"),
    [
        ("1.1.1w", "X25519:prime256v1:secp384r1"),
        ("3.0.17", "X25519:prime256v1:secp384r1"),
        ("3.5.0", "X25519MLKEM768:X25519:prime256v1:secp384r1"),
        ("3.5.4", "X25519MLKEM768:X25519:prime256v1:secp384r1"),
    ],
)
def test_the_post_quantum_group_is_offered_where_openssl_has_it(openssl: str, groups: str) -> None:
    text = site(NAMED_TLS, {**NGINX_1_26, "openssl": openssl})
    assert f"ssl_ecdh_curve {groups};" in lines(text)


@pytest.mark.parametrize("host", [NGINX_1_18, DEBIAN_12, NGINX_1_24, NGINX_1_26, NGINX_1_30])
def test_session_tickets_are_off_where_nginx_does_not_rotate_their_keys(host: dict[str, Any]) -> None:
    off = "ssl_session_tickets off;" in lines(site(NAMED_TLS, host))
    assert off == (host in (NGINX_1_18, DEBIAN_12))


def test_on_a_host_that_could_not_be_asked_the_newest_is_assumed() -> None:
    """Check mode on a new host: a prediction of what a current distribution will get."""
    text = lines(site(NAMED_TLS, {"nginx": None, "openssl": None, "ipv6": True}))
    assert "http2 on;" in text
    assert "ssl_ecdh_curve X25519MLKEM768:X25519:prime256v1:secp384r1;" in text


@pytest.mark.parametrize(
    "values", [{"default_server": True}, NAMED_TLS, {"default_server": True, "url_prefix": "/api"}]
)
def test_challenges_of_a_directory_are_answered_from_the_webroot_on_the_http_port(values: dict[str, Any]) -> None:
    """Without TLS too, or nobody could fetch the first certificate."""
    plain, *secure = servers(site(values))
    found = re.search(r"location \^~ /\.well-known/acme-challenge/ \{([^}]*)\}", plain)
    assert found and "root /var/www/html;" in found[1] and "try_files $uri =404;" in found[1]
    assert not any("acme-challenge" in server for server in secure)


def test_a_further_name_of_the_certificate_has_its_challenges_answered_and_nothing_else() -> None:
    plain, secure = servers(site(SCENARIOS["a certificate of a directory"]))
    assert "server_name example.com mail.example.com;" in plain and "server_name example.com;" in secure
    both = "/var/lib/flaskfleet/tls/hello.pem;"
    assert f"ssl_certificate {both}" in secure and f"ssl_certificate_key {both}" in secure


@pytest.mark.parametrize("tls", [{}, {"tls": TLS}])
def test_a_host_without_the_answer_to_a_challenge_asks_its_peers_which_ask_nobody(tls: dict[str, Any]) -> None:
    text = site({"server_names": ["a.test"], "listen": 8080, "challenge_peers": ["10.0.0.1", "2001:db8::2"], **tls})
    peers = lines(block(text, "upstream hello_peers"))
    assert {"server 10.0.0.1:8080 max_fails=0;", "server [2001:db8::2]:8080 max_fails=0;"} <= set(peers)
    plain = servers(text)[0]
    assert "try_files $uri @hello_peers;" in block(plain, "location ^~ /.well-known/acme-challenge/")
    asked = block(plain, "location ^~ /.well-known/flaskfleet-challenge/")
    assert "alias /var/www/html/.well-known/acme-challenge/;" in asked and "peers" not in asked
    assert "peers" not in site({"server_names": ["a.test"], **tls})


def test_with_tls_the_http_port_only_redirects_and_serves_certificate_challenges() -> None:
    plain, secure = servers(site(NAMED_TLS))
    assert "return 308 https://$flaskfleet_host$request_uri;" in plain
    assert "/.well-known/acme-challenge/" in plain
    assert "proxy_pass" not in plain and "ssl" not in plain
    assert "proxy_pass http://hello;" in secure
    assert "ssl_certificate /etc/ssl/hello/chain.pem;" in secure
    assert "ssl_certificate_key /etc/ssl/hello/key.pem;" in secure


def test_the_default_server_is_the_default_on_both_ports() -> None:
    """Protocol versions, groups and header timeouts come from the default server, before a name is known."""
    plain, secure = servers(site({"default_server": True, "tls": TLS}, NGINX_1_26))
    assert "listen 80 default_server;" in plain and "client_header_timeout" in plain
    assert "listen 443 ssl default_server;" in secure and "client_header_timeout" in secure


def test_without_tls_there_is_one_server_and_no_word_of_it() -> None:
    text = site({"default_server": True})
    assert len(servers(text)) == 1
    assert "ssl" not in text and "443" not in text and "Strict-Transport-Security" not in text


def test_browsers_remember_https_for_two_years_unless_told_otherwise() -> None:
    assert '"max-age=63072000"' in site(NAMED_TLS)
    text = site({"server_names": ["example.com"], "tls": {**TLS, "hsts_max_age": 300}})
    assert re.findall('"max-age=(\\d+)', text) == ["300"]
    words = {"hsts_include_subdomains": True, "hsts_preload": "yes"}
    assert '"max-age=63072000; includeSubDomains; preload"' in site({**NAMED_TLS, "tls": {**TLS, **words}})


@pytest.mark.parametrize("tls", [{"selfsigned": True}, {**TLS, "port": 8443}])
def test_browsers_are_not_sent_to_443_for_ever_where_nobody_is_or_nobody_signed(tls: dict[str, Any]) -> None:
    assert "Strict-Transport" not in site({"default_server": True, "tls": tls})
    assert '"max-age=0"' in site({"default_server": True, "tls": {**tls, "hsts_max_age": 0}})


def test_another_port_for_https_is_named_wherever_it_counts() -> None:
    values = {"server_names": ["example.com"], "listen": 8080, "tls": {**TLS, "port": "8443"}}
    plain, secure = servers(site(values))
    assert "return 308 https://$flaskfleet_host:8443$request_uri;" in plain and "listen 8080;" in plain
    assert {"listen 8443 ssl http2;", "listen [::]:8443 ssl http2;"} <= set(lines(secure))
    asked = evaluate("__flask_gunicorn_nginx_app.verify", values)
    assert (asked["port"], asked["host"]) == (8443, "example.com:8443")
    assert evaluate("__flask_gunicorn_nginx_server.ports", values) == [8080, 8443]


# What nginx adds


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_answer_has_the_headers_and_an_answer_of_the_app_has_none_twice(scenario: str) -> None:
    """nginx inherits no add_header into a block that has one."""
    text = site(SCENARIOS[scenario])
    own = re.findall(r"add_header \S+ (\$\w+_header\d+) always;", servers(text)[-1])
    each = set(own)
    assert each and each == set(re.findall(r"^map \$upstream_http_\w+ (\$\w+_header\d+)", text, re.M))
    for found in re.findall(r"\{([^{}]*add_header (?:Retry-After|Cache-Control)[^{}]*)\}", text):
        assert set(re.findall(r"(\$\w+_header\d+)", found)) == each
    places = 1 + len(re.findall(r"add_header Retry-After", text))
    assert len(own) == places * len(each), "nowhere else is one set, so that all inherit them"


def test_a_header_of_the_users_is_over_the_roles_and_an_empty_one_leaves_it_out() -> None:
    def added(**values: Any) -> dict[str, str]:
        found = evaluate("__flask_gunicorn_nginx_server.headers", {"default_server": True, **values})
        return {each["name"]: each["value"] for each in found}

    assert added()["X-Frame-Options"] == '"SAMEORIGIN"' and added()["X-Request-ID"] == '"$request_id"'
    own = added(headers={"x-frame-options": "DENY", "Referrer-Policy": "", "Content-Security-Policy": "a \"b\" 'c'"})
    assert own["x-frame-options"] == '"DENY"' and "X-Frame-Options" not in own and "Referrer-Policy" not in own
    assert own["Content-Security-Policy"] == '"a \\"b\\" \'c\'"'
    assert "X-Frame-Options" not in added(server_settings={"add_header": "X-Frame-Options DENY always"})
    assert added(tls=TLS, headers={"strict-transport-security": ""}).keys() == added().keys()


def test_limits_are_off_unless_set() -> None:
    assert not re.search("limit_(conn|req)(_zone)? ", site({"default_server": True}))
    text = site({"default_server": True, "limits": {"connections": 100}})
    assert "limit_conn hello_connections 100;" in text and "limit_req " not in text
    text = site({"default_server": True, "limits": {"requests": 5}})
    assert "limit_req zone=hello_requests burst=100 nodelay;" in block(text, "location /") and "limit_conn " not in text


# What reaches the app


def test_the_app_is_told_of_host_client_and_scheme() -> None:
    text = site({"default_server": True})
    location = lines(block(text, "location /"))
    assert "set $flaskfleet_host $http_host;" in lines(text)
    assert {
        "proxy_set_header Host $flaskfleet_host;",
        "proxy_set_header X-Real-IP $remote_addr;",
        "proxy_set_header X-Forwarded-For $remote_addr;",
        "proxy_set_header X-Forwarded-Proto $scheme;",
        "proxy_redirect off;",
    } <= set(location)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_header_that_an_app_may_believe_never_comes_from_the_client(scenario: str) -> None:
    text = site(SCENARIOS[scenario])
    for header in ("Forwarded", "Proxy", "Remote-User", "X-Forwarded-Host", "X-Forwarded-Prefix", "X-Script-Name"):
        assert f'proxy_set_header {header} "";' in lines(text)


def test_without_trusted_proxies_nobody_is_believed() -> None:
    text = site({"default_server": True})
    assert "realip" not in text and "real_ip" not in text and "$http_x_forwarded" not in text


def test_a_trusted_proxy_is_believed_and_appended_to() -> None:
    text = site({"server_names": ["example.com"], "trusted_proxies": ["10.0.0.0/8", "2001:db8::1"]})
    assert {"10.0.0.0/8 1;", "2001:db8::1 1;"} <= set(lines(block(text, "geo $realip_remote_addr $hello_trusted")))
    assert {"set_real_ip_from 10.0.0.0/8;", "set_real_ip_from 2001:db8::1;", "real_ip_recursive on;"} <= set(
        lines(text)
    )
    assert "proxy_set_header X-Forwarded-For $hello_for;" in lines(text)
    assert "proxy_set_header X-Forwarded-Proto $hello_proto;" in lines(text)
    assert '"$http_x_forwarded_for, $realip_remote_addr"' in text


def test_where_tls_ends_before_nginx_the_readiness_path_is_answered_as_users_are() -> None:
    text = site({"server_names": ["a.test"], "public_url": "https://a.test:8443", "trusted_proxies": ["10.0.0.0/8"]})
    ready = lines(block(text, "location = /readyz"))
    assert {"set $flaskfleet_host a.test:8443;", "set $hello_scheme https;"} <= set(ready)
    assert {"set $flaskfleet_host $http_host;", "set $hello_scheme $hello_proto;"} <= set(lines(text))
    # the host itself asks as the load balancer does: what flaskctl verify says of the scheme is believed
    trusted = lines(block(text, "geo $realip_remote_addr $hello_trusted"))
    assert {"127.0.0.1 1;", "::1 1;", "10.0.0.0/8 1;"} <= set(trusted)
    assert "set_real_ip_from 127.0.0.1;" not in lines(text)
    for header in ("Host $flaskfleet_host", "X-Forwarded-Proto $hello_scheme"):
        assert f"proxy_set_header {header};" in lines(text)


def test_a_dash_in_the_name_does_not_end_a_variable_of_nginx() -> None:
    text = site({"name": "a-b", "server_names": ["a.test"], "trusted_proxies": ["10.0.0.1"]})
    assert not re.findall(r"\$a-b", text)
    assert "$a_b_for" in text
    assert "proxy_pass http://a-b;" in lines(text)


def test_two_apps_of_a_host_share_no_name() -> None:
    def names(text: str) -> set[str]:
        return set(re.findall(r"^(?:log_format|upstream|geo \S+|map \S+) (\S+)", text, re.M)) | set(
            re.findall(r"shared:(\w+):|location (@\w+)", text)
        )

    one = names(site({**NAMED_TLS, "name": "one", "trusted_proxies": ["10.0.0.1"]}))
    two = names(site({**NAMED_TLS, "name": "two", "trusted_proxies": ["10.0.0.1"]}))
    assert one and not one & two


def test_nginx_closes_an_idle_connection_before_gunicorn_does() -> None:
    upstream = re.search(r"keepalive_timeout (\d+)s;", block(site({"default_server": True}), "upstream hello"))
    gunicorn = re.search(r"^keepalive = (\d+)", render("gunicorn.conf.py"), re.M)
    assert upstream and gunicorn and int(upstream[1]) < int(gunicorn[1])


# Paths


def test_what_nginx_has_no_file_for_below_static_the_app_is_asked_for_as_for_all_else() -> None:
    """Blueprints and packages have theirs there: these were answered with 404, and the run said `released`."""
    text = site({"default_server": True, "limits": {"requests": 10}})
    app, static = (lines(block(text, f"location {head}")) for head in ("/", "@hello_static"))
    assert "proxy_pass http://hello;" in app and "proxy_pass http://hello$request_uri;" in static
    headers = {line for line in app if line.startswith(("proxy_set_header", "proxy_hide_header", "limit_req"))}
    assert len(headers) > 20 and headers == {
        line for line in static if line.startswith(("proxy_set_header", "proxy_hide_header", "limit_req"))
    }
    assert "@hello_static" not in site({"default_server": True, "static": {"dir": ""}})


def test_static_files_are_those_of_the_current_release_then_of_those_before_it() -> None:
    text = site({"default_server": True, "keep_releases": "3"})
    static = block(text, "location ^~ /static/")
    assert "alias /srv/hello/current/static/;" in static
    assert "try_files $uri $uri/index.html /.kept$uri;" in static
    for number, then in ((1, "/.kept$uri"), (2, "/.kept$uri"), (3, "@hello_static")):
        before = lines(block(text, f"location ^~ {'/.kept' * number}/static/"))
        path = f"/srv/hello/kept/{number}/static/"
        assert {"internal;", f"alias {path};", f"disable_symlinks on from={path};", f"try_files $uri {then};"} <= set(
            before
        )
    assert text.count("internal;\n        alias /srv/hello/kept") == 3


@pytest.mark.parametrize(("keep", "count"), [(2, 2), (7, 7), (8, 7), (100, 7)])
def test_nginx_goes_from_one_release_to_the_next_as_often_as_it_may(keep: int, count: int) -> None:
    """After ten internal redirects it gives up with 500: the app comes after them, and a page of the maintenance."""
    assert site({"default_server": True, "keep_releases": keep}).count("alias /srv/hello/kept/") == count


def test_an_alias_and_its_location_both_end_in_a_slash() -> None:
    """Else /static../app.py is the source code of the app."""
    for scenario in SCENARIOS.values():
        text = site(scenario)
        for location, alias in re.findall(r"location \^~ (\S+) \{[^}]*?alias (\S+);", text):
            assert location.endswith("/") and alias.endswith("/")


def test_without_a_static_directory_nginx_serves_no_file() -> None:
    text = site({"default_server": True, "static": {"dir": ""}})
    assert "/static" not in text and "kept" not in text


def test_mounted_below_a_path_everything_is_below_it() -> None:
    text = site({"default_server": True, "url_prefix": "/api"})
    assert "location /api/ {" in text and "location ^~ /api/static/ {" in text
    assert "return 404;" in block(text, "location /")
    bare = block(text, "location = /api")
    assert "return 308 /api/$is_args$args;" in bare
    assert "absolute_redirect off;" in bare  # else the redirect loses the port that the client asked


def test_routes_that_carry_the_path_keep_their_static_address_too() -> None:
    text = site(
        {"default_server": True, "url_prefix": "/api", "url_prefix_in_routes": True, "static": {"url": "/api/static/"}}
    )
    assert "location /api/ {" in text
    assert "location ^~ /api/static/ {" in text
    assert "/api/api" not in text


def test_without_a_path_the_app_has_the_root() -> None:
    text = site({"default_server": True})
    assert "proxy_pass http://hello;" in block(text, "location /")
    assert "return 404;" not in block(text, "location /")


# Readiness and maintenance


@pytest.mark.parametrize(
    ("values", "ready", "health"),
    [
        ({}, "/readyz", ""),
        ({"health_path": "/healthz"}, "/readyz", "/healthz"),
        ({"url_prefix": "/api"}, "/api/readyz", ""),
        ({"url_prefix": "/api", "health_path": "/healthz"}, "/api/readyz", "/api/healthz"),
        (
            {"url_prefix": "/api", "url_prefix_in_routes": True, "health_path": "/api/healthz"},
            "/api/readyz",
            "/api/healthz",
        ),
    ],
)
def test_a_load_balancer_asks_for_health_under_a_path_of_its_own(
    values: dict[str, Any], ready: str, health: str
) -> None:
    text = site({"default_server": True, **values})
    location = block(text, f"location = {ready}")
    asked = health or f"{values.get('url_prefix', '')}/"
    assert f"proxy_pass http://hello{asked};" in lines(location)
    assert "if (-f /srv/hello/drained) {" in lines(location) and "if (-f /srv/hello/maintenance.html) {" in lines(
        location
    )
    exempt = re.findall(r"location = (\S+) \{\n\s+proxy_pass http://hello;\n\s+\}", text)
    assert exempt == ([health] if health else []), "the health path answers in a maintenance, / belongs to the users"


def test_in_a_maintenance_the_app_is_not_asked_and_the_page_says_when_to_come_back() -> None:
    text = site({"default_server": True})
    refers = r"if \(-f /srv/hello/maintenance.html\) {\s+error_page 503 /.maintenance.html;\s+return 503;"
    assert all(re.search(refers, block(text, f"location {head}")) for head in ("/", "@hello_static"))
    page = lines(block(text, "location = /.maintenance.html"))
    assert {"internal;", "alias /srv/hello/maintenance.html;", "add_header Retry-After 60 always;"} <= set(page)
    assert "-f" not in block(text, "location ^~ /static/")


# Settings


def test_the_users_directives_win_over_the_roles_and_join_them() -> None:
    text = lines(site({"default_server": True, "server_settings": {"client_max_body_size": "1g", "gzip": "on"}}))
    assert "client_max_body_size 1g;" in text and "client_max_body_size 10m;" not in text
    assert "gzip on;" in text
    assert "proxy_read_timeout 60s;" in text


def test_every_directive_stands_once_in_the_server_block() -> None:
    server = servers(site({"default_server": True, "server_settings": {"proxy_read_timeout": "5m"}}))[0]
    settings = [line.split()[0] for line in server.splitlines() if re.match(r"    [a-z_]+ .*;$", line)]
    assert not {name for name in settings if settings.count(name) > 1} - {
        "listen",
        "set",
        "set_real_ip_from",
        "add_header",
    }


def test_the_answer_while_the_app_is_down_asks_to_come_back() -> None:
    text = site({"default_server": True})
    page = block(text, "location @hello_unavailable")
    assert "add_header Retry-After 10 always;" in page and "return 503" in page
    assert "error_page 502 503 504 = @hello_unavailable;" in block(text, "location /")
    assert "proxy_intercept_errors" not in text  # the app's own errors pass


def test_the_log_names_the_release_that_answered() -> None:
    text = site({"default_server": True})
    assert '"release":"$upstream_http_x_release"' in text
    assert "access_log /var/log/nginx/hello.access.log hello;" in lines(text)
    assert "error_log /var/log/nginx/hello.error.log warn;" in lines(text)


def test_the_first_name_is_the_one_that_is_asked_for_proof() -> None:
    host = "__flask_gunicorn_nginx_url.host"
    assert evaluate(host, {"server_names": ["a.test", "b.test"]}) == "a.test"
    assert evaluate(host, {"server_names": ["*.a.test"]}) == "www.a.test"
    assert evaluate(host, {"default_server": True}) == "localhost"


@pytest.mark.parametrize(("settings", "off"), [({}, True), ({"gzip": "on"}, False), ({"gzip": "off"}, False)])
def test_what_the_app_answers_is_compressed_only_where_somebody_wants_that(settings: dict[str, str], off: bool) -> None:
    """BREACH: beside what a visitor sent, the length of a compressed answer tells the secrets in it."""
    text = site({**NAMED_TLS, "server_settings": settings})
    app = [part for part in re.findall(r"(?m)^    location / \{\n[\s\S]*?^    \}", text) if "proxy_pass" in part][0]
    assert ("gzip off;" in lines(app)) == off
    assert "gzip" not in block(text, "location ^~ /static/")


def test_static_files_are_sent_as_they_were_compressed_with_the_release_unless_somebody_says_no() -> None:
    text = lines(site(NAMED_TLS))
    assert {"gzip_static on;", "gzip_vary on;", "gzip_proxied any;"} <= set(text)
    assert "gzip_static off;" in lines(site({**NAMED_TLS, "server_settings": {"gzip_static": "off"}}))


@pytest.mark.parametrize(
    ("static", "settings", "said"),
    [
        ({}, {}, True),
        ({"url": "/a.b/"}, {}, True),
        ({"immutable": "assets/.*"}, {}, True),
        ({"immutable": ""}, {}, False),
        ({"dir": ""}, {}, False),
        ({}, {"expires": "1d"}, False),
    ],
)
def test_files_that_last_are_those_below_the_address_of_static_files(
    static: dict[str, str], settings: dict[str, str], said: bool
) -> None:
    text = site({"default_server": True, "url_prefix": "/x.y", "static": static, "server_settings": settings})
    assert ("    add_header Cache-Control $hello_lasting;" in text) == said == ("map $hello_file" in text)
    if said:
        pattern = re.findall(r'map "\${upstream_addr}:\$uri" \$hello_file \{[^}]*?"~(.*)" ', text)[0]
        url = "/x.y" + static.get("url", "/static/")
        below = re.compile(pattern.replace("?<", "?P<"))
        for path in (f"{url}js/a.js", f"/.kept/.kept{url}js/a.js"):
            found = below.search(f":{path}")
            assert found and found["hello_below"] == "js/a.js"
            assert not below.search(f"127.0.0.1:5000:{path}"), "what the app answers in its place"
        assert not below.search(f":/other{url}a.js") and not below.search(f":{url.replace('.', '-')}a.js")


CACHED: dict[str, Any] = {"server_names": ["a.test"], "micro_cache": {"seconds": 2}, "health_path": "/healthz"}


def test_there_is_no_cache_unless_it_is_asked_for() -> None:
    for values in ({"default_server": True}, {**CACHED, "micro_cache": {"seconds": 0}}):
        assert "proxy_cache" not in site(values) and "X-Cache" not in site(values)
    container = render("app.nginx.conf", CACHED, DEBIAN_12, {"__flask_gunicorn_nginx_container": "app"})
    assert "proxy_cache" not in container and "gzip_static off;" in container


def test_what_is_kept_is_looked_up_by_release_scheme_host_address_and_what_the_client_reads() -> None:
    key = '"$flaskfleet_at\\n%s\\n$flaskfleet_host\\n$http_accept\\n$http_accept_language\\n$request_uri";'
    assert f"proxy_cache_key {key % '$scheme'}" in site(CACHED)
    assert f"proxy_cache_key {key % '$hello_proto'}" in site({**CACHED, "trusted_proxies": ["10.0.0.1"]})
    assert f"proxy_cache_key {key % '$hello_scheme'}" in site({**CACHED, "public_url": "https://a.test"})
    app = block(site(CACHED), "location /")
    assert "root /srv/hello/current;" in app and "set $flaskfleet_at $realpath_root;" in app


def test_who_says_who_asks_gets_an_answer_of_the_app() -> None:
    own = re.findall(r'map "\$request_method \$hello_health(\S*)" \$hello_cache', site(CACHED))[0].split("$")
    assert {"http_cookie", "http_authorization", "http_x_api_key", "http_range", "http_upgrade"} <= set(own)
    assert "http_x_forwarded_user" not in own, "that does not come to the app"
    trusting = {**CACHED, "trusted_proxies": ["10.0.0.1"]}
    trusting["micro_cache"] = {"seconds": 2, "user_headers": ["X-Account", "cookie"]}
    more = re.findall(r'map "\$request_method \$hello_health(\S*)" \$hello_cache', site(trusting))[0].split("$")
    assert {"http_x_forwarded_user", "http_x_original_url", "http_x_account"} <= set(more)
    assert "http_cf_connecting_ip" not in more and more.count("http_cookie") == 1


@pytest.mark.parametrize("prefix", ["", "/api"])
def test_whether_the_app_works_is_never_answered_from_what_was_kept(prefix: str) -> None:
    text = site({**CACHED, "url_prefix": prefix, "rollout": {"ready_path": "/healthz"}})
    found = re.findall(r'"(\S+)" 1;', block(text, "map $uri $hello_health"))
    assert found == [f"{prefix}/healthz", f"{prefix}/.hello/health"], "each once: nginx refuses a second"


def test_an_old_answer_in_place_of_a_failure_can_be_had_or_not() -> None:
    assert "proxy_cache_use_stale updating error timeout http_500 http_502 http_503 http_504;" in site(CACHED)
    strict = {**CACHED, "micro_cache": {"seconds": 2, "stale_on_error": False}}
    assert "proxy_cache_use_stale updating;" in site(strict)


def test_whatever_is_answered_over_https_says_that_it_always_is() -> None:
    """A location with a header of its own has none of those around it: HSTS is in each of them."""
    secure = servers(site({**NAMED_TLS, "url_prefix": "/api"}))[-1]
    found = list(nginx_config.directives(secure))
    own = [each for each in found if each.name == "add_header"]
    places = {each.context for each in own}
    assert len(places) == 3, "the server, and what has a Retry-After of its own"
    assert places == {each.context for each in own if each.args[0] == "Strict-Transport-Security"}

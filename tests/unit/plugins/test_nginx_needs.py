"""What nginx's configuration names: the text is read as nginx reads it, and a path is told from an address."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import directives
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_needs import certain, defaults, needs

SITE = "/etc/nginx/sites-enabled/anna"
BUILT = """\
nginx version: nginx/1.22.1
configure arguments: --with-cc-opt='-g -O2' --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf \
--http-log-path=/var/log/nginx/access.log --error-log-path=stderr --lock-path=/var/lock/nginx.lock \
--pid-path=/run/nginx.pid \
--http-client-body-temp-path=/var/cache/nginx/body --http-proxy-temp-path=/var/cache/nginx/proxy --with-pcre-jit
"""


def names(text: str) -> list[tuple[str, ...]]:
    return [(each.name, *each.args) for each in directives(text)]


def found(text: str, built: dict[str, str] | None = None) -> dict[str, str]:
    """What is needed, by path how."""
    return {need.shown or need.path: need.how for need in needs(directives(text), built or {})}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a b;", [("a", "b")]),
        ("a\n  b # root /no;\n  c;", [("a", "b", "c")]),
        ("# a b;\nc d;", [("c", "d")]),
        ("a b#c;", [("a", "b#c")]),
        ('a "b; # {c}" \'d "e"\';', [("a", "b; # {c}", 'd "e"')]),
        (r"""a "b \"c\"" d\ e;""", [("a", 'b "c"', "d e")]),
        ("a ${b}/c;", [("a", "${b}/c")]),
        ("a { b c; } d;", [("a",), ("b", "c"), ("d",)]),
        ("a b{c d;}e;", [("a", "b"), ("c", "d"), ("e",)]),
        (
            "content_by_lua_block { if x then s = '/a;' end; { y } } root /b;",
            [("content_by_lua_block",), ("root", "/b")],
        ),
        ("a b", []),
        ("} a b;", [("a", "b")]),
        ("", []),
    ],
)
def test_the_text_is_read_as_nginx_reads_it(text: str, said: list[tuple[str, ...]]) -> None:
    assert names(text) == said


def test_a_directive_knows_its_file_and_its_blocks() -> None:
    text = (
        "# configuration file /etc/nginx/nginx.conf:\nhttp { include x; }\n"
        "# configuration file /a b.conf:\nserver { location / { root /srv/a; } }"
    )
    every = {each.name: each for each in directives(text)}
    assert (every["include"].file, every["root"].file) == ("/etc/nginx/nginx.conf", "/a b.conf")
    assert [name for name, _number in every["root"].context] == ["server", "location"]
    assert every["server"].context == ()


@pytest.mark.parametrize(
    ("text", "path", "how"),
    [
        ("root /home/anna/public;", "/home/anna/public", "read"),
        ("root html;", "/usr/share/nginx/html", "read"),
        ("location /x { alias '/srv/a b/'; }", "/srv/a b/", "read"),
        ("include /etc/nginx/sites/*.conf;", "/etc/nginx/sites/*.conf", "read"),
        ("include snippets/a.conf;", "/etc/nginx/snippets/a.conf", "read"),
        ("ssl_certificate /root/chain.pem;", "/root/chain.pem", "read"),
        ("ssl_certificate_key certs/key.pem;", "/etc/nginx/certs/key.pem", "read"),
        ("proxy_ssl_trusted_certificate /root/ca.pem;", "/root/ca.pem", "read"),
        ("auth_basic_user_file /home/anna/htpasswd;", "/home/anna/htpasswd", "read"),
        ("if (-f /home/anna/closed) { return 503; }", "/home/anna/closed", "read"),
        ("access_log /home/anna/logs/a.log combined buffer=1k;", "/home/anna/logs/a.log", "write"),
        ("error_log logs/e.log;", "/usr/share/nginx/logs/e.log", "write"),
        ("client_body_temp_path /data/body 1 2;", "/data/body", "write"),
        ("proxy_cache_path /data/cache levels=1:2 keys_zone=a:1m;", "/data/cache", "write"),
        ("proxy_store /data/www$uri;", "/data/www$uri", "write"),
        ("pid /srv/nginx.pid;", "/srv/nginx.pid", "write"),
        ("lock_file /srv/nginx.lock;", "/srv/nginx.lock", "write"),
        ("upstream a { server unix:/tmp/a.sock fail_timeout=0; }", "/tmp/a.sock", "connect"),
        ("proxy_pass http://unix:/tmp/a.sock:/uri/;", "/tmp/a.sock", "connect"),
        ("uwsgi_pass unix:///tmp/a.sock;", "/tmp/a.sock", "connect"),
        ("access_log syslog:server=unix:/tmp/log,facility=local7;", "/tmp/log", "connect"),
        ("listen unix:/home/anna/nginx.sock;", "/home/anna/nginx.sock", "write"),
        ("map $host $top { anna /home/anna/public; default ''; }", "/home/anna/public", "read"),
        ("map $host $at { default unix:/tmp/a.sock; }", "/tmp/a.sock", "connect"),
        ("geo $x { include /home/anna/geo.conf; }", "/home/anna/geo.conf", "read"),
        ("modsecurity_rules_file /home/anna/waf.conf;", "/home/anna/waf.conf", "read"),
    ],
)
def test_what_nginx_uses_is_found(text: str, path: str, how: str) -> None:
    need = found(text, {"prefix": "/usr/share/nginx"})
    assert need[path] == how


@pytest.mark.parametrize(
    "text",
    [
        "location /home/anna { return 301 /home/anna/x; }",
        "rewrite ^/a /home/b last;",
        "try_files /home/anna/x =404;",
        "error_page 404 /home/anna/404.html;",
        "proxy_pass http://127.0.0.1:8000/home/anna/;",
        "proxy_pass $upstream;",
        "add_header X /home/anna/x;",
        "proxy_set_header X /home/anna/x;",
        "fastcgi_param SCRIPT_FILENAME /home/anna/x;",
        "log_format a '/home/anna/x';",
        "auth_request /home/anna/x;",
        "proxy_cookie_path /home/anna /x;",
        "types { text/html /home/anna/html; }",
        "access_log off;",
        "error_log stderr;",
        "access_log syslog:server=10.0.0.1;",
        "ssl_certificate data:$chain;",
        "root $top;",
        "ssl_session_cache shared:SSL:1m;",
        "ssl_protocols TLSv1.2;",
        "# root /home/anna/x;",
    ],
)
def test_addresses_and_text_are_no_paths(text: str) -> None:
    assert not found(text)


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("/srv/a", "/srv/a"),
        ("/home/$name/public", "/home"),
        ("/data/www$uri", "/data"),
        ("/etc/nginx/sites-enabled/*", "/etc/nginx/sites-enabled"),
        ("/$host", "/"),
    ],
)
def test_a_path_is_certain_up_to_its_first_variable(path: str, directory: str) -> None:
    assert certain(path) == directory


def of(text: str, path: str) -> Any:
    (need,) = (need for need in needs(directives(text), {}) if path in (need.path, need.shown))
    return need


def test_only_the_workers_count_for_what_only_they_use() -> None:
    assert of("root /root/www;", "/root/www").worker
    assert of("server unix:/tmp/a.sock;", "/tmp/a.sock").worker
    assert not of("ssl_certificate /root/a.pem;", "/root/a.pem").worker
    assert not of("access_log /root/a.log;", "/root/a.log").worker


def test_what_may_be_no_path_counts_only_where_it_exists() -> None:
    assert of("js_import /home/anna/a.js;", "/home/anna/a.js").guess
    assert not of("root /home/anna;", "/home/anna").guess


def test_a_site_that_takes_uploads_has_to_write_its_directory() -> None:
    text = "server { root /srv/a; location /up { dav_methods PUT; root /srv/up; } } server { root /srv/b; }"
    hows: dict[str, set[str]] = {}
    for need in needs(directives(text), {}):
        hows.setdefault(need.path, set()).add(need.how)
    assert hows == {"/srv/a": {"read", "write"}, "/srv/up": {"read", "write"}, "/srv/b": {"read"}}


def test_what_nginx_was_built_with_counts_where_nothing_else_is_said() -> None:
    built = defaults(BUILT)
    assert built["prefix"] == "/usr/share/nginx" and built["client_body_temp_path"] == "/var/cache/nginx/body"
    said = found("http { access_log /var/log/a.log; server { proxy_temp_path /srv/tmp; } }", built)
    assert said == {
        "/var/log/a.log": "write",
        "/srv/tmp": "write",
        "/run/nginx.pid": "write",
        "/var/lock/nginx.lock": "write",
        "/var/cache/nginx/body": "write",
        "/var/cache/nginx/proxy": "write",
    }


def test_a_need_says_where_it_comes_from() -> None:
    text = f"# configuration file {SITE}:\nserver {{ root /home/anna; }}"
    assert of(text, "/home/anna").where == f"root in {SITE}"

"""Which site answers, as nginx chooses it, and where a site is read."""

from __future__ import annotations

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import (
    Listen,
    chosen,
    directives,
    is_read,
    listens,
    servers,
)

MAIN = "# configuration file /etc/nginx/nginx.conf:\n"
DEBIAN = (
    MAIN + "include /etc/nginx/modules-enabled/*.conf;\n"
    "http { include mime.types; include /etc/nginx/conf.d/*.conf; include /etc/nginx/sites-enabled/*; }\n"
)


def at(path: str, text: str) -> str:
    return f"\n# configuration file {path}:\n{text}\n"


def answers(text: str, address: str = "10.0.0.5", name: str = "shop.test", port: int = 80) -> str:
    """The file of the site that answers."""
    found = chosen(servers(directives(DEBIAN + text)), address, port, name)
    return found.file.rpartition("/")[2] if found else ""


OURS = at("/etc/nginx/sites-enabled/shop.conf", "server { listen 80; listen [::]:80; server_name shop.test; }")


@pytest.mark.parametrize(
    ("theirs", "address", "who"),
    [
        ("server { listen 127.0.0.1:80; stub_status; }", "10.0.0.5", "shop.conf"),
        ("server { listen 127.0.0.1:80; stub_status; }", "127.0.0.1", "theirs"),
        ("server { listen localhost:80; stub_status; }", "127.0.0.1", "theirs"),
        ("server { listen 10.0.0.5:80; server_name a.test; }", "10.0.0.5", "theirs"),
        ("server { listen 10.0.0.5; server_name a.test; }", "10.0.0.5", "theirs"),
        ("server { listen 10.0.0.5:80; server_name a.test; }", "10.0.0.6", "shop.conf"),
        ("server { listen 10.0.0.5:8080; server_name a.test; }", "10.0.0.5", "shop.conf"),
        ("server { listen [2001:db8::0:5]:80; server_name a.test; }", "2001:db8::5", "theirs"),
        ("server { listen [::]:80 ipv6only=off; server_name a.test; }", "10.0.0.5", "shop.conf"),
        ("server { listen 80 default_server; server_name _; }", "10.0.0.5", "shop.conf"),
        ("server { server_name *.test; }", "10.0.0.5", "shop.conf"),
        ("server { listen unix:/run/a.sock; server_name shop.test; }", "10.0.0.5", "shop.conf"),
    ],
)
def test_who_names_the_address_goes_first_and_then_the_name_counts(theirs: str, address: str, who: str) -> None:
    assert answers(OURS + at("/etc/nginx/sites-enabled/theirs", theirs), address) == who


@pytest.mark.parametrize(
    ("name", "who"),
    [
        ("www.example.com", "exact"),
        ("WWW.example.com", "exact"),
        ("a.example.com", "wildcard"),
        ("b.a.example.com", "wildcard"),
        ("b.deep.example.com", "deep"),
        ("example.org", "dot"),
        ("x.example.org", "dot"),
        ("mail.example.net", "prefix"),
        ("v12.test", "regex"),
        ("nobody.test", "default"),
    ],
)
def test_a_name_is_looked_for_in_the_order_of_nginx(name: str, who: str) -> None:
    sites = {
        "regex": "server { server_name ~^v\\d+\\.test$; }",
        "wildcard": "server { server_name *.example.com; }",
        "default": "server { listen *:80 default_server; }",
        "deep": "server { server_name *.deep.example.com; }",
        "dot": "server { server_name .example.org; }",
        "prefix": "server { server_name mail.*; }",
        "exact": "server { server_name www.example.com; }",
    }
    text = "".join(at(f"/etc/nginx/sites-enabled/{site}", block) for site, block in sites.items())
    assert answers(text, name=name) == who


def test_where_nothing_fits_the_first_site_answers_and_none_where_nothing_listens() -> None:
    text = at("/etc/nginx/conf.d/a.conf", "server { server_name a.test; }") + OURS
    assert answers(text, name="b.test") == "a.conf"
    assert answers(OURS, port=443) == ""
    both = at("/etc/nginx/conf.d/a.conf", "server { listen [::]:80 ipv6only=off; }")
    assert answers(both) == "a.conf"


def test_a_server_of_a_stream_is_no_site_wherever_it_stands() -> None:
    text = MAIN + "http { include /etc/nginx/conf.d/*.conf; } stream { include /etc/nginx/stream.d/*.conf; }"
    text += at("/etc/nginx/stream.d/db.conf", "server { listen 80; proxy_pass db; }")
    text += at("/etc/nginx/conf.d/a.conf", "include vhosts/*.conf;") + at(
        "/etc/nginx/vhosts/v.conf", "server { server_name v.test; }"
    )
    assert [server.file for server in servers(directives(text))] == ["/etc/nginx/vhosts/v.conf"]


def test_what_a_snippet_says_of_the_site_counts() -> None:
    text = OURS + at("/etc/nginx/sites-enabled/theirs", "server { include snippets/l.conf; server_name b.test; }")
    text += at("/etc/nginx/snippets/l.conf", "listen 10.0.0.5:80;")
    assert answers(text) == "theirs"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (["80"], [Listen("*", 80)]),
        (["*:8080", "default_server"], [Listen("*", 8080, default=True)]),
        (["[::]:443", "ssl", "ipv6only=off"], [Listen("::", 443, both=True)]),
        (["[::1]"], [Listen("::1", 80)]),
        (["8080-8081"], [Listen("*", 8080), Listen("*", 8081)]),
        (["unix:/run/x.sock"], []),
    ],
)
def test_every_way_to_say_listen_is_read(said: list[str], found: list[Listen]) -> None:
    assert listens(said) == found


@pytest.mark.parametrize(
    ("text", "path", "read"),
    [
        (DEBIAN, "/etc/nginx/sites-enabled/shop.conf", True),
        (DEBIAN, "/etc/nginx/conf.d/shop.conf", True),
        (DEBIAN, "/etc/nginx/modules-enabled/shop.conf", False),
        (DEBIAN, "/etc/nginx/sites-available/shop.conf", False),
        (MAIN + "http { include conf.d/*.conf; }", "/etc/nginx/conf.d/shop.conf", True),
        (MAIN + "http { include conf.d/*.conf; }", "/etc/nginx/sites-enabled/shop.conf", False),
        (MAIN + "http { include sites-enabled/*.vhost; }", "/etc/nginx/sites-enabled/shop.conf", False),
        (MAIN + "http { server { include conf.d/*.conf; } }", "/etc/nginx/conf.d/shop.conf", False),
        (MAIN + "stream { include conf.d/*.conf; }", "/etc/nginx/conf.d/shop.conf", False),
        (
            MAIN + "include h.conf;" + at("/etc/nginx/h.conf", "http { include conf.d/*.conf; }"),
            "/etc/nginx/conf.d/s.conf",
            True,
        ),
        (
            MAIN + "http { include h/*.conf; }" + at("/etc/nginx/h/a.conf", "include v/*.conf;"),
            "/etc/nginx/v/s.conf",
            True,
        ),
        (MAIN + "http { include nginx.conf; }", "/etc/nginx/conf.d/shop.conf", False),
    ],
)
def test_a_site_is_read_where_an_include_of_http_names_it(text: str, path: str, read: bool) -> None:
    assert is_read(directives(text), path) == read

"""What others do with the ports of a site, and whether the nginx that was asked is the one that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import directives
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_ports import port_problems, started_with

from tests.unit.plugins.test_nginx_site import AVAILABLE, DEBIAN, DEFAULT, asked, at

OTHER = "/etc/nginx/sites-enabled/anna"
NAMES = "# configuration file /etc/nginx/nginx.conf:\ninclude /etc/nginx/streams/*.conf;\nhttp {}\n"
BOTH = [{"port": 80, "ssl": False}, {"port": 443, "ssl": True}]


def problems(text: str, *held: tuple[str, int], record: tuple[str, ...] = (), **changes: Any) -> list[str]:
    settings = asked(**changes)
    settings["catch_all"]["listens"] = BOTH
    has = [{"address": address, "port": port, "unit": "nginx.service"} for address, port in held]
    found: list[str] = port_problems(directives(text), settings, record, has)
    return found


def site(listen: str, file: str = OTHER) -> str:
    return DEBIAN + at(file, f"server {{ listen {listen}; server_name anna.test; }}")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (site("[::]:80 ipv6only=off"), ("takes port 80 of IPv4 too", "listen 80; listen [::]:80;")),
        (site("80 proxy_protocol"), ("PROXY protocol", OTHER, "flask_gunicorn_nginx_listen")),
        (site("[::]:443 ssl proxy_protocol"), ("PROXY protocol", "flask_gunicorn_nginx_tls")),
        (site("80 ssl"), ("speaks TLS on port 80, where this app's site does not",)),
        (site("443"), ("speaks no TLS on port 443, where this app's site does",)),
        (
            NAMES + at("/etc/nginx/streams/a.conf", "stream { server { listen 443; } }"),
            ("a stream block", "listen 443"),
        ),
        (NAMES.replace("http", "mail { server { listen 80; } } http"), ("a mail block",)),
    ],
)
def test_a_port_that_nginx_could_not_give_to_both_is_told_with_its_file(text: str, words: tuple[str, ...]) -> None:
    (said,) = problems(text)
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    "text",
    [
        "",
        DEBIAN,
        site("80"),
        site("80 default_server"),
        site("[::]:80 ipv6only=on"),
        site("443 ssl http2"),
        site("443; ssl on"),
        site("443 quic reuseport"),
        site("8080 proxy_protocol"),
        site("10.0.0.5:80 proxy_protocol"),
        site("[::]:8080 ipv6only=off"),
        site("unix:/run/x.sock proxy_protocol"),
        NAMES + at("/etc/nginx/streams/a.conf", "stream { server { listen 443 udp; } server { listen 5432; } }"),
        site("80 proxy_protocol", AVAILABLE),
    ],
)
def test_what_stands_beside_a_site_is_no_problem(text: str) -> None:
    assert problems(text) == []


def test_what_goes_aside_or_is_an_apps_own_is_no_problem() -> None:
    assert problems(site("80 proxy_protocol", DEFAULT), default=True) == []
    assert problems(site("80 proxy_protocol", DEFAULT), default=True, default_site="") != []
    assert problems(site("80 proxy_protocol"), record=(OTHER,)) == []


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ([("127.0.0.1", 80)], "listens on 127.0.0.1:80 alone"),
        ([("10.0.0.5", 443), ("127.0.0.1", 443)], "listens on 10.0.0.5:443, 127.0.0.1:443 alone"),
        ([("0.0.0.0", 80), ("::1", 80)], "listens on [::1]:80 alone"),
        ([("0.0.0.0", 80), ("10.0.0.5", 80), ("::", 80)], ""),
        ([("::", 80)], ""),
        ([("127.0.0.1", 8080)], ""),
        ([], ""),
    ],
)
def test_a_running_nginx_that_has_some_addresses_cannot_take_all(held: list[tuple[str, int]], words: str) -> None:
    said = problems(DEBIAN, *held)
    assert len(said) == bool(words)
    assert not words or (words in said[0] and "systemctl stop nginx" in said[0])


UNIT = "# /lib/systemd/system/nginx.service\n[Service]\nExecStart={}/nginx -g 'daemon on; master_process on;'\n"
BUILT = "configure arguments: --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --http-log-path=/x"
DROPIN = "# /etc/systemd/system/nginx.service.d/own.conf\n[Service]\nExecStart=\nExecStart={}\n"


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ("{}/nginx -c /opt/web/nginx.conf -g 'daemon on;'", "starts nginx with /opt/web/nginx.conf"),
        ("{}/nginx -c/opt/web/nginx.conf", "starts nginx with /opt/web/nginx.conf"),
        ("{}/nginx -p /opt/web", "starts nginx with /opt/web"),
        ("{}/openresty -g 'daemon on;'", "openresty, and `nginx` is"),
        ("-{}/nginx -c /etc/nginx/nginx.conf", ""),
        ("{}/nginx \\\n  -c /etc/nginx/nginx.conf", ""),
        ("{}/nginx -p /usr/share/nginx/ -e stderr", ""),
        ('{}/nginx -c ${{CONFFILE}}\nEnvironment="CONFFILE=/etc/nginx/nginx.conf"', ""),
        ("{}/nginx -c ${{CONFFILE}}\nEnvironment=CONFFILE=/opt/nginx.conf", "starts nginx with /opt/nginx.conf"),
        ("{}/nginx -c ${{ELSEWHERE}}", ""),
        ("", ""),
    ],
)
def test_an_nginx_that_is_started_otherwise_is_told(tmp_path: Path, start: str, words: str) -> None:
    unit = UNIT.format(tmp_path) + DROPIN.format(start.format(tmp_path))
    said = started_with(unit, BUILT, str(tmp_path / "nginx"))
    assert words in said and bool(words) == bool(said), said


def test_the_distributions_unit_is_none() -> None:
    assert started_with(UNIT.format("/usr/sbin"), BUILT, "/usr/sbin/nginx") == ""
    assert started_with("", "", "") == ""

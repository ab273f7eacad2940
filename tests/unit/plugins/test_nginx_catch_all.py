"""The server for all other names: on which ports a host gets it, by what else stands in nginx's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_catch_all import (
    SIZES,
    TIMES,
    amount,
    catch_all,
    others_settings,
    site_of_host,
)
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import directives

from tests.unit.plugins.test_nginx_site import CONF_D, DEBIAN, DEFAULT, ENABLED, SHARED, asked, at, decided, site

HERE, THERE = "/etc/nginx/conf.d/00-flaskfleet.conf", "/etc/nginx/sites-enabled/00-flaskfleet.conf"
BLOG, WIKI = "/etc/nginx/sites-enabled/blog.conf", "/etc/nginx/sites-enabled/wiki.conf"
HTTP, HTTPS = {"port": 80, "ssl": False}, {"port": 443, "ssl": True}
OWN = {"app": "shop", "path": "/readyz"}
WELCOME = at(DEFAULT, "server { listen 80 default_server; listen [::]:80 default_server; server_name _; }")


def made(
    text: str,
    *record: str,
    settings: dict[str, Any] | None = None,
    listens: list[dict[str, Any]] | None = None,
    limits: dict[str, str] | None = None,
    ready: dict[str, str] = OWN,
    **changes: Any,
) -> dict[str, Any]:
    own = {
        "paths": [HERE, THERE],
        "settings": "/nowhere",
        "listens": [HTTP, HTTPS] if listens is None else listens,
        "ready": ready,
        "limits": limits or {},
    }
    found: dict[str, Any] = catch_all(directives(text), {**asked(**changes), "catch_all": own}, record, settings or {})
    return found


def gone(*paths: str) -> list[dict[str, str]]:
    return [{"path": path, "state": "absent"} for path in paths]


@pytest.mark.parametrize(
    ("text", "path", "listens"),
    [
        (DEBIAN, HERE, [HTTP, HTTPS]),
        (CONF_D, HERE, [HTTP, HTTPS]),
        (DEBIAN.replace("include /etc/nginx/conf.d/*.conf;", ""), THERE, [HTTP, HTTPS]),
        # what somebody else has stays his, whether his site says that it is the default server or is it by its place
        (DEBIAN + WELCOME, HERE, [HTTPS]),
        (DEBIAN + site("anna", "listen 80 default_server; server_name anna.test;"), HERE, [HTTPS]),
        (DEBIAN + site("zoe", "listen 443 ssl; server_name zoe.test;"), HERE, [HTTP]),
        (DEBIAN + site("zoe", "server_name zoe.test;"), HERE, [HTTPS]),
        (DEBIAN + WELCOME + site("zoe", "listen [::]:443 ssl;"), "", []),
        (DEBIAN + site("zoe", "listen 80-90;"), HERE, [HTTPS]),
        # an address of its own is another matter
        (DEBIAN + site("zoe", "listen 127.0.0.1:80; server_name zoe.test;"), HERE, [HTTP, HTTPS]),
        (DEBIAN + site("zoe", "listen 8080 default_server;"), HERE, [HTTP, HTTPS]),
        (DEBIAN + site("shop.conf", "listen 80; server_name shop.test;"), HERE, [HTTP, HTTPS]),
        (DEBIAN + site("00-flaskfleet.conf", "listen 80;", "conf.d"), HERE, [HTTP, HTTPS]),
        # nothing is known
        ("", "", []),
    ],
)
def test_it_is_where_nobody_else_listens(text: str, path: str, listens: list[dict[str, Any]]) -> None:
    found = made(text)
    assert (found["path"], found["listens"], found["gone"]) == (path, listens, [])


def test_an_app_that_answers_any_name_needs_none_and_has_the_distribution_s_site_aside() -> None:
    assert made(DEBIAN + WELCOME, default=True)["path"] == ""
    assert made(DEBIAN, HERE, default=True)["gone"] == gone(HERE)


def other(path: str, text: str) -> str:
    return at(path, f"server {{ {text} }}")


def test_the_apps_of_a_host_share_one_whoever_is_released() -> None:
    ours = other(ENABLED, "listen 80; listen 443 ssl; server_name shop.test;")
    blog = other(BLOG, "listen 8080; server_name blog.test;")
    record = [ENABLED, BLOG, HERE]
    listens = [HTTP, HTTPS, {"port": 8080, "ssl": False}]
    ready = {"blog": {"ready": {"app": "blog", "path": "/ok"}}, "shop": {"ready": OWN}}
    mine = made(DEBIAN + blog + ours, *record, settings={"blog": ready["blog"]})
    paths = {"available": BLOG.replace("enabled", "available"), "enabled": BLOG, "alone": "/etc/nginx/conf.d/blog.conf"}
    of_blog: dict[str, Any] = {"settings": {"shop": ready["shop"]}, "ready": {"app": "blog", "path": "/ok"}}
    theirs = made(DEBIAN + blog + ours, *record, listens=[listens[2]], paths=paths, **of_blog)
    assert mine == theirs and mine["listens"] == listens
    assert [each["app"] for each in mine["ready"]] == ["blog", "shop"]
    # one of them is removed, then the other
    left = made(DEBIAN + blog + ours, *record, listens=[], ready={}, settings={"blog": ready["blog"]})
    assert (left["path"], left["listens"], [each["app"] for each in left["ready"]]) == (HERE, listens[2:], ["blog"])
    last = made(DEBIAN + blog, BLOG, HERE, listens=[], ready={}, paths=paths)
    assert (last["path"], last["gone"], last["ready"]) == ("", gone(HERE), [])


def test_another_app_that_answers_any_name_has_its_ports() -> None:
    text = DEBIAN + other(WIKI, "listen 80 default_server; server_name _;")
    assert made(text, WIKI)["listens"] == [HTTPS]
    # of which nothing is to be asked here: its own site answers by address
    wiki = {"wiki": {"ready": {"app": "wiki", "path": "/a"}}}
    assert made(text, WIKI, settings=wiki)["ready"] == [OWN]
    # nor where its file has a server for nginx's own figures too
    figures = other(WIKI, "listen 127.0.0.81:80; server_name _wiki_status;")
    assert made(text + figures, WIKI, settings=wiki) == made(text, WIKI, settings=wiki)


def test_of_two_apps_with_one_path_the_first_by_name_has_it() -> None:
    text = DEBIAN + other(BLOG, "listen 80; server_name blog.test;") + other(WIKI, "listen 80; server_name w.test;")
    told = {name: {"ready": {"app": name, "path": "/readyz"}} for name in ("wiki", "blog")}
    assert [each["app"] for each in made(text, BLOG, WIKI, settings=told)["ready"]] == ["blog"]
    # one that an older role has released says nothing of it
    assert [each["app"] for each in made(text, BLOG, WIKI, settings={"blog": {"port": 1}, "wiki": {}})["ready"]] == [
        "shop"
    ]


def test_it_moves_with_the_configuration_and_goes_from_where_it_was() -> None:
    found = made(DEBIAN.replace("conf.d", "x"), HERE)
    assert (found["path"], found["gone"]) == (THERE, gone(HERE))


def test_what_an_app_lets_clients_take_counts_before_its_name_is_known() -> None:
    blog = other(BLOG, "listen 80; client_header_timeout 2m; large_client_header_buffers 8 16k;")
    strange = site("zoe", "listen 8443 ssl; client_header_timeout 9m;")
    limits = {"client_header_timeout": "90s", "large_client_header_buffers": "4 64k"}
    found = made(DEBIAN + blog + strange, BLOG, limits=limits)["limits"]
    assert found == {"client_header_timeout": "2m", "large_client_header_buffers": "4 64k"}


@pytest.mark.parametrize(
    ("less", "more", "units"),
    [
        ("4 8k", "8 8k", SIZES),
        ("4 8k", "1 1m", SIZES),
        ("900ms", "1s", TIMES),
        ("1m", "61", TIMES),
        ("1h", "2d", TIMES),
    ],
)
def test_sizes_and_times_are_compared_by_what_they_are(less: str, more: str, units: dict[str, float]) -> None:
    assert amount(less, units) < amount(more, units)


def test_what_flaskctl_knows_of_apps_on_record_is_read(tmp_path: Path) -> None:
    for name, text in {"blog": json.dumps({"port": 1}), "cut": "{", "list": "[]", "foreign": "{}"}.items():
        (tmp_path / f"{name}.json").write_text(text)
    question = {"catch_all": {"settings": str(tmp_path)}}
    record = [str(tmp_path / f"{name}.json") for name in ("blog", "cut", "list")]
    assert others_settings(question, record) == {"blog": {"port": 1}}


def test_it_comes_with_what_is_decided_of_the_site() -> None:
    own = {"paths": [HERE, THERE], "settings": "/nowhere", "listens": [HTTP], "ready": OWN, "limits": {}}
    found = site_of_host(directives(DEBIAN), "", "", {**asked(), "catch_all": own}, [])
    assert found["read"] == ENABLED and found["catch_all"]["path"] == HERE


# beside somebody else's default server


SLOW = "client_header_timeout 10s;"


@pytest.mark.parametrize(
    ("text", "record", "said"),
    [
        (DEBIAN, [], ""),
        (DEBIAN + WELCOME, [], SLOW),
        (DEBIAN + site("zoe", "server_name zoe.test;"), [], SLOW),
        (DEBIAN + site("zoe", "listen 81;"), [], ""),
        (DEBIAN.replace("http {", "http { client_header_timeout 60s;") + WELCOME, [], ""),
        (DEBIAN + WELCOME + at("/etc/nginx/conf.d/own.conf", "client_header_timeout 20s;"), [], ""),
        (DEBIAN + WELCOME + at(SHARED, SLOW), [SHARED], ""),
    ],
)
def test_headers_that_come_slowly_have_an_end_beside_somebody_else_s_default_server(
    text: str, record: list[str], said: str
) -> None:
    room = [entry for entry in decided(text, *record)["files"] if entry["path"] == SHARED]
    assert [said in entry["content"] for entry in room] == ([True] if said else [])


def test_what_another_app_needs_in_the_shared_file_stays_in_it() -> None:
    held = DEBIAN + WELCOME + at(SHARED, "server_names_hash_bucket_size 256;")
    (room,) = [entry for entry in decided(held, SHARED)["files"] if entry["path"] == SHARED]
    assert SLOW in room["content"] and "server_names_hash_bucket_size 256;" in room["content"]

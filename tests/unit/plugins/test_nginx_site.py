"""Where a site goes, and what is in its way: by the configuration of the host, and by the record of what is ours."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import directives
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_site import decide, needed_size

AVAILABLE, ENABLED = "/etc/nginx/sites-available/shop.conf", "/etc/nginx/sites-enabled/shop.conf"
ALONE, SHARED = "/etc/nginx/conf.d/shop.conf", "/etc/nginx/conf.d/flaskfleet.conf"
SHARED_ENABLED, DEFAULT = "/etc/nginx/sites-enabled/flaskfleet.conf", "/etc/nginx/sites-enabled/default"
CATCH_ALL = "/etc/nginx/conf.d/00-flaskfleet.conf"
DEBIAN = (
    "# configuration file /etc/nginx/nginx.conf:\n"
    "http { include /etc/nginx/conf.d/*.conf; include /etc/nginx/sites-enabled/*; }\n"
)
CONF_D = DEBIAN.replace("include /etc/nginx/sites-enabled/*;", "")
LONG = "staging-orders-frontend-1234567890.internal.eu-central-1.elb.example.com"


def at(path: str, text: str) -> str:
    return f"\n# configuration file {path}:\n{text}\n"


def asked(**changes: Any) -> dict[str, Any]:
    return {
        "names": ["shop.test"],
        "ports": [80],
        "default": False,
        "default_site": DEFAULT,
        "modules": {},
        "shared": [SHARED, SHARED_ENABLED],
        "paths": {"available": AVAILABLE, "enabled": ENABLED, "alone": ALONE},
        "catch_all": {"paths": [CATCH_ALL]},
        **changes,
    }


def decided(text: str, *record: str, said: str = "", built: str = "", **changes: Any) -> dict[str, Any]:
    found: dict[str, Any] = decide(directives(text), said, built, asked(**changes), record)
    return found


LINK = {"path": ENABLED, "link": AVAILABLE}


@pytest.mark.parametrize(
    ("text", "record", "where", "files"),
    [
        (DEBIAN, [], (AVAILABLE, ENABLED), [LINK]),
        ("", [], (AVAILABLE, ENABLED), [LINK]),
        (DEBIAN.replace("enabled/*", "enabled/*.conf"), [], (AVAILABLE, ENABLED), [LINK]),
        (DEBIAN.replace("enabled/*", "enabled/*.vhost"), [], (ALONE, ALONE), []),
        (CONF_D, [], (ALONE, ALONE), []),
        # it moves with its configuration, and stays where it is read
        (
            CONF_D,
            [AVAILABLE, ENABLED],
            (ALONE, ALONE),
            [{"path": ENABLED, "state": "absent"}, {"path": AVAILABLE, "state": "absent"}],
        ),
        (DEBIAN, [ALONE], (ALONE, ALONE), []),
        (DEBIAN.replace("conf.d", "x"), [ALONE], (AVAILABLE, ENABLED), [LINK, {"path": ALONE, "state": "absent"}]),
        # nobody can tell: it stays
        ("", [ALONE], (ALONE, ALONE), []),
    ],
)
def test_a_site_goes_where_nginx_reads_it(
    text: str, record: list[str], where: tuple[str, str], files: list[dict[str, str]]
) -> None:
    found = decided(text, *record)
    assert ((found["file"], found["read"]), found["files"], found["problems"]) == (where, files, [])


def test_where_no_site_is_read_the_missing_line_is_named() -> None:
    text = "# configuration file /etc/nginx/nginx.conf:\nhttp { include mime.types; server { include x/*; } }"
    (problem,) = decided(text)["problems"]
    assert "the http block of /etc/nginx/nginx.conf includes mime.types." in problem
    assert problem.endswith("include /etc/nginx/conf.d/*.conf;")


def site(name: str, text: str, directory: str = "sites-enabled") -> str:
    return at(f"/etc/nginx/{directory}/{name}", f"server {{ {text} }}")


@pytest.mark.parametrize(
    ("others", "names"),
    [
        (site("anna", "listen 80; server_name shop.test;"), ["shop.test"]),
        (site("anna", "listen 80; server_name a.test SHOP.test;"), ["shop.test"]),
        (site("anna", "listen [::]:80; server_name .shop.test;"), ["shop.test"]),
        (site("anna", "server_name shop.test;"), ["shop.test"]),
        (site("anna", "listen 8080; server_name shop.test;"), []),
        (site("anna", "listen 127.0.0.1:80; server_name shop.test;"), []),
        (site("anna", "listen 80; server_name *.test;"), []),
        (site("anna", "listen 80 default_server; server_name _;"), []),
        (site("shop.conf", "listen 80; server_name shop.test;"), []),
        # nginx reads ours first, and ignores the other one
        (site("shop.conf", "server_name shop.test;") + site("zoe", "server_name shop.test;"), []),
        (site("anna", "server_name shop.test;") + site("shop.conf", "server_name shop.test;"), ["shop.test"]),
    ],
)
def test_a_name_that_another_site_has_on_our_port_is_found(others: str, names: list[str]) -> None:
    assert [clash["name"] for clash in decided(DEBIAN + others)["clashes"]] == names


def test_another_app_of_ours_is_told_by_the_record_wherever_its_site_is_read() -> None:
    theirs = "/etc/nginx/sites-enabled/blog.conf"
    text = (
        DEBIAN + site("shop.conf", "server_name shop.test;", "conf.d") + at(theirs, "server { server_name shop.test; }")
    )
    (clash,) = decided(text, theirs)["clashes"]
    assert (clash["app"], clash["site"]) == ("blog", f"shop.test on 80 ({theirs})")
    assert not decided(text)["clashes"], "ours comes first, and the other one is somebody's own"


def test_one_site_answers_for_any_name_and_the_distribution_s_goes_aside() -> None:
    text = DEBIAN + at(DEFAULT, "server { listen 80 default_server; server_name _; }")
    assert decided(text, default=True)["clashes"] == []
    text += site("anna", "listen 80 default_server; server_name _;")
    assert [clash["name"] for clash in decided(text, default=True)["clashes"]] == [""]


def test_nginx_will_listen_where_its_sites_say_but_for_the_one_that_goes_aside() -> None:
    text = DEBIAN + at(DEFAULT, "server { listen 80 default_server; server_name _; }") + site("a", "listen 81;")
    assert (decided(text)["listens"], decided(text, default=True)["listens"]) == ([80, 81], [81])


def test_what_nginx_says_of_our_names_is_passed_on() -> None:
    said = "".join(
        f'nginx: [warn] conflicting server name "{name}" on 0.0.0.0:80, ignored\n'
        for name in ("shop.test", "shop.test", "other.test")
    )
    assert decided(DEBIAN, said=said)["said"] == ['conflicting server name "shop.test" on 0.0.0.0:80, ignored']


@pytest.mark.parametrize(("length", "size"), [(1, 64), (46, 64), (47, 128), (110, 128), (111, 256), (253, 512)])
def test_a_name_needs_a_bucket_of_its_size(length: int, size: int) -> None:
    assert needed_size(["a", "x" * length]) == size


ROOM = {"path": SHARED, "mode": "0644"}


@pytest.mark.parametrize(
    ("text", "record", "path", "size"),
    [
        (DEBIAN, [], SHARED, 128),
        ("", [], SHARED, 128),
        (DEBIAN.replace("conf.d", "x"), [], SHARED_ENABLED, 128),
        (DEBIAN + at("/etc/nginx/conf.d/own.conf", "server_names_hash_bucket_size 128;"), [], "", 0),
        (DEBIAN.replace("http {", "http { server_names_hash_bucket_size 256;"), [], "", 0),
        # another app of ours has made room already, enough or not enough
        (DEBIAN + at(SHARED, "server_names_hash_bucket_size 128;"), [SHARED], "", 0),
        (DEBIAN + at(SHARED_ENABLED, "server_names_hash_bucket_size 96;"), [SHARED_ENABLED], SHARED_ENABLED, 128),
    ],
)
def test_a_long_name_gets_room_once_for_all_apps(text: str, record: list[str], path: str, size: int) -> None:
    found = decided(text, *record, names=[LONG])
    room = [entry for entry in found["files"] if "flaskfleet" in entry["path"]]
    assert [entry["path"] for entry in room] == ([path] if path else [])
    assert all(f"\nserver_names_hash_bucket_size {size};\n" in entry["content"] for entry in room)
    assert not found["problems"]


def app(number: int) -> str:
    path = f"/etc/nginx/sites-enabled/app{number}.conf"
    return at(path, f"server {{ listen 80; server_name {number}.test; }}")


@pytest.mark.parametrize(
    ("apps", "modules", "said", "room"),
    [
        (1, {}, "", False),
        (2, {}, "", True),
        (0, {"http_geo_module": "the setting"}, "", True),
        (2, {}, "variables_hash_max_size 2048;", False),
    ],
)
def test_nginx_has_room_for_the_variables_of_some_apps_unless_somebody_has_made_it(
    apps: int, modules: dict[str, str], said: str, room: bool
) -> None:
    text = DEBIAN.replace("http {", f"http {{ {said}") + "".join(map(app, range(apps)))
    record = [f"/etc/nginx/sites-enabled/app{number}.conf" for number in range(apps)]
    files = decided(text, *record, modules=modules)["files"]
    assert any("\nvariables_hash_max_size 4096;\n" in entry.get("content", "") for entry in files) == room
    # neither the app itself nor the server for all other names is another app: the next run decides the same
    later = text + at(ENABLED, "server { listen 80; }") + at(CATCH_ALL, "server { listen 80; }")
    files = decided(later, ENABLED, CATCH_ALL, *record, modules=modules)["files"]
    assert any("\nvariables_hash_max_size 4096;\n" in entry.get("content", "") for entry in files) == room
    standing = at(SHARED, "variables_hash_max_size 4096;")
    assert decided(DEBIAN + standing, SHARED, modules=modules)["files"] == [LINK], "it stays as it stands"


def test_who_has_said_too_little_is_told_where_and_how_much() -> None:
    text = DEBIAN.replace("http {", "http { server_names_hash_bucket_size 64;")
    found = decided(text, names=["shop.test", LONG])
    assert found["files"] == [LINK]
    (problem,) = found["problems"]
    assert "is 64 in /etc/nginx/nginx.conf" in problem and LONG in problem
    assert problem.endswith("Set it there: server_names_hash_bucket_size 128;")
    assert not decided(text)["problems"]


def test_a_module_that_this_nginx_was_built_without_is_named_with_what_needs_it() -> None:
    modules, built = (
        {"http_geo_module": "the setting"},
        "nginx/1.18.0\n--with-http_ssl_module --without-http_geo_module",
    )
    (problem,) = decided(DEBIAN, built=built, modules=modules)["problems"]
    assert "without http_geo_module, and the setting needs it" in problem
    assert not decided(DEBIAN, built=built)["problems"]
    assert not decided(DEBIAN, built="--with-http_geo_module", modules=modules)["problems"]


@pytest.mark.parametrize(
    ("text", "built", "group"),
    [
        ("user www-data;\n" + DEBIAN, "nginx version: nginx/1.22.1", "www-data"),
        ("user nginx;\n" + DEBIAN, "configure arguments: --user=www --group=www", "nginx"),
        ("user nginx web;\n" + DEBIAN, "", "web"),
        (DEBIAN, "configure arguments: --user=nginx --group=sites --with-x", "sites"),
        (DEBIAN, "configure arguments: --user=nginx", "nginx"),
        (DEBIAN, "configure arguments: --with-x", "nogroup"),
        ("", "", "www-data"),
    ],
)
def test_the_group_of_nginxs_workers_is_known(text: str, built: str, group: str) -> None:
    assert decided(text, built=built)["group"] == group

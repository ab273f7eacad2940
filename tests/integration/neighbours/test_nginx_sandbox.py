"""nginx's sandbox is armed only where nginx serves every site in it. The sites: molecule/neighbours/nginx.yml."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.integration.asking import Site
from tests.integration.neighbours.conftest import Deploy
from tests.load.fleet import Played

DROPIN = "/etc/systemd/system/nginx.service.d/flaskfleet.conf"
ENABLED = "/etc/nginx/sites-enabled"
# by neighbour: a page, and the paths that nginx could not use in its sandbox
NEIGHBOURS = {
    "anna": ("/", ["/home/anna/public", "/home/anna/logs/access.log"]),
    "bert": ("/", ["/tmp/bert.sock"]),
    "carla": ("/", ["/srv/cache/carla"]),
    "dora": ("/files/pictures/", ["/var/www/dora/files/pictures"]),
    "emil": ("/", ["/root/emil.pem", "/root/emil.key"]),
}
RESTARTED = "until `systemctl restart nginx`"


def warned(played: Played) -> str:
    """The warnings of a run that went well, each in a line."""
    assert played.rc == 0, played.out
    return "\n".join(line for line in played.out.splitlines() if line.startswith("[WARNING]"))


def restart(site: Site) -> None:
    """Start nginx anew; tests do that more often than systemd lets a service start in ten seconds."""
    site.root("systemctl reset-failed nginx; systemctl restart nginx")


def enable(site: Site, *names: str) -> None:
    for name in NEIGHBOURS:
        if name in names:
            site.root(f"ln -sfn ../sites-available/{name} {ENABLED}/{name}")
        else:
            site.root(f"rm -f {ENABLED}/{name}")
    restart(site)


def stands(site: Site) -> bool:
    return site.root(f"test -e {DROPIN} && echo stands", check=False) == "stands"


def statuses(site: Site, *names: str) -> dict[str, int]:
    return {name: site.get(NEIGHBOURS[name][0], host=f"{name}.test").status for name in names}


@pytest.fixture(scope="module")
def first(site: Site, deploy: Deploy) -> Played:
    """The first release, on a host with all the neighbours."""
    assert set(statuses(site, *NEIGHBOURS).values()) == {200}, "this proves nothing"
    return deploy()


def test_a_host_with_neighbours_gets_no_sandbox_and_is_told_why(site: Site, first: Played) -> None:
    said = warned(first)
    assert not stands(site), said
    for _page, paths in NEIGHBOURS.values():
        for path in paths:
            assert f"{path} could not be" in said
    assert "(root in /etc/nginx/sites-enabled/anna)" in said
    assert f"On {site.hostname} nginx is left without its sandbox" in said
    assert "flask_gunicorn_nginx_harden_nginx: false" in said
    assert RESTARTED not in said


def test_after_nginx_is_restarted_every_neighbour_is_served(site: Site, first: Played) -> None:
    restart(site)
    assert statuses(site, *NEIGHBOURS) == dict.fromkeys(NEIGHBOURS, 200)
    assert site.get("/").status == 200


@pytest.mark.usefixtures("first")
@pytest.mark.parametrize("name", NEIGHBOURS)
def test_one_neighbour_alone_is_noticed(site: Site, deploy: Deploy, name: str) -> None:
    enable(site, name)
    said = warned(deploy("--tags", "always"))
    for path in NEIGHBOURS[name][1]:
        assert f"{path} could not be" in said


@pytest.mark.usefixtures("first")
def test_who_wants_no_sandbox_is_told_nothing(site: Site, deploy: Deploy) -> None:
    enable(site, *NEIGHBOURS)
    assert "sandbox" not in warned(deploy("--tags", "always", harden_nginx=False))


@pytest.fixture(scope="module")
def alone(site: Site, deploy: Deploy, first: Played) -> Iterator[Played]:
    """A release after the neighbours have moved out."""
    enable(site)
    yield deploy()
    enable(site, *NEIGHBOURS)


def test_without_neighbours_nginx_starts_in_its_sandbox(site: Site, alone: Played) -> None:
    assert "sandbox" not in warned(alone)
    assert stands(site)
    restart(site)
    assert site.get("/").status == 200
    said = site.root("systemd-analyze security --no-pager nginx.service")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert found and float(found[1]) <= 2.5, said


@pytest.mark.usefixtures("alone")
def test_a_second_run_changes_nothing_and_starts_nothing(site: Site, deploy: Deploy) -> None:
    trials = "journalctl --quiet --output=cat | grep -c 'Trial of the sandbox of nginx' || true"
    before = site.root(trials)
    played = deploy()
    assert re.search(r"changed=0 ", played.out), played.out
    assert site.root(trials) == before != "0"


@pytest.mark.usefixtures("alone")
def test_a_neighbour_who_moves_in_later_takes_the_sandbox_off(site: Site, deploy: Deploy) -> None:
    site.root(f"ln -sfn ../sites-available/anna {ENABLED}/anna")
    said = warned(deploy())
    assert "/home/anna/public could not be read" in said and RESTARTED in said
    assert not stands(site)
    restart(site)
    assert statuses(site, "anna") == {"anna": 200} and site.get("/").status == 200


@pytest.mark.usefixtures("alone")
def test_a_certificate_of_the_app_counts_before_its_site_is_there(site: Site, deploy: Deploy) -> None:
    site.root(f"rm -f {ENABLED}/anna")
    site.root(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=hello"
        " -addext subjectAltName=DNS:hello.test -keyout /root/hello.key -out /root/hello.pem 2>&1"
    )
    tls = {"certificate": "/root/hello.pem", "key": "/root/hello.key"}
    said = warned(deploy("--tags", "always", tls=tls))
    site.root("rm /root/hello.pem /root/hello.key")
    assert "/root/hello.pem could not be read (ssl_certificate in the site of this app)" in said


@pytest.mark.usefixtures("alone")
def test_what_cannot_be_tried_is_left_as_it_is(site: Site, deploy: Deploy) -> None:
    site.root(f"rm -f {ENABLED}/anna; echo 'no directive;' > {ENABLED}/broken")
    try:
        said = warned(deploy())
    finally:
        site.root(f"rm {ENABLED}/broken")
    assert 'cannot be tried, because `nginx -t` fails: unknown directive "no"' in said and not stands(site)

"""An app comes, is released, changed by hand, rolled back, rebooted and leaves: nothing of anybody else is touched.

The first file of this scenario: no app was on the host before. The neighbours: molecule/neighbours/everybody.sh.
"""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.integration.asking import Json, Site
from tests.integration.neighbours.conftest import Deploy
from tests.load.fleet import Played

MANIFEST = Path(__file__).with_name("manifest.py").read_text()
# All that the role makes on a host: docs/operations.md, "Take an app away"
OURS = {
    "files": [
        *("/srv/hello*", "/var/lib/hello*", "/var/lib/private*", "/var/lib/flaskfleet*", "/etc/flaskctl*"),
        *("/usr/bin/flaskctl", "/usr/local/bin/flaskctl", "/usr/local/lib/flaskctl*", "/etc/needrestart*"),
        *("/usr/local/share/bash-completion*", "/usr/local/share/man/man8*"),
        *(
            "/etc/systemd/system/hello*",
            "/etc/systemd/system/*.wants/hello.*",
            "/etc/systemd/system/sockets.target.wants",
        ),
        *("/etc/systemd/system/nginx.service.d*", "/etc/nginx/sites-*/hello.conf", "/etc/nginx/nginx.conf"),
        "/etc/nginx/conf.d/*flaskfleet.conf",
        "/var/lib/prometheus*",  # of the file for node_exporter, where its package is not there
        *(f"/etc/{name}" for name in ("passwd", "group", "shadow", "gshadow")),
    ],
    "accounts": ["* hello"],
    "units": ["hello*"],
    "listening": ["tcp 0100007F:1388"],  # 127.0.0.1:5000
    "answers": [],
}
# what `absent` leaves, with the data of the app
KEPT = {
    **dict.fromkeys(OURS, []),
    "files": ["/var/lib/hello*", "/var/lib/flaskfleet*", "/usr/bin/flaskctl", "/usr/local/*", *OURS["files"][-4:]],
    "accounts": OURS["accounts"],
}
NOTHING: dict[str, list[str]] = dict.fromkeys(OURS, [])
SITE, UNIT = "/etc/nginx/sites-available/hello.conf", "/etc/systemd/system/hello@.service"
# what `certbot --nginx -d hello.test` makes of the line where the site listens
CERTBOT = r"\n    ".join(
    f"{line}; # managed by Certbot"
    for line in (
        "    listen 443 ssl",
        "ssl_certificate /etc/letsencrypt/live/gerda.test/fullchain.pem",
        "ssl_certificate_key /etc/letsencrypt/live/gerda.test/privkey.pem",
    )
)
# and what else people do to files that they find on a host
BY_HAND = f"""
set -e
sed -i 's|^    listen 80;|{CERTBOT}|' {SITE}
nginx -t && systemctl reload nginx
echo 'Environment=TZ=Europe/Vienna' >> {UNIT}
chmod 666 /etc/needrestart/conf.d/hello.conf
echo 'timeout = 99' >> /srv/hello/current/gunicorn.conf.py
echo 'TOKEN=by-hand' >> /srv/hello/current/environment
rm /etc/systemd/system/hello.service
sed -i 's/worker_connections 8192/worker_connections 768/' /etc/nginx/nginx.conf
systemctl daemon-reload
"""


def manifest(site: Site, *parts: str) -> Json:
    found: Json = json.loads(site.python(MANIFEST, *parts))
    return found


def differences(before: Json, now: Json, ours: dict[str, list[str]]) -> list[str]:
    """Return what differs between two manifests and is not ours."""
    found = []
    for part, patterns in ours.items():
        for name in sorted(before[part].keys() | now[part].keys()):
            was, is_now = before[part].get(name), now[part].get(name)
            if was != is_now and not any(fnmatch(name, pattern) for pattern in patterns):
                found.append(f"{part}: {name}: {was} -> {is_now}")
    return found


@pytest.fixture(scope="module")
def before(site: Site) -> Json:
    found = manifest(site)
    bad = {name: said for name, said in found["answers"].items() if not said.startswith("(200,")}
    assert list(bad) == ["gerda without TLS"], bad
    return found


@pytest.fixture(scope="module")
def deployed(before: Json, deploy: Deploy) -> Played:
    played = deploy()
    assert played.rc == 0, played.out
    return played


def test_a_first_release_touches_nothing_of_anybody_else(site: Site, before: Json, deployed: Played) -> None:
    assert site.get("/").release == site.current
    assert differences(before, manifest(site), OURS) == []


@pytest.mark.usefixtures("deployed")
def test_nginx_tells_this_host_how_it_stands(site: Site) -> None:
    asked = "print(__import__('urllib.request').request.urlopen('http://127.0.0.81/nginx_status').read().decode())"
    assert "Active connections: " in site.root(f'python3 -c "{asked}"')


@pytest.fixture(scope="module")
def by_hand(site: Site, deploy: Deploy, deployed: Played) -> Played:
    """A run for a second release, after people have changed what the role made: it changes nothing."""
    site.root(BY_HAND)
    stands = manifest(site, "files")
    played = deploy(env={"NEXT": "1"})
    assert manifest(site, "files") == stands
    return played


def test_what_somebody_changed_is_told_before_the_first_change(site: Site, by_hand: Played) -> None:
    assert by_hand.rc != 0
    said = by_hand.out
    for told in (
        f"{SITE} was changed:",
        "+    ssl_certificate /etc/letsencrypt/live/gerda.test/fullchain.pem; # managed by Certbot",
        f"{UNIT} was changed:",
        "+Environment=TZ=Europe/Vienna",
        "/etc/needrestart/conf.d/hello.conf has mode and owner 0666 0:0, not 0644 0:0",
        f"/srv/hello/releases/{site.current}/gunicorn.conf.py was changed:",
        "+timeout = 99",
        f"/srv/hello/releases/{site.current}/environment was changed; not everybody may read it",
        "flask_gunicorn_nginx_tls: {certificate: /etc/letsencrypt/live/gerda.test/fullchain.pem,",
        "systemctl edit hello@.service",
        "-e flask_gunicorn_nginx_overwrite=true",
    ):
        assert told in said, said
    assert "/etc/systemd/system/hello.service was deleted: a release puts it back" in " ".join(said.split())
    assert "somebody has changed `worker_connections 8192;` in /etc/nginx/nginx.conf" in " ".join(said.split())
    assert "by-hand" not in said


def test_status_names_the_same(site: Site, by_hand: Played) -> None:
    drift = set(site.flaskctl("status", "--drift")["drift"])
    home = f"/srv/hello/releases/{site.current}"
    files = {SITE, UNIT, "/etc/needrestart/conf.d/hello.conf", "/etc/systemd/system/hello.service"}
    assert files | {f"{home}/gunicorn.conf.py", f"{home}/environment"} <= drift


@pytest.fixture(scope="module")
def released(site: Site, deploy: Deploy, by_hand: Played) -> str:
    """A second release, by a run that is told to take the files back; returns the first one."""
    first = site.current
    played = deploy(env={"NEXT": "1"}, overwrite=True)
    assert played.rc == 0, played.out
    assert site.current != first
    return first


def test_a_run_that_is_told_to_takes_the_files_back(site: Site, before: Json, released: str) -> None:
    assert site.flaskctl("status", "--drift")["drift"] == []
    assert "managed by Certbot" not in site.root(f"cat {SITE}")
    assert "worker_connections 8192;" in site.root("cat /etc/nginx/nginx.conf")
    assert differences(before, manifest(site), OURS) == []


def test_a_rollback_touches_nothing_of_anybody_else(site: Site, before: Json, released: str) -> None:
    site.flaskctl("rollback")
    assert site.current == released
    assert differences(before, manifest(site), OURS) == []


@pytest.mark.usefixtures("released")
def test_after_a_power_cut_everybody_is_there_again(site: Site, before: Json) -> None:
    site.power_cut()
    assert site.eventually(lambda: manifest(site, "answers")["answers"] == before["answers"])
    assert site.eventually(lambda: site.get("/").release == site.current)
    assert differences(before, manifest(site), OURS) == []


@pytest.fixture(scope="module")
def removed(site: Site, deploy: Deploy, released: str) -> Played:
    site.root("echo 1 > /var/lib/hello/data")
    return deploy(state="absent")


def test_the_app_leaves_its_data_and_who_owns_it(site: Site, before: Json, removed: Played) -> None:
    assert removed.rc == 0, removed.out
    assert differences(before, manifest(site), KEPT) == []
    assert site.root("cat /var/lib/hello/data") == "1"


@pytest.mark.usefixtures("removed")
def test_when_the_data_goes_too_the_host_is_what_it_was(site: Site, deploy: Deploy, before: Json) -> None:
    played = deploy(state="purged")
    assert played.rc == 0, played.out
    assert differences(before, manifest(site), NOTHING) == []

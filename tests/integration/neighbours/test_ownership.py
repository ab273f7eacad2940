"""Nothing is taken over or removed that the role did not make, whatever its name: molecule/neighbours/everybody.sh."""

from __future__ import annotations

import pytest

from tests.integration.asking import Site
from tests.integration.neighbours.conftest import Deploy
from tests.rendering import REPOSITORY

SOURCE = str(REPOSITORY / "files/app")
NAMES = {
    "shop": [
        "user shop (uid ",
        "/srv/shop",
        "/etc/systemd/system/shop.service",
        "/etc/nginx/sites-available/shop.conf",
    ],
    "ledger": ["group ledger (gid ", "/var/lib/ledger"],
    "audit": ["/etc/systemd/system/audit.service.d"],
    "webmaster": ["user webmaster (uid ", "home /home/webmaster, shell /bin/bash", "group webmaster (gid "],
    "vendor": ["user vendor (uid ", "home /opt/vendor"],
    "modprobe": ["lib/systemd/system/modprobe@.service"],
}
# all that could be taken over: files with owner, mode, time and content, accounts, and which units are there
MANIFEST = """
find /etc /srv /home /var/lib/ledger /usr/local -xdev -printf '%p %y %m %u %g %T@ %l\\n' | sort
find /srv /home /etc/systemd/system /etc/nginx -xdev -type f -exec sha256sum {} + | sort
getent passwd; getent group; getent shadow; systemctl list-unit-files --no-legend
"""


@pytest.fixture(scope="module")
def theirs(site: Site) -> str:
    return site.root(MANIFEST)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_taken_is_refused_and_each_thing_is_named(
    site: Site, deploy: Deploy, theirs: str, name: str
) -> None:
    option = "--check" if name == "ledger" else "--diff"
    played = deploy(option, name=name, source=SOURCE, port=5009, server_names=["taken.test"])
    assert played.rc != 0
    told = played.out.partition("did not make it:")[2].partition("Nothing is taken over")[0]
    assert all(thing in told for thing in NAMES[name]), played.out
    assert "Choose another flask_gunicorn_nginx_name" in played.out
    assert site.root(MANIFEST) == theirs


@pytest.mark.parametrize(("name", "state"), [("shop", "absent"), ("ledger", "purged"), ("webmaster", "absent")])
def test_removing_an_app_that_was_never_there_touches_nothing(
    site: Site, deploy: Deploy, theirs: str, name: str, state: str
) -> None:
    played = deploy(name=name, state=state)
    assert played.rc == 0, played.out
    assert "changed=0" in played.out
    assert site.root(MANIFEST) == theirs

"""The proof goes the way of the traffic: past loopback, to the app's own site, with the scheme that users have."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.asking import Site
from tests.integration.neighbours.conftest import Deploy
from tests.load.fleet import Played
from tests.rendering import REPOSITORY

CONF_D = "/etc/nginx/conf.d"
LONG = "staging-orders-frontend-1234567890.internal.eu-central-1.elb.example.com"
# what Flask-Talisman and Flask-SSLify do
HTTPS_ONLY = """
from flask import Flask, redirect, request

app = Flask(__name__)


@app.before_request
def https_only():
    if not request.is_secure:
        return redirect(request.url.replace("http://", "https://", 1), code=302)


@app.get("/")
def index():
    return "secure hello"
"""
GONE = "deb [trusted=yes] http://packages.example.invalid/debian gone main"


@pytest.fixture(scope="module")
def released(site: Site, deploy: Deploy) -> Iterator[Played]:
    """The app, on a host that keeps its neighbours of the other tests."""
    played = deploy()
    assert played.rc == 0, played.out
    site.root("cp /etc/nginx/nginx.conf /root/nginx.conf.proof")
    yield played
    # the sandbox was tried with what nginx read meanwhile, which is less than what it reads again now
    site.root("rm -f /etc/systemd/system/nginx.service.d/flaskfleet.conf; systemctl daemon-reload")
    site.root("mv /root/nginx.conf.proof /etc/nginx/nginx.conf; systemctl reset-failed nginx; systemctl restart nginx")


@pytest.fixture
def neighbour(site: Site) -> Iterator[str]:
    """The path of a neighbour's site, which goes again."""
    path = f"{CONF_D}/neighbour.conf"
    yield path
    site.root(f"rm -f {path}; systemctl reload nginx")


def put(site: Site, path: str, text: str) -> None:
    site.root(f"cat > {path} <<'U'\n{text}\nU\nnginx -t && systemctl reload nginx")
    time.sleep(1)  # the workers of before answer for a moment


def own_address(site: Site) -> str:
    return site.root("hostname -I").split()[0]


@pytest.mark.usefixtures("released")
class TestWhereUsersComeTo:
    def test_figures_of_nginx_on_loopback_are_in_nobody_s_way(self, site: Site, neighbour: str) -> None:
        put(site, neighbour, "server { listen 127.0.0.1:80; server_name localhost; location / { stub_status; } }")
        assert site.get("/").release is None, "this proves nothing"
        assert site.flaskctl("verify")["id"] == site.current

    def test_a_site_that_has_the_host_s_address_is_named(self, site: Site, neighbour: str) -> None:
        told = site.root("ip -o -4 address show scope global")  # `hostname -I` leaves those of lo out
        addresses = [line.split()[3].partition("/")[0] for line in told.splitlines()]
        listens = " ".join(f"listen {address}:80;" for address in addresses)
        put(site, neighbour, f"server {{ {listens} server_name own.test; return 200 'own'; }}")
        said = site.flaskctl("verify", rc=1)["msg"]
        assert said.endswith(f"({neighbour}), not by hello"), said
        for address in addresses:
            assert f"http://hello.test:80/ at {address} is answered by own.test on " in said, said

    def test_a_site_that_has_one_of_the_host_s_addresses_is_a_warning(self, site: Site, neighbour: str) -> None:
        site.root("ip address add 10.99.0.5/24 dev eth0")
        try:
            assert site.flaskctl("verify")["warnings"] == []
            put(site, neighbour, "server { listen 10.99.0.5:80; server_name other.test; return 200 'other'; }")
            (warning,) = site.flaskctl("verify")["warnings"]
        finally:
            site.root("ip address del 10.99.0.5/24 dev eth0")
        assert f"at 10.99.0.5 is answered by other.test on 10.99.0.5:80 ({neighbour})" in warning


@pytest.mark.usefixtures("released")
class TestWhatOthersHave:
    def test_a_port_of_somebody_else_is_named_with_its_owner(self, site: Site, deploy: Deploy) -> None:
        site.root("systemctl stop nginx; systemd-run -q --unit=squatter /usr/bin/python3 -m http.server 80")
        assert site.eventually(lambda: bool(site.root("ss -Hltn 'sport = :80'")))
        try:
            pid = site.root("systemctl show -P MainPID squatter")
            played = deploy("--tags", "always")
            assert site.root("systemctl is-active nginx", check=False) == "inactive"
        finally:
            site.root("systemctl stop squatter; systemctl reset-failed nginx; systemctl start nginx")
        assert played.rc != 0
        words = " ".join(played.out.split())
        assert f"python3, pid {pid}, squatter.service listens on port 80, which nginx needs" in words, played.out

    def test_another_app_has_its_port_and_its_name_for_itself(self, deploy: Deploy) -> None:
        played = deploy("--tags", "always", name="wiki", server_names=["hello.test"])
        words = " ".join(played.out.split())
        assert played.rc != 0
        assert "systemd, pid 1, hello.socket listens on 127.0.0.1:5000, the port of wiki" in words, played.out
        assert "the name hello.test belongs to the app hello" in words
        assert "Where wiki is the new name of hello" in words

    def test_a_name_of_another_site_is_refused_with_its_file(self, site: Site, deploy: Deploy, neighbour: str) -> None:
        put(site, neighbour, "server { listen 80; server_name taken.test; return 200 'taken'; }")
        played = deploy("--tags", "always", name="wiki", port=5011, server_names=["taken.test"])
        assert played.rc != 0
        assert f"the name taken.test: taken.test on 80 ({neighbour})" in " ".join(played.out.split()), played.out

    def test_a_port_that_nginx_could_not_share_is_refused_with_its_file(
        self, site: Site, deploy: Deploy, neighbour: str
    ) -> None:
        put(site, neighbour, "server { listen [::]:8090 ipv6only=off; server_name both.test; return 200 'both'; }")
        played = deploy("--tags", "always", name="wiki", port=5011, listen=8090, server_names=["wiki.test"])
        said = " ".join(played.out.split())
        assert played.rc != 0
        assert f"`listen [::]:8090 ipv6only=off` in {neighbour} takes port 8090 of IPv4 too" in said, said

    def test_a_site_that_nginx_tests_well_and_does_not_take_is_put_back(
        self, site: Site, deploy: Deploy, neighbour: str
    ) -> None:
        before = site.root("cat /etc/nginx/sites-available/hello.conf")
        site.root("systemd-run -q --unit=web /usr/bin/python3 -m http.server --bind 127.0.0.1 8091")
        assert site.eventually(lambda: bool(site.root("ss -Hltn 'sport = :8091'")))
        try:
            site.root(f"echo 'server {{ listen 127.0.0.1:8091; }}' > {neighbour}; nginx -t")
            played = deploy(server_settings={"client_max_body_size": "3m"})
        finally:
            site.root(f"systemctl stop web; rm {neighbour}")
        said = " ".join(played.out.split())
        assert played.rc != 0
        assert "nginx does not take them: bind() to 127.0.0.1:8091 failed (98: Address already in use)" in said, said
        assert site.root("cat /etc/nginx/sites-available/hello.conf") == before and site.get("/").status == 200
        assert deploy(server_settings={"client_max_body_size": "3m"}).rc == 0


@pytest.fixture(scope="module")
def https_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = tmp_path_factory.mktemp("https-only")
    (source / "app.py").write_text(HTTPS_ONLY)
    shutil.copy(REPOSITORY / "files/app/requirements.txt", source)
    return source


def test_an_app_that_sends_everybody_to_https_is_told_the_setting(
    deploy: Deploy, released: Played, https_only: Path
) -> None:
    played = deploy(source=str(https_only), static={"dir": ""})
    assert played.rc != 0
    told = "If TLS ends before this host, set flask_gunicorn_nginx_public_url: https://hello.test."
    assert told in " ".join(played.out.split()), played.out


class TestAnotherWayToTheApp:
    """conf.d alone, TLS before nginx, a long name, and a dead package source, at once: a release takes its time."""

    @pytest.fixture(scope="class")
    def moved(self, site: Site, deploy: Deploy, released: Played, https_only: Path) -> Iterator[Played]:
        site.root("sed -i '/sites-enabled/d' /etc/nginx/nginx.conf")
        site.root("apt-get remove -yq python3-venv; rm -f /var/lib/apt/lists/*_*")
        site.root(f"echo '{GONE}' > /etc/apt/sources.list.d/vendor.list")
        yield deploy(
            source=str(https_only),
            static={"dir": ""},
            server_names=["hello.test", LONG],
            public_url="https://hello.test",
            trusted_proxies=["172.16.0.0/12"],
        )
        site.root("rm -f /etc/apt/sources.list.d/vendor.list")

    def test_the_release_is_proven(self, site: Site, moved: Played) -> None:
        assert moved.rc == 0, moved.out
        assert site.flaskctl("verify")["id"] == site.current

    def test_the_dead_source_is_named_and_what_was_missing_is_there(self, site: Site, moved: Played) -> None:
        (warning,) = [line for line in moved.out.splitlines() if "package source" in line]
        assert "/etc/apt/sources.list.d/vendor.list" in warning and "packages.example.invalid" in warning
        assert site.root("dpkg-query -Wf '${db:Status-Status}' python3-venv") == "installed"

    def test_the_site_is_where_nginx_reads_it_and_nowhere_else(self, site: Site, moved: Played) -> None:
        found = site.root("find /etc/nginx -name hello.conf")
        assert found == f"{CONF_D}/hello.conf", moved.out
        assert site.flaskctl("status")["problems"] == []

    def test_a_long_name_is_answered(self, site: Site, moved: Played) -> None:
        answer = site.get("/", host=LONG, headers={"X-Forwarded-Proto": "https"})
        assert (answer.status, answer.body) == (200, "secure hello"), moved.out

    @pytest.mark.usefixtures("moved")
    def test_load_balancers_are_answered_by_address_and_users_only_by_https(self, site: Site) -> None:
        assert site.get("/readyz", host=own_address(site)).status == 200
        assert site.get("/").headers["location"] == "https://hello.test/"

    @pytest.mark.usefixtures("moved")
    def test_it_is_removed_from_there(self, site: Site, deploy: Deploy) -> None:
        assert deploy(state="absent").rc == 0
        assert site.root("find /etc/nginx -name hello.conf") == ""

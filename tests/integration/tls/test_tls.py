"""Certificates by themselves: the first, renewals, each bad pair, and every way to have one and the way back.

The tests run in the order in which they stand here, and go on from where the one before left off.
"""

from __future__ import annotations

import json
import shlex

import pytest

from tests.integration.asking import Site
from tests.integration.tls.conftest import Deploy, Users
from tests.pki import ISSUER, Signed, sign

testinfra_hosts = ["ansible://flask_app"]  # and not the directory's
PEM = "/var/lib/flaskfleet/tls/hello.pem"
LIVE = "/etc/letsencrypt/live/flaskfleet-hello"
CONF = "/etc/letsencrypt/renewal/flaskfleet-hello.conf"
ACCOUNT = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"  # of molecule.yml
SHOW = """
import hashlib, re, socket, ssl, sys
name, pem = sys.argv[1:]
context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
with context.wrap_socket(socket.create_connection((name, 443), 10), server_hostname=name) as shown:
    der = shown.getpeercert(True)
first = re.search("-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", open(pem).read(), re.S)[0]
print(hashlib.sha256(der).hexdigest(), ssl.PEM_cert_to_DER_cert(first) == der)
"""


def shown(site: Site, file: str = PEM) -> str:
    """Return what tells the certificate that users see from any other, having seen that it is the one of the file."""
    digest, same = site.python(SHOW, site.name, file).split()
    assert same == "True", f"nginx shows another certificate than {file}"
    return digest


def certbot_runs(site: Site) -> int:
    """Return how often certbot was called: each call begins a log."""
    return int(site.root("find /var/log/letsencrypt -name 'letsencrypt.log*' -size +0 | wc -l"))


@pytest.fixture(scope="module", autouse=True)
def at_once(site: Site) -> None:
    """Have certbot renew as soon as it is asked: on Debian 11 it waits for up to eight minutes before."""
    place = "/run/systemd/system/certbot.service.d"
    lines = "[Service]\nExecStart=\nExecStart=/usr/bin/certbot -q renew --no-random-sleep-on-renew\n"
    site.root(f"mkdir -p {place}; printf {shlex.quote(lines)} > {place}/at-once.conf; systemctl daemon-reload")


def put_pair(site: Site, pair: Signed, chain: str, key: str) -> None:
    for name, text in (("fullchain.pem", chain), ("privkey.pem", key)):
        site.root(f"rm -f {LIVE}/{name}; cat > {LIVE}/{name} <<'U'\n{text}\nU")


def test_the_first_certificate_is_of_the_directory_and_two_runs_have_asked_once(site: Site) -> None:
    digest = shown(site)
    said = site.root(f"openssl x509 -noout -issuer -ext subjectAltName -in {PEM}")
    assert "Pebble" in said and site.name in said and f"mail.{site.name}" in said
    assert site.root(f"stat -c '%a %U' {PEM}") == "600 root"
    assert certbot_runs(site) == 1
    status = site.flaskctl("status")
    assert (status["problems"], status["drift"]) == ([], []) and 18 <= status["certificate_days"] <= 20
    answer = site.flaskctl("certificate")
    assert answer["changed"] is False and certbot_runs(site) == 1 and shown(site) == digest


def test_a_stranger_s_name_gets_no_handshake_and_over_ours_no_app(site: Site) -> None:
    """Two servers listen on 443 now: the one for all names that no app has is read first."""
    strangers = """
import http.client, socket, ssl, sys
for sni, host in ((sys.argv[1],) * 2, (sys.argv[1], "evil.test"), ("evil.test",) * 2, (None, "evil.test")):
    context = ssl.create_default_context(); context.check_hostname = False; context.verify_mode = ssl.CERT_NONE
    connection = http.client.HTTPConnection(host)
    try:
        connection.sock = context.wrap_socket(socket.create_connection((sys.argv[1], 443), 10), server_hostname=sni)
        connection.request("GET", "/")
        print(connection.getresponse().status)
    except ssl.SSLError:
        print("none")
"""
    assert site.python(strangers, site.name).split() == ["200", "421", "none", "none"]


def test_the_key_of_the_account_is_for_root_and_nowhere_else(site: Site) -> None:
    kept = "/var/lib/flaskfleet/tls/hello.ini"
    assert site.root(f"stat -c '%a %U' {kept}") == "600 root"
    found = site.root(
        f"grep -rlF {ACCOUNT} /etc /var /run /tmp /root 2>/dev/null; journalctl | grep -cF {ACCOUNT}", False
    )
    assert found.split() == [kept, "0"]


def test_a_further_name_of_the_certificate_is_not_the_apps(site: Site) -> None:
    answer = site.get("/.well-known/acme-challenge/none", host=f"mail.{site.name}")
    assert answer.status == 404 and answer.release is None


def test_the_distributions_timer_renews_and_no_user_notices(site: Site, users: Users) -> None:
    assert site.root("systemctl is-active certbot.timer") == "active"
    site.root(f"sed -i '/renew_before_expiry/d; 1i renew_before_expiry = 3650 days' {CONF}")
    before = shown(site)
    with users():
        site.root("systemctl start certbot.service")
        after = shown(site)
    assert after != before
    status = site.flaskctl("status")
    assert (status["problems"], status["drift"]) == ([], [])


def test_a_renewal_that_the_directory_does_not_answer_is_told(site: Site) -> None:
    before = shown(site)
    site.root("cp /etc/hosts /root/hosts; sed 's/ directory.test$//' /root/hosts > /etc/hosts")
    try:
        assert site.host.run("systemctl start certbot.service").rc != 0
    finally:
        site.root("cat /root/hosts > /etc/hosts")
    (problem,) = site.flaskctl("status")["problems"]
    assert "the last renewal failed" in problem and "days are left" in problem and shown(site) == before
    site.root("systemctl reset-failed certbot.service")


def test_a_directory_that_refuses_is_told_in_its_own_words(site: Site) -> None:
    before, settings = shown(site), site.root("cat /etc/flaskctl/hello.json")
    known = json.loads(settings)
    known["certificate_names"].append("nowhere.test")
    site.root(f"cat > /etc/flaskctl/hello.json <<'U'\n{json.dumps(known)}\nU")
    try:
        said = site.flaskctl("certificate", rc=1)
    finally:
        site.root(f"cat > /etc/flaskctl/hello.json <<'U'\n{settings}\nU")
    assert "nowhere.test" in said["msg"] and "nowhere.test" in said["detail"] and shown(site) == before
    assert site.flaskctl("certificate")["changed"] is False


def test_no_bad_pair_comes_into_nginx(site: Site) -> None:
    before, runs = shown(site), certbot_runs(site)
    names = (site.name, f"mail.{site.name}")
    good, old, new = sign("x", ISSUER, names), sign("x", ISSUER, names, -9, -1), sign("x", ISSUER, names, 1, 9)
    other = sign("x", ISSUER, ("other.test", f"mail.{site.name}"))
    site.root(f"cp -a {LIVE} /root/live")
    try:
        for pair, chain, key, said in (
            (old, old.pem + ISSUER.pem, old.key_pem(), f"{LIVE}/fullchain.pem has expired"),
            (new, new.pem + ISSUER.pem, new.key_pem(), f"{LIVE}/fullchain.pem is not valid yet"),
            (good, good.pem + ISSUER.pem, other.key_pem(), f"{LIVE}/privkey.pem is not the key of"),
            (good, good.pem + ISSUER.pem, "nothing", f"{LIVE}/privkey.pem cannot be read"),
            (other, other.pem + ISSUER.pem, other.key_pem(), f"{LIVE}/fullchain.pem is not for {site.name}"),
            (good, good.pem, good.key_pem(), f"{LIVE}/fullchain.pem is not complete"),
        ):
            put_pair(site, pair, chain, key)
            done = site.host.run(f"RENEWED_LINEAGE={LIVE} flaskctl --json hello certificate")
            answer = json.loads(done.stdout)
            assert done.rc == 1 and answer["msg"].startswith(said), answer
            assert shown(site) == before
        assert any(f"{LIVE} is not used because" in each for each in site.flaskctl("status")["problems"])
    finally:
        site.root(f"rm -r {LIVE}; mv /root/live {LIVE}")
    assert site.flaskctl("certificate")["changed"] is False and certbot_runs(site) == runs


def test_an_app_moves_to_a_certificate_that_nobody_else_has_signed_and_back(site: Site, users: Users) -> None:
    """The site stays as it is, so that flaskctl does all of it."""
    settings = site.root("cat /etc/flaskctl/hello.json")
    own = {**json.loads(settings), "acme": {}, "selfsigned": True}
    timer, live = "hello.certificate.timer", f"ls -d {LIVE} {CONF}"
    try:
        site.root(f"cat > /etc/flaskctl/hello.json <<'U'\n{json.dumps(own)}\nU")
        with users():
            assert site.flaskctl("certificate")["changed"] is True
            site.flaskctl("prune")
            digest = shown(site)
        status = site.flaskctl("status")
        assert status["certificate_self_signed"] is True and 88 <= status["certificate_days"] <= 90
        assert not any("certificate" in each for each in status["problems"]), status["problems"]
        assert site.root(live, check=False).count("No such") == 2
        assert site.root(f"systemctl is-active {timer}; systemctl is-enabled {timer}").split() == ["active", "enabled"]
        # as the timer does it, on a day on which little is left
        old = f"openssl req -x509 -newkey rsa:2048 -nodes -days 20 -subj /CN=x -addext subjectAltName=DNS:{site.name}"
        site.root(f"{old} -keyout /dev/stdout 2>/dev/null | cat > {PEM}; systemctl reload nginx")
        with users():
            site.root("systemctl start hello.certificate.service")
        assert shown(site) != digest and site.flaskctl("status")["certificate_days"] >= 88
    finally:
        site.root(f"cat > /etc/flaskctl/hello.json <<'U'\n{settings}\nU")
    assert site.flaskctl("status")["problems"] != []


@pytest.fixture(scope="module")
def files(site: Site) -> dict[str, str]:
    pair = sign(site.name, ISSUER, (site.name,))
    for path, text in (("/etc/ssl/own.pem", pair.pem + ISSUER.pem), ("/etc/ssl/own.key", pair.key_pem())):
        site.root(f"umask 077; printf %s {shlex.quote(text)} > {path}")
    return {"certificate": "/etc/ssl/own.pem", "key": "/etc/ssl/own.key"}


def test_an_app_moves_to_files_and_nothing_is_left_of_the_directorys(
    site: Site, deploy: Deploy, users: Users, files: dict[str, str]
) -> None:
    with users():
        played = deploy(tls=files)
    assert played.rc == 0, played.out
    shown(site, files["certificate"])
    assert (
        site.root(f"ls -d {LIVE} {CONF} {PEM} /etc/systemd/system/certbot.service.d", check=False).count("No such") == 4
    )
    status = site.flaskctl("status")
    assert (status["problems"], status["drift"]) == ([], [])


def test_an_app_moves_from_files_to_a_directory_and_keeps_them_until_that_has_answered(
    site: Site, deploy: Deploy, users: Users
) -> None:
    with users():
        played = deploy()
    assert played.rc == 0, played.out
    shown(site)
    assert "Pebble" in site.root(f"openssl x509 -noout -issuer -in {PEM}")
    assert site.flaskctl("status")["problems"] == []


def test_with_the_app_goes_what_was_fetched_for_it(site: Site) -> None:
    site.root("rm /etc/nginx/sites-*/hello.conf && systemctl reload nginx")  # as the role does before
    site.flaskctl("remove", "--purge")
    left = site.root(f"ls -d {LIVE} {CONF} {PEM} /var/lib/flaskfleet/tls", check=False)
    assert left.count("No such") == 4, left
    assert site.root("systemctl is-active certbot.timer nginx", check=False).split() == ["active", "active"]
    assert site.root("ls /etc/systemd/system | grep certificate", check=False) == ""

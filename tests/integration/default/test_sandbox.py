"""What the app may do on its host, and who may read its secrets."""

from __future__ import annotations

import re

from tests.integration.asking import Site

PROBE = "import os, sys; print(os.getuid(), os.getcwd(), os.environ['FLASKFLEET_RELEASE'], sys.prefix); sys.exit(7)"


def test_the_unit_is_hardly_exposed(site: Site) -> None:
    """1.1 is the bound on Debian 12 and 13; an older systemd knows fewer directives, and a newer one asks for more."""
    text = site.root(f"systemd-analyze security --no-pager hello@{site.current}.service")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", text)
    assert found, text
    version = int(site.root("systemctl --version").split()[1])
    assert float(found[1]) <= (1.1 if 250 <= version <= 257 else 1.5), text


def test_nginx_runs_in_a_sandbox_too(site: Site) -> None:
    text = site.root("systemd-analyze security --no-pager nginx.service")
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", text)
    version = int(site.root("systemctl --version").split()[1])
    assert found and float(found[1]) <= (2.5 if version in (252, 257) else 3.0), text
    assert "CAP_SYS_ADMIN" not in site.root("systemctl show -p CapabilityBoundingSet nginx.service").upper()


def test_the_app_is_a_system_user_who_cannot_log_in(site: Site) -> None:
    _name, _password, uid, _gid, _comment, _home, shell = site.root("getent passwd hello").split(":")
    assert int(uid) < 1000
    assert shell == "/usr/sbin/nologin"
    assert site.root("pgrep -u hello -c python") != "0"
    assert site.root("pgrep -u root -f '[g]unicorn'", check=False) == ""


def test_a_secret_is_readable_by_root_alone(site: Site) -> None:
    home = f"/srv/hello/releases/{site.current}"
    files = f"{home}/environment {home}/config.json"
    assert site.root(f"stat -c '%a %U %G' {files}").splitlines() == ["600 root root", "600 root root"]
    for user in ("hello", "nobody"):
        assert site.host.run(f"for f in {files}; do runuser -u {user} -- cat $f && exit 0; done; exit 1").rc == 1


def test_the_code_belongs_to_root_and_nobody_else_may_write_it(site: Site) -> None:
    wrong = r"\( -not -user root -o -not -group root -not -group hello -o -perm /022 \)"
    assert site.root(f"find /srv/hello -not -type l {wrong} -printf '%m %u %p\\n' | head") == ""
    assert site.root("runuser -u hello -- find -L /srv/hello/current -maxdepth 2 -writable") == ""


def test_a_command_runs_as_the_app_does_and_its_exit_code_is_its_own(site: Site) -> None:
    answer = site.flaskctl("run", "--", "python", "-c", PROBE, rc=7)
    uid, directory, release, prefix = answer["stdout"].split()
    assert uid == site.root("id -u hello")
    assert directory == f"/srv/hello/releases/{site.current}/app"
    assert release == site.current
    assert prefix.startswith("/srv/hello/")


def test_the_app_may_write_its_state_and_it_stays(site: Site) -> None:
    site.flaskctl("run", "--", "python", "-c", "open('/var/lib/hello/kept', 'w').write('1')")
    assert site.root("cat /var/lib/hello/kept; stat -c %U /var/lib/hello; rm /var/lib/hello/kept") == "1hello"


def test_nginx_finds_its_configuration_clean(site: Site) -> None:
    text = site.root("nginx -t 2>&1")
    assert "test is successful" in text
    assert "warn" not in text, text

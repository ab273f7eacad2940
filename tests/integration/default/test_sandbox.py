"""What the app may do on its host, and who may read its secrets."""

from __future__ import annotations

import json
import re
import shlex

import pytest

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
    assert found and float(found[1]) <= 3.0, text
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
    wrong = r"\( -not -user root -o -not -group root -o -perm /022 \)"
    assert site.root(f"find /srv/hello -not -type l {wrong} -printf '%m %u %p\\n' | head") == ""
    assert site.root("runuser -u hello -- find -L /srv/hello/current -maxdepth 2 -writable") == ""


def test_a_command_runs_as_the_app_does_and_its_exit_code_is_its_own(site: Site) -> None:
    answer = site.flaskctl("run", "--", "python", "-c", PROBE, rc=7)
    uid, directory, release, prefix = answer["stdout"].split()
    assert uid == site.root("id -u hello")
    assert directory == f"/srv/hello/releases/{site.current}/app"
    assert release == site.current
    assert prefix.startswith("/srv/hello/")


# each is possible outside of the sandbox, for root at least; a cloud's address is this host's own meanwhile
FORBIDDEN = {
    "write its code": "open('written', 'w')",
    "write into the system": "open('/etc/written', 'w')",
    "look into a home": "__import__('os').listdir('/root')",
    "reach where clouds keep credentials": "__import__('socket').create_connection(('169.254.169.254', 80), 1)",
    "see other processes": "__import__('os').stat('/proc/1')",
    "make memory that runs": "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)",
    "make a namespace": "import ctypes; assert ctypes.CDLL(None).unshare(0x04000000) == 0",
    "listen on a port": "import socket; socket.create_server(('127.0.0.1', 8123))",
}
TRY_ALL = """
import json, sys
said = {}
for what, script in json.loads(sys.argv[1]).items():
    try:
        exec(script)
        said[what] = ""
    except Exception as error:
        said[what] = repr(error)
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def tried(site: Site) -> tuple[dict[str, str], dict[str, str]]:
    """What went wrong with each attempt, inside and outside of the sandbox."""
    scripts = json.dumps(FORBIDDEN)
    site.root("ip address add 169.254.169.254/32 dev lo")
    try:
        inside = site.flaskctl("run", "--", "python", "-c", TRY_ALL, scripts)["stdout"]
        outside = site.root(
            f"cd $(mktemp -d) && python3 -c {shlex.quote(TRY_ALL)} {shlex.quote(scripts)}; rm -f /etc/written"
        )
    finally:
        site.root("ip address del 169.254.169.254/32 dev lo")
    return json.loads(inside), json.loads(outside)


def test_the_app_reaches_other_addresses(site: Site) -> None:
    address = site.root("hostname -I").split()[0]
    script = f"import socket; socket.create_connection(('{address}', 80), 5)"
    site.flaskctl("run", "--", "python", "-c", script)


@pytest.mark.parametrize("what", FORBIDDEN)
def test_the_app_cannot(site: Site, tried: tuple[dict[str, str], dict[str, str]], what: str) -> None:
    if what == "listen on a port" and "+BPF_FRAMEWORK" not in site.root("systemctl --version"):
        pytest.skip("this systemd was built without BPF_FRAMEWORK, which SocketBindDeny needs")
    inside, outside = tried
    assert outside[what] == "", "this proves nothing"
    assert inside[what] != ""


def test_the_app_may_write_its_state_and_it_stays(site: Site) -> None:
    site.flaskctl("run", "--", "python", "-c", "open('/var/lib/hello/kept', 'w').write('1')")
    assert site.root("cat /var/lib/hello/kept; stat -c %U /var/lib/hello; rm /var/lib/hello/kept") == "1hello"


def test_nginx_finds_its_configuration_clean(site: Site) -> None:
    text = site.root("nginx -t 2>&1")
    assert "test is successful" in text
    assert "warn" not in text, text

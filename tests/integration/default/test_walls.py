"""Each wall of the sandbox, met by an app: what it says then names this wall and no other, and what opens it does."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from flaskctl.diagnosis import SERVICE, met
from flaskctl.units import service_settings

from tests.integration.asking import Json, Site
from tests.rendering import REPOSITORY, render

LOCK = (REPOSITORY / "files/app/requirements.txt").read_text()
APP = Path(__file__).with_name("app_at_walls.py").read_text()
ARCHIVE = "/tmp/walls.tar.gz"
UNIT = "/etc/systemd/system/hello@.service"

# By route, as on Debian 13. No settings open the first ones: they have another way.
WITHOUT_SETTINGS = {
    "a_file_beside_the_code": "a file beside the code",
    "the_instance_folder": "write beside the code",
    "an_upload": "write beside the code",
    "sqlite_beside_the_code": "a database file",
    "a_cache_in_a_package": "write into a library",
    "keys_of_the_host": "hidden directories",
    "a_namespace": "a sandbox in the sandbox",
}
WITH_SETTINGS = {
    "memory_of_mmap": "memory that is written and run",
    "memory_of_mprotect": "memory that is written and run",
    "interfaces": "the list of network interfaces",
    "packets": "other kinds of sockets",
    "a_port": "a port of its own",
    "metadata": "where clouds hand out credentials",
    "a_script_in_tmp": "programs that it wrote",
    "a_script_of_a_shell": "programs that it wrote",
    "a_script_in_var_tmp": "programs that it wrote",
    "a_program_of_its_own": "programs that it wrote",
    "a_library_of_its_own": "programs that it wrote",
    "a_file_in_memory": "programs in memory",
    "a_home": "homes",
    "meminfo": "the kernel's tables",
    "uptime": "the kernel's tables",
    "another_process": "other processes",
    "a_device": "devices",
    "redis": "sockets of other services",
    "nice": "priorities and processors",
    "affinity": "priorities and processors",
    "a_log": "a directory in /var/log",
    "uploads_elsewhere": "writing elsewhere",
    "the_same_user": "users and owners",
    "the_same_owner": "users and owners",
    "a_program_of_32_bits": "programs for another processor",
    "threads": "threads and processes",
}
# where `outbound` is a list, and where it is `none`
OUTBOUND = {
    "a_name": "names of other machines",
    "another_machine": "other machines",
    "another_machine_by_udp": "other machines",
}
# what an app says of itself
NONE = (
    *("a_program_in_opt", "a_library_in_opt"),
    *("a_file_of_its_own", "a_file_of_root", "a_home_in_a_message", "its_own_database", "a_socket_that_does_not_wait"),
    *("a_missing_file", "a_page_that_is_forbidden", "a_timeout_of_its_own"),
)

PREPARE = f"""set -e
cp -p {UNIT} /root/hello.unit
mkdir -p /opt/vendor /home/anna /srv/uploads /run/redis
cp /bin/true /opt/vendor/tool
cp $(ldconfig -p | sed -n 's/.*=> //p' | grep libresolv | head -n 1) /opt/vendor/library.so
touch /home/anna/settings.toml && chmod -R a+rX /home/anna
chown hello: /srv/uploads
mknod -m 666 /dev/wall0 c 1 3
groupadd --system cache
systemd-run --quiet --unit=walls-redis python3 -c %s
ip address add 169.254.169.254/32 dev lo
ip address add 192.0.2.1/32 dev lo
python3 -c %s"""
TIDY = f"""systemctl stop walls-redis; groupdel cache; rm -rf /opt/vendor /home/anna /srv/uploads /var/log/hello
rm -rf /run/redis /dev/wall0
rm -f {ARCHIVE} /usr/local/bin/bits32 /var/lib/hello/script.sh /var/lib/hello/library.so; mv /root/hello.unit {UNIT}
ip address del 169.254.169.254/32 dev lo; ip address del 192.0.2.1/32 dev lo; systemctl daemon-reload"""
REDIS = """
import os, shutil, socket, time
s = socket.socket(socket.AF_UNIX); s.bind("/run/redis/redis-server.sock"); s.listen()
shutil.chown("/run/redis/redis-server.sock", "root", "cache"); os.chmod("/run/redis/redis-server.sock", 0o660)
time.sleep(3600)
"""
# exit(0), as programs of 32 bits say it
BITS32 = """
import os, struct
code = bytes.fromhex("b80100000031dbcd80")
head = b"\\x7fELF\\1\\1\\1" + bytes(9) + struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, 0x8048054, 52, 0, 0, 52, 32, 1, 0, 0, 0)
load = struct.pack("<8I", 1, 0, 0x8048000, 0x8048000, 84 + len(code), 84 + len(code), 5, 4096)
with open("/usr/local/bin/bits32", "wb") as file:
    file.write(head + load + code)
os.chmod("/usr/local/bin/bits32", 0o755)
"""
ASK_ALL = """
import http.client, json, sys
answers = {}
for route in sys.argv[1:]:
    c = http.client.HTTPConnection("127.0.0.1", 5000, timeout=20)
    c.request("GET", "/" + route, headers={"Host": "localhost"})
    r = c.getresponse()
    r.read()
    answers[route] = r.status
print(json.dumps(answers))
"""


class Walked(NamedTuple):
    """What came of asking for routes: the statuses, the walls that the app told of at each, those of doctor."""

    answers: dict[str, int]
    walls: dict[str, list[str]]
    doctor: Json


def walk(site: Site, release: str, *routes: str) -> Walked:
    since = site.root("date +%s.%N")
    answers = json.loads(site.python(ASK_ALL, *routes))
    doctor = site.flaskctl("doctor")
    unit = f"hello@{release}.service"
    text = site.root(f"journalctl --sync; journalctl --no-pager -q -o cat --since=@{since} _SYSTEMD_UNIT={unit}")
    systemd = int(site.root("systemctl --version").split()[1])
    settings = list(service_settings(unit, [site.root(f"cat {UNIT}")], systemd))
    parts = re.split(r"Exception on /(\w+) \[GET\]", text)
    walls = {
        route: sorted({one.name for one in met("hello", said, settings)})
        for route, said in zip(parts[1::2], parts[2::2], strict=True)
    }
    return Walked(answers, walls, doctor)


def deploy(site: Site, release: str, **settings: object) -> None:
    """Have the release start anew in the unit that the role writes for these settings."""
    text = render("app@.service", {"default_server": True, **settings})
    site.root(f"printf %s {shlex.quote(text)} > {UNIT}; systemctl daemon-reload; systemctl restart hello@{release}")


@pytest.fixture(scope="module")
def release(site: Site) -> Iterator[str]:
    """The app at its walls, which serves."""
    before = site.current
    site.root(PREPARE % (shlex.quote(REDIS), shlex.quote(BITS32)))
    try:
        files = {"app.py": APP, "requirements.txt": LOCK, "static/uploads/.keep": "", "data/.keep": ""}
        site.put_archive(ARCHIVE, files)
        release = str(site.flaskctl("stage", ARCHIVE)["id"])
        site.flaskctl("activate", release)
        yield release
    finally:
        site.root(TIDY, check=False)
        site.flaskctl("activate", before)
        site.flaskctl("prune", "--keep", "1")


@pytest.fixture(scope="module")
def closed(site: Site, release: str) -> Walked:
    """What comes of it as an app is deployed that has no settings."""
    return walk(site, release, *WITHOUT_SETTINGS, *WITH_SETTINGS, *OUTBOUND, *NONE)


@pytest.fixture(scope="module")
def opened(site: Site, release: str, closed: Walked) -> Walked:
    """What comes of it with all the settings that the message names; a port and a group it cannot know."""
    together = closed.doctor["msg"].rpartition("together: ")[2].replace("GROUP", "cache").replace("PORT", "8123")
    deploy(site, release, service_settings=yaml.safe_load(together)[SERVICE], outbound=["10.0.0.5"])
    return walk(site, release, *WITH_SETTINGS, *OUTBOUND)


@pytest.fixture(scope="module")
def expected(site: Site) -> dict[str, str]:
    """The walls by route; without those that this host's systemd or kernel does not build."""
    lacks = site.root(
        # without NoExecPaths there is what a host mounts noexec, as /tmp of these
        "[ $(systemctl --version | sed -n '1s/systemd \\([0-9]*\\).*/\\1/p') -ge 248 ] ||"
        " printf 'a_script_in_var_tmp\\na_program_of_its_own\\na_library_of_its_own\\n';"
        "systemctl --version | grep -q +BPF_FRAMEWORK || echo a_port;"
        "grep -qw pids /sys/fs/cgroup/cgroup.controllers || echo threads"
    ).splitlines()
    return {route: wall for route, wall in {**WITHOUT_SETTINGS, **WITH_SETTINGS}.items() if route not in lacks}


@pytest.mark.parametrize("route", [*WITHOUT_SETTINGS, *WITH_SETTINGS])
def test_a_wall_is_named_and_no_other(closed: Walked, expected: dict[str, str], route: str) -> None:
    assert closed.answers[route] == (500 if route in expected else 200)
    assert closed.walls.get(route, []) == ([expected[route]] if route in expected else [])


@pytest.mark.parametrize("route", [*NONE, *OUTBOUND])
def test_what_is_no_wall_is_not_called_one(closed: Walked, route: str) -> None:
    assert closed.walls.get(route, []) == []


def test_other_machines_are_reached(closed: Walked) -> None:
    assert closed.answers["another_machine"] == 200


def test_doctor_names_them_all(closed: Walked, expected: dict[str, str]) -> None:
    assert {wall["name"] for wall in closed.doctor["walls"]} == set(expected.values())


@pytest.mark.parametrize("route", WITH_SETTINGS)
def test_what_the_message_names_opens_it(opened: Walked, expected: dict[str, str], route: str) -> None:
    if WITH_SETTINGS[route] == "programs that it wrote" and "a_program_of_its_own" not in expected:
        pytest.skip("systemd 247 has no ExecPaths, and /tmp of this host is mounted noexec")
    assert opened.answers[route] == 200, opened.walls.get(route)


@pytest.mark.parametrize("route", OUTBOUND)
def test_other_machines_are_a_wall_where_outbound_does_not_name_them(opened: Walked, route: str) -> None:
    assert (opened.answers[route], opened.walls[route]) == (500, [OUTBOUND[route]])


def test_an_app_that_is_to_reach_nothing_serves_and_is_told_why(site: Site, release: str) -> None:
    deploy(site, release, outbound="none")
    assert site.get("/").release == release
    sealed = walk(site, release, *OUTBOUND, "its_own_database")
    assert sealed.walls == {
        **{route: [wall] for route, wall in OUTBOUND.items()},
        "its_own_database": ["other machines"],
    }

"""What was stopped, disabled or broken by hand on a host is seen, and put right; what systemd ignores is refused."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.asking import Site

pytestmark = pytest.mark.bracket

CONFIG = "/run/standing.json"
READ = "import json, sys; print(json.load(open(sys.argv[1]))['archive_sha256'])"
DROP_IN = "/etc/systemd/system/hello@.service.d/by-hand.conf"


def staged(site: Site, change: Callable[[Any], None], rc: int = 0) -> Any:
    """Stage the code that serves once more, with another configuration."""
    home = f"/srv/{site.app}/releases/{site.current}"
    config = json.loads(site.root(f"cat {home}/config.json"))
    change(config)
    site.root(f"printf %s {shlex.quote(json.dumps(config))} > {CONFIG}")
    return site.flaskctl("stage", "--sha256", site.python(READ, f"{home}/manifest.json"), "--config", CONFIG, rc=rc)


def with_processes(config: Any) -> None:
    service = "[Service]\nExecStart=/bin/sleep 86400\n"
    timer = "[Timer]\nOnCalendar=daily\n"
    config["processes"] = {"sleeper": {"service": service}, "hourly": {"service": service, "timer": timer}}


@pytest.fixture(scope="module")
def release(site: Site) -> Iterator[str]:
    """A release with a worker and a schedule serves."""
    before = site.current
    release = staged(site, with_processes)["id"]
    site.flaskctl("activate", release)
    yield release
    site.flaskctl("activate", before)
    site.root(f"rm -f {CONFIG}")


def test_all_stands(site: Site, release: str) -> None:
    found = site.flaskctl("status")
    assert found["problems"] == [] and found["lacks"] == [] and found["ignored"] == []
    assert found["processes"][release] >= 4  # a master with two workers or more, and the sleeper
    assert all(shown["state"] == "active" for shown in found["units"].values() if shown["wanted"])


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("systemctl stop hello.sleeper@{}.service", "hello.sleeper@{}.service is stopped"),
        ("systemctl stop hello.hourly@{}.timer", "hello.hourly@{}.timer is stopped"),
        ("systemctl disable hello.service", "hello.service does not start at boot"),
        ("systemctl disable hello.socket", "hello.socket does not start at boot"),
    ],
)
def test_what_a_hand_has_stopped_is_named_and_its_remedy_works_as_it_is_printed(
    site: Site, release: str, command: str, words: str
) -> None:
    site.root(f"{command.format(release)} 2>&1")
    (problem,) = site.flaskctl("status")["problems"]
    told, _, remedy = problem.partition(": ")
    assert told == words.format(release)
    stage = staged(site, lambda config: None)
    assert (stage["id"], stage["verified"], stage["lacks"]) == (release, False, [told])
    assert told.rpartition("hello.")[2].partition(" ")[0] in site.root(remedy)
    assert site.flaskctl("status")["problems"] == []
    assert site.flaskctl("activate", release)["changed"] is False
    assert staged(site, lambda config: None)["verified"] is True


def test_an_nginx_that_does_not_start_at_boot_is_named(site: Site, release: str) -> None:
    site.root("systemctl disable nginx 2>&1")
    (problem,) = site.flaskctl("status")["problems"]
    site.root(problem.partition(": ")[2] + " 2>&1")
    assert site.flaskctl("status")["problems"] == []


def test_a_socket_stopped_under_a_release_has_commands_that_open_it(site: Site, release: str) -> None:
    site.root("systemctl stop hello.socket 2>&1")
    assert site.get("/").status == 200, "the release has its descriptor"
    problem = site.flaskctl("status")["problems"][0]
    assert "hello.socket is not active" in problem
    assert "outage" in site.flaskctl("activate", release, rc=1)["remedy"]
    site.root(problem.partition("opens it: ")[2] + " 2>&1")
    assert site.flaskctl("status")["problems"] == [] and site.get("/").release == release


def test_a_line_that_systemd_ignores_in_a_drop_in_is_found_until_it_goes(site: Site, release: str) -> None:
    site.root(f"mkdir -p {DROP_IN.rpartition('/')[0]}; printf '[Service]\\nMemoryMx=1G\\n' > {DROP_IN}")
    site.root("systemctl daemon-reload")
    try:
        assert site.eventually(lambda: bool(site.flaskctl("status")["ignored"]))
        (line,) = site.flaskctl("status")["ignored"]
        assert line.startswith(f"{DROP_IN}, line 2: Unknown key") and "MemoryMx" in line
    finally:
        site.root(f"rm -r {DROP_IN.rpartition('/')[0]}; systemctl daemon-reload")
    assert site.flaskctl("status")["problems"] == []


@pytest.mark.parametrize(
    ("line", "directive"),
    [
        ("MemoryMx=1G", "MemoryMx"),
        ("MemoryMax=lots", "MemoryMax"),
        ("ProtectHome=maybe", "ProtectHome"),
        ("IPAddressAllow=10.0.0.300", "IPAddressAllow"),
        ("RestrictAddressFamilies=AF_INET AF_NONE", "RestrictAddressFamilies"),
    ],
)
def test_a_line_that_systemd_would_ignore_is_refused_with_its_words(
    site: Site, release: str, line: str, directive: str
) -> None:
    before = site.flaskctl("releases")["releases"]

    def with_line(config: Any) -> None:
        config["service"] += f"\n[Service]\n{line}\n"

    answer = staged(site, with_line, rc=1)
    assert f"systemd ignores {directive}; nothing was switched" in answer["msg"]
    assert f"{directive} in hello@" in answer["detail"]
    assert site.flaskctl("releases")["releases"] == before


def test_flaskctl_is_found_by_every_sudo(site: Site) -> None:
    assert site.root("env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin flaskctl apps") == site.app
    assert site.root("readlink /usr/bin/flaskctl") == "/usr/local/bin/flaskctl"


def test_the_audit_log_has_the_person(site: Site, release: str) -> None:
    site.root(f"systemctl stop hello.hourly@{release}.timer; SUDO_USER=ada flaskctl hello activate {release}")
    last = json.loads(site.root("tail -n 1 /var/log/flaskctl/hello.jsonl"))
    assert (last["event"], last["by"]) == ("repair", "ada")


def test_without_a_release_nothing_listens_and_nothing_loops(site: Site) -> None:
    """As after a first release that was refused, for an app of its own."""
    for end in (".socket", ".service", "@.service"):
        text = f"sed 's/hello/empty/g; s/127.0.0.1:5000/127.0.0.1:5098/' /etc/systemd/system/hello{end}"
        site.root(f"{text} > /etc/systemd/system/empty{end}")
    site.root("sed 's/5000/5098/; s/hello/empty/' /etc/flaskctl/hello.json > /etc/flaskctl/empty.json")
    since = site.root("date +%s")
    try:
        site.root("systemctl daemon-reload; systemctl start empty.socket")
        assert site.get("/", port=5098).status == 0
        assert site.eventually(lambda: site.root("systemctl is-active empty.socket || true") == "inactive", 10)
        assert site.eventually(lambda: site.root("systemctl is-active empty.service || true") == "inactive", 10)
        said = site.root(f"journalctl -u empty.service -o cat --no-pager --since=@{since}")
        assert said.count("has no release to start") == 1
        assert site.root("systemctl --failed --plain --no-legend") == ""
    finally:
        site.root(
            "systemctl stop empty.socket empty.service; rm -f /etc/systemd/system/empty* /etc/flaskctl/empty.json"
        )
        site.root("systemctl daemon-reload; systemctl reset-failed 'empty*' 2>/dev/null || true")

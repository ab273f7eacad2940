"""What flaskctl takes for granted of systemctl, journalctl and /proc: its Host asks the real ones, on every system.

The unit tests have a fake in their place (tests/unit/flaskctl/fake_host.py), which is worth as much as these are green.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tests.integration.asking import Site
from tests.unit.flaskctl import strict

SCRIPT = """
import json, re, sys, time
from pathlib import Path
sys.path.insert(0, re.search('"(/usr/local/lib/flaskctl/[^"]+)"', open("/usr/local/bin/flaskctl").read())[1])
from flaskctl.host import Host
host = Host()
print(json.dumps(EXPRESSION, default=lambda x: sorted(x) if isinstance(x, (set, frozenset)) else str(x)))
"""


def ask(site: Site, expression: str) -> Any:
    """Return what an expression is worth on the host; `host` in it is flaskctl's."""
    return json.loads(site.python(SCRIPT.replace("EXPRESSION", expression)))


def unit(site: Site) -> str:
    return f"hello@{site.current}.service"


def test_what_systemd_is_asked_of_a_unit_it_answers(site: Site) -> None:
    shown = ask(site, 'host.show("hello.socket", "hello@*.service", "hello.service", "no-such.service")')
    assert set(shown) == {"hello.socket", unit(site), "hello.service", "no-such.service"}
    assert set(shown["hello.socket"]) == strict.UNIT_PROPERTIES - {
        "MainPID",
        "ExecMainStartTimestampMonotonic",
        "NRestarts",
    }  # a socket has no process
    assert set(shown[unit(site)]) == strict.UNIT_PROPERTIES
    one = shown[unit(site)]
    assert (one["LoadState"], one["ActiveState"], one["Result"]) == ("loaded", "active", "success")
    assert int(one["MainPID"]) > 1 and one["NeedDaemonReload"] == "no"
    assert (shown["hello.socket"]["ActiveState"], shown["hello.socket"]["UnitFileState"]) == ("active", "enabled")
    assert (shown["no-such.service"]["LoadState"], shown["no-such.service"]["ActiveState"]) == ("not-found", "inactive")


def test_a_unit_that_cannot_be_loaded_says_so(site: Site) -> None:
    path = "/run/systemd/system/contract-bad.service"
    site.root(f"printf '[Service]\\nType=simple\\n' > {path}; systemctl daemon-reload")
    try:
        shown = ask(site, 'host.show("contract-bad.service")')["contract-bad.service"]
        assert shown["LoadState"] == "bad-setting" and shown["LoadError"]
        refused = ask(site, 'host.each("start", "contract-bad.service")')
        assert "contract-bad.service" in refused["contract-bad.service"]
    finally:
        site.root(f"rm {path}; systemctl daemon-reload")


def test_a_file_that_systemd_has_not_read_is_seen(site: Site) -> None:
    path = "/run/systemd/system/contract-stale.service"
    site.root(f"printf '[Service]\\nExecStart=/bin/sleep 60\\n' > {path}; systemctl daemon-reload")
    try:
        site.root(f"systemctl start contract-stale; touch -d '+5 seconds' {path}")
        assert ask(site, 'host.show("contract-stale.service")')["contract-stale.service"]["NeedDaemonReload"] == "yes"
        assert ask(site, 'host.up("contract-stale.service", "no-such.service")') == ["contract-stale.service"]
        assert ask(site, 'host.each("stop", "contract-stale.service")') == {}
        assert ask(site, 'host.up("contract-stale.service")') == []
    finally:
        site.root(f"rm {path}; systemctl daemon-reload")


def test_a_unit_that_is_not_there_is_refused_in_words(site: Site) -> None:
    assert "no-such" in ask(site, 'host.each("start", "no-such.service")')["no-such.service"]


def test_the_journal_has_what_a_unit_wrote_and_else_what_systemd_said_of_it(site: Site) -> None:
    for words, wanted in (("echo a word from here", "a word from here\n"), ("false", "")):
        site.root("systemctl reset-failed contract-says 2>/dev/null || true")
        since = float(site.root("date +%s.%N"))
        site.root(f"systemd-run --wait --unit=contract-says {words} || true")
        said = ask(site, f'host.journal("contract-says.service", {since})')
        assert said == wanted if wanted else "contract-says.service" in said
    site.root("systemctl reset-failed contract-says")


def test_the_workers_of_the_master_are_its_children(site: Site) -> None:
    pid = site.root(f"systemctl show -p MainPID --value {unit(site)}")
    children = ask(site, f"host.children({pid})")
    assert len(children) >= 2
    assert {site.root(f"ps -o ppid= -p {child}").strip() for child in children} == {pid}
    assert ask(site, "host.children(999999)") == []


def test_what_systemd_listens_on_is_found(site: Site) -> None:
    assert "127.0.0.1:5000" in ask(site, "host.listening()")
    assert "127.0.0.1:5001" not in ask(site, "host.listening()")


def test_what_is_mounted_below_a_path_is_found_with_its_blanks(site: Site) -> None:
    point = "/srv/contract test/a b"
    quoted = shlex.quote(point)
    site.root(f"mkdir -p {quoted} && mount -t tmpfs none {quoted}")
    try:
        assert ask(site, 'host.mounts_below(Path("/srv/contract test"))') == [point]
        assert ask(site, 'host.mounts_below(Path("/srv/contract"))') == []
    finally:
        site.root(f"umount {quoted}; rm -r '/srv/contract test'")


def test_the_machine_is_known(site: Site) -> None:
    assert ask(site, "host.systemd_version()") == int(site.root("systemctl --version | head -1 | cut -d' ' -f2"))
    python = site.root("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'")
    assert ask(site, '[host.python_version(x) for x in ("python3", sys.executable)]') == [python, python]
    assert ask(site, "host.machine()") == site.root("uname -m")
    assert ask(site, "host.node_name()") == site.root("uname -n")
    assert ask(site, "[host.is_root(), host.pid() > 1, host.environment()['PATH'] != '']") == [True, True, True]
    assert ask(site, "abs(host.now() - time.time()) < 5")
    free = int(site.root("df -B1 --output=avail /srv | tail -1"))
    assert abs(ask(site, 'host.free_bytes(Path("/srv"))') - free) < 200 << 20


def test_the_apps_user_is_as_the_role_made_it(site: Site) -> None:
    assert ask(site, '[host.account("hello").as_made(), host.account("no-such")]') == [True, None]
    assert not ask(site, 'host.account("root").as_made()')


def test_nginx_is_asked_as_a_client_asks(site: Site) -> None:
    addresses = ask(site, "host.own_addresses()")
    assert site.root("hostname -I").split()[0] in addresses
    for address in addresses:
        status, release, _body, _location = ask(site, f'host.http_get("http", 80, "localhost", "/", "{address}")')
        assert (status, release) == (200, site.current)
    status, release, body, _location = ask(site, 'host.http_get("http", 9, "localhost", "/")')
    assert (status, release) == (0, "") and "refused" in body


def test_what_is_started_from_here_gives_way(site: Site) -> None:
    assert ask(site, '[host.give_way(), host.run(["nice"]).out.strip()]') == [None, "15"]


@pytest.mark.parametrize("verb", sorted(strict.SYSTEMCTL))
def test_systemctl_takes_what_the_fake_lets_through(site: Site, verb: str) -> None:
    options = {"--property": "--property=Id"}
    words = [options.get(option, option) for option in strict.SYSTEMCTL[verb][0]]
    name = [] if strict.SYSTEMCTL[verb][1] is None else ["no-such.service"]
    done = site.host.run(shlex.join(["systemctl", verb, *words, *name]))
    assert not any(word in done.stderr.lower() for word in ("unknown command", "unrecognized", "too many", "too few"))


def test_journalctl_takes_what_the_fake_lets_through(site: Site) -> None:
    assert site.host.run("journalctl --sync").rc == 0
    for words in (
        "--no-pager -q -o cat --since=@1795000000.000000 _SYSTEMD_UNIT=hello.socket",
        "--no-pager -q -o cat --since=@1795000000.000000 -u hello.socket",
        "--no-pager --lines=1 --unit=hello.socket --unit=hello.*@* --output=short-iso",
    ):
        strict.check(["journalctl", *words.split()], 252)
        done = site.host.run(f"journalctl {words}")
        assert "unrecognized" not in done.stderr and "Failed to" not in done.stderr, done.stderr
    assert "unrecognized" in site.host.run("journalctl --sinc=1").stderr or site.host.run("journalctl --sinc=1").rc

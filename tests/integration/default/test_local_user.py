"""An account without rights, and the sandbox of another app: what they can read, lock, reach, take over and stop.

One program (local_user.py) tries it all on the host and tells what stopped it. For the Unix socket, which no app of
this scenario has, the role's own socket unit is started beside it.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.asking import Site
from tests.rendering import render

PROGRAM = Path(__file__).with_name("local_user.py").read_text()
SOCKET = "/run/flaskfleet-apps/probe.sock"
# what anybody may: static files are everybody's, and no unit, state or command line holds a secret
OPEN = {"read a static file", "read the unit", "read the state of the unit", "read the command line"}
# in the sandbox there is no process of others, no bus, no other /tmp and nothing that may be run
STOPS = {"EACCES", "EPERM", "ENOENT", "EROFS", "ECONNREFUSED", "EIO", "ESRCH"}


@pytest.fixture(scope="module")
def probe(site: Site) -> Iterator[str]:
    """The unit of a Unix socket, as the role writes it, for an app that is not there; and the program."""
    text = render("app.socket", {"name": "probe", "unix_socket": True})
    place = "/run/systemd/system/probe.unix.socket"
    service = "/run/systemd/system/probe.service"
    site.root(f"printf %s {shlex.quote(text)} > {place}; printf '[Service]\\nExecStart=/bin/sleep 300\\n' > {service}")
    site.root(
        f"printf %s {shlex.quote(PROGRAM)} > /run/probe.py; systemctl daemon-reload; systemctl start probe.unix.socket"
    )
    pid = site.root(
        "systemctl show --property=MainPID --value hello@$(basename $(readlink /srv/hello/current)).service"
    )
    yield f"/run/probe.py hello {{}} {SOCKET} {pid}"
    site.root(
        f"systemctl stop probe.unix.socket probe.service; rm -f {place} {service} /run/probe.py;"
        " systemctl daemon-reload"
    )


def came_through(said: str, stops: set[str], there: bool = True) -> dict[str, Any]:
    """Return the attempts that nothing of this stopped, with what they got; `there`: whether the Unix socket is."""
    found: dict[str, Any] = json.loads(said)
    assert len(found) > 40 and found["connect to a Unix socket"][0] == ("EACCES" if there else "ENOENT"), found
    return {name: what for name, what in found.items() if what[0] not in stops}


def test_an_account_without_rights_gets_nothing_that_is_not_everybodys(site: Site, probe: str) -> None:
    through = came_through(
        site.root(f"/usr/bin/python3 -I {probe.format('nobody')}"), STOPS - {"EROFS", "ESRCH", "EIO"}
    )
    assert set(through) == OPEN, {name: what for name, what in through.items() if name not in OPEN}
    # the values of the environment and the credentials stand in files of root alone
    told = " ".join(through[name][1] for name in OPEN - {"read a static file"})
    assert "EnvironmentFile" in told and "LoadCredential=/" not in told


# The sandbox of the app that serves here, with another user and without what is this app's own
OTHER = """
import os, sys
sys.path.insert(0, sys.argv[1])
from flaskctl.app import App
from flaskctl.host import Host
app = App(Host(), "hello")
own = ("User", "Group", "StateDirectory", "StateDirectoryMode", "WorkingDirectory", "EnvironmentFile", "LoadCredential",
       "Type", "NotifyAccess", "Sockets", "ExecStart", "Restart", "RestartSec", "SyslogIdentifier", "KillMode",
       "TimeoutStartFailureMode")
settings = [(key, value) for key, value in app.service_settings(app.linked("current")) if key not in own]
argv = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", "--property=User=games", "--property=Group=games"]
argv += [f"--property={key}={value}" for key, value in settings] + ["--", "/usr/bin/python3", "-I", *sys.argv[2:]]
os.execvp(argv[0], argv)
"""


def test_the_sandbox_of_another_app_gets_even_less(site: Site, probe: str) -> None:
    engine = site.root("dirname $(ls -d /usr/local/lib/flaskctl/*/flaskctl | tail -1)").strip()
    command = f"/usr/bin/python3 -I -c {shlex.quote(OTHER)} {engine} {probe.format('games')}"
    through = came_through(site.root(command), STOPS)
    assert set(through) <= {"read a static file", "read the state of the unit", "read the unit"}, through


def test_nginx_and_root_reach_a_unix_socket_and_nobody_takes_its_place_while_it_is_closed(
    site: Site, probe: str
) -> None:
    connect = (
        "import os, pwd, socket, sys; who = pwd.getpwnam(sys.argv[1]); os.setgroups([]); os.setgid(who.pw_gid);"
        f" os.setuid(who.pw_uid); socket.socket(socket.AF_UNIX).connect('{SOCKET}')"
    )
    for account in ("root", "www-data"):
        site.root(f"/usr/bin/python3 -I -c {shlex.quote(connect)} {account}")
    site.root("systemctl stop probe.unix.socket")
    assert site.root(f"ls {SOCKET} 2>&1 || true").startswith("ls: cannot access")
    through = came_through(site.root(f"/usr/bin/python3 -I {probe.format('nobody')}"), STOPS, there=False)
    assert not {name for name in through if "Unix socket" in name}, through

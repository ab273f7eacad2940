"""The playbook on a host that serves: with nothing to do, as a prediction, with secrets. On one host, for time."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import testinfra

from tests.integration.asking import Site
from tests.rendering import PREFIX, REPOSITORY

CANARY = "canary-7d3b1f"  # must never be read anywhere
SECRETS = {f"{PREFIX}env": {"TOKEN": CANARY}, f"{PREFIX}credentials": {"SECRET_KEY": f"{CANARY}'\"$x"}}


@pytest.fixture(scope="module")
def inventory(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("--ansible-inventory"))


@pytest.fixture(scope="module")
def one(inventory: str) -> Site:
    """The last host of the inventory."""
    listed = subprocess.run(
        [program("ansible-inventory"), "-i", inventory, "--list"], capture_output=True, text=True, check=True
    )
    name = json.loads(listed.stdout)["flask_app"]["hosts"][-1]
    return Site(testinfra.get_host(f"ansible://{name}?ansible_inventory={inventory}"))


# Molecule asks for colours
PLAIN = {"ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default", "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}


def program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def play(site: Site, inventory: str, *options: str, **variables: Any) -> str:
    """Run site.yml on the one host; return all that it said."""
    argv = [program("ansible-playbook"), "-i", inventory, "--limit", site.hostname, "site.yml", *options]
    done = subprocess.run(
        [*argv, "-e", json.dumps(variables)],
        cwd=REPOSITORY,
        env={**os.environ, **PLAIN},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def recap(said: str) -> dict[str, int]:
    (line,) = re.findall(r"^\S+ +: (ok=.*)", said, re.M)
    return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}


def test_a_second_run_changes_nothing_and_asks_the_host_little(one: Site, inventory: str) -> None:
    before = one.current
    counts = recap(play(one, inventory))
    assert counts["changed"] == 0
    assert counts["ok"] <= 20
    assert one.current == before


def test_check_mode_predicts_a_release_by_names_and_changes_nothing(one: Site, inventory: str) -> None:
    before = one.flaskctl("status")
    said = play(one, inventory, "--check", "--diff", "-vvv", **SECRETS)
    assert recap(said)["changed"] > 0
    assert "TOKEN" in said and "SECRET_KEY" in said
    assert CANARY not in said
    assert one.flaskctl("status") == before


# looks at every command line and temporary file while a release is made; the halves keep it from finding itself
WATCH = f"""
import glob, time
while True:
    for path in [*glob.glob("/proc/[0-9]*/cmdline"), *glob.glob("/tmp/**", recursive=True)]:
        try:
            found = open(path, "rb").read()
        except OSError:
            continue
        if b"{CANARY[:6]}" + b"{CANARY[6:]}" in found:
            open("/run/canary-seen", "a").write(path + " " + str(found[:300]) + "\\n")
    time.sleep(0.02)
"""


@pytest.fixture(scope="module")
def released(one: Site, inventory: str) -> Iterator[str]:
    before = one.current
    one.root(f"systemd-run --quiet --unit=watch-canary python3 -c {shlex.quote(WATCH)}")
    said = play(one, inventory, "--diff", "-vvv", **SECRETS)
    one.root("systemctl is-active watch-canary.service && systemctl stop watch-canary.service")
    yield said
    one.flaskctl("activate", before)


def test_a_changed_secret_is_a_release_and_is_not_shown(one: Site, released: str) -> None:
    assert one.get("/").release == one.current
    assert one.flaskctl("status")["previous"] != one.current
    assert CANARY not in released


def test_the_app_has_the_secrets(one: Site, released: str) -> None:
    script = "import os; print(os.environ['TOKEN'] + open(os.environ['CREDENTIALS_DIRECTORY'] + '/SECRET_KEY').read())"
    assert one.flaskctl("run", "--", "python", "-c", script)["stdout"].strip() == f"{CANARY}{CANARY}'\"$x"


def test_no_command_line_and_no_temporary_file_held_the_secrets_while_it_ran(one: Site, released: str) -> None:
    assert one.root("cat /run/canary-seen 2>/dev/null || true") == ""
    argv = ["grep", "-rlsF", CANARY, os.path.expanduser("~/.ansible/tmp")]
    kept = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert kept.stdout == "", "on the control node"


def test_no_other_user_finds_the_secrets_on_the_host(one: Site, released: str) -> None:
    # the pattern comes through a pipe and is written in halves, so that the search does not find itself
    grep = f"printf %s%s {CANARY[:6]} {CANARY[6:]} | grep -sF -f - "
    nobody = f"printf %s%s {CANARY[:6]} {CANARY[6:]} | runuser -u nobody -- grep -sF -f - "
    assert one.root(f"{grep} -rl /etc /var/log /tmp /var/tmp /run/systemd /root /home /var/lib/hello || true") == ""
    for command in ("systemctl show '*'", "systemctl cat 'hello*'", "journalctl --no-pager"):
        assert one.root(f"{command} > /tmp/said; {grep} -c /tmp/said; rm /tmp/said") == "0", command
    assert one.root(f"{nobody} -rl /srv/hello /run/credentials /proc/[0-9]*/cmdline || true") == ""
    assert one.root(f"{grep} -rl --exclude-dir=venvs /srv/hello | xargs stat -c '%a %U' | sort -u") == "600 root"

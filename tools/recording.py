"""Record a rollout and a rollback: `python -m tools.recording` writes docs/recording.cast and docs/recording.md.

Three hosts with a first release, and then what a person types, in a terminal, at its own pace: an asciicast
(version 2), which `asciinema play` shows. The page has the same as text, as the terminal holds it at the end.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import re
import shutil
import struct
import sys
import tempfile
import termios
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tools import hosts, images
from tools.run import LOGS, ROOT, Problem, logged, main, short, step, tail

CAST, PAGE = ROOT / "docs/recording.cast", ROOT / "docs/recording.md"
MACHINES = {"web1": "debian11", "web2": "debian12", "web3": "debian13"}
COLUMNS, LINES = 110, 40
TYPED = (
    "sed -i 's/Hello Flask!/Hello again!/' app/app.py",
    "ansible-playbook site.yml",
    "ansible-playbook playbooks/rollback.yml",
)
VARIABLES = """\
flask_gunicorn_nginx_name: hello
flask_gunicorn_nginx_source: {source}
flask_gunicorn_nginx_default_server: true
flask_gunicorn_nginx_batches: [1, "100%"]
flask_gunicorn_nginx_pip: {{ca_bundle: "{ca}"}}
"""
HEAD = """\
# A rollout and a rollback, recorded

Made by `python -m tools.recording` of a run on three hosts, Debian 11, 12 and 13. A line of the app is changed and goes
out: first to one host, then to the others. Then all go back. The terminal itself, at its own pace, is
[recording.cast](recording.cast), an asciicast that `asciinema play` shows; this page loads no script for it. What the
terminal holds at the end:

```text
"""
Event = tuple[float, str]
# colours, and what moves the cursor within a line; a line that is written over begins after the last of these
COLOUR, OVER = re.compile(r"\x1b\[[0-9;]*m"), "\r\x1b[K"


def container(name: str) -> str:
    """The container of a host: other hosts of this machine may have the short name."""
    return f"flaskfleet-recording-{name}"


def inventory(place: Path) -> None:
    """Write who the hosts are and what they run, with a copy of the sample app that can be changed."""
    shutil.copytree(ROOT / "files/app", place / "app", ignore=shutil.ignore_patterns("__pycache__"))
    group = place / "inventory/group_vars/flask_app"
    group.mkdir(parents=True)
    ca = hosts.CONTROL_NODE_CA if hosts.control_node_ca() else ""
    (group / "flask_gunicorn_nginx.yml").write_text(VARIABLES.format(source=place / "app", ca=ca))
    lines = [f"    {name}: {{ansible_host: {container(name)}}}" for name in MACHINES]
    connection = "  vars: {ansible_connection: community.docker.docker}"
    (place / "inventory/hosts.yml").write_text("\n".join(["flask_app:", "  hosts:", *lines, connection, ""]))
    for name in ("site.yml", "playbooks"):
        (place / name).symlink_to(ROOT / name)


def environment(place: Path) -> dict[str, str]:
    """The variables of the shell that is recorded; nothing of this machine's own terminal."""
    found = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_INVENTORY": str(place / "inventory")}
    found["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"  # whoever types has Ansible
    return {**found, "TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "LINES": str(LINES)}


def played(command: str, place: Path) -> Iterator[str]:
    """Run a command on a terminal of its own, and yield what it writes as it comes; it must end well."""
    process, terminal = pty.fork()
    if not process:
        os.chdir(place)
        os.execve("/bin/sh", ["sh", "-c", command], environment(place))  # nosec B606: the commands above
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # how Linux tells that the other side has closed a terminal
            break
        if not part:
            break
        yield part.decode(errors="replace")
    os.close(terminal)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code != 0:
        raise Problem(f"`{command}` ended with {code}; nothing is recorded.")


def record(commands: Sequence[str], place: Path) -> list[Event]:
    """Run commands as a person types them, and return what the terminal shows, each part with its second."""
    began, events = time.monotonic(), []
    for command in commands:
        events.append((time.monotonic() - began, f"$ {command}\r\n"))
        events += [(time.monotonic() - began, part) for part in played(command, place)]
    return events


def cast(events: Sequence[Event]) -> str:
    """Return a recording as an asciicast, version 2."""
    header = {"version": 2, "width": COLUMNS, "height": LINES, "idle_time_limit": 3, "title": "Flask Fleet: a rollout"}
    lines = [json.dumps(header), *(json.dumps([round(second, 3), "o", text]) for second, text in events)]
    return "\n".join([*lines, ""])


def text_of(recording: str) -> str:
    """Return what a terminal holds at the end of an asciicast: a line that was written over counts as it is at last."""
    written = "".join(json.loads(line)[2] for line in recording.splitlines()[1:])
    lines = COLOUR.sub("", written).replace("\r\n", "\n").split("\n")
    return "\n".join(line.rpartition(OVER)[2].rstrip("\r").rstrip() for line in lines).strip() + "\n"


def page(recording: str) -> str:
    """Return the page of a recording."""
    return f"{HEAD}{text_of(recording)}```\n"


def work() -> int:
    """The command line."""
    argparse.ArgumentParser(description="Record a rollout and a rollback for the documentation.").parse_args()
    images.ensure(list(MACHINES.values()))
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        inventory(place)
        try:
            with step("starting three hosts, with a first release"):
                with ThreadPoolExecutor() as pool:
                    list(pool.map(lambda name: hosts.start(container(name), MACHINES[name]), MACHINES))
                log = LOGS / "recording.log"
                argv = ["ansible-playbook", str(ROOT / "site.yml")]
                if logged(argv, log, environment(place)) != 0:
                    raise Problem("The first release failed.", tail(log))
            with step("recording"):
                recording = cast(record(TYPED, place))
        finally:
            for name in MACHINES:
                hosts.remove(container(name))
    CAST.write_text(recording)
    PAGE.write_text(page(recording))
    print(f"{short(CAST)} and {short(PAGE)}")
    return 0


if __name__ == "__main__":
    main(work)

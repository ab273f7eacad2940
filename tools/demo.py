"""The demo: the sample app on one host in a container, at http://localhost:8080/. `make demo`, `make demo-down`.

DEMO_PORT is another port than 8080. Run again it releases what changed in files/app, or nothing.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tools import engine, hosts, images
from tools.progress import Line
from tools.run import CACHE, DURATIONS, LOGS, ROOT, Problem, main, output, seconds, short, step

KIND = "debian12"
APP = "hello"
RECORD = CACHE / "demo.json"


@dataclass(frozen=True)
class Settings:
    """Which demo: its container and its port on this machine."""

    name: str
    port: int
    port_was_chosen: bool


def settings() -> Settings:
    """What the environment asks for; DEMO_NAME is for tests, which must not meet a demo that somebody looks at."""
    port = os.environ.get("DEMO_PORT", "")
    if port and not (port.isdigit() and 0 < int(port) < 65536):
        raise Problem(f"DEMO_PORT is {port!r}: set it to a port, for example DEMO_PORT=8081.")
    return Settings(os.environ.get("DEMO_NAME") or "flaskfleet-demo", int(port or 8080), bool(port))


def is_free(port: int) -> bool:
    """Whether nothing on this machine listens on the port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def host_up(demo: Settings) -> int:
    """Make sure that the demo's host runs; return its port on this machine."""
    engine.up()
    state = hosts.state(demo.name)
    if state is None:
        if not is_free(demo.port):
            raise Problem(f"Port {demo.port} of this machine is taken: choose another, DEMO_PORT=8081 make demo.")
        if images.ensure([KIND]):
            CACHE.mkdir(exist_ok=True)
            RECORD.write_text(json.dumps({"built": KIND}))
        with step(f"starting the host {demo.name} ({KIND})"):
            hosts.start(demo.name, KIND, [f"127.0.0.1:{demo.port}:80"])
    elif state != "running":
        with step(f"starting the host {demo.name} again"):
            if output(["docker", "start", demo.name]) is None:
                raise Problem(f"The host {demo.name} cannot be started again: make demo-down, then make demo.")
            hosts.wait_until_up(demo.name)
    port = hosts.published_port(demo.name)
    if port is None:
        raise Problem(f"The container {demo.name} is not this demo's: remove it (docker rm -f {demo.name}).")
    if demo.port_was_chosen and port != demo.port:
        raise Problem(f"The demo already runs on port {port}: make demo-down first, or leave out DEMO_PORT.")
    return port


def release(name: str) -> str | None:
    """The id of the release that serves, None while there is none."""
    said = output(["docker", "exec", name, "flaskctl", "--json", APP, "status"])
    if said is None:
        return None
    current = json.loads(said).get("current")
    return str(current) if current else None


def changes(log: str) -> int:
    """How many tasks changed something, from the recap of a playbook's output."""
    return sum(int(count) for count in re.findall(r"(?m)^\S+ +: ok=.* changed=(\d+)", log))


def deploy(demo: Settings) -> int:
    """Run the playbook as one would for a fleet, and show what it says; return how many tasks changed something."""
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", "inventory/demo", "site.yml"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}
    environment["DEMO_NAME"] = demo.name
    path = LOGS / f"{demo.name}.log"
    path.parent.mkdir(parents=True, exist_ok=True)
    print(f"{' '.join(['ansible-playbook', *argv[1:]])}:", flush=True)
    what = f"the playbook on {demo.name}"
    last, began = DURATIONS.last(what), time.monotonic()
    with (
        path.open("w") as log,
        Line(lambda took: f"  ... {seconds(took)}{last}") as line,
        subprocess.Popen(
            argv,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as playbook,
    ):
        recap = False
        for told in playbook.stdout or ():
            log.write(told)
            recap = recap or told.startswith("PLAY RECAP")
            if told.strip() and not recap:
                line.say(f"  {told.rstrip()}")
    if playbook.returncode != 0:
        raise Problem(f"The playbook failed, as it says above; its output is in {short(path)}, too.")
    DURATIONS.keep(what, time.monotonic() - began)
    return changes(path.read_text())


@dataclass(frozen=True)
class Answer:
    """What came back for one path."""

    status: int
    location: str
    release: str
    server: str
    first_line: str


def ask(port: int, path: str) -> Answer:
    """One request through the published port, as a browser on this machine sends it; no redirect is followed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"Host": f"localhost:{port}"})
        response = connection.getresponse()
        body = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        raise Problem(f"http://localhost:{port}{path} does not answer: {error}.") from error
    finally:
        connection.close()
    visible = re.sub(r"(?s)<head>.*</head>|<[^>]*>", "\n", body)
    text = [line.strip() for line in visible.splitlines() if line.strip()]
    return Answer(
        response.status,
        response.headers.get("Location", ""),
        response.headers.get("X-Release", ""),
        response.headers.get("Server", ""),
        text[0] if text else "",
    )


def prove(port: int, current: str) -> list[tuple[str, str]]:
    """Ask the demo's addresses; return what a person would see at each, as (address, what)."""
    base = f"http://localhost:{port}"
    front = ask(port, "/")
    if front.status != 200 or front.release != current:
        raise Problem(f"{base}/ answers {front.status} from release {front.release!r}, not 200 from {current}.")
    without_slash = ask(port, "/admin")
    if without_slash.status not in (301, 308) or without_slash.location not in ("/admin/", f"{base}/admin/"):
        raise Problem(f"{base}/admin answers {without_slash.status} {without_slash.location}, not the way to /admin/.")
    admin = ask(port, "/admin/")
    if admin.status != 200:
        raise Problem(f"{base}/admin/ answers {admin.status}, not 200.")
    static = ask(port, "/static/")
    if static.status != 200 or static.release:
        raise Problem(f"{base}/static/ answers {static.status} from {static.release or 'nginx'}, not 200 from nginx.")
    return [
        (f"{base}/", front.first_line),
        (f"{base}/admin", f"{admin.first_line}  ({without_slash.status} to /admin/ first)"),
        (f"{base}/static/", f"{static.first_line}  (by nginx, no Flask asked)"),
    ]


def up() -> int:
    """Bring the demo up, or up to date, and say what there is to see."""
    began = time.monotonic()
    demo = settings()
    port = host_up(demo)
    before = release(demo.name)
    changed = deploy(demo)
    current = release(demo.name)
    if current is None:
        raise Problem(f"The playbook ran and nothing serves: docker exec {demo.name} flaskctl {APP} status.")
    seen = prove(port, current)
    if before is None:
        news = "first release"
    elif before != current:
        news = f"replaced {before}"
    else:
        news = "nothing changed" if changed == 0 else f"same release, {changed} task(s) changed the host"
    width = max(len(address) for address, _ in seen)
    print(f"\n{APP}, release {current}: {news}. Took {seconds(time.monotonic() - began)}.")
    for address, what in seen:
        print(f"  {address:{width}}  {what}")
    print("Change a line of files/app/app.py and `make demo` again; `make demo-down` removes it.")
    return 0


def down() -> int:
    """Remove what the demo made, and nothing else."""
    demo = settings()
    if not engine.answers():
        print("no container engine answers, so there is no demo to remove")
        return 0
    removed = [f"the host {demo.name}"] if hosts.remove(demo.name) else []
    if RECORD.exists():
        # fails, rightly, while another container uses it
        if output(["docker", "image", "rm", images.tag(KIND)]) is not None:
            removed.append(f"the image {images.tag(KIND)}")
        RECORD.unlink()
    print(f"removed: {', '.join(removed) or 'nothing, there was no demo'}")
    print(f"engine: {engine.down()}")
    packages = [name for name in ("dockerd", "mmdebstrap") if shutil.which(name)]
    if removed and packages:
        print(f"left: .venv and .cache (make clean removes them), and on this machine {' and '.join(packages)}")
    return 0


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="The sample app on one host in a container.")
    parser.add_argument("action", choices=["up", "down"])
    return up() if parser.parse_args().action == "up" else down()


if __name__ == "__main__":
    main(work)

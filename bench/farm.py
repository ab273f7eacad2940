"""The hosts of the bench: containers with systemd and sshd, reached over SSH as a user with sudo, as servers are."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tools import hosts, images
from tools.run import CACHE, LOGS, ROOT, Problem, need, output, step

KIND = "debian12"
BENCH_KIND = "bench"
FRESH_KIND = "bench-fresh"  # without any package of the stack
USER = "deploy"
PLACE = CACHE / "bench"
KEY = PLACE / "id_ed25519"
REPOSITORY = PLACE / "app.git"
REPOSITORY_ON_HOST = "/srv/git/app.git"
# systemd and its daemons hold a handful of inotify instances on each host, and the kernel's default is 128 for all
INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
INOTIFY_PER_HOST = 16
AT_ONCE = 4
# Both sides' packages are in the image: thirty downloads of the same packages would measure the archive.
PACKAGES = """\
RUN apt-get update -q \\
    && apt-get install -y -q --no-install-recommends nginx python3-venv python3-apt python3-packaging git wrk \\
    && git config --system --add safe.directory '*'
"""
DOCKERFILE = """\
FROM {image}
ENV DEBIAN_FRONTEND=noninteractive
{packages}RUN useradd --create-home --shell /bin/bash {user} \\
    && echo '{user} ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/{user} \\
    && install -d -m 0700 -o {user} -g {user} /home/{user}/.ssh && echo '{key}' > /home/{user}/.ssh/authorized_keys
ENV DEBIAN_FRONTEND=
"""


@dataclass(frozen=True)
class Machine:
    """One host: its container and where its sshd listens."""

    name: str
    address: str


def dockerfile(key: str, packages: str = PACKAGES) -> str:
    """The recipe of the bench's image: a test host with the packages, and a user who may log in and sudo."""
    return DOCKERFILE.format(image=images.tag(KIND), user=USER, key=key, packages=packages)


def make_key() -> str:
    """The bench's own SSH key; returns its public half."""
    PLACE.mkdir(parents=True, exist_ok=True)
    if not KEY.exists():
        need(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", str(KEY)],
            LOGS / "bench-key.log",
            "ssh-keygen failed: install openssh-client.",
        )
    return KEY.with_suffix(".pub").read_text().strip()


def make_image(kind: str = BENCH_KIND, packages: str = PACKAGES) -> None:
    """Build the bench's image; the engine knows by itself what of it is there already."""
    images.ensure([KIND])
    recipe = PLACE / "image"
    recipe.mkdir(parents=True, exist_ok=True)
    (recipe / "Dockerfile").write_text(dockerfile(make_key(), packages))
    with step("building the bench's host image"):
        need(
            ["docker", "build", "--quiet", "--tag", images.tag(kind), str(recipe)],
            LOGS / "bench-image.log",
            "The bench's host image could not be built.",
        )


def allow_many(count: int) -> None:
    """Raise the kernel's limit of inotify instances where so many hosts would not come up with it."""
    limit, wanted = int(INOTIFY.read_text()), count * INOTIFY_PER_HOST
    if limit >= wanted:
        return
    try:
        INOTIFY.write_text(f"{wanted}\n")
    except OSError as error:
        raise Problem(
            f"{count} hosts need more inotify instances: sudo sysctl fs.inotify.max_user_instances={wanted}."
        ) from error
    print(f"fs.inotify.max_user_instances raised from {limit} to {wanted} until the next boot")


def names(side: str, count: int) -> list[str]:
    """The containers of a side."""
    return [f"bench-{side}-{number:02}" for number in range(1, count + 1)]


def started(name: str, kind: str = BENCH_KIND) -> Machine:
    """Start a new host, in place of one of that name."""
    hosts.remove(name)
    hosts.start(name, kind, volumes=[f"{REPOSITORY}:{REPOSITORY_ON_HOST}:ro"])
    return Machine(name, address(name))


def address(name: str) -> str:
    """At which address a host answers."""
    found = output(["docker", "inspect", "--format", "{{.NetworkSettings.IPAddress}}", name])
    if not found:
        raise Problem(f"The host {name} has no address.")
    return found


def up(sides: Sequence[str], count: int) -> dict[str, list[Machine]]:
    """Start so many new hosts for each side."""
    make_image()
    allow_many(count * len(sides))
    every = [name for side in sides for name in names(side, count)]
    with step(f"starting {len(every)} hosts"), ThreadPoolExecutor(AT_ONCE) as pool:
        machines = {machine.name: machine for machine in pool.map(started, every)}
    return {side: [machines[name] for name in names(side, count)] for side in sides}


def down() -> None:
    """Remove every host of the bench."""
    listed = output(["docker", "ps", "--all", "--format", "{{.Names}}", "--filter", "name=^bench-[^-]+-[0-9]+$"])
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(hosts.remove, (listed or "").split()))


def known_hosts(machines: Sequence[Machine]) -> Path:
    """Write the keys that the hosts answer with, each read from the host itself."""
    lines = []
    for machine in machines:
        key = output(["docker", "exec", machine.name, "cat", "/etc/ssh/ssh_host_ed25519_key.pub"])
        if not key:
            raise Problem(f"The host {machine.name} has no SSH host key.")
        lines.append(f"{machine.address} {' '.join(key.split()[:2])}\n")
    path = PLACE / "known_hosts"
    path.write_text("".join(lines))
    return path


def ssh_options() -> list[str]:
    """What ssh is told in each of its calls, by Ansible and by the floor."""
    return [f"-oUserKnownHostsFile={PLACE / 'known_hosts'}", "-oGlobalKnownHostsFile=/dev/null", "-oBatchMode=yes"]


def of_role(app: Path) -> dict[str, object]:
    """What the inventory says to this role of the app that is deployed."""
    ca = hosts.CONTROL_NODE_CA if hosts.control_node_ca() else ""
    return {
        "flask_gunicorn_nginx_name": "hello",
        "flask_gunicorn_nginx_source": str(app),
        "flask_gunicorn_nginx_default_server": True,
        "flask_gunicorn_nginx_pip": {"ca_bundle": ca},
    }


def inventory(machines: Sequence[Machine], variables: dict[str, object], name: str) -> Path:
    """Describe hosts to Ansible as the group flask_app."""
    common = {
        "ansible_user": USER,
        "ansible_ssh_private_key_file": str(KEY),
        "ansible_ssh_common_args": " ".join(ssh_options()),
    }
    group = {
        "hosts": {machine.name: {"ansible_host": machine.address} for machine in machines},
        "vars": {**common, **variables},
    }
    path = PLACE / f"{name}.json"
    path.write_text(json.dumps({"flask_app": group}, indent=1))
    return path


@contextlib.contextmanager
def control_sockets() -> Iterator[Path]:
    """A short directory for the sockets of ssh's shared connections; all of them are closed at the end."""
    place = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        yield place
    finally:
        hang_up(place)
        shutil.rmtree(place, ignore_errors=True)


def hang_up(sockets: Path) -> None:
    """Close the connections that a run left open, so that the next one begins like the first of a day."""
    for socket in sockets.iterdir():
        subprocess.run(
            ["ssh", f"-oControlPath={socket}", "-O", "exit", "any"], capture_output=True, check=False, timeout=20
        )


def git(*arguments: str, where: Path) -> None:
    """Run git in the workshop."""
    need(
        ["git", "-C", str(where), "-c", "user.name=bench", "-c", "user.email=bench@localhost", *arguments],
        LOGS / "bench-git.log",
        f"git {arguments[0]} failed.",
    )


def revision(name: str) -> tuple[str, Path]:
    """This project as it was at a revision: its short name, and the directory that it was put into."""
    short = output(["git", "-C", str(ROOT), "rev-parse", "--short", "--verify", f"{name}^{{commit}}"])
    if not short:
        raise Problem(
            f"git knows no revision {name} here.", "A shallow clone has only the newest: git fetch --unshallow."
        )
    place = PLACE / "revision"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    archive = PLACE / "revision.tar"
    log, failed = LOGS / "bench-git.log", f"The revision {short} could not be unpacked."
    need(["git", "-C", str(ROOT), "archive", "--output", str(archive), short], log, failed)
    need(["tar", "-xf", str(archive), "-C", str(place)], log, failed)
    return short, place


class Workshop:
    """The sample app as both sides get it: a directory for the role, a bare repository for the plain playbook.

    The plain side has Gunicorn in its requirements.txt, as tutorials do, with the versions that the role pins.
    """

    def __init__(self) -> None:
        self.app = PLACE / "app"
        self.clone = PLACE / "clone"
        for place in (self.app, self.clone, REPOSITORY):
            shutil.rmtree(place, ignore_errors=True)
        source = ROOT / "files/app"
        shutil.copytree(source, self.app)
        shutil.copytree(source, self.clone)
        gunicorn = (ROOT / "roles/flask_gunicorn_nginx/files/gunicorn.txt").read_text()
        own = (source / "requirements.txt").read_text()
        (self.clone / "requirements.txt").write_text(f"{own}\n{gunicorn}")
        REPOSITORY.mkdir(parents=True)
        git("init", "--quiet", "--bare", "--initial-branch=main", where=REPOSITORY)
        git("init", "--quiet", "--initial-branch=main", where=self.clone)
        git("remote", "add", "origin", str(REPOSITORY), where=self.clone)
        self.original = (source / "app.py").read_text()
        self.greeting = ""
        self.change("0")

    def change(self, version: str) -> None:
        """Change a line of the code, for both sides."""
        self.greeting = f"Hello Flask, version {version}!"
        changed = self.original.replace("Hello Flask!", self.greeting)
        if changed == self.original:
            raise Problem("files/app/app.py no longer says Hello Flask!, which the bench changes.")
        (self.app / "app.py").write_text(changed)
        (self.clone / "app.py").write_text(changed)
        git("add", "--all", where=self.clone)
        git("commit", "--quiet", "--message", f"Version {version}", where=self.clone)
        git("push", "--quiet", "origin", "HEAD:main", where=self.clone)

"""Build test hosts by name: `python -m tools.images debian12 ubuntu2404`.

A host image is what a small server has after installation: the distribution's own archive, its standard
packages, systemd as the first process. mmdebstrap makes it and nothing is pulled from a registry. An image is
built once and used until something in this file that goes into it changes.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass

from tools import engine
from tools.run import CACHE, LOGS, ROOT, Problem, apt_install, main, output, short, step, tail

REPOSITORY = "flaskfleet/host"
LABEL = "flaskfleet.inputs"
AT_ONCE = 2
PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "python3",
    "ca-certificates",
    "sudo",
    "openssh-server",
    "iproute2",
    "procps",
    "less",
)
# would take the package lock in the middle of a test run
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer")
EXPIRED = 'Acquire::Check-Valid-Until "false"'


@dataclass(frozen=True)
class Archive:
    """Where a distribution is published and whose signature counts."""

    keyring: str  # a file, or a directory relative to the repository
    mirrors: tuple[str, ...] = ()  # the first that has the suite is used; none: mmdebstrap knows the archive itself
    security: str = ""
    components: str = "main"
    keyring_package: str = ""  # what brings the file


@dataclass(frozen=True)
class Host:
    """One kind of test host."""

    archive: Archive
    suite: str
    security_suite: str
    # a Release file past its date is accepted: an archive that is no longer updated, or a testing mirror behind
    may_be_expired: bool = False
    masked: tuple[str, ...] = ()  # units that ask for what a container has not, and would fail


DEBIAN = Archive(
    keyring="/usr/share/keyrings/debian-archive-keyring.gpg",
    keyring_package="debian-archive-keyring",
)
UBUNTU = Archive(
    mirrors=("http://archive.ubuntu.com/ubuntu",),
    security="http://security.ubuntu.com/ubuntu",
    components="main universe",
    keyring="tools/keyrings",
)
HOSTS = {
    "debian11": Host(DEBIAN, "bullseye", "bullseye-security", may_be_expired=True),
    "debian12": Host(DEBIAN, "bookworm", "bookworm-security"),
    "debian13": Host(DEBIAN, "trixie", "trixie-security"),
    "testing": Host(DEBIAN, "testing", "testing-security", may_be_expired=True),
    "ubuntu2204": Host(UBUNTU, "jammy", "jammy-security", masked=("ua-auto-attach.service",)),
    "ubuntu2404": Host(UBUNTU, "noble", "noble-security"),
    "ubuntu2604": Host(UBUNTU, "resolute", "resolute-security", masked=("netplan-configure.service",)),
}


def tag(name: str) -> str:
    """The image of a host."""
    return f"{REPOSITORY}:{name}"


def inputs(name: str) -> str:
    """A short hash of everything that goes into a host image, except what the archive publishes that day."""
    recipe = [asdict(HOSTS[name]), PACKAGES, MASKED, EXPIRED]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def made_from(image: str) -> str | None:
    """The inputs that an image was made from, None when there is no such image."""
    return output(["docker", "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', image])


def is_current(name: str) -> bool:
    """Whether the image exists and was made from the inputs of today."""
    return made_from(tag(name)) == inputs(name)


def published(mirror: str, suite: str) -> bool:
    """Whether a mirror answers for a suite."""
    request = urllib.request.Request(f"{mirror}/dists/{suite}/InRelease", method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=15) as response:  # nosec B310: https
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def sources(name: str) -> list[str]:
    """The lines of a host's sources.list, from the first mirror that has it; none where mmdebstrap knows."""
    host = HOSTS[name]
    if not host.archive.mirrors:
        return []
    for mirror in host.archive.mirrors:
        if published(mirror, host.suite):
            break
    else:
        raise Problem(f"{name} cannot be built here: {' and '.join(host.archive.mirrors)} did not answer.")
    places = [(mirror, host.suite), (mirror, f"{host.suite}-updates"), (host.archive.security, host.security_suite)]
    return [f"deb {url} {suite} {host.archive.components}" for url, suite in places if published(url, suite)]


def command(name: str, lines: Sequence[str]) -> list[str]:
    """The mmdebstrap command that writes a host's files to standard output."""
    host = HOSTS[name]
    keyring = ROOT / host.archive.keyring  # an absolute path stays what it is
    return [
        "mmdebstrap",
        "--variant=important",
        f"--include={','.join(PACKAGES)}",
        f"--keyring={keyring}",
        f'--customize-hook=chroot "$1" systemctl mask --quiet {" ".join([*MASKED, *host.masked])}',
        *([f"--aptopt={EXPIRED}"] if host.may_be_expired else []),
        host.suite,
        "-",
        *lines,
    ]


def build(name: str) -> None:
    """Build one host image and hand it to the engine."""
    hand_over(command(name, sources(name)), tag(name), [f"LABEL {LABEL}={inputs(name)}"])


def hand_over(argv: Sequence[str], image: str, changes: Sequence[str]) -> None:
    """Import what a mmdebstrap command writes as an image, with changes in the words of a Dockerfile."""
    log = LOGS / f"image-{image.rpartition(':')[2]}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as sink:
        files = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=sink, env={**os.environ, "LC_ALL": "C.UTF-8"}
        )
        taken = subprocess.run(
            ["docker", "import", *(f"--change={change}" for change in changes), "-", f"{image}-new"],
            stdin=files.stdout,
            stdout=sink,
            stderr=sink,
            check=False,
        )
        if files.stdout:
            files.stdout.close()
    if files.wait() != 0 or taken.returncode != 0:
        # a stream that broke off can still have been imported: it never gets the real name
        output(["docker", "image", "rm", f"{image}-new"])
        raise Problem(f"The image {image} could not be built.", f"{tail(log, 15)}\n(whole log: {short(log)})")
    before = output(["docker", "image", "inspect", "--format", "{{.Id}}", image])
    output(["docker", "tag", f"{image}-new", image])
    output(["docker", "image", "rm", f"{image}-new"])
    if before is not None:
        output(["docker", "image", "rm", before])  # stays, rightly, while a container uses it


def install_builder(archives: Iterable[Archive]) -> None:
    """Make sure that mmdebstrap and the keyrings are there."""
    missing = [a.keyring_package for a in archives if a.keyring_package and not (ROOT / a.keyring).exists()]
    if shutil.which("mmdebstrap") is None:
        missing.insert(0, "mmdebstrap")
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Problem(f"Images are built here with mmdebstrap: sudo apt install {' '.join(missing)}.")
    apt_install(missing)


@contextmanager
def one_builder() -> Iterator[None]:
    """Let a second run wait instead of building the same images again."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def known(names: Sequence[str]) -> Sequence[str]:
    """The names, each that of a host; raises Problem for one that is none."""
    unknown = [name for name in names if name not in HOSTS]
    if unknown:
        raise Problem(f"No such test host: {', '.join(unknown)}. There are: {', '.join(HOSTS)}.")
    return names


def ensure(names: Sequence[str]) -> list[str]:
    """Make sure that an engine answers and the host images are current; return the names that were built."""
    known(names)
    engine.up()
    if all(is_current(name) for name in names):
        return []
    with one_builder():
        stale = [name for name in names if not is_current(name)]
        if stale:
            install_builder({HOSTS[name].archive for name in stale})
            with (
                step(f"building the host image{'s' if len(stale) > 1 else ''} {', '.join(stale)}"),
                ThreadPoolExecutor(AT_ONCE) as pool,
            ):
                for finished in [pool.submit(build, name) for name in stale]:
                    finished.result()
            engine.check_network(tag(stale[0]))
    return stale


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Build test hosts by name.")
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(HOSTS))
    names: list[str] = parser.parse_args().names
    built = ensure(names)
    print(f"{len(names)} host image(s) current, {len(built)} of them built now")
    return 0


if __name__ == "__main__":
    main(work)

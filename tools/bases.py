"""The base images of files/compose, built from the distribution's archive where no registry answers.

They stand in for the official images python and nginx as far as compose.yaml and its Dockerfile ask: the same
commands, paths and account. They trust the certificates that this machine trusts, for pip behind a proxy that inspects
TLS, and so they are for this machine alone.
"""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from tools import engine, hosts, images
from tools.run import ROOT, step

REPOSITORY = "flaskfleet/base"
ARCHIVE = images.DEBIAN
SUITE = "trixie"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


@dataclass(frozen=True)
class Base:
    """One base image."""

    packages: tuple[str, ...]
    script: str = ""  # run in the finished tree
    changes: tuple[str, ...] = ()  # in the words of a Dockerfile


# by the build argument, or variable of compose.yaml, that chooses it
BASES = {
    "PYTHON_IMAGE": Base(("python3", "python3-venv", "ca-certificates", "passwd")),
    "NGINX_IMAGE": Base(
        ("nginx", "ca-certificates", "passwd"),
        # the official image's account, logs, one directory for what nginx writes, and no site but the one mounted
        script=(
            "groupadd --system --gid 101 nginx"
            " && useradd --system --uid 101 --gid nginx --no-create-home --home-dir /nonexistent nginx"
            " && ln -sf /dev/stdout /var/log/nginx/access.log && ln -sf /dev/stderr /var/log/nginx/error.log"
            " && rm /etc/nginx/sites-enabled/default"
            " && rm -r /var/lib/nginx && mkdir /var/cache/nginx && ln -s ../cache/nginx /var/lib/nginx"
        ),
        changes=('CMD ["nginx", "-g", "daemon off;"]',),
    ),
}


def tag(name: str) -> str:
    """The image of a base."""
    return f"{REPOSITORY}:{name.removesuffix('_IMAGE').lower()}"


def command(name: str, certificates: str | None) -> list[str]:
    """The mmdebstrap command that writes a base's files to standard output."""
    base = BASES[name]
    return [
        *("mmdebstrap", "--variant=minbase", f"--include={','.join(base.packages)}"),
        f"--keyring={ROOT / ARCHIVE.keyring}",
        *([f'--customize-hook=chroot "$1" sh -ec "{base.script}"'] if base.script else []),
        *([f"--customize-hook=upload {certificates} {CERTIFICATES}"] if certificates else []),
        *(SUITE, "-"),
    ]


def inputs(name: str, certificates: str | None) -> str:
    """A short hash of everything that goes into a base, except what the archive publishes that day."""
    trusted = hashlib.sha256(Path(certificates).read_bytes()).hexdigest() if certificates else ""
    recipe = [asdict(BASES[name]), asdict(ARCHIVE), SUITE, command(name, None), trusted]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def build(name: str, wanted: str, certificates: str | None) -> None:
    """Build one base and hand it to the engine."""
    changes = [f"LABEL {images.LABEL}={wanted}", *BASES[name].changes]
    images.hand_over(command(name, certificates), tag(name), changes)


def ensure() -> dict[str, str]:
    """Make sure that the base images are current; return them by the variable that chooses each."""
    engine.up()
    certificates = hosts.control_node_ca()
    wanted = {name: inputs(name, certificates) for name in BASES}
    with images.one_builder():
        stale = [name for name in BASES if images.made_from(tag(name)) != wanted[name]]
        if stale:
            images.install_builder({ARCHIVE})
            with (
                step(f"building {' and '.join(tag(name) for name in stale)} from Debian's archive ({SUITE})"),
                ThreadPoolExecutor(images.AT_ONCE) as pool,
            ):
                list(pool.map(lambda name: build(name, wanted[name], certificates), stale))
            engine.check_network(tag("PYTHON_IMAGE"))
    return {name: tag(name) for name in BASES}

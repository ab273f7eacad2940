# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The signature of what is sent to hosts, by a key of the control node; ssh-keygen makes it, or an agent."""

from __future__ import annotations

import hashlib
import os
import subprocess
from pathlib import Path

from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheelhouse import forget, locked, sha256_of

NAMESPACE = "flaskfleet"  # as on the host: flaskctl's room signatures
CACHE = "~/.cache/flaskfleet/signatures"


class Unsigned(Exception):
    """No signature could be made; the text says why and what to do."""


def signature(path: str, key: str) -> str:
    """Return the signature of a file; made once for a file and a key, for a token may want to be touched each time."""
    key = os.path.expanduser(key)
    cache = Path(CACHE).expanduser()
    cache.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"{sha256_of(Path(path))}.{identity(key)}"
    kept = cache / f"{name}.sig"
    with locked(cache / f"{name}.lock"):
        if not kept.exists():
            beside = kept.with_suffix(".new")
            beside.write_text(made(path, key), encoding="utf-8")
            beside.replace(kept)
        os.utime(kept)
        forget(cache, kept.stat().st_mtime)
        return kept.read_text(encoding="utf-8")


def identity(key: str) -> str:
    """Return what tells a key from others: by its public half, where that lies beside it."""
    for path in (f"{key}.pub", key):
        if os.path.isfile(path):
            return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:12]
    raise Unsigned(
        f"There is no key {key} on the control node. Make one, ssh-keygen -t ed25519 -f {key}, or correct `key` of"
        " flask_gunicorn_nginx_signing."
    )


def made(path: str, key: str) -> str:
    """Have ssh-keygen sign a file. Nobody is asked for a passphrase: that would be once for each host at a time."""
    with open(path, "rb") as file:
        try:
            done = subprocess.run(
                ["ssh-keygen", "-Y", "sign", "-n", NAMESPACE, "-f", key],
                stdin=file,
                capture_output=True,
                check=False,
                start_new_session=True,
            )
        except OSError as error:
            raise Unsigned(f"ssh-keygen cannot be run on the control node: {error.strerror}.") from error
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise Unsigned(
            f"{key} does not sign: {said}. With a passphrase it has to be in an agent: ssh-add {key}, and name its"
            " public half as `key` of flask_gunicorn_nginx_signing."
        )
    return done.stdout.decode("ascii")

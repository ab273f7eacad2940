"""The wheels for a virtualenv without an index: what the control node is asked for, and what it has sent."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import IO

from flaskctl import Json
from flaskctl.app import App
from flaskctl.archive import unpack
from flaskctl.errors import Refused
from flaskctl.files import erase, read_text, stream_sha256, sync_directory
from flaskctl.release import Config

MAX_WHEELS = 16 * 1024**3  # bytes
LOCKED = "requirements.txt"  # each wheel by name, version and hash
KEY = "key"  # the name of the file that says for which virtualenv they are
# what decides which wheels fit an interpreter, by the names that markers of requirements have for it
FACTS = """\
import json, os, platform, sys, sysconfig
version = platform.python_version()
arch = sysconfig.get_platform().partition("-")[2]
if sys.maxsize < 2**32:
    arch = {"x86_64": "i686", "aarch64": "armv7l"}.get(arch, arch)
try:
    libc = os.confstr("CS_GNU_LIBC_VERSION") or ""
except (AttributeError, ValueError, OSError):
    libc = ""
print(json.dumps({
    "arch": arch, "libc": libc, "threads": "t" if "t" in getattr(sys, "abiflags", "") else "",
    "version": "%d.%d.%d" % sys.version_info[:3],
    "markers": {
        "implementation_name": sys.implementation.name, "implementation_version": version, "os_name": os.name,
        "platform_machine": platform.machine(), "platform_python_implementation": platform.python_implementation(),
        "platform_release": "", "platform_system": platform.system(), "platform_version": "",
        "python_full_version": version, "python_version": "%d.%d" % sys.version_info[:2], "sys_platform": sys.platform,
    },
}))
"""


class WheelsNeeded(Exception):
    """A virtualenv, or the project in a release, cannot be made before the control node has sent these wheels."""

    def __init__(self, facts: Json) -> None:
        super().__init__(facts["key"])
        self.facts = facts


def take_wheels(app: App, key: str, config: Config) -> None:
    """Have pip use the wheels for this virtualenv and no index, where the configuration says so; or ask for them."""
    if not config.wheelhouse:
        return
    home = app.wheels_dir / key
    if not (home / LOCKED).is_file():
        done = app.host.run([config.python, "-I", "-c", FACTS])
        if done.rc:
            raise Refused(f"{config.python} does not run", done.err.strip(), "install it, or name another Python")
        raise WheelsNeeded({"key": key, **json.loads(done.out)})
    app.wheels = home


def pip_settings(wheels: Path | None) -> dict[str, str]:
    """Return the environment in which pip asks no index, not for what a build needs either."""
    if wheels is None:
        return {}
    places = [str(place) for place in (wheels / "wheels", wheels / "build") if place.is_dir()]
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": " ".join(places)}


def receive(app: App, file: IO[bytes], name: str, sha256: str | None) -> None:
    """Put the wheels that the control node has sent in their place, whole."""
    found = stream_sha256(file)
    file.seek(0)
    if sha256 and found != sha256:
        raise Refused(f"{name} is corrupt: its sha256 is {found}, not {sha256}", remedy="send it again")
    beside = app.wheels_dir / f".new.{app.host.pid()}"
    try:
        erase(beside)
        beside.mkdir(parents=True)
        unpack(file, name, beside, size=MAX_WHEELS)
        key = (read_text(beside / KEY) or "").strip()
        if not re.match(r"[a-z0-9_.-]+\Z", key) or not (beside / LOCKED).is_file():
            raise Refused(f"{name} holds no wheels for a virtualenv", remedy="run the playbook, which makes it")
        erase(app.wheels_dir / key)
        app.host.sync()
        os.rename(beside, app.wheels_dir / key)
        sync_directory(app.wheels_dir)
    finally:
        erase(beside)


def forget_wheels(app: App, keys: set[str]) -> None:
    """Remove the wheels of virtualenvs that are gone."""
    for path in app.wheels_dir.glob("*"):
        if path.name not in keys:
            erase(path)
    for path in app.wheels_dir.glob(".new.*"):
        erase(path)


def hashes_of(wheels: Path) -> dict[str, str]:
    """Return the SHA-256 of each wheel, by NAME==VERSION."""
    lines = (read_text(wheels / LOCKED) or "").splitlines()
    found = (re.match(r"(\S+) --hash=sha256:([0-9a-f]{64})\Z", line) for line in lines)
    return {match.group(1): match.group(2) for match in found if match}

"""What is installed in a virtualenv, read from its files: nothing of it runs."""

from __future__ import annotations

import re
from pathlib import Path

from flaskctl.files import read_text
from flaskctl.requirements import normalized

SITE = "lib/python3*/site-packages"


INFO = re.compile(r"(.+?)-([^-]+)(?:-py3.*)?\.(?:dist|egg)-info\Z")


def installed_in(venv: Path) -> dict[str, str]:
    """Return the packages of a virtualenv: their versions by their names, as pip compares these."""
    names = (INFO.match(path.name) for path in venv.glob(f"{SITE}/*-info"))
    return {normalized(match.group(1)): match.group(2) for match in names if match}


def metadata_in(venv: Path) -> dict[str, tuple[str, str]]:
    """Return version and metadata of each package of a virtualenv by its name; metadata may be missing."""
    found = {}
    for path in venv.glob(f"{SITE}/*-info"):
        match = INFO.match(path.name)
        if match:
            name = "METADATA" if path.suffix == ".dist-info" else "PKG-INFO"
            text = (path / name).read_bytes().decode("utf-8", "replace") if (path / name).is_file() else ""
            found[normalized(match.group(1))] = (match.group(2), text)
    return found


def oldest_gevent(venv: Path) -> str:
    """Return the oldest gevent with which the Gunicorn of a virtualenv works, by its own words."""
    texts = [read_text(path) or "" for path in venv.glob(f"{SITE}/gunicorn-*.dist-info/METADATA")]
    match = re.search(r"(?m)^Requires-Dist: gevent *\(?>= *([0-9.]+)", "\n".join(texts))
    return match.group(1) if match else "0"

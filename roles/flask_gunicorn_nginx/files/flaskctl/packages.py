"""What is installed in a virtualenv, read from its files: nothing of it runs."""

from __future__ import annotations

import re
from pathlib import Path

from flaskctl.files import read_text
from flaskctl.requirements import normalized

SITE = "lib/python3*/site-packages"


def installed_in(venv: Path) -> dict[str, str]:
    """Return the packages of a virtualenv: their versions by their names, as pip compares these."""
    names = (
        re.match(r"(.+?)-([^-]+)(?:-py3.*)?\.(?:dist|egg)-info\Z", path.name) for path in venv.glob(f"{SITE}/*-info")
    )
    return {normalized(match.group(1)): match.group(2) for match in names if match}


def oldest_gevent(venv: Path) -> str:
    """Return the oldest gevent with which the Gunicorn of a virtualenv works, by its own words."""
    texts = [read_text(path) or "" for path in venv.glob(f"{SITE}/gunicorn-*.dist-info/METADATA")]
    match = re.search(r"(?m)^Requires-Dist: gevent *\(?>= *([0-9.]+)", "\n".join(texts))
    return match.group(1) if match else "0"

"""Make a package index of a directory on this host: make_index.py PYTHON DIRECTORY.

DIRECTORY holds the source of a package and gunicorn.txt; its wheel and all that it and the server need go to
DIRECTORY/wheels, and DIRECTORY/simple is what pip's --index-url reads.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

python, directory = sys.argv[1], Path(sys.argv[2])
wheels, simple = directory / "wheels", directory / "simple"
pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--wheel-dir", str(wheels)]
subprocess.run([*pip, str(directory / "package")], check=True)
subprocess.run([*pip, "--require-hashes", "--requirement", str(directory / "gunicorn.txt")], check=True)
for wheel in sorted(wheels.glob("*.whl")):
    page = simple / re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower() / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(f'<!doctype html><a href="{wheel.as_uri()}">{wheel.name}</a>\n')

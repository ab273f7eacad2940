"""Make a package index of a directory on this host: make_index.py PYTHON DIRECTORY.

DIRECTORY holds the source of a package and gunicorn.txt; its wheel and all that it and the server need go to
DIRECTORY/wheels, and DIRECTORY/simple is what pip's --index-url reads. Beside them a package that has
no wheel, and whose build needs a compiler.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

python, directory = sys.argv[1], Path(sys.argv[2])
wheels, simple = directory / "wheels", directory / "simple"
shutil.rmtree(simple, ignore_errors=True)
pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--wheel-dir", str(wheels)]
subprocess.run([*pip, str(directory / "package")], check=True)
subprocess.run([*pip, "--require-hashes", "--requirement", str(directory / "gunicorn.txt")], check=True)
subprocess.run([*pip, "setuptools>=77", "wheel"], check=True)  # what pip builds with
with tarfile.open(wheels / "needscc-1.0.tar.gz", "w:gz") as sdist:
    setup = "from setuptools import Extension, setup\n\nsetup(ext_modules=[Extension('needscc', ['needscc.c'])])\n"
    build = '[build-system]\nrequires = ["setuptools"]\n[project]\nname = "needscc"\nversion = "1.0"\n'
    for name, text in {"setup.py": setup, "pyproject.toml": build, "needscc.c": "#include <Python.h>\n"}.items():
        member = tarfile.TarInfo(f"needscc-1.0/{name}")
        member.size = len(text)
        sdist.addfile(member, io.BytesIO(text.encode()))
for wheel in sorted([*wheels.glob("*.whl"), *wheels.glob("*.tar.gz")]):
    page = simple / re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower() / "index.html"
    page.parent.mkdir(parents=True, exist_ok=True)
    with page.open("a") as file:
        file.write(f'<a href="{wheel.as_uri()}">{wheel.name}</a>\n')

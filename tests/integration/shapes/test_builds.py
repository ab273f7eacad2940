"""What is built runs as nobody in particular: a source and a dependency that mean harm leave nothing behind."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.asking import Site
from tests.rendering import REPOSITORY

ARCHIVE = "/tmp/hostile.tar.gz"
CONNECTS = "import socket; socket.create_connection(('127.0.0.1', 80), 3)"
ATTACK = (Path(__file__).parent / "hostile.py").read_text()
LOCK = (REPOSITORY / "roles/flask_gunicorn_nginx/files/gunicorn.txt").read_text()
# what each start of the virtualenv's Python does, as long as it may write there
STARTS = """
import os, sys
here = os.path.dirname(__file__)
sys.path.insert(0, here)
try:
    import hostile_attack
    said = hostile_attack.attack(here)
    with open(os.path.join(here, "said"), "a") as file:
        file.write(said + chr(10))
    {more}
except OSError:
    pass
"""
SETUP = """
import setuptools
exec(open("attack.py").read())
said = attack(".")
with open("hostile_said.py", "w") as file:
    file.write("# " + said)
setuptools.setup(name="hostile-app", version="1", py_modules=["hostile_said"])
"""
DEEP = "[os.makedirs('d') or os.chdir('d') for _ in range(1500)]"
LINK = "os.symlink('../../../../../../../../etc', os.path.join(here, 'etc'))"


def wheel(name: str, version: str, **files: str) -> dict[str, bytes]:
    """Return a wheel by the name of its file."""
    name, packed = name.replace("-", "_"), io.BytesIO()
    info = f"{name}-{version}.dist-info"
    files[f"{info}/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return {f"{name}-{version}-py3-none-any.whl": packed.getvalue()}


def source(more: str, **files: str) -> dict[str, str | bytes]:
    """Return a source with a dependency that means harm; what would serve it is empty, so that no index is asked."""
    start = {"hostile.pth": "import hostile_start\n", "hostile_start.py": STARTS.replace("{more}", more)}
    wheels = wheel("hostile", "1.0", **start, **{"hostile_attack.py": ATTACK})
    for name, version in dict(re.findall(r"(?m)^([a-z][\w.-]*)==([\w.]+)", LOCK)).items():
        wheels.update(wheel(name, version))
    lines = "".join(f"./{name}\n" for name in wheels)
    # the app that it is given out for has static files
    return {"app.py": "", "flaskr/static/a.txt": "", "requirements.txt": lines, **wheels, **files}


@pytest.fixture(scope="module")
def site(host: Any) -> Iterator[Site]:
    found = Site(host, "factory", "factory.test")
    found.root("mkdir -p -m 1777 /srv/open")
    before = found.current
    yield found
    found.root(f"rm -rf {ARCHIVE} /srv/open")
    found.flaskctl("prune", "--keep", "1")
    assert found.current == before


def traces(site: Site) -> str:
    """Return what was left on the host, files and processes, and what is anybody's but root's where a release is."""
    left = site.root(
        "find / -xdev -name hostile ! -type d ! -path '/proc/*'; ls /dev/shm /run /tmp | grep -x hostile", False
    )
    left += site.root(
        "pgrep -af 'hostile-daemo[n]'; systemctl --quiet is-active factory.build.service && echo builds", False
    )
    return left + site.root(
        "find /srv/factory \\( ! -user root -o -perm /6022 ! -type l -o -name '.*.build' \\) -print"
    )


def test_what_a_build_tries_leads_nowhere_and_root_never_starts_what_it_left(site: Site) -> None:
    # the virtualenv's own setuptools is an empty one now
    build = '[build-system]\nrequires = ["setuptools"]\n'
    files = source("pass", **{"setup.py": SETUP, "attack.py": ATTACK, "pyproject.toml": build})
    site.put_archive(ARCHIVE, files)
    release = site.flaskctl("stage", ARCHIVE)["id"]
    home = f"/srv/factory/releases/{release}"
    said = site.root(f"cat {home}/venv/lib/python3*/site-packages/said")
    assert len(said.splitlines()) >= 2, "it was started while it was built"
    built = site.root(f"cat {home}/site/hostile_said.py")
    for line in [*said.splitlines(), built]:
        uid, *rest = line.removeprefix("# ").split(" | ")
        assert re.fullmatch(r"uid 6[1-5]\d{3}", uid), line
        # its own, gone with it; and what is built without hashes asks an index
        allowed = {f"wrote {path}" for path in ("/tmp", "/var/tmp", "/dev/shm", "/root", "/home")}
        allowed |= {f"did {CONNECTS}"} if line == built else set()
        assert set(rest) <= allowed, line
    for words in (("status", "--drift"), ("stage", ARCHIVE), ("releases",)):
        site.flaskctl(*words)
    assert site.root(f"cat {home}/venv/lib/python3*/site-packages/said") == said, "and never since"
    assert traces(site) == ""


@pytest.mark.parametrize(
    ("more", "why"), [(LINK, "is a link to"), (f"os.chdir(here); {DEEP}", "directories in one another")]
)
def test_what_root_would_not_have_made_is_not_taken_over(site: Site, more: str, why: str) -> None:
    site.put_archive(ARCHIVE, source(more))
    before = site.root("ls /srv/factory/venvs /srv/factory/releases")
    refused = site.flaskctl("stage", ARCHIVE, rc=1)
    assert why in refused["msg"], refused
    assert site.root("ls -A /srv/factory/venvs /srv/factory/releases") == before
    assert traces(site) == ""

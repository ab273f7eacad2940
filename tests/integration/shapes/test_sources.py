"""Sources as people have them, staged on a host as a person on call does it: what is built of them, and what is told.

They come beside the app `wheel`: with its configuration, and with the index that stands on the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.asking import Json, Site

PROJECT = '[project]\nname = "flaskr"\nversion = "1"\n'
FACTORY = """\
import flask, tax

def create_app():
    app = flask.Flask(__name__)
    app.get("/")(tax.paid)
    return app
"""
SOURCE = "/root/source.tar.gz"


@pytest.fixture
def wheel(host: Any) -> Site:
    return Site(host, "wheel", "wheel.test")


@pytest.fixture
def stage(wheel: Site) -> Callable[..., Json]:
    """Stage a source of these files; returns what flaskctl says."""

    def staged(files: dict[str, str], *words: str, rc: int = 0) -> Json:
        wheel.put_archive(SOURCE, files)
        return wheel.flaskctl("stage", SOURCE, *words, rc=rc)

    return staged


@pytest.mark.parametrize(
    "pyproject",
    [
        PROJECT,
        '[tool.poetry]\npackage-mode = false\n\n[build-system]\nrequires = ["poetry-core"]\n',
        "[tool.black]\nline-length = 100\n",
    ],
)
def test_an_app_with_a_pyproject_and_requirements_is_not_built(
    wheel: Site, stage: Callable[..., Json], pyproject: str
) -> None:
    files = {"pyproject.toml": pyproject, "app.py": "", "static/a.css": "", "templates/a.html": ""}
    answer = stage({**files, "requirements.txt": "flaskr==1.4.0\n"})
    assert answer["venv"]["built"] is False
    assert not wheel.root(f"find /srv/wheel/releases/{answer['id']} -maxdepth 1 -name site")


def test_requirements_of_any_editor_with_includes_and_paths_are_installed(
    wheel: Site, stage: Callable[..., Json]
) -> None:
    files = {
        "requirements.txt": "\ufeff-r requirements/prod.txt\r\n-e .\r\n--editable libs/tax\r\n",
        "requirements/prod.txt": "-c ../constraints.txt\r\nflask\r\n",
        "constraints.txt": "flask>=3.1\n",
        "pyproject.toml": f'{PROJECT}[tool.setuptools.package-data]\nflaskr = ["static/*"]\n',
        "src/flaskr/__init__.py": FACTORY,
        "src/flaskr/static/style.css": "",
        "libs/tax/pyproject.toml": '[project]\nname = "tax"\nversion = "1"\n',
        "libs/tax/tax.py": "def paid():\n    return 'paid'\n",
    }
    answer = stage(files, "--try", "health")
    assert answer["tried"]
    home = f"/srv/wheel/releases/{answer['id']}"
    assert wheel.root(f"ls {home}/site/flaskr/__init__.py")
    there = wheel.root(f"find -L {home}/venv/lib -maxdepth 3 '(' -name 'flaskr*' -o -name 'tax.py' ')' -printf '%f '")
    assert there == "tax.py", "a package of its own is installed, the project itself belongs to the release"


def test_a_package_without_a_wheel_is_told_before_what_the_compiler_says(stage: Callable[..., Json]) -> None:
    said = stage({"app.py": "", "requirements.txt": "flask\nneedscc==1.0\n"}, rc=1)
    assert "no wheel of needscc 1.0 for Python 3." in said["msg"]
    assert "flask_gunicorn_nginx_packages: [build-essential, python3-dev]; or ask for" in said["remedy"]


def test_packages_of_the_system_were_installed_before_the_build(wheel: Site) -> None:
    assert wheel.root("command -v tree")

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""A source without a requirements file gets one: of its lock file, by the tool that wrote it, or of pyproject.toml.

Nothing of the app is run. A tool sees the lock file and what it belongs to, in a directory of its own.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.source import mask
from ansible_collections.flaskfleet.web.plugins.module_utils.tree import ENCODING, ArchiveError, Entry

LONGEST = 120  # seconds that a tool may take


@dataclass(frozen=True)
class Tool:
    """What writes and reads a lock file; `project` is the file that the lock file belongs to."""

    lock: str
    project: str
    export: str
    install: str

    @property
    def name(self) -> str:
        """The program."""
        return self.export.partition(" ")[0]


TOOLS = (
    Tool(
        "uv.lock",
        "pyproject.toml",
        "uv export --frozen --no-dev --no-emit-project --no-header --no-annotate --format requirements-txt",
        "pipx install uv",
    ),
    Tool(
        "poetry.lock",
        "pyproject.toml",
        "poetry export --without-urls",
        "pipx install poetry && pipx inject poetry poetry-plugin-export",
    ),
    Tool("pdm.lock", "pyproject.toml", "pdm export --prod", "pipx install pdm"),
    Tool("Pipfile.lock", "Pipfile", "pipenv requirements --hash --exclude-index", "pipx install pipenv"),
)
# of our environment a tool gets what finds it, its home and the network; nothing that names another project
PASSED = re.compile(
    r"(?i)PATH|HOME|TMPDIR|LANG|LC_ALL|(https?|no|all)_proxy|SSL_CERT_FILE|SSL_CERT_DIR|REQUESTS_CA_BUNDLE"
)
SETTINGS = {
    **{"UV_PYTHON_DOWNLOADS": "never", "UV_NO_PROGRESS": "1", "UV_PYTHON": sys.executable, "NO_COLOR": "1"},
    **{"POETRY_VIRTUALENVS_CREATE": "false", "POETRY_NO_INTERACTION": "1"},
    **{"PDM_IGNORE_SAVED_PYTHON": "1", "PDM_PYTHON": sys.executable, "PDM_USE_VENV": "0", "PDM_CHECK_UPDATE": "0"},
    **{"PIPENV_IGNORE_VIRTUALENVS": "1", "PIPENV_NOSPIN": "1", "PIPENV_DONT_LOAD_ENV": "1", "PIPENV_YES": "1"},
}
# where packages come from is said by flask_gunicorn_nginx_pip, for all sources alike
INDEX = re.compile(r"(-i|--index-url|--extra-index-url|--trusted-host|--find-links|-f)[\s=]")
# directories and modules that setuptools does not take for the package of a project, when nobody names that
NO_PACKAGE = frozenset(
    """
    benchmark benchmarks bin build changelog ci debian dist doc docs documentation env example examples exercise
    exercises fabfile htmlcov manpages news newsfragments python requirements scripts site_scons tasks test
    tests tools unit_test unit_tests util utils venv
    """.split()
)
NO_MODULE = frozenset(
    """
    benchmark benchmarks build conanfile conftest dodo example examples exercise exercises fabfile manage noxfile
    pavement setup tasks test tests toxfile
    """.split()
)


def complete(entries: list[Entry], requirements: str, where: str) -> list[Entry]:
    """Return the entries, with a requirements file where the source has none and something else says what goes in.

    `where` is the source as a message names it.
    """
    by_name = {entry.name: entry for entry in entries}
    if requirements in by_name:
        return entries
    tools = [tool for tool in TOOLS if tool.lock in by_name]
    if len(tools) > 1:
        raise ArchiveError(
            f"{where} has {' and '.join(tool.lock for tool in tools)}, and no {requirements}. Remove those that do not"
            " count, or name them in flask_gunicorn_nginx_exclude."
        )
    text: str | None
    if tools:
        text = exported(tools[0], by_name, requirements, where)
    elif "Pipfile" in by_name and "setup.py" not in by_name and "pyproject.toml" not in by_name:
        raise ArchiveError(
            f"{where} has a Pipfile, and neither Pipfile.lock nor {requirements}. Run pipenv lock in it."
        )
    else:
        text = declared(by_name)
    if text is None:
        return entries
    content = text.encode()
    return [*entries, Entry(requirements, size=len(content), open=lambda: io.BytesIO(content))]


def read(entry: Entry) -> bytes:
    """Return what a file of the source holds."""
    with entry.open() as content:
        found: bytes = content.read()
    return found


def exported(tool: Tool, by_name: dict[str, Entry], requirements: str, where: str) -> str:
    """Return what the tool makes of its lock file, or raise ArchiveError with the command for a person."""
    by_hand = f"{tool.export} > {requirements}"
    found = shutil.which(tool.name, path=program_path())
    if found is None:
        raise ArchiveError(
            f"{where} has {tool.lock} and no {requirements}, and {tool.name}, which reads it, is not on this machine."
            f" Install it ({tool.install}), or run this in the source wherever it is: {by_hand}"
        )
    if tool.project not in by_name:
        raise ArchiveError(f"{where} has {tool.lock} and no {tool.project}, which it belongs to. Add that file.")
    if b"requires-plugins" in read(by_name[tool.project]):  # poetry would install and run them
        raise ArchiveError(f"{where} asks {tool.name} for plugins, which are not run here. Run this in it: {by_hand}")
    with tempfile.TemporaryDirectory(prefix="flaskfleet-") as directory:
        for name, entry in by_name.items():
            if name == tool.lock or name.rpartition("/")[2] == tool.project:
                path = Path(directory, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(read(entry))
        code, output, errors = run([found, *tool.export.split()[1:]], directory)
    if code != 0:
        said = "\n".join(mask(errors or output).strip().splitlines()[-10:]).replace(directory, where)
        raise ArchiveError(
            f"{tool.name} cannot make requirements of {tool.lock} of {where}:\n{said}\nMend that (it wants"
            f" {tool.install}), or run this in the source: {by_hand}"
        )
    return plain(output)


def program_path() -> str:
    """Return where a tool may be: also beside Ansible itself, and where pipx puts it."""
    places = [os.environ.get("PATH", os.defpath), os.path.dirname(sys.executable), os.path.expanduser("~/.local/bin")]
    return os.pathsep.join(places)


def run(argv: list[str], directory: str) -> tuple[int, str, str]:
    """Run a tool to its end; return exit code, output and errors."""
    environment = {name: value for name, value in os.environ.items() if PASSED.fullmatch(name)}
    environment.update(SETTINGS)
    try:
        done = subprocess.run(
            argv,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"no answer within {LONGEST} seconds"
    except OSError as error:
        return 1, "", str(error)
    return done.returncode, done.stdout.decode(ENCODING, "replace"), done.stderr.decode(ENCODING, "replace")


def plain(text: str) -> str:
    """Return the requirements alone: no comment that differs from one version of a tool to the next, and no index.

    pip takes hashes for all or for none, and what comes from git has none.
    """
    joined = re.sub(r"\\\r?\n\s*", "", text)
    lines = [line.strip() for line in joined.splitlines()]
    kept = [line for line in lines if line and not line.startswith("#") and not INDEX.match(line)]
    if not all("--hash=" in line for line in kept):
        kept = [re.sub(r"\s*--hash=\S+", "", line) for line in kept]
    return "".join(f"{line}\n" for line in kept)


def declared(by_name: dict[str, Entry]) -> str | None:
    """Return the dependencies that a pyproject.toml declares, where pip could not build that project; else nothing.

    Without [build-system] pip builds with setuptools, which takes no project with two directories beside each other
    (app.py, static, templates). Such an app is started from its own directory, and needs its dependencies alone.
    """
    project = pyproject(by_name).get("project")
    if not isinstance(project, dict) or "dependencies" in project.get("dynamic", []):
        return None
    if "build-system" in pyproject(by_name) or "setuptools" in pyproject(by_name).get("tool", {}):
        return None
    if {"setup.py", "setup.cfg"} & by_name.keys() or not is_no_package(by_name):
        return None
    return "".join(f"{line}\n" for line in project.get("dependencies", []))


def pyproject(by_name: dict[str, Entry]) -> dict[str, Any]:
    """Return what pyproject.toml holds; nothing where it is none, or this Python cannot read it."""
    try:
        import tomllib
    except ImportError:
        return {}
    try:
        return tomllib.loads(read(by_name["pyproject.toml"]).decode(ENCODING))
    except (KeyError, ValueError):
        return {}


def is_no_package(names: Iterable[str]) -> bool:
    """Tell whether setuptools would find more than one package, or module, at the root of a project, and stop."""
    parts = [name.split("/") for name in names]
    packages = {first for first, *rest in parts if rest and first.isidentifier()} - NO_PACKAGE
    modules = {first[:-3] for first, *rest in parts if not rest and first.endswith(".py")} - NO_MODULE
    return "src" not in packages and (len(packages) > 1 or (not packages and len(modules) > 1))

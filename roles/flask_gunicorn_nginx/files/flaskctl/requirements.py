"""What a source asks to be installed, and the key of its virtualenv. Reads the source, changes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from flaskctl.errors import Refused
from flaskctl.files import FULL, read_text
from flaskctl.release import Config, canonical


def requirement_lines(text: str) -> list[str]:
    """Return the lines of a requirements file, continuations joined, comments gone."""
    joined = re.sub(r"\\\r?\n", " ", text)
    return [line for line in (re.sub(r"(^|\s)#.*", "", raw).strip() for raw in joined.splitlines()) if line]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(line: str) -> str | None:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return normalized(match.group()) if match else None


def named(lines: Iterable[str]) -> Iterator[str]:
    """Yield the packages that lines name for whatever host; `gunicorn[gevent]` names what its extra stands for."""
    for line in lines:
        name = requirement_name(line)
        if name and ";" not in line.partition("--hash")[0]:
            yield name
            if name == "gunicorn" and re.match(r"[^\s\[]+ *\[[^\]]*\bgevent\b", line):
                yield from ("gevent", "packaging")


def without(requirements: str, installed: Iterable[str]) -> str:
    """Return the requirement lines whose package is not installed yet."""
    have = {normalized(name) for name in installed}
    return "".join(f"{line}\n" for line in requirement_lines(requirements) if requirement_name(line) not in have)


@dataclasses.dataclass(frozen=True)
class Dependencies:
    """What a source asks to be installed. `texts` decide the key of its virtualenv."""

    file: str | None  # its requirements file; None: the project itself names its dependencies
    texts: tuple[str, ...]
    project: bool  # it has a pyproject.toml or setup.py that can be installed
    server: bool  # it does not name all that serves it: what is missing of the role's own goes in
    hashed: bool

    @property
    def warning(self) -> str:
        if not self.file:
            return "the project has no requirements file: its dependencies are not locked"
        lines = any(requirement_lines(text) for text in self.texts)
        return "" if self.hashed or not lines else f"{self.file} has no hashes: what is installed is up to the index"


def dependencies_of(tree: Path, requirements: str, needs: Collection[str] = ("gunicorn",)) -> Dependencies:
    """Read what the source in `tree` asks for, or say what is missing in it; `needs` is what serves it."""
    pyproject, setup = read_text(tree / "pyproject.toml"), read_text(tree / "setup.py")
    project = setup is not None or bool(re.search(r"(?m)^\[(project|build-system)\]", pyproject or ""))
    if (tree / requirements).is_file():
        texts = requirement_texts(tree, requirements)
        lines = [line for text in texts for line in requirement_lines(text)]
        server = not set(needs) <= set(named(lines))
        return Dependencies(requirements, texts, project, server, any("--hash" in line for line in lines))
    if project and requirements == Config.requirements:
        texts = tuple(text for text in (pyproject, setup, read_text(tree / "setup.cfg")) if text is not None)
        return Dependencies(None, texts, project=True, server=True, hashed=False)
    what = f"the source has no {requirements}" + ("" if project else ", and no pyproject.toml of a project")
    raise Refused(what, remedy="add the file to the source, or name the right path")


def requirement_texts(tree: Path, path: str, seen: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Return the text of a requirements file and of those that it includes, all inside the source."""
    inside = os.path.realpath(tree / path).startswith(os.path.realpath(tree) + os.sep)
    text = read_text(tree / path) if inside else None
    if text is None:
        raise Refused(f"{seen[-1] if seen else 'the configuration'} names {path}, which is not in the source")
    texts = [text]
    for line in requirement_lines(text):
        if re.match(r"(-e|--editable)\b|\.\.?(/|\s|\[|$)|file:", line):
            raise Refused(
                f"{path} installs from a path: {line.split(' --hash')[0]}",
                remedy="releases share a virtualenv: keep the project itself out of its requirements file",
            )
        include = re.match(r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", line)
        if include:
            name = os.path.normpath(os.path.join(os.path.dirname(path), include.group(1)))
            if name not in (*seen, path):
                texts += requirement_texts(tree, name, (*seen, path))
    return tuple(texts)


def venv_key(python: str, machine: str, source: Dependencies, config: Config) -> str:
    """Return the key of a virtualenv: what goes into it, and which Python it is made from."""
    texts = [*source.texts, *([config.server_requirements] if source.server else [])]
    texts += [config.python] if config.python != Config.python else []
    return f"cpython-{python.replace('.', '')}-{machine}-{hashlib.sha256(canonical(texts)).hexdigest()[:12]}"


def venv_base(name: str) -> str:
    """Return the key of a virtualenv: KEY.2 is made where KEY is damaged and a release runs from it."""
    return name.partition(".")[0]


def pip_remedy(output: str) -> str:
    for sign, remedy in (
        (
            "DO NOT MATCH THE HASHES",
            "a package is not the one in the lock file: make the lock again, or mend the index",
        ),
        ("equires? a different [Pp]ython|Requires-Python", "the lock file is for another Python than this host's"),
        ("No matching distribution|Could not find a version", "the index has no such version for this Python"),
        ("Connection|Temporary failure in name|timed out|Max retries|SSLError|certificate", "is the index reachable?"),
        ("No space left", FULL),
        ("ensurepip is not", "install python3-venv"),
    ):
        if re.search(sign, output):
            return remedy
    return ""

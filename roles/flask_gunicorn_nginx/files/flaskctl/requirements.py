"""What a source asks to be installed, and the key of its virtualenv. Reads the source, changes nothing."""

from __future__ import annotations

import codecs
import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from flaskctl.errors import Refused
from flaskctl.files import file_sha256, inventory
from flaskctl.project import build_texts, elsewhere, is_project
from flaskctl.release import DEFAULTS, Config, canonical

# -e and --editable too: what stands there is copied, for releases share a virtualenv
PATH = re.compile(
    r"(?:-e|--editable)[\s=]*(?!\S*://)(?P<editable>[^\s\[;]+)"
    r"|(?P<plain>(?:file:|\.{1,2}(?=[/\s\[;]|$)|/|(?!-)[\w.-]+/)[^\s\[;]*)"
)
# what PowerShell and Notepad put before a text; UTF-32's first: UTF-16's begins like it
BOMS = (
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def requirement_lines(text: str) -> list[str]:
    """Return the lines of a requirements file, continuations joined, comments gone, whatever editor wrote it."""
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


class Dependencies(NamedTuple):
    """What a source asks to be installed. `texts` decide the key of its virtualenv."""

    file: str | None  # its requirements file; None: the project itself names its dependencies
    texts: tuple[str, ...]
    project: bool  # it has a pyproject.toml or setup.py that can be installed
    server: bool  # it does not name all that serves it: what is missing of the role's own goes in
    hashed: bool
    alone: bool = False  # the source has no other file: it was a requirement, not a directory
    paths: bool = False  # it installs from paths inside the source, perhaps the project itself (-e .)

    @property
    def warning(self) -> str:
        if not self.file:
            return "the project has no requirements file: its dependencies are not locked"
        quiet = self.hashed or self.alone or not any(requirement_lines(text) for text in self.texts)
        return "" if quiet else f"{self.file} has no hashes: what is installed is up to the index"


def dependencies_of(tree: Path, requirements: str, needs: Collection[str] = ("gunicorn",)) -> Dependencies:
    """Read what the source in `tree` asks for, or say what is missing in it; `needs` is what serves it."""
    locked = (tree / requirements).is_file()
    project = is_project(tree, locked)
    if locked:
        texts = requirement_texts(tree, requirements)
        lines = [line for text in texts for line in requirement_lines(text)]
        server = not set(needs) <= set(named(lines))
        paths = {os.path.normpath(path) for line in lines if (path := path_in(line))}
        itself = "." in paths
        texts += build_texts(tree) if itself else ()
        texts += tuple(content(tree / path) for path in sorted(paths - {"."}))
        hashed = any("--hash" in line for line in lines)
        alone = not any(path.is_file() for path in tree.iterdir() if path.name != requirements)
        return Dependencies(requirements, texts, project or itself, server, hashed, alone, bool(paths))
    if project and requirements == DEFAULTS["requirements"]:
        return Dependencies(None, build_texts(tree), project=True, server=True, hashed=False)
    what = f"the source has no {requirements}" + ("" if project else ", and no pyproject.toml of a project")
    others = f"; there is {', '.join(found)}" if (found := elsewhere(tree)) else ""
    remedy = (
        "add the file to the source, name the right one in flask_gunicorn_nginx_requirements, or take the directory"
        " that holds it as source"
    )
    raise Refused(what + others, remedy=remedy)


def path_in(line: str) -> str:
    """Return the path from which a line of a requirements file installs; empty where it names a package or a URL."""
    found = PATH.match(line)
    return (found["editable"] or found["plain"]) if found else ""


def content(path: Path) -> str:
    """Return what changes with a directory or file of the source that is installed as a package of its own."""
    return canonical(inventory(path)).decode() if path.is_dir() else file_sha256(path)


def requirement_texts(tree: Path, path: str) -> tuple[str, ...]:
    """Return the text of a requirements file and of those that it includes, all inside the source."""
    return tuple(requirement_files(tree, path, ()).values())


def requirement_files(tree: Path, path: str, seen: tuple[str, ...] = ()) -> dict[str, str]:
    """Return the text of a requirements file and of those that it includes by path, all inside the source."""
    inside = os.path.realpath(tree / path).startswith(os.path.realpath(tree) + os.sep)
    text = read_requirements(tree / path) if inside else None
    if text is None:
        raise Refused(f"{seen[-1] if seen else 'the configuration'} names {path}, which is not in the source")
    texts = {path: text}
    for line in requirement_lines(text):
        check_path(tree, path, line)
        include = re.match(r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", line)
        if include and "://" not in include.group(1):
            name = os.path.normpath(os.path.join(os.path.dirname(path), include.group(1)))
            if name not in (*seen, path):
                texts.update({**requirement_files(tree, name, (*seen, path)), **texts})
    return texts


def check_path(tree: Path, path: str, line: str) -> None:
    """Refuse a line that installs from a path outside of the source, or from one where nothing is to install."""
    named = path_in(line)
    if not named:
        return
    there, root = Path(os.path.realpath(tree / named)), Path(os.path.realpath(tree))
    fits = there.is_file() or (there / "pyproject.toml").is_file() or (there / "setup.py").is_file()
    if named.startswith("file:") or root not in (there, *there.parents) or not fits:
        raise Refused(
            f"{path} installs from a path: {line.split(' --hash')[0]}",
            remedy="put that project or wheel into the source, and write its path from there: ./PATH",
        )


def read_requirements(path: Path) -> str | None:
    """Return the text of a requirements file in the encoding that its first bytes tell, as pip does; else UTF-8."""
    try:
        raw = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    for mark, encoding in BOMS:
        if raw.startswith(mark):
            return raw[len(mark) :].decode(encoding, "replace")
    return raw.decode("utf-8", "replace")


def venv_key(python: str, machine: str, source: Dependencies, config: Config) -> str:
    """Return the key of a virtualenv: what goes into it, and which Python it is made from."""
    texts = [*source.texts, *([config.server_requirements] if source.server else [])]
    texts += [config.python] if config.python != DEFAULTS["python"] else []
    return f"cpython-{python.replace('.', '')}-{machine}-{hashlib.sha256(canonical(texts)).hexdigest()[:12]}"


def venv_base(name: str) -> str:
    """Return the key of a virtualenv: KEY.2 is made where KEY is damaged and a release runs from it."""
    return name.partition(".")[0]

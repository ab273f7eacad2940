#!/usr/bin/python3 -I
"""flaskctl: the release engine of Flask Fleet, on the host.

A release (code, dependencies, configuration) is immutable; systemd holds the socket that two releases can share. So a
release is staged beside the one that serves, started on the same socket, proves itself there, and only then becomes
`current`; the old one is drained. A rollback is the same with an older id. This is the only program that moves traffic.

How to read it: pure functions decide (parts 1 to 3), `Host` is the seam to systemd, processes and the clock (part 4),
`App` carries the decisions out (part 5), the command line stands at the end (part 6).
"""

from __future__ import annotations

import argparse
import bisect
import calendar
import contextlib
import dataclasses
import datetime
import errno
import fcntl
import hashlib
import io
import json
import math
import os
import pwd
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, NoReturn

Json = dict[str, Any]

APP_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
RELEASE_ID = re.compile(r"[0-9a-f]{12}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
RESERVED = {"FLASKFLEET_RELEASE", "FLASKFLEET_TRY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"} | {
    f"LISTEN_{x}" for x in ("FDS", "PID", "FDNAMES")
}
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Where a test may kill flaskctl (Host.step); each stands just before what it names.
STAGE_STEPS = ("unpack", "venv", "dependencies", "venv-complete", "build", "manifest", "units", "publish", "staged")
TRY_STEPS = ("try-start", "try-stop")
LEASE_STEPS = ("lease-take", "lease-drop")
RESTART_STEPS = ("restart-twin", "restart-first", "restart-again", "restart-done")
MARK_STEPS = ("mark-drained", "mark-maintenance")
PROOF_STEPS = ("intent", "start", "started", "current", "previous", "verify", "drain", "timers", "drained")
END_STEPS = ("audit", "done")
REMOVE_STEPS = ("prune-release", "prune-venv", "remove-stop", "remove-files")
STEPS = (*STAGE_STEPS, *TRY_STEPS, *LEASE_STEPS, *MARK_STEPS, *RESTART_STEPS, *PROOF_STEPS, *END_STEPS, *REMOVE_STEPS)

SETTLE_SECONDS = 1.0  # how long a release must live after READY before `current` moves to it
LOCK_SECONDS = 60.0  # how long a rollout waits for what a killed one has left running on the host
VERIFY_SECONDS = 10.0  # how long nginx may take to answer with the release that was activated
# systemd drops a whole EnvironmentFile for one character that it holds invalid: surrogates and noncharacters
UNFIT = re.compile(
    "[\ud800-\udfff\ufdd0-\ufdef" + "".join(chr(p << 16 | 0xFFFE | n) for p in range(17) for n in (0, 1)) + "]"
)
HANGS = "it was not ready in time (TimeoutStartSec): it hangs at import or in its health check"
PAGE = """\
<!doctype html>
<meta name="viewport" content="width=device-width">
<title>Maintenance</title>
<p>This service is being maintained. Please come back in a few minutes.</p>
"""
SLOWER_SECONDS = 0.05  # less than that is no slower, whatever the ratio: of 2 ms and 6 ms nobody takes note
SLOWER_SHARE = 0.05  # a release is slow when so much more of its traffic takes longer than the limit
FIRST_PERSON = 1000  # uid: below are those of the system (UID_MIN in login.defs)
CERTIFICATE_DAYS = 7  # with less left `status` asks for a new one
QUIET_SECONDS = 3600  # after so long without a sign of life `status` asks whether a rollout is still there
FULL = "the disk is full: make room, flaskctl APP prune helps"
MAX_MEMBERS = 50_000
MAX_UNPACKED = 2 * 1024**3  # bytes
MAX_ENTRY = 128 * 1024  # bytes of NAME=value and its end, in the kernel: MAX_ARG_STRLEN
MAX_CREDENTIAL = 1024**2  # bytes, in systemd


class Refused(Exception):
    """flaskctl will not, or could not: what, the evidence, and what a person can do about it."""

    code = 1

    def __init__(self, msg: str, detail: str = "", remedy: str = "") -> None:
        super().__init__(msg)
        self.msg, self.detail, self.remedy = msg, detail, remedy


class Usage(Refused):
    """The command line makes no sense."""

    code = 2


class Busy(Refused):
    """Another flaskctl holds the lock, or another rollout the lease."""

    code = 75


# ---------------------------------------------------------------------------------------------------------------------
# 1. What a release is: configuration, identity, environment, requirements
# ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Config:
    """What `stage` is told beside the archive. python and what follows say how to build, or who: no part of the id."""

    gunicorn_conf: str = ""
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    credentials: dict[str, str] = dataclasses.field(default_factory=dict)
    requirements: str = "requirements.txt"
    server_requirements: str = ""  # the role's own Gunicorn, for a source that names none
    static_dir: str = ""
    service: str = ""
    processes: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)  # name: service text, timer text
    python: str = "python3"
    index_url: str = ""
    ca_bundle: str = ""
    notes: dict[str, str] = dataclasses.field(default_factory=dict)  # by, from, revision

    IDENTITY = ("gunicorn_conf", "requirements", "server_requirements", "static_dir", "service", "processes")


def parse_config(text: str) -> Config:
    """Read the configuration, a JSON object. Refused names what is wrong in it; a value is never shown."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Refused(f"the configuration is not JSON: {error}") from None
    fields = [field.name for field in dataclasses.fields(Config)]
    unknown = sorted(set(data) - set(fields)) if isinstance(data, dict) else ["no JSON object"]
    if unknown:
        raise Refused(f"unknown in the configuration: {', '.join(unknown)}", remedy=f"known: {', '.join(fields)}")
    for name, value in data.items():
        if name == "processes":
            ok = isinstance(value, dict) and all(APP_NAME.match(p) and is_process(units) for p, units in value.items())
            wanted = 'an object of {"service": text, "timer": text} objects, with names like `worker`'
        elif name in ("environment", "credentials", "notes"):
            ok, wanted = is_text_map(value), "an object of strings"
        else:
            ok, wanted = isinstance(value, str), "a string"
        if not ok:
            raise Refused(f"{name} in the configuration must be {wanted}")
    config = Config(**data)
    check_environment(config.environment)
    check_credentials(config.credentials)
    for name in ("requirements", "static_dir"):
        path = PurePosixPath(data.get(name, ""))
        if path.is_absolute() or ".." in path.parts:
            raise Refused(f"{name} must be a path inside the source, not {str(path)!r}")
    return config


def is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


def is_process(value: object) -> bool:
    return is_text_map(value) and isinstance(value, dict) and {"service"} <= set(value) <= {"service", "timer"}


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse what systemd would skip, misread or fail on; by name, since the value may be a secret."""
    for name, value in environment.items():
        where = f"environment variable {name!r}"
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name):
            raise Refused(f"{where}: the name must be letters, digits and _, and not begin with a digit")
        if name in RESERVED:
            raise Refused(f"{where} is set by systemd for each release", remedy="take it out of the environment")
        if "\0" in value:
            raise Refused(f"{where}: the value holds a NUL byte, which no environment can carry")
        if UNFIT.search(value):
            raise Refused(f"{where}: the value holds a character that systemd does not take for UTF-8 text")
        if len(name) + 1 + len(value.encode()) + 1 > MAX_ENTRY:
            raise Refused(f"{where}: longer than 128 KiB, no process can be started with it", remedy="use a credential")


def check_credentials(credentials: Mapping[str, str]) -> None:
    """Refuse what systemd would not load, or what could leave the directory or the line it stands in."""
    for name, value in credentials.items():
        if not re.match(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z", name):
            raise Refused(f"credential {name!r}: the name must be letters, digits, _ . and -, 64 at most")
        if UNFIT.search(value):
            raise Refused(f"credential {name!r}: the value holds a character that is not UTF-8 text")
        if len(value.encode()) > MAX_CREDENTIAL:
            raise Refused(f"credential {name!r}: larger than 1 MiB, which systemd refuses")


def environment_file(environment: Mapping[str, str]) -> str:
    """Return the text of an EnvironmentFile= that gives back each value byte for byte."""
    return "".join(f"{name}={quoted(value)}\n" for name, value in sorted(environment.items()))


def quoted(value: str) -> str:
    for special in '\\"`$':  # the backslash first
        value = value.replace(special, "\\" + special)
    return f'"{value}"'


def credentials_drop_in(app: str, release: str, credentials: Iterable[str]) -> str:
    lines = (f"LoadCredential={n}:/srv/{app}/releases/{release}/credentials/{n}" for n in sorted(credentials))
    return "\n".join(["# written by flaskctl with the release", "[Service]", *lines, ""])


def canonical(data: object) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def release_id(archive_sha256: str, config: Config) -> str:
    """Return the identity of code plus configuration: the same input gives the same id, on every host.

    The id is public; PBKDF2 makes it dear to guess a short secret from it.
    """
    secret = canonical({"environment": config.environment, "credentials": config.credentials})
    parts: Json = {name: getattr(config, name) for name in Config.IDENTITY}
    parts["archive_sha256"] = archive_sha256
    parts["secret"] = hashlib.pbkdf2_hmac("sha256", secret, b"flaskctl " + archive_sha256.encode(), 100_000).hex()
    return hashlib.sha256(canonical(parts)).hexdigest()[:12]


def changes(old: Config, new: Config) -> Json:
    """Return which names differ between two configurations; never a value."""
    result: Json = {}
    for field in ("environment", "credentials"):
        was, now = getattr(old, field), getattr(new, field)
        entry = {
            "added": sorted(set(now) - set(was)),
            "removed": sorted(set(was) - set(now)),
            "changed": sorted(name for name in set(was) & set(now) if was[name] != now[name]),
        }
        if any(entry.values()):
            result[field] = entry
    settings = [name for name in Config.IDENTITY if getattr(old, name) != getattr(new, name)]
    return {**result, "settings": settings} if settings else result


def requirement_lines(text: str) -> list[str]:
    """Return the lines of a requirements file, continuations joined, comments gone."""
    joined = re.sub(r"\\\r?\n", " ", text)
    return [line for line in (re.sub(r"(^|\s)#.*", "", raw).strip() for raw in joined.splitlines()) if line]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(line: str) -> str | None:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return normalized(match.group()) if match else None


def without(requirements: str, installed: Iterable[str]) -> str:
    """Return the requirement lines whose package is not installed yet."""
    have = {normalized(name) for name in installed}
    return "".join(f"{line}\n" for line in requirement_lines(requirements) if requirement_name(line) not in have)


@dataclasses.dataclass(frozen=True)
class Wants:
    """What a source asks to be installed. `texts` decide the key of its virtualenv."""

    file: str | None  # its requirements file; None: the project itself names its dependencies
    texts: tuple[str, ...]
    project: bool  # it has a pyproject.toml or setup.py that can be installed
    server: bool  # it names no Gunicorn: the role's own goes in
    hashed: bool

    @property
    def warning(self) -> str:
        if not self.file:
            return "the project has no requirements file: its dependencies are not locked"
        lines = any(requirement_lines(text) for text in self.texts)
        return "" if self.hashed or not lines else f"{self.file} has no hashes: what is installed is up to the index"


def wants(tree: Path, requirements: str) -> Wants:
    """Read what the source in `tree` asks for, or say what is missing in it."""
    pyproject, setup = read_text(tree / "pyproject.toml"), read_text(tree / "setup.py")
    project = setup is not None or bool(re.search(r"(?m)^\[(project|build-system)\]", pyproject or ""))
    if (tree / requirements).is_file():
        texts = requirement_texts(tree, requirements)
        lines = [line for text in texts for line in requirement_lines(text)]
        server = "gunicorn" not in map(requirement_name, lines)
        return Wants(requirements, texts, project, server, any("--hash" in line for line in lines))
    if project and requirements == Config.requirements:
        texts = tuple(text for text in (pyproject, setup, read_text(tree / "setup.cfg")) if text is not None)
        return Wants(None, texts, project=True, server=True, hashed=False)
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


def venv_key(python: str, machine: str, source: Wants, server_requirements: str) -> str:
    texts = [*source.texts, *([server_requirements] if source.server else [])]
    return f"cpython-{python.replace('.', '')}-{machine}-{hashlib.sha256(canonical(texts)).hexdigest()[:12]}"


def venv_base(name: str) -> str:
    """Return the key of a virtualenv: KEY.2 is made where KEY is damaged and a release runs from it."""
    return name.partition(".")[0]


# ---------------------------------------------------------------------------------------------------------------------
# 2. Archives and trees
# ---------------------------------------------------------------------------------------------------------------------


def unpack(archive: IO[bytes], name: str, dest: Path, members: int = MAX_MEMBERS, size: int = MAX_UNPACKED) -> None:
    """Unpack a .tar.gz into the empty directory `dest`: files, directories, links that stay inside. Refuse all else.

    Nothing is ever written through a link: links are made last, when every file stands, and then looked at again.
    """
    import gzip  # here and below: `status` has no use for them
    import tarfile
    import zlib

    kinds = {"": "directory"}
    links: dict[str, str] = {}
    try:
        with (
            gzip.GzipFile(fileobj=archive) as unzipped,
            tarfile.open(fileobj=unzipped, mode="r|", encoding="utf-8") as tar,
        ):
            for member in tar:
                path = member_path(member.name, name)
                make_parents(dest, os.path.dirname(path), kinds, f"{name}: {path}")
                if member.isdir():
                    if kinds.setdefault(path, "new") == "new":
                        (dest / path).mkdir(mode=0o755)
                        kinds[path] = "directory"
                    elif kinds[path] != "directory":
                        raise Refused(f"{name}: {path} is in it twice")
                    continue
                if path in kinds:
                    raise Refused(f"{name}: {path} is in it twice")
                if len(kinds) >= members:
                    raise Refused(f"{name} holds more than {members} members", remedy="leave data out of the source")
                kinds[path] = "file"
                size -= member.size
                if size < 0:
                    raise Refused(
                        f"{name} unpacks to too much: {path} is over the limit", remedy="leave data out of it"
                    )
                if member.issym():
                    kinds[path], links[path] = "link", member.linkname
                elif member.islnk():
                    source = member_path(member.linkname, name)
                    if kinds.get(source) != "file":
                        raise Refused(f"{name}: {path} is a hard link to {member.linkname}, no file before it")
                    shutil.copy(dest / source, dest / path)
                elif member.isreg() and not member.issparse():
                    content = tar.extractfile(member)
                    assert content is not None
                    with open(dest / path, "xb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
                        os.fchmod(file.fileno(), 0o755 if member.mode & 0o111 else 0o644)
                else:
                    raise Refused(f"{name}: {path} is neither file, directory nor link")
            while unzipped.read(1 << 20):  # the checksum stands at the very end
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise Refused(f"{name} is truncated or corrupt: {error}", remedy="send it again") from None
    for path, target in links.items():
        os.symlink(target, dest / path)
    inside = os.path.realpath(dest)
    for path, target in links.items():
        if os.path.isabs(target) or not (os.path.realpath(dest / path) + os.sep).startswith(inside + os.sep):
            raise Refused(f"{name}: {path} is a link to {target}, out of the archive")


def member_path(raw: str, archive: str) -> str:
    path = PurePosixPath(raw)
    if path.is_absolute() or ".." in path.parts or "\0" in raw:
        raise Refused(f"{archive}: {raw!r} points out of the archive")
    return "" if str(path) == "." else str(path)


def make_parents(dest: Path, parent: str, kinds: dict[str, str], what: str) -> None:
    if parent not in kinds:
        make_parents(dest, os.path.dirname(parent), kinds, what)
        (dest / parent).mkdir(mode=0o755)
        kinds[parent] = "directory"
    if kinds[parent] != "directory":
        raise Refused(f"{what} lies below {parent}, which is no directory")


def inventory(tree: Path) -> Json:
    """Return what is in `tree`, by path: directories ("a/") as [mode], links, files as [sha256, mode]; no byte code.

    A name need not be UTF-8: surrogates stand for its other bytes, here and in the manifest.
    """
    found: Json = {}
    for directory, names, files in os.walk(tree):
        names[:] = [name for name in names if name != "__pycache__"]
        relative = os.path.relpath(directory, tree)
        found[f"{relative}/"] = [mode_of(directory)]
        for name in [*files, *(name for name in names if os.path.islink(os.path.join(directory, name)))]:
            path = os.path.join(directory, name)
            key = os.path.normpath(os.path.join(relative, name))
            found[key] = ["link", os.readlink(path)] if os.path.islink(path) else [file_sha256(path), mode_of(path)]
    return found


def mode_of(path: str | Path) -> str:
    return oct(os.stat(path).st_mode & 0o7777)


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return stream_sha256(file)


def stream_sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def mirror(source: Path, dest: Path, stays: Callable[[str], bool]) -> None:
    """Make `dest` hold what `source` holds, file by file, each in one step: an app that runs from there misses none.

    `stays`: whether something in `dest` that `source` does not hold is left there.
    """
    wanted, found = inventory(source), inventory(dest)
    for name in sorted(set(found) - set(wanted)):
        if not stays(name.rstrip("/")):
            erase(dest / name)
    for name in sorted(name for name in wanted if found.get(name) != wanted[name]):
        if name.endswith("/"):
            (dest / name).mkdir(exist_ok=True)
            (dest / name).chmod(int(wanted[name][0], 8))
        else:
            beside = dest / f"{name}.new~"
            erase(beside)
            shutil.copy2(source / name, beside, follow_symlinks=False)
            os.replace(beside, dest / name)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Put a whole file in place, or leave the old one: no reader and no crash sees a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    erase(beside)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            os.fchmod(descriptor, mode)
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.replace(beside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            erase(beside)
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_json(path: Path, data: Json, mode: int = 0o644) -> None:
    write(path, json.dumps(data, indent=1, sort_keys=True) + "\n", mode)


def link(path: Path, target: str) -> None:
    """Point a link at `target`, in one step and for good."""
    beside = path.with_name(f".{path.name}.new")
    erase(beside)
    os.symlink(target, beside)
    os.replace(beside, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def erase(path: Path) -> bool:
    """Remove a file, a link or a tree; True if there was one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return True
    try:
        path.unlink()
    except FileNotFoundError:
        return False
    return True


def read_text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def read_json(path: Path) -> Json | None:
    """Return the JSON object in a file; None where there is no file, or no object in it."""
    try:
        data = json.loads(read_text(path) or "null")
    except ValueError:
        return None
    return data if isinstance(data, dict) else None


def differs(path: Path, text: str, mode: int) -> bool:
    """Whether a file is not just so: content, mode, owner."""
    try:
        stat = os.lstat(path)
        with open(path, encoding="utf-8", newline="") as file:
            return stat.st_mode != 0o100000 | mode or stat.st_uid != os.geteuid() or file.read() != text
    except (OSError, UnicodeError):
        return True


def static_target(home: Path, static_dir: str) -> str | None:
    """Return where the link to the static files of a release points, relative to the release; None: no such link."""
    packages = sorted((home / "venv" / "lib").glob("python3*/site-packages"))
    candidates = [tree / static_dir for tree in (home / "app", home / "site", *packages)] if static_dir else []
    return next((str(path.relative_to(home)) for path in candidates if path.is_dir()), None)


# ---------------------------------------------------------------------------------------------------------------------
# 3. Decisions
# ---------------------------------------------------------------------------------------------------------------------


class Intent(NamedTuple):
    """What an activation is about to do, on disk until it is done: a later flaskctl finishes or undoes it."""

    to: str
    origin: str | None  # what was current; "from" in the file
    previous: str | None
    how: str = "activate"
    began: str = ""

    def as_json(self) -> Json:
        return {"to": self.to, "from": self.origin, "previous": self.previous, "how": self.how, "began": self.began}


@dataclasses.dataclass(frozen=True)
class State:
    """What stands on the host."""

    current: str | None
    previous: str | None
    running: tuple[str, ...] = ()  # starting and stopping ones too
    active: tuple[str, ...] = ()  # those that serve
    jobs: tuple[str, ...] = ()  # those with a scheduled job under way
    intent: Intent | None = None


class Recovery(NamedTuple):
    action: str = "none"  # or "finish", "undo", "relink", "stop"
    release: str | None = None
    stop: tuple[str, ...] = ()
    why: str = ""


def plan_recovery(state: State, last: str | None) -> Recovery:
    """Decide what to put right that an earlier flaskctl, cut at any point, or a careless hand has left.

    `last`: the release that was activated last by the audit log, if it is still there.
    """
    intent = state.intent
    if intent:
        # with neither running (after a reboot, say) the one that has passed its gate is the one to start
        if state.current == intent.to and (intent.to in state.running or intent.origin not in state.running):
            return Recovery("finish", intent.to, why=f"the activation of {intent.to} was cut after the switch")
        stop = tuple(release for release in state.running if release == intent.to and release != intent.origin)
        return Recovery("undo", intent.origin, stop, f"the activation of {intent.to} was cut before the switch")
    if state.current is None:
        serving = (*state.active, *state.running)
        found = serving[0] if serving and last not in serving else last
        return Recovery("relink", found, why=f"`current` was missing, now {found} again") if found else Recovery()
    strays = tuple(release for release in state.running if release != state.current)
    if strays and state.current in state.active:
        return Recovery("stop", state.current, strays, f"{', '.join(strays)} ran beside the current release")
    return Recovery()


class Activation(NamedTuple):
    start: bool
    switch: bool
    drain: tuple[str, ...]


def plan_activation(state: State, to: str) -> Activation:
    others = tuple(release for release in state.running if release != to)
    return Activation(to not in state.active, state.current != to, others)


def lineage(events: Iterable[Json], previous: str | None, current: str | None) -> list[str]:
    """Return the releases that led to the current one, oldest first. A rollback cuts off what lies above its target."""
    line: list[str] = []
    for event in events:
        release = event.get("release")
        if event.get("event") == "rollback" and release in line:
            del line[line.index(release) + 1 :]
        elif event.get("event") in ("activate", "rollback") and isinstance(release, str):
            line = [item for item in line if item != release] + [release]
    if current in line:
        del line[line.index(current) + 1 :]
    elif current:  # an audit log that was lost, or that knows nothing of it
        line += [previous] if previous and previous not in line else []
        line.append(current)
    return line


def rollback_target(line: Sequence[str], current: str | None, good: Iterable[str]) -> str | None:
    """Return the nearest release before the current one in its line that is there and was not refused."""
    usable = set(good)
    return next((release for release in reversed(line) if release != current and release in usable), None)


class Release(NamedTuple):
    """A complete release, from its manifest."""

    id: str
    when: str = ""
    by: str = ""
    origin: str = ""
    revision: str = ""
    archive_sha256: str = ""
    venv: str = ""
    refused: str = ""  # why it was, "" if it was not

    def as_json(self) -> Json:
        fields = self._asdict()
        return {**fields, "from": fields.pop("origin")}


class Pruning(NamedTuple):
    releases: tuple[str, ...]
    venvs: tuple[str, ...]


def plan_pruning(releases: Sequence[Release], venvs: Iterable[str], keep: int, protected: Iterable[str]) -> Pruning:
    """Keep the newest `keep` good releases, the newest refused one (to look at), and each protected one."""
    newest = sorted(releases, key=lambda release: (release.when, release.id), reverse=True)
    kept = {release.id for release in [r for r in newest if not r.refused][:keep]}
    kept |= {release.id for release in [r for r in newest if r.refused][:1]} | set(protected)
    used = {venv_base(release.venv) for release in releases if release.id in kept}
    gone = tuple(release.id for release in reversed(newest) if release.id not in kept)
    return Pruning(gone, tuple(sorted(venv for venv in venvs if venv_base(venv) not in used)))


def essence(journal: str, limit: int = 30) -> str:
    """Return what a person wants to see of a failure: the last tracebacks, from the app's own code on, or lines."""
    lines = [line.rstrip() for line in journal.splitlines()]
    blocks: dict[str, bool] = {}  # whether the app's code is in it, by text: each worker says the same
    for start in [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]:
        end = start + 1
        while end < len(lines) and (lines[end].startswith((" ", "\t")) or not lines[end]):
            end += 1
        frames = [number for number in range(start, end) if lines[number].startswith('  File "')]
        own = [number for number in frames if re.search(r"/releases/[^/]+/(app/|site/|gunicorn.conf)", lines[number])]
        block = [lines[start], *lines[own[0] if own else start + 1 : end + 1]]
        if "HaltServer" not in block[-1]:  # Gunicorn's way to say that a worker said more
            blocks["\n".join(block)] = bool(own)
    found = [block for block, own in blocks.items() if own or not any(blocks.values())]
    return "\n".join(found[-2:] if found else lines[-limit:])


# what belongs to the server, its socket and its supervision; a command in the same sandbox has no use for it
NOT_SERVER = r"(?!Type|Notify|Exec(?!Paths)|Sockets|Restart|Timeout|KillMode|Watchdog|OOMPolicy|RemainAfter)\w"
# what belongs to the shared socket, or would start again what shall be seen to fail
NOT_TRIED = r"(?!Sockets|Restart|Exec(?!Paths))\w"
KNOWN_SINCE = {"NoExecPaths": 248, "ExecPaths": 248, "PrivateIPC": 248, "SocketBindDeny": 249, "SocketBindAllow": 249}


def specified(unit: str, text: str, percent: str = "%") -> str:
    """Return a unit's text with what systemd would put for its specifiers."""
    app, release = unit[: -len(".service")].split("@")
    specifiers = {"%i": release, "%I": release, "%p": app, "%n": unit, "%N": f"{app}@{release}", "%%": percent}
    return re.sub(r"%[iIpnN%]", lambda match: specifiers[match.group()], text)


def service_settings(unit: str, texts: Iterable[str], systemd: int) -> Iterator[tuple[str, str]]:
    """Yield what stands in [Service] of a release's unit, as a transient unit of this systemd may be given it.

    `unit` is app@release.service, `texts` its file and drop-ins, `systemd` the version of the one that runs.
    """
    section = ""
    for line in re.sub(r"\\\n", " ", "\n".join(texts)).splitlines():
        key, equals, value = (part.strip() for part in line.partition("="))
        if line.startswith("["):
            section = line.strip()
        elif section == "[Service]" and equals and key[0] not in "#;" and KNOWN_SINCE.get(key, 0) <= systemd:
            yield key, specified(unit, value)


def mount_points(settings: Iterable[tuple[str, str]]) -> list[str]:
    """Return where the settings of a unit mount something: systemd makes these paths on the host where they are not."""
    found = []
    for key, value in settings:
        if key not in ("BindPaths", "BindReadOnlyPaths", "MountImages", "TemporaryFileSystem"):
            continue
        words = shlex.shlex(value, posix=True)
        words.whitespace_split, words.escape, words.commenters = True, "", ""
        with contextlib.suppress(ValueError):  # a quote without an end: systemd takes nothing of it either
            for word in words:
                fields = [part.replace("\\:", ":") for part in re.split(r"(?<!\\):", word.lstrip("-+"))]
                here = 0 if key == "TemporaryFileSystem" or len(fields) < 2 or not fields[1] else 1
                found.append(os.path.normpath(fields[here]))
    return found


def lies_on(path: str, points: Iterable[str]) -> bool:
    """Return whether a path is one of the mount points, leads to one, or lies below one."""
    return any(f"{point}/".startswith(f"{path}/") or f"{path}/".startswith(f"{point}/") for point in points)


def literally(command: Sequence[str], systemd: int) -> list[str]:
    """Return the end of a systemd-run call for `command`, each word as it stands: an older one expands $NAME."""
    if systemd >= 254:
        return ["--expand-environment=no", "--", *command]
    return ["--", *(word.replace("$", "$$") for word in command)]


def try_argv(unit: str, texts: Iterable[str], systemd: int, name: str, how: str) -> list[str]:
    """Return the systemd-run call that starts the release of `unit` under another name, on a socket of its own.

    Type=notify is among the settings: so the call ends when the release has passed its gate, or has failed.
    """
    settings = list(service_settings(unit, texts, systemd))
    argv = ["systemd-run", "--quiet", f"--unit={name}"]
    argv += [f"--property={key}={value}" for key, value in settings if re.match(NOT_TRIED, key)]
    # a directory in /run that the releases share must not go when this one stops
    argv += ["--property=RuntimeDirectoryPreserve=yes", f"--setenv=FLASKFLEET_TRY={how}"]
    # Gunicorn's quick shutdown: nobody is connected, and the graceful one takes a second
    argv.append("--property=KillSignal=SIGQUIT")
    return argv + literally(
        [word for key, value in settings if key == "ExecStart" for word in shlex.split(value)], systemd
    )


def run_argv(unit: str, texts: Iterable[str], systemd: int, command: Sequence[str], name: str, tty: bool) -> list[str]:
    """Return the systemd-run call for `command` with the user, sandbox, environment and credentials of `unit`."""
    app, release = unit[: -len(".service")].split("@")
    argv = ["systemd-run", "--quiet", "--wait", "--collect", "--pty" if tty else "--pipe", f"--unit={name}"]
    settings = service_settings(unit, texts, systemd)
    argv += [f"--property={key}={value}" for key, value in settings if re.match(NOT_SERVER, key)]
    argv.append(f"--setenv=PATH=/srv/{app}/releases/{release}/venv/bin:{PATH}")
    return argv + literally(command, systemd)


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


def utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def busy_message(app: str, holder: Json | None) -> str:
    try:
        assert holder
        return "{user} holds the lock of {app}: `{command}`, pid {pid}, since {since}".format(app=app, **holder)
    except (AssertionError, KeyError, TypeError):
        return f"another flaskctl holds the lock of {app}"


def moment(when: object) -> int | None:
    """Return the seconds of a time that utc() wrote; None for one that cannot be read."""
    try:
        return calendar.timegm(time.strptime(str(when), "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None


def ago(when: object, now: float) -> str:
    then = moment(when)
    if then is None:
        return str(when)
    seconds = max(0, int(now) - then)
    return f"{when}, {seconds} s ago" if seconds < 120 else f"{when}, {seconds // 60} min ago"


HOLDER = ("id", "by", "from", "pid", "since")


def parse_holder(text: str | None) -> Json | None:
    """Read who rolls out, as the control node says it: {"id", "by", "from", "pid", "since"}, perhaps "takes_over"."""
    if text is None:
        return None
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    known = {*HOLDER, "takes_over"}
    if not isinstance(data, dict) or not data.get("id") or not set(data) <= known:
        raise Usage("--holder wants a JSON object with id, by, from, pid, since, perhaps takes_over")
    if not all(isinstance(value, (str, int)) for value in data.values()):
        raise Usage("--holder wants words and numbers")
    return {key: str(value) for key, value in data.items() if value not in ("", None)}


def plan_lease(lease: Json | None, holder: Json, now: str) -> Json | None:
    """Return the lease as the holder has it now; None where another rollout has it."""
    mine = lease is not None and lease.get("id") == holder["id"]
    if lease and not mine and lease.get("id") != holder.get("takes_over"):
        return None
    known = {key: holder[key] for key in HOLDER if key in holder}
    return {"since": now, **(lease if lease and mine else {}), **known, "seen": now}


def try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def lease_text(app: str, lease: Json, now: float) -> str:
    who = " on ".join(str(lease[key]) for key in ("by", "from") if lease.get(key)) or str(lease.get("id"))
    pid = f" (pid {lease['pid']})" if lease.get("pid") else ""
    since, seen = ago(lease.get("since"), now), ago(lease.get("seen"), now)
    return f"{who}{pid} rolls out {app} since {since}; last sign of life {seen}"


def replaced(maps: str) -> set[str]:
    """Return the libraries and the Python of a process, from its /proc/PID/maps, that are others on the disk now."""
    return set(re.findall(r"(?m)^\S+ +\S+ +\S+ +\S+ +\S+ +(/.*(?:\.so(?:\.[\d.]+)?|/python[\d.]*)) \(deleted\)$", maps))


def days_left(end_date: str, now: float) -> int | None:
    """Return for how many days a certificate is valid, from `openssl x509 -enddate`; None where that said nothing."""
    import ssl

    try:
        return int((ssl.cert_time_to_seconds(end_date.strip().partition("=")[2]) - now) // 86400)
    except ValueError:
        return None


def belongs(path: str, others: Iterable[str]) -> bool:
    """Whether a file that the role put in place is of this app, or of all: no other app has its name."""
    return re.split("[.@]", os.path.basename(path))[0] not in set(others)


class Traffic(NamedTuple):
    """What nginx passed to the app in some time: how many requests, how many 5xx, and the seconds each took, sorted."""

    requests: int
    errors: int
    times: Sequence[float] = ()  # without websockets, which last as they like

    @property
    def p95(self) -> float | None:
        """The seconds within which 95 % were answered; none where nothing was."""
        return self.times[-(-len(self.times) * 95 // 100) - 1] if self.times else None

    def share(self) -> float:
        """Return the errors in percent."""
        return 100 * self.errors / self.requests if self.requests else 0.0

    def slow(self, seconds: float) -> int:
        """Return how many took longer."""
        return len(self.times) - bisect.bisect_right(self.times, seconds)

    def as_json(self) -> Json:
        return {"requests": self.requests, "errors": self.errors, "p95": self.p95}

    def __str__(self) -> str:
        return f"{self.errors} of {self.requests} failed ({self.share():.2f} %)" + (
            f", 95 % within {self.p95:.3f} s" if self.p95 is not None else ""
        )


def traffic(entries: Iterable[Json], start: float, end: float) -> Traffic:
    """Sum up the entries of nginx's log in [start, end). What nginx answers itself, files say, is not the release's."""
    requests, errors, seconds = 0, 0, []
    for entry in entries:
        if start <= entry["time"] < end and entry.get("upstream_status", "-") not in ("", "-"):
            requests += 1
            errors += int(entry["status"]) >= 500
            seconds += [float(entry["seconds"])] if entry["status"] != 101 else []
    return Traffic(requests, errors, sorted(seconds))


def log_entry(line: bytes) -> Json | None:
    """Read one line of nginx's log, its time in seconds; None for one that is cut or is not ours."""
    try:
        entry = json.loads(line)
        return {**entry, "time": datetime.datetime.fromisoformat(entry["time"]).timestamp()}
    except (ValueError, KeyError, TypeError):
        return None


def lines_from_end(file: IO[bytes], block: int = 1 << 16) -> Iterator[bytes]:
    """Yield the lines of a file, the last one first; no more of it is read than they need."""
    position, rest = file.seek(0, os.SEEK_END), b""
    while position:
        size = min(block, position)
        position = file.seek(position - size)
        rest, *lines = (file.read(size) + rest).split(b"\n")
        yield from (line for line in reversed(lines) if line)
    if rest:
        yield rest


class Limits(NamedTuple):
    """How much worse a release may be: 5xx in percentage points, the time for 95 % as a ratio; and from how many on."""

    errors: float = 1.0
    slower: float = 2.0
    requests: int = 50


def worse(before: Traffic, after: Traffic, limits: Limits) -> str:
    """Return in what the traffic after a release is worse than the limits allow; nothing if it is not."""
    points = after.share() - before.share()
    if points > limits.errors:
        return f"{points:.2f} percentage points more requests fail, {limits.errors:g} may"
    if before.p95 is None or not after.times:
        return ""
    limit = max(before.p95 * limits.slower, before.p95 + SLOWER_SECONDS)
    slow, were = after.slow(limit), before.slow(limit)
    if not more_than_chance(were, len(before.times), slow, len(after.times), SLOWER_SHARE):
        return ""
    return (
        f"{slow} of {len(after.times)} requests take longer than {limit:.3f} s, {were} of {len(before.times)} did:"
        f" {limits.slower:g} times as long as 95 % took they may"
    )


def more_than_chance(old: int, of_old: int, new: int, of_new: int, rise: float) -> bool:
    """Whether a share has risen by more than `rise`, and by more than two samples of the same differ by chance.

    Three standard deviations of a difference of shares (two-proportion z-test, pooled): one false alarm in 700.
    """
    difference = new / of_new - old / of_old
    pooled = (old + new) / (of_old + of_new)
    chance = 3 * math.sqrt(pooled * (1 - pooled) * (1 / of_old + 1 / of_new))
    return difference > max(rise, chance)


def looks(seconds: int) -> list[int]:
    """Return after how many seconds a bake looks: early too, for a release that fails outright."""
    return [*(5 * 2**n for n in range(20) if 5 * 2**n < seconds), seconds]


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


# ---------------------------------------------------------------------------------------------------------------------
# 4. The seam: everything that is neither a decision nor a plain file
# ---------------------------------------------------------------------------------------------------------------------

Units = dict[str, dict[str, str]]  # properties by unit name
STOPPED = ("inactive", "failed")  # ActiveState


class Account(NamedTuple):
    """A user of this host."""

    uid: int
    gid: int
    home: str
    shell: str

    def as_made(self) -> bool:
        """Return whether it looks as the role makes it: a system user without home and shell."""
        return self.uid < FIRST_PERSON and self.home == "/nonexistent" and self.shell == "/usr/sbin/nologin"

    def __str__(self) -> str:
        return f"uid {self.uid}, gid {self.gid}"


class Done(NamedTuple):
    rc: int
    out: str = ""
    err: str = ""


class Answer(NamedTuple):
    """One HTTP answer; status 0 when there was none, `body` then says why."""

    status: int
    release: str
    body: str


class Host:
    """This machine. Tests put another one in its place: `root` moves all files, `run` is every process it starts."""

    root = Path("/")

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def run(self, argv: Sequence[str], **kwargs: Any) -> Done:
        """Run a program to its end, its output is text. One that is not there is rc 127."""
        try:
            done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, **kwargs)
        except FileNotFoundError:
            return Done(127, "", f"{argv[0]} is not installed")
        return Done(done.returncode, done.stdout, done.stderr)

    def attached(self, argv: Sequence[str]) -> int:
        """Run a program on our own input and output."""
        return subprocess.run(argv, check=False).returncode

    def become(self, argv: Sequence[str]) -> None:
        os.execvp(argv[0], list(argv))

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def is_root(self) -> bool:
        return os.geteuid() == 0

    def who(self) -> str:
        """Return the name of the person, behind sudo too."""
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name

    def account(self, name: str) -> Account | None:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        return Account(found.pw_uid, found.pw_gid, found.pw_dir, found.pw_shell)

    def mounts_below(self, path: Path) -> list[str]:
        """Return what is mounted below a path in the host's own view: to erase it would erase what is mounted."""
        lines = (read_text(self.path("/proc/self/mountinfo")) or "").splitlines()
        points = [re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]) for line in lines]
        return sorted(point for point in points if point.startswith(f"{path}/"))

    def give_way(self) -> None:
        """Let whatever serves users have the processors first, from here on and in all that is started from here."""
        os.nice(15)

    def machine(self) -> str:
        return os.uname().machine

    def python_version(self, python: str) -> str:
        """X.Y of an interpreter; asks a process only when it is not the one that runs here."""
        found = shutil.which(python)
        if found and os.path.realpath(found) == os.path.realpath(sys.executable):
            return f"{sys.version_info[0]}.{sys.version_info[1]}"
        done = self.run([python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        if done.rc:
            raise Refused(f"{python} does not run", done.err.strip(), "install it, or name another Python")
        return done.out.strip()

    def systemd_version(self) -> int:
        match = re.match(r"systemd (\d+)", self.run(["systemctl", "--version"]).out)
        return int(match.group(1)) if match else 0

    def systemctl(self, *args: str) -> Done:
        return self.run(["systemctl", *args])

    def each(self, verb: str, *units: str) -> dict[str, str]:
        """Start, stop or restart units, and return by unit the words of systemd for each that it refused.

        In one call a unit that cannot be loaded holds all others back (systemd 262). They start or stop side by side
        all the same: the calls that wait come when all have been asked.
        """
        for unit in units if len(units) > 1 and verb != "restart" else ():
            self.systemctl(verb, "--no-block", unit)
        done = {unit: self.systemctl(verb, unit) for unit in units}
        return {unit: found.err.strip() for unit, found in done.items() if found.rc}

    def up(self, *units: str) -> list[str]:
        """Return which of the units are not stopped: starting and stopping ones too."""
        shown = self.show(*units) if units else {}
        return [unit for unit in units if shown.get(unit, {}).get("ActiveState", "inactive") not in STOPPED]

    def show(self, *units: str) -> Units:
        """Return what systemd says of the units that match the names or patterns, in one call."""
        wanted = "Id,LoadState,LoadError,ActiveState,Result,UnitFileState,MainPID,NeedDaemonReload"
        found: Units = {}
        for block in self.systemctl("show", f"--property={wanted}", "--", *units).out.split("\n\n"):
            unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            found.update({unit["Id"]: unit} if "Id" in unit else {})
        return found

    def journal(self, unit: str, since: float) -> str:
        """Return what the unit's own processes wrote since then; what systemd said of it when they wrote nothing."""
        self.run(["journalctl", "--sync"])
        common = ["journalctl", "--no-pager", "-q", "-o", "cat", f"--since=@{since:.6f}"]
        text = self.run([*common, f"_SYSTEMD_UNIT={unit}"]).out
        return text if text.strip() else self.run([*common, "-u", unit]).out

    def children(self, pid: int) -> set[str]:
        """Return the processes that a master has forked; none where the kernel does not tell."""
        return set((read_text(self.path(f"/proc/{pid}/task/{pid}/children")) or "").split())

    def listening(self) -> set[tuple[str, int]]:
        """Return the IPv4 addresses that systemd listens on; for one who may not look into systemd, that anyone does.

        A socket unit whose address was changed under it stays "active" while systemd has closed its descriptor.
        """
        try:
            held = {os.readlink(path) for path in self.path("/proc/1/fd").iterdir()}
        except OSError:
            held = set()
        found = set()
        for line in (read_text(self.path("/proc/net/tcp")) or "").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and (not held or f"socket:[{fields[9]}]" in held):
                host, port = fields[1].split(":")
                found.add((".".join(str(byte) for byte in reversed(bytes.fromhex(host))), int(port, 16)))
        return found

    def http_get(self, scheme: str, port: int, host: str, path: str) -> Answer:
        """Ask the web server on this machine, as a client of `host` would."""
        import http.client
        import socket

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.sock = socket.create_connection(("127.0.0.1", port), 5)
            if scheme == "https":
                import ssl

                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            connection.request("GET", path, headers={"Host": host, "Connection": "close", "User-Agent": "flaskctl"})
            response = connection.getresponse()
            body = response.read(1000).decode("utf-8", "ignore")
            return Answer(response.status, response.headers.get("X-Release", ""), body)
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, "", f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    def step(self, name: str) -> None:
        """Be killed, or hang, where a test wants it; only where root made /run/flaskctl/allow-fault-injection."""
        assert name in STEPS, name
        wanted = (os.environ.get("FLASKCTL_KILL_AT"), os.environ.get("FLASKCTL_HANG_AT"))
        if name in wanted and self.path("/run/flaskctl/allow-fault-injection").exists():
            if name == wanted[1]:
                time.sleep(3600)
            os.kill(os.getpid(), signal.SIGKILL)


# ---------------------------------------------------------------------------------------------------------------------
# 5. The app on this host
# ---------------------------------------------------------------------------------------------------------------------


class App:
    """One app: its files, its units, and the commands on them. A command returns its answer, or raises Refused."""

    def __init__(self, host: Host, name: str, dry: bool = False, said: str = "") -> None:
        self.host, self.name, self.dry, self.said = host, name, dry, said
        self.base = host.path(f"/srv/{name}")
        self.releases_dir, self.venvs_dir = self.base / "releases", self.base / "venvs"
        self.intent_file = self.base / "activating.json"
        self.lease_file = self.base / "rollout.json"
        self.drained_file, self.page_file = self.base / "drained", self.base / "maintenance.html"  # nginx looks at them
        self.settings_file = host.path(f"/etc/flaskctl/{name}.json")
        # what the role made: by path the fingerprint of a file or a link, "directory"; by `user NAME` the account's ids
        self.record_file = host.path("/var/lib/flaskfleet/files.json")
        self.audit_file = host.path(f"/var/log/flaskctl/{name}.jsonl")
        self.lock_file = host.path(f"/run/flaskctl/{name}.lock")
        self.units_dir = host.path("/etc/systemd/system")
        self.passing_units_dir = host.path("/run/systemd/system")
        self.socket = f"{name}.socket"
        self.warnings: list[str] = []
        self.repairs: list[str] = []

    # --- what stands

    def settings(self) -> Json:
        settings = read_json(self.settings_file)
        if settings is None:
            here = ", ".join(apps(self.host)) or "none"
            raise Refused(f"no app {self.name} on this host", remedy=f"apps here: {here}")
        return settings

    def unit(self, release: str) -> str:
        return f"{self.name}@{release}.service"

    def is_job(self, unit: str) -> bool:
        """Whether it is a scheduled job: that ends by itself, and no release cuts it."""
        return unit.endswith(".service") and (self.units_dir / unit.replace(".service", ".timer")).exists()

    def processes(self, release: str, suffix: str) -> list[str]:
        """Return the units of a release's workers (".service") or schedules (".timer")."""
        found = sorted(path.name for path in self.units_dir.glob(f"{self.name}.*@{release}{suffix}"))
        return [unit for unit in found if not self.is_job(unit)]

    def manifest(self, release: str | None) -> Json | None:
        return read_json(self.releases_dir / release / "manifest.json") if release else None

    def linked(self, name: str) -> str | None:
        """Return the release that `current` or `previous` points to, if it is there."""
        try:
            release = os.path.basename(os.readlink(self.base / name))
        except OSError:
            return None
        return release if self.manifest(release) else None

    def releases(self) -> list[Release]:
        """Return the complete releases, newest first."""
        found = []
        for home in self.releases_dir.glob("[0-9a-f]*"):
            manifest = self.manifest(home.name)
            if manifest and RELEASE_ID.match(home.name):
                refused = (read_json(home / "refused.json") or {}).get("why", "")
                keys = ("when", "by", "from", "revision", "archive_sha256", "venv")
                found.append(
                    Release(home.name, *(str(manifest.get(key, "")) for key in keys))._replace(refused=refused)
                )
        return sorted(found, key=lambda release: (release.when, release.id), reverse=True)

    def units(self, *more: str) -> Units:
        return self.host.show(self.socket, *more, f"{self.name}.service", *self.unit_patterns())

    def unit_patterns(self) -> list[str]:
        return [f"{self.name}{end}" for end in ("@*.service", ".*@*", ".try-*.service", ".twin-*.service")]

    def state(self, units: Units | None = None) -> State:
        running: dict[str, None] = {}
        active, jobs = [], []
        for unit, shown in sorted((units or self.units()).items()):
            match = re.match(rf"{self.name}(?:\.[a-z0-9-]+)?@([0-9a-f]{{12}})\.(?:service|timer)\Z", unit)
            if not match or shown.get("ActiveState") in STOPPED:
                continue
            release = match.group(1)
            if self.is_job(unit):
                jobs.append(release)
                continue
            running[release] = None
            if unit == self.unit(release) and shown.get("ActiveState") == "active":
                active.append(release)
        found = read_json(self.intent_file) or {}
        to, how = str(found.get("to")), found.get("how") or "activate"
        intent = (
            Intent(to, found.get("from"), found.get("previous"), how, found.get("began") or "")
            if RELEASE_ID.match(to)
            else None
        )
        links = self.linked("current"), self.linked("previous")
        return State(*links, tuple(running), tuple(active), tuple(jobs), intent)

    def in_use(self) -> set[str]:
        """Return the releases from which something runs; while a command of `run` does, each may be that."""
        units = self.host.show(*self.unit_patterns(), f"{self.name}-run-*.service")
        state = self.state(units)
        up = {unit for unit, shown in units.items() if shown.get("ActiveState") not in STOPPED}
        twins = {unit.rpartition("-")[2].partition(".")[0] for unit in up if unit.startswith(f"{self.name}.twin-")}
        everything = any(unit.startswith(f"{self.name}-run-") for unit in up)
        return {*state.running, *state.jobs, *twins, *(path.name for path in self.releases_dir.glob("*") if everything)}

    def events(self) -> list[Json]:
        """Return the lines of the audit log; none for one who may not read it."""
        found = []
        with contextlib.suppress(PermissionError):
            for line in (read_text(self.audit_file) or "").splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict)]

    def last_activated(self) -> str | None:
        line = lineage(self.events(), None, None)
        return line[-1] if line and self.manifest(line[-1]) else None

    def rollback_to(self, state: State, releases: Sequence[Release]) -> str | None:
        current = state.current or self.last_activated()
        line = lineage(self.events(), state.previous, current)
        return rollback_target(line, current, [release.id for release in releases if not release.refused])

    def find(self, wanted: str) -> str:
        """Return the id of the release with this id, or with this unique beginning of one."""
        ids = [release.id for release in self.releases()]
        matches = [release for release in ids if wanted and release.startswith(wanted)]
        if len(matches) == 1:
            return matches[0]
        what = f"{wanted} is the beginning of {len(matches)} releases"
        what = what if matches else f"{self.name} has no release {wanted}"
        raise Refused(what, remedy=f"releases here: {', '.join(ids) or 'none'}")

    def socket_state(self, units: Units) -> Json:
        """Return whether systemd listens for the app; stale: not where the unit file and the settings say."""
        shown = units.get(self.socket, {})
        active = shown.get("ActiveState") == "active"
        found = re.findall(r"(?m)^ListenStream=([0-9.]+):(\d+)\s*$", read_text(self.units_dir / self.socket) or "")
        wanted = {(address, int(port)) for address, port in found}
        port = self.settings().get("port")
        stale = active and not (wanted | ({("127.0.0.1", int(port))} if port else set())) <= self.host.listening()
        return {"active": active, "enabled": shown.get("UnitFileState") == "enabled", "stale": stale}

    def where(self, state: State, units: Units) -> Json:
        """Return the part of an answer that says where the host stands."""
        return {
            "current": state.current,
            "previous": state.previous,
            "active": list(state.active),
            "socket": self.socket_state(units),
            "service": {"enabled": units.get(f"{self.name}.service", {}).get("UnitFileState") == "enabled"},
        }

    # --- the lock and the audit log

    @contextlib.contextmanager
    def locked(self, holder: Json | None = None) -> Iterator[None]:
        """Hold the app's lock. The kernel lets go of it when we die; the file only says who holds it.

        A person hears at once that another has it. A rollout waits: what a run that was killed had begun on this host
        goes on without it for a while. It waits for nothing that another rollout does.
        """
        if self.dry:
            yield
            return
        if not self.host.is_root():
            raise Refused("this changes the host, and needs root", remedy=f"sudo {self.said}")
        self.lock_file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.lock_file, "a+", encoding="utf-8") as file:
            end = self.host.now() + LOCK_SECONDS
            while not try_lock(file):
                ours = holder and plan_lease(read_json(self.lease_file), holder, "")
                if not ours or self.host.now() >= end:
                    message = busy_message(self.name, read_json(self.lock_file))
                    raise Busy(message, remedy="wait for it to end, then run this again")
                self.host.sleep(0.5)
            file.truncate(0)
            now = utc(self.host.now())
            file.write(json.dumps({"pid": os.getpid(), "user": self.host.who(), "command": self.said, "since": now}))
            file.flush()
            yield
            file.truncate(0)

    def holder(self) -> Json | None:
        """Return who holds the lock; None if nobody does."""
        try:
            with open(self.lock_file, encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return read_json(self.lock_file) or {}
        except OSError:
            pass
        return None

    # --- the lease: one rollout at a time, from its first stage to its end; it outlives processes and reboots

    def take(self, holder: Json | None) -> bool:
        """Take the lease for a rollout, or show a sign of life; True if that was not its own before."""
        if not holder:
            return False
        lease = read_json(self.lease_file)
        now = self.host.now()
        mine = plan_lease(lease, holder, utc(now))
        if mine is None:
            assert lease
            raise Busy(
                lease_text(self.name, lease, now),
                remedy="wait for it to end; if it is dead: ansible-playbook flaskfleet.web.unlock, or here:"
                f" flaskctl {self.name} unlock --force",
            )
        if not self.dry:
            self.host.step("lease-take")
            write_json(self.lease_file, mine)
        return not lease or lease.get("id") != mine["id"]

    def mind(self, holder: Json | None) -> None:
        """Heed the lease before traffic moves. It stops another rollout, not a person at three in the morning."""
        lease = read_json(self.lease_file)
        if lease and not holder:
            self.warnings.append(f"{lease_text(self.name, lease, self.host.now())}: it may move the app again")
        try:
            self.take(holder)
        except OSError as error:  # a rollback must go on a full disk too
            self.warnings.append(f"no sign of life in {self.lease_file}: {error.strerror}")

    def lock(self, holder: Json | None) -> Json:
        self.settings()
        if not holder:
            raise Usage("lock wants --holder")
        with self.locked(holder):
            taken = self.take(holder)
            lease = read_json(self.lease_file)
        return {"lease": lease, "changed": taken, "msg": f"{holder['id']} {'has' if taken else 'still has'} the lease"}

    def unlock(self, holder: Json | None, force: bool, keep: int | None) -> Json:
        """End the lease; with `keep`, prune before, so that the last call of a rollout does both."""
        self.settings()
        if bool(holder) == force:
            raise Usage("unlock wants --holder, or --force to end the lease of another")
        with self.locked(holder):
            lease, there = read_json(self.lease_file), os.path.lexists(self.lease_file)
            if holder and lease and lease.get("id") not in (holder["id"], holder.get("takes_over")):
                raise Busy(lease_text(self.name, lease, self.host.now()), remedy="unlock --force ends it")
            pruned: Json = self.prune_to(keep) if keep is not None else {"changed": False, "msg": ""}
            if there and not self.dry:
                self.host.step("lease-drop")
                erase(self.lease_file)
                if force:
                    self.audit("unlock", None, was=lease)
        said: list[str] = ["the lease is over" if there else "there is no lease", pruned["msg"]]
        return {
            **pruned,
            "lease": None,
            "was": lease,
            "changed": there or pruned["changed"],
            "msg": "; ".join(filter(None, said)),
        }

    def audit(self, event: str, release: str | None, **more: Any) -> None:
        entry: Json = {"when": utc(self.host.now()), "event": event, "release": release, "by": self.host.who()}
        manifest = self.manifest(release) or {}
        entry.update({key: manifest[key] for key in ("from", "revision") if manifest.get(key)})
        try:
            self.audit_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.audit_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            with open(descriptor, "a", encoding="utf-8") as file:
                file.write(json.dumps({**entry, **more}) + "\n")
        except OSError as error:  # a full /var/log must not stop a rollback
            self.warnings.append(f"not in the audit log: {error}")

    # --- commands that only look

    def status(self, drift: bool = False) -> Json:
        settings, units = self.settings(), self.units("nginx.service")
        state, releases, holder = self.state(units), self.releases(), self.holder()
        moved = [event for event in self.events() if event.get("event") in ("activate", "rollback")]
        since = [event.get("when") for event in moved if event.get("release") == state.current]
        masters = [int(units.get(unit, {}).get("MainPID") or 0) for unit in self.own_units(state.current)]
        workers = self.host.children(masters[0]) if masters and masters[0] else set()
        answer: Json = {
            **self.where(state, units),
            "since": since[-1] if since and state.current else None,
            "rollback": self.rollback_to(state, releases),
            "releases": [release.id for release in releases],
            "port": settings.get("port"),
            "interrupted": state.intent.as_json() if state.intent and holder is None else None,
            "locked": holder,
            "lease": read_json(self.lease_file),
            "drained": self.drained_file.exists(),
            "maintenance": self.page_file.exists(),
            "workers": len(workers),
            "failed_units": sorted(unit for unit, shown in units.items() if shown.get("ActiveState") == "failed"),
            "restart_pending": self.restart_pending([*filter(None, masters), *map(int, workers)]),
            "certificate_days": self.certificate_days(settings),
            "drift": self.drift(state.current, units, drift),
        }
        answer["problems"] = self.problems(state, answer)
        return {**answer, "msg": self.status_text(answer, {release.id: release for release in releases})}

    def own_units(self, release: str | None) -> list[str]:
        """Return the services of a release, the web server first."""
        return [self.unit(release), *self.processes(release, ".service")] if release else []

    def restart_pending(self, pids: Iterable[int]) -> list[str] | None:
        """Return the libraries that the processes have and an update has replaced; none for who may not see that."""
        if not self.host.is_root():
            return None
        found: set[str] = set()
        for pid in pids:
            with contextlib.suppress(OSError):  # it ended
                found |= replaced(self.host.path(f"/proc/{pid}/maps").read_bytes().decode("utf-8", "replace"))
        return sorted(found)

    def certificate_days(self, settings: Json) -> int | None:
        path = settings.get("certificate")
        if not path:
            return None
        done = self.host.run(["openssl", "x509", "-noout", "-enddate", "-in", str(self.host.path(path))])
        days = days_left(done.out, self.host.now())
        if days is None:
            self.warnings.append(f"the certificate {path} cannot be read: {done.err.strip()}")
        return days

    def drift(self, release: str | None, units: Units, whole: bool) -> list[str]:
        """Return what differs from what was deployed, in words; `whole`: the files of the release too, each is read."""
        others = [name for name in apps(self.host) if name != self.name]
        found = []
        for name, wanted in sorted((read_json(self.record_file) or {}).items()):
            if name.startswith("user "):
                found += [name] if name == f"user {self.name}" and str(self.host.account(self.name)) != wanted else []
            elif wanted != "directory":
                with contextlib.suppress(PermissionError):
                    found += [name] if belongs(name, others) and fingerprint(self.host.path(name)) != wanted else []
        found += [f"{n}, not as systemd has read it" for n, u in units.items() if u.get("NeedDaemonReload") == "yes"]
        manifest = self.manifest(release) if whole else None
        if release and manifest:
            if not self.host.is_root():
                raise Refused("this reads what only root may", remedy=f"sudo {self.said}")
            try:
                config = parse_config(read_text(self.releases_dir / release / "config.json") or "")
                damage, foreign = self.damage(release, manifest, config, self.host.python_version(config.python))
                found += [*damage, *foreign]
            except Refused as error:
                found.append(error.msg)
        return found

    def problems(self, state: State, answer: Json) -> list[str]:
        found = []
        if answer["interrupted"] and state.intent:
            found.append(
                f"the activation of {state.intent.to} was cut: the next stage or activate finishes or undoes it"
            )
        if state.current is None:
            last = plan_recovery(state, self.last_activated()).release
            remedy = f"flaskctl {self.name} activate {last} puts it back" if last else "nothing was activated yet"
            found.append(f"there is no current release: {remedy}")
        elif state.current not in state.active:
            found.append(f"the current release does not run: flaskctl {self.name} logs tells why")
        strays = ", ".join(release for release in state.running if release != state.current)
        if state.current and strays and answer["locked"] is None and not state.intent:
            found.append(f"{strays} runs beside the current release: the next stage or activate stops it")
        if self.twins() and answer["locked"] is None:
            found.append(f"a restart was cut: flaskctl {self.name} restart ends it")
        if not answer["socket"]["active"]:
            found.append(f"{self.socket} is not active: systemctl start {self.socket}")
        if answer["socket"]["stale"]:
            found.append(f"{self.socket} does not listen where it should: no release can start")
        found += [f"{what} is not what was deployed: run the playbook" for what in answer["drift"]]
        told = {self.socket, self.unit(str(state.current))}
        found += [f"{unit} has failed: systemctl status {unit}" for unit in answer["failed_units"] if unit not in told]
        if answer["restart_pending"]:
            libraries = ", ".join(map(os.path.basename, answer["restart_pending"][:3]))
            found.append(f"updates wait for a restart ({libraries}): flaskctl {self.name} restart")
        days = answer["certificate_days"]
        if days is not None and days < CERTIFICATE_DAYS:
            found.append(f"the certificate ends in {days} days" if days >= 0 else "the certificate has ended")
        if answer["drained"]:
            found.append(f"drained, so no load balancer sends requests: flaskctl {self.name} undrain")
        if answer["maintenance"]:
            found.append(f"in maintenance, so users get a page that says so: flaskctl {self.name} maintenance off")
        seen = moment((answer["lease"] or {}).get("seen"))
        if seen is not None and self.host.now() - seen > QUIET_SECONDS:
            found.append(f"a rollout gives no sign of life: if it is dead, flaskctl {self.name} unlock --force")
        return found

    def status_text(self, answer: Json, releases: Mapping[str, Release]) -> str:
        def describe(release: str | None) -> str:
            found = releases.get(release or "")
            by = f"by {found.by}" if found and found.by else ""
            return " ".join(filter(None, [found.id, found.revision, by])) if found else "none"

        socket = answer["socket"]
        rows = [
            ("current", describe(answer["current"]) + (f", since {answer['since']}" if answer["since"] else "")),
            ("previous", describe(answer["previous"])),
            (
                "serving",
                ", ".join(answer["active"]) + f", {answer['workers']} workers" if answer["active"] else "nothing",
            ),
            ("rollback", f"goes to {answer['rollback']}" if answer["rollback"] else "has nowhere to go"),
            ("socket", f"{'active' if socket['active'] else 'NOT active'}, port {answer['port']}"),
            *([("busy", busy_message(self.name, answer["locked"]))] if answer["locked"] is not None else []),
            *([("lease", lease_text(self.name, answer["lease"], self.host.now()))] if answer["lease"] else []),
            *(("problem", problem) for problem in answer["problems"]),
        ]
        if answer["restart_pending"] is None:
            rows.append(("not seen", "whether updates wait for a restart, which only root may"))
        return table([(self.name, *row) for row in rows])

    def list_releases(self) -> Json:
        self.settings()
        state, releases = self.state(), self.releases()
        rows, listed = [("ID", "STAGED", "BY", "REVISION", "STATE")], []
        for release in releases:
            marks = [name for name in ("current", "previous") if getattr(state, name) == release.id]
            marks += ["active"] if release.id in state.active else []
            marks += ["refused"] if release.refused else []
            listed.append({**release.as_json(), "state": marks})
            rows.append((release.id, release.when, release.by or "-", release.revision[:20] or "-", " ".join(marks)))
        return {"releases": listed, "msg": table(rows) if releases else f"{self.name} has no release yet"}

    def verify(self, wanted: str | None) -> Json:
        address = self.settings().get("verify")
        release = self.find(wanted) if wanted else self.linked("current")
        if not release or not address:
            missing = "current release" if not release else f"address to ask (verify in {self.settings_file})"
            raise Refused(f"{self.name} has no {missing}", remedy="run the playbook")
        answer, wrong = self.ask(address, release, 0)
        if wrong:
            raise Refused(wrong, answer.body, "nginx -t; systemctl status nginx; flaskctl status")
        msg = f"{release} answers {answer.status} through nginx"
        msg = "in maintenance: nginx answers in place of the app" if self.is_page(answer) else msg
        return {"id": release, "status": answer.status, "msg": msg}

    def ask(self, address: Json, release: str | None, seconds: float) -> tuple[Answer, str]:
        """Ask through nginx until this release (None: any) answers 2xx: the last answer, and what is wrong with it."""
        where = "{scheme}://{host}:{port}{path}".format(**address)
        start = self.host.now()
        while True:
            answer = self.host.http_get(address["scheme"], int(address["port"]), address["host"], address["path"])
            by = f"release {answer.release}" if answer.release else "something that names no release"
            if not answer.status:
                wrong = f"{where} does not answer ({answer.body})"
            elif self.is_page(answer):
                return answer, ""  # the app's health path is /, which belongs to the users: nobody can ask for it now
            elif not 200 <= answer.status < 300:
                wrong = f"{where} answers {answer.status}, from {by}"
            elif release and answer.release != release:
                wrong = f"{where} is answered by {by}, not by {release}"
            else:
                return answer, ""
            # a bad answer of the release itself does not get better by waiting long
            if self.host.now() - start >= (min(seconds, 2) if answer.release == release else seconds):
                return answer, wrong
            self.host.sleep(0.1)

    def bake(self, seconds: int, limits: Limits) -> Json:
        """Watch the real traffic, against that before the last activation. Takes no lock: a rollback need not wait."""
        self.settings()
        if seconds < 1:
            raise Usage("--seconds wants 1 or more")
        release = self.linked("current")
        moved = [event for event in self.events() if event.get("event") in ("activate", "rollback")]
        switched = moment(moved[-1].get("began") or moved[-1].get("when")) if moved else None
        if not release or switched is None:
            raise Refused(f"{self.name} has no activation to compare with", remedy=f"flaskctl {self.name} activate ID")
        start = int(self.host.now())
        before = traffic(self.log_entries(switched - seconds), switched - seconds, switched)
        after, enough = Traffic(0, 0), False
        # with too little to compare with nothing that comes can be judged, and the rollout need not wait for it
        idle = before.requests < limits.requests
        for look in [] if self.dry or idle else looks(seconds):
            self.host.sleep(max(0.0, start + look - self.host.now()))
            if self.linked("current") != release:
                raise Refused(f"{release} is no longer current, {self.linked('current')} is")
            after = traffic(self.log_entries(start), start, start + look)
            enough = min(before.requests, after.requests) >= limits.requests
            # latency is for the whole time alone: a release is slow while it is new
            wrong = worse(before, after if look == seconds else after._replace(times=()), limits) if enough else ""
            if wrong:
                what = f"release {release} of {self.name} does worse than what ran before: {wrong}"
                detail = f"before: {before}\nafter:  {after}, in {look} s"
                raise Refused(what, detail, f"flaskctl {self.name} rollback")
        said = f"before: {before}; after: {after}, in {seconds} s"
        said = said if enough else f"too few requests to judge, {limits.requests} are wanted; {said}"
        if idle:
            said = f"too few requests in the {seconds} s before to judge by, {limits.requests} are wanted: {before}"
        figures = {"before": before.as_json(), "after": after.as_json(), "judged": enough}
        return {"id": release, **figures, "msg": f"would watch for {seconds} s" if self.dry else said}

    def log_entries(self, since: float) -> Iterator[Json]:
        """Yield what nginx has logged of the app since then, the last first; the log was rotated at most once."""
        for name in (f"{self.name}.access.log", f"{self.name}.access.log.1"):
            with contextlib.suppress(FileNotFoundError), open(self.host.path(f"/var/log/nginx/{name}"), "rb") as file:
                for entry in map(log_entry, lines_from_end(file)):
                    if entry and entry["time"] < since - 1:
                        return
                    if entry:
                        yield entry

    # --- drain, maintenance: what nginx says instead of the app

    def mark(self, path: Path, text: str | None, event: str) -> Json:
        """Put a file that nginx looks at in place, or take it away, and say so in the audit log."""
        self.settings()
        with self.locked():
            changed = read_text(path) != text
            if changed and not self.dry:
                self.host.step(f"mark-{'drained' if path == self.drained_file else 'maintenance'}")
                erase(path) if text is None else write(path, text)
                self.audit(event, self.linked("current"))
        site = read_text(self.host.path(f"/etc/nginx/sites-available/{self.name}.conf")) or ""
        if text is not None and str(path.name) not in site:
            self.warnings.append(f"nginx does not look at {path}: run the playbook")
        return {"drained": self.drained_file.exists(), "maintenance": self.page_file.exists(), "changed": changed}

    def drain(self, seconds: int) -> Json:
        """Have the readiness path answer 503, so that a load balancer sends no more requests; serve those that come."""
        answer = self.mark(self.drained_file, "flaskctl drain\n", "drain")
        if answer["changed"] and not self.dry:
            self.host.sleep(seconds)
        return {**answer, "msg": f"{self.name} is drained" + ("" if answer["changed"] else " already")}

    def undrain(self) -> Json:
        answer = self.mark(self.drained_file, None, "undrain")
        return {**answer, "msg": f"{self.name} is ready" + ("" if answer["changed"] else " already")}

    def maintenance(self, mode: str, page: str | None) -> Json:
        """Have nginx answer every path of the app but its health path with 503 and a page."""
        # on again without a page: the one that is there stays
        text = (page or read_text(self.page_file) or PAGE) if mode == "on" else None
        answer = self.mark(self.page_file, text, f"maintenance {mode}")
        return {**answer, "msg": f"maintenance is {mode}" + ("" if answer["changed"] else " already")}

    def is_page(self, answer: Answer) -> bool:
        """Whether it is the page of the maintenance, as far as it was read."""
        page = read_text(self.page_file)
        return page is not None and answer.status == 503 and page.startswith(answer.body) and bool(answer.body)

    def logs(self, follow: bool, lines: int, capture: bool) -> Json:
        self.settings()
        patterns = ("@*.service", ".*@*", ".try-*.service", ".twin-*.service", ".service", ".socket")
        argv = ["journalctl", "--no-pager", f"--lines={lines}", *(f"--unit={self.name}{end}" for end in patterns)]
        if capture:
            return {"lines": self.host.run([*argv, "--output=short-iso"]).out.splitlines(), "msg": ""}
        self.host.become([*argv, "--follow"] if follow else argv)
        return {"msg": ""}

    # --- run, start

    def run(self, command: Sequence[str], wanted: str | None, tty: bool, capture: bool) -> Json:
        """Run a command as the release runs: its user, sandbox, environment, credentials. `rc` is the command's."""
        self.settings()
        if not command:
            raise Usage("run wants a command", remedy=f"flaskctl {self.name} run -- flask db upgrade")
        if not self.host.is_root():
            raise Refused("this enters the app's sandbox, and needs root", remedy=f"sudo {self.said}")
        release = self.find(wanted) if wanted else self.linked("current")
        if not release:
            raise Refused(f"{self.name} has no current release", remedy="run --release ID -- COMMAND")
        unit, name = self.unit(release), f"{self.name}-run-{os.getpid()}"
        words = [self.executable(release, command[0]), *command[1:]]
        argv = run_argv(unit, self.unit_texts(unit), self.host.systemd_version(), words, name, tty)
        try:
            if capture:
                done = self.host.run(argv)
                found = {"rc": done.rc, "stdout": done.out, "stderr": done.err, "msg": done.out.strip()}
            else:
                found = {"rc": self.host.attached(argv), "msg": ""}
        except KeyboardInterrupt:
            self.host.systemctl("stop", f"{name}.service")
            raise
        return {"id": release, "changed": True, **found}

    def executable(self, release: str, word: str) -> str:
        """Return the path of a command: systemd-run would look in its own PATH, not in the virtualenv."""
        home = f"/srv/{self.name}/releases/{release}"
        if "/" in word:
            return os.path.join(f"{home}/app", word)
        for directory in f"{home}/venv/bin:{PATH}".split(":"):
            if os.access(self.host.path(f"{directory}/{word}"), os.X_OK):
                return f"{directory}/{word}"
        raise Refused(f"there is no command {word} in release {release}", remedy=f"looked in {home}/venv/bin:{PATH}")

    def unit_texts(self, unit: str) -> list[str]:
        """Return a release's unit file and its drop-ins, in systemd's order."""
        template = self.units_dir / f"{self.name}@.service"
        if not template.exists():
            raise Refused(f"{template} is missing", remedy="run the playbook: it writes the units")
        drop_ins = [path for name in (template.name, unit) for path in (self.units_dir / f"{name}.d").glob("*.conf")]
        by_name = {path.name: path for path in drop_ins}  # that of the instance wins
        return [path.read_text("utf-8") for path in (template, *(by_name[name] for name in sorted(by_name)))]

    def start(self) -> Json:
        """Start the current release: at boot, and on the first connection after a stop. Takes no lock."""
        self.settings()
        current = self.linked("current")
        if not current:
            current = self.last_activated()
            if not current:
                self.host.sleep(2)  # the socket asks again at once while a client waits: do not let it spin
                raise Refused(
                    f"{self.name} has no current release to start", remedy=f"flaskctl {self.name} activate ID"
                )
            self.warnings.append(f"the link `current` is missing: starting {current}, which was activated last")
        units = [self.unit(current), *self.processes(current, ".service"), *self.processes(current, ".timer")]
        # one by one: a schedule that systemd cannot load must not keep the site down
        done = {unit: self.host.systemctl("start", "--no-block", unit) for unit in units}
        refused = [unit for unit in units if done[unit].rc]
        if refused:
            detail = "\n".join(done[unit].err.strip() for unit in refused)
            raise Refused(f"{', '.join(refused)} cannot be started", detail, f"flaskctl {self.name} status")
        return {"id": current, "changed": True, "msg": f"starting {current}"}

    # --- stage

    def stage(
        self,
        archive: Path | IO[bytes] | None,
        config_text: str | None,
        sha256: str | None,
        how: str | None = None,
        holder: Json | None = None,
    ) -> Json:
        """Make the release stand on this host, whole and sound. Nothing that is served changes.

        `how`: start it too, on a socket of its own: "import" to see that it starts, "health" to ask its health path.
        """
        self.settings()
        if sha256 and not SHA256.match(sha256):
            raise Usage("--sha256 wants 64 hex digits")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.locked(holder))
            self.recover()
            self.host.give_way()
            current = self.linked("current")
            kept = read_text(self.releases_dir / str(current) / "config.json")
            if config_text is None and kept is None:
                raise Usage(
                    f"{self.name} has no current release to take the configuration from", remedy="give --config"
                )
            config = parse_config(config_text if config_text is not None else str(kept))
            if config_text is None:
                config = dataclasses.replace(config, notes={"by": self.host.who(), "from": os.uname().nodename})
            file: IO[bytes] | None = None
            name = str(archive) if isinstance(archive, Path) else "the archive"
            if archive:
                file = stack.enter_context(open(archive, "rb")) if isinstance(archive, Path) else archive
                found = stream_sha256(file)
                file.seek(0)
                if sha256 and sha256 != found:
                    raise Refused(f"{name} is corrupt: its sha256 is {found}, not {sha256}", remedy="send it again")
                sha256 = found
            sha256 = sha256 or (self.manifest(current) or {}).get("archive_sha256")
            if not sha256:
                raise Usage(f"{self.name} has no current release: which archive?", remedy="stage ARCHIVE --config FILE")
            release = release_id(sha256, config)
            if release != current or (read_json(self.lease_file) or {}).get("id") == (holder or {}).get("id"):
                self.take(holder)
            answer = self.stage_release(release, sha256, config, file, os.path.basename(name))
            self.record_account()
            if kept and answer["id"] != current:
                with contextlib.suppress(Refused):  # one that an older flaskctl wrote
                    answer["diff"] = changes(parse_config(kept), config)
            if how and answer["staged"] and answer["id"] != current and not self.dry:
                answer["changed"] = self.try_out(answer["id"], config, how) or answer["changed"]
            answer["lease"] = read_json(self.lease_file)
            answer["tried"] = bool(self.tried(answer["id"]))
            answer["verified"] = answer["id"] in answer["active"] and self.serves(answer["id"])
            return answer

    def serves(self, release: str) -> bool:
        """Return whether this is the current release and answers through nginx, asked once."""
        address = self.settings().get("verify")
        if not address or self.linked("current") != release:
            return False
        return not self.ask(address, release, 0)[1]

    def tried(self, release: str) -> str:
        return str((read_json(self.releases_dir / release / "tried.json") or {}).get("how", ""))

    def try_out(self, release: str, config: Config, how: str) -> bool:
        """Start a release in its own sandbox, without its socket, for its own gate to judge; False: that was done."""
        if self.tried(release) in (how, "health"):
            return False
        if "FLASKFLEET_TRY" not in config.gunicorn_conf:  # of a release that an older role configured
            self.warnings.append(
                f"{release} cannot be tried: its gunicorn.conf.py knows no other socket than the shared"
            )
            return False
        unit, name = self.unit(release), f"{self.name}.try-{release}.service"
        texts = [config.service, credentials_drop_in(self.name, release, config.credentials)]
        self.host.step("try-start")
        since = self.host.now()
        try:
            done = self.host.run(try_argv(unit, texts, self.host.systemd_version(), name, how))
            result = self.host.show(name).get(name, {}).get("Result", "success") if done.rc else ""
            self.host.step("try-stop")
        finally:
            self.host.systemctl("stop", name)
        if done.rc:
            detail = essence(self.host.journal(name, since))
            self.host.systemctl("reset-failed", name)
            if result == "success":  # it was not even started
                raise Refused(f"release {release} of {self.name} could not be tried", done.err.strip())
            why = HANGS if result == "timeout" else "it does not pass its gate"
            self.mark_refused(release, why)
            raise Refused(f"release {release} of {self.name} is refused: {why}; nothing was switched", detail)
        write_json(self.releases_dir / release / "tried.json", {"when": utc(self.host.now()), "how": how})
        return True

    def stage_release(self, release: str, sha256: str, config: Config, file: IO[bytes] | None, file_name: str) -> Json:
        python = self.host.python_version(config.python)
        manifest = self.manifest(release)
        damage, foreign = self.damage(release, manifest, config, python) if manifest else ([], [])
        self.warnings += [f"{path} was not deployed; it stays as long as something runs from there" for path in foreign]
        todo = manifest is None or bool(damage)
        if manifest is None:
            self.check_schedules(config)
        like = self.sound_copy(sha256) if todo and file is None else None
        needed = todo and file is None and like is None
        key, built = (manifest or {}).get("venv"), False
        if todo and not needed and not self.dry:

            def fill(app: Path) -> None:
                if file is None:
                    shutil.copytree(str(like), app, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    app.mkdir()
                    unpack(file, file_name, app)

            key, built = self.build(release, sha256, config, python, fill, damage)
        if not self.dry and not needed:
            self.repairs += damage
        units = self.units()
        msg = f"{'would stage' if self.dry else 'staged'} {release}"
        if manifest:
            mended = f", {'would mend' if self.dry else 'mended'}: {', '.join(damage)}"
            msg = f"{release} is staged" + (mended if damage else "")
        msg = f"{release} needs its archive" if needed else msg
        return {
            "id": release,
            **self.where(self.state(units), units),
            "changed": bool(self.repairs) or (todo and (self.dry or not needed)),
            "staged": manifest is not None or (todo and not needed and not self.dry),
            "archive_needed": needed,
            "repairs": damage if self.dry else self.repairs,
            "releases": [item.id for item in self.releases()],
            "python": python,
            "venv": {"key": key, "built": built},
            "msg": msg,
        }

    def damage(self, release: str, manifest: Json, config: Config, python: str) -> tuple[list[str], list[str]]:
        """Return what is wrong with a release that stands, in words; and what is foreign in it, but must stay.

        What no one deployed goes only when nothing runs from the release: a process may use it.
        """
        home = self.releases_dir / release
        wanted, found_files = manifest.get("files") or {}, inventory(home / "app")
        known = {"app", "site", "static", "venv", "credentials", "config.json"}
        known |= {"manifest.json", "refused.json", "tried.json", *self.generated(config)}
        points = self.mount_points(release, config)
        extra = [f"app/{os.path.normpath(name)}" for name in found_files if name not in wanted]
        foreign = [name for name in (*extra, *(set(os.listdir(home)) - known)) if not lies_on(name, points)]
        stay = sorted(str(home / name) for name in foreign) if foreign and release in self.in_use() else []
        if any(found_files.get(name) != what for name, what in wanted.items()) or (
            not stay and any(name in extra for name in foreign)
        ):
            found = [f"files of {release}/app"]
        else:
            found = []
        generated = {home / name: file for name, file in self.generated(config).items()}
        for path, (text, mode) in {**generated, **self.unit_files(release, config)}.items():
            found += [str(path)] if differs(path, text, mode) else []
        if config.credentials and mode_of(home / "credentials") != "0o700":
            found.append(str(home / "credentials"))
        key, base = manifest.get("venv", ""), venv_base(manifest.get("venv", ""))
        if not found or found[0] != f"files of {release}/app":  # with damaged files there is no telling what they want
            source = wants(home / "app", config.requirements)
            base = venv_key(python, self.host.machine(), source, config.server_requirements)
        if venv_base(key) != base or os.path.realpath(home / "venv") != os.path.realpath(self.venvs_dir / key):
            found.append(f"{release}/venv")
        elif not self.venv_sound(key, python):
            found.append(f"virtualenv {key}")
        if manifest.get("site") and not (home / "site").is_dir():
            found.append(f"{release}/site")
        static = os.readlink(home / "static") if (home / "static").is_symlink() else None
        if static != static_target(home, config.static_dir):
            found.append(f"{release}/static")
        return found + sorted(str(home / name) for name in foreign if name not in extra and not stay), stay

    def mount_points(self, release: str, config: Config) -> list[str]:
        """Return where the release's own units mount something into it, by path in the release."""
        home = self.releases_dir / release
        texts = {self.unit(release): [config.service]}
        with contextlib.suppress(Refused):
            texts[self.unit(release)] += self.unit_texts(self.unit(release))
        for name, own in config.processes.items():
            texts[f"{self.name}.{name}@{release}.service"] = [own["service"]]
        found = []
        for unit, lines in texts.items():
            for point in mount_points(service_settings(unit, lines, sys.maxsize)):
                # each release was or will be the current one
                inside = re.sub(
                    rf"^/srv/{self.name}/(current|previous)/", f"/srv/{self.name}/releases/{release}/", point
                )
                path = os.path.realpath(self.host.path(inside))
                if path.startswith(f"{os.path.realpath(home)}/"):
                    found.append(os.path.relpath(path, os.path.realpath(home)))
        return found

    def generated(self, config: Config) -> dict[str, tuple[str, int]]:
        """Return the files of a release that come from its configuration: text and mode by name."""
        files = {
            "gunicorn.conf.py": (config.gunicorn_conf, 0o644),
            "environment": (environment_file(config.environment), 0o600),
        }
        return {**files, **{f"credentials/{name}": (value, 0o600) for name, value in config.credentials.items()}}

    def unit_files(self, release: str, config: Config) -> dict[Path, tuple[str, int]]:
        """Return the files of a release that stand with systemd's units: text and mode by path."""
        files, services = {}, [self.unit(release)]
        for name, texts in config.processes.items():
            unit = f"{self.name}.{name}@{release}"
            files.update({self.units_dir / f"{unit}.{kind}": (text, 0o644) for kind, text in texts.items()})
            services.append(f"{unit}.service")
        text = credentials_drop_in(self.name, release, config.credentials)
        for service in services if config.credentials else ():
            files[self.units_dir / f"{service}.d" / "credentials.conf"] = (text, 0o644)
        return files

    def sound_copy(self, sha256: str) -> Path | None:
        """Return the code of a release that was made from this archive and still has each of its files."""
        for release in self.releases():
            app = self.releases_dir / release.id / "app"
            if release.archive_sha256 == sha256 and inventory(app) == (self.manifest(release.id) or {}).get("files"):
                return app
        return None

    def build(
        self, release: str, sha256: str, config: Config, python: str, fill: Callable[[Path], None], damage: list[str]
    ) -> tuple[str, bool]:
        """Make the release beside, then put it in place whole; or mend the `damage` of one that stands, and may serve.

        Returns the key of the virtualenv and whether that was built.
        """
        work, final = self.releases_dir / f".{release}.{os.getpid()}", self.releases_dir / release
        old = self.manifest(release) if damage else None
        try:
            work.mkdir(parents=True)
            self.host.step("unpack")
            fill(work / "app")
            files, source = inventory(work / "app"), wants(work / "app", config.requirements)
            key, built = self.ensure_venv(work / "app", source, config, python)
            in_use = final.is_dir() and release in self.in_use()
            self.host.step("build")
            os.symlink(f"../../venvs/{key}", work / "venv")
            if source.project:
                self.install_site(work, key, config, self.sound_copy(sha256))
            for name, (text, mode) in {**self.generated(config)}.items():
                write(work / name, text, mode)
            if config.credentials:
                (work / "credentials").chmod(0o700)
            write_json(work / "config.json", dataclasses.asdict(config), 0o600)
            target = static_target(work, config.static_dir)
            if target:
                os.symlink(target, work / "static")
            elif config.static_dir:
                self.warnings.append(f"there is no directory {config.static_dir} in the source: no static files")
            self.host.step("manifest")
            noted = {name: config.notes.get(name, "") for name in ("by", "from", "revision")}
            noted["by"] = noted["by"] or self.host.who()
            known = {"id": release, "app": self.name, "when": utc(self.host.now()), **noted, **(old or {})}
            made = {"archive_sha256": sha256, "venv": key, "python": python, "site": source.project, "files": files}
            write_json(work / "manifest.json", {**known, **made})
            self.host.step("units")
            self.write_units(release, config)
            self.check_units(release, config)
            self.audit("repair" if old else "stage", release, **noted, **({"what": damage} if old else {}))
            if old or in_use:
                refused = read_text(final / "refused.json")
                if refused:
                    write(work / "refused.json", refused)
                points = self.mount_points(release, config)
                mirror(work, final, lambda name: in_use or lies_on(name, points))
                self.compile(final, final)
            else:
                self.compile(work, final)
                os.sync()
                self.host.step("publish")
                erase(final)  # a directory without a manifest is no release
                os.rename(work, final)
            sync_directory(self.releases_dir)
            self.host.step("staged")
            return key, built
        finally:
            with contextlib.suppress(OSError):
                erase(work)

    def write_units(self, release: str, config: Config) -> None:
        changed = {path: file for path, file in self.unit_files(release, config).items() if differs(path, *file)}
        for path, (text, mode) in changed.items():
            write(path, text, mode)
        if changed:
            self.host.systemctl("daemon-reload")

    def check_units(self, release: str, config: Config) -> None:
        """Refuse a release with a unit that systemd cannot load, and take its units away again."""
        kinds = ((name, kind) for name, texts in config.processes.items() for kind in texts)
        units = [self.unit(release), *(f"{self.name}.{name}@{release}.{kind}" for name, kind in kinds)]
        shown = self.host.show(*units)
        bad = {unit: shown.get(unit, {}) for unit in units if shown.get(unit, {}).get("LoadState") != "loaded"}
        if not bad:
            return
        if not self.manifest(release):
            for path in self.unit_files(release, config):
                erase(path if path.parent == self.units_dir else path.parent)
            self.host.systemctl("daemon-reload")
        said = "\n".join(f"{unit}: {found.get('LoadError') or found.get('LoadState')}" for unit, found in bad.items())
        raise Refused(
            f"release {release} of {self.name} is refused: systemd cannot load {', '.join(bad)}; nothing was switched",
            said,
            "look at flask_gunicorn_nginx_processes and flask_gunicorn_nginx_service_settings",
        )

    def check_schedules(self, config: Config) -> None:
        """Refuse a schedule that this host's systemd cannot read: its timer would never run."""
        for name, texts in config.processes.items():
            for when in re.findall(r"(?m)^OnCalendar=(.*)$", texts.get("timer", "")):
                done = self.host.run(["systemd-analyze", "calendar", "--", when])
                if done.rc not in (0, 127):
                    what = f"the schedule {when!r} of {name} is none that systemd can read"
                    raise Refused(what, done.err.strip(), "see systemd.time(7): daily, Mon 03:00, *-*-* 03:00:00")

    def compile(self, home: Path, final: Path) -> None:
        """Make byte code, with the final path in it. What does not compile, the gate refuses if the app imports it."""
        trees = [str(home / name) for name in ("app", "site") if (home / name).is_dir()]
        python = str(home / "venv" / "bin" / "python")
        self.host.run([python, "-I", "-m", "compileall", "-q", "-s", str(home), "-p", str(final), *trees])

    # --- virtualenvs

    def venv_sound(self, key: str, python: str) -> bool:
        venv = self.venvs_dir / key
        if not (venv / ".complete").exists():
            return False
        done = self.host.run(
            [str(venv / "bin" / "python"), "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        )
        return done.rc == 0 and done.out.strip() == python

    def ensure_venv(self, tree: Path, source: Wants, config: Config, python: str) -> tuple[str, bool]:
        """Return the key of the virtualenv for this source, and whether it had to be built.

        It is built in place, for its scripts hold its path; `.complete`, written last, says that it is whole.
        """
        self.warnings += [source.warning] if source.warning else []
        if source.server and not config.server_requirements:
            raise Refused("the source names no gunicorn", remedy="add gunicorn[gevent], or give server_requirements")
        base = venv_key(python, self.host.machine(), source, config.server_requirements)
        names = [base, *(f"{base}.{number}" for number in range(2, 100))]
        sound = next((name for name in names if self.venv_sound(name, python)), None)
        if sound:
            return sound, False
        # a damaged one is not taken from under what runs from it: the next name is built, and the release's link moves
        users = {(self.manifest(release) or {}).get("venv") for release in self.in_use()}
        key = next(name for name in names if name not in users or not (self.venvs_dir / name).exists())
        venv = self.venvs_dir / key
        # pip inherits this second lock: where flaskctl was killed it may be writing still
        with open(self.host.path(f"/run/flaskctl/{self.name}.build.lock"), "a", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self.host.step("venv")
                erase(venv)
                venv.mkdir(parents=True)
                self.tool([config.python, "-m", "venv", str(venv)], config, tree, lock, "no virtualenv could be made")
                self.host.step("dependencies")
                self.install(venv, tree, source, config, lock)
                self.host.step("venv-complete")
                os.sync()
                write_json(venv / ".complete", {"key": key, "when": utc(self.host.now())})
            except BaseException:
                with contextlib.suppress(OSError):
                    erase(venv)
                raise
        return key, True

    def install(self, venv: Path, tree: Path, source: Wants, config: Config, lock: IO[str]) -> None:
        """Install what the source wants, then Gunicorn if it names none, then see whether all that fits together."""

        def pip(what: str, *words: str) -> None:
            self.tool([str(venv / "bin" / "python"), "-I", "-m", "pip", *words], config, tree, lock, what)

        if source.file:
            hashes = ["--require-hashes"] if source.hashed else []
            pip(f"{source.file} could not be installed", "install", *hashes, "-r", source.file)
        else:  # install the project to get what it names, then take the project itself out: it belongs to the release
            copy = venv / ".build"
            shutil.copytree(tree, copy, symlinks=True)
            pip("the project's dependencies could not be installed", "install", str(copy))
            pip("the project could not be taken out again", "uninstall", "-y", *self.installed(venv, str(copy)))
            erase(copy)
        rest = without(config.server_requirements, self.installed(venv)) if source.server else ""
        if rest:
            file = venv / ".server.txt"
            write(file, rest)
            pip("Gunicorn could not be installed", "install", "--require-hashes", "--no-deps", "-r", str(file))
            erase(file)
        pip("the requirements do not fit together", "check")

    def installed(self, venv: Path, origin: str = "") -> list[str]:
        """Return the names of the packages in a virtualenv; with `origin`, of those installed from that directory."""
        script = (
            "import importlib.metadata, sys\n"
            "for found in importlib.metadata.distributions():\n"
            "    if sys.argv[1] in (found.read_text('direct_url.json') or ''): print(found.metadata['Name'])\n"
        )
        return self.host.run([str(venv / "bin" / "python"), "-I", "-c", script, origin]).out.split()

    def install_site(self, work: Path, key: str, config: Config, like: Path | None) -> None:
        """Put the project itself into the release: so releases with the same lock file share one virtualenv."""
        if like and (like.parent / "site").is_dir() and (self.manifest(like.parent.name) or {}).get("venv") == key:
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(like.parent / "site", work / "site", symlinks=True, ignore=skip)
            return
        copy = work / ".build"  # setuptools writes into the source it builds
        shutil.copytree(work / "app", copy, symlinks=True)
        argv = [str(work / "venv" / "bin" / "python"), "-I", "-m", "pip", "install", "--no-deps", "--target"]
        self.tool([*argv, str(work / "site"), str(copy)], config, work, None, "the project could not be installed")
        erase(copy)

    def tool(self, argv: Sequence[str], config: Config, cwd: Path, lock: IO[str] | None, what: str) -> None:
        """Run one tool of the build, in an environment of our own: of host and caller only the proxy counts."""
        environment = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
        environment.update(
            PATH=PATH, HOME="/nonexistent", LANG="C.UTF-8", PIP_CONFIG_FILE="/dev/null", PIP_NO_INPUT="1"
        )
        environment.update(PIP_NO_CACHE_DIR="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_PROGRESS_BAR="off")
        environment.update(PIP_ROOT_USER_ACTION="ignore", PIP_RETRIES="3", PIP_TIMEOUT="20")
        environment.update({"PIP_INDEX_URL": config.index_url} if config.index_url else {})
        environment.update({"PIP_CERT": config.ca_bundle} if config.ca_bundle else {})
        done = self.host.run(argv, env=environment, cwd=cwd, pass_fds=[lock.fileno()] if lock else [])
        if done.rc:
            output = re.sub(r"(https?://)[^/@\s]+@", r"\1****@", f"{done.out}\n{done.err}".strip())
            lines = [line for line in output.splitlines() if line and not line.startswith("Looking in")]
            full = shutil.disk_usage(self.venvs_dir).free < 16 * 1024**2
            raise Refused(what, "\n".join(lines[-25:]), FULL if full else pip_remedy(output))

    # --- activate, rollback, recover

    def activate(self, wanted: str, holder: Json | None = None) -> Json:
        settings = self.settings()
        with self.locked(holder):
            state = self.state()
            if state.intent or wanted != state.current or wanted not in state.active:
                self.mind(holder)  # where it serves already nothing moves
            if self.dry and RELEASE_ID.match(wanted) and not self.manifest(wanted):
                return {"id": wanted, "changed": True, "msg": f"would activate {wanted}, once it is staged"}
            release = self.find(wanted)
            self.recover()
            answer = self.go_to(release, "activate", settings)
            return {**answer, "lease": read_json(self.lease_file)}

    def rollback(self, wanted: str | None, holder: Json | None = None) -> Json:
        settings = self.settings()
        with self.locked(holder):
            self.mind(holder)
            self.recover()
            state, releases = self.state(), self.releases()
            release = self.find(wanted) if wanted else self.rollback_to(state, releases)
            if not release:
                others = ", ".join(item.id for item in releases if item.id != state.current and not item.refused)
                what = f"{self.name} has no good release before {state.current or 'the first one'} to go back to"
                raise Refused(
                    what, remedy=f"name one: flaskctl {self.name} rollback ID; there is {others}" if others else ""
                )
            return self.go_to(release, "rollback", settings)

    def go_to(self, release: str, how: str, settings: Json) -> Json:
        """Start, prove, switch, prove, drain. The one way that traffic moves."""
        units = self.units()
        state = self.state(units)
        plan = plan_activation(state, release)
        answer: Json = {"id": release, "from": state.current, "repairs": self.repairs}
        if self.dry or not any(plan):
            answer.update(current=state.current, previous=state.previous, active=list(state.active))
            answer.update(changed=any(plan) or bool(self.repairs))
            said = f"would {how}: {release}" if any(plan) else f"{release} is current and serves"
            if not self.dry and self.has_site(settings):
                said = str(self.verify(release)["msg"])
            return {**answer, "msg": said}
        began = self.host.now()
        self.check_whole(release)
        self.open_socket(state, units)
        intent = Intent(release, state.current, state.previous, how, utc(began))
        self.host.step("intent")
        try:
            write_json(self.intent_file, intent.as_json())
        except OSError as error:  # a rollback must go on a full disk too; a recovery can do without
            self.warnings.append(f"do not interrupt this: {error}")
        if plan.start:
            self.gate(release, state)
        try:
            self.switch(intent)
        except OSError:
            self.restore(intent)
            left = self.stop([release] if plan.switch else [])
            self.warnings += [left] if left else []
            erase(self.intent_file)
            raise
        self.finish(intent, settings)
        after, seconds = self.state(), self.host.now() - began
        answer.update(current=after.current, previous=after.previous, active=list(after.active), changed=True)
        done = "rolled back to" if how == "rollback" else "activated"
        origin = f", from {state.current}" if plan.switch and state.current else ""
        return {**answer, "seconds": round(seconds, 2), "msg": f"{done} {release}{origin}, in {seconds:.1f} s"}

    # --- restart

    def restart(self, holder: Json | None = None) -> Json:
        """Give the current release fresh processes, and no request a wait: a twin serves on the socket meanwhile."""
        settings = self.settings()
        with self.locked(holder):
            self.mind(holder)
            self.recover()
            units = self.units()
            state = self.state(units)
            release = state.current
            if not release:
                raise Refused(f"{self.name} has no current release", remedy=f"flaskctl {self.name} activate ID")
            answer: Json = {"id": release, "changed": True, "repairs": self.repairs}
            if self.dry:
                return {**answer, "msg": f"would restart {release}"}
            began = self.host.now()
            self.check_whole(release)
            self.open_socket(state, units)
            if release in state.active:
                self.start_twin(release)
                self.host.step("restart-first")
                refused = self.host.each("stop", self.unit(release))
                if self.host.up(self.unit(release)):
                    raise Refused(
                        f"{self.unit(release)} does not stop; it and its twin serve",
                        "\n".join(refused.values()),
                        f"mend the cause, then flaskctl {self.name} restart",
                    )
            self.host.step("restart-again")
            failed = self.started([self.unit(release)])
            if failed:
                what = f"{release} does not start again: {failed[0]}" + ("; its twin serves" if self.twins() else "")
                raise Refused(what, failed[1], f"mend the cause, then flaskctl {self.name} restart")
            self.host.step("restart-done")
            self.end_twins()
            workers = self.processes(release, ".service")
            before = self.host.show(*workers) if workers else {}
            refused = self.host.each("restart", *workers)
            after = self.host.show(*workers) if workers else {}
            same = [
                unit
                for unit in workers
                if unit in refused or after.get(unit, {}).get("MainPID") == before.get(unit, {}).get("MainPID", "0")
            ]
            self.audit("restart", release, **({"still": f"{', '.join(same)} is as before"} if same else {}))
            if same:
                what = f"{release} runs anew, but {', '.join(same)} could not be restarted"
                raise Refused(what, "\n".join(refused.values()), f"systemctl status {same[0]}")
            wrong = self.ask(settings["verify"], release, VERIFY_SECONDS)[1] if self.has_site(settings) else ""
            if wrong:
                raise Refused(
                    f"{release} runs anew, but through nginx: {wrong}", remedy="nginx -t; systemctl status nginx"
                )
            seconds = round(self.host.now() - began, 2)
            return {**answer, "seconds": seconds, "msg": f"restarted {release}, in {seconds:.1f} s"}

    def started(self, units: Sequence[str]) -> tuple[str, str] | None:
        """Start units and watch them: why one does not live, and what it said; None when all is well."""
        since = self.host.now()
        unit, why = self.live(units)
        return (why, essence(self.host.journal(unit, since))) if why else None

    def start_twin(self, release: str) -> None:
        """Start a second instance of a release, from the same unit and on the same socket, under another name."""
        unit, name = self.unit(release), f"{self.name}.twin-{release}.service"
        texts = "\n".join(self.unit_texts(unit))
        write(self.passing_units_dir / name, specified(unit, texts, percent="%%"))
        self.host.systemctl("daemon-reload")
        self.host.step("restart-twin")
        failed = self.started([name])
        if failed:
            self.end_twins()
            remedy = f"mend the cause, then flaskctl {self.name} restart"
            raise Refused(f"{release} would not start anew: {failed[0]}; it goes on as it is", failed[1], remedy)

    def twins(self) -> list[str]:
        """Return the units of a restart that is under way, or was cut: the file goes last."""
        return sorted(path.name for path in self.passing_units_dir.glob(f"{self.name}.twin-*.service"))

    def end_twins(self) -> None:
        for unit in self.twins():
            refused = self.host.each("stop", unit)
            if self.host.up(unit):  # its file stays, so that the next run tries again
                self.warnings.append(f"{unit} runs on: {refused.get(unit, '')}")
                continue
            self.host.systemctl("reset-failed", unit)
            erase(self.passing_units_dir / unit)
            self.host.systemctl("daemon-reload")

    def recover_twin(self, state: State) -> None:
        """End a restart that was cut: start the release itself where only its twin serves, and stop the twin."""
        if state.current and state.current not in state.active and self.started([self.unit(state.current)]):
            self.warnings.append(f"{state.current} does not start again, a twin of it from a cut restart serves")
            return
        self.end_twins()
        self.repairs.append("finished: a restart was cut")

    def check_whole(self, release: str) -> None:
        for name in ("app", "environment", "gunicorn.conf.py", "venv/.complete", "venv/bin/python"):
            path = self.releases_dir / release / name
            if not path.exists():
                raise Refused(
                    f"release {release} is damaged: {path} is missing", remedy="run the playbook: it mends it"
                )

    def open_socket(self, state: State, units: Units) -> None:
        """See that the socket is open before a release starts: without it a release would get no connection."""
        socket = self.socket_state(units)
        if socket["active"] and not socket["stale"]:
            return
        wrong = "does not listen where it should" if socket["active"] else "is not active"
        if state.running:
            what = f"{self.socket} {wrong} while {', '.join(state.running)} runs on it: no release can join"
            stop = f"systemctl stop {self.socket} '{self.name}@*'"
            raise Refused(what, remedy=f"an outage of seconds: {stop}; flaskctl {self.name} activate ID")
        since = self.host.now()
        self.host.systemctl("stop", self.socket)
        self.host.systemctl("reset-failed", self.socket)
        if self.host.systemctl("start", self.socket).rc:
            said = essence(self.host.journal(self.socket, since), 5)
            users = self.host.run(["ss", "-Hltnp", f"sport = :{self.settings().get('port')}"]).out.strip()
            raise Refused(f"{self.socket} does not start", f"{said}\n{users}".strip(), "is its port taken? ss -ltnp")
        self.repairs.append(f"started {self.socket}: it {wrong}")

    def gate(self, release: str, state: State) -> None:
        """Start the release beside the one that serves; `systemctl start` succeeds when each worker is healthy."""
        web, workers = self.unit(release), self.processes(release, ".service")
        if any(shown.get("NeedDaemonReload") == "yes" for shown in self.host.show(web, *workers).values()):
            self.host.systemctl("daemon-reload")
        self.host.step("start")
        since = self.host.now()
        # workers first: the web part answers users from its READY on, so all that can refuse a release comes before
        unit, why = self.live(workers)
        if not why:
            unit, why = self.live([web, *workers])
        self.host.step("started")
        if why:
            self.refuse(release, state, unit, since, why)

    def live(self, units: Sequence[str]) -> tuple[str, str]:
        """Start units and watch them for a while: the one that does not live on and why, or two empty words."""
        if not units:
            return "", ""
        webs = [unit for unit in units if unit.startswith((f"{self.name}@", f"{self.name}.twin-"))]
        if self.host.systemctl("start", *units).rc:
            states = self.host.show(*units)
            unit = next((unit for unit in units if states.get(unit, {}).get("ActiveState") != "active"), units[0])
            return unit, "it did not pass its gate" if unit in webs else f"{unit} does not start"
        pids = {unit: shown.get("MainPID", "0") for unit, shown in self.host.show(*units).items()}
        children = {unit: self.host.children(int(pids.get(unit, "0"))) for unit in webs}
        end, died = self.host.now() + SETTLE_SECONDS, ""
        while self.host.now() < end and not died:
            self.host.sleep(0.2)
            lost = (unit for unit, known in children.items() if known - self.host.children(int(pids.get(unit, "0"))))
            died = next(lost, "")
        for unit, shown in self.host.show(*units).items():
            if shown.get("ActiveState") != "active" or shown.get("MainPID", "0") != pids[unit]:
                return unit, f"{unit} crashed right after it had started"
        return (died, "a worker died right after it had started") if died else ("", "")

    def refuse(self, release: str, state: State, unit: str, since: float, why: str) -> NoReturn:
        """Stop a release that failed its gate, mark it, and let it speak for itself."""
        if self.host.show(unit).get(unit, {}).get("Result") == "timeout":
            why = HANGS
        detail = essence(self.host.journal(unit, since))
        if release == state.current:  # nothing else is there to serve: systemd goes on trying
            erase(self.intent_file)
            raise Refused(
                f"the current release {release} does not start: {why}", detail, f"flaskctl {self.name} rollback"
            )
        left = self.stop([release])
        self.mark_refused(release, why)
        erase(self.intent_file)
        serves = f"{', '.join(state.active)} goes on serving" if state.active else "nothing serves"
        serves += f"; {left}" if left else ""
        raise Refused(f"release {release} of {self.name} is refused: {why}; {serves}", detail)

    def mark_refused(self, release: str, why: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: the audit log may still take it
            write_json(self.releases_dir / release / "refused.json", {"when": utc(self.host.now()), "why": why})
        self.audit("refuse", release, why=why)

    def switch(self, intent: Intent) -> None:
        """Move `current`, and `previous` after it: by `current` a recovery knows which side of the switch it is on."""
        self.host.step("current")
        if self.linked("current") != intent.to:
            link(self.base / "current", f"releases/{intent.to}")
        self.host.step("previous")
        if intent.origin and intent.origin != intent.to and self.linked("previous") != intent.origin:
            link(self.base / "previous", f"releases/{intent.origin}")

    def finish(self, intent: Intent, settings: Json) -> None:
        """From the switch to the end: ask through nginx, drain the others, and forget the intent.

        nginx keeps connections to the old instance open for as long as that accepts requests on them. So whether nginx
        answers at all is asked before the drain, and whether it is this release that answers once the drain has begun.
        """
        self.host.step("verify")
        address = settings.get("verify") if self.has_site(settings) else None
        others = [release for release in self.state().running if release != intent.to]
        if address and others:
            self.prove(intent, address, None)
        self.host.step("drain")
        self.end_twins()
        self.drain_off(others)
        if address:
            self.prove(intent, address, intent.to)
        self.host.step("timers")
        idle = self.start_timers(intent.to)
        self.host.step("drained")
        left = self.stop(others)
        erase(self.releases_dir / intent.to / "refused.json")
        self.host.step("audit")
        more = {"was": intent.origin, "began": intent.began, "still": "; ".join(filter(None, [left, idle]))}
        self.audit(intent.how, intent.to, **{key: value for key, value in more.items() if value})
        self.host.step("done")
        erase(self.intent_file)
        sync_directory(self.base)
        if left:
            what = f"{intent.to} is current and serves, but beside it {left}: users meet both"
            raise Refused(what, remedy=f"stop it, then flaskctl {self.name} activate {intent.to}")
        if idle:
            raise Refused(f"{intent.to} is current and serves, but {idle}", remedy=f"flaskctl {self.name} status")

    def start_timers(self, release: str) -> str:
        """Start the schedules of a release; return which do not run and why, nothing if all is well."""
        timers = self.processes(release, ".timer")
        refused, up = self.host.each("start", *timers), self.host.up(*timers)
        return "; ".join(f"{unit} does not run: {refused.get(unit, '')}" for unit in timers if unit not in up)

    def has_site(self, settings: Json) -> bool:
        site = self.host.path(f"/etc/nginx/sites-enabled/{self.name}.conf")
        return bool(settings.get("verify")) and os.path.lexists(site)

    def prove(self, intent: Intent, address: Json, release: str | None) -> None:
        """Ask through nginx for an answer of this release, or of any. Where none comes, go back, and prove that."""
        answer, wrong = self.ask(address, release, VERIFY_SECONDS)
        if not wrong:
            return
        origin = intent.origin if intent.origin != intent.to and self.manifest(intent.origin) else None
        look = "nginx -t; systemctl status nginx"
        if not origin:
            erase(self.intent_file)
            raise Refused(f"release {intent.to} runs, but through nginx: {wrong}", answer.body, look)
        refused = self.host.each("start", self.unit(origin), *self.processes(origin, ".service"))
        if self.unit(origin) in refused:
            erase(self.intent_file)
            raise Refused(f"{wrong}; and {origin} does not start again, so {intent.to} stays", answer.body, look)
        self.restore(intent)
        idle = self.start_timers(origin)
        left = self.stop([intent.to])
        erase(self.intent_file)
        also = "".join(f"; {what}" for what in (left, idle, *(f"{unit} does not start" for unit in refused)) if what)
        if self.ask(address, origin, VERIFY_SECONDS)[1]:
            what = f"neither {intent.to} nor {origin} answers through nginx, {origin} is current again: {wrong}{also}"
            raise Refused(what, answer.body, f"no release is the cause: {look}")
        self.mark_refused(intent.to, wrong)
        what = f"release {intent.to} of {self.name} is refused: {wrong}; {origin} serves again, proven through nginx"
        raise Refused(what + also, answer.body)

    def restore(self, intent: Intent) -> None:
        """Put the links back as they were before the activation."""
        for name, release in (("current", intent.origin), ("previous", intent.previous)):
            if not self.manifest(release):
                erase(self.base / name)
            elif self.linked(name) != release:
                link(self.base / name, f"releases/{release}")

    def drain_off(self, releases: Sequence[str]) -> None:
        """Begin to stop releases: they accept no more, and answer what they have accepted."""
        for unit in self.units_of(releases):
            self.host.systemctl("stop", "--no-block", unit)

    def stop(self, releases: Sequence[str]) -> str:
        """Stop releases with their workers and schedules; what they have accepted is answered first.

        Returns what runs all the same and why, nothing if all is well.
        """
        units = self.units_of(releases)
        refused = self.host.each("stop", *units)
        left = self.host.up(*units)
        for unit in units:
            if unit not in left:
                self.host.systemctl("reset-failed", unit)
        return "; ".join(f"{unit} runs on" + (f": {refused[unit]}" if unit in refused else "") for unit in left)

    def units_of(self, releases: Sequence[str]) -> list[str]:
        """Return the units of releases, in the order in which they are stopped."""
        kinds = (".timer", ".service")
        return [x for i in releases for x in (*(p for kind in kinds for p in self.processes(i, kind)), self.unit(i))]

    def recover(self) -> None:
        """Finish or undo what an earlier flaskctl was cut in, mend a missing `current`, sweep up what is half made."""
        units = self.units()
        state = self.state(units)
        plan, still = plan_recovery(state, self.last_activated()), ""
        if self.dry:
            self.warnings += [plan.why] if plan.why else []
            return
        changed = [unit for unit, shown in units.items() if shown.get("NeedDaemonReload") == "yes"]
        if changed:
            self.host.systemctl("daemon-reload")
            self.repairs.append(f"had systemd read anew: {', '.join(changed)}")
        left = [unit for unit in units if unit.startswith(f"{self.name}.try-")]
        for unit in left:
            self.host.systemctl("stop", unit)
            self.host.systemctl("reset-failed", unit)
        self.warnings += [f"{unit}, of a trial that was cut, runs on" for unit in self.host.up(*left)]
        if not state.intent and self.twins():
            self.recover_twin(state)
            state = self.state()
        for path in self.releases_dir.glob(".*"):
            erase(path)
        if state.intent and plan.action == "finish" and state.intent.to not in state.active:
            web, workers = self.unit(state.intent.to), self.processes(state.intent.to, ".service")
            if self.host.each("start", web, *workers) and state.intent.to != state.intent.origin:
                why = f"{state.intent.to}, cut after the switch, does not start"
                plan = Recovery("undo", state.intent.origin, (state.intent.to,), why)
        if state.intent and plan.action == "finish":
            try:
                self.switch(state.intent)
                self.finish(state.intent, self.settings())
            except Refused as error:
                self.warnings.append(error.msg)
        elif state.intent:
            self.restore(state.intent)
            still = self.stop(plan.stop)
            erase(self.intent_file)
        elif plan.action == "relink":
            link(self.base / "current", f"releases/{plan.release}")
        elif plan.action == "stop":
            still = self.stop(plan.stop)
        if still:
            self.warnings.append(f"{plan.why}; {still}")
            self.audit("recover", plan.release, why=plan.why, still=still)
        elif plan.action != "none":
            said = {"finish": "finished: ", "undo": "undone: ", "stop": "stopped: "}.get(plan.action, "") + plan.why
            self.repairs.append(said)
            self.audit("recover", plan.release, why=said)

    # --- prune, remove

    def prune(self, keep: int | None) -> Json:
        count = int(self.settings().get("keep_releases", 5)) if keep is None else keep
        with self.locked():
            return self.prune_to(count)

    def prune_to(self, keep: int) -> Json:
        """Remove what is older than the newest `keep` releases, under the lock."""
        if keep < 1:
            raise Usage("--keep wants 1 or more")
        self.recover()
        state, releases = self.state(), self.releases()
        intent = [state.intent.to, state.intent.origin] if state.intent else []
        linked = [state.current, state.previous, self.rollback_to(state, releases), *intent]
        protected = [*filter(None, linked), *state.running, *state.jobs]
        venvs = [path.name for path in self.venvs_dir.glob("*")]
        plan = plan_pruning(releases, venvs, keep, protected)
        if not self.dry:
            self.carry_out(plan, protected)
        gone = [f"{len(plan.releases)} release(s)"] if plan.releases else []
        gone += [f"{len(plan.venvs)} virtualenv(s)"] if plan.venvs else []
        does = "would remove" if self.dry else "removed"
        return {
            "removed": list(plan.releases),
            "venvs": list(plan.venvs),
            "repairs": self.repairs,
            "changed": bool(gone or self.repairs),
            "msg": f"{does} {' and '.join(gone)}" if gone else "nothing to remove",
        }

    def carry_out(self, plan: Pruning, protected: Iterable[str]) -> None:
        for release in plan.releases:
            mounts = self.host.mounts_below(self.releases_dir / release)
            if mounts:
                self.warnings.append(f"{release} stays: {', '.join(mounts)} is mounted in it")
                continue
            self.host.step("prune-release")
            erase(self.releases_dir / release / "manifest.json")  # without it, what a kill leaves is no release
            erase(self.releases_dir / release)
        kept = {*protected, *(release.id for release in self.releases())}
        for path in [path for path in self.releases_dir.glob("*") if path.name not in kept]:
            erase(path)
        reload = False
        for path in [*self.units_dir.glob(f"{self.name}@*.service.d"), *self.units_dir.glob(f"{self.name}.*@*")]:
            match = re.search(r"@([0-9a-f]{12})\.(service|timer)(\.d)?\Z", path.name)
            if match and match.group(1) not in kept:
                reload = erase(path) or reload
        if reload:
            self.host.systemctl("daemon-reload")
        for venv in plan.venvs:
            self.host.step("prune-venv")
            erase(self.venvs_dir / venv / ".complete")
            erase(self.venvs_dir / venv)

    # --- the record: what is not in it is not ours

    @contextlib.contextmanager
    def recorded(self) -> Iterator[dict[str, str]]:
        """Give the record to change; the playbook's tasks wait meanwhile, as this does for them."""
        lock = self.host.path("/run/flaskfleet/config_files.lock")
        lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(lock, "a", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            before = read_json(self.record_file) or {}
            after = dict(before)
            yield after
            if after != before:
                write_json(self.record_file, after)

    def on_record(self) -> bool:
        """Return whether the role made this app here: it noted the settings before it made anything else."""
        return self.recorded_name(self.settings_file) in (read_json(self.record_file) or {})

    def recorded_name(self, path: Path) -> str:
        return f"/{path.relative_to(self.host.root)}"

    def record_account(self) -> None:
        """Note the app's user, where it is the one that the role made."""
        account, who = self.host.account(self.name), f"user {self.name}"
        if self.dry or not account or not account.as_made() or not self.on_record():
            return
        with self.recorded() as record:
            record[who] = str(account)

    # --- remove

    def remove(self, purge: bool) -> Json:
        """Take what the role made of the app off this host, and say what stays; its data goes only with `purge`."""
        with self.locked():
            record = read_json(self.record_file) or {}
            answer: Json = {"removed": [], "left": [], "changed": False}
            if self.on_record() or f"user {self.name}" in record:
                answer = self.remove_recorded(record, purge)
        names = {name.partition(" ")[2] for name in read_json(self.record_file) or {} if name.startswith("user ")}
        answer["others"] = [name for name in apps(self.host) if name != self.name]
        answer["data_of"] = sorted(name for name in names if self.data_of(name))
        done = f"{'would remove' if self.dry else 'removed'} {self.name}" if answer["changed"] else ""
        left = f"left: {', '.join(answer['left'])}" if answer["left"] else ""
        return {**answer, "msg": "; ".join(filter(None, [done, left])) or f"{self.name} is not here"}

    def data_of(self, name: str) -> list[Path]:
        """Return the directories in which an app keeps what it writes."""
        paths = [self.host.path(f"/var/lib/{part}{name}") for part in ("", "private/")]
        return [path for path in paths if os.path.lexists(path)]

    def remove_recorded(self, record: Mapping[str, str], purge: bool) -> Json:
        units = [f"{self.name}.socket", f"{self.name}.service"]
        ours, left = self.ours(record), self.theirs(record)
        ours += self.data_of(self.name) if purge else []
        left += [] if purge else [f"{self.recorded_name(path)} (its data)" for path in self.data_of(self.name)]
        up = [name for name, shown in self.units().items() if shown.get("ActiveState") not in (*STOPPED, None)]
        user = self.host.account(self.name)
        known = record.get(f"user {self.name}")
        account = bool(user) and (str(user) == known if known else user.as_made())  # type: ignore[union-attr]
        keeps = bool(user) and (not account or (bool(self.data_of(self.name)) and not purge))
        why = "owns its data" if account else "not made by the role"
        left += [f"user {self.name} ({why})"] if keeps else []
        changed = bool(ours or up or (account and not keeps))
        if changed and not self.dry:
            self.host.step("remove-stop")
            refused = self.host.each("stop", *units, *up)
            still = self.host.up(*units, *up)
            if still:
                raise Refused(
                    f"{', '.join(still)} cannot be stopped, so nothing of {self.name} is removed",
                    "\n".join(filter(None, refused.values())),
                    f"systemctl status {still[0]}",
                )
            mounts = [point for path in ours for point in self.host.mounts_below(path)]
            if mounts:
                raise Refused(f"{', '.join(mounts)} is mounted in {self.name}", remedy=f"umount {' '.join(mounts)}")
            self.host.systemctl("disable", *units)
            self.host.step("remove-files")
            for path in ours:
                erase(path)
            with contextlib.suppress(OSError):  # somebody keeps something there
                self.base.rmdir()
            self.host.systemctl("daemon-reload")
            self.host.systemctl("reset-failed", f"{self.name}.*", f"{self.name}@*")
            if account and not keeps:
                self.remove_account()
        if not self.dry:  # where nothing was left to change too: what was cut may have come as far as here
            self.forget(ours, keeps and account)
            erase(self.host.path(f"/run/flaskctl/{self.name}.build.lock"))
            erase(self.lock_file)
        return {"removed": [self.recorded_name(path) for path in ours], "left": left, "changed": changed}

    def remove_account(self) -> None:
        done = self.host.run(["userdel", self.name])
        if self.host.account(self.name):
            raise Refused(f"the user {self.name} cannot be removed", done.err.strip(), "then run this again")

    def forget(self, gone: Iterable[Path], account: bool) -> None:
        """Take what was removed out of the record; what was kept for the data that stays is still ours."""
        with self.recorded() as record:
            for path in [*gone, self.settings_file]:
                if not os.path.lexists(path):
                    record.pop(self.recorded_name(path), None)
            record.pop(f"user {self.name}", None)
            if account:
                record[f"user {self.name}"] = str(self.host.account(self.name))
                record.update({self.recorded_name(path): "directory" for path in self.data_of(self.name)})

    def ours(self, record: Mapping[str, str]) -> list[Path]:
        """Return what stands of the app that the role or flaskctl made, the settings last: by them the app is known."""
        names = ("releases", "venvs", "current", "previous", "activating.json", "rollout.json", "drained")
        found = [self.base / name for name in (*names, "maintenance.html")]
        found += [path for path in self.base.glob(".*.new")]
        found += [path for path in self.units_dir.glob(f"{self.name}[.@]*") if self.is_release_unit(path)]
        found += [path for path in self.passing_units_dir.glob(f"{self.name}.twin-*.service")]
        units = [self.units_dir / f"{self.name}{end}" for end in (".socket", ".service", "@.service")]
        found += [path for path in units if self.as_recorded(path, record)]
        found += [self.audit_file]
        found += [self.settings_file] if self.recorded_name(self.settings_file) in record else []
        return [path for path in found if os.path.lexists(path)]

    def theirs(self, record: Mapping[str, str]) -> list[str]:
        """Return what stands under the app's name and stays: not made by the role, or changed by somebody."""
        ours = set(self.ours(record))
        known = [*self.units_dir.glob(f"{self.name}[.@]*"), *self.base.glob("*")]
        return [f"{self.recorded_name(path)} (not as the role made it)" for path in sorted(known) if path not in ours]

    def as_recorded(self, path: Path, record: Mapping[str, str]) -> bool:
        return record.get(self.recorded_name(path)) == fingerprint(path)

    def is_release_unit(self, path: Path) -> bool:
        """Return whether flaskctl wrote it with a release: a unit of one, or the directory of its drop-in."""
        return bool(re.fullmatch(rf"{self.name}(\.[a-z0-9-]+)?@[0-9a-f]{{12}}\.(service|timer)(\.d)?", path.name))


def fingerprint(path: Path) -> str:
    """Return what stands at a path as the role notes it."""
    try:
        return f"-> {os.readlink(path)}" if path.is_symlink() else file_sha256(path)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return ""


def apps(host: Host) -> list[str]:
    return sorted(path.stem for path in host.path("/etc/flaskctl").glob("*.json"))


# ---------------------------------------------------------------------------------------------------------------------
# 6. The command line
# ---------------------------------------------------------------------------------------------------------------------

EPILOG = """\
exit codes:
  0   done, or nothing to do
  1   refused, or failed: the message says what, why and what to do
  2   wrong usage
  3   stage --sha256: the archive itself is needed
  75  another flaskctl holds the app's lock, or another rollout its lease: the message says who, and since when
  `run` gives the exit code of the command it ran

at three in the morning:
  flaskctl hello status               what serves, and what is wrong
  flaskctl hello rollback             back to the release before this one; needs no network
  flaskctl hello releases             what there is to go back to
  flaskctl hello logs -n 200          what the app said
  flaskctl hello run -- flask shell   a command in the current release: its user, sandbox, environment
"""


class Parser(argparse.ArgumentParser):
    """Usage errors as Refused: with --json they are an answer too."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message, remedy=f"{self.prog} --help")


def parser() -> Parser:
    shared = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--json", action="store_true", help="answer with one JSON object")
    shared.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")
    main = Parser(
        prog="flaskctl",
        description="Release, roll back and look after a Flask app on this host. `flaskctl apps` lists the apps.",
        epilog=EPILOG,
        parents=[shared],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    main.add_argument("app", metavar="APP", help="the name of the app")
    commands = main.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str, **arguments: str) -> argparse.ArgumentParser:
        sentence = f"{text[0].upper()}{text[1:]}."
        command = commands.add_parser(name, help=text, description=sentence, parents=[shared])
        for argument, meaning in arguments.items():
            command.add_argument(argument, metavar=argument.upper(), nargs="?", help=meaning)
        return command

    status = add("status", "what serves, where a rollback would go, what is wrong")
    status.add_argument("--drift", action="store_true", help="read each file of the release: does one differ?")
    add("releases", "the releases on this host")
    stage = add(
        "stage",
        "put a release on this host; nothing that is served changes",
        archive="a .tar.gz of the source, - for standard input; without: that of --sha256, or of the current release",
    )
    stage.add_argument("--sha256", metavar="HEX", help="its checksum; alone, asks whether the archive is needed")
    stage.add_argument(
        "--config", metavar="FILE", help="configuration, JSON, - for standard input, as a line; default: the current"
    )
    stage.add_argument(
        "--try",
        dest="how",
        choices=("import", "health"),
        help="start it too, on a socket of its own: does it import, is it healthy? Refused if not",
    )
    activate = add("activate", "start a staged release, switch to it, drain the old one")
    activate.add_argument("id", metavar="ID", help="the id of a release, or its beginning")
    rollback = add("rollback", "go back to the release before this one", id="go back to this one instead")
    restart = add("restart", "give the current release fresh processes (after updates, say); no request waits")
    lock = add("lock", "take the lease: no other rollout may stage until `unlock`")
    unlock = add("unlock", "end the lease")
    unlock.add_argument("--force", action="store_true", help="that of another rollout, which is dead")
    unlock.add_argument("--keep", metavar="N", type=int, help="prune before, and keep so many releases")
    for command in (stage, activate, rollback, restart, lock, unlock):
        command.add_argument("--holder", metavar="JSON", help='the rollout: {"id", "by", "from", "pid", "since"}')
    add("verify", "ask through nginx whether this very release answers", id="default: the current release")
    bake = add("bake", "watch the real traffic: is it worse than before the last activation?")
    bake.add_argument("--seconds", metavar="N", type=int, required=True, help="for so long, and compare with as long")
    limits = Limits()
    for option, kind, default, meaning in (
        ("--max-errors", float, limits.errors, "so many percentage points more may fail with 5xx"),
        ("--max-slower", float, limits.slower, "95 of 100 requests may take so many times as long"),
        ("--min-requests", int, limits.requests, "with fewer before or after, do not judge"),
    ):
        bake.add_argument(option, metavar="N", type=kind, default=default, help=f"{meaning}; default: {default:g}")
    drain = add("drain", "have the readiness path answer 503, for load balancers; go on serving")
    drain.add_argument("--seconds", metavar="N", type=int, default=0, help="wait so long for them to notice")
    add("undrain", "have the readiness path answer again what the app's health path does")
    maintenance = add("maintenance", "answer every path of the app with 503 and a page; its health path not")
    maintenance.add_argument("mode", choices=("on", "off"))
    maintenance.add_argument("--page", metavar="FILE", help="the page, HTML; default: a plain one")
    prune = add("prune", "remove old releases; never what serves, or what a rollback needs")
    prune.add_argument("--keep", metavar="N", type=int, help="how many to keep; default: the app's own setting")
    logs = add("logs", "what the app wrote to the journal")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    logs.add_argument("-n", "--lines", metavar="N", type=int, default=100, help="how many lines; default: 100")
    run = add("run", "run a command as the release runs: its user, sandbox, environment, credentials")
    run.add_argument("--release", metavar="ID", help="in this release; default: the current one")
    run.add_argument("words", metavar="-- COMMAND ...", nargs="*", help="looked up in the release's virtualenv first")
    add("start", "start the current release; what systemd does at boot and on the first connection")
    remove = add("remove", "take the app off this host; what it wrote in /var/lib stays")
    remove.add_argument("--purge", action="store_true", help="remove that too")
    return main


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line. What follows `--` is never looked at: it is the command of `run`."""
    cut = argv.index("--") if "--" in argv else len(argv)
    ours, words = list(argv[:cut]), list(argv[cut + 1 :])
    if [word for word in ours if not word.startswith("-")] == ["apps"]:
        return argparse.Namespace(app=None, command="apps", json="--json" in ours, dry_run=False)
    options = parser().parse_args(ours or ["--help"])
    options.json, options.dry_run = "--json" in ours, "--dry-run" in ours
    options.command = options.command or "status"
    if options.command == "run":
        options.words += words
    elif words:
        raise Usage(f"{options.command} takes no command")
    if not APP_NAME.match(options.app):
        raise Usage(f"{options.app!r} is no name of an app", remedy="flaskctl apps")
    return options


def text_of(path: str | None, stdin: IO[str]) -> str | None:
    try:
        return stdin.read() if path == "-" else Path(path).read_text("utf-8") if path else None
    except UnicodeError:
        raise Refused(f"{path} is not UTF-8 text") from None


def piped(options: argparse.Namespace, stdin: IO[str]) -> tuple[Path | IO[bytes] | None, str | None]:
    """Return archive and configuration of `stage`; both can come on standard input, the configuration as a line."""
    if options.archive != "-":
        return Path(options.archive) if options.archive else None, text_of(options.config, stdin)
    raw = stdin.buffer  # type: ignore[attr-defined]  # of a text stream: the archive is none
    try:
        config = raw.readline().decode() if options.config == "-" else text_of(options.config, stdin)
    except UnicodeError:
        raise Refused("the configuration is not UTF-8 text") from None
    return io.BytesIO(raw.read()), config


def carry_out(options: argparse.Namespace, app: App, stdin: IO[str]) -> Json:
    tty = stdin.isatty() and sys.stdout.isatty()
    holder = parse_holder(getattr(options, "holder", None))
    commands: dict[str, Callable[[], Json]] = {
        "status": lambda: app.status(getattr(options, "drift", False)),
        "releases": app.list_releases,
        "stage": lambda: app.stage(*piped(options, stdin), options.sha256, options.how, holder),
        "activate": lambda: app.activate(options.id, holder),
        "rollback": lambda: app.rollback(options.id, holder),
        "restart": lambda: app.restart(holder),
        "lock": lambda: app.lock(holder),
        "unlock": lambda: app.unlock(holder, options.force, options.keep),
        "verify": lambda: app.verify(options.id),
        "bake": lambda: app.bake(options.seconds, Limits(options.max_errors, options.max_slower, options.min_requests)),
        "drain": lambda: app.drain(options.seconds),
        "undrain": app.undrain,
        "maintenance": lambda: app.maintenance(options.mode, text_of(options.page, stdin)),
        "prune": lambda: app.prune(options.keep),
        "logs": lambda: app.logs(options.follow, options.lines, options.json),
        "run": lambda: app.run(options.words, options.release, tty, options.json),
        "start": app.start,
        "remove": lambda: app.remove(options.purge),
    }
    return commands[options.command]()


def main(argv: Sequence[str], host: Host, stdin: IO[str], stdout: IO[str], stderr: IO[str]) -> int:
    """Run one command; return the exit code. With --json, all that there is to say is one object on `stdout`."""
    os.umask(0o022)
    as_json = "--json" in argv[: list(argv).index("--") if "--" in argv else None]
    base: Json = {"app": None, "command": None, "changed": False}
    warnings: list[str] = []
    code, failure, app = 0, None, None
    try:
        options = parse(argv)
        base.update(app=options.app, command=options.command)
        if options.command == "apps":
            found = apps(host)
            answer: Json = {"apps": found, "msg": "\n".join(found) or "no app on this host"}
        else:
            app = App(host, options.app, options.dry_run, " ".join(["flaskctl", *argv]))
            warnings = app.warnings
            answer = carry_out(options, app, stdin)
        if options.command == "run":
            code = int(answer["rc"])
            if code and as_json:
                said = essence(f"{answer['stdout']}\n{answer['stderr']}")
                answer.update(failed=True, msg=f"the command ended with exit code {code}", detail=said)
        elif answer.get("archive_needed") and not options.dry_run:
            code = 3
    except Refused as error:
        failure = error
    except KeyboardInterrupt:
        failure = Refused("interrupted", remedy="the next stage, activate or rollback finishes or undoes what was cut")
    except OSError as error:
        what = f"{error.filename or base['command']}: {error.strerror}"
        failure = Refused(what, remedy=FULL if error.errno == errno.ENOSPC else "")
    if failure:
        code = failure.code
        answer = {"failed": True, "msg": failure.msg, "detail": failure.detail, "remedy": failure.remedy}
        # what was refused has a lease all the same, or is refused for one
        if app and base["command"] in ("stage", "activate"):
            answer["lease"] = read_json(app.lease_file)
    if as_json:
        stdout.write(json.dumps({**base, **answer, "warnings": warnings}) + "\n")
        return code
    stderr.write("".join(f"flaskctl: warning: {warning}\n" for warning in warnings))
    if failure:
        detail = "".join(f"  {line}\n" for line in failure.detail.splitlines())
        stderr.write(f"flaskctl: {failure.msg}\n{detail}" + (f"remedy: {failure.remedy}\n" if failure.remedy else ""))
    elif answer["msg"]:
        stdout.write(answer["msg"] + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Host(), sys.stdin, sys.stdout, sys.stderr))

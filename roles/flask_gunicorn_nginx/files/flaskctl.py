#!/usr/bin/python3 -I
"""flaskctl: the release engine of Flask Fleet, on the host.

A release (code, dependencies, configuration) is immutable; systemd holds the socket that two releases can share. So a
release is staged beside the one that serves, started on the same socket, proves itself there, and only then becomes
`current`; the old one is drained. A rollback is the same with an older id. This is the only program that moves traffic.

How to read it: pure functions decide (part 1 to 3), `Host` is the seam to systemd, processes and the clock (part 4),
`App` carries the decisions out (part 5), the command line stands at the end (part 6).
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

Json = dict[str, Any]

APP_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
RELEASE_ID = re.compile(r"[0-9a-f]{12}\Z")
SHA256 = re.compile(r"[0-9a-f]{64}\Z")
COMMANDS = (
    "status", "releases", "stage", "activate", "rollback", "verify", "prune", "logs", "run", "start", "remove", "apps",
)  # fmt: skip
# Where a test may kill flaskctl (see Host.step): each stands just before what it names.
STAGE_STEPS = ("unpack", "venv", "dependencies", "venv-complete", "build", "manifest", "publish", "units", "staged")
ACTIVATE_STEPS = ("intent", "start", "started", "current", "previous", "verify", "timers", "drain", "done", "audit")
STEPS = (*STAGE_STEPS, *ACTIVATE_STEPS, "prune-release", "prune-venv", "remove-stop", "remove-files")

SETTLE_SECONDS = 1.0  # how long a release must live after READY before `current` moves to it
VERIFY_SECONDS = 10.0  # how long nginx may take to answer with the release that was activated
MAX_MEMBERS = 50_000
MAX_UNPACKED = 2 * 1024**3
MAX_VALUE = 128 * 1024  # one environment entry (NAME=value and its end) in the kernel: MAX_ARG_STRLEN
MAX_CREDENTIAL = 1024**2


class Refused(Exception):
    """flaskctl will not, or could not: what, the evidence, and what a person can do about it."""

    code = 1

    def __init__(self, msg: str, detail: str = "", remedy: str = "") -> None:
        super().__init__(msg)
        self.msg, self.detail, self.remedy = msg, detail, remedy


class Usage(Refused):
    code = 2


class Busy(Refused):
    code = 75


# ---------------------------------------------------------------------------------------------------------------------
# 1. What a release is: configuration, identity, environment file, requirements
# ---------------------------------------------------------------------------------------------------------------------

RESERVED_NAMES = {
    "FLASKFLEET_RELEASE",
    "LISTEN_FDS",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "NOTIFY_SOCKET",
    "CREDENTIALS_DIRECTORY",
}


@dataclasses.dataclass(frozen=True)
class Config:
    """What `stage` is told beside the archive. The last four fields say how to build or who built: no part of the id."""

    gunicorn_conf: str = ""
    environment: dict[str, str] = dataclasses.field(default_factory=dict)
    credentials: dict[str, str] = dataclasses.field(default_factory=dict)
    requirements: str = "requirements.txt"
    server_requirements: str = ""
    static_dir: str = ""
    service: str = ""
    processes: dict[str, dict[str, str]] = dataclasses.field(default_factory=dict)
    python: str = "python3"
    index_url: str = ""
    ca_bundle: str = ""
    notes: dict[str, str] = dataclasses.field(default_factory=dict)

    def as_json(self) -> Json:
        return dataclasses.asdict(self)


def parse_config(text: str) -> Config:
    """The configuration in `text` (a JSON object), or Refused with the name of what is wrong in it. Values are never shown."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Refused(f"the configuration is not JSON: {error}") from None
    if not isinstance(data, dict):
        raise Refused("the configuration is not a JSON object")
    fields = {field.name: field for field in dataclasses.fields(Config)}
    unknown = sorted(set(data) - set(fields))
    if unknown:
        raise Refused(f"unknown in the configuration: {', '.join(unknown)}", remedy=f"known: {', '.join(fields)}")
    for name, value in data.items():
        if name == "processes":
            ok = isinstance(value, dict) and all(
                is_text_map(v) and set(v) <= {"service", "timer"} for v in value.values()
            )
            wanted = 'an object of {"service": text, "timer": text} objects'
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
        path = PurePosixPath(getattr(config, name))
        if path.is_absolute() or ".." in path.parts:
            raise Refused(f"{name} must be a path inside the source, not {str(path)!r}")
    for name, units in config.processes.items():
        if not APP_NAME.match(name) or "service" not in units:
            raise Refused(f"process {name!r}: wants a name like `worker` and the text of its service")
    return config


def is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse what systemd would skip, misread or fail on; by name, the value may be a secret."""
    for name, value in environment.items():
        where = f"environment variable {name!r}"
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name):
            raise Refused(f"{where}: the name must be letters, digits and _, and not start with a digit")
        if name in RESERVED_NAMES:
            raise Refused(f"{where} is set by systemd for each release", remedy="take it out of the environment")
        if "\0" in value:
            raise Refused(f"{where}: the value holds a NUL byte, which no environment can carry")
        # systemd drops the whole file for one character that it holds invalid: surrogates and noncharacters
        if any(0xD800 <= ord(c) <= 0xDFFF or 0xFDD0 <= ord(c) <= 0xFDEF or ord(c) & 0xFFFE == 0xFFFE for c in value):
            raise Refused(f"{where}: the value holds a character that systemd does not take for UTF-8 text")
        if len(name) + 1 + len(value.encode()) + 1 > MAX_VALUE:
            raise Refused(
                f"{where}: longer than 128 KiB, which no process can be started with", remedy="use a credential"
            )


def check_credentials(credentials: Mapping[str, str]) -> None:
    for name, value in credentials.items():
        if not re.match(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z", name):
            raise Refused(f"credential {name!r}: the name must be letters, digits, _ . and -, 64 at most")
        if any(0xD800 <= ord(c) <= 0xDFFF for c in value):
            raise Refused(f"credential {name!r}: the value is not UTF-8 text")
        if len(value.encode()) > MAX_CREDENTIAL:
            raise Refused(f"credential {name!r}: larger than 1 MiB, which systemd refuses")


def environment_file(environment: Mapping[str, str]) -> str:
    """The text of an EnvironmentFile= which gives back each value byte for byte."""
    return "".join(f"{name}={quoted(value)}\n" for name, value in sorted(environment.items()))


def quoted(value: str) -> str:
    for special in '\\"`$':
        value = value.replace(special, "\\" + special)
    return f'"{value}"'


def canonical(data: object) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def release_id(archive_sha256: str, config: Config) -> str:
    """The identity of code plus configuration: the same input gives the same id, on every host.

    The id is public; PBKDF2 makes it dear to guess a short secret from it.
    """
    secret = canonical({"environment": config.environment, "credentials": config.credentials})
    parts: Json = {
        "archive_sha256": archive_sha256,
        "secret": hashlib.pbkdf2_hmac("sha256", secret, b"flaskctl " + archive_sha256.encode(), 100_000).hex(),
    }
    names = ["requirements", "static_dir", "gunicorn_conf", "service", "server_requirements"]
    for name in [*names, "processes"] if config.processes else names:
        parts[name] = getattr(config, name)
    return hashlib.sha256(canonical(parts)).hexdigest()[:12]


def changes(old: Config, new: Config) -> Json:
    """Which names differ between two configurations; never a value."""
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
    identity = ("gunicorn_conf", "requirements", "server_requirements", "static_dir", "service", "processes")
    settings = [name for name in identity if getattr(old, name) != getattr(new, name)]
    return {**result, **({"settings": settings} if settings else {})}


def logical_lines(text: str) -> list[str]:
    """Requirement lines with their continuations joined and comments gone."""
    joined = re.sub(r"\\\r?\n", " ", text)
    return [line for line in (re.sub(r"(^|\s)#.*", "", raw).strip() for raw in joined.splitlines()) if line]


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(line: str) -> str | None:
    match = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", line)
    return normalized(match.group()) if match else None


def without(requirements: str, installed: Iterable[str]) -> str:
    """The requirement lines whose package is not in `installed` yet."""
    have = {normalized(name) for name in installed}
    return "".join(f"{line}\n" for line in logical_lines(requirements) if requirement_name(line) not in have)


@dataclasses.dataclass(frozen=True)
class Dependencies:
    """What the source asks for. `texts` decides the key of the virtualenv."""

    path: str | None  # its requirements file, or None: the project itself names them
    texts: tuple[str, ...]
    project: bool  # has a pyproject.toml or setup.py that can be installed
    needs_server: bool  # names no Gunicorn: the role's own set goes in
    hashed: bool


def dependencies(tree: Path, requirements: str) -> Dependencies:
    """Read what the source in `tree` asks for, or say what is missing in it."""
    pyproject = read_text(tree / "pyproject.toml")
    setup = read_text(tree / "setup.py")
    project = setup is not None or bool(re.search(r"(?m)^\[(project|build-system)\]", pyproject or ""))
    if (tree / requirements).is_file():
        texts = requirement_texts(tree, requirements)
        lines = [line for text in texts for line in logical_lines(text)]
        return Dependencies(
            requirements,
            texts,
            project,
            "gunicorn" not in map(requirement_name, lines),
            any("--hash" in x for x in lines),
        )
    if project and requirements == Config.requirements:
        texts = tuple(text for text in (pyproject, setup, read_text(tree / "setup.cfg")) if text is not None)
        return Dependencies(None, texts, True, True, False)
    raise Refused(
        f"the source has no {requirements}" + ("" if project else " and is no project with a pyproject.toml"),
        remedy="add the requirements file, or name the right path",
    )


def requirement_texts(tree: Path, path: str, seen: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The text of a requirements file and of those that it includes, inside the source."""
    text = read_text(tree / path)
    real = os.path.realpath(tree / path)
    if text is None or not real.startswith(os.path.realpath(tree) + os.sep):
        raise Refused(f"{seen[-1] if seen else 'the source'} names {path}, which is not in the source")
    texts = [text]
    for line in logical_lines(text):
        if re.match(r"(-e|--editable)\b|\.\.?(/|\s|\[|$)|file:", line):
            raise Refused(
                f"{path} installs from a path: {line.split(' --hash')[0]}",
                remedy="a virtualenv is shared by releases: keep the project itself out of its requirements file",
            )
        include = re.match(r"(?:-r|-c|--requirement|--constraint)[\s=]*(\S+)", line)
        if include:
            name = os.path.normpath(os.path.join(os.path.dirname(path), include.group(1)))
            if name not in seen and name != path:
                texts += requirement_texts(tree, name, (*seen, path))
    return tuple(texts)


def venv_key(python: str, machine: str, texts: Sequence[str]) -> str:
    digest = hashlib.sha256(canonical(list(texts))).hexdigest()[:12]
    return f"cpython-{python.replace('.', '')}-{machine}-{digest}"


def read_text(path: Path) -> str | None:
    try:
        return path.read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


# ---------------------------------------------------------------------------------------------------------------------
# 2. Archives: what may come out of one
# ---------------------------------------------------------------------------------------------------------------------


def unpack(
    archive: IO[bytes], name: str, dest: Path, max_members: int = MAX_MEMBERS, max_bytes: int = MAX_UNPACKED
) -> None:
    """Unpack a .tar.gz into the empty directory `dest`: files, directories, and links that stay inside. All else is refused.

    Nothing is ever written through a link: links are made last, after every file stands, and then looked at again.
    """
    import gzip
    import tarfile
    import zlib

    kinds: dict[str, str] = {"": "directory"}
    links: list[tuple[str, str]] = []
    left = max_bytes
    try:
        with gzip.GzipFile(fileobj=archive) as unzipped, tarfile.open(fileobj=unzipped, mode="r|") as tar:
            for member in tar:
                path = member_path(member.name, name)
                if path == "" and member.isdir():
                    continue
                parent = os.path.dirname(path)
                make_parents(dest, parent, kinds, name, path)
                if len(kinds) > max_members:
                    raise Refused(f"{name} holds more than {max_members} members")
                if path in kinds and not (member.isdir() and kinds[path] == "directory"):
                    raise Refused(f"{name}: {path} is in it twice")
                target = dest / path
                if member.isdir():
                    if path not in kinds:
                        target.mkdir(mode=0o755)
                    kinds[path] = "directory"
                elif member.issym():
                    kinds[path] = "link"
                    links.append((path, member.linkname))
                elif member.islnk():
                    source = member_path(member.linkname, name)
                    if kinds.get(source) != "file":
                        raise Refused(
                            f"{name}: {path} is a hard link to {member.linkname}, no file of the archive before it"
                        )
                    kinds[path] = "file"
                    shutil.copy(dest / source, target)
                elif member.isreg() and not member.issparse():
                    left -= member.size
                    if left < 0:
                        raise Refused(
                            f"{name} unpacks to more than {max_bytes} bytes", remedy="leave data out of the source"
                        )
                    kinds[path] = "file"
                    content = tar.extractfile(member)
                    assert content is not None
                    with open(target, "xb") as file:
                        shutil.copyfileobj(content, file, 1 << 20)
                        os.fchmod(file.fileno(), 0o755 if member.mode & 0o111 else 0o644)
                else:
                    raise Refused(f"{name}: {path} is neither file, directory nor link")
            while unzipped.read(1 << 20):  # the checksum stands at the very end
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError) as error:
        raise Refused(f"{name} is truncated or corrupt: {error}", remedy="send it again") from None
    for path, target_name in links:
        os.symlink(target_name, dest / path)
    inside = os.path.realpath(dest)
    for path, target_name in links:
        real = os.path.realpath(dest / path)
        if os.path.isabs(target_name) or (real != inside and not real.startswith(inside + os.sep)):
            raise Refused(f"{name}: {path} is a link to {target_name}, out of the archive")


def member_path(raw: str, archive: str) -> str:
    path = PurePosixPath(raw)
    if path.is_absolute() or ".." in path.parts or "\0" in raw:
        raise Refused(f"{archive}: {raw!r} points out of the archive")
    return "" if str(path) == "." else str(path)


def make_parents(dest: Path, parent: str, kinds: dict[str, str], archive: str, path: str) -> None:
    missing = []
    while parent not in kinds:
        missing.append(parent)
        parent = os.path.dirname(parent)
    if kinds[parent] != "directory":
        raise Refused(f"{archive}: {path} lies below {parent}, which is no directory")
    for directory in reversed(missing):
        (dest / directory).mkdir(mode=0o755)
        kinds[directory] = "directory"


def inventory(tree: Path) -> Json:
    """What is in `tree`: files as [sha256, mode], links as [target]; without byte code, which Python makes."""
    found: Json = {}
    for directory, names, files in os.walk(tree):
        names[:] = sorted(name for name in names if name != "__pycache__")
        for name in [*files, *(name for name in names if os.path.islink(os.path.join(directory, name)))]:
            path = os.path.join(directory, name)
            key = os.fsencode(os.path.relpath(path, tree)).decode("utf-8", "backslashreplace")
            if os.path.islink(path):
                found[key] = [os.fsencode(os.readlink(path)).decode("utf-8", "backslashreplace")]
            else:
                found[key] = [file_sha256(path), oct(os.stat(path).st_mode & 0o7777)]
    return found


def file_sha256(path: str | Path) -> str:
    with open(path, "rb") as file:
        return stream_sha256(file)


def stream_sha256(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


# ---------------------------------------------------------------------------------------------------------------------
# 3. Decisions
# ---------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Intent:
    """What an activation is about to do, on disk until it is done: whoever comes after a crash finishes or undoes it."""

    to: str
    frm: str | None
    previous: str | None
    how: str = "activate"

    def as_json(self) -> Json:
        return {"to": self.to, "from": self.frm, "previous": self.previous, "how": self.how}


@dataclasses.dataclass(frozen=True)
class State:
    """What stands on the host. `running` counts starting and stopping instances too, `active` only those that serve."""

    current: str | None
    previous: str | None
    running: tuple[str, ...] = ()
    active: tuple[str, ...] = ()
    intent: Intent | None = None


@dataclasses.dataclass(frozen=True)
class Recovery:
    action: str  # "none", "finish", "undo", "relink" or "stop"
    release: str | None = None
    stop: tuple[str, ...] = ()
    why: str = ""


def plan_recovery(state: State, last: str | None) -> Recovery:
    """What an earlier flaskctl, cut at any point, or a careless hand left to be put right.

    `last`: the release that was activated last by the audit log, if it is still there.
    """
    intent = state.intent
    if intent:
        if state.current == intent.to and intent.to in state.running:
            return Recovery("finish", intent.to, why=f"an activation of {intent.to} was cut after the switch")
        if state.current == intent.to and intent.frm not in state.running:
            # nothing serves: after a reboot, say. The release that passed its gate is the one to start.
            return Recovery("finish", intent.to, why=f"an activation of {intent.to} was cut after the switch")
        stop = tuple(i for i in state.running if i == intent.to and i != intent.frm)
        return Recovery("undo", intent.frm, stop, f"an activation of {intent.to} was cut before the switch")
    if state.current is None:
        serving = [i for i in (*state.active, *state.running)]
        found = last if last in serving or not serving else serving[0]
        if found:
            return Recovery("relink", found, why=f"the link `current` was missing; {found} was activated last")
        return Recovery("none")
    strays = tuple(i for i in state.running if i != state.current)
    if strays and state.current in state.active:
        return Recovery("stop", state.current, strays, f"{', '.join(strays)} ran beside the current release")
    return Recovery("none")


@dataclasses.dataclass(frozen=True)
class Activation:
    start: bool
    switch: bool
    drain: tuple[str, ...]

    @property
    def needed(self) -> bool:
        return self.start or self.switch or bool(self.drain)


def plan_activation(state: State, to: str) -> Activation:
    return Activation(
        start=to not in state.active,
        switch=state.current != to,
        drain=tuple(i for i in state.running if i != to),
    )


def lineage(events: Iterable[Json], previous: str | None, current: str | None) -> list[str]:
    """The releases that led to the current one, oldest first. A rollback leaves the line above its target for good."""
    line: list[str] = []
    for event in events:
        release = event.get("release")
        if not isinstance(release, str):
            continue
        if event.get("event") == "rollback" and release in line:
            del line[line.index(release) + 1 :]
        elif event.get("event") in ("activate", "rollback"):
            if release in line:
                line.remove(release)
            line.append(release)
    if current and current in line:
        del line[line.index(current) + 1 :]
    elif current:  # no audit log, or one that knows nothing of it
        if previous and previous not in line:
            line.append(previous)
        line.append(current)
    return line


def rollback_target(line: Sequence[str], current: str | None, good: Iterable[str]) -> str | None:
    """The nearest release before the current one in its line that is there and was never refused since."""
    usable = set(good)
    return next((release for release in reversed(line) if release != current and release in usable), None)


@dataclasses.dataclass(frozen=True)
class Release:
    id: str
    when: str
    by: str = ""
    frm: str = ""
    revision: str = ""
    archive_sha256: str = ""
    venv: str = ""
    refused: str = ""  # why the gate refused it, "" if it did not

    def as_json(self) -> Json:
        return {
            "id": self.id, "when": self.when, "by": self.by, "from": self.frm, "revision": self.revision,
            "venv": self.venv, "refused": self.refused or None,
        }  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Pruning:
    releases: tuple[str, ...]
    venvs: tuple[str, ...]


def plan_pruning(releases: Sequence[Release], venvs: Iterable[str], keep: int, protected: Iterable[str]) -> Pruning:
    """Keep the newest `keep` good releases, the newest refused one (to look at), and each protected one."""
    newest = sorted(releases, key=lambda release: (release.when, release.id), reverse=True)
    kept = set(protected)
    kept |= {release.id for release in [r for r in newest if not r.refused][:keep]}
    kept |= {release.id for release in [r for r in newest if r.refused][:1]}
    used = {release.venv for release in releases if release.id in kept}
    gone = tuple(release.id for release in reversed(newest) if release.id not in kept)
    return Pruning(gone, tuple(sorted(venv for venv in venvs if venv not in used)))


def essence(journal: str, limit: int = 40) -> str:
    """What a person wants to see of a failed start: the last traceback, whole, else the last lines."""
    lines = [line.rstrip() for line in journal.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if not starts:
        return "\n".join(lines[-limit:])
    blocks = []
    for start in starts:
        end = start + 1
        while end < len(lines) and (lines[end].startswith((" ", "\t")) or not lines[end]):
            end += 1
        blocks.append((start, min(end + 1, len(lines))))
    first, last = blocks[-1]
    for start, end in reversed(blocks[:-1]):  # "During handling of the above exception, another exception occurred"
        between = " ".join(lines[end:first])
        if "above exception" not in between:
            break
        first = start
    return "\n".join(lines[first:last])


# directives that a transient unit does not need: they belong to the server, its socket and its supervision
SERVER_ONLY = re.compile(
    r"Type|Notify|Exec(?!Paths)|Sockets|Restart|Timeout|KillMode|Watchdog|OOMPolicy|RemainAfterExit|PIDFile"
)
KNOWN_SINCE = {
    "NoExecPaths": 248, "ExecPaths": 248, "PrivateIPC": 248, "SocketBindDeny": 249, "SocketBindAllow": 249,
    "RestrictFileSystems": 250, "RestrictNetworkInterfaces": 250, "MemoryZSwapMax": 253, "ImportCredential": 254,
}  # fmt: skip


def service_directives(unit: str) -> list[tuple[str, str]]:
    """The directives of [Service], in order, continuation lines joined."""
    section, found = "", []
    for line in re.sub(r"\\\n", " ", unit).splitlines():
        line = line.strip()
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and line[0] not in "#;" and "=" in line:
            key, _, value = line.partition("=")
            found.append((key.strip(), value.strip()))
    return found


def run_argv(
    app: str,
    release: str,
    unit_texts: Iterable[str],
    systemd: int,
    command: Sequence[str],
    tty: bool,
    path: str,
    name: str,
) -> list[str]:
    """The systemd-run call that runs `command` just as the release runs: same user, sandbox, environment, credentials."""
    specifiers = {
        "%i": release,
        "%I": release,
        "%p": app,
        "%n": f"{app}@{release}.service",
        "%N": f"{app}@{release}",
        "%%": "%",
    }
    argv = ["systemd-run", "--quiet", "--wait", "--collect", "--pty" if tty else "--pipe", f"--unit={name}"]
    argv.append(f"--description={app}, a command in release {release}")
    for text in unit_texts:
        for key, value in service_directives(text):
            if SERVER_ONLY.match(key) or KNOWN_SINCE.get(key, 0) > systemd:
                continue
            value = re.sub(r"%[iIpnN%]", lambda match: specifiers[match.group()], value)
            argv.append(f"--property={key}={value}")
    argv.append(f"--setenv=PATH={path}")
    if systemd >= 254:
        argv.append("--expand-environment=no")
        words = list(command)
    else:  # an older one expands $NAME in the command: $$ is a plain dollar
        words = [word.replace("$", "$$") for word in command]
    return [*argv, "--", *words]


def drop_in(app: str, release: str, credentials: Iterable[str]) -> str:
    lines = (f"LoadCredential={n}:/srv/{app}/releases/{release}/credentials/{n}" for n in sorted(credentials))
    return "\n".join(["# written by flaskctl with the release", "[Service]", *lines, ""])


def pip_remedy(output: str) -> str:
    for sign, remedy in (
        (
            "DO NOT MATCH THE HASHES",
            "a package is not what the lock file recorded: make the lock again, or mend the index",
        ),
        (
            "require a different python|requires a different Python|Requires-Python",
            "the lock is for another Python than this host's",
        ),
        ("No matching distribution|Could not find a version", "the index does not have it, or not for this Python"),
        (
            "Connection|Temporary failure in name|timed out|Max retries|SSLError|certificate",
            "the index is not reachable from this host",
        ),
        ("No space left", "the disk is full"),
        ("ensurepip is not", "install python3-venv"),
    ):
        if re.search(sign, output):
            return remedy
    return ""


# ---------------------------------------------------------------------------------------------------------------------
# 4. The seam: everything that is not a decision and not a plain file
# ---------------------------------------------------------------------------------------------------------------------


class Done(NamedTuple):
    rc: int
    out: str
    err: str


class Answer(NamedTuple):
    """One HTTP answer; status 0 when there was none, `body` then says why."""

    status: int
    release: str
    body: str


SHOWN = "Id,LoadState,ActiveState,SubState,Result,UnitFileState,MainPID,NRestarts,InvocationID,NeedDaemonReload"


class Host:
    """This machine. Tests put another one in its place: `root` moves all files, `run` is every process that is started."""

    root = Path("/")

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def run(self, argv: Sequence[str], **kwargs: Any) -> Done:
        """Run a program to its end; its output is text. A program that is not there is rc 127."""
        try:
            done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, **kwargs)
        except FileNotFoundError:
            return Done(127, "", f"{argv[0]} is not installed")
        return Done(done.returncode, done.stdout, done.stderr)

    def become(self, argv: Sequence[str]) -> None:
        os.execvp(argv[0], list(argv))

    def attached(self, argv: Sequence[str]) -> int:
        """Run a program on our own input and output."""
        return subprocess.run(argv, check=False).returncode

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    def is_root(self) -> bool:
        return os.geteuid() == 0

    def who(self) -> str:
        import pwd

        name = os.environ.get("SUDO_USER") or os.environ.get("LOGNAME") or os.environ.get("USER")
        with contextlib.suppress(KeyError):
            return name or pwd.getpwuid(os.getuid()).pw_name
        return str(os.getuid())

    def python_version(self, python: str) -> str:
        """X.Y of the interpreter; asks a process only when it is not the one that runs here."""
        found = shutil.which(python)
        if found and os.path.realpath(found) == os.path.realpath(sys.executable):
            return f"{sys.version_info[0]}.{sys.version_info[1]}"
        done = self.run([python, "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"])
        if done.rc:
            raise Refused(f"{python} does not run", done.err.strip(), "install it, or name another Python")
        return done.out.strip()

    def machine(self) -> str:
        return os.uname().machine

    def systemd_version(self) -> int:
        match = re.match(r"systemd (\d+)", self.run(["systemctl", "--version"]).out)
        return int(match.group(1)) if match else 0

    def show(self, *units: str) -> dict[str, dict[str, str]]:
        """Properties of the loaded units that match the names or patterns, in one call."""
        done = self.run(["systemctl", "show", f"--property={SHOWN}", "--", *units])
        found: dict[str, dict[str, str]] = {}
        for block in done.out.split("\n\n"):
            unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            if "Id" in unit:
                found[unit["Id"]] = unit
        return found

    def systemctl(self, *args: str) -> Done:
        return self.run(["systemctl", *args])

    def journal(self, unit: str, since: float, invocation: str) -> str:
        """What the unit's own processes wrote since then; what systemd said of it when they wrote nothing."""
        self.run(["journalctl", "--sync"])
        common = ["journalctl", "--no-pager", "-q", "-o", "cat", f"--since=@{since:.6f}"]
        by_invocation = [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else []
        text = self.run([*common, f"_SYSTEMD_UNIT={unit}", *by_invocation]).out
        return text if text.strip() else self.run([*common, "-u", unit]).out

    def workers(self, pid: int) -> set[int]:
        """The child processes of the master; empty where the kernel does not tell."""
        return {int(child) for child in (read_text(self.path(f"/proc/{pid}/task/{pid}/children")) or "").split()}

    def listening(self) -> set[tuple[str, int]]:
        """IPv4 addresses that something listens on."""
        found = set()
        for line in (read_text(self.path("/proc/net/tcp")) or "").splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, port = fields[1].split(":")
                found.add((".".join(str(byte) for byte in reversed(bytes.fromhex(address))), int(port, 16)))
        return found

    def http_get(self, scheme: str, port: int, host: str, path: str, timeout: float = 5.0) -> Answer:
        """Ask the web server on this machine, as a client of `host` would."""
        import http.client
        import socket

        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        try:
            connection.sock = socket.create_connection(("127.0.0.1", port), timeout)
            if scheme == "https":
                import ssl

                context = ssl.create_default_context()
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                connection.sock = context.wrap_socket(connection.sock, server_hostname=host)
            connection.request("GET", path, headers={"Host": host, "Connection": "close", "User-Agent": "flaskctl"})
            response = connection.getresponse()
            return Answer(
                response.status, response.headers.get("X-Release", ""), response.read(2000).decode("utf-8", "replace")
            )
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, "", f"{type(error).__name__}: {error}")
        finally:
            connection.close()

    def step(self, name: str) -> None:
        """A place where a test can kill or hang us: only where /run/flaskctl/allow-fault-injection exists, which root makes."""
        assert name in STEPS, name
        kill, hang = os.environ.get("FLASKCTL_KILL_AT"), os.environ.get("FLASKCTL_HANG_AT")
        if name in (kill, hang) and self.path("/run/flaskctl/allow-fault-injection").exists():
            if name == hang:
                time.sleep(3600)
            os.kill(os.getpid(), signal.SIGKILL)


def write(path: Path, text: str, mode: int = 0o644) -> None:
    """Put a whole file in place, or leave the old one: no reader and no crash sees a half."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    beside = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    try:
        with open(
            os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8", newline=""
        ) as file:
            os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def link(path: Path, target: str) -> None:
    """Point a link at `target` in one step."""
    beside = path.with_name(f".{path.name}.new")
    with contextlib.suppress(FileNotFoundError):
        beside.unlink()
    os.symlink(target, beside)
    os.replace(beside, path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


# ---------------------------------------------------------------------------------------------------------------------
# 5. The app on this host
# ---------------------------------------------------------------------------------------------------------------------


class App:
    """One app: its files, its units, and the commands that change them. Each command returns its answer as a dict."""

    def __init__(self, host: Host, name: str, dry: bool = False, command: str = "") -> None:
        self.host, self.name, self.dry, self.command = host, name, dry, command
        self.base = host.path(f"/srv/{name}")
        self.releases_dir = self.base / "releases"
        self.venvs_dir = self.base / "venvs"
        self.intent_file = self.base / "activating.json"
        self.settings_file = host.path(f"/etc/flaskctl/{name}.json")
        self.audit_file = host.path(f"/var/log/flaskctl/{name}.jsonl")
        self.units_dir = host.path("/etc/systemd/system")
        self.lock_file = host.path(f"/run/flaskctl/{name}.lock")
        self.warnings: list[str] = []
        self.repairs: list[str] = []

    # --- reading

    def settings(self) -> Json:
        text = read_text(self.settings_file)
        if text is None:
            known = ", ".join(apps(self.host)) or "none"
            raise Refused(f"no app {self.name} on this host", remedy=f"apps here: {known}")
        settings: Json = json.loads(text)
        return settings

    def unit(self, release: str) -> str:
        return f"{self.name}@{release}.service"

    def linked(self, name: str) -> str | None:
        """The release that `current` or `previous` points to, if it is there."""
        try:
            release = os.path.basename(os.readlink(self.base / name))
        except OSError:
            return None
        return release if self.manifest(release) else None

    def manifest(self, release: str) -> Json | None:
        try:
            manifest = json.loads(read_text(self.releases_dir / release / "manifest.json") or "null")
        except ValueError:
            return None
        return manifest if isinstance(manifest, dict) else None

    def releases(self) -> list[Release]:
        """All complete releases, newest first."""
        found = []
        for directory in self.releases_dir.iterdir() if self.releases_dir.is_dir() else ():
            manifest = self.manifest(directory.name) if RELEASE_ID.match(directory.name) else None
            if manifest:
                refused = json.loads(read_text(directory / "refused.json") or "{}")
                get = manifest.get
                found.append(
                    Release(
                        directory.name, get("when", ""), get("by", ""), get("from", ""), get("revision", ""),
                        get("archive_sha256", ""), get("venv", ""), refused.get("why", ""),
                    )
                )  # fmt: skip
        return sorted(found, key=lambda release: (release.when, release.id), reverse=True)

    def intent(self) -> Intent | None:
        text = read_text(self.intent_file)
        if text is None:
            return None
        try:
            data = json.loads(text)
            return Intent(data["to"], data["from"], data["previous"], data.get("how", "activate"))
        except (ValueError, KeyError, TypeError):
            return None

    def units(self) -> dict[str, dict[str, str]]:
        name = self.name
        return self.host.show(f"{name}.socket", f"{name}.service", f"{name}@*.service", f"{name}.*@*")

    def state(self, units: Mapping[str, Mapping[str, str]] | None = None) -> State:
        units = self.units() if units is None else units
        running, active = [], []
        for unit, shown in sorted(units.items()):
            match = re.match(rf"{self.name}(?:\.[a-z0-9-]+)?@([0-9a-f]{{12}})\.(service|timer)\Z", unit)
            if not match or shown.get("ActiveState") in ("inactive", "failed") or self.is_job(unit):
                continue
            running.append(match.group(1))
            if unit == self.unit(match.group(1)) and shown.get("ActiveState") in ("active", "reloading"):
                active.append(match.group(1))
        return State(
            self.linked("current"), self.linked("previous"), tuple(dict.fromkeys(running)), tuple(active), self.intent()
        )

    def is_job(self, unit: str) -> bool:
        """Whether the unit is a scheduled job of a release: it ends by itself, and is never cut by a release."""
        return unit.endswith(".service") and (self.units_dir / unit.replace(".service", ".timer")).exists()

    def processes(self, release: str, suffix: str) -> list[str]:
        """The release's workers (".service") or schedules (".timer")."""
        found = sorted(path.name for path in self.units_dir.glob(f"{self.name}.*@{release}{suffix}"))
        return [unit for unit in found if not self.is_job(unit)]

    def events(self) -> list[Json]:
        found = []
        for line in (read_text(self.audit_file) or "").splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if isinstance(event, dict):
                    found.append(event)
        return found

    def last_activated(self) -> str | None:
        line = lineage(self.events(), None, None)
        return line[-1] if line and self.manifest(line[-1]) else None

    def rollback_to(self, state: State, releases: Sequence[Release]) -> str | None:
        line = lineage(self.events(), state.previous, state.current)
        return rollback_target(line, state.current, [release.id for release in releases if not release.refused])

    def find(self, wanted: str) -> Release:
        """The release with this id or unique beginning of one."""
        releases = self.releases()
        matches = [release for release in releases if wanted and release.id.startswith(wanted)]
        if len(matches) == 1:
            return matches[0]
        there = ", ".join(release.id for release in releases) or "none"
        if matches:
            raise Refused(f"{wanted} is the beginning of {len(matches)} releases", remedy=f"releases here: {there}")
        raise Refused(f"no release {wanted} of {self.name} on this host", remedy=f"releases here: {there}")

    # --- lock, audit, steps

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the app's lock. The kernel lets go of it when we die; the file only says who holds it."""
        if self.dry:
            yield
            return
        if not self.host.is_root():
            raise Refused(f"{self.command} changes the host: run it as root", remedy="sudo flaskctl ...")
        self.lock_file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with open(self.lock_file, "a+", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise Busy(
                    busy_message(self.name, file.read(), self.host.now()),
                    remedy="wait for it to end, then run this again",
                ) from None
            holder = {
                "pid": os.getpid(),
                "user": self.host.who(),
                "command": self.command,
                "since": utc(self.host.now()),
            }
            file.truncate(0)
            file.write(json.dumps(holder))
            file.flush()
            yield
            file.truncate(0)

    def audit(self, event: str, release: str | None, **more: Any) -> None:
        manifest = (self.manifest(release) if release else None) or {}
        entry = {"when": utc(self.host.now()), "event": event, "release": release, "by": self.host.who()}
        entry.update({key: manifest[key] for key in ("from", "revision") if manifest.get(key)}, **more)
        try:
            self.audit_file.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
            with open(
                os.open(self.audit_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640), "a", encoding="utf-8"
            ) as file:
                file.write(json.dumps(entry) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:  # a full disk under /var/log must not stop a rollback
            self.warnings.append(f"not in the audit log: {error}")

    # --- status, releases, logs, verify, run, start

    def status(self) -> Json:
        settings, units = self.settings(), self.units()
        state = self.state(units)
        releases = self.releases()
        answer: Json = {
            **self.where(state, units),
            "rollback": self.rollback_to(state, releases),
            "releases": [release.id for release in releases],
            "port": settings.get("port"),
            "interrupted": state.intent.as_json() if state.intent else None,
            "locked": self.holder(),
        }
        last = [
            event for event in self.events() if event.get("release") == state.current and event.get("event") != "stage"
        ]
        answer["since"] = last[-1]["when"] if last else None
        problems = []
        if state.current is None:
            found = plan_recovery(state, self.last_activated()).release
            problems.append(
                "the link `current` is missing"
                + (f": flaskctl {self.name} activate {found} puts it back" if found else ": nothing was activated yet")
            )
        elif state.current not in state.active:
            problems.append(f"the current release does not run: flaskctl {self.name} logs tells why")
        if state.intent and not answer["locked"]:
            problems.append(
                f"an activation of {state.intent.to} was cut: the next stage, activate or rollback finishes or undoes it"
            )
        strays = [i for i in state.running if i != state.current]
        if strays and not answer["locked"] and not state.intent:
            problems.append(f"{', '.join(strays)} runs beside the current release: the next release stops it")
        if not answer["socket"]["active"]:
            problems.append(f"{self.name}.socket is not active: no release can start")
        if answer["socket"]["stale"]:
            problems.append(f"{self.name}.socket does not listen where its unit file says")
        return {**answer, "problems": problems, "msg": self.status_text(answer, releases, problems)}

    def status_text(self, answer: Json, releases: Sequence[Release], problems: Sequence[str]) -> str:
        notes = {release.id: release for release in releases}

        def describe(release: str | None) -> str:
            found = notes.get(release or "")
            return (
                " ".join(filter(None, [found.id, found.revision, found.by and f"by {found.by}"])) if found else "none"
            )

        socket = answer["socket"]
        rows = [
            ("current", describe(answer["current"]) + (f", since {answer['since']}" if answer["since"] else "")),
            ("previous", describe(answer["previous"])),
            ("serving", ", ".join(answer["active"]) or "nothing"),
            ("rollback", f"goes to {answer['rollback']}" if answer["rollback"] else "has nowhere to go"),
            ("socket", f"{'active' if socket['active'] else 'NOT active'}, port {answer['port']}"),
        ]
        rows += (
            [("busy", busy_message(self.name, json.dumps(answer["locked"]), self.host.now()))]
            if answer["locked"]
            else []
        )
        rows += [("problem", problem) for problem in problems]
        return "\n".join(f"{self.name}  {label:<9} {text}" for label, text in rows)

    def holder(self) -> Json | None:
        """Who holds the lock, if anyone does."""
        try:
            with open(self.lock_file, encoding="utf-8") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except BlockingIOError:
                    with contextlib.suppress(ValueError):
                        holder: Json = json.loads(file.read())
                        return holder
                    return {}
        except OSError:
            pass
        return None

    def where(self, state: State, units: Mapping[str, Mapping[str, str]]) -> Json:
        """The part of an answer that says where the host stands."""
        socket, service = units.get(f"{self.name}.socket", {}), units.get(f"{self.name}.service", {})
        active = socket.get("ActiveState") == "active"
        wanted = re.findall(
            r"(?m)^ListenStream=([0-9.]+):(\d+)\s*$", read_text(self.units_dir / f"{self.name}.socket") or ""
        )
        stale = active and bool({(address, int(port)) for address, port in wanted} - self.host.listening())
        return {
            "current": state.current,
            "previous": state.previous,
            "active": list(state.active),
            "socket": {"active": active, "enabled": socket.get("UnitFileState") == "enabled", "stale": stale},
            "service": {"enabled": service.get("UnitFileState") == "enabled"},
        }

    def list_releases(self) -> Json:
        self.settings()
        state, releases = self.state(), self.releases()
        rows, listed = [("ID", "STAGED", "BY", "REVISION", "STATE")], []
        for release in releases:
            marks = [
                label
                for label, on in (
                    ("current", release.id == state.current),
                    ("previous", release.id == state.previous),
                    ("active", release.id in state.active),
                    ("refused", bool(release.refused)),
                )
                if on
            ]
            listed.append({**release.as_json(), "state": marks})
            rows.append((release.id, release.when, release.by or "-", release.revision[:20] or "-", " ".join(marks)))
        return {"releases": listed, "msg": table(rows) if releases else f"{self.name} has no release yet"}

    def verify(self, wanted: str | None) -> Json:
        settings = self.settings()
        release = self.find(wanted).id if wanted else self.linked("current")
        if not release:
            raise Refused(f"{self.name} has no current release")
        if not settings.get("verify"):
            raise Refused(f"{self.name} has no address to ask", remedy=f"set verify in {self.settings_file}")
        answer, shown = self.ask(settings["verify"], release, 0)
        if shown:
            raise Refused(f"release {release} does not answer: {shown}", answer.body[:1000])
        return {"id": release, "status": answer.status, "msg": f"{release} answers {answer.status}"}

    def ask(self, verify: Json, release: str, seconds: float) -> tuple[Answer, str]:
        """Ask through nginx until this very release answers 2xx. The last answer, and what is wrong with it ("" if nothing)."""
        end = self.host.now() + seconds
        while True:
            answer = self.host.http_get(verify["scheme"], int(verify["port"]), verify["host"], verify["path"])
            address = f"{verify['scheme']}://{verify['host']}:{verify['port']}{verify['path']}"
            if not answer.status:
                wrong = f"{address}: {answer.body}"
            elif not 200 <= answer.status < 300:
                wrong = f"{address} answered {answer.status}, from release {answer.release or 'unknown'}"
            elif answer.release != release:
                wrong = f"{address} was answered by release {answer.release or 'unknown'}, not {release}"
            else:
                return answer, ""
            if self.host.now() >= end:
                return answer, wrong
            self.host.sleep(0.1)

    def logs(self, follow: bool, lines: int, json_output: bool) -> Json:
        self.settings()
        argv = ["journalctl", "--no-pager", f"--lines={lines}"]
        argv += [x for unit in ("@*.service", ".*@*", ".service", ".socket") for x in ("-u", self.name + unit)]
        if json_output:
            return {"lines": self.host.run([*argv, "-o", "short-iso"]).out.splitlines(), "msg": ""}
        self.host.become([*argv, "-f"] if follow else argv)
        return {"msg": ""}

    def run(self, command: Sequence[str], wanted: str | None, tty: bool, capture: bool) -> Json:
        """Run a command as the release would: its user, sandbox, environment and credentials. The exit code is the command's."""
        self.settings()
        if not command:
            raise Usage("run wants a command", remedy=f"flaskctl {self.name} run -- flask db upgrade")
        if not self.host.is_root():
            raise Refused("run needs root to enter the release's sandbox", remedy="sudo flaskctl ...")
        release = self.find(wanted).id if wanted else self.linked("current")
        if not release:
            raise Refused(
                f"{self.name} has no current release", remedy=f"flaskctl {self.name} activate ID, or run --release ID"
            )
        home = f"/srv/{self.name}/releases/{release}"
        path = f"{home}/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        found = self.executable(command[0], home, path)
        unit = f"{self.name}-run-{os.getpid()}"
        argv = run_argv(
            self.name,
            release,
            self.unit_texts(release),
            self.host.systemd_version(),
            [found, *command[1:]],
            tty,
            path,
            unit,
        )
        try:
            if capture:
                done = self.host.run(argv)
                return {
                    "rc": done.rc,
                    "stdout": done.out,
                    "stderr": done.err,
                    "id": release,
                    "changed": True,
                    "msg": done.out.strip(),
                }
            return {"rc": self.host.attached(argv), "id": release, "changed": True, "msg": ""}
        except KeyboardInterrupt:
            self.host.systemctl("stop", f"{unit}.service")
            raise

    def executable(self, word: str, home: str, path: str) -> str:
        if "/" in word:
            found = os.path.join(f"{home}/app", word)
            return found if self.host.path(found).exists() else word
        for directory in path.split(":"):
            if os.access(self.host.path(f"{directory}/{word}"), os.X_OK):
                return f"{directory}/{word}"
        raise Refused(f"no command {word} in the release", remedy=f"looked in {path}")

    def unit_texts(self, release: str) -> list[str]:
        """The release's unit and its drop-ins, in systemd's order."""
        template = self.units_dir / f"{self.name}@.service"
        text = read_text(template)
        if text is None:
            raise Refused(f"{template} is missing", remedy="run the playbook: it writes the units")
        drops: dict[str, Path] = {}
        for directory in (f"{self.name}@.service.d", f"{self.unit(release)}.d"):
            drops.update({path.name: path for path in (self.units_dir / directory).glob("*.conf")})
        return [text, *(drops[name].read_text("utf-8") for name in sorted(drops))]

    def start(self) -> Json:
        """Start the current release: at boot, and on the first connection after a stop. Takes no lock."""
        self.settings()
        current = self.linked("current")
        if not current:
            current = self.last_activated()
            if not current:
                # the socket asks again at once while a client waits: do not let it spin
                self.host.sleep(2)
                raise Refused(
                    f"{self.name} has no current release to start", remedy=f"flaskctl {self.name} activate ID"
                )
            self.warnings.append(f"the link `current` is missing: starting {current}, which was activated last")
        units = [self.unit(current), *self.processes(current, ".service"), *self.processes(current, ".timer")]
        done = self.host.systemctl("start", "--no-block", *units)
        if done.rc:
            raise Refused(f"could not start {current}", done.err.strip())
        return {"id": current, "changed": True, "msg": f"starting {current}"}

    # --- stage

    def stage(self, archive: Path | None, sha256: str | None, config_text: str | None) -> Json:
        """Make the release stand on this host, whole and sound. Nothing that is served changes."""
        self.settings()
        if sha256 and not SHA256.match(sha256):
            raise Usage("--sha256 wants 64 hex digits")
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.locked())
            if not self.dry:
                self.recover()
                self.sweep()
            config = self.config_for(config_text)
            file = None
            if archive:
                try:
                    file = stack.enter_context(open(archive, "rb"))
                except OSError as error:
                    raise Refused(f"cannot read {archive}: {error.strerror}") from None
                found = stream_sha256(file)
                file.seek(0)
                if sha256 and sha256 != found:
                    raise Refused(
                        f"{archive} is not the archive that was meant: its sha256 is {found}, not {sha256}",
                        remedy="send it again",
                    )
                sha256 = found
            if not sha256:
                current = self.linked("current")
                sha256 = (self.manifest(current) or {}).get("archive_sha256") if current else None
                if not sha256:
                    raise Usage(
                        f"{self.name} has no current release: stage wants an archive",
                        remedy=f"flaskctl {self.name} stage ARCHIVE",
                    )
            return self._stage(archive, file, sha256, config)

    def config_for(self, text: str | None) -> Config:
        if text is not None:
            return parse_config(text)
        current = self.linked("current")
        kept = read_text(self.releases_dir / current / "config.json") if current else None
        if kept is None:
            raise Refused(
                f"{self.name} has no current release to take the configuration from", remedy="give --config FILE"
            )
        return dataclasses.replace(parse_config(kept), notes={"by": self.host.who(), "from": os.uname().nodename})

    def _stage(self, archive: Path | None, file: IO[bytes] | None, sha256: str, config: Config) -> Json:
        release = release_id(sha256, config)
        home = self.releases_dir / release
        python = self.host.python_version(config.python)
        exists = self.manifest(release) is not None
        damage = self.damage(release, config, python) if exists else []
        source = self.sound_source(sha256, exclude=release if any(what == "app" for what, _ in damage) else None)
        needs_code = not exists or any(what == "app" for what, _ in damage)
        archive_needed = needs_code and file is None and source is None
        built, key = False, (self.manifest(release) or {}).get("venv")
        if not self.dry and not archive_needed:
            if not exists:
                key, built = self.make_release(release, sha256, config, python, archive, file, source)
                self.audit("stage", release)
            elif damage:
                key, built = self.repair(release, config, python, archive, file, source, damage)
        changed = bool(damage) or not exists or bool(self.repairs)
        units = self.units()
        state = self.state(units)
        nginx = self.host.run(["nginx", "-V"])
        versions = nginx.out + nginx.err
        openssl = re.search(r"running with OpenSSL (\S+?)[ )]", versions) or re.search(
            r"built with OpenSSL (\S+)", versions
        )
        nginx_version = re.search(r"nginx/(\S+)", versions)
        staged = exists or not (self.dry or archive_needed)
        if archive_needed:
            msg = f"release {release} needs the archive {sha256[:12]}..."
        elif not exists:
            msg = f"{'would stage' if self.dry else 'staged'} {release}"
        else:
            msg = f"release {release} is staged" + (f"; {'would mend' if self.dry else 'mended'}: " if damage else "")
            msg += ", ".join(text for _, text in damage)
        answer = {
            "id": release,
            **self.where(state, units),
            "changed": changed and not (archive_needed and not self.dry),
            "staged": staged,
            "archive_needed": archive_needed,
            "repairs": self.repairs + ([text for _, text in damage] if self.dry else []),
            "releases": [item.id for item in self.releases()],
            "nginx": nginx_version.group(1) if nginx_version else None,
            "openssl": openssl.group(1) if openssl else None,
            "systemd": self.host.systemd_version(),
            "python": python,
            "ipv6": bool(read_text(self.host.path("/proc/net/if_inet6"))),
            "venv": {"key": key, "built": built},
            "msg": msg,
        }
        before = read_text(self.releases_dir / state.current / "config.json") if state.current else None
        if state.current != release and before:
            with contextlib.suppress(Refused):
                answer["diff"] = changes(parse_config(before), config)
        return answer

    def damage(self, release: str, config: Config, python: str) -> list[tuple[str, str]]:
        """What is wrong with a release that stands: (what to mend, in words)."""
        home = self.releases_dir / release
        manifest = self.manifest(release) or {}
        found: list[tuple[str, str]] = []
        if inventory(home / "app") != manifest.get("files"):
            found.append(("app", f"files of {release}/app"))
        for path, text, mode in self.release_files(release, config):
            if file_differs(path, text, mode):
                found.append(("files", str(path.relative_to(home) if home in path.parents else path)))
        with contextlib.suppress(Refused):
            key = self.wanted_key(home / "app", config, python)
            if manifest.get("venv") != key or os.path.realpath(home / "venv") != os.path.realpath(self.venvs_dir / key):
                found.append(("venv", "the link to the virtualenv"))
            elif not self.venv_sound(key, python):
                found.append(("venv", f"virtualenv {key}"))
        if manifest.get("site") and not (home / "site").is_dir():
            found.append(("site", f"{release}/site"))
        if static_target(home, config.static_dir) != (
            os.readlink(home / "static") if (home / "static").is_symlink() else None
        ):
            found.append(("static", "the link to the static files"))
        return found

    def release_files(self, release: str, config: Config) -> list[tuple[Path, str, int]]:
        """Every generated file of a release: path, text, mode. What is sent is written, and what is written can be checked."""
        home = self.releases_dir / release
        files = [
            (home / "gunicorn.conf.py", config.gunicorn_conf, 0o644),
            (home / "environment", environment_file(config.environment), 0o600),
        ]
        files += [(home / "credentials" / name, value, 0o600) for name, value in sorted(config.credentials.items())]
        return files + self.unit_files(release, config)

    def unit_files(self, release: str, config: Config) -> list[tuple[Path, str, int]]:
        files = []
        if config.credentials:
            text = drop_in(self.name, release, config.credentials)
            files.append((self.units_dir / f"{self.unit(release)}.d" / "credentials.conf", text, 0o644))
        for name, texts in sorted(config.processes.items()):
            files += [
                (self.units_dir / f"{self.name}.{name}@{release}.{kind}", texts[kind], 0o644) for kind in sorted(texts)
            ]
            if config.credentials:
                directory = self.units_dir / f"{self.name}.{name}@{release}.service.d"
                files.append((directory / "credentials.conf", drop_in(self.name, release, config.credentials), 0o644))
        return files

    def wanted_key(self, tree: Path, config: Config, python: str) -> str:
        wants = dependencies(tree, config.requirements)
        texts = [*wants.texts, *([config.server_requirements] if wants.needs_server else [])]
        return venv_key(python, self.host.machine(), texts)

    def venv_sound(self, key: str, python: str) -> bool:
        venv = self.venvs_dir / key
        if not (venv / ".complete").exists():
            return False
        done = self.host.run(
            [str(venv / "bin" / "python"), "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
        )
        return done.rc == 0 and done.out.strip() == python

    def sound_source(self, sha256: str, exclude: str | None) -> Path | None:
        """Another release that was made from the same archive and still has each of its files."""
        for release in self.releases():
            home = self.releases_dir / release.id
            if release.archive_sha256 == sha256 and release.id != exclude:
                if inventory(home / "app") == (self.manifest(release.id) or {}).get("files"):
                    return home
        return None

    def fill_app(self, work: Path, archive: Path | None, file: IO[bytes] | None, source: Path | None) -> None:
        """The code, into work/app: from the archive, else from a release that has the same."""
        self.host.step("unpack")
        if file is not None:
            (work / "app").mkdir()
            unpack(file, os.path.basename(str(archive)), work / "app")
        else:
            assert source is not None
            skip = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source / "app", work / "app", symlinks=True, ignore=skip)
            if (source / "site").is_dir():
                shutil.copytree(source / "site", work / "site", symlinks=True, ignore=skip)

    def make_release(
        self,
        release: str,
        sha256: str,
        config: Config,
        python: str,
        archive: Path | None,
        file: IO[bytes] | None,
        source: Path | None,
    ) -> tuple[str, bool]:
        work = self.releases_dir / f".{release}.{os.getpid()}"
        final = self.releases_dir / release
        try:
            work.mkdir(parents=True, mode=0o755)
            self.fill_app(work, archive, file, source)
            files = inventory(work / "app")
            key, built = self.ensure_venv(work / "app", config, python)
            self.host.step("build")
            os.symlink(f"../../venvs/{key}", work / "venv")
            wants = dependencies(work / "app", config.requirements)
            if wants.project and not (work / "site").is_dir():
                self.install_site(work, key, config)
            self.finish_files(work, release, config)
            self.host.step("manifest")
            manifest = {
                "id": release, "app": self.name, "when": utc(self.host.now()), "by": config.notes.get("by") or self.host.who(),
                "from": config.notes.get("from", ""), "revision": config.notes.get("revision", ""), "archive_sha256": sha256,
                "venv": key, "lock_sha256": hashlib.sha256(canonical(list(wants.texts))).hexdigest(), "python": python,
                "site": wants.project, "files": files,
            }  # fmt: skip
            write(work / "manifest.json", json.dumps(manifest, indent=1, sort_keys=True) + "\n")
            os.sync()
            self.host.step("publish")
            erase(final)  # a directory without a manifest is no release
            os.rename(work, final)
            sync_directory(self.releases_dir)
            self.write_units(release, config)
            self.host.step("staged")
            return key, built
        finally:
            with contextlib.suppress(OSError):
                erase(work)

    def finish_files(self, work: Path, release: str, config: Config) -> None:
        """The generated files, byte code and the static link of the release that is being made in `work`."""
        final = self.releases_dir / release
        for path, text, mode in self.release_files(release, config):
            if final in path.parents:
                write(work / path.relative_to(final), text, mode)
        if config.credentials:
            (work / "credentials").chmod(0o700)
        write(work / "config.json", json.dumps(config.as_json(), sort_keys=True), 0o600)
        self.compile(work, final, [work / "app", *([work / "site"] if (work / "site").is_dir() else [])])
        target = static_target(work, config.static_dir)
        if target:
            link(work / "static", target)
        elif config.static_dir:
            self.warnings.append(
                f"static directory {config.static_dir} is neither in the source nor in its packages: nothing is served from it"
            )

    def compile(self, work: Path, final: Path, trees: Sequence[Path]) -> None:
        """Byte code, with the final path in it. A file that does not compile is the gate's business, if the app imports it."""
        python = str(work / "venv" / "bin" / "python")
        names = ["-s", str(work), "-p", str(final), *map(str, trees)]
        self.host.run([python, "-I", "-m", "compileall", "-q", *names])

    def write_units(self, release: str, config: Config) -> None:
        self.host.step("units")
        changed = [item for item in self.unit_files(release, config) if file_differs(*item)]
        for path, text, mode in changed:
            write(path, text, mode)
        if changed:
            self.host.systemctl("daemon-reload")

    def repair(
        self, release: str, config: Config, python: str, archive: Path | None, file: IO[bytes] | None, source: Path | None,
        damage: Sequence[tuple[str, str]],
    ) -> tuple[str, bool]:  # fmt: skip
        """Mend what `damage` names, where it stands: the release may be serving."""
        home = self.releases_dir / release
        work = self.releases_dir / f".{release}.{os.getpid()}"
        what = {name for name, _ in damage}
        try:
            work.mkdir(mode=0o755)
            if "app" in what:
                self.fill_app(work, archive, file, source)
                mirror(work / "app", home / "app")
            key, built = self.ensure_venv(home / "app", config, python)
            link(home / "venv", f"../../venvs/{key}")
            if "site" in what:
                if not (work / "site").is_dir():
                    os.symlink(f"../../venvs/{key}", work / "venv")
                    self.install_site(work, key, config)
                os.rename(work / "site", home / "site")
            self.finish_files(home, release, config)
            if not config.static_dir:
                erase(home / "static")
            manifest = self.manifest(release) or {}
            if manifest.get("venv") != key:
                write(
                    home / "manifest.json",
                    json.dumps({**manifest, "venv": key, "python": python}, indent=1, sort_keys=True) + "\n",
                )
            self.write_units(release, config)
            os.sync()
        finally:
            with contextlib.suppress(OSError):
                erase(work)
        self.repairs += [text for _, text in damage]
        self.audit("repair", release, what=[text for _, text in damage])
        return key, built

    # --- virtualenvs

    def ensure_venv(self, tree: Path, config: Config, python: str) -> tuple[str, bool]:
        """The key of the virtualenv for this source, and whether it had to be built."""
        wants = dependencies(tree, config.requirements)
        if wants.path and not wants.hashed and any(logical_lines(text) for text in wants.texts):
            self.warnings.append(f"{wants.path} has no hashes: what is installed is what the index says today")
        if not wants.path:
            self.warnings.append("the project has no requirements file: its dependencies are not locked")
        if wants.needs_server and not config.server_requirements:
            raise Refused(
                "the requirements name no gunicorn", remedy="add gunicorn[gevent], or give server_requirements"
            )
        key = self.wanted_key(tree, config, python)
        if self.venv_sound(key, python):
            return key, False
        self.build_venv(key, tree, wants, config)
        return key, True

    def build_venv(self, key: str, tree: Path, wants: Dependencies, config: Config) -> None:
        """Build it in place, for its scripts hold its path; `.complete`, written last, says that it is whole."""
        venv = self.venvs_dir / key
        guard = self.host.path(f"/run/flaskctl/{self.name}.build.lock")
        guard.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        with open(guard, "a", encoding="utf-8") as lock:
            # pip inherits this lock: one whose flaskctl was killed may still be writing
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                self.host.step("venv")
                erase(venv)
                venv.mkdir(parents=True, mode=0o755)
                self.build_step(
                    [config.python, "-m", "venv", str(venv)], config, tree, lock, "could not make a virtualenv"
                )
                self.host.step("dependencies")
                pip = [str(venv / "bin" / "python"), "-I", "-m", "pip"]
                self.install_dependencies(pip, venv, tree, wants, config, lock)
                self.host.step("venv-complete")
                os.sync()
                write(venv / ".complete", json.dumps({"key": key, "when": utc(self.host.now())}) + "\n")
            except BaseException:
                with contextlib.suppress(OSError):
                    erase(venv)
                raise

    def install_dependencies(
        self, pip: list[str], venv: Path, tree: Path, wants: Dependencies, config: Config, lock: IO[str]
    ) -> None:
        if wants.path:
            hashes = ["--require-hashes"] if wants.hashed else []
            what = f"could not install {wants.path}"
            self.build_step([*pip, "install", *hashes, "-r", wants.path], config, tree, lock, what)
        else:  # the project names them: install it, then take the project itself out again; it belongs to the release
            copy = venv / ".build"
            shutil.copytree(tree, copy, symlinks=True)
            self.build_step(
                [*pip, "install", str(copy)], config, tree, lock, "could not install the project's dependencies"
            )
            name = self.installed(venv, str(copy))
            erase(copy)
            self.build_step(
                [*pip, "uninstall", "-y", *name], config, tree, lock, "could not take the project out again"
            )
        if wants.needs_server:
            rest = without(config.server_requirements, self.installed(venv))
            if rest:
                file = venv / ".server.txt"
                write(file, rest)
                argv = [*pip, "install", "--require-hashes", "--no-deps", "-r", str(file)]
                self.build_step(argv, config, tree, lock, "could not install Gunicorn")
                erase(file)
        self.build_step([*pip, "check"], config, tree, lock, "the requirements do not fit together")

    def installed(self, venv: Path, origin: str = "") -> list[str]:
        """Names of the distributions in a virtualenv; with `origin`, of those that were installed from that directory."""
        script = (
            "import importlib.metadata as m, sys\n"
            "for d in m.distributions():\n"
            "    if not sys.argv[1] or sys.argv[1] in (d.read_text('direct_url.json') or ''): print(d.metadata['Name'])\n"
        )
        done = self.host.run([str(venv / "bin" / "python"), "-I", "-c", script, origin])
        return done.out.split()

    def install_site(self, work: Path, key: str, config: Config) -> None:
        """The project itself, into the release: so releases with the same lock share one virtualenv."""
        copy = work / ".build"  # setuptools writes into the source it builds
        shutil.copytree(work / "app", copy, symlinks=True)
        pip = [str(self.venvs_dir / key / "bin" / "python"), "-I", "-m", "pip"]
        argv = [*pip, "install", "--no-deps", "--target", str(work / "site"), str(copy)]
        self.build_step(argv, config, work, None, "could not install the project")
        erase(copy)

    def build_step(self, argv: Sequence[str], config: Config, cwd: Path, lock: IO[str] | None, what: str) -> None:
        """Run one tool of the build in an environment of our own: no setting of the host or of the caller leaks in."""
        proxies = {k: v for k, v in os.environ.items() if k.lower() in ("http_proxy", "https_proxy", "no_proxy")}
        environment = {
            **proxies,
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8",
            "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INPUT": "1", "PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_PROGRESS_BAR": "off", "PIP_ROOT_USER_ACTION": "ignore", "PIP_RETRIES": "3", "PIP_TIMEOUT": "20",
        }  # fmt: skip
        if config.index_url:
            environment["PIP_INDEX_URL"] = config.index_url
        if config.ca_bundle:
            environment["PIP_CERT"] = config.ca_bundle
        keep = {"pass_fds": [lock.fileno()]} if lock else {}
        done = self.host.run(argv, env=environment, cwd=cwd, **keep)
        if done.rc:
            output = re.sub(r"(https?://)[^/@\s]+@", r"\1****@", (done.out + done.err).strip())
            tail = "\n".join(line for line in output.splitlines()[-25:] if not line.startswith("Looking in"))
            raise Refused(what, tail, pip_remedy(output))

    # --- activate, rollback, recover

    def activate(self, wanted: str, how: str = "activate") -> Json:
        settings = self.settings()
        with self.locked():
            if self.dry and RELEASE_ID.match(wanted) and not self.manifest(wanted):
                self.warnings.append(f"{wanted} is not staged on this host yet")
                return {"id": wanted, "changed": True, "msg": f"would activate {wanted}"}
            release = self.find(wanted).id
            if not self.dry:
                self.recover()
            return self._activate(release, how, settings)

    def rollback(self, wanted: str | None) -> Json:
        settings = self.settings()
        with self.locked():
            if not self.dry:
                self.recover()
            if wanted:
                return self._activate(self.find(wanted).id, "rollback", settings)
            state, releases = self.state(), self.releases()
            target = self.rollback_to(state, releases)
            if not target:
                others = ", ".join(r.id for r in releases if r.id != state.current and not r.refused)
                raise Refused(
                    f"{self.name} has no release before {state.current or 'the first'} to go back to",
                    remedy=f"name one: flaskctl {self.name} rollback ID, of {others}" if others else "",
                )
            return self._activate(target, "rollback", settings)

    def _activate(self, release: str, how: str, settings: Json) -> Json:
        units = self.units()
        state = self.state(units)
        plan = plan_activation(state, release)
        answer: Json = {
            "id": release,
            "from": state.current,
            "repairs": self.repairs,
            "changed": plan.needed or bool(self.repairs),
        }
        if not plan.needed or self.dry:
            would = f"would activate {release}" if plan.needed else f"{release} is current and serves"
            return {
                **answer,
                "current": state.current,
                "previous": state.previous,
                "active": list(state.active),
                "msg": would,
            }
        began = self.host.now()
        self.check_whole(release)
        self.open_socket(state, units)
        self.host.step("intent")
        intent = Intent(release, state.current, state.previous, how)
        write(self.intent_file, json.dumps(intent.as_json()) + "\n")
        if plan.start:
            self.gate(release, state)
        self.switch(intent)
        self.finish(intent, settings)
        ready = self.host.now() - began
        after = self.state()
        msg = f"{'rolled back to' if how == 'rollback' else 'activated'} {release}"
        msg += f", from {state.current}" if state.current not in (None, release) else ""
        answer.update(
            current=after.current, previous=after.previous, active=list(after.active), seconds=round(ready, 2)
        )
        return {**answer, "changed": True, "msg": f"{msg} in {ready:.1f} s"}

    def check_whole(self, release: str) -> None:
        home = self.releases_dir / release
        for name in ("venv/.complete", "venv/bin/python", "gunicorn.conf.py", "environment", "app"):
            if not (home / name).exists():
                raise Refused(
                    f"release {release} is damaged: {home / name} is missing",
                    remedy="run the playbook: staging it again mends it",
                )

    def open_socket(self, state: State, units: Mapping[str, Mapping[str, str]]) -> None:
        """The socket must be open before a release starts, or the release would start without it."""
        socket = f"{self.name}.socket"
        if units.get(socket, {}).get("ActiveState") == "active":
            return
        if state.running:
            raise Refused(
                f"{socket} is not active while {', '.join(state.running)} runs on it: a new release would get no connection",
                remedy=f"systemctl stop '{self.name}@*.service' && systemctl start {socket}; that is an outage of some seconds",
            )
        self.host.systemctl("reset-failed", socket)
        done = self.host.systemctl("start", socket)
        if done.rc:
            journal = essence(self.host.journal(socket, self.host.now() - 60, ""), 5)
            raise Refused(
                f"{socket} does not start",
                f"{done.err.strip()}\n{journal}".strip(),
                "is another program on its port? ss -ltnp",
            )
        self.repairs.append(f"started {socket}")

    def gate(self, release: str, state: State) -> None:
        """Start the release beside the one that serves. systemd says yes only after every worker has passed the health check."""
        unit = self.unit(release)
        if self.host.show(unit).get(unit, {}).get("NeedDaemonReload") == "yes":
            self.host.systemctl("daemon-reload")
        self.host.step("start")
        since = self.host.now()
        failed, why = unit, ""
        if self.host.systemctl("start", unit).rc:
            why = "it did not pass its gate"
        else:
            why = self.settle(unit)
            workers = self.processes(release, ".service")
            if not why and workers and self.host.systemctl("start", *workers).rc:
                shown = self.host.show(*workers)
                failed = next(
                    (name for name in workers if shown.get(name, {}).get("ActiveState") != "active"), workers[0]
                )
                why = f"its process {failed} did not start"
        self.host.step("started")
        if why:
            self.refuse(release, state, failed, since, why)

    def settle(self, unit: str) -> str:
        """Watch a release that has just said READY for a moment: "" if it lives, else what happened."""
        first = self.host.show(unit).get(unit, {})
        pid = int(first.get("MainPID") or 0)
        workers = self.host.workers(pid)
        end = self.host.now() + SETTLE_SECONDS
        while self.host.now() < end:
            self.host.sleep(0.2)
            shown = self.host.show(unit).get(unit, {})
            if shown.get("ActiveState") != "active" or int(shown.get("MainPID") or 0) != pid:
                return "it crashed right after it had started"
            if workers - self.host.workers(pid):
                return "a worker died right after it had started"
        return ""

    def refuse(self, release: str, state: State, unit: str, since: float, why: str) -> None:
        """Take a release that failed its gate off the host's mind: stopped, marked, its own words in the message."""
        shown = self.host.show(unit).get(unit, {})
        if shown.get("Result") == "timeout":
            why = "it did not get ready in time (TimeoutStartSec): it hangs at import or in its health check"
        detail = essence(self.host.journal(unit, since, shown.get("InvocationID", "")))
        if release == state.current:  # there is no other to serve: systemd goes on trying
            with contextlib.suppress(FileNotFoundError):
                self.intent_file.unlink()
            raise Refused(
                f"the current release {release} does not start: {why}", detail, f"flaskctl {self.name} rollback"
            )
        self.stop([release])
        with contextlib.suppress(OSError):
            write(
                self.releases_dir / release / "refused.json",
                json.dumps({"when": utc(self.host.now()), "why": why}) + "\n",
            )
        with contextlib.suppress(FileNotFoundError):
            self.intent_file.unlink()
        self.audit("refuse", release, why=why)
        keeps = f"{state.current} keeps serving" if state.current else "nothing served before it"
        raise Refused(f"release {release} of {self.name} is refused: {why}; {keeps}", detail)

    def switch(self, intent: Intent) -> None:
        """Move `current`, and `previous` after it. The order matters: recovery reads `current` to know which side we are on."""
        self.host.step("current")
        if self.linked("current") != intent.to:
            link(self.base / "current", f"releases/{intent.to}")
        self.host.step("previous")
        if intent.frm and intent.frm != intent.to and self.linked("previous") != intent.frm:
            link(self.base / "previous", f"releases/{intent.frm}")

    def finish(self, intent: Intent, settings: Json) -> None:
        """From the switch to the end: ask through nginx, drain the others, and forget the intent."""
        self.host.step("verify")
        verify = settings.get("verify")
        if verify and os.path.lexists(self.host.path(f"/etc/nginx/sites-enabled/{self.name}.conf")):
            answer, wrong = self.ask(verify, intent.to, VERIFY_SECONDS)
            if wrong:
                self.undo(intent, verify, answer, wrong)
        self.host.step("timers")
        timers = self.processes(intent.to, ".timer")
        if timers:
            self.host.systemctl("start", *timers)
        self.host.step("drain")
        self.stop([i for i in self.state().running if i != intent.to])
        self.host.step("done")
        erase(self.releases_dir / intent.to / "refused.json")
        erase(self.intent_file)
        sync_directory(self.base)
        self.host.step("audit")
        self.audit(intent.how, intent.to, **({"was": intent.frm} if intent.frm else {}))

    def undo(self, intent: Intent, verify: Json, answer: Answer, wrong: str) -> None:
        """Go back to the release that served, prove it, and say so. Raises."""
        if not intent.frm or intent.frm == intent.to:
            erase(self.intent_file)
            raise Refused(
                f"release {intent.to} runs, but not through nginx: {wrong}",
                answer.body[:1000],
                "nginx -t; systemctl status nginx",
            )
        if intent.frm not in self.state().active:
            self.host.systemctl("start", self.unit(intent.frm))
        self.restore(intent)
        self.stop([intent.to])
        erase(self.intent_file)
        _, old_wrong = self.ask(verify, intent.frm, VERIFY_SECONDS)
        if old_wrong:
            raise Refused(
                f"neither {intent.to} nor {intent.frm} answers through nginx; {intent.frm} is current again. {wrong}",
                answer.body[:1000],
                "the releases are not the cause: look at nginx (nginx -t; systemctl status nginx)",
            )
        with contextlib.suppress(OSError):
            write(
                self.releases_dir / intent.to / "refused.json",
                json.dumps({"when": utc(self.host.now()), "why": wrong}) + "\n",
            )
        self.audit("refuse", intent.to, why=wrong)
        raise Refused(
            f"release {intent.to} of {self.name} is refused: {wrong}; {intent.frm} serves again, as proven through nginx",
            answer.body[:1000],
        )

    def restore(self, intent: Intent) -> None:
        """The links as they were before the activation."""
        for name, release in (("current", intent.frm), ("previous", intent.previous)):
            if release and self.manifest(release):
                link(self.base / name, f"releases/{release}")
            else:
                erase(self.base / name)

    def stop(self, releases: Sequence[str]) -> None:
        """Stop releases with their workers and schedules; what they have accepted is answered first."""
        units = [
            x for i in releases for x in (*self.processes(i, ".timer"), *self.processes(i, ".service"), self.unit(i))
        ]
        if units:
            self.host.systemctl("stop", *units)
            self.host.systemctl("reset-failed", *units)

    def recover(self) -> None:
        """Finish or undo what an earlier flaskctl was cut in, and mend a missing `current`."""
        state = self.state()
        plan = plan_recovery(state, self.last_activated())
        if plan.action == "none":
            if not state.intent and erase(self.intent_file):
                self.repairs.append("removed an unreadable activating.json")
            return
        if plan.action == "finish":
            assert state.intent
            if state.intent.to not in state.active:
                self.host.systemctl("start", self.unit(state.intent.to))
            self.switch(state.intent)
            try:
                self.finish(state.intent, self.settings())
                self.repairs.append(f"finished: {plan.why}")
            except Refused as error:
                self.warnings.append(error.msg)
                self.repairs.append(f"undone: {plan.why}")
        elif plan.action == "undo":
            assert state.intent
            self.restore(state.intent)
            self.stop(plan.stop)
            erase(self.intent_file)
            self.repairs.append(f"undone: {plan.why}")
        elif plan.action == "relink":
            link(self.base / "current", f"releases/{plan.release}")
            self.repairs.append(plan.why)
        elif plan.action == "stop":
            self.stop(plan.stop)
            self.repairs.append(f"stopped: {plan.why}")
        self.audit("recover", plan.release, why=plan.why)

    def sweep(self) -> None:
        """Half-made releases of a flaskctl that was killed."""
        for path in self.releases_dir.glob(".*") if self.releases_dir.is_dir() else ():
            erase(path)

    # --- prune, remove

    def prune(self, keep: int | None) -> Json:
        settings = self.settings()
        count = settings.get("keep_releases", 5) if keep is None else keep
        if count < 1:
            raise Usage("--keep wants 1 or more")
        with self.locked():
            if not self.dry:
                self.recover()
                self.sweep()
            state, releases = self.state(), self.releases()
            intent = state.intent
            protected = {state.current, state.previous, self.rollback_to(state, releases), *state.running}
            protected |= {intent.to, intent.frm} if intent else set()
            venvs = [path.name for path in self.venvs_dir.iterdir()] if self.venvs_dir.is_dir() else []
            plan = plan_pruning(releases, venvs, count, {i for i in protected if i})
            if not self.dry:
                self.carry_out(plan)
            gone = [f"{len(plan.releases)} release(s)"] + ([f"{len(plan.venvs)} virtualenv(s)"] if plan.venvs else [])
            return {
                "removed": list(plan.releases),
                "venvs": list(plan.venvs),
                "changed": bool(plan.releases or plan.venvs or self.repairs),
                "msg": f"{'would remove' if self.dry else 'removed'} {' and '.join(gone)}"
                if plan.releases or plan.venvs
                else "nothing to remove",
            }

    def carry_out(self, plan: Pruning) -> None:
        reload = False
        for release in plan.releases:
            self.host.step("prune-release")
            # the manifest goes first: what a kill leaves half removed is no release any more
            erase(self.releases_dir / release / "manifest.json")
            erase(self.releases_dir / release)
        kept = {release.id for release in self.releases()}
        for path in [*self.releases_dir.iterdir()] if self.releases_dir.is_dir() else ():
            if path.name not in kept and not path.name.startswith("."):
                erase(path)
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

    def remove(self, purge: bool) -> Json:
        """Take the app off this host. The state directory stays unless `purge`."""
        paths = [
            self.units_dir / f"{self.name}{suffix}"
            for suffix in (".socket", ".service", "@.service", "@.service.d", ".socket.d", ".service.d")
        ]
        paths += [path for path in self.units_dir.glob(f"{self.name}@*.d")] + [
            path for path in self.units_dir.glob(f"{self.name}.*@*")
        ]
        paths += [self.base, self.audit_file]
        paths += (
            [self.host.path(f"/var/lib/{self.name}"), self.host.path(f"/var/lib/private/{self.name}")] if purge else []
        )
        paths += [self.settings_file]  # last: until it goes, the app is known and remove can be run again
        with self.locked():
            there = [path for path in dict.fromkeys(paths) if os.path.lexists(path)]
            units = self.units()
            loaded = [
                name for name, shown in units.items() if shown.get("ActiveState") not in ("inactive", "failed", None)
            ]
            if not self.dry and (there or loaded):
                self.host.step("remove-stop")
                self.host.systemctl(
                    "stop", f"{self.name}.socket", f"{self.name}.service", *(n for n in loaded if "@" in n)
                )
                self.host.systemctl("disable", f"{self.name}.socket", f"{self.name}.service")
                self.host.step("remove-files")
                for path in there:
                    erase(path)
                self.host.systemctl("daemon-reload")
                self.host.systemctl("reset-failed", f"{self.name}.socket", f"{self.name}.service", f"{self.name}@*")
            if not self.dry:
                erase(self.host.path(f"/run/flaskctl/{self.name}.build.lock"))
        if not self.dry:
            erase(self.lock_file)
        others = [name for name in apps(self.host) if name != self.name]
        msg = (
            f"{'would remove' if self.dry else 'removed'} {self.name}"
            if there or loaded
            else f"{self.name} is not here"
        )
        return {
            "others": others,
            "removed": [str(path) for path in there],
            "changed": bool(there or loaded),
            "msg": msg,
        }


def file_differs(path: Path, text: str, mode: int) -> bool:
    """Whether the file is not just so: content, mode, owner."""
    try:
        stat = os.lstat(path)
        with open(path, encoding="utf-8", newline="") as file:
            return stat.st_mode != 0o100000 | mode or stat.st_uid != os.geteuid() or file.read() != text
    except (OSError, UnicodeError):
        return True


def static_target(home: Path, static_dir: str) -> str | None:
    """Where the link to the static files of a release points, relative to the release."""
    if not static_dir:
        return None
    candidates = [home / "app" / static_dir, home / "site" / static_dir]
    candidates += sorted((home / "venv" / "lib").glob(f"python3*/site-packages/{static_dir}"))
    return next((str(path.relative_to(home)) for path in candidates if path.is_dir()), None)


def mirror(source: Path, dest: Path) -> None:
    """Make `dest` hold what `source` holds, file by file: each is replaced in one step, so a running app misses none."""
    wanted, found = inventory(source), inventory(dest) if dest.is_dir() else {}
    for name in sorted(set(found) - set(wanted)):
        erase(dest / name)
    for name in sorted(name for name in wanted if found.get(name) != wanted[name]):
        target = dest / name
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        if target.is_dir() and not target.is_symlink():
            erase(target)
        beside = target.with_name(f".{target.name}.new")
        erase(beside)
        if (source / name).is_symlink():
            os.symlink(os.readlink(source / name), beside)
        else:
            shutil.copy2(source / name, beside)
        os.replace(beside, target)


def apps(host: Host) -> list[str]:
    return sorted(path.stem for path in host.path("/etc/flaskctl").glob("*.json"))


def utc(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def busy_message(app: str, holder_text: str, now: float) -> str:
    try:
        holder = json.loads(holder_text)
        return f"{holder['user']} holds the lock of {app}: `{holder['command']}` (pid {holder['pid']}), since {holder['since']}"
    except (ValueError, KeyError, TypeError):
        return f"another flaskctl holds the lock of {app}"


def table(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)  # noqa: B905


# ---------------------------------------------------------------------------------------------------------------------
# 6. The command line
# ---------------------------------------------------------------------------------------------------------------------

EPILOG = """\
exit codes:
  0   done, or nothing to do
  1   refused, or failed: the message says what, why and what to do
  2   wrong usage
  3   stage --sha256: the archive itself is needed
  75  another flaskctl holds the app's lock: the message says who
  run gives the exit code of the command it ran

at three in the morning:
  flaskctl hello status               what serves, and what is wrong
  flaskctl hello rollback             back to the release before this one; no network needed
  flaskctl hello releases             what there is to go back to
  flaskctl hello logs -n 200          what the app said
  flaskctl hello run -- flask shell   a command in the current release: its user, sandbox and environment
"""


def parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--json", action="store_true", help="answer with one JSON object")
    shared.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")
    main = argparse.ArgumentParser(
        prog="flaskctl",
        description="Release, roll back and look after a Flask app on this host.",
        epilog=EPILOG,
        parents=[shared],
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    main.add_argument("app", metavar="APP", help="the app; `flaskctl apps` lists them")
    commands = main.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", parents=[shared], allow_abbrev=False
        )

    add("status", "what serves, what a rollback would bring, what is wrong")
    add("releases", "the releases on this host")
    stage = add("stage", "put a release on this host; nothing that is served changes")
    stage.add_argument(
        "archive",
        metavar="ARCHIVE",
        nargs="?",
        type=Path,
        help="a .tar.gz of the source; without: that of --sha256 or of the current release",
    )
    stage.add_argument(
        "--sha256",
        metavar="HEX",
        help="the archive's checksum; alone, it asks whether the archive is needed (exit code 3)",
    )
    stage.add_argument(
        "--config",
        metavar="FILE",
        help="the configuration as JSON, - for standard input; without: that of the current release",
    )
    activate = add("activate", "start a staged release, switch to it, drain the old one")
    activate.add_argument("id", metavar="ID", help="a release, or the beginning of its id")
    rollback = add("rollback", "go back to the release before this one")
    rollback.add_argument("id", metavar="ID", nargs="?", help="go back to this one instead")
    verify = add("verify", "ask through nginx whether this very release answers")
    verify.add_argument("id", metavar="ID", nargs="?", help="default: the current release")
    prune = add("prune", "remove old releases, never the current one or the one to roll back to")
    prune.add_argument("--keep", metavar="N", type=int, help="how many to keep; default: the app's keep_releases")
    logs = add("logs", "what the app wrote to the journal")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    logs.add_argument("-n", "--lines", metavar="N", type=int, default=100, help="how many lines; default: 100")
    run = add("run", "run a command as the release runs: its user, sandbox, environment, credentials")
    run.add_argument("--release", metavar="ID", help="in this release; default: the current one")
    run.add_argument(
        "words", metavar="-- COMMAND...", nargs="*", help="the command; looked up in the release's virtualenv first"
    )
    add("start", "start the current release: what systemd runs at boot and on the first connection")
    remove = add("remove", "take the app off this host; /var/lib/APP stays")
    remove.add_argument("--purge", action="store_true", help="remove /var/lib/APP too")
    return main


def parse(argv: Sequence[str]) -> argparse.Namespace:
    words: list[str] = []
    arguments = list(argv)
    if "--" in arguments:
        cut = arguments.index("--")
        arguments, words = arguments[:cut], arguments[cut + 1 :]
    plain = [word for word in arguments if not word.startswith("-")]
    if plain[:1] == ["apps"] and len(plain) == 1:
        return argparse.Namespace(app=None, command="apps", json="--json" in arguments, dry_run=False)
    options = parser().parse_args(arguments)
    options.json, options.dry_run = getattr(options, "json", False), getattr(options, "dry_run", False)
    options.command = options.command or "status"
    if options.command == "run":
        options.words += words
    elif words:
        raise Usage(f"{options.command} takes no command after --")
    return options


def dispatch(options: argparse.Namespace, host: Host, stdin: IO[str]) -> Json:
    if options.command == "apps":
        found = apps(host)
        return {"apps": found, "msg": "\n".join(found) or "no app on this host"}
    if not APP_NAME.match(options.app):
        raise Usage(f"{options.app!r} is no name of an app")
    said = " ".join(
        str(x) for x in [options.command, getattr(options, "id", None) or getattr(options, "archive", None)] if x
    )
    app = App(host, options.app, options.dry_run, f"flaskctl {options.app} {said}")
    commands: dict[str, Callable[[], Json]] = {
        "status": app.status,
        "releases": app.list_releases,
        "stage": lambda: app.stage(options.archive, options.sha256, config_text(options.config, stdin)),
        "activate": lambda: app.activate(options.id),
        "rollback": lambda: app.rollback(options.id),
        "verify": lambda: app.verify(options.id),
        "prune": lambda: app.prune(options.keep),
        "logs": lambda: app.logs(options.follow, options.lines, options.json),
        "run": lambda: app.run(options.words, options.release, stdin.isatty() and sys.stdout.isatty(), options.json),
        "start": app.start,
        "remove": lambda: app.remove(options.purge),
    }
    try:
        return {**commands[options.command](), "warnings": app.warnings}
    except Refused as error:
        error.warnings = app.warnings  # type: ignore[attr-defined]
        raise


def config_text(path: str | None, stdin: IO[str]) -> str | None:
    if path is None:
        return None
    try:
        return stdin.read() if path == "-" else Path(path).read_text("utf-8")
    except (OSError, UnicodeError) as error:
        raise Refused(f"cannot read the configuration from {path}: {error}") from None


def main(argv: Sequence[str], host: Host, stdin: IO[str], stdout: IO[str], stderr: IO[str]) -> int:
    """Run one command; the exit code. With --json everything a caller needs is in one object on `stdout`."""
    os.umask(0o022)
    as_json = "--json" in (argv[: list(argv).index("--")] if "--" in argv else argv)
    base: Json = {"app": None, "command": None}
    try:
        options = parse(argv)
        base = {"app": options.app, "command": options.command}
        answer = {**base, "changed": False, **dispatch(options, host, stdin)}
        if options.command == "run" and answer["rc"] and as_json:
            answer.update(
                failed=True,
                msg=f"the command ended with {answer['rc']}",
                detail=essence(answer["stdout"] + answer["stderr"]),
            )
        if as_json:
            stdout.write(json.dumps(answer) + "\n")
        else:
            stderr.write("".join(f"flaskctl: warning: {warning}\n" for warning in answer.get("warnings", [])))
            stdout.write("".join(f"{answer['msg']}\n" if answer["msg"] else ""))
        if options.command == "run":
            return int(answer["rc"])
        return 3 if answer.get("archive_needed") and not options.dry_run else 0
    except Refused as error:
        failure = error
    except OSError as error:
        full = "the disk is full: flaskctl APP prune, or make room" if error.errno == 28 else ""
        failure = Refused(f"{error.filename or base['command']}: {error.strerror}", remedy=full)
    except KeyboardInterrupt:
        failure = Refused("interrupted", remedy="the next run finishes or undoes what was cut")
    if as_json:
        more = {key: value for key in ("detail", "remedy") if (value := getattr(failure, key))}
        said = {
            **base,
            "changed": False,
            "failed": True,
            "msg": failure.msg,
            **more,
            "warnings": getattr(failure, "warnings", []),
        }
        stdout.write(json.dumps(said) + "\n")
    else:
        lines = [f"flaskctl: {failure.msg}", *(f"  {line}" for line in failure.detail.splitlines())]
        stderr.write("\n".join(lines + ([f"remedy: {failure.remedy}"] if failure.remedy else [])) + "\n")
    return failure.code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], Host(), sys.stdin, sys.stdout, sys.stderr))

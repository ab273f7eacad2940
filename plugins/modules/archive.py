#!/usr/bin/python
# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Pack the code of an app into one archive that is the same, byte for byte, for the same code."""

from __future__ import annotations

DOCUMENTATION = r"""
module: archive
short_description: Pack an app into one reproducible archive
version_added: 0.1.0
description:
  - Makes one C(tar.gz) of a directory, of a git revision or of a requirement, and names it after its own SHA-256.
  - The same code gives the same bytes. Times, owners, umask, locale and the order in which a file system lists its
    entries leave no trace; a clean git checkout gives the same archive as its revision does.
  - Runs on the control node, once for all hosts.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the same result as without it.
    support: full
    details:
      - The archive is made in check mode too, because the steps after it need its checksum. It goes to the cache, and a
        cache is nothing that anybody manages.
  diff_mode:
    description: Returns what has changed or would change in C(diff) mode.
    support: none
    details:
      - The result is an archive; O(dest) holds no other state.
  idempotent:
    description: A second run with the same input changes nothing.
    support: full
options:
  source:
    description:
      - What to pack, in one of three forms.
      - A directory, as an absolute path, or as a relative one (C(./app), C(files/app)) together with O(base).
      - A git revision, C(git+URL@REVISION), with C(#subdirectory=PATH) when the app is not at the root of the
        repository. Submodules are not part of it.
      - A requirement as pip reads it, for example C(hello==1.2.0). The archive then holds one C(requirements.txt) with
        it.
    type: str
    required: true
  base:
    description:
      - The directory from which a relative O(source) is meant.
    type: path
  exclude:
    description:
      - Names to leave out, with C(*), C(?) and C([...]) as in the shell. A name without a slash counts at any depth,
        one with a slash counts from the root of the source.
      - "Always left out: C(.git), C(__pycache__), C(*.pyc), C(.venv), C(venv), C(node_modules), C(.tox),
        C(.mypy_cache), C(.pytest_cache), C(.ruff_cache), C(*.egg-info) and C(.env)."
    type: list
    elements: str
    default: []
  dest:
    description:
      - The directory of the archives and of the copies of git repositories. It is a cache and can be removed at any
        time; an archive that nobody has asked for in a month is removed.
    type: path
    default: ~/.cache/flaskfleet
notes:
  - Directories without a file are left out, as git does. Of a mode only the owner's right to execute counts.
  - Two control nodes whose zlib libraries differ can give two archives of the same code.
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Pack a directory
  flaskfleet.web.archive:
    source: "{{ playbook_dir }}/../files/app"
    exclude:
      - /tests
      - "*.sqlite3"
  delegate_to: localhost
  run_once: true
  register: __archive

- name: Pack a git revision
  flaskfleet.web.archive:
    source: git+https://git.example.com/hello.git@v1.2.0#subdirectory=web
  delegate_to: localhost
  run_once: true

- name: Pack an app that an index holds as a wheel
  flaskfleet.web.archive:
    source: hello==1.2.0
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
path:
  description: The archive.
  returned: success
  type: str
  sample: /home/ada/.cache/flaskfleet/4f0c...e1.tar.gz
sha256:
  description: The SHA-256 of the archive, in hexadecimal digits; also its name.
  returned: success
  type: str
size:
  description: The size of the archive in bytes.
  returned: success
  type: int
files:
  description: How many files and links it holds.
  returned: success
  type: int
kind:
  description: What the source was, V(directory), V(git) or V(requirement).
  returned: success
  type: str
revision:
  description:
    - The commit that was packed, with V(-dirty) after it when the directory held something else than that commit.
    - Empty when git knows nothing about the source.
  returned: success
  type: str
by:
  description: The name of the user who packed it.
  returned: success
  type: str
host:
  description: The name of the control node.
  returned: success
  type: str
changed:
  description: Whether the archive was not in the cache yet.
  returned: success
  type: bool
"""

import contextlib
import fcntl
import fnmatch
import gzip
import hashlib
import io
import os
import pwd
import re
import socket
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskfleet.web.plugins.module_utils.source import (
    FORMS,
    Source,
    SourceError,
    mask,
    parse,
    secrets_of,
    without_credentials,
)

BUILT_IN_EXCLUDES = (
    ".git",
    "__pycache__",
    "*.pyc",
    ".venv",
    "venv",
    "node_modules",
    ".tox",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "*.egg-info",
    ".env",
)
# git tells its own commands about a repository in these; a playbook started by a git hook inherits them
GIT_LOCAL_ENVIRONMENT = re.compile(
    r"GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|PREFIX|COMMON_DIR|NAMESPACE"
    r"|QUARANTINE_PATH|GRAFT_FILE|REPLACE_REF_BASE|SHALLOW_FILE|INTERNAL_SUPER_PREFIX|IMPLICIT_WORK_TREE)"
)
# no program as a transport; and this machine's own idea of line ends and attributes must not be in the archive
GIT_SETTINGS = ("-c", "protocol.ext.allow=never", "-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null")
FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
KEPT_SECONDS = 30 * 24 * 3600
LINKS_FOLLOWED = 40  # the kernel's own limit

# Names are bytes decoded as UTF-8 with surrogates, whatever the locale: a name that is not UTF-8 survives.
ENCODING = "utf-8"
ERRORS = "surrogateescape"


class ArchiveError(Exception):
    """The source cannot be packed; the text says why and what to do."""


@dataclass(frozen=True)
class Entry:
    """One file or link: its path inside the archive, and either how to open it (size in bytes) or the link's target."""

    name: str
    executable: bool = False
    size: int = 0
    target: str | None = None
    open: Callable[[], IO[bytes]] | None = None


# deciding: pure functions


def shown(name: str) -> str:
    """Return a path fit to be printed, also when it is not UTF-8."""
    return name.encode(ENCODING, ERRORS).decode(ENCODING, "backslashreplace")


def excluded(name: str, patterns: Iterable[str]) -> bool:
    """Tell whether a path, or a directory that it lies in, matches one of the patterns."""
    parts = name.split("/")
    for pattern in patterns:
        wanted = pattern.rstrip("/")
        if "/" not in wanted:
            if any(fnmatch.fnmatchcase(part, wanted) for part in parts):
                return True
            continue
        steps = wanted.lstrip("/").split("/")
        if len(steps) <= len(parts) and all(
            fnmatch.fnmatchcase(parts[position], step) for position, step in enumerate(steps)
        ):
            return True
    return False


def link_leaves(name: str, links: dict[str, str]) -> bool:
    """Tell whether following the link `name` leaves the tree; `links` maps each link of the tree to its target.

    Links on the way are followed as the kernel would: `a/../x` is not `x` when `a` is a link.
    """
    todo = name.split("/")
    at: list[str] = []
    followed = 0
    while todo:
        part = todo.pop(0)
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                return True
            at.pop()
            continue
        target = links.get("/".join([*at, part]))
        if target is None:
            at.append(part)
            continue
        followed += 1
        if target.startswith("/") or followed > LINKS_FOLLOWED:
            return True
        todo = [*target.split("/"), *todo]
    return False


def check_links(entries: Iterable[Entry]) -> None:
    """Raise ArchiveError for the first link that leads out of the tree: on a host it would lead somewhere else."""
    links = {entry.name: entry.target for entry in entries if entry.target is not None}
    for name in sorted(links):
        if link_leaves(name, links):
            raise ArchiveError(
                f"the link {shown(name)} -> {shown(links[name])} leads out of the source. Make it a relative link to"
                " something inside, put the file itself there, or name it in exclude."
            )


def directories(names: Iterable[str]) -> set[str]:
    """Return every directory that the paths need."""
    found: set[str] = set()
    for name in names:
        while "/" in name:
            name = name.rpartition("/")[0]
            found.add(name)
    return found


def write_tar(entries: Iterable[Entry], out: IO[bytes]) -> int:
    """Write the entries as a tar without any trace of when, where and by whom; return how many there were."""
    by_name = {entry.name: entry for entry in entries}
    parents = directories(by_name)
    # closed below, and not in an error: closing writes, which would hide the error
    tar = tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT, encoding=ENCODING, errors=ERRORS)  # noqa: SIM115
    for name in sorted(parents | set(by_name), key=lambda text: text.encode(ENCODING, ERRORS)):
        member = tarfile.TarInfo(name)  # its defaults are mtime 0, uid 0, gid 0 and no owner's name
        if name in parents:
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
            continue
        entry = by_name[name]
        if entry.target is not None:
            member.type, member.mode, member.linkname = tarfile.SYMTYPE, 0o777, entry.target
            tar.addfile(member)
            continue
        assert entry.open is not None
        member.mode, member.size = (0o755 if entry.executable else 0o644), entry.size
        with entry.open() as content:
            try:
                tar.addfile(member, content)
            except OSError as error:
                raise ArchiveError(f"{shown(name)} became shorter while it was read ({error}). Run again.") from error
    tar.close()
    return len(by_name)


# reading sources


def directory_entries(root: Path, patterns: list[str]) -> Iterator[Entry]:
    """Yield the files and links below a directory; raise ArchiveError for what an archive cannot hold."""
    base = os.fsencode(root)

    def walk(relative: bytes) -> Iterator[Entry]:
        # bytes: a name is no text, and the locale of the control node must not decide what it is
        for item in os.scandir(os.path.join(base, relative)):
            path = os.path.join(relative, item.name)
            name = path.decode(ENCODING, ERRORS)
            if excluded(name, patterns):
                continue
            status = item.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                yield from walk(path)
            elif stat.S_ISLNK(status.st_mode):
                yield Entry(name, target=os.readlink(item.path).decode(ENCODING, ERRORS))
            elif stat.S_ISREG(status.st_mode):
                full = item.path
                yield Entry(
                    name,
                    executable=bool(status.st_mode & stat.S_IXUSR),
                    size=status.st_size,
                    open=lambda full=full: open(full, "rb"),  # type: ignore[misc]  # noqa: SIM115
                )
            else:
                raise ArchiveError(f"{shown(name)} is a socket, a pipe or a device. Remove it, or name it in exclude.")

    return walk(b"")


def tar_entries(tar: tarfile.TarFile, subdirectory: str, patterns: list[str]) -> Iterator[Entry]:
    """Yield the files and links of what `git archive` wrote, below `subdirectory` when one is given."""
    prefix = f"{subdirectory}/" if subdirectory else ""
    for member in tar:
        if not member.name.startswith(prefix) or member.isdir():
            continue
        name = member.name[len(prefix) :]
        if excluded(name, patterns):
            continue
        if member.issym():
            yield Entry(name, target=member.linkname)
        else:
            yield Entry(
                name,
                executable=bool(member.mode & stat.S_IXUSR),
                size=member.size,
                open=lambda member=member: cast("IO[bytes]", tar.extractfile(member)),  # type: ignore[misc]
            )


class Git:
    """The git command, asked in a way that never waits for a person and never prints a password."""

    def __init__(self) -> None:
        self.environment = {
            name: value for name, value in os.environ.items() if not GIT_LOCAL_ENVIRONMENT.fullmatch(name)
        }
        self.environment.update(LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_OPTIONAL_LOCKS="0")
        self.environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")

    def run(self, *arguments: str, where: Path, out: IO[bytes] | None = None) -> tuple[int, str, str]:
        """Run git in `where`; return exit code, output (unless it goes to `out`) and masked errors."""
        try:
            done = subprocess.run(
                ["git", *GIT_SETTINGS, "-C", str(where), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out or subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self.environment,
                check=False,
            )
        except FileNotFoundError as error:
            raise ArchiveError("git is not installed on the control node: install the package git.") from error
        text = (done.stdout or b"").decode(ENCODING, "backslashreplace").strip()
        return done.returncode, text, mask(done.stderr.decode(ENCODING, "backslashreplace").strip())

    def revision_of(self, directory: Path) -> str:
        """Return the commit checked out in a directory, `-dirty` added when it holds something else, or nothing."""
        try:
            code, commit, _errors = self.run("rev-parse", "--verify", "--quiet", "HEAD", where=directory)
            if code != 0:
                return ""
            code, changes, _errors = self.run("status", "--porcelain", "--", ".", where=directory)
        except ArchiveError:
            return ""  # no git: the revision is only a note
        return f"{commit}-dirty" if code != 0 or changes else commit

    def fetch(self, source: Source, cache: Path) -> str:
        """Bring the revision into the bare repository `cache`; return its commit.

        A full commit that is there needs no network. Any other name can have moved, so it is asked for.
        """
        wanted = f"git+{source.location}@{source.revision}"
        code, _output, errors = self.run("init", "--quiet", "--bare", "--template=", str(cache), where=cache.parent)
        if code != 0:
            raise ArchiveError(f"cannot make the cache {cache}:\n{errors}")
        if FULL_COMMIT.fullmatch(source.revision):
            commit = self.commit(source.revision, cache)
            if commit:
                return commit
        # the URL is an argument and not a remote: a token in it stays out of the cache's configuration
        fetch = ("fetch", "--quiet", "--no-auto-gc", "--prune", "--force", "--no-tags", "--no-recurse-submodules")
        code, _output, errors = self.run(
            *fetch, "--", source.location, "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", where=cache
        )
        if code != 0:
            raise ArchiveError(
                f"cannot read {mask(wanted)}. Check the address and that this machine may read it without being asked"
                f" for a password. git says:\n{errors}"
            )
        commit = self.commit(source.revision, cache)
        if not commit and FULL_COMMIT.fullmatch(source.revision):
            # a commit that no branch holds, such as a merge request's: a server gives it when asked by name
            self.run(
                "fetch", "--quiet", "--no-auto-gc", "--no-tags", "--", source.location, source.revision, where=cache
            )
            commit = self.commit(source.revision, cache)
        if not commit:
            raise ArchiveError(
                f"{mask(wanted)}: the repository has no tag, branch or commit {source.revision!r}."
                " Push it, or correct the part after the last @."
            )
        return commit

    def commit(self, revision: str, cache: Path) -> str:
        """Return the commit a tag, a branch or a commit stands for, or nothing; a tag goes before a branch."""
        for name in (f"refs/tags/{revision}", f"refs/heads/{revision}", revision):
            code, output, _errors = self.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", where=cache)
            if code == 0:
                return output
        return ""


# acting


@dataclass(frozen=True)
class Packed:
    """An archive in the cache; size in bytes."""

    path: Path
    sha256: str
    size: int
    files: int
    changed: bool


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        for block in iter(lambda: content.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def pack(entries: list[Entry], dest: Path) -> Packed:
    """Write the archive beside its place, name it after its checksum and move it there in one step."""
    check_links(entries)
    handle, temporary = tempfile.mkstemp(dir=dest, prefix=".new-")
    try:
        with os.fdopen(handle, "wb") as raw:
            with gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=raw, mtime=0) as compressed:
                count = write_tar(entries, cast("IO[bytes]", compressed))
            raw.flush()
            os.fsync(raw.fileno())
        sha256 = sha256_of(Path(temporary))
        size = os.stat(temporary).st_size
        path = dest / f"{sha256}.tar.gz"
        # an archive that a full disk or a hand has damaged is written again
        there = path.is_file() and sha256_of(path) == sha256
        if there:
            os.utime(path)  # in use: see forget()
        else:
            os.chmod(temporary, 0o600)  # code can hold more secrets than it should
            os.replace(temporary, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
    return Packed(path, sha256, size, count, not there)


def forget(dest: Path, now: float) -> None:
    """Remove archives that nobody has asked for in a month, and what cut runs left; `now` is in seconds."""
    for path in dest.iterdir():
        with contextlib.suppress(OSError):
            ours = re.fullmatch(r"[0-9a-f]{64}\.tar\.gz|\.new-\w+", path.name)
            if ours and now - path.stat().st_mtime > KEPT_SECONDS:
                path.unlink()


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file: two playbooks can pack from the same repository at once."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def make(source: Source, patterns: list[str], dest: Path, warn: Callable[[str], None]) -> tuple[Packed, str]:
    """Pack a source; return the archive and the revision (empty when unknown). `warn` tells the user something."""
    dest.mkdir(mode=0o700, parents=True, exist_ok=True)
    if source.kind == "requirement":
        line = f"{source.location}\n".encode()
        return pack([Entry("requirements.txt", size=len(line), open=lambda: io.BytesIO(line))], dest), ""
    git = Git()
    if source.kind == "git":
        repositories = dest / "git"
        repositories.mkdir(mode=0o700, exist_ok=True)
        key = hashlib.sha256(without_credentials(source.location).encode()).hexdigest()[:32]
        with locked(repositories / f"{key}.lock"), tempfile.TemporaryFile(dir=dest) as stream:
            commit = git.fetch(source, repositories / f"{key}.git")
            code, _output, errors = git.run(
                "archive", "--format=tar", commit, where=repositories / f"{key}.git", out=stream
            )
            if code != 0:
                raise ArchiveError(f"git archive of {mask(source.location)} at {source.revision} failed:\n{errors}")
            stream.seek(0)
            with tarfile.open(fileobj=stream, mode="r:", encoding=ENCODING, errors=ERRORS) as tar:
                entries = list(tar_entries(tar, source.subdirectory, patterns))
                if any(entry.name == ".gitmodules" for entry in entries):
                    warn(f"{mask(source.location)} has submodules, and they are not in the archive.")
                if not entries:
                    where = f" below {source.subdirectory!r}" if source.subdirectory else ""
                    raise ArchiveError(f"{mask(source.location)} holds no file{where} at {source.revision}.")
                return pack(entries, dest), commit
    root = Path(source.location)
    if not root.is_dir():
        raise ArchiveError(f"there is no directory {root} on the control node. {FORMS}")
    entries = list(directory_entries(root, patterns))
    if not entries:
        raise ArchiveError(f"{root} holds no file, so there is nothing to release.")
    return pack(entries, dest), git.revision_of(root)


def located(source: Source, base: str | None) -> Source:
    """Return the source with an absolute path; raise ArchiveError for a relative one without a base."""
    if source.kind != "directory":
        return source
    path = os.path.expanduser(source.location)
    if not os.path.isabs(path):
        if not base:
            raise ArchiveError(f"the path {source.location!r} is relative. Give an absolute one, or set base.")
        path = os.path.join(base, path)
    return Source("directory", os.path.normpath(path))


def user_name() -> str:
    """Return the name of who runs this, as a note for the people who read it on the host later."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user need not be in /etc/passwd
        return str(os.getuid())


class QuietModule(AnsibleModule):  # type: ignore[misc]
    """A module that keeps the token of a URL out of the control node's log."""

    def _log_invocation(self) -> None:
        self.log(f"Invoked for {mask(self.params['source'])}")


def main() -> None:
    """Run as a module."""
    module = QuietModule(
        argument_spec={
            "source": {"type": "str", "required": True},
            "base": {"type": "path"},
            "exclude": {"type": "list", "elements": "str", "default": []},
            "dest": {"type": "path", "default": "~/.cache/flaskfleet"},
        },
        supports_check_mode=True,
    )
    try:
        source = located(parse(module.params["source"]), module.params["base"])
        if not source.pinned:
            module.warn(
                f"the requirement {source.location!r} names no exact version. Its virtualenv is built once and then"
                " reused, so a newer version would not be noticed: write NAME==VERSION."
            )
        # a token in the URL: Ansible takes it out of everything that it prints
        module.no_log_values.update(secrets_of(source.location))
        dest = Path(module.params["dest"])
        packed, revision = make(source, [*BUILT_IN_EXCLUDES, *module.params["exclude"]], dest, module.warn)
        forget(dest, time.time())
    except (ArchiveError, SourceError) as error:
        module.fail_json(msg=f"Cannot pack the app: {error}")
    except OSError as error:
        module.fail_json(msg=f"Cannot pack the app: {error.strerror}: {shown(os.fsdecode(error.filename or ''))}")
    module.exit_json(
        changed=packed.changed,
        path=str(packed.path),
        sha256=packed.sha256,
        size=packed.size,
        files=packed.files,
        kind=source.kind,
        revision=revision,
        by=user_name(),
        host=socket.gethostname(),
    )


if __name__ == "__main__":
    main()

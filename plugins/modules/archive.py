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
        repository. What a submodule or Git LFS holds is not part of it, and refused.
      - A requirement as pip reads it, for example C(hello==1.2.0), or several with a space between them. The archive
        then holds one C(requirements.txt) with them.
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
        C(.mypy_cache), C(.pytest_cache), C(.ruff_cache), C(*.egg-info) and C(.env). A warning tells of C(.env)."
    type: list
    elements: str
    default: []
  requirements:
    description:
      - The requirements file of the app, by path in the source. Where there is none, it is made of C(uv.lock),
        C(poetry.lock), C(pdm.lock) or C(Pipfile.lock), by the tool that wrote that; or of the dependencies that
        C(pyproject.toml) declares, where it is of an app that cannot be built. Nothing of the app is run for that.
    type: str
    default: requirements.txt
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
import hashlib
import io
import os
import pwd
import re
import socket
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskfleet.web.plugins.module_utils.dependencies import complete
from ansible_collections.flaskfleet.web.plugins.module_utils.git import Git
from ansible_collections.flaskfleet.web.plugins.module_utils.incomplete import check_pointers, check_submodules
from ansible_collections.flaskfleet.web.plugins.module_utils.source import (
    FORMS,
    Source,
    SourceError,
    mask,
    parse,
    secrets_of,
    without_credentials,
)
from ansible_collections.flaskfleet.web.plugins.module_utils.tarball import Packed, pack
from ansible_collections.flaskfleet.web.plugins.module_utils.tree import (
    ENCODING,
    ERRORS,
    ArchiveError,
    Entry,
    directory_entries,
    excluded,
    shown,
    tar_entries,
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
KEPT_SECONDS = 30 * 24 * 3600


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


@dataclass(frozen=True)
class Options:
    """What is left out by name, the app's requirements file, and how to tell the user something."""

    exclude: list[str]
    requirements: str
    warn: Callable[[str], None]

    @property
    def patterns(self) -> list[str]:
        """All that is left out."""
        return [*BUILT_IN_EXCLUDES, *self.exclude]


def make(source: Source, options: Options, dest: Path) -> tuple[Packed, str]:
    """Pack a source; return the archive and the revision (empty when unknown)."""
    dest.mkdir(mode=0o700, parents=True, exist_ok=True)
    if source.kind == "requirement":
        lines = f"{source.location}\n".encode()
        return pack([Entry("requirements.txt", size=len(lines), open=lambda: io.BytesIO(lines))], dest), ""
    return (from_git if source.kind == "git" else from_directory)(source, options, dest)


def from_git(source: Source, options: Options, dest: Path) -> tuple[Packed, str]:
    """Pack a revision of a repository."""
    git = Git()
    repositories = dest / "git"
    repositories.mkdir(mode=0o700, exist_ok=True)
    key = hashlib.sha256(without_credentials(source.location).encode()).hexdigest()[:32]
    with locked(repositories / f"{key}.lock"), tempfile.TemporaryFile(dir=dest) as stream:
        cache = repositories / f"{key}.git"
        commit = git.fetch(source, cache)
        code, _output, errors = git.run("archive", "--format=tar", commit, where=cache, out=stream)
        if code != 0:
            raise ArchiveError(f"git archive of {mask(source.location)} at {source.revision} failed:\n{errors}")
        stream.seek(0)
        with tarfile.open(fileobj=stream, mode="r:", encoding=ENCODING, errors=ERRORS) as tar:
            entries = list(tar_entries(tar, source.subdirectory, options.patterns))
            prefix = f"{source.subdirectory}/" if source.subdirectory else ""
            listed = git.submodules(cache, "ls-tree", "-r", "--full-tree", commit)
            submodules = [name[len(prefix) :] for name in listed if name.startswith(prefix)]
            check_submodules(entries, submodules, options.patterns, source.kind)
            if not entries:
                where = f" below {source.subdirectory!r}" if source.subdirectory else ""
                raise ArchiveError(f"{mask(source.location)} holds no file{where} at {source.revision}.")
            if f"{prefix}.env" in tar.getnames():
                tell_of_env(options)
            check_pointers(entries, source.kind)
            return pack(complete(entries, options.requirements, mask(source.location)), dest), commit


def from_directory(source: Source, options: Options, dest: Path) -> tuple[Packed, str]:
    """Pack a directory of the control node."""
    git = Git()
    root = Path(source.location)
    if not root.is_dir():
        raise ArchiveError(f"there is no directory {root} on the control node. {FORMS}")
    entries = list(directory_entries(root, options.patterns))
    submodules = git.submodules(root, "ls-files", "--stage", "--", ".")
    check_submodules(entries, submodules, options.patterns, source.kind)
    if not entries:
        raise ArchiveError(f"{root} holds no file, so there is nothing to release.")
    if (root / ".env").is_file():
        tell_of_env(options)
    check_pointers(entries, source.kind)
    return pack(complete(entries, options.requirements, str(root)), dest), git.revision_of(root)


def tell_of_env(options: Options) -> None:
    """Warn that .env is in no release, unless somebody has said so."""
    if not excluded(".env", options.exclude):
        options.warn(
            ".env stays out of the release, for it tends to hold secrets. Put its values into flask_gunicorn_nginx_env,"
            " and what is secret into a file of ansible-vault. .env in flask_gunicorn_nginx_exclude silences this."
        )


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
            "requirements": {"type": "str", "default": "requirements.txt"},
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
        options = Options(module.params["exclude"], module.params["requirements"], module.warn)
        packed, revision = make(source, options, dest)
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

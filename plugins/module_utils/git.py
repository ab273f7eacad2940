# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What git is asked for: the revision of a directory, and the files of a revision."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import IO

from ansible_collections.flaskfleet.web.plugins.module_utils.source import Source, mask
from ansible_collections.flaskfleet.web.plugins.module_utils.tree import ENCODING, ArchiveError

# git tells its own commands about a repository in these; a playbook started by a git hook inherits them
GIT_LOCAL_ENVIRONMENT = re.compile(
    r"GIT_(DIR|WORK_TREE|INDEX_FILE|OBJECT_DIRECTORY|ALTERNATE_OBJECT_DIRECTORIES|PREFIX|COMMON_DIR|NAMESPACE"
    r"|QUARANTINE_PATH|GRAFT_FILE|REPLACE_REF_BASE|SHALLOW_FILE|INTERNAL_SUPER_PREFIX|IMPLICIT_WORK_TREE)"
)
# no program as a transport; and this machine's own idea of line ends and attributes must not be in the archive
GIT_SETTINGS = ("-c", "protocol.ext.allow=never", "-c", "core.autocrlf=false", "-c", "core.attributesFile=/dev/null")
REMOTE_HEAD = "refs/remotes/origin/HEAD"
FULL_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


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
        branches = ["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"]
        if source.revision == "HEAD":  # of a bare repository that was made here it is no branch of the other one
            branches.append(f"+HEAD:{REMOTE_HEAD}")
        # the URL is an argument and not a remote: a token in it stays out of the cache's configuration
        fetch = ("fetch", "--quiet", "--no-auto-gc", "--prune", "--force", "--no-tags", "--no-recurse-submodules")
        # a checkout of a CI is shallow, and is to be read all the same
        code, _output, errors = self.run(*fetch, "--update-shallow", "--", source.location, *branches, where=cache)
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
        names = (f"refs/tags/{revision}", f"refs/heads/{revision}", revision)
        for name in [REMOTE_HEAD] if revision == "HEAD" else names:
            code, output, _errors = self.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", where=cache)
            if code == 0:
                return output
        return ""

    def submodules(self, where: Path, *listing: str) -> list[str]:
        """Return the submodules, by path, in what `ls-tree -r` or `ls-files --stage` lists; none without git."""
        try:
            code, listed, _errors = self.run(listing[0], "-z", *listing[1:], where=where)
        except ArchiveError:
            return []  # no git: nobody knows
        lines = listed.split("\0") if code == 0 else []
        return [line.partition("\t")[2] for line in lines if line.startswith("160000 ")]

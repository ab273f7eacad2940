# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How entries become one archive that is the same, byte for byte, wherever and whenever it is made."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from ansible_collections.flaskfleet.web.plugins.module_utils.tree import ENCODING, ERRORS, ArchiveError, Entry, shown

LINKS_FOLLOWED = 40  # the kernel's own limit


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
        member.mode, member.size = (0o755 if entry.executable else 0o644), entry.size
        with entry.open() as content:
            try:
                tar.addfile(member, content)
            except OSError as error:
                raise ArchiveError(f"{shown(name)} became shorter while it was read ({error}). Run again.") from error
    tar.close()
    return len(by_name)


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

"""A .tar.gz becomes a directory, or is refused. Knows no release and no app."""

from __future__ import annotations

import os
import shutil
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, cast

from flaskctl.errors import Refused

if TYPE_CHECKING:
    from gzip import GzipFile
    from tarfile import TarFile, TarInfo

MAX_MEMBERS = 50_000


MAX_UNPACKED = 2 * 1024**3  # bytes


MAX_DEPTH = 100  # directories in one another


MAX_NAME, MAX_PATH = 255, 3072  # bytes of a name in a directory, and of all of a path


MAX_HEADER = 64 * 1024  # bytes of what stands before a member: long names, times, owners


MAX_HEADERS = 64 * 1024**2  # bytes of them all, which are held in memory


def unpack(archive: IO[bytes], name: str, dest: Path, members: int = MAX_MEMBERS, size: int = MAX_UNPACKED) -> None:
    """Unpack a .tar.gz into the empty directory `dest`: files, directories, links that stay inside. Refuse all else.

    Nothing is ever written through a link: links are made last, when every file stands, and then looked at again.
    """
    import gzip  # here and below: `status` has no use for them
    import tarfile
    import zlib

    tree = Tree(name, dest, members, size)
    try:
        with gzip.GzipFile(fileobj=archive) as unzipped:
            stream = cast("IO[bytes]", Limited(unzipped, name, size + 1024 * members))
            with tarfile.open(fileobj=stream, mode="r|", encoding="utf-8", tarinfo=small_headers(name)) as tar:
                for member in tar:
                    tree.add(member, tar)
            while stream.read(1 << 20):  # the checksum stands at the very end
                pass
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, UnicodeError, RecursionError) as error:
        raise Refused(f"{name} is truncated or corrupt: {error}", remedy="send it again") from None
    tree.make_links()


def small_headers(archive: str) -> type[TarInfo]:
    """Return how a member is read: large headers are refused before they are in memory."""
    import tarfile

    class Member(tarfile.TarInfo):
        left = MAX_HEADERS

        def _proc_member(self, tar: TarFile) -> TarInfo:
            if self.type == tarfile.GNUTYPE_SPARSE:  # its map of holes has no limit
                raise Refused(f"{archive}: {self.name} is neither file, directory nor link")
            if self.type in HEADERS:
                Member.left -= self.size
                if self.size > MAX_HEADER or Member.left < 0:
                    raise Refused(f"{archive}: what stands before a member is larger than {MAX_HEADER} bytes")
            found: TarInfo = super()._proc_member(tar)  # type: ignore[misc]
            return found

    return Member


class Limited:
    """A stream that ends in a refusal where it is too long: headers and what follows the archive count too."""

    def __init__(self, file: GzipFile, name: str, left: int) -> None:
        self.file, self.name, self.left = file, name, left

    def read(self, size: int) -> bytes:
        found = self.file.read(size)
        self.left -= len(found)
        if self.left < 0:
            raise Refused(f"{self.name} unpacks to too much", remedy="leave data out of it")
        return found


HEADERS = frozenset((b"L", b"K", b"x", b"g", b"X"))  # long names and links, those of pax


class Tree:
    """What has come out of an archive so far."""

    def __init__(self, name: str, dest: Path, members: int, size: int) -> None:
        self.name, self.dest, self.members, self.size = name, dest, members, size
        self.kinds = {"": "directory"}  # by path: directory, file or link
        self.links: dict[str, str] = {}

    def add(self, member: TarInfo, tar: TarFile) -> None:
        """Take one member in."""
        path = member_path(member.name, self.name)
        make_parents(self.dest, os.path.dirname(path), self.kinds, f"{self.name}: {path}")
        if len(self.kinds) >= self.members:
            raise Refused(f"{self.name} holds more than {self.members} members", remedy="leave data out of the source")
        if member.isdir():
            self.add_directory(path)
            return
        if path in self.kinds:
            raise Refused(f"{self.name}: {path} is in it twice")
        self.take(member.size, path)
        self.kinds[path] = "link" if member.issym() else "file"
        if member.issym():
            check_length(PurePosixPath(member.linkname), self.name)
            self.links[path] = member.linkname
        elif member.islnk():
            self.copy(path, member.linkname)
        elif member.isreg() and not member.issparse():
            self.write(path, member, tar)
        else:
            raise Refused(f"{self.name}: {path} is neither file, directory nor link")

    def take(self, size: int, path: str) -> None:
        """Count what is written."""
        self.size -= abs(size)
        if self.size < 0:
            what = f"{self.name} unpacks to too much: {path} is over the limit"
            raise Refused(what, remedy="leave data out of it")

    def add_directory(self, path: str) -> None:
        if path not in self.kinds:
            (self.dest / path).mkdir(mode=0o755)
            self.kinds[path] = "directory"
        elif self.kinds[path] != "directory":
            raise Refused(f"{self.name}: {path} is in it twice")

    def copy(self, path: str, linked: str) -> None:
        """Make of a hard link a file of its own."""
        source = member_path(linked, self.name)
        if source == path or self.kinds.get(source) != "file":
            raise Refused(f"{self.name}: {path} is a hard link to {linked}, no file before it")
        self.take((self.dest / source).stat().st_size, path)
        shutil.copy(self.dest / source, self.dest / path)

    def write(self, path: str, member: TarInfo, tar: TarFile) -> None:
        content = tar.extractfile(member)
        assert content is not None
        with open(self.dest / path, "xb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
            os.fchmod(file.fileno(), 0o755 if member.mode & 0o111 else 0o644)

    def make_links(self) -> None:
        for path, target in self.links.items():
            os.symlink(target, self.dest / path)
        inside = os.path.realpath(self.dest)
        for path, target in self.links.items():
            stays = (os.path.realpath(self.dest / path) + os.sep).startswith(inside + os.sep)
            if os.path.isabs(target) or not stays:
                raise Refused(f"{self.name}: {path} is a link to {target}, out of the archive")


def member_path(raw: str, archive: str) -> str:
    path = PurePosixPath(raw)
    if path.is_absolute() or ".." in path.parts or "\0" in raw:
        raise Refused(f"{archive}: {raw!r} points out of the archive")
    if len(path.parts) > MAX_DEPTH:
        what = f"{archive}: {raw[:60]!r}... lies in {len(path.parts) - 1} directories, {MAX_DEPTH - 1} may be"
        raise Refused(what, remedy="leave them out of the source")
    check_length(path, archive)
    return "" if str(path) == "." else str(path)


def check_length(path: PurePosixPath, archive: str) -> None:
    if len(bytes(path)) > MAX_PATH or any(len(os.fsencode(part)) > MAX_NAME for part in path.parts):
        what = f"{archive}: {str(path)[:60]!r}... is too long: a name has {MAX_NAME} bytes at most, a path {MAX_PATH}"
        raise Refused(what, remedy="leave it out of the source")


def make_parents(dest: Path, parent: str, kinds: dict[str, str], what: str) -> None:
    if parent not in kinds:
        make_parents(dest, os.path.dirname(parent), kinds, what)
        (dest / parent).mkdir(mode=0o755)
        kinds[parent] = "directory"
    if kinds[parent] != "directory":
        raise Refused(f"{what} lies below {parent}, which is no directory")

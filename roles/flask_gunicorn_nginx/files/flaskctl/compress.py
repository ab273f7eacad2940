"""Static files are compressed once, when a release is made, so that nginx need not do it for each request."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

END = ".gz"  # nginx looks for NAME.gz beside NAME: gzip_static
LEVEL = 9  # it is done once
SMALLEST = 1024  # bytes: a smaller file goes in one packet or two anyway
LARGEST = 64 * 1024**2  # what is larger is a download, and no part of a page
WORTH = 0.9  # of the size: with less to gain a visitor has the work of unpacking for nothing

# what is text, or like it: pictures, sounds and archives are compressed already
TEXTS = re.compile(
    r"(?i).*\.(atom|bmp|css|csv|eot|geojson|html?|ico|ics|json|jsonld|m?js|map|md|otf|rss|srt|svg|tsv|ttf|txt|vcf|vtt"
    r"|wasm|webmanifest|xhtml|xml|xsl|ya?ml)\Z"
)


def compress(tree: Path, *inside: Path) -> list[str]:
    """Make what nginx may send in place of each file of a tree; return what was there and unpacks to something else.

    Nothing is done in a tree that lies, by a link, where others than root may write: in none of `inside`.
    """
    top, outer = os.path.realpath(tree), tuple(f"{os.path.realpath(path)}{os.sep}" for path in inside)
    if not os.path.isdir(top) or not f"{top}{os.sep}".startswith(outer):
        return []
    replaced = []
    for path in files_of(top):
        beside = f"{path}{END}"
        there = os.path.lexists(beside)
        if there and not os.path.isfile(beside):
            continue
        if there and (os.path.islink(beside) or not unpacks_to(beside, path)):
            replaced.append(os.path.relpath(beside, top))
            pack(path, beside, 0)
        elif not there and wanted(path):
            pack(path, beside, WORTH)
    return sorted(replaced)


def files_of(top: str) -> Iterator[str]:
    """Return the files in a tree that nginx may serve: no links, and none that is hidden."""
    for directory, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            path = os.path.join(directory, name)
            if not name.startswith(".") and stat.S_ISREG(os.lstat(path).st_mode):
                yield path


def wanted(path: str) -> bool:
    """Whether a file may be worth it; a name that has no room for the ending is left alone."""
    name = os.path.basename(path)
    fits = len(os.fsencode(name)) + len(END) <= 255
    return fits and bool(TEXTS.match(name)) and SMALLEST <= os.path.getsize(path) <= LARGEST


def pack(path: str, beside: str, worth: float) -> None:
    """Write the compressed file, with mode and time of the plain one; `worth`: of which share it may be at most."""
    import gzip  # here and below: `status` has no use for it

    new = os.path.join(os.path.dirname(beside), f".{os.path.basename(path)[:200]}.new")  # nginx shows nothing hidden
    # no name and no time in it: the same file gives the same bytes
    with open(path, "rb") as plain, open(new, "wb") as file, gzip.GzipFile("", "wb", LEVEL, file, mtime=0) as packed:
        shutil.copyfileobj(plain, packed, 1 << 20)
    if worth and os.path.getsize(new) > worth * os.path.getsize(path):
        os.unlink(new)
        return
    shutil.copystat(path, new)
    os.replace(new, beside)


def unpacks_to(beside: str, path: str) -> bool:
    """Whether a compressed file holds just what the plain one does; no more of it is unpacked than is the same."""
    import gzip
    import zlib

    try:
        with gzip.open(beside, "rb") as packed, open(path, "rb") as plain:
            while True:
                block = plain.read(1 << 20)
                if packed.read(max(len(block), 1)) != block:
                    return False
                if not block:
                    return True
    except (OSError, EOFError, zlib.error):
        return False

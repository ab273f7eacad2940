"""A page of the documentation as a new user goes through it: files, commands, and what they are told to see."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# in a list it is indented
FENCE = re.compile(r'^ *```(\w*)(?: title="([^"]+)")?\n(.*?)^ *```$', re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A block of the page: a file with its path, commands (sh), or what is printed then (text)."""

    kind: str
    path: str
    text: str
    section: str

    @property
    def commands(self) -> list[str]:
        return joined(self.text).splitlines() if self.kind == "sh" else []

    @property
    def printed(self) -> list[str]:
        """Return the lines that the page shows as printed; `...` stands for anything."""
        return self.text.splitlines() if self.kind == "text" and not self.path else []


def blocks(page: Path) -> Iterator[Block]:
    """Return all blocks of a page in their order."""
    text = page.read_text()
    headings = [(found.start(), found[1]) for found in re.finditer(r"^#+ (.*)$", FENCE.sub(blank, text), re.MULTILINE)]
    for found in FENCE.finditer(text):
        section = [name for start, name in headings if start < found.start()][-1]
        yield Block(found[1], found[2] or "", textwrap.dedent(found[3]), section)


def joined(text: str) -> str:
    """Return commands with each on one line: a backslash at the end of a line goes on with the next."""
    return re.sub(r"\\\n\s*", "", text)


def blank(found: re.Match[str]) -> str:
    """Return as much of nothing as a block is long: what looks like a heading there is a comment."""
    return re.sub(r"[^\n]", " ", found[0])


def is_printed(line: str, said: str) -> bool:
    """Whether a line of the page is in what was printed, in one line there."""
    return re.search(".*".join(re.escape(part) for part in line.split("...")), said) is not None

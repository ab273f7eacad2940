"""What a tester found, and the table of all of them in docs/security.md."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tools.run import ROOT, Problem

DOCUMENT = ROOT / "docs" / "security.md"
BEGIN, END = "<!-- make audit writes from here -->", "<!-- to here -->"
HEAD = """\
| tester | command | where | found | limit |
|---|---|---|---|---|"""


@dataclass(frozen=True)
class Found:
    """What one tester says of one place. `wrong` is empty where the limit is kept."""

    tester: str  # with its version
    command: str
    where: str
    figure: str
    limit: str
    wrong: list[str] = field(default_factory=list)

    def row(self) -> str:
        """Its line of the table."""
        cells = [self.tester, f"`{self.command}`", self.where, self.figure, self.limit]
        return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def table(found: Iterable[Found]) -> str:
    """The table: places with the same figure share a line."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for each in found:
        rows.setdefault((each.tester, each.command, each.figure, each.limit), []).append(each.where)
    merged = [Found(key[0], key[1], ", ".join(places), key[2], key[3]) for key, places in rows.items()]
    return "\n".join([HEAD, *(each.row() for each in merged)])


def within(text: str, inner: str) -> str:
    """The document with another text between the marks."""
    form = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    if not form.search(text):
        raise Problem(f"{DOCUMENT.name} has no place for the table: {BEGIN} and {END}, each on a line.")
    return form.sub(lambda _match: f"{BEGIN}\n\n{inner}\n\n{END}", text)


def write(found: Sequence[Found], date: str, path: Path = DOCUMENT) -> None:
    """Put the table into the document."""
    intro = f"Measured on {date} with `make audit`."
    path.write_text(within(path.read_text(), f"{intro}\n\n{table(found)}"))

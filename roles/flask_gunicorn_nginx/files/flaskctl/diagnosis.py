"""Which walls the words of an app show that it met, and what opens these. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from flaskctl.signs import Settings, normal
from flaskctl.texts import extract_traceback
from flaskctl.walls import WALLS, Wall

SERVICE = "flask_gunicorn_nginx_service_settings"
# one of these is in the last line of each sign, in small letters
TROUBLE = re.compile(
    "errno|denied|permitted|read-?only|no such file|not supported|timed? ?out|eafnosupport|system error|unable"
    "|eacces|eperm|erofs|eai_|memory|failed|cannot|can't|unavailable|unobtainable|must be mounted"
    "|does not exist|too many|emfile|enoent|setting limit|executable memory|credentials|imds|usable sandbox|exim"
    "|postdrop|sudo|ping:|oom|system call|sigsys|31/sys|resolution|fork:|uid map|namespace|spool|commit_"
)


class Met(NamedTuple):
    """A wall that an app met: which, and where in the text its sign begins."""

    name: str
    tells: str
    opens: str
    costs: str
    at: int
    door: Mapping[str, str] = {}


def is_open(settings: Settings, door: Mapping[str, str]) -> bool:
    """Return whether settings have what would open a wall: the last value, or the words that all lines add up to."""
    for key, wanted in door.items():
        if wanted[:1].isdigit():  # a ceiling, which can be met again
            return False
        said = [normal(value) for name, value in settings if name == key]
        words = {word for value in said if not value.startswith("~") for word in value.split()}
        if normal(wanted) not in said[-1:] and not set(wanted.split()) <= words:
            return False
    return bool(door)


def setting_line(doors: Iterable[Mapping[str, str]]) -> str:
    """Return the line of the inventory that opens doors, in YAML; what several need of one directive is a list."""
    merged: dict[str, dict[str, None]] = {}
    for door in doors:
        for key, value in door.items():
            merged.setdefault(key, {})[value] = None
    lines = []
    for key, values in merged.items():
        words = [value if re.fullmatch(r"[\w/][\w/.-]*", value) else f"'{value}'" for value in values]
        lines.append(f"{key}: {words[0] if len(words) == 1 else '[' + ', '.join(words) + ']'}")
    return f"{SERVICE}: {{{', '.join(lines)}}}"


def told(wall: Wall, app: str, what: str, at: int) -> Met:
    """Return a wall in words, for an app and what its words name."""
    door = {key: value.format(what, app=app) for key, value in wall.door.items()}
    line = setting_line([door]) if door else ""
    tells, opens = (part.format(what, app=app, door=line) for part in (wall.tells, wall.opens))
    return Met(wall.name, tells, opens, wall.costs, at, door)


def met(app: str, text: str, settings: Settings) -> list[Met]:
    """Return the walls that a text shows signs of, as often as it does. A line is a sign of one wall only.

    `settings` are those of the unit: what they do not shut is no wall, and what they have opened was not met since.
    """
    found: dict[int, Met] = {}  # by where the line begins
    for wall in WALLS:
        for match in re.finditer(wall.signs, text, re.IGNORECASE | re.MULTILINE):
            line = text.rfind("\n", 0, match.end()) + 1
            what = next((group for group in match.groups() if group), None) or wall.unknown
            one = told(wall, app, what, match.start())
            if line not in found and wall.stands(settings, what) and not is_open(settings, one.door):
                found[line] = one
    return [one for _line, one in sorted(found.items())]


def near_trouble(lines: Sequence[tuple[float, str]]) -> list[tuple[float, str]]:
    """Return the lines of a log that may be signs, with the frames before each: all others are passed over quickly."""
    kept: list[tuple[float, str]] = []
    taken = 0
    for number, (when, line) in enumerate(lines):
        if TROUBLE.search(line.lower()):
            start = number
            while start > taken and lines[start - 1][1][:1] in (" ", "\t"):
                start -= 1
            kept += [(when, "")] if start > taken else []  # nothing goes on over what is passed over
            kept += lines[start : number + 1]
            taken = number + 1
    return kept


def explain(app: str, journal: str, verdict: str, settings: Settings) -> tuple[str, str]:
    """Return why something failed, with the walls that it met in front, and what opens these.

    `verdict` is what systemd said of it.
    """
    walls = list({one.name: one for one in met(app, f"{journal}\n{verdict}", settings)}.values())
    causes = [f"{one.name}: {one.tells}" for one in walls]
    return "\n".join([*causes, extract_traceback(journal)]), "\n".join([one.opens for one in walls] + together(walls))


def told_once(app: str, text: str, settings: Settings) -> list[str]:
    """Return a sentence for each wall that a text shows signs of, with what opens it."""
    walls = {(one.name, one.opens): one for one in met(app, text, settings)}.values()
    return [f"{one.name}: {one.tells}. Remedy: {one.opens}" for one in walls]


def together(walls: Sequence[Met]) -> list[str]:
    """Return one line for the settings of several walls: of two with the same name an inventory takes the last."""
    doors = [one.door for one in walls if one.door]
    return [f"together: {setting_line(doors)}"] if len(doors) > 1 else []

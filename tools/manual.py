"""Make the manual page flaskctl(8) of flaskctl's own options; a unit test fails until that has been done."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from tools.run import ROOT

FILES = ROOT / "roles" / "flask_gunicorn_nginx" / "files"
PAGE = FILES / "flaskctl.8"
sys.path.insert(0, str(FILES))

from flaskctl import VERSION  # noqa: E402
from flaskctl.layout import Layout  # noqa: E402
from flaskctl.options import EPILOG  # noqa: E402
from flaskctl.options import commands_of as commands_of  # noqa: E402
from flaskctl.options import parser as parser  # noqa: E402


def roff(text: str) -> str:
    """Return a text as it is to be read, whatever in it would mean something to roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("%%", "%")
    return re.sub(r"(?m)^(?=[.'])", r"\\&", text)


def how_typed(action: argparse.Action) -> str:
    """Return an option or an argument as it is typed, in roff."""
    value = action.metavar or ("|".join(action.choices) if action.choices else "")
    value = f"\\fI{roff(str(value))}\\fR" if action.nargs != 0 else ""
    names = ", ".join(f"\\fB{roff(name)}\\fR" for name in action.option_strings)
    return f"{names} {value}".strip()


def described(actions: Iterable[argparse.Action]) -> list[str]:
    """Return a paragraph for each option and argument."""
    lines = []
    for action in actions:
        if action.help and action.help != argparse.SUPPRESS:
            lines += [".TP", how_typed(action), roff(action.help)]
    return lines


def page() -> str:
    """Return the text of the manual page."""
    main = parser()
    commands = commands_of(main)
    shared = {name for action in main._actions for name in action.option_strings}
    options = [action for action in main._actions if action.option_strings]
    lines = [
        '.\\" Made by tools/manual.py of the options of flaskctl. Change those.',
        f'.TH FLASKCTL 8 "" "Flask Fleet {VERSION}" "System administration"',
        ".SH NAME",
        "flaskctl \\- release, roll back and look after a Flask app on this host",
        ".SH SYNOPSIS",
        "\\fBflaskctl\\fR \\fIAPP\\fR [\\fICOMMAND\\fR] [\\fIOPTION\\fR ...]",
        ".br",
        "\\fBflaskctl apps\\fR | \\fBmetrics\\fR",
        ".SH DESCRIPTION",
        f"{roff(str(main.description))} Without a command it is \\fBstatus\\fR.",
        ".SH COMMANDS",
    ]
    for name, command in commands.items():
        own = [action for action in command._actions if not shared & set(action.option_strings)]
        lines += [".TP", f"\\fB{roff(name)}\\fR", roff(str(command.description))]
        lines += [".RS", *described(own), ".RE"] if own else []
    lines += [".SH OPTIONS", *described(options)]
    for part in EPILOG.strip().split("\n\n"):
        head, _, rest = part.partition("\n")
        lines += [f".SH {head.rstrip(':').upper()}", ".nf", roff(rest), ".fi"]
    return "\n".join([*lines, *files(), ".SH SEE ALSO", "systemctl(1), journalctl(1), nginx(8)", ""])


def files() -> list[str]:
    """Return what stands where on a host."""
    app = Layout(Path, "APP")
    lines = [".SH FILES"]
    for path, meaning in (
        (app.base, "releases and virtualenvs; current links to the release that serves"),
        (app.data_dirs("APP")[0], "what the app writes"),
        (app.settings_file, "what flaskctl knows of the app"),
        (app.audit_file, "who released what, when and from where"),
    ):
        lines += [".TP", f"\\fI{roff(str(path))}\\fR", roff(meaning)]
    return lines


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

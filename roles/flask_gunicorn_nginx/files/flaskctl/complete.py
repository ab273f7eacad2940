"""What may stand next on the command line, for a shell. It asks the parser, so it knows each option that there is."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence

from flaskctl.app import App, apps
from flaskctl.errors import Refused
from flaskctl.host import Host
from flaskctl.layout import APP_NAME
from flaskctl.options import OF_ALL, commands_of, parser
from flaskctl.run import processes


def complete(host: Host, words: Sequence[str]) -> list[str]:
    """Return what the last word may become; the words before it are typed already."""
    *before, last = words or [""]
    try:
        return sorted(word for word in candidates(host, before, last) if word.startswith(last))
    except (OSError, Refused):
        return []


def candidates(host: Host, before: Sequence[str], last: str) -> Iterable[str]:
    main = parser()
    if "--" in before:
        return []  # what `run` runs
    typed = [word for word in before if not word.startswith("-")]
    if not typed:
        return options_of(main) if last.startswith("-") else [*apps(host), *OF_ALL]
    commands = commands_of(main)
    if len(typed) == 1:
        known = [] if typed[0] in OF_ALL and typed[0] not in apps(host) else list(commands)
        return options_of(main) if last.startswith("-") else known
    if typed[1] not in commands or not APP_NAME.match(typed[0]):
        return []
    command, app = commands[typed[1]], App(host, typed[0])
    wanting = [a for a in command._actions if before[-1] in a.option_strings and a.nargs != 0]
    if wanting:
        return values_of(app, wanting[0])
    if last.startswith("-"):
        return options_of(command)
    return [value for action in command._actions if not action.option_strings for value in values_of(app, action)]


def options_of(parser: argparse.ArgumentParser) -> list[str]:
    """Return the long options; each short one is one of them too."""
    return [name for action in parser._actions for name in action.option_strings if name.startswith("--")]


def values_of(app: App, action: argparse.Action) -> Iterable[str]:
    """Return what an option or an argument may be, as far as this host can tell."""
    if action.choices is not None:
        return action.choices
    if action.metavar == "ID":
        return [release.id for release in app.releases()]
    return processes(app) if action.dest == "process" else []

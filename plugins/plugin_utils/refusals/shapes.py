# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What any value may look like, whatever it is for: numbers, truths, texts, lists, paths, and records of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.source import CONTROL
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems, meant, shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import Options

KIB = 1024
MIB = 1024 * KIB
# an app, or a process of it: a part of the names of users, units and directories
NAME = r"[a-z][a-z0-9-]{0,30}"
Rule = Callable[[Any], Problems]


def number(value: Any) -> int | None:
    """Return a whole number, given as one or as digits (a value from the command line is a text), else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value):
        return int(value)
    return None


def truth(value: Any) -> bool | None:
    """Return true or false for what Ansible takes for one of them, else None."""
    text = str(value).lower() if isinstance(value, (bool, int, str)) else ""
    if text in ("true", "yes", "on", "1", "y", "t"):
        return True
    return False if text in ("false", "no", "off", "0", "n", "f") else None


def items(value: Any) -> list[Any]:
    """Return what a list holds; nothing of what is none."""
    return list(value) if isinstance(value, (list, tuple)) else []


def a_bool(value: Any) -> Problems:
    """Accept true and false."""
    if truth(value) is None:
        yield f"is {shown(value)}. Set it to true or false."


def a_number(low: int, high: int | None, example: str) -> Rule:
    """Accept a whole number from `low` to `high`."""

    def rule(value: Any) -> Problems:
        found = number(value)
        if found is None or found < low or (high is not None and found > high):
            reach = f"from {low} to {high}" if high is not None else f"of at least {low}"
            yield f"is {shown(value)}, not a whole number {reach}. {example}"

    return rule


def an_amount(value: Any) -> Problems:
    """Accept a number that need not be whole."""
    text = str(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else ""
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]+)?", text):
        yield f"is {shown(value)}. It must be a number, such as 1.5."


def a_text(pattern: str, what: str) -> Rule:
    """Accept a text on one line that fully matches a pattern; `what` completes 'it must be'."""
    form = re.compile(pattern)

    def rule(value: Any) -> Problems:
        if not isinstance(value, str) or CONTROL.search(value) or not form.fullmatch(value):
            yield f"is {shown(value)}. It must be {what}."

    return rule


def a_list(value: Any, items: Rule, example: str) -> Problems:
    """Accept a list, each item of which `items` accepts."""
    if not isinstance(value, (list, tuple)):
        yield f"is {shown(value)}. It must be a list: {example}."
        return
    for position, item in enumerate(value, 1):
        for text in items(item):
            yield f"item {position} {text}"


def a_dict(value: Any, example: str) -> Problems:
    """Accept a dictionary."""
    if not isinstance(value, Mapping):
        yield f"is {shown(value)}. It must be a dictionary: {example}."


def a_record(options: Options, example: str, **rules: Rule) -> Rule:
    """Accept a dictionary with some of these options, each held to a rule of its own, or to that of its type."""
    held_to = {name: BY_TYPE[option["type"]] for name, option in options.items() if name not in rules} | rules
    if set(held_to) != set(options):
        raise ValueError(f"the role's argument specification has no {', '.join(set(held_to) - set(options))}")

    def rule(value: Any) -> Problems:
        yield from a_dict(value, example)
        for key, held in value.items() if isinstance(value, Mapping) else ():
            if key in held_to:
                yield from (f"has {key}, which {text}" for text in held_to[key](held))
            else:
                known = ", ".join(options)
                yield f"has {shown(key)}, which is not known.{meant(str(key), options)} It can have {known}."

    return rule


def relative_path(value: Any, example: str) -> Problems:
    """Accept a path that stays below where it starts."""
    if not isinstance(value, str) or not value or CONTROL.search(value):
        yield f"is {shown(value)}. It must be a path inside the source: {example}."
    elif value.startswith(("/", "~")) or ".." in value.split("/"):
        yield f"is {shown(value)}, which leaves the source. It must be a path inside it: {example}."


def absolute_or_empty(value: Any) -> Problems:
    """Accept an absolute path or an empty text."""
    if not isinstance(value, str) or (value and not value.startswith("/")) or CONTROL.search(value):
        yield f"is {shown(value)}. It must be an absolute path, or empty."


# what an option of the specification is held to where nothing more is known of it; of a text it must be
BY_TYPE: dict[str, Rule] = {
    "bool": a_bool,
    "float": an_amount,
    "int": a_number(0, None, "Set it to 0 or more."),
    "path": absolute_or_empty,
}

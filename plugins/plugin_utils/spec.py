# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What the role's argument specification says: the one source of names, of sub-options and of their defaults.

Read once for a process, in 2 ms: YAML's own loader, without what Ansible adds to each value.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

PREFIX = "flask_gunicorn_nginx_"
PATH = Path(__file__).resolve().parents[2] / "roles" / "flask_gunicorn_nginx" / "meta" / "argument_specs.yml"
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Options = Mapping[str, Mapping[str, Any]]


@functools.cache
def entry_points() -> dict[str, dict[str, Any]]:
    """Return what the role can be called for."""
    text = PATH.read_text(encoding="utf-8")
    found: dict[str, dict[str, Any]] = yaml.load(text, LOADER)["argument_specs"]  # nosec B506: either is a safe loader
    return found


@functools.cache
def names() -> frozenset[str]:
    """Return the full names of all variables, whatever the role is called for."""
    return frozenset(name for entry in entry_points().values() for name in entry["options"])


def options(*path: str) -> Options:
    """Return the options of a release, or those below one of them: 'rollout', 'bake'."""
    found: Options = entry_points()["main"]["options"]
    for number, name in enumerate(path):
        found = found[name if number else PREFIX + name]["options"]
    return found


def completed(value: Mapping[str, Any], known: Options) -> dict[str, Any]:
    """Return a dictionary with what it leaves out, in the dictionaries below it too."""
    found = dict(value)
    for name, option in known.items():
        held = found.get(name, {})
        if "options" in option and isinstance(held, Mapping):
            found[name] = completed(held, option["options"])
        elif "default" in option:
            found.setdefault(name, option["default"])
    return found

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How a refusal is put: what of a value may be shown, and what a misspelled name was meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.source import mask
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import PREFIX

Problems = Iterator[str]


def shown(value: Any) -> str:
    """Return a value as it may be printed: short, on one line, no password of a URL in it."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, Mapping):
        return "a dictionary"
    if isinstance(value, (list, tuple, set)):
        return "a list"
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return shortened(str(value))
    return f"'{shortened(mask(str(value)))}'"


def shortened(text: str, limit: int = 60) -> str:
    """Return at most `limit` characters of a text, what cannot be printed written out."""
    text = "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
    return text if len(text) <= limit else f"{text[:limit]}..."


def meant(name: str, known: Iterable[str]) -> str:
    """Return ' Did you mean X?' when a known name is near, else nothing."""
    full = {item.removeprefix(PREFIX): item for item in known}
    near = difflib.get_close_matches(name.removeprefix(PREFIX), sorted(full), n=1, cutoff=0.7)
    return f" Did you mean {full[near[0]]}?" if near else ""

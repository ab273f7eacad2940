# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Which static files never change under their name: those that have a hash of their content in it.

In doubt a file is none of them. One that is told from others by mistake stays a year in browsers, and nothing takes it
back; one that is missed is asked for again, and answered with 304.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

FOREVER = "public, max-age=31536000, immutable"
AUTO = "auto"

# What follows a hash: .js, .min.css, .module.css.map
END = "(?:[.][A-Za-z][A-Za-z0-9]{0,15}){1,3}$"
# Words of the letters that hexadecimal digits have; two are short for months
WORDS = (
    "abed|accede|added|babe|bade|bead|beaded|bedded|beef|beefed|cafe|cede|ceded|dada|dead|deaf|decade|deed|deface|"
    "defaced|efface|effaced|facade|face|faced|fade|faded|feed|dec|feb"
)
DATE = "(?:19|20)[0-9]{2}(?:0[1-9]|1[0-2])(?:[0-2][0-9]|3[01])"
UUID = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
# At the beginning of hexadecimal digits: these are none of a hash, but a date, words and numbers, a serial number, UUID
PLAIN = (
    f"(?!{DATE}[0-9a-f]{{0,6}}[.])(?![a-f]{{1,6}}{DATE}[.])"
    f"(?![0-9]{{0,4}}(?:{WORDS}){{1,4}}[0-9]{{0,4}}(?:{WORDS}){{0,4}}[.])"
    "(?![0-9]{7,}[a-f][.])(?![a-f][0-9]{7,}[.])"
    "(?![0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}[.])"
)
MIXED = "(?=[0-9]*[a-f])(?=[a-f]*[0-9])"
# In eight characters of base64url: what people write, MainMenu, Page1of2, S3Upload, My-Photo, iPhone5s, 16x9Hero
SINGLE = "(?<![A-Za-z0-9])[A-Za-z](?![A-Za-z0-9])|(?<![A-Za-z0-9])[a-z](?=[A-Z])|[A-Z](?=[.])"
SHORT = "A[ilnst]|B[ey]|D[beor]|E[pu]|Go|H[di]|I[dnost]|Js|M[cdeprsy]|No|O[fkn]|P[ct]|Re|St|T[osv]|U[ikps]|We"
PART = "[A-Z][a-z](?=[A-Z][a-z]{4})|(?<=[a-z]{4})[A-Z][a-z](?=[.])"
WORD = f"(?:{SHORT}|{PART}|[A-Z]?[a-z]{{2,}}|[A-Z]{{2,}}|[_-]|{SINGLE})"
NUMBER = "[A-Za-z]?[0-9]+(?:(?:[_-]|x|of|to|E|Pt)[0-9]+)?[a-z]?"
WRITTEN = f"{WORD}*(?:{NUMBER})?{WORD}*[.]"

# Patterns for a path below the address of static files, the first that is found decides
RULES: tuple[tuple[str, bool], ...] = (
    ("^.{512}", False),  # anybody may ask for a path that is as long as can be, and made to cost time
    ("^(?!.*[A-Za-z0-9_-]{8}[.])", False),  # most files: no other pattern is looked at
    (f"{UUID}[.]", False),
    # name.3f2c9a1b.js: webpack, Parcel, Flask-Static-Digest, WhiteNoise, Sprockets
    (f"[^/][.~_-]{PLAIN}{MIXED}[0-9a-f]{{8,128}}{END}", True),
    # 5d41402abc4b2a76b9719d911017c592.png: a hash and nothing else
    (f"(?:^|/){PLAIN}{MIXED}[0-9a-f]{{20,128}}{END}", True),
    # name-DhX3k2_1.js: Vite, Rollup
    (
        f"[^/][.-](?=[A-Za-z0-9_-]{{8}}[.])(?=[^.]*[a-z])(?=[^.]*[A-Z])(?!{WRITTEN})[A-Za-z0-9_-]{{8}}{END}",
        True,
    ),
    # name-5UJ3ZBJB.js: esbuild
    (f"[^/][.-](?=[A-Z]*[2-7]+[A-Z]+[2-7])[A-Z2-7]{{8}}{END}", True),
)


def is_fingerprinted(name: str) -> bool:
    """Whether the path of a static file, below their address, has a hash in it by the rules above."""
    return next((lasts for pattern, lasts in RULES if re.search(pattern, name)), False)


def quoted(value: str) -> str:
    """Return a value as nginx reads it back."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def immutable_files(pattern: str, settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what nginx is to find in the path of a file below their address, in this order, and what it says then.

    `pattern`: the rules above for "auto", none where it is empty, else one that the whole path has to match. Who says
    in nginx's own words how long files last is not contradicted.
    """
    said = "expires" in settings or str(settings.get("add_header", "")).lower().startswith("cache-control ")
    rules = RULES if pattern == AUTO else ((f"^(?:{pattern})$", True),)
    return [
        {"pattern": quoted(f"~{form}"), "value": quoted(FOREVER if lasts else "")}
        for form, lasts in (rules if pattern and not said else ())
    ]

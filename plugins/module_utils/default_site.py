# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Tell whether the distribution's default site is that still: many write their own site into its file.

Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Sequence

ROOT = "/var/www/html"  # what it shows
OWN = {"index.nginx-debian.html", ".well-known"}
PACKAGES = ("nginx-common", "nginx")


def is_own(path: str, ask: Callable[[Sequence[str]], str]) -> bool:
    """Return whether a file is as its package brought it, or not there: dpkg has the hash of each."""
    try:
        with open(path, "rb") as file:
            digest = hashlib.md5(file.read()).hexdigest()  # noqa: S324  # nosec B324: dpkg's, no secret
    except FileNotFoundError:
        return True
    except OSError:
        return False
    known = ask(["dpkg-query", "--show", "--showformat=${Conffiles}\n", *PACKAGES])
    return f"{os.path.realpath(path)} {digest}" in [line.strip() for line in known.splitlines()]


def hides(path: str) -> list[str]:
    """Return a warning where the site that is to go aside shows what somebody has put there."""
    pages: list[str] = []
    with contextlib.suppress(OSError):
        pages = sorted(set(os.listdir(ROOT)) - OWN) if os.path.lexists(path) else []
    if not pages:
        return []
    more = f" and {len(pages) - 3} more" if len(pages) > 3 else ""
    return [
        f"flask_gunicorn_nginx_default_server sets {path} aside, which shows {ROOT}: {', '.join(pages[:3])}{more}"
        " cannot be asked for any more. A site of its own, with a name, would show it"
    ]

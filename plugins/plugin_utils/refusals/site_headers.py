# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What nginx adds to answers, and how much it takes from one client."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import a_dict, a_record
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems, shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import options

LONGEST = 4000  # nginx reads at most 4096 bytes as one word
NOT_ADDED = {
    **dict.fromkeys(
        ("connection", "content-encoding", "content-length", "date", "keep-alive", "location", "server", "te")
        + ("trailer", "transfer-encoding", "upgrade"),
        "it is said of each answer by who makes it",
    ),
    "cache-control": "set expires in flask_gunicorn_nginx_server_settings, or have the app say it",
    "content-type": "it is said of each answer by who makes it",
    "retry-after": "nginx says it while nobody answers",
    "set-cookie": "it is the app's to set",
    "x-release": "it tells which release has answered",
}


def headers(value: Any) -> Problems:
    """Accept headers; no value may be anything else to nginx."""
    yield from a_dict(value, "{X-Frame-Options: DENY}")
    known: dict[str, str] = {}
    for name, held in value.items() if isinstance(value, Mapping) else ():
        label = f"has {shown(name)},"
        twice = known.setdefault(str(name).lower(), str(name))
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9-]{0,63}", name):
            yield f"{label} which is no name of a header. Use letters, digits and dashes, such as X-Frame-Options."
        elif name.lower() in NOT_ADDED:
            yield f"{label} which nginx is not to add: {NOT_ADDED[name.lower()]}. Remove it."
        elif twice != name:
            yield f"{label} and {shown(twice)}, which are one header. Remove one."
        elif not isinstance(held, (str, int)) or isinstance(held, bool):
            yield f"{label} whose value is {shown(held)}. It must be a text, or empty to leave the header out."
        elif not re.fullmatch(r"[ -#%-\[\]-~]*", str(held)) or str(held) != str(held).strip():
            yield (
                f"{label} whose value is {shown(held)}. It can have what ASCII prints, without $ and \\, and no space"
                " at its ends."
            )
        elif len(str(held)) > LONGEST:
            yield f"{label} whose value has {len(str(held))} characters, and nginx reads {LONGEST}. Make it shorter."


limits = a_record(options("limits"), "{connections: 200, requests: 50}")

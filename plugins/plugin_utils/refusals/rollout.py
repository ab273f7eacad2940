# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How a release goes over the fleet: batches, hooks, the path that load balancers ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.gunicorn import health_path
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import CONTROL, a_dict, a_list, number
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems, meant, shown


def batches(value: Any) -> Problems:
    """Accept sizes as `serial` of a play takes them."""
    yield from a_list(value, batch, '[1, "10%", "100%"]')
    if isinstance(value, (list, tuple)) and not value:
        yield 'is empty. Set the sizes of the batches, such as [1, "10%", "100%"].'


def batch(value: Any) -> Problems:
    """Accept a number of hosts or a share of them."""
    share = re.fullmatch(r"(\d{1,3}(?:\.\d+)?)%", value) if isinstance(value, str) else None
    if not ((number(value) or 0) > 0 or (share and 0 < float(share[1]) <= 100)):
        yield f'is {shown(value)}. It must be a number of hosts, 1 or more, or a share of them, "10%".'


def ready_path(value: Any) -> Problems:
    """Accept a path of its own: it stands beside the app's."""
    yield from health_path(value)
    if value == "/":
        yield "is '/', which belongs to the app. Set a path that it does not have, such as /readyz."


def hooks(value: Any) -> Problems:
    """Accept files of tasks that run around a release."""
    known = ("before_batch", "pre_release", "post_release", "after_batch")
    yield from a_dict(value, "{pre_release: /srv/deploy/before.yml}")
    for key, path in value.items() if isinstance(value, Mapping) else ():
        if key not in known:
            yield f"has {shown(key)}, which is not known.{meant(str(key), known)} It can have {', '.join(known)}."
        elif not isinstance(path, str) or not path.startswith("/") or CONTROL.search(path):
            yield (
                f"has the {key} {shown(path)}. It must be an absolute path on the control node, such as"
                " {{ playbook_dir }}/before.yml."
            )

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How a release goes over the fleet: batches, hooks, the path that load balancers ask."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.gunicorn import health_path
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import (
    CONTROL,
    a_list,
    a_number,
    a_record,
    a_text,
    number,
)
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import Problems, shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import options


def batches(value: Any) -> Problems:
    """Accept sizes as `serial` of a play takes them."""
    yield from a_list(value, batch, '[1, "10%", "100%"]')
    if isinstance(value, (list, tuple)) and not value:
        yield 'is empty. Set the sizes of the batches, such as [1, "10%", "100%"].'


def batch(value: Any) -> Problems:
    """Accept a number of hosts or a share of them."""
    share = re.fullmatch(r"([0-9]{1,3}(?:\.[0-9]+)?)%", value) if isinstance(value, str) else None
    if not ((number(value) or 0) > 0 or (share and 0 < float(share[1]) <= 100)):
        yield f'is {shown(value)}. It must be a number of hosts, 1 or more, or a share of them, "10%".'


def ready_path(value: Any) -> Problems:
    """Accept a path of its own: it stands beside the app's."""
    yield from health_path(value)
    if value == "/":
        yield "is '/', which belongs to the app. Set a path that it does not have, such as /readyz."


def hook(value: Any) -> Problems:
    """Accept a file of tasks on the control node."""
    if not isinstance(value, str) or not value.startswith("/") or CONTROL.search(value):
        yield (
            f"is {shown(value)}. It must be an absolute path on the control node, such as"
            " {{ playbook_dir }}/before.yml."
        )


hooks = a_record(options("hooks"), "{pre_release: /srv/deploy/before.yml}", **dict.fromkeys(options("hooks"), hook))
rollout = a_record(
    options("rollout"),
    "{max_unreachable: 1}",
    max_unreachable=a_number(0, None, "Set how many hosts may be down, such as 1."),
    bake=a_record(
        options("rollout", "bake"),
        "{seconds: 60}",
        seconds=a_number(0, 86400, "Set how long to watch, or 0 for not at all."),
        min_requests=a_number(0, None, "Set how many requests are enough, such as 50."),
    ),
    migrate_on=a_text("first|every", "first (one host for all) or every (each host, before it switches)"),
    ready_path=ready_path,
)

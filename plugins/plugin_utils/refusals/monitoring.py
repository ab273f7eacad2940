# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a monitoring system is told: the file for node_exporter, and where Gunicorn sends its figures by StatsD."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import a_record, a_text
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import shown
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import PREFIX, options
from ansible_collections.flaskfleet.web.plugins.plugin_utils.statsd import endpoint, is_name

# it stands in a line of a unit as it is
PLAIN_PATH = r"(?!.*/\.\.?(/|$))(/[A-Za-z0-9._+-]+)+"
directory = a_text(PLAIN_PATH, "an absolute path of letters, digits and ._+-, such as /var/lib/node_exporter")
metrics = a_record(options("metrics"), "{textfile: true}", directory=directory)

# of which the app sees one of its own, or nothing
UNSEEN = re.compile(r"/(tmp|var/tmp|home|root|run/user|dev|proc|sys|boot)(/|$)")
EXAMPLE = "127.0.0.1:8125, or unix:///run/statsd.sock"


def statsd(get: Callable[[str], Any]) -> Iterator[str]:
    """Yield why Gunicorn's figures would not arrive: no address, or one that the sandbox of the app does not reach."""
    settings = get("settings")
    asked = settings.get("statsd_host") if isinstance(settings, Mapping) else None
    if asked is None:
        return
    label = f"{PREFIX}settings has statsd_host {shown(asked)},"
    path, host = endpoint(asked)
    if not path and not host:
        yield f"{label} which is no address of StatsD. Set it to a host and a port or a Unix socket: {EXAMPLE}."
    elif path and UNSEEN.match(path):
        yield (
            f"{label} and the app does not see that directory of the host. Have StatsD listen in /run:"
            " unix:///run/statsd.sock."
        )
    elif host and get("outbound") == "none":
        yield (
            f"{label} and {PREFIX}outbound is none: the app reaches no address, this host's neither. Set a Unix socket,"
            f" unix:///run/statsd.sock, or {PREFIX}outbound: [127.0.0.1]."
        )
    elif host and isinstance(get("outbound"), (list, tuple)) and is_name(host):
        yield (
            f"{label} and {PREFIX}outbound is a list of addresses: systemd looks up no names. Set statsd_host to the"
            " address of that host."
        )
    elif host in ("0.0.0.0", "::"):  # nosec B104: refused
        yield f"{label} where a StatsD listens and nobody sends to. Set the address at which it is reached: {EXAMPLE}."

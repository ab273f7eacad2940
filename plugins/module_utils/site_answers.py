# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a host answers about the site of an app: where it goes, what is in its way, who has its ports, its certificate.

Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from ansible_collections.flaskfleet.web.plugins.module_utils.host_facts import read
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_catch_all import site_of_host
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import directives
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_sandbox import Done, run
from ansible_collections.flaskfleet.web.plugins.module_utils.ownership import recorded
from ansible_collections.flaskfleet.web.plugins.module_utils.tls_pair import of_site

HTTP = 80
Json = dict[str, Any]
Holders = Callable[[Collection[int]], list[Json]]


class SiteAnswers(NamedTuple):
    """The site (nothing where none was asked for), who has the ports that it and nginx need, and warnings."""

    site: Json
    holders: list[Json]
    warnings: list[str]


def answers(params: Json, built: str, dump: Done, runs: bool, holders: Holders) -> SiteAnswers:
    """Return what `nginx_site` and `certificate` ask for.

    `built` is what `nginx -V` says, `dump` what `nginx -T` does; `runs` tells whether nginx runs, `holders` who
    listens on some ports.
    """
    site, held = site_and_ports(params, built, dump, runs, holders)
    unfit, worn = of_site(params["certificate"], read(params["claim"]), time.time(), run)
    if site:
        site["problems"] += unfit
    told = [f"nginx says: {line}. Another site has the name too." for line in site.get("said", [])]
    return SiteAnswers(site, held, [*worn, *told])


def site_and_ports(params: Json, built: str, dump: Done, runs: bool, holders: Holders) -> tuple[Json, list[Json]]:
    """Return where the app's site goes and what is in its way, and who has the ports that it and nginx need."""
    asked = params["nginx_site"]
    if not asked:
        return {}, []
    site = site_of_host(directives(dump.out), dump.err, built, asked, recorded())
    wanted = {*asked["ports"], params["port"]}
    # a running nginx has its other ports already; one that is to come brings the distribution's default site
    others = site["listens"] if built else [] if asked["default"] else [HTTP]
    return site, holders(wanted if runs else {*wanted, *others})

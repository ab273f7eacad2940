# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a host answers about the site of an app: where it goes, what is in its way, who has its ports, its certificate.

Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from ansible_collections.flaskfleet.web.plugins.module_utils.default_site import hides, is_own
from ansible_collections.flaskfleet.web.plugins.module_utils.host_facts import read
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_catch_all import site_of_host
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import directives
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_ports import port_problems, started_with
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_sandbox import PATH, Done, run
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


class Nginx(NamedTuple):
    """What nginx says of itself (`nginx -V`, `nginx -T`), the files of its unit, and whether that runs."""

    built: str
    dump: Done
    unit: str
    runs: bool


def answers(params: Json, nginx: Nginx, holders: Holders, ask: Callable[[Sequence[str]], str]) -> SiteAnswers:
    """Return what `nginx_site` and `certificate` ask for; `holders` tells who listens on some ports."""
    asked = params["nginx_site"]
    told: list[str] = []
    if asked and asked["default"] and asked["default_site"]:
        aside = asked["default_site"] if is_own(asked["default_site"], ask) else ""
        asked = {**asked, "default_site": aside}
        told = hides(aside)
    site, held = site_and_ports(asked, params["port"], nginx, holders) if asked else ({}, [])
    unfit, worn = of_site(params["certificate"], read(params["claim"]), time.time(), run)
    if site:
        site["problems"] += unfit
    told += [f"nginx says: {line}. Another site has the name too." for line in site.get("said", [])]
    return SiteAnswers(site, held, [*worn, *told])


def site_and_ports(asked: Json, port: int, nginx: Nginx, holders: Holders) -> tuple[Json, list[Json]]:
    """Return where the app's site goes and what is in its way, and who has the ports that it and nginx need."""
    every, record = directives(nginx.dump.out), recorded()
    site = site_of_host(every, nginx.dump.err, nginx.built, asked, record)
    wanted = {*asked["ports"], port}
    # a running nginx has its other ports already; one that is to come brings the distribution's default site
    others = site["listens"] if nginx.built else [] if asked["default"] else [HTTP]
    held = holders(wanted if nginx.runs else {*wanted, *others})
    other = started_with(nginx.unit, nginx.built, shutil.which("nginx", path=PATH) or "")
    site["problems"] += [other] if other else port_problems(every, asked, record, held)
    return {**site, "aside": asked["default_site"] if asked["default"] else ""}, held

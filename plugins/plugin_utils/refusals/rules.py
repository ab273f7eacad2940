# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The rule of each variable, and all of them asked of the variables of a play."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals import (
    app,
    gunicorn,
    monitoring,
    nginx,
    rollout,
    site_headers,
    systemd,
)
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.relations import relations
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import Rule, a_bool, a_number, a_text
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.words import meant
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import PREFIX, names

RULES: dict[str, Rule] = {
    "name": app.name,
    "state": app.state,
    "source": app.source,
    "exclude": app.exclude,
    "wsgi_app": app.wsgi_app,
    "requirements": app.requirements,
    "python": a_text(
        r"[A-Za-z0-9_][A-Za-z0-9._+-]*|(/[A-Za-z0-9._+-]+)+",
        "the name of an interpreter or its absolute path, such as python3.12",
    ),
    "pip": app.pip,
    "signing": app.signing,
    "wheelhouse": a_bool,
    "packages": app.packages,
    "env": app.env,
    "credentials": app.credentials,
    "writable": app.writable,
    "outbound": systemd.outbound,
    "settings": gunicorn.settings,
    "service_settings": systemd.service_settings,
    "port": a_number(1024, 65535, "Set a free port, such as 5000."),
    "unix_socket": a_bool,
    "health_path": gunicorn.health_path,
    "keep_releases": a_number(2, None, "The current and the previous release always stay: set 2 or more."),
    "server_names": nginx.server_names,
    "default_server": a_bool,
    "open_firewall": a_bool,
    "listen": a_number(1, 65535, "Set the port that nginx listens on, such as 80."),
    "public_url": nginx.public_url,
    "tls": nginx.tls,
    "challenge_peers": nginx.challenge_peers,
    "url_prefix": a_text(r"|(/[A-Za-z0-9._~-]+)+", "empty, or a path without a slash at its end, such as /api"),
    "url_prefix_in_routes": a_bool,
    "static": nginx.static,
    "headers": site_headers.headers,
    "limits": site_headers.limits,
    "micro_cache": nginx.micro_cache,
    "server_settings": nginx.server_settings,
    "trusted_proxies": nginx.trusted_proxies,
    "harden_nginx": a_bool,
    "metrics": monitoring.metrics,
    "migrate_command": systemd.command,
    "processes": systemd.processes,
    "hooks": rollout.hooks,
    "batches": rollout.batches,
    "rollout": rollout.rollout,
    "overwrite": a_bool,
}


def problems(values: Mapping[str, Any], serial: bool = False) -> list[str]:
    """Return what is wrong with the variables, in the order in which they are documented.

    `values` maps full names to values. For an app that is to be removed only what the removal needs is checked: a
    setting that went wrong must not keep it on the host. `serial` says whether the play has its hosts in batches of its
    own.
    """
    known = names()
    found = [
        f"{PREFIX}{str(item).removeprefix(PREFIX)} is no variable of this role.{meant(str(item), known)}"
        f" All are described by: ansible-doc -t role flaskfleet.web.flask_gunicorn_nginx"
        for item in sorted(values, key=str)
        if str(item) not in known
    ]

    def has(option: str) -> bool:
        return PREFIX + option in values

    def get(option: str) -> Any:
        return values.get(PREFIX + option)

    removal = get("state") in ("absent", "purged")
    for option, rule in RULES.items():
        if not has(option) or (removal and option not in ("name", "state")):
            continue
        if option == "source" and not get("source"):
            continue  # said once, by relations()
        found += [f"{PREFIX}{option} {text}" for text in rule(get(option))]
    if not has("name"):
        found.insert(0, f"{PREFIX}name is not set. Set it to the app's name, such as hello.")
    if not removal:
        found += relations(get, has)
    if not removal and serial:
        found.append(
            f"The play sets serial, and then no host could wait for all others to be ready. Remove it and set"
            f" {PREFIX}batches instead."
        )
    return found

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How values that are each right fit together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.monitoring import statsd
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.shapes import items, number, truth
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import PREFIX, completed, options


def ready_path(get: Callable[[str], Any]) -> str:
    """Return the path that load balancers ask, as the routes of the app would spell it."""
    rollout = get("rollout")
    prefix = get("url_prefix") if truth(get("url_prefix_in_routes")) else ""
    path = completed(rollout if isinstance(rollout, Mapping) else {}, options("rollout"))["ready_path"]
    return f"{prefix or ''}{path}"


def public_url(get: Callable[[str], Any]) -> Iterator[str]:
    """Yield what would keep users from an app whose checks pass: nginx does not choose it, or does not say https."""
    scheme, _, rest = str(get("public_url") or "").partition("://")
    host = rest.partition(":")[0].lower()
    if scheme == "https" and not get("tls") and not get("trusted_proxies"):
        yield (
            f"{PREFIX}public_url is {get('public_url')}, TLS ends before nginx, and {PREFIX}trusted_proxies is empty:"
            " nobody's X-Forwarded-Proto would be believed, and the app would send users to https for ever. Set it to"
            " the addresses of the load balancer, such as [10.0.0.0/24]."
        )
    names = [str(name).lower() for name in items(get("server_names")) if isinstance(name, str)]
    fits = [name for name in names if name == host or (name.startswith("*.") and host.endswith(name[1:]))]
    if host and names and not fits and not truth(get("default_server")):
        yield (
            f"{PREFIX}public_url has the host {host}, which is none of {PREFIX}server_names: nginx would not choose"
            " this app for it. Add it there."
        )


def https_port(get: Callable[[str], Any]) -> Iterator[str]:
    """Yield what is wrong with the port for HTTPS beside the others."""
    tls = get("tls")
    https = number(completed(tls, options("tls"))["port"]) if tls and isinstance(tls, Mapping) else None
    if https is not None and https == number(get("listen")):
        yield (
            f"{PREFIX}listen is {https}, where nginx listens for HTTPS when {PREFIX}tls is set. Set {PREFIX}listen: 80:"
            " it redirects to HTTPS."
        )
    if https is not None and https == number(get("port")):
        yield (
            f"{PREFIX}port is {https}, where nginx listens for HTTPS when {PREFIX}tls is set. The app and nginx need a"
            f" port each: set {PREFIX}port: 5000, for example."
        )


def python_in_a_home(get: Callable[[str], Any]) -> Iterator[str]:
    """Yield what is wrong with a Python that the app could not see."""
    python, opened = str(get("python") or ""), get("service_settings")
    if re.match(r"/root/", python) or (
        re.match(r"/(home|run/user)/", python) and not (isinstance(opened, Mapping) and "ProtectHome" in opened)
    ):
        yield (
            f"{PREFIX}python is {python}, in a home, and the app sees no homes. Install it outside of them, such as in"
            " /opt or /usr/local, and set that path."
        )


def certificate_names(get: Callable[[str], Any]) -> Iterator[str]:
    """Yield what a directory would not give a certificate for."""
    tls = get("tls")
    acme = tls.get("acme") if isinstance(tls, Mapping) else None
    if not isinstance(acme, Mapping):
        return
    names = [str(name) for held in (get("server_names"), acme.get("names")) for name in items(held)]
    if not get("server_names"):
        yield (
            f"{PREFIX}tls has acme, and {PREFIX}server_names is empty: a certificate is for host names. Set it to those"
            " of the app."
        )
    wild = [name for name in names if name.startswith("*.")]
    if wild and not acme.get("dns_hook"):
        yield (
            f"{PREFIX}tls has acme, and {wild[0]} is a wildcard, which a directory gives a certificate for only"
            " where DNS proves it: set dns_hook in acme, or name each host."
        )


def relations(get: Callable[[str], Any], has: Callable[[str], bool]) -> Iterator[str]:
    """Yield what is wrong between variables that are each right: `get` returns a value, None when it is not there."""
    if not get("source"):
        yield f"{PREFIX}source is not set. Set it to a directory, a git revision or a requirement."
    if has("server_names") and not get("server_names") and not truth(get("default_server")):
        yield (
            f"{PREFIX}server_names is empty, so nginx would never choose this app. Set it to the app's host names, or"
            f" {PREFIX}default_server: true to answer every name."
        )
    ports = number(get("port")), number(get("listen"))
    if ports[0] is not None and ports[0] == ports[1] and not truth(get("unix_socket")):
        yield (
            f"{PREFIX}port and {PREFIX}listen are both {number(get('port'))}. The app and nginx need a port each: set"
            f" {PREFIX}port: 5000, for example."
        )
    yield from public_url(get)
    yield from statsd(get)
    yield from python_in_a_home(get)
    yield from certificate_names(get)
    signing = get("signing")
    if isinstance(signing, Mapping) and signing.get("allowed_signers") and not signing.get("key"):
        yield (
            f"{PREFIX}signing has allowed_signers and no key: the hosts would take nothing that this run sends. Set key"
            " to the key that signs, such as ~/.ssh/releases."
        )
    ready = ready_path(get)
    if get("health_path") and get("health_path") == ready:
        yield (
            f"{PREFIX}health_path is {ready}, the ready_path of {PREFIX}rollout, which nginx answers for load"
            " balancers, and which says no while the host is drained. Set another path of the app, such as /healthz."
        )
    yield from https_port(get)
    if truth(get("url_prefix_in_routes")) and has("url_prefix") and not get("url_prefix"):
        yield (
            f"{PREFIX}url_prefix_in_routes is true and {PREFIX}url_prefix is empty. Set the prefix of the routes,"
            f" such as /api, or {PREFIX}url_prefix_in_routes: false."
        )

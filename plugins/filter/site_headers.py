# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The headers that nginx adds to the answers of a site."""

from __future__ import annotations

DOCUMENTATION = r"""
name: site_headers
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: List the headers that nginx adds to the answers of a site
description:
  - Takes the variable C(flask_gunicorn_nginx_headers) of the role C(flaskfleet.web.flask_gunicorn_nginx), and returns
    its headers over those of the role, each as nginx reads it.
  - What somebody adds with C(add_header) of nginx already is left out, or it would be there twice.
positional: tls, settings
options:
  _input:
    description: Names of headers and their values. An empty value leaves one of the role's out.
    type: dict
    required: true
  tls:
    description: The variable C(flask_gunicorn_nginx_tls).
    type: dict
    required: true
  settings:
    description: The variable C(flask_gunicorn_nginx_server_settings).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what nginx adds
  ansible.builtin.debug:
    msg: "{{ {'X-Frame-Options': 'DENY'} | flaskfleet.web.site_headers({}, {}) }}"
"""

RETURN = r"""
_value:
  description: One dictionary a header, with its C(name), nginx's C(variable) of it in an answer of the app, and the
    C(value) in quotes.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.flaskfleet.web.plugins.plugin_utils.fingerprints import quoted
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import completed, options

HTTPS = 443
OURS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Request-ID": "$request_id",
}


def hsts(tls: Mapping[str, Any]) -> str:
    """Return how long browsers are to use HTTPS only; nothing where that is not to be said.

    Unless somebody sets it not for a certificate for development, and not on another port: browsers would then look for
    the name on 443.
    """
    held = completed(tls, options("tls"))
    usual = int(held["port"]) == HTTPS and not boolean(held["selfsigned"], strict=False)
    if not tls or not (usual or "hsts_max_age" in tls):
        return ""
    words = [f"max-age={int(held['hsts_max_age'])}"]
    words += ["includeSubDomains"] if boolean(held["hsts_include_subdomains"], strict=False) else []
    words += ["preload"] if boolean(held["hsts_preload"], strict=False) else []
    return "; ".join(words)


def site_headers(
    headers: Mapping[str, Any], tls: Mapping[str, Any], settings: Mapping[str, Any]
) -> list[dict[str, str]]:
    """Return the headers, see the documentation of the filter."""
    found = {name.lower(): (name, value) for name, value in {**OURS, "Strict-Transport-Security": hsts(tls)}.items()}
    found.update({str(name).lower(): (str(name), str(value)) for name, value in headers.items()})
    found.pop(str(settings.get("add_header", "")).split(" ")[0].lower(), None)
    return [
        {"name": name, "variable": f"$upstream_http_{key.replace('-', '_')}", "value": quoted(value)}
        for key, (name, value) in found.items()
        if value
    ]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"site_headers": site_headers}

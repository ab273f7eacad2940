# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Which static files nginx tells browsers to keep for good."""

from __future__ import annotations

DOCUMENTATION = r"""
name: immutable_files
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: List the patterns of static files that never change under their name
description:
  - Takes the option C(immutable) of the variable C(flask_gunicorn_nginx_static) of the role
    C(flaskfleet.web.flask_gunicorn_nginx), and returns the patterns by which nginx tells such files from others.
positional: settings
options:
  _input:
    description: V(auto) for names with a hash in them, a regular expression, or nothing.
    type: str
    required: true
  settings:
    description: The variable C(flask_gunicorn_nginx_server_settings).
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Show what nginx looks for
  ansible.builtin.debug:
    msg: "{{ 'auto' | flaskfleet.web.immutable_files({}) }}"
"""

RETURN = r"""
_value:
  description: One dictionary a pattern, with the C(pattern) and the C(value) of the header, each in quotes. The
    first one that is found decides.
  type: list
  elements: dict
"""

from collections.abc import Callable, Mapping
from typing import Any


# Ansible loads every filter of a collection in each of its processes that needs one, compiled anew: this stays small.
def immutable_files(pattern: str, settings: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the patterns; see plugins/plugin_utils/fingerprints.py."""
    from ansible_collections.flaskfleet.web.plugins.plugin_utils import fingerprints

    found: list[dict[str, str]] = fingerprints.immutable_files(pattern, settings)
    return found


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"immutable_files": immutable_files}

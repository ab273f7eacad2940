# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Refuse settings that cannot work, before a host is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
name: problems
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: What is wrong with the settings of an app
description:
  - Takes the variables of the role C(flaskfleet.web.flask_gunicorn_nginx) and returns a sentence for each thing that is
    wrong with them, with the variable's name, what it holds and what to set.
  - An argument specification checks types, but neither what a value may look like nor how values fit together, and it
    does not notice a misspelled name. What nginx and systemd would take for their own syntax is refused here as well.
  - Of C(flask_gunicorn_nginx_env) and C(flask_gunicorn_nginx_credentials) only names are shown, never values.
positional: serial
options:
  _input:
    description: The variables, full name to value.
    type: dict
    required: true
  serial:
    description: Whether the play has hosts that are not in its present batch.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Refuse settings that cannot work
  ansible.builtin.assert:
    that: __problems | length == 0
    fail_msg: "{{ __problems | join('\n') }}"
  vars:
    __problems: "{{ {'flask_gunicorn_nginx_prot': 5000} | flaskfleet.web.problems }}"
"""

RETURN = r"""
_value:
  description: One sentence or two for each problem; empty when there is none.
  type: list
  elements: str
"""

from collections.abc import Callable, Mapping
from typing import Any


# Ansible loads every filter of a collection in each of its processes that needs one, compiled anew: this stays small.
def problems(values: Mapping[str, Any], serial: bool = False) -> list[str]:
    """Return what is wrong with the variables; see `rules`."""
    from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals import rules

    found: list[str] = rules.problems(values, serial)
    return found


def host_problems(contact: Mapping[str, Any], *arguments: Any) -> list[str]:
    """Return why a host cannot have the app; see `host`."""
    from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals import host

    found: list[str] = host.host_problems(contact, *arguments)
    return found


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"problems": problems, "host_problems": host_problems}

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a dictionary of the role is worth where it leaves something out."""

from __future__ import annotations

DOCUMENTATION = r"""
name: with_defaults
short_description: Fill in what a dictionary of the role leaves out
version_added: 0.1.0
description:
  - Takes the value of a variable of the role C(flaskfleet.web.flask_gunicorn_nginx) that is a dictionary, and returns
    it with the defaults of what it leaves out, those of dictionaries inside it too.
  - The defaults are those of the role's argument specification, so that each stands in one place.
positional: variable
options:
  _input:
    description: The value of the variable.
    type: dict
    required: true
  variable:
    description: The name of the variable, without C(flask_gunicorn_nginx_).
    type: str
    required: true
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Show how a rollout goes
  ansible.builtin.debug:
    msg: "{{ {'bake': {'seconds': 60}} | flaskfleet.web.with_defaults('rollout') }}"
"""

RETURN = r"""
_value:
  description: The dictionary, with the defaults.
  type: dict
"""

from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import completed, options


def with_defaults(value: Mapping[str, Any], variable: str) -> dict[str, Any]:
    """Return the value of a variable with what it leaves out."""
    found: dict[str, Any] = completed(value, options(variable))
    return found


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filter by its name."""
        return {"with_defaults": with_defaults}

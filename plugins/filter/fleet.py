# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How the hosts of a fleet stand: after a rollout, and when somebody looks."""

from __future__ import annotations

DOCUMENTATION = r"""
name: fleet_status
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: Whether a fleet agrees
description:
  - Reads what C(flaskctl APP status) said on every host of a play, and returns a line for each, a table of them, and
    what is wrong.
extends_documentation_fragment: flaskfleet.web.hosts
"""

EXAMPLES = r"""
- name: Show how each host stands
  ansible.builtin.debug:
    msg: "{{ __stands.table }}"
  run_once: true
  vars:
    __stands: >-
      {{ hostvars | flaskfleet.web.fleet_status('hello', ansible_play_hosts_all, ansible_play_hosts,
      facts={'status': '__status'}) }}
"""

RETURN = r"""
_value:
  description: How the fleet stands.
  type: dict
  contains:
    agrees:
      description: Whether all hosts serve one release and nothing is wrong.
      type: bool
    wrong:
      description: A sentence for each thing that is wrong, with the host's name.
      type: list
      elements: str
    hosts:
      description: For each host what it serves, and more that it says of itself.
      type: list
      elements: dict
    table:
      description: The hosts as a table, and after it what is wrong.
      type: str
"""

from collections.abc import Callable, Mapping
from typing import Any


# Ansible loads every filter of a collection in each of its processes that needs one, compiled anew: this stays small.
def fleet_status(hostvars: Mapping[str, Mapping[str, Any]], *arguments: Any, **named: Any) -> dict[str, Any]:
    """Return how the fleet stands; see plugins/plugin_utils/fleet.py."""
    from ansible_collections.flaskfleet.web.plugins.plugin_utils import fleet

    found: dict[str, Any] = fleet.fleet_status(hostvars, *arguments, **named)
    return found


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"fleet_status": fleet_status}

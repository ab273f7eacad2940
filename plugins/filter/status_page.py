# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""How a fleet stands, as a page."""

from __future__ import annotations

DOCUMENTATION = r"""
name: status_page
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: How a fleet stands, as a page for a browser
description:
  - Makes one HTML page of what P(flaskfleet.web.fleet_status#filter) returned. It needs no script and
    nothing from elsewhere.
options:
  _input:
    description: What P(flaskfleet.web.fleet_status#filter) returned.
    type: dict
    required: true
  app:
    description: The name of the app.
    type: str
    required: true
positional: app
"""

EXAMPLES = r"""
- name: Write how the fleet stands, for a browser
  ansible.builtin.copy:
    dest: fleet.html
    content: "{{ __stands | flaskfleet.web.status_page('hello') }}"
    mode: "0644"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
_value:
  description: The page.
  type: str
"""

from collections.abc import Callable, Mapping
from typing import Any


# Ansible loads every filter of a collection in each of its processes that needs one, compiled anew: this stays small.
def status_page(stands: Mapping[str, Any], app: str) -> str:
    """Return the page; see plugins/plugin_utils/status_page.py."""
    from ansible_collections.flaskfleet.web.plugins.plugin_utils import status_page as made

    text: str = made.page(stands, app)
    return text


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"status_page": status_page}

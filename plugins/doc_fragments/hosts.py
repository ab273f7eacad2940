# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What the filters that look at all hosts of a play are given alike."""

from __future__ import annotations


class ModuleDocFragment:
    """Ansible's way to find it."""

    DOCUMENTATION = r"""
positional: app, hosts, here
options:
  _input:
    description: C(hostvars).
    type: dict
    required: true
  app:
    description: The name of the app.
    type: str
    required: true
  hosts:
    description: All hosts of the play, C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
  here:
    description: Those that have not been lost, C(ansible_play_hosts).
    type: list
    elements: str
    required: true
  facts:
    description: The variables that hold what is known of a host, each by what it is called here.
    type: dict
    required: true
"""

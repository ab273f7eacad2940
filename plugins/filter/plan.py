# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What a rollout does next: whether it goes on, who switches when, and what each host is to do."""

from __future__ import annotations

DOCUMENTATION = r"""
name: plan
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: What every host of a rollout is to do next
description:
  - Reads what the tasks of the role C(flaskfleet.web.flask_gunicorn_nginx) have registered of every host of a play, and
    returns whether the rollout goes on, the batches, what each host is to do, and the report. Tasks carry that out.
  - Evaluated once for all hosts (C(run_once)), because it looks at every host; and again after each batch.
extends_documentation_fragment: flaskfleet.web.hosts
options:
  goal:
    description: Whether hosts get a release that was staged, or go back to one that they have.
    type: str
    choices: [activate, rollback]
    required: true
  me:
    description: Which rollout this is, as the lookup P(flaskfleet.web.holder#lookup) tells it.
    type: dict
    required: true
  rollout:
    description: The variable C(flask_gunicorn_nginx_rollout) with its defaults.
    type: dict
    required: true
  batches:
    description: Sizes of the batches, as C(serial) of a play takes them. The last one repeats.
    type: list
    elements: raw
    default: ["100%"]
  migrates:
    description: Whether a new release has a migration to run, once for all or, by C(migrate_on) of O(rollout), on each.
    type: bool
    default: false
  keep:
    description: How many releases stay on a host.
    type: int
    default: 5
  stays:
    description: The paths of files that a host keeps as they are when it goes back.
    type: list
    elements: str
    default: []
  check:
    description: Whether nothing must change, C(ansible_check_mode).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Decide for all hosts what comes next
  ansible.builtin.set_fact:
    __plan: >-
      {{ hostvars | flaskfleet.web.plan('hello', ansible_play_hosts_all, ansible_play_hosts, goal='rollback',
      facts={'staged': '__staged', 'switched': '__switched'}, me=lookup('flaskfleet.web.holder'),
      rollout={'max_unreachable': 0, 'revert': true, 'migrate_on': 'first', 'bake': {'seconds': 0}}) }}
  run_once: true
"""

RETURN = r"""
_value:
  description: The plan.
  type: dict
  contains:
    go:
      description: Whether the rollout goes on.
      type: bool
    stop:
      description: Why it does not; empty when it does.
      type: str
    batches:
      description: The hosts that switch, batch by batch; none when the rollout does not go on.
      type: list
      elements: list
    moves:
      description: Whether any host has anything to do.
      type: bool
    hosts:
      description:
        - For each host what it is to do. C(migrate), whether the migration runs there for all. In its turn the
          steps C(before), then what flaskctl is to do (C(do), V(activate), V(rollback) or nothing) with the
          C(release), then the steps C(after); C(canary) tells whether the watch over the traffic is one of them.
          C(undo), what goes back now. C(prune), whether there are releases too many, C(unlock), whether there is a
          lease to end or something to prune, and C(holder), who ends it.
        - A step is a hook by its name, or a task file of the role without its C(.yml).
      type: dict
    rows:
      description: For each host its name, the release before and after, result, seconds, step and reason.
      type: list
      elements: dict
    table:
      description: The rows as a table, and after it each reason once.
      type: str
    tell:
      description: Whether there is something to report.
      type: bool
"""

from collections.abc import Callable, Mapping
from typing import Any


# Ansible loads every filter of a collection in each of its processes that needs one, compiled anew: this stays small.
def plan(hostvars: Mapping[str, Mapping[str, Any]], *arguments: Any, **named: Any) -> dict[str, Any]:
    """Return what every host is to do; see plugins/plugin_utils/plan.py."""
    from ansible_collections.flaskfleet.web.plugins.plugin_utils import plan as decided

    found: dict[str, Any] = decided.plan(hostvars, *arguments, **named)
    return found


class FilterModule:
    """Ansible's way to find the filter."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters of this file."""
        return {"plan": plan}

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""ansible.builtin.template without its deep copy of all variables, made for each template of each host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: template
author: Flask Fleet contributors (@flaskfleet)
version_added: 0.1.0
short_description: Render templates, as ansible.builtin.template does, in less time
description:
  - Ansible's own lookup copies every variable of the host, and all that is in it, for each template.
    A rollout renders eight for each host, and a quarter of what the control node did in a run without changes was
    that copy.
  - This one gives it a copy that has the same values. Everything else is C(ansible.builtin.template).
options:
  _terms:
    description: The files, found where C(ansible.builtin.template) finds them.
    required: true
  template_vars:
    description: Variables of the template, beside those of the host.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Show the unit of the app
  ansible.builtin.debug:
    msg: "{{ lookup('flaskfleet.web.template', 'app.service.j2') }}"
"""

RETURN = r"""
_raw:
  description: The texts.
  type: list
  elements: str
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.loader import lookup_loader
from ansible.plugins.lookup import LookupBase


class Shallow(dict[str, Any]):
    """Variables of which a deep copy is a shallow one: the lookup adds names to its copy and changes no value."""

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[str, Any]:
        return dict(self)


class LookupModule(LookupBase):  # type: ignore[misc]
    """The lookup; its name is the one Ansible looks for."""

    def run(self, terms: Sequence[str], variables: Mapping[str, Any] | None = None, **options: Any) -> list[str]:
        """Return the texts. Raises AnsibleError for a template that is not there or cannot be rendered."""
        lookup = lookup_loader.get("ansible.builtin.template", loader=self._loader, templar=self._templar)
        texts: list[str] = lookup.run(terms, variables=Shallow(variables or {}), **options)
        return texts

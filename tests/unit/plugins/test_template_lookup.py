"""The lookup that renders templates: Ansible's own, without its deep copy of all variables."""

from __future__ import annotations

import copy
from typing import Any

from ansible_collections.flaskfleet.web.plugins.lookup.template import Shallow

from tests.rendering import evaluate


def test_a_template_with_variables_of_its_own_is_rendered_as_by_ansible() -> None:
    """The unit of one more process, whose template names a variable that the lookup is given."""
    values = {"processes": [{"name": "mail", "command": "python -m mail"}]}
    units = "flask_gunicorn_nginx_processes | flaskfleet.web.process_units('/srv/hello')"
    process = f"template_vars={{'__process': ({units})[0]}}"
    own, ansibles = (
        evaluate(f"lookup('{name}', 'app.process@.service.j2', {process})", values)
        for name in ("flaskfleet.web.template", "ansible.builtin.template")
    )
    assert own == ansibles and "python -m mail" in str(own)


def test_the_copy_keeps_what_is_in_it_and_leaves_the_variables_alone() -> None:
    inner: dict[str, Any] = {"a": [1]}
    given = Shallow(inner=inner)
    copied = copy.deepcopy(given)
    copied["template_path"] = "x"
    assert copied["inner"] is inner and "template_path" not in given

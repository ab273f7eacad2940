"""Runs a module as Ansible does, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.testing import patch_module_args

# Sets up Ansible's own import of collections. That must come before the first import of a plugin: other tests in this
# process template with the filters, and Ansible would not find them any more.
import tests.rendering  # noqa: F401

Answer = dict[str, Any]
RunModule = Callable[..., Answer]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> RunModule:
    """Return a function that runs a module and returns what it tells Ansible."""
    warnings: list[str] = []
    # Ansible prints a warning at once where any of its own controller code was imported, as other tests do
    monkeypatch.setattr(AnsibleModule, "warn", lambda module, warning, **_more: warnings.append(warning))

    def run(module: ModuleType, arguments: dict[str, Any], check: bool = False, diff: bool = True) -> Answer:
        settings = {"_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args({**arguments, **settings}), pytest.raises(SystemExit):
            module.main()
        answer: Answer = json.loads(capsys.readouterr().out)
        if warnings:
            answer["warnings"] = warnings.copy()
            warnings.clear()
        return answer

    return run

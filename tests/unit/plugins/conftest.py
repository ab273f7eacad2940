"""Runs a module as Ansible does, in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args

Answer = dict[str, Any]
RunModule = Callable[..., Answer]


@pytest.fixture
def run_module(capsys: pytest.CaptureFixture[str]) -> RunModule:
    """Return a function that runs a module and returns what it tells Ansible."""

    def run(module: ModuleType, arguments: dict[str, Any], check: bool = False, diff: bool = True) -> Answer:
        settings = {"_ansible_check_mode": check, "_ansible_diff": diff}
        with patch_module_args({**arguments, **settings}), pytest.raises(SystemExit):
            module.main()
        answer: Answer = json.loads(capsys.readouterr().out)
        return answer

    return run

"""The manual page says what flaskctl can do."""

from __future__ import annotations

import re

from tests.unit.flaskctl.fake_host import flaskctl
from tools import manual


def test_the_page_that_is_installed_is_the_one_of_these_options() -> None:
    assert manual.PAGE.read_text(encoding="utf-8") == manual.page(), "run .venv/bin/python -m tools.manual"


def test_each_command_and_each_option_is_explained() -> None:
    parts = re.split(r"(?m)^\.TP\n\\fB(?=[a-z])", manual.page())
    told = {part.split("\\")[0]: part for part in parts[1:]}
    commands = flaskctl.commands_of(flaskctl.parser())
    assert set(told) == set(commands)
    for name, command in commands.items():
        for action in command._actions:
            if not {"--json", "--dry-run", "--help"} & set(action.option_strings):
                assert manual.how_typed(action) in told[name], (name, action)


def test_what_roff_would_take_for_a_command_is_text() -> None:
    assert manual.roff(".a -b\\n\n'c") == "\\&.a \\-b\\en\n\\&'c"

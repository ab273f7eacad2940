"""The options of flaskctl: its own command line is the source, and task and documentation say the same.

They stand apart because the command line runs on the host, and a task checks its options before it asks the host.
"""

from __future__ import annotations

import argparse
import re
from typing import Any

import pytest
import yaml
from ansible_collections.flaskfleet.web.plugins.action.flaskctl import SPEC, TAKES, arguments
from ansible_collections.flaskfleet.web.plugins.modules.flaskctl import DOCUMENTATION

from tests.unit.flaskctl.fake_host import flaskctl

DOCUMENTED: dict[str, dict[str, Any]] = yaml.safe_load(DOCUMENTATION)["options"]
# a task has no use for these: they are for a person at the host, and for systemd
FOR_PEOPLE = {"doctor", "metrics", "sbom", "audit", "releases", "logs", "run", "start"}
# how a task calls what the command line calls otherwise
RENAMED = {"id": "release", "how": "try"}
# what is only of a task: a file on the control node
ONLY_OF_A_TASK = {"stage": {"src", "signing_key"}, "maintenance": {"src"}}
OF_EVERY_COMMAND = {"help", "json", "dry_run"}


def command_line() -> dict[str, dict[str, argparse.Action]]:
    """The options of each command, by the names that a task gives them."""
    (commands,) = [each for each in flaskctl.parser()._actions if isinstance(each, argparse._SubParsersAction)]
    return {
        name: {RENAMED.get(a.dest, a.dest): a for a in parser._actions if a.dest not in OF_EVERY_COMMAND}
        for name, parser in commands.choices.items()
    }


COMMANDS = command_line()
EVERY = [(command, name) for command, options in COMMANDS.items() if command in TAKES for name in options]


def test_a_task_knows_each_command_that_is_not_for_people() -> None:
    assert set(TAKES) == set(COMMANDS) - FOR_PEOPLE
    assert set(COMMANDS) >= FOR_PEOPLE


@pytest.mark.parametrize("command", sorted(TAKES))
def test_a_task_takes_the_options_of_the_command_and_no_others(command: str) -> None:
    assert TAKES[command] == set(COMMANDS[command]) | ONLY_OF_A_TASK.get(command, set())


def test_every_option_of_a_task_is_of_some_command() -> None:
    assert set(SPEC) - {"app", "command"} == set().union(*TAKES.values())


@pytest.mark.parametrize(("command", "name"), EVERY)
def test_an_option_has_the_type_and_the_choices_of_the_command_line(command: str, name: str) -> None:
    action, option = COMMANDS[command][name], SPEC[name]
    if isinstance(action, argparse._StoreTrueAction):
        assert option == {"type": "bool", "default": False}
        return
    assert option["type"] == (action.type.__name__ if isinstance(action.type, type) else "str")
    assert "default" not in option, "flaskctl has its own"
    assert set(option.get("choices", [])) == set(action.choices or [])


@pytest.mark.parametrize("name", sorted(set(SPEC) | set(DOCUMENTED)))
def test_an_option_is_documented_as_it_is(name: str) -> None:
    keys = ("type", "required", "default", "choices")
    told = [{key: each.get(key) for key in keys} for each in (SPEC[name], DOCUMENTED[name])]
    for each in told:
        each["choices"] = sorted(each["choices"] or [])
    assert told[0] == told[1]


@pytest.mark.parametrize(("command", "name"), EVERY)
def test_the_documentation_names_the_command_and_what_flaskctl_does_without_the_option(command: str, name: str) -> None:
    text = str(DOCUMENTED[name]["description"])
    said = re.search(r"Without it V\((.*?)\)", text)
    default = COMMANDS[command][name].default
    if said or isinstance(default, float):
        assert said and said[1] == f"{default:g}"


def filled(command: str) -> dict[str, Any]:
    """A task with every option of a command."""
    values = {"bool": True, "int": 7, "float": 1.5, "str": "word", "path": "/p"}
    given = {name: SPEC[name].get("choices", [values[SPEC[name]["type"]]])[0] for name in TAKES[command]}
    return {**dict.fromkeys(SPEC), **given, "app": "hello", "command": command}


@pytest.mark.parametrize("command", sorted(TAKES))
@pytest.mark.parametrize("dry_run", [True, False])
def test_what_a_task_asks_for_arrives(command: str, dry_run: bool) -> None:
    params = filled(command)
    found = flaskctl.parse(arguments(params, dry_run))
    assert (found.app, found.command, found.json, found.dry_run) == ("hello", command, True, dry_run)
    for name, action in COMMANDS[command].items():
        assert getattr(found, action.dest) == ("-" if name in ("config", "account") else params[name]), name

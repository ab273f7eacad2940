"""The password prompt, as sudo and as sudo-rs print it."""

from __future__ import annotations

import pytest
from ansible.plugins.loader import become_loader


@pytest.mark.parametrize(
    ("output", "seen"),
    [
        ("{}", True),
        ("a banner\n  {}", True),
        ("[sudo: {}] Password: ", True),
        ("[sudo via ansible, key=of another task] password:", False),
        ("", False),
    ],
)
def test_the_prompt_is_seen_wherever_it_stands(output: str, seen: bool) -> None:
    plugin = become_loader.get("flaskfleet.web.sudo")
    assert not plugin.check_password_prompt(b"anything"), "nothing was asked for"
    plugin.set_options(direct={"become_pass": "secret"})
    command = plugin.build_become_command("id", None)
    assert "-p" in command and "secret" not in command and "-n" not in command.split()
    assert plugin.check_password_prompt(output.format(plugin.prompt).encode()) is seen


@pytest.mark.parametrize("said", ["Sorry, try again.", "sudo: Authentication failed, try again."])
def test_a_wrong_password_is_told_from_a_slow_host(said: str) -> None:
    assert become_loader.get("flaskfleet.web.sudo").check_incorrect_password(said.encode())

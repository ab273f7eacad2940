"""The commands of the README that a person types on a host, word for word."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, call, links
from tests.unit.test_readme import HOST


@pytest.mark.parametrize("command", HOST)
def test_flaskctl_does_what_the_readme_says(host: FakeHost, stage: Callable[..., str], command: str) -> None:
    for version in ("v1", "v2"):
        assert call(host, "hello", "activate", stage(version)).rc == 0
    before = links(host)
    words = command.split()
    assert words[0] == "flaskctl"
    done = call(host, *words[1:])
    if words[2] in ("logs", "run"):  # hands over to another program
        assert host.became and (words[2] == "logs" or host.became[-3:] == words[-3:]), done
        return
    assert done.rc == 0, done
    assert (links(host) != before) == (words[2] == "rollback"), done

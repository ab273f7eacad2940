"""The playbook, run on one host from a test of that host."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.asking import Site
from tests.load.fleet import Played, play
from tests.rendering import PREFIX

Deploy = Callable[..., Played]


@pytest.fixture(scope="module")
def site(host: Any) -> Site:
    return Site(host, "hello", "hello.test")


@pytest.fixture(scope="module")
def deploy(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Run site.yml on the host; variables without the prefix of the role."""
    place: Path = tmp_path_factory.mktemp(site.hostname)

    def run(*options: str, **variables: Any) -> Played:
        prefixed = {PREFIX + name: value for name, value in variables.items()}
        return play(prefixed, place, options=["--limit", site.hostname, *options])

    return run

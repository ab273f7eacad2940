"""What the scenarios under load share: their hosts, a workshop for versions of the app, and places for files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.load.fleet import Host, Workshop, hosts_of_inventory


@pytest.fixture(scope="session")
def hosts() -> list[Host]:
    return hosts_of_inventory()


@pytest.fixture(scope="session")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the variables of playbooks and other small files."""
    return tmp_path_factory.mktemp("place")

"""Users on every host from the first test to the last, and the books of what they met."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.load.fixtures import hosts, place, workshop
from tests.load.fleet import Books, Host

__all__ = ["hosts", "place", "workshop"]

BOOKS: list[Books] = []


@pytest.fixture(scope="session")
def books(hosts: list[Host]) -> Iterator[Books]:
    books = Books(hosts)
    BOOKS.append(books)
    for host in hosts:
        books.released[host.status()["current"]] = host.version()
    books.open("--rate", os.environ.get("LOAD_RATE", "40"))
    try:
        yield books
    finally:
        books.close()


@pytest.fixture(autouse=True)
def nobody_noticed(request: pytest.FixtureRequest, books: Books) -> Iterator[None]:
    """After each test: not one request failed while it ran."""
    if request.node.get_closest_marker("after_the_load"):
        yield
        books.save("release")
        return
    with books.row(request.node.name.removeprefix("test_").replace("_", " ")) as rows:
        yield
    books.save("release")
    assert not any(row.failed for row in rows), "\n".join(f"{row.host}: {row.slowest_is}" for row in rows if row.failed)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "after_the_load: looks at the whole report, when the users are gone")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for books in BOOKS:
        terminalreporter.write_sep("=", "what the users met")
        terminalreporter.write_line(books.table())
        books.save("release")

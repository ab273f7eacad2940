"""The site of a host, what a person would look at first beside every failure, and all hosts asked at once."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Generator
from multiprocessing.connection import Connection, wait
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from tests.integration.asking import Site


@pytest.fixture(scope="module")
def site(host: Any) -> Site:
    return Site(host)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            if isinstance(value, Site):
                report.sections.extend(value.evidence())
    return report


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "on(name): which host a test breaks, where its parameters do not tell")
    config.addinivalue_line("markers", "bracket: for the first host and the last, the oldest system and the newest")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Ask the hosts between the first and the last only what may differ from one system to the next."""
    between = [item for host in by_host(items)[1:-1] for item in host if item.get_closest_marker("bracket")]
    if between:
        config.hook.pytest_deselected(items=between)
        items[:] = [item for item in items if item not in between]


def by_host(items: list[pytest.Item]) -> list[list[pytest.Item]]:
    """Return the tests of each host, in order; those of no host in particular stay with the host before them."""
    groups: dict[str, list[pytest.Item]] = {}
    name = ""
    for item in items:
        marker, callspec = item.get_closest_marker("on"), getattr(item, "callspec", None)
        told = [*(marker.args if marker else ()), *(callspec.params if callspec else {}).values()]
        # by its name: a module that names its hosts has objects of its own for them
        name = next((str(value) for value in told if marker or "ansible://" in str(value)), name)
        groups.setdefault(name, []).append(item)
    return list(groups.values())


def run_all(items: list[pytest.Item], parent: Connection) -> None:
    """Run tests and send each report; in a process of its own, which ends here."""
    try:
        for item, following in zip(items, [*items[1:], None], strict=True):
            for report in runtestprotocol(item, log=False, nextitem=following):
                parent.send(item.config.hook.pytest_report_to_serializable(config=item.config, report=report))
        parent.send(None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Ask the hosts at once, each in a process: most of a test is waiting for its host."""
    hook, groups, option = session.config.hook, by_host(session.items), session.config.option
    if len(groups) < 2 or session.testsfailed or option.collectonly or option.usepdb or option.maxfail:
        return None  # as pytest does it: one test after the other
    context = multiprocessing.get_context("fork")
    running: list[Connection] = []
    for items in groups:
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=run_all, args=(items, sender))
        process.start()
        sender.close()
        running.append(receiver)
    while running:
        wait(running)
        for receiver in [each for each in running if each.poll()]:
            try:
                data = receiver.recv()
            except EOFError as error:
                raise session.Interrupted("the tests of a host ended without an end") from error
            if data is None:
                running.remove(receiver)
            else:
                report = hook.pytest_report_from_serializable(config=session.config, data=data)
                hook.pytest_runtest_logreport(report=report)
    return True

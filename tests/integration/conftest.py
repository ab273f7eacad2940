"""The site of a host, and what a person would look at first beside every failure."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

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

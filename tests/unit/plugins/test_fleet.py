"""How the hosts of a fleet stand, from what each says of itself."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils.fleet import FACTS, fleet_status

OLD, NEW = "0" * 12, "1" * 12
FACT_NAMES = {name: f"__{name}" for name in FACTS}
FAILED = {"app": "hello", "step": "activate | Start", "reason": "Traceback\nRuntimeError: no\n"}
HOSTS = [f"web{number}" for number in range(1, 41)]


def host(**known: Any) -> dict[str, Any]:
    return {FACT_NAMES[name]: value for name, value in known.items()}


FINE = {
    "app": "hello", "current": NEW, "previous": OLD, "active": [NEW], "workers": 2, "certificate_days": None,
    "restart_pending": [], "drift": [], "failed_units": [], "problems": [],
}  # fmt: skip


def status(hosts: dict[str, dict[str, Any]], gone: tuple[str, ...] = ()) -> dict[str, Any]:
    here = [name for name in hosts if name not in gone]
    found: dict[str, Any] = fleet_status(hosts, "hello", list(hosts), here, FACT_NAMES)
    return found


def test_a_fleet_agrees_when_all_serve_one_release_and_nothing_is_wrong() -> None:
    found = status({name: host(status=FINE) for name in HOSTS[:2]})
    assert found["agrees"] and not found["wrong"]
    assert found["table"].splitlines()[1].split() == ["web1", NEW, NEW, "2", "-", "-", "-", "-"]


def test_what_is_wrong_with_one_host_is_said_with_its_name() -> None:
    drift = {**FINE, "drift": ["/etc/x"], "problems": ["/etc/x is not what was deployed: run the playbook"]}
    found = status({"web1": host(status=FINE), "web2": host(status=drift)})
    assert not found["agrees"]
    assert found["wrong"] == ["web2: /etc/x is not what was deployed: run the playbook"]
    assert found["table"].endswith(found["wrong"][0])


def test_two_releases_are_no_agreement() -> None:
    found = status({"web1": host(status=FINE), "web2": host(status={**FINE, "active": [OLD], "current": OLD})})
    assert not found["agrees"]
    assert found["wrong"] == [f"the hosts serve different releases: {NEW} on web1; {OLD} on web2"]


@pytest.mark.parametrize(
    ("known", "gone", "words"),
    [
        ({"status": {"unreachable": True}}, (), "does not answer"),
        ({"status": FINE}, ("web2",), "does not answer"),
        ({"failed": FAILED}, (), "RuntimeError: no"),
        ({}, (), "not asked"),
    ],
)
def test_a_host_that_says_nothing_is_no_agreement(known: dict[str, Any], gone: tuple[str, ...], words: str) -> None:
    found = status({"web1": host(status=FINE), "web2": host(**known)}, gone)
    assert not found["agrees"] and words in found["wrong"][0] and found["wrong"][0].startswith("web2: ")


def test_a_fleet_that_serves_nothing_does_not_agree() -> None:
    assert not status({"web1": host(status={**FINE, "active": []})})["agrees"]

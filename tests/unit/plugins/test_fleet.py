"""What a rollout decides, from what is known of each host."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.filter.fleet import PREFIX, fleet, fleet_status, in_batches

OLD, NEW = "0" * 12, "1" * 12
STAGED = {"app": "hello", "id": NEW, "current": OLD}
SWITCHED = {"app": "hello", "id": NEW, "changed": True, "seconds": 2.5}
REFUSED = {"app": "hello", "failed": True, "changed": False, "msg": "no"}
FAILED = {"app": "hello", "step": "activate | Start", "reason": "Traceback\nRuntimeError: no\n"}


def host(**known: dict[str, Any]) -> dict[str, Any]:
    return {PREFIX + tail: value for tail, value in known.items()}


def looked(hosts: dict[str, dict[str, Any]], gone: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = fleet(hosts, "hello", list(hosts), [name for name in hosts if name not in gone], **options)
    return found


def results(found: dict[str, Any]) -> dict[str, str]:
    return {row["host"]: row["result"] for row in found["rows"]}


HOSTS = [f"web{number}" for number in range(1, 41)]


@pytest.mark.parametrize(
    ("sizes", "count", "expected"),
    [
        ([1, "10%", "100%"], 1, [1]),
        ([1, "10%", "100%"], 2, [1, 1]),
        ([1, "10%", "100%"], 3, [1, 1, 1]),
        ([1, "10%", "100%"], 40, [1, 4, 35]),
        ([2], 5, [2, 2, 1]),
        (["30%"], 10, [3, 3, 3, 1]),
        (["1"], 2, [1, 1]),
        ([1, 100], 3, [1, 2]),
        (["1%"], 3, [1, 1, 1]),
        ([], 3, [3]),
        ([1], 0, []),
    ],
)
def test_batches_are_as_serial_makes_them(sizes: list[Any], count: int, expected: list[int]) -> None:
    found = in_batches(HOSTS[:count], sizes)
    assert [len(batch) for batch in found] == expected
    assert [name for batch in found for name in batch] == HOSTS[:count]


SERVES = {"app": "hello", "id": NEW, "current": NEW, "verified": True}


RUNS = {"app": "hello", "services": {"nginx.service": {"active": True, "enabled": True}}}
STOPPED = {"app": "hello", "services": {"nginx.service": {"active": False, "enabled": True}}}
STAYS = {"changed": False, "preview_changed": False}


@pytest.mark.parametrize(
    ("contact", "installed", "staged", "waits"),
    [
        (RUNS, STAYS, SERVES, False),
        (RUNS, {**STAYS, "preview_changed": True}, SERVES, True),
        (RUNS, {}, SERVES, True),
        (STOPPED, STAYS, SERVES, True),
        (RUNS, STAYS, {**SERVES, "verified": False}, True),
    ],
)
def test_a_host_where_nothing_is_to_be_switched_is_in_no_batch(
    contact: dict[str, Any], installed: dict[str, Any], staged: dict[str, Any], waits: bool
) -> None:
    first = host(contact=contact, installed=installed, staged=staged)
    hosts = {"web1": first, "web2": host(staged=STAGED), "web3": host(staged=STAGED)}
    found = looked(hosts, batches=[1, "100%"], deploy=True)
    assert found["batches"] == ([["web1"], ["web2", "web3"]] if waits else [["web2"], ["web3"]])
    # it is still the one that has migrated for the others
    assert found["first"] == "web1"


def test_a_rollback_switches_hosts_that_a_deployment_would_leave_alone() -> None:
    settled = host(contact=RUNS, installed=STAYS, staged=SERVES)
    assert looked({"web1": settled})["batches"] == [["web1"]]
    assert looked({"web1": settled}, deploy=True)["batches"] == []


def test_nobody_migrates_for_a_rollout_that_stops() -> None:
    assert looked({"web1": host(staged=STAGED), "web2": host(failed=FAILED)})["first"] == ""


def test_when_all_are_staged_nothing_stops_the_rollout() -> None:
    found = looked({name: host(staged=STAGED) for name in HOSTS[:3]}, batches=[1, "100%"])
    assert (found["stop"], found["batches"], found["released"]) == ("", [["web1"], ["web2", "web3"]], False)
    assert set(results(found).values()) == {"staged"}


def test_one_that_fails_stops_everybody_and_says_why() -> None:
    found = looked({"web1": host(staged=STAGED), "web2": host(failed=FAILED)})
    assert found["stop"] == "web2 failed" and found["batches"] == []
    assert results(found) == {"web1": "staged", "web2": "failed"}
    assert "web2: activate | Start\n\nTraceback\nRuntimeError: no" in found["table"]


def test_one_that_is_gone_stops_everybody() -> None:
    found = looked({"web1": host(staged=STAGED), "web2": host(staged=STAGED)}, gone=("web2",), max_unreachable=5)
    assert found["stop"] == "web2 stopped answering"
    assert results(found)["web2"] == "lost"


def test_one_that_is_down_is_left_out_only_where_it_may_be() -> None:
    hosts = {"web1": host(staged=STAGED), "web2": host(contact={"unreachable": True})}
    assert "web2 did not answer" in looked(hosts)["stop"]
    found = looked(hosts, max_unreachable=1)
    assert found["stop"] == "" and found["batches"] == [["web1"]] and results(found)["web2"] == "down"


def test_when_all_are_down_that_is_no_success() -> None:
    found = looked({"web1": host(contact={"unreachable": True})}, max_unreachable=9)
    assert "web1 did not answer" in found["stop"]


def test_the_report_says_for_each_host_what_it_runs_now() -> None:
    hosts = {
        "released": host(staged=STAGED, activated=SWITCHED),
        "unchanged": host(staged={**STAGED, "current": NEW}, activated={"skipped": True, "changed": False}),
        "refused": host(staged=STAGED, activated=REFUSED, failed=FAILED),
        "after the switch": host(staged=STAGED, activated=SWITCHED, failed=FAILED),
        "reverted": host(staged=STAGED, activated=SWITCHED, reverted={"app": "hello", "id": OLD, "changed": True}),
        "not moved": host(staged=STAGED, reverted={"app": "hello", "id": OLD, "changed": False}),
        "stuck": host(staged=STAGED, activated=SWITCHED, unreverted={"app": "hello", "reason": "cannot"}),
        "first": host(staged={**STAGED, "current": None}, activated=SWITCHED, reverted={"skipped": True}),
    }
    rows = {row["host"]: (row["result"], row["after"], row["seconds"]) for row in looked(hosts)["rows"]}
    assert rows == {
        "released": ("released", NEW, 2.5),
        "unchanged": ("unchanged", NEW, None),
        "refused": ("failed", OLD, None),
        "after the switch": ("failed", NEW, 2.5),
        "reverted": ("reverted", OLD, 2.5),
        "not moved": ("staged", OLD, None),
        "stuck": ("not reverted", NEW, 2.5),
        "first": ("released", NEW, 2.5),
    }


def test_what_another_app_or_an_earlier_rollout_left_does_not_count() -> None:
    other = {"app": "other", "step": "x", "reason": "y"}
    earlier = {**SWITCHED, "id": "2" * 12}
    found = looked({"web1": host(staged=STAGED, failed=other, activated=earlier)})
    assert (found["stop"], found["released"], results(found)) == ("", False, {"web1": "staged"})


def test_a_play_over_two_apps_is_refused() -> None:
    found = looked({"web1": host(staged=STAGED), "web2": host(staged={**STAGED, "app": "other"})})
    assert found["stop"].startswith("web2 staged nothing (all hosts of a play have one")


def test_hosts_that_would_not_end_on_one_release_are_refused_where_they_must() -> None:
    hosts = {"web1": host(staged=STAGED), "web2": host(staged={**STAGED, "id": "3" * 12})}
    assert looked(hosts)["stop"] == ""
    assert "web2 to 333333333333" in looked(hosts, agree=True)["stop"]


def test_one_reason_of_many_hosts_is_told_once() -> None:
    found = looked({name: host(failed=FAILED) for name in HOSTS})
    assert found["table"].count("Traceback") == 1
    assert "web1, web2, web3, web4, web5 and 35 more: activate" in found["table"]


# status

FINE = {
    "app": "hello", "current": NEW, "previous": OLD, "active": [NEW], "workers": 2, "certificate_days": None,
    "restart_pending": [], "drift": [], "failed_units": [], "problems": [],
}  # fmt: skip


def status(hosts: dict[str, dict[str, Any]], gone: tuple[str, ...] = ()) -> dict[str, Any]:
    found: dict[str, Any] = fleet_status(hosts, "hello", list(hosts), [name for name in hosts if name not in gone])
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

"""What a rollout decides, from what is known of each host: data in, data out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils.fleet import FACTS, aligned
from ansible_collections.flaskfleet.web.plugins.plugin_utils.plan import in_batches, plan

Json = dict[str, Any]

ROOT = Path(__file__).parents[3]

OLD, NEW = "0" * 12, "1" * 12
FACT_NAMES = {name: f"__{name}" for name in FACTS}
ME = {"id": "17.100.5", "by": "ada", "from": "laptop", "pid": "100"}
BOBS = {"id": "18.1.1", "by": "bob", "from": "elsewhere", "pid": "1"}
LEASE = {**ME, "since": "2026-01-01T00:00:00Z"}
ROLLOUT = {"max_unreachable": 0, "revert": True, "migrate_on": "first", "bake": {"seconds": 10}}
HOSTS = [f"web{number}" for number in range(1, 41)]

RUNS = {"services": {"nginx.service": {"active": True, "enabled": True}}}
STOPPED = {"services": {"nginx.service": {"active": False, "enabled": True}}}
ENABLED_ONLY = {"services": {"nginx.service": {"active": True, "enabled": False}}}
STAYS = {"changed": False, "preview_changed": False, "undo": []}
NEW_SITE = {**STAYS, "preview_changed": True}
STAGED = {
    "app": "hello",
    "id": NEW,
    "current": OLD,
    "staged": True,
    "verified": False,
    "lease": LEASE,
    "releases": [OLD, NEW],
}
SERVES = {**STAGED, "current": NEW, "verified": True, "lease": None}
FIRST = {**STAGED, "current": None, "releases": [NEW]}
SWITCHED = {"app": "hello", "id": NEW, "changed": True, "seconds": 2.5, "lease": LEASE}
REFUSED = {"app": "hello", "failed": True, "changed": False, "msg": "no", "lease": LEASE}
FAILED = {"app": "hello", "step": "switch | Start", "reason": "Traceback\nRuntimeError: no\n"}
BACK = {"app": "hello", "id": OLD, "changed": True}
WORSE = {"app": "hello", "step": "bake | Compare", "reason": "5 percentage points more requests fail"}


def host(**known: Any) -> Json:
    return {FACT_NAMES[name]: value for name, value in known.items()}


READY = host(contact=RUNS, installed=STAYS, staged=STAGED)
ROLLS_BACK = host(locked={"app": "hello", "lease": LEASE}, staged={"app": "hello", "id": OLD, "current": NEW})


def planned(hosts: dict[str, Json], gone: tuple[str, ...] = (), goal: str = "activate", **more: Any) -> Json:
    rollout = {**ROLLOUT, **{name: more.pop(name) for name in ROLLOUT if name in more}}
    here = [name for name in hosts if name not in gone]
    found: Json = plan(hosts, "hello", list(hosts), here, goal, FACT_NAMES, ME, rollout, **more)
    return found


def results(found: Json) -> dict[str, str]:
    return {row["host"]: row["result"] for row in found["rows"]}


def each(found: Json, *names: str) -> dict[str, Any]:
    """What each host is to do of some things; of one alone the bare value."""
    return {
        name: todo[names[0]] if len(names) == 1 else {key: todo[key] for key in names}
        for name, todo in found["hosts"].items()
    }


# whole plans


IDLE: Json = {"before": [], "do": "", "release": None, "after": [], "canary": False}
REST: Json = {"migrate": False, "undo": {}, "prune": False, "unlock": True, "holder": ME}


def test_three_hosts_and_a_good_release() -> None:
    three = {name: READY for name in HOSTS[:3]}
    found = planned(three, batches=[1, "100%"])
    assert (found["go"], found["stop"], found["batches"]) == (True, "", [["web1"], ["web2", "web3"]])
    turn = {"before": ["before_batch", "pre_release"], "do": "activate", "release": NEW}
    assert found["hosts"] == {
        "web1": {**REST, **turn, "after": ["post_release", "after_batch", "bake"], "canary": True},
        "web2": {**REST, **turn, "after": ["post_release", "after_batch"], "canary": False},
        "web3": {**REST, **turn, "after": ["post_release", "after_batch"], "canary": False},
    }
    assert set(results(found).values()) == {"staged"} and not found["tell"]

    after = planned({name: {**READY, **host(switched=SWITCHED)} for name in three}, batches=[1, "100%"])
    assert after["go"] and after["tell"] and set(results(after).values()) == {"released"}
    assert each(after, "undo", "unlock") == {name: {"undo": {}, "unlock": True} for name in three}


def test_three_hosts_and_a_bad_canary() -> None:
    found = planned(
        {"web1": {**READY, **host(switched=SWITCHED, failed=WORSE)}, "web2": READY, "web3": READY}, batches=[1, "100%"]
    )
    assert (found["go"], found["stop"], found["batches"]) == (False, "web1 failed", [])
    back = {"units": [], "site": [], "release": OLD, "verify": False}
    assert found["hosts"] == {
        "web1": {**IDLE, **REST, "undo": back},
        "web2": {**IDLE, **REST},
        "web3": {**IDLE, **REST},
    }
    assert results(found) == {"web1": "failed", "web2": "staged", "web3": "staged"} and found["tell"]
    assert "web1: bake | Compare\n\n5 percentage points more requests fail" in found["table"]


def test_a_rollback_goes_the_same_way_without_what_is_of_a_release() -> None:
    found = planned({name: ROLLS_BACK for name in HOSTS[:2]}, goal="rollback", batches=[1])
    assert (found["go"], found["batches"]) == (True, [["web1"], ["web2"]])
    turn = {"before": ["before_batch"], "do": "rollback", "release": OLD, "after": ["after_batch"], "canary": False}
    assert found["hosts"] == {name: {**REST, **turn} for name in HOSTS[:2]}


def test_where_nothing_changes_there_is_nothing_to_do() -> None:
    settled = host(contact=RUNS, installed=STAYS, staged=SERVES)
    found = planned({"web1": settled, "web2": settled})
    assert (found["go"], found["batches"], found["moves"], found["tell"]) == (True, [], False, False)
    assert found["hosts"] == {name: {**IDLE, **REST, "unlock": False} for name in ("web1", "web2")}
    assert results(found) == {"web1": "unchanged", "web2": "unchanged"}


@pytest.mark.parametrize(
    "left",
    [
        {"staged": {**SERVES, "lease": LEASE}},
        {"staged": {**SERVES, "releases": ["1", "2", "3", "4", "5", "6"]}},
        {"installed": {**STAYS, "preview_changed": True}},
    ],
    ids=["a lock to end", "releases too many", "a site to change"],
)
def test_one_host_with_something_left_to_do_is_reason_enough(left: Json) -> None:
    settled = host(contact=RUNS, installed=STAYS, staged=SERVES)
    assert planned({"web1": settled, "web2": {**settled, **host(**left)}})["moves"]


def test_a_host_that_is_lost_takes_the_others_back() -> None:
    done = {**READY, **host(switched=SWITCHED)}
    found = planned(
        {"web1": done, "web2": READY, "web3": READY}, gone=("web2",), batches=[1, "100%"], max_unreachable=5
    )
    assert (found["stop"], found["batches"]) == ("web2 stopped answering", [])
    assert each(found, "undo")["web1"]["release"] == OLD and not each(found, "undo")["web3"]
    assert results(found) == {"web1": "released", "web2": "lost", "web3": "staged"}


# batches


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


@pytest.mark.parametrize(
    ("contact", "installed", "staged", "before"),
    [
        (RUNS, STAYS, SERVES, None),
        (RUNS, NEW_SITE, SERVES, ["before_batch", "proxy"]),
        (RUNS, {}, SERVES, ["before_batch", "proxy"]),
        (STOPPED, STAYS, SERVES, ["before_batch", "proxy"]),
        (ENABLED_ONLY, STAYS, SERVES, ["before_batch", "proxy"]),
        (RUNS, STAYS, {**SERVES, "verified": False}, ["before_batch"]),
        (RUNS, NEW_SITE, STAGED, ["before_batch", "proxy", "pre_release"]),
    ],
)
def test_a_host_has_a_turn_where_something_is_to_change(
    contact: Json, installed: Json, staged: Json, before: list[str] | None
) -> None:
    hosts = {"web1": host(contact=contact, installed=installed, staged=staged), "web2": READY, "web3": READY}
    found = planned(hosts, batches=[1, "100%"])
    assert found["batches"] == ([["web2"], ["web3"]] if before is None else [["web1"], ["web2", "web3"]])
    assert each(found, "before", "do")["web1"] == {"before": before or [], "do": "" if before is None else "activate"}


def test_a_rollback_switches_hosts_that_a_deployment_would_leave_alone() -> None:
    settled = host(contact=RUNS, installed=STAYS, staged=SERVES)
    assert planned({"web1": settled}, goal="rollback")["batches"] == [["web1"]]
    assert planned({"web1": settled})["batches"] == []


def test_check_mode_switches_to_nothing_that_it_has_not_staged() -> None:
    absent = {**READY, **host(staged={**STAGED, "staged": False})}
    assert each(planned({"web1": absent}, check=True), "do") == {"web1": ""}
    assert each(planned({"web1": READY}, check=True), "do") == {"web1": "activate"}
    assert each(planned({"web1": ROLLS_BACK}, goal="rollback", check=True), "do") == {"web1": "rollback"}


# the canary


@pytest.mark.parametrize(
    ("more", "watched"),
    [
        ({}, ["web1"]),
        ({"bake": {"seconds": 0}}, []),
        ({"bake": {"seconds": "0"}}, []),
        ({"batches": ["100%"]}, []),
        ({"batches": [2, 1]}, ["web1", "web2"]),
        ({"check": True}, []),
        ({"goal": "rollback"}, []),
    ],
)
def test_the_first_batch_is_watched_where_others_follow(more: Json, watched: list[str]) -> None:
    found = planned({name: READY for name in HOSTS[:3]}, **{"batches": [1, "100%"], **more})
    assert [name for name, todo in found["hosts"].items() if todo["canary"]] == watched
    assert [name for name, todo in found["hosts"].items() if "bake" in todo["after"]] == watched


@pytest.mark.parametrize("staged", [FIRST, {**SERVES, "verified": False}], ids=["a first release", "no new release"])
def test_without_something_to_compare_nothing_is_watched(staged: Json) -> None:
    found = planned({"web1": {**READY, **host(staged=staged)}, "web2": READY}, batches=[1])
    assert found["batches"][0] == ["web1"] and not each(found, "canary")["web1"]


# the migration


@pytest.mark.parametrize(
    ("first", "more", "migrates"),
    [
        (READY, {}, ["web1"]),
        (READY, {"migrates": False}, []),
        (READY, {"check": True}, []),
        (READY, {"goal": "rollback"}, []),
        # the first has migrated for the others in the run that was cut
        (host(contact=RUNS, installed=STAYS, staged=SERVES), {}, []),
        (host(contact={"unreachable": True}), {"max_unreachable": 1}, ["web2"]),
        (host(contact=RUNS, failed=FAILED), {}, []),
    ],
)
def test_one_host_migrates_for_all_where_the_rollout_goes_on(first: Json, more: Json, migrates: list[str]) -> None:
    found = planned({"web1": first, "web2": READY}, **{"migrates": True, **more})
    assert [name for name, todo in found["hosts"].items() if todo["migrate"]] == migrates


def test_where_each_host_has_a_database_each_migrates_in_its_turn() -> None:
    settled = host(contact=RUNS, installed=STAYS, staged={**SERVES, "verified": False})
    hosts = {"web1": READY, "web2": {**READY, **host(installed=NEW_SITE)}, "web3": settled}
    found = planned(hosts, migrates=True, migrate_on="every", batches=[1])
    assert not any(each(found, "migrate").values())
    assert each(found, "before") == {
        "web1": ["before_batch", "pre_release", "migrate"],
        "web2": ["before_batch", "proxy", "pre_release", "migrate"],
        "web3": ["before_batch"],  # it has the release, and was migrated for it
    }


@pytest.mark.parametrize(
    "more", [{"migrates": False}, {"check": True}, {"goal": "rollback"}, {"migrate_on": "first"}, {"batches": [1]}]
)
def test_a_host_migrates_in_its_turn_only_where_its_own_database_gets_a_new_release(more: Json) -> None:
    hosts = {"web1": READY, "web2": READY}
    hosts["web1"] = {**READY, **host(failed=FAILED)} if "batches" in more else READY
    found = planned(hosts, **{"migrates": True, "migrate_on": "every", **more})
    assert not any("migrate" in before for before in each(found, "before").values())


def test_a_host_whose_migration_failed_does_not_switch_and_the_others_go_back() -> None:
    failed = {**FAILED, "step": "migrate | Run the migration from the staged release"}
    hosts = {"web1": {**READY, **host(switched=SWITCHED)}, "web2": {**READY, **host(failed=failed)}, "web3": READY}
    found = planned(hosts, migrates=True, migrate_on="every", batches=[1])
    assert (found["stop"], found["batches"]) == ("web2 failed", [])
    assert each(found, "do", "undo") == {
        "web1": {"do": "", "undo": {"units": [], "site": [], "release": OLD, "verify": False}},
        "web2": {"do": "", "undo": {}},
        "web3": {"do": "", "undo": {}},
    }


# what stops a rollout


def test_one_that_fails_stops_everybody_and_says_why() -> None:
    found = planned({"web1": READY, "web2": host(failed=FAILED)})
    assert found["stop"] == "web2 failed" and found["batches"] == [] and not found["go"]
    assert results(found) == {"web1": "staged", "web2": "failed"}
    assert "web2: switch | Start\n\nTraceback\nRuntimeError: no" in found["table"]


def test_one_that_is_down_is_left_out_only_where_it_may_be() -> None:
    hosts = {"web1": READY, "web2": host(contact={"unreachable": True})}
    assert "web2 did not answer" in planned(hosts)["stop"]
    found = planned(hosts, max_unreachable=1)
    assert found["stop"] == "" and found["batches"] == [["web1"]] and results(found)["web2"] == "down"


def test_when_all_are_down_that_is_no_success() -> None:
    assert "web1 did not answer" in planned({"web1": host(contact={"unreachable": True})}, max_unreachable=9)["stop"]


def test_before_anything_is_staged_nothing_but_hosts_that_are_down_stops() -> None:
    """The plan is asked at the first contact too."""
    found = planned({"web1": host(contact=RUNS), "web2": host(contact={"unreachable": True})}, max_unreachable=1)
    assert found["stop"] == ""


def test_a_play_over_two_apps_is_refused() -> None:
    found = planned({"web1": READY, "web2": host(staged={**STAGED, "app": "other"})})
    assert found["stop"].startswith("web2 staged nothing (all hosts of a play have one")


def test_a_rollback_that_would_split_the_fleet_is_refused() -> None:
    hosts = {"web1": READY, "web2": {**READY, **host(staged={**STAGED, "id": "3" * 12})}}
    assert planned(hosts)["stop"] == ""
    assert "web2 to 333333333333" in planned(hosts, goal="rollback")["stop"]


def test_what_another_app_or_an_earlier_rollout_left_does_not_count() -> None:
    other = {"app": "other", "step": "x", "reason": "y"}
    earlier = {**SWITCHED, "id": "2" * 12}
    found = planned({"web1": {**READY, **host(failed=other, switched=earlier)}})
    assert (found["stop"], found["tell"], results(found)) == ("", False, {"web1": "staged"})


# what goes back


UNIT = {"path": "/etc/systemd/system/hello.service", "content": "old"}
SITE = {"path": "/etc/nginx/sites-available/hello.conf", "content": "old"}
ENGINE = {"path": "/usr/local/bin/flaskctl", "content": "old"}
NOT_THERE = {"path": "/etc/new", "state": "absent"}
CHANGED = {"installed": {**NEW_SITE, "undo": [UNIT, ENGINE, NOT_THERE]}, "proxied": {"undo": [SITE, NOT_THERE]}}


@pytest.mark.parametrize(
    ("known", "undo"),
    [
        ({}, {}),
        ({"switched": REFUSED}, {}),
        ({"switched": SWITCHED}, {"units": [], "site": [], "release": OLD, "verify": False}),
        (CHANGED, {"units": [UNIT], "site": [SITE], "release": "", "verify": True}),
        ({**CHANGED, "switched": SWITCHED}, {"units": [UNIT], "site": [SITE], "release": OLD, "verify": False}),
        # after a first deploy there is no release to go back to, and none to ask for
        ({"staged": FIRST, "switched": SWITCHED}, {}),
        ({**CHANGED, "staged": FIRST}, {"units": [UNIT], "site": [SITE], "release": "", "verify": False}),
        ({"installed": {"failed": True}, "staged": {}}, {}),
    ],
)
def test_a_host_gets_back_what_it_had(known: Json, undo: Json) -> None:
    hosts = {"web1": {**READY, **host(**known)}, "web2": host(failed=FAILED)}
    assert each(planned(hosts, stays=[ENGINE["path"]]), "undo")["web1"] == undo


@pytest.mark.parametrize("more", [{"revert": False}, {"revert": "no"}, {"check": True}])
def test_nothing_goes_back_where_it_must_not(more: Json) -> None:
    hosts = {"web1": {**READY, **host(**CHANGED, switched=SWITCHED)}, "web2": host(failed=FAILED)}
    assert each(planned(hosts, **more), "undo") == {"web1": {}, "web2": {}}


def test_a_rollback_takes_back_no_file_that_a_deployment_before_it_installed() -> None:
    switched = {**SWITCHED, "id": OLD}
    hosts = {
        "web1": {**ROLLS_BACK, **host(**CHANGED, switched=switched)},
        "web2": {**ROLLS_BACK, **host(failed=FAILED)},
    }
    undo = each(planned(hosts, goal="rollback"), "undo")
    assert undo == {"web1": {"units": [], "site": [], "release": NEW, "verify": False}, "web2": {}}


# how it ends


@pytest.mark.parametrize(
    ("known", "more", "ends"),
    [
        ({}, {}, {"prune": False, "unlock": True}),
        ({}, {"keep": 1}, {"prune": True, "unlock": True}),
        ({"staged": SERVES}, {}, {"prune": False, "unlock": False}),
        ({"staged": SERVES}, {"keep": 1}, {"prune": True, "unlock": True}),
        ({"staged": SERVES}, {"keep": 1, "check": True}, {"prune": True, "unlock": True}),
        ({}, {"check": True}, {"prune": False, "unlock": False}),
        # the site alone was to change, and the release had to be started again
        ({"staged": SERVES, "switched": SWITCHED}, {}, {"prune": False, "unlock": True}),
        ({"failed": FAILED}, {"keep": 1}, {"prune": False, "unlock": True}),
        ({"staged": {**STAGED, "lease": BOBS}}, {"keep": 1}, {"prune": False, "unlock": False}),
    ],
)
def test_the_last_call_ends_what_is_this_runs_to_end(known: Json, more: Json, ends: Json) -> None:
    assert each(planned({"web1": {**READY, **host(**known)}}, **more), "prune", "unlock") == {"web1": ends}


def test_a_rollback_ends_its_lease_and_prunes_nothing() -> None:
    found = planned({"web1": {**ROLLS_BACK, **host(failed=FAILED)}}, goal="rollback", keep=0)
    assert each(found, "prune", "unlock") == {"web1": {"prune": False, "unlock": True}}


def test_the_lease_of_a_rollout_from_here_that_is_dead_is_ended() -> None:
    nobody = {**LEASE, "id": "17.999999999.4", "pid": "999999999"}
    settled = host(contact=RUNS, installed=STAYS, staged={**SERVES, "lease": nobody})
    assert each(planned({"web1": settled}), "unlock", "holder") == {
        "web1": {"unlock": True, "holder": {**ME, "takes_over": nobody["id"]}}
    }


# the report


def test_the_report_says_for_each_host_what_it_runs_now() -> None:
    hosts = {
        "released": host(staged=STAGED, switched=SWITCHED),
        "unchanged": host(staged=SERVES, switched={"skipped": True, "changed": False}),
        "refused": host(staged=STAGED, switched=REFUSED, failed=FAILED),
        "after the switch": host(staged=STAGED, switched=SWITCHED, failed=FAILED),
        "reverted": host(staged=STAGED, switched=SWITCHED, reverted=BACK),
        "not moved": host(staged=STAGED, reverted={**BACK, "changed": False}),
        "stuck": host(staged=STAGED, switched=SWITCHED, reverted={"app": "hello", "failed": True, "reason": "cannot"}),
        "first": host(staged=FIRST, switched=SWITCHED, reverted={"skipped": True}),
    }
    found = planned(hosts)
    assert {row["host"]: (row["result"], row["after"], row["seconds"]) for row in found["rows"]} == {
        "released": ("released", NEW, 2.5),
        "unchanged": ("unchanged", NEW, None),
        "refused": ("failed", OLD, None),
        "after the switch": ("failed", NEW, 2.5),
        "reverted": ("reverted", OLD, 2.5),
        "not moved": ("staged", OLD, None),
        "stuck": ("not reverted", NEW, 2.5),
        "first": ("released", NEW, 2.5),
    }
    assert "stuck: cannot" in found["table"]
    assert set(found["rows"][0]) == {"host", "before", "after", "result", "seconds", "step", "reason"}


def test_a_host_that_went_back_is_not_said_to_be_released() -> None:
    went = {"web1": {**ROLLS_BACK, **host(switched={**SWITCHED, "id": OLD})}}
    assert results(planned(went, goal="rollback")) == {"web1": "rolled back"}
    assert results(planned(went)) == {"web1": "released"}


def test_one_reason_of_many_hosts_is_told_once() -> None:
    found = planned({name: host(failed=FAILED) for name in HOSTS})
    assert found["table"].count("Traceback") == 1
    assert "web1, web2, web3, web4, web5 and 35 more: switch" in found["table"]


def test_a_long_reason_is_shown_by_its_begin_and_its_end_and_kept_whole_for_programs() -> None:
    long = "\n".join(["non-zero return code", *(f"line {number}" for number in range(200)), "RuntimeError: no table"])
    found = planned({"web1": host(failed={**FAILED, "reason": long})})
    lines = found["table"].splitlines()
    assert len(lines) < 40 and "non-zero return code" in lines and lines[-1] == "RuntimeError: no table"
    assert "... 172 more lines ..." in lines and found["rows"][0]["reason"] == long


@pytest.mark.parametrize("staged", [{}, {"app": "hello", "failed": True}], ids=["install failed", "stage failed"])
def test_a_host_that_could_not_stage_is_told_with_what_it_serves(staged: Json) -> None:
    serves = {**RUNS, "current": OLD}
    bad = planned({"web1": host(contact=serves, staged=staged, failed=FAILED)})["rows"][0]
    assert (bad["before"], bad["after"], bad["result"]) == (OLD, OLD, "failed")
    # the first contact of a rollback is another one; an earlier play of this run may have left its own
    hosts = {"web1": host(contact=serves, status={"app": "hello", "current": NEW}, staged=staged, failed=FAILED)}
    assert planned(hosts, goal="rollback")["rows"][0]["before"] == NEW and planned(hosts)["rows"][0]["before"] == OLD


def test_a_first_release_that_could_not_be_staged_has_nothing_before_it() -> None:
    row = planned({"web1": host(contact={**RUNS, "current": None}, failed=FAILED)})["rows"][0]
    assert (row["before"], row["after"]) == (None, None)


def test_a_host_alone_has_a_table_too() -> None:
    """Of many hosts --limit may have left one."""
    done = {**READY, **host(switched=SWITCHED)}
    assert planned({"web1": done})["tell"] and planned({"web1": {**done, **host(failed=FAILED)}})["tell"]
    assert not planned({"web1": host(contact=RUNS, installed=STAYS, staged=SERVES)})["tell"]
    assert not planned({"web1": done}, check=True)["tell"], "it would be released, and was not"


# the documentation


def on_screen(found: Json) -> str:
    """A plan as docs/architecture.md shows it."""
    head = [("host", "before", "do", "after", "undo", "at the end")]
    for name, todo in found["hosts"].items():
        end = [word for word in ("prune", "unlock") if todo[word]]
        cells = (", ".join(todo["before"]), todo["do"], ", ".join(todo["after"]), todo["undo"].get("release", ""))
        head.append((name, *(cell or "-" for cell in (*cells, ", ".join(end)))))
    batches = ", ".join("[" + " ".join(batch) + "]" for batch in found["batches"])
    says = f"go, batches {batches}" if found["go"] else f"stop: {found['stop']}"
    return "\n".join([says, *aligned(head)])


def test_the_documentation_shows_a_good_and_a_bad_rollout_as_they_are() -> None:
    shown = "\n".join(line.strip() for line in (ROOT / "docs/architecture.md").read_text().splitlines())
    done = {**READY, **host(switched=SWITCHED)}
    bad = {**done, **host(failed={**WORSE, "reason": "40.0 percentage points more requests fail"})}
    three = {name: READY for name in HOSTS[:3]}
    first = planned(three, batches=[1, "100%"])
    good = planned({name: done for name in three}, keep=1)
    stopped = planned({**three, "web1": bad}, batches=[1, "100%"])
    after = planned({**three, "web1": {**bad, **host(reverted=BACK)}})
    for text in (on_screen(first), good["table"], on_screen(stopped), after["table"]):
        assert text in shown, text


def test_a_host_on_which_something_was_only_put_right_is_told_so_and_keeps_it() -> None:
    mended = {**SWITCHED, "id": NEW}
    lacked = {**SERVES, "verified": False}
    found = planned(
        {
            "web1": host(contact=RUNS, installed=STAYS, staged=lacked, switched=mended),
            "web2": host(contact=RUNS, installed=STAYS, staged=STAGED, switched=SWITCHED, failed=WORSE),
        }
    )
    assert results(found) == {"web1": "put right", "web2": "failed"}
    assert each(found, "undo")["web1"] == {} and each(found, "undo")["web2"]["release"] == OLD


def test_a_host_that_lacks_a_unit_has_a_turn() -> None:
    found = planned({"web1": host(contact=RUNS, installed=STAYS, staged={**SERVES, "verified": False})})
    assert found["batches"] == [["web1"]] and each(found, "do") == {"web1": "activate"}


@pytest.mark.parametrize("standing", [SERVES, {**SERVES, "id": NEW}], ids=["the same release", "a new one"])
def test_an_app_hears_at_its_new_socket_before_nginx_asks_there_and_leaves_the_old_one_at_the_end(
    standing: Json,
) -> None:
    moving = {**standing, "socket": {"former": ["hello.socket"]}}
    found = planned({"web1": host(contact=RUNS, installed=NEW_SITE, staged=moving), "web2": READY})
    assert each(found, "before")["web1"][:3] == ["before_batch", "listen", "proxy"]
    assert each(found, "prune", "unlock")["web1"] == {"prune": True, "unlock": True}
    cut = planned({"web1": host(contact=RUNS, installed=STAYS, staged=moving)})
    assert cut["batches"] == [["web1"]] and "listen" in each(cut, "before")["web1"]
    failed = planned({"web1": host(contact=RUNS, installed=NEW_SITE, staged=moving), "web2": host(failed=FAILED)})
    assert each(failed, "prune")["web1"] is False, "it may go back to where it was"
    looked = planned({"web1": host(contact=RUNS, installed=NEW_SITE, staged=moving)}, check=True)
    assert "listen" not in each(looked, "before")["web1"]


@pytest.mark.parametrize("standing", ["due", "new"])
def test_a_certificate_is_fetched_before_the_host_is_taken_in_again(standing: str) -> None:
    settled = host(contact=RUNS, installed=STAYS, staged={**SERVES, "certificate": standing})
    found = planned({"web1": settled, "web2": READY})
    assert found["batches"] == [["web1", "web2"]]
    assert each(found, "do", "after")["web1"] == {"do": "activate", "after": ["certificate", "after_batch"]}
    first = planned({"web1": host(contact=RUNS, installed=NEW_SITE, staged={**FIRST, "certificate": standing})})
    assert each(first, "after")["web1"] == ["certificate", "post_release", "after_batch"]


def test_a_certificate_that_nothing_uses_goes_at_the_end() -> None:
    settled = host(contact=RUNS, installed=STAYS, staged={**SERVES, "certificate_unused": True})
    found = planned({"web1": settled})
    assert found["batches"] == [] and each(found, "prune", "unlock")["web1"] == {"prune": True, "unlock": True}
    failed = planned({"web1": {**settled, **host(failed=FAILED)}})
    assert not each(failed, "prune")["web1"], "the site may have to go back"

"""What is shown of a failed run is why it failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.evidence import Counts, read_junit, why_failed

PLAYBOOK = """
PLAY [Release the app] ****
TASK [flask_gunicorn_nginx : install | Install nginx] ****
ok: [web1]
TASK [flask_gunicorn_nginx : activate | Activate the release] ****
fatal: [web1]: FAILED! => changed=false
  msg: the release does not start
PLAY RECAP ****
web1 : ok=3 changed=0 failed=1
"""
TESTS = """
============================= test session starts ==============================
collected 2 items
test_a.py .F
=================================== FAILURES ===================================
____________________________ test_it_serves[web1] ______________________________
E   assert 503 == 200
=========================== short test summary info ============================
FAILED test_a.py::test_it_serves[web1] - assert 503 == 200
========================= 1 failed, 1 passed in 0.12s ==========================
INFO     default: verifier done
"""
JUNIT = """<?xml version="1.0" encoding="utf-8"?><testsuites><testsuite name="pytest">
<testcase classname="a" name="passes"/>
<testcase classname="a" name="fails"><failure message="assert">trace</failure></testcase>
<testcase classname="a" name="breaks"><error message="fixture">trace</error></testcase>
<testcase classname="a" name="skips"><skipped type="pytest.skip" message="no memory controller"/></testcase>
</testsuite></testsuites>"""


def test_a_failed_playbook_shows_the_task_and_its_message_and_no_recap() -> None:
    shown = why_failed(PLAYBOOK)
    assert shown.splitlines() == [
        "TASK [flask_gunicorn_nginx : activate | Activate the release] ****",
        "fatal: [web1]: FAILED! => changed=false",
        "  msg: the release does not start",
    ]


def test_a_failure_that_the_play_ignores_is_not_the_reason() -> None:
    ignored = "TASK [a] ***\nfatal: [web1]: FAILED! =>\n  msg: expected\n...ignoring\n"
    assert "activate" in why_failed(ignored + PLAYBOOK)


def test_failed_tests_show_the_failure_and_the_summary_and_not_what_follows() -> None:
    shown = why_failed(TESTS)
    assert "assert 503 == 200" in shown
    assert "1 failed, 1 passed in 0.12s" in shown
    assert "session starts" not in shown and "verifier done" not in shown


def test_each_failure_is_shown_with_its_first_and_its_last_lines() -> None:
    said = "".join(f"E     line {number}\n" for number in range(400))
    several = "".join(f"{'_' * 20} test_{name} {'_' * 20}\n{said}E     cause of {name}\n" for name in ("one", "two"))
    ends = "".join(f"FAILED test_a.py::test_{name} - AssertionError:\n  line 0\n  line 1\n" for name in ("one", "two"))
    shown = why_failed(f"=== FAILURES ===\n{several}=== short test summary info ===\n{ends}=== 2 failed in 9.00s ===\n")
    for name in ("one", "two"):
        assert f" test_{name} " in shown and f"cause of {name}\n" in shown
    assert shown.splitlines()[-3:] == [
        "FAILED test_a.py::test_one - AssertionError:",
        "FAILED test_a.py::test_two - AssertionError:",
        "=== 2 failed in 9.00s ===",
    ]
    assert len(shown.splitlines()) < 200


@pytest.mark.parametrize(
    "head", ["_ test_of_a_name_that_leaves_no_room_for_more[ansible://neighbours-debian13] _\n", ""]
)
def test_a_failure_is_shown_whatever_its_heading_looks_like(head: str) -> None:
    shown = why_failed(
        f"=== FAILURES ===\n{head}E     the cause\n=== short test summary info ===\nFAILED test_a.py::x - y\n"
    )
    assert shown.splitlines() == [*head.splitlines(), "E     the cause", "FAILED test_a.py::x - y"]


def test_colours_do_not_hide_a_failure() -> None:
    assert why_failed(f"\x1b[0;31m{PLAYBOOK.strip()}".replace("fatal:", "\x1b[31mfatal:")).startswith("TASK [")


def test_a_log_without_a_known_failure_shows_its_end() -> None:
    assert why_failed("\n".join(str(number) for number in range(1000))).endswith("999")


def test_counts_come_from_the_report_and_an_error_is_a_failure(tmp_path: Path) -> None:
    report = tmp_path / "r.xml"
    report.write_text(JUNIT)
    assert read_junit(report) == Counts(1, 2, 1, ("1 x no memory controller",))
    assert str(read_junit(report)) == "1 passed, 2 FAILED, 1 skipped"


@pytest.mark.parametrize("content", [None, "", "<testsuites><testsuite>"])
def test_a_run_without_a_whole_report_has_collected_nothing(tmp_path: Path, content: str | None) -> None:
    report = tmp_path / "r.xml"
    if content is not None:
        report.write_text(content)
    assert read_junit(report).collected == 0

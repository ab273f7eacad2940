"""The score of `make mutants` counts each mutant, those that no test reaches too."""

from __future__ import annotations

from pathlib import Path

from tools import mutants

RESULTS = """\
    flaskctl.plan.x_a__mutmut_1: killed
    flaskctl.plan.x_a__mutmut_2: survived
    flaskctl.lock.x_b__mutmut_1: no tests
    flaskctl.lock.x_b__mutmut_2: timeout
"""


def test_the_score_is_of_all_mutants() -> None:
    text, score = mutants.table(mutants.outcomes(RESULTS))
    assert score == 50 and "plan              1 of    2 killed" in text and text.endswith("50.0 %")


def test_rooms_and_tests_are_there(tmp_path: Path) -> None:
    mutants.prepare(tmp_path / "work")
    assert all((tmp_path / f"work/src/flaskctl/{room}.py").exists() for room in mutants.ROOMS)
    assert all((tmp_path / f"work/tests/unit/flaskctl/test_{name}.py").exists() for name in mutants.TESTS)

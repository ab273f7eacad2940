"""What runs stands in place on a terminal, and is a line in a log."""

from __future__ import annotations

import os
import pty
import re
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import run
from tools.progress import Durations, Line
from tools.run import step


@pytest.fixture(autouse=True)
def durations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Durations:
    known = Durations(tmp_path / "cache" / "durations.json")
    monkeypatch.setattr(run, "DURATIONS", known)
    return known


def on_a_terminal(work: Callable[[], None]) -> str:
    """What a terminal gets of some work."""
    reading, writing = pty.openpty()
    before, sys.stdout = sys.stdout, os.fdopen(os.dup(writing), "w")
    try:
        work()
        sys.stdout.write("\n# the end")
        sys.stdout.flush()
        said = ""
        while "\n# the end" not in said:
            said += os.read(reading, 65536).decode()
        return said.partition("\r\n# the end")[0]
    finally:
        sys.stdout.close()
        sys.stdout = before
        os.close(writing)
        os.close(reading)


def left(said: str) -> list[str]:
    """What stays on the screen: a line is drawn over from its beginning."""
    return [re.split(r"\r\x1b\[K", line.rstrip("\r"))[-1] for line in said.split("\n")]


def test_in_a_log_a_step_is_one_line(capsys: pytest.CaptureFixture[str], durations: Durations) -> None:
    durations.keep("building", 75)
    with step("building"):
        pass
    with pytest.raises(ValueError), step("breaking"):
        raise ValueError
    said = capsys.readouterr().out
    took = r"\d\.\d s"
    assert re.fullmatch(rf"building \(75 s last time\) \.\.\. {took}\nbreaking \.\.\. failed after {took}\n", said)
    assert list(durations.known()) == ["building"] and durations.known()["building"] < 75, "nothing of a failure"


def test_on_a_terminal_it_stands_in_place_with_the_last_time(durations: Durations) -> None:
    durations.keep("building", 75)

    def work() -> None:
        with step("building"):
            time.sleep(0.05)

    def nested() -> None:
        with Line(lambda took: "all of it") as line:
            with step("a part"):
                time.sleep(0.05)
            line.say("a result")

    said = on_a_terminal(work)
    assert re.search(r"building \.\.\. \d\.\d s \(75 s last time\)", said)
    assert re.fullmatch(r"building \.\.\. \d\.\d s", left(said)[0])
    part, *rest = left(on_a_terminal(nested))
    assert re.fullmatch(r"a part \.\.\. \d\.\d s", part) and rest == ["a result", ""]


def test_a_line_that_is_longer_than_the_terminal_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")

    def work() -> None:
        with Line(lambda took: "x" * 100):
            time.sleep(0.05)

    assert max(map(len, re.findall("x+", on_a_terminal(work)))) == 19


@pytest.mark.parametrize("text", ["", "[1]", "{", "\0", '{"a": "long"}'])
def test_what_is_known_of_earlier_runs_may_be_broken(durations: Durations, text: str) -> None:
    durations.keep("a", 7)
    assert durations.last("a") == " (7.0 s last time)"
    durations.path.write_text(text)
    assert durations.known() == {} and durations.last("a") == ""
    durations.keep("b", 1)
    assert durations.known() == {"b": 1} and durations.last("b") == ""

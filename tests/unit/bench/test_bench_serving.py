"""The bench of serving, as far as no host is needed: what tools say is read, compared and drawn as it is."""

from __future__ import annotations

import json
import statistics
import xml.etree.ElementTree as ElementTree

import pytest

from bench import draw, paced, releases, slow
from bench.cases import CASES, Case, Result, met, milliseconds, ratio, ratios, read_paced, read_wrk
from tools.run import ROOT

WRK = """\
Running 4s test @ http://172.17.0.2:80/
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     9.95ms    9.21ms 132.30ms   93.59%
    Req/Sec     7.27k   702.14     8.29k    72.50%
  Latency Distribution
     50%    8.61ms
     75%   10.75ms
     90%   14.21ms
     99%   65.28ms
  28940 requests in 4.01s, 9.27MB read
Requests/sec:   7216.32
Transfer/sec:      2.31MB
"""
BROKEN = WRK.replace(
    "Requests/sec",
    "  Socket errors: connect 1, read 20, write 300, timeout 4000\n  Non-2xx or 3xx responses: 8940\nRequests/sec",
)
HELLO = next(case for case in CASES if case.name == "hello")
PACED = next(case for case in CASES if case.name == "paced")
SLOW = next(case for case in CASES if case.name == "slow")


def given(case: Case, *pairs: tuple[float, float], errors: int = 0) -> list[Result]:
    """What a case gave: (the other side, the role) round by round."""
    return [
        Result(case.name, side, number, {case.figure: value, "errors": errors if side == "role" else 0})
        for number, pair in enumerate(pairs)
        for side, value in zip((case.against, "role"), pair, strict=True)
    ]


def test_what_wrk_says_is_read() -> None:
    assert read_wrk(WRK) == {"rate": 7217.0, "p50": 8.61, "p99": 65.28, "errors": 0}


def test_an_answer_that_is_refused_is_no_answer() -> None:
    # else a server that refuses most of what it is asked would be the fastest of all
    assert read_wrk(BROKEN) == {"rate": 4987.5, "p50": 8.61, "p99": 65.28, "errors": 8940 + 4321}


@pytest.mark.parametrize(("text", "wanted"), [("812.00us", 0.812), ("9.95ms", 9.95), ("1.20s", 1200), ("1.50m", 90000)])
def test_times_are_milliseconds(text: str, wanted: float) -> None:
    assert milliseconds(text) == pytest.approx(wanted)


def test_the_words_for_what_went_wrong_are_no_figure() -> None:
    assert read_paced('{"requests": 2, "errors": 1, "wrong": {"closed": 1}, "p99": 3.5}') == {
        "requests": 2,
        "errors": 1,
        "p99": 3.5,
    }


def test_a_ratio_is_of_one_round_and_the_median_of_all() -> None:
    # a machine that was slow in one round was so for both sides
    results = given(HELLO, (1000, 1800), (100, 190), (1000, 1700))
    assert ratios(results, "role", "seed", "rate") == [1.8, 1.9, 1.7]
    assert ratio(results, "role", "seed", "rate") == 1.8
    assert ratio([], "role", "seed", "rate") is None


@pytest.mark.parametrize(
    ("case", "pairs", "errors", "wanted"),
    [
        (HELLO, [(1000, 1800)], 0, True),
        (HELLO, [(1000, 1790)], 0, False),
        (HELLO, [(1000, 5000)], 1, False),
        (PACED, [(20, 20)], 0, True),
        (PACED, [(20, 21)], 0, False),
        (SLOW, [(0, 0)], 0, True),
        (SLOW, [(0, 1)], 1, False),
    ],
)
def test_a_goal_is_met_by_the_ratio_and_without_an_error(
    case: Case, pairs: list[tuple[float, float]], errors: int, wanted: bool
) -> None:
    assert met(case, given(case, *pairs, errors=errors)) is wanted


def test_each_side_is_offered_the_same_requests_at_the_same_moments() -> None:
    moments = paced.due_times(1000, 5)
    assert moments == paced.due_times(1000, 5) == sorted(moments)
    assert len(moments) == pytest.approx(5000, rel=0.05) and moments[-1] < 5
    gaps = [after - before for before, after in zip(moments, moments[1:], strict=False)]
    assert statistics.stdev(gaps) == pytest.approx(statistics.fmean(gaps), rel=0.1)  # Poisson


@pytest.mark.parametrize(("percent", "wanted"), [(50, 50), (99, 99), (100, 100), (0.1, 1)])
def test_a_percentile_is_a_value_that_was_measured(percent: float, wanted: float) -> None:
    assert paced.percentile([float(number) for number in range(100, 0, -1)], percent) == wanted


def test_an_answer_is_whole_by_its_length() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n"
    assert [paced.whole(head[:-1]), paced.whole(head + b"hell"), paced.whole(head + b"hello")] == [False, False, True]
    with pytest.raises(ValueError, match="without a length"):
        paced.whole(b"HTTP/1.1 200 OK\r\n\r\nhello")


def test_what_is_sent_in_pieces_is_sent_whole() -> None:
    assert slow.cut(b"abcdefg", 3) == [b"abc", b"def", b"g"]


def test_a_release_is_ready_with_its_first_answer_and_drained_with_the_last_old_process() -> None:
    samples = [
        (9.0, 60.0, [1, 2], "Hello Flask, release 6!"),
        (11.0, 120.0, [1, 2, 3], "Hello Flask, release 6!"),
        (12.0, 130.0, [2, 3], "Hello Flask, release 7!"),
        (13.0, 65.0, [3], "Hello Flask, release 7!"),
    ]
    assert releases.told(samples, 10.0, "release 7!") == {"ready": 2.0, "drained": 3.0, "memory": 60.0, "peak": 130.0}


def test_a_bar_is_as_long_as_its_ratio_and_the_drawing_is_xml() -> None:
    machine = dict.fromkeys(("cpu", "memory", "kernel", "host", "nginx", "python", "packages", "wrk"), "x")
    made = {"when": "2026-01-01", "revision": "abc", "command": "wrk", "machine": machine}
    figures = {"hello": {**made, "results": [each._asdict() for each in given(HELLO, (1000, 1500), (1000, 2000))]}}
    text = draw.plot(figures)
    bars = [part for part in ElementTree.fromstring(text) if part.get("fill") == draw.COLOURS["role"]]
    most = (draw.WIDTH - draw.LEFT - 60) / 2.0
    assert [float(bar.attrib["width"]) for bar in bars] == [pytest.approx(1.75 * most, abs=0.1)]
    assert text == draw.plot(json.loads(json.dumps(figures)))
    assert "**1.75** (1.50 to 2.00) | at least 1.8: **not met**" in draw.table(figures)


def test_the_documentation_has_what_was_measured() -> None:
    for name, text in draw.drawn().items():
        assert (ROOT / name).read_text() == text, f"{name} is not what bench/figures say: python -m bench.draw"

"""The bake: real traffic after an activation, against as much time before it."""

from __future__ import annotations

import datetime
import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl

Stage = Callable[..., str]
Traffic, Limits = flaskctl.Traffic, flaskctl.Limits


def entry(when: float, status: int = 200, seconds: float = 0.01, upstream: str = "") -> dict[str, Any]:
    """Return what nginx logs of a request, in the time zone of its host."""
    zone = datetime.timezone(datetime.timedelta(hours=2))
    time = datetime.datetime.fromtimestamp(int(when), zone).isoformat()
    return {"time": time, "status": status, "seconds": seconds, "upstream_status": upstream or str(status)}


def log(host: FakeHost, entries: list[dict[str, Any]], name: str = "hello.access.log") -> None:
    path = host.root / "var/log/nginx" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in entries))


@pytest.mark.parametrize("block", [1, 3, 7, 1 << 16])
@pytest.mark.parametrize("text", ["", "a", "a\n", "a\nbc\n\ndef", "\nab\ncd\n"])
def test_a_file_is_read_from_its_end_line_by_line(text: str, block: int) -> None:
    lines = [line.encode() for line in text.split("\n") if line]
    assert list(flaskctl.lines_from_end(io.BytesIO(text.encode()), block)) == lines[::-1]


def test_no_more_of_a_file_is_read_than_the_lines_that_are_wanted() -> None:
    file = io.BytesIO(b"x\n" * 1_000_000)
    lines = flaskctl.lines_from_end(file, 4096)
    assert [next(lines) for _ in range(3)] == [b"x"] * 3
    assert file.tell() == 2_000_000


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"7", b'{"time": "x"}', b'{"status": 200}', b"\xff"])
def test_a_line_that_is_cut_or_not_ours_is_passed_over(line: bytes) -> None:
    assert flaskctl.log_entry(line) is None


def test_traffic_is_what_went_to_the_app_and_a_websocket_has_no_latency() -> None:
    lines = [entry(100 + second, seconds=second / 100) for second in range(20)]
    lines += [entry(105, 503, upstream="502"), entry(105, 101, 900.0), entry(105, 200, 7.0, "-"), entry(99), entry(120)]
    lines.append({**entry(105, 404, 9.0), "upstream_status": ""})
    entries = [flaskctl.log_entry(json.dumps(line).encode()) for line in lines]
    found = flaskctl.traffic(entries, 100, 120)
    assert found.as_json() == {"requests": 22, "errors": 1, "p95": 0.18}
    assert [found.slow(limit) for limit in (0.16, 0.17, 0.5)] == [3, 2, 0]
    assert flaskctl.traffic([], 0, 9).as_json() == {"requests": 0, "errors": 0, "p95": None}


@pytest.mark.parametrize(
    ("upstream", "status", "failed"),
    [
        ("500", 200, True),  # nginx went on with an answer that it had kept
        ("502, 504", 404, True),
        ("502, 200", 200, False),
        ("502 : 200", 200, False),
        ("200 : 503", 200, True),
        ("200", 200, False),
        ("404", 404, False),
        ("500", 500, True),
        ("-", 499, None),
        ("", 200, None),  # what was kept, while that was fresh
    ],
)
def test_an_answer_that_nginx_had_kept_hides_no_failure(upstream: str, status: int, failed: bool | None) -> None:
    line = {**entry(100, status), "upstream_status": upstream, "release": "0123456789ab"}
    entries = [flaskctl.log_entry(json.dumps(line).encode())]
    found = flaskctl.traffic(entries, 100, 101)
    assert (found.requests, found.errors) == ((0, 0) if failed is None else (1, int(failed)))
    assert flaskctl.timeline(entries, entries[0]["time"], 1, 1)["errors"] == [found.errors]


def test_what_gunicorn_refuses_by_itself_is_nobody_s_traffic_and_an_app_that_raises_or_dies_is() -> None:
    """Else whoever sends junk fast enough hides the failures of a bad release among it."""
    lines = [{**entry(100), "release": "0123456789ab"}, {**entry(100, 500), "release": "0123456789ab"}]
    lines += [{**entry(100, 500), "release": ""}, {**entry(100, 503, upstream="502"), "release": ""}]
    lines += [{**entry(100, status), "release": ""} for status in (400, 405, 414, 431)]
    entries = [flaskctl.log_entry(json.dumps(line).encode()) for line in lines]
    assert flaskctl.traffic(entries, 100, 101).as_json() == {"requests": 4, "errors": 3, "p95": 0.01}


def took(requests: int, seconds: float, slow: int = 0) -> Any:
    """Return traffic in which some requests take two seconds."""
    return Traffic(requests, 0, [seconds] * (requests - slow) + [2.0] * slow)


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        (Traffic(100, 0), Traffic(100, 1), ""),
        (Traffic(100, 0), Traffic(100, 2), "2.00 percentage points more requests fail, 1 may"),
        (Traffic(100, 50), Traffic(100, 50), ""),
        (Traffic(100, 50), Traffic(100, 0), ""),
        (took(100, 0.1), took(100, 0.21), "100 of 100 requests take longer than 0.200 s, 0 of 100 did: 2 "),
        (took(100, 0.1), took(100, 0.19), ""),
        (took(100, 0.002), took(100, 0.050), ""),
        (took(100, 0.0), took(100, 1.0), "100 of 100 requests take longer than 0.050 s"),
        (Traffic(100, 0), took(100, 1.0), ""),
        (took(100, 1.0), Traffic(100, 0), ""),
        # slow by nature in a twentieth of its requests: two samples of the same differ
        (took(100, 0.01, slow=4), took(100, 0.01, slow=9), ""),
        (took(50, 0.01, slow=1), took(50, 0.01, slow=6), ""),
        (took(1000, 0.01, slow=40), took(1000, 0.01, slow=80), ""),
        (took(1000, 0.01, slow=40), took(1000, 0.01, slow=120), "120 of 1000 requests take longer than 0.060 s, 40 of"),
        (took(50, 0.01), took(50, 0.01, slow=12), "12 of 50 requests"),
    ],
)
def test_only_what_is_worse_than_the_limits_is_told(before: Any, after: Any, says: str) -> None:
    found = flaskctl.worse(before, after, Limits())
    assert found.startswith(says) and bool(found) == bool(says)


def test_a_release_that_fails_outright_is_seen_early() -> None:
    assert flaskctl.looks(3) == [3]
    assert flaskctl.looks(5) == [5]
    assert flaskctl.looks(60) == [5, 10, 20, 40, 60]


@pytest.fixture
def baked(host: FakeHost, stage: Stage) -> Callable[..., Any]:
    """Activate a release and bake it for a minute; each argument makes of a time the request before, and after."""
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.sleep(120)

    def bake(old: Callable[[float], Any], new: Callable[[float], Any], *words: str) -> Any:
        began = host.clock
        assert call(host, "hello", "activate", two).rc == 0
        log(host, [old(began - 60 + second / 2) for second in range(119)], "hello.access.log.1")
        log(host, [new(host.clock + second / 2) for second in range(118)])
        return call(host, "hello", "bake", "--seconds", "60", *words, "--json")

    return bake


def test_a_release_that_does_as_well_passes_with_the_figures(host: FakeHost, baked: Callable[..., Any]) -> None:
    began = host.clock
    result = baked(entry, lambda when: entry(when, 500 if int(when) % 120 == 0 else 200))
    assert result.rc == 0 and result.json["judged"] and not result.json["changed"]
    assert result.json["before"] == {"requests": 119, "errors": 0, "p95": 0.01}
    assert result.json["after"]["requests"] == 118
    assert host.clock >= began + 60
    assert "before: 0 of 119 failed (0.00 %), 95 % within 0.010 s" in result.json["msg"]


def test_a_release_that_fails_is_refused_at_once_with_the_figures(host: FakeHost, baked: Callable[..., Any]) -> None:
    result = baked(entry, lambda when: entry(when, 500), "--min-requests", "10")
    assert result.rc == 1 and "percentage points more requests fail" in result.json["msg"]
    assert "before: 0 of 119 failed" in result.json["detail"] and "in 6 s" in result.json["detail"]
    assert "rollback" in result.json["remedy"]


def test_a_release_that_is_slow_is_refused_after_the_whole_time(host: FakeHost, baked: Callable[..., Any]) -> None:
    result = baked(entry, lambda when: entry(when, seconds=0.5))
    assert result.rc == 1 and "in 61 s" in result.json["detail"]
    assert "118 of 118 requests take longer than 0.060 s" in result.json["msg"]


def test_too_few_requests_are_not_judged(host: FakeHost, baked: Callable[..., Any]) -> None:
    result = baked(entry, lambda when: entry(when, 500), "--min-requests", "119")
    assert result.rc == 0 and not result.json["judged"] and "too few requests to judge, 119" in result.json["msg"]


def about_to_switch(host: FakeHost, stage: Stage) -> str:
    """Let one release serve for a while; return another that is staged."""
    call(host, "hello", "activate", stage("v1"))
    two: str = stage("v2")
    host.sleep(120)
    return two


def test_what_failed_between_the_switch_and_the_bake_counts(host: FakeHost, stage: Stage) -> None:
    """A load balancer takes a host that fails out, and then there is too little to judge by."""
    two = about_to_switch(host, stage)
    began = host.clock
    assert call(host, "hello", "activate", two).rc == 0
    log(host, [entry(began - 60 + second / 2) for second in range(119)], "hello.access.log.1")
    log(host, [entry(host.clock + 1, 500)] * 8 + [entry(host.clock + 20), entry(host.clock + 40)])
    host.sleep(10)
    result = call(host, "hello", "bake", "--seconds", "60", "--min-requests", "10", "--json")
    assert result.rc == 1 and "80.00 percentage points more requests fail" in result.json["msg"]
    host.sleep(3600)  # and by hand, later, no more than the same time counts
    log(host, [entry(began + 60, 500)] * 50 + [entry(host.clock + second) for second in range(50)])
    assert call(host, "hello", "bake", "--seconds", "60", "--json").json["after"]["errors"] == 0


def test_what_failed_while_the_old_release_was_drained_counts(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A load balancer had taken the host out by the end of that: too few requests to judge, and all hosts got it."""
    two = about_to_switch(host, stage)
    began = host.clock
    checkpoint = host.checkpoint

    def at(name: str) -> None:
        checkpoint(name)
        if name == "drained":
            host.sleep(20)

    monkeypatch.setattr(host, "checkpoint", at)
    assert call(host, "hello", "activate", two).rc == 0 and host.clock >= began + 20
    log(host, [entry(began - 60 + second / 2) for second in range(119)], "hello.access.log.1")
    while_drained = [{**entry(began + 5, 500), "release": two}] * 8
    log(host, [*while_drained, entry(host.clock + 2), entry(host.clock + 4)])
    result = call(host, "hello", "bake", "--seconds", "10", "--min-requests", "10", "--json")
    assert result.rc == 1 and "80.00 percentage points more requests fail" in result.json["msg"], result.json
    # those of the old one, which ends, are not the new one's
    log(host, [*[{**each, "release": "another"} for each in while_drained], *[entry(host.clock)] * 10])
    assert call(host, "hello", "bake", "--seconds", "10", "--min-requests", "10", "--json").json["after"]["errors"] == 0


def test_where_there_was_too_little_to_compare_with_nobody_waits(host: FakeHost, baked: Callable[..., Any]) -> None:
    clocks: list[float] = []

    def new(when: float) -> dict[str, Any]:
        clocks.append(host.clock)
        return entry(when, 500)

    result = baked(entry, new, "--min-requests", "120")
    assert result.rc == 0 and not result.json["judged"] and host.clock == clocks[0]
    assert "too few requests in the 60 s before to judge by, 120 are wanted: 0 of 119 failed" in result.json["msg"]


DAY = 86400.0


@pytest.mark.parametrize("by", [DAY, -DAY, 10.0, -10.0])
def test_a_clock_that_is_set_meanwhile_ends_no_bake_later_and_nothing_is_judged_by_it(
    host: FakeHost, baked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, by: float
) -> None:
    """The watch would have lasted a day and more: it slept until the clock said that it was over."""
    clocks = []

    def sleep(seconds: float) -> None:
        host.clock += seconds
        host.clock_was_set = by

    def new(when: float) -> dict[str, Any]:
        monkeypatch.setattr(host, "sleep", sleep)
        clocks.append(host.clock)
        return entry(when, 500)

    result = baked(entry, new)
    assert result.rc == 0 and not result.json["judged"]
    assert f"was set by {by:+.0f} s" in result.json["msg"] and result.json["warnings"] == [result.json["msg"]]
    assert host.clock - clocks[0] < 120


def test_a_clock_that_was_set_back_during_the_switch_is_told(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Met on a machine: the time before the switch is still to come, and its requests are none."""
    two = about_to_switch(host, stage)
    log(host, [entry(host.clock - 60 + second / 2) for second in range(119)], "hello.access.log.1")
    sleep = host.sleep

    def sleep_and_set(seconds: float) -> None:
        sleep(seconds)
        host.clock_was_set = -DAY

    monkeypatch.setattr(host, "sleep", sleep_and_set)
    assert call(host, "hello", "activate", two).rc == 0 and host.clock_was_set
    result = call(host, "hello", "bake", "--seconds", "60", "--json")
    assert result.rc == 0 and not result.json["judged"], result.json
    assert re.search(r"the clock of this host was set by -86[34]\d\d s", result.json["msg"]), result.json


def test_a_clock_that_was_set_back_after_the_switch_is_told(host: FakeHost, baked: Callable[..., Any]) -> None:
    def new(when: float) -> dict[str, Any]:
        host.clock_was_set = -DAY
        return entry(when - DAY, 500)

    result = baked(entry, new)
    assert result.rc == 0 and not result.json["judged"] and "was set by -86400 s" in result.json["msg"]


def test_a_clock_that_is_kept_right_by_seconds_is_no_reason(host: FakeHost, baked: Callable[..., Any]) -> None:
    def new(when: float) -> dict[str, Any]:
        host.clock_was_set = 1.5
        return entry(when)

    assert baked(entry, new).json["judged"]


def test_a_release_that_was_rolled_back_meanwhile_is_not_judged_by_anothers_traffic(
    host: FakeHost, baked: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sleep(seconds: float) -> None:
        host.clock += seconds
        if seconds > 4:  # the first look of the bake
            monkeypatch.undo()
            call(host, "hello", "rollback")

    monkeypatch.setattr(host, "sleep", sleep)
    result = baked(entry, entry)
    assert result.rc == 1 and "is no longer current" in result.json["msg"]


def test_without_an_activation_there_is_nothing_to_compare_with(host: FakeHost, stage: Stage) -> None:
    assert call(host, "hello", "bake", "--seconds", "60").rc == 1
    call(host, "hello", "activate", stage("v1"))
    assert call(host, "hello", "bake", "--seconds", "0").rc == 2
    began = host.clock
    assert call(host, "hello", "bake", "--seconds", "60", "--dry-run").rc == 0 and host.clock == began
    assert call(host, "hello", "bake", "--seconds", "60", "--json").json["judged"] is False


def test_status_tells_of_the_traffic_around_the_last_activation(host: FakeHost, stage: Stage) -> None:
    assert call(host, "hello", "status", "--traffic", "--json").json["traffic"] is None, "nothing was activated yet"
    call(host, "hello", "activate", stage("v1"))
    host.sleep(600)
    assert call(host, "hello", "activate", stage("v2")).rc == 0
    switched = float(int(host.clock))
    before = [entry(switched - 300), entry(switched - 301), entry(switched - 5)] + [entry(switched - 15, 500)] * 2
    log(host, [*before, entry(switched + 10), entry(switched + 11, upstream="-")])
    host.sleep(25)
    found = call(host, "hello", "status", "--traffic", "--json").json["traffic"]
    assert (found["switched"], found["start"], found["step"]) == (switched, switched - 300, 10)
    assert found["requests"] == [1, *[0] * 27, 2, 1, 0, 1] and found["errors"] == [*[0] * 28, 2, 0, 0, 0]
    assert "traffic" in call(host, "hello", "status", "--json").json
    assert call(host, "hello", "status", "--json").json["traffic"] is None, "only when asked"

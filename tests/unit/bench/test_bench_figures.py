"""What the bench makes of its measurements is what they say."""

from __future__ import annotations

import pytest

from bench import figures
from bench.figures import Sample, Trips

RECAP = """\
PLAY RECAP *********************************************************************
bench-fleet-01             : ok=15   changed=0    unreachable=0    failed=0    skipped=11   rescued=0    ignored=0
bench-fleet-02             : ok=15   changed=3    unreachable=0    failed=0    skipped=11   rescued=0    ignored=0
bench-fleet-03             : ok=1    changed=0    unreachable=0    failed=1    skipped=11   rescued=0    ignored=0
bench-fleet-04             : ok=0    changed=0    unreachable=1    failed=0    skipped=11   rescued=0    ignored=0
"""
VERBOSE = """\
PLAY [Release the app] *********
TASK [preflight | Refuse a source that is not there] ****
ok: [one]
TASK [Gather] ****
<10.0.0.1> SSH: EXEC ssh -C -o ControlMaster=auto 10.0.0.1 '/bin/sh -c true'
<10.0.0.2> SSH: EXEC ssh -C -o ControlMaster=auto 10.0.0.2 '/bin/sh -c true'
<10.0.0.1> (0, b'', b'')
<10.0.0.1> SSH: EXEC ssh -C -o ControlMaster=auto 10.0.0.1 '/bin/sh -c true'
<10.0.0.2> SSH: EXEC ssh -C -o ControlMaster=auto 10.0.0.2 '/bin/sh -c true'
TASK [Pack on the control node] ****
<localhost> EXEC /bin/sh -c true
TASK [Copy] ****
<10.0.0.1> SSH: EXEC sftp -b - 10.0.0.1
RUNNING HANDLER [Restart] ****
<10.0.0.1> SSH: EXEC ssh -C 10.0.0.1 '/bin/sh -c true'
"""


def taken(side: str, kind: str, *points: tuple[int, float]) -> list[Sample]:
    return [Sample(side, kind, hosts, seconds, seconds / 2) for hosts, seconds in points]


def test_the_fit_finds_the_line_that_the_points_are_on() -> None:
    line = figures.fit([(5, 13.0), (10, 23.0), (30, 63.0)])
    assert (line.fixed, line.slope, line.explained) == pytest.approx((3.0, 2.0, 1.0))
    assert line.at(1000) == pytest.approx(2003.0)


def test_the_fit_has_the_least_squares_and_says_how_well_it_fits() -> None:
    # by hand: means 2 and 3, slope (1*1 + 1*1)/2, residuals -1/3, 2/3, -1/3 of a variance of 2.667
    line = figures.fit([(1, 2.0), (2, 2.0), (3, 4.0)])
    assert (line.fixed, line.slope) == pytest.approx((0.6667, 1.0), abs=1e-3)
    assert line.explained == pytest.approx(0.75)


def test_points_that_grow_faster_than_the_hosts_are_no_line() -> None:
    assert figures.fit([(n, float(n * n)) for n in (5, 10, 20, 30)]).explained < 0.97


def test_the_recap_tells_who_changed_and_who_failed() -> None:
    assert figures.recap(RECAP) == {
        "bench-fleet-01": (0, True),
        "bench-fleet-02": (3, True),
        "bench-fleet-03": (0, False),
        "bench-fleet-04": (0, False),
    }


def test_a_round_trip_is_a_task_that_reached_a_host_however_many_processes_it_took() -> None:
    # one: Gather (2), Copy, Restart; two: Gather (2). The control node's own work is none.
    assert figures.trips(VERBOSE) == Trips(tasks=2.0, processes=3.0)


def test_output_without_a_round_trip_counts_none() -> None:
    assert figures.trips("TASK [Nothing] ***\nok: [one]\n") == Trips(0.0, 0.0)


def test_a_spread_shows_the_median_and_the_ends() -> None:
    assert figures.spread([3.0, 1.0, 2.0]) == "2.0 (1.0 to 3.0)"
    assert figures.spread([1.234], 2) == "1.23"


def test_a_ratio_is_of_two_runs_of_one_round() -> None:
    samples = [
        *taken("fleet", "no-op", (5, 1.0), (10, 8.0), (5, 3.0)),
        *taken("plain", "no-op", (5, 2.0), (10, 9.0), (5, 4.0)),
        *taken("plain", "release", (5, 99.0)),
    ]
    assert figures.ratios(samples, "no-op", 5) == [0.5, 0.75]


def test_an_older_role_takes_the_place_of_the_plain_playbook() -> None:
    samples = [*taken("fleet", "no-op", (5, 1.0)), *taken("6558cb6", "no-op", (5, 2.0))]
    head, _, row = figures.times_table(samples, ["no-op"]).splitlines()
    assert "| 6558cb6, s |" in head and row.startswith("| no-op | 5 | 1.0 | 2.0 | 0.50 |")


def test_the_tables_hold_what_was_measured() -> None:
    sizes = (5, 10, 20)
    samples = [
        *taken("fleet", "no-op", *((n, 1.0 + n) for n in sizes)),
        *taken("plain", "no-op", *((n, 4.0 * n) for n in sizes)),
        *taken("floor", "ssh true", *((n, 0.1 * n) for n in sizes)),
        *taken("fleet", "release", (5, 7.0)),
        *taken("plain", "release", (5, 14.0)),
    ]
    times = figures.times_table(samples, ["no-op", "release"]).splitlines()
    assert times[2:] == [
        "| no-op | 5 | 6.0 | 20.0 | 0.30 | 3.0 / 10.0 | 0.5 |",
        "| no-op | 10 | 11.0 | 40.0 | 0.28 | 5.5 / 20.0 | 1.0 |",
        "| no-op | 20 | 21.0 | 80.0 | 0.26 | 10.5 / 40.0 | 2.0 |",
        "| release | 5 | 7.0 | 14.0 | 0.50 | 3.5 / 7.0 | 0.5 |",
    ]
    # one size of release gives no line
    assert [row.split(" | ")[:3] for row in figures.lines_table(samples, ["no-op", "release"]).splitlines()[2:]] == [
        ["| no-op", "fleet", "1.0 + 1.00 N"],
        ["| no-op", "plain", "0.0 + 4.00 N"],
        ["| ssh true", "floor", "0.0 + 0.10 N"],
    ]
    assert "| no-op | fleet | 8.0 | 9.0 |" in figures.trips_table([("fleet", "no-op", Trips(8.0, 9.0))])

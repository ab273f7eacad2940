"""make test is green only when everything ran and everything passed."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
import yaml
from molecule.interpolation import Interpolator, TemplateWithDefaults

from tools import check, images, scenarios
from tools.check import Result, Stage, judged, selected, summary
from tools.environments import Environment
from tools.evidence import Counts
from tools.progress import Durations
from tools.run import ROOT, Problem


@pytest.fixture(autouse=True)
def durations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Durations:
    """Nothing is known of earlier runs."""
    known = Durations(tmp_path / "durations.json")
    monkeypatch.setattr(check, "DURATIONS", known)
    return known


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "log"
    path.write_text("Skipping, no tests found.\n")
    return path


@pytest.mark.parametrize(
    ("code", "counts", "problem"),
    [
        (0, Counts(3), ""),
        (0, Counts(3, 0, 1), ""),
        (1, Counts(3, 2), "2 failed"),
        (0, Counts(3, 2), "2 failed"),
        (1, Counts(3), "failed with exit code 1"),
        (2, Counts(), "did not get as far as its tests"),
        (0, Counts(), "no tests ran"),
        (0, Counts(0, 0, 4), "every test was skipped"),
    ],
)
def test_both_the_exit_code_and_the_report_must_be_good(log: Path, code: int, counts: Counts, problem: str) -> None:
    result = judged("default", code, counts, log)
    assert result.problem == problem
    assert bool(result.evidence) == bool(problem)


def test_the_last_line_counts_tests_and_stands_alone() -> None:
    assert summary([Result("unit", counts=Counts(40, 0)), Result("default", counts=Counts(2, 0))], 3)[-1] == (
        "42 passed, 0 failed"
    )


def test_a_stage_that_fails_without_a_failing_test_counts_as_one() -> None:
    results = [
        Result("lint", "ruff failed"),
        Result("unit", "2 failed", Counts(5, 2)),
        Result("default", "no tests ran", Counts()),
    ]
    lines = summary(results, 3)
    assert lines[-1] == "5 passed, 4 failed"
    assert [line.split()[:2] for line in lines[1:4]] == [["lint", "FAILED"], ["unit", "FAILED"], ["default", "FAILED"]]


def test_what_was_skipped_is_said_with_the_reason() -> None:
    lines = summary([Result("default", counts=Counts(1, 0, 2, ("2 x no memory controller",)))], 3)
    assert "skipped in default: 2 x no memory controller" in lines


def test_stages_are_chosen_by_name_and_a_wrong_name_is_refused() -> None:
    every = [Stage(name, group, lambda: Result("x")) for name, group in [("unit", "unit"), ("unit-newest", "unit")]]
    assert [stage.name for stage in selected(every, "unit")] == ["unit", "unit-newest"]
    assert len(selected(every, "")) == 2
    with pytest.raises(Problem, match="No such stage: untis. There are: unit."):
        selected(every, "untis")


def test_a_stage_that_cannot_run_is_a_failure_and_not_a_crash() -> None:
    def breaks() -> Result:
        raise Problem("docker went away", "the evidence")

    (result,) = check.run_group([Stage("demo", "demo", breaks)])
    assert result.problem == "docker went away"


def test_stages_of_one_group_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = Stage("unit", "unit", lambda: Result("?")), Stage("unit-newest", "unit", lambda: Result("?", "broke"))
    assert [result.stage for result in check.run_group([good, bad])] == ["unit", "unit-newest"]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "unit, unit-newest ... "
    assert lines[1].startswith("  unit: ") and lines[1].endswith("ok")
    assert lines[2].startswith("  unit-newest: ") and lines[2].endswith("broke")


def test_a_stage_says_how_long_it_took_last_time_when_that_went_well(
    durations: Durations, capsys: pytest.CaptureFixture[str]
) -> None:
    stage, other = Stage("unit", "unit", lambda: Result("?")), Stage("tls", "tls", lambda: Result("?", "broke"))
    assert check.expected([[stage], [other]]) == ""
    durations.keep("unit", 185)
    durations.keep("tls", 60)
    assert check.expected([[stage], [other]]) == "last time these took 4 min 05 s"
    assert check.expected([[stage, other]]) == "last time these took 3 min 05 s", "those of a lane run at once"
    check.run_group([stage])
    check.run_group([other])
    lines = capsys.readouterr().out.splitlines()
    assert re.match(r"unit \(3 min 05 s last time\) \.\.\. \d\.\d s, ok", lines[0])
    assert durations.known()["unit"] < 185 and durations.known()["tls"] == 60, "of a failure nothing is learnt"


def test_every_scenario_of_the_repository_is_a_stage() -> None:
    """But `vm`, which takes a machine of its own: `make vm`."""
    names = {path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml")}
    assert "vm" in names and names - {"vm"} == {scenario.name for scenario in scenarios.find()}


def test_no_two_scenarios_share_a_host() -> None:
    hosts: list[str] = []
    for path in (ROOT / "molecule").glob("*/molecule.yml"):
        hosts += [platform["name"] for platform in scenarios.platforms(path, {})]
    assert sorted(hosts) == sorted(set(hosts))


def kinds_of(scenario: scenarios.Scenario, kinds: list[str]) -> list[set[str]]:
    """On which kinds a scenario runs, in each of its runs; hosts that are there for the others to ask left out."""
    written = yaml.safe_load(scenario.path.read_text())["platforms"]
    return [
        {
            scenarios.image_of(platform)
            for platform, told in zip(scenarios.platforms(scenario.path, chosen), written, strict=True)
            if scenarios.CHOICE.search(told["name"])
        }
        for chosen in scenario.runs(kinds)
    ]


@pytest.mark.parametrize("scenario", scenarios.find(), ids=lambda scenario: str(scenario.name))
@pytest.mark.parametrize(
    "kinds", [["ubuntu2404"], ["ubuntu2204", "ubuntu2604", "debian13"], sorted(images.HOSTS)], ids=len
)
def test_every_scenario_runs_on_all_hosts_that_are_named_and_on_no_other(
    scenario: scenarios.Scenario, kinds: list[str]
) -> None:
    assert scenario.choices, "write the kind of a host as ${HOST_1:-debian13}"
    runs = kinds_of(scenario, kinds)
    assert set.union(*runs) == set(kinds)
    assert len(runs) == -(-len(kinds) // len(scenario.choices)), "as few runs as can be"
    assert set(kinds) <= set(scenario.images(kinds)) <= set(images.HOSTS)


@pytest.mark.parametrize("scenario", scenarios.find(), ids=lambda scenario: str(scenario.name))
def test_hosts_with_a_part_of_their_own_stay_apart_on_one_kind(scenario: scenarios.Scenario) -> None:
    alone = scenarios.platforms(scenario.path, dict.fromkeys(scenario.choices, "debian13"))
    for name in {platform["name"] for platform in alone}:
        assert len({str(platform.get("groups")) for platform in alone if platform["name"] == name}) == 1, name
    variables = scenarios.read(scenario.path, {}).get("provisioner", {}).get("inventory", {}).get("host_vars", {})
    assert variables.keys() <= {platform["name"] for platform in scenarios.platforms(scenario.path, {})}


def test_molecule_reads_the_choice_as_the_tools_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for scenario in scenarios.find():
        for chosen in ({}, *scenario.runs(["debian11", "testing"])):
            theirs = Interpolator(TemplateWithDefaults, {**os.environ, **chosen}).interpolate(scenario.path.read_text())
            assert yaml.safe_load(theirs)["platforms"] == scenarios.platforms(scenario.path, chosen)


def test_a_host_that_there_is_not_is_refused_with_those_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["check", "--hosts", "ubuntu2404, ubuntu2410", "--only", "tls"])
    with pytest.raises(Problem, match="No such test host: ubuntu2410. There are: debian11, .*ubuntu2604."):
        check.work()


def test_the_runs_of_a_scenario_are_one_result(monkeypatch: pytest.MonkeyPatch) -> None:
    environment = Environment(".venv", "python3.11", (3, 11))
    (four,) = [scenario for scenario in scenarios.find() if scenario.name == "default"]

    def one_run(environment: Environment, name: str, keep: bool, chosen: dict[str, str]) -> Result:
        kinds = list(chosen.values())
        bad = "testing" in kinds
        return Result("-".join(kinds), "1 failed" if bad else "", Counts(3, int(bad)), "why" if bad else "")

    monkeypatch.setattr(check, "scenario_run", one_run)
    kinds = ["debian11", "debian12", "debian13", "ubuntu2204", "testing"]
    result = check.scenario(environment, four, False, kinds)
    assert result.counts == Counts(6, 1) and result.evidence == "why"
    assert result.problem == "testing-testing-testing-testing: 1 failed"
    assert check.scenario(environment, four, True, kinds[:4]).problem == ""
    with pytest.raises(Problem, match="name at most 4 in HOSTS for default"):
        check.scenario(environment, four, True, kinds)


@pytest.mark.parametrize(
    ("platform", "image"),
    [
        ({"name": "debian12"}, "debian12"),
        ({"name": "two-apps-testing"}, "testing"),
        ({"name": "balancer", "image": "debian13"}, "debian13"),
    ],
)
def test_a_platforms_image_is_its_own_or_in_its_name(platform: dict[str, str], image: str) -> None:
    assert scenarios.image_of(platform) == image


def test_a_scenario_without_a_choice_runs_as_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "molecule.yml"
    path.write_text("platforms: [{name: a-debian12}]")
    alone = scenarios.Scenario("a", path)
    assert alone.runs(["debian13"]) == [{}] and alone.images(["debian13"]) == ("debian12",)


def test_a_scenario_without_hosts_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/molecule.yml").write_text("---\nplatforms: []\n")
    with pytest.raises(Problem, match="scenario empty names no platforms"):
        scenarios.find(tmp_path)


def test_what_waits_runs_beside_what_does_not() -> None:
    every = check.stages([Environment(".venv", "python3.11", (3, 11))], keep=False)
    groups = check.side_by_side(every)
    lanes = [[stage.name for stage in together] for together in groups]
    assert [check.at_once(together) for together in groups] == [3, 2, 2]
    assert [names for names in lanes if len(names) > 1] == [
        ["fleet", "lint", "sanity", "unit", "unit-flaskctl", "syntax"],
        ["default", "neighbours", "shapes", "faults", "compose", "demo"],
        ["release", "tls", "tutorial"],
    ]
    assert sorted(name for names in lanes for name in names) == sorted(stage.name for stage in every)
    assert {name for lane in check.LANES for name in lane} <= {stage.group for stage in every}
    assert [lane[0] for lane in check.LANES if set(lane) & set(check.TIMED)] == list(check.TIMED), "each in its own"


def test_beside_a_scenario_that_switches_hosts_off_none_is_started() -> None:
    every = check.stages([Environment(".venv", "python3.11", (3, 11))], keep=False)
    (beside,) = [lane for lane in check.LANES if "fleet" in lane]
    assert not [stage.name for stage in every if stage.group in beside and stage.images and stage.group != "fleet"]


def test_the_workflow_runs_every_stage_and_each_once() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text())
    matrix = workflow["jobs"]["test"]["strategy"]["matrix"]["only"]
    environment = Environment(".venv", "python3.11", (3, 11))
    systems = workflow["jobs"]["hosts"]["strategy"]["matrix"]
    assert systems["only"] == [scenario.name for scenario in scenarios.find()]
    # what is not yet released changes from day to day, and has its turn beside the others
    assert set(systems["hosts"]) == set(images.HOSTS) - {"testing"}
    assert matrix == list(dict.fromkeys(stage.group for stage in check.stages([environment], keep=False)))

"""Every check in one command, `make test`; `ONLY=lint,unit,default make test` runs some of them.

`HOSTS=ubuntu2404,debian12` runs the Molecule scenarios on those, in as many runs as it takes for all to have a turn.

Stages: lint, unit and syntax (on each ansible-core there is an environment for; flaskctl's own tests once), demo,
compose, and every Molecule scenario. A stage fails when it finds something, when it collects no test where it should,
and when it did not run at all. The last line counts tests; a stage that fails without a failing test counts as one.
"""

from __future__ import annotations

import argparse
import fcntl
import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tools import collection, compose, environments, hosts, images, programs, sanity, scenarios
from tools.environments import Environment, in_environment, program
from tools.evidence import Counts, read_junit, why_failed
from tools.lint import commands as lint_commands
from tools.progress import Line
from tools.run import CACHE, DURATIONS, LOGS, POLITE, ROOT, Problem, logged, main, seconds, short

JUNIT = CACHE / "junit"
# What runs at the same time, the longest first, and how many of it at once; all others run alone.
LANES = {
    # These two wait for their hosts half of their time, and hold answers to a time: what runs beside them goes behind
    # (POLITE). Nothing that starts hosts beside `fleet`: it switches some off, and the engine gives their addresses,
    # which its load balancer still asks, to who comes then.
    ("fleet", "lint", "unit", "syntax"): 3,
    ("release", "tls", "tutorial"): 2,
    # Three at once take no less: two keep both cores of a small machine busy.
    ("default", "neighbours", "shapes", "faults", "compose", "demo"): 2,
}
TIMED = ("fleet", "release")
FLASKCTL = "tests/unit/flaskctl"  # once: what it tests needs no Ansible
DEMO_HOST = "flaskfleet-demo-check"


@dataclass(frozen=True)
class Result:
    """How a stage ended. `problem` is empty when all is well; `counts` is None for a stage without tests."""

    stage: str
    problem: str = ""
    counts: Counts | None = None
    evidence: str = ""
    duration: float = 0.0


@dataclass(frozen=True)
class Stage:
    """One line of the report: `group` is what --only selects it by; those of one group run at the same time."""

    name: str
    group: str
    run: Callable[[], Result]
    images: tuple[str, ...] = ()


def core(environment: Environment) -> str:
    """What an environment stands for, for people: the ansible-core in it and its Python."""
    found = next(environment.home.glob("lib/python*/site-packages/ansible_core-*.dist-info"), None)
    version = found.name.removeprefix("ansible_core-").removesuffix(".dist-info") if found else "?"
    return f"ansible-core {version}, Python {environment.version[0]}.{environment.version[1]}"


def all_of(stage: str, commands: Sequence[tuple[str, Environment, list[str]]]) -> Result:
    """Run commands, two at a time, each with a log of its own; the stage fails with those that do."""

    def run(command: tuple[str, Environment, list[str]]) -> tuple[str, Path, int]:
        name, environment, argv = command
        log = LOGS / f"{stage}-{name}.log"
        return name, log, logged([*POLITE, *argv], log, in_environment(environment))

    with ThreadPoolExecutor(2) as pool:
        failed = [(name, log) for name, log, code in pool.map(run, commands) if code != 0]
    if not failed:
        return Result(stage)
    evidence = "\n\n".join(f"--- {short(log)}\n{log_end(log)}" for _, log in failed)
    return Result(stage, f"{', '.join(name for name, _ in failed)} failed", evidence=evidence)


def log_end(log: Path) -> str:
    """The end of a linter's log without its first line, the command."""
    return "\n".join(log.read_text(errors="replace").splitlines()[1:][-60:])


def lint(environments_: Sequence[Environment]) -> Result:
    """The linters."""
    collection.ensure()
    return all_of("lint", lint_commands(environments_))


def ansible_test(environments_: Sequence[Environment]) -> Result:
    """ansible-test sanity of each ansible-core, one after the other: they share a copy of the tree."""
    every = []
    for environment in environments_:
        code, counts, log = sanity.sanity(environment)
        every.append(counts)
        if code != 0:
            return Result("sanity", "ansible-test failed", counts, evidence=log_end(log))
    return Result("sanity", counts=sum(every, Counts()))


def unit(name: str, environment: Environment, which: Sequence[str]) -> Result:
    """Unit tests in one environment."""
    junit = fresh_junit(name)
    log = LOGS / f"{name}.log"
    argv = [*POLITE, program(environment, "python"), "-m", "pytest", *which, f"--junitxml={junit}"]
    code = logged(argv, log, in_environment(environment))
    return judged(name, code, read_junit(junit), log)


def syntax(environments_: Sequence[Environment]) -> Result:
    """Playbooks and the role's documentation, as each ansible-core reads them."""
    playbooks = ["site.yml", *(short(path) for path in sorted((ROOT / "playbooks").glob("*.yml")))]
    commands = []
    for e in environments_:
        where = e.suffix
        check = [program(e, "ansible-playbook"), "-i", "inventory/demo", "--syntax-check", *playbooks]
        document = [program(e, "ansible-doc"), "-t", "role", "-r", "roles", "flask_gunicorn_nginx"]
        commands += [(f"playbooks{where}", e, check), (f"role{where}", e, document)]
    return all_of("syntax", commands)


def demo(environment: Environment) -> Result:
    """`make demo` twice on a host and a port of its own: it ends with the addresses asked, then with nothing to do."""
    log = LOGS / "stage-demo.log"
    variables = in_environment(environment, DEMO_NAME=DEMO_HOST, DEMO_PORT=str(free_port()))
    argv = [program(environment, "python"), "-m", "tools.demo", "up"]
    hosts.remove(DEMO_HOST)
    try:
        for wanted in ("first release", "nothing changed"):
            code = logged(argv, log, variables)
            said = log.read_text(errors="replace")
            if code != 0 or wanted not in said:
                return Result(
                    "demo", f"make demo did not end with {wanted!r}", evidence="\n".join(said.splitlines()[1:])
                )
    finally:
        hosts.remove(DEMO_HOST)
    return Result("demo")


def containers(environment: Environment) -> Result:
    """The container way of files/compose: the tests on its two containers, which a browser visits too."""
    compose.prepare()
    junit = fresh_junit("compose")
    log = LOGS / "stage-compose.log"
    argv = [program(environment, "python"), "-m", "pytest", "tests/integration/compose", f"--junitxml={junit}"]
    code = logged(argv, log, in_environment(environment))
    return judged("compose", code, read_junit(junit), log)


def scenario(environment: Environment, one: scenarios.Scenario, keep: bool, kinds: Sequence[str]) -> Result:
    """One Molecule scenario on the kinds of hosts that are named, or on its own; a run for as many as it has hosts."""
    runs = one.runs(kinds)
    if keep and len(runs) > 1:
        raise Problem(f"KEEP=1 leaves the hosts of one run: name at most {len(one.choices)} in HOSTS for {one.name}.")
    results = [scenario_run(environment, one.name, keep, chosen) for chosen in runs]
    return Result(
        one.name,
        "; ".join(f"{result.stage}: {result.problem}" for result in results if result.problem),
        sum((result.counts for result in results if result.counts), Counts()),
        "\n\n".join(result.evidence for result in results if result.evidence),
    )


def scenario_run(environment: Environment, name: str, keep: bool, chosen: Mapping[str, str]) -> Result:
    """One Molecule scenario from nothing to nothing; the tests on its hosts are counted from their own report.

    Molecule's verifier is content with no tests at all, and a scenario can end early with success: the report is
    what says that hosts were really judged.
    """
    run = "-".join([name, *dict.fromkeys(chosen.values())])
    junit = fresh_junit(run)
    log = LOGS / f"scenario-{run}.log"
    variables = in_environment(
        environment,
        MOLECULE_GLOB="molecule/*/molecule.yml",
        # the flag reaches the verifier's pytest this way, whatever a scenario says about its verifier
        PYTEST_ADDOPTS=f"--junitxml={junit}",
        **chosen,
    )
    argv = [program(environment, "molecule"), "test", "--scenario-name", name, "--no-command-borders"]
    argv = argv if name in TIMED else [*POLITE, *argv]
    code = logged([*argv, "--destroy=never"] if keep else argv, log, variables)
    return judged(run, code, read_junit(junit), log)


def judged(name: str, code: int, counts: Counts, log: Path) -> Result:
    """The result of a run with tests, from its exit code and its report: both must say that all is well."""
    if counts.failed:
        problem = f"{counts.failed} failed"
    elif code != 0:
        problem = f"failed with exit code {code}" if counts.collected else "did not get as far as its tests"
    elif not counts.collected:
        problem = "no tests ran"
    elif not counts.passed:
        problem = "every test was skipped"
    else:
        return Result(name, counts=counts)
    return Result(name, problem, counts, f"{why_failed(log.read_text(errors='replace'))}\n(whole log: {short(log)})")


def fresh_junit(name: str) -> Path:
    """Where a run is to write its report; an old one is gone, so that it is not read as this one."""
    JUNIT.mkdir(parents=True, exist_ok=True)
    path = JUNIT / f"{name}.xml"
    path.unlink(missing_ok=True)
    return path


def free_port() -> int:
    """A port of this machine that nobody uses right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def stages(found: Sequence[Environment], keep: bool, kinds: Sequence[str] = ()) -> list[Stage]:
    """All stages, in the order in which they find mistakes soonest."""
    first = found[0]
    result = [Stage("lint", "lint", partial(lint, found)), Stage("sanity", "lint", partial(ansible_test, found))]
    runs = [(f"unit{each.suffix}", each, ["tests/unit", f"--ignore={FLASKCTL}"]) for each in found]
    for name, environment, which in [*runs, ("unit-flaskctl", first, [FLASKCTL])]:
        result.append(Stage(name, "unit", partial(unit, name, environment, which)))
    result.append(Stage("syntax", "syntax", partial(syntax, found)))
    result.append(Stage("demo", "demo", partial(demo, first), ("debian12",)))
    result.append(Stage("compose", "compose", partial(containers, first)))
    result += [
        Stage(each.name, each.name, partial(scenario, first, each, keep, kinds), each.images(kinds))
        for each in scenarios.find()
    ]
    return result


def lane_of(stage: Stage) -> tuple[str, ...]:
    """What may run at the same time as a stage, by name."""
    return next((lane for lane in LANES if stage.group in lane), (stage.group,))


def at_once(together: Sequence[Stage]) -> int:
    """How many of these stages of one lane run at the same time."""
    return min(len(together), LANES.get(lane_of(together[0]), 1))


def side_by_side(chosen: Sequence[Stage]) -> list[list[Stage]]:
    """The stages in their order, those together that run at the same time."""
    lanes = list(dict.fromkeys(lane_of(stage) for stage in chosen))
    return [
        sorted((stage for stage in chosen if lane_of(stage) == lane), key=lambda stage: lane.index(stage.group))
        for lane in lanes
    ]


def listed(names: str) -> list[str]:
    """Names with commas or blanks between, each once."""
    return list(dict.fromkeys(name for name in re.split(r"[,\s]+", names) if name))


def selected(every: Sequence[Stage], only: str) -> list[Stage]:
    """The stages of --only; when it is empty all. Raises Problem for a name that is none."""
    wanted = listed(only)
    known = list(dict.fromkeys(stage.group for stage in every))
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise Problem(f"No such stage: {', '.join(unknown)}. There are: {', '.join(known)}.")
    return [stage for stage in every if not wanted or stage.group in wanted]


def said(result: Result) -> str:
    """A result in a few words: its tests, and its problem where they do not say it."""
    counts = str(result.counts) if result.counts and result.counts.collected else ""
    problem = "" if result.counts and result.counts.failed else result.problem
    return ": ".join(part for part in (counts, problem) if part) or "ok"


def judge(stage: Stage) -> Result:
    """Run one stage and time it; what stops it is a failure of this stage and not the end of the run."""
    began = time.monotonic()
    try:
        result = stage.run()
    except Problem as problem:
        result = Result(stage.name, str(problem), evidence=problem.evidence)
    return replace(result, stage=stage.name, duration=time.monotonic() - began)


def run_group(together: Sequence[Stage]) -> list[Result]:
    """Run the stages of one lane, some at the same time, say each in one line, and show the evidence when it fails."""
    results: list[Result] = []
    running: dict[str, str] = {}
    names = [f"{stage.name}{DURATIONS.last(stage.name)}" for stage in together]
    line = Line(lambda took: f"{', '.join([*running.values()])} ... {seconds(took)}")
    alone = len(together) == 1
    if not line.in_place:
        print(f"{', '.join(names)} ... ", end="" if alone else "\n", flush=True)

    def run(stage: Stage, name: str) -> Result:
        running[stage.name] = name
        return judge(stage)

    with ThreadPoolExecutor(at_once(together)) as pool, line:
        for finished in as_completed([pool.submit(run, *each) for each in zip(together, names, strict=True)]):
            result = finished.result()
            del running[result.stage]
            name = f"{result.stage}: " if line.in_place else "" if alone else f"  {result.stage}: "
            line.say(f"{name}{seconds(result.duration)}, {said(result)}")
            if result.evidence:
                line.say(f"\n{result.evidence.rstrip()}\n")
            if not result.problem:
                DURATIONS.keep(result.stage, result.duration)
            results.append(result)
    order = [stage.name for stage in together]
    return sorted(results, key=lambda result: order.index(result.stage))


def expected(lanes: Sequence[Sequence[Stage]]) -> str:
    """How long all of it takes, by the last time of each stage; nothing where one is not known."""
    known = DURATIONS.known()
    if not all(stage.name in known for lane in lanes for stage in lane):
        return ""
    every = [([known[stage.name] for stage in lane], at_once(lane)) for lane in lanes]
    return f"last time these took {seconds(sum(max(max(took), sum(took) / slots) for took, slots in every))}"


def summary(results: Sequence[Result], duration: float) -> list[str]:
    """The closing table, and the line that counts."""
    width = max(len(result.stage) for result in results)
    lines = [f"{'stage':{width}}  {'result':6}  {'time':>12}  tests"]
    for r in results:
        detail = said(r).removeprefix("ok")
        lines.append(
            f"{r.stage:{width}}  {'FAILED' if r.problem else 'ok':6}  {seconds(r.duration):>12}  {detail}".rstrip()
        )
    for result in results:
        lines += [f"skipped in {result.stage}: {reason}" for reason in (result.counts.reasons if result.counts else ())]
    lines.append(f"all of it took {seconds(duration)}")
    passed = sum(result.counts.passed for result in results if result.counts)
    failed = sum(max(1, result.counts.failed if result.counts else 0) for result in results if result.problem)
    return [*lines, f"{passed} passed, {failed} failed"]


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Every check of this repository, or some of them.")
    parser.add_argument(
        "--only", default="", metavar="STAGE,...", help="lint, unit, syntax, demo, compose, or Molecule scenarios"
    )
    parser.add_argument(
        "--hosts", default="", metavar="HOST,...", help=f"run the scenarios on these: {', '.join(images.HOSTS)}"
    )
    parser.add_argument("--keep", action="store_true", help="leave a scenario's hosts running, to look at them")
    options = parser.parse_args()
    began = time.monotonic()
    found = environments.made()
    kinds = images.known(listed(options.hosts))
    chosen = selected(stages(found, options.keep, kinds), options.only)
    for environment in found:
        print(f"{core(environment)} in {environment.name}")
    if len(found) == 1:
        print(f"only one ansible-core: no other Python for {environments.NEWEST} or {environments.OLDEST} was found")
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "check.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another make test in this directory", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        needed = list(dict.fromkeys(name for stage in chosen for name in stage.images))
        if needed:
            images.ensure(needed)
        if any(stage.group == "unit" for stage in chosen):
            programs.ensure()
        lanes = side_by_side(chosen)
        if expected(lanes):
            print(expected(lanes), flush=True)
        results = [result for together in lanes for result in run_group(together)]
    print()
    print("\n".join(summary(results, time.monotonic() - began)), flush=True)
    return 1 if any(result.problem for result in results) else 0


if __name__ == "__main__":
    main(work)

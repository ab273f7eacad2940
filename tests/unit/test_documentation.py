"""What the documentation tells people to type is run by a test, and what it tells them to write the role takes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from typing import Any

import pytest
import yaml
from ansible.cli.playbook import PlaybookCLI
from ansible_collections.flaskfleet.web.plugins.filter.problems import problems
from ansible_collections.flaskfleet.web.plugins.plugin_utils.spec import names

from tests import documentation, tutorial
from tests.documentation import NOT_RUN, RUN, TARGETS, blocks, blocks_of, commands, expanded, variables
from tests.rendering import PREFIX, REPOSITORY, ROLE
from tests.unit.test_readme import FLEET
from tools import check
from tools.environments import Environment

DEFAULTS = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
LINES = list(dict.fromkeys(expanded(command) for command in commands()))

# Where a playbook is played on hosts.
PLAYED = "tests/integration/fleet/test_fleet.py"


def is_make(line: str) -> bool:
    return re.match(rf"{documentation.SET_FOR_IT}make\b", line) is not None


def is_playbook(line: str) -> bool:
    return line.startswith("ansible-playbook ")


def of_the_tutorial() -> set[str]:
    page = tutorial.blocks(REPOSITORY / "docs/tutorial.md")
    return {re.sub(r"\s+#\s.*", "", line).strip() for block in page for line in block.commands}


def run_by(line: str) -> list[str]:
    """Return who runs a command; nobody, or more than one, is a mistake of the tables above."""
    if line in of_the_tutorial():
        return ["tests/integration/tutorial/test_tutorial.py"]
    if line in FLEET:
        return ["tests/unit/test_readme.py"]
    if is_make(line) or is_playbook(line):
        return ["tests/unit/test_documentation.py"]
    return [who for pattern, who in (RUN | NOT_RUN).items() if re.fullmatch(pattern, line)]


def test_every_command_of_every_page_is_run_or_has_a_reason() -> None:
    found = {line: run_by(line) for line in LINES}
    assert {line: who for line, who in found.items() if len(who) != 1} == {}
    assert len(found) > 100
    unused = [pattern for pattern in RUN | NOT_RUN if not any(re.fullmatch(pattern, line) for line in LINES)]
    assert unused == []


@pytest.mark.parametrize("name", sorted(set(RUN.values())))
def test_the_tests_that_are_named_exist(name: str) -> None:
    assert (REPOSITORY / name).is_file()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("    frobnicate hello --now\n", "unknown"),
        ("    flaskctl hello status\n    frobnicate hello --now\n", "unknown"),
        ("    flaskctl hello status   # what serves\n", "commands"),
        ("    A=1 make test\n", "commands"),
        ("    flask_gunicorn_nginx_limits: {requests: 5}\n", "yaml"),
        ("    [defaults]\n    inventory = inventory\n", "ini"),
        ("```sh\nfrobnicate\n```\n", "commands"),
        ("- in a list:\n\n  ```sh\n  make test \\\n    KEEP=1\n  ```\n", "commands"),
        ("```\nmake test\n```\n", "unknown"),
        ("```console\n$ make test\n```\n", "unknown"),
        ("    $ make test\n", "unknown"),
    ],
)
def test_a_block_is_what_it_looks_like_and_a_program_that_nobody_knows_is_found(text: str, kind: str) -> None:
    assert [block.kind for block in blocks_of("docs/page.md", text)] == [kind]


def test_a_command_goes_on_behind_a_backslash() -> None:
    (block,) = blocks_of("docs/page.md", "  ```sh\n  make test \\\n    KEEP=1  # they stay\n  ```\n")
    assert block.commands == ["make test KEEP=1"]


def test_a_command_that_nobody_runs_is_found() -> None:
    assert run_by("systemctl restart postgresql") == run_by("frobnicate hello --now") == []


def test_no_block_is_of_an_unknown_kind() -> None:
    assert [block for block in blocks() if block.kind == "unknown"] == []


def asked_of_make(line: str) -> str:
    """Return the program that make would run for a line, as typed, also where this itself runs under make."""
    outer = ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS", "MAKELEVEL", "ONLY", "HOSTS", "KEEP")
    typed = {name: value for name, value in os.environ.items() if name not in outer}
    done = subprocess.run(
        ["sh", "-c", f"{line} --dry-run"], cwd=REPOSITORY, env=typed, capture_output=True, text=True, check=True
    )
    return done.stdout.strip().rpartition(" -m ")[2].splitlines()[-1].strip()


MAKES = [line for line in LINES if is_make(line)]


@pytest.mark.parametrize("line", MAKES)
def test_make_takes_each_line_as_it_is_typed(line: str) -> None:
    program = asked_of_make(line)
    if line in ("make help", "make lint"):
        assert program.startswith("echo") or program == "tools.check --only lint"
        return
    (target,) = [known for known in TARGETS if f"{program} ".startswith(f"{known} ")]
    stages = check.stages([Environment(".venv", "python3", (3, 11))], keep=False)
    words = shlex.split(program.removeprefix(target))
    if target == "tools.check":
        only = words[words.index("--only") + 1] if "--only" in words else ""
        assert check.selected(stages, only)
    elif words and target != "tools.audit":
        argv = [sys.executable, "-m", target, "--help"]
        # as the Makefile has it for what imports the plugins
        found = {**os.environ, "PYTHONPATH": "collections"}
        shown = subprocess.run(argv, cwd=REPOSITORY, env=found, capture_output=True, text=True, check=True).stdout
        assert [word for word in words if word.startswith("-") and word not in shown] == []


def test_a_stage_that_is_named_is_one() -> None:
    groups = {stage.group for stage in check.stages([Environment(".venv", "python3", (3, 11))], keep=False)}
    assert {"demo", "compose", "unit"} == set(TARGETS.values()) & groups


PLAYBOOKS = [line for line in LINES if is_playbook(line)]


def known_to(playbook: str) -> set[str]:
    """Return the variables that may be given: the role's, and those that the playbook itself asks for."""
    return set(names()) | set(re.findall(r"{{ (\w+)\b", (REPOSITORY / playbook).read_text()))


@pytest.mark.parametrize("line", PLAYBOOKS)
def test_a_playbook_is_called_with_what_it_knows(line: str) -> None:
    """Whole runs of them are those of the scenarios; here the line itself: options, inventory, playbook, variables."""
    cli = PlaybookCLI(["ansible-playbook"])
    cli.init_parser()
    options = cli.parser.parse_args(shlex.split(line.partition(";")[0])[1:])
    (name,) = options.args
    playbook = re.sub(r"^flaskfleet\.web\.(\w+)$", r"playbooks/\1.yml", name)
    assert (REPOSITORY / playbook).is_file()
    assert playbook in (REPOSITORY / PLAYED).read_text() or playbook in ("site.yml", "playbooks/deploy.yml")
    made = {"inventory/shop"} & {
        words.split()[-1] for words in LINES if words.startswith("cp -r inventory/production ")
    }
    for inventory in options.inventory or []:
        assert (REPOSITORY / inventory).is_dir() or inventory in made
    given: dict[str, Any] = {}
    for text in options.extra_vars:
        given |= yaml.safe_load(text) if text.startswith("{") else dict([text.split("=", 1)])
    assert set(given) <= known_to(playbook)
    assert refusals({key: value for key, value in given.items() if key.startswith(PREFIX)}) == []


def test_each_variable_that_a_text_gives_by_the_way_is_known() -> None:
    known = set().union(*(known_to(f"playbooks/{path.name}") for path in (REPOSITORY / "playbooks").glob("*.yml")))
    given = {name for page in documentation.PAGES for name in re.findall(r"-e (\w+)=", page.read_text())}
    assert given and given <= known


def refusals(values: dict[str, Any]) -> list[str]:
    """Return what the role would refuse of variables beside the few that every app has."""
    app = {"name": "hello", "source": "/home/me/app", "server_names": ["www.example.com"]}
    found: list[str] = problems({**DEFAULTS, **{f"{PREFIX}{name}": value for name, value in app.items()}, **values})
    return found


VARIABLES = list(variables())


@pytest.mark.parametrize(("page", "values"), VARIABLES, ids=[f"{page}-{min(values)}" for page, values in VARIABLES])
def test_variables_of_every_page_are_those_that_the_role_takes(page: str, values: dict[str, Any]) -> None:
    assert set(values) <= set(names()) and refusals(values) == []


def test_a_wrong_variable_of_a_page_would_be_found() -> None:
    page = "    flask_gunicorn_nginx_limits: {request: 5}\n"
    (block,) = blocks_of("docs/page.md", page)
    (values,) = documentation.of_role(yaml.safe_load(block.text))
    assert "flask_gunicorn_nginx_limits" in refusals(values)[0]


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("docker compose ")])
def test_a_line_of_compose_names_services_that_there_are(line: str) -> None:
    services = yaml.safe_load((REPOSITORY / "files/compose/compose.yaml").read_text())["services"]
    words = line.split()[2:]
    assert words[:2] == ["-f", "files/compose/compose.yaml"]
    assert words[2] in ("up", "restart", "logs")
    assert {word for word in words[3:] if not word.startswith("-")} <= set(services)

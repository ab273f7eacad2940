"""The role's promise to its users: what may be set, what it is worth unset, and where that is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from ansible_collections.flaskfleet.web.plugins.action.flaskctl import TAKES
from ansible_collections.flaskfleet.web.plugins.plugin_utils.fleet import FACTS
from ansible_collections.flaskfleet.web.plugins.plugin_utils.plan import turn
from ansible_collections.flaskfleet.web.plugins.plugin_utils.refusals.rules import problems

from tests.rendering import PREFIX, ROLE, SCENARIOS, evaluate, prefixed, render
from tests.unit.flaskctl.fake_host import flaskctl

DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults" / "main.yml").read_text())
SPECS: dict[str, Any] = yaml.safe_load((ROLE / "meta" / "argument_specs.yml").read_text())["argument_specs"]
OPTIONS: dict[str, dict[str, Any]] = SPECS["main"]["options"]
# Neither has a sane default: the name is required, the source is needed only to release.
WITHOUT_DEFAULT = {f"{PREFIX}name", f"{PREFIX}source"}

PYTHON_TYPES = {"str": str, "path": str, "int": int, "bool": bool, "list": list, "dict": dict, "raw": str}


def used_in_role() -> str:
    parts = ("tasks", "templates", "vars", "handlers")
    return "\n".join(path.read_text() for part in parts for path in (ROLE / part).rglob("*") if path.is_file())


def made_in(text: str) -> set[str]:
    """The internal names that are given a value."""
    return set(re.findall(rf"(?:^\s*|register: |loop_var: |index_var: )(__{PREFIX}\w+)(?::|$)", text, re.M))


def test_what_can_be_set_is_what_has_a_default_and_two_more() -> None:
    assert set(OPTIONS) == set(DEFAULTS) | WITHOUT_DEFAULT
    assert not set(DEFAULTS) & WITHOUT_DEFAULT


def test_only_the_name_is_required() -> None:
    assert [name for name, option in OPTIONS.items() if option.get("required")] == [f"{PREFIX}name"]


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_the_documented_default_is_the_real_one(name: str) -> None:
    documented = OPTIONS[name]["default"]
    assert (documented, type(documented)) == (DEFAULTS[name], type(DEFAULTS[name]))


@pytest.mark.parametrize("name", sorted(DEFAULTS))
def test_a_default_has_the_type_it_is_documented_with(name: str) -> None:
    assert type(DEFAULTS[name]) is PYTHON_TYPES[OPTIONS[name]["type"]]


def texts_in(data: Any) -> Iterator[str]:
    """Yield each text of a specification."""
    if isinstance(data, str):
        yield data
    for item in data.values() if isinstance(data, dict) else data if isinstance(data, list) else ():
        yield from texts_in(item)


def test_ansible_doc_prints_each_mark_whole() -> None:
    """C() ends at the first parenthesis, whatever was opened in it; V() and O() know an escaped one."""
    for text in texts_in(SPECS):
        for kind, whole in re.findall(r"\b([A-Z])\(((?:[^)\\]|\\.)*)\)", text):
            whole = whole.replace("\\", "") if kind in "VOER" else whole
            assert whole.count("(") == whole.count(")"), text


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_every_variable_says_what_it_is_for(name: str) -> None:
    text = OPTIONS[name]["description"]
    said = text if isinstance(text, str) else " ".join(text)
    assert len(said.split()) >= 5 and said.rstrip().endswith((".", "))")), said


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_a_list_says_what_it_is_a_list_of(name: str) -> None:
    assert ("elements" in OPTIONS[name]) == (OPTIONS[name]["type"] == "list")


def test_there_are_few_variables() -> None:
    """An option of a dictionary that is there is better than one more."""
    assert len(OPTIONS) <= 44


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_no_variable_is_without_effect(name: str) -> None:
    assert re.search(rf"(?<!_){name}\b", used_in_role())


def test_the_role_reads_no_variable_that_is_not_documented() -> None:
    read = set(re.findall(rf"(?<![_\w]){PREFIX}\w+", used_in_role()))
    # a mention in a message or comment ends the word where the name ends; the preflight's pattern is the bare prefix
    documented = {name for spec in SPECS.values() for name in spec["options"]}
    assert read - {PREFIX} <= documented, read - documented


def test_every_internal_name_that_is_read_is_made_somewhere() -> None:
    text = used_in_role()
    read = set(re.findall(rf"\b__{PREFIX}\w+", text))
    made = made_in(text)
    assert read <= made, read - made


def test_every_internal_name_that_is_made_is_read() -> None:
    text = used_in_role()
    unread = {name for name in made_in(text) if len(re.findall(rf"\b{name}\b", text)) < 2}
    assert not unread


def test_a_reader_has_fewer_than_forty_internal_names_to_learn() -> None:
    assert len(set(re.findall(rf"\b__{PREFIX}\w+", used_in_role()))) < 40


def tasks_of_role() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each task of the role, those in blocks too, with the file it stands in."""

    def inside(file: str, tasks: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
        for task in tasks:
            yield file, task
            for part in ("block", "rescue", "always"):
                yield from inside(file, task.get(part, []))

    for path in sorted((ROLE / "tasks").glob("*.yml")):
        yield from inside(path.name, yaml.safe_load(path.read_text()))


def test_tasks_keep_what_python_decided_and_decide_nothing() -> None:
    """What set_fact keeps: the plan, that nothing is known yet, and what a rescue saw."""
    name = "ansible.builtin.set_fact"
    kept = [(file, task[name]) for file, task in tasks_of_role() if name in task]
    plans = [(file, facts) for file, facts in kept if f"__{PREFIX}plan" in facts]
    assert plans == [("plan.yml", {f"__{PREFIX}plan": f"{{{{ __{PREFIX}make_plan }}}}"})]
    forgotten = [facts for file, facts in kept if file == "rollout.yml"]
    # all that a turn registers: another app of the same play may have left it
    turns = {"proxy.yml", "switch.yml", "revert.yml"}
    known = {task["register"] for file, task in tasks_of_role() if file in turns and "register" in task}
    assert forgotten == [dict.fromkeys(known, {})]
    assert sorted(file for file, _facts in kept) == ["failed.yml", "plan.yml", "revert.yml", "rollout.yml"]


def test_whoever_moves_traffic_says_that_the_lock_is_its_own() -> None:
    """A rollback asked where it would go without, and warned of the rollout that it was itself."""
    moves = {name for name, takes in TAKES.items() if "holder" in takes} - {"unlock"}
    every = [(file, task.get("flaskfleet.web.flaskctl", {})) for file, task in tasks_of_role()]
    asked = [(file, task) for file, task in every if task.get("command") in moves]
    assert len(asked) >= 7
    assert [(file, task["command"]) for file, task in asked if "holder" not in task] == []


def test_an_app_is_removed_only_where_its_state_says_so() -> None:
    """The end of the role before it is no guard: `--start-at-task` begins after it."""
    name, gone = "ansible.builtin.include_tasks", f'{PREFIX}state != "present"'
    assert [(file, task["when"]) for file, task in tasks_of_role() if task.get(name) == "remove.yml"] == [
        ("main.yml", gone)
    ]


def test_a_rollout_asks_nothing_but_its_plan() -> None:
    """In the files that carry a rollout out, a condition is a word of the plan, and no more."""
    names = ("rollout", "moves", "batch", "switch", "migrate", "bake", "revert", "unlock", "report")
    files = {f"{name}.yml" for name in names}
    words = rf"(not )?__{PREFIX}(mine|plan)(\.\w+)+( \| length > 0)?"
    turns, report = f"inventory_hostname in __{PREFIX}batch", f"__{PREFIX}rollout.report | length > 0"
    whens = [task["when"] for file, task in tasks_of_role() if file in files and "when" in task]
    found = [word for when in whens for word in (when if isinstance(when, list) else [when])]
    assert found and [word for word in found if not re.fullmatch(words, word)] == [turns, report]


def test_a_release_and_a_rollback_go_through_one_task() -> None:
    switches = [
        (file, task["flaskfleet.web.flaskctl"]["command"])
        for file, task in tasks_of_role()
        if task.get("register") == f"__{PREFIX}switched"
    ]
    assert switches == [("switch.yml", f"{{{{ __{PREFIX}mine.do }}}}")]
    assert [task for _file, task in tasks_of_role() if "activate" in str(task.get("flaskfleet.web.flaskctl"))] == []


def test_each_step_of_a_plan_is_a_hook_or_a_file_of_the_role() -> None:
    hooks = OPTIONS[f"{PREFIX}hooks"]["options"]
    first: dict[str, dict[str, Any]] = dict.fromkeys(FACTS, {}) | {
        "staged": {
            **{"id": "1", "staged": True, "certificate": "due", "current": "0"},
            "socket": {"former": ["hello.socket"]},
        }
    }
    everything = turn(first, "activate", canary=True, check=False, migrates=True)
    files = evaluate(f"__{PREFIX}steps", {"hooks": {name: f"/{name}.yml" for name in hooks}})
    assert {*everything["before"], *everything["after"]} == set(files)
    assert all((ROLE / "tasks" / file).is_file() for name, file in files.items() if name not in hooks)
    assert set(evaluate(f"__{PREFIX}steps")) == set(files) - set(hooks)


def test_the_plan_is_told_each_fact_by_the_name_that_tasks_give_it() -> None:
    facts = evaluate(f"__{PREFIX}facts")
    assert set(facts) == set(FACTS)
    assert set(facts.values()) <= made_in(used_in_role())


def test_a_default_asks_nothing_of_the_host() -> None:
    """Argument validation templates every default before any fact is there."""
    assert "ansible_" not in (ROLE / "defaults" / "main.yml").read_text()
    assert "{{" not in (ROLE / "defaults" / "main.yml").read_text()


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_scenarios_of_these_tests_are_what_the_role_accepts(scenario: str) -> None:
    values = {**prefixed(SCENARIOS[scenario]), f"{PREFIX}source": "/tmp"}
    assert problems(values) == []


def test_flaskctl_learns_where_to_ask_through_nginx() -> None:
    values = {"server_names": ["*.example.com"], "url_prefix": "/api", "health_path": "/healthz", "listen": "8080"}
    app = evaluate("__flask_gunicorn_nginx_app", values)
    asked = {"scheme": "http", "port": 8080, "host": "www.example.com", "path": "/api/healthz"}
    assert app["verify"] == {**asked, "public": ""}
    behind = evaluate("__flask_gunicorn_nginx_app", {**values, "public_url": "https://a.example.com:8443"})
    assert behind["verify"] == {**asked, "host": "a.example.com:8443", "public": "https"}


def test_numbers_given_as_text_reach_flaskctl_as_numbers() -> None:
    """-e gives text, and the argument specification checks types without converting."""
    app = evaluate("__flask_gunicorn_nginx_app", {"port": "5007", "keep_releases": "3"})
    assert (app["port"], app["keep_releases"]) == (5007, 3)


def test_the_release_carries_what_flaskctl_stages() -> None:
    release = evaluate("__flask_gunicorn_nginx_release", {"env": {"A": "1"}, "credentials": {"B": "2"}})
    assert set(release) == set(flaskctl.Config._fields)
    assert (release["environment"], release["processes"]) == ({"A": "1"}, {})
    assert "Sockets=hello.socket" in release["service"]
    assert "gunicorn==" in release["server_requirements"] and "--hash=sha256:" in release["server_requirements"]
    compile(release["gunicorn_conf"], "gunicorn.conf.py", "exec")


def test_a_number_in_the_environment_reaches_the_release_as_text() -> None:
    """flaskctl takes texts only: a number has more than one spelling."""
    release = evaluate("__flask_gunicorn_nginx_release", {"env": {"A": 1, "B": 1.5}, "credentials": {"C": 2}})
    assert (release["environment"], release["credentials"]) == ({"A": "1", "B": "1.5"}, {"C": "2"})


def test_what_the_host_is_does_not_change_the_release() -> None:
    """Else a first run (host unknown) and a second would make two releases of one input."""
    newer = {"nginx": "1.30.0", "openssl": "3.5.4", "ipv6": False}
    assert evaluate("__flask_gunicorn_nginx_release") == evaluate("__flask_gunicorn_nginx_release", host=newer)


def test_a_dictionary_that_says_less_keeps_the_rest_of_the_role() -> None:
    values = {"pip": {"ca_bundle": "/ca.pem"}, "static": {"url": "/files/"}}
    release = evaluate("__flask_gunicorn_nginx_release", values)
    assert (release["index_url"], release["ca_bundle"], release["static_dir"]) == ("", "/ca.pem", "static")
    assert evaluate("__flask_gunicorn_nginx_url.static", values) == "/files/"
    assert evaluate("__flask_gunicorn_nginx_url.static", {"static": {"dir": "public"}}) == "/static/"


def test_the_app_s_packages_are_asked_for_with_those_of_the_role() -> None:
    assert evaluate("__flask_gunicorn_nginx_needs.packages") == ["nginx", "python3", "python3-venv"]
    assert evaluate("__flask_gunicorn_nginx_needs.packages", {"packages": ["ffmpeg"]})[2:] == ["python3-venv", "ffmpeg"]


def test_a_static_directory_is_asked_for_where_somebody_named_it() -> None:
    for static, asked in (({}, False), ({"url": "/files/"}, False), ({"dir": "static"}, True), ({"dir": ""}, True)):
        assert evaluate("__flask_gunicorn_nginx_release", {"static": static})["static_asked"] is asked


def test_the_flaskctl_settings_hold_no_secret() -> None:
    app = evaluate("__flask_gunicorn_nginx_app", {"env": {"A": "canary"}, "credentials": {"B": "canary"}})
    assert "canary" not in str(app)


@pytest.mark.parametrize("in_routes", [False, True])
@pytest.mark.parametrize("prefix", ["", "/api"])
@pytest.mark.parametrize("ready", [None, "/ready", "/readyz", "/api/ready"])
@pytest.mark.parametrize("health", ["/", "/ready", "/readyz", "/api/ready", "/api/readyz"])
def test_a_health_path_is_refused_exactly_where_nginx_would_have_a_location_twice(
    health: str, ready: str | None, prefix: str, in_routes: bool
) -> None:
    values = {
        "default_server": True,
        "health_path": health,
        "url_prefix": prefix,
        "url_prefix_in_routes": in_routes and bool(prefix),
        "rollout": {} if ready is None else {"ready_path": ready},
    }
    found = problems({**prefixed(values), f"{PREFIX}source": "/tmp"})
    locations = re.findall(r"location (= \S+)", render("app.nginx.conf", values))
    assert bool(found) == (len(locations) > len(set(locations))), (found, locations)

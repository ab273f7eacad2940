"""docs/metrics.md: each recipe is run on lines as nginx, flaskctl and the journal write them; dashboard and rules ask
for figures that there are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rendering import render
from tests.unit.flaskctl.fake_host import flaskctl
from tools import programs

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "metrics.md").read_text()
DASHBOARD, RULES = DOCS / "metrics/grafana.json", DOCS / "metrics/alerts.yml"
FIGURE = re.compile(r"\bflaskfleet_\w+")
OLD, NEW = "0a1b2c3d4e5f", "1a2b3c4d5e6f"
USUAL = {
    **{
        "time_iso8601": "2026-11-27T03:00:01+00:00",
        "remote_addr": "192.0.2.7",
        "request_id": "f" * 32,
        "host": "a.test",
    },
    **{"request_method": "GET", "request_uri": "/cart?id=5", "status": "200", "body_bytes_sent": "12"},
    **{"request_time": "0.021", "upstream_status": "200", "upstream_response_time": "0.018"},
    **{"upstream_http_x_release": OLD, "http_referer": "", "http_user_agent": "curl \\u0022x\\u0022"},
}


def line(**changes: str) -> str:
    """Return a line of the log, made of the log_format that the site has."""
    (form,) = re.findall(r"log_format \w+ escape=json\n((?:\s+'.*'\n?)+)", render("app.nginx.conf").replace("';", "'"))
    text = "".join(re.findall(r"'(.*)'", form))
    return re.sub(r"\$(\w+)", lambda found: {**USUAL, **changes}[found[1]], text)


FAILED = {"status": "500", "upstream_status": "500", "request_time": "1.234", "upstream_http_x_release": NEW}
ACCESS = [
    *[line()] * 3,
    line(request_uri="/static/a.css", upstream_status="", upstream_response_time="", upstream_http_x_release=""),
    line(**FAILED, time_iso8601="2026-11-27T03:12:08+00:00"),
    line(**FAILED, time_iso8601="2026-11-27T03:12:09+00:00"),
    line(**{**FAILED, "upstream_http_x_release": ""}, time_iso8601="2026-11-27T03:13:00+00:00", request_uri="/"),
    line(status="503", upstream_status="", upstream_http_x_release="", time_iso8601="2026-11-27T03:14:00+00:00"),
]
MOVES: list[dict[str, Any]] = [
    {"when": "2026-11-27T02:00:00Z", "event": "stage", "release": NEW, "by": "ada"},
    {"when": "2026-11-27T03:10:00Z", "event": "activate", "release": NEW, "by": "ada", "revision": "v2", "was": OLD},
]
JOURNAL = [
    {"_SYSTEMD_UNIT": f"hello@{NEW}.service", "MESSAGE": "Traceback (most recent call last):"},
    *[{"_SYSTEMD_UNIT": f"hello@{NEW}.service", "MESSAGE": "sqlalchemy.exc.OperationalError: no such table"}] * 2,
    {"_SYSTEMD_UNIT": f"hello@{OLD}.service", "MESSAGE": [1, 2, 255]},  # what is no text is a list of bytes
]


def section(heading: str) -> list[str]:
    """Return the commands below a heading."""
    (text,) = re.findall(rf"(?ms)^### {heading}$(.*?)(?=^#|\Z)", PAGE)
    return re.findall(r"(?m)^    (\S.*)$", text)


RECIPES = [command for heading in re.findall(r"(?m)^### (.*)$", PAGE) for command in section(heading)]
SAYS: dict[str, list[list[str]]] = {
    "What is failing": [
        ["2 500 GET /cart", "1 503 GET /cart", "1 500 GET /"],
        [f"2 {NEW} sqlalchemy.exc.OperationalError: no such table"],
    ],
    "Since when": [["2 2026-11-27T03:12", "1 2026-11-27T03:13", "1 2026-11-27T03:14"]],
    "Which release": [
        [f"3 {OLD} answered", f"2 {NEW} failed", "1 none failed"],
        [f"2026-11-27T03:10:00Z activate {NEW} v2 ada"],
    ],
    "Who is slow": [
        ["2 GET /cart", "1 GET /"],
        [f"1.234 0.018 500 GET {uri} 192.0.2.7 {'f' * 32}" for uri in ("/cart?id=5", "/cart?id=5", "/")]
        + [f"0.021 0.018 200 GET /cart?id=5 192.0.2.7 {'f' * 32}"] * 3,
    ],
    "What did the deploy change": [
        [
            f"{OLD} 2026-11-27T03:00:01+00:00 3 0 0.021",
            f"{NEW} 2026-11-27T03:12:08+00:00 2 2 1.234",
            "none 2026-11-27T03:13:00+00:00 1 1 1.234",
        ]
    ],
}


@pytest.fixture
def logs(tmp_path: Path) -> dict[str, Path]:
    """By what stands in a recipe, what is read in place of it."""
    texts = {
        "/var/log/nginx/hello.access.log": ACCESS,
        "/var/log/flaskctl/hello.jsonl": [json.dumps(entry) for entry in MOVES],
        "journalctl": [json.dumps(entry) for entry in JOURNAL],
    }
    found = {}
    for name, lines in texts.items():
        found[name] = tmp_path / name.rpartition("/")[2]
        found[name].write_text("".join(f"{each}\n" for each in lines))
    return found


@pytest.mark.skipif(not shutil.which("jq"), reason="jq is not here: make test, run by root, installs it")
@pytest.mark.parametrize(("heading", "number"), [(name, n) for name, said in SAYS.items() for n in range(len(said))])
def test_a_recipe_answers_its_question(heading: str, number: int, logs: dict[str, Path]) -> None:
    command = section(heading)[number]
    command = re.sub(r"^journalctl -o json [^|]*", f"cat {logs['journalctl']} ", command)
    for name in ("/var/log/nginx/hello.access.log", "/var/log/flaskctl/hello.jsonl"):
        command = command.replace(name, str(logs[name]))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stderr == ""
    said = [" ".join(each.split()) for each in done.stdout.splitlines()]
    wanted = SAYS[heading][number]
    # of lines that are equally many the order says nothing
    assert (sorted(said) if " sort" in command else said) == (sorted(wanted) if " sort" in command else wanted)


ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}


def test_each_recipe_has_its_answer_here_and_reads_a_log_that_there_is() -> None:
    assert {name: len(section(name)) for name in SAYS} == {name: len(said) for name, said in SAYS.items()}
    assert len(RECIPES) == sum(len(said) for said in SAYS.values()) == 8
    layout = flaskctl.Layout(Path, "hello")
    named = set(re.findall(r"/var/log/\S+", " ".join(RECIPES)))
    assert named == {str(layout.access_logs[0]), str(layout.audit_file)}


def test_the_page_names_each_field_of_the_log_and_each_figure() -> None:
    fields = set(json.loads(line()))
    table = PAGE[PAGE.index("| field |") : PAGE.index("`/var/log/flaskctl/hello.jsonl` has")]
    assert set(re.findall(r"`([a-z_]+)`", table)) - {"hello"} == fields
    figures = PAGE[PAGE.index("| `flaskfleet_...` |") : PAGE.index("## Prometheus")]
    told = {
        name
        for row in figures.splitlines()[2:]
        for name in re.findall(r"`(\w+)`", row.split("|")[1:2][0] if "|" in row else "")
    }
    assert told == set(flaskctl.METRICS)


def known(text: str) -> set[str]:
    """Return the figures in a text; that there is none that nobody tells is checked."""
    found = {name.removeprefix(flaskctl.PREFIX) for name in FIGURE.findall(text)}
    assert found and not found - set(flaskctl.METRICS), found - set(flaskctl.METRICS)
    return found


def expressions(board: Any) -> list[str]:
    targets = [target["expr"] for panel in board["panels"] for target in panel.get("targets", [])]
    return [*targets, *(each["expr"] for each in board["annotations"]["list"])]


def test_the_dashboard_asks_for_every_figure_and_for_none_that_is_not_there() -> None:
    board = json.loads(DASHBOARD.read_text())
    assert known("\n".join(expressions(board))) == set(flaskctl.METRICS)
    known(json.dumps(board["templating"]))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids)) and all(panel["title"] for panel in board["panels"])
    for panel in board["panels"]:  # within the 24 columns, and none over another
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
    taken = [
        (x, y)
        for each in (panel["gridPos"] for panel in board["panels"])
        for x in range(each["x"], each["x"] + each["w"])
        for y in range(each["y"], each["y"] + each["h"])
    ]
    assert len(taken) == len(set(taken))


def test_counters_are_asked_for_how_they_grow() -> None:
    every = expressions(json.loads(DASHBOARD.read_text())) + [rule["expr"] for rule in rules()]
    for expression in every:
        for name in re.findall(r"flaskfleet_\w+_total", expression):
            assert re.search(rf"(rate|increase)\({name}(\{{[^}}]*\}})?\[", expression), expression


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def test_an_alert_says_what_it_is_and_what_to_type() -> None:
    for rule in rules():
        known(rule["expr"])
        assert rule["labels"]["severity"] in ("critical", "warning", "info")
        assert set(rule["annotations"]) == {"summary", "description"}
    commands = re.findall(r"flaskctl \{\{ \$labels\.app \}\} ([a-z]+)", RULES.read_text())
    assert commands and set(commands) <= set(flaskctl.commands_of(flaskctl.parser()))


PROMTOOL = programs.promtool()


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not here: make test, run by root, fetches it")
def test_prometheus_takes_the_rules_and_the_dashboards_questions(tmp_path: Path) -> None:
    asked = expressions(json.loads(DASHBOARD.read_text()))
    asked = [re.sub(r"\$(app|instance)\b", ".*", each) for each in asked]
    recorded = [{"record": f"question:{number}", "expr": each} for number, each in enumerate(asked)]
    questions = tmp_path / "questions.yml"
    questions.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": recorded}]}))
    done = subprocess.run([str(PROMTOOL), "check", "rules", str(RULES), str(questions)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(not PROMTOOL, reason="promtool is not here: make test, run by root, fetches it")
def test_prometheus_takes_the_figures() -> None:
    samples = [flaskctl.Sample(name, {"app": "hello"}, 1) for name in flaskctl.METRICS]
    text = flaskctl.exposition(samples)
    done = subprocess.run([str(PROMTOOL), "check", "metrics"], input=text, capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")

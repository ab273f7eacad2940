"""One host's turn, and what a playbook refuses, as Ansible itself runs it; nothing is switched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rendering import PREFIX, REPOSITORY

PLAY: dict[str, Any] = {
    "hosts": "all",
    "connection": "local",
    "gather_facts": False,
    "tasks": [
        {
            "name": "Turn",
            "ansible.builtin.import_role": {"name": "flaskfleet.web.flask_gunicorn_nginx", "tasks_from": "switch"},
        }
    ],
}


def run_playbook(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "ansible-playbook", "-f", "1", *words],
        cwd=REPOSITORY,
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",
            "ANSIBLE_NOCOLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


def turns(place: Path, plan: dict[str, Any], hooks: dict[str, str]) -> list[str]:
    """Have hosts take their turn by a plan; what their hooks said, in order."""
    variables = {f"{PREFIX}name": "hello", f"{PREFIX}hooks": hooks, f"__{PREFIX}plan": {"hosts": plan}}
    playbook = place / "play.yml"
    playbook.write_text(json.dumps([{**PLAY, "vars": variables}]))
    done = run_playbook("-i", f"{','.join(plan)},", playbook)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"msg: said (\S+ on \S+)", done.stdout)


def test_each_host_of_a_batch_has_its_own_steps_in_their_order(tmp_path: Path) -> None:
    """Ansible merges the files that hosts include in one loop: the first host here has less to do than the second."""
    hooks = {}
    for name in ("pre_release", "before_batch", "post_release", "after_batch"):
        hook = {"name": "Say", "ansible.builtin.debug": {"msg": f"said {name} on {{{{ inventory_hostname }}}}"}}
        hooks[name] = str(tmp_path / f"{name}.yml")
        Path(hooks[name]).write_text(json.dumps([hook]))
    plan = {
        "web1": {"before": ["before_batch"], "do": "", "release": None, "after": ["after_batch"]},
        "web2": {
            "before": ["before_batch", "pre_release"],
            "do": "",
            "release": None,
            "after": ["post_release", "after_batch"],
        },
    }
    said = turns(tmp_path, plan, hooks)
    assert [word for word in said if word.endswith("web1")] == ["before_batch on web1", "after_batch on web1"]
    assert [word.partition(" ")[0] for word in said if word.endswith("web2")] == [
        *("before_batch", "pre_release", "post_release", "after_batch")
    ]
    # a hook that is not set is no step
    assert turns(tmp_path, plan, {"after_batch": hooks["after_batch"]}) == [
        "after_batch on web1",
        "after_batch on web2",
    ]


def test_what_a_step_said_is_kept_line_by_line(tmp_path: Path) -> None:
    """A step is a hook or the migration of this host; where it fails, the host does not switch."""
    hook = {"name": "Fail", "ansible.builtin.command": "sh -c 'echo no such column >&2; exit 1'"}
    (tmp_path / "hook.yml").write_text(json.dumps([hook]))
    turn = {"before": ["pre_release"], "do": "activate", "release": "1", "after": ["after_batch"]}
    variables = {
        f"{PREFIX}name": "hello",
        f"{PREFIX}hooks": dict.fromkeys(("pre_release", "after_batch"), str(tmp_path / "hook.yml")),
        f"__{PREFIX}plan": {"hosts": {"web1": turn}},
    }
    tell = {"name": "Tell", "ansible.builtin.debug": {"msg": f"kept {{{{ __{PREFIX}failed | to_json }}}}"}}
    (tmp_path / "play.yml").write_text(json.dumps([{**PLAY, "vars": variables, "tasks": [*PLAY["tasks"], tell]}]))
    done = run_playbook("-i", "web1,", tmp_path / "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"kept (\{.*?\})", " ".join(done.stdout.split()))
    assert found, done.stdout
    first, second = json.loads(found[1])["reason"].split("\n")
    assert "non-zero return code" in first and second == "no such column", "the first is each Ansible's own"
    assert "Start the release" not in done.stdout and "after_batch" not in done.stdout


@pytest.mark.parametrize("words", [(), ("-e", "mode=of"), ("-e", "page=/page.html")], ids=" ".join)
def test_a_maintenance_that_does_not_say_what_to_switch_is_told_what_may_be_said(
    tmp_path: Path, words: tuple[str, ...]
) -> None:
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"flask_app": {"hosts": {"web1": {"ansible_connection": "local"}}}}))
    done = run_playbook("-i", inventory, "-e", "ansible_become=false", *words, "playbooks/maintenance.yml")
    assert done.returncode == 2
    assert "Say what to switch: -e mode=on, with -e page=FILE" in done.stdout and "undefined" not in done.stdout


@pytest.mark.parametrize(
    ("hosts", "schedules", "count"), [(3, ["daily", "*:0/5"], 1), (1, ["daily"], 0), (3, [], 0)], ids=str
)
def test_that_a_schedule_runs_on_each_host_is_told_once(
    tmp_path: Path, hosts: int, schedules: list[str], count: int
) -> None:
    ask = {"name": "Ask", "flaskfleet.web.host": {"schedules": schedules}}
    (tmp_path / "play.yml").write_text(json.dumps([{**PLAY, "tasks": [ask, ask]}]))
    done = run_playbook("-i", "".join(f"web{number}," for number in range(hosts)), tmp_path / "play.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join((done.stdout + done.stderr).replace("[WARNING]:", "").split())
    assert said.count(f"has a schedule (daily, *:0/5) runs on each of the {hosts} hosts") == count
    assert said.count("has a schedule") == count


def test_the_command_of_a_person_reaches_the_release_as_it_was_written() -> None:
    """Ansible would put what root's environment has in the place of $HOME and $PWD."""

    def commands(tasks: list[Any]) -> Iterator[Any]:
        for task in tasks:
            yield from commands([each for part in ("block", "rescue", "always") for each in task.get(part, [])])
            yield from [task["ansible.builtin.command"]] if "ansible.builtin.command" in task else []

    files = sorted((REPOSITORY / "roles/flask_gunicorn_nginx/tasks").glob("*.yml"))
    found = [each for path in files for each in commands(yaml.safe_load(path.read_text()) or [])]
    assert any("migrate_command" in each["cmd"] for each in found)
    assert {each["expand_argument_vars"] for each in found} == {False}

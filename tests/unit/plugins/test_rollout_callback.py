"""What a person reads while a playbook runs: real runs on this machine, and the lines they are made of."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ansible_collections.flaskfleet.web.plugins.callback import rollout

REPOSITORY = Path(__file__).resolve().parents[3]
TASKS = REPOSITORY / "roles/flask_gunicorn_nginx/tasks"
HOSTS = "web1,web2,web3,web4"

PLAYBOOK = """
- name: Release the app
  hosts: all
  gather_facts: false
  tasks:
    - name: preflight | Ask the host
      ansible.builtin.assert: {that: true, quiet: true}
    - name: ask | Ask more
      ansible.builtin.assert: {that: true, quiet: true}
      changed_when: inventory_hostname == 'web1'
    - name: install | Install
      ansible.builtin.assert: {that: true, quiet: true}
      changed_when: true
    - name: stage | Not needed
      ansible.builtin.assert: {that: true, quiet: true}
      when: false
    - name: batch | Next
      ansible.builtin.assert: {that: true, quiet: true}
      when: false
    - name: switch | Do what comes before
      ansible.builtin.assert: {that: true, quiet: true}
      when: inventory_hostname == 'web1'
    - name: batch | Next
      ansible.builtin.assert: {that: true, quiet: true}
      when: false
    - name: switch | Switch
      when: inventory_hostname != 'web1'
      block:
        - name: switch | Start the release
          ansible.builtin.fail: {msg: "Traceback of the app\\nImportError: no module named shop"}
          when: inventory_hostname != 'web4'
      rescue:
        - name: failed | Record the failure
          ansible.builtin.set_fact: {reason: "{{ ansible_failed_result.msg }}"}
    - name: report | Show what happened
      ansible.builtin.debug: {msg: ["host  result", "web2  failed", "web2: {{ hostvars.web2.reason }}"]}
      run_once: true
    - name: Warm the cache
      ansible.builtin.command: {argv: [sh, -c, "seq 100; echo the end >&2; exit 3"]}
      when: inventory_hostname == 'web4'
      changed_when: true
    - name: report | Fail
      ansible.builtin.fail: {msg: The rollout was stopped.}
"""


Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a playbook on hosts that are this machine; what it printed."""

    def run(text: str, *options: str, **environment: str) -> str:
        (tmp_path / "play.yml").write_text(text)
        program = Path(sys.executable).with_name("ansible-playbook")
        local = ["-c", "local", "-e", f"ansible_python_interpreter={sys.executable}"]
        done = subprocess.run(
            [program, "-i", f"{HOSTS},", *local, tmp_path / "play.yml", *options],
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                "ANSIBLE_NOCOLOR": "1",
                **environment,
            },
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    return run


def without_seconds(said: str) -> list[str]:
    """The lines before the recap, without how long each took."""
    lines = said.partition("PLAY RECAP")[0].splitlines()
    return [re.sub(r" +\d+\.\d s$", "", line) for line in lines if line]


def test_a_run_is_a_line_for_each_phase_and_each_failure_once(run: Run) -> None:
    said = run(PLAYBOOK)
    assert without_seconds(said) == [
        "Release the app",
        "  preflight    web1 changed; web2, web3, web4 unchanged",
        "  install      4 hosts changed",
        "  switch       web1",
        "  switch       web2, web3 failed",
        "host  result",
        "web2  failed",
        "web2: Traceback of the app",
        "ImportError: no module named shop",
        "  Warm the cache web4 failed",
        next(line for line in said.splitlines() if line.startswith("web4: ")),
        "the end",
        "web1, web2, web3: The rollout was stopped.",
    ]
    assert len(re.findall(r"(?m)^web\d +: ok=", said)) == 4, "Ansible's recap, which programs read"


def test_with_v_the_output_is_ansibles_own(run: Run) -> None:
    said = run(PLAYBOOK, "-v")
    assert "TASK [preflight | Ask the host]" in said and "fatal: [web2]: FAILED! =>" in said
    assert "web1 changed; " not in said


UNUSUAL = """
- name: Look
  hosts: all
  gather_facts: false
  tasks:
    - name: preflight | Refuse
      ansible.builtin.debug: {msg: never}
      tags: always
      when: false
    - name: Use a secret
      ansible.builtin.set_fact: {secret: "{{ vault_secret_key }}"}
    - name: Write
      ansible.builtin.copy: {dest: "PLACE/file", content: "two\\n", mode: "0644"}
      check_mode: true
      diff: true
"""


def test_a_variable_that_is_not_defined_is_told_with_where_to_put_it(run: Run) -> None:
    lines = without_seconds(run(UNUSUAL))
    (told,) = [line for line in lines if "is undefined" in line]
    assert told.startswith("4 hosts: ") and "'vault_secret_key' is undefined" in told
    assert "Define vault_secret_key" in lines[lines.index(told) + 1] and "vault.yml" in lines[lines.index(told) + 1]


def test_tags_that_select_nothing_are_told(run: Run) -> None:
    assert "--tags deploy selects no task" in run(UNUSUAL, "--tags", "deploy")
    assert "selects no task" not in run(UNUSUAL)


def test_a_difference_that_is_the_same_on_all_hosts_is_shown_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\n")
    said = run(UNUSUAL.replace("PLACE", str(tmp_path)), "-e", "vault_secret_key=x", "--check")
    assert said.count("-one") == 1 and "4 hosts:\n" in said
    assert "Look (check mode: nothing is changed)" in said


def test_each_task_file_of_the_role_is_a_phase_or_a_detail_of_one() -> None:
    """A file with a new name is shown as what ran before it: this list is where somebody decides that it should be."""
    details = {path.stem for path in TASKS.glob("*.yml")} - {*rollout.PHASES, *rollout.ENDS_A_PHASE}
    assert details == {
        "main",
        "rollout",
        "ask",
        "failed",
        "lock",
        "missing",
        "plan",
        "proxy",
        "sandbox",
    }
    for stem in {*rollout.PHASES, *rollout.ENDS_A_PHASE}:
        tasks = yaml.safe_load((TASKS / f"{stem}.yml").read_text())
        named = [*tasks, *(task for block in tasks for part in ("block", "rescue") for task in block.get(part, []))]
        phases = {rollout.phase_of(f"flaskfleet.web.flask_gunicorn_nginx : {task['name']}", "x") for task in named}
        assert phases <= {"" if stem in rollout.ENDS_A_PHASE else stem, "x"}, stem


def test_the_names_of_many_hosts_are_a_number_and_long_times_are_minutes() -> None:
    assert rollout.listed(["a", "b", "c"]) == "a, b, c" and rollout.listed("abcd") == "4 hosts"
    assert (rollout.seconds(59.94), rollout.seconds(61)) == ("59.9 s", "1 min 01 s")


def test_of_a_command_the_end_of_what_it_printed_is_told() -> None:
    said = rollout.why({"msg": "non-zero return code", "stdout": "\n".join(map(str, range(100))), "stderr": ""})
    assert said.splitlines() == ["non-zero return code", *map(str, range(85, 100))]
    assert rollout.why({"msg": "it broke: pip", "stderr": "pip"}) == "it broke: pip"
    assert rollout.why({}) == "it failed, and says nothing"

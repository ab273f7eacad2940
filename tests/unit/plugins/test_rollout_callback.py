"""What a person reads while a playbook runs: real runs on this machine, and the lines they are made of."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible_collections.flaskfleet.web.plugins.callback import rollout
from ansible_collections.flaskfleet.web.plugins.plugin_utils import phases, progress, told

REPOSITORY = Path(__file__).resolve().parents[3]
TASKS = REPOSITORY / "roles/flask_gunicorn_nginx/tasks"
HOSTS = "web1,web2,web3,web4"

# the role, as far as the callback knows it by its name and by those of its tasks
ROLE = """
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
    - name: switch | Do what comes before
      ansible.builtin.include_tasks: "{{ hook }}"
    - name: switch | Start the release
      ansible.builtin.fail: {msg: "Traceback of the app\\nImportError: no module named shop"}
      when: inventory_hostname != 'web4'
  rescue:
    - name: failed | Record the failure
      ansible.builtin.set_fact: {reason: "{{ ansible_failed_result.msg }}"}
- name: report | Show what happened
  ansible.builtin.debug: {msg: ["host  result", "web2  failed", "web2: {{ hostvars.web2.reason | default('') }}",
      "{{ hostvars.web4.reason | default('') }}"]}
  run_once: true
"""
HOOK = """
- name: out | Leave the balancer
  ansible.builtin.fail: {msg: It does not answer.}
  when: inventory_hostname == 'web4'
"""
PLAYBOOK = """
- name: Release the app
  hosts: all
  gather_facts: false
  roles: [flask_gunicorn_nginx]
  tasks:
    - name: Warm the cache
      ansible.builtin.command: {argv: [sh, -c, "seq 100; echo the end >&2; exit 3"]}
      when: inventory_hostname == 'web4'
      changed_when: true
    - name: Fail
      ansible.builtin.fail: {msg: The rollout was stopped.}
"""


# ansible-playbook, to which another time is long
IMPATIENT = """
import threading
from ansible.cli.playbook import main
timer = threading.Timer
threading.Timer = lambda after, *rest: timer({long}, *rest)
main()
"""
Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a playbook on hosts that are this machine; what it printed."""
    tasks = tmp_path / "roles/flask_gunicorn_nginx/tasks/main.yml"
    tasks.parent.mkdir(parents=True)
    tasks.write_text(ROLE)
    (tmp_path / "hook.yml").write_text(HOOK)

    def run(text: str, *options: str, on_a_terminal: bool = False, long: float = 0, **environment: str) -> str:
        (tmp_path / "play.yml").write_text(text)
        given = {"ansible_python_interpreter": sys.executable, "hook": str(tmp_path / "hook.yml")}
        local = ["-c", "local", "-e", json.dumps(given)]
        program = [str(Path(sys.executable).with_name("ansible-playbook"))]
        if long:
            program = [sys.executable, "-c", IMPATIENT.format(long=long)]
        argv = [*program, "-i", f"{HOSTS},", *local, str(tmp_path / "play.yml"), *options]
        done = subprocess.run(
            ["script", "-qec", shlex.join(argv), "/dev/null"] if on_a_terminal else argv,
            env={
                **os.environ,
                "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
                "ANSIBLE_ROLES_PATH": str(tmp_path / "roles"),
                "ANSIBLE_NOCOLOR": "1",
                **environment,
            },
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
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
        "  out | Leave the balancer web4 failed",
        "  switch       web2, web3 failed",
        "host  result",
        "web2  failed",
        "web2: Traceback of the app",
        "ImportError: no module named shop",
        "It does not answer.",
        "  Warm the cache web4 failed",
        next(line for line in said.splitlines() if line.startswith("web4: ")),
        "the end",
        next(line for line in said.splitlines() if line.startswith("at ")),
        "  Fail         web1, web2, web3 failed",
        "web1, web2, web3: The rollout was stopped.",
        next(line for line in reversed(said.splitlines()) if line.startswith("at ")),
    ]
    assert re.findall(r"(?m)^at .*play.yml:(\d+)", said) == ["7", "11"]
    assert len(re.findall(r"(?m)^web\d +: ok=", said)) == 4, "Ansible's recap, which programs read"


def test_with_v_the_output_is_ansibles_own(run: Run) -> None:
    said = run(PLAYBOOK, "-v", "--tags", "all,deploy")
    assert "TASK [flask_gunicorn_nginx : preflight | Ask the host]" in said and "fatal: [web2]: FAILED! =>" in said
    assert "web1 changed; " not in said and "selects no" not in said


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
    said = run(UNUSUAL)
    (told,) = [line for line in without_seconds(said) if "is not defined" in line]
    assert "selects no" not in said
    assert told.startswith("web1, web2, web3, web4: vault_secret_key is not defined.") and "vault.yml" in told


def test_the_file_is_one_of_the_inventory_that_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "inventories/live"
    place.mkdir(parents=True)
    hosts = place / "hosts.yml"
    hosts.write_text("")
    for given in (str(place), str(hosts), f"{place}/"):
        assert told.place_for("vault_key", ["web1,", given]) == (
            "Put it into the vault: ansible-vault create inventories/live/group_vars/flask_app/vault.yml"
        )
    vault = place / "group_vars/web/vault.yml"
    vault.parent.mkdir(parents=True)
    vault.write_text("$ANSIBLE_VAULT;1.1;AES256")
    edit = told.place_for("vault_key", [str(place)])
    assert edit == "Put it into the vault: ansible-vault edit inventories/live/group_vars/web/vault.yml"
    assert told.place_for("database", ["web1,"]).endswith("such as group_vars/flask_app/flask_gunicorn_nginx.yml.")


WITH_ROLE = """
- name: Release the app
  hosts: web1
  gather_facts: false
  roles: [flask_gunicorn_nginx]
  post_tasks:
    - name: Smoke
      ansible.builtin.command: {argv: ["true"]}
      changed_when: false
      tags: smoke
"""


def test_tags_that_select_nothing_are_told(run: Run) -> None:
    assert "--tags deploy selects no task" in run(UNUSUAL, "--tags", "deploy")


def test_tags_that_select_nothing_of_the_role_are_told(run: Run, tmp_path: Path) -> None:
    tasks = tmp_path / "roles/flask_gunicorn_nginx/tasks/main.yml"
    tasks.write_text(tasks.read_text().replace("quiet: true}", "quiet: true}\n  tags: always", 1))
    said = run(WITH_ROLE, "--tags", "smoke")
    assert "--tags smoke selects nothing of the role" in said and "  Smoke        web1" in said


def test_a_difference_that_is_the_same_on_all_hosts_is_shown_once(run: Run, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one\n")
    said = run(UNUSUAL.replace("PLACE", str(tmp_path)), "-e", "vault_secret_key=x", "--check")
    assert said.count("-one") == 1 and "4 hosts:\n" in said
    assert "Look (check mode: nothing is changed)" in said


def test_each_task_file_of_the_role_is_a_phase_or_a_detail_of_one() -> None:
    """A file with a new name is shown as what ran before it: this list is where somebody decides that it should be."""
    details = {path.stem for path in TASKS.glob("*.yml")} - {*phases.PHASES, *phases.ENDS_A_PHASE}
    assert details == {
        "main",
        "rollout",
        "ask",
        "failed",
        "listen",
        "lock",
        "missing",
        "moves",
        "plan",
        "proxy",
        "sandbox",
    }
    for stem in {*phases.PHASES, *phases.ENDS_A_PHASE}:
        tasks = yaml.safe_load((TASKS / f"{stem}.yml").read_text())
        named = [*tasks, *(task for block in tasks for part in ("block", "rescue") for task in block.get(part, []))]
        found = {phases.phase_of(f"flaskfleet.web.flask_gunicorn_nginx : {task['name']}", "x") for task in named}
        assert found <= {"" if stem in phases.ENDS_A_PHASE else stem, "x"}, stem


OTHERS = """
- name: Around the release
  hosts: all
  gather_facts: false
  tasks:
    - name: extras | Ask who is there
      ansible.builtin.command: {argv: [sh, -c, "echo nobody >&2; exit 1"]}
      ignore_errors: true
      changed_when: false
    - name: Fetch
      block:
        - name: Fetch from the mirror
          ansible.builtin.fail: {msg: The mirror is down.}
      rescue:
        - name: Fetch from elsewhere
          ansible.builtin.debug: {msg: [two, lines]}
    - name: Say what each is
      ansible.builtin.debug: {msg: "I am {{ inventory_hostname }}"}
    - name: Say all items
      ansible.builtin.debug: {msg: "item {{ item }}"}
      loop: [1, 2]
    - name: Say a value
      ansible.builtin.debug: {var: value}
      vars: {value: {a: [1, 2], b: "caf\u00e9"}}
      run_once: true
    - name: Keep a secret
      ansible.builtin.command: {argv: [sh, -c, "echo canary; exit 1"]}
      no_log: true
      ignore_errors: true
      changed_when: false
    - name: Fail with one of two
      ansible.builtin.assert: {that: item != 'bad'}
      loop: [good, bad]
      when: inventory_hostname == 'web3'
    - name: Fail here
      ansible.builtin.fail: {msg: failed}
      when: inventory_hostname == 'web2'
    - name: Fail there with the same words, which stand above already
      ansible.builtin.fail: {msg: failed}
      when: inventory_hostname == 'web4'
    - name: Fail in a delegate
      ansible.builtin.fail: {msg: ""}
      delegate_to: "{{ groups.all[1] }}"
      when: inventory_hostname == 'web1'
"""


def test_what_others_do_in_the_play_is_told_too(run: Run) -> None:
    lines = without_seconds(run(OTHERS))
    said = "\n".join(lines)
    assert "  extras | Ask who is there 4 hosts failed, ignored" in lines
    # in the words of either Ansible
    assert re.search(r"4 hosts:\n.*non-zero return code\.? \(ignored\)\nnobody", said), said
    assert "4 hosts: The mirror is down. (taken care of by a rescue)" in said
    assert "4 hosts:\ntwo\nlines" in said and said.count("lines") == 1
    assert all(f"web{number}: I am web{number}" in lines for number in (1, 2, 3, 4))
    assert "4 hosts: item 1" in lines and "4 hosts: item 2" in lines and "All items completed" not in said
    assert "    - 1" in said and "caf\u00e9" in said
    assert "canary" not in said and "no_log: true" in said
    assert "web3: (item=bad) Assertion failed" in lines and "assertion: item != 'bad'" in lines
    assert "(item=good)" not in said
    assert "web2: failed" in lines and "web4: failed" in lines
    assert "web1 -> web2: it failed, and says nothing" in lines or "web1 -> web2: Unknown error." in lines


def test_of_several_apps_each_has_its_name_and_a_host_that_cannot_be_reached_has_why(run: Run) -> None:
    role = "{role: flask_gunicorn_nginx, flask_gunicorn_nginx_name: %s}"
    play = WITH_ROLE.replace("web1", "web1,web2").replace(
        "[flask_gunicorn_nginx]", f"[{role % 'shop'}, {role % 'api'}]"
    )
    gone = {"ansible_connection": "{{ 'ssh' if inventory_hostname == 'web2' else 'local' }}", "ansible_port": 1}
    said = run(play, "-e", json.dumps({**gone, "ansible_host": "127.0.0.1"}))
    lines = without_seconds(said)
    assert [line for line in lines if not line.startswith(" ")][:3] == ["Release the app", "shop:", "host  result"]
    assert "api:" in lines
    assert re.search(r"(?m)^web2: .*127.0.0.1 port 1: Connection refused", said), said


CUT = """
    - name: Press ctrl-C
      ansible.builtin.shell: kill -INT {{ lookup('flaskfleet.web.holder').pid }}; sleep 9
"""


def test_on_a_terminal_the_phase_that_runs_stands_on_one_line_however_narrow_and_is_named_where_it_is_cut(
    run: Run,
) -> None:
    play = WITH_ROLE.replace("Smoke", "Smoke " * 60).replace("[flask_gunicorn_nginx]", "[]") + CUT
    said = run(play, on_a_terminal=True, COLUMNS="40")
    shown = re.findall(r"\n\x1b\[K(  [^\n]*)\n(?=\n\x1b\[K)", said)  # a return is a line break here
    running = [line for line in shown if not line.endswith(" s")]
    assert running and max(map(len, running)) == 39, said
    assert "The run was cut in: Press ctrl-C." in said and "PLAY RECAP" not in said, said


# a rollout in batches, as far as the callback knows it by its variable
IN_BATCHES = """
- name: stage | Stage
  ansible.builtin.command: {argv: [sleep, "{{ nap if inventory_hostname == 'web3' else 0 }}"]}
  changed_when: true
- name: moves | Switch batch by batch
  ansible.builtin.include_tasks: batch.yml
  loop: [[web1], [web2, web3], [web4]]
  loop_control: {loop_var: __flask_gunicorn_nginx_batch}
"""
BATCH = """
- name: batch | Plan
  ansible.builtin.set_fact: {x: 1}
  run_once: true
- name: batch | Switch
  ansible.builtin.include_tasks: switch.yml
  when: inventory_hostname in __flask_gunicorn_nginx_batch
"""
SWITCH = """
- name: switch | Switch
  ansible.builtin.command: {argv: [sleep, "{{ nap if inventory_hostname == 'web3' else 0 }}"]}
  changed_when: true
- name: report | Say
  ansible.builtin.debug: {msg: done}
"""


@pytest.fixture
def in_batches(run: Run, tmp_path: Path) -> Run:
    for name, text in (("main", IN_BATCHES), ("batch", BATCH), ("switch", SWITCH)):
        (tmp_path / f"roles/flask_gunicorn_nginx/tasks/{name}.yml").write_text(text)
    return run


def timeless(lines: list[str]) -> list[str]:
    return [re.sub(r" since \d\d:\d\d:\d\d", " since T", line) for line in lines]


def test_in_a_log_a_phase_that_takes_long_is_told_once_with_its_batch_and_who_is_waited_for(in_batches: Run) -> None:
    lines = timeless(without_seconds(in_batches(WITH_ROLE.replace("web1", "all", 1), "-e", "nap=4", long=2)))
    quick = [line for line in lines if " since T" not in line]
    assert quick == [
        "Release the app",
        "  stage        4 hosts changed",
        "  switch       web1 changed",
        "web1: done",
        "  switch       web2, web3 changed",
        "web2, web3: done",
        "  switch       web4 changed",
        "web4: done",
        "  Smoke        4 hosts",
    ]
    # how many are done when it is told depends on the machine
    before = {
        re.sub(r" \d of (\d) done.*", r" N of \1 done", line): following
        for line, following in zip(lines, lines[1:], strict=False)
        if " since T" in line
    }
    assert before["  stage        since T, N of 4 done"] == quick[1], lines
    assert before["  switch       since T, batch 2 of 3, 1 of 4 hosts before it, N of 2 done"] == quick[4], lines
    assert not set(before) & set(before.values()), "each phase has one"


def test_what_is_quick_has_no_line_more(in_batches: Run) -> None:
    assert " since " not in in_batches(WITH_ROLE.replace("web1", "all", 1), "-e", "nap=0")


def test_on_a_terminal_it_stands_in_place(in_batches: Run) -> None:
    said = in_batches(WITH_ROLE.replace("web1", "all", 1), "-e", "nap=1", on_a_terminal=True, COLUMNS="120")
    shown = timeless([line for line in re.split(r"[\r\n]+", said.replace("\x1b[K", "")) if line.endswith(" ...")])
    assert "  switch since T, batch 2 of 3, 1 of 4 hosts before it, 1 of 2 done, waiting for web3 ..." in shown, said
    assert "  stage since T, 0 of 4 done ..." in shown
    assert said.count(" ...\n") == said.count(" ...\n\n\x1b[K"), "each is drawn over by what comes next"


def test_how_far_a_phase_is_names_few_that_are_waited_for_and_counts_many() -> None:
    phase = progress.Phase("stage", 0)
    phase.begin([f"web{number}" for number in range(10)], "")
    assert phase.so_far().endswith(", 0 of 10 done")
    phase.done |= {"web0", "web1"}
    assert phase.so_far().endswith(", 2 of 10 done")
    phase.done |= {f"web{number}" for number in range(8)}
    assert phase.so_far().endswith(", 8 of 10 done, waiting for web8, web9")
    phase.begin(["web1"], "")
    assert phase.so_far().count(",") == 0, "one host is done when its line comes"


def test_batches_of_another_rollout_are_counted_anew() -> None:
    batches = progress.Batches()
    batches.note("a", ["web1"])
    assert batches.place(["web1"]) == "", "one batch is no batch"
    batches.note("a", ["web2", "web3"])
    assert batches.place(["web2", "web3"]) == "batch 2 of 2, 1 of 3 hosts before it"
    assert batches.place(["web4"]) == ""
    batches.note("b", ["web2", "web3"])
    batches.note("b", ["web1"])
    assert batches.place(["web1"]) == "batch 2 of 2, 2 of 3 hosts before it"


def test_nothing_is_told_of_a_phase_that_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LONG", 0.05)
    told_of: list[str] = []
    watch = progress.Watch(lambda phase: told_of.append(phase.name))
    watch.over(progress.Phase("one", 0))
    watch.over(progress.Phase("two", 0))
    before = list(told_of)
    assert before in ([], ["one"]), "of one by then, where this thread had to wait for its turn"
    while len(told_of) == len(before):
        time.sleep(0.05)
    watch.over(progress.Phase("three", 0))
    watch.over(None)
    after = len(told_of)
    time.sleep(0.2)
    assert told_of[len(before)] == "two" and len(told_of) == after, told_of


WRONG_TYPE = {f"flask_gunicorn_nginx_{name}": value for name, value in (("name", "hello"), ("port", "many"))}


def test_a_wrong_type_is_told_in_three_lines(run: Run) -> None:
    play = WITH_ROLE.replace("web1", "web1,web2,web3").replace("[", "[flaskfleet.web.")
    lines = without_seconds(run(play, "-e", json.dumps({**WRONG_TYPE, "flask_gunicorn_nginx_source": "/srv"})))
    assert len(lines) == 3 and "flask_gunicorn_nginx_port" in lines[2] and "web1, web2, web3" in lines[2], lines


def test_an_ansible_that_is_too_old_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = yaml.safe_load((REPOSITORY / "meta/runtime.yml").read_text())["requires_ansible"]
    assert asked == f">={'.'.join(map(str, rollout.OLDEST))}.0"
    monkeypatch.setattr(rollout, "__version__", "2.18.11")
    with pytest.raises(AnsibleError, match="needs ansible-core 2.19 or newer, and this is 2.18.11: pip install"):
        rollout.CallbackModule()


def test_the_names_of_many_hosts_are_a_number_and_long_times_are_minutes() -> None:
    assert told.listed(["a", "b", "c"]) == "a, b, c" and told.listed("abcd") == "4 hosts"
    assert (told.seconds(59.94), told.seconds(61)) == ("59.9 s", "1 min 01 s")


@pytest.mark.parametrize("stream", ["msg", "stderr", "module_stderr", "assertion"])
def test_what_an_app_or_a_file_s_name_says_obeys_no_terminal(stream: str) -> None:
    """It could clear the screen, hide a line, or turn one round."""
    said = told.why({stream: "a\x1b[2Jb\x07\u202ec\x9bd\n\tf\u00e4"})
    assert "a\\x1b[2Jb\\x07\\u202ec\\x9bd\n\tf\u00e4" in "".join(said)


def test_of_a_command_the_end_of_what_it_printed_is_told() -> None:
    said = told.why({"msg": "non-zero return code", "stdout": "\n".join(map(str, range(100))), "stderr": ""})
    assert said == ["non-zero return code", "\n".join(map(str, range(85, 100)))]
    assert told.why({"msg": "it broke: pip", "stderr": "pip"}) == ["it broke: pip"]
    assert told.why({}) == ["it failed, and says nothing"]

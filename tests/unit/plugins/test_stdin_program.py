"""Programs that go to the host through standard input, run here by this machine's Python."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible_collections.flaskfleet.web.plugins.action import config_files, host
from ansible_collections.flaskfleet.web.plugins.plugin_utils import stdin_program

Here = Callable[..., Any]


@pytest.mark.parametrize("pipelining", [True, False])
def test_a_program_is_run_with_its_options_and_answers(here: Here, pipelining: bool) -> None:
    action = here(host, {"packages": "nginx, python3", "users": ["root"]}, pipelining=pipelining)
    answer = action.run()
    assert answer["users"]["root"]["home"] == "/root" and answer["changed"] is False
    # a connection that takes no standard input gets a file, in a directory that goes with the task
    assert action.sent == ([] if pipelining else [f"{action.root}/stdin"])
    assert len(action.commands) == 1 and action.commands[0].startswith("COLOUR=blue LC_ALL=C.UTF-8 /usr/bin/python3")


def test_check_mode_is_told_to_the_program(here: Here, tmp_path: Path) -> None:
    path, preview = tmp_path / "x", {"files": [{"path": str(tmp_path / "y"), "content": "ü\udcff\n"}]}
    options = {"files": [{"path": str(path), "content": "x\n"}], "preview": preview}
    answer = here(config_files, options, check=True).run()
    assert answer["changed"] and answer["preview_changed"] and not path.exists()


def test_a_difference_has_a_line_for_a_file_that_comes_or_goes_and_the_lines_of_one_that_changes(
    here: Here, tmp_path: Path
) -> None:
    kept = tmp_path / "kept"
    kept.write_text("old\n")
    files: list[dict[str, str]] = [
        *({"path": f"{tmp_path}/engine/{number}.py", "content": "import os\n" * 99} for number in range(45)),
        {"path": str(kept), "content": "new\n"},
        {"path": f"{tmp_path}/unit", "content": "[Unit]\n" * 99},
        {"path": f"{tmp_path}/link (of mine)", "link": "unit"},
    ]
    answer = here(config_files, {"files": files}, check=True).run()
    first, second = answer["diff"]
    place, rights = re.escape(str(tmp_path)), r"0644 \S+:\S+"
    assert re.fullmatch(
        rf"{place}/engine: 45 new files\n{place}/unit: new, {rights}\n{place}/link \(of mine\): new, link to unit\n",
        first["prepared"],
    ), first["prepared"]
    assert (second["before"], second["after"]) == ("old\n", "new\n")
    whole = here(config_files, {"files": files}, check=True, verbosity=1).run()
    assert len(whole["diff"]) == len(files)
    gone = {"before_header": "/x (0644 a:b)", "after_header": "/x (absent)", "before": "1\n2\n", "after": ""}
    assert config_files.folded([gone]) == [{"prepared": "/x: removed, 0644 a:b\n"}]


def test_a_failure_of_the_program_is_one_of_the_task(here: Here) -> None:
    answer = here(config_files, {"files": [{"path": "relative", "content": "x"}]}).run()
    assert answer["failed"] and answer["changed"] is False and "relative is not an absolute" in answer["msg"]


def test_options_that_there_are_not_are_refused(here: Here) -> None:
    with pytest.raises(AnsibleActionFail, match="Unsupported parameters"):
        here(host, {"colour": "blue"}).run()


def test_a_program_that_dies_shows_all_that_was_said(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdin_program, "STUB", "print('half'); raise SystemExit('a bug')")
    answer = here(host, {}).run()
    assert answer["failed"] and answer["msg"] == "host ended with exit code 1 and gave no answer.\n\na bug\nhalf"


@pytest.mark.parametrize(("action", "given"), [(host, {}), (config_files, {"files": []})])
def test_a_program_reads_nothing_that_it_does_not_need(
    action: Any, given: dict[str, Any], here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`inspect`, by way of dataclasses, and `site` cost what a tenth of the question does, on each host in each run."""
    asked = "sys.exit(' '.join({'dataclasses', 'inspect', 'site'} & set(sys.modules)) or 'none of them')"
    monkeypatch.setattr(stdin_program, "STUB", f"{stdin_program.STUB}; {asked}")
    assert "\n\nnone of them\n" in here(action, given).run()["msg"]


def test_a_host_without_python_is_told_what_to_install(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stdin_program, "PYTHON", "/nowhere/python3")
    answer = here(host, {}).run()
    assert answer["failed"] and "apt-get install python3" in answer["msg"]


@pytest.mark.parametrize("said", ["welcome to this host\n{}\n", "{}\nlogout\n", '["a"]\n{{x\n{}', "{}"])
def test_what_a_login_shell_says_beside_the_answer_is_passed_over(said: str) -> None:
    """Ansible's own modules get along with an `echo` in ~/.bashrc, and so did every task but ours."""
    done = stdin_program.Done(0, said.format('{"changed": false}'), "")
    assert stdin_program.understood("host", done) == {"changed": False}


@pytest.mark.parametrize("said", ["", "welcome", "[1]", "{x"])
def test_without_an_answer_all_is_shown(said: str) -> None:
    answer = stdin_program.understood("host", stdin_program.Done(0, said, ""))
    assert answer["failed"] and said in answer["msg"]

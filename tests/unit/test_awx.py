"""The project of docs/awx.md runs, as far as it does without a server: word for word, with what AWX adds."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tools.run import ROOT

BIN = Path(sys.executable).parent
PAGE = (ROOT / "docs/awx.md").read_text()
FILES = dict(re.findall(r"(?ms)^`([^`\n]+)`\n\n```yml\n(.*?)^```", PAGE))
COMMIT = "1e7612788eaa6b3c87a3670ce86c64b830eba0ae"
PUSHED = {"awx_webhook_payload": {"ref": "refs/heads/main", "after": COMMIT}}
ELSEWHERE = {"awx_webhook_payload": {"ref": "refs/heads/topic", "after": COMMIT}}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of the page, and the collection where AWX would have put it."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run(project: Path, *argv: str, **variables: object) -> subprocess.CompletedProcess[str]:
    """Run a program of Ansible in the project as a job would."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    return subprocess.run(
        [str(BIN / argv[0]), "-i", "inventory/hosts.yml", *argv[1:], "-e", json.dumps(variables)],
        cwd=project,
        env={**keep, "HOME": str(project), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_files_of_the_page_are_a_project(project: Path) -> None:
    needed = yaml.safe_load((project / "collections/requirements.yml").read_text())["collections"]
    assert [each["name"] for each in needed] == ["flaskfleet.web"]
    done = run(project, "ansible-playbook", "--syntax-check", *(str(path) for path in project.glob("*.yml")))
    assert done.returncode == 0, done.stderr
    playbooks = {path.stem for path in (ROOT / "playbooks").glob("*.yml")}
    assert playbooks == {path.stem for path in project.glob("*.yml")} | {
        name for name in playbooks if f"`{name}.yml`" in PAGE
    }, "each playbook of the collection is named"


# a survey without an answer gives an empty text; a webhook may come beside the default of a survey
SOURCES = [
    ({}, "main"),
    ({"revision": "v1.2"}, "v1.2"),
    ({"revision": ""}, "main"),
    (PUSHED, COMMIT),
    ({**PUSHED, "revision": "main"}, COMMIT),
]


@pytest.mark.parametrize(("given", "revision"), SOURCES)
def test_what_is_released_is_what_was_asked_for_or_pushed(
    project: Path, given: dict[str, object], revision: str
) -> None:
    (project / "show.yml").write_text(
        "- hosts: flask_app\n  gather_facts: false\n  tasks:\n"
        "    - ansible.builtin.debug: {msg: 'of {{ flask_gunicorn_nginx_source }} it is'}\n"
    )
    said = run(project, "ansible-playbook", "show.yml", **given).stdout
    assert said.count(f"of git+https://git.example.com/shop.git@{revision} it is") == 2, said


def test_a_push_to_another_branch_is_not_released(project: Path) -> None:
    done = run(project, "ansible-playbook", "deploy.yml", **ELSEWHERE)
    assert done.returncode == 2 and "refs/heads/topic is not released" in done.stdout
    assert "Release the app" not in done.stdout


def test_the_execution_environment_has_what_the_collection_runs() -> None:
    described = yaml.safe_load((ROOT / "meta/execution-environment.yml").read_text())
    packages = (ROOT / described["dependencies"]["system"]).read_text().splitlines()
    both = {"git", "python3-pip"}
    for kind, wanted in {
        "rpm": {"openssh-clients", "procps-ng", *both},
        "dpkg": {"openssh-client", "procps", *both},
    }.items():
        told = {line.removesuffix(f" [platform:{kind}]") for line in packages if not line.startswith("#")}
        assert {name for name in told if " " not in name} == wanted
    definition = yaml.safe_load((ROOT / "docs/awx/execution-environment.yml").read_text())
    assert definition["dependencies"]["galaxy"]["collections"] == [{"name": "flaskfleet.web"}]

"""The collection as a user gets it: built, installed from its file and from git, and its playbooks run by name."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tools.run import ROOT, copy_tree

BIN = Path(sys.executable).parent
# what a user needs of the repository, and what ansible-galaxy adds
HOLDS = {"CHANGELOG.md", "LICENSE", "README.md", "docs", "meta", "playbooks", "plugins", "roles", "SECURITY.md"}
# made of the fragments by the first release that has any
HOLDS |= {path.name for path in ROOT.glob("CHANGELOG.rst")}
ADDED = {"FILES.json", "MANIFEST.json"}
ROLE = ROOT / "roles/flask_gunicorn_nginx"
ENTER = ("import", "include")
# refused before any host is asked
WRONG = ("-e", '{"flask_gunicorn_nginx_name": "hello", "flask_gunicorn_nginx_port": 99999}')


def run(where: Path, *words: str, code: int = 0) -> str:
    """Run a program of this environment where nothing but the collection is known; what it said."""
    keep = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    variables = {**keep, "HOME": str(where), "ANSIBLE_COLLECTIONS_PATH": str(where / "collections")}
    argv = [str(BIN / words[0]), *words[1:]]
    done = subprocess.run(argv, cwd=where, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this repository, in a repository of their own: what is not committed yet counts too."""
    home = tmp_path_factory.mktemp("repository")
    copy_tree(home)
    git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "-C", str(home)]
    for words in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "-m", "All"]):
        subprocess.run([*git, *words], check=True)
    return home


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of somebody's that uses the collection."""
    (tmp_path / "hosts.yml").write_text("flask_app: {hosts: {web1.example.com: {}}}\n")
    return tmp_path


def entries() -> Iterator[tuple[str, str]]:
    """Each playbook that enters the role, and by which of its files."""
    for path in sorted((ROOT / "playbooks").glob("*.yml")):
        for play in yaml.safe_load(path.read_text()):
            asked = [task.get(f"ansible.builtin.{way}_role") for task in play.get("tasks", []) for way in ENTER]
            for role in [*play.get("roles", []), *filter(None, asked)]:
                yield path.stem, role.get("tasks_from", "main")


def test_each_entry_of_the_role_is_specified_and_documented() -> None:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]
    entered = dict(entries())
    assert entered["deploy"] == "main" and entered["rollback"] == "rollback"
    assert set(specs) == set(entered.values()), "no more, no fewer"
    for name, spec in specs.items():
        assert (ROLE / f"tasks/{name}.yml").is_file()
        assert spec["short_description"] and spec["description"], name

        assert all(option["description"] and option["type"] for option in spec["options"].values()), name


@pytest.mark.parametrize("way", ["file", "git"])
def test_the_installed_collection_is_whole_without_the_repository(way: str, repository: Path, project: Path) -> None:
    source = f"git+file://{repository}"
    if way == "file":
        run(project, "ansible-galaxy", "collection", "build", str(repository), "--output-path", str(project))
        (built,) = project.glob("flaskfleet-web-*.tar.gz")
        with tarfile.open(built) as archive:
            assert {name.partition("/")[0] for name in archive.getnames()} == HOLDS | ADDED
        source = str(built)
    run(project, "ansible-galaxy", "collection", "install", source, "-p", str(project / "collections"))
    home = project / "collections/ansible_collections/flaskfleet/web"
    playbooks = sorted(f"flaskfleet.web.{path.stem}" for path in (home / "playbooks").glob("*.yml"))
    assert "flaskfleet.web.deploy" in playbooks
    run(project, "ansible-playbook", "-i", "hosts.yml", "--syntax-check", *playbooks)
    shown = run(project, "ansible-doc", "-t", "role", "flaskfleet.web.flask_gunicorn_nginx")
    assert "flask_gunicorn_nginx_source" in shown
    refused = run(project, "ansible-playbook", "-i", "hosts.yml", "flaskfleet.web.deploy", *WRONG, code=2)
    assert "flask_gunicorn_nginx_port is 99999" in refused

"""The hosts of the bench, as far as no container is needed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from bench import farm, fleet
from bench.farm import Machine
from tools import hosts
from tools.run import Problem


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory instead of the one of real runs."""
    monkeypatch.setattr(farm, "PLACE", tmp_path)
    monkeypatch.setattr(farm, "REPOSITORY", tmp_path / "app.git")
    return tmp_path


def test_the_image_lets_the_key_in_as_a_user_with_sudo() -> None:
    recipe = farm.dockerfile("ssh-ed25519 AAAA bench")
    assert "echo 'ssh-ed25519 AAAA bench' > /home/deploy/.ssh/authorized_keys" in recipe
    assert "deploy ALL=(ALL) NOPASSWD: ALL" in recipe
    assert recipe.startswith("FROM flaskfleet/host:debian12\n")


def test_both_sides_get_the_same_hosts_connections_and_user(place: Path) -> None:
    machines = [Machine("bench-plain-01", "10.0.0.1"), Machine("bench-plain-02", "10.0.0.2")]
    group = json.loads(farm.inventory(machines, {"app_repo": "x"}, "plain").read_text())["flask_app"]
    assert group["hosts"] == {
        "bench-plain-01": {"ansible_host": "10.0.0.1"},
        "bench-plain-02": {"ansible_host": "10.0.0.2"},
    }
    assert group["vars"]["app_repo"] == "x"
    assert group["vars"]["ansible_user"] == "deploy"
    assert f"UserKnownHostsFile={place}/known_hosts" in group["vars"]["ansible_ssh_common_args"]


def test_a_release_is_the_same_line_for_both_sides(place: Path) -> None:
    workshop = farm.Workshop()
    workshop.change("7")
    assert 'return "Hello Flask, version 7!"' in (workshop.app / "app.py").read_text()
    show = ["git", "-C", str(farm.REPOSITORY), "show", "main:app.py"]
    pushed = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert pushed == (workshop.app / "app.py").read_text()
    assert workshop.greeting == "Hello Flask, version 7!"


def test_the_plain_side_installs_the_versions_that_the_role_pins(place: Path) -> None:
    requirements = (farm.Workshop().clone / "requirements.txt").read_text()
    assert "\nflask==" in requirements
    assert "\ngunicorn==" in requirements


def test_this_role_as_it_was_is_the_other_side(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workshop, repository = farm.Workshop(), place / "repository"
    repository.mkdir()
    monkeypatch.setattr(farm, "ROOT", repository)
    farm.git("init", "--quiet", where=repository)
    (repository / "site.yml").write_text("then\n")
    farm.git("add", "site.yml", where=repository)
    farm.git("commit", "--quiet", "--message", "Then", where=repository)
    (repository / "site.yml").write_text("now\n")
    sides = fleet.sides(workshop, "HEAD")
    name = list(sides)[1]
    assert (sides[name].place / "site.yml").read_text() == "then\n"
    assert sides[name].variables == sides["fleet"].variables
    assert farm.names(name, 1) == [f"bench-{name}-01"] and name.isalnum()
    with pytest.raises(Problem, match="no revision nothing"):
        farm.revision("nothing")


def test_the_limit_of_inotify_is_raised_where_it_is_too_low(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = place / "limit"
    monkeypatch.setattr(farm, "INOTIFY", limit)
    limit.write_text("128\n")
    farm.allow_many(2)
    assert limit.read_text() == "128\n"
    farm.allow_many(60)
    assert int(limit.read_text()) == 60 * farm.INOTIFY_PER_HOST


def test_who_may_not_raise_it_is_told_the_command(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Limit:
        def read_text(self) -> str:
            return "128\n"

        def write_text(self, text: str) -> int:
            raise PermissionError

    monkeypatch.setattr(farm, "INOTIFY", Limit())
    with pytest.raises(Problem, match=r"sudo sysctl fs\.inotify\.max_user_instances=960"):
        farm.allow_many(60)


def test_hosts_see_the_repository_and_cannot_write_it() -> None:
    assert "--volume=/a:/b:ro" in hosts.run_command("x", "bench", volumes=["/a:/b:ro"])


@pytest.mark.parametrize(("text", "wanted"), [("5", [5]), ("20,5,10,5", [5, 10, 20])])
def test_sizes_are_sorted_and_each_is_there_once(text: str, wanted: list[int]) -> None:
    assert fleet.numbers(text) == wanted

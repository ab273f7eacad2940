"""What a shell offers next, from what is typed, and what stands on the host."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.rendering import REPOSITORY, ROLE
from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl
from tests.unit.flaskctl.given import PROCESSES

Stage = Callable[..., str]


def offered(host: FakeHost, *words: str) -> list[str]:
    done = call(host, "--complete", *words)
    assert (done.rc, done.err) == (0, "")
    return done.out.split()


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        ((), ["apps", "hello", "metrics", "other"]),
        (("",), ["apps", "hello", "metrics", "other"]),
        (("he",), ["hello"]),
        (("--ver",), ["--version"]),
        (("apps", ""), []),
        (("metrics", ""), []),
        (("hello", "un"), ["undrain", "unlock"]),
        (("hello", "status", "--d"), ["--drift", "--dry-run"]),
        (("--json", "hello", "undr"), ["undrain"]),
        (("hello", "maintenance", ""), ["off", "on"]),
        (("hello", "stage", "--try", ""), ["health", "import"]),
        (("hello", "stage", "--config", ""), []),  # a file: the shell's own affair
        (("hello", "prune", "--keep", ""), []),
        (("hello", "logs", "-f", "--pro"), ["--process"]),
        (("hello", "logs", "--process", "w"), ["web", "worker", "worker-1"]),
        (("hello", "run", "--", "fl"), []),
        (("hello", "nonsense", ""), []),
        (("../x", "activate", ""), []),
    ],
)
def test_what_may_come_next_is_offered(host: FakeHost, stage: Stage, words: tuple[str, ...], offers: list[str]) -> None:
    (host.root / "etc/flaskctl/other.json").write_text("{}")
    stage("v1", processes=PROCESSES)
    assert offered(host, *words) == offers


@pytest.mark.parametrize("words", [("activate",), ("rollback",), ("verify",), ("run", "--release")])
def test_the_releases_of_the_host_are_offered(host: FakeHost, stage: Stage, words: tuple[str, ...]) -> None:
    ids = sorted([stage("v1"), stage("v2")])
    assert offered(host, "hello", *words, "") == ids
    assert offered(host, "hello", *words, ids[0][:5]) == ids[:1]
    assert offered(host, "other", *words, "") == []


def test_each_command_and_each_option_is_offered(host: FakeHost) -> None:
    commands = flaskctl.commands_of(flaskctl.parser())
    assert offered(host, "hello", "") == sorted(commands)
    for name, command in commands.items():
        known = {option for action in command._actions for option in action.option_strings if option.startswith("--")}
        assert set(offered(host, "hello", name, "--")) == known


def test_bash_asks_flaskctl_and_takes_what_it_says(tmp_path: Path) -> None:
    (tmp_path / "flaskctl").write_text('#!/bin/sh\necho noise >&2\nfor word; do echo "[$word]"; done\n')
    (tmp_path / "flaskctl").chmod(0o755)
    script = """
        PATH=$1:$PATH; source "$2"
        COMP_WORDS=(flaskctl hello 'a b' '' behind) COMP_CWORD=3
        _flaskctl && printf '%s\\n' "${COMPREPLY[@]}" && complete -p flaskctl
    """
    file = ROLE / "files/flaskctl.bash"
    done = subprocess.run(["bash", "-c", script, "-", tmp_path, file], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == [
        *("[--complete]", "[hello]", "[a b]", "[]"),
        "complete -o default -F _flaskctl flaskctl",
    ], done.stderr


def test_the_version_is_that_of_the_collection(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    with pytest.raises(SystemExit) as ended:
        call(host, "--version")
    version = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["version"]
    assert ended.value.code == 0 and capsys.readouterr().out == f"flaskctl {version}, {ROLE}/files\n"

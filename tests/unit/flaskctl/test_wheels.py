"""Wheels in place of an index: when they are asked for, how they come, what pip is told, and when they go."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl, note
from tests.unit.flaskctl.given import archive, config

LOCK = {"requirements.txt": "flask==3.0.3 --hash=sha256:0\n"}
PROJECT = {**LOCK, "pyproject.toml": "[build-system]\n[project]\nname = 'hello'\n"}
Send = Callable[..., Any]


@pytest.fixture
def send(host: FakeHost, tmp_path: Path) -> Send:
    """Stage a source, with the configuration that asks no index, and perhaps with wheels."""

    def sent(version: str, *more: str, files: dict[str, str] = LOCK, **changes: Any) -> Any:
        path = archive(tmp_path / f"{version}.tar.gz", {"app.py": version, **files})
        words = ["hello", "stage", str(path), "--config", "-", "--json", *more]
        return call(host, *words, stdin=config(**{"wheelhouse": True, **changes}))

    return sent


def wheels(path: Path, key: str, **files: str) -> Path:
    """Write what the control node sends."""
    lines = {"key": key, "requirements.txt": f"flask==3.0.3 --hash=sha256:{'0' * 64}\n", "wheels/flask.whl": "zip"}
    return archive(path, {**lines, **files})


def needed(answer: Any) -> str:
    """The key of the virtualenv for which wheels are asked."""
    return str(answer.json["wheels_needed"]["key"])


def test_a_host_without_the_wheels_asks_for_them_once_and_installs_from_them_alone(
    host: FakeHost, send: Send, tmp_path: Path
) -> None:
    asked = send("v1")
    assert (asked.rc, asked.json["staged"], asked.json["changed"]) == (3, False, False)
    assert asked.json["wheels_needed"] == {"key": needed(asked), "version": "3.11.2", "libc": "glibc 2.36"}
    assert not [*(base(host) / "venvs").glob("*")] and not [*(base(host) / "releases").glob("*")]
    path = wheels(tmp_path / "w.tar.gz", needed(asked))
    host.calls.clear()
    host.environments.clear()
    assert send("v1", "--wheels", str(path)).json["staged"]
    home = base(host) / "wheels" / needed(asked)
    installs = [argv for argv in host.calls if "install" in argv]
    words = ["install", "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r"]
    assert installs[0][-7:] == [*words, str(home / "requirements.txt")]
    told = [environment for argv, environment in zip(host.calls, host.environments, strict=True) if "pip" in argv[:4]]
    assert told and all(each["PIP_NO_INDEX"] == "1" and str(home) in each["PIP_FIND_LINKS"] for each in told)
    assert not any("requirements.txt" in argv for argv in installs), "the host resolves nothing"
    again = send("v2")
    assert again.json["staged"] and again.json["wheels_needed"] is None, "the virtualenv is there: only code was sent"


def test_a_dry_run_asks_for_nothing(send: Send) -> None:
    assert send("v1", "--dry-run").rc == 0


def test_with_an_index_nothing_is_asked_for(host: FakeHost, send: Send) -> None:
    assert send("v1", wheelhouse=False).json["staged"]
    assert not any("PIP_NO_INDEX" in environment for environment in host.environments)


def test_a_project_is_built_from_wheels_with_each_release(host: FakeHost, send: Send, tmp_path: Path) -> None:
    asked = send("v1", files=PROJECT)
    path = wheels(tmp_path / "w.tar.gz", needed(asked))
    assert send("v1", "--wheels", str(path), files=PROJECT).json["staged"]
    host.environments.clear()
    assert send("v2", files=PROJECT).json["staged"]
    assert any("PIP_FIND_LINKS" in environment for environment in host.environments)
    flaskctl.erase(base(host) / "wheels")
    assert needed(send("v3", files=PROJECT)) == needed(asked), "the virtualenv stands, and the build wants wheels"


def test_wheels_that_are_damaged_are_refused_and_those_that_do_not_install_are_asked_for_anew(
    host: FakeHost, send: Send, tmp_path: Path
) -> None:
    key = needed(send("v1"))
    path = wheels(tmp_path / "w.tar.gz", key)
    refused = send("v1", "--wheels", str(path), "--wheels-sha256", "0" * 64)
    assert refused.rc == 1 and "is corrupt" in refused.json["msg"]
    assert not [*(base(host) / "wheels").glob("*")]
    host.pip_fails = "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"
    damaged = send("v1", "--wheels", str(path))
    assert damaged.rc == 1 and damaged.json["remedy"] == "run the playbook: it sends the wheels anew"
    host.pip_fails = ""
    assert needed(send("v1")) == key


@pytest.mark.parametrize("key", ["", "../../etc", "a b"])
def test_wheels_for_no_virtualenv_are_refused(host: FakeHost, send: Send, tmp_path: Path, key: str) -> None:
    answer = send("v1", "--wheels", str(wheels(tmp_path / "w.tar.gz", key)))
    assert answer.rc == 1 and "holds no wheels" in answer.json["msg"]
    assert not [*(base(host) / "wheels").glob("*")]


def test_wheels_go_with_their_virtualenv_and_with_the_app(host: FakeHost, send: Send, tmp_path: Path) -> None:
    def release(version: str) -> str:
        files = {"requirements.txt": f"flask=={version} --hash=sha256:0\n"}
        host.sleep(60)
        path = wheels(tmp_path / "w.tar.gz", needed(send(version, files=files)))
        return str(send(version, "--wheels", str(path), files=files).json["id"])

    note(host)
    ids = [release(version) for version in ("1", "2", "3")]
    assert call(host, "hello", "activate", ids[2]).rc == 0
    assert len([*(base(host) / "wheels").iterdir()]) == 3
    assert call(host, "hello", "prune", "--keep", "2").rc == 0
    left = {path.name for path in (base(host) / "wheels").iterdir()}
    assert left == {path.name for path in (base(host) / "venvs").iterdir()} and len(left) == 2
    assert call(host, "hello", "remove").rc == 0
    assert not (base(host) / "wheels").exists()


def test_what_an_interpreter_is_asked_runs_and_tells_each_marker() -> None:
    import subprocess
    import sys

    from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheel_tags import checked

    done = subprocess.run([sys.executable, "-I", "-c", flaskctl.FACTS], capture_output=True, text=True, check=True)
    found = checked({"key": "cpython-311-x86_64-0", **json.loads(done.stdout)}, "web1")
    assert re.match(r"3\.\d+\.\d+\Z", found["version"]) and found["markers"]["sys_platform"] == "linux"

"""The wheels for a host: which fit its Python, what pip is asked for, what is built here, what a host is believed."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils import wheelhouse
from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheel_tags import (
    Unfit,
    checked,
    platforms,
    restrictions,
    runs_there,
)

from tests.unit.flaskctl.given import archive

MARKERS = {
    "implementation_name": "cpython",
    "implementation_version": "3.9.2",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_release": "",
    "platform_system": "Linux",
    "platform_version": "",
    "python_full_version": "3.9.2",
    "python_version": "3.9",
    "sys_platform": "linux",
}
HOST = {"key": "k", "arch": "x86_64", "libc": "glibc 2.31", "threads": "", "version": "3.9.2", "markers": MARKERS}
HERE = {"arch": "x86_64", "libc": "glibc 2.36", "threads": "", "version": "3.11.7"}


@pytest.mark.parametrize(
    ("arch", "libc", "there", "not_there"),
    [
        (
            "x86_64",
            "glibc 2.31",
            ["manylinux_2_31_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64"],
            "manylinux_2_32_",
        ),
        (
            "aarch64",
            "glibc 2.41",
            ["manylinux_2_41_aarch64", "manylinux2014_aarch64", "linux_aarch64"],
            "manylinux2010",
        ),
        ("armv7l", "glibc 2.36", ["manylinux_2_17_armv7l"], "manylinux_2_16"),
    ],
)
def test_the_platforms_reach_from_the_hosts_glibc_down(arch: str, libc: str, there: list[str], not_there: str) -> None:
    found = platforms(arch, libc)
    assert set(there) <= set(found) and not [each for each in found if each.startswith(not_there)]
    assert found[0].startswith(f"manylinux_{libc.partition(' ')[2].replace('.', '_')}"), "the closest is preferred"


def test_pip_is_told_the_hosts_python_and_no_other() -> None:
    found = restrictions(HOST)
    assert found[:3] == ["--only-binary=:all:", "--implementation=cp", "--python-version=3.9.2"]
    assert not [each for each in found if each.startswith("--abi")], "pip knows those of a version"
    assert "--abi=cp39t" in restrictions({**HOST, "threads": "t"})


@pytest.mark.parametrize(
    ("wheel", "host", "fits"),
    [
        ("docopt-0.6.2-py2.py3-none-any.whl", HOST, True),
        ("old-1-py2-none-any.whl", HOST, False),
        ("a-1-cp311-cp311-linux_x86_64.whl", HOST, False),
        ("a-1-cp311-cp311-linux_x86_64.whl", {**HOST, "version": "3.11.2", "libc": "glibc 2.36"}, True),
        ("a-1-cp311-cp311-linux_x86_64.whl", {**HOST, "version": "3.11.2"}, False),
        ("a-1-cp311-cp311-linux_x86_64.whl", {**HOST, "version": "3.11.2", "libc": "glibc 2.41"}, True),
        (
            "a-1-cp311-cp311-linux_x86_64.whl",
            {**HOST, "version": "3.11.2", "libc": "glibc 2.41", "arch": "aarch64"},
            False,
        ),
        ("a-1-py3-none-linux_x86_64.whl", HOST, False),
    ],
)
def test_what_is_built_here_runs_where_python_and_libraries_are_no_older(
    wheel: str, host: dict[str, Any], fits: bool
) -> None:
    assert runs_there(wheel, host, HERE) is fits


@pytest.mark.parametrize(
    "facts",
    [
        {},
        {**HOST, "markers": {}},
        {**HOST, "arch": "x86_64 --index-url http://evil/"},
        {**HOST, "version": None},
        {**HOST, "key": "../../x"},
        {**HOST, "markers": {**MARKERS, "sys_platform": "\n--find-links"}},
        {**HOST, "libc": ""},
        {**HOST, "libc": "musl 1.2"},
    ],
)
def test_what_a_host_tells_is_words_or_it_is_refused_by_its_name(facts: dict[str, Any]) -> None:
    with pytest.raises(Unfit, match="web7"):
        checked(facts, "web7")


class Pip:
    """A pip that has these wheels, and builds those of `sources`; it keeps what it was asked."""

    def __init__(self, wheels: list[str], sources: dict[str, str]) -> None:
        self.wheels, self.sources = wheels, sources
        self.calls: list[list[str]] = []
        self.locks: list[str] = []

    def __call__(self, job: Any, *words: str, **_more: Any) -> tuple[int, str]:
        self.calls.append(list(words))
        if words[0] == "wheel":
            line = Path(words[-1]).read_text()
            made = self.sources.get(line.strip(), self.sources.get(line.partition("==")[0]))
            if made is None:
                return 1, f"ERROR: Could not find a version that satisfies {line}"
            (job.work / "built" / made).write_text("built")
            return 0, ""
        dest = Path(words[words.index("--dest") + 1])
        built = {path.name.partition("-")[0] for path in (job.work / "built").iterdir()}
        lacking = (
            sorted({name for name in self.sources if "/" not in name} - built) if "requirements.txt" in words else []
        )
        self.locks += [(job.tree / "requirements.txt").read_text()] if "requirements.txt" in words else []
        if lacking:
            return 1, f"ERROR: No matching distribution found for {lacking[0]}==1 (from hello)"
        for name in ["setuptools-1-py3-none-any.whl"] if dest.name == "build" else self.wheels:
            (dest / name).write_text(name)
        return 0, ""


Fetch = Callable[..., Any]


@pytest.fixture
def fetch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fetch:
    """Fetch the wheels of a source for a host, with a pip of the test."""
    monkeypatch.setattr(wheelhouse, "CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(wheelhouse, "here", lambda: HERE)

    def fetched(pip: Pip, files: dict[str, str], **changes: Any) -> Any:
        monkeypatch.setattr(wheelhouse.Job, "pip", lambda *words, **more: pip(*words, **more))
        path = archive(tmp_path / "app.tar.gz", {"app.py": "", **files})
        config = {
            "server_requirements": "gunicorn==23.0.0 --hash=sha256:1\n",
            "build_set": "setuptools==1 --hash=sha256:2\n",
        }
        key = changes.pop("key", None) or key_of(str(path), config, tmp_path)
        return wheelhouse.wheels_for(str(path), config, {**HOST, **changes, "key": key}, "web7")

    return fetched


def key_of(path: str, config: dict[str, Any], tmp_path: Path) -> str:
    """What a host would call the virtualenv."""
    try:
        wheelhouse.wheels_for(path, config, {**HOST, "key": "none"}, "web7")
    except Unfit as error:
        return str(error).partition("this source has ")[2].partition(":")[0]
    raise AssertionError


def members(path: Path) -> dict[str, str]:
    """What is in the file that is sent."""
    with gzip.open(path) as zipped, tarfile.open(fileobj=zipped) as tar:
        return {name: content.read().decode() for name in tar.getnames() if (content := tar.extractfile(name))}


LOCK = {"requirements.txt": "flask==3.0.3 --hash=sha256:0\nold==1 \\\n    --hash=sha256:5\n"}


def test_all_wheels_come_with_their_hashes_once(fetch: Fetch) -> None:
    pip = Pip(["flask-3.0.3-py3-none-any.whl", "zope_event-5.0-py3-none-any.whl", "source-1.zip"], {})
    found = fetch(pip, LOCK)
    held = members(found.path)
    assert "wheels/source-1.zip" not in held, "what the source itself holds is built on the host"
    names = [line.partition(" --hash=sha256:")[0] for line in held["requirements.txt"].splitlines()]
    assert names == ["flask==3.0.3", "zope-event==5.0"]
    assert [words[-2:] for words in pip.calls] == [["-r", "requirements.txt"], ["-r", pip.calls[1][-1]]]
    assert "--require-hashes" in pip.calls[1], "the role's own server is locked"
    again = fetch(pip, LOCK)
    assert again == found and len(pip.calls) == 2
    assert fetch(pip, LOCK, libc="glibc 2.36") != found and len(pip.calls) == 4, "another host, other wheels"


def test_a_package_without_a_wheel_is_built_here_by_its_locked_hash(fetch: Fetch) -> None:
    pip = Pip(["flask-3.0.3-py3-none-any.whl"], {"old": "old-1-py3-none-any.whl"})
    fetch(pip, LOCK)
    built = next(words for words in pip.calls if words[0] == "wheel")
    assert "--require-hashes" in built and built[built.index("--no-binary") + 1] == "old"
    assert "--hash=sha256:5 --hash=sha256:" in pip.locks[-1], "the lock takes what was built of what it names"


def test_a_package_that_cannot_be_built_here_is_named_once_for_all_hosts(fetch: Fetch) -> None:
    pip = Pip([], {"old": "old-1-cp311-cp311-linux_x86_64.whl"})
    with pytest.raises(
        Unfit, match=r"old==1 has no wheel for CPython 3.9.2 on x86_64 with glibc 2.31, .* does not run"
    ):
        fetch(pip, LOCK)
    pip = Pip([], {"gone": None})  # type: ignore[dict-item]
    with pytest.raises(Unfit, match=r"gone==1 has no wheel .* could not build it \(it has another Python"):
        fetch(pip, LOCK)


@pytest.mark.parametrize(
    "line",
    [
        "git+https://git.example.com/dep.git@v1",
        "-e git+https://git.example.com/dep.git@v1#egg=dep",
        "dep @ git+https://git.example.com/dep.git@v1",
        "https://files.example.com/dep-1.tar.gz",
    ],
)
def test_what_comes_from_a_repository_is_built_here_for_the_host_cannot_reach_it(fetch: Fetch, line: str) -> None:
    wanted = line.replace("-e ", "")
    pip = Pip(["dep-1-py3-none-any.whl"], {wanted: "dep-1-py3-none-any.whl"})
    held = members(
        fetch(
            pip, {"requirements.txt": f"flask\n{line}\nother @ git+ssh://git.example.com/x ; python_version < '3'\n"}
        ).path
    )
    assert pip.locks == ["flask\ndep==1\n"] and held["requirements.txt"].startswith("dep==1 --hash=sha256:")


def test_a_wheel_by_its_url_is_fetched_as_it_is(fetch: Fetch) -> None:
    pip, line = Pip(["dep-1-py3-none-any.whl"], {}), "dep @ https://files.example.com/dep-1-py3-none-any.whl"
    fetch(pip, {"requirements.txt": f"{line}\n"})
    assert pip.locks == [f"{line}\n"]


def test_a_project_brings_what_builds_it(fetch: Fetch) -> None:
    pip = Pip(["flask-3.0.3-py3-none-any.whl"], {})
    held = members(fetch(pip, {**LOCK, "setup.py": "", "pyproject.toml": ""}).path)
    assert "build/setuptools-1-py3-none-any.whl" in held
    assert pip.calls[-1][-4:-1] == ["--no-deps", "--require-hashes", "-r"], "all is locked, so this is too"
    fetch(pip, {"requirements.txt": "flask\n", "setup.py": ""})
    assert pip.calls[-1][-3:] == ["--", "setuptools", "wheel"]


def test_a_host_that_names_another_lock_gets_nothing(fetch: Fetch) -> None:
    with pytest.raises(Unfit, match="run again"):
        fetch(Pip([], {}), LOCK, key="cpython-39-x86_64-000000000000")


def test_the_umask_of_the_control_node_does_not_count(fetch: Fetch, tmp_path: Path) -> None:
    files = {"requirements.txt": "./libs/tax\n", "libs/tax/setup.py": "", "libs/tax/tax/__init__.py": ""}
    path, config = archive(tmp_path / "p.tar.gz", files), {"server_requirements": "gunicorn==23.0.0 --hash=sha256:1\n"}
    fetch(Pip([], {}), LOCK)  # the cache is the test's from here on
    keys = []
    for mask in (0o022, 0o077):
        before = os.umask(mask)
        keys.append(key_of(str(path), config, tmp_path))
        assert os.umask(before) == mask
    assert keys[0] == keys[1], "a host would ask for other wheels than these, for ever"


def test_markers_are_those_of_the_host(tmp_path: Path) -> None:
    """The real pip resolves for Python 3.9 here; nothing but a file of ours is installed from."""
    import subprocess

    from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheelhouse import PIP, pythons_with_pip

    (tmp_path / "r.txt").write_text('nothere==1 ; python_version >= "3.10"\n')
    argv = [pythons_with_pip(), "-c", PIP, json.dumps(MARKERS), "download", "--no-index", "-r", str(tmp_path / "r.txt")]
    done = subprocess.run([*argv, "--dest", str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "Ignoring nothere" in done.stdout, done

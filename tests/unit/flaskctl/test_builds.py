"""Builds: what runs in which sandbox, what root takes over of it, and what a source is built with."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.rendering import REPOSITORY
from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl
from tests.unit.flaskctl.given import archive, config

Stage = Callable[..., str]
ME = {os.getuid()}
LOCKED = (REPOSITORY / "roles/flask_gunicorn_nginx/files/build.txt").read_text()
HASHED = "flask==3 --hash=sha256:0\n"
PROJECT = '[project]\nname = "shop"\n[build-system]\nrequires = ["hatchling>=1.24", \'hatch-vcs\']\n'


# --- what root takes over


def tree(place: Path) -> Path:
    (place / "lib/pkg").mkdir(parents=True)
    (place / "lib/pkg/code.py").write_text("1")
    (place / "lib64").symlink_to("lib")
    return place


def test_a_tree_is_taken_over_with_plain_modes_and_links_that_stay_in_it(tmp_path: Path) -> None:
    home, python = tree(tmp_path / "venv"), tmp_path / "python3.11"
    python.touch()
    (tmp_path / "python3").symlink_to(python)
    (home / "python").symlink_to(tmp_path / "python3")
    (home / "python3").symlink_to("python")
    (home / "dangling").symlink_to("lib/nothing")
    for path, mode in (
        (home, 0o2777),
        (home / "lib", 0o1777),
        (home / "lib/pkg", 0o700),
        (home / "lib/pkg/code.py", 0o666),
    ):
        path.chmod(mode)
    (home / "run").write_text("")
    (home / "run").chmod(0o700)
    flaskctl.take_over(home, ME, str(tmp_path / "python3"))
    found = {
        str(path.relative_to(tmp_path)): path.stat().st_mode & 0o7777
        for path in [home, *home.rglob("*")]
        if not path.is_symlink()
    }
    assert found == {
        "venv": 0o755,
        "venv/lib": 0o755,
        "venv/lib/pkg": 0o755,
        "venv/lib/pkg/code.py": 0o644,
        "venv/run": 0o755,
    }


def deep(home: Path) -> None:
    descriptor = os.open(home, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)


HARM = {
    "is a link to /etc/passwd, out of it": lambda home: (home / "x").symlink_to("/etc/passwd"),
    "is a link to ../../x, out of it": lambda home: (home / "lib/x").symlink_to("../../x"),
    # a link through a link: its words alone lead inside
    "is a link to pkg2/../.., out of it": lambda home: (
        (home / "lib/pkg2").symlink_to("pkg"),
        (home / "lib/x").symlink_to("pkg2/../.."),
    ),
    "out of it": lambda home: (home / "x").symlink_to(home / "lib"),
    "x is neither file, directory nor link": lambda home: os.mkfifo(home / "x"),
    "pkg/code.py is setuid or setgid": lambda home: (home / "lib/pkg/code.py").chmod(0o4755),
    "x is setuid or setgid": lambda home: ((home / "x").touch(), (home / "x").chmod(0o2755)),
    "has another name (a hard link)": lambda home: os.link(home / "lib/pkg/code.py", home / "lib/other.py"),
    "directories in one another": deep,
}


@pytest.mark.parametrize("why", HARM)
def test_what_root_would_not_have_made_is_refused_and_can_be_erased(tmp_path: Path, why: str) -> None:
    home = tree(tmp_path / "venv")
    if why == "is a link to pkg2/../.., out of it":
        (home / "lib/pkg/deep").mkdir()
    HARM[why](home)
    if why.startswith("is a link to pkg2"):  # pkg2/../.. is the tree itself: one more leads out
        (home / "lib/x").unlink()
        (home / "lib/x").symlink_to("pkg2/../../..")
        why = "is a link to pkg2/../../.., out of it"
    with pytest.raises(flaskctl.Refused, match=re.escape(why)):
        flaskctl.take_over(home, ME, "")
    assert flaskctl.erase(home) and [*tmp_path.iterdir()] == []


def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(flaskctl.Refused, match="belongs to another user"):
        flaskctl.take_over(tree(tmp_path / "venv"), {os.getuid() + 1}, "")


# --- where it runs


def refusal(host: FakeHost, path: Path) -> str:
    source = archive(path / "refused.tar.gz", {"app.py": "", "requirements.txt": "flask==2\n"})
    result = call(host, "hello", "stage", str(source), "--config", "-", "--json", stdin=config())
    assert result.rc == 1, result
    return str(result.json["msg"])


def test_only_what_asks_the_index_has_a_network_and_its_password(host: FakeHost, tmp_path: Path) -> None:
    host.environ = {"https_proxy": "http://u:pw@proxy"}
    path = archive(tmp_path / "x.tar.gz", {"pyproject.toml": PROJECT, "requirements.txt": HASHED})
    given = config(index_url="https://u:pw@i/", build_set=LOCKED)
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=given)
    assert result.rc == 0, result
    calls = [(argv[4:6], e) for argv, e in zip(host.calls, host.environments, strict=True) if argv[3:4] == ["pip"]]
    apart = ["PrivateNetwork" in settings for settings in host.builds]
    assert apart == [True, False, False, True, False, True], "venv, install, server, check; tools, project"
    for (_, environment), alone in zip(calls, apart[1:], strict=True):
        assert ({"PIP_INDEX_URL", "https_proxy"} & set(environment) == set()) == alone
    assert not any("pw" in word for argv in host.calls for word in argv)


def test_other_apps_and_their_data_are_hidden_and_of_the_own_all_but_the_work(host: FakeHost, stage: Stage) -> None:
    (host.root / "etc/flaskctl/shop.json").write_text("{}")
    stage("v1")
    for settings in host.builds:
        hidden = {path.removeprefix(f"-{host.root}") for path in settings["InaccessiblePaths"]}
        assert {"/srv/shop", "/var/lib/shop", "/var/lib/hello"} <= hidden
        assert str(base(host)) in settings["TemporaryFileSystem"]
        assert settings["DynamicUser"] == ["yes"] and len(settings["User"][0]) < 32


def test_clouds_are_as_far_from_a_build_as_from_an_app(host: FakeHost, stage: Stage) -> None:
    template = (REPOSITORY / "roles/flask_gunicorn_nginx/templates/sandbox.conf.j2").read_text()
    stage("v1")
    assert f"IPAddressDeny={host.builds[1]['IPAddressDeny'][0]}\n" in template


def test_a_host_without_namespaces_builds_as_nobody_and_says_so(host: FakeHost, tmp_path: Path) -> None:
    host.namespaces = False
    host.accounts["nobody"] = flaskctl.Account(os.getuid(), os.getgid(), "/nonexistent", "/usr/sbin/nologin")
    path = archive(tmp_path / "x.tar.gz", {"app.py": "", "requirements.txt": "flask==3\n"})
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config())
    assert result.rc == 0 and "runs as the user nobody" in " ".join(result.json["warnings"]), result
    assert "no namespaces to builds (226/NAMESPACE)" in " ".join(result.json["warnings"])
    assert [settings.get("User") for settings in host.builds[2:]] == [["nobody"]] * (len(host.builds) - 2)
    # LXD gives mounts, and no user: all but these is read-only then
    venvs, key = base(host) / "venvs", result.json["venv"]["key"]
    written = [str(venvs / key), str(venvs / f".{key}.build/scratch")]
    assert all(settings["ReadWritePaths"] == written for settings in host.builds[2:])
    assert [path.name for path in (base(host) / "venvs").iterdir()] == [result.json["venv"]["key"]]


def test_a_build_may_run_the_virtualenv_that_its_app_alone_may_read(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "group", lambda name: 991 if name == "hello" else None, raising=False)
    stage("v1")
    assert host.builds and all(settings["SupplementaryGroups"] == ["hello"] for settings in host.builds)


def test_a_package_cannot_ask_for_less_of_a_sandbox(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends with the code that systemd has for a sandbox that it could not make; and the host makes them well."""
    real = host.run_python
    monkeypatch.setattr(host, "run_python", lambda argv: flaskctl.Done(226) if "pip" in argv else real(argv))
    assert "could not be installed" in refusal(host, tmp_path)
    assert all("DynamicUser" in settings for settings in host.builds)


def test_what_a_killed_flaskctl_has_left_building_is_stopped(host: FakeHost, stage: Stage, tmp_path: Path) -> None:
    host.set_unit("hello.build.service", ActiveState="active")
    stage("v1")
    assert ["systemctl", "stop", "hello.build.service"] in host.calls
    host.stubborn.add("hello.build.service")
    host.set_unit("hello.build.service", ActiveState="active")
    assert "hello.build.service, which builds, does not stop" in refusal(host, tmp_path)


def test_root_never_starts_the_python_of_a_virtualenv(host: FakeHost, stage: Stage, tmp_path: Path) -> None:
    release = stage("v1")
    stage("v2")
    call(host, "hello", "activate", release)
    call(host, "hello", "status", "--drift")
    call(host, "hello", "doctor")
    inner = [argv for argv in host.calls if "/bin/python" in argv[0]]
    built = [argv for argv in host.calls if "--unit=hello.build.service" in argv]
    assert len(inner) == len([argv for argv in built if argv[-1] != "true"]) - 1, "all within it; the other one is venv"


def test_a_harmful_package_is_refused_whole(host: FakeHost, tmp_path: Path) -> None:
    host.on_build = lambda place: None if (place / "fifo").exists() else os.mkfifo(place / "fifo")
    assert "fifo is neither file, directory nor link" in refusal(host, tmp_path)
    assert not [*(base(host) / "venvs").iterdir()] and not [*(base(host) / "releases").iterdir()]


# --- what it is built with


@pytest.mark.parametrize(
    ("pyproject", "wanted"),
    [
        ("", ["setuptools", "wheel"]),
        ('[project]\nname = "x"\n', ["setuptools", "wheel"]),
        (PROJECT, ["hatchling", "hatch-vcs"]),
        ('[build-system]\nrequires = [\n  "flit_core >=3,<4", # why\n]\nbuild-backend = "x"\n', ["flit-core"]),
        ('[build-system]\nrequires=["poetry-core[x]>=1"]\n', ["poetry-core"]),
        ('[tool.x]\nrequires = ["cython"]\n[build-system]\nrequires = []\n', []),
    ],
)
def test_what_a_project_is_built_with_is_read(pyproject: str, wanted: list[str]) -> None:
    assert flaskctl.build_requires(pyproject) == wanted


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["setuptools", "wheel"], {"setuptools", "wheel", "packaging"}),
        (["flit-core"], {"flit-core"}),
        (["pdm-backend"], {"pdm-backend", "importlib-metadata", "zipp"}),
        (["hatch-vcs"], {"hatch-vcs", "hatchling", "pathspec", "pluggy", "trove-classifiers", "setuptools-scm"}),
    ],
)
def test_of_the_locked_set_comes_what_is_wanted_with_all_that_it_needs(wanted: list[str], names: set[str]) -> None:
    text, lacking = flaskctl.chosen(LOCKED, wanted)
    found = {flaskctl.requirement_name(line) for line in flaskctl.requirement_lines(text)}
    assert names <= found and not lacking
    assert all("--hash=sha256:" in line for line in flaskctl.requirement_lines(text))
    assert flaskctl.chosen(LOCKED, [*wanted, "cython"])[1] == ["cython"]


def built(host: FakeHost, path: Path, files: dict[str, str], **changes: object) -> list[list[str]]:
    source = archive(path / "x.tar.gz", files)
    given = config(build_set=LOCKED, **changes)
    result = call(host, "hello", "stage", str(source), "--config", "-", "--json", stdin=given)
    host.rc, host.answer = result.rc, result.json  # type: ignore[attr-defined]
    return [argv[4:] for argv in host.calls if argv[3:4] == ["pip"]]


def test_a_source_of_which_all_is_locked_is_built_with_what_is_locked(host: FakeHost, tmp_path: Path) -> None:
    pip = built(host, tmp_path, {"pyproject.toml": PROJECT, "requirements.txt": HASHED})
    tools, project = pip[-2:]
    assert "--require-hashes" in tools and tools[tools.index("--only-binary") + 1] == ":all:"
    assert project[:2] == ["install", "--no-deps"] and "--no-build-isolation" in project
    environment = host.environments[-2] if "compileall" in host.calls[-1] else host.environments[-1]
    assert any(each.get("PYTHONPATH", "").endswith("/scratch/tools") for each in host.environments), environment


def test_what_nothing_locks_is_refused_by_name(host: FakeHost, tmp_path: Path) -> None:
    project = PROJECT.replace("hatch-vcs", "cython")
    built(host, tmp_path, {"pyproject.toml": project, "requirements.txt": HASHED})
    assert "is not locked: cython" in host.answer["msg"], host.answer  # type: ignore[attr-defined]
    files = {"pyproject.toml": project, "requirements.txt": HASHED, "build.txt": "cython==3 --hash=sha256:0\n"}
    assert built(host, tmp_path, files, build_requirements="build.txt")[-1][-1].endswith("/source")


def test_a_dependency_without_a_wheel_is_built_with_what_is_locked(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = host.run_python

    def run(argv: list[str]) -> object:
        lacks = "--only-binary" in argv and "--target" not in argv and "-r" in argv and argv[-1] == "requirements.txt"
        return flaskctl.Done(1, "", "ERROR: No matching distribution found for x==1") if lacks else real(argv)

    monkeypatch.setattr(host, "run_python", run)
    pip = built(host, tmp_path, {"requirements.txt": HASHED})
    assert [words[1] for words in pip[:3]] == ["--require-hashes", "--target", "--require-hashes"]
    assert "--use-pep517" in pip[2] and "--only-binary" not in pip[2]
    host.calls.clear()
    pip = built(host, tmp_path, {"requirements.txt": HASHED, "app.py": "2"}, only_binary=True, python="/x/bin/python3")
    assert len(pip) == 1 and "no wheel of x 1 for Python 3.11, and only_binary asks for one" in host.answer["msg"]  # type: ignore[attr-defined]


def test_without_hashes_a_source_is_built_as_pip_does_it(host: FakeHost, tmp_path: Path) -> None:
    pip = built(host, tmp_path, {"pyproject.toml": PROJECT, "requirements.txt": "flask\n"})
    assert not [words for words in pip if "--no-build-isolation" in words and "--target" in words]
    pip = built(host, tmp_path, {"requirements.txt": "flask==1\n"}, only_binary=True)
    assert ["install", "--only-binary", ":all:", "-r", "requirements.txt"] in pip


GAVE_UP = """WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by 'NewConnectionError
ERROR: Could not find a version that satisfies the requirement six==1.17.0 (from versions: none)
ERROR: No matching distribution found for six==1.17.0"""


def test_an_index_that_does_not_answer_is_no_lack_of_a_wheel() -> None:
    """Nothing is built then, and nobody is told that there is no such version."""
    words = GAVE_UP.partition("\n")[2]
    assert flaskctl.needs_build(words) and not flaskctl.needs_build(GAVE_UP)
    assert "the index has no such version" in flaskctl.pip_story(words, "3.11")[1]
    assert flaskctl.pip_story(GAVE_UP, "3.11")[1] == "is the index reachable?"


def test_a_package_that_git_cannot_fetch_is_no_build_that_failed() -> None:
    said = (
        "  fatal: unable to access 'https://git.test/a/b/': Could not resolve host: git.test\n"
        "  error: subprocess-exited-with-error\n"
        "  × git clone --filter=blob:none --quiet https://git.test/a/b /tmp/x did not run successfully.\n"
    )
    cause, remedy = flaskctl.pip_story(said, "3.11")
    assert cause == "a package is to come from git, and could not be fetched" and "can this host reach" in remedy
    _cause, remedy = flaskctl.pip_story(said + "git@git.test: Permission denied (publickey).\n", "3.11")
    assert "a build may not read that repository" in remedy


def test_a_package_that_is_in_another_index_is_told_how_that_is_named() -> None:
    said = "ERROR: Could not find a version that satisfies the requirement acme==1.0 (from versions: none)\n"
    assert "flask_gunicorn_nginx_pip: {index_url: URL}" in flaskctl.pip_story(said, "3.11")[1]

"""A release is mended in place only where no process that runs from it can notice: nothing is taken away under one."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl
from tests.unit.flaskctl.given import PROCESSES, archive, config

Stage = Callable[..., str]
BIND = "[Service]\nUser=hello\nBindPaths=/var/lib/hello:/srv/hello/releases/%i/app/instance\n"
FOREIGN = ("app/debug.py", "app/instance/app.sqlite", "notes.txt")


def again(host: FakeHost, tmp_path: Path, version: str = "v1", **changes: object) -> flaskctl.Json:  # type: ignore[name-defined]
    path = tmp_path / f"{version}.tar.gz"
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config(**changes))
    assert result.rc == 0, result
    return result.json


def put(home: Path, name: str) -> Path:
    (home / name).parent.mkdir(exist_ok=True)
    (home / name).write_text("x")
    return home / name


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("runs", ["hello@{}.service", "hello.tick@{}.service", "hello-run-7.service"])
def test_what_was_not_deployed_stays_while_something_runs_from_the_release(
    host: FakeHost, stage: Stage, tmp_path: Path, name: str, runs: str
) -> None:
    one = stage("v1", processes=PROCESSES)
    path = put(base(host) / "releases" / one, name)
    call(host, "hello", "activate", one if runs.startswith("hello@") else stage("v2"))
    host.set_unit(runs.format(one), ActiveState="active")
    answer = again(host, tmp_path, processes=PROCESSES)
    assert (answer["changed"], answer["repairs"]) == (False, [])
    assert path.exists() and str(base(host) / "releases" / one / name.split("/app.sqlite")[0]) in str(
        answer["warnings"]
    )

    (base(host) / "releases" / one / "app/app.py").write_text(
        "changed by hand"
    )  # what is mended beside it takes nothing
    assert again(host, tmp_path, processes=PROCESSES)["repairs"] == [f"files of {one}/app"]
    assert path.exists() and (base(host) / "releases" / one / "app/app.py").read_text() == "v1"


@pytest.mark.parametrize("name", FOREIGN)
def test_what_was_not_deployed_goes_when_nothing_runs_from_the_release(
    host: FakeHost, stage: Stage, tmp_path: Path, name: str
) -> None:
    one = stage("v1")
    path = put(base(host) / "releases" / one, name)
    assert again(host, tmp_path)["changed"] is True
    assert not path.exists()
    assert again(host, tmp_path)["changed"] is False


@pytest.mark.parametrize("runs", [True, False])
def test_a_link_in_place_of_a_directory_stays_while_something_runs_and_nothing_is_written_through_it(
    host: FakeHost, tmp_path: Path, runs: bool
) -> None:
    files = {"app.py": "v1", "requirements.txt": "flask==3.0.3\n", "uploads/README": "here", "uploads/a/b": "c"}
    path = archive(tmp_path / "v1.tar.gz", files)
    stage = ("hello", "stage", str(path), "--config", "-", "--json")
    one = call(host, *stage, stdin=config()).json["id"]
    call(host, "hello", "activate", one) if runs else None
    uploads = base(host) / "releases" / one / "app/uploads"
    (tmp_path / "disk").mkdir(mode=0o700)
    (tmp_path / "disk/photo").write_text("x")
    flaskctl.erase(uploads)
    uploads.symlink_to(tmp_path / "disk")
    answer = call(host, *stage, stdin=config()).json
    assert (tmp_path / "disk").stat().st_mode & 0o777 == 0o700
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["photo"]
    assert (answer["changed"], uploads.is_symlink(), "not deployed" in str(answer["warnings"])) == (
        not runs,
        runs,
        runs,
    ), answer
    assert call(host, *stage, stdin=config()).json["changed"] is False
    (base(host) / "releases" / one / "app/app.py").write_text("by hand")
    assert call(host, *stage, stdin=config()).json["repairs"] == [f"files of {one}/app"]
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["photo"]


@pytest.mark.parametrize(
    "setting",
    [
        "BindPaths=/var/lib/hello:/srv/hello/releases/%i/app/instance",
        "BindPaths=-/var/lib/hello:/srv/hello/current/app/instance:rbind /mnt",
        'BindReadOnlyPaths="/var/lib/a b:/srv/hello/releases/%i/app/instance/deep"',
        "TemporaryFileSystem=/srv/hello/releases/%i/app/instance:ro",
        "BindPaths=/srv/hello/releases/%i/app/instance/",
    ],
)
@pytest.mark.parametrize("where", ["config", "drop-in"])
def test_what_a_units_own_settings_mount_into_a_release_is_no_drift(
    host: FakeHost, stage: Stage, tmp_path: Path, setting: str, where: str
) -> None:
    changes = {"service": f"[Service]\nUser=hello\n{setting}\n"} if where == "config" else {}
    if where == "drop-in":
        drop_in = host.root / "etc/systemd/system/hello@.service.d/local.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(f"[Service]\n{setting}\n")
    one = stage("v1", **changes)
    (base(host) / "releases" / one / "app/instance/deep").mkdir(parents=True)  # as systemd does
    for active in (False, True):
        if active:
            assert call(host, "hello", "activate", one).rc == 0
        answer = again(host, tmp_path, **changes)
        assert (answer["changed"], answer["warnings"]) == (False, [])
        assert call(host, "hello", "status", "--drift", "--json").json["drift"] == []
    put(base(host) / "releases" / one, "app/debug.py")
    assert "debug.py" in str(again(host, tmp_path, **changes)["warnings"])
    assert (base(host) / "releases" / one / "app/instance/deep").is_dir()


def test_a_process_of_its_own_may_mount_too(host: FakeHost, stage: Stage, tmp_path: Path) -> None:
    one = stage("v1", processes={"worker": {"service": BIND}})
    (base(host) / "releases" / one / "app/instance").mkdir()
    assert again(host, tmp_path, processes={"worker": {"service": BIND}})["changed"] is False


def test_a_release_that_runs_and_lost_its_manifest_is_not_taken_away(
    host: FakeHost, stage: Stage, tmp_path: Path
) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    home = base(host) / "releases" / one
    (home / "manifest.json").unlink()
    held = home.stat().st_ino
    assert call(host, "hello", "prune").rc == 0
    assert again(host, tmp_path)["changed"] is True
    assert home.stat().st_ino == held and (home / "manifest.json").exists()
    assert again(host, tmp_path)["changed"] is False


@pytest.mark.parametrize("runs", [True, False])
def test_a_damaged_virtualenv_is_rebuilt_beside_what_runs_from_it(
    host: FakeHost, stage: Stage, tmp_path: Path, runs: bool
) -> None:
    one = stage("v1")
    if runs:
        call(host, "hello", "activate", one)
    home = base(host) / "releases" / one
    old = (home / "venv").resolve()
    (old / ".complete").unlink()
    held = old.stat().st_ino
    answer = again(host, tmp_path)
    assert answer["repairs"] == [f"virtualenv {old.name}"] and answer["venv"]["built"]
    new = (home / "venv").resolve()
    assert (new / ".complete").exists()
    assert os.stat(old).st_ino == held if runs else new == old
    assert again(host, tmp_path)["changed"] is False
    call(host, "hello", "prune", "--keep", "1")
    assert old.exists(), "what runs from it loads more of it"
    assert stage("v2") and (base(host) / "venvs" / new.name).exists()

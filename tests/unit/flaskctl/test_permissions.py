"""Who may read what stands of an app: modes and groups of its tree, and of nginx's logs."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flaskctl.accounts import Account
from flaskctl.permissions import close, closed_mode

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl
from tests.unit.flaskctl.given import archive, config

Stage = Callable[..., str]
GROUP = 54321 if os.geteuid() == 0 else os.getgid()


def mode(path: Path) -> str:
    return f"{path.lstat().st_mode & 0o7777:04o}"


def readable_by_others(tree: Path) -> list[str]:
    """Return what another user can read of a tree, as the kernel decides it from the top on."""
    found, todo = [], [tree]
    while todo:
        for path in sorted(todo.pop().iterdir()):
            if path.is_symlink():
                continue
            if path.is_dir() and path.stat().st_mode & 0o001:
                todo.append(path)
            if path.stat().st_mode & 0o004:
                found.append(str(path.relative_to(tree)))
    return sorted(found)


@pytest.fixture
def app(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    host.accounts["hello"] = Account(999, GROUP, "/nonexistent", "/usr/sbin/nologin")
    monkeypatch.setattr(host, "group", {"adm": GROUP, "hello": GROUP}.get, raising=False)
    (host.root / "var/log/nginx").mkdir(parents=True)
    return host


CODE: dict[str, str | bytes] = {
    "app.py": "v1",
    "requirements.txt": "flask==3.0.3\n",
    "pkg/__init__.py": "",
    "pkg/secret.py": "",
    "pkg/static/a.css": "a",
    "pkg/static/deep/b.css": "b",
}


def stage(host: FakeHost, path: Path, code: dict[str, str | bytes], **changes: Any) -> Any:
    host.sleep(60)
    made = archive(path / "archive.tar.gz", code)
    result = call(host, "hello", "stage", str(made), "--config", "-", "--json", stdin=config(**changes))
    assert result.rc == 0, result
    return result.json


@pytest.mark.parametrize(
    ("was", "passage", "closed"),
    [
        (0o644, False, 0o640),
        (0o755, False, 0o750),
        (0o600, False, 0o600),
        (0o700, False, 0o700),
        (0o666, False, 0o640),
        (0o4755, False, 0o750),
        (0o755, True, 0o751),
        (0o700, True, 0o751),
        (0o777, True, 0o751),
    ],
)
def test_a_mode_loses_what_others_have_and_a_passage_can_be_gone_through(was: int, passage: bool, closed: int) -> None:
    assert closed_mode(was, passage) == closed


@pytest.mark.parametrize("static", ["pkg/static", "", "pkg"])
def test_others_read_the_static_files_of_a_release_and_nothing_else(app: FakeHost, tmp_path: Path, static: str) -> None:
    release = stage(app, tmp_path, CODE, static_dir=static)["id"]
    root = f"releases/{release}/app/{static}"
    found = [name for name in readable_by_others(base(app)) if not name.startswith(f"{root}/") and name != root]
    assert found == []
    if static:
        assert (base(app) / root).stat().st_mode & 0o005 == 0o005
        assert mode(base(app) / f"releases/{release}/app") == "0751"
    assert mode(base(app) / f"releases/{release}/environment") == "0600"
    conf = base(app) / f"releases/{release}/gunicorn.conf.py"
    assert mode(conf) == "0640" and conf.stat().st_gid == GROUP
    assert call(app, "hello", "activate", release).rc == 0
    again = stage(app, tmp_path, CODE, static_dir=static)
    assert again["repairs"] == [] and not again["changed"]
    assert call(app, "hello", "status", "--drift", "--json").json["drift"] == []


def test_static_files_of_a_package_are_found_and_the_packages_are_not_read(app: FakeHost, tmp_path: Path) -> None:
    key = stage(app, tmp_path, {"app.py": "", "requirements.txt": "pkg==1\n"}, static_dir="pkg/static")["venv"]["key"]
    packages = base(app) / f"venvs/{key}/lib/python3.11/site-packages"
    assert (packages / "pkg/static").is_dir() and mode(packages) == "0751" and mode(packages / "pkg") == "0751"
    assert [name for name in readable_by_others(base(app)) if "pkg/static" not in name] == []


def test_what_an_older_flaskctl_left_open_is_closed_without_a_new_release(app: FakeHost, tmp_path: Path) -> None:
    release = stage(app, tmp_path, CODE, static_dir="pkg/static")["id"]
    for path in [base(app), *base(app).rglob("*")]:
        if not path.is_symlink() and path.name not in ("environment", "config.json"):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
            os.chown(path, -1, os.getgid())
    assert any("app.py" in name for name in readable_by_others(base(app)))
    inodes = {path: path.lstat().st_ino for path in base(app).rglob("*")}
    again = stage(app, tmp_path, CODE, static_dir="pkg/static")
    assert again["id"] == release and again["changed"] and "closed" in again["repairs"][0]
    assert [name for name in readable_by_others(base(app)) if "static" not in name] == []
    same = {path: path.lstat().st_ino for path in base(app).rglob("*")}
    assert same == inodes, "nothing is put anew: a process may run from there"
    assert not stage(app, tmp_path, CODE, static_dir="pkg/static")["changed"]


def test_a_file_that_is_mended_is_the_apps_to_read_at_once(app: FakeHost, tmp_path: Path) -> None:
    release = stage(app, tmp_path, CODE, static_dir="pkg/static")["id"]
    assert call(app, "hello", "activate", release).rc == 0
    damaged = base(app) / f"releases/{release}/app/pkg/secret.py"
    damaged.write_text("changed by somebody")
    assert stage(app, tmp_path, CODE, static_dir="pkg/static")["changed"]
    assert damaged.read_text() == ""
    assert [name for name in readable_by_others(base(app)) if "static" not in name] == []
    assert damaged.stat().st_gid == GROUP


@pytest.mark.parametrize("requirements", ["flask==3.0.3\n", "-e .\nflask==3.0.3\n"])
@pytest.mark.parametrize("static", ["pkg/static", ""])
def test_a_build_may_read_code_that_was_copied_from_a_closed_release(
    app: FakeHost, tmp_path: Path, requirements: str, static: str
) -> None:
    """A virtualenv that is gone, and one for other settings."""
    code = {**CODE, "pyproject.toml": "[project]\nname = 'hellopkg'\n", "requirements.txt": requirements}
    first = stage(app, tmp_path, code, static_dir=static)
    assert call(app, "hello", "activate", first["id"]).rc == 0
    (base(app) / f"venvs/{first['venv']['key']}/.complete").unlink()
    assert call(app, "hello", "stage", "--json").json["venv"]["built"]
    changed = config(static_dir=static, server_requirements="gunicorn==23.0.0\ngevent==25.5.1\n")
    other = call(app, "hello", "stage", "--config", "-", "--json", stdin=changed).json
    assert other["id"] != first["id"] and other["venv"]["built"]
    assert [name for name in readable_by_others(base(app)) if "pkg/static" not in name] == []


def test_what_somebody_keeps_beside_the_releases_is_left_alone(app: FakeHost, tmp_path: Path) -> None:
    media = base(app) / "media"
    media.mkdir(parents=True)
    (media / "a.png").write_text("")
    stage(app, tmp_path, CODE)
    assert mode(media) == "0755" and mode(media / "a.png") == "0644" and mode(base(app)) == "0751"


def test_static_files_are_found_again_whose_link_was_lost(app: FakeHost, tmp_path: Path) -> None:
    release = stage(app, tmp_path, CODE, static_dir="pkg/static")["id"]
    home = base(app) / "releases" / release
    before = {path: mode(path) for path in home.rglob("*") if "pycache" not in str(path)}
    (home / "static").unlink()
    assert stage(app, tmp_path, CODE, static_dir="pkg/static")["repairs"] == [f"{release}/static"]
    assert {path: mode(path) for path in home.rglob("*") if "pycache" not in str(path)} == before
    assert (home / "static/a.css").stat().st_mode & 0o004


def test_a_directory_that_becomes_public_is_opened_with_all_that_is_in_it(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "pkg/static").mkdir(parents=True)
    (tree / "pkg/a.js").write_text("")
    close(tree, os.getgid(), [tree / "pkg/static"])
    assert (mode(tree / "pkg"), mode(tree / "pkg/a.js")) == ("0751", "0640")
    close(tree, os.getgid(), [tree / "pkg"])
    assert (mode(tree / "pkg"), mode(tree / "pkg/a.js")) == ("0755", "0644")


def test_a_link_out_of_a_release_leads_to_nothing_that_is_changed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("")
    outside.chmod(0o644)
    tree = tmp_path / "tree"
    (tree / "static").mkdir(parents=True)
    (tree / "link").symlink_to(outside)
    close(tree, os.getgid(), [tree / "static"])
    assert mode(outside) == "0644" and mode(tree) == "0751" and mode(tree / "static") == "0755"


def test_nginxs_logs_are_closed_from_the_first_second_and_those_of_before_too(app: FakeHost, tmp_path: Path) -> None:
    logs = app.root / "var/log/nginx"
    (logs / "hello.access.log.1").write_text("")
    (logs / "hello.access.log.2.gz").write_text("")
    (logs / "hello-two.access.log").write_text("")
    (logs / "hello.error.log").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere").write_text("")
    stage(app, tmp_path, CODE)
    assert {path.name: mode(path) for path in logs.iterdir() if not path.is_symlink()} == {
        "hello.access.log": "0640",
        "hello.access.log.1": "0640",
        "hello.access.log.2.gz": "0640",
        "hello-two.access.log": "0644",
    }
    assert (logs / "hello.access.log").stat().st_gid == GROUP and mode(tmp_path / "elsewhere") == "0644"


@pytest.mark.parametrize("command", ["status", "releases", "verify"])
def test_one_who_may_not_see_the_releases_is_told_so(
    app: FakeHost, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(app, "hello", "activate", stage(app, tmp_path, CODE)["id"]).rc == 0
    app.root_user = False
    monkeypatch.setattr(flaskctl.os, "access", lambda path, how: Path(path).name != "releases")
    done = call(app, "hello", command)
    assert done.rc and "for root and the group hello alone" in done.err and f"sudo flaskctl hello {command}" in done.err
    assert call(app, "apps").rc == 0

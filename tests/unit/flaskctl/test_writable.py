"""What an app writes beside its code stands with its data, whichever release runs."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl
from tests.unit.flaskctl.given import archive, config, member

SOURCE = {"app.py": "v1", "requirements.txt": "flask\n", "instance/seed.sqlite": "seed", "instance/in/it": "x"}


@pytest.fixture
def host(host: FakeHost) -> FakeHost:
    host.accounts["hello"] = flaskctl.Account(999, 999, "/nonexistent", "/usr/sbin/nologin")
    return host


def stage(host: FakeHost, tmp_path: Path, files: dict[str, str] | None = None, **changes: object) -> flaskctl.Json:  # type: ignore[name-defined]
    path = archive(tmp_path / "source.tar.gz", SOURCE if files is None else files)
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config(**changes))
    return {"rc": result.rc, **result.json}


def code(host: FakeHost, release: str) -> Path:
    return base(host) / "releases" / release / "app"


def data(host: FakeHost) -> Path:
    return host.path("/var/lib/hello")


def test_a_directory_of_the_source_becomes_data_with_what_it_held(host: FakeHost, tmp_path: Path) -> None:
    one = stage(host, tmp_path, writable=["instance", "var/uploads"])
    assert one["rc"] == 0, one
    assert os.readlink(code(host, one["id"]) / "instance") == "/var/lib/hello/instance"
    assert os.readlink(code(host, one["id"]) / "var/uploads") == "/var/lib/hello/var/uploads"
    assert (data(host) / "instance/seed.sqlite").read_text() == "seed" and (data(host) / "instance/in/it").exists()
    assert list((data(host) / "var/uploads").iterdir()) == []
    made = [words for words in host.calls if words[0] == "as" and words[2] in ("cp", "mkdir", "mv")]
    assert made and {words[1] for words in made} == {"999"}, "the app's own user makes it"


def test_what_an_app_wrote_is_neither_seeded_again_nor_drift(host: FakeHost, tmp_path: Path) -> None:
    one = stage(host, tmp_path, writable=["instance"])["id"]
    (data(host) / "instance/seed.sqlite").write_text("used")
    (data(host) / "instance/more").write_text("more")
    call(host, "hello", "activate", one)
    again = stage(host, tmp_path, writable=["instance"])
    assert (again["changed"], again["repairs"]) == (False, [])
    two = stage(host, tmp_path, {**SOURCE, "app.py": "v2"}, writable=["instance"])
    assert two["id"] != one and (data(host) / "instance/seed.sqlite").read_text() == "used"
    call(host, "hello", "activate", two["id"])
    call(host, "hello", "prune", "--keep", "2")
    assert (data(host) / "instance/more").read_text() == "more"


def test_it_is_part_of_the_id_where_it_is_set(host: FakeHost, tmp_path: Path) -> None:
    plain, none = stage(host, tmp_path), stage(host, tmp_path, writable=[])
    assert plain["id"] == none["id"] != stage(host, tmp_path, writable=["instance"])["id"]


def test_a_directory_that_is_gone_is_made_again(host: FakeHost, tmp_path: Path) -> None:
    one = stage(host, tmp_path, writable=["instance"])["id"]
    call(host, "hello", "activate", one)
    (data(host) / "instance").rename(data(host) / "moved")
    assert call(host, "hello", "status", "--drift", "--json").json["drift"] == ["/var/lib/hello/instance"]
    again = stage(host, tmp_path, writable=["instance"])
    assert again["repairs"] == ["/var/lib/hello/instance"] and (data(host) / "instance/seed.sqlite").exists()


def test_a_link_that_was_replaced_is_drift_and_mended(host: FakeHost, tmp_path: Path) -> None:
    one = stage(host, tmp_path, writable=["instance"])["id"]
    place = code(host, one) / "instance"
    place.unlink()
    place.mkdir()
    assert stage(host, tmp_path, writable=["instance"])["repairs"] == [f"files of {one}/app"]
    assert os.readlink(place) == "/var/lib/hello/instance"


def test_a_release_without_the_link_is_not_made_from_one_that_has_it(host: FakeHost, tmp_path: Path) -> None:
    one = stage(host, tmp_path, writable=["instance"])
    call(host, "hello", "activate", one["id"])
    sha256 = flaskctl.file_sha256(tmp_path / "source.tar.gz")
    words = ["hello", "stage", "--sha256", sha256, "--config", "-", "--json"]
    assert call(host, *words, stdin=config()).json["archive_needed"] is True
    other = call(host, *words, stdin=config(writable=["instance"], environment={"A": "2"}))
    assert other.json["archive_needed"] is False
    assert os.readlink(code(host, other.json["id"]) / "instance") == "/var/lib/hello/instance"


@pytest.mark.parametrize("name", ["app.py", "link"])
def test_what_is_no_directory_in_the_source_is_refused_by_name(host: FakeHost, tmp_path: Path, name: str) -> None:
    path = archive(tmp_path / "link.tar.gz", SOURCE, [member("link", tarfile.SYMTYPE, "instance")])
    words = ["hello", "stage", str(path), "--config", "-", "--json"]
    answer = call(host, *words, stdin=config(writable=[name])).json
    assert f"names {name}, which is no directory" in answer["msg"] and "name the directory" in answer["remedy"]
    assert not data(host).exists() or not list(data(host).iterdir())


def test_a_link_to_a_larger_disk_stays(host: FakeHost, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    data(host).mkdir(parents=True)
    (data(host) / "instance").symlink_to(tmp_path / "disk")
    assert stage(host, tmp_path, writable=["instance"])["rc"] == 0
    assert (data(host) / "instance").is_symlink() and list((tmp_path / "disk").iterdir()) == []


@pytest.mark.parametrize("what", ["file", "link"])
def test_what_stands_in_the_way_is_named_and_stays(host: FakeHost, tmp_path: Path, what: str) -> None:
    data(host).mkdir(parents=True)
    kept = data(host) / "instance"
    kept.write_text("mine") if what == "file" else kept.symlink_to("/nowhere")
    answer = stage(host, tmp_path, writable=["instance"])
    assert answer["rc"] == 1 and f"{kept} is no directory" in answer["msg"] and "move" in answer["remedy"]
    assert os.path.lexists(kept)


def test_without_a_user_nothing_is_made(host: FakeHost, tmp_path: Path) -> None:
    host.accounts.clear()
    answer = stage(host, tmp_path, writable=["instance"])
    assert "no user hello" in answer["msg"] and not data(host).exists()


@pytest.mark.parametrize("bad", ["instance", ["/etc"], [".."], ["a/../b"], [""], ["."], ["a", "a/b"], ["a", "a"], [1]])
def test_what_is_no_list_of_directories_is_refused(host: FakeHost, tmp_path: Path, bad: object) -> None:
    answer = stage(host, tmp_path, writable=bad)
    assert answer["rc"] == 1 and "writable in the configuration must be" in answer["msg"]

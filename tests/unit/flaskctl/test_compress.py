"""What nginx may send in place of a static file: made once with the release, or left as the source brought it."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flaskctl.compress import SMALLEST, compress

from tests.unit.flaskctl.fake_host import FakeHost, base, call
from tests.unit.flaskctl.given import archive, config

Files = dict[str, "str | bytes"]
TEXT = "body { color: red }\n" * 200
RANDOM = os.urandom(4096)


@pytest.fixture
def tree(tmp_path: Path) -> Callable[[Files], Path]:
    def make(files: Files) -> Path:
        for name, content in files.items():
            path = tmp_path / "static" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        return tmp_path / "static"

    return make


def names(static: Path) -> list[str]:
    return sorted(str(path.relative_to(static)) for path in static.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("name", ["a.css", "deep/er/app.3f2c9a1b.js", "A.JS", "app.js.map", "m.wasm", "font.ttf"])
def test_what_is_text_is_compressed_with_the_mode_and_time_of_the_plain_one(tree: Any, name: str) -> None:
    static = tree({name: TEXT})
    (static / name).chmod(0o640)
    os.utime(static / name, (5, 1234567890))
    assert compress(static, static.parent) == []
    made = static / f"{name}.gz"
    assert gzip.decompress(made.read_bytes()) == TEXT.encode()
    assert (made.stat().st_mode & 0o777, made.stat().st_mtime) == (0o640, 1234567890)
    assert names(static) == sorted([name, f"{name}.gz"])


def test_the_same_file_gives_the_same_bytes(tree: Any) -> None:
    static = tree({"a/x.css": TEXT, "b/other.css": TEXT})
    compress(static, static.parent)
    one, other = (static / "a/x.css.gz").read_bytes(), (static / "b/other.css.gz").read_bytes()
    assert one == other and one[4:8] == bytes(4)


@pytest.mark.parametrize(
    "files",
    [
        {"photo.jpg": TEXT},
        {"font.woff2": TEXT},
        {"noending": TEXT},
        {"small.css": "x" * (SMALLEST - 1)},
        {"random.js": RANDOM},
        {".hidden.css": TEXT},
        {".git/a.css": TEXT},
        {"empty.css": ""},
        {"a.css.gz": gzip.compress(b"nobody asks for it without the ending")},
        {f"{'n' * 250}.css": TEXT},
    ],
    ids=lambda files: next(iter(files))[:12],
)
def test_what_gains_nothing_is_left_alone(tree: Any, files: Files) -> None:
    static = tree(files)
    assert compress(static, static.parent) == []
    assert names(static) == sorted(files)


@pytest.mark.parametrize("level", [1, 9])
@pytest.mark.parametrize("name", ["a.css", "photo.jpg", "small.txt"])
def test_one_that_the_source_brings_stays_where_it_unpacks_to_the_plain_one(tree: Any, name: str, level: int) -> None:
    text = "x" if name == "small.txt" else TEXT
    brought = gzip.compress(text.encode(), level, mtime=77)
    static = tree({name: text, f"{name}.gz": brought, f"{name}.br": b"not ours to judge"})
    assert compress(static, static.parent) == []
    assert (static / f"{name}.gz").read_bytes() == brought
    assert (static / f"{name}.br").read_bytes() == b"not ours to judge"


@pytest.mark.parametrize(
    "brought",
    [
        gzip.compress(TEXT.encode()[:-1]),
        gzip.compress(TEXT.encode() + b"x"),
        gzip.compress(b"of an earlier build"),
        gzip.compress(TEXT.encode())[:-4],
        gzip.compress(b""),
        zlib.compress(TEXT.encode()),
        b"no gzip at all",
        b"",
    ],
    ids=["shorter", "longer", "other", "cut", "empty", "zlib", "text", "nothing"],
)
@pytest.mark.parametrize("name", ["a.css", "data.tar"])
def test_one_that_unpacks_to_something_else_is_made_anew_and_named(tree: Any, name: str, brought: bytes) -> None:
    static = tree({name: TEXT, f"{name}.gz": brought})
    assert compress(static, static.parent) == [f"{name}.gz"]
    assert gzip.decompress((static / f"{name}.gz").read_bytes()) == TEXT.encode()
    assert compress(static, static.parent) == []


def test_no_link_is_followed_and_nothing_is_made_where_others_write(tree: Any, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.css").write_text(TEXT)
    static = tree({"b.css": TEXT})
    (static / "uploads").symlink_to(outside)
    (static / "one.css").symlink_to(outside / "a.css")
    (static / "b.css.gz").symlink_to(outside / "a.css")
    assert compress(static, outside) == []
    assert compress(static, tmp_path) == ["b.css.gz"]
    assert names(outside) == ["a.css"] and (outside / "a.css").read_text() == TEXT
    assert not (static / "b.css.gz").is_symlink() and not (static / "one.css.gz").exists()
    (tmp_path / "release").mkdir()
    (tmp_path / "release/static").symlink_to(outside)
    assert compress(tmp_path / "release/static", tmp_path / "release") == [] and names(outside) == ["a.css"]


CODE: Files = {"app.py": "v1", "requirements.txt": "flask==3.0.3\n", "static/a.css": TEXT, "other/b.css": TEXT}


def stage(host: FakeHost, path: Path, files: Files, **changes: Any) -> Any:
    made = archive(path / "archive.tar.gz", files)
    return call(host, "hello", "stage", str(made), "--config", "-", "--json", stdin=config(**changes)).json


def test_a_release_has_them_and_is_whole_with_them(host: FakeHost, tmp_path: Path) -> None:
    answer = stage(host, tmp_path, CODE, static_dir="static")
    home = base(host) / "releases" / answer["id"]
    assert gzip.decompress((home / "static/a.css.gz").read_bytes()) == TEXT.encode()
    assert not (home / "app/other/b.css.gz").exists()
    assert not stage(host, tmp_path, CODE, static_dir="static")["changed"]
    (home / "static/a.css.gz").unlink()
    assert stage(host, tmp_path, CODE, static_dir="static")["repairs"] == [f"files of {answer['id']}/app"]
    assert (home / "static/a.css.gz").exists()


def test_a_release_of_an_older_flaskctl_has_none_and_is_whole(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr("flaskctl.build.compress", lambda *_: [])
        answer = stage(host, tmp_path, CODE, static_dir="static")
    home = base(host) / "releases" / answer["id"]
    assert names(home / "static") == ["a.css"]
    again = stage(host, tmp_path, CODE, static_dir="static")
    assert not again["changed"] and again["id"] == answer["id"] and names(home / "static") == ["a.css"]


def test_it_changes_no_id_and_what_is_not_as_its_name_is_said(host: FakeHost, tmp_path: Path) -> None:
    old = {**CODE, "static/a.css.gz": gzip.compress(b"old")}
    answer = stage(host, tmp_path, old, static_dir="static")
    assert [text for text in answer["warnings"] if "static/a.css.gz does not unpack to a.css" in text]
    assert not stage(host, tmp_path, old, static_dir="static")["changed"]


def test_static_files_of_a_package_are_compressed_in_its_virtualenv(host: FakeHost, tmp_path: Path) -> None:
    answer = stage(host, tmp_path, {"app.py": "", "requirements.txt": "pkg==1\n"}, static_dir="pkg/static")
    home = base(host) / "releases" / answer["id"]
    (home / "static").resolve().joinpath("a.css").write_text(TEXT)
    more = stage(host, tmp_path, {"app.py": "2", "requirements.txt": "pkg==1\n"}, static_dir="pkg/static")
    assert more["id"] != answer["id"] and names(home / "static") == ["a.css", "a.css.gz"]


def test_static_files_that_the_app_writes_itself_are_its_own(host: FakeHost, tmp_path: Path) -> None:
    kept = host.root / "var/lib/hello/static"
    kept.mkdir(parents=True)
    (kept / "mine.css").write_text(TEXT)
    stage(host, tmp_path, CODE, static_dir="static", writable=["static"])
    assert names(kept) == ["mine.css"]

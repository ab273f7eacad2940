"""What may come out of an archive, and what may not."""

from __future__ import annotations

import gzip
import tarfile
from pathlib import Path

import pytest

from tests.unit.flaskctl.fake_host import flaskctl
from tests.unit.flaskctl.given import archive, member


def unpack(path: Path, dest: Path, **limits: int) -> None:
    dest.mkdir()
    with open(path, "rb") as file:
        flaskctl.unpack(file, path.name, dest, **limits)


def test_files_directories_and_links_inside_come_out_with_plain_modes(tmp_path: Path) -> None:
    odd = tarfile.TarInfo("setuid")
    odd.mode = 0o6777
    links = [member("a/link", tarfile.SYMTYPE, "../app.py"), member("hard", tarfile.LNKTYPE, "app.py"), odd]
    root = member(".", tarfile.DIRTYPE)
    path = archive(tmp_path / "x.tar.gz", {"./app.py": "x", "a/b/run.sh": "y", "sp ace\nnew": "z"}, [root, *links])
    unpack(path, tmp_path / "out")
    out = tmp_path / "out"
    assert (out / "a/link").read_text() == "x" and (out / "hard").read_text() == "x"
    assert (out / "sp ace\nnew").read_text() == "z"
    modes = {name: (out / name).stat().st_mode & 0o7777 for name in ("app.py", "a/b/run.sh", "a/b", "setuid")}
    assert modes == {"app.py": 0o644, "a/b/run.sh": 0o755, "a/b": 0o755, "setuid": 0o755}


def test_a_name_that_is_not_utf8_keeps_its_bytes(tmp_path: Path) -> None:
    unpack(archive(tmp_path / "x.tar.gz", {b"caf\xe9".decode("utf-8", "surrogateescape"): "x"}), tmp_path / "out")
    assert [*flaskctl.inventory(tmp_path / "out")] == ["./", "caf\udce9"]


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ([member("../evil", tarfile.REGTYPE)], "points out of the archive"),
        ([member("/etc/evil", tarfile.REGTYPE)], "points out of the archive"),
        ([member("a/../../evil", tarfile.REGTYPE)], "points out of the archive"),
        ([member("abs", tarfile.SYMTYPE, "/etc/passwd")], "abs is a link to /etc/passwd, out of"),
        ([member("up", tarfile.SYMTYPE, "../../etc/passwd")], "up is a link to"),
        (
            [
                member("d", tarfile.DIRTYPE),
                member("d/e", tarfile.SYMTYPE, ".."),
                member("l", tarfile.SYMTYPE, "d/e/../x"),
            ],
            "l is",
        ),
        ([member("l", tarfile.SYMTYPE, "d"), member("l/x", tarfile.REGTYPE)], "lies below l, which is no directory"),
        ([member("l", tarfile.SYMTYPE, "d"), member("l", tarfile.REGTYPE)], "l is in it twice"),
        ([member("app.py", tarfile.REGTYPE)], "app.py is in it twice"),
        ([member("app.py", tarfile.DIRTYPE)], "app.py is in it twice"),
        ([member("hard", tarfile.LNKTYPE, "../../etc/passwd")], "points out of the archive"),
        ([member("hard", tarfile.LNKTYPE, "later")], "is a hard link to later"),
        ([member("dev", tarfile.CHRTYPE)], "dev is neither file, directory nor link"),
        ([member("dev", tarfile.BLKTYPE)], "dev is neither file, directory nor link"),
        ([member("fifo", tarfile.FIFOTYPE)], "fifo is neither file, directory nor link"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_could_leave_the_tree_is_refused_by_name(
    tmp_path: Path, members: list[tarfile.TarInfo], says: str
) -> None:
    with pytest.raises(flaskctl.Refused, match=r"x\.tar\.gz") as error:
        unpack(archive(tmp_path / "x.tar.gz", {"app.py": "x"}, members), tmp_path / "out")
    assert says in error.value.msg
    assert {path.name for path in tmp_path.iterdir()} == {"x.tar.gz", "out"}


@pytest.mark.parametrize("keep", [1, 30, 200, -8, -1])
def test_an_archive_cut_anywhere_is_refused_as_truncated(tmp_path: Path, keep: int) -> None:
    whole = archive(tmp_path / "whole.tar.gz", {"a": bytes(range(256)) * 400, "b": "x"}).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[:keep])
    with pytest.raises(flaskctl.Refused, match="cut.tar.gz is truncated or corrupt"):
        unpack(tmp_path / "cut.tar.gz", tmp_path / "out")


def test_a_flipped_bit_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(archive(tmp_path / "x.tar.gz", {"a": bytes(range(256)) * 400}).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (tmp_path / "x.tar.gz").write_bytes(damaged)
    with pytest.raises(flaskctl.Refused, match="truncated or corrupt"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")


@pytest.mark.parametrize("content", [b"", b"not a gzip", gzip.compress(b"not a tar")])
def test_what_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.tar.gz").write_bytes(content)
    with pytest.raises(flaskctl.Refused, match="truncated or corrupt"):
        unpack(tmp_path / "x.tar.gz", tmp_path / "out")


def test_a_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {"small": "x", "big": b"\0" * 10_000_000})
    assert path.stat().st_size < 20_000
    with pytest.raises(flaskctl.Refused, match="big is over the limit"):
        unpack(path, tmp_path / "out", size=1_000_000)
    assert not (tmp_path / "out/big").exists()
    path = archive(tmp_path / "y.tar.gz", {f"f{number}": "" for number in range(101)})
    with pytest.raises(flaskctl.Refused, match="more than 100 members"):
        unpack(path, tmp_path / "many", members=100)


def test_a_sparse_file_that_claims_to_be_huge_is_refused(tmp_path: Path) -> None:
    huge = member("huge", tarfile.GNUTYPE_SPARSE)
    with pytest.raises(flaskctl.Refused):
        unpack(archive(tmp_path / "x.tar.gz", {"a": "x"}, [huge]), tmp_path / "out")


def test_directories_in_one_another_have_an_end(tmp_path: Path) -> None:
    unpack(archive(tmp_path / "x.tar.gz", {"a/" * 99 + "x": "x"}), tmp_path / "out")
    deep = archive(tmp_path / "deep.tar.gz", {"a/" * 1500 + "x": "x"})
    with pytest.raises(flaskctl.Refused, match=r"deep.tar.gz: 'a/a.* lies in 1500 directories, 99 may be"):
        unpack(deep, tmp_path / "deep")


def test_directories_count_as_members(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {}, [member(f"d{number}", tarfile.DIRTYPE) for number in range(9)])
    with pytest.raises(flaskctl.Refused, match="more than 5 members"):
        unpack(path, tmp_path / "out", members=5)


def test_what_follows_the_archive_counts(tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {"app.py": "x"})
    with open(path, "ab") as file:
        file.write(gzip.compress(b"\0" * 30_000))
    unpack(path, tmp_path / "out", members=10, size=100_000)
    with pytest.raises(flaskctl.Refused, match=r"x.tar.gz unpacks to too much"):
        unpack(path, tmp_path / "small", members=10, size=20_000)


def test_copies_of_a_hard_link_count(tmp_path: Path) -> None:
    """200 links to half a megabyte were 100 MB on the disk, under a limit of one."""
    links = [member(f"b{number}", tarfile.LNKTYPE, "a") for number in range(10)]
    path = archive(tmp_path / "x.tar.gz", {"a": "x" * 1000}, links)
    with pytest.raises(flaskctl.Refused, match="unpacks to too much: b4 is over the limit"):
        unpack(path, tmp_path / "out", size=5000)


def header(kind: bytes, size: int) -> bytes:
    found = tarfile.TarInfo("x")
    found.type, found.size = kind, size
    return found.tobuf(tarfile.GNU_FORMAT)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (header(tarfile.GNUTYPE_LONGNAME, 1 << 20), "larger than 65536 bytes"),
        (header(tarfile.GNUTYPE_LONGLINK, 1 << 20), "larger than 65536 bytes"),
        (header(tarfile.XHDTYPE, 1 << 20), "larger than 65536 bytes"),
        (header(tarfile.XGLTYPE, 1 << 20), "larger than 65536 bytes"),
        ((header(tarfile.XHDTYPE, 13) + b"13 comment=a\n".ljust(512, b"\0")) * 3000, "truncated or corrupt"),
        (header(tarfile.GNUTYPE_SPARSE, 0), "x is neither file, directory nor link"),
        (header(tarfile.REGTYPE, -2048), "truncated or corrupt"),
    ],
)
def test_what_stands_before_a_member_has_an_end(tmp_path: Path, content: bytes, says: str) -> None:
    """A name of 256 MB took a gigabyte of memory, and many headers before one another ended in a traceback."""
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(content + b"a" * (2 << 20), 1))
    with pytest.raises(flaskctl.Refused, match=says):
        unpack(path, tmp_path / "out")


@pytest.mark.parametrize(
    "found",
    [
        member("a" * 300, tarfile.REGTYPE),
        member("/".join(["a" * 200] * 40), tarfile.REGTYPE),
        member("l", tarfile.SYMTYPE, "a" * 5000),
        member("a/" + "\u00e4" * 128, tarfile.REGTYPE),
    ],
)
def test_a_name_that_no_file_can_have_is_a_sentence(tmp_path: Path, found: tarfile.TarInfo) -> None:
    with pytest.raises(flaskctl.Refused, match=r"is too long: a name has 255 bytes at most, a path 3072") as refused:
        unpack(archive(tmp_path / "x.tar.gz", {"app.py": "x"}, [found]), tmp_path / "out")
    assert len(refused.value.msg) < 250

"""The archive: the same bytes for the same code, nothing in it that leads out, clear words when it cannot be made."""

from __future__ import annotations

import gzip
import hashlib
import os
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskfleet.web.plugins.module_utils import tarball
from ansible_collections.flaskfleet.web.plugins.module_utils.git import Git
from ansible_collections.flaskfleet.web.plugins.module_utils.tree import ArchiveError, directory_entries, excluded
from ansible_collections.flaskfleet.web.plugins.modules import archive

RunModule = Callable[..., dict[str, Any]]
TAR_SHA256 = "a3739a6b42dc02894ffea772ab15359c70bbc4070f452351501f9386ba69a87e"
ODD_NAMES = [b"caf\xe9.txt", b"new\nline", b'quo"te', b" space ", b"-dash", "ünïcode".encode(), b"x" * 200]


def contents(path: str | Path) -> dict[str, tuple[str, int, bytes | str]]:
    """Return each member of an archive: kind, mode, and content or link target."""
    found: dict[str, tuple[str, int, bytes | str]] = {}
    with tarfile.open(path, encoding="utf-8", errors="surrogateescape") as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            if member.isfile():
                content = tar.extractfile(member)
                assert content is not None
                found[member.name] = ("file", member.mode, content.read())
            else:
                found[member.name] = ("dir" if member.isdir() else "link", member.mode, member.linkname)
    return found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a directory with an app in it."""
    root = tmp_path / "app"
    (root / "static" / "css").mkdir(parents=True)
    (root / "app.py").write_text("app = None\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o700)
    (root / "static" / "index.html").write_text("hello\n")
    (root / "static" / "css" / "a.css").write_text("a{}\n")
    (root / "latest").symlink_to("static/index.html")
    return root


@pytest.fixture
def git_repository(tree: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a git command in a repository that holds the app as the tag v1."""
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "ada@example.com")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=tree, check=True, capture_output=True, text=True, env=Git().environment
        ).stdout.strip()

    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "one")
    git("tag", "v1")
    return git


def pack(run_module: RunModule, source: str | Path, dest: Path, **more: Any) -> dict[str, Any]:
    """Run the module; return its answer."""
    return run_module(archive, {"source": str(source), "dest": str(dest), **more})


def test_an_archive_holds_the_code_and_is_named_after_its_checksum(
    run_module: RunModule, tree: Path, tmp_path: Path
) -> None:
    answer = pack(run_module, tree, tmp_path / "cache")
    path = Path(answer["path"])
    assert path == tmp_path / "cache" / f"{answer['sha256']}.tar.gz"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == answer["sha256"]
    assert (answer["changed"], answer["kind"], answer["files"], answer["size"]) == (
        True,
        "directory",
        5,
        path.stat().st_size,
    )
    assert contents(path) == {
        "app.py": ("file", 0o644, b"app = None\n"),
        "latest": ("link", 0o777, "static/index.html"),
        "run.sh": ("file", 0o755, b"#!/bin/sh\n"),
        "static": ("dir", 0o755, ""),
        "static/css": ("dir", 0o755, ""),
        "static/css/a.css": ("file", 0o644, b"a{}\n"),
        "static/index.html": ("file", 0o644, b"hello\n"),
    }


def test_packing_again_changes_nothing(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    first = pack(run_module, tree, tmp_path / "cache")
    second = pack(run_module, tree, tmp_path / "cache")
    assert second == {**first, "changed": False}
    assert sorted(os.listdir(tmp_path / "cache")) == [f"{first['sha256']}.tar.gz"]


def test_the_same_tree_gives_the_same_bytes_wherever_and_whenever(
    run_module: RunModule, tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = pack(run_module, tree, tmp_path / "one")
    for path in (tree, *tree.rglob("*")):
        os.utime(path, (1, 1), follow_symlinks=False)
    (tree / "app.py").chmod(0o600)
    (tree / "static").chmod(0o777)
    (tree / "empty").mkdir()
    (tree / "run.sh").rename(tree / "x")
    (tree / "x").rename(tree / "run.sh")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    old = os.umask(0o077)
    try:
        assert pack(run_module, tree, tmp_path / "two")["sha256"] == first["sha256"]
    finally:
        os.umask(old)


def test_the_bytes_of_the_tar_are_the_same_on_every_python(tree: Path) -> None:
    # the checksum was computed with Python 3.9, 3.11, 3.12 and 3.13: another one means new releases of unchanged apps
    for name in ODD_NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(tree), name))).write_text("odd\n")
    digest = hashlib.sha256()

    class Sink:
        def write(self, data: bytes) -> int:
            digest.update(data)
            return len(data)

        def tell(self) -> int:
            return 0

    tarball.write_tar(directory_entries(tree, []), Sink())
    assert digest.hexdigest() == TAR_SHA256


def test_a_locale_of_another_alphabet_does_not_change_the_archive(tree: Path, tmp_path: Path) -> None:
    for name in ODD_NAMES:
        Path(os.fsdecode(os.path.join(os.fsencode(tree), name))).write_text("odd\n")
    script = (
        "import sys, pathlib; from ansible_collections.flaskfleet.web.plugins.module_utils import tarball, tree;"
        "source, dest = map(pathlib.Path, sys.argv[1:]);"
        "print(tarball.pack(list(tree.directory_entries(source, [])), dest).sha256)"
    )
    path = [entry for entry in sys.path if entry]
    answers = {
        subprocess.run(
            [sys.executable, "-X", f"utf8={utf8}", "-c", script, str(tree), str(tmp_path)],
            env={"LC_ALL": locale, "PYTHONPATH": os.pathsep.join(path), "PYTHONCOERCECLOCALE": "0"},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for locale, utf8 in (("C", 0), ("C.UTF-8", 1))
    }
    assert len(answers) == 1


def test_names_that_are_not_utf8_survive(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    root = os.fsencode(tree)
    for name in ODD_NAMES:
        Path(os.fsdecode(os.path.join(root, name))).write_bytes(name)
    os.symlink(b"caf\xe9.txt", os.path.join(root, b"li\xff"))
    answer = pack(run_module, tree, tmp_path / "cache")
    out = tmp_path / "out"
    with tarfile.open(answer["path"]) as tar:
        tar.extractall(out, filter="data")
    for name in ODD_NAMES:
        assert Path(os.fsdecode(os.path.join(os.fsencode(out), name))).read_bytes() == name
    assert os.readlink(os.path.join(os.fsencode(out), b"li\xff")) == b"caf\xe9.txt"


def test_what_belongs_to_no_release_stays_out(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    for name in (".git/HEAD", "venv/bin/python", ".venv/x", "a/__pycache__/x.pyc", "b.pyc", "h.egg-info/x", ".env"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("no\n")
    for name in ("tests/test_app.py", "deep/tests/keep.py", "data.sqlite3", "deep/data.sqlite3", "docs/a.md"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("x\n")
    answer = pack(run_module, tree, tmp_path / "cache", exclude=["/tests", "*.sqlite3", "docs/"])
    assert sorted(contents(answer["path"])) == [
        "app.py",
        "deep",
        "deep/tests",
        "deep/tests/keep.py",
        "latest",
        "run.sh",
        "static",
        "static/css",
        "static/css/a.css",
        "static/index.html",
    ]


@pytest.mark.parametrize(
    ("name", "pattern", "out"),
    [
        ("a/b/c.py", "c.py", True),
        ("a/b/c.py", "b", True),
        ("a/b/c.py", "*.py", True),
        ("a/b/c.py", "a/b", True),
        ("a/b/c.py", "/a", True),
        ("a/b/c.py", "/b", False),
        ("a/b/c.py", "a/*.py", False),
        ("a/b/c.py", "a/*/c.py", True),
        ("a/b/c.py", "B", False),
        ("a/b/c.py", "a/b/c.py/d", False),
        ("ab", "a", False),
    ],
)
def test_a_pattern_means_a_name_or_a_path_from_the_root(name: str, pattern: str, out: bool) -> None:
    assert excluded(name, [pattern]) is out


@pytest.mark.parametrize(
    ("links", "leaves"),
    [
        ({"a": "b"}, False),
        ({"a": "gone/away"}, False),
        ({"d/a": "../b"}, False),
        ({"d/a": ".."}, False),
        ({"a": "../b"}, True),
        ({"d/a": "../../b"}, True),
        ({"a": "/etc/passwd"}, True),
        ({"a": "d/../../b"}, True),
        ({"deep/down/l": "../..", "a": "deep/down/l/../b"}, True),
        ({"l": "deep/down", "a": "l/../../b"}, False),
        ({"a": "b", "b": "a"}, True),
    ],
)
def test_a_link_is_followed_as_the_kernel_does(links: dict[str, str], leaves: bool) -> None:
    assert any(tarball.link_leaves(name, links) for name in links) is leaves


@pytest.mark.parametrize("target", ["/etc/passwd", "../../secret"])
def test_a_link_that_leads_out_is_refused_by_name(
    run_module: RunModule, tree: Path, tmp_path: Path, target: str
) -> None:
    (tree / "static" / "bad").symlink_to(target)
    answer = pack(run_module, tree, tmp_path / "cache")
    assert answer["failed"]
    assert f"static/bad -> {target}" in answer["msg"]
    assert not list((tmp_path / "cache").glob("*"))


def test_a_special_file_is_refused_by_name(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    os.mkfifo(tree / "pipe")
    assert "pipe is a socket, a pipe or a device" in pack(run_module, tree, tmp_path / "cache")["msg"]
    assert not pack(run_module, tree, tmp_path / "cache", exclude=["pipe"]).get("failed")


def test_a_file_that_shrinks_while_it_is_read_is_an_error_and_leaves_nothing(tree: Path, tmp_path: Path) -> None:
    entries = list(directory_entries(tree, []))
    (tree / "app.py").write_text("")
    with pytest.raises(ArchiveError, match=r"app\.py became shorter"):
        tarball.pack(entries, tmp_path)
    assert not list(tmp_path.glob("*.tar.gz")) and not list(tmp_path.glob(".new-*"))


@pytest.mark.parametrize("damage", [b"", b"garbage"])
def test_a_damaged_archive_in_the_cache_is_made_again(
    run_module: RunModule, tree: Path, tmp_path: Path, damage: bytes
) -> None:
    first = pack(run_module, tree, tmp_path / "cache")
    Path(first["path"]).write_bytes(damage)
    again = pack(run_module, tree, tmp_path / "cache")
    assert again["changed"] and again["sha256"] == first["sha256"]
    assert "app.py" in contents(again["path"])


def test_the_cache_forgets_what_nobody_asked_for_in_a_month(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    first = pack(run_module, tree, tmp_path / "cache")
    long_ago = time.time() - 40 * 24 * 3600
    other = tmp_path / "cache" / "notes.tar.gz"
    other.write_text("not ours")
    for path in (other, Path(first["path"])):
        os.utime(path, (long_ago, long_ago))
    assert not pack(run_module, tree, tmp_path / "cache")["changed"], "an archive in use stays"
    left = tmp_path / "cache" / ".new-a1b2"
    left.touch()
    os.utime(left, (long_ago, long_ago))
    os.utime(first["path"], (long_ago, long_ago))
    (tree / "app.py").write_text("new\n")
    pack(run_module, tree, tmp_path / "cache")
    assert other.exists() and not Path(first["path"]).exists() and not left.exists()


def test_check_mode_gives_the_same_answer(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    arguments = {"source": str(tree), "dest": str(tmp_path / "cache")}
    predicted = run_module(archive, arguments, check=True)
    assert {**predicted, "changed": False} == run_module(archive, arguments)


def test_a_relative_path_needs_a_base(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    assert "relative" in pack(run_module, "./app", tmp_path / "cache")["msg"]
    assert pack(run_module, "./app", tmp_path / "cache", base=str(tree.parent))["files"] == 5


@pytest.mark.parametrize("name", ["nothing", "app.py"])
def test_a_directory_that_is_not_there_is_named(run_module: RunModule, tree: Path, tmp_path: Path, name: str) -> None:
    assert f"no directory {tree / name}" in pack(run_module, tree / name, tmp_path / "cache")["msg"]


def test_an_empty_directory_is_refused(run_module: RunModule, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    assert "holds no file" in pack(run_module, tmp_path / "void", tmp_path / "cache")["msg"]


def test_who_packed_is_noted(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    answer = pack(run_module, tree, tmp_path / "cache")
    assert answer["host"] == socket.gethostname() and answer["by"]


# requirements


def test_a_requirement_becomes_a_requirements_file(run_module: RunModule, tmp_path: Path) -> None:
    answer = pack(run_module, "hello==1.2.0", tmp_path / "cache")
    assert answer["kind"] == "requirement" and "warnings" not in answer
    assert contents(answer["path"]) == {"requirements.txt": ("file", 0o644, b"hello==1.2.0\n")}


def test_a_requirement_takes_others_beside_it(run_module: RunModule, tmp_path: Path) -> None:
    answer = pack(run_module, "hello==1.2.0 gunicorn==23.0.0 --hash=sha256:0a", tmp_path / "cache")
    assert answer["kind"] == "requirement" and "warnings" not in answer
    lines = b"hello==1.2.0\ngunicorn==23.0.0 --hash=sha256:0a\n"
    assert contents(answer["path"]) == {"requirements.txt": ("file", 0o644, lines)}


def test_a_requirement_without_a_version_gets_a_warning(run_module: RunModule, tmp_path: Path) -> None:
    assert "NAME==VERSION" in str(pack(run_module, "hello", tmp_path / "cache")["warnings"])


# git


def test_a_checkout_and_its_revision_give_the_same_archive(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    directory = pack(run_module, tree, tmp_path / "cache")
    revision = pack(run_module, f"git+file://{tree}@v1", tmp_path / "cache")
    assert directory["sha256"] == revision["sha256"] and not revision["changed"]
    assert directory["revision"] == revision["revision"] == git_repository("rev-parse", "HEAD")
    assert (directory["kind"], revision["kind"]) == ("directory", "git")


def test_a_directory_with_changes_is_noted_as_dirty(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    (tree / "app.py").write_text("changed\n")
    head = git_repository("rev-parse", "HEAD")
    assert pack(run_module, tree, tmp_path / "cache")["revision"] == f"{head}-dirty"


def test_a_directory_outside_of_git_has_no_revision(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    assert pack(run_module, tree, tmp_path / "cache")["revision"] == ""


def test_a_branch_is_asked_for_again_and_a_commit_is_not(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    url, cache = f"git+file://{tree}", tmp_path / "cache"
    first = pack(run_module, f"{url}@main", cache)
    (tree / "app.py").write_text("two\n")
    git_repository("commit", "-qam", "two")
    second = pack(run_module, f"{url}@main", cache)
    assert second["sha256"] != first["sha256"]
    assert pack(run_module, f"{url}@v1", cache)["sha256"] == first["sha256"]
    tree.rename(tmp_path / "gone")
    assert pack(run_module, f"{url}@{first['revision']}", cache)["sha256"] == first["sha256"], "needs no repository"
    assert "cannot read git+file://" in pack(run_module, f"{url}@main", cache)["msg"]


def test_a_tag_that_was_moved_is_followed(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    url, cache = f"git+file://{tree}@v1", tmp_path / "cache"
    first = pack(run_module, url, cache)
    (tree / "app.py").write_text("two\n")
    git_repository("commit", "-qam", "two")
    git_repository("tag", "-f", "-a", "-m", "moved", "v1")
    second = pack(run_module, url, cache)
    assert second["sha256"] != first["sha256"]
    assert second["revision"] == git_repository("rev-parse", "HEAD"), "the commit, not the tag's own object"


def test_a_subdirectory_becomes_the_root(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    answer = pack(run_module, f"git+file://{tree}@v1#subdirectory=static", tmp_path / "cache")
    assert sorted(contents(answer["path"])) == ["css", "css/a.css", "index.html"]
    missing = pack(run_module, f"git+file://{tree}@v1#subdirectory=nope", tmp_path / "cache")
    assert "holds no file below 'nope' at v1" in missing["msg"]


def test_a_link_that_leads_out_of_the_subdirectory_is_refused(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    (tree / "static" / "up").symlink_to("../app.py")
    git_repository("add", ".")
    git_repository("commit", "-qm", "two")
    assert not pack(run_module, f"git+file://{tree}@main", tmp_path / "cache").get("failed")
    answer = pack(run_module, f"git+file://{tree}@main#subdirectory=static", tmp_path / "cache")
    assert "up -> ../app.py" in answer["msg"]


def test_a_revision_that_is_not_there_is_named(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    for revision in ("v9", "0" * 40):
        answer = pack(run_module, f"git+file://{tree}@{revision}", tmp_path / "cache")
        assert f"no tag, branch or commit '{revision}'" in answer["msg"]


def test_a_repository_that_cannot_be_read_is_named_without_its_password(run_module: RunModule, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound and not listening: every connection is refused
        port = nobody.getsockname()[1]
        url = f"git+http://ada:s3cr3t-token@127.0.0.1:{port}/a.git@v1"
        answer = pack(run_module, url, tmp_path / "cache")
    assert f"cannot read git+http://***@127.0.0.1:{port}/a.git@v1" in answer["msg"]
    assert "s3cr3t" not in str(answer)


def test_a_password_is_not_kept_on_the_disk(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    pack(run_module, f"git+file://ada:s3cr3t-token@{tree}@v1", tmp_path / "cache")
    for path in (tmp_path / "cache").rglob("*"):
        assert not path.is_file() or b"s3cr3t" not in path.read_bytes()


def test_git_is_not_misled_by_the_environment_of_a_hook(
    run_module: RunModule,
    tree: Path,
    tmp_path: Path,
    git_repository: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_INDEX_FILE", "/nonexistent")
    assert pack(run_module, tree, tmp_path / "cache")["revision"] == git_repository("rev-parse", "HEAD")


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"


@pytest.mark.parametrize("form", ["{}", "git+file://{}@main"])
def test_a_file_that_git_lfs_keeps_elsewhere_is_named_with_the_way_to_it(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str], form: str
) -> None:
    for name in "abcdefg":
        (tree / "static" / f"{name}.png").write_text(POINTER)
    (tree / "static" / "text.md").write_text(f"A pointer:\n{POINTER}")
    git_repository("add", ".")
    git_repository("commit", "-qm", "two")
    answer = pack(run_module, form.format(tree), tmp_path / "cache")
    assert answer["failed"] and "e.png and 2 more are only pointers of Git LFS" in answer["msg"]
    assert "run git lfs pull in" in answer["msg"].lower() and "flask_gunicorn_nginx_exclude" in answer["msg"]
    assert not pack(run_module, form.format(tree), tmp_path / "cache", exclude=["*.png"]).get("failed")


@pytest.fixture
def submodules(tree: Path, tmp_path: Path, git_repository: Callable[..., str]) -> Callable[..., str]:
    """Return a git command in a repository with a submodule, lib/theme, that is checked out."""
    other = tmp_path / "theme"
    other.mkdir()
    allow = ("-c", "protocol.file.allow=always")
    for words in (["init", "-q", str(other)], ["-C", str(other), "commit", "-q", "--allow-empty", "-m", "one"]):
        git_repository(*words)
    (other / "theme.py").write_text("x")
    git_repository("-C", str(other), "add", ".")
    git_repository("-C", str(other), "commit", "-qm", "two")
    git_repository(*allow, "submodule", "--quiet", "add", str(other), "lib/theme")
    git_repository("commit", "-qm", "two")
    return git_repository


def test_a_submodule_that_is_not_there_is_named_with_the_way_to_it(
    run_module: RunModule, tree: Path, tmp_path: Path, submodules: Callable[..., str]
) -> None:
    answer = pack(run_module, tree, tmp_path / "cache")
    assert not answer.get("failed"), "it is checked out"
    assert {"lib/theme/theme.py", "lib/theme"} <= set(contents(answer["path"]))
    url = f"git+file://{tree}@main"
    revision = pack(run_module, url, tmp_path / "cache")["msg"]
    assert "lib/theme is a submodule that is not there" in revision and "--recurse-submodules" in revision
    assert "theme is a submodule" in pack(run_module, f"{url}#subdirectory=lib", tmp_path / "cache")["msg"]
    submodules("submodule", "--quiet", "deinit", "--all", "--force")
    for directory, name in ((tree, "lib/theme"), (tree / "lib", "theme")):
        said = pack(run_module, directory, tmp_path / "cache")["msg"]
        assert f"{name} is a submodule that is not there. Run git submodule update" in said
    for source in (str(tree), url):
        assert not pack(run_module, source, tmp_path / "cache", exclude=["/lib"]).get("failed")
    assert not pack(run_module, f"{url}#subdirectory=static", tmp_path / "cache").get("failed")


@pytest.mark.parametrize("form", ["{}", "git+file://{}@main"])
def test_an_env_file_that_stays_out_is_told_once_with_where_its_values_go(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str], form: str
) -> None:
    assert "warnings" not in pack(run_module, form.format(tree), tmp_path / "cache")
    (tree / ".env").write_text("SECRET_KEY=x\n")
    git_repository("add", "-f", ".env")
    git_repository("commit", "-qm", "two")
    answer = pack(run_module, form.format(tree), tmp_path / "cache")
    assert ".env" not in contents(answer["path"])
    (warning,) = answer["warnings"]
    assert "flask_gunicorn_nginx_env" in str(warning) and "ansible-vault" in str(warning)
    assert "warnings" not in pack(run_module, form.format(tree), tmp_path / "cache", exclude=[".env"])


def test_head_is_that_of_the_repository_whatever_its_branch_is_called(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    cache, url = tmp_path / "cache", f"git+file://{tree}"
    for branch in ("trunk", "master"):
        git_repository("checkout", "-qb", branch)
        git_repository("commit", "-q", "--allow-empty", "-m", branch)
        assert pack(run_module, f"{url}@HEAD", cache)["revision"] == git_repository("rev-parse", "HEAD")
    git_repository("checkout", "-q", "--detach")
    git_repository("commit", "-q", "--allow-empty", "-m", "on no branch")
    head = git_repository("rev-parse", "HEAD")
    assert pack(run_module, f"{url}@HEAD", cache)["revision"] == head
    assert pack(run_module, f"{url}@{head[:9]}", cache)["revision"] == head, "a short hash"
    assert pack(run_module, f"{url}@trunk", cache)["revision"] == git_repository("rev-parse", "trunk")


def test_a_shallow_checkout_of_a_ci_can_be_packed(
    run_module: RunModule, tree: Path, tmp_path: Path, git_repository: Callable[..., str]
) -> None:
    git_repository("commit", "-q", "--allow-empty", "-m", "two")
    git_repository("clone", "-q", "--depth", "1", f"file://{tree}", str(tmp_path / "shallow"))
    answer = pack(run_module, f"git+file://{tmp_path / 'shallow'}@HEAD", tmp_path / "cache")
    assert answer["revision"] == git_repository("rev-parse", "HEAD")


def test_the_gzip_header_holds_neither_time_nor_name(run_module: RunModule, tree: Path, tmp_path: Path) -> None:
    data = Path(pack(run_module, tree, tmp_path / "cache")["path"]).read_bytes()
    assert data[:4] == b"\x1f\x8b\x08\x00" and data[4:8] == b"\0\0\0\0"
    assert gzip.decompress(data)


def test_the_log_of_the_control_node_gets_no_password(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(AnsibleModule, "log", lambda module, message, *_more, **_named: logged.append(message))
    pack(run_module, "git+http://s3cr3t-token@127.0.0.1:1/a.git@v1", tmp_path / "cache")
    assert "127.0.0.1:1/a.git@v1" in logged[0] and "s3cr3t" not in str(logged)

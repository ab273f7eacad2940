"""What config_files has on record: what it put in place, and so what it may take away again."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import file_record, file_state, file_transaction

from tests.unit.plugins.etc_host import BAD, NEW, OLD, Answer, Cut, Host

# what is noted


def note(content: str, mode: str = "0644") -> str:
    return f"{hashlib.sha256(content.encode()).hexdigest()} {mode} {os.geteuid()}:{os.getegid()}"


def record(host: Host) -> dict[str, str] | None:
    path = Path(file_record.RECORD)
    return dict(json.loads(path.read_text())) if path.exists() else None


def test_what_was_put_in_place_is_noted_and_what_was_removed_is_not(host: Host) -> None:
    assert not host.run(check=True).get("failed") and record(host) is None
    host.run()
    deep = str(host.etc / "deep" / "er" / "x.conf")
    made = {
        deep: note("x\n", "0600"),
        str(host.etc / "deep"): "directory",
        str(host.etc / "deep" / "er"): "directory",
        f"line {host.main}": json.dumps([["    connections 768;", "    connections 8192;"]]),
    }
    assert record(host) == {
        str(host.site): note(NEW),
        str(host.enabled): "-> ../available/hello.conf",
        **made,
    }, "of a file of somebody else the lines are"
    mode = Path(file_record.RECORD).stat().st_mode
    assert mode & 0o777 == 0o644
    before = Path(file_record.RECORD).stat().st_ino
    assert host.run()["changed"] is False and Path(file_record.RECORD).stat().st_ino == before
    host.run(files=[{"path": str(host.site), "state": "absent"}, {"path": str(host.enabled), "state": "absent"}])
    assert record(host) == made
    line = {"path": str(host.main), "regexp": "x", "state": "absent"}
    host.run(files=[{"path": deep, "state": "absent"}, line])
    assert record(host) is None and not Path(file_record.RECORD).parent.exists()


def test_a_set_that_was_put_back_is_not_noted(host: Host) -> None:
    host.run()
    before = record(host)
    assert host.run(content=BAD)["failed"] and record(host) == before


def test_what_a_cut_run_has_made_is_on_record_already(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the next run would take its own files for somebody else's."""
    host.run(OLD)
    noted = record(host) or {}
    with monkeypatch.context() as patch:
        patch.setattr(file_transaction.Transaction, "run", lambda *arguments: (_ for _ in ()).throw(Cut))
        with pytest.raises(Cut):
            host.run(
                files=[{"path": str(host.etc / "new"), "content": "x"}, {"path": str(host.site), "state": "absent"}]
            )
    assert record(host) == {**noted, str(host.etc / "new"): note("x")}


def test_a_refused_run_leaves_the_record_as_it_was(host: Host) -> None:
    host.run(OLD)
    noted = record(host)
    assert host.run(BAD)["failed"]
    assert record(host) == noted


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_damaged_record_is_refused_for_it_says_what_is_ours(host: Host, content: str) -> None:
    Path(file_record.RECORD).parent.mkdir(parents=True)
    Path(file_record.RECORD).write_text(content)
    before = host.tree()
    assert "is damaged" in host.run()["msg"]
    assert host.tree() == before


def test_a_file_that_is_not_on_record_is_not_removed_and_named(host: Host) -> None:
    before = host.tree()
    for check in (True, False):
        answer = host.run(files=[{"path": str(host.foreign), "state": "absent"}], check=check)
        assert (answer["changed"], answer["left"]) == (False, [str(host.foreign)])
    assert host.tree() == before


def test_while_a_run_is_writing_what_stood_and_what_comes_are_both_on_record(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else what a cut run leaves would look as if somebody had changed it."""
    host.run(OLD)
    with monkeypatch.context() as patch:
        patch.setattr(file_transaction.Transaction, "run", lambda *arguments: (_ for _ in ()).throw(Cut))
        with pytest.raises(Cut):
            host.run(NEW)
    both = (record(host) or {})[str(host.site)]
    assert both == f"{note(OLD)}\n{note(NEW)}"
    for content, good in ((OLD, True), (NEW, True), ("by hand\n", False)):
        host.site.write_text(content)
        assert file_state.as_noted(file_state.read(str(host.site)), both) is good
    host.site.write_text(NEW)
    host.run(NEW)
    assert (record(host) or {})[str(host.site)] == note(NEW)


@pytest.mark.parametrize("damage", ["echo edited >{0}", "chmod 600 {0}", "ln -sf elsewhere {0}", "rm {0}"])
def test_a_note_tells_content_mode_and_link_and_that_of_an_older_role_the_content(host: Host, damage: str) -> None:
    host.run()
    subprocess.run(["sh", "-c", damage.format(host.site)], check=True)
    now = file_state.read(str(host.site))
    assert not file_state.as_noted(now, note(NEW))
    assert file_state.as_noted(now, note(NEW).split(" ")[0]) is damage.startswith("chmod")


def test_a_file_that_somebody_has_changed_is_not_removed_and_is_his_from_then_on(host: Host) -> None:
    host.run()
    host.site.write_text("by hand\n")
    host.enabled.unlink()
    host.enabled.symlink_to("elsewhere")
    files = [{"path": str(path), "state": "absent"} for path in (host.site, host.enabled)]
    for check in (True, False):
        assert host.run(files=files, check=check)["left"] == [str(host.site), str(host.enabled)]
    assert host.site.read_text() == "by hand\n" and os.readlink(host.enabled) == "elsewhere"
    assert not {str(host.site), str(host.enabled)} & set(record(host) or {})


def test_a_file_of_ours_that_has_another_mode_is_removed(host: Host) -> None:
    host.run()
    host.site.chmod(0o600)
    assert host.run(files=[{"path": str(host.site), "state": "absent"}])["left"] == []
    assert not host.site.exists()


def test_who_says_so_has_changed_files_removed_but_no_foreign_ones(host: Host) -> None:
    host.run()
    host.site.write_text("by hand\n")
    files = [{"path": str(path), "state": "absent"} for path in (host.site, host.foreign)]
    assert host.run(files=files, overwrite=True)["left"] == [str(host.foreign)]
    assert not host.site.exists() and host.foreign.exists()


# lines in files of others


def lines(host: Host, **more: Any) -> Answer:
    entry = {"path": str(host.main), "regexp": r"^(\s*connections)\s+\d+;", "replace": r"\1 8192;"}
    return host.run(files=[entry | more.pop("entry", {})], **more)


def test_a_line_is_put_back_and_the_file_is_as_it_was(host: Host) -> None:
    host.main.write_bytes(b"# caf\xe9\r\nconnections\t1;\n\n# connections 2;")
    before = host.main.read_bytes()
    lines(host)
    assert host.main.read_bytes() != before
    assert lines(host, entry={"state": "absent"}, check=True)["changed"]
    assert lines(host, entry={"state": "absent"})["changed"] and host.main.read_bytes() == before
    assert not lines(host, entry={"state": "absent"})["changed"] and record(host) is None


def test_what_else_was_changed_in_that_file_stays_when_a_line_is_put_back(host: Host) -> None:
    lines(host)
    host.main.write_text("new first;\n" + host.main.read_text() + "new last;\n")
    lines(host, entry={"state": "absent"})
    assert host.main.read_text() == "new first;\na 1;\n    connections 768;\nb 2;\nnew last;\n"


@pytest.mark.parametrize("theirs", ["    connections 512;", "    connections 768;", "    # connections 8192;", ""])
def test_a_line_that_its_owner_has_changed_since_is_his(host: Host, theirs: str) -> None:
    lines(host)
    host.main.write_text(f"a 1;\n{theirs}\nb 2;\n")
    before = host.main.read_bytes()
    assert not lines(host)["changed"] and not lines(host, entry={"state": "absent"}, check=True)["changed"]
    assert lines(host, overwrite=True)["changed"] is theirs.strip().startswith("c")
    host.main.write_bytes(before)
    lines(host, entry={"state": "absent"})
    assert host.main.read_bytes() == before


def test_a_line_that_an_older_role_changed_stays_for_nobody_knows_what_it_was(host: Host) -> None:
    host.main.write_text("a 1;\n    connections 8192;\nb 2;\n")
    assert not lines(host)["changed"] and record(host) is None
    assert not lines(host, entry={"state": "absent"})["changed"]


def test_a_refused_run_leaves_no_line_on_record(host: Host) -> None:
    assert host.run(BAD)["failed"] and record(host) is None


# directories, and what waits aside


def test_a_directory_goes_with_the_last_file_for_which_it_was_made(host: Host) -> None:
    (host.etc / "theirs").mkdir()
    new = [host.etc / name for name in ("made/by/us/a", "made/b", "theirs/c")]
    host.run(files=[{"path": str(path), "content": "x"} for path in new])
    host.run(files=[{"path": str(new[0]), "state": "absent"}, {"path": str(new[2]), "state": "absent"}])
    assert not (host.etc / "made/by").exists() and (host.etc / "theirs").exists()
    (host.etc / "made/note").write_text("somebody's")
    host.run(files=[{"path": str(new[1]), "state": "absent"}])
    assert (host.etc / "made/note").exists()


def test_what_waits_aside_is_not_lost_when_something_else_stands_in_its_place(host: Host) -> None:
    host.default.unlink()
    host.default.write_text("a site by hand\n")
    entry = {"path": str(host.default), "disabled_as": str(host.kept)}
    host.run(files=[{**entry, "state": "disabled"}])
    host.default.write_text("another\n")
    answer = host.run(files=[{**entry, "state": "disabled"}])
    assert answer["failed"] and f"{host.kept}, where another file stands" in answer["msg"]
    host.run(files=[{**entry, "state": "restored"}])
    assert (host.default.read_text(), host.kept.read_text()) == ("another\n", "a site by hand\n")

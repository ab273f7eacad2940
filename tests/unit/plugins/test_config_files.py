"""Files that change together or not at all: what is written, what is put back, what a cut run leaves."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import file_record, file_transaction
from ansible_collections.flaskfleet.web.plugins.modules import config_files

from tests.unit.plugins.etc_host import BAD, GROUP, NEW, OLD, REAL_COMMAND, USER, Answer, Cut, Host


def test_the_whole_set_is_put_in_place_checked_and_applied_once(host: Host) -> None:
    answer = host.run()
    assert (answer["changed"], answer["applied"]) == (True, True)
    assert answer["changed_paths"] == [
        str(path)
        for path in (host.main, host.kept, host.default, host.site, host.enabled, host.etc / "deep" / "er" / "x.conf")
    ]
    assert host.calls() == ["check-all", "reload-all"]
    assert host.site.read_text() == NEW and stat.S_IMODE(host.site.stat().st_mode) == 0o644
    assert os.readlink(host.enabled) == "../available/hello.conf"
    assert host.main.read_text() == "a 1;\n    connections 8192;\nb 2;\n"
    assert not os.path.lexists(host.default) and os.readlink(host.kept) == "../available/default"
    assert stat.S_IMODE((host.etc / "deep" / "er").stat().st_mode) == 0o755
    assert not host.markers()


def test_what_it_returns_puts_everything_back_but_the_files_of_others(host: Host) -> None:
    before = host.tree(times=False)
    undo = host.run()["undo"]
    host.run(files=undo)
    changed = {path for path, held in host.tree(times=False).items() if before.get(path) != held}
    # what waits aside is on no record, and no content to go by
    assert changed == {"main.conf", "available/default.kept"}
    assert stat.S_IMODE(host.site.stat().st_mode) == 0o640
    assert host.run(check=True)["undo"] != []


def test_a_second_run_changes_nothing_and_runs_nothing(host: Host) -> None:
    host.run()
    host.calls()
    before = host.tree()
    answer = host.run()
    assert (answer["changed"], answer["applied"], answer["undo"], answer["diff"]) == (False, False, [], [])
    assert host.calls() == [] and host.tree() == before


def test_check_mode_writes_nothing_and_predicts_what_happens(host: Host) -> None:
    before = host.tree()
    predicted = host.run(check=True)
    assert host.tree() == before and host.calls() == [] and not host.markers()
    assert host.run() == predicted
    assert host.run(check=True) == host.run()


def test_a_refused_set_is_put_back_to_the_last_detail(host: Host) -> None:
    before = host.tree()
    answer = host.run(BAD)
    assert answer["failed"]
    assert host.tree() == before
    assert host.calls() == ["check-all", "check-all"]
    said = f"check-all -t refuses the new files:\nbad in {host.site}, line 1\nPut back as before: "
    assert answer["msg"].startswith(said)
    assert answer["put_back"] == sorted(answer["put_back"]) and str(host.enabled) in answer["put_back"]
    assert "not the cause" not in answer["msg"]
    assert not host.markers()


def test_a_fault_that_was_there_before_is_told_from_one_of_this_change(host: Host) -> None:
    host.foreign.write_text(BAD)
    before = host.tree()
    answer = host.run()
    assert "fails too, so this change is not the cause" in answer["msg"]
    assert host.tree() == before


def test_a_failed_apply_puts_back_and_applies_the_old_files(host: Host) -> None:
    host.run(OLD)
    host.calls()
    before = host.tree()
    host.apply_works = lambda: host.site.read_text() == OLD
    answer = host.run()
    assert answer["failed"] and "\ncannot reload\n" in answer["msg"] and "ran again and succeeded" in answer["msg"]
    assert host.tree() == before
    assert host.calls() == ["check-all", "reload-all", "reload-all"] and not host.markers()


def test_an_apply_that_fails_twice_is_tried_again_by_the_next_run(host: Host) -> None:
    before = host.tree()
    host.apply_works = lambda: False
    answer = host.run()
    assert "fails too" in answer["msg"] and host.tree() == before and len(host.markers()) == 1
    host.calls()
    host.apply_works = lambda: True
    answer = host.run(files=[])
    assert (answer["changed"], answer["applied"]) == (True, True)
    assert host.calls() == ["reload-all"] and not host.markers()


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["/nonexistent/nginx", "-t"], "/nonexistent/nginx: No such file or directory"),
        (["sh", "-c", "echo one; echo two >&2; exit 3"], "refuses the new files:\none\ntwo\nPut back"),
    ],
)
def test_a_real_command_is_run_and_quoted(
    host: Host, monkeypatch: pytest.MonkeyPatch, argv: list[str], words: str
) -> None:
    monkeypatch.setattr(file_transaction.Transaction, "command", REAL_COMMAND)
    before = host.tree()
    assert words in host.run(validate=argv)["msg"] and host.tree() == before
    assert host.run(validate=["true"], apply=["true"])["applied"]


def test_a_path_that_cannot_be_written_leaves_everything_as_it_was(host: Host) -> None:
    before = host.tree()
    files = [
        {"path": str(host.site), "content": NEW},
        {"path": str(host.main / "below" / "a-file"), "content": "x"},
    ]
    answer = host.run(files=files)
    assert answer["failed"] and "main.conf" in answer["msg"]
    assert host.tree() == before and host.calls() == [] and not host.markers()


def test_a_full_disk_leaves_everything_as_it_was(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    before = host.tree()
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == 8:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    answer = host.run()
    assert answer["failed"] and "No space left on device" in answer["msg"]
    assert host.tree() == before


def steps_of_a_run(host: Host, monkeypatch: pytest.MonkeyPatch, cut_at: int, content: str) -> bool:
    """Run until the step `cut_at`, and cut the run there; False when there are fewer steps."""
    steps = 0
    # as write_record leaves it, which has tests of its own
    Path(file_transaction.UNFINISHED).parent.mkdir(parents=True, exist_ok=True)

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any) -> Any:
            nonlocal steps
            steps += 1
            if steps == cut_at:
                raise Cut
            return real(*arguments)

        return step

    with monkeypatch.context() as patch:
        patch.setattr(config_files, "write_record", lambda before, after: None)
        for name in ("write", "make_directory"):
            patch.setattr(file_transaction, name, counting(getattr(file_transaction, name)))
        patch.setattr(file_transaction.Transaction, "command", counting(file_transaction.Transaction.command))
        try:
            host.run(content)
        except Cut:
            return True
    return False


# marker, 2 directories, 6 paths, check, marker, apply, marker
GOOD_RUN = 13
# marker, 2 directories, 6 paths, check, 6 paths put back, check again, marker
REFUSED_RUN = 18


@pytest.mark.parametrize(
    ("content", "cut_at"),
    [*((NEW, step) for step in range(1, GOOD_RUN + 1)), *((BAD, step) for step in range(1, REFUSED_RUN + 1))],
)
@pytest.mark.parametrize("powerless", [False, True])
def test_a_run_cut_anywhere_is_finished_or_undone_by_the_next(
    host: Host, monkeypatch: pytest.MonkeyPatch, cut_at: int, content: str, powerless: bool
) -> None:
    assert steps_of_a_run(host, monkeypatch, cut_at, content)
    if powerless:
        host.boot()
    predicted = host.run(check=True)
    answer = host.run()
    assert predicted == answer and answer["changed"] and not answer.get("failed")
    assert host.site.read_text() == NEW and not host.markers()
    assert host.tree(times=False) == host.tree(times=False, root=host.running), "the program has read what is in place"
    assert not host.run()["changed"]


@pytest.mark.parametrize("cut_at", range(1, 7))
def test_after_a_power_cut_a_run_with_nothing_to_write_puts_back_what_nobody_has_judged(
    host: Host, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    host.run(OLD)
    before = host.tree()
    assert steps_of_a_run(host, monkeypatch, cut_at, BAD)
    host.boot()
    assert not host.run(files=[]).get("failed")
    assert host.tree() == before and not host.markers()
    assert host.tree(times=False) == host.tree(times=False, root=host.running), "the program has read it"


@pytest.mark.parametrize(("content", "steps"), [(NEW, GOOD_RUN), (BAD, REFUSED_RUN)])
def test_the_tests_above_cut_at_every_step(
    host: Host, monkeypatch: pytest.MonkeyPatch, content: str, steps: int
) -> None:
    assert not steps_of_a_run(host, monkeypatch, steps + 1, content)


@pytest.mark.parametrize("cut_at", range(1, 7))
def test_after_a_cut_run_and_a_refused_one_the_program_runs_with_what_is_in_place(
    host: Host, monkeypatch: pytest.MonkeyPatch, cut_at: int
) -> None:
    host.run(OLD)
    before = host.tree()
    assert steps_of_a_run(host, monkeypatch, cut_at, NEW)
    assert host.run(BAD)["failed"]
    if host.site.read_text() == OLD:
        assert host.tree() == before
    host.run(files=[])
    assert host.tree(times=False) == host.tree(times=False, root=host.running) and not host.markers()


def test_what_a_person_mended_after_a_cut_run_is_not_overwritten_by_the_recovery(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert steps_of_a_run(host, monkeypatch, 9, BAD)
    assert host.site.read_text() == BAD
    host.site.write_text("by hand\n")
    answer = host.run(files=[])
    assert host.site.read_text() == "by hand\n"
    assert not answer.get("failed")


def test_a_hand_edited_file_is_repaired_and_reported_once(host: Host) -> None:
    host.run()
    for damage in (
        *("echo edited >{site}", "chmod 777 {site}", "ln -sf elsewhere {site}", "rm {site}"),
        *("rm {enabled}", "ln -sfn elsewhere {enabled}", "rm {enabled}; echo x >{enabled}"),
    ):
        subprocess.run(["sh", "-c", damage.format(site=host.site, enabled=host.enabled)], check=True)
        assert host.run()["changed"], damage
        assert host.site.read_text() == NEW and os.readlink(host.enabled) == "../available/hello.conf"
        assert not host.run()["changed"], damage


def test_nothing_that_is_not_listed_is_touched(host: Host) -> None:
    before = host.foreign.stat()
    host.run()
    host.run(BAD)
    after = host.foreign.stat()
    assert (after.st_ino, after.st_mtime_ns, after.st_ctime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
        before.st_ctime_ns,
    )


def test_a_link_is_replaced_and_what_it_points_to_is_not(host: Host) -> None:
    elsewhere = host.etc / "elsewhere"
    elsewhere.write_text("mine\n")
    host.site.unlink()
    host.site.symlink_to(elsewhere)
    host.run()
    assert not host.site.is_symlink() and elsewhere.read_text() == "mine\n"


def test_a_directory_in_the_way_is_named_and_stays(host: Host) -> None:
    host.site.unlink()
    host.site.mkdir()
    before = host.tree()
    assert f"{host.site} is a directory" in host.run()["msg"]
    assert host.run(files=[{"path": str(host.site), "state": "absent"}])["left"] == [str(host.site)]
    assert host.tree() == before


def test_a_file_goes_aside_and_comes_back(host: Host) -> None:
    before = host.tree()
    entry = {"path": str(host.default), "disabled_as": str(host.kept)}
    assert host.run(files=[{**entry, "state": "disabled"}])["changed"]
    assert not host.run(files=[{**entry, "state": "disabled"}])["changed"]
    assert host.run(files=[{**entry, "state": "restored"}])["changed"]
    assert host.tree() == before
    assert not host.run(files=[{**entry, "state": "restored"}])["changed"]


def test_a_file_that_stands_in_the_way_of_one_that_comes_back_stays(host: Host) -> None:
    entry = {"path": str(host.default), "disabled_as": str(host.kept)}
    host.run(files=[{**entry, "state": "disabled"}])
    host.default.write_text("a new one\n")
    host.run(files=[{**entry, "state": "restored"}])
    assert host.default.read_text() == "a new one\n" and not os.path.lexists(host.kept)


def test_a_file_that_is_offered_gives_way_to_somebody_else_s_and_follows_where_it_is_ours(host: Host) -> None:
    def offer(text: str, **more: Any) -> Any:
        return host.run(files=[{"path": str(path), "content": text, "state": "offered", **more}])

    path = host.etc / "offered"
    path.write_text("somebody's\n")
    answer = offer("ours\n")
    assert not answer["changed"] and not answer["warnings"] and path.read_text() == "somebody's\n"
    assert str(path) not in file_record.read_record()
    path.unlink()
    assert offer("ours\n", mode="0755")["changed"] and stat.S_IMODE(path.stat().st_mode) == 0o755
    assert not offer("ours\n", mode="0755")["changed"]
    assert offer("ours, newer\n")["changed"] and str(path) in file_record.read_record()
    path.write_text("changed by hand\n")
    assert not offer("ours, newest\n")["changed"] and path.read_text() == "changed by hand\n"
    assert str(path) not in file_record.read_record(), "no drift is told of what is theirs now"
    assert host.run(files=[{"path": str(path), "state": "absent"}])["left"] == [str(path)] and path.exists()
    path.unlink()
    offer("ours\n")
    assert host.run(files=[{"path": str(path), "state": "absent"}])["changed"] and not path.exists()


def test_an_edited_file_keeps_mode_and_foreign_bytes(host: Host) -> None:
    host.main.write_bytes(b"# caf\xe9\nconnections 1;\n# connections 2;\n")
    host.main.chmod(0o604)
    assert host.run()["changed"]
    assert host.main.read_bytes() == b"# caf\xe9\nconnections 8192;\n# connections 2;\n"
    assert stat.S_IMODE(host.main.stat().st_mode) == 0o604


def test_a_file_to_be_edited_must_be_there_except_in_check_mode(host: Host) -> None:
    host.main.unlink()
    assert "is absent" in host.run()["msg"]
    assert str(host.main) not in host.run(check=True)["changed_paths"]


def test_content_for_a_file_that_is_to_be_absent_does_not_matter(host: Host) -> None:
    host.run()
    assert host.run(files=[{"path": str(host.site), "content": NEW, "state": "absent"}])["changed"]
    assert not host.site.exists()


def test_an_owner_is_named_and_an_unknown_one_is_refused_before_anything_changes(host: Host) -> None:
    before = host.tree()
    files = [
        {"path": str(host.site), "content": NEW, "owner": USER, "group": GROUP},
        {"path": str(host.main), "content": NEW, "owner": "nobody-has-this-name"},
    ]
    assert "no user nobody-has-this-name" in host.run(files=files)["msg"] and host.tree() == before
    predicted = host.run(files=files, check=True)
    assert predicted["changed_paths"] == [str(host.site), str(host.main)], "an earlier task would have made the user"
    assert "a user to be made" in str(predicted["diff"])
    assert not host.run(files=files[:1]).get("failed")


def test_a_diff_tells_of_each_path_what_it_was_and_what_it_becomes(host: Host) -> None:
    diff = {entry["before_header"].split(" ")[0]: entry for entry in host.run(check=True)["diff"]}
    site = diff[str(host.site)]
    assert (site["before"], site["after"]) == (OLD, NEW)
    assert site["before_header"] == f"{host.site} (0640 {USER}:{GROUP})"
    assert diff[str(host.enabled)]["after"] == "link to ../available/hello.conf\n"
    assert diff[str(host.default)]["after"] == "" and diff[str(host.default)]["after_header"].endswith("(absent)")


def test_a_diff_tells_of_a_mode_alone(host: Host) -> None:
    diff = host.run(OLD, check=True, files=[{"path": str(host.site), "content": OLD}])["diff"]
    assert diff == [{"prepared": f"{host.site}: 0640 {USER}:{GROUP} -> 0644 {USER}:{GROUP}\n"}]


def test_a_diff_of_what_is_no_text_says_so(host: Host) -> None:
    host.site.write_bytes(b"\xff\xfe")
    diff = host.run(check=True, files=[{"path": str(host.site), "content": OLD}])["diff"]
    assert diff[0]["before"].startswith("2 bytes, not UTF-8")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"path": "relative", "content": ""}, "not an absolute, plain path"),
        ({"path": "/etc/../x", "content": ""}, "not an absolute, plain path"),
        ({"path": "/etc/x/", "content": ""}, "not an absolute, plain path"),
        ({"path": "/x"}, "exactly one of content, link and regexp"),
        ({"path": "/x", "content": "", "link": "y"}, "exactly one of content, link and regexp"),
        ({"path": "/x", "link": ""}, "link to nothing"),
        ({"path": "/x", "content": "", "mode": "rw"}, "octal digits"),
        ({"path": "/x", "content": "", "mode": "99"}, "octal digits"),
        ({"path": "/x", "regexp": "a"}, "regexp and replace together"),
        ({"path": "/x", "regexp": "(", "replace": ""}, "regexp that Python cannot read"),
        ({"path": "/x", "state": "disabled"}, "absolute path in disabled_as"),
    ],
)
def test_an_entry_that_makes_no_sense_is_refused_with_its_path(host: Host, entry: dict[str, str], words: str) -> None:
    before = host.tree()
    answer = host.run(files=[entry])
    assert words in answer["msg"] and answer["failed"] and host.tree() == before
    assert entry["path"] in answer["msg"]


def test_a_path_that_is_listed_twice_is_refused(host: Host) -> None:
    entry = {"path": "/x", "content": ""}
    assert "/x is listed twice" in host.run(files=[entry, entry])["msg"]


def test_without_commands_the_files_are_written_all_the_same(host: Host) -> None:
    answer = host.run(validate=None, apply=None)
    assert (answer["changed"], answer["applied"]) == (True, False)
    assert host.site.read_text() == NEW and not host.markers()


def test_a_file_that_never_was_is_never_seen_half_written(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beside a file while it is written has a dot before its name: nginx and systemd include no such file."""
    seen = []
    real = os.replace

    def replace(source: str, target: str) -> None:
        seen.append(os.path.basename(source))
        assert (
            stat.S_IMODE(os.lstat(source).st_mode) != 0o600
            or os.path.islink(source)
            or "x.conf" in source
            or (".json" in source)
        )
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    host.run()
    assert seen and all(name.startswith(".") for name in seen)


# what comes later


def test_a_preview_tells_whether_a_later_task_would_change_anything_and_changes_nothing(host: Host) -> None:
    later: Answer = {
        "files": [{"path": str(host.site), "content": NEW}],
        "validate": ["check-all"],
        "apply": ["reload-all"],
    }

    def ask() -> bool:
        answer = host.run(files=[], validate=None, apply=None, preview=later)
        assert answer["changed"] is False and host.calls() == []
        return bool(answer["preview_changed"])

    assert ask() is True and host.site.read_text() == OLD
    host.run(**later)
    host.calls()
    assert ask() is False
    assert "preview_changed" not in host.run()


def test_a_preview_knows_of_a_run_that_was_cut_before_it_was_applied(host: Host) -> None:
    later: Answer = {
        "files": [{"path": str(host.site), "content": NEW}],
        "validate": ["check-all"],
        "apply": ["reload-all"],
    }
    host.run(**later)
    file_transaction.Marker(later["validate"], later["apply"]).save([], [])
    assert host.run(files=[], validate=None, apply=None, preview=later)["preview_changed"] is True


def test_a_preview_of_the_same_path_is_refused(host: Host) -> None:
    same = [{"path": str(host.site), "content": NEW}]
    assert "is listed twice" in host.run(files=same, preview={"files": same})["msg"]


def test_another_run_is_waited_for_and_not_for_ever(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(file_transaction.time, "sleep", waits.append)
    monkeypatch.setattr(file_transaction.time, "monotonic", lambda: 100.0 + 30 * len(waits))
    with file_transaction.locked():
        answer = host.run()
    assert answer["failed"] and "another run changes files of this host, for 60 s by now" in answer["msg"]
    assert len(waits) == 2 and host.site.read_text() == OLD
    assert host.run()["changed"]


def test_a_line_of_a_file_that_is_a_link_is_left_and_told(host: Host) -> None:
    """Somebody keeps it in a repository: the run goes on, as where a line was changed by whom the file belongs to."""
    target = host.etc.parent / "repository.conf"
    host.main.rename(target)
    host.main.symlink_to(target)
    held = target.read_text()
    answer = host.run()
    assert answer["changed"] and target.read_text() == held and host.main.is_symlink()
    assert [words for words in answer["warnings"] if "is a link" in words and "8192" in words]
    target.write_text(held.replace("768", "8192"))
    assert not [words for words in host.run()["warnings"] if "is a link" in words], "it is as it was to be"

"""Killed anywhere, run twice at once, damaged by hand, out of disk: the next run ends where an undisturbed one does."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, engines, flaskctl, killed, links, note, snapshot
from tests.unit.flaskctl.given import PROCESSES, archive, config

Stage = Callable[..., str]
TRIED = {"gunicorn_conf": "FLASKFLEET_TRY\n", "service": "[Service]\nExecStart=/x/%i/python -m gunicorn\n"}
OWN_TIME = ("manifest.json", "hello.jsonl", "hello.lock", ".complete")


def tree(host: FakeHost) -> set[str]:
    """Return the names of all that stands on the host: files that tell the time by name only."""
    return {
        name if os.path.basename(name) in OWN_TIME else f"{name} {what}" for name, what in snapshot(host.root).items()
    }


@pytest.mark.parametrize("step", flaskctl.STAGE_CHECKPOINTS)
def test_a_stage_that_was_killed_leaves_nothing_visible_and_the_next_one_ends_the_same(
    host: FakeHost, tmp_path: Path, step: str
) -> None:
    path = archive(tmp_path / "v1.tar.gz", {"app.py": "x", "requirements.txt": "flask\n"})
    stdin = config(credentials={"K": "v"}, processes=PROCESSES)
    words = ("hello", "stage", str(path), "--config", "-", "--json")
    undisturbed = FakeHost(tmp_path / "other")
    for directory in ("etc/systemd/system", "run/flaskctl", "srv/hello"):
        (undisturbed.root / directory).mkdir(parents=True)
    for name in ("etc/flaskctl", "etc/nginx", "etc/systemd/system"):
        flaskctl.shutil.copytree(host.root / name, undisturbed.root / name, symlinks=True, dirs_exist_ok=True)
    undisturbed.units, undisturbed.accounts = dict(host.units), dict(host.accounts)
    assert call(undisturbed, *words, stdin=stdin).rc == 0

    assert killed(host, step, *words, stdin=stdin), f"{step} is no step of stage"
    listed = call(host, "hello", "releases", "--json").json["releases"]
    assert len(listed) == (1 if step == "staged" else 0)
    again = call(host, *words, stdin=stdin)
    assert again.rc == 0 and again.json["staged"]
    assert tree(host) == tree(undisturbed)
    assert call(host, *words, stdin=stdin).json["changed"] is False


@pytest.mark.parametrize("step", flaskctl.TRY_CHECKPOINTS)
def test_a_try_that_was_killed_leaves_no_process_and_is_done_again(
    host: FakeHost, stage: Stage, tmp_path: Path, step: str
) -> None:
    release = stage("v1", **TRIED)
    words = ("hello", "stage", str(tmp_path / "v1.tar.gz"), "--config", "-", "--json", "--try", "health")
    assert killed(host, step, *words, stdin=config(**TRIED))
    name = f"hello.try-{release}.service"
    assert (host.units.get(name, {}).get("ActiveState") == "active") == (step == "try-stop")
    assert call(host, "hello", "prune").rc == 0
    assert host.units.get(name, {}).get("ActiveState") != "active"
    again = call(host, *words, stdin=config(**TRIED))
    assert again.rc == 0 and again.json["tried"] and again.json["changed"]


ACTIVATE_STEPS = [step for step in flaskctl.CHECKPOINTS[len(flaskctl.STAGE_CHECKPOINTS) :] if "-" not in step]


@pytest.mark.parametrize(
    ("step", "then"),
    [
        *((step, "activate") for step in ACTIVATE_STEPS),
        *((step, then) for step in ("started", "current", "previous", "drain") for then in ("stage", "rollback")),
    ],
)
def test_an_activation_that_was_killed_is_finished_or_undone_by_whatever_comes_next(
    host: FakeHost, stage: Stage, step: str, then: str
) -> None:
    zero, one, two = stage("v0"), stage("v1", processes=PROCESSES), stage("v2", processes=PROCESSES)
    call(host, "hello", "activate", zero)
    call(host, "hello", "activate", one)
    assert killed(host, step, "hello", "activate", two), f"{step} is no step of activate"
    assert host.active(), "something serves, whatever happened"
    switched = links(host)[0] == two
    status = call(host, "hello", "status", "--json").json
    assert status["locked"] is None
    assert (status["interrupted"] is not None) == (step != "intent") == bool(status["problems"])

    if then == "activate":
        assert call(host, "hello", "activate", two).rc == 0
        expected = (two, one)
    elif then == "stage":
        stage("v3")
        expected = (two, one) if switched else (one, zero)
    else:
        assert call(host, "hello", "rollback").rc == 0
        expected = (one, two) if switched else (zero, one)
    assert links(host) == expected
    assert host.active() == [expected[0]]
    assert not (base(host) / "activating.json").exists()
    running = [name for name, unit in host.units.items() if "@" in name and unit["ActiveState"] == "active"]
    assert all(expected[0] in name for name in running)
    assert call(host, "hello", "status", "--json").json["problems"] == []


@pytest.mark.parametrize("step", ["started", "current", "previous", "done"])
def test_the_first_activation_of_all_can_be_cut_too(host: FakeHost, stage: Stage, step: str) -> None:
    one = stage("v1")
    assert killed(host, step, "hello", "activate", one)
    assert call(host, "hello", "activate", one).rc == 0
    assert links(host) == (one, "") and host.active() == [one]


def test_a_reboot_in_the_middle_of_a_switch_ends_with_one_release(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    assert killed(host, "previous", "hello", "activate", two)
    for name in list(host.units):
        if "@" in name:
            host.set_unit(name, ActiveState="inactive")
    assert call(host, "hello", "start").rc == 0
    assert host.active() == [two]
    assert call(host, "hello", "activate", two).rc == 0
    assert links(host) == (two, one) and host.active() == [two]


def test_a_cut_release_that_nginx_does_not_get_to_see_is_undone_by_the_next_run(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    assert killed(host, "verify", "hello", "activate", two)
    host.broken[two] = "nginx"
    result = call(host, "hello", "activate", one, "--json")
    assert result.rc == 0 and "is refused" in result.json["warnings"][0]
    assert links(host)[0] == one and host.active() == [one]


def test_a_cut_release_that_no_longer_starts_gives_way_to_the_one_that_serves(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    assert killed(host, "verify", "hello", "activate", two)
    host.set_unit(f"hello@{two}.service", ActiveState="activating")  # in a crash loop
    host.broken[two] = "import"
    stage("v3")
    assert links(host) == (one, "") and host.active() == [one]
    assert host.units[f"hello@{two}.service"]["ActiveState"] == "inactive"
    assert not (base(host) / "activating.json").exists()


@pytest.mark.parametrize("step", ["prune-release", "prune-venv"])
def test_a_prune_that_was_killed_is_ended_by_the_next_one(host: FakeHost, stage: Stage, step: str) -> None:
    ids = [stage(f"v{number}", server_requirements=f"gunicorn=={number}") for number in range(4)]
    call(host, "hello", "activate", ids[3])
    assert killed(host, step, "hello", "prune", "--keep", "1")
    assert call(host, "hello", "prune", "--keep", "1").rc == 0
    assert [path.name for path in (base(host) / "releases").iterdir()] == [ids[3]]
    assert len([*(base(host) / "venvs").iterdir()]) == 1


@pytest.mark.parametrize("step", ["remove-stop", "remove-files"])
def test_a_remove_that_was_killed_is_ended_by_the_next_one(host: FakeHost, stage: Stage, step: str) -> None:
    note(host)
    call(host, "hello", "activate", stage("v1"))
    assert killed(host, step, "hello", "remove")
    assert call(host, "hello", "remove").rc == 0
    assert not base(host).exists() and host.active() == []


def test_every_step_is_reached(host: FakeHost, stage: Stage) -> None:
    ids = [stage(f"v{number}", processes=PROCESSES, server_requirements=f"gunicorn=={number}") for number in range(4)]
    call(host, "hello", "stage", "--try", "import", "--config", "-", stdin=config(**TRIED))
    call(host, "hello", "activate", ids[0])
    call(host, "hello", "stage", "--try", "import", "--config", "-", stdin=config(**TRIED))
    call(host, "hello", "lock", "--holder", '{"id": "1"}')
    call(host, "hello", "unlock", "--force")
    call(host, "hello", "restart")
    (host.root / "etc/systemd/system/hello.unix.socket").write_text("[Socket]\n")  # nginx asks there no more
    call(host, "hello", "restart")
    call(host, "hello", "drain")
    call(host, "hello", "maintenance", "on")
    engines(host)
    call(host, "hello", "prune", "--keep", "1")
    note(host)
    call(host, "hello", "remove")
    assert set(host.steps) == set(flaskctl.CHECKPOINTS)


def test_a_step_kills_only_where_root_allows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = flaskctl.Host()
    host.root = tmp_path
    killed_with: list[int] = []
    monkeypatch.setattr(flaskctl.os, "kill", lambda pid, signal: killed_with.append(signal))
    monkeypatch.setenv("FLASKCTL_KILL_AT", "drain")
    host.checkpoint("drain")
    assert killed_with == []
    (tmp_path / "run/flaskctl").mkdir(parents=True)
    (tmp_path / "run/flaskctl/allow-fault-injection").touch()
    host.checkpoint("verify")
    assert killed_with == []
    host.checkpoint("drain")
    assert killed_with == [9]


# --- two at once


def test_a_second_flaskctl_is_told_who_holds_the_lock_and_since_when(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    lock = host.root / "run/flaskctl/hello.lock"
    holder = {"pid": 77, "user": "bob", "command": "flaskctl hello activate x", "since": "2026-11-22T20:00:00Z"}
    with open(lock, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(json.dumps(holder))
        file.flush()
        result = call(host, "hello", "activate", one, "--json")
        assert result.rc == 75
        assert result.json["msg"] == (
            "bob holds the lock of hello: `flaskctl hello activate x`, pid 77, since 2026-11-22T20:00:00Z"
        )
        assert call(host, "hello", "status", "--json").json["locked"] == holder
        assert call(host, "hello", "activate", one, "--dry-run").rc == 0
        (host.root / "etc/flaskctl/two.json").write_text("{}")
        assert "two has no good release" in call(host, "two", "rollback").err
    assert call(host, "hello", "activate", one).rc == 0
    assert lock.read_text() == ""


ROLLOUT = {"id": "r1", "by": "ada"}


@pytest.mark.parametrize(
    ("lease", "waits"),
    [(None, True), (ROLLOUT, True), ({"id": "dead"}, True), ({"id": "r2", "by": "bob"}, False)],
)
def test_a_rollout_waits_for_what_a_killed_one_left_running_and_for_no_other_rollout(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch, lease: Any, waits: bool
) -> None:
    one = stage("v1")
    if lease:
        (base(host) / "rollout.json").write_text(json.dumps(lease))
    holder = json.dumps({**ROLLOUT, "takes_over": "dead"})
    with open(host.root / "run/flaskctl/hello.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        began = host.clock
        assert call(host, "hello", "activate", one, "--holder", holder).rc == 75
        assert (host.clock - began >= flaskctl.LOCK_SECONDS) == waits
        real = host.sleep

        def sleep(seconds: float) -> None:
            fcntl.flock(file, fcntl.LOCK_UN)
            real(seconds)

        monkeypatch.setattr(host, "sleep", sleep)
        assert call(host, "hello", "activate", one, "--holder", holder).rc == (0 if waits else 75)


def test_a_killed_holder_leaves_no_lock(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    assert killed(host, "drain", "hello", "activate", one)
    assert json.loads((host.root / "run/flaskctl/hello.lock").read_text())["user"] == "alice"
    assert call(host, "hello", "status", "--json").json["locked"] is None
    assert call(host, "hello", "activate", one).rc == 0


# --- damage

DAMAGE: dict[str, Callable[[Path, Path], object]] = {
    "a file of the app changed": lambda home, root: (home / "app/app.py").write_text("evil"),
    "a file of the app deleted": lambda home, root: (home / "app/app.py").unlink(),
    "a mode of the app opened": lambda home, root: (home / "app/app.py").chmod(0o777),
    "the directory of the app opened": lambda home, root: (home / "app").chmod(0o777),
    "the environment opened": lambda home, root: (home / "environment").chmod(0o777),
    "the environment edited": lambda home, root: (home / "environment").write_text("A=1\n"),
    "a credential opened": lambda home, root: (home / "credentials/K").chmod(0o644),
    "the credentials' directory opened": lambda home, root: (home / "credentials").chmod(0o755),
    "gunicorn.conf.py edited": lambda home, root: (home / "gunicorn.conf.py").write_text("workers = 1\n"),
    "the link to the virtualenv deleted": lambda home, root: (home / "venv").unlink(),
    "the virtualenv deleted": lambda home, root: flaskctl.erase(home / os.readlink(home / "venv")),
    "the link to the static files deleted": lambda home, root: (home / "static").unlink(),
    "the drop-in deleted": lambda home, root: flaskctl.erase(
        next((root / "etc/systemd/system").glob("hello@*.d/credentials.conf"))
    ),
    "the ceilings deleted": lambda home, root: flaskctl.erase(
        next((root / "etc/systemd/system").glob("hello@*.d/ceilings.conf"))
    ),
    "a worker's unit edited": lambda home, root: next(
        (root / "etc/systemd/system").glob("hello.w*.service")
    ).write_text("x"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_release_is_mended_in_place_and_it_is_said(host: FakeHost, tmp_path: Path, what: str) -> None:
    files = {"app.py": "x", "static/a.css": "c", "requirements.txt": "flask\n"}
    path = archive(tmp_path / "v1.tar.gz", files)
    stdin = config(credentials={"K": "v"}, static_dir="static", processes=PROCESSES)
    words = ("hello", "stage", str(path), "--config", "-", "--json")
    release = call(host, *words, stdin=stdin).json["id"]
    call(host, "hello", "activate", release)
    before = tree(host)
    DAMAGE[what](base(host) / "releases" / release, host.root)

    host.sleep(60)
    foreseen = call(host, *words, "--dry-run", stdin=stdin)
    assert foreseen.json["changed"] and len(foreseen.json["repairs"]) == 1
    result = call(host, *words, stdin=stdin)
    assert result.rc == 0 and result.json["changed"] and result.json["repairs"] == foreseen.json["repairs"]
    assert result.json["repairs"][0] in result.json["msg"]
    assert tree(host) == before
    assert call(host, *words, stdin=stdin).json["changed"] is False
    assert links(host) == (release, "") and host.active() == [release]


def test_a_damaged_environment_is_mended_without_the_archive_and_damaged_code_asks_for_it(
    host: FakeHost, stage: Stage
) -> None:
    release = stage("v1")
    home = base(host) / "releases" / release
    words = ("hello", "stage", "--sha256", json.loads((home / "manifest.json").read_text())["archive_sha256"])
    (home / "environment").chmod(0o777)
    result = call(host, *words, "--config", "-", "--json", stdin=config())
    assert result.rc == 0 and result.json["repairs"] == [str(home / "environment")]
    (home / "app/app.py").unlink()
    result = call(host, *words, "--config", "-", "--json", stdin=config())
    assert result.rc == 3 and result.json["staged"] is True


def test_a_mended_release_keeps_its_history(host: FakeHost, stage: Stage, tmp_path: Path) -> None:
    release = stage("v1")
    home = base(host) / "releases" / release
    host.broken[release] = "import"
    call(host, "hello", "activate", release)
    was = json.loads((home / "manifest.json").read_text())
    (home / "app/app.py").unlink()
    assert stage("v1", notes={"by": "bob"}) == release
    now = json.loads((home / "manifest.json").read_text())
    assert (now["when"], now["by"], (home / "refused.json").exists()) == (was["when"], "alice", True)


def test_a_directory_without_a_manifest_is_no_release_and_gives_way(host: FakeHost, stage: Stage) -> None:
    release = stage("v1")
    (base(host) / "releases" / release / "manifest.json").unlink()
    assert call(host, "hello", "activate", release).rc == 1
    assert stage("v1") == release
    assert call(host, "hello", "activate", release).rc == 0


def test_each_of_several_damages_is_named(host: FakeHost, stage: Stage) -> None:
    release = stage("v1")
    home = base(host) / "releases" / release
    key = os.path.basename(os.readlink(home / "venv"))
    (home / "app/app.py").unlink()
    flaskctl.erase(base(host) / "venvs" / key)
    (home / "environment").chmod(0o777)
    host.calls.clear()
    stage("v1")
    log = (host.root / "var/log/flaskctl/hello.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["event"] == "repair"
    repairs = call(host, "hello", "stage", "--sha256", "0" * 64, "--config", "-", "--json", stdin=config()).json[
        "repairs"
    ]
    assert repairs == []
    assert json.loads(log[-1])["what"] == [f"files of {release}/app", str(home / "environment"), f"virtualenv {key}"]


@pytest.mark.parametrize("command", ["stage", "activate"])
def test_a_deleted_current_is_told_by_status_and_linked_again_by_the_next_command(
    host: FakeHost, stage: Stage, command: str
) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    call(host, "hello", "activate", two)
    (base(host) / "current").unlink()
    status = call(host, "hello", "status", "--json").json
    problems = status["problems"]
    assert status["rollback"] == one
    assert problems == [f"there is no current release: flaskctl hello activate {two} puts it back"]
    if command == "stage":
        stage("v2")
    else:
        answer = call(host, "hello", "activate", two, "--json").json
        assert answer["changed"] and answer["repairs"] == [f"`current` was missing, now {two} again"]
    assert links(host) == (two, one) and host.active() == [two]


def test_a_stray_instance_is_stopped_by_the_next_release_and_not_by_status(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.set_unit(f"hello@{two}.service", ActiveState="active")
    call(host, "hello", "status")
    assert len(host.active()) == 2
    answer = call(host, "hello", "activate", one, "--json").json
    assert answer["changed"] and answer["repairs"] == [f"stopped: {two} ran beside the current release"]
    assert host.active() == [one]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"to": 1}', '"x"'])
def test_an_unreadable_intent_stops_nobody(host: FakeHost, stage: Stage, text: str) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    (base(host) / "activating.json").write_text(text)
    assert call(host, "hello", "activate", two).rc == 0
    assert links(host) == (two, one) and not (base(host) / "activating.json").exists()


def test_a_full_log_does_not_stop_a_rollback(host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    call(host, "hello", "activate", two)
    real = flaskctl.os.open

    def full(path: object, *args: int, **kwargs: Any) -> int:
        if str(path).endswith("hello.jsonl"):
            raise OSError(28, "No space left on device", str(path))
        return int(real(path, *args, **kwargs))

    monkeypatch.setattr(flaskctl.os, "open", full)
    result = call(host, "hello", "rollback", "--json")
    assert result.rc == 0 and "not in the audit log" in result.json["warnings"][0]
    assert links(host)[0] == one


def test_a_full_disk_is_named_with_its_remedy_and_leaves_no_half(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    before = tree(host)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device", "/srv/hello/releases/x")

    monkeypatch.setattr(flaskctl.shutil, "copyfileobj", full)
    path = archive(tmp_path / "v2.tar.gz", {"app.py": "v2", "requirements.txt": "flask==3.0.3\n"})
    result = call(host, "hello", "stage", str(path), "--config", "-", stdin=config())
    assert result.rc == 1
    assert result.err == (
        "flaskctl: /srv/hello/releases/x: No space left on device\n"
        "remedy: the disk is full: make room, flaskctl APP prune helps\n"
    )
    assert tree(host) == before


@pytest.mark.parametrize("file", ["activating.json", "current", "previous"])
def test_on_a_full_disk_a_rollback_goes_on_or_leaves_all_as_it_was(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch, file: str
) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    call(host, "hello", "activate", two)
    real = {name: getattr(flaskctl.os, name) for name in ("open", "symlink")}

    def full(name: str) -> Callable[..., Any]:
        def fails(*args: Any, **kwargs: Any) -> Any:
            if any(os.path.basename(str(arg)) == f".{file}.new" for arg in args):
                raise OSError(28, "No space left on device")
            return real[name](*args, **kwargs)

        return fails

    for name in real:
        monkeypatch.setattr(flaskctl.os, name, full(name))
    result = call(host, "hello", "rollback", "--json")
    if file == "activating.json":
        assert result.rc == 0 and "do not interrupt this" in result.json["warnings"][0]
        assert links(host) == (one, two) and host.active() == [one]
    else:
        assert result.rc == 1 and "No space left" in result.json["msg"]
        assert links(host) == (two, one) and host.active() == [two]
        assert not (base(host) / "activating.json").exists()


def test_the_audit_log_has_a_line_for_each_thing_that_was_done(host: FakeHost, stage: Stage) -> None:
    one, two, three = stage("v1"), stage("v2"), stage("v3")
    call(host, "hello", "activate", one)
    call(host, "hello", "activate", two)
    call(host, "hello", "rollback")
    host.broken[three] = "import"
    call(host, "hello", "activate", three)
    log = host.root / "var/log/flaskctl/hello.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["release"]) for line in lines] == [
        ("stage", one), ("stage", two), ("stage", three), ("activate", one), ("activate", two), ("rollback", one),
        ("refuse", three),
    ]  # fmt: skip
    assert all({"when", "by", "from", "revision"} <= set(line) for line in lines)
    assert (lines[4]["was"], lines[5]["was"]) == (one, two)
    assert log.stat().st_mode & 0o777 == 0o640

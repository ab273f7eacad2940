"""Decisions at their edges: what `make mutants` found that nobody held."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, flaskctl

A, B, C = "a" * 12, "b" * 12, "c" * 12
Release, State, Traffic = flaskctl.Release, flaskctl.State, flaskctl.Traffic


def test_an_intent_is_written_with_the_names_it_is_read_by() -> None:
    intent = flaskctl.Intent(B, A, C, "rollback", "then")
    assert intent.as_json() == {"to": B, "from": A, "previous": C, "how": "rollback", "began": "then"}


def test_a_release_is_told_with_from_and_not_origin() -> None:
    told = Release(A, "then", "ada", "desk", "r1", "f" * 64, "venv", "crash").as_json()
    assert told == {
        "id": A, "when": "then", "by": "ada", "from": "desk", "revision": "r1", "archive_sha256": "f" * 64,
        "venv": "venv", "refused": "crash",
    }  # fmt: skip


def test_an_undo_stops_the_release_that_came_and_no_other() -> None:
    state = State(A, None, running=(A, B, C), active=(A,), intent=flaskctl.Intent(B, A, None))
    assert flaskctl.plan_recovery(state, A).stop == (B,)
    again = State(A, None, running=(A,), active=(A,), intent=flaskctl.Intent(A, A, None))
    assert (flaskctl.plan_recovery(again, A).action, flaskctl.plan_recovery(again, A).stop) == ("finish", ())


def test_a_missing_link_goes_to_what_serves_alone() -> None:
    plan = flaskctl.plan_recovery(State(None, None, active=(B,)), A)
    assert (plan.action, plan.release) == ("relink", B)


def test_strays_are_named_with_commas() -> None:
    plan = flaskctl.plan_recovery(State(A, None, running=(A, B, C), active=(A,)), A)
    assert plan.why == f"{B}, {C} ran beside the current release"


@pytest.mark.parametrize(
    ("events", "previous", "current", "line"),
    [
        ([("activate", A), ("activate", B), ("activate", C)], None, A, [A]),
        ([("activate", A)], B, C, [A, B, C]),
        ([("activate", A), ("rollback", B)], None, None, [A, B]),
    ],
)
def test_the_line_of_releases(events: list[tuple[str, str]], previous: Any, current: Any, line: list[str]) -> None:
    told = [{"event": event, "release": release} for event, release in events]
    assert flaskctl.lineage(told, previous, current) == line


def test_age_is_when_a_release_was_staged_and_not_its_id() -> None:
    releases = [Release(A, "2026-03"), Release(B, "2026-02"), Release(C, "2026-01")]
    assert flaskctl.plan_pruning(releases, [], 1, []).releases == (C, B)


def test_no_traffic_has_no_errors_and_no_time() -> None:
    assert Traffic(0, 0).share() == 0 and str(Traffic(0, 0)) == "0 of 0 failed (0.00 %)"


def test_what_nginx_answered_itself_is_not_counted() -> None:
    entry = {"time": 1.0, "status": 500, "seconds": 0.1}
    entries = [entry, {**entry, "upstream_status": "-"}, {**entry, "upstream_status": "500"}]
    assert flaskctl.traffic(entries, 0, 2)[:2] == (1, 1)


@pytest.mark.parametrize(
    ("old", "new", "of", "rise", "worse"),
    [(40, 60, 100, 0, False), (40, 62, 100, 0, True), (0, 500, 1000, 0.5, False), (0, 501, 1000, 0.5, True)],
)
def test_three_standard_deviations_and_no_less(old: int, new: int, of: int, rise: float, worse: bool) -> None:
    assert flaskctl.more_than_chance(old, of, new, of, rise) is worse


def test_a_bake_looks_early_and_at_the_end() -> None:
    assert flaskctl.looks(11) == [5, 10, 11] and flaskctl.looks(5) == [5]
    assert len(flaskctl.looks(10**8)) == 21


def test_a_log_of_one_line_is_read_once() -> None:
    assert list(flaskctl.lines_from_end(io.BytesIO(b"one"), 2)) == [b"one"]


def test_layout_names_a_directory_for_what_systemd_makes_too() -> None:
    layout = flaskctl.Layout(Path, "hello")
    assert layout.data_dirs("hello") == [Path("/var/lib/hello"), Path("/var/lib/private/hello")]


# release


def test_a_drop_in_loads_each_credential_from_the_release() -> None:
    assert flaskctl.credentials_drop_in("hello", A, ["b", "a"]) == (
        "# written by flaskctl with the release\n[Service]\n"
        f"LoadCredential=a:/srv/hello/releases/{A}/credentials/a\n"
        f"LoadCredential=b:/srv/hello/releases/{A}/credentials/b\n"
    )


@pytest.mark.parametrize("place", ["app", "site", "venv/lib/python3.11/site-packages"])
def test_static_files_are_looked_for_in_the_code_the_project_and_the_packages(tmp_path: Path, place: str) -> None:
    (tmp_path / place / "pkg/static").mkdir(parents=True)
    assert flaskctl.static_target(tmp_path, "pkg/static") == f"{place}/pkg/static"
    assert flaskctl.static_target(tmp_path, "") is None and flaskctl.static_target(tmp_path, "other") is None


def test_the_files_of_a_configuration_have_their_modes() -> None:
    config = flaskctl.Config(gunicorn_conf="x", environment={"A": "1"}, credentials={"K": "v"})
    assert flaskctl.release_files(config) == {
        "gunicorn.conf.py": ("x", 0o640), "environment": ('A="1"\n', 0o600), "credentials/K": ("v", 0o600),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("units", "good"),
    [
        ({"service": "s"}, True), ({"service": "s", "timer": "t"}, True), ({"timer": "t"}, False),
        ({"service": "s", "socket": "t"}, False), ({"service": 1}, False), ("service", False),
    ],
)  # fmt: skip
def test_a_process_has_a_service_and_perhaps_a_timer(units: Any, good: bool) -> None:
    assert bool(flaskctl.is_process(units)) is good


def test_two_configurations_that_are_the_same_have_no_changes() -> None:
    assert flaskctl.changes(flaskctl.Config(), flaskctl.Config()) == {}
    assert flaskctl.changes(flaskctl.Config(), flaskctl.Config(service="x")) == {"settings": ["service"]}


def test_an_id_is_what_it_was_when_the_first_release_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # PBKDF2 as it is
    config = flaskctl.Config(gunicorn_conf="x", environment={"A": "1"}, service="y")
    assert flaskctl.release_id("0" * 64, config) == "8ae94f7a7314"


# requirements


def source(tree: Path, **files: str) -> Path:
    for name, text in files.items():
        path = tree / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree


def test_a_project_without_requirements_is_what_its_own_files_say(tmp_path: Path) -> None:
    tree = source(tmp_path, pyproject_toml="[project]\n", setup_py="setup()", setup_cfg="cfg")
    found = flaskctl.dependencies_of(tree, "requirements.txt")
    assert found == flaskctl.Dependencies(None, ("[project]\n", "setup()", "cfg"), True, True, False)
    old = source(tmp_path / "a", setup_py="setup()")
    assert flaskctl.dependencies_of(old, "requirements.txt").texts == ("setup()",)
    with pytest.raises(flaskctl.Refused) as refused:
        flaskctl.dependencies_of(source(tmp_path / "b", pyproject_toml="[tool.x]\n"), "requirements.txt")
    assert refused.value.remedy.startswith("add the file to the source, name the right one in flask_")


def test_included_files_are_read_once_each_from_where_they_are_named(tmp_path: Path) -> None:
    tree = source(tmp_path, requirements_txt="-r sub/a.txt\n-r c.txt\n", c_txt="six\n")
    source(tree, sub__a_txt="-r b.txt\n-r ../requirements.txt\n", sub__b_txt="flask\n")
    texts = flaskctl.requirement_texts(tree, "requirements.txt")
    assert [text[:5] for text in texts] == ["-r su", "-r b.", "flask", "six\n"]


def test_what_is_missing_or_a_path_is_named_with_who_names_it(tmp_path: Path) -> None:
    tree = source(tmp_path, requirements_txt="-r gone.txt\n", path_txt="-e . --hash=sha256:0\n")
    for path, what in (
        ("requirements.txt", "requirements.txt names gone.txt, which is not in the source"),
        ("none.txt", "the configuration names none.txt, which is not in the source"),
        ("path.txt", "path.txt installs from a path: -e ."),
    ):
        with pytest.raises(flaskctl.Refused) as refused:
            flaskctl.requirement_texts(tree, path)
        assert refused.value.msg == what
    assert refused.value.remedy.startswith("put that project or wheel into the source")


def test_a_virtualenv_is_keyed_by_what_goes_into_it() -> None:
    wanted = flaskctl.Dependencies("requirements.txt", ("flask\n",), False, True, False)
    config = flaskctl.Config(server_requirements="gunicorn")
    key = flaskctl.venv_key("3.11", "x86_64", wanted, config)
    assert key == "cpython-311-x86_64-251657dafad0"
    own, other = wanted._replace(server=False), flaskctl.Config(server_requirements="other")
    assert flaskctl.venv_key("3.11", "x86_64", own, config) != key
    assert flaskctl.venv_key("3.11", "x86_64", own, config) == flaskctl.venv_key("3.11", "x86_64", own, other)
    second = config._replace(python="/opt/python/bin/python3")
    assert flaskctl.venv_key("3.11", "x86_64", wanted, second) != key
    assert flaskctl.venv_base(f"{key}.2") == flaskctl.venv_base(key) == key


def test_names_of_packages_are_compared_as_pip_does() -> None:
    assert flaskctl.without("Flask_Login==1\nsix\nattrs\n", ["flask-login"]) == "six\nattrs\n"


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        (
            "DO NOT MATCH THE HASHES",
            "a package is not the one in the lock file: make the lock again, or mend the index",
        ),
        ("requires a different Python", "the lock file is for another Python than this host's"),
        ("No matching distribution found", "the index has no such version for this Python"),
        ("Max retries exceeded", "is the index reachable?"),
        ("No space left on device", "the disk is full: make room, flaskctl APP prune helps"),
        ("ensurepip is not available", "install python3-venv"),
        ("something else", ""),
    ],
)
def test_what_pip_says_has_a_remedy(said: str, remedy: str) -> None:
    assert flaskctl.pip_remedy(said) == remedy


# lock


def test_a_holder_is_an_object_of_words_and_numbers() -> None:
    whole = {"id": "1", "by": "ada", "from": "desk", "pid": 7, "since": "then", "takes_over": "0"}
    assert flaskctl.parse_holder(flaskctl.json.dumps(whole)) == {**whole, "pid": "7"}
    assert flaskctl.parse_holder('{"id": "1", "by": ""}') == {"id": "1"} and flaskctl.parse_holder(None) is None
    for text, what in (
        ("[", "--holder wants a JSON object with id, by, from, pid, since, perhaps takes_over"),
        ('{"id": "1", "who": "x"}', "--holder wants a JSON object with id, by, from, pid, since, perhaps takes_over"),
        ('{"id": "1", "by": []}', "--holder wants words and numbers"),
    ):
        with pytest.raises(flaskctl.Usage) as refused:
            flaskctl.parse_holder(text)
        assert refused.value.msg == what


def test_who_holds_a_lock_is_told() -> None:
    holder = {"user": "ada", "command": "flaskctl hello restart", "pid": 7, "since": "noon"}
    told = "ada holds the lock of hello: `flaskctl hello restart`, pid 7, since noon"
    assert flaskctl.busy_message("hello", holder) == told
    assert flaskctl.busy_message("hello", {}) == "another flaskctl holds the lock of hello"
    lease = {"id": "r1", "since": "1970-01-01T00:00:00Z", "seen": "1970-01-01T00:00:00Z"}
    told = "rolls out hello since 1970-01-01T00:00:00Z, 5 s ago; last sign of life 1970-01-01T00:00:00Z, 5 s ago"
    assert flaskctl.lock_text("hello", lease, 5) == f"r1 {told}"
    assert flaskctl.lock_text("hello", {**lease, "by": "ada", "from": "desk", "pid": "7"}, 5) == (
        f"ada on desk (pid 7) {told}"
    )


def test_two_do_not_lock_the_same_file(tmp_path: Path) -> None:
    with open(tmp_path / "lock", "w") as one, open(tmp_path / "lock", "w") as two:
        assert flaskctl.try_lock(one) is True
        assert flaskctl.try_lock(two) is False


def test_who_has_the_lock_is_seen_while_he_has_it(host: FakeHost) -> None:
    app = flaskctl.App(host, "hello", said="flaskctl hello x")
    assert flaskctl.lock_holder(app) is None
    with flaskctl.locked(app):
        assert flaskctl.lock_holder(app)["command"] == "flaskctl hello x"
        app.lock_file.write_text("")
        assert flaskctl.lock_holder(app) == {}
    assert flaskctl.lock_holder(app) is None


def test_the_rollout_lock_is_new_once(host: FakeHost) -> None:
    app = flaskctl.App(host, "hello")
    assert flaskctl.acquire(app, None) is False
    assert [flaskctl.acquire(app, {"id": "r1"}) for _ in range(2)] == [True, False]
    with pytest.raises(flaskctl.Busy) as busy:
        flaskctl.acquire(app, {"id": "r2"})
    assert busy.value.remedy == (
        "wait for it to end; if it is dead: ansible-playbook flaskfleet.web.unlock,"
        " or here: flaskctl hello unlock --force"
    )
    flaskctl.renew(app, None)
    warning = app.warnings[0]
    assert warning.startswith("r1 rolls out hello since") and warning.endswith("it may move the app again")

"""The commands as a person or the role calls them: answers, exit codes, and what stands on the host afterwards."""

from __future__ import annotations

import functools
import json
import os
import socket
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from flaskctl import app

from tests.unit.flaskctl.fake_host import FakeHost, Result, base, call, flaskctl, links, note, snapshot
from tests.unit.flaskctl.given import PROCESSES, archive, config

Stage = Callable[..., str]


# --- stage


def test_a_staged_release_is_whole_and_its_secrets_are_roots(host: FakeHost, tmp_path: Path) -> None:
    path = archive(
        tmp_path / "x.tar.gz", {"app.py": "x", "run.sh": "y", "static/a.css": "c", "requirements.txt": "flask\n"}
    )
    stdin = config(credentials={"SECRET_KEY": "k\n"}, static_dir="static")
    answer = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=stdin).json
    home = base(host) / "releases" / answer["id"]
    assert (home / "app/run.sh").stat().st_mode & 0o777 == 0o750
    assert (home / "environment").read_text() == 'GREETING="hi"\n'
    assert (home / "credentials/SECRET_KEY").read_text() == "k\n"
    for secret in ("environment", "config.json", "credentials/SECRET_KEY"):
        assert (home / secret).stat().st_mode & 0o777 == 0o600
    assert (home / "credentials").stat().st_mode & 0o777 == 0o700
    assert os.readlink(home / "venv") == f"../../venvs/{answer['venv']['key']}"
    assert os.readlink(home / "static") == "app/static"
    manifest = (home / "manifest.json").read_text()
    assert {"by": "alice", "from": "ctl", "revision": "abc123"}.items() <= json.loads(manifest).items()
    assert "hi" not in json.loads(manifest).values() and "k\n" not in manifest
    unit = host.root / f"etc/systemd/system/hello@{answer['id']}.service.d/credentials.conf"
    assert f"LoadCredential=SECRET_KEY:/srv/hello/releases/{answer['id']}/credentials/SECRET_KEY\n" in unit.read_text()
    assert ["systemctl", "daemon-reload"] in host.calls
    assert [path.name for path in (base(host) / "releases").iterdir()] == [answer["id"]]


def niceness(host: FakeHost, monkeypatch: pytest.MonkeyPatch, *argv: str, stdin: str = "") -> dict[str, int]:
    """Run a command in a process of its own; return how nice it was, above this one, at the start of each program."""
    seen: dict[str, int] = {}
    real, mine = host.run, os.nice(0)

    def run(argv: Sequence[str], **kwargs: Any) -> Any:
        seen[" ".join(argv[:3])] = os.nice(0) - mine
        return real(argv, **kwargs)

    monkeypatch.setattr(host, "run", run)
    monkeypatch.setattr(host, "give_way", functools.partial(flaskctl.Host.give_way, host))
    reader, writer = os.pipe()
    if not os.fork():  # what is nice stays so: this process must not become it
        try:
            assert call(host, *argv, stdin=stdin).rc == 0
            os.write(writer, json.dumps(seen).encode())
        finally:
            os._exit(0)
    os.wait()
    os.close(writer)
    with os.fdopen(reader) as said:
        found: dict[str, int] = json.loads(said.read())
    return found


def test_staging_leaves_the_processors_to_those_who_serve(
    host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = archive(tmp_path / "x.tar.gz", {"app.py": "x", "requirements.txt": "flask\n"})
    seen = niceness(host, monkeypatch, "hello", "stage", str(path), "--config", "-", stdin=config())
    builds = {argv: nice for argv, nice in seen.items() if "python" in argv}
    assert len(builds) > 1 and all(nice >= min(15, 19 - os.nice(0)) for nice in builds.values()), seen


def test_activating_gives_no_way(host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = niceness(host, monkeypatch, "hello", "activate", stage("v1"))
    assert any("systemctl start" in argv for argv in seen) and set(seen.values()) == {0}, seen


def test_stage_answers_all_that_the_role_asks_for(host: FakeHost, stage: Stage) -> None:
    release = stage("v1")
    sha = json.loads((base(host) / "releases" / release / "manifest.json").read_text())["archive_sha256"]
    answer = call(host, "hello", "stage", "--sha256", sha, "--config", "-", "--json", stdin=config()).json
    assert answer == {
        "app": "hello", "command": "stage", "changed": False, "id": release, "current": None, "previous": None,
        "active": [], "service": {"enabled": True},
        "socket": {"active": True, "enabled": True, "stale": False, "former": []},
        "staged": True, "tried": False, "lease": None, "verified": False, "archive_needed": False, "repairs": [],
        "lacks": [], "certificate": "", "certificate_unused": False, "wheels_needed": None,
        "releases": [release],
        "python": "3.11", "venv": {"key": answer["venv"]["key"], "built": False}, "msg": f"{release} is staged",
        "warnings": [],
    }  # fmt: skip


def test_stage_asks_for_the_archive_only_when_no_release_has_it(host: FakeHost, stage: Stage) -> None:
    needed = call(host, "hello", "stage", "--sha256", "0" * 64, "--config", "-", "--json", stdin=config())
    assert needed.rc == 3
    assert (needed.json["archive_needed"], needed.json["staged"], needed.json["changed"]) == (True, False, False)
    assert "failed" not in needed.json
    release = stage("v1")
    sha = json.loads((base(host) / "releases" / release / "manifest.json").read_text())["archive_sha256"]
    other = call(
        host, "hello", "stage", "--sha256", sha, "--config", "-", "--json", stdin=config(environment={"A": "1"})
    )
    assert other.rc == 0 and other.json["staged"] and other.json["id"] != release
    assert not other.json["venv"]["built"]
    assert (base(host) / "releases" / other.json["id"] / "app/app.py").read_text() == "v1"


def test_a_second_stage_changes_nothing(host: FakeHost, stage: Stage) -> None:
    stage("v1", credentials={"K": "v"}, processes={"worker": {"service": "[Service]\n"}})
    before = snapshot(host.root)
    assert stage("v1", credentials={"K": "v"}, processes={"worker": {"service": "[Service]\n"}})
    assert snapshot(host.root) == before


TRIED = {"gunicorn_conf": "FLASKFLEET_TRY\n", "service": "[Service]\nUser=hello\nExecStart=/x/%i/python -m 'a b'\n"}


def test_a_release_is_tried_once_on_a_socket_of_its_own_and_stopped(
    host: FakeHost, stage: Stage, tmp_path: Path
) -> None:
    call(host, "hello", "activate", stage("v1", **TRIED))
    release = stage("v2", **TRIED)
    words = ("hello", "stage", str(tmp_path / "v2.tar.gz"), "--config", "-", "--json", "--try")
    answers = []
    for how in ("import", "import", "health", "import", "health"):
        host.calls.clear()
        answer = call(host, *words, how, stdin=config(**TRIED)).json
        answers.append((answer["tried"], answer["changed"], any(argv[0] == "systemd-run" for argv in host.calls)))
    assert answers == [(True, True, True), (True, False, False), (True, True, True), *[(True, False, False)] * 2]
    name = f"hello.try-{release}.service"
    assert host.units[name]["ActiveState"] == "inactive"
    assert [links(host)[0]] == host.active() != [release]
    assert call(host, "hello", "status", "--json").json["problems"] == []
    assert call(host, "hello", "activate", release).rc == 0
    assert call(host, *words, "health", stdin=config(**TRIED)).json["repairs"] == []


@pytest.mark.parametrize(("how", "says"), [("import", "does not pass its gate"), ("timeout", "it hangs at import")])
def test_a_release_that_fails_its_try_is_refused_in_its_own_words(
    host: FakeHost, stage: Stage, tmp_path: Path, how: str, says: str
) -> None:
    call(host, "hello", "activate", stage("v1", **TRIED))
    release = stage("v2", **TRIED)
    host.broken[release] = how
    words = ("hello", "stage", str(tmp_path / "v2.tar.gz"), "--config", "-", "--json", "--try", "health")
    for _ in range(2):
        result = call(host, *words, stdin=config(**TRIED))
        assert result.rc == 1 and says in result.json["msg"] and "nothing was switched" in result.json["msg"]
        assert "No module named 'nosuchthing'" in result.json["detail"]
    assert call(host, "hello", "releases", "--json").json["releases"][0]["state"] == ["refused"]
    host.broken.clear()
    assert call(host, *words, stdin=config(**TRIED)).json["tried"] is True


def test_what_is_not_the_releases_fault_does_not_mark_it(host: FakeHost, stage: Stage, tmp_path: Path) -> None:
    release = stage("v1", **TRIED)
    host.broken[release] = "systemd-run"
    result = call(
        host, "hello", "stage", str(tmp_path / "v1.tar.gz"), "--config", "-", "--try", "health", stdin=config(**TRIED)
    )
    assert result.rc == 1 and "could not be tried" in result.err and "Unknown assignment" in result.err
    assert call(host, "hello", "releases", "--json").json["releases"][0]["state"] == []


def test_neither_the_current_release_nor_one_that_knows_no_other_socket_is_tried(
    host: FakeHost, stage: Stage, tmp_path: Path
) -> None:
    release = stage("v1", **TRIED)
    call(host, "hello", "activate", release)
    words = ("hello", "stage", str(tmp_path / "v1.tar.gz"), "--config", "-", "--json", "--try", "health")
    assert call(host, *words, stdin=config(**TRIED)).json["tried"] is False
    old = call(host, *words, stdin=config())
    assert old.rc == 0 and old.json["tried"] is False and "cannot be tried" in old.json["warnings"][-1]


def test_on_call_an_archive_goes_out_with_the_current_configuration(
    host: FakeHost, stage: Stage, tmp_path: Path
) -> None:
    call(host, "hello", "activate", stage("v1", environment={"A": "secret"}))
    path = archive(tmp_path / "v2.tar.gz", {"app.py": "v2", "requirements.txt": "flask==3.0.3\n"})
    answer = call(host, "hello", "stage", str(path), "--json").json
    assert (base(host) / "releases" / answer["id"] / "environment").read_text() == 'A="secret"\n'
    manifest = json.loads((base(host) / "releases" / answer["id"] / "manifest.json").read_text())
    assert (manifest["by"], manifest["revision"]) == ("alice", "")


def test_stage_shows_the_names_of_what_differs_from_the_release_that_serves(
    host: FakeHost, stage: Stage, tmp_path: Path
) -> None:
    call(host, "hello", "activate", stage("v1", environment={"A": "s3cret"}))
    result = call(
        host,
        "hello",
        "stage",
        str(tmp_path / "v1.tar.gz"),
        "--config",
        "-",
        "--json",
        stdin=config(environment={"A": "0ther"}),
    )
    assert result.json["diff"] == {"environment": {"added": [], "removed": [], "changed": ["A"]}}
    assert "s3cret" not in result.out and "0ther" not in result.out


def test_a_dry_run_of_stage_says_what_would_change_and_writes_nothing(
    host: FakeHost, stage: Stage, tmp_path: Path
) -> None:
    stage("v1")
    path = archive(tmp_path / "v2.tar.gz", {"app.py": "v2", "requirements.txt": "flask==3.0.3\n"})
    before = snapshot(host.root)
    answer = call(host, "--json", "--dry-run", "hello", "stage", str(path), "--config", "-", stdin=config())
    assert (answer.rc, answer.json["changed"], answer.json["staged"]) == (0, True, False)
    needed = call(host, "hello", "stage", "--sha256", "0" * 64, "--config", "-", "--json", "--dry-run", stdin=config())
    assert (needed.rc, needed.json["archive_needed"], needed.json["changed"]) == (0, True, True)
    assert snapshot(host.root) == before


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"app.py": "x"}, "no requirements.txt"),
        ({"requirements.txt": "-e ."}, "installs from a path"),
    ],
)
def test_a_source_that_cannot_become_a_release_leaves_nothing_behind(
    host: FakeHost, tmp_path: Path, files: dict[str, str], says: str
) -> None:
    path = archive(tmp_path / "x.tar.gz", files)
    result = call(host, "hello", "stage", str(path), "--config", "-", stdin=config())
    assert result.rc == 1 and says in result.err
    assert not [*(base(host) / "releases").iterdir()]


def test_a_corrupt_archive_is_known_by_its_checksum_and_a_missing_one_by_its_name(
    host: FakeHost, tmp_path: Path
) -> None:
    path = archive(tmp_path / "x.tar.gz", {"app.py": "x"})
    result = call(host, "hello", "stage", str(path), "--sha256", "0" * 64, "--config", "-", stdin=config())
    assert result.rc == 1 and f"{path} is corrupt" in result.err
    result = call(host, "hello", "stage", str(tmp_path / "gone.tar.gz"), "--config", "-", "--json", stdin=config())
    assert result.rc == 1 and "gone.tar.gz: No such file" in result.json["msg"]


def test_archive_and_configuration_can_both_come_on_standard_input(host: FakeHost, tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {"app.py": "x\n" * 100, "requirements.txt": "flask==3.0.3\n"})
    words = ("hello", "stage", "--config", "-", "--json")
    by_name = call(host, *words, str(path), stdin=config()).json["id"]
    whole = call(host, *words, "-", stdin=config().encode() + b"\n" + path.read_bytes())
    assert (whole.rc, whole.json["id"], whole.json["changed"]) == (0, by_name, False)
    (tmp_path / "config.json").write_text(config())
    words = ("hello", "stage", "--config", str(tmp_path / "config.json"), "--json")
    assert call(host, *words, "-", stdin=path.read_bytes()).json["id"] == by_name


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (b"", "the configuration is not JSON"),
        (b"\xff\n", "the configuration is not UTF-8 text"),
        (b"{}\nno archive", "the archive is truncated or corrupt"),
        (b"{}\n", "the archive is truncated or corrupt"),
    ],
)
def test_what_is_wrong_with_standard_input_is_named(host: FakeHost, given: bytes, says: str) -> None:
    result = call(host, "hello", "stage", "-", "--config", "-", stdin=given)
    assert result.rc == 1 and says in result.err
    assert not [*(base(host) / "releases").glob("*")]


def test_a_failed_build_leaves_no_release_and_no_virtualenv_and_hides_the_indexs_password(
    host: FakeHost, tmp_path: Path
) -> None:
    path = archive(tmp_path / "x.tar.gz", {"app.py": "x", "requirements.txt": "flask==9 --hash=sha256:0\n"})
    host.pip_fails = "Looking in indexes: https://u:pw@i/\nfrom https://u:pw@i/flask\nDO NOT MATCH THE HASHES"
    stdin = config(index_url="https://u:pw@i/", ca_bundle="/ca.pem")
    result = call(host, "hello", "stage", str(path), "--config", "-", stdin=stdin)
    assert result.rc == 1
    assert result.err.startswith("flaskctl: requirements.txt could not be installed\n  from https://****@i/flask")
    assert "remedy: a package is not the one" in result.err and "pw" not in result.err
    assert not [*(base(host) / "releases").iterdir()] and not [*(base(host) / "venvs").iterdir()]
    assert not any("pw" in word for argv in host.calls for word in argv)
    pip = next(e for argv, e in zip(host.calls, host.environments) if argv[3:4] == ["pip"])  # noqa: B905
    assert (pip["PIP_INDEX_URL"], pip["PIP_CERT"], pip["PIP_CONFIG_FILE"]) == (
        "https://u:pw@i/",
        "/ca.pem",
        "/dev/null",
    )


def test_a_lock_with_hashes_is_enforced_and_the_servers_own_set_comes_without_dependencies(
    host: FakeHost, tmp_path: Path
) -> None:
    path = archive(tmp_path / "x.tar.gz", {"requirements.txt": "flask==3 --hash=sha256:0\n"})
    host.installed = {"gevent": "26.9.0", "Flask": "3"}
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config())
    pip = [argv[4:] for argv in host.calls if argv[3:4] == ["pip"]]
    hashed = ["install", "--require-hashes", "--no-build-isolation", "--only-binary", ":all:"]
    assert pip[0] == [*hashed, "-r", "requirements.txt"]
    assert pip[1][:-1] == [*hashed, "--no-deps", "-r"]
    assert pip[2] == ["check"]
    assert result.json["warnings"] == []


UNFIT = "gevent 26.9.0 has requirement greenlet>=3.2.2, but you have greenlet 2.0.2."
SERVER = "gunicorn==27 --hash=sha256:0\ngevent==26.9 --hash=sha256:0\ngreenlet==3.5 --hash=sha256:0\n"


def stage_unfit(host: FakeHost, path: Path, requirements: str, *contradictions: str) -> Result:
    host.installed, host.contradictions = {"Flask": "3.1", "greenlet": "2.0.2"}, list(contradictions)
    source = archive(path / "x.tar.gz", {"requirements.txt": requirements})
    return call(
        host, "hello", "stage", str(source), "--config", "-", "--json", stdin=config(server_requirements=SERVER)
    )


def test_an_app_that_pins_what_the_roles_server_does_not_take_gets_an_older_one(host: FakeHost, tmp_path: Path) -> None:
    pins = {}
    run = host.run

    def watched(argv: Sequence[str], **more: Any) -> Any:
        if argv[3:4] == ["pip"] and "-c" in argv:
            pins[tuple(argv[7:])] = Path(argv[6]).read_text()
        return run(argv, **more)

    host.run = watched  # type: ignore[method-assign]
    result = stage_unfit(host, tmp_path, "flask\ngreenlet<3\n", UNFIT)
    assert [*pins] == [("gunicorn", "gevent", "gunicorn[gevent]")]
    assert sorted(*map(str.split, pins.values())) == ["flask==3.1", "greenlet==2.0.2"]
    assert "older ones serve it, unlocked" in result.json["warnings"][-1]
    assert len([*(base(host) / "venvs").iterdir()]) == 1


@pytest.mark.parametrize(
    ("requirements", "contradictions"),
    [("flask\n", [UNFIT, UNFIT]), ("flask==3 --hash=sha256:0\n", [UNFIT])],
    ids=["the app itself does not fit together", "a lock"],
)
def test_what_no_older_server_mends_is_refused_with_what_to_do(
    host: FakeHost, tmp_path: Path, requirements: str, contradictions: list[str]
) -> None:
    result = stage_unfit(host, tmp_path, requirements, *contradictions)
    assert result.rc == 1 and result.json["msg"] == "the requirements do not fit together"
    assert "of gunicorn and gevent too" in result.json["remedy"]


def test_a_project_goes_into_the_release_and_its_dependencies_into_the_virtualenv(
    host: FakeHost, tmp_path: Path
) -> None:
    path = archive(tmp_path / "x.tar.gz", {"pyproject.toml": '[project]\nname = "hellopkg"\n'})
    result = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config(static_dir="pkg/static"))
    home = base(host) / "releases" / result.json["id"]
    assert (home / "site/hellopkg").is_dir()
    assert os.readlink(home / "static") == "venv/lib/python3.11/site-packages/pkg/static"
    assert any(argv[4:] == ["uninstall", "-y", "hellopkg"] for argv in host.calls)
    assert result.json["warnings"] == ["the project has no requirements file: its dependencies are not locked"]
    assert not [*home.glob(".build")] and not [*(base(host) / "venvs").glob("*/.build")]


def test_a_source_without_gunicorn_and_no_set_of_the_role_is_refused(host: FakeHost, tmp_path: Path) -> None:
    path = archive(tmp_path / "x.tar.gz", {"requirements.txt": "flask\n"})
    result = call(host, "hello", "stage", str(path), "--config", "-", stdin=config(server_requirements=""))
    assert result.rc == 1 and "does not name all that serves it" in result.err


# --- activate, rollback, verify


def test_a_release_is_started_before_the_switch_and_the_old_one_drained_after_it(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    first = call(host, "hello", "activate", one[:4], "--json")
    assert first.rc == 0 and links(host) == (one, "")
    host.calls.clear()
    answer = call(host, "hello", "activate", two, "--json").json
    assert (answer["changed"], answer["id"], answer["from"], answer["active"]) == (True, two, one, [two])
    assert links(host) == (two, one) and host.active() == [two]
    verbs = [argv[1:] for argv in host.calls if argv[0] == "systemctl" and argv[1] in ("start", "stop")]
    assert verbs == [
        ["start", f"hello@{two}.service"],
        ["stop", "--no-block", f"hello@{one}.service"],
        ["stop", f"hello@{one}.service"],
    ]
    assert not (base(host) / "activating.json").exists()


def test_activating_what_serves_changes_nothing(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    before = snapshot(host.root)
    again = call(host, "hello", "activate", one, "--json")
    assert (again.rc, again.json["changed"]) == (0, False)
    assert snapshot(host.root) == before


def test_the_current_release_that_was_stopped_is_started_again(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    host.set_unit(f"hello@{one}.service", ActiveState="inactive")
    assert call(host, "hello", "activate", one, "--json").json["changed"] is True
    assert host.active() == [one] and links(host) == (one, "")


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("import", "it did not pass its gate"),
        ("timeout", "it was not ready in time"),
        ("crash", "crashed right after it had started"),
        ("worker", "a worker died right after it had started"),
    ],
)
def test_a_bad_release_is_refused_in_its_own_words_and_the_old_one_goes_on(
    host: FakeHost, stage: Stage, how: str, says: str
) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.broken[two] = how
    result = call(host, "hello", "activate", two, "--json")
    assert result.rc == 1 and result.json["failed"] and result.json["changed"] is False
    assert says in result.json["msg"] and f"{one} goes on serving" in result.json["msg"]
    assert result.json["detail"].startswith("ModuleNotFoundError: No module named 'nosuchthing'")
    assert f"/releases/{two}/app/app.py" in result.json["detail"]
    assert links(host) == (one, "") and host.active() == [one]
    assert json.loads((base(host) / "releases" / two / "refused.json").read_text())["why"] in result.json["msg"]
    assert not (base(host) / "activating.json").exists()
    listed = {item["id"]: item["state"] for item in call(host, "hello", "releases", "--json").json["releases"]}
    assert listed == {one: ["current", "active"], two: ["refused"]}


def gate(path: str, mounted: str = "") -> str:
    return f'SCRIPT_NAME = "{mounted}"\nHEALTH_PATH = {path!r}\n'


@pytest.mark.parametrize("mounted", ["", "/api"])
def test_a_release_is_asked_for_its_own_health_path_forth_and_back(host: FakeHost, stage: Stage, mounted: str) -> None:
    """The settings of the host have the path of the newest; the release before does not know it, nor it the old one."""
    one = stage("v1", gunicorn_conf=gate("/ping", mounted))
    call(host, "hello", "activate", one)
    two = stage("v2", gunicorn_conf=gate("/healthz", mounted))
    host.paths = {one: {f"{mounted}/ping"}, two: {f"{mounted}/healthz"}}
    assert call(host, "hello", "activate", two).rc == 0 and host.active() == [two]
    assert call(host, "hello", "rollback").rc == 0 and host.active() == [one]
    assert call(host, "hello", "verify").rc == 0
    assert call(host, "hello", "activate", two).rc == 0


def test_where_a_new_release_lacks_its_own_path_the_old_one_is_proven_by_its_own(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1", gunicorn_conf=gate("/ping")), stage("v2", gunicorn_conf=gate("/healthz"))
    call(host, "hello", "activate", one)
    host.paths = {one: {"/ping"}, two: {"/other"}}
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"{one} serves again, proven through nginx" in result.err, result.err
    assert host.active() == [one]


def test_a_refused_release_that_was_mended_is_no_longer_refused(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.broken[two] = "import"
    assert call(host, "hello", "activate", two).rc == 1
    host.broken.clear()
    assert call(host, "hello", "activate", two).rc == 0
    assert not (base(host) / "releases" / two / "refused.json").exists()


def test_a_current_release_that_does_not_start_is_left_to_systemd(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    host.set_unit(f"hello@{one}.service", ActiveState="inactive")
    host.broken[one] = "import"
    result = call(host, "hello", "activate", one)
    assert result.rc == 1 and f"the current release {one} does not start" in result.err
    assert links(host) == (one, "") and not (base(host) / "releases" / one / "refused.json").exists()
    assert not any(argv[:2] == ["systemctl", "stop"] and f"hello@{one}.service" in argv for argv in host.calls[-4:])


def test_a_release_that_answers_badly_through_nginx_goes_back_and_that_is_proven(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.broken[two] = "nginx"
    result = call(host, "hello", "activate", two, "--json")
    assert result.rc == 1 and result.json["detail"] == "boom"
    assert f"answers 500, from release {two}; {one} serves again, proven through nginx" in result.json["msg"]
    assert links(host) == (one, "") and host.active() == [one]
    assert (base(host) / "releases" / two / "refused.json").exists()


def test_when_nginx_is_down_no_release_is_blamed_and_the_old_one_stays(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.nginx_down = True
    host.calls.clear()
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"neither {two} nor {one} answers" in result.err and "nginx -t" in result.err
    assert links(host) == (one, "") and host.active() == [one]
    assert not (base(host) / "releases" / two / "refused.json").exists()
    assert not any(f"hello@{one}.service" in argv and argv[1] == "stop" for argv in host.calls)


def test_before_the_site_is_there_nginx_is_not_asked(host: FakeHost, stage: Stage) -> None:
    (host.root / "etc/nginx/sites-enabled/hello.conf").unlink()
    host.nginx_down = True
    assert call(host, "hello", "activate", stage("v1")).rc == 0


def test_rollback_walks_back_and_says_where_it_cannot_go(host: FakeHost, stage: Stage) -> None:
    one, two, three = stage("v1"), stage("v2"), stage("v3")
    for release in (one, two, three):
        call(host, "hello", "activate", release)
    assert call(host, "hello", "status", "--json").json["rollback"] == two
    assert call(host, "hello", "rollback", "--json").json["id"] == two
    assert links(host) == (two, three)
    assert call(host, "hello", "rollback", "--json").json["id"] == one
    result = call(host, "hello", "rollback")
    assert result.rc == 1 and f"no good release before {one}" in result.err
    assert two in result.err and three in result.err
    assert call(host, "hello", "rollback", three, "--json").json["id"] == three


def test_rollback_passes_over_a_release_that_is_refused_now(host: FakeHost, stage: Stage) -> None:
    one, two, three = stage("v1"), stage("v2"), stage("v3")
    for release in (one, two, three):
        call(host, "hello", "activate", release)
    host.broken[two] = "import"
    assert call(host, "hello", "rollback").rc == 1
    assert links(host)[0] == three and host.active() == [three]
    assert call(host, "hello", "rollback", "--json").json["id"] == one


def test_a_rollback_asks_no_index_and_builds_nothing(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    call(host, "hello", "activate", two)
    host.calls.clear()
    assert call(host, "hello", "rollback").rc == 0
    assert {argv[0] for argv in host.calls} == {"systemctl", "nft"}, "nothing but units, and who is let in"


def test_an_unknown_release_is_refused_with_those_that_are_there(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    result = call(host, "hello", "activate", "ffff")
    assert result.rc == 1 and "hello has no release ffff" in result.err and f"releases here: {one}" in result.err


def test_a_dry_run_of_activate_changes_nothing_and_takes_an_id_that_is_yet_to_come(
    host: FakeHost, stage: Stage
) -> None:
    one = stage("v1")
    before = snapshot(host.root)
    answer = call(host, "hello", "activate", one, "--dry-run", "--json").json
    assert (answer["changed"], answer["msg"]) == (True, f"would activate: {one}")
    assert call(host, "hello", "activate", "f" * 12, "--dry-run", "--json").json["changed"] is True
    assert snapshot(host.root) == before and host.active() == []


def test_verify_wants_the_very_release(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    assert call(host, "hello", "verify", "--json").json["status"] == 200
    result = call(host, "hello", "verify", two)
    assert result.rc == 1 and f"is answered by release {one}, not by {two}" in result.err


def test_stage_says_whether_the_release_serves_already_and_answers(host: FakeHost, stage: Stage) -> None:
    def verified(release: str) -> bool:
        sha = json.loads((base(host) / "releases" / release / "manifest.json").read_text())["archive_sha256"]
        answer = call(host, "hello", "stage", "--sha256", sha, "--config", "-", "--json", stdin=config())
        return bool(answer.json["verified"])

    one, two = stage("v1"), stage("v2")
    assert not verified(one)
    call(host, "hello", "activate", one)
    assert verified(one) and not verified(two)
    host.broken[one] = "nginx"
    assert not verified(one)
    del host.broken[one]
    host.nginx_down = True
    assert not verified(one)


def test_a_closed_socket_is_opened_first_but_not_under_a_release_that_runs(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    host.set_unit("hello.socket", ActiveState="inactive")
    assert call(host, "hello", "activate", one, "--json").json["repairs"] == [], "before the first release it is closed"
    assert host.units["hello.socket"]["ActiveState"] == "active"
    host.set_unit("hello.socket", ActiveState="failed")
    result = call(host, "hello", "activate", two)
    assert (
        result.rc == 1 and f"hello.socket is not active while {one} runs on it" in result.err and "outage" in result.err
    )
    assert host.active() == [one]


def test_a_socket_that_systemd_has_lost_takes_no_release_while_one_runs(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.listens = set()
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"does not listen where it should while {one} runs on it" in result.err
    assert not (base(host) / "releases" / two / "refused.json").exists()
    host.set_unit(f"hello@{one}.service", ActiveState="inactive")
    assert call(host, "hello", "activate", two, "--json").json["repairs"] == [
        "started hello.socket: it does not listen where it should"
    ]


@pytest.mark.parametrize(("port", "stale"), [(5000, False), (5001, True)])
def test_a_port_that_was_changed_in_the_settings_is_told_before_the_unit_is_written(
    host: FakeHost, stage: Stage, port: int, stale: bool
) -> None:
    (host.root / "etc/flaskctl/hello.json").write_text(json.dumps({"port": port}))
    assert call(host, "hello", "status", "--json").json["socket"]["stale"] is stale


def test_of_the_addresses_that_are_listened_on_only_systemds_own_count(tmp_path: Path) -> None:
    host = flaskctl.Host()
    host.root = tmp_path
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/net/tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0\n"
        "   1: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 222 1 0\n"
        "   2: 0100007F:1389 0100007F:0050 01 00000000:00000000 00:00000000 00000000     0        0 333 1 0\n"
    )
    with socket.socket(socket.AF_UNIX) as bound:
        (tmp_path / "run").mkdir()
        bound.bind(str(tmp_path / "run/app.sock"))
    (tmp_path / "proc/net/unix").write_text(
        "Num       RefCount Protocol Flags    Type St Inode Path\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 111 /run/app.sock\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 222 /run/that-somebody-removed.sock\n"
        "0000000000000000: 00000003 00000000 00000000 0001 03 111 /run/app.sock\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 444 @abstract\n"
        "0000000000000000: 00000002 00000000 00010000 0001 01 555\n"
    )
    assert host.listening() == {"127.0.0.1:5000", "0.0.0.0:80", "/run/app.sock"}
    (tmp_path / "proc/1/fd").mkdir(parents=True)
    (tmp_path / "proc/1/fd/7").symlink_to("socket:[111]")
    assert host.listening() == {"127.0.0.1:5000", "/run/app.sock"}


def test_a_port_that_is_taken_stops_the_release_before_it_starts(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    host.set_unit("hello.socket", ActiveState="inactive")
    host.broken["hello.socket"] = "socket"
    result = call(host, "hello", "activate", one)
    assert result.rc == 1 and "hello.socket does not start" in result.err
    assert host.active() == [] and links(host) == ("", "")


def test_a_damaged_release_is_not_even_started(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    (base(host) / "releases" / two / "environment").unlink()
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"release {two} is damaged" in result.err and "run the playbook" in result.err


# --- workers and schedules


def test_workers_and_schedules_belong_to_the_release(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1", processes=PROCESSES, credentials={"K": "v"}), stage("v2", processes=PROCESSES)
    units = host.root / "etc/systemd/system"
    assert (units / f"hello.worker-1@{one}.service.d/credentials.conf").exists()
    call(host, "hello", "activate", one)
    host.calls.clear()
    host.set_unit(f"hello.tick@{one}.service", ActiveState="active")  # a job under way
    assert call(host, "hello", "activate", two).rc == 0
    verbs = [argv[1:] for argv in host.calls if argv[0] == "systemctl" and argv[1] in ("start", "stop")]
    old = [f"hello.tick@{one}.timer", f"hello.worker-1@{one}.service", f"hello@{one}.service"]
    assert verbs == [
        ["start", f"hello.worker-1@{two}.service"],
        ["start", f"hello@{two}.service", f"hello.worker-1@{two}.service"],
        *(["stop", "--no-block", unit] for unit in old),
        ["start", f"hello.tick@{two}.timer"],
        # one call each: a unit that cannot be loaded would hold back the others
        *(["stop", "--no-block", unit] for unit in old),
        *(["stop", unit] for unit in old),
    ]
    assert host.units[f"hello.tick@{one}.service"]["ActiveState"] == "active", "a job is never cut by a release"


@pytest.mark.parametrize(("how", "says"), [("worker process", "does not start"), ("worker process dies", "crashed")])
def test_a_bad_worker_refuses_the_release_before_its_web_part_can_answer(
    host: FakeHost, stage: Stage, how: str, says: str
) -> None:
    one, two = stage("v1", processes=PROCESSES), stage("v2", processes=PROCESSES)
    call(host, "hello", "activate", one)
    host.broken[two] = how
    result = call(host, "hello", "activate", two)
    assert result.rc == 1 and f"hello.worker-1@{two}.service {says}" in result.err
    assert ["systemctl", "start", f"hello@{two}.service"] not in [argv[:3] for argv in host.calls]
    running = [name for name, unit in host.units.items() if unit["ActiveState"] == "active" and "nginx" not in name]
    assert sorted(running) == [f"hello.{x}" for x in ("socket", f"tick@{one}.timer", f"worker-1@{one}.service")] + [
        f"hello@{one}.service"
    ]


# --- run, start, logs, status, releases, prune, remove


def test_run_finds_the_command_in_the_virtualenv_and_gives_its_exit_code(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    assert call(host, "hello", "run", "--", "flask", "db", "--json", "upgrade").rc == 7
    assert host.became[-4:] == [f"/srv/hello/releases/{one}/venv/bin/flask", "db", "--json", "upgrade"]
    call(host, "hello", "run", "--release", two, "--", "bin/task")
    assert host.became[-1] == f"/srv/hello/releases/{two}/app/bin/task"
    own = base(host) / f"releases/{one}/site/bin/shop-init"
    own.parent.mkdir(parents=True)
    own.touch(mode=0o755)
    call(host, "hello", "run", "--", "shop-init")
    assert host.became[-1] == f"/srv/hello/releases/{one}/site/bin/shop-init"
    result = call(host, "hello", "run", "--", "nosuch")
    assert result.rc == 1 and f"no command nosuch in release {one}" in result.err
    assert call(host, "hello", "run").rc == 2


def test_a_command_that_meets_a_wall_is_told_what_opens_it(host: FakeHost, stage: Stage) -> None:
    """A migration is one: it ended with a traceback of sqlite, and nothing else."""
    one = stage("v1")
    call(host, "hello", "activate", one)
    host.command_says = "sqlite3.OperationalError: unable to open database file\n"
    result = call(host, "hello", "run", "--", "flask", "init")
    assert result.rc == 7 and "a database file: SQLite cannot write" in result.err
    assert "sqlite:////var/lib/hello/app.db" in result.err
    host.command_says = "Error: no such table\n"
    assert "warning" not in call(host, "hello", "run", "--", "flask", "init").err


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/srv/hello/releases/%i/venv/bin/nosuch -v", "run nosuch: the release has no such command"),
        ("/srv/hello/releases/%i/app/task.sh", "run task.sh: the release has no such command"),
        ("/opt/none/tool", "run tool: this host has no such program"),
        ("/srv/hello/releases/%i/venv/bin/flask x", ""),
        ("/srv/hello/releases/%i/app/app.py", ""),
        ("/srv/hello/current/app/app.py", ""),
        ("/srv/hello/current/app/none.py", "run none.py: the release has no such command"),
        ('"/opt/with a space/x" y', ""),
    ],
)
def test_a_process_without_its_program_is_refused_when_it_is_staged(
    host: FakeHost, tmp_path: Path, command: str, words: str
) -> None:
    """One with a schedule was released, and would have been missed when its time came."""
    path = archive(tmp_path / "x.tar.gz", {"app.py": "", "requirements.txt": "flask==3\n"})
    units = {"service": f"[Service]\nExecStart={command}\n", "timer": "[Timer]\nOnCalendar=daily\n"}
    given = config(processes={"tick": units})
    result = call(host, "hello", "stage", str(path), "--config", "-", stdin=given)
    assert words in result.err and result.rc == (1 if words else 0), result


def test_what_an_app_caught_is_told_when_it_serves(host: FakeHost, stage: Stage) -> None:
    """Its sessions were not kept, its health path answered 200, and the run said nothing."""
    one = stage("v1")
    host.said = "1764368000.1 web1 python[1]: OSError: [Errno 30] Read-only file system: 'flask_session'\n"
    warnings = call(host, "hello", "activate", one, "--json").json["warnings"]
    assert [words for words in warnings if "flask_gunicorn_nginx_writable: [flask_session]" in words], warnings


def test_start_needs_no_lock_and_starts_all_of_the_current_release(host: FakeHost, stage: Stage) -> None:
    one = stage("v1", processes=PROCESSES)
    call(host, "hello", "activate", one)
    host.calls.clear()
    assert call(host, "hello", "start").rc == 0
    units = (f"hello@{one}.service", f"hello.worker-1@{one}.service", f"hello.tick@{one}.timer")
    assert host.calls == [["systemctl", "start", "--no-block", unit] for unit in units]
    (base(host) / "current").unlink()
    assert call(host, "hello", "start").err.startswith("flaskctl: warning: the link `current` is missing")


def test_start_without_any_release_has_systemd_listen_no_more(host: FakeHost) -> None:
    result = call(host, "hello", "start")
    assert result.rc == 0 and "no release to start: hello.socket stops" in result.out
    assert ["systemctl", "stop", "--no-block", "hello.socket"] in host.calls
    host.stubborn = {"hello.socket"}
    assert call(host, "hello", "start").rc == 1


def test_start_waits_for_the_first_activation_and_leaves_it_its_socket(host: FakeHost, stage: Stage) -> None:
    one, app = stage("v1"), flaskctl.App(host, "hello", said="flaskctl hello activate")
    sleep, host.calls = host.sleep, []
    with flaskctl.locked(app):

        def activated(seconds: float) -> None:
            sleep(seconds)
            flaskctl.link(base(host) / "current", f"releases/{one}")

        host.sleep = activated  # type: ignore[method-assign]
        assert call(host, "hello", "start", "--json").json["id"] == one
        (base(host) / "current").unlink()
        host.sleep = sleep  # type: ignore[method-assign]
        assert call(host, "hello", "start", "--json").json["id"] is None, "one that takes very long"
    assert not [argv for argv in host.calls if "stop" in argv]


def test_logs_follow_by_becoming_journalctl(host: FakeHost) -> None:
    call(host, "hello", "logs", "-f", "-n", "5")
    assert host.became[:3] == ["journalctl", "--no-pager", "--lines=5"] and host.became[-1] == "--follow"
    assert call(host, "hello", "logs", "--json").json["lines"] == []


@pytest.mark.parametrize(
    ("process", "units"),
    [
        ("worker", ["hello.worker@*", "hello.worker-[0-9]*@*"]),
        ("worker-1", ["hello.worker-1@*", "hello.worker-1-[0-9]*@*"]),
        ("tick", ["hello.tick@*", "hello.tick-[0-9]*@*"]),
        ("web", [f"hello{end}" for end in ("@*.service", ".try-*.service", ".twin-*.service", ".web@*")]),
    ],
)
def test_logs_are_those_of_one_process(host: FakeHost, stage: Stage, process: str, units: list[str]) -> None:
    stage("v1", processes=PROCESSES)
    assert call(host, "hello", "logs", "--process", process).rc == 0
    assert [word.partition("=")[2] for word in host.became if word.startswith("--unit=")][: len(units)] == units


def test_logs_of_a_process_that_is_none_name_those_that_are(host: FakeHost, stage: Stage) -> None:
    stage("v1", processes=PROCESSES)
    refused = call(host, "hello", "logs", "--process", "wrker")
    assert refused.rc == 1 and not host.became
    assert "hello has no process wrker\nremedy: --process web|tick|worker|worker-1\n" in refused.err


def test_status_is_a_few_aligned_lines(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    call(host, "hello", "activate", two)
    host.sleep(60)
    lines = call(host, "hello").out.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["hello", "current"], ["hello", "previous"], ["hello", "serving"], ["hello", "rollback"], ["hello", "socket"],
        ["hello", "units"],
    ]  # fmt: skip
    assert lines[0].startswith(f"hello  current   {two} abc123 by alice, since 2026-11-")
    assert lines[3] == f"hello  rollback  goes to {one}"
    assert lines[5] == "hello  units     2 of 2 run, with 3 processes"
    assert call(host, "hello", "status", "--json").json["problems"] == []


def test_status_asks_systemd_once(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1"))
    host.calls.clear()
    call(host, "hello", "status")
    assert [argv[0] for argv in host.calls] == ["systemctl", "journalctl"]


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (
            lambda host, release: (base(host) / "current").unlink(),
            "there is no current release: flaskctl hello activate",
        ),
        (lambda host, release: host.set_unit(f"hello@{release}.service", ActiveState="failed"), "does not run"),
        (lambda host, release: host.set_unit("hello.socket", ActiveState="failed"), "hello.socket is not active"),
        (lambda host, release: host.set_unit(f"hello@{'e' * 12}.service", ActiveState="active"), "runs beside"),
        (
            lambda host, release: (host.root / "etc/systemd/system/hello.socket").write_text(
                "ListenStream=127.0.0.1:5001\n"
            ),
            "does not listen where it should",
        ),
    ],
)
def test_status_names_the_problem(
    host: FakeHost, stage: Stage, damage: Callable[[FakeHost, str], object], says: str
) -> None:
    one = stage("v1")
    call(host, "hello", "activate", one)
    damage(host, one)
    problems = call(host, "hello", "status", "--json").json["problems"]
    assert len(problems) == 1 and says in problems[0]


def test_releases_are_a_table_newest_first(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2", notes={})
    call(host, "hello", "activate", one)
    lines = call(host, "hello", "releases").out.splitlines()
    assert lines[0].split() == ["ID", "STAGED", "BY", "REVISION", "STATE"]
    assert [line.split()[0] for line in lines[1:]] == [two, one]
    assert lines[2].split()[2:] == ["alice", "abc123", "current", "active"]


@pytest.mark.parametrize(
    ("revision", "shown"),
    [
        ("0123456789abcdef0123456789abcdef01234567", "0123456789ab"),
        ("0123456789abcdef0123456789abcdef01234567-dirty", "0123456789ab-dirty"),
        (f"{'0123456789abcdef' * 4}-dirty", "0123456789ab-dirty"),
        ("hello==1.2.0", "hello==1.2.0"),
        ("a-person-typed-this-one", "a-person-typed-this-one"),
    ],
)
def test_a_revision_says_everywhere_whether_it_was_all(host: FakeHost, stage: Stage, revision: str, shown: str) -> None:
    release = stage("v1", notes={"revision": revision})
    call(host, "hello", "activate", release)
    row = call(host, "hello", "releases").out.splitlines()[1]
    assert row.split()[3] == shown
    assert f"{release} {shown} by " in call(host, "hello", "status").out
    assert call(host, "hello", "releases", "--json").json["releases"][0]["revision"] == revision


def test_prune_keeps_what_serves_what_a_rollback_needs_and_their_virtualenvs(host: FakeHost, stage: Stage) -> None:
    ids = [
        stage(f"v{number}", server_requirements=f"gunicorn=={number}", credentials={"K": "v"}) for number in range(5)
    ]
    for release in ids[:3]:
        call(host, "hello", "activate", release)
    call(host, "hello", "rollback")  # current 1, previous 2, next 0
    stray = base(host) / "releases" / "left-by-hand"
    stray.mkdir()
    answer = call(host, "hello", "prune", "--keep", "3", "--json").json
    assert answer["removed"] == [ids[2], ids[3]] and len(answer["venvs"]) == 2 and not stray.exists()
    left = {path.name for path in (base(host) / "releases").iterdir()}
    assert left == {ids[0], ids[1], ids[4]} and answer["beyond"] == {}
    # the release that it was rolled back from is gone, and so is the link to it
    assert links(host) == (ids[1], "") and call(host, "hello", "status", "--json").json["problems"] == []
    assert not (host.root / f"etc/systemd/system/hello@{ids[3]}.service.d").exists()
    assert (host.root / f"etc/systemd/system/hello@{ids[4]}.service.d").exists()
    again = call(host, "hello", "prune", "--keep", "3", "--json").json
    assert (again["changed"], again["msg"]) == (False, "nothing to remove")
    assert call(host, "hello", "prune", "--keep", "0").rc == 2


@pytest.mark.parametrize(
    ("history", "keep", "left"),
    [
        ("+a +b +c", 2, "bc"),
        ("+a +b +c -b", 2, "ab"),  # c is newer, and a rollback needs a
        ("+a xb +c", 2, "ac"),
        ("+a +b xc", 2, "ab"),  # a refused one goes before a good one, whatever its age
        ("+a xb", 2, "ab"),
        ("+a +b xc xd", 3, "abd"),
        ("+a +b sc", 2, "ab"),
        ("+a +b sc sd", 3, "abd"),
    ],
)
def test_as_many_releases_stay_as_were_asked_for(
    host: FakeHost, stage: Stage, history: str, keep: int, left: str
) -> None:
    ids: dict[str, str] = {}
    for how, name in map(tuple, history.split()):
        ids[name] = ids.get(name) or stage(name)
        host.broken = {ids[name]: "import"} if how == "x" else {}
        if how != "s":
            call(host, "hello", *(["rollback", ids[name]] if how == "-" else ["activate", ids[name]]))
    host.broken = {}
    answer = call(host, "hello", "prune", "--keep", str(keep), "--json").json
    there = {path.name for path in (base(host) / "releases").iterdir()}
    assert there == {ids[name] for name in left}, answer
    assert answer["beyond"] == {}


@pytest.mark.parametrize("words", [("hello.tick@{}.service", "active"), ("hello-run-7.service", "active")])
def test_a_release_from_which_something_runs_stays_and_is_explained(
    host: FakeHost, stage: Stage, words: tuple[str, str]
) -> None:
    one, two, three = (stage(version, processes=PROCESSES) for version in ("v1", "v2", "v3"))
    for release in (one, two, three):
        call(host, "hello", "activate", release)
    host.set_unit(words[0].format(one), ActiveState=words[1])
    done = call(host, "hello", "prune", "--keep", "2")
    assert done.out == f"nothing to remove; {one} stays too: something runs from there\n"
    host.set_unit(words[0].format(one), ActiveState="inactive")
    assert call(host, "hello", "prune", "--keep", "2", "--json").json["removed"] == [one]


def test_with_fewer_than_two_the_release_for_a_rollback_stays_and_is_explained(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    for release in (one, two):
        call(host, "hello", "activate", release)
    answer = call(host, "hello", "prune", "--keep", "1", "--json").json
    assert answer["beyond"] == {one: "a rollback goes there"} and answer["removed"] == []


def test_what_a_rollout_under_way_has_staged_is_not_taken_from_it(host: FakeHost, stage: Stage) -> None:
    for version in ("v1", "v2"):
        call(host, "hello", "activate", stage(version))
    host.sleep(60)
    assert call(host, "hello", "lock", "--holder", '{"id": "1.2.3", "by": "ada"}').rc == 0
    new = stage("v3")
    answer = call(host, "hello", "prune", "--keep", "2", "--json").json
    assert answer["beyond"] == {new: "a rollout under way has staged it"} and answer["removed"] == []


def test_the_end_of_a_rollout_prunes_and_ends_the_lease_in_one_call(host: FakeHost, stage: Stage) -> None:
    holder, other = ('{"id": "1.2.3", "by": "ada"}', '{"id": "4.5.6", "by": "bob"}')
    releases = [stage(version) for version in ("v1", "v2", "v3", "v4")]
    for release in releases:
        call(host, "hello", "activate", release, "--holder", holder)
    there = base(host) / "releases"
    assert call(host, "hello", "unlock", "--holder", other, "--keep", "2").rc == 75 and len([*there.iterdir()]) == 4
    dry = call(host, "hello", "unlock", "--holder", holder, "--keep", "2", "--dry-run", "--json").json
    assert dry["changed"] and len(dry["removed"]) == len([*there.iterdir()]) - 2 == 2
    done = call(host, "hello", "unlock", "--holder", holder, "--keep", "2", "--json").json
    assert done["removed"] == dry["removed"] and done["msg"] == "the rollout lock is released; removed 2 release(s)"
    assert sorted(path.name for path in there.iterdir()) == sorted(releases[2:])
    again = call(host, "hello", "unlock", "--holder", holder, "--keep", "2", "--json").json
    assert (again["changed"], again["msg"]) == (False, "there is no rollout lock; nothing to remove")
    assert call(host, "hello", "unlock", "--holder", holder, "--keep", "0").rc == 2


def test_a_dry_run_of_prune_and_remove_only_tells(host: FakeHost, stage: Stage) -> None:
    note(host)
    for number in range(4):
        stage(f"v{number}")
    before = snapshot(host.root)
    assert len(call(host, "hello", "prune", "--dry-run", "--json").json["removed"]) == 2
    assert call(host, "hello", "remove", "--dry-run", "--json").json["changed"] is True
    assert snapshot(host.root) == before


def test_remove_takes_the_app_and_leaves_the_other_one_and_the_data(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1", credentials={"K": "v"}, processes=PROCESSES))
    units = host.root / "etc/systemd/system"
    for name in ("hello-two.socket", "hello-two@.service", "other.service"):
        (units / name).write_text("")
    (host.root / "etc/flaskctl/hello-two.json").write_text("{}")
    (host.root / "var/lib/hello").mkdir(parents=True)
    note(host)
    answer = call(host, "hello", "remove", "--json").json
    assert (answer["changed"], answer["others"]) == (True, ["hello-two"])
    assert sorted(path.name for path in units.iterdir()) == ["hello-two.socket", "hello-two@.service", "other.service"]
    assert not base(host).exists() and (host.root / "var/lib/hello").exists()
    assert [name for name, unit in host.units.items() if unit["ActiveState"] == "active"] == ["nginx.service"]
    assert call(host, "hello", "remove", "--json").json["changed"] is False
    assert call(host, "hello", "remove", "--purge", "--json").json["changed"] is True
    assert not (host.root / "var/lib/hello").exists()


# --- the command line


def test_every_answer_is_one_json_object_with_the_same_head(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1"))
    for words in (
        ["hello"],
        ["hello", "releases"],
        ["hello", "verify"],
        ["hello", "prune"],
        ["apps"],
        ["hello", "start"],
    ):
        result = call(host, *words, "--json")
        assert result.rc == 0 and result.err == "" and result.out.count("\n") == 1
        assert {"app", "command", "changed", "msg", "warnings"} <= set(result.json)


@pytest.mark.parametrize(
    ("words", "rc", "says"),
    [
        (["hello", "rollback"], 1, "no good release"),
        (["nosuch", "status"], 1, "no app nosuch on this host"),
        (["hello", "jump"], 2, "invalid choice"),
        (["hello", "activate"], 2, "required"),
        (["../x", "status"], 2, "is no name of an app"),
        (["hello", "status", "--", "x"], 2, "takes no command"),
        (["hello", "stage", "--sha256", "zz", "--config", "-"], 2, "64 hex digits"),
        (["hello", "stage"], 2, "no current release"),
    ],
)
def test_a_failure_has_its_exit_code_and_the_same_words_in_both_forms(
    host: FakeHost, words: list[str], rc: int, says: str
) -> None:
    plain = call(host, *words, stdin="{}")
    assert plain.rc == rc and says in plain.err and plain.out == ""
    cut = words.index("--") if "--" in words else len(words)
    asked = call(host, *words[:cut], "--json", *words[cut:], stdin="{}")
    assert asked.rc == rc and asked.json["failed"] is True and says in asked.json["msg"] and asked.err == ""


def test_apps_are_listed(host: FakeHost) -> None:
    (host.root / "etc/flaskctl/two.json").write_text("{}")
    assert call(host, "apps").out == "hello\ntwo\n"


def test_options_stand_before_the_app_or_after_the_command(host: FakeHost) -> None:
    before, after = call(host, "--json", "hello", "status"), call(host, "hello", "status", "--json")
    assert before.json == after.json != {}


def test_what_changes_the_host_needs_root_and_status_does_not(host: FakeHost) -> None:
    host.root_user = False
    result = call(host, "hello", "rollback")
    assert result.rc == 1 and "needs root" in result.err and "sudo flaskctl hello rollback" in result.err
    status = call(host, "hello", "status")
    assert status.rc == 0 and "not seen" in status.out
    assert call(host, "hello", "status", "--json").json["restart_pending"] is None


def test_status_does_without_an_audit_log_that_one_may_not_read(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    call(host, "hello", "activate", two)
    real = flaskctl.read_text

    def refuse(path: Path) -> object:
        if path.suffix == ".jsonl":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(app, "read_text", refuse)
    answer = call(host, "hello", "status", "--json").json
    assert (answer["current"], answer["rollback"], answer["since"]) == (two, one, None)


def test_help_tells_the_exit_codes(capsys: pytest.CaptureFixture[str], host: FakeHost) -> None:
    with pytest.raises(SystemExit) as stop:
        call(host, "--help")
    text = capsys.readouterr().out
    assert stop.value.code == 0
    for code in ("0", "1", "2", "3", "75"):
        assert f"\n  {code} " in text

"""What ought to stand of an app against what stands: status says it, the next run puts it right, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl, links, note
from tests.unit.flaskctl.given import PROCESSES, config

Stage = Callable[..., str]


def status(host: FakeHost) -> Any:
    return call(host, "hello", "status", "--json").json


def failed(host: FakeHost) -> list[str]:
    return sorted(name for name, unit in host.units.items() if unit["ActiveState"] == "failed")


@pytest.fixture
def one(host: FakeHost, stage: Stage) -> str:
    release = stage("v1", processes=PROCESSES)
    assert call(host, "hello", "activate", release).rc == 0
    return release


def test_a_host_on_which_all_stands_has_no_problem(host: FakeHost, one: str) -> None:
    found = status(host)
    assert (found["problems"], found["lacks"], found["ignored"]) == ([], [], [])
    assert found["processes"] == {one: 6}, "a master with two children: of the web server, and of the worker"
    assert found["units"] == {
        "hello.socket": {"state": "active", "wanted": True, "enabled": True},
        f"hello@{one}.service": {"state": "active", "wanted": True},
        f"hello.worker-1@{one}.service": {"state": "active", "wanted": True},
        f"hello.tick@{one}.timer": {"state": "active", "wanted": True},
        "hello.service": {"state": "inactive", "wanted": False, "enabled": True},
    }


BROKEN = [
    ("hello.worker-1@{}.service", {"ActiveState": "inactive"}, "is stopped"),
    ("hello.worker-1@{}.service", {"ActiveState": "failed"}, "has failed"),
    ("hello.worker-1@{}.service", {"ActiveState": "activating"}, "does not come up"),
    ("hello.tick@{}.timer", {"ActiveState": "inactive"}, "is stopped"),
    ("hello.tick@{}.timer", {"ActiveState": "failed"}, "has failed"),
    ("hello.service", {"UnitFileState": "disabled"}, "does not start at boot"),
    ("hello.socket", {"UnitFileState": "disabled"}, "does not start at boot"),
]


@pytest.mark.parametrize(("unit", "properties", "words"), BROKEN)
def test_what_was_stopped_or_switched_off_by_hand_is_named_and_put_right(
    host: FakeHost, one: str, unit: str, properties: dict[str, str], words: str
) -> None:
    unit = unit.format(one)
    host.set_unit(unit, **{"ActiveState": host.state_of(unit), **properties})
    found = status(host)
    assert found["lacks"] == [f"{unit} {words}"]
    assert found["problems"] == [f"{unit} {words}: flaskctl hello activate {one}"]
    would = call(host, "hello", "activate", one, "--dry-run", "--json").json
    assert would["changed"] and would["msg"] == f"would put right: {unit} {words}"

    answer = call(host, "hello", "activate", one, "--json").json
    assert answer["changed"] and len(answer["repairs"]) == 1 and unit in answer["repairs"][0]
    assert words in answer["msg"]
    assert json.loads((host.root / "var/log/flaskctl/hello.jsonl").read_text().splitlines()[-1])["event"] == "repair"
    assert status(host)["problems"] == [] and links(host) == (one, "")
    assert call(host, "hello", "activate", one, "--json").json["changed"] is False


@pytest.mark.parametrize(("unit", "properties", "words"), BROKEN)
def test_a_host_that_lacks_something_is_not_verified_so_that_the_rollout_gives_it_a_turn(
    host: FakeHost, one: str, unit: str, properties: dict[str, str], words: str
) -> None:
    sha = json.loads((base(host) / "releases" / one / "manifest.json").read_text())["archive_sha256"]
    words_ = ("hello", "stage", "--sha256", sha, "--config", "-", "--json")
    given = config(processes=PROCESSES)
    assert call(host, *words_, stdin=given).json["verified"] is True
    unit = unit.format(one)
    host.set_unit(unit, **{"ActiveState": host.state_of(unit), **properties})
    for dry in ([], ["--dry-run"]):
        answer = call(host, *words_, *dry, stdin=given).json
        assert (answer["verified"], answer["changed"], answer["lacks"]) == (False, False, [f"{unit} {words}"])


def test_a_worker_that_does_not_start_again_is_a_failure_that_names_it(host: FakeHost, one: str) -> None:
    unit = f"hello.worker-1@{one}.service"
    host.set_unit(unit, ActiveState="inactive")
    host.bad_units = {unit}
    result = call(host, "hello", "activate", one)
    assert result.rc == 1 and f"{one} is current, but {unit} is stopped: Failed to start {unit}" in result.err
    assert f"remedy: mend the cause, then flaskctl hello activate {one}" in result.err


def test_a_socket_closed_by_hand_is_opened_at_once_unless_a_release_runs_on_it(host: FakeHost, one: str) -> None:
    host.set_unit("hello.socket", ActiveState="inactive")
    remedy = f"systemctl stop hello.socket 'hello@*' 'hello.*@*'; flaskctl hello activate {one}"
    (problem,) = status(host)["problems"]
    assert "hello.socket is not active, no release can start" in problem and problem.endswith(remedy)
    result = call(host, "hello", "activate", one)
    assert result.rc == 1 and remedy in result.err and host.active() == [one]
    for name in list(host.units):
        if "@" in name:
            host.set_unit(name, ActiveState="inactive")
    assert call(host, "hello", "activate", one).rc == 0
    assert status(host)["problems"] == []


def test_a_release_beside_the_current_one_has_a_remedy_that_stops_it(host: FakeHost, one: str, stage: Stage) -> None:
    two = stage("v2")
    host.set_unit(f"hello@{two}.service", ActiveState="active")
    assert status(host)["problems"] == [f"{two} runs beside the current release: flaskctl hello activate {one}"]
    assert set(status(host)["processes"]) == {one, two}
    call(host, "hello", "activate", one)
    assert status(host)["problems"] == []


@pytest.mark.parametrize(
    ("properties", "words", "verb"),
    [
        ({"ActiveState": "inactive"}, "is stopped", "start"),
        ({"ActiveState": "failed"}, "has failed", "start"),
        ({"UnitFileState": "disabled"}, "does not start at boot", "enable"),
    ],
)
def test_an_nginx_that_is_not_as_the_role_set_it_is_a_problem(
    host: FakeHost, one: str, properties: dict[str, str], words: str, verb: str
) -> None:
    host.set_unit("nginx.service", **{"ActiveState": "active", **properties})
    assert status(host)["problems"] == [f"nginx.service {words}: systemctl {verb} nginx.service"]
    (host.root / "etc/nginx/sites-enabled/hello.conf").unlink()
    assert status(host)["problems"] == [], "an app without a site has no nginx"


def test_a_job_that_failed_has_a_remedy_that_runs_it_again(host: FakeHost, one: str) -> None:
    unit = f"hello.tick@{one}.service"
    host.set_unit(unit, ActiveState="failed")
    (problem,) = status(host)["problems"]
    assert problem == f"{unit} has failed: journalctl -u {unit} tells why, systemctl start {unit} runs it again"
    assert call(host, "hello", "activate", one).rc == 0 and failed(host) == [unit], "what it says is not forgotten"


def test_failures_of_releases_that_do_not_serve_are_forgotten(host: FakeHost, one: str, stage: Stage) -> None:
    two = stage("v2")
    units = [f"hello.tick@{two}.service", f"hello@{'0' * 12}.service", "hello.service"]
    for unit in units:
        host.set_unit(unit, ActiveState="failed")
    assert all("reset-failed" in problem for problem in status(host)["problems"]) and len(failed(host)) == 3
    assert call(host, "hello", "prune").rc == 0
    assert failed(host) == [] and status(host)["problems"] == []


def test_nothing_is_mended_of_a_release_that_is_left(host: FakeHost, one: str, stage: Stage) -> None:
    two = stage("v2", processes=PROCESSES)
    call(host, "hello", "activate", two)
    host.set_unit(f"hello.worker-1@{two}.service", ActiveState="failed")
    host.calls.clear()
    assert call(host, "hello", "rollback").rc == 0
    assert ["systemctl", "start", f"hello.worker-1@{two}.service"] not in host.calls


# lines that systemd ignores


def complain(host: FakeHost, unit: str, path: str, words: str, seconds: float = 60) -> None:
    file = host.root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    if not file.exists():
        file.write_text("[Service]\n")
    when = int((file.stat().st_mtime + seconds) * 1e6)
    entry = {"UNIT": unit, "CONFIG_FILE": path, "CONFIG_LINE": "7", "__REALTIME_TIMESTAMP": str(when)}
    host.complained.append({**entry, "MESSAGE": f"{path}:7: {words}"})


DROP_IN = "/etc/systemd/system/hello@.service.d/local.conf"


@pytest.mark.parametrize(
    ("path", "words", "remedy"),
    [
        (DROP_IN, "Unknown key 'MemoryMx' in section [Service], ignoring.", "mend or remove that line"),
        (DROP_IN, "Failed to parse boolean value, ignoring: maybe", "systemctl daemon-reload"),
        ("/etc/systemd/system/hello@.service", "Invalid memory limit 'lots', ignoring", "run the playbook"),
    ],
)
def test_a_line_that_systemd_ignores_is_a_problem_until_the_file_changes(
    host: FakeHost, one: str, path: str, words: str, remedy: str
) -> None:
    for _ in range(2):  # it says so at each reload
        complain(host, f"hello@{one}.service", path, words)
    complain(host, "other.service", "/etc/systemd/system/other.service", words)
    found = status(host)
    assert found["ignored"] == [f"{path}, line 7: {words}"]
    assert len(found["problems"]) == 1 and remedy in found["problems"][0]
    for entry in host.complained:
        entry["__REALTIME_TIMESTAMP"] = "1"
    assert status(host)["problems"] == [], "the file was written since"


def test_what_is_not_ignored_or_not_known_to_an_old_systemd_is_no_problem(host: FakeHost, one: str) -> None:
    unit, path = f"hello@{one}.service", "/etc/systemd/system/hello@.service"
    complain(host, unit, path, "Unit uses MemoryLimit=; please use MemoryMax= instead.")
    host.systemd = 247
    complain(host, unit, path, "Unknown key name 'NoExecPaths' in section 'Service', ignoring.")
    host.complained += [{"UNIT": unit, "MESSAGE": [1, 2]}, {"UNIT": unit, "CONFIG_FILE": "/gone", "MESSAGE": "x"}]
    assert status(host)["problems"] == []
    host.systemd = 252
    assert len(status(host)["problems"]) == 1


UNKNOWN = {"MemoryMx", "Persistnt"}
SERVICE = "[Service]\nUser=hello\n"


def refused_stage(host: FakeHost, one: str, *dry: str, **changes: Any) -> Any:
    sha = json.loads((base(host) / "releases" / one / "manifest.json").read_text())["archive_sha256"]
    before = sorted(str(path) for path in host.root.rglob("*"))
    result = call(host, "hello", "stage", "--sha256", sha, "--config", "-", *dry, stdin=config(**changes))
    assert result.rc == 1 and sorted(str(path) for path in host.root.rglob("*")) == before
    return result.err


@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
@pytest.mark.parametrize(
    ("changes", "names", "words"),
    [
        ({"service": f"{SERVICE}MemoryMx=1G\n"}, "MemoryMx", "MemoryMx in hello@{}.service, line 3: Unknown key"),
        ({"service": f"{SERVICE}PrivateTmp=maybe\n"}, "PrivateTmp", "line 3: Failed to parse boolean value"),
        (
            {"processes": {"w": {"service": SERVICE + "MemoryMx=1\n"}}, "credentials": {"K": "v"}},
            "MemoryMx",
            "MemoryMx in hello.w@{}.service, line 3",
        ),
        (
            {"processes": {"n": {"service": SERVICE, "timer": "[Timer]\nOnCalendar=daily\nPersistnt=1\n"}}},
            "Persistnt",
            "Persistnt in hello.n@{}.timer, line 3",
        ),
        ({"service": f"{SERVICE}MemoryMx=1\nProtectHome=maybe\n"}, "MemoryMx, ProtectHome", "line 4"),
    ],
)
def test_a_release_with_a_line_that_systemd_ignores_is_refused_before_anything_is_made(
    host: FakeHost, one: str, dry: list[str], changes: dict[str, Any], names: str, words: str
) -> None:
    host.unknown = UNKNOWN
    said = refused_stage(host, one, *dry, **changes)
    assert f"of hello is refused: systemd ignores {names}; nothing was switched" in said
    release = said.split("release ")[1][:12]
    assert words.format(release) in said and "flask_gunicorn_nginx_service_settings" in said


SAYS = {  # systemd-analyze verify on Debian 11, 12 and testing
    247: """\
\x1b[0;1;38;5;185m/t/hello@0123456789ab.service:5: Unknown key name 'NoExecPaths' in section 'Service', ignoring.\x1b[0m
\x1b[0;1;38;5;185m/t/hello@0123456789ab.service:9: Unknown key name 'MemoryMx' in section 'Service', ignoring.\x1b[0m
\x1b[0;1;38;5;185m/t/hello@0123456789ab.service:19: Unknown section 'Servce'. Ignoring.\x1b[0m
\x1b[0;1;31mhello@0123456789ab.service: Command /srv/x is not executable: No such file or directory\x1b[0m
""",
    252: """\
/t/hello@0123456789ab.service:9: Unknown key 'MemoryMx' in section [Service], ignoring.
/t/hello@0123456789ab.service:12: Unit uses MemoryLimit=; please use MemoryMax= instead. Support will be removed soon.
/t/hello@0123456789ab.service:19: Unknown section 'Servce'. Ignoring.
hello@0123456789ab.service: Command /srv/x is not executable: No such file or directory
""",
    262: """\
/t/hello@0123456789ab.service:9: Failed to parse ProtectHome=maybe, ignoring: Invalid argument
/t/hello@0123456789ab.service:19: System call nosuchcall is not known, ignoring.
""",
}


@pytest.mark.parametrize("systemd", sorted(SAYS))
def test_the_words_of_each_systemd_are_understood(systemd: int) -> None:
    assert [found.line for found in flaskctl.complaints(SAYS[systemd], systemd)] == [9, 19]


def test_what_the_role_itself_has_for_newer_systemds_is_let_through(host: FakeHost, stage: Stage) -> None:
    host.unknown, host.systemd = {"NoExecPaths", "MemoryMx"}, 247
    one = stage("v1", service=f"{SERVICE}NoExecPaths=/\n")
    host.systemd = 252
    assert "systemd ignores NoExecPaths" in refused_stage(host, one, service=f"{SERVICE}NoExecPaths=\n")


def test_a_host_without_systemd_analyze_stages(host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    run = host.run
    none = flaskctl.Done(127, "", "systemd-analyze is not installed")
    monkeypatch.setattr(host, "run", lambda argv, **more: none if "analyze" in argv[0] else run(argv, **more))
    assert stage("v1", service=f"{SERVICE}MemoryMx=1\n")


# a first release that is refused


def test_a_refused_first_release_leaves_nothing_that_listens_or_has_failed(host: FakeHost, stage: Stage) -> None:
    for unit in ("hello.socket", "hello.service"):
        host.set_unit(unit, ActiveState="inactive", UnitFileState="disabled")
    one = stage("v1")
    host.broken[one] = "import"
    assert call(host, "hello", "activate", one).rc == 1
    assert host.state_of("hello.socket") == "inactive" and failed(host) == []
    assert {host.units[unit]["UnitFileState"] for unit in ("hello.socket", "hello.service")} == {"disabled"}
    assert status(host)["problems"] == ["there is no current release: nothing was activated yet, run the playbook"]

    host.set_unit("hello.service", ActiveState="failed", UnitFileState="disabled")
    assert call(host, "hello", "activate", stage("v2")).rc == 0
    assert failed(host) == [] and status(host)["problems"] == []


def test_a_socket_that_does_not_close_after_a_refused_first_release_is_named(host: FakeHost, stage: Stage) -> None:
    one = stage("v1")
    host.broken[one], host.stubborn = "import", {"hello.socket"}
    result = call(host, "hello", "activate", one)
    assert result.rc == 1 and "hello.socket listens on" in result.err


def test_a_refused_later_release_leaves_the_socket_alone(host: FakeHost, one: str, stage: Stage) -> None:
    two = stage("v2")
    host.broken[two] = "import"
    assert call(host, "hello", "activate", two).rc == 1
    assert host.state_of("hello.socket") == "active" and host.active() == [one]


# who, and how it is typed


def test_who_did_it_is_the_person(host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FakeHost, "who")
    for environ, by in (({"SUDO_USER": "deploy"}, "deploy"), ({"SUDO_USER": "deploy", "FLASKCTL_BY": "ada"}, "ada")):
        host.environ = environ
        release = stage(by, notes={})
        call(host, "hello", "activate", release)
        event = json.loads((host.root / "var/log/flaskctl/hello.jsonl").read_text().splitlines()[-1])
        told = call(host, "hello", "releases", "--json").json["releases"][0]
        assert (event["by"], told["by"]) == (by, by)


def test_one_who_has_logged_in_and_called_su_is_known(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(FakeHost, "who")
    login = host.root / "proc/self/loginuid"
    login.parent.mkdir(parents=True)
    login.write_text("0")
    assert host.who() == "root"
    login.write_text("123456")
    assert host.who() == "123456"
    login.write_text(str(2**32 - 1))  # nobody has logged in: a container, a service
    assert host.who() == flaskctl.pwd.getpwuid(flaskctl.os.getuid()).pw_name


@pytest.mark.parametrize(
    ("root", "environ", "sudo"),
    [(True, {}, ""), (True, {"SUDO_USER": "ada"}, "sudo "), (True, {"SUDO_USER": "root"}, ""), (False, {}, "sudo ")],
)
def test_a_remedy_works_as_it_stands_for_who_reads_it(
    host: FakeHost, one: str, root: bool, environ: dict[str, str], sudo: str
) -> None:
    host.set_unit(f"hello.tick@{one}.timer", ActiveState="inactive")
    host.root_user, host.environ = root, environ
    assert status(host)["problems"][0].endswith(f": {sudo}flaskctl hello activate {one}")


# a systemd that does not do as it is told


def test_a_systemd_that_does_not_answer_is_not_taken_for_units_that_are_stopped(
    host: FakeHost, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    note(host)
    monkeypatch.setattr(host, "show_units", lambda *words: flaskctl.Done(1, "", "Failed to connect to bus"))
    for words in (["status"], ["activate", one], ["prune"], ["remove"]):
        result = call(host, "hello", *words)
        assert result.rc == 1 and "Failed to connect to bus" in result.err
    assert host.active() == [one]


def test_what_systemd_says_nothing_of_has_not_stopped(
    host: FakeHost, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "show_units", lambda *words: flaskctl.Done(0, "\n"))
    assert host.up("hello.socket") == ["hello.socket"]


def test_units_that_stay_enabled_are_not_removed(host: FakeHost, one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    note(host)
    run = host.run_systemctl
    refuses = flaskctl.Done(1, "", "Access denied")
    monkeypatch.setattr(host, "run_systemctl", lambda verb, words: refuses if verb == "disable" else run(verb, words))
    result = call(host, "hello", "remove")
    assert result.rc == 1 and "hello.socket, hello.service cannot be disabled" in result.err
    assert "Access denied" in result.err and (base(host) / "releases" / one).exists()


def test_a_reload_that_systemd_refuses_is_said(host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    one = stage("v1")
    run = host.run_systemctl
    refuses = flaskctl.Done(1, "", "Access denied")
    monkeypatch.setattr(
        host, "run_systemctl", lambda verb, words: refuses if verb == "daemon-reload" else run(verb, words)
    )
    host.set_unit("hello.service", ActiveState="inactive", NeedDaemonReload="yes")
    answer = call(host, "hello", "activate", one, "--json").json
    assert answer["repairs"] == [] and "systemd does not read hello.service anew" in answer["warnings"]
    assert any("Access denied" in warning for warning in answer["warnings"])

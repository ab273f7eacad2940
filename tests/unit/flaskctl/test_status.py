"""What status finds: drift, updates that wait for a restart, the certificate, workers, failed units."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl, note

Stage = Callable[..., str]
MAPS = """\
55d0c8a00000-55d0c8c00000 r-xp 00000000 fe:01 12   /usr/bin/python3.11 (deleted)
7f1a00000000-7f1a00200000 r-xp 00000000 fe:01 13   /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)
7f1a00200000-7f1a00300000 r--p 00000000 fe:01 13   /usr/lib/x86_64-linux-gnu/libssl.so.3 (deleted)
7f1a00400000-7f1a00500000 r-xp 00000000 fe:01 14   /usr/lib/x86_64-linux-gnu/libz.so.1.2.13
7f1a00500000-7f1a00600000 r-xp 00000000 fe:01 15   /srv/hello/venvs/a b/_x.cpython-311-x86_64-linux-gnu.so (deleted)
7f1a00600000-7f1a00700000 rw-s 00000000 00:01 16   /dev/zero (deleted)
7f1a00700000-7f1a00800000 rw-s 00000000 00:18 17   /dev/shm/wgunicorn-x (deleted)
7f1a00800000-7f1a00900000 rw-p 00000000 00:00 0    [heap]
"""
REPLACED = [
    "/srv/hello/venvs/a b/_x.cpython-311-x86_64-linux-gnu.so",
    "/usr/bin/python3.11",
    "/usr/lib/x86_64-linux-gnu/libssl.so.3",
]


@pytest.fixture
def release(host: FakeHost, stage: Stage) -> str:
    release = stage("v1")
    call(host, "hello", "activate", release)
    return release


def status(host: FakeHost, *words: str) -> Any:
    result = call(host, "hello", "status", *words, "--json")
    assert result.rc == 0, result
    return result.json


def put(host: FakeHost, path: str, text: str) -> Path:
    file = host.root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def deploy(host: FakeHost, files: dict[str, str]) -> None:
    """Put files in place as the role does, and note them."""
    for path, text in files.items():
        put(host, path, text)
    record = {path: hashlib.sha256(text.encode()).hexdigest() for path, text in files.items()}
    record["/etc/nginx/sites-enabled/hello.conf"] = "-> ../sites-available/hello.conf"
    put(host, "/var/lib/flaskfleet/files.json", json.dumps(record))


SITE, UNIT, TOOL = (
    "/etc/nginx/sites-available/hello.conf",
    "/etc/systemd/system/hello@.service",
    "/usr/local/bin/flaskctl",
)
OTHER = "/etc/systemd/system/other@.service"


def test_a_host_as_it_was_deployed_has_no_drift(host: FakeHost, release: str) -> None:
    deploy(host, {SITE: "site", UNIT: "[Service]\nUser=hello\n", TOOL: "tool"})
    assert status(host)["drift"] == status(host, "--drift")["drift"] == []
    assert status(host)["problems"] == []


def test_a_file_that_was_edited_or_removed_by_hand_is_named_unless_it_is_another_apps(
    host: FakeHost, release: str
) -> None:
    deploy(host, {SITE: "site", UNIT: "[Service]\n", TOOL: "tool", OTHER: "x"})
    put(host, "/etc/flaskctl/other.json", "{}")
    put(host, SITE, "site, edited")
    put(host, OTHER, "edited")
    (host.root / TOOL.lstrip("/")).unlink()
    link = host.root / "etc/nginx/sites-enabled/hello.conf"
    link.unlink()
    link.symlink_to("elsewhere")
    found = status(host)
    assert found["drift"] == [SITE, str(link).removeprefix(str(host.root)), TOOL]
    assert all("run the playbook" in problem for problem in found["problems"]) and len(found["problems"]) == 3


def test_a_unit_that_systemd_has_not_read_is_drift(host: FakeHost, release: str) -> None:
    host.set_unit("hello.service", NeedDaemonReload="yes")
    assert status(host)["drift"] == ["hello.service, not as systemd has read it"]
    answer = call(host, "hello", "activate", release, "--json").json
    assert answer["repairs"] == ["had systemd read anew: hello.service"] and answer["changed"]
    assert ["systemctl", "daemon-reload"] in host.calls


def test_the_files_of_the_release_are_read_only_when_that_is_asked_for(host: FakeHost, release: str) -> None:
    (base(host) / "releases" / release / "app/app.py").write_text("edited")
    (base(host) / "releases" / release / "gunicorn.conf.py").write_text("edited")
    assert status(host)["drift"] == []
    drift = status(host, "--drift")["drift"]
    assert drift[0] == f"files of {release}/app" and drift[1].endswith("/gunicorn.conf.py")
    (base(host) / "releases" / release / "app/requirements.txt").unlink()
    (base(host) / "releases" / release / "config.json").write_text("{")
    assert "not JSON" in status(host, "--drift")["drift"][0]
    host.root_user = False
    assert call(host, "hello", "status", "--drift").rc == 1


def test_a_removed_app_is_taken_out_of_the_record(host: FakeHost, release: str) -> None:
    deploy(host, {UNIT: "[Service]\n", TOOL: "tool"})
    note(host)
    assert call(host, "hello", "remove").rc == 0
    record = json.loads((host.root / "var/lib/flaskfleet/files.json").read_text())
    assert sorted(record) == ["/etc/nginx/sites-enabled/hello.conf", TOOL]


def test_libraries_and_pythons_that_were_replaced_are_told_from_other_deleted_files() -> None:
    assert sorted(flaskctl.replaced(MAPS)) == REPLACED
    assert flaskctl.replaced("") == set()


@pytest.mark.parametrize("pid", ["4711", "2"])  # the master, a worker
def test_an_update_that_waits_for_a_restart_is_a_problem(host: FakeHost, release: str, pid: str) -> None:
    assert status(host)["restart_pending"] == []
    put(host, f"/proc/{pid}/maps", MAPS)
    found = status(host)
    assert found["restart_pending"] == REPLACED
    assert "flaskctl hello restart" in found["problems"][0] and "libssl.so.3" in found["problems"][0]


@pytest.mark.parametrize(
    ("said", "now", "days"),
    [
        ("notAfter=Jan  2 00:00:00 1970 GMT\n", 0, 1),
        ("notAfter=Jan  2 00:00:00 1970 GMT\n", 1, 0),
        ("notAfter=Jan  2 00:00:00 1970 GMT\n", 86_401, -1),
        ("", 0, None),
        ("notAfter=soon", 0, None),
    ],
)
def test_the_days_of_a_certificate_are_whole_ones(said: str, now: float, days: int | None) -> None:
    assert flaskctl.days_left(said, now) == days


@pytest.mark.parametrize(
    ("end", "days", "problem"),
    [
        ("Dec 25 00:00:00 2026 GMT", 36, ""),
        ("Nov 20 00:00:00 2026 GMT", 1, "ends in 1 days"),
        ("Nov 10 00:00:00 2026 GMT", -9, "has ended"),
        ("", None, ""),
    ],
)
def test_a_certificate_that_ends_soon_is_a_problem(
    host: FakeHost, release: str, monkeypatch: pytest.MonkeyPatch, end: str, days: int | None, problem: str
) -> None:
    assert status(host)["certificate_days"] is None
    settings = host.root / "etc/flaskctl/hello.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "certificate": "/etc/ssl/a.pem"}))
    run = host.run

    def openssl(argv: list[str], **more: Any) -> Any:
        if argv[0] != "openssl":
            return run(argv, **more)
        assert argv[-1].endswith("/etc/ssl/a.pem")
        return flaskctl.Done(0 if end else 1, f"notAfter={end}\n" if end else "", "" if end else "No such file")

    monkeypatch.setattr(host, "run", openssl)
    host.clock = 1_795_000_000.0  # Nov 18 2026
    found = status(host)
    assert found["certificate_days"] == days
    assert [bool(problem) and problem in text for text in found["problems"]] == ([True] if problem else [])
    assert bool(found["warnings"]) == (not end)


def test_workers_and_failed_units_are_counted(host: FakeHost, release: str) -> None:
    host.set_unit("nginx.service", ActiveState="failed")
    host.set_unit(f"hello.nightly@{release}.service", ActiveState="failed")
    found = status(host)
    assert (found["workers"], found["failed_units"]) == (2, [f"hello.nightly@{release}.service", "nginx.service"])
    assert len(found["problems"]) == 2 and "2 workers" in found["msg"]
    host.set_unit(f"hello@{release}.service", ActiveState="failed", MainPID="0")
    assert status(host)["workers"] == 0

"""Removal takes what is on record and looks as it was made; all else under the app's name stays, and is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.flaskctl.fake_host import SETTINGS_FILE, FakeHost, base, call, flaskctl, note, snapshot
from tests.unit.flaskctl.given import PROCESSES

Stage = Callable[..., str]
PERSON = flaskctl.Account(1001, 1001, "/home/hello", "/bin/bash")


def record(host: FakeHost) -> dict[str, str]:
    text: dict[str, str] = json.loads((host.root / "var/lib/flaskfleet/files.json").read_text())
    return text


@pytest.fixture
def released(host: FakeHost, stage: Stage) -> str:
    note(host)
    release = stage("v1", processes=PROCESSES, credentials={"K": "v"})
    assert call(host, "hello", "activate", release).rc == 0
    return release


def remove(host: FakeHost, *options: str) -> flaskctl.Json:  # type: ignore[name-defined]
    result = call(host, "hello", "remove", "--json", *options)
    assert result.rc == 0, result
    return result.json


def test_of_a_name_that_is_not_on_record_nothing_is_touched(host: FakeHost) -> None:
    """As a hand-made service of that name: its user, directory, units and data are somebody's."""
    host.accounts["hello"] = PERSON
    (base(host) / "uploads").mkdir()
    (base(host) / "uploads/invoice.pdf").write_text("1000 EUR")
    (host.root / "var/lib/hello").mkdir(parents=True)
    before = snapshot(host.root)
    for options in ([], ["--purge"]):
        answer = remove(host, *options)
        assert (answer["changed"], answer["removed"], answer["msg"]) == (False, [], "hello is not here")
    after = snapshot(host.root)
    assert {name: what for name, what in after.items() if not name.startswith("run/")} == {
        name: what for name, what in before.items() if not name.startswith("run/")
    }
    assert host.accounts["hello"] == PERSON and host.units["hello.socket"]["ActiveState"] == "active"


def test_what_nginx_kept_of_its_answers_goes_with_the_app_and_when_nothing_is_to_be_kept(
    host: FakeHost, released: str
) -> None:
    cache, settings = host.root / "var/lib/nginx/flaskfleet-hello", host.path(SETTINGS_FILE)
    (cache / "a/bc").mkdir(parents=True)
    (cache.parent / "flaskfleet-other").mkdir()
    was = json.loads(settings.read_text())
    settings.write_text(json.dumps({**was, "cache": "/var/lib/nginx/flaskfleet-hello"}))
    assert call(host, "hello", "prune", "--json").json["changed"] is False and cache.exists()
    settings.write_text(json.dumps({**was, "cache": ""}))
    assert call(host, "hello", "prune", "--json", "--dry-run").json["changed"] and cache.exists()
    assert call(host, "hello", "prune", "--json").json["changed"] and not cache.exists()
    settings.write_text(json.dumps(was))
    cache.mkdir()
    note(host)
    assert str(cache.relative_to(host.root)) in " ".join(remove(host)["removed"]) and not cache.exists()
    assert (cache.parent / "flaskfleet-other").exists()


def test_the_account_goes_with_the_app(host: FakeHost, released: str) -> None:
    assert record(host)["user hello"] == "uid 990, gid 990"
    answer = remove(host)
    assert answer["left"] == [] and "hello" not in host.accounts
    assert not base(host).exists() and "user hello" not in record(host) and SETTINGS_FILE not in record(host)


def test_the_account_stays_as_long_as_its_data_and_goes_with_it(host: FakeHost, released: str) -> None:
    """No other app may get the number to which the data belongs."""
    (host.root / "var/lib/hello").mkdir(parents=True)
    answer = remove(host)
    assert answer["left"] == ["/var/lib/hello (its data)", "user hello (owns its data)"] and not answer["warnings"]
    assert "hello" in host.accounts and answer["data_of"] == ["hello"]
    assert record(host) == {"/var/lib/hello": "directory", "user hello": "uid 990, gid 990"}
    assert remove(host)["changed"] is False
    answer = remove(host, "--purge")
    assert (answer["changed"], answer["left"], answer["data_of"]) == (True, [], [])
    assert "hello" not in host.accounts and record(host) == {}


LOGS = [
    *("hello.access.log", "hello.access.log-20261127", "hello.access.log.1", "hello.access.log.14.gz"),
    *("hello.error.log", "hello.error.log-20261126-1764115200.xz"),
]


def test_what_nginx_logged_of_the_app_is_listed_and_goes_with_its_data(host: FakeHost, released: str) -> None:
    logs = host.root / "var/log/nginx"
    logs.mkdir(parents=True)
    others = ["access.log", "hello.access.log.by-hand", "hello-two.access.log", "hello.com.access.log", "hello.log"]
    for name in LOGS + others:
        (logs / name).write_text("1.2.3.4\n")
    (host.root / "var/lib/hello").mkdir(parents=True)
    answer = remove(host)
    assert "/var/log/nginx/hello.*.log* (what nginx logged of it)" in answer["left"]
    assert not answer["warnings"] and sorted(path.name for path in logs.iterdir()) == sorted(LOGS + others)
    assert set(remove(host, "--purge")["removed"]) == {"/var/lib/hello", *(f"/var/log/nginx/{name}" for name in LOGS)}
    assert sorted(path.name for path in logs.iterdir()) == sorted(others)


def test_a_group_that_somebody_was_put_into_goes_too_and_who_is_told(host: FakeHost, released: str) -> None:
    """It stayed, nobody said so, and the next run took it for somebody else's."""
    host.joined["hello"] = ["anna", "ben"]
    answer = remove(host, "--purge")
    assert "anna, ben had been put into the group hello, which is gone" in answer["warnings"]
    assert host.joined == {}


def test_logs_of_a_name_that_is_not_on_record_stay(host: FakeHost) -> None:
    log = host.root / "var/log/nginx/hello.access.log"
    log.parent.mkdir(parents=True)
    log.write_text("somebody's\n")
    assert remove(host, "--purge")["removed"] == [] and log.exists()


@pytest.mark.parametrize(
    "account", [PERSON, flaskctl.Account(991, 990, "/nonexistent", "/usr/sbin/nologin")], ids=["person", "other ids"]
)
def test_an_account_that_is_not_the_one_on_record_stays(
    host: FakeHost,
    released: str,
    account: flaskctl.Account,  # type: ignore[name-defined]
) -> None:
    host.accounts["hello"] = account
    assert (
        "user hello is not what was deployed: run the playbook"
        in call(host, "hello", "status", "--json").json["problems"]
    )
    assert remove(host)["left"] == ["user hello (not made by the role)"]
    assert host.accounts["hello"] == account


def test_a_person_whose_account_an_older_role_took_over_keeps_it(host: FakeHost, released: str) -> None:
    """That role set home and shell, and noted no account; the number tells."""
    taken = flaskctl.Account(1001, 1001, "/nonexistent", "/usr/sbin/nologin")
    path = host.root / "var/lib/flaskfleet/files.json"
    path.write_text(json.dumps({name: what for name, what in record(host).items() if not name.startswith("user")}))
    host.accounts["hello"] = taken
    assert remove(host)["left"] == ["user hello (not made by the role)"]
    assert host.accounts["hello"] == taken


def test_what_others_keep_under_the_apps_name_stays(host: FakeHost, released: str) -> None:
    units = host.root / "etc/systemd/system"
    theirs = {
        base(host) / "uploads/invoice.pdf": "1000 EUR",
        units / "hello.timer": "[Timer]\n",
        units / "hello@.service.d/override.conf": "[Service]\n",
        units / "hello.backup@daily.service": "[Service]\n",
        units / "hello@.service": "[Service]\nUser=hello\n# changed by hand\n",
    }
    for path, text in theirs.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    running = ("hello.backup@daily.service", "hello@person.service")
    for name in running:
        host.set_unit(name, ActiveState="active")
    answer = remove(host)
    assert [host.units[name]["ActiveState"] for name in running] == ["active", "active"]
    assert {path: path.read_text() for path in theirs} == theirs
    names = ["hello.backup@daily.service", "hello.timer", "hello@.service", "hello@.service.d"]
    assert answer["left"] == [
        *(f"/etc/systemd/system/{name} (not as the role made it)" for name in names),
        "/srv/hello/uploads (not as the role made it)",
    ]
    assert answer["warnings"] == [f"{thing} stays" for thing in answer["left"]]
    assert [path.name for path in base(host).iterdir()] == ["uploads"]
    assert sorted(path.name for path in units.iterdir()) == names


def test_a_service_that_came_after_the_app_with_its_name_is_not_stopped(host: FakeHost, released: str) -> None:
    (host.root / "var/lib/hello").mkdir(parents=True)
    remove(host)
    (host.root / "etc/systemd/system/hello.service").write_text("[Service]\n")
    host.set_unit("hello.service", ActiveState="active")
    assert remove(host, "--purge")["changed"]
    assert host.units["hello.service"]["ActiveState"] == "active"
    assert (host.root / "etc/systemd/system/hello.service").exists()


def test_nothing_that_is_mounted_into_the_app_is_erased(host: FakeHost, released: str) -> None:
    mount = base(host) / "releases" / released / "app/data"
    host.mounts = [str(mount)]
    before = snapshot(base(host))
    result = call(host, "hello", "remove")
    assert result.rc == 1 and f"umount {mount}" in result.err
    assert snapshot(base(host)) == before


def test_prune_keeps_a_release_into_which_something_is_mounted(host: FakeHost, stage: Stage) -> None:
    ids = [stage(f"v{number}") for number in range(3)]
    host.mounts = [str(base(host) / "releases" / ids[0] / "app/data")]
    answer = call(host, "hello", "prune", "--keep", "1", "--json").json
    assert f"{ids[0]} stays" in str(answer["warnings"])
    left = sorted(path.name for path in (base(host) / "releases").iterdir())
    assert left == sorted([ids[0], ids[2]])
    assert (base(host) / "releases" / ids[0] / "manifest.json").exists()


def test_the_mounts_of_this_machine_are_read_from_the_kernel() -> None:
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    point = next(point for point in points if point.count("/") > 1)
    assert point in flaskctl.Host().mounts_below(Path(point).parent)

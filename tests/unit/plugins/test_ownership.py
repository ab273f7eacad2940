"""What stands under an app's name and is not on record is not the role's."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils import ownership
from ansible_collections.flaskfleet.web.plugins.modules import host

CLAIM = "etc/flaskctl/shop.json"
UNIT, SITE = "etc/systemd/system/shop.service", "etc/nginx/sites-available/shop.conf"


class Machine:
    """A directory with what stands on a host, its users and groups, and its record."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        self.users: dict[str, SimpleNamespace] = {}
        self.groups: dict[str, SimpleNamespace] = {}
        self.shown = ""
        for module, name, known in (("pwd", "getpwnam", self.users), ("grp", "getgrnam", self.groups)):
            monkeypatch.setattr(f"{module}.{name}", known.__getitem__)
        monkeypatch.setattr(ownership, "RECORD", str(root / "files.json"))
        self.units = [str(root / path) for path in ("etc/systemd/system", "lib/systemd/system")]
        monkeypatch.setattr(ownership, "UNIT_DIRECTORIES", self.units)

    def put(self, *paths: str) -> None:
        for path in paths:
            (self.root / path).parent.mkdir(parents=True, exist_ok=True)
            (self.root / path).write_text("x")

    def user(self, uid: int, gid: int, home: str = "/home/shop", shell: str = "/bin/bash") -> None:
        self.users["shop"] = SimpleNamespace(pw_uid=uid, pw_gid=gid, pw_dir=home, pw_shell=shell)
        self.groups["shop"] = SimpleNamespace(gr_gid=gid)

    def note(self, *names: str, **more: str) -> None:
        record = {name if name.startswith("user ") else str(self.root / name): "x" for name in names}
        (self.root / "files.json").write_text(json.dumps({**record, **more}))

    def foreign(self) -> list[str]:
        paths, directories = (CLAIM, UNIT, SITE), ("srv/shop", "var/lib/shop")
        found = ownership.foreign(
            "shop",
            str(self.root / CLAIM),
            [str(self.root / path) for path in paths],
            [str(self.root / path) for path in directories],
            lambda argv: self.shown,
        )
        return [text.replace(f"{self.root}/", "") for text in found]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_on_a_host_without_the_name_nothing_is_in_the_way(machine: Machine) -> None:
    machine.put("etc/systemd/system/shop-two.service", "srv/shopping/x", "etc/nginx/sites-available/shop")
    assert machine.foreign() == []


@pytest.mark.parametrize(
    ("put", "named"),
    [
        ("srv/shop/uploads/invoice.pdf", "srv/shop"),
        ("var/lib/shop/db", "var/lib/shop"),
        (UNIT, UNIT),
        (SITE, SITE),
        (CLAIM, CLAIM),
        ("etc/systemd/system/shop.timer", "etc/systemd/system/shop.timer"),
        ("lib/systemd/system/shop.service", "lib/systemd/system/shop.service"),
        ("lib/systemd/system/shop@.service", "lib/systemd/system/shop@.service"),
        ("etc/systemd/system/shop.service.d/local.conf", "etc/systemd/system/shop.service.d"),
        ("etc/systemd/system/shop@1.service.d/local.conf", "etc/systemd/system/shop@1.service.d"),
    ],
)
def test_each_thing_under_the_name_is_named(machine: Machine, put: str, named: str) -> None:
    machine.put(put)
    assert machine.foreign() == [named]


def test_a_link_that_leads_nowhere_stands_there_too(machine: Machine) -> None:
    machine.put("srv/x")
    os.symlink("nowhere", machine.root / "srv/shop")
    assert machine.foreign() == ["srv/shop"]


def test_a_unit_that_has_no_file_there_is_asked_of_systemd(machine: Machine) -> None:
    """From an init script, say, or one whose file was deleted while it runs."""
    machine.shown = """\
Id=shop.service
LoadState=loaded
ActiveState=active
FragmentPath=/run/systemd/generator.late/shop.service

Id=shop.socket
LoadState=not-found
ActiveState=active
FragmentPath=

Id=shop@flaskfleet.service
LoadState=not-found
ActiveState=inactive
FragmentPath=
"""
    assert machine.foreign() == [
        "unit shop.service (/run/systemd/generator.late/shop.service)",
        "unit shop.socket (active)",
    ]


@pytest.mark.parametrize("uid", [33, 998, 1001])
def test_a_user_that_stood_there_first_is_a_persons_or_a_packages(machine: Machine, uid: int) -> None:
    machine.user(uid, uid)
    assert machine.foreign() == [
        f"user shop (uid {uid}, home /home/shop, shell /bin/bash)",
        f"group shop (gid {uid})",
    ]


def test_a_group_alone_is_in_the_way(machine: Machine) -> None:
    machine.groups["shop"] = SimpleNamespace(gr_gid=1500)
    assert machine.foreign() == ["group shop (gid 1500)"]


def everything(machine: Machine) -> None:
    machine.put(CLAIM, UNIT, SITE, "srv/shop/releases/x", "var/lib/shop/db", "etc/systemd/system/shop.service.d/a.conf")
    machine.user(998, 998, "/nonexistent", "/usr/sbin/nologin")


def test_a_host_that_an_older_role_released_goes_on_unasked(machine: Machine) -> None:
    everything(machine)
    machine.note(CLAIM, UNIT, SITE)
    assert machine.foreign() == []
    machine.note(CLAIM, UNIT, SITE, **{"user shop": "uid 998, gid 998"})
    assert machine.foreign() == []


def test_of_an_app_on_record_each_file_and_the_user_must_be_too(machine: Machine) -> None:
    everything(machine)
    machine.note(CLAIM, UNIT, **{"user shop": "uid 998, gid 998"})
    machine.user(1001, 1001)
    assert machine.foreign() == [
        "user shop (uid 1001, home /home/shop, shell /bin/bash)",
        "group shop (gid 1001)",
        SITE,
    ]


def test_data_that_a_removed_app_left_is_its_own_when_it_comes_back(machine: Machine) -> None:
    machine.put("var/lib/shop/db")
    machine.user(998, 998, "/nonexistent", "/usr/sbin/nologin")
    machine.note("var/lib/shop", **{"user shop": "uid 998, gid 998"})
    assert machine.foreign() == []
    machine.user(999, 999, "/nonexistent", "/usr/sbin/nologin")
    assert machine.foreign()[0].startswith("user shop")


@pytest.mark.parametrize("text", ["{", "[]", ""])
def test_without_a_record_nothing_is_ours(machine: Machine, text: str) -> None:
    everything(machine)
    (machine.root / "files.json").write_text(text)
    assert len(machine.foreign()) == 8


@pytest.mark.parametrize(("when", "good"), [("daily", True), ("every night", False)])
def test_a_schedule_is_judged_by_the_hosts_own_systemd(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str, good: bool
) -> None:
    (tmp_path / "systemd-analyze").write_text('#!/bin/sh\n[ "$1 $2 $3" = "calendar -- daily" ]\n')
    (tmp_path / "systemd-analyze").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert host.readable(when) is good
    monkeypatch.setenv("PATH", "/nowhere")
    assert host.readable(when) is True

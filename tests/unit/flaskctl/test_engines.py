"""The versions of flaskctl on a host: which go, and when."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, call, engines, killed, note

Stage = Callable[..., str]
HOLDER = '{"id": "r1"}'


def on_record(host: FakeHost) -> list[str]:
    record = json.loads((host.root / "var/lib/flaskfleet/files.json").read_text())
    return [name.split("/")[5] for name in record if name.startswith("/usr/local/lib/flaskctl/")]


@pytest.mark.parametrize("words", [("unlock", "--holder", HOLDER), ("prune",)])
def test_the_end_of_a_rollout_takes_the_version_that_the_launcher_does_not_name(
    host: FakeHost, words: tuple[str, ...]
) -> None:
    old = engines(host)
    call(host, "hello", "lock", "--holder", HOLDER)
    assert old.exists() and on_record(host) == ["aaa", "bbb"]
    assert call(host, "hello", *words, "--dry-run").rc == 0 and old.exists()
    assert call(host, "hello", *words).rc == 0
    assert not old.exists() and old.with_name("bbb").exists() and on_record(host) == ["bbb"]


def test_where_the_launcher_names_none_all_stay(host: FakeHost) -> None:
    old = engines(host)
    (host.root / "usr/local/bin/flaskctl").write_text("#!/usr/bin/python3 -I\n# a single file, as it once was\n")
    assert call(host, "hello", "prune").rc == 0
    assert old.exists() and on_record(host) == ["aaa", "bbb"]


def test_a_version_that_a_kill_left_goes_with_the_next_call(host: FakeHost) -> None:
    old = engines(host)
    assert killed(host, "prune-engine", "hello", "prune")
    assert call(host, "hello", "prune").rc == 0
    assert not old.exists() and on_record(host) == ["bbb"]


def test_the_last_app_takes_all_versions_out_of_the_record_and_leaves_the_files_to_the_role(
    host: FakeHost, stage: Stage
) -> None:
    old = engines(host)
    note(host)
    (host.root / "etc/flaskctl/other.json").write_text("{}")
    assert call(host, "hello", "remove", "--json").json["others"] == ["other"]
    assert on_record(host) == ["aaa", "bbb"]
    (host.root / "etc/flaskctl/other.json").unlink()
    assert call(host, "hello", "remove").rc == 0
    assert on_record(host) == [] and old.exists()

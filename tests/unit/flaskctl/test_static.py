"""Which releases nginx is shown for static files, and in which order: data in, links out."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from flaskctl import static

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl, note

Stage = Callable[..., str]


def kept(host: FakeHost) -> list[str]:
    """The releases by their numbers, from 1 on without a gap."""
    found = {path.name: os.readlink(path) for path in (base(host) / "kept").iterdir()}
    assert sorted(found, key=int) == [str(number) for number in range(1, len(found) + 1)]
    assert all(target.startswith("../releases/") for target in found.values())
    return [os.path.basename(found[name]) for name in sorted(found, key=int)]


@pytest.mark.parametrize(
    ("history", "order"),
    [
        ("+a", "a"),
        ("+a +b +c", "cba"),
        ("+a +b -a", "ab"),
        ("+a +b -a +c", "cab"),
        ("+a xb", "a"),  # nobody has a page of what was refused
        ("+a sb", "a"),  # nor of what did not serve yet
        ("+a sb +c +b", "bca"),
    ],
)
def test_releases_that_have_served_are_numbered_the_last_one_first(
    host: FakeHost, stage: Stage, history: str, order: str
) -> None:
    ids: dict[str, str] = {}
    for how, name in map(tuple, history.split()):
        ids[name] = ids.get(name) or stage(name)
        host.broken = {ids[name]: "import"} if how == "x" else {}
        if how != "s":
            call(host, "hello", *(["rollback", ids[name]] if how == "-" else ["activate", ids[name]]))
    assert kept(host) == [ids[name] for name in order]


def test_what_is_pruned_leaves_no_gap_and_no_dead_link(host: FakeHost, stage: Stage) -> None:
    ids = [stage(f"v{number}") for number in range(4)]
    for release in (ids[0], ids[1], ids[2], ids[3], ids[1], ids[3]):
        call(host, "hello", "activate", release)
    assert kept(host) == [ids[3], ids[1], ids[2], ids[0]]
    call(host, "hello", "prune", "--keep", "3")
    assert kept(host) == [ids[3], ids[1], ids[2]]
    call(host, "hello", "prune", "--keep", "2")
    assert kept(host) == [ids[3], ids[1]]


def test_a_host_of_an_older_flaskctl_has_them_before_its_site_changes(host: FakeHost, stage: Stage) -> None:
    """The role stages, then installs the site, then activates."""
    one, two = stage("v1"), stage("v2")
    for release in (one, two):
        call(host, "hello", "activate", release)
    flaskctl.erase(base(host) / "kept")
    assert call(host, "hello", "stage", "--dry-run").rc == 0 and not (base(host) / "kept").exists()
    stage("v3")
    assert kept(host) == [two, one]


def test_without_the_audit_log_the_links_tell(host: FakeHost, stage: Stage) -> None:
    one, two, three = stage("v1"), stage("v2"), stage("v3")
    for release in (one, two, three):
        call(host, "hello", "activate", release)
    (host.root / "var/log/flaskctl/hello.jsonl").write_text('{"event": "activate", "release": "../../etc"}\n')
    call(host, "hello", "prune", "--keep", "5")
    assert kept(host) == [three, two]


@pytest.mark.parametrize("wanted", ["fabcde", "bcdef", "f", "cab", "", "abcde"])
def test_all_links_move_at_once(host: FakeHost, monkeypatch: pytest.MonkeyPatch, wanted: str) -> None:
    app = flaskctl.App(host, "hello")
    monkeypatch.setattr(static, "have_served", lambda app: list("abcde"))
    static.link_kept(app)
    seen: list[list[str]] = []

    def watched(real: Callable[..., object]) -> Callable[..., object]:
        def call_it(*words: object, **more: object) -> object:
            seen.append(kept(host))
            done = real(*words, **more)
            seen.append(kept(host))
            return done

        return call_it

    for name in ("symlink", "mkdir", "replace", "unlink", "rmdir"):
        monkeypatch.setattr(os, name, watched(getattr(os, name)))
    monkeypatch.setattr(static, "have_served", lambda app: list(wanted))
    static.link_kept(app)
    assert kept(host) == list(wanted) and all(found in (list("abcde"), list(wanted)) for found in seen)
    assert bool(seen) == (wanted != "abcde")
    assert len([path for path in base(host).iterdir() if "kept" in path.name]) == 2


def test_what_somebody_put_there_goes_and_the_links_go_with_the_app(host: FakeHost, stage: Stage) -> None:
    note(host)
    one = stage("v1")
    (base(host) / "kept").mkdir()
    (base(host) / "kept/1").mkdir()
    (base(host) / "kept/notes").write_text("x")
    call(host, "hello", "activate", one)
    assert kept(host) == [one]
    assert call(host, "hello", "remove").rc == 0 and not base(host).exists()


def test_a_full_disk_keeps_the_links_as_they_were_and_stops_no_rollback(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stage("v1"), stage("v2")
    for release in (one, two):
        call(host, "hello", "activate", release)
    real = os.symlink

    def full(target: str, path: Path) -> None:
        if ".kept." in str(path):
            raise OSError(28, "No space left on device")
        real(target, path)

    monkeypatch.setattr(os, "symlink", full)
    done = call(host, "hello", "rollback", "--json")
    assert done.rc == 0 and "may miss a static file: No space left on device" in done.json["warnings"][0]
    assert kept(host) == [two, one]
    monkeypatch.undo()
    call(host, "hello", "prune", "--keep", "5")
    assert kept(host) == [one, two]

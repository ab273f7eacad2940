"""Drain and maintenance: files that nginx looks at, and what a release does meanwhile."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl, killed, links

Stage = Callable[..., str]


@pytest.fixture(autouse=True)
def site(host: FakeHost) -> None:
    path = host.root / "etc/nginx/sites-available/hello.conf"
    path.parent.mkdir()
    path.write_text("if (-f /srv/hello/drained) {} if (-f /srv/hello/maintenance.html) {}")


def test_a_drained_host_says_so_until_it_is_undrained(host: FakeHost, stage: Stage) -> None:
    call(host, "hello", "activate", stage("v1"))
    began = host.clock
    answer = call(host, "hello", "drain", "--seconds", "7", "--json").json
    assert (answer["drained"], answer["changed"], host.clock - began) == (True, True, 7) and not answer["warnings"]
    assert (base(host) / "drained").stat().st_mode & 0o777 == 0o600  # nginx looks whether it is there
    assert call(host, "hello", "drain", "--seconds", "7", "--json").json["changed"] is False
    assert host.clock - began == 7, "they have noticed already"
    status = call(host, "hello", "status", "--json").json
    assert status["drained"] is True and "hello undrain" in status["problems"][0]
    assert call(host, "hello", "undrain", "--json").json["changed"] is True
    assert call(host, "hello", "undrain", "--json").json["changed"] is False
    status = call(host, "hello", "status", "--json").json
    assert status["drained"] is False and status["problems"] == []
    events = (host.root / "var/log/flaskctl/hello.jsonl").read_text().splitlines()
    assert [json.loads(event)["event"] for event in events[-2:]] == ["drain", "undrain"]


def test_a_maintenance_has_a_page_of_ones_own_or_a_plain_one(host: FakeHost, tmp_path: Path) -> None:
    page, own = base(host) / "maintenance.html", tmp_path / "own.html"
    own.write_text("<p>W\u00e4rtung")
    changed = []
    for words in (("on",), ("on",), ("on", "--page", str(own)), ("on",), ("off",), ("off",)):
        answer = call(host, "hello", "maintenance", *words, "--json").json
        changed.append(answer["changed"])
        assert answer["maintenance"] == page.exists() == (words[0] == "on")
        if changed == [True, False, True, False]:
            assert page.read_text("utf-8") == own.read_text("utf-8"), "the page that is there stays"
    assert changed == [True, False, True, False, True, False]
    own.write_bytes(b"\xff")
    assert "is not UTF-8" in call(host, "hello", "maintenance", "on", "--page", str(own)).err
    assert call(host, "hello", "maintenance", "yes").rc == 2


@pytest.mark.parametrize("words", [("drain",), ("maintenance", "on")])
def test_a_dry_run_marks_nothing_and_a_site_that_does_not_look_is_told(host: FakeHost, words: tuple[str, ...]) -> None:
    answer = call(host, "hello", *words, "--dry-run", "--json").json
    assert answer["changed"] and not answer["drained"] and not answer["maintenance"]
    (host.root / "etc/nginx/sites-available/hello.conf").write_text("an older site")
    assert "nginx does not look at" in call(host, "hello", *words, "--json").json["warnings"][0]


def test_in_a_maintenance_a_release_goes_out_though_the_page_answers_on_its_health_path(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    page = flaskctl.PAGE * 20
    call(host, "hello", "maintenance", "on", "--page", "-", stdin=page)
    monkeypatch.setattr(host, "http_get", lambda *address: flaskctl.Answer(503, "", page[:1000]))
    assert call(host, "hello", "activate", two).rc == 0 and links(host) == (two, one)
    assert "nginx answers in place of the app" in call(host, "hello", "verify").out
    monkeypatch.setattr(host, "http_get", lambda *address: flaskctl.Answer(503, "", "<p>This service is unavailable"))
    assert call(host, "hello", "verify").rc == 1


@pytest.mark.parametrize("step", flaskctl.MARK_CHECKPOINTS)
def test_a_mark_that_was_cut_can_be_made_again(host: FakeHost, step: str) -> None:
    words = ("drain",) if step == "mark-drained" else ("maintenance", "on")
    assert killed(host, step, "hello", *words)
    answer = call(host, "hello", *words, "--json").json
    assert answer["changed"] and answer["drained"] != answer["maintenance"]

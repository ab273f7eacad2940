"""The page of a fleet: what it says, and that nothing a host says becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils.status_page import page, sparkline

TRAFFIC = {"start": 1000.0, "switched": 1020.0, "step": 10, "requests": [4, 8, 2], "errors": [0, 0, 1]}
HOST = {
    "host": "web1",
    "serving": "1" * 12,
    "previous": "0" * 12,
    "since": "2026-01-01T00:00:00Z",
    "workers": 3,
    "certificate_days": 60,
    "drift": [],
    "problems": [],
    "traffic": TRAFFIC,
}
GOOD: dict[str, Any] = {"agrees": True, "wrong": [], "hosts": [HOST, {**HOST, "host": "web2"}]}


class Reader(HTMLParser):
    """What stands on a page, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: list[str] = []
        self.loads: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [str(value) for name, value in attrs if name in ("src", "href") or name.startswith("on")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_a_fleet_that_agrees_is_one_sentence_and_a_line_for_each_host() -> None:
    made = page(GOOD, "hello", now=0)
    read = Reader(made)
    assert "hello: 2 hosts, all serve 111111111111" in read.texts
    assert read.tags.count("tr") == 3 and read.tags.count("svg") == 2
    assert "script" not in read.tags and not read.loads
    assert "1970-01-01 00:00:00 UTC" in made


def test_what_is_wrong_stands_above_the_table() -> None:
    lost = {"host": "web3", "serving": None, "problems": ["it does not answer"]}
    made = page({"agrees": False, "wrong": ["web3: it does not answer"], "hosts": [HOST, lost]}, "hello")
    assert "2 hosts, 1 wrong" in made
    assert made.index("<li>web3: it does not answer</li>") < made.index("<table>")


@pytest.mark.parametrize("evil", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "&lt;b&gt;", "{rows}"])
def test_what_a_host_says_is_text(evil: str) -> None:
    line = {**HOST, "host": evil, "serving": evil, "since": evil, "drift": [evil], "problems": [evil]}
    read = Reader(page({"agrees": False, "wrong": [evil], "hosts": [line]}, evil))
    assert not {"script", "img", "b"} & set(read.tags) and not read.loads
    assert "".join(read.texts).count(evil) == 8


def test_the_traffic_is_drawn_to_the_height_of_its_most_and_the_switch_where_it_was() -> None:
    drawn = sparkline(TRAFFIC)
    assert '<rect class="bar" x="80.0" y="0.0" width="80.0" height="36.0"/>' in drawn
    assert '<rect class="failed" x="160.0" y="31.5" width="80.0" height="4.5"/>' in drawn
    assert 'x1="160.0"' in drawn and "14 requests, 1 failed, at most 8 in 10 s" in drawn


@pytest.mark.parametrize("nothing", [None, {}, {**TRAFFIC, "requests": [0, 0, 0]}])
def test_without_traffic_there_is_a_word(nothing: Any) -> None:
    assert "none" in sparkline(nothing) and "svg" not in sparkline(nothing)

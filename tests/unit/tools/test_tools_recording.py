"""The recording of the documentation is a recording, and the page beside it says what it shows."""

from __future__ import annotations

import json

from tools import recording

SHOWN = "$ ansible-playbook site.yml\r\n\r\x1b[Kstage 1 of 3\r\r\x1b[K\x1b[0;32mstage\x1b[0m 3 hosts\r\n"


def test_a_line_that_is_written_over_is_shown_as_it_is_at_last() -> None:
    events = [(0.0, SHOWN[:40]), (1.5, SHOWN[40:])]
    assert recording.text_of(recording.cast(events)) == "$ ansible-playbook site.yml\nstage 3 hosts\n"


def test_the_recording_is_an_asciicast_in_which_all_was_typed() -> None:
    header, *events = [json.loads(line) for line in recording.CAST.read_text().splitlines()]
    assert (header["version"], header["width"], header["height"]) == (2, recording.COLUMNS, recording.LINES)
    seconds = [second for second, kind, _ in events]
    assert seconds == sorted(seconds) and {kind for _, kind, _ in events} == {"o"}
    assert [text for _, _, text in events if text.startswith("$ ")] == [f"$ {typed}\r\n" for typed in recording.TYPED]


def test_the_page_is_that_of_the_recording() -> None:
    assert recording.PAGE.read_text() == recording.page(recording.CAST.read_text())

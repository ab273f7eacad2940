"""A recording is an asciicast, and its text is what a terminal holds at the end."""

from __future__ import annotations

from tools import recording

SHOWN = "$ ansible-playbook site.yml\r\n\r\x1b[Kstage 1 of 3\r\r\x1b[K\x1b[0;32mstage\x1b[0m 3 hosts\r\n"


def test_a_line_that_is_written_over_is_shown_as_it_is_at_last() -> None:
    events = [(0.0, SHOWN[:40]), (1.5, SHOWN[40:])]
    assert recording.text_of(recording.cast(events)) == "$ ansible-playbook site.yml\nstage 3 hosts\n"

"""The requests that nobody sends by mistake, and what is said of their answers."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from tools.audit_corpus import (
    BAD,
    CORPUS,
    Answer,
    Place,
    filled,
    judged,
    number,
    older,
    parsed,
    payloads,
    request,
    status_h2,
)

PLACE = Place("192.0.2.1", "a.test", "/api/")
APP, PAGE = Answer(200, b"HTTP/1.1 200 OK", b"{}"), Answer(404, b"HTTP/1.1 404 Not Found", b"")


def to(location: str) -> Answer:
    return Answer(308, f"HTTP/1.1 308 P\r\nLocation: {location}\r\nServer: nginx".encode(), b"")


def test_there_are_enough_of_them_each_said_once() -> None:
    corpus = yaml.safe_load(CORPUS.read_text())
    assert set(corpus) == {"names", "claims", "paths", "raw", "h2"}
    assert sum(map(len, corpus.values())) > 200
    for kind, every in corpus.items():
        said = [payload["say"] for payload in every]
        assert len(said) == len(set(said)), kind
        assert all(payload.get("must", "answer") in ("refuse", "answer") for payload in every)


def test_each_goes_over_what_the_site_speaks_with_nothing_left_to_fill_in() -> None:
    every = list(payloads(PLACE))
    assert {protocol for _kind, protocol, _payload in every} == {"http", "https", "h2"}
    assert {protocol for _kind, protocol, _payload in payloads(PLACE._replace(https=0))} == {"http"}
    for kind, protocol, payload in every:
        if protocol == "http":
            assert not any(word in request(PLACE, kind, payload) for word in (b"{name}", b"{bad}", b"{root}"))
    assert filled("{percent} {NAME}", PLACE) == "/%61pi/ A.TEST"


@pytest.mark.parametrize(
    ("payload", "answers", "wrong"),
    [
        ({}, [APP], ""),
        ({}, [], ""),
        ({}, [Answer(501, b"", b"")], "a server error"),
        ({"must": "refuse"}, [APP], "accepted"),
        ({"must": "refuse"}, [PAGE], ""),
        ({"must": "refuse"}, [], ""),
        ({"must": "refuse"}, [to("/api/")], "accepted"),
        ({"must": "refuse"}, [to("https://a.test/api/")], ""),
        ({"must": "refuse"}, [to("https://a.test.evil/")], "accepted"),
        ({"must": "answer"}, [PAGE], "refused"),
        ({"must": "answer"}, [APP], ""),
        ({"not": [101]}, [Answer(101, b"", b"")], "switched to what nobody may switch to"),
        ({}, [APP, PAGE], "answered as more than one request"),
        ({"answers": 2}, [APP, PAGE], ""),
        ({}, [Answer(100, b"", b""), APP], ""),
        ({}, [APP._replace(body=b"X: Spoofed.INVALID")], "spoofed"),
        ({}, [APP._replace(head=b"HTTP/1.1 200 OK\r\nX-A: spoofed.invalid")], "spoofed"),
        ({}, [to(f"https://{BAD}/")], f"sent to https://{BAD}/"),
        ({}, [to(f"//{BAD}/")], f"sent to //{BAD}/"),
        ({}, [to(f"https://[{BAD}/")], f"sent to https://[{BAD}/"),
        ({}, [to(f"https://a.test/{BAD}")], ""),
        ({}, [APP._replace(body=b"http://127.0.0.1:5000/")], "the app's address is told"),
        ({"keeps": "HTTP_HOST"}, [APP], "nginx's own word is gone"),
    ],
)
def test_what_is_wrong_with_an_answer_is_said(payload: dict[str, Any], answers: list[Answer], wrong: str) -> None:
    assert judged(PLACE, "names", payload, answers) == wrong


def test_an_old_nginx_is_not_asked_what_it_does_not_do() -> None:
    assert older("1.18.0", "1.21.1") and not older("1.26.3", "1.21.1")
    assert not older("", "1.21.1") and not older("1.18.0", "")
    old, payload = PLACE._replace(nginx="1.18.0"), {"must": "refuse", "since": "1.21.1"}
    assert judged(old, "raw", payload, [APP]) == "" and judged(PLACE, "raw", payload, [APP]) == "accepted"


def test_answers_are_told_from_one_another() -> None:
    length = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
    chunked = b"HTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
    found = list(parsed(b"HTTP/1.1 100 Continue\r\n\r\n" + length + chunked + b"HTTP/1.0 400 Bad\r\n\r\nx"))
    assert [answer.status for answer in found] == [100, 200, 404, 400]
    assert [answer.status for answer in parsed(b"<html>")] == [200], "HTTP/0.9"


@pytest.mark.parametrize(("value", "coded"), [(10, b"\x0a"), (127, b"\x7f\x00"), (1337, b"\x7f\xba\x09")])
def test_numbers_are_written_as_hpack_has_them(value: int, coded: bytes) -> None:
    assert number(value) == coded


@pytest.mark.parametrize(("block", "status"), [(b"\x88", 200), (b"\x20\x8c", 400), (b"\x08\x03421", 421)])
def test_the_status_of_http_2_is_read(block: bytes, status: int) -> None:
    assert status_h2(block) == status

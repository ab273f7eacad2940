"""Visitors notice what a person would: a wrong page, a form whose token is gone, a login that was forgotten."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from urllib.parse import parse_qs

import pytest

from tests.load import visitors
from tests.load.client import Report
from tests.load.visitors import Visit, Visitors

Page = tuple[int, list[str], str]  # status, headers, body

TOKEN = 'name="csrf" value="([^"]+)"'
VISITS: list[Visit] = [
    {"path": "/", "says": "Posts"},
    {"path": "/login", "finds": {"csrf": TOKEN}},
    {"path": "/login", "form": {"csrf": "{csrf}", "user": "{unique}"}, "status": 302},
    {"path": "/me", "says": "Hello"},
    {"path": "/api", "json": {"title": "{unique}"}, "headers": {"Origin": "http://shop.test"}, "status": 201},
]


class Shop:
    """An app with a login; its answers in `broken` are others."""

    def __init__(self, broken: dict[str, Page] | None = None) -> None:
        self.broken = broken or {}
        self.asked: list[str] = []
        self.users: dict[str, str] = {}
        self.tokens: set[str] = set()

    def answer(self, path: str, headers: dict[str, str], body: str) -> Page:
        self.asked.append(f"POST {path}" if body else path)
        if self.asked[-1] in self.broken:
            return self.broken[self.asked[-1]]
        if body and path == "/login":
            return self.login(parse_qs(body))
        if path == "/login":
            token = secrets.token_hex(4)
            self.tokens.add(token)
            return 200, [], f'<input name="csrf" value="{token}">'
        if path == "/me":
            cookies = dict(pair.split("=") for pair in headers.get("cookie", "").split("; ") if pair)
            known = cookies.get("remember") == "yes" and cookies.get("session") in self.users
            return (200, [], "Hello") if known else (401, [], "who are you?")
        if path == "/api":
            return (201 if headers.get("origin") and headers["content-type"] == "application/json" else 400), [], "{}"
        return 200, [], "Posts"

    def login(self, form: dict[str, list[str]]) -> Page:
        if form["csrf"][0] not in self.tokens:
            return 400, [], "The CSRF token is missing."
        session = secrets.token_hex(4)
        self.users[session] = form["user"][0]
        return 302, [f"Set-Cookie: session={session}; HttpOnly; Path=/", "Set-Cookie: remember=yes"], ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
                headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
                body = (await reader.readexactly(int(headers.get("content-length", "0")))).decode()
                status, more, text = self.answer(head[0].split()[1], headers, body)
                lines = [f"HTTP/1.1 {status} said", *more, f"Content-Length: {len(text)}", "", text]
                writer.write("\r\n".join(lines).encode())
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


class Slow(Shop):
    """A job that is done when it was asked for the third time; or never."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times = times

    def answer(self, path: str, headers: dict[str, str], body: str) -> Page:
        page = super().answer(path, headers, body)
        return page if path != "/job" else (200, [], "done" if self.asked.count("/job") % self.times == 0 else "runs")


def visit(shop: Shop, requests: int, kind: str = "get", visits: Sequence[Visit] = VISITS) -> Report:
    """Return what one visitor met in so many requests."""

    async def scene() -> Report:
        server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        crowd = Visitors(visits, "127.0.0.1", port, rate=0, requests=requests, seconds=10, users={kind: 1})
        crowd.arrival = 0.0
        report = await crowd.run()
        server.close()
        return report

    return asyncio.run(scene())


@pytest.mark.parametrize("kind", ["get", "get-new"])
def test_a_visitor_walks_through_all_visits_again_and_again(kind: str) -> None:
    shop = Shop()
    report = visit(shop, 11, kind)
    assert (report.requests, report.failed, report.failures) == (11, 0, [])
    walk = ["/", "/login", "POST /login", "/me", "POST /api"]
    assert shop.asked == [*walk, *walk, "/"]
    assert len(set(shop.users.values())) == 2  # each walk is another person


@pytest.mark.parametrize(
    ("where", "page", "reason"),
    [
        ("/", (200, [], "maintenance"), "wrong body"),
        ("/", (500, [], "Posts"), "status 500"),
        ("/login", (200, [], "a page without its form"), "wrong body"),
        ("POST /login", (200, [], "wrong password"), "status 200"),
        ("POST /login", (302, ["Set-Cookie: session=forgotten"], ""), "status 401"),
    ],
)
def test_what_a_person_would_notice_is_a_failure_and_the_walk_begins_anew(where: str, page: Page, reason: str) -> None:
    shop = Shop({where: page})
    walk = [*["/", "/login", "POST /login", "/me"]]
    failing = "/me" if reason == "status 401" else where
    report = visit(shop, walk.index(failing) + 2)
    assert report.reasons.get(reason), report.failures
    assert shop.asked[walk.index(failing) + 1] == "/"


def test_the_words_of_a_failure_name_the_page() -> None:
    shop = Shop({"/login": (200, [], "a page without its form")})
    assert "/login has no csrf: 'a page without its form'" in visit(shop, 2).failures[0]


WAITS: list[Visit] = [{"path": "/"}, {"path": "/job", "until": "done"}]


def test_who_waits_for_the_end_of_a_job_asks_until_it_is_there() -> None:
    shop = Slow(3)
    report = visit(shop, 9, visits=WAITS)
    assert (report.requests, report.failed) == (9, 0)
    walk = ["/", "/job", "/job", "/job"]
    assert shop.asked == [*walk, *walk, "/"]


def test_a_job_that_is_never_done_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visitors, "PATIENCE", 0.0)
    shop = Slow(10**9)
    report = visit(shop, 4, visits=WAITS)
    assert report.reasons == {"never done": 1} and "/job does not come to say 'done': 'runs'" in report.failures[0]
    assert shop.asked == ["/", "/job", "/job", "/"]

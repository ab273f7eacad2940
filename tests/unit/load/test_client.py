"""The load client counts each kind of failure: a proof of zero failures is worth what its counter is worth."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.load.client import STATIC, STREAM, Crowd, Load, Report, accept_key, main, md5

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HELLO = b"hello from 7\n"
OK = b"HTTP/1.1 200 OK\r\nX-Release: abc\r\nX-Version: 7\r\nContent-Length: %d\r\n\r\n"
REPOSITORY = Path(__file__).resolve().parents[3]


async def head_of(reader: asyncio.StreamReader) -> tuple[str, dict[str, str]]:
    """Return the path and the headers of the next request; the end of the stream raises."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines[1:] if line)}
    return lines[0].split()[1], headers


async def honest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer everything as the load app does."""
    while True:
        path, headers = await head_of(reader)
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        if path == "/stream":
            writer.write(b"HTTP/1.1 200 OK\r\nX-Release: abc\r\nX-Version: 7\r\nTransfer-Encoding: chunked\r\n\r\n")
            for part in STREAM.splitlines(keepends=True):
                writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            writer.write(b"0\r\n\r\n")
        elif path == "/echo":
            accept = accept_key(headers["sec-websocket-key"].encode()).encode()
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nX-Release: abc\r\nSec-WebSocket-Accept: " + accept)
            writer.write(b"\r\n\r\n")
            await echo(reader, writer, words=1000)
        else:
            answers = {"/": HELLO, "/static/hello.txt": STATIC, "/md5": md5(body)}
            answer = answers.get(path) or (md5(body) if body else b"slow\n")
            writer.write(OK % len(answer) + answer)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, words: int) -> None:
    for _ in range(words):
        start = await reader.readexactly(2)
        mask, payload = await reader.readexactly(4), await reader.readexactly(start[1] & 0x7F)
        said = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        writer.write(bytes([start[0], len(said)]) + said)
        if start[0] == 0x88:
            return


def crowd_against(
    handler: Handler, kind: str = "get", requests: int = 1, timeout: float = 5.0, renews: bool = False
) -> Report:
    """Return what one user of this kind meets at a server that behaves as `handler` does."""

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handler(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def scene() -> Report:
        server = await asyncio.start_server(guarded, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        crowd = Crowd("127.0.0.1", port, rate=0, requests=requests, seconds=10, timeout=timeout, users={kind: 1})
        # who renews has to have heard that a connection was closed
        crowd.between = lambda kind: 0.05 if renews else 0.0  # type: ignore[method-assign]
        crowd.renews, crowd.arrival, crowd.websocket_seconds = renews, 0.0, 0.2
        report = await crowd.run()
        server.close()
        return report

    return asyncio.run(scene())


def answering(*answers: bytes, reset: bool = False) -> Handler:
    """Return a server that sends these answers, one for each request, and then closes or resets the connection."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await head_of(reader)
            writer.write(answer)
            await writer.drain()
        if reset:
            await head_of(reader)
            connection = writer.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return handler


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Refuse an upload in its middle."""
    await head_of(reader)
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def hangs_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Open a websocket, repeat one word and leave without a goodbye."""
    _, headers = await head_of(reader)
    accept = accept_key(headers["sec-websocket-key"].encode()).encode()
    writer.write(b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: %b\r\n\r\n" % accept)
    await echo(reader, writer, words=1)


FAILURES: dict[str, tuple[str, Handler, str, int]] = {
    "an error": ("status 502", answering(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno\n"), "get", 1),
    "a redirect": ("status 302", answering(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "get", 1),
    "a closed connection": ("closed", answering(b""), "get", 1),
    "a closed connection that was kept open": ("closed, reused connection", answering(OK % 13 + HELLO), "get", 2),
    "a reset": ("reset", answering(reset=True), "get", 1),
    "a reset of a connection kept open": ("reset, reused connection", answering(OK % 13 + HELLO, reset=True), "get", 2),
    "a short status line": ("short", answering(b"HTTP/1.1 20"), "get", 1),
    "short headers": ("short", answering(b"HTTP/1.1 200 OK\r\nX-Rel"), "get", 1),
    "a short body": ("short", answering(OK % 20 + HELLO), "get", 1),
    "a short chunked body": (
        "short",
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\npart \r\n"),
        "stream",
        1,
    ),
    "a stream that ends early and well": (
        "wrong body",
        answering(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\npart \r\n0\r\n\r\n"),
        "stream",
        1,
    ),
    "the body of another version": ("wrong body", answering(OK % 13 + b"hello from 6\n"), "get-new", 1),
    "an upload that arrived damaged": ("wrong body", answering(OK % 33 + md5(b"something else")), "post", 1),
    "an upload cut in its pause": ("reset", deaf, "upload-paused", 1),
    "a static file of another content": ("wrong body", answering(OK % 13 + HELLO), "static", 1),
    "no answer in time": ("timeout", silent, "get", 1),
    "what is no HTTP": ("malformed", answering(b"220 smtp.example.com ESMTP\r\n\r\n"), "get", 1),
    "an answer without a length": ("malformed", answering(b"HTTP/1.1 200 OK\r\n\r\n" + HELLO), "get", 1),
    "a websocket cut": ("short", hangs_up, "websocket", 1),
    "a websocket refused": ("status 200", answering(OK % 13 + HELLO), "websocket", 1),
}


@pytest.mark.parametrize("name", FAILURES)
def test_one_failure_is_counted_for(name: str) -> None:
    reason, handler, kind, requests = FAILURES[name]
    report = crowd_against(handler, kind, requests, timeout=0.6 if handler is silent else 10)
    assert report.reasons == {reason: 1}, report.failures
    assert (report.requests, report.failed, report.kinds[kind].failed) == (requests, 1, 1)
    assert reason in report.failures[0] and kind in report.failures[0]


def test_a_refused_connection_is_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    report = asyncio.run(Crowd("127.0.0.1", port, requests=2, rate=0, users={"get": 1}).run())
    assert report.reasons == {"refused": 2}


@pytest.mark.parametrize(
    "kind", ["get", "get-new", "post", "post-idle", "upload-paused", "stream", "static", "websocket"]
)
def test_an_honest_server_has_no_failure(kind: str) -> None:
    report = crowd_against(honest, kind, requests=2)
    assert (report.requests, report.failed, report.failures) == (2, 0, [])


@pytest.mark.parametrize("kind", ["get-slow", "post-slow"])
def test_slow_requests_are_checked_too(kind: str) -> None:
    assert crowd_against(honest, kind).failed == 0
    assert crowd_against(answering(OK % 13 + HELLO), kind).reasons == {"wrong body": 1}


def test_an_announced_close_is_no_failure() -> None:
    bye = OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n") % 13 + HELLO
    report = crowd_against(answering(bye), requests=3)
    assert (report.requests, report.failed) == (3, 0)


def test_who_renews_opens_another_connection_for_one_that_was_closed_between_two_requests() -> None:
    report = crowd_against(answering(OK % 13 + HELLO), requests=4, renews=True)
    assert (report.requests, report.failed) == (4, 0)
    assert crowd_against(answering(b""), requests=2, renews=True).reasons == {"closed": 2}, "and no more than that"


def test_the_report_names_releases_and_versions_and_the_slowest() -> None:
    async def slow_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head_of(reader)
        await asyncio.sleep(0.3)
        writer.write(OK % 13 + HELLO)
        await honest(reader, writer)

    report = crowd_against(slow_once, requests=20)
    assert report.releases["abc"].answers == 20
    assert report.versions == {"7"}
    assert report.slowest >= 0.3 and report.slowest_is.startswith("get at ")
    assert 1 <= report.over < 20 and report.median < report.slowest, "one is slow, or some more on a busy machine"
    assert Report.from_json(report.as_json()) == report


def test_the_command_ends_after_so_many_requests_and_says_that_some_failed(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    options = ["127.0.0.1", "--port", str(port), "--requests", "3", "--rate", "0", "--users", "get=1"]
    assert main(options) == 1
    assert " s, 3 failed, " in capsys.readouterr().out


def test_the_load_in_its_own_process_answers_while_it_runs_and_stops() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    with Load("127.0.0.1", "--port", str(port), "--users", "get=2", "--seconds", "20") as load:
        first = load.report()
        while load.report().requests < 3:
            time.sleep(0.05)
        last = load.stop()
    assert first.requests <= last.requests and last.requests == last.failed > 0


def test_the_static_file_is_what_the_client_expects() -> None:
    assert (REPOSITORY / "tests/load/app/static/hello.txt").read_bytes() == STATIC


def test_the_client_needs_no_package() -> None:
    text = (REPOSITORY / "tests/load/client.py").read_text()
    imported = {line.split()[1].split(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported <= sys.stdlib_module_names

"""Users of the load app, and an honest count of what went wrong for them.

Each user is one coroutine that sends one request after the other; nothing is ever sent twice. A request counts as
failed when the answer is not 2xx, is short, is not what was asked for, does not come in time, or when the connection
is refused, reset or closed before the whole answer was there, also on a connection that was kept open: no browser
repeats a POST.

Standard library only and one file, so that it also runs on a test host: `python3 client.py 127.0.0.1 --seconds 10`.
From a test: `load = Load("172.17.0.2"); load.start(); ...; report = load.stop()`. The users run in a process of their
own, or a busy test would make the answers look slow.
"""

from __future__ import annotations

import argparse
import array
import asyncio
import base64
import dataclasses
import functools
import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Part = bytes | float  # of an upload: bytes to send, or seconds to wait before the next

SHORT = ("get", "get-new", "post", "static")  # sent at `rate`; their slowest is what a user would call a hang
TIMED = (*SHORT, "post-idle")
# How many users of each kind. The long ones are there so that every release meets some of each in flight.
USERS = {
    "get": 3,
    "get-new": 2,
    "post": 2,
    "static": 1,
    "post-idle": 2,
    "upload-paused": 2,
    "get-slow": 3,
    "post-slow": 2,
    "stream": 2,
    "websocket": 1,
}
STATIC_PATH = "/static/hello.txt"
STATIC = b"a static file of the load app\n" * 100
STREAM = b"".join(b"part %d of 30\n" % number for number in range(30))
KEPT_FAILURES = 200
WEBSOCKET_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Failed(Exception):
    """What a user would have noticed: one word that can be counted, and the details."""

    def __init__(self, what: str, detail: str = "", answer: Answer | None = None) -> None:
        super().__init__(f"{what}: {detail}")
        self.what, self.detail, self.answer = what, detail, answer


@dataclasses.dataclass(frozen=True)
class Answer:
    """One complete HTTP answer; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"


@dataclasses.dataclass
class Release:
    """What one value of X-Release answered."""

    answers: int = 0
    versions: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Kind:
    """The requests of one kind; `slowest` in seconds."""

    requests: int = 0
    failed: int = 0
    slowest: float = 0.0


@dataclasses.dataclass
class Report:
    """What the users met. Times of day are seconds since the epoch, durations are seconds."""

    target: str
    seconds: float = 0.0
    requests: int = 0
    failed: int = 0
    slowest: float = 0.0  # of the short requests
    slowest_is: str = ""  # which one that was, when, and who answered it
    recent: float = 0.0  # the slowest short request since the report before this one, and what it was
    recent_is: str = ""
    median: float = 0.0
    percentile_99: float = 0.0
    over: int = 0  # short requests slower than 250 ms
    stall: float = 0.0  # the longest that the machine kept the client, and a process it asks, waiting for a processor
    kinds: dict[str, Kind] = dataclasses.field(default_factory=dict)
    releases: dict[str, Release] = dataclasses.field(default_factory=dict)
    reasons: dict[str, int] = dataclasses.field(default_factory=dict)
    failures: list[str] = dataclasses.field(default_factory=list)

    @classmethod
    def from_json(cls, text: str | bytes) -> Report:
        data = json.loads(text)
        data["kinds"] = {name: Kind(**kind) for name, kind in data["kinds"].items()}
        data["releases"] = {name: Release(**release) for name, release in data["releases"].items()}
        return cls(**data)

    def as_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @property
    def versions(self) -> set[str]:
        """Every version of the app that answered, whatever the release."""
        return {version for release in self.releases.values() for version in release.versions}

    def __str__(self) -> str:
        lines = [
            f"{self.target}: {self.requests} requests in {self.seconds:.0f} s, {self.failed} failed, slowest short one"
            f" {self.slowest:.3f} s ({self.slowest_is}), median {self.median:.3f} s, 99 % within"
            f" {self.percentile_99:.3f} s, {self.over} over 0.25 s; {len(self.releases)} releases answered; the client"
            f" itself waited up to {self.stall:.3f} s for a processor"
        ]
        lines += [
            f"  {name}: {kind.requests} requests, {kind.failed} failed, slowest {kind.slowest:.3f} s"
            for name, kind in self.kinds.items()
        ]
        return "\n".join(lines + [f"  failed: {failure}" for failure in self.failures])


class Connection:
    """One connection to the server, kept open while the server does."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self.reader, self.writer, self.host = reader, writer, host
        self.used = False

    @classmethod
    async def open(cls, address: str, port: int, host: str) -> Connection:
        try:
            return cls(*await asyncio.open_connection(address, port), host)
        except ConnectionRefusedError as error:
            raise Failed("refused", str(error)) from None
        except OSError as error:
            raise Failed("not connected", str(error)) from None

    def close(self) -> None:
        self.writer.close()

    async def request(self, method: str, path: str, parts: Sequence[Part] = (), headers: str = "") -> Answer:
        """Send one request and read its answer to the last byte; Failed when anything is missing or strange."""
        used, self.used = self.used, True
        length = sum(len(part) for part in parts if isinstance(part, bytes))
        head = f"{method} {path} HTTP/1.1\r\nHost: {self.host}\r\n{headers}"
        head += f"Content-Length: {length}\r\n\r\n" if method == "POST" else "\r\n"
        try:
            self.writer.write(head.encode())
            for part in parts:
                if isinstance(part, float):
                    await self.writer.drain()
                    await asyncio.sleep(part)
                else:
                    self.writer.write(part)
            await self.writer.drain()
            return await self.answer(used)
        except ConnectionError as error:
            raise Failed("reset, reused connection" if used else "reset", str(error)) from None
        except asyncio.IncompleteReadError as error:
            raise Failed("short", f"{len(error.partial)} of {error.expected or 'more'} bytes, then the end") from None
        except (ValueError, asyncio.LimitOverrunError) as error:
            raise Failed("malformed", f"{type(error).__name__}: {error}") from None

    async def answer(self, used: bool) -> Answer:
        first = await self.reader.readline()
        if not first:
            raise Failed("closed, reused connection" if used else "closed", "end of the stream instead of an answer")
        if not first.endswith(b"\n"):
            raise Failed("short", f"the answer ends inside its first line: {first!r}")
        version, status = first.split()[:2]
        if version not in (b"HTTP/1.1", b"HTTP/1.0"):
            raise ValueError(f"{first!r} is no status line")
        headers = await self.headers()
        if status == b"101":
            return Answer(101, headers, b"")
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return Answer(int(status), headers, await self.chunks())
        if "content-length" in headers:
            return Answer(int(status), headers, await self.reader.readexactly(int(headers["content-length"])))
        if headers.get("connection", "").lower() == "close":
            return Answer(int(status), headers, await self.reader.read())
        raise ValueError("an answer without a length on a connection that stays open")

    async def headers(self) -> dict[str, str]:
        found: dict[str, str] = {}
        while line := (await self.reader.readuntil(b"\n")).strip():
            name, colon, value = line.partition(b":")
            if not colon:
                raise ValueError(f"{line!r} is no header")
            key, text = name.decode("latin-1").lower(), value.strip().decode("latin-1")
            found[key] = f"{found[key]}\n{text}" if key == "set-cookie" and key in found else text
        return found

    async def chunks(self) -> bytes:
        body = b""
        while size := int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await self.reader.readexactly(size + 2))[:-2]
        await self.headers()  # trailers
        return body


class Crowd:
    """All users of one target, and what they met."""

    arrival = 0.5  # seconds within which the users come: nobody arrives in step with the others
    websocket_seconds = 4.0  # how long a websocket is kept open
    renews = False  # whether it sees that a kept connection was closed between two requests, as browsers do

    def __init__(
        self,
        address: str,
        port: int = 80,
        host: str = "localhost",
        rate: float = 40.0,
        seconds: float = 3600.0,
        requests: int = 10_000_000,
        timeout: float = 30.0,
        users: dict[str, int] | None = None,
    ) -> None:
        """`rate` is of short requests a second, all users together, 0 for as fast as they come; times in seconds."""
        self.address, self.port, self.host = address, port, host
        self.rate, self.most_seconds, self.most_requests, self.timeout = rate, seconds, requests, timeout
        self.users = USERS if users is None else users
        self.report = Report(f"{address}:{port}")
        self.times = array.array("d")
        self.stopping = asyncio.Event()
        self.began = time.monotonic()

    async def run(self) -> Report:
        """Let everybody in until stop(), the most seconds or the most requests; requests in flight are finished."""
        self.began = time.monotonic()
        crowd = [asyncio.create_task(self.user(kind)) for kind, count in self.users.items() for _ in range(count)]
        clocks = [asyncio.create_task(self.clock()), asyncio.create_task(self.watch_the_machine())]
        await asyncio.gather(*crowd)
        for clock in clocks:
            clock.cancel()
        await asyncio.gather(*clocks, return_exceptions=True)
        return self.so_far()

    async def clock(self) -> None:
        await asyncio.sleep(self.most_seconds)
        self.stopping.set()

    async def watch_the_machine(self) -> None:
        """Pass a byte to another process and back again and again: what that takes is no server's fault.

        It is part of each slow answer: that goes through more processes, which wait for a processor as these two do.
        """
        pipe = asyncio.subprocess.PIPE
        echo = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
        assert echo.stdin and echo.stdout
        try:
            while True:
                began = time.monotonic()
                echo.stdin.write(b".")
                await echo.stdout.readexactly(1)
                await asyncio.sleep(0.02)
                self.report.stall = max(self.report.stall, time.monotonic() - began - 0.02)
        finally:
            echo.kill()
            await echo.wait()

    def stop(self) -> None:
        self.stopping.set()

    def so_far(self) -> Report:
        """The report as it stands."""
        ordered = sorted(self.times)
        self.report.seconds = time.monotonic() - self.began
        if ordered:
            self.report.median = ordered[len(ordered) // 2]
            self.report.percentile_99 = ordered[len(ordered) * 99 // 100]
        return self.report

    async def pause(self, seconds: float) -> None:
        """Wait, but no longer than the load lasts."""
        if seconds > 0 and not self.stopping.is_set():
            try:
                await asyncio.wait_for(self.stopping.wait(), seconds)
            except TimeoutError:
                return

    def between(self, kind: str) -> float:
        """Seconds that a user of this kind thinks before its next request."""
        if kind == "post-idle":
            return random.uniform(1.0, 3.0)
        if kind in SHORT and self.rate:
            return random.uniform(0, 2) * sum(self.users.get(name, 0) for name in SHORT) / self.rate
        return 0.0 if kind in SHORT else random.uniform(0.1, 0.5)

    def begin(self, kind: str) -> Callable[[Connection], Awaitable[Answer]]:
        """A user comes: what it does each time it is its turn."""
        return functools.partial(self.once, kind)

    async def user(self, kind: str) -> None:
        once, connection = self.begin(kind), None
        tally = self.report.kinds.setdefault(kind, Kind())
        await self.pause(random.uniform(0, self.arrival))
        while not self.stopping.is_set():
            await self.pause(self.between(kind))
            if self.stopping.is_set():
                break
            began, answer, failure = time.monotonic(), None, None
            if connection and self.renews and connection.reader.at_eof():
                connection.close()
                connection = None
            try:
                if connection is None:
                    connection = await asyncio.wait_for(
                        Connection.open(self.address, self.port, self.host), self.timeout
                    )
                answer = await asyncio.wait_for(once(connection), self.timeout)
            except Failed as error:
                failure, answer = error, error.answer
            except TimeoutError:
                failure = Failed("timeout", f"no complete answer in {self.timeout:g} s")
            took = time.monotonic() - began
            self.count(kind, tally, took, answer, failure)
            if connection and (failure or kind in ("get-new", "websocket") or answer is None or answer.closes):
                connection.close()
                connection = None
            if failure:
                await self.pause(0.1)  # a refusal comes at once: an outage must not look larger than it is
        if connection:
            connection.close()

    def count(self, kind: str, tally: Kind, took: float, answer: Answer | None, failure: Failed | None) -> None:
        report = self.report
        report.requests += 1
        tally.requests += 1
        tally.slowest = max(tally.slowest, took)
        release = answer.headers.get("x-release", "") if answer else ""
        if release and answer:
            seen = report.releases.setdefault(release, Release())
            seen.answers += 1
            version = answer.headers.get("x-version", "")
            if version not in seen.versions:
                seen.versions.append(version)
        now = time.strftime("%H:%M:%S", time.gmtime())
        if failure:
            report.failed += 1
            tally.failed += 1
            report.reasons[failure.what] = report.reasons.get(failure.what, 0) + 1
            if len(report.failures) < KEPT_FAILURES:
                by = f", release {release}" if release else ""
                report.failures.append(f"{now} {kind} after {took:.3f} s{by}: {failure.what}: {failure.detail}")
        elif kind in TIMED:
            self.times.append(took)
            report.over += took > 0.25
            if took > report.recent:
                report.recent, report.recent_is = took, f"{kind} at {now}, release {release or 'nginx'}"
            if took > report.slowest:
                report.slowest, report.slowest_is = report.recent, report.recent_is
        if report.requests >= self.most_requests:
            self.stopping.set()

    async def once(self, kind: str, connection: Connection) -> Answer:
        """One request of a user, its answer looked at."""
        wanted: bytes | None = None
        if kind in ("get", "get-new"):
            answer = await connection.request("GET", "/")
            wanted = b"hello from %s\n" % answer.headers.get("x-version", "nobody").encode()
        elif kind in ("post", "post-idle"):
            body = os.urandom(random.randint(1, 60_000))
            answer, wanted = await connection.request("POST", "/md5", [body]), md5(body)
        elif kind == "upload-paused":
            first, second = (os.urandom(random.randint(1, 60_000)) for _ in range(2))
            answer, wanted = await connection.request("POST", "/md5", [first, 1.0, second]), md5(first + second)
        elif kind == "get-slow":
            answer, wanted = await connection.request("GET", f"/slow?seconds={random.uniform(2, 5):.2f}"), b"slow\n"
        elif kind == "post-slow":
            body = os.urandom(random.randint(1, 60_000))
            path = f"/slow?seconds={random.uniform(2, 5):.2f}"
            answer, wanted = await connection.request("POST", path, [body]), md5(body)
        elif kind == "stream":
            answer, wanted = await connection.request("GET", "/stream"), STREAM
        elif kind == "static":
            answer, wanted = await connection.request("GET", STATIC_PATH), STATIC
        elif kind == "websocket":
            return await self.websocket(connection)
        else:
            raise AssertionError(f"no such kind of user: {kind}")
        if not 200 <= answer.status < 300:
            raise Failed(f"status {answer.status}", repr(answer.body[:200]), answer)
        if answer.body != wanted:
            raise Failed("wrong body", f"{answer.body[:80]!r} ({len(answer.body)} bytes), not {wanted[:80]!r}", answer)
        return answer

    async def websocket(self, connection: Connection) -> Answer:
        """Open a websocket, send a word every half second and hear it back, then say goodbye."""
        key = base64.b64encode(os.urandom(16))
        headers = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        headers += f"Sec-WebSocket-Key: {key.decode()}\r\n"
        answer = await connection.request("GET", "/echo", headers=headers)
        if answer.status != 101:
            raise Failed(f"status {answer.status}", "instead of 101 for a websocket", answer)
        if answer.headers.get("sec-websocket-accept", "") != accept_key(key):
            raise Failed("wrong body", "the websocket's key does not fit", answer)
        end = time.monotonic() + self.websocket_seconds
        try:
            while time.monotonic() < end and not self.stopping.is_set():
                word = b"word %d" % random.randrange(1000)
                connection.writer.write(frame(word))
                head = await connection.reader.readexactly(2)
                heard = await connection.reader.readexactly(head[1] & 0x7F)
                if head[0] != 0x81 or heard != word:
                    raise Failed("wrong body", f"{heard!r}, not {word!r}", answer)
                await self.pause(0.5)
            connection.writer.write(frame(b"\x03\xe8", opcode=0x8))
            if (await connection.reader.readexactly(4))[0] != 0x88:
                raise Failed("wrong body", "no goodbye from the websocket", answer)
        except ConnectionError as error:
            raise Failed("reset", f"a websocket: {error}", answer) from None
        except asyncio.IncompleteReadError:
            raise Failed("short", "a websocket was closed without a goodbye", answer) from None
        return answer


def md5(body: bytes) -> bytes:
    return hashlib.md5(body).hexdigest().encode() + b"\n"


def accept_key(key: bytes) -> str:
    """What a websocket server answers to the client's key."""
    return base64.b64encode(hashlib.sha1(key + WEBSOCKET_MAGIC).digest()).decode()


def frame(payload: bytes, opcode: int = 0x1) -> bytes:
    """One masked websocket frame of less than 126 bytes."""
    mask = os.urandom(4)
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes([0x80 | opcode, 0x80 | len(payload)]) + mask + masked


class Load:
    """A crowd in a process of its own. start() returns once it sends; report() and stop() say what it met."""

    def __init__(
        self, address: str, *options: str, command: Sequence[str] = (sys.executable, os.path.abspath(__file__))
    ) -> None:
        """`options` as on the command line; `command` runs this file, here or inside a test host."""
        self.argv = [*command, address, "--ask", *options]
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Load:
        self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.report()
        return self

    def report(self) -> Report:
        """The report so far; the load goes on."""
        return self._ask("report")

    def stop(self) -> Report:
        """End the load, its requests in flight included, and return the whole report."""
        report = self._ask("stop")
        assert self.process
        self.process.wait(30)
        return report

    def _ask(self, word: str) -> Report:
        assert self.process and self.process.stdin and self.process.stdout, "start() comes first"
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the load ended by itself, exit code {self.process.wait(30)}")
        return Report.from_json(line)

    def __enter__(self) -> Load:
        return self.start()

    def __exit__(self, *error: object) -> None:
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)


async def answer_questions(crowd: Crowd, running: asyncio.Task[Report]) -> Report:
    """Answer `report` and `stop` on standard input with one line of JSON each, until `stop` or the end of the input."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while (await reader.readline()).strip() == b"report":
        print(crowd.so_far().as_json(), flush=True)
        crowd.report.recent, crowd.report.recent_is = 0.0, ""
    crowd.stop()
    return await running


async def work(options: argparse.Namespace, make: Callable[..., Crowd]) -> Report:
    users = None
    if options.users:
        users = {name: int(count) for name, _, count in (word.partition("=") for word in options.users.split(","))}
    crowd = make(
        options.address,
        options.port,
        options.host,
        options.rate,
        options.seconds,
        options.requests,
        options.timeout,
        users,
    )
    crowd.websocket_seconds = options.websocket_seconds
    crowd.renews = options.renew
    running = asyncio.create_task(crowd.run())
    return await (answer_questions(crowd, running) if options.ask else running)


def main(argv: Sequence[str] | None = None, make: Callable[..., Crowd] = Crowd) -> int:
    """The command line, for a crowd of any kind: exit code 1 when a request failed or none was sent."""
    parser = argparse.ArgumentParser(description="Send requests of many kinds to the load app and count what fails.")
    parser.add_argument("address", help="IP address of the web server")
    parser.add_argument("--port", type=int, default=80)
    parser.add_argument("--host", default="localhost", help="Host header")
    parser.add_argument("--rate", type=float, default=40.0, help="short requests a second, 0: as fast as they come")
    parser.add_argument("--seconds", type=float, default=3600.0, help="end after this time")
    parser.add_argument("--requests", type=int, default=10_000_000, help="end after this many")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds for one whole answer")
    parser.add_argument("--websocket-seconds", type=float, default=Crowd.websocket_seconds, help="length of one")
    parser.add_argument(
        "--renew", action="store_true", help="open another connection for one that was closed between two requests"
    )
    parser.add_argument("--users", default="", help="how many of each kind: get=3,post=2 (default: some of each)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--ask", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    report: Any = asyncio.run(work(options, make))
    print(report.as_json() if options.json or options.ask else report, flush=True)
    return 0 if report.requests and not report.failed else 1


if __name__ == "__main__":
    sys.exit(main())

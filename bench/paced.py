"""Clients that ask at a given pace, whatever the answers do: the open loop of `make bench`. Says JSON.

`paced.py ADDRESS PORT PATH --rate 1500 --clients 64 --seconds 5`. Requests fall due at random (Poisson, the same
moments for each side) and go to a client that is idle; where none is, they wait for one, and that counts: a latency is
from the moment a request was due to the last byte of its answer. A closed loop would ask less of a server that is
slow, and not see the wait. Standard library only: it runs on the machine of the clients.
"""

from __future__ import annotations

import argparse
import collections
import json
import math
import random
import select
import socket
import time

WARM_UP = 1.0  # seconds that are not counted


def due_times(rate: float, seconds: float, seed: int = 1) -> list[float]:
    """When each request is due, in seconds from the start."""
    moments: list[float] = []
    now, source = 0.0, random.Random(seed)  # nosec B311: no secret
    while True:
        now += source.expovariate(rate)
        if now >= seconds:
            return moments
        moments.append(now)


def whole(answer: bytes) -> bool:
    """Whether an answer has come to its end, by its length."""
    head, found, body = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return len(body) >= int(value)
    raise ValueError(f"an answer without a length: {head!r}")


def percentile(values: list[float], percent: float) -> float:
    """The value that so many percent of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


class Client:
    """One connection that is kept, and the request on it."""

    def __init__(self, address: str, port: int) -> None:
        self.where = (address, port)
        self.due = 0.0
        self.answer = b""
        self.connect()

    def connect(self) -> None:
        """Open it."""
        self.socket = socket.create_connection(self.where, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)

    def ask(self, request: bytes, due: float) -> None:
        """Send a request, which is small enough to go at once."""
        self.due, self.answer = due, b""
        self.socket.send(request)

    def read(self) -> str | None:
        """Take what has come: None while the answer is not whole, then what is wrong with it, if anything."""
        try:
            part = self.socket.recv(65536)
        except OSError as error:
            return type(error).__name__
        self.answer += part
        if not part:
            return "closed"
        if not whole(self.answer):
            return None
        return "" if self.answer.startswith(b"HTTP/1.1 200 ") else self.answer[:12].decode("latin-1")


def run(address: str, port: int, path: str, rate: float, clients: int, seconds: float) -> dict[str, object]:
    """Ask for so long; latencies in milliseconds."""
    request = f"GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: bench\r\n\r\n".encode()
    poll = select.epoll()
    by_number = {}
    for client in (Client(address, port) for _ in range(clients)):
        by_number[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    idle = collections.deque(by_number.values())
    moments = collections.deque(due_times(rate, WARM_UP + seconds))
    waiting: collections.deque[float] = collections.deque()
    latencies: list[float] = []
    errors: collections.Counter[str] = collections.Counter()
    began = time.perf_counter()
    while moments or waiting or len(idle) < clients:
        now = time.perf_counter() - began
        if now > WARM_UP + seconds + 10:
            errors["no answer"] += clients - len(idle)
            break
        while moments and moments[0] <= now:
            waiting.append(moments.popleft())
        while waiting and idle:
            idle.popleft().ask(request, waiting.popleft())
        # select counts microseconds, epoll whole milliseconds
        pause = moments[0] - now if moments else 1.0
        if not select.select([poll], [], [], max(0.0, pause))[0]:
            continue
        for number, _ in poll.poll(0):
            client = by_number[number]
            wrong = client.read()
            if wrong is None:
                continue
            if wrong:
                errors[wrong] += 1
                del by_number[number]
                poll.unregister(number)
                client.socket.close()
                client.connect()
                by_number[client.socket.fileno()] = client
                poll.register(client.socket, select.EPOLLIN)
            elif client.due >= WARM_UP:
                latencies.append(1000 * (time.perf_counter() - began - client.due))
            idle.append(client)
    return {
        "requests": len(latencies),
        "errors": sum(errors.values()),
        "wrong": dict(errors),
        **{f"p{percent:g}": round(percentile(latencies, percent), 3) for percent in (50, 99) if latencies},
        "slowest": round(max(latencies, default=0.0), 3),
    }


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("path")
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5)
    given = parser.parse_args()
    print(json.dumps(run(given.address, given.port, given.path, given.rate, given.clients, given.seconds)))


if __name__ == "__main__":
    main()

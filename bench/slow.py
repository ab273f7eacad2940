"""Clients that are slow, and others that ask meanwhile: `slow.py ADDRESS PORT --clients 200 --seconds 6`. Says JSON.

A third sends the header of a request in pieces, a third uploads 64 KB in pieces, a third reads an answer of 1 MB in
pieces, each for so many seconds, and is served at the end. Each request that is not answered with 200 and whole counts
as an error. Standard library only: it runs on the machine of the clients.
"""

from __future__ import annotations

import argparse
import collections
import json
import socket
import threading
import time

PIECES = 20
UPLOAD = b"x" * 65536
LARGE = 1 << 20


class Count:
    """What all clients have met."""

    def __init__(self) -> None:
        self.asked = 0
        self.wrong: collections.Counter[str] = collections.Counter()
        self.lock = threading.Lock()

    def note(self, wrong: str) -> None:
        """Count a request, and what was wrong with it."""
        with self.lock:
            self.asked += 1
            if wrong:
                self.wrong[wrong] += 1


def cut(data: bytes, pieces: int) -> list[bytes]:
    """Data in so many pieces, as long as each other as can be."""
    size = -(-len(data) // pieces)
    return [data[start : start + size] for start in range(0, len(data), size)]


def read(connection: socket.socket, pause: float = 0.0) -> str:
    """Read an answer to its end; what is wrong with it."""
    answer = b""
    while True:
        part = connection.recv(LARGE // PIECES if pause else 65536)
        answer += part
        head, found, body = answer.partition(b"\r\n\r\n")
        length = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if found and length and len(body) >= int(length[0].split(b":")[1]):
            return "" if answer.startswith(b"HTTP/1.1 200") else answer[:12].decode("latin-1")
        if not part:
            return "cut"
        time.sleep(pause)


def one(address: str, port: int, kind: str, seconds: float) -> str:
    """One slow request; what is wrong with its answer."""
    pause = seconds / PIECES
    with socket.create_connection((address, port), timeout=seconds + 30) as connection:
        if kind == "reads":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)
            connection.sendall(f"GET /large HTTP/1.1\r\nHost: {address}\r\n\r\n".encode())
            return read(connection, pause)
        if kind == "uploads":
            head = f"POST /upload HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(UPLOAD)}\r\n\r\n".encode()
            pieces = [head, *cut(UPLOAD, PIECES)]
        else:
            pieces = cut(f"GET / HTTP/1.1\r\nHost: {address}\r\nX-Slow: {'x' * 40}\r\n\r\n".encode(), PIECES)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause)
        return read(connection)


def ask(count: Count, address: str, port: int, kind: str, seconds: float) -> None:
    """Ask once and count it."""
    try:
        wrong = one(address, port, kind, seconds)
    except OSError as error:
        wrong = type(error).__name__
    count.note(f"{kind}: {wrong}" if wrong else "")


def main() -> None:
    """All of them at once, and one after the other that is not slow."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=6)
    given = parser.parse_args()
    slow, others = Count(), Count()
    kinds = ("headers", "uploads", "reads")
    threads = [
        threading.Thread(target=ask, args=(slow, given.address, given.port, kinds[number % 3], given.seconds))
        for number in range(given.clients)
    ]
    for thread in threads:
        thread.start()
    slowest = 0.0
    while any(thread.is_alive() for thread in threads):
        began = time.monotonic()
        ask(others, given.address, given.port, "headers", 0.0)
        slowest = max(slowest, time.monotonic() - began)
        time.sleep(0.05)
    wrong = slow.wrong + others.wrong
    print(
        json.dumps(
            {
                "requests": slow.asked + others.asked,
                "errors": sum(wrong.values()),
                "wrong": dict(wrong),
                "slowest": round(1000 * slowest, 1),
            }
        )
    )


if __name__ == "__main__":
    main()

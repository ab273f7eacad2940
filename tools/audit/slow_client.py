"""Clients that hold connections, and one that asks meanwhile: `slow_client.py NAME PORT CA SECONDS`, says JSON.

Standard library only: it runs on the testers' machine.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import ssl
import sys
import time

EACH = 50


def connected(name: str, port: int, context: ssl.SSLContext) -> socket.socket:
    """A connection on which HTTP can be spoken."""
    plain = socket.create_connection((name, port), timeout=10)
    return context.wrap_socket(plain, server_hostname=name) if port == 443 else plain


def is_open(connection: socket.socket) -> bool:
    """Whether the other end has not closed it; what it says before is read away."""
    try:
        while select.select([connection], [], [], 0)[0]:
            if not connection.recv(4096):
                return False
    except (ssl.SSLWantReadError, BlockingIOError, TimeoutError):
        return True
    except OSError:
        return False
    return True


def ask(name: str, port: int, context: ssl.SSLContext) -> str:
    """One ordinary request; empty where it was answered, else why not. On port 80 it is sent to HTTPS."""
    kinds = {443: lambda: http.client.HTTPSConnection(name, port, timeout=5, context=context)}
    connection = kinds.get(port, lambda: http.client.HTTPConnection(name, port, timeout=5))()
    try:
        connection.request("GET", "/")
        status = connection.getresponse().status
        return "" if status in (200, 308) else f"status {status}"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def main(name: str, port: int, authority: str, seconds: int) -> None:
    """Open all, drip, ask, and count who is still there."""
    context = ssl.create_default_context(cafile=authority)
    head = f"GET / HTTP/1.1\r\nHost: {name}\r\n".encode()
    kinds = {
        "says nothing": [socket.create_connection((name, port), timeout=10) for _ in range(EACH)],
        "half a line": [connected(name, port, context) for _ in range(EACH)],
        "a header every 4 s": [connected(name, port, context) for _ in range(EACH)],
    }
    for connection in kinds["half a line"]:
        connection.sendall(b"GET /items?q=")
    for connection in kinds["a header every 4 s"]:
        connection.sendall(head)
    began, dripped, asked = time.monotonic(), 0, 0
    failed: list[str] = []
    while time.monotonic() - began < seconds:
        wrong = ask(name, port, context)
        asked, failed = asked + (not wrong), failed + ([wrong] if wrong else [])
        if (time.monotonic() - began) // 4 > dripped:
            dripped += 1
            for connection in kinds["a header every 4 s"]:
                try:
                    connection.sendall(b"X-Slow: 1\r\n")
                except OSError:
                    continue
        time.sleep(0.5)
    for connections in kinds.values():
        for connection in connections:
            connection.setblocking(False)
    held = {kind: sum(map(is_open, connections)) for kind, connections in kinds.items()}
    print(json.dumps({"held": held, "clients": 3 * EACH, "asked": asked, "failed": failed[:5]}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))

"""Streams of HTTP/2 that are opened and reset at once, and a client that asks meanwhile: `rapid_reset.py NAME CA`.

Runs on the testers' machine, where h2 is. Says JSON.
"""

from __future__ import annotations

import http.client
import json
import multiprocessing
import socket
import ssl
import sys
import time
from typing import Any

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.exceptions import ProtocolError

SECONDS = 6
RUDE = 2


def reset(name: str, authority: str, until: float, count: Any) -> None:
    """Open connections, and on each streams that are reset before they are answered, as fast as it goes."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["h2"])
    headers = [(":method", "GET"), (":path", "/items?q=pen"), (":scheme", "https"), (":authority", name)]
    while time.monotonic() < until:
        try:
            with context.wrap_socket(socket.create_connection((name, 443), timeout=5), server_hostname=name) as wire:
                state = H2Connection(H2Configuration(client_side=True))
                state.initiate_connection()
                for _ in range(1000):
                    stream = state.get_next_available_stream_id()
                    state.send_headers(stream, headers, end_stream=True)
                    state.reset_stream(stream)
                    wire.sendall(state.data_to_send())
                    with count.get_lock():
                        count.value += 1
                    if time.monotonic() > until:
                        return
        except (OSError, ProtocolError):
            continue  # nginx has closed it: another one


def main(name: str, authority: str) -> None:
    """Rude clients beside one that asks ten times a second."""
    context = ssl.create_default_context(cafile=authority)
    until = time.monotonic() + SECONDS
    # processes of their own: what is measured is nginx, and not how this waits for itself
    count = multiprocessing.Value("i", 0)
    times: list[float] = []
    failed: list[str] = []
    rude = [multiprocessing.Process(target=reset, args=(name, authority, until, count)) for _ in range(RUDE)]
    for process in rude:
        process.start()
    while time.monotonic() < until + 1:
        began = time.monotonic()
        connection = http.client.HTTPSConnection(name, 443, timeout=10, context=context)
        try:
            connection.request("GET", "/")
            status = connection.getresponse().status
            if status != 200:
                failed.append(f"status {status}")
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
        finally:
            connection.close()
        times.append(time.monotonic() - began)
        time.sleep(0.1)
    for process in rude:
        process.join()
    told = {"resets": count.value, "asked": len(times) - len(failed), "failed": failed[:5], "slowest": max(times)}
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])

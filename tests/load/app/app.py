"""What the load client talks to: short, slow and streaming answers, and uploads; each says which version it is."""

from __future__ import annotations

import base64
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from flask import Flask, Response, request

# both show in each answer: a release of code and a release of configuration can be told apart
VERSION = (Path(__file__).parent / "version.txt").read_text("utf-8").strip()
SETTING = os.environ.get("LOAD_SETTING", "")
NAME = f"{VERSION}+{SETTING}" if SETTING else VERSION

app = Flask(__name__)


@app.after_request
def name_the_version(response: Response) -> Response:
    response.headers["X-Version"] = NAME
    return response


@app.get("/")
def hello() -> Response:
    return text(f"hello from {NAME}\n")


@app.post("/md5")
def digest() -> Response:
    return text(hashlib.md5(request.get_data()).hexdigest() + "\n")


@app.route("/slow", methods=["GET", "POST"])
def slow() -> Response:
    body = request.get_data()
    time.sleep(min(float(request.args.get("seconds", "2")), 60))
    return text((hashlib.md5(body).hexdigest() if request.method == "POST" else "slow") + "\n")


@app.get("/stream")
def stream() -> Response:
    seconds = float(request.args.get("seconds", "3"))

    def parts() -> Iterator[str]:
        for number in range(30):
            time.sleep(seconds / 30)
            yield f"part {number} of 30\n"

    return Response(parts(), mimetype="text/plain", headers={"X-Accel-Buffering": "no"})


@app.get("/healthz")
def healthz() -> Response:
    return text("ok\n")


class Upgraded(Response):
    """The answer of a websocket that is over: nothing more may be sent, and this is how Gunicorn is told."""

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        raise StopIteration


@app.route("/echo", websocket=True)
def echo() -> Response:
    """A websocket that repeats what it hears. By hand, so that the app needs nothing but Flask."""
    connection = request.environ["gunicorn.socket"]
    key = request.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key).digest()).decode()
    head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += f"X-Version: {NAME}\r\nX-Release: {os.environ.get('FLASKFLEET_RELEASE', '')}\r\n"
    connection.sendall(f"{head}Sec-WebSocket-Accept: {accept}\r\n\r\n".encode())
    stream = connection.makefile("rb")
    while start := stream.read(2):
        mask, payload = stream.read(4), stream.read(start[1] & 0x7F)
        said = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
        connection.sendall(bytes([start[0], len(said)]) + said)
        if start[0] & 0x0F == 0x8:
            break
    return Upgraded()


def text(words: str) -> Response:
    return Response(words, mimetype="text/plain")

"""What `make bench` adds to the sample app, `files/app/app.py`: the requests that it times."""

from __future__ import annotations

import time

from flask import Flask, Response, jsonify, request

LARGE = b"x" * (1 << 20)


def add(app: Flask) -> None:
    """Add them."""

    @app.get("/json")
    def waits_20_ms() -> Response:
        time.sleep(0.02)
        return jsonify(items=[{"id": number, "name": f"item {number}"} for number in range(10)])

    @app.get("/wait")
    def waits_100_ms() -> str:
        time.sleep(0.1)
        return "done"

    @app.post("/upload")
    def upload() -> str:
        return str(len(request.get_data()))

    @app.get("/large")
    def large() -> Response:
        return Response(LARGE, mimetype="application/octet-stream")

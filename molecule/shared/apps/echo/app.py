"""Tells what reached it: the request as nginx passed it on, the environment and the credentials. For tests only."""

from __future__ import annotations

import base64
import os
from pathlib import Path

from flask import Flask, Response, jsonify, request, url_for
from werkzeug.middleware.proxy_fix import ProxyFix

PREFIX = os.environ.get("ROUTES_BELOW", "")  # for routes that carry the path themselves

app = Flask(__name__)
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=int(os.environ.get("PROXIES", "1")), x_proto=1)  # type: ignore[method-assign]


@app.get(f"{PREFIX}/")
def index() -> Response:
    return jsonify(
        remote=request.remote_addr,
        scheme=request.scheme,
        url=request.url,
        script_name=request.environ["SCRIPT_NAME"],
        url_for_page=url_for("page"),
        headers={name: value for name, value in request.environ.items() if name.startswith("HTTP_")},
    )


@app.get(f"{PREFIX}/page")
def page() -> str:
    return "A page"


@app.get(f"{PREFIX}/given")
def given() -> Response:
    """Return environment and credentials, base64 of each value, for JSON has no bytes."""
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    files = Path(directory).iterdir() if directory else []
    return jsonify(
        environment={os.fsdecode(name): encoded(value) for name, value in os.environb.items()},
        credentials={path.name: encoded(path.read_bytes()) for path in files},
    )


def encoded(value: bytes) -> str:
    return base64.b64encode(value).decode()

"""The sample app: two pages, and of how it is served only this: who asks is in what nginx says of the client."""

from __future__ import annotations

from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

app = Flask(__name__)
# one for nginx, and one more for each load balancer before it: docs/security.md
app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]


@app.get("/")
def hello() -> str:
    return "Hello Flask!"


@app.get("/admin/")
def admin() -> str:
    return "Hello Flask Admin!"

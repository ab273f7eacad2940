"""The sample app: two pages, and nothing about how or where it is served."""

from __future__ import annotations

from flask import Flask

app = Flask(__name__)


@app.get("/")
def hello() -> str:
    return "Hello Flask!"


@app.get("/admin/")
def admin() -> str:
    return "Hello Flask Admin!"

"""A factory in a package: what `flask --app flaskr` calls, and where `importlib.metadata` finds it. For tests only."""

from __future__ import annotations

from importlib.metadata import version

from flask import Flask, url_for


def create_app() -> Flask:
    app = Flask(__name__)

    @app.get("/")
    def index() -> str:
        return f"flaskr {version('flaskr')} {url_for('static', filename='style.css')}"

    return app

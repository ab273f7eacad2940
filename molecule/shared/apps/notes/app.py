"""As the first pages of Flask's own tutorial have it: SQLite in the instance folder, written to by each request."""

import os
import sqlite3

from flask import Flask


def create_app() -> Flask:
    app = Flask(__name__, instance_relative_config=True)
    os.makedirs(app.instance_path, exist_ok=True)
    database = os.path.join(app.instance_path, "app.sqlite")

    @app.get("/")
    def index() -> str:
        with sqlite3.connect(database, timeout=20) as connection:
            connection.execute("create table if not exists visit (id integer primary key)")
            connection.execute("insert into visit default values")
            (count,) = connection.execute("select count(*) from visit").fetchone()
        return f"{count} visits"

    return app

"""The example of Flask-SocketIO's documentation. For tests only."""

import os

from flask import Flask, session
from flask_socketio import SocketIO, emit

app = Flask(__name__)
app.config["SECRET_KEY"] = os.environ["SECRET_KEY"]
socketio = SocketIO(app)


@app.get("/")
def index() -> str:
    return f"<h1>Flask-SocketIO Test</h1><p>Async mode is: <b>{socketio.async_mode}</b></p>"


@socketio.event
def my_event(message: dict[str, object]) -> None:
    session["receive_count"] = session.get("receive_count", 0) + 1
    emit("my_response", {"data": message["data"], "count": session["receive_count"]})

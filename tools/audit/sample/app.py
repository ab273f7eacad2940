"""A small API that says what it is, for testers that read that: some routes, some inputs, nothing else."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask, request

app = Flask(__name__)
ITEMS: dict[int, str] = {1: "a pen", 2: "a sheet of paper"}
ITEM = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 80}}}
NUMBER = {"name": "number", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 0}}
SEARCH = {"name": "q", "in": "query", "schema": {"type": "string"}}
BODY = {"required": True, "content": {"application/json": {"schema": ITEM}}}


def answers(*codes: int) -> dict[str, Any]:
    return {"responses": {str(code): {"description": "as HTTP has it"} for code in codes}}


@app.get("/openapi.json")
def description() -> dict[str, Any]:
    return {
        "openapi": "3.0.3",
        "info": {"title": "Items", "version": "1"},
        "paths": {
            "/": {"get": answers(200)},
            "/items": {
                "get": {"parameters": [SEARCH], **answers(200)},
                "post": {"requestBody": BODY, **answers(201, 400, 413, 415)},
            },
            "/items/{number}": {
                "get": {"parameters": [NUMBER], **answers(200, 404)},
                "delete": {"parameters": [NUMBER], **answers(204, 404)},
            },
        },
    }


@app.get("/")
def index() -> str:
    return '<!doctype html><title>Items</title><a href="/items?q=pen">pens</a> <a href="/static/">files</a>'


@app.get("/echo/")
def echo() -> dict[str, Any]:
    """Say what reached the app, for tools/audit_corpus.py; nothing leads here."""
    told = {name: value for name, value in request.environ.items() if name.startswith("HTTP_")}
    return {"headers": told, "remote": request.remote_addr, "scheme": request.scheme, "url": request.url}


@app.get("/items")
def search() -> dict[str, Any]:
    wanted = request.args.get("q", "")
    return {"items": [name for name in ITEMS.values() if re.search(re.escape(wanted), name)]}


@app.post("/items")
def add() -> Any:
    given = request.get_json()
    name = given.get("name") if isinstance(given, dict) else None
    if not isinstance(name, str) or len(name) > 80:
        return {"error": "a name of at most 80 characters is needed"}, 400
    return {"number": 3, "name": name}, 201


@app.get("/items/<int:number>")
def item(number: int) -> Any:
    return {"name": ITEMS[number]} if number in ITEMS else ({"error": "no such item"}, 404)


@app.delete("/items/<int:number>")
def remove(number: int) -> Any:
    return ("", 204) if number in ITEMS else ({"error": "no such item"}, 404)

"""How a release is served, by its gunicorn.conf.py, and which packages do not go with that. Pure functions."""

from __future__ import annotations

import ast
import contextlib
import re
from collections.abc import Mapping
from typing import NamedTuple

# the first Gunicorn that changes no user and no owner where that is the same, which the sandbox forbids
OLDEST_GUNICORN = "21.2"
SETTINGS = "flask_gunicorn_nginx_settings"
THREADS = f"set {SETTINGS}: {{worker_class: gthread}}"

# drivers that wait in C: by their names what else there is than threads
DRIVERS = {
    "psycopg2": "add psycogreen to the requirements (the release uses it then), change to psycopg 3",
    "psycopg2-binary": "add psycogreen to the requirements (the release uses it then), change to psycopg 3",
    "mysqlclient": "change to PyMySQL",
    "mariadb": "change to PyMySQL",
    "mysql-connector-python": "use it with use_pure=True, change to PyMySQL",
    "cx-oracle": "change to oracledb",
    "pyodbc": "",
    "pymssql": "",
    "ibm-db": "",
    "fdb": "",
    "firebird-driver": "",
    "pylibmc": "change to pymemcache",
}
SCHEDULERS = ("apscheduler", "flask-apscheduler")
SCHEDULERS = ("apscheduler", "flask-apscheduler")
SOCKET_IO = ("flask-socketio", "python-socketio", "python-engineio")


class Server(NamedTuple):
    """What Gunicorn is told."""

    worker_class: str = "sync"
    workers: int | None = None  # None: by the number of processors, two at least
    graceful_timeout: int = 30
    threads: int | None = None  # None: as its class has them

    @property
    def gevent(self) -> bool:
        return "gevent" in self.worker_class


def server_of(gunicorn_conf: str) -> Server:
    """Read it as far as it is written out. Whoever wrote the text, nothing of it runs here."""
    found: dict[str, object] = {}
    with contextlib.suppress(SyntaxError, ValueError):
        for node in ast.parse(gunicorn_conf).body:
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                value = node.value.value if isinstance(node.value, ast.Constant) else None
                found[node.targets[0].id] = value
    numbers = {name: value for name, value in found.items() if isinstance(value, int)}
    return Server(
        str(found.get("worker_class") or "sync"),
        numbers.get("workers"),
        numbers.get("graceful_timeout", Server().graceful_timeout),
        numbers.get("threads"),
    )


def needs(server: Server) -> frozenset[str]:
    """Return the packages without which it cannot start; the worker of gevent asks `packaging` for the version."""
    return frozenset({"gunicorn", *(("gevent", "packaging") if server.gevent else ())})


def older(version: str, than: str) -> bool:
    """Tell whether a version is older, by its numbers."""
    one, other = (
        [int(number) for number in re.findall(r"\d+", re.sub(r"(\.0)+$", "", text))] for text in (version, than)
    )
    return one < other


def unfit(server: Server, packages: Mapping[str, str], oldest_gevent: str) -> tuple[str, str]:
    """Return what cannot serve and the remedy; two empty words when all is well."""
    gunicorn, gevent = packages.get("gunicorn"), packages.get("gevent")
    out = "or take it out of the requirements: the role brings its own"
    if gunicorn and older(gunicorn, OLDEST_GUNICORN):
        what = f"gunicorn {gunicorn} is too old: it changes its user at each start, which the sandbox forbids"
        return what, f"gunicorn>={OLDEST_GUNICORN} in the requirements, {out}"
    if server.gevent and gevent and older(gevent, oldest_gevent):
        what = f"gevent {gevent} is too old for gunicorn {gunicorn}, which wants {oldest_gevent} or later"
        return what, f"gevent>={oldest_gevent} in the requirements, {out}, or {THREADS}"
    return "", ""


def cautions(server: Server, packages: Mapping[str, str]) -> list[str]:
    """Return what will serve, and not well: a sentence each, with the remedy."""
    found = []
    for name in DRIVERS if server.gevent else ():
        if name in packages and not (name.startswith("psycopg2") and "psycogreen" in packages):
            instead = ", or ".join(filter(None, [DRIVERS[name], THREADS]))
            found.append(
                f"{name} {packages[name]} waits where gevent cannot see it: one slow query stops all other requests of"
                f" its worker. Remedy: {instead}"
            )
    for name in [name for name in SOCKET_IO if name in packages and server.workers != 1][:1]:
        found.append(
            f"{name} {packages[name]} and more than one worker: a client that polls comes to another one with its next"
            f" request, which answers 400. Remedy: set {SETTINGS}: {{workers: 1}}, or have all clients connect with"
            " transports: ['websocket'] and give the server a message_queue"
        )
    for name in [name for name in SCHEDULERS if name in packages and server.workers != 1][:1]:
        found.append(
            f"{name} {packages[name]} and more than one worker: where the app starts it, each worker runs each job."
            " Remedy: a process of its own that starts it, or one with a schedule for each job"
            " (flask_gunicorn_nginx_processes)"
        )
    return found

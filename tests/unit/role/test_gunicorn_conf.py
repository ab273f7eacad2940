"""gunicorn.conf.py: its text, and its gate for real, with the sockets that systemd would hand over."""

from __future__ import annotations

import array
import concurrent.futures
import contextlib
import functools
import http.client
import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest

from tests.rendering import SCENARIOS, render

NUMBERS = itertools.count()

APP = """
import os, time
from flask import Flask, request, url_for
app = Flask(__name__)

@app.get("/")
def index():
    return "Hello!"

@app.get("/where")
def where():
    return url_for("index") + " " + request.environ["SCRIPT_NAME"]

@app.get("/client")
def client():
    return request.environ["REMOTE_ADDR"] + " " + request.scheme

@app.get("/asked")
def asked():
    return open("asked").read()

@app.get("/healthz")
def health():
    time.sleep(0.3)
    with open("asked", "a") as file:
        file.write(f"{os.getpid()} {request.host} {request.scheme} {request.user_agent}\\n")
    return "fit"

@app.get("/broken")
def broken():
    raise ValueError("broken")

def create_app(greeting="made"):
    made = Flask("made")
    made.add_url_rule("/", view_func=lambda: greeting, endpoint="index")
    return made
"""

# holds what it takes from ssl as requests and urllib3 do: of before gevent's patch, it ends in a RecursionError
EARLY = """
import os, ssl, time
from ssl import SSLContext

inside, most = [], [0]

def app(environ, start_response):
    if environ["PATH_INFO"] == "/tls":
        SSLContext(ssl.PROTOCOL_TLS_CLIENT).minimum_version = ssl.TLSVersion.TLSv1_2
    if environ["PATH_INFO"] == "/slow":
        print("begun", flush=True)
        inside.append(environ)
        time.sleep(0.5)
        most.append(len(inside))
        inside.pop()
    start_response("200 OK", [])
    return [f"{os.getpid()} {max(most)}".encode()]
"""
# eight at once or none, each in a thread of its own
MEET = """
import threading

eight = threading.Barrier(8, timeout=20)

def app(environ, start_response):
    if environ.get("HTTP_USER_AGENT") != "flaskfleet-gate":
        eight.wait()
    start_response("200 OK", [])
    return [threading.current_thread().name.encode()]
"""
WAITS = """
import time

def app(environ, start_response):
    if environ.get("HTTP_USER_AGENT") != "flaskfleet-gate":
        print("begun", flush=True)
        time.sleep(60)
    start_response("200 OK", [])
    return []
"""
PSYCOPG2 = """
import psycopg2

def app(environ, start_response):
    start_response("200 OK", [])
    return [psycopg2.waits.encode()]
"""
# as psycogreen is: it tells psycopg2 how to wait, before the app has a connection
BESIDE = {
    "psycogreen/gevent.py": "import psycopg2\ndef patch_psycopg():\n    psycopg2.waits = 'with gevent'\n",
    "psycopg2.py": "waits = 'in C'\n",
    "early.py": "from ssl import SSLContext\nfrom gunicorn.glogging import Logger\n",
}


class SomeWorker:
    """A worker of some other kind."""


def executed(monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the names of the rendered configuration."""
    for name, value in {"LISTEN_FDS": "1", "FLASKFLEET_RELEASE": "abc"}.items():
        monkeypatch.setenv(name, value)
    conf: dict[str, Any] = {}
    exec(render("gunicorn.conf.py", {"settings": settings}), conf)
    return conf


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: str


class Instance:
    """Gunicorn with the rendered configuration, started as systemd starts it."""

    def __init__(self, directory: Path, app: str, values: dict[str, Any], tried: str = "", looks: str = "1") -> None:
        (directory / "app.py").write_text(app)
        text = render("gunicorn.conf.py", values)
        for look in ("self.told.wait(1)", "pool.join(timeout=1)"):
            assert text.count(look) == 1
            text = text.replace(look, look.replace("1)", f"{looks})"))
        (directory / "gunicorn.conf.py").write_text(text)
        self.errors = directory / "stderr"
        self._listener = socket.socket(socket.AF_UNIX if values.get("unix_socket") else socket.AF_INET)
        self._listener.bind(str(directory / "app.sock") if values.get("unix_socket") else ("127.0.0.1", 0))
        self._listener.listen()
        name = f"flaskfleet-test-{os.getpid()}-{next(NUMBERS)}"
        self._notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notified.bind("\0" + name)
        self._notified.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        environment = {"PATH": os.environ["PATH"], "NOTIFY_SOCKET": "@" + name, "FLASKFLEET_RELEASE": "abc123def456"}
        environment.update({"FLASKFLEET_TRY": tried, "TMPDIR": str(directory)} if tried else {})
        # the inherited socket is descriptor 3 of the very process that LISTEN_PID names
        launch = (
            f"import os, sys; os.dup2({self._listener.fileno()}, 3)\n"
            + ("" if tried else "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n")
            + "os.execv(sys.executable, [sys.executable, '-m', 'gunicorn', '--config', 'gunicorn.conf.py'])"
        )
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-c", launch],
                cwd=directory,
                env=environment,
                stdout=errors,
                stderr=errors,
                pass_fds=[self._listener.fileno()],
                start_new_session=True,
            )

    def ready(self, seconds: float = 30) -> tuple[str, bool] | None:
        """Return the READY message and whether the master sent it, or None where none came (or the process ended)."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self._notified.settimeout(0.02)
            try:
                message, ancillary, _, _ = self._notified.recvmsg(4096, socket.CMSG_SPACE(struct.calcsize("3i")))
            except TimeoutError:
                if self.process.poll() is not None:
                    return None
                continue
            sender = array.array("i", ancillary[0][2])[0]
            return message.decode(), sender == self.process.pid
        return None

    def get(self, path: str, timeout: float = 5, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", timeout=timeout)
        connection.sock = socket.socket(self._listener.family)
        connection.sock.settimeout(timeout)
        try:
            connection.sock.connect(self._listener.getsockname())
            connection.request("GET", path, headers={name.replace("_", "-"): value for name, value in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read().decode())
        finally:
            connection.close()

    def said(self) -> str:
        return self.errors.read_text()

    def says(self, words: str, times: int = 1, seconds: float = 20) -> None:
        """Wait until it said them so often."""
        deadline = time.monotonic() + seconds
        while self.said().count(words) < times:
            assert time.monotonic() < deadline, f"not {times} x {words!r}:\n{self.said()}"
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"Gunicorn did not stop; it said:\n{self.said()}") from None
        finally:
            self._listener.close()
            self._notified.close()


ENDLESS = """
def answer():
    while True:
        yield b"x" * 4096

def app(environ, start_response):
    start_response("200 OK", [])
    return answer() if environ["HTTP_USER_AGENT"] == "flaskfleet-gate" else [b"hello"]
"""
# The instances of this file, started all at once: each test waits for its own.
HEALTHY: dict[str, tuple[str, dict[str, Any]]] = {
    "two workers": (
        APP,
        {
            "health_path": "/healthz",
            "settings": {"workers": 2},
            "server_names": ["example.com"],
            "tls": {"certificate": "/c", "key": "/k"},
        },
    ),
    "below a path": (APP, {"url_prefix": "/api", "server_names": ["example.com"]}),
    "a Unix socket": (APP, {"unix_socket": True, "server_names": ["example.com"]}),
    "a factory": (APP, {"wsgi_app": "app:create_app('from a factory')"}),
    "preloaded": (EARLY, {"health_path": "/", "settings": {"preload_app": True, "workers": 2}}),
    "threads": (MEET, {"settings": {"worker_class": "gthread"}}),
    "psycopg2": (PSYCOPG2, {}),
    "an answer without an end": (ENDLESS, {}),
}


def answering(status: str, headers: str = "[]", body: str = "b''") -> str:
    """Return an app without Flask, which is half of the time of these tests."""
    return f"def app(environ, start_response):\n    start_response('{status}', {headers})\n    return [{body}]\n"


# name: (source of the app, values, what must be said)
REFUSED: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "unfit": (
        answering("503 SERVICE UNAVAILABLE", body="b'no database'"),
        {"health_path": "/healthz"},
        ["GET /healthz answered 503 SERVICE UNAVAILABLE, not 2xx", "flask_gunicorn_nginx_health_path", "no database"],
    ),
    "redirect": (
        answering("302 FOUND", headers="[('Location', '/login')]"),
        {},
        ["GET / answered 302 FOUND to /login", "flask_gunicorn_nginx_health_path"],
    ),
    "redirect to https": (
        answering("302 FOUND", headers="[('Location', 'https://a.test/')]"),
        {"server_names": ["a.test"]},
        ["If TLS ends before this host, set flask_gunicorn_nginx_public_url: https://a.test.", "Mend the app"],
    ),
    "nothing there, below a path": (
        answering("404 NOT FOUND"),
        {"url_prefix": "/api", "health_path": "/nowhere"},
        ["GET /api/nowhere answered 404 NOT FOUND, not 2xx"],
    ),
    "import error": (
        "import a_module_that_is_not_there\n",
        {},
        ["ModuleNotFoundError: No module named 'a_module_that_is_not_there'"],
    ),
    "no app": ("nothing = 1\n", {}, ["Failed to find attribute 'app' in 'app'"]),
    # the second worker that imports it fails
    "one worker of two": (
        "import os\nos.open('first', os.O_CREAT | os.O_EXCL)\n" + answering("200 OK"),
        {"settings": {"workers": 2}},
        ["FileExistsError"],
    ),
    # healthy when it is asked, dead a moment later; the one that would take its place is not started
    "a crash right after the start": (
        "import os, threading\ndef crash():\n    print('out of cheese', flush=True)\n    os._exit(7)\n"
        "threading.Timer(0.2, crash).start()\n" + answering("200 OK", body="b'served'"),
        {"settings": {"workers": 2}},
        ["out of cheese", "exited with code 7"],
    ),
}
FACTORY = (
    "def create_app():\n    raise AssertionError\ndef from_settings(settings=None, debug=False):\n    return None\n"
)
# name: (source of the app, values, what must be said); none of these is asked for its health path
NO_APP: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "a factory that is not called": (
        FACTORY,
        {"wsgi_app": "app:create_app"},
        ["app:create_app is no WSGI app but a function", "set flask_gunicorn_nginx_wsgi_app: app:create_app()"],
    ),
    "a factory with settings": (
        FACTORY,
        {"wsgi_app": "app:from_settings"},
        ["from_settings(settings=None, debug=False)", "set flask_gunicorn_nginx_wsgi_app: app:from_settings()"],
    ),
    "what a factory gave": (
        "def create():\n    return create\n",
        {"wsgi_app": "app:create()"},
        ["app:create() gave <function create", "have it return the app"],
    ),
    "asgi": ("async def app(scope, receive, send):\n    pass\n", {}, ["app:app is an ASGI app", "ASGIMiddleware"]),
    "imported too early": (
        "import early\n" + answering("200 OK"),
        {"settings": {"logger_class": "early.Logger"}},
        ["early was imported before gevent could patch it", "flask_gunicorn_nginx_settings: {worker_class: gthread}"],
    ),
}
# the first worker is healthy long before the second fails
LATE = (
    "import os, time\ntry:\n    os.open('first', os.O_CREAT | os.O_EXCL)\nexcept FileExistsError:\n"
    "    time.sleep(1)\n    raise\n" + answering("200 OK", body="b'served'")
)
HANGS = "import time\ntime.sleep(60)\n"


@pytest.fixture(scope="module")
def instances(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Instance]]:
    refused = {name: case[:2] for name, case in {**REFUSED, **NO_APP}.items()}
    started = {}
    for name, (app, values) in {**HEALTHY, **refused, "hangs": (HANGS, {})}.items():
        # one worker where the number does not matter: half of the time
        settings = {"workers": 1, "graceful_timeout": 1, **values.get("settings", {})}
        place = tmp_path_factory.mktemp("gunicorn")
        for beside, text in BESIDE.items() if name in ("psycopg2", "imported too early") else ():
            (place / beside).parent.mkdir(exist_ok=True)
            (place / beside).write_text(text)
        how = "import" if name in NO_APP else ""
        started[name] = Instance(place, app, {**values, "settings": settings}, how)
    yield started
    for instance in started.values():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(instance.process.pid, signal.SIGKILL)
        instance.stop()


# The text


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_it_is_python_and_gunicorn_knows_every_setting(scenario: str) -> None:
    from gunicorn.config import KNOWN_SETTINGS  # noqa: PLC0415

    text = render("gunicorn.conf.py", SCENARIOS[scenario])
    assert "{{" not in text and "{%" not in text
    compile(text, "gunicorn.conf.py", "exec")
    set_names = set(re.findall(r"^([a-z][a-z_]*) = ", text, re.M))
    assert set_names <= {setting.name for setting in KNOWN_SETTINGS}


def test_the_users_settings_come_after_the_roles_and_keep_their_types() -> None:
    text = render(
        "gunicorn.conf.py",
        {"settings": {"workers": 3, "preload_app": True, "user": None, "raw_env": ["A=it's", 'B="x"'], "timeout": 2.5}},
    )
    own, users = text.split("# flask_gunicorn_nginx_settings\n")
    assert "\nworkers = max(2, len(os.sched_getaffinity(0)))\n" in own
    scope: dict[str, Any] = {}
    exec(users.split("\n\n")[0], scope)
    assert scope["workers"] == 3 and scope["preload_app"] is True and scope["user"] is None
    assert scope["raw_env"] == ["A=it's", 'B="x"'] and scope["timeout"] == 2.5


def test_without_settings_there_is_no_place_for_them() -> None:
    assert "\n# flask_gunicorn_nginx_settings\n" not in render("gunicorn.conf.py")


@pytest.mark.parametrize(
    "app", ["app:app", "flaskr:create_app()", "a.b:create_app('x', debug=False)", 'a:create_app("x")']
)
def test_whatever_gunicorn_can_serve_arrives_as_it_was_written(app: str) -> None:
    (line,) = re.findall(r"^wsgi_app = .*", render("gunicorn.conf.py", {"wsgi_app": app}), re.M)
    scope: dict[str, Any] = {}
    exec(line, scope)
    assert scope["wsgi_app"] == app


@pytest.mark.parametrize(
    ("values", "script_name", "health_path"),
    [
        ({}, "", "/"),
        ({"url_prefix": "/api", "health_path": "/healthz"}, "/api", "/healthz"),
        ({"url_prefix": "/api", "url_prefix_in_routes": True, "health_path": "/api/healthz"}, "", "/api/healthz"),
    ],
)
def test_the_app_is_mounted_below_the_path_unless_its_routes_carry_it(
    values: dict[str, Any], script_name: str, health_path: str
) -> None:
    text = render("gunicorn.conf.py", values)
    assert f'\nSCRIPT_NAME = "{script_name}"\n' in text
    assert f"\nHEALTH_PATH = '{health_path}'\n" in text


# The gate


def test_the_gate_asks_as_a_load_balancer_does() -> None:
    text = render("gunicorn.conf.py", SCENARIOS["TLS ends before nginx"])
    assert 'HEALTH_HOST = "example.com:8443"' in text and 'HEALTH_SCHEME = "https"' in text


def test_the_master_says_ready_after_every_worker_was_asked(instances: dict[str, Instance]) -> None:
    instance = instances["two workers"]
    ready = instance.ready()
    assert ready is not None, instance.said()
    message, from_master = ready
    assert from_master and message.startswith("READY=1\n") and "2 workers" in message
    asked = instance.get("/asked").body.splitlines()
    assert len({line.split()[0] for line in asked}) == 2
    assert all(line.endswith(" example.com https flaskfleet-gate") for line in asked)
    # a worker that dies is replaced, passes the same gate, and systemd hears nothing more
    os.kill(int(asked[0].split()[0]), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while len(instance.get("/asked").body.splitlines()) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(instance.get("/asked").body.splitlines()) == 3
    assert instance.ready(0.1) is None
    assert instance.stop() == 0


def test_ready_goes_out_once_when_a_second_signal_comes_while_the_first_is_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {"LISTEN_FDS": "1", "FLASKFLEET_RELEASE": "abc", "NOTIFY_SOCKET": "/run/notify"}.items():
        monkeypatch.setenv(name, value)
    conf: dict[str, Any] = {}
    exec(render("gunicorn.conf.py", {}), conf)
    sent: list[str] = []

    def interrupted(address: str, message: str) -> None:
        sent.append(address)
        if len(sent) < 3:
            conf["_when_a_worker_settled"](signal.SIGALRM, None)

    conf["_notify"] = interrupted
    conf["_when_a_worker_settled"](signal.SIGALRM, None)
    assert not sent
    conf["_workers"][:] = bytes([conf["_SETTLED"]] * conf["workers"])
    conf["_when_a_worker_settled"](signal.SIGALRM, None)
    assert sent == ["/run/notify"]


@pytest.mark.parametrize(("tried", "ready"), [("import", True), ("health", False)])
def test_a_release_is_tried_on_a_socket_of_its_own_by_import_or_by_health(
    tmp_path: Path, tried: str, ready: bool
) -> None:
    app, values, _ = REFUSED["unfit"]
    instance = Instance(tmp_path, app, {**values, "settings": {"workers": 3}}, tried)
    try:
        found = instance.ready()
        assert (found is not None) == ready, instance.said()
        assert ready == (found is not None and "1 workers" in found[0])
        assert f"unix:{tmp_path}" in instance.said()
    finally:
        instance.stop()


def test_every_answer_names_the_release(instances: dict[str, Instance]) -> None:
    instance = instances["below a path"]
    assert instance.ready(), instance.said()
    for path, status in (("/api/", 200), ("/api/nowhere", 404), ("/api/broken", 500)):
        answer = instance.get(path)
        assert (answer.status, answer.headers["X-Release"]) == (status, "abc123def456")


def test_an_app_below_a_path_knows_its_addresses(instances: dict[str, Instance]) -> None:
    instance = instances["below a path"]
    assert instance.get("/api/where").body == "/api/ /api"
    # nobody but the configuration says where the app is mounted
    assert instance.get("/api/where", SCRIPT_NAME="/evil", X_Forwarded_Prefix="/evil").body == "/api/ /api"


@pytest.mark.parametrize("how", ["a Unix socket", "below a path"])
def test_nginx_is_known_and_believed_whatever_it_connects_by(instances: dict[str, Instance], how: str) -> None:
    instance = instances[how]
    assert how == "below a path" or instance.ready(), instance.said()
    prefix = "/api" if how == "below a path" else ""
    assert instance.get(f"{prefix}/client", X_Forwarded_Proto="https").body == "127.0.0.1 https"
    assert instance.get(f"{prefix}/client", X_Forwarded_For="203.0.113.9").body == "127.0.0.1 http"


def test_a_factory_is_served(instances: dict[str, Instance]) -> None:
    instance = instances["a factory"]
    assert instance.ready(), instance.said()
    assert instance.get("/").body == "from a factory"


def test_an_app_that_the_master_imports_was_patched_first(instances: dict[str, Instance]) -> None:
    """Else TLS ends in a RecursionError on whatever path uses it, and a wait stops all other requests."""
    instance = instances["preloaded"]
    ready = instance.ready()
    assert ready is not None and ready[1], instance.said()
    assert instance.get("/tls").status == 200, instance.said()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        served = [answer.body.split() for answer in pool.map(instance.get, ["/slow"] * 8)]
    assert max(int(at_once) for _pid, at_once in served) > 1, served
    # a master that was patched goes on to look after its workers
    os.kill(int(served[0][0]), signal.SIGKILL)
    instance.says("was sent SIGKILL")
    instance.says("Booting worker", instance.said().partition("was sent SIGKILL")[0].count("Booting worker") + 1)
    assert instance.stop() == 0


def test_a_worker_ends_when_it_is_told_and_with_its_last_request(tmp_path: Path) -> None:
    """Gunicorn's own looks once a second. This one may sleep for longer than `stop` has patience: it is woken."""
    settings = {"workers": 2, "graceful_timeout": 30}
    instance = Instance(tmp_path, EARLY, {"settings": settings}, looks="60")
    assert instance.ready(), instance.said()
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(instance.get, "/slow") for _ in range(2)]
        instance.says("begun", 2)
        assert instance.stop() == 0
        assert [answer.result().status for answer in answers] == [200, 200]
    assert "graceful timeout" not in instance.said()


def test_a_request_without_an_end_is_cut_when_its_time_is_over(tmp_path: Path) -> None:
    instance = Instance(tmp_path, WAITS, {"settings": {"workers": 1, "graceful_timeout": 1}})
    assert instance.ready(), instance.said()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        answer = pool.submit(instance.get, "/")
        instance.says("begun")
        assert instance.stop() == 0
        assert answer.exception() is not None


@pytest.mark.parametrize(
    ("workers", "there", "taken"), [(2, 0, 1), (2, 15, 1), (2, 16, 2), (2, 320, 40), (1, 0, 100), (1, 320, 100)]
)
def test_the_more_connections_there_are_the_more_are_taken_at_once(
    monkeypatch: pytest.MonkeyPatch, workers: int, there: int, taken: int
) -> None:
    """With one for each round of 300 that are kept open, some of 1,000 clients had no answer in 4 s: `make bench`.

    A worker without others takes what comes, as gevent does.
    """
    made = []

    def start(server: Any) -> None:
        with mock.patch("gevent.pool.Pool.__len__", lambda pool: there):
            made.append(server.max_accept)

    conf = executed(monkeypatch, {})
    monkeypatch.setattr("gevent.server.StreamServer.start", start)
    worker = conf["_woken"](SomeWorker)()
    worker.sockets, worker.worker_connections, worker.handle, worker.alive = [socket.socket()], 1000, print, False
    worker.cfg = SimpleNamespace(is_ssl=False, graceful_timeout=0, workers=workers)
    worker.run()
    worker.sockets[0].close()
    assert made == [taken]


@pytest.mark.parametrize(
    ("kind", "becomes"),
    [
        ("gevent", "Woken"),
        ("gthread", "SomeWorker"),
        ("gunicorn.workers.ggevent.GeventPyWSGIWorker", "SomeWorker"),
        ("a.b.C", "SomeWorker"),
    ],
)
def test_another_class_of_worker_stays_what_it_is(monkeypatch: pytest.MonkeyPatch, kind: str, becomes: str) -> None:
    conf = executed(monkeypatch, {"worker_class": kind})
    conf["_patch"] = lambda: None
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    worker = SomeWorker()
    conf["post_fork"](None, worker)
    assert type(worker).__name__ == becomes


def test_threads_are_as_many_as_a_release_may_have(instances: dict[str, Instance]) -> None:
    instance = instances["threads"]
    assert instance.ready(), instance.said()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(functools.partial(instance.get, timeout=30), ["/"] * 8))
    assert len({answer.body for answer in answers}) == 8, answers
    assert instance.stop() == 0


@pytest.mark.parametrize(
    ("settings", "threads"),
    [({"workers": 2}, 16), ({"workers": 16}, 8), ({"workers": 200}, 2), ({"workers": 16, "threads": 40}, 40)],
)
def test_a_setting_of_the_user_decides_over_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, int], threads: int
) -> None:
    conf = executed(monkeypatch, {"worker_class": "gthread", **settings})
    assert conf["threads"] == threads


def test_the_gate_reads_no_more_of_an_answer_than_it_needs(instances: dict[str, Instance]) -> None:
    """It asked for all of it: 3 GB were held in memory, and one without an end ended with TimeoutStartSec."""
    instance = instances["an answer without an end"]
    assert instance.ready(), instance.said()
    assert instance.get("/", User_Agent="x").body == "hello"


def test_psycopg2_gives_way_where_psycogreen_is_installed(instances: dict[str, Instance]) -> None:
    instance = instances["psycopg2"]
    assert instance.ready(), instance.said()
    assert instance.get("/").body == "with gevent"


@pytest.mark.parametrize("case", NO_APP)
def test_what_cannot_be_served_is_told_without_a_request(instances: dict[str, Instance], case: str) -> None:
    """So that a release that is tried by import, before a migration, is refused there."""
    instance = instances[case]
    assert instance.ready() is None
    missing = [words for words in NO_APP[case][2] if words not in instance.said()]
    assert not missing, instance.said()


@pytest.mark.parametrize("case", REFUSED)
def test_a_release_that_cannot_serve_is_refused_with_the_reason(instances: dict[str, Instance], case: str) -> None:
    instance = instances[case]
    assert instance.ready() is None
    assert instance.stop() != 0
    missing = [words for words in REFUSED[case][2] if words not in instance.said()]
    assert not missing, instance.said()


@pytest.mark.parametrize("case", ["a crash right after the start", "late"])
def test_a_refused_release_has_answered_nobody(tmp_path: Path, case: str) -> None:
    app, values = (LATE, {}) if case == "late" else REFUSED[case][:2]
    instance = Instance(tmp_path, app, {**values, "settings": {"workers": 2, "graceful_timeout": 1}})
    answers = []
    while instance.ready(0.02) is None and instance.process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            answers.append(instance.get("/", timeout=0.05))
    assert instance.stop() is not None and answers == [], instance.said()


def test_a_release_that_hangs_never_gets_ready(instances: dict[str, Instance]) -> None:
    assert instances["hangs"].ready(0.5) is None
    assert instances["hangs"].process.poll() is None  # it is systemd that gives up, at TimeoutStartSec


def test_without_a_socket_from_systemd_nothing_starts(tmp_path: Path) -> None:
    """Gunicorn would bind another address and look well where no request arrives."""
    (tmp_path / "gunicorn.conf.py").write_text(render("gunicorn.conf.py"))
    result = subprocess.run(
        [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "FLASKFLEET_RELEASE": "abc123def456"},
        timeout=10,
        check=False,
    )
    assert result.returncode != 0
    assert "start hello.socket, then activate the release" in result.stdout + result.stderr

"""The demo proves what it prints."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tools import demo
from tools.run import Problem

PAGE = "<html><head><title>Static files</title></head><body><p>Static file hosted by Nginx...</p></body></html>"
Pages = dict[str, tuple[int, dict[str, str], str]]


@pytest.fixture
def pages() -> Pages:
    """What a site answers when all is well, path to (status, headers, body)."""
    return {
        "/": (200, {"X-Release": "abc"}, "Hello Flask!"),
        "/admin": (308, {"X-Release": "abc", "Location": "http://localhost:PORT/admin/"}, ""),
        "/admin/": (200, {"X-Release": "abc"}, "Hello Flask Admin!"),
        "/static/": (200, {}, PAGE),
    }


@pytest.fixture
def port(pages: Pages) -> Iterator[int]:
    """A site that answers with the pages."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = pages[self.path]
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value.replace("PORT", str(server.server_port)))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server.server_port
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_a_person_would_see_is_what_was_answered(port: int) -> None:
    said = [what for _, what in demo.prove(port, "abc")]
    assert said[0] == "Hello Flask!"
    assert said[1].startswith("Hello Flask Admin!")
    assert said[2].startswith("Static file hosted by Nginx...")


@pytest.mark.parametrize(
    ("path", "answer", "complaint"),
    [
        ("/", (502, {}, ""), "answers 502"),
        ("/", (200, {"X-Release": "old"}, ""), "from release 'old', not 200 from abc"),
        ("/admin", (308, {"Location": "http://localhost/admin/"}, ""), "not the way to /admin/"),
        ("/admin", (200, {}, ""), "not the way to /admin/"),
        ("/admin/", (404, {}, ""), "answers 404"),
        ("/static/", (200, {"X-Release": "abc"}, ""), "not 200 from nginx"),
        ("/static/", (403, {}, ""), "answers 403 from nginx"),
    ],
)
def test_an_address_that_answers_otherwise_fails_the_demo(
    port: int, pages: Pages, path: str, answer: tuple[int, dict[str, str], str], complaint: str
) -> None:
    pages[path] = answer
    with pytest.raises(Problem, match=re.escape(complaint)):
        demo.prove(port, "abc")


def test_nothing_that_listens_is_said_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Problem, match="does not answer"):
            demo.ask(unused.getsockname()[1], "/")


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert not demo.is_free(listener.getsockname()[1])


@pytest.mark.parametrize("value", ["http", "0", "65536", "80 80", "-1"])
def test_a_port_that_is_none_is_refused_with_what_to_set(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_PORT", value)
    with pytest.raises(Problem, match="DEMO_PORT=8081"):
        demo.settings()


def test_a_taken_port_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.demo.engine.up", lambda: None)
    monkeypatch.setattr("tools.demo.hosts.state", lambda name: None)
    monkeypatch.setattr(demo, "is_free", lambda port: False)
    with pytest.raises(Problem, match="Port 8080 of this machine is taken"):
        demo.host_up(demo.Settings("flaskfleet-demo", 8080, False))


def test_changes_are_counted_from_the_recap() -> None:
    recap = "PLAY RECAP ****\nweb1                  : ok=19   changed=10   unreachable=0    failed=0\n"
    assert demo.changes(recap) == 10
    assert demo.changes(recap.replace("changed=10", "changed=0")) == 0

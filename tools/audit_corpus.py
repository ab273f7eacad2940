"""Send what nobody sends by mistake to a site of the role: smuggling, spoofing, and paths, over HTTP/1.0, 1.1 and 2.

The requests are data, audit_corpus.yml beside this. By hand, against a host that has an app which answers with what
reached it (molecule/shared/apps/echo): `python -m tools.audit_corpus ADDRESS NAME [ROOT]`.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import itertools
import re
import socket
import ssl
import struct
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

CORPUS = Path(__file__).with_name("audit_corpus.yml")
VARS = Path(__file__).parent.parent / "roles/flask_gunicorn_nginx/vars/main.yml"
BAD = "spoofed.invalid"  # what no answer may hold
VERSION_UNKNOWN = 505  # said by the default server, for no name is known yet
LEAK = re.compile(rb"127\.0\.0\.1:[0-9]{4}")  # where the app listens
SILENCE = 1.0  # seconds without a byte after which nothing more is waited for
AT_ONCE = 16
WELCOME = b"Welcome to nginx"  # the distribution's default site, which answers for other names where it is there


class Place(NamedTuple):
    """Where the site is: its address, its name, the path of the app, its ports (0: none)."""

    address: str
    name: str
    root: str = "/"
    http: int = 80
    https: int = 443
    nginx: str = ""  # its version, the newest unless told
    shared: bool = False  # another site is the default server of the port for HTTP


class Result(NamedTuple):
    """What came of one request. `wrong` is empty where all is well."""

    kind: str
    say: str
    protocol: str
    statuses: tuple[int, ...]
    wrong: str

    def __str__(self) -> str:
        return f"{self.kind}, {self.protocol}: {self.say}: {self.wrong or 'well'} {list(self.statuses)}"


class Answer(NamedTuple):
    """One answer; headers and body as they came."""

    status: int
    head: bytes
    body: bytes


def run(
    address: str,
    names: Sequence[str],
    root: str = "/",
    http: int = 80,
    https: int = 443,
    nginx: str = "",
    kinds: Sequence[str] = (),
) -> list[Result]:
    """Send the whole corpus to a site, the first of `names` its own; https=0 where it has no TLS.

    `nginx` is its version: what an old one does not refuse is not asked of it. `kinds` are parts of the corpus.
    """
    place = Place(address, names[0], root, http, https, nginx)
    place = place._replace(shared=bool(http) and is_shared(place))
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        jobs = [(place, *job) for job in payloads(place) if not kinds or job[0] in kinds]
        return list(pool.map(lambda job: one(*job), jobs))


def is_shared(place: Place) -> bool:
    """Tell whether somebody else's site answers for other names: it says what a request is that names nobody."""
    with connect(place, "http") as connection:
        asked = f"GET / HTTP/1.1\r\nHost: {BAD}\r\nConnection: close\r\n\r\n"
        return WELCOME in exchange(connection, asked.encode())


def payloads(place: Place) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield each request with its kind and its protocol."""
    corpus = yaml.safe_load(CORPUS.read_text())
    claims = yaml.safe_load(VARS.read_text())["__flask_gunicorn_nginx_server"]["claims"]
    headers = sorted({header for held in claims.values() if isinstance(held, list) for header in held})
    corpus["claims"] += [{"say": header, "headers": [f"{header}: {{bad}}"]} for header in headers]
    corpus["h2"] += [{"say": header, "headers": [[header.lower(), "{bad}"]]} for header in headers]
    protocols = [name for name, port in (("http", place.http), ("https", place.https)) if port]
    for kind, protocol in itertools.product(("names", "claims", "paths", "raw"), protocols):
        yield from ((kind, protocol, payload) for payload in corpus[kind])
    yield from (("h2", "h2", payload) for payload in corpus["h2"] if place.https)


def one(place: Place, kind: str, protocol: str, payload: dict[str, Any]) -> Result:
    """Send one request and judge what comes back."""
    try:
        connection = connect(place, protocol)
    except OSError as error:
        return Result(kind, payload["say"], protocol, (), f"no connection: {error}")
    with connection:
        if protocol == "h2":
            answers = exchange_h2(connection, place, payload)
        else:
            answers = list(parsed(exchange(connection, request(place, kind, payload))))
    if protocol == "http" and place.shared:
        answers = [each for each in answers if WELCOME not in each.body and each.status != VERSION_UNKNOWN]
    told = tuple(answer.status for answer in answers)
    return Result(kind, payload["say"], protocol, told, judged(place, kind, payload, answers))


def judged(place: Place, kind: str, payload: dict[str, Any], answers: Sequence[Answer]) -> str:
    """Return what is wrong with the answers to a request, nothing where all is well."""
    statuses = [answer.status for answer in answers if answer.status != 100]
    must = payload.get("must", "")
    if older(place.nginx, payload.get("since", "")):
        must = ""
    if any(status >= 500 for status in statuses):
        return "a server error"
    if set(statuses) & set(payload.get("not", ())):
        return "switched to what nobody may switch to"
    if must == "refuse" and any(accepted(answer, place) for answer in answers):
        return "accepted"
    if must == "answer" and (not statuses or statuses[0] >= 400):
        return "refused"
    if len(statuses) > payload.get("answers", 1):
        return "answered as more than one request"
    for answer in answers:
        wrong = spoofed(answer, kind)
        if wrong:
            return wrong
        if answer.status == 200 and payload.get("keeps", "").encode() not in answer.body:
            return "nginx's own word is gone"
    return ""


def older(version: str, since: str) -> bool:
    """Tell whether an nginx is older than the one that began to refuse something."""

    def parts(text: str) -> list[int]:
        return [int(part) for part in text.split(".")]

    return bool(version and since) and parts(version) < parts(since)


def accepted(answer: Answer, place: Place) -> bool:
    """Tell whether an answer is the app's, or a way to it; to be sent to the same name by https is neither."""
    elsewhere = bool(re.match(rf"https://{re.escape(place.name)}([/:?]|$)", location(answer)))
    return 200 <= answer.status < 300 or (300 <= answer.status < 400 and not elsewhere)


def location(answer: Answer) -> str:
    found = re.search(rb"(?im)^location: *([^\r\n]*)", answer.head)
    return found[1].decode("latin-1") if found else ""


def spoofed(answer: Answer, kind: str) -> str:
    """Return what the client has made nginx or the app believe, or tell. A path is the client's own to name."""
    to = location(answer)
    if re.match(rf"([a-z]+:)?[/\\]{{2}}[^/?#]*{re.escape(BAD)}", to) or re.match(r"[/\\]{2}", to):
        return f"sent to {to}"
    rest = re.sub(rb"(?im)^location:[^\r\n]*", b"", answer.head)
    if BAD.encode() in rest.lower() or (kind != "paths" and BAD.encode() in answer.body.lower()):
        return "spoofed"
    return "the app's address is told" if LEAK.search(answer.head + answer.body) else ""


# HTTP/1


def filled(text: str, place: Place) -> str:
    """Return the text of a request."""
    percent = f"/%{ord(place.root[1]):x}{place.root[2:]}" if len(place.root) > 1 else "/%61"
    many = "\r\n".join(f"X-{number}: a" for number in range(150))
    values = {"name": place.name, "NAME": place.name.upper(), "root": place.root, "bad": BAD, "percent": percent}
    values.update({"long": "a" * 8100, "longer": "a" * 8160, "longest": "a" * 40000, "many": many})
    return re.sub(r"\{(\w+)\}", lambda found: values[found[1]], text)


def request(place: Place, kind: str, payload: dict[str, Any]) -> bytes:
    """Return a request of HTTP/1 as it is sent."""
    if kind == "raw":
        return filled(payload["send"], place).encode("latin-1")
    host, headers = payload.get("host", "{name}"), payload.get("headers", [])
    lines = [payload.get("line", "GET {root} HTTP/1.1"), *([f"Host: {host}"] if host is not None else []), *headers]
    lines += [] if any(line.startswith("Connection:") for line in headers) else ["Connection: close"]
    return filled("\r\n".join([*lines, "", ""]), place).encode("latin-1")


def connect(place: Place, protocol: str) -> socket.socket:
    """Connect, with the site's own name where TLS asks for one."""
    port = place.http if protocol == "http" else place.https
    plain = socket.create_connection((place.address, port), 5)
    plain.settimeout(SILENCE)
    if protocol == "http":
        return plain
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2" if protocol == "h2" else "http/1.1"])
    return context.wrap_socket(plain, server_hostname=place.name)


def exchange(connection: socket.socket, data: bytes) -> bytes:
    """Send and return all that comes back, until the other side closes or says nothing more."""
    received = bytearray()
    with contextlib.suppress(OSError):  # refused while it was sent: the answer is there all the same
        connection.sendall(data)
    with contextlib.suppress(OSError):
        while block := connection.recv(65536):
            received += block
    return bytes(received)


def parsed(data: bytes) -> Iterator[Answer]:
    """Yield the answers of HTTP/1; what is none (HTTP/0.9) is one of status 200."""
    while data:
        head, _, data = data.partition(b"\r\n\r\n")
        found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
        if not found:
            yield Answer(200, b"", head + data)
            return
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        if found[1] == b"100" or found[1] == b"204":
            body = b""
        elif re.search(rb"(?im)^transfer-encoding: *chunked", head):
            body, _, data = data.partition(b"0\r\n\r\n")
        elif length:
            body, data = data[: int(length[1])], data[int(length[1]) :]
        else:
            body, data = data, b""
        yield Answer(int(found[1]), head, body)


# HTTP/2, as much of it as it takes: no table, no Huffman code


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def number(value: int, bits: int = 7) -> bytes:
    """Return a number as HPACK has it."""
    most = 2**bits - 1
    if value < most:
        return bytes([value])
    value, found = value - most, [most]
    while value >= 128:
        found.append(value % 128 + 128)
        value //= 128
    return bytes([*found, value])


def exchange_h2(connection: socket.socket, place: Place, payload: dict[str, Any]) -> list[Answer]:
    """Send one request of HTTP/2 and return its answer, none where the stream or the connection was ended."""
    given = payload.get("headers", [])
    usual = {":method": "GET", ":scheme": "https", ":path": "{root}", ":authority": "{name}"}
    pairs = [(name, value) for name, value in usual.items() if name not in [each[0] for each in given]]
    pairs += [(name, value) for name, value in given if value is not None]
    block = bytearray()
    for pair in pairs:
        texts = [filled(text, place).encode("latin-1") for text in pair]
        block += b"\0" + b"".join(number(len(text)) + text for text in texts)
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, b"")
    data = exchange(connection, preface + frame(1, 0x5, 1, bytes(block)) + frame(7, 0, 0, bytes(8)))
    head, body, position = b"", b"", 0
    while position + 9 <= len(data):
        length = int.from_bytes(data[position : position + 3], "big")
        content = data[position + 9 : position + 9 + length]
        if data[position + 3] == 1:
            head += content
        elif data[position + 3] == 0:
            body += content
        position += 9 + length
    return [Answer(status_h2(head), head, body)] if head else []


def status_h2(block: bytes) -> int:
    """Return the status of an answer: nginx sends it first, from the table of HTTP/2 or in digits."""
    block = block.lstrip(bytes(range(0x20, 0x40)))  # the size of a table that nobody uses
    known = {0x88: 200, 0x89: 204, 0x8A: 206, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
    return known.get(block[0]) or int(block[2:5])


def main(argv: Sequence[str]) -> int:
    """Print what is wrong, and how many were sent."""
    address, name, *root = argv
    results = run(address, [name], root=root[0] if root else "/")
    wrong = [result for result in results if result.wrong]
    print("\n".join(map(str, wrong)))
    print(f"{len(results)} requests, {len(wrong)} of them not as they should be")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

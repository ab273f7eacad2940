"""What nginx keeps, and for whom, as each nginx does it: another one of the host with the rendered site, before a stub.

All questions are asked in one go, on the host; the tests look at the answers.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from tests.integration.asking import Site

HTTP, STUB_PORT = 8090, 5998
OLD, NEW = "0" * 12, "1" * 12
VALUES = {
    "port": STUB_PORT,
    "listen": HTTP,
    "server_names": ["example.com", "other.test"],
    "health_path": "/healthz",
    "trusted_proxies": ["127.0.0.2"],
    "micro_cache": {"seconds": 1, "user_headers": ["X-Account"]},
}
# Answers with a number that grows, and says what it was asked with. /control?500: from now on it fails so.
STUB = """
import http.server, itertools, json, os, time, urllib.parse
count, fails = itertools.count(1), [""]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urllib.parse.urlsplit(self.path)
        if url.path == "/control":
            fails[0] = url.query
        elif fails[0] == "dies":
            self.close_connection = True
            return self.connection.shutdown(2)
        said = dict(urllib.parse.parse_qsl(url.query))
        status = int(said.pop("status", 200)) if url.path == "/control" or not fails[0] else int(fails[0])
        asked = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"n": next(count), "method": self.command, "asked": asked}).encode()
        body += b" " * int(said.pop("pad", 0))
        self.send_response(status)
        self.send_header("X-Release", said.pop("release", os.path.basename(os.readlink("SRV/current"))))
        chunked = said.pop("chunked", "")
        self.send_header(*(("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))))
        for name, value in said.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"%x\\r\\n%s\\r\\n0\\r\\n\\r\\n" % (len(body), body) if chunked else body)
    do_POST = do_GET
http.server.ThreadingHTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
"""
ASK_ALL = """
import http.client, json, os, socket, sys, time
found = {}
for step in json.loads(sys.argv[1]):
    if "sleep" in step:
        time.sleep(step["sleep"]); continue
    if "release" in step:
        os.symlink("releases/" + step["release"], "SRV/new"); os.rename("SRV/new", "SRV/current"); continue
    for path in step["paths"]:
        there = ("127.0.0.1", step.get("port", PORT))
        c = http.client.HTTPConnection(*there, timeout=20)
        c.sock = socket.create_connection(there, 20, (step.get("source", "127.0.0.1"), 0))
        headers = {"Host": "example.com", **step.get("headers", {})}
        c.request(step.get("method", "GET"), path, step.get("body"), headers)
        r = c.getresponse(); body = r.read().decode("latin1")
        answer = [r.status, {k.lower(): v for k, v in r.getheaders()}, body]
        found.setdefault(step["name"], []).append(answer); c.close()
print(json.dumps(found))
"""


class Got(NamedTuple):
    """An answer: its status, its headers, its text; and of the stub its number and what that was asked with."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def cache(self) -> str:
        return self.headers.get("x-cache", "")

    @property
    def stub(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found


Answers = dict[str, list[Got]]


def ask(name: str, *paths: str, **how: Any) -> dict[str, Any]:
    return {"name": name, "paths": list(paths), **how}


def twice(name: str, path: str = "", **how: Any) -> dict[str, Any]:
    path = path or f"/{name.replace(' ', '-')}"
    return ask(name, path, path, **how)


def control(query: str) -> dict[str, Any]:
    return ask("control", f"/control?{query}", port=STUB_PORT)


KEPT = [
    twice("plain"),
    twice("a query", "/q?a=1|2"),
    twice("public", "/public?Cache-Control=public"),
    twice("a length below a megabyte", "/p?pad=900000"),
    twice("not found", "/nf?status=404"),
    twice("for good elsewhere", "/moved?status=301"),
    twice("vary", "/vary?Vary=Accept-Encoding"),
]
OWN = [
    *(
        twice(f"asked with {name}", headers={name: "x"})
        for name in ("Cookie", "Authorization", "X-Api-Key", "X-Account", "Range", "Origin", "X-Requested-With")
    ),
    twice("a user whom a trusted proxy names", headers={"X-Forwarded-User": "ann"}, source="127.0.0.2"),
    twice("a body", body="x=1"),
    twice("another method", method="POST"),
    twice("health", "/healthz"),
    twice("readiness", "/readyz"),
    twice("a cookie is set", "/c?Set-Cookie=a%3Db"),
    *(twice(f"cache-control {word}", f"/{word}?Cache-Control={word}") for word in ("private", "no-store", "no-cache")),
    *(twice(f"vary {name}", f"/v{number}?Vary={name}") for number, name in enumerate(("Accept,%20Cookie", "*"))),
    twice("found for one", "/found?status=302"),
    twice("a failure", "/failure?status=500&Cache-Control=max-age%3D60"),
    twice("no length", "/chunked?chunked=1"),
    twice("a large one", "/large?pad=1000000"),
    twice("of another release", f"/foreign?release={NEW}"),
]
STEPS = [
    *KEPT,
    *OWN,
    ask("users", "/users"),
    ask("users", "/users", headers={"Cookie": "session=ann"}),
    ask("users", "/users", headers={"Authorization": "Basic YW5u"}),
    ask("users", "/users"),
    ask("hosts", "/hosts"),
    ask("hosts", "/hosts", headers={"Host": "other.test"}),
    ask("schemes", "/schemes", source="127.0.0.2"),
    ask("schemes", "/schemes", headers={"X-Forwarded-Proto": "https"}, source="127.0.0.2"),
    ask("languages", "/languages", headers={"Accept": "a\tb", "Accept-Language": "c"}),
    ask("languages", "/languages", headers={"Accept": "a", "Accept-Language": "b\tc"}),
    ask("languages", "/languages", headers={"Accept": "a", "Accept-Language": "b\tc"}),
    ask("head", "/head", method="HEAD"),
    {"sleep": 0.2},
    ask("head", "/head"),
    ask("head", "/head", method="HEAD"),
    ask("part", "/part", "/part"),
    ask("part", "/part", headers={"Range": "bytes=0-3"}),
    ask("conditional", '/conditional?ETag="x"', '/conditional?ETag="x"'),
    ask("conditional", '/conditional?ETag="x"', headers={"If-None-Match": '"x"'}),
    ask("conditional", '/conditional?ETag="x"', headers={"If-None-Match": '"x"', "Cookie": "a=b"}),
    # out of date, then failing, then dead, then well again
    ask("stale", "/stale"),
    {"sleep": 2.1},  # its clock has whole seconds
    control("500"),
    ask("stale", "/stale"),
    ask("unknown", "/never-asked-before"),
    control("dies"),
    ask("stale", "/stale"),
    control(""),
    ask("stale", "/stale", "/stale"),
    ask("release", "/release", "/release"),
    {"release": NEW},
    ask("release", "/release", "/release"),
    {"release": OLD},
    # static files
    *(
        ask(f"{kind} files", *(f"/static/{name}" for name in ("app.3f2c9a1b.js", "report-20241231.css")), headers=said)
        for kind, said in (("compressed", {"Accept-Encoding": "gzip", "Via": "1.1 x"}), ("plain", {}))
    ),
    ask("kept file", "/static/old.27e20196a850.js", headers={"Accept-Encoding": "gzip"}),
    ask("no file", "/static/gone.3f2c9a1b.js"),
]
MAKE_FILES = """
import glob, os, pathlib, sys
sys.path.insert(0, os.path.dirname(glob.glob("/usr/local/lib/flaskctl/*/flaskctl")[0]))
from flaskctl.compress import compress
srv, text = pathlib.Path("SRV"), "function add(a, b) { return a + b }\\n" * 100
for release, name in (("%s", "app.3f2c9a1b.js"), ("%s", "old.27e20196a850.js")):
    static = srv / "releases" / release / "static"
    static.mkdir(parents=True)
    for file in (name, "report-20241231.css"):
        (static / file).write_text(text)
    compress(static, srv)
(srv / "kept").mkdir()
(srv / "current").symlink_to("releases/%s"); (srv / "kept/1").symlink_to("../releases/%s")
"""


@pytest.fixture(scope="module")
def log(site: Site, scratch: str, rendered: Callable[..., str]) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """The lines of nginx's log of all that was asked."""
    srv = f"{scratch}/srv"
    text = rendered(VALUES, ipv6=False).replace("/srv/hello/", f"{srv}/").replace("/var/lib/nginx/", f"{scratch}/")
    main = f"pid {scratch}/pid; error_log {scratch}/error.log; events {{}} http {{ include {scratch}/site; }}"
    site.root(f"chmod a+x {scratch}")
    site.python((MAKE_FILES % (OLD, NEW, OLD, NEW)).replace("SRV", srv))
    site.root(f"printf %s {shlex.quote(text)} > {scratch}/site; printf %s {shlex.quote(main)} > {scratch}/main")
    stub = STUB.replace("SRV", srv).replace("PORT", str(STUB_PORT))
    site.root(f"systemd-run --quiet --unit=cached python3 -c {shlex.quote(stub)}")
    site.root(f"nginx -c {scratch}/main")
    assert site.eventually(lambda: str(STUB_PORT) in site.root("ss -ltnH"))
    yield lambda: [json.loads(line) for line in site.root(f"cat {scratch}/hello.access.log").splitlines()]
    site.root(f"nginx -c {scratch}/main -s quit; systemctl stop cached")


@pytest.fixture(scope="module")
def answers(site: Site, scratch: str, log: object) -> Answers:
    program = ASK_ALL.replace("SRV", f"{scratch}/srv").replace("PORT", str(HTTP))
    found = json.loads(site.python(program, json.dumps(STEPS)))
    return {name: [Got(*answer) for answer in each] for name, each in found.items()}


def test_what_is_everybody_s_is_asked_for_once(answers: Answers) -> None:
    for step in KEPT:
        first, second = answers[step["name"]]
        assert (first.cache, second.cache) == ("MISS", "HIT"), step["name"]
        assert first.body == second.body and first.status == second.status, step["name"]


def test_what_is_somebody_s_is_the_app_s_each_time(answers: Answers) -> None:
    for step in OWN:
        first, second = answers[step["name"]]
        assert second.cache in ("", "MISS"), step["name"]
        assert second.stub["n"] > first.stub["n"], step["name"]


def test_no_answer_crosses_users_hosts_schemes_or_what_they_read(answers: Answers) -> None:
    nobody, ann, basic, again = answers["users"]
    assert ann.stub["asked"]["cookie"] == "session=ann" and basic.stub["asked"]["authorization"] == "Basic YW5u"
    assert again.cache == "HIT" and again.body == nobody.body and "ann" not in again.body
    assert [got.stub["asked"]["host"] for got in answers["hosts"]] == ["example.com", "other.test"]
    assert [got.stub["asked"]["x-forwarded-proto"] for got in answers["schemes"]] == ["http", "https"]
    assert [got.cache for got in answers["languages"]] == ["MISS", "MISS", "HIT"]


def test_head_parts_and_conditions_are_answered_as_without_it(answers: Answers) -> None:
    head, get, short = answers["head"]
    assert (head.body, get.cache, get.stub["method"]) == ("", "HIT", "GET")
    assert (short.body, short.cache, short.headers["content-length"]) == ("", "HIT", str(len(get.body)))
    _, whole, part = answers["part"]
    assert whole.cache == "HIT" and part.cache == "" and part.stub["asked"]["range"] == "bytes=0-3"
    _, _, nobody, ann = answers["conditional"]
    assert (nobody.status, nobody.cache, nobody.body) == (304, "HIT", "")
    assert ann.stub["asked"]["if-none-match"] == '"x"', "the app may answer that itself"


def test_what_is_out_of_date_is_better_than_a_failure_and_the_log_tells_of_it(
    answers: Answers, log: Callable[[], list[dict[str, Any]]]
) -> None:
    first, failing, dead, well, kept = answers["stale"]
    assert [got.cache for got in answers["stale"]] == ["MISS", "STALE", "STALE", "EXPIRED", "HIT"]
    assert {got.status for got in answers["stale"]} == {200} and failing.body == dead.body == first.body
    assert well.stub["n"] > first.stub["n"] and kept.body == well.body
    assert answers["unknown"][0].status == 500
    found = [(line["upstream_status"].rpartition(" ")[2], line["release"]) for line in log() if line["uri"] == "/stale"]
    assert found == [("200", OLD), ("500", OLD), ("502", OLD), ("200", OLD), ("", OLD)]


def test_a_release_shows_at_once(answers: Answers) -> None:
    old, kept, new, again = answers["release"]
    assert (kept.cache, new.cache, again.cache) == ("HIT", "MISS", "HIT")
    assert [got.headers["x-release"] for got in (old, kept, new, again)] == [OLD, OLD, NEW, NEW]


def test_static_files_are_sent_compressed_and_those_with_a_hash_for_good(answers: Answers) -> None:
    for kind, coded in (("compressed", "gzip"), ("plain", None)):
        hashed, dated = answers[f"{kind} files"]
        assert hashed.headers.get("content-encoding") == dated.headers.get("content-encoding") == coded
        assert hashed.headers["vary"] == dated.headers["vary"] == "Accept-Encoding"
        assert hashed.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert "cache-control" not in dated.headers and dated.headers["etag"] and dated.headers["last-modified"]
    assert answers["compressed files"][0].headers["etag"] != answers["plain files"][0].headers["etag"]
    kept, gone = answers["kept file"][0], answers["no file"][0]
    assert kept.headers["content-encoding"] == "gzip" and "immutable" in kept.headers["cache-control"]
    assert gone.status == 200 and "cache-control" not in gone.headers, "the app's own answer to all, and not for good"

"""What `make audit` makes of what the testers say, and of its table."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

from tools import audit
from tools.audit import load, places, tls, units, web
from tools.audit.__main__ import ON_FILES, ON_HOSTS
from tools.audit.table import BEGIN, DOCUMENT, END, Found, table, within
from tools.run import Problem

NMAP = """<nmaprun><host><ports><extraports state="closed" count="65531"/>
<port protocol="tcp" portid="22"><state state="open"/></port>
<port protocol="tcp" portid="80"><state state="filtered"/></port>
<port protocol="tcp" portid="5000"><state state="open"/></port></ports></host></nmaprun>"""
SLOW = "\x1b[1;32mservice available:  \x1b[1;32mYES\nTest ended on {}th second\nExit status: {}"
H2LOAD = "requests: 20 total, 20 started, 20 done, {0} succeeded, {1} failed, {2} errored, 0 timeout"


def test_the_ports_that_are_open_are_those_and_no_others() -> None:
    assert web.open_ports(NMAP) == ["22", "5000"]


def test_of_testssl_counts_what_is_severe_and_not_of_the_tests_own_authority() -> None:
    rated = [{"id": "overall_grade", "severity": "OK", "finding": "A+"}]
    found = [
        {"id": "cert_revocation", "severity": "HIGH", "finding": "Neither CRL nor OCSP URI provided"},
        {"id": "BREACH", "severity": "MEDIUM", "finding": "gzip"},
        {"id": "DNS_CAArecord", "severity": "LOW", "finding": "--"},
    ]
    report = {"scanResult": [{"targetHost": "a.test", "rating": rated, "vulnerabilities": found}]}
    assert tls.judge_testssl(report) == ("A+", ["BREACH (MEDIUM): gzip"])
    assert tls.judge_testssl({"scanResult": [{}]}) == ("no grade", [])


def test_of_wapiti_counts_all_but_what_only_the_app_can_say() -> None:
    report = {
        "vulnerabilities": {"Content Security Policy Configuration": [{"info": "CSP is not set"}], "SQL Injection": []},
        "anomalies": {"Internal Server Error": [{"info": "500 for /x"}]},
    }
    assert web.judge_wapiti(report) == ["Internal Server Error: 500 for /x"]


@pytest.mark.parametrize(
    ("ended", "status", "good"),
    [
        (12, "No open connections left", True),
        (31, "No open connections left", False),
        (12, "Hit test time limit", False),
    ],
)
def test_slow_clients_are_all_gone_in_time(ended: int, status: str, good: bool) -> None:
    assert (load.judge_slowhttptest(SLOW.format(ended, status))[1] == []) == good


def test_who_was_not_served_meanwhile_is_a_fault() -> None:
    said = SLOW.format(12, "No open connections left").replace("YES", "NO")
    assert load.judge_slowhttptest(said)[1] == ["others were not served"]
    assert load.judge_slowhttptest("")[1] != []


@pytest.mark.parametrize(("numbers", "figure", "good"), [((20, 0, 0), "0 of 20", True), ((18, 1, 1), "2 of 20", False)])
def test_each_request_of_h2load_is_answered(numbers: tuple[int, int, int], figure: str, good: bool) -> None:
    found, wrong = load.judge_h2load(H2LOAD.format(*numbers))
    assert found == f"{figure} failed" and (wrong == []) == good
    assert load.judge_h2load("could not connect")[1] != []


def test_exposure_is_read_from_its_last_line() -> None:
    said = "x\n→ Overall exposure level for nginx.service: 2.5 OK 🙂"
    assert units.exposure(said) == 2.5 and units.exposure("Unit not found.") is None


def test_places_with_the_same_figure_share_a_line() -> None:
    found = [Found("nmap 7", "nmap A|B", kind, "22", "22") for kind in ("debian12", "debian13")]
    assert table(found).splitlines()[2:] == ["| nmap 7 | `nmap A/B` | debian12, debian13 | 22 | 22 |"]


def test_the_table_goes_between_its_marks_and_nowhere_else() -> None:
    assert within(f"a\n{BEGIN}\nold\n{END}\nb\n", r"new \1") == f"a\n{BEGIN}\n\nnew \\1\n\n{END}\nb\n"
    with pytest.raises(Problem, match="no place for the table"):
        within("a\n", "new")
    assert within(DOCUMENT.read_text(), "x")


def test_each_tester_of_the_indexes_is_locked_and_each_has_a_row_of_what_it_is_for() -> None:
    locked = places.LOCK_FILE.read_text() + places.DEV_LOCK_FILE.read_text()
    for name in ("sslyze", "wapiti3", "schemathesis", "h2", "gixy-next", "bandit", "zizmor"):
        assert re.search(rf"(?m)^{name}==\S+ \\\n    --hash=sha256:", locked), name
    assert {"sslyze", "testssl", "nmap", "gixy", "wapiti", "schemathesis"} < set(ON_HOSTS)
    assert set(ON_FILES) == {"bandit", "zizmor"}


def test_the_sample_is_described_by_itself() -> None:
    place = Path(audit.__file__).parent / "sample"
    client = runpy.run_path(str(place / "app.py"))["app"].test_client()
    described = client.get("/openapi.json").json["paths"]
    assert set(described) == {"/", "/items", "/items/{number}"}
    assert "HTTP_HOST" in client.get("/echo/").json["headers"], "the corpus asks it"
    assert (place / "static" / "index.html").exists()

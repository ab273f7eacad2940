"""Testers of what answers on the host: nmap, wapiti, schemathesis, and gixy-next of what nginx is told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

from tools import audit_corpus
from tools.audit.places import INSIDE, PLACE, TESTER, Target, on, version
from tools.audit.table import Found

OPEN = ["22", "80", "443"]
# all that ask nobody else: ssrf, xxe and log4shell wait for calls at a server of wapiti's
MODULES = (
    "backup,cookieflags,crlf,csp,csrf,exec,file,htaccess,http_headers,https_redirect,inconsistent_redirection,methods,"
    "permanentxss,redirect,sql,ssl,timesql,upload,xss"
)
# which sources of scripts a page has, only its app knows
OF_THE_APP = ("Content Security Policy Configuration",)


def open_ports(report: str) -> list[str]:
    """The ports that nmap found open."""
    ports = ElementTree.fromstring(report).iter("port")  # nosec B314: nmap's
    return [port.get("portid", "") for port in ports if port.find("state[@state='open']") is not None]


def corpus(target: Target) -> Found:
    """What nobody sends by mistake: nothing that can be read in two ways is answered, and nothing with a 5xx."""
    sent = audit_corpus.run(target.address, [target.name], root="/echo/")
    wrong = [str(each) for each in sent if each.wrong]
    command = "python -m tools.audit_corpus ADDRESS NAME /echo/"
    return Found("ours", command, target.kind, f"{len(wrong)} of {len(sent)} wrong", "0 wrong", wrong)


def nmap(target: Target) -> Found:
    """Open are SSH and nginx; the app's own port is on the loopback."""
    options = "-Pn -n -p-"
    said = on(TESTER, f"nmap {options} -oX - {target.address}")
    try:
        found = open_ports(said.stdout)
    except ElementTree.ParseError:
        found = []
    wrong = [] if found == OPEN else [f"open: {', '.join(found) or 'no report'}"]
    command = f"nmap {options} ADDRESS"
    return Found(f"nmap {version('nmap')}", command, target.kind, ", ".join(found), ", ".join(OPEN), wrong)


def judge_wapiti(report: dict[str, dict[str, list[dict[str, str]]]]) -> list[str]:
    """What wapiti takes for a vulnerability or an anomaly, less what the app decides."""
    kinds = {**report["vulnerabilities"], **report["anomalies"]}
    return [f"{kind}: {each['info']}" for kind, every in kinds.items() if kind not in OF_THE_APP for each in every]


def wapiti(target: Target) -> Found:
    """It crawls the sample API and attacks what it finds."""
    file = "wapiti.json"
    options = f"--verify-ssl 0 --flush-session --no-bugreport --max-scan-time 120 -m {MODULES}"
    (PLACE / file).unlink(missing_ok=True)
    said = on(
        TESTER, f"cd /tmp; {INSIDE}/venv/bin/wapiti -u https://{target.name}/ {options} -f json -o {INSIDE}/{file}"
    )
    try:
        wrong = judge_wapiti(json.loads((PLACE / file).read_text()))
    except (OSError, ValueError):
        wrong = [f"no report: {(said.stdout + said.stderr)[-300:]}"]
    figure = f"{len(wrong)}" + (f": {'; '.join(wrong)}" if wrong else "")
    command = "wapiti -u https://NAME/ -m MODULES (those that ask nobody else; a missing CSP, the app's, aside)"
    return Found(f"wapiti3 {version('wapiti3')}", command, target.kind, figure, "0", wrong)


def schemathesis(target: Target) -> Found:
    """What its description allows, and what it does not, is answered without a 5xx."""
    options = f"--tls-verify={INSIDE}/authority.pem --checks not_a_server_error --max-examples 50 --seed 1 --no-color"
    said = on(TESTER, f"cd /tmp; {INSIDE}/venv/bin/schemathesis run https://{target.name}/openapi.json {options}")
    cases = re.search(r"(\d+) generated, (\d+) passed", said.stdout)
    good = said.returncode == 0 and cases is not None and int(cases[1]) > 100 and cases[1] == cases[2]
    wrong = [] if good else [said.stdout[-600:] or said.stderr[-300:]]
    figure = f"0 server errors in {cases[1]} requests" if good and cases else "server errors"
    command = "schemathesis run https://NAME/openapi.json --checks not_a_server_error --max-examples 50 --seed 1"
    return Found(f"schemathesis {version('schemathesis')}", command, target.kind, figure, "0", wrong)


def gixy_findings(dump: Path) -> list[dict[str, str]]:
    """What gixy-next says of a configuration, as `nginx -T` prints it or of one file."""
    argv = [str(Path(sys.executable).with_name("gixy")), "-f", "json", str(dump)]
    said = subprocess.run(argv, capture_output=True, text=True, check=False)
    findings: list[dict[str, str]] = json.loads(said.stdout)
    return findings


def high(findings: list[dict[str, str]]) -> list[str]:
    """Those of them that are held to the limit."""
    return [f"{each['summary']} {each['reason']}" for each in findings if each["severity"] == "HIGH"]


def gixy(target: Target) -> Found:
    """Of the whole configuration of the host's nginx nothing is HIGH."""
    dump = PLACE / f"nginx-{target.kind}.conf"
    dump.write_text(on(target.host, "nginx -T 2>/dev/null").stdout)
    findings = gixy_findings(dump)
    wrong = high(findings)
    figure = f"{len(wrong)} high, {len(findings) - len(wrong)} lower"
    return Found(f"gixy-next {version('gixy-next')}", "nginx -T; gixy", target.kind, figure, "0 high", wrong)

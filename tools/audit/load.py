"""Clients that are slow, many, or rude: slowhttptest, h2load, and two of our own."""

from __future__ import annotations

import json
import re

from tools.audit.places import INSIDE, SCRIPTS, TESTER, Target, on, version
from tools.audit.table import Found

PATIENCE = 15  # seconds after which nobody who says nothing is held


def judge_slowhttptest(said: str) -> tuple[str, list[str]]:
    """When the last connection was closed, and what is wrong with that."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", said)
    ended = re.search(r"Test ended on (\d+)th second", plain)
    closed = "No open connections left" in plain
    wrong = [] if closed and ended and int(ended[1]) <= PATIENCE else [plain[-300:]]
    wrong += ["others were not served"] if re.search(r"service available:\s*NO", plain) else []
    return f"all closed after {ended[1]} s" if closed and ended else "connections held", wrong


def slowhttptest(target: Target) -> Found:
    """A hundred clients whose headers never end."""
    options = "-H -c 100 -r 50 -i 5 -l 40 -p 3"
    said = on(TESTER, f"slowhttptest {options} -u https://{target.name}/")
    figure, wrong = judge_slowhttptest(said.stdout)
    command = f"slowhttptest {options} -u https://NAME/"
    return Found(f"slowhttptest {version('slowhttptest')}", command, target.kind, figure, "15 s", wrong)


def slow_client(target: Target, port: int) -> Found:
    """Ours: clients that connect and say nothing, half a line, or a header every 4 s; others ask meanwhile."""
    said = on(TESTER, f"python3 {SCRIPTS}/slow_client.py {target.name} {port} {INSIDE}/authority.pem {PATIENCE}")
    command = f"slow_client.py NAME {port} CA {PATIENCE}"
    try:
        found = json.loads(said.stdout)
    except ValueError:
        return Found("ours", command, target.kind, "no report", "0 held", [(said.stdout + said.stderr)[-300:]])
    held = sum(found["held"].values())
    wrong = [f"held: {found['held']}"] if held else []
    wrong += [f"others failed: {found['failed']}"] if found["failed"] or not found["asked"] else []
    figure = f"{held} of {found['clients']} held after {PATIENCE} s, {found['asked']} others served"
    return Found("ours", command, target.kind, figure, "0 held", wrong)


def rapid_reset(target: Target) -> Found:
    """Ours: streams of HTTP/2 that are opened and reset at once (CVE-2023-44487); others ask meanwhile."""
    said = on(TESTER, f"{INSIDE}/venv/bin/python {SCRIPTS}/rapid_reset.py {target.name} {INSIDE}/authority.pem")
    tester, command = f"ours, with h2 {version('h2')}", "rapid_reset.py NAME CA"
    try:
        found = json.loads(said.stdout)
    except ValueError:
        return Found(tester, command, target.kind, "no report", "0 failed", [(said.stdout + said.stderr)[-300:]])
    wrong = [f"others failed: {found['failed']}"] if found["failed"] or not found["asked"] else []
    wrong += [f"others waited {found['slowest']:.1f} s"] if found["slowest"] > 2 else []
    figure = f"{found['resets']} resets, {found['asked']} others served, the slowest in {found['slowest']:.1f} s"
    return Found(tester, command, target.kind, figure, "0 failed, 2 s", wrong)


def judge_h2load(said: str) -> tuple[str, list[str]]:
    """How many requests, and whether each was answered."""
    done = re.search(r"(\d+) total, .* (\d+) succeeded, (\d+) failed, (\d+) errored", said)
    if not done:
        return "no report", [said[-300:]]
    failed = int(done[3]) + int(done[4])
    return f"{failed} of {done[1]} failed", [] if failed == 0 and done[1] == done[2] else [said[-600:]]


def h2load(target: Target) -> Found:
    """Many streams at once on each connection of HTTP/2."""
    options = "-n 5000 -c 50 -m 20"
    said = on(TESTER, f"h2load {options} https://{target.name}/")
    figure, wrong = judge_h2load(said.stdout)
    command = f"h2load {options} https://NAME/"
    return Found(f"h2load {version('nghttp2-client')}", command, target.kind, figure, "0 failed", wrong)

"""The bench of a release: what users meet while the code changes, in three ways. `python -m bench.releases`.

`flaskctl activate` of a staged release on a host of this role; `systemctl restart` of the plain configuration; and what
Ansistrano does: a directory for each release, a link, a restart. On the hosts that `make bench` makes, with the same
app, asked 200 times a second meanwhile. A request waits 100 ms for its answer, so that some are always under way.
Results go to bench/figures/releases.json.
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor

from bench import draw, farm, record, serving
from bench.cases import Result, read_paced
from bench.serving import CLIENT, PROGRAMS, host, inside
from tools.run import main

RATE, CLIENTS, SECONDS = 200, 64, 9
LEAD = 4.0  # seconds of requests before a release, one of which is not counted
UNIT = "/etc/systemd/system/hello.service"
SIDES = {"restart": "seed", "link": "seed", "role": "role"}
# Of the app's processes, every 50 ms: their memory, a shared page counted once, in MB; which of them are there; and
# which text nginx answers with. All at times since the epoch, for the release begins elsewhere.
WATCH = r"""
import glob, json, os, sys, time, urllib.request
end, seen = time.time() + float(sys.argv[1]), []
while time.time() < end:
    memory, alive = 0, []
    for directory in glob.glob('/proc/[0-9]*'):
        try:
            if int(directory[6:]) == os.getpid() or b'gunicorn' not in open(directory + '/cmdline', 'rb').read():
                continue
            memory += int(open(directory + '/smaps_rollup').read().split('\nPss:')[1].split()[0])
            alive.append(int(directory[6:]))
        except (OSError, IndexError):
            continue
    try:
        said = urllib.request.urlopen('http://127.0.0.1/', timeout=5).read().decode()
    except OSError:
        said = ''
    seen.append([time.time(), memory / 1024, alive, said])
    time.sleep(0.05)
print(json.dumps(seen))
"""


def releasing(side: str, number: int) -> str:
    """What releases on a plain host, in its shell."""
    change = f"""sed -i 's/Hello Flask[^"]*/Hello Flask, release {number}!/'"""
    if side == "restart":
        return f"{change} /opt/hello/src/app.py && systemctl restart hello"
    new = f"/opt/hello/releases/{number}"
    return (
        f"mkdir -p /opt/hello/releases && cp -r /opt/hello/src {new} && {change} {new}/app.py"
        f" && ln -sfn {new} /opt/hello/next && mv -T /opt/hello/next /opt/hello/current && systemctl restart hello"
    )


def prepare(side: str, number: int) -> str:
    """Bring a release to where the next command takes it from; that command."""
    if side != "role":
        directory = "src" if side == "restart" else "current"
        inside(
            host("seed"),
            *("sh", "-c"),
            "[ -e /opt/hello/current ] || ln -s src /opt/hello/current; systemctl stop hello"
            f" && sed -i 's,^WorkingDirectory=.*,WorkingDirectory=/opt/hello/{directory},' {UNIT}"
            " && systemctl daemon-reload && systemctl start hello && sleep 2",
        )
        return releasing(side, number)
    inside(
        host("role"),
        *("sh", "-c"),
        "rm -rf /tmp/next && cp -rL /srv/hello/current/app /tmp/next"
        f""" && sed -i 's/Hello Flask[^"]*/Hello Flask, release {number}!/' /tmp/next/app.py"""
        " && tar -C /tmp/next -czf /tmp/next.tar.gz .",
    )
    staged = json.loads(inside(host("role"), "flaskctl", "--json", "hello", "stage", "/tmp/next.tar.gz"))  # nosec B108
    return f"flaskctl hello activate {staged['id']}"


def measure(side: str, number: int) -> dict[str, float]:
    """Release once while it is asked."""
    where = host(SIDES[side])
    command = prepare(side, number)
    argv = ("python3", "-", farm.address(where), "80", "/wait", "--rate", str(RATE), "--clients", str(CLIENTS))
    with ThreadPoolExecutor() as pool:
        seen = pool.submit(inside, where, "python3", "-c", WATCH, str(SECONDS))
        users = pool.submit(inside, CLIENT, *argv, "--seconds", str(SECONDS - 1), program=PROGRAMS["paced"])
        time.sleep(LEAD)
        began = time.time()
        inside(where, "sh", "-c", command)
        ended = time.time()
        samples, met = json.loads(seen.result()), read_paced(users.result())
    return {"command": round(ended - began, 2), **told(samples, began, f"release {number}!"), **of_users(met)}


def of_users(met: dict[str, float]) -> dict[str, float]:
    """What the users' side says of a release."""
    return {name: met[name] for name in ("requests", "errors", "slowest") if name in met}


def told(samples: list[tuple[float, float, list[int], str]], began: float, text: str) -> dict[str, float]:
    """When the release first answered and the last old process was gone, and the memory before and at the peak."""
    before = [each for each in samples if each[0] < began]
    old = set(before[-1][2])
    ready = next((when for when, _, _, said in samples if text in said), float("inf"))
    gone = next((when for when, _, alive, _ in samples if when > began and not old & set(alive)), float("inf"))
    return {
        "ready": round(ready - began, 2),
        "drained": round(gone - began, 2),
        "memory": round(before[-1][1], 1),
        "peak": round(max(each[1] for each in samples), 1),
    }


def work() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Release in three ways while users ask.")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each (%(default)s)")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running")
    parser.add_argument("--reuse", action="store_true", help="take the hosts that a run with --keep has left")
    options = parser.parse_args()
    try:
        if not options.reuse:
            serving.up(serving.workshop())
        taken = []
        for number in range(options.rounds):
            for side in list(SIDES) if number % 2 == 0 else list(SIDES)[::-1]:
                figures = measure(side, int(time.time()))
                print(f"  {number + 1}  {side:8} {serving.said(figures)}", flush=True)
                taken.append(Result("release", side, number, figures))
        command = f"python -m bench.releases --rounds {options.rounds}"
        record.keep("releases", "release", command, serving.made_with(), taken)
    finally:
        if not (options.keep or options.reuse):
            serving.down()
    draw.write()
    return 0


if __name__ == "__main__":
    main(work)

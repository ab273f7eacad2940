"""A background worker and a scheduled job of the load app: each job says when it begins and when it is done.

`worker.py` does one job after the other and, told to stop, finishes the one in its hands; `worker.py tick` does one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

VERSION = (Path(__file__).parent / "version.txt").read_text("utf-8").strip()
stopping = False


def stop(number: int, frame: object) -> None:
    global stopping
    stopping = True


def job(kind: str, number: int, seconds: float) -> None:
    name = f"{kind}\t{VERSION}\t{os.getpid()}-{number}"
    for word in ("begin", "end"):
        with open("/var/lib/hello/jobs.log", "a", encoding="utf-8") as log:
            log.write(f"{word}\t{name}\n")
        time.sleep(seconds if word == "begin" else 0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    if sys.argv[1:] == ["tick"]:
        job("tick", 0, 3)
    else:
        done = 0
        while not stopping:
            job("worker", done, 1)
            done += 1

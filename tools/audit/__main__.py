"""`make audit`: outside testers against hosts that the role made with its defaults; their table into docs/security.md.

ONLY="sslyze gixy" make audit takes some of them and leaves the table as it is, KEEP=1 leaves the hosts, and uses those
that run.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from tools import engine, images
from tools.audit import files, load, places, table, tls, units, web
from tools.audit.table import Found
from tools.run import ROOT, main, seconds

# what each is called by, and what it says of a host
ON_HOSTS: dict[str, Callable[[places.Target], Found | list[Found]]] = {
    "sslyze": tls.sslyze,
    "testssl": tls.testssl,
    "nmap": web.nmap,
    "gixy": web.gixy,
    "corpus": web.corpus,
    "wapiti": web.wapiti,
    "schemathesis": web.schemathesis,
    "slowhttptest": load.slowhttptest,
    "slow-client": lambda target: load.slow_client(target, 443),
    "slow-client-http": lambda target: load.slow_client(target, 80),
    "h2load": load.h2load,
    "rapid-reset": load.rapid_reset,
    "app-unit": lambda target: [units.serving(target), *units.app(target)],
    "nginx-unit": units.nginx,
}
ON_FILES: dict[str, Callable[[], Found]] = {"bandit": files.bandit, "zizmor": files.zizmor}
EXAMPLES = "300"  # of the property tests, where `make test` takes a few


def properties() -> list[str]:
    """The property tests with many examples; nothing where they pass."""
    argv = [sys.executable, "-m", "pytest", "-q", "tests/unit/role/test_structure.py"]
    environment = {**os.environ, "FLASKFLEET_EXAMPLES": EXAMPLES}
    done = subprocess.run(argv, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return [] if done.returncode == 0 else [done.stdout[-3000:]]


def said(name: str, began: float, every: Sequence[Found]) -> None:
    """One line for a tester, and one for all that is wrong."""
    figures = "; ".join(f"{each.where}: {each.figure}" for each in every)
    print(f"{name}: {seconds(time.monotonic() - began)}, {figures}", flush=True)
    for each in every:
        for line in each.wrong:
            print(f"  FAILED {each.where}: {line}", flush=True)


def testers(only: Sequence[str], targets: Sequence[places.Target]) -> list[Found]:
    """All of them, one after the other: what one loads must not be what another measures."""
    found: list[Found] = []
    for name in only:
        began, every = time.monotonic(), []
        if name in ON_FILES:
            every = [ON_FILES[name]()]
        for target in targets if name in ON_HOSTS else ():
            result = ON_HOSTS[name](target)
            every += result if isinstance(result, list) else [result]
        said(name, began, every)
        found += every
    return found


def work() -> int:
    """The command line."""
    names = [*ON_HOSTS, *ON_FILES, "properties"]
    parser = argparse.ArgumentParser(description="Outside testers against hosts that the role made with its defaults.")
    parser.add_argument("testers", nargs="*", metavar="TESTER", help=f"{', '.join(names)}; all unless given")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running, and use those that run already")
    options = parser.parse_args()
    unknown = [name for name in options.testers if name not in names]
    if unknown:
        parser.error(f"no such tester: {', '.join(unknown)}. There are: {', '.join(names)}.")
    chosen = options.testers or names
    targets: list[places.Target] = []
    try:
        if any(name in ON_HOSTS for name in chosen):
            engine.up()
            images.ensure(list(places.KINDS))
            targets = places.make_targets(options.keep)
            places.make_tester(targets, options.keep)
        found = testers(chosen, targets)
    finally:
        if targets and not options.keep:
            places.remove()
    wrong = [line for each in found for line in each.wrong]
    if "properties" in chosen:
        failed = properties()
        print("\n".join(["properties:", *(failed or ["  no value changes the structure of a file"])]), flush=True)
        wrong += failed
    if not options.testers:
        table.write(found, datetime.date.today().isoformat())
    print(f"\n{table.table(found)}\n\n{len(found)} figures, {len(wrong)} beyond their limit", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    main(work)

"""What every tool needs: run a command into a log, say a step in one line, stop with one sentence."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tools.progress import Durations, Line
from tools.progress import seconds as seconds

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
LOGS = CACHE / "logs"
DURATIONS = Durations(CACHE / "durations.json")
POLITE = ("nice", "-n", "19")  # what needs no host takes the time that those leave who wait for theirs


class Problem(Exception):
    """A failure the person at the keyboard can act on: one sentence, and the evidence below it."""

    def __init__(self, sentence: str, evidence: str = "") -> None:
        super().__init__(sentence)
        self.evidence = evidence


@contextmanager
def step(title: str) -> Iterator[None]:
    """Say what is about to take a while and, on the same line, how long it took; on a terminal for how long it runs."""
    started, last = time.monotonic(), DURATIONS.last(title)
    outer, line = Line.shown, Line(lambda took: f"{title} ... {seconds(took)}{last}")
    if not line.in_place:
        print(f"{title}{last} ... ", end="", flush=True)
    outcome = "failed after "
    try:
        with line if outer is None else nullcontext():
            yield
        outcome = ""
    finally:
        took = time.monotonic() - started
        (outer or line).say(f"{f'{title} ... ' if line.in_place else ''}{outcome}{seconds(took)}")
    DURATIONS.keep(title, took)


def tail(path: Path, lines: int = 40) -> str:
    """The last lines of a log, or an empty string where there is none."""
    if not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])


def output(argv: Sequence[str]) -> str | None:
    """Standard output of a short command, stripped; None when it fails or does not exist."""
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def logged(argv: Sequence[str], log: Path, env: Mapping[str, str] | None = None) -> int:
    """Run a command in the repository with all it says in a log; return its exit code.

    The log begins with the command itself, so that it can be run again by hand.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w") as sink:
        sink.write(f"$ {shlex.join(argv)}\n")
        sink.flush()
        environment = None if env is None else {**os.environ, **env}
        try:
            return subprocess.run(
                argv, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink, check=False
            ).returncode
        except OSError as error:
            sink.write(f"{error}\n")
            return 127


def need(argv: Sequence[str], log: Path, sentence: str, env: Mapping[str, str] | None = None) -> None:
    """Run a command into a log and stop with the sentence and the end of the log when it fails."""
    if logged(argv, log, env) != 0:
        raise Problem(sentence, f"{tail(log)}\n(whole log: {short(log)})")


def copy_tree(home: Path, left_out: Callable[[str], bool] = lambda name: False) -> None:
    """Copy the files of this repository, those that are not committed yet too, less those that `left_out` names."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if os.path.lexists(ROOT / name) and not left_out(name):
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, home / name, follow_symlinks=False)


def short(path: Path) -> str:
    """A path as a person in the repository would type it."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def apt_install(packages: Sequence[str]) -> None:
    """Install distribution packages on this machine, saying so; for root on Debian or Ubuntu only.

    Services are kept from starting where systemd is not in charge: an init script would start a daemon
    in ways this code then has no record of.
    """
    log = LOGS / "apt.log"
    noninteractive = {"DEBIAN_FRONTEND": "noninteractive"}
    policy = Path("/usr/sbin/policy-rc.d")
    keep_quiet = not Path("/run/systemd/system").is_dir() and not policy.exists()
    with step(f"installing {', '.join(packages)} on this machine with apt"):
        need(["apt-get", "update", "-q"], log, "apt-get update failed on this machine.", noninteractive)
        if keep_quiet:
            policy.write_text("#!/bin/sh\nexit 101\n")
            policy.chmod(0o755)
        try:
            need(
                ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages],
                log,
                f"apt-get could not install {' '.join(packages)}.",
                noninteractive,
            )
        finally:
            if keep_quiet:
                policy.unlink()


def main(work: Callable[[], int]) -> None:
    """Run a tool's work: a Problem is one sentence on stderr and exit code 1, never a traceback."""
    try:
        code = work()
    except Problem as problem:
        sys.stdout.flush()
        if problem.evidence:
            print(f"\n{problem.evidence.rstrip()}\n", file=sys.stderr)
        print(problem, file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        code = 130
    sys.exit(code)

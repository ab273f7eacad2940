"""How other programs are run: with a PATH that has root's own, to their end, or on our own input and output."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from typing import IO, Any, NamedTuple

from flaskctl.layout import PATH

TAIL = 64 * 1024  # bytes of what a program says that are kept


class Done(NamedTuple):
    rc: int
    out: str = ""
    err: str = ""


def path_of_root(path: str) -> str:
    """Return a PATH with what only root runs: su leaves one without sbin, and so may the secure_path of sudo."""
    return ":".join(dict.fromkeys(filter(None, [*path.split(":"), *PATH.split(":")])))


def run_program(argv: Sequence[str], **kwargs: Any) -> Done:
    """Run a program to its end, its output is text. One that is not there is rc 127."""
    if "env" not in kwargs:
        kwargs["env"] = {**os.environ, "PATH": path_of_root(os.environ.get("PATH", ""))}
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, **kwargs)
    except FileNotFoundError:
        return Done(127, "", f"{argv[0]} is not installed")
    return Done(done.returncode, done.stdout, done.stderr)


def run_attached(argv: Sequence[str]) -> Done:
    """Run a program on our own input and output; return the end of what it said too, where no person reads it."""
    if sys.stdout.isatty():
        return Done(subprocess.run(argv, check=False).returncode)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        kept = [passed_on(process.stdout, sys.stdout.buffer), passed_on(process.stderr, sys.stderr.buffer)]
        said = [tail() for tail in kept]
    return Done(process.returncode, *said)


def passed_on(source: IO[bytes] | None, sink: IO[bytes]) -> Callable[[], str]:
    """Pass on what comes, as it comes; return what waits for the end and tells the last of it."""
    last = [b""]

    def pass_on() -> None:
        with contextlib.suppress(BrokenPipeError):
            while source and (some := source.read1(TAIL)):  # type: ignore[attr-defined]
                last[0] = (last[0] + some)[-TAIL:]
                sink.write(some)
                sink.flush()
        if source:  # where nobody reads any more the program hears of it
            source.close()

    def tail() -> str:
        thread.join()
        return last[0].decode("utf-8", "replace")

    thread = threading.Thread(target=pass_on)
    thread.start()
    return tail

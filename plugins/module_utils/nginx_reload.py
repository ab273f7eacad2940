# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Tell whether nginx has taken its configuration: of a reload that fails its log alone tells, and the old one goes on.

`nginx -t` passes over an address that is in use, and `systemctl reload` is a signal: neither hears what became of it.
What does is that nginx starts new workers. Part of the program of flaskfleet.web.config_files: Python 3.9, the standard
library alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from collections.abc import Sequence

PROC = "/proc"
UNIT = "nginx.service"
SECONDS = 60.0  # for nginx to read the configuration of a busy host
EMERGENCY = re.compile(r"\[emerg\] (\d+)#\d+: (.+)")
TRIES_AGAIN = re.compile(r"bind\(\) to ")  # five times, half a second apart


def reloads(command: Sequence[str]) -> bool:
    """Tell whether a command has nginx read its configuration anew."""
    return command[:1] == ["systemctl"] and command[-1:] == [UNIT] and any("reload" in word for word in command[1:-1])


def main_pid() -> int:
    """Return the process of nginx that starts the others, 0 where it does not run."""
    argv = ["systemctl", "show", "--property=MainPID", UNIT]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return 0
    number = done.stdout.strip().partition("=")[2]
    return int(number) if number.isdigit() else 0


def children(pid: int) -> set[int]:
    """Return the processes that a process has started."""
    found = set()
    for name in filter(str.isdigit, os.listdir(PROC)):
        with contextlib.suppress(OSError, ValueError, IndexError), open(f"{PROC}/{name}/stat", "rb") as file:
            # the program's name, in parentheses, can hold anything
            if int(file.read().rpartition(b")")[2].split()[1]) == pid:
                found.add(int(name))
    return found


def told(said: Sequence[str]) -> str:
    """Return why nginx refuses, with the way out where it stands in its own way."""
    words = "; ".join(said) or f"it has started no new worker in {SECONDS:.0f} s"
    if not any("Address already in use" in each for each in said):
        return words
    return (
        f"{words}. While it runs it does not change between one address of a port and all: where nothing else has that"
        " port, stop it, run this again, and start it: systemctl stop nginx"
    )


class Watch:
    """An nginx before a reload of it."""

    def __init__(self) -> None:
        """Look at it."""
        self.master = main_pid()
        self.workers = children(self.master) if self.master else set()
        self.log, self.size = "", 0
        with contextlib.suppress(OSError):
            self.log = os.readlink(f"{PROC}/{self.master}/fd/2")  # where it writes errors, by nginx itself
            self.size = os.stat(self.log).st_size if os.path.isfile(self.log) else 0

    def said(self) -> list[str]:
        """Return why it refuses, from its log since then."""
        try:
            with open(self.log, "rb") as file:
                file.seek(self.size)
                text = file.read().decode("utf-8", "replace")
        except OSError:
            return []
        return [words for pid, words in EMERGENCY.findall(text) if int(pid) == self.master]

    def refusal(self) -> str:
        """Return why it does not have the configuration; nothing where it has, or was started anew, or does not run."""
        end = time.monotonic() + SECONDS
        while self.master and not children(self.master) - self.workers and main_pid() == self.master:
            said = list(dict.fromkeys(self.said()))
            if any(not TRIES_AGAIN.match(words) for words in said) or time.monotonic() > end:
                return told(said)
            time.sleep(0.05)
        return ""

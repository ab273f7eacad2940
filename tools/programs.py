"""Programs of others that judge what is written here: jq the recipes for the log, promtool the rules."""

from __future__ import annotations

import os
import shutil

from tools.run import apt_install

PROGRAMS = {"jq": "jq", "promtool": "prometheus"}  # and Debian's package of each


def ensure() -> None:
    """Install those that are missing, where root may; elsewhere the tests that need one say that they were skipped."""
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if missing and os.geteuid() == 0 and shutil.which("apt-get"):
        apt_install(missing)

"""Programs of others that judge what is written here: jq the recipes for the log, promtool the rules."""

from __future__ import annotations

import os
import shutil

from tools.run import CACHE, LOGS, apt_install, need, step

PLACE = CACHE / "programs"
PROMETHEUS = "prometheus"  # the package that has promtool: taken out of it, for an installed one starts a server


def promtool() -> str | None:
    """The program, this machine's own or the one that was fetched."""
    fetched = PLACE / "usr/bin/promtool"
    return shutil.which("promtool") or (str(fetched) if fetched.exists() else None)


def fetch_promtool() -> None:
    """Take it out of Debian's package. Raises Problem where apt cannot have that."""
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    log = LOGS / "programs.log"
    with step("fetching promtool with apt"):
        need(["apt-get", "update", "-q"], log, "apt-get update failed on this machine.")
        download = ["env", f"--chdir={PLACE}", "apt-get", "download", "-q", PROMETHEUS]
        need(download, log, f"apt-get could not download {PROMETHEUS}.")
        (package,) = PLACE.glob("*.deb")
        need(["dpkg-deb", "--extract", str(package), str(PLACE)], log, f"{package.name} could not be unpacked.")


def ensure() -> None:
    """Have both, where root may; elsewhere the tests that need one say that they were skipped."""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    if shutil.which("jq") is None:
        apt_install(["jq"])
    if promtool() is None:
        fetch_promtool()

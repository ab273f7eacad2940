"""Pages as a browser shows them: `python -m tools.browser` keeps a picture of each page of the demo in docs/compose."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from tools import demo
from tools.run import ROOT, Problem, apt_install, main

PROGRAM = "chromium"
PACKAGES = (PROGRAM, "fonts-dejavu-core")
PICTURES = ROOT / "docs/compose"
# the name of each picture, and the address a person would type
PAGES = {"front": "/", "admin": "/admin", "static": "/static/"}
# nothing but the page is asked for
OPTIONS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--hide-scrollbars", "--window-size=480,120"),
)


def ensure() -> None:
    """Make sure of Debian's Chromium."""
    if shutil.which(PROGRAM) is None:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Problem(f"No Chromium to open the pages with: sudo apt install {' '.join(PACKAGES)}.")
        apt_install(PACKAGES)


def look(url: str, picture: Path) -> str:
    """Open an address in a new, empty profile; keep a picture of what is shown and return the document."""
    with tempfile.TemporaryDirectory() as profile:
        argv = [PROGRAM, *OPTIONS, f"--user-data-dir={profile}", "--dump-dom", f"--screenshot={picture}", url]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0 or not picture.exists():
        raise Problem(f"Chromium could not open {url}.", done.stderr)
    return done.stdout


def work() -> int:
    """The command line."""
    ensure()
    PICTURES.mkdir(exist_ok=True)
    for name, path in PAGES.items():
        picture = PICTURES / f"{name}.png"
        look(f"http://localhost:{demo.settings().port}{path}", picture)
        print(picture.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    main(work)

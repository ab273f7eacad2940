"""gixy-next on the sites of all scenarios of the templates, without a host: one of the linters."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.rendering import DEBIAN_12, SCENARIOS, render
from tools.audit.web import gixy_findings, high

VERSIONS = ({"nginx": "1.18.0", "openssl": "1.1.1w"}, {"nginx": "1.30.0", "openssl": "3.5.4"})


def main() -> int:
    """All of them in one file: that they are of one name is nothing to gixy."""
    sites = [
        render("app.nginx.conf", values, {**DEBIAN_12, **host}) for values in SCENARIOS.values() for host in VERSIONS
    ]
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "nginx.conf"
        path.write_text("events {}\nhttp {\n" + "\n".join(sites) + "\n}\n")
        wrong = high(gixy_findings(path))
    print("\n".join(wrong or [f"{len(sites)} sites, nothing HIGH"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

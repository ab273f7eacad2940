"""One unit that systemd cannot load holds no other back: what was to stop has stopped (systemd 262 stops none)."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

import pytest

from tests.integration.asking import Site

pytestmark = pytest.mark.bracket

CONFIG = "/run/outcomes.json"
READ = "import json, sys; print(json.load(open(sys.argv[1]))['archive_sha256'])"


def stage(site: Site, schedule: str, rc: int = 0) -> dict[str, str]:
    """Stage the code that serves once more, with a worker and a schedule."""
    home = f"/srv/{site.app}/releases/{site.current}"
    config = json.loads(site.root(f"cat {home}/config.json"))
    service = "[Service]\nExecStart=/bin/sleep 86400\n"
    config["processes"] = {
        "sleeper": {"service": service},
        "nightly": {"service": service, "timer": f"[Timer]\nOnCalendar={schedule}\n"},
    }
    site.root(f"printf %s {shlex.quote(json.dumps(config))} > {CONFIG}")
    sha256 = site.python(READ, f"{home}/manifest.json")
    return site.flaskctl("stage", "--sha256", sha256, "--config", CONFIG, rc=rc)


def units(site: Site) -> list[str]:
    """Return the units of releases that are active, timers too."""
    listed = site.root(f"systemctl list-units --plain --no-legend --state=active '{site.app}@*' '{site.app}.*@*'")
    return sorted(line.split()[0] for line in listed.splitlines())


@pytest.fixture(scope="module")
def before(site: Site) -> Iterator[str]:
    before = site.current
    yield before
    site.root(f"rm -f {CONFIG}")
    site.flaskctl("activate", before)


def test_a_schedule_that_systemd_cannot_read_is_refused_and_leaves_nothing(site: Site, before: str) -> None:
    releases = site.flaskctl("releases")["releases"]
    answer = stage(site, "every night", rc=1)
    assert "the schedule 'every night' of nightly" in answer["msg"]
    assert site.flaskctl("releases")["releases"] == releases
    assert site.root(f"ls /etc/systemd/system/{site.app}.*@* 2>&1 || true").count("nightly") == 0


def test_a_release_with_a_unit_gone_bad_stops_as_a_whole(site: Site, before: str) -> None:
    staged = stage(site, "daily")["id"]
    site.flaskctl("activate", staged)
    assert units(site) == [
        f"{site.app}.nightly@{staged}.timer",
        f"{site.app}.sleeper@{staged}.service",
        f"{site.app}@{staged}.service",
    ]
    timer = f"/etc/systemd/system/{site.app}.nightly@{staged}.timer"
    # as of a role that did not ask systemd first
    site.root(
        f"systemctl stop {timer.rpartition('/')[2]}; sed -i s/daily/every\\ night/ {timer}; systemctl daemon-reload"
    )
    assert site.flaskctl("activate", before)["active"] == [before]
    assert units(site) == [f"{site.app}@{before}.service"]
    assert {site.get("/").release for _ in range(10)} == {before}

"""What a host tells a monitoring system: figures that are true of it, the file for node_exporter, StatsD."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.exposition import Family, families
from tests.integration.asking import Site

PROM = "/var/lib/prometheus/node-exporter/flaskfleet-hello.prom"
STATSD = "/run/statsd-test"
# as StatsD does: takes what comes, and says so
LISTENER = f"""
import os, socket
taken = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); taken.bind("{STATSD}.sock"); os.chmod("{STATSD}.sock", 0o666)
while True:
    data = taken.recv(4096)
    with open("{STATSD}.log", "ab") as file:
        file.write(data + b"\\n")
"""


@pytest.fixture
def timed(site: Site) -> Iterator[None]:
    """Have the timer for node_exporter, as the playbook's setting has it: settings, and the turn of the host."""
    path, current = "/etc/flaskctl/hello.json", site.current
    before = site.root(f"cat {path}")
    wanted = json.dumps({**json.loads(before), "metrics": PROM.rpartition("/")[0]})
    site.python("import sys; open(sys.argv[1], 'w').write(sys.argv[2])", path, wanted)
    site.flaskctl("activate", current)
    yield
    site.python("import sys; open(sys.argv[1], 'w').write(sys.argv[2])", path, before + "\n")
    assert site.flaskctl("activate", current)["changed"]
    assert site.root(f"ls {PROM} /etc/systemd/system/hello.metrics.timer 2>/dev/null || true") == ""
    assert "hello.metrics" not in site.root("systemctl list-units --all --no-legend 'hello.metrics*'")
    assert site.flaskctl("status")["problems"] == []


def value(found: dict[str, Family], name: str, **labels: str) -> float:
    (sample,) = [one for one in found[f"flaskfleet_{name}"].samples if labels.items() <= one.labels.items()]
    return sample.value


def test_the_figures_are_true_of_this_host(site: Site) -> None:
    assert site.get("/").status == 200
    found = families(site.root("flaskctl metrics") + "\n")
    assert value(found, "up", app="hello") == 1 and value(found, "release_info", release=site.current) == 1
    workers = site.root(f"cat /proc/$(systemctl show -p MainPID --value hello@{site.current})/task/*/children").split()
    assert value(found, "workers") == len(workers)
    assert value(found, "socket_queue_connections") == 0
    # of the unit, or Gunicorn's own: an older one listens anew with what it has
    assert value(found, "socket_queue_limit_connections") in (2048, 4096)
    assert value(found, "connections") >= value(found, "workers_busy") >= 0
    assert value(found, "unit_restarts_total", process="web") == 0 and value(found, "cpu_seconds_total") > 0
    told = [json.loads(line) for line in site.root("cat /var/log/flaskctl/hello.jsonl").splitlines()]
    last = [each for each in told if each["event"] in ("activate", "rollback", "refuse")][-1]
    assert value(found, "last_rollout_success") == (last["event"] != "refuse" and not last.get("still")), last
    assert "began" not in last or value(found, "last_rollout_duration_seconds") < 300
    assert value(found, "recent_requests") >= 1 and 0 < value(found, "recent_p95_seconds") < 30
    assert value(found, "problems") == value(found, "drifted") == value(found, "lock_held") == 0


def test_a_connection_that_a_worker_holds_is_seen(site: Site) -> None:
    """Of the default app, on a port: of one that waits the kernel knows nobody."""
    script = """
import socket, subprocess, time
held = socket.create_connection(("127.0.0.1", 5000)); held.sendall(b"GET / HTTP/1.1\\r\\nHost: localhost\\r\\n")
time.sleep(0.3)
print(subprocess.run(["flaskctl", "hello", "metrics"], capture_output=True, text=True, check=True).stdout)
"""
    found = families(site.python(script) + "\n")
    assert value(found, "connections") >= 1 and value(found, "workers_busy") >= 1


def test_node_exporter_finds_them_and_they_go_with_the_setting(site: Site, timed: None) -> None:
    assert site.eventually(lambda: site.host.run(f"test -s {PROM}").rc == 0)
    found = families(site.root(f"cat {PROM}") + "\n")
    assert value(found, "up", app="hello") == 1
    assert site.root(f"stat -c '%a %U' {PROM}") == "644 root"
    assert (
        site.root("systemctl is-active hello.metrics.timer; systemctl is-enabled hello.metrics.timer")
        == "active\nenabled"
    )
    assert site.flaskctl("status")["units"]["hello.metrics.timer"]["wanted"]


def test_a_release_is_tried_before_anything_switches_and_tells_statsd_through_its_sandbox(site: Site) -> None:
    before = site.current
    config = json.loads(site.root("cat /srv/hello/current/config.json"))
    config["gunicorn_conf"] += f"\nstatsd_host = 'unix://{STATSD}.sock'\n"
    site.python("import sys; open(sys.argv[1], 'w').write(sys.argv[2])", f"{STATSD}.json", json.dumps(config))
    site.host.run("systemd-run --quiet --unit=statsd-test python3 -c %s", LISTENER)
    try:
        assert site.eventually(lambda: site.host.run(f"test -S {STATSD}.sock").rc == 0)
        good = site.flaskctl("stage", "--config", f"{STATSD}.json", "--try", "health")
        assert good["tried"] and good["id"] != before == site.get("/").release
        assert site.root("systemctl list-units --all --plain --no-legend 'hello.try-*'") == ""
        assert "gunicorn.workers:1|g" in site.root(f"cat {STATSD}.log")
    finally:
        site.root(f"systemctl stop statsd-test; rm -f {STATSD}.*")
        site.flaskctl("prune", "--keep", "1")
    assert site.current == before

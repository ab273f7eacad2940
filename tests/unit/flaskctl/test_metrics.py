"""metrics tells an app in figures from what stands on the host: text that Prometheus reads, and no figure made up."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.exposition import Family, families
from tests.unit.flaskctl.fake_host import FakeHost, call, flaskctl, note
from tests.unit.flaskctl.given import PROCESSES

Stage = Callable[..., str]
PROM = "/var/lib/prometheus/node-exporter/flaskfleet-hello.prom"
TIMER, SERVICE = "hello.metrics.timer", "hello.metrics.service"
NGINX = """Active connections: 291
server accepts handled requests
 16630948 16630946 31070465
Reading: 6 Writing: 179 Waiting: 106
"""
SS = """\
u_str LISTEN 0      4096   /run/flaskfleet-apps/hello.sock 20123            * 0
tcp   LISTEN 7      4096       127.0.0.1:5000      0.0.0.0:*
tcp   LISTEN 0      511          0.0.0.0:80        0.0.0.0:*
"""
TCP = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1388 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 100 1 0 100 0 0 10 0
   1: 0100007F:1388 0100007F:9999 01 00000000:00000000 00:00000000 00000000   990        0 201 1 0 20 4 30 10 -1
   2: 0100007F:1388 0100007F:9998 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1
   3: 0100007F:9999 0100007F:1388 01 00000000:00000000 00:00000000 00000000    33        0 301 1 0 20 4 30 10 -1
   4: 0100007F:1388 0100007F:9997 08 00000000:00000000 00:00000000 00000000   990        0 202 1 0 20 4 30 10 -1
"""
UNIX = """\
Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01   400 /run/flaskfleet-apps/hello.sock
0000000000000000: 00000003 00000000 00000000 0001 03   401 /run/flaskfleet-apps/hello.sock
0000000000000000: 00000003 00000000 00000000 0001 03     0 /run/flaskfleet-apps/hello.sock
0000000000000000: 00000003 00000000 00000000 0001 03   402
"""


def settings(host: FakeHost, **more: Any) -> None:
    path = host.path("/etc/flaskctl/hello.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), **more}))
    note(host)


def put(host: FakeHost, path: str, text: str) -> None:
    host.path(path).parent.mkdir(parents=True, exist_ok=True)
    host.path(path).write_text(text)


def serve(host: FakeHost, stage: Stage, **changes: Any) -> str:
    current = stage("v1", **changes)
    assert call(host, "hello", "activate", current).rc == 0
    return current


def figures(host: FakeHost, *words: str) -> dict[str, Family]:
    done = call(host, *(words or ("hello", "metrics")))
    assert done.rc == 0, done
    return families(done.out)


def value(found: dict[str, Family], name: str, **labels: str) -> float:
    """Return the one sample that has these labels, of whatever app."""
    (sample,) = [one for one in found[f"flaskfleet_{name}"].samples if labels.items() <= one.labels.items()]
    return sample.value


def everything(host: FakeHost, stage: Stage) -> str:
    """Have a host on which each figure can be told; return its release."""
    current = serve(host, stage, processes=PROCESSES)
    settings(host, nginx_status="127.0.0.81:80", certificate="/etc/ssl/a.pem", selfsigned=True, certificate_names=["a"])
    host.elsewhere["127.0.0.81"] = flaskctl.Answer(200, "", NGINX)
    host.queues = SS
    put(host, "/proc/net/tcp", TCP)
    put(host, "/proc/net/unix", UNIX)
    for pid, number in ((2, 201), (3, 0)):
        fd = host.path(f"/proc/{pid}/fd")
        fd.mkdir(parents=True)
        os.symlink(f"socket:[{number or 999}]", fd / "7")
    group = f"/system.slice/hello@{current}.service"
    host.set_unit(f"hello@{current}.service", ControlGroup=group, NRestarts="3")
    for file, text in (
        *(("memory.current", "104857600\n"), ("memory.max", "209715200\n"), ("pids.current", "9\n")),
        *(("pids.max", "320\n"), ("memory.events", "low 0\noom 1\noom_kill 2\n")),
        ("cpu.stat", "usage_usec 2500000\nuser_usec 1\n"),
    ):
        put(host, f"/sys/fs/cgroup{group}/{file}", text)
    line = {"time": flaskctl.utc(host.clock - 10).replace("Z", "+00:00"), "status": 200, "seconds": 0.2}
    line |= {"upstream_status": "200", "release": current}
    lines = [line, {**line, "status": 502, "upstream_status": "502", "seconds": 0.9}]
    put(host, "/var/log/nginx/hello.access.log", "".join(f"{json.dumps(each)}\n" for each in lines))
    put(host, "/srv/hello/rollout.json", json.dumps({"id": "x", "by": "ada", "seen": flaskctl.utc(host.clock)}))
    real = host.run

    def run(argv: Any, **kwargs: Any) -> Any:
        ends = "notAfter=Jan  1 00:00:00 2027 GMT\nsubject=CN = a\nissuer=CN = a\n"
        return flaskctl.Done(0, ends) if "-enddate" in argv else real(argv, **kwargs)

    host.run = run  # type: ignore[method-assign]
    return current


def test_each_figure_that_there_is_can_be_told(host: FakeHost, stage: Stage) -> None:
    everything(host, stage)
    found = figures(host)
    assert set(found) == {f"flaskfleet_{name}" for name in flaskctl.METRICS}
    assert all(sample.labels["app"] == "hello" for family in found.values() for sample in family.samples)


def test_the_figures_are_those_of_the_host(host: FakeHost, stage: Stage) -> None:
    current = everything(host, stage)
    found = figures(host)
    told = {name: value(found, name) for name in ("up", "workers", "workers_busy", "connections", "releases")}
    assert told == {"up": 1, "workers": 2, "workers_busy": 1, "connections": 1, "releases": 1}
    assert value(found, "release_info", release=current, revision="abc123") == 1
    assert (value(found, "socket_queue_connections"), value(found, "socket_queue_limit_connections")) == (7, 4096)
    assert value(found, "unit_restarts_total", process="web") == 3
    assert (value(found, "memory_bytes"), value(found, "memory_limit_bytes")) == (104857600, 209715200)
    assert (value(found, "tasks"), value(found, "tasks_limit"), value(found, "oom_kills_total")) == (9, 320, 2)
    assert value(found, "cpu_seconds_total", process="web") == 2.5
    assert value(found, "last_rollout_info", result="activated", release=current) == 1
    assert value(found, "rollouts_total", result="refused") == 0
    assert value(found, "last_rollout_duration_seconds") >= 0
    assert value(found, "certificate_expiry_timestamp_seconds") == 1798761600
    assert (value(found, "recent_requests"), value(found, "recent_errors"), value(found, "recent_p95_seconds")) == (
        *(2, 1),
        0.9,
    )
    assert (value(found, "lock_held"), value(found, "lock_seen_timestamp_seconds")) == (1, int(host.clock))
    assert value(found, "nginx_connections", state="writing") == 179
    assert value(found, "nginx_connections_handled_total") == 16630946


def test_what_the_host_does_not_tell_is_left_out(host: FakeHost, stage: Stage) -> None:
    serve(host, stage)
    found = figures(host)
    assert value(found, "up") == 1 and value(found, "workers_busy") == 0
    for name in ("socket_queue_connections", "memory_bytes", "certificate_expiry_timestamp_seconds", "tasks_limit"):
        assert f"flaskfleet_{name}" not in found
    settings(host, nginx_status="127.0.0.81:80")
    host.elsewhere["127.0.0.81"] = flaskctl.Answer(404, "", "<html>another site")
    assert "flaskfleet_nginx_connections" not in figures(host)


def test_a_host_on_which_nothing_serves_says_so(host: FakeHost, stage: Stage) -> None:
    found = figures(host)
    assert value(found, "up") == 0 and value(found, "workers") == 0 and "flaskfleet_last_rollout_info" not in found
    current = serve(host, stage)
    host.set_unit(f"hello@{current}.service", ActiveState="failed")
    found = figures(host)
    assert value(found, "up") == 0 and value(found, "problems") > 0 and value(found, "workers") == 0


def test_a_refused_release_and_one_that_left_something_running_are_no_success(host: FakeHost, stage: Stage) -> None:
    one, two = stage("v1"), stage("v2")
    call(host, "hello", "activate", one)
    host.broken[two] = "import"
    assert call(host, "hello", "activate", two).rc == 1
    found = figures(host)
    assert value(found, "last_rollout_success") == 0
    assert value(found, "last_rollout_info", result="refused", release=two) == 1
    assert value(found, "rollouts_total", result="activated") == value(found, "rollouts_total", result="refused") == 1
    log = host.path("/var/log/flaskctl/hello.jsonl")
    moved = {"when": flaskctl.utc(host.clock), "event": "activate", "release": two}
    log.write_text(log.read_text() + json.dumps({**moved, "began": flaskctl.utc(host.clock - 9), "still": "it runs"}))
    host.set_unit(f"hello@{two}.service", ActiveState="active")
    found = figures(host)
    assert value(found, "last_rollout_success") == 0 and value(found, "releases_running") == 2
    assert value(found, "last_rollout_duration_seconds") == 9


def test_drained_maintenance_and_drift_are_seen(host: FakeHost, stage: Stage) -> None:
    serve(host, stage)
    call(host, "hello", "drain")
    call(host, "hello", "maintenance", "on")
    note(host)
    host.path("/etc/systemd/system/hello@.service").write_text("by hand")
    found = figures(host)
    assert (value(found, "drained"), value(found, "maintenance"), value(found, "drifted")) == (1, 1, 1)


def test_a_unix_socket_has_a_queue_and_connections_too() -> None:
    path = "/run/flaskfleet-apps/hello.sock"
    assert flaskctl.queue(SS, path) == (0, 4096) and flaskctl.queue(SS, "127.0.0.1:5000") == (7, 4096)
    assert flaskctl.queue(SS, "127.0.0.1:50") is None and flaskctl.queue("", path) is None
    # without sock_diag of Unix sockets ss knows no queue, and says 0 of 0
    assert flaskctl.queue(SS.replace("4096   /run", "0   /run"), path) is None
    assert flaskctl.accepted(TCP, UNIX, path) == {"socket:[401]"}
    assert flaskctl.accepted(TCP, UNIX, "127.0.0.1:5000") == {"socket:[201]"}
    assert flaskctl.accepted("", "", "127.0.0.1:5000") == set()


def test_all_apps_of_a_host_are_told_each_metric_once(host: FakeHost, stage: Stage) -> None:
    serve(host, stage)
    put(host, "/etc/flaskctl/other.json", '{"port": 5001}')
    found = figures(host, "metrics")
    assert {sample.labels["app"]: sample.value for sample in found["flaskfleet_up"].samples} == {"hello": 1, "other": 0}
    said = call(host, "metrics", "--json").json
    assert {"name": "flaskfleet_up", "labels": {"app": "hello"}, "value": 1} in said["metrics"]
    host.path("/etc/flaskctl/hello.json").unlink()
    host.path("/etc/flaskctl/other.json").unlink()
    assert call(host, "metrics").rc == 0


def test_one_who_is_not_root_is_told_what_anybody_may_know(host: FakeHost, stage: Stage) -> None:
    everything(host, stage)
    host.root_user = False
    found = figures(host)
    assert value(found, "up") == 1 and "flaskfleet_workers_busy" not in found


@pytest.mark.parametrize("text", ['a "quoted" one', "back\\slash", "two\nlines", "{}", "ä,=\u2028"])
def test_no_label_breaks_out(host: FakeHost, stage: Stage, text: str) -> None:
    current = serve(host, stage, notes={"revision": text})
    done = call(host, "hello", "--json", "metrics")
    sample = next(each for each in done.json["metrics"] if each["name"] == "flaskfleet_release_info")
    assert sample["labels"]["revision"] == text
    found = figures(host)["flaskfleet_release_info"].samples
    shown = text.replace("\u2028", r"\u2028")  # as any terminal shows it
    assert [one.labels for one in found] == [{"app": "hello", "release": current, "revision": shown}]


def test_names_say_their_unit_and_kind() -> None:
    for name, metric in flaskctl.METRICS.items():
        assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", name), name
        assert name.endswith("_total") == (metric.kind == "counter"), name
        # base units alone, and one that counts time from the epoch says timestamp
        assert not re.search(r"_(ms|milliseconds|minutes|hours|days|kb|mb|percent)(_|$)", name), name
        assert metric.help.endswith(".") and "\n" not in metric.help, name


# the textfile


def wanted(host: FakeHost, where: str = "/var/lib/prometheus/node-exporter") -> None:
    settings(host, metrics=where)


def unit_file(host: FakeHost, name: str) -> Path:
    return host.path(f"/etc/systemd/system/{name}")


def test_the_timer_comes_with_the_next_turn_of_the_host_and_goes_again(host: FakeHost, stage: Stage) -> None:
    current = serve(host, stage)
    assert not unit_file(host, TIMER).exists()
    wanted(host)
    status = call(host, "hello", "status", "--json").json
    assert f"{TIMER} is not as it is set: flaskctl hello activate {current}" in status["problems"]
    said = call(host, "hello", "activate", current, "--json").json
    assert said["changed"] and any(TIMER in repair for repair in said["repairs"])
    assert host.units[TIMER]["ActiveState"] == "active" and host.units[TIMER]["UnitFileState"] == "enabled"
    assert f"flaskctl hello metrics --textfile {PROM}\n" in unit_file(host, SERVICE).read_text()
    assert call(host, "hello", "status", "--json").json["problems"] == []
    assert not call(host, "hello", "activate", current, "--json").json["changed"]
    assert call(host, "hello", "metrics", "--textfile", str(host.path(PROM))).out == ""
    assert value(families(host.path(PROM).read_text()), "up") == 1
    settings(host, metrics="")
    assert call(host, "hello", "activate", current, "--json").json["changed"]
    assert not unit_file(host, TIMER).exists() and not unit_file(host, SERVICE).exists()
    assert not host.path("/var/lib/prometheus").exists()  # it was made for the file
    assert host.units[TIMER]["ActiveState"] == "inactive" and host.units[TIMER]["UnitFileState"] == "disabled"
    record = json.loads(host.path("/var/lib/flaskfleet/files.json").read_text())
    assert not [name for name in record if "metrics" in name or "prometheus" in name]


def test_another_directory_takes_the_file_along_and_leaves_what_others_have_there(host: FakeHost, stage: Stage) -> None:
    current = serve(host, stage)
    put(host, "/var/lib/prometheus/node-exporter/apt.prom", "apt 1\n")
    wanted(host)
    call(host, "hello", "activate", current)
    call(host, "hello", "metrics", "--textfile", str(host.path(PROM)))
    wanted(host, "/srv/textfiles/a")
    assert call(host, "hello", "activate", current).rc == 0
    assert not host.path(PROM).exists() and host.path("/srv/textfiles/a").is_dir()
    assert "/srv/textfiles/a/flaskfleet-hello.prom" in unit_file(host, SERVICE).read_text()
    assert call(host, "hello", "remove").rc == 0
    assert not host.path("/srv/textfiles").exists() and not unit_file(host, TIMER).exists()
    assert host.path("/var/lib/prometheus/node-exporter/apt.prom").exists()


def test_a_directory_that_is_of_a_package_by_now_stays(
    host: FakeHost, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """node_exporter came after the file: without its directory it would tell of an error from then on."""
    current = serve(host, stage)
    wanted(host)
    call(host, "hello", "activate", current)
    call(host, "hello", "metrics", "--textfile", str(host.path(PROM)))
    real = host.run

    def run(argv: Any, **kwargs: Any) -> Any:
        done = real(argv, **kwargs)
        return flaskctl.Done(0, "prometheus-node-exporter: ...") if argv[0] == "dpkg-query" else done

    monkeypatch.setattr(host, "run", run)
    settings(host, metrics="")
    assert call(host, "hello", "activate", current).rc == 0
    assert list(host.path(PROM).parent.iterdir()) == []
    assert "prometheus" not in host.path("/var/lib/flaskfleet/files.json").read_text()


def test_a_timer_that_was_stopped_or_changed_is_put_right(host: FakeHost, stage: Stage) -> None:
    current = serve(host, stage)
    wanted(host)
    call(host, "hello", "activate", current)
    host.set_unit(TIMER, ActiveState="inactive")
    assert f"{TIMER} is stopped" in "".join(call(host, "hello", "status", "--json").json["problems"])
    call(host, "hello", "activate", current)
    assert host.units[TIMER]["ActiveState"] == "active"
    unit_file(host, TIMER).write_text("by hand")
    call(host, "hello", "activate", current)
    assert "OnUnitActiveSec" in unit_file(host, TIMER).read_text()


def test_units_of_that_name_that_are_somebody_elses_stay(host: FakeHost, stage: Stage) -> None:
    current = serve(host, stage)
    put(host, f"/etc/systemd/system/{SERVICE}", "[Service]\nExecStart=/x metrics --textfile /etc/passwd.prom\n")
    put(host, "/etc/passwd.prom", "theirs")
    assert call(host, "hello", "activate", current).rc == 0
    call(host, "hello", "remove")
    assert unit_file(host, SERVICE).exists() and host.path("/etc/passwd.prom").exists()


def test_a_file_that_node_exporter_would_not_read_is_refused(host: FakeHost, stage: Stage, tmp_path: Path) -> None:
    serve(host, stage)
    done = call(host, "hello", "metrics", "--textfile", "/etc/passwd")
    assert done.rc == 1 and done.err == (
        "flaskctl: /etc/passwd does not end in .prom, and node_exporter reads no other file\n"
    )
    done = call(host, "hello", "metrics", "--textfile", f"{tmp_path}/none/a.prom")
    assert done.rc == 1 and f"remedy: mkdir -p {tmp_path}/none" in done.err
    assert call(host, "hello", "metrics", "--dry-run", "--textfile", f"{tmp_path}/a.prom").out.startswith("# HELP")
    assert not (tmp_path / "a.prom").exists()

"""What only a kernel of one's own shows: limits in force, walls of BPF and of user namespaces, a clock that is set."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.integration.vm.conftest import PREFIX, Bench, Server

EAT = """
@app.get("/eat")
def eat() -> Response:
    return text(str(len(bytearray(1 << 30))))
"""
METADATA = "169.254.169.254"
LISTENER = """
import socketserver, http.server
class Server(http.server.ThreadingHTTPServer):
    address_family = %s
Server(("%s", %d), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def in_the_sandbox(server: Server, script: str) -> Any:
    """Run a script of the app, in the sandbox of its release; what it printed as JSON."""
    answer = server.run(f"flaskctl hello run -- python -c '{script}'", check=False)
    return json.loads(answer.splitlines()[-1])


def test_the_ceilings_are_in_force(server: Server) -> None:
    group = server.control_group
    limits = {name: server.run(f"cat {group}/{name}") for name in ("memory.max", "pids.max", "cpu.weight")}
    total = int(server.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    assert abs(int(limits["memory.max"]) - total * 0.8) < total * 0.01
    assert limits["pids.max"] == server.shown(server.unit, "TasksMax") != "infinity"
    assert limits["cpu.weight"] == "50"
    nginx = server.shown("nginx.service", "ControlGroup")
    assert server.run(f"cat /sys/fs/cgroup{nginx}/cpu.weight") == "100"
    told = server.status()["ceilings"]
    assert told["tasks"] == int(limits["pids.max"]) and told["cpu_weight"] == 50
    assert told["memory"] == int(limits["memory.max"])
    assert "not in force" not in server.run("flaskctl hello status")


def test_a_loop_that_forks_meets_its_ceiling_and_not_the_host_s(server: Server) -> None:
    """In the group of a release: its tasks are counted there, and one more is refused there."""
    group, most = server.control_group, int(server.shown(server.unit, "TasksMax"))
    script = f"""
import os, time
open("{group}/cgroup.procs", "w").write(str(os.getpid()))
children = []
try:
    for _ in range({most + 50}):
        pid = os.fork()
        if not pid:
            time.sleep(60)
            os._exit(0)
        children.append(pid)
    print("no end")
except BlockingIOError:
    print("refused")
for pid in children:
    os.kill(pid, 9)
"""
    server.put("/run/forks.py", script.encode())
    assert server.run("python3 /run/forks.py") == "refused"
    assert server.serves()


def test_the_processes_of_the_app_are_users_of_a_namespace_of_their_own(server: Server) -> None:
    pid = server.shown(server.unit, "MainPID")
    own = server.run("readlink /proc/self/ns/user")
    assert server.run(f"readlink /proc/{pid}/ns/user") != own
    lines = [line.split() for line in server.run(f"cat /proc/{pid}/uid_map").splitlines()]
    uid = server.run("id -u hello")
    assert sorted(lines) == sorted([["0", "0", "1"], [uid, uid, "1"]])
    assert server.run(f"awk '/^Cap(Eff|Bnd)/ {{print $2}}' /proc/{pid}/status").split() == ["0" * 16] * 2


def test_the_address_where_a_cloud_hands_out_credentials_is_closed_to_the_app_alone(server: Server) -> None:
    """By a program that systemd gives the kernel for the group of the unit: a container may have none."""
    server.run(f"ip address add {METADATA}/32 dev lo")
    listener = LISTENER % ("2", METADATA, 8169)
    server.run(f"systemd-run --quiet --unit=metadata python3 -c '{listener}'; sleep 1")
    try:
        ask = (
            "import json, urllib.request, urllib.error\n"
            "try:\n"
            f'    print(json.dumps(urllib.request.urlopen("http://{METADATA}:8169/", timeout=3).status))\n'
            "except OSError as error:\n"
            "    print(json.dumps(str(error)))\n"
        )
        assert server.run(f"python3 -c '{ask}'") == "200"
        assert in_the_sandbox(server, ask) != 200
        group = server.control_group
        server.put("/run/ask.py", f'open("{group}/cgroup.procs", "w").write("0")\n{ask}'.encode())
        assert server.run("python3 /run/ask.py") != "200", "in the group of the release that serves"
    finally:
        server.run(f"systemctl stop metadata; ip address del {METADATA}/32 dev lo", check=False)


def test_a_port_of_the_app_s_own_is_refused_where_systemd_has_bpf_for_it(server: Server) -> None:
    """docs/security.md says what holds where; this is what it says it by."""
    bind = 'import json, socket\ntry:\n    socket.create_server(("127.0.0.1", 8999))\n'
    bind += '    print(json.dumps("bound"))\nexcept OSError as error:\n    print(json.dumps(error.errno))\n'
    has_bpf = "+BPF_FRAMEWORK" in server.run("systemctl --version")
    assert in_the_sandbox(server, bind) == (1 if has_bpf else "bound")


def test_apparmor_is_on_and_has_refused_the_app_and_nginx_nothing(server: Server) -> None:
    assert server.run("cat /sys/module/apparmor/parameters/enabled") == "Y"
    denied = server.run("journalctl -k --no-pager -g 'apparmor=.DENIED' || true")
    assert not [line for line in denied.splitlines() if "nginx" in line or "hello" in line or "python" in line], denied


def test_what_takes_too_much_memory_is_killed_and_the_app_serves(bench: Bench) -> None:
    """The worker that took it is killed; who had not asked it for this notices nothing but a new connection."""
    server = bench.server
    bench.variables[f"{PREFIX}service_settings"] = {"TimeoutStartSec": 60, "MemoryMax": "300M"}
    version = bench.source(append=EAT)
    bench.done()
    try:
        group, unit = server.control_group, server.unit
        assert server.run(f"cat {group}/memory.max") == str(300 << 20)
        master = server.shown(unit, "MainPID")
        ask = 'import urllib.request as r; print(r.urlopen("http://127.0.0.1/eat").status)'
        # what nginx had from the worker was no answer: it says that the app is not there for the moment
        assert "HTTP Error 503" in server.run(f"python3 -c '{ask}'", check=False)
        assert server.serves() == version
        events = dict(line.split() for line in server.run(f"cat {group}/memory.events").splitlines())
        assert int(events["oom_kill"]) >= 1, events
        assert server.shown(unit, "MainPID") == master, "its master has started another worker"
        assert server.eventually(lambda: server.status()["workers"] >= 2)
        status = server.status()
        assert status["active"] == [status["current"]]
        told = server.run("flaskctl hello status", check=False)
        assert "killed" in told and "300 MiB" in told, told
        assert "MemoryMax" in server.run("flaskctl hello doctor", check=False), (
            "it knows the wall by what the kernel says"
        )
    finally:
        bench.variables[f"{PREFIX}service_settings"] = {"TimeoutStartSec": 60}
        bench.source()
        bench.done()


@pytest.mark.parametrize("by", ["+1 day", "-1 day"])
def test_a_clock_that_is_set_in_the_middle_of_a_release_and_of_the_watch_over_it(bench: Bench, by: str) -> None:
    """The watch by hand: a host that is alone has nobody whom it could protect, so its rollout has none."""
    server = bench.server
    server.run("systemctl stop systemd-timesyncd || true")
    back = f"{'-' if by.startswith('+') else '+'}1 day"
    version = bench.source()

    def at_work(command: str) -> bool:
        return server.run(f"pgrep -fc 'hello [{command[0]}]{command[1:]}'") != "0"

    with bench.users(f"a release in which the clock is set by {by}"), ThreadPoolExecutor(1) as pool:
        time.sleep(15)  # there must be traffic to compare with
        began = time.monotonic()
        rollout = pool.submit(bench.play)
        assert server.eventually(lambda: at_work("activate"), 120), rollout.result().out
        server.run(f"date -s '{by}'")
        played = rollout.result(timeout=300)
        assert time.monotonic() - began < 240
        watch = pool.submit(server.flaskctl, "bake", "--seconds", "30", "--min-requests", "5")
        assert server.eventually(lambda: at_work("bake"), 30), watch.result()
        time.sleep(8)  # it has to be on the watch: of a clock that was set before, a bake a day later cannot be told
        server.run(f"date -s '{back}'")
        watched = watch.result(timeout=120)
    assert played.rc == 0, played.out
    assert watched.rc == 0 and "the clock of this host was set" in watched.data["msg"], watched
    status = server.status()
    assert server.version() == version and status["lease"] is None and status["problems"] == [], status

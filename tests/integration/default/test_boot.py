"""After nginx has taken new libraries, and after a power cut, the host is what it was before."""

from __future__ import annotations

import json

from tests.integration.asking import Site

ASK_MEANWHILE = """
import http.client, json, subprocess, threading, time
answers, done = [], threading.Event()

def ask():
    while not done.is_set():
        try:
            client = http.client.HTTPConnection("127.0.0.1", timeout=10)
            client.request("GET", "/")
            answers.append(client.getresponse().status)
        except OSError as error:
            answers.append(repr(error))

clients = [threading.Thread(target=ask) for _ in range(4)]
[client.start() for client in clients]
code = subprocess.run(["/etc/needrestart/restart.d/nginx.service"], capture_output=True).returncode
time.sleep(1)  # the old one ends
done.set()
[client.join() for client in clients]
print(json.dumps({"code": code, "answers": answers}))
"""


def test_nginx_takes_its_new_libraries_while_it_serves(site: Site) -> None:
    """By what needrestart runs in place of a restart; before the power cut, for that ends the nginx that it made."""
    before = site.root("systemctl show --property=MainPID --value nginx")
    found = json.loads(site.root(f"python3 -c '{ASK_MEANWHILE}'"))
    assert found["code"] == 0 and set(found["answers"]) == {200}, found
    after = site.root("systemctl show --property=MainPID --value nginx")
    assert after != before and site.root("systemctl is-active nginx") == "active"
    assert site.eventually(lambda: site.root("pgrep --count --full 'nginx: maste[r]'") == "1")
    assert site.root("systemctl reload nginx && systemctl show --property=MainPID --value nginx") == after


def test_the_same_release_serves_after_a_power_cut(site: Site) -> None:
    before = site.current
    site.root("touch /run/before")
    site.power_cut()
    assert not site.host.file("/run/before").exists
    # hello.service starts it at boot: nobody has to ask first
    assert site.eventually(lambda: site.flaskctl("status")["active"] == [before])
    answer = site.get("/")
    assert (answer.body, answer.release) == ("Hello Flask!", before)


def test_no_unit_failed(site: Site) -> None:
    assert site.root("systemctl --failed --no-legend --plain") == ""
    assert site.root("systemctl is-system-running --wait") == "running"


def test_flaskctl_sees_no_problem(site: Site) -> None:
    status = site.flaskctl("status")
    assert status["problems"] == []
    assert status["socket"] == {"active": True, "enabled": True, "stale": False, "former": []}
    assert status["service"] == {"enabled": True}

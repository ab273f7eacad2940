"""Every branch of every template, judged by the nginx, systemd and Gunicorn of the host, in a scratch directory."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.integration.asking import Site
from tests.rendering import SCENARIOS, TLS, evaluate, render

# what systemd 247 does not know yet and ignores; another name it does not know is a mistake of ours
NEWER = {"NoExecPaths": 248, "ExecPaths": 248, "PrivateIPC": 248, "SocketBindDeny": 249}

WRITE = """
import base64, json, os, sys, zlib
for path, text in json.loads(zlib.decompress(base64.b64decode(sys.argv[1]))).items():
    os.makedirs(os.path.dirname(path), exist_ok=True)
    open(path, "w").write(text)
"""
# each once, with what it said: {name: [exit code, text]}
JUDGE = """
import json, subprocess, sys
said = {}
for name, argv in json.loads(sys.argv[1]).items():
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    said[name] = [done.returncode, done.stdout]
print(json.dumps(said))
"""


class Judges:
    """The host's programs and a directory of ours."""

    def __init__(self, site: Site, scratch: str) -> None:
        self.site, self.scratch = site, scratch
        version = site.root("nginx -V 2>&1")
        nginx = re.search(r"nginx/([\d.]+)", version)
        openssl = re.search(r"running with OpenSSL ([\w.]+)", version) or re.search(r"OpenSSL ([\w.]+)", version)
        assert nginx and openssl, version
        self.facts: dict[str, Any] = {"nginx": nginx[1], "openssl": openssl[1], "ipv6": True}
        self.systemd = int(site.root("systemctl --version").split()[1])

    def ask(self, files: dict[str, str], commands: dict[str, list[str]]) -> dict[str, tuple[int, str]]:
        packed = base64.b64encode(zlib.compress(json.dumps(files).encode())).decode()
        self.site.python(WRITE, packed)
        return {
            name: (rc, text) for name, (rc, text) in json.loads(self.site.python(JUDGE, json.dumps(commands))).items()
        }


@pytest.fixture(scope="module")
def judges(site: Site) -> Iterator[Judges]:
    scratch = site.root("mktemp -d")
    site.root(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=test"
        f" -keyout {scratch}/key.pem -out {scratch}/chain.pem 2>&1"
    )
    yield Judges(site, scratch)
    site.root(f"rm -r {scratch}")


@pytest.mark.parametrize("ipv6", [True, False])
def test_nginx_accepts_the_site_of_every_scenario(judges: Judges, ipv6: bool) -> None:
    scratch = judges.scratch
    files: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    for number, (scenario, values) in enumerate(SCENARIOS.items()):
        text = render("app.nginx.conf", values, {**judges.facts, "ipv6": ipv6})
        for was, now in (
            ("/var/log/nginx/", f"{scratch}/"),
            *((path, f"{scratch}/{path.rpartition('/')[2]}") for path in TLS.values()),
        ):
            text = text.replace(was, now)
        files[f"{scratch}/{number}.site.conf"] = text
        files[f"{scratch}/{number}.conf"] = (
            f"pid {scratch}/pid; error_log {scratch}/error.log; events {{}}\n"
            f"http {{ access_log off; include {scratch}/{number}.site.conf; }}\n"
        )
        commands[scenario] = ["nginx", "-t", "-c", f"{scratch}/{number}.conf"]
    said = judges.ask(files, commands)
    bad = {scenario: text for scenario, (rc, text) in said.items() if rc or "[warn]" in text or "[emerg]" in text}
    assert not bad, "\n\n".join(f"{scenario}:\n{text}" for scenario, text in bad.items())


def test_nginx_accepts_all_scenarios_of_different_names_together(judges: Judges) -> None:
    """Two apps of a host share one nginx: no name of a map, upstream, log format or cache may be there twice."""
    scratch = judges.scratch
    files: dict[str, str] = {}
    includes = ""
    for number, (scenario, values) in enumerate(SCENARIOS.items()):
        if values.get("default_server"):
            continue
        values = {**values, "name": f"app-{number}", "port": 5000 + number, "server_names": [f"{number}.test"]}
        text = render("app.nginx.conf", values, judges.facts).replace("/var/log/nginx/", f"{scratch}/")
        for path in TLS.values():
            text = text.replace(path, f"{scratch}/{path.rpartition('/')[2]}")
        files[f"{scratch}/together/{number}.conf"] = text
        includes += f"include {scratch}/together/{number}.conf; # {scenario}\n"
    files[f"{scratch}/together.conf"] = (
        f"pid {scratch}/pid; error_log {scratch}/error.log; events {{}}\nhttp {{ access_log off;\n{includes} }}\n"
    )
    assert len(files) > 3
    ((rc, text),) = judges.ask(files, {"all": ["nginx", "-t", "-c", f"{scratch}/together.conf"]}).values()
    assert rc == 0 and "[warn]" not in text, text


def test_systemd_accepts_the_units_of_every_scenario(judges: Judges) -> None:
    scratch = judges.scratch
    files: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    for number, (scenario, values) in enumerate(SCENARIOS.items()):
        directory, name = f"{scratch}/units-{number}", values.get("name", "hello")
        texts = {f"{name}{part}": render(f"app{part}", values) for part in (".socket", ".service", "@.service")}
        processes = evaluate("__flask_gunicorn_nginx_release.processes", values)
        for unit, process in processes.items():
            texts[f"{name}.{unit}@.service"] = process["service"]
            if "timer" in process:
                texts[f"{name}.{unit}@.timer"] = process["timer"]
        # the programs are those of a release that is not there
        for unit, text in texts.items():
            files[f"{directory}/{unit}"] = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/usr/bin/python3", text)
        units = [f"{directory}/{unit.replace('@.', '@0123456789ab.')}" for unit in texts]
        commands[scenario] = ["systemd-analyze", "verify", *units]
    said = judges.ask(files, commands)
    known_to_be_new = [name for name, since in NEWER.items() if since > judges.systemd]
    bad = {}
    for scenario, (_rc, text) in said.items():
        about = [line for line in text.splitlines() if scratch in line or "hello" in line or "a-b" in line]
        about = [line for line in about if not any(f"'{name}'" in line for name in known_to_be_new)]
        if about:
            bad[scenario] = "\n".join(about)
    assert not bad, bad


def test_gunicorn_accepts_the_configuration_of_every_scenario(judges: Judges) -> None:
    scratch = judges.scratch
    files: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    for number, (scenario, values) in enumerate(SCENARIOS.items()):
        text = render("gunicorn.conf.py", values)
        if text in files.values():
            continue
        files[f"{scratch}/gunicorn-{number}.conf.py"] = text
        commands[scenario] = [
            "env",
            "LISTEN_FDS=1",
            "FLASKFLEET_RELEASE=0123456789ab",
            "PYTHONDONTWRITEBYTECODE=1",
            "/srv/hello/current/venv/bin/python",
            "-m",
            "gunicorn",
            "--chdir",
            "/srv/hello/current/app",
            "--check-config",
            "--config",
            f"{scratch}/gunicorn-{number}.conf.py",
        ]
    bad = {scenario: text for scenario, (rc, text) in judges.ask(files, commands).items() if rc}
    assert not bad, bad


def test_the_units_in_place_are_clean_too(site: Site, judges: Judges) -> None:
    text = site.root(
        f"systemd-analyze verify hello.socket hello.service hello@{site.current}.service 2>&1", check=False
    )
    known_to_be_new = [name for name, since in NEWER.items() if since > judges.systemd]
    about = [line for line in text.splitlines() if "hello" in line]
    assert not [line for line in about if not any(f"'{name}'" in line for name in known_to_be_new)], text


def test_nothing_of_these_tests_is_in_the_hosts_own_configuration(site: Site, judges: Judges) -> None:
    assert site.root("ls /etc/nginx/sites-enabled") == "hello.conf"
    assert "a-b" not in site.root("ls /etc/systemd/system /var/log/nginx")

"""Every branch of every template, judged by the nginx, systemd and Gunicorn of the host, in a scratch directory."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable

import pytest
from flaskctl.units import KNOWN_SINCE

from tests.integration.asking import Site
from tests.rendering import SCENARIOS, evaluate, render

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


Judged = Callable[[dict[str, str], dict[str, list[str]]], dict[str, tuple[int, str]]]


@pytest.fixture(scope="module")
def judged(site: Site) -> Judged:
    """Write files, run commands, and return the exit code and the words of each."""

    def judge(files: dict[str, str], commands: dict[str, list[str]]) -> dict[str, tuple[int, str]]:
        site.python(WRITE, base64.b64encode(zlib.compress(json.dumps(files).encode())).decode())
        return {name: (rc, text) for name, (rc, text) in json.loads(site.python(JUDGE, json.dumps(commands))).items()}

    return judge


def main(scratch: str, *includes: str) -> str:
    """Return an nginx.conf around sites."""
    lines = "".join(f"include {path};\n" for path in includes)
    return f"pid {scratch}/pid; error_log {scratch}/error.log; events {{}}\nhttp {{ access_log off;\n{lines}}}\n"


def test_nginx_accepts_the_site_of_every_scenario(scratch: str, rendered: Callable[..., str], judged: Judged) -> None:
    """Without IPv6 those two in which a line is left out for that: over HTTP and HTTPS."""
    files: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    for number, (scenario, ipv6) in enumerate(
        [*((each, True) for each in SCENARIOS), ("names", False), ("TLS", False)]
    ):
        files[f"{scratch}/{number}.site"] = rendered(SCENARIOS[scenario], ipv6=ipv6)
        files[f"{scratch}/{number}.conf"] = main(scratch, f"{scratch}/{number}.site")
        commands[f"{scenario}, {ipv6=}"] = ["nginx", "-t", "-c", f"{scratch}/{number}.conf"]
    said = judged(files, commands)
    bad = {scenario: text for scenario, (rc, text) in said.items() if rc or "[warn]" in text or "[emerg]" in text}
    assert not bad, "\n\n".join(f"{scenario}:\n{text}" for scenario, text in bad.items())


def test_nginx_accepts_apps_of_every_kind_together(scratch: str, rendered: Callable[..., str], judged: Judged) -> None:
    """They share one nginx: no name of a map, upstream, log format or cache may be there twice."""
    files: dict[str, str] = {}
    for number, values in enumerate(SCENARIOS.values()):
        own = {"name": f"app-{number}", "port": 5000 + number, "server_names": [f"{number}.test"]}
        files[f"{scratch}/together/{number}"] = rendered({**values, **own, "default_server": False})
    commands = {"all": ["nginx", "-t", "-c", f"{scratch}/together.conf"]}
    ((rc, text),) = judged({**files, f"{scratch}/together.conf": main(scratch, *files)}, commands).values()
    # of a dozen apps behind load balancers nginx says that its table of variables could be larger, and goes on
    warned = [line for line in text.splitlines() if "[warn]" in line and "variables_hash" not in line]
    assert rc == 0 and not warned, text


def known(text: str, site: Site, *about: str) -> list[str]:
    """The lines about us, less what an old systemd says of a directive that is newer than it."""
    version = int(site.root("systemctl --version").split()[1])
    newer = [name for name, since in KNOWN_SINCE.items() if since > version]
    lines = [line for line in text.splitlines() if any(word in line for word in about)]
    return [line for line in lines if not any(f"'{name}'" in line for name in newer)]


def test_systemd_accepts_the_units_of_every_scenario(site: Site, scratch: str, judged: Judged) -> None:
    files: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    seen: list[dict[str, str]] = []
    for number, (scenario, values) in enumerate(SCENARIOS.items()):
        directory, name = f"{scratch}/units-{number}", values.get("name", "hello")
        texts = {f"{name}{part}": render(f"app{part}", values) for part in (".socket", ".service", "@.service")}
        for unit, process in evaluate("__flask_gunicorn_nginx_release.processes", values).items():
            texts.update({f"{name}.{unit}@.{kind}": text for kind, text in process.items()})
        if texts in seen:
            continue  # for systemd it is one of those before
        seen.append(texts)
        # the programs are those of a release that is not there
        for unit, text in texts.items():
            files[f"{directory}/{unit}"] = re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/usr/bin/python3", text)
        units = [f"{directory}/{unit.replace('@.', '@0123456789ab.')}" for unit in texts]
        commands[scenario] = ["systemd-analyze", "verify", *units]
    said = judged(files, commands)
    bad = {scenario: known(text, site, scratch, "hello", "a-b") for scenario, (_rc, text) in said.items()}
    assert not any(bad.values()), bad


def test_systemd_accepts_the_units_in_place(site: Site) -> None:
    text = site.root(
        f"systemd-analyze verify hello.socket hello.service hello@{site.current}.service 2>&1", check=False
    )
    assert not known(text, site, "hello"), text


def test_gunicorn_accepts_the_configuration_of_every_scenario(scratch: str, judged: Judged) -> None:
    files: dict[str, str] = {}
    commands: dict[str, list[str]] = {}
    current = "/srv/hello/current"
    environment = ["LISTEN_FDS=1", "FLASKFLEET_RELEASE=0123456789ab", "PYTHONDONTWRITEBYTECODE=1"]
    for number, (scenario, values) in enumerate(SCENARIOS.items()):
        if number and "settings" not in values:
            continue  # as far as Gunicorn can tell, the same as the first one
        path = f"{scratch}/gunicorn-{number}.conf.py"
        files[path] = render("gunicorn.conf.py", values)
        gunicorn = [f"{current}/venv/bin/python", "-m", "gunicorn", "--chdir", f"{current}/app"]
        commands[scenario] = ["env", *environment, *gunicorn, "--check-config", "--config", path]
    bad = {scenario: text for scenario, (rc, text) in judged(files, commands).items() if rc}
    assert not bad, bad


def test_nothing_of_these_tests_is_in_the_hosts_own_configuration(site: Site) -> None:
    assert site.root("ls /etc/nginx/sites-enabled") == "hello.conf"
    assert "a-b" not in site.root("ls /etc/systemd/system /var/log/nginx")

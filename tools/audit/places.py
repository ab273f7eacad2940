"""What is tested, and from where: a host of each kind with the role's defaults and TLS, and a machine for the testers.

The testers of Debian are installed on that machine, never on the one this runs on. Those of PyPI are locked in
audit-requirements.txt; their environment is .cache/audit/venv, made by the Python of the testers' machine.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

from tests import pki
from tools import hosts
from tools.run import CACHE, LOGS, ROOT, Problem, logged, need, output, short, step, tail

KINDS = ("debian12", "debian13")
TESTER = "audit-tester"
TESTER_KIND = "debian13"
# of Debian; PyPI and npm have none of them
PACKAGES = ("testssl.sh", "nmap", "slowhttptest", "nghttp2-client", "python3-venv", "openssl")
LOCK_FILE = ROOT / "tools" / "audit-requirements.txt"
DEV_LOCK_FILE = ROOT / "requirements-dev.txt"
PLACE = CACHE / "audit"
INSIDE = "/audit"  # PLACE, on the testers' machine
SCRIPTS = "/scripts"  # this directory, there
PREFIX = "flask_gunicorn_nginx_"
NAME = "app.test"
APP = "items"


@dataclass(frozen=True)
class Target:
    """A host that is tested: its container, its kind, the name of its site, its address."""

    host: str
    kind: str
    name: str
    address: str


def on(container: str, command: str, timeout: int = 600) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in a container."""
    argv = ["docker", "exec", container, "sh", "-c", command]
    try:
        return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=timeout)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(argv, 124, "", f"no end after {timeout} s")


@cache
def version(name: str) -> str:
    """The version of a tester: as it is locked, else of the package of Debian."""
    for file in (LOCK_FILE, DEV_LOCK_FILE):
        found = re.search(rf"(?m)^{re.escape(name)}==(\S+)", file.read_text())
        if found:
            return found[1]
    return on(TESTER, f"dpkg-query --show --showformat='${{Version}}' {name}").stdout or "?"


def address(container: str) -> str:
    """The address of a container on this machine."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    return (output(["docker", "inspect", "--format", form, container]) or "").split()[0]


def source() -> Path:
    """The sample API with the lock file of the sample app."""
    place = PLACE / "source"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(Path(__file__).parent / "sample", place, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "files" / "app" / "requirements.txt", place)
    return place


def write_inventory(targets: list[Target]) -> Path:
    """The hosts, and of the role's variables the fewest with which it serves HTTPS."""
    tls = {"certificate": f"/etc/ssl/{APP}.pem", "key": f"/etc/ssl/private/{APP}.key"}
    variables = {"name": APP, "source": str(source()), "tls": tls}
    if hosts.control_node_ca():  # pip on the hosts trusts what this machine trusts
        variables["pip"] = {"ca_bundle": hosts.CONTROL_NODE_CA}
    common = {PREFIX + name: value for name, value in variables.items()}
    listed = {
        "hosts": {target.host: {f"{PREFIX}server_names": [target.name]} for target in targets},
        "vars": {"ansible_connection": "community.docker.docker", **common},
    }
    path = PLACE / "hosts.yml"
    path.write_text(yaml.safe_dump({"flask_app": listed}))
    return path


def put(container: str, path: str, text: str, mode: str = "0644") -> None:
    """Write a file in a container."""
    command = f"umask 077; mkdir -p {shlex.quote(str(Path(path).parent))}; cat > {path}; chmod {mode} {path}"
    subprocess.run(["docker", "exec", "-i", container, "sh", "-c", command], input=text, text=True, check=True)


def start(name: str, kind: str, keep: bool, volumes: tuple[str, ...] = ()) -> None:
    """Start a host anew, or take the one that is there."""
    if keep and hosts.state(name) == "running":
        return
    hosts.remove(name)
    with step(f"starting {name}"):
        hosts.start(name, kind, volumes=volumes)


def make_targets(keep: bool) -> list[Target]:
    """Hosts with an app, released by the playbook as for a fleet; their certificates are of an authority made here."""
    PLACE.mkdir(parents=True, exist_ok=True)
    targets = []
    authority = pki.sign("Audit root")
    issuer = pki.sign("Audit issuer", authority)
    for kind in KINDS:
        host = f"audit-{kind}"
        start(host, kind, keep)
        target = Target(host, kind, f"{kind}.{NAME}", address(host))
        leaf = pki.sign(target.name, issuer, (target.name,))
        put(host, f"/etc/ssl/{APP}.pem", leaf.pem + issuer.pem)
        put(host, f"/etc/ssl/private/{APP}.key", leaf.key_pem(), "0600")
        targets.append(target)
    (PLACE / "authority.pem").write_text(authority.pem)
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(write_inventory(targets)), "site.yml"]
    log = LOGS / "audit-release.log"
    with step("releasing the sample API with the role's defaults"):
        if logged(argv, log, {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}):
            raise Problem("The sample API could not be released.", f"{tail(log, 60)}\n(whole log: {short(log)})")
    for target in targets:
        on(target.host, "systemctl reload nginx")  # a host that was kept has a new certificate
    return targets


def make_tester(targets: list[Target], keep: bool) -> None:
    """The machine of the testers, which knows the names of the sites."""
    start(TESTER, TESTER_KIND, keep, (f"{PLACE}:{INSIDE}", f"{Path(__file__).parent}:{SCRIPTS}:ro"))
    for target in targets:
        line = f"{target.address} {target.name}"
        on(TESTER, f"grep -q '{line}' /etc/hosts || echo {line} >> /etc/hosts")
    log = LOGS / "audit-tester.log"
    inside = ["docker", "exec", "-e", "DEBIAN_FRONTEND=noninteractive", TESTER, "sh", "-c"]
    with step(f"installing {', '.join(PACKAGES)} on {TESTER}"):
        command = f"apt-get update -q && apt-get install -qy --no-install-recommends {' '.join(PACKAGES)}"
        need([*inside, command], log, "The testers of Debian could not be installed.")
    stamp, wanted = PLACE / "venv" / "made-from", hashlib.sha256(LOCK_FILE.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        return
    shutil.copy(LOCK_FILE, PLACE / "requirements.txt")
    ca = f"--cert={hosts.CONTROL_NODE_CA}" if hosts.control_node_ca() else ""
    with step(f"making .cache/audit/venv from {short(LOCK_FILE)}"):
        pip = f"{INSIDE}/venv/bin/python -m pip install -q --require-hashes --no-deps {ca} -r {INSIDE}/requirements.txt"
        command = f"python3 -m venv --clear {INSIDE}/venv && {pip}"
        need([*inside, command], log, "The testers of PyPI could not be installed.")
    stamp.write_text(wanted)


def remove() -> None:
    """Remove what was made."""
    for name in [*(f"audit-{kind}" for kind in KINDS), TESTER]:
        hosts.remove(name)

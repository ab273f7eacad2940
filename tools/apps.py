"""Real apps, by their inventory alone: `make test-apps` releases each twice under load, on Debian 12 and 13.

What a user writes for an app stands in docs/apps/NAME.yml, ready to be copied; where its source comes from, what its
second release changes and which of its pages visitors ask stands in tests/apps/apps.yml. Sources are fetched from the
package index when this runs. Not in make test: it takes half an hour and a network. APPS="flaskr isso" make
test-apps takes some.
"""

from __future__ import annotations

import argparse
import json
import secrets
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.load.client import Load, Report
from tools import engine, hosts, images
from tools.run import CACHE, LOGS, ROOT, Problem, logged, main, need, output, seconds, short, step, tail

KINDS = ("debian12", "debian13")
VARIABLES = ROOT / "docs" / "apps"
OWN = ROOT / "tests" / "apps"
PLACE = CACHE / "apps"
PREFIX = "flask_gunicorn_nginx_"
# what each app has, whatever it needs
ALWAYS = ("name", "port", "server_names", "source")
VISITORS = ("--rate", "20", "--users", "get=3,get-new=2")
# seconds of load around a release: it is compared with the 10 s before it, and the old one drains after it
BEFORE, AFTER = 12, 3
SHOWN = 4  # failed requests of a host


@dataclass(frozen=True)
class App:
    """One app: the project and version on the index, what of it is the source, and what it is asked for."""

    name: str
    package: str  # on the index; empty: it is on none, and an app of its shape stands in tests/apps
    version: str
    source: str  # a directory of the sdist (`examples/tutorial`); of tests/apps (`own`); or `index`: a requirement
    change: Mapping[str, Any]  # of the second release: a file and the line that it gets, or a variable and its value
    visits: Sequence[Mapping[str, Any]]

    @property
    def from_where(self) -> str:
        """Where the source comes from, for the table."""
        if not self.package:
            return "an own app of its shape, for it is on no index"
        package = f"{self.package} {self.version}"
        if self.source == "index":
            return package
        return f"an own app, with {package}" if self.source == "own" else f"{self.source} in the sdist of {package}"


@dataclass
class Result:
    """How it went with an app on all hosts; `wrong` is empty when all is well."""

    app: App
    needed: list[str]
    seconds: list[float] = field(default_factory=list)
    requests: int = 0
    failed: int = 0
    wrong: list[str] = field(default_factory=list)

    def row(self) -> str:
        """Its line of the table in docs/platforms.md."""
        first, second = ([f"{each:.0f}" for each in self.seconds] + ["-", "-"])[:2]
        needed = ", ".join(f"`{name}`" for name in self.needed) or "none"
        cells = [f"[{self.app.name}](apps/{self.app.name}.yml)", self.app.from_where, needed, first, second]
        return f"| {' | '.join([*cells, str(self.requests), str(self.failed)])} |"


HEAD = """\
| app | what was released | variables it needed | first release, s | second, s | requests | failed |
|---|---|---|---|---|---|---|"""


def known() -> list[App]:
    """All apps, in the order of their ports."""
    listed = yaml.safe_load((OWN / "apps.yml").read_text())
    return [App(name=name, **about) for name, about in listed.items()]


def variables(name: str) -> dict[str, Any]:
    """What a user writes for an app, without the role's prefix."""
    written = yaml.safe_load((VARIABLES / f"{name}.yml").read_text())
    return {key.removeprefix(PREFIX): value for key, value in written.items()}


def needed(name: str) -> list[str]:
    """The variables that an app needed beside those of every app."""
    return [key for key in variables(name) if key not in ALWAYS]


def fetch(app: App, place: Path) -> None:
    """Put the source of an app where its inventory says: what pip fetches as an sdist, or an own app."""
    target = place / "app"
    if app.source == "index":
        return
    if app.source == "own":
        shutil.copytree(OWN / app.name, target)
        return
    sdists = place / "sdist"
    argv = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", str(sdists)]
    sentence = f"{app.package} {app.version} could not be fetched from the package index."
    need([*argv, f"{app.package}=={app.version}"], LOGS / f"app-{app.name}-fetch.log", sentence)
    with tarfile.open(next(sdists.glob("*.tar.gz"))) as sdist:
        sdist.extractall(sdists, filter="data")
    found = next(sdists.glob(f"*/{app.source}"), None)
    if found is None:
        raise Problem(f"The sdist of {app.package} {app.version} holds no {app.source}.")
    shutil.move(found, target)
    if (OWN / app.name).is_dir():  # what it lacks: an example without its requirements.txt
        shutil.copytree(OWN / app.name, target, dirs_exist_ok=True)


def write_inventory(app: App, place: Path, names: Sequence[str], ca: str | None) -> Path:
    """Lay out an inventory as a user has one: hosts, the variables of the app, a vault. The source lies beside it."""
    inventory = place / "inventory"
    group = inventory / "group_vars" / "flask_app"
    group.mkdir(parents=True)
    reached = {"ansible_connection": "community.docker.docker"}
    listed = {"flask_app": {"hosts": {name: {} for name in names}, "vars": reached}}
    (inventory / "hosts.yml").write_text(yaml.safe_dump(listed))
    shutil.copy(VARIABLES / f"{app.name}.yml", group / "flask_gunicorn_nginx.yml")
    vault = {name: secrets.token_hex(32) for name in ("vault_secret_key", "vault_pepper")}
    (group / "vault.yml").write_text(yaml.safe_dump(vault))
    if ca:  # pip on the hosts trusts what this machine trusts
        (group / "machine.yml").write_text(yaml.safe_dump({f"{PREFIX}pip": {"ca_bundle": ca}}))
    # and tell it which release answered
    (group / "visitors.yml").write_text(yaml.safe_dump({f"{PREFIX}trusted_proxies": ["172.16.0.0/12"]}))
    return inventory


def change(app: App, place: Path) -> None:
    """Change one line, of the source or of the inventory: what makes the second release."""
    if "file" in app.change:
        path = place / "app" / app.change["file"]
        path.write_text(path.read_text() + f"{app.change['line']}\n")
    else:
        path = place / "inventory/group_vars/flask_app/second.yml"
        path.write_text(yaml.safe_dump({f"{PREFIX}{name}": value for name, value in app.change.items()}))


def release(app: App, inventory: Path, which: str, *options: str) -> float:
    """Run the playbook; the seconds it took."""
    argv = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), "site.yml", *options]
    log = LOGS / f"app-{app.name}-{which}.log"
    began = time.monotonic()
    if logged(argv, log, {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1"}):
        raise Problem(f"{app.name} could not be released.", f"{tail(log, 60)}\n(whole log: {short(log)})")
    return time.monotonic() - began


def flaskctl(host: str, *words: str) -> dict[str, Any]:
    """What flaskctl answers on a host."""
    said = subprocess.run(["docker", "exec", host, "flaskctl", "--json", *words], capture_output=True, text=True)
    try:
        answer: dict[str, Any] = json.loads(said.stdout)
    except ValueError:
        return {"msg": f"{said.stdout}{said.stderr}".strip()}
    return answer


def discontent(host: str, status: Mapping[str, Any], doctor: Mapping[str, Any]) -> list[str]:
    """What flaskctl finds wrong with an app on a host: problems and drift by `status`, walls met by `doctor`."""
    wrong = [f"{host}: status: {problem}" for problem in status.get("problems", [status.get("msg")])]
    wrong += [f"{host}: drift: {each}" for each in status.get("drift") or []]
    walls = doctor.get("walls", [{"name": doctor.get("msg"), "opens": ""}])
    return wrong + [f"{host}: doctor: {wall['name']}: {wall['opens']}" for wall in walls]


def unserved(host: str, report: Report) -> list[str]:
    """What visitors of a host met that they should not have."""
    wrong = [f"{host}: {failure}" for failure in report.failures[:SHOWN]]
    wrong += [f"{host}: {report.failed - SHOWN} more requests failed"] if report.failed > SHOWN else []
    if len(report.releases) != 2:
        wrong.append(f"{host}: visitors met {len(report.releases)} releases, not the first and the second")
    return wrong


def address(host: str) -> str:
    """The address of a host on this machine."""
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
    return (output(["docker", "inspect", "--format", form, host]) or "").split()[0]


def try_out(app: App, names: Sequence[str]) -> Result:
    """Release an app, change a line and release it again under load; how that went."""
    result = Result(app, needed(app.name))
    place = PLACE / app.name
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    ca = hosts.CONTROL_NODE_CA if hosts.control_node_ca() else None
    inventory = write_inventory(app, place, names, ca)
    (place / "visits.json").write_text(json.dumps(app.visits))
    fetch(app, place)
    if any(output(["docker", "exec", host, "test", "-e", f"/srv/{app.name}"]) is not None for host in names):
        release(app, inventory, "purge", "-e", f"{PREFIX}state=purged")  # of a run before, on hosts that were kept
    result.seconds.append(release(app, inventory, "first"))
    command = [sys.executable, "-m", "tests.load.visitors", str(place / "visits.json")]
    site = variables(app.name)["server_names"][0]
    loads = {host: Load(address(host), "--host", site, *VISITORS, command=command).start() for host in names}
    try:
        time.sleep(BEFORE)
        change(app, place)
        result.seconds.append(release(app, inventory, "second"))
        time.sleep(AFTER)
    finally:
        reports = {host: load.stop() for host, load in loads.items()}
    for host, report in reports.items():
        result.requests += report.requests
        result.failed += report.failed
        result.wrong += unserved(host, report)
        name = variables(app.name)["name"]
        result.wrong += discontent(host, flaskctl(host, name, "status", "--drift"), flaskctl(host, name, "doctor"))
    return result


def work() -> int:
    """The command line."""
    every = {app.name: app for app in known()}
    parser = argparse.ArgumentParser(description="Release real apps twice under load, by their inventory alone.")
    parser.add_argument("apps", nargs="*", metavar="APP", help=f"{', '.join(every)}; all unless given")
    parser.add_argument("--keep", action="store_true", help="leave the hosts running, and use those that run already")
    options = parser.parse_args()
    unknown = set(options.apps) - set(every)
    if unknown:
        raise Problem(f"No such app: {', '.join(sorted(unknown))}. There are: {', '.join(every)}.")
    engine.up()
    images.ensure(list(KINDS))
    names = [f"apps-{kind}" for kind in KINDS]
    results: list[Result] = []
    report = CACHE / "reports" / "apps.md"
    report.parent.mkdir(parents=True, exist_ok=True)
    try:
        for name, kind in zip(names, KINDS, strict=True):
            if options.keep and hosts.state(name) == "running":
                continue
            hosts.remove(name)
            with step(f"starting the host {name}"):
                hosts.start(name, kind)
        for app in (every[name] for name in options.apps or every):
            results.append(judged(app, names))
            table = "\n".join([HEAD, *(result.row() for result in results)])
            report.write_text(f"{table}\n")  # a run that is cut keeps what it has measured
    finally:
        if not options.keep:
            for name in names:
                hosts.remove(name)
    print(f"\n{report.read_text()}", end="", flush=True)
    return 1 if any(result.wrong for result in results) else 0


def judged(app: App, names: Sequence[str]) -> Result:
    """Try an app out and say in a line how it went; one that cannot be released stops none of the others."""
    print(f"{app.name} ... ", end="", flush=True)
    began = time.monotonic()
    try:
        result = try_out(app, names)
    except Problem as problem:
        result = Result(app, needed(app.name), wrong=[str(problem), *problem.evidence.splitlines()])
    took = seconds(time.monotonic() - began)
    print(f"{took}, {result.requests} requests, {result.failed} failed", flush=True)
    for line in result.wrong:
        print(f"  {line}", flush=True)
    return result


if __name__ == "__main__":
    main(work)

"""Test hosts under load: run things on them, release to them, and keep the books of what users met meanwhile.

Used by the Molecule scenarios `release` and `faults` and by the soak. A host is a container with systemd inside; it
is reached with `docker exec`, because most releases here must be fast and a part of them goes on without any network.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from ansible_collections.flaskfleet.web.plugins.module_utils.tarball import pack
from ansible_collections.flaskfleet.web.plugins.module_utils.tree import directory_entries
from ansible_collections.flaskfleet.web.plugins.modules.archive import BUILT_IN_EXCLUDES

from tests.load.client import Load, Report

Json = dict[str, Any]
T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
CLIENT = REPOSITORY / "tests" / "load" / "client.py"
APP = REPOSITORY / "tests" / "load" / "app"
NAME = "hello"
BASE = f"/srv/{NAME}"
ARCHIVES = "/var/tmp/archives"  # on a host: outlives a power cut, and is on no small disk
BEHIND = "/run/load.py"  # the client, when it runs on a host


class HostError(Exception):
    """A command on a host went wrong, with all that it said."""


@dataclasses.dataclass(frozen=True)
class Answer:
    """What flaskctl said: its exit code and its JSON object."""

    rc: int
    data: Json

    @property
    def story(self) -> str:
        """Message, evidence and remedy: what a person reads."""
        return "\n".join(str(self.data.get(key) or "") for key in ("msg", "detail", "remedy"))


class Host:
    """One test host, a container."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name

    def argv(self, *words: str, environment: Mapping[str, str] | None = None) -> list[str]:
        """The command of this machine that runs one on the host, as root."""
        settings = [word for name, value in (environment or {}).items() for word in ("-e", f"{name}={value}")]
        return ["docker", "exec", "-i", *settings, self.name, *words]

    def run(self, command: str, stdin: bytes = b"", timeout: float = 180, check: bool = True) -> str:
        """Run a shell command as root; return its output, errors included; HostError when it fails and `check`."""
        done = subprocess.run(
            self.argv("sh", "-c", f"{command} 2>&1"),
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        out = done.stdout.decode("utf-8", "replace")
        if check and done.returncode:
            raise HostError(f"{self.name}: `{command}` ended with {done.returncode}:\n{out}")
        return out.strip()

    def flaskctl(
        self, *arguments: str, config: Json | None = None, environment: Mapping[str, str] | None = None
    ) -> Answer:
        """Run flaskctl --json for the app; `config` goes to its standard input."""
        argv = self.argv("flaskctl", "--json", NAME, *arguments, environment=environment)
        done = subprocess.run(
            argv, input=json.dumps(config) if config else "", capture_output=True, text=True, timeout=300, check=False
        )
        try:
            return Answer(done.returncode, json.loads(done.stdout))
        except ValueError:
            said = f"{done.stdout}{done.stderr}".strip()
            return Answer(done.returncode, {"failed": True, "msg": f"no answer from flaskctl: {said}"})

    def status(self) -> Json:
        answer = self.flaskctl("status")
        if answer.rc:
            raise HostError(f"{self.name}: {answer.story}")
        return answer.data

    def version(self) -> str:
        """What the app that answers through nginx calls itself."""
        get = "import urllib.request as r; print(r.urlopen('http://127.0.0.1/').headers['X-Version'])"
        return self.run(f'python3 -c "{get}"')

    def config(self) -> Json:
        """The configuration of the current release, as `stage` takes it."""
        config: Json = json.loads(self.run(f"cat {BASE}/current/config.json"))
        return config

    def put(self, path: str, content: bytes) -> None:
        self.run(f"mkdir -p {shlex.quote(os.path.dirname(path))} && cat > {shlex.quote(path)}", content)

    def stage(self, archive: Path, config: Json | None = None, **environment: str) -> Answer:
        """Bring an archive to the host and stage it."""
        path = f"{ARCHIVES}/{archive.name}"
        self.put(path, archive.read_bytes())
        words = ["stage", path, *(["--config", "-"] if config else [])]
        return self.flaskctl(*words, config=config, environment=environment)

    def release(self, archive: Path, config: Json | None = None) -> Answer:
        """Stage and activate; the answer of the step that failed, or of the last."""
        staged = self.stage(archive, config)
        return staged if staged.rc else self.flaskctl("activate", staged.data["id"])

    @property
    def address(self) -> str:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}"
        argv = ["docker", "inspect", "--format", form, self.name]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[0]

    def load(self, *options: str) -> Load:
        """Users on the control node."""
        return Load(self.address, *options)

    def load_inside(self, *options: str) -> Load:
        """Users on the host itself, who need no network."""
        self.put(BEHIND, CLIENT.read_bytes())
        return Load("127.0.0.1", *options, command=self.argv("python3", BEHIND))

    def tree(self) -> dict[str, str]:
        """What stands on the host and matters: kinds, modes, owners, link targets and contents, without times.

        Byte code is left out, for Python may add some at any time, and so is what differs between two installations of
        the same packages. Of the audit log only that it is there: it tells the history, which may differ.
        """
        script = (
            f"cd / && find srv/{NAME} etc/flaskctl etc/systemd/system/{NAME}* etc/nginx var/log/flaskctl"
            r" \( -name __pycache__ -o -path '*/lib/python3*' -o -path '*/bin/*' \) -prune"
            r" -o -printf '%p\t%y\t%m\t%u:%g\t%l\n'; echo ---;"
            f" find srv/{NAME} etc/flaskctl etc/systemd/system/{NAME}* etc/nginx"
            r" \( -name __pycache__ -o -path '*/venvs/*' -o -name manifest.json -o -name config.json"
            r" -o -name refused.json \) -prune -o -type f -exec sha256sum {} +"
        )
        listing, _, sums = self.run(script, check=False).partition("---\n")
        found = {line.split("\t")[0]: line.split("\t", 1)[1] for line in listing.splitlines() if "\t" in line}
        for line in sums.splitlines():
            digest, _, path = line.partition("  ")
            found[path] = f"{found.get(path, '')} {digest}"
        return found


def on_all(hosts: Sequence[Host], action: Callable[[Host], T]) -> list[T]:
    """Do the same on every host at once."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        return list(pool.map(action, hosts))


class Workshop:
    """Makes versions of the load app, good and bad, and their archives."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.made = 0
        self.session = f"{time.time_ns()}\n"  # in each source: a second run on the same hosts makes other releases

    def source(
        self, version: str, files: Mapping[str, str | None] | None = None, append: str = "", stylesheet: bool = True
    ) -> Path:
        """The source of one version: the load app with its version, other files (None: removed) and code at its end.

        With a stylesheet of its own name, or all versions have files of the same names.
        """
        self.made += 1
        tree = self.place / f"source-{self.made}"
        shutil.copytree(APP, tree, ignore=shutil.ignore_patterns("__pycache__"))
        texts: dict[str, str | None] = {"session.txt": self.session, "version.txt": f"{version}\n"}
        texts |= {f"static/app.{version}.css": f"/* {version} */\n"} if stylesheet else {}
        texts |= files or {}
        for name, text in texts.items():
            if text is None:
                (tree / name).unlink()
            else:
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).write_text(text)
        if append:
            with (tree / "app.py").open("a") as app:
                app.write(f"\n{append}\n")
        return tree

    def archive(self, source: Path) -> Path:
        """The archive of a source, made by the code that makes it for the role."""
        packed: Path = pack(list(directory_entries(source, list(BUILT_IN_EXCLUDES))), self.place).path
        return packed

    def version(
        self, version: str, files: Mapping[str, str | None] | None = None, append: str = "", stylesheet: bool = True
    ) -> Path:
        return self.archive(self.source(version, files, append, stylesheet))

    def crafted(self, name: str, members: Iterable[tuple[tarfile.TarInfo, bytes]]) -> Path:
        """An archive that the role's own code would never make."""
        path = self.place / f"{name}.tar.gz"
        with tarfile.open(path, "w:gz") as tar:
            for member, content in members:
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
        return path


@dataclasses.dataclass(frozen=True)
class Played:
    """What ansible-playbook said, and the process that it was."""

    rc: int
    out: str
    seconds: float
    pid: int

    def changed(self, task: str) -> list[str]:
        """The hosts on which a task, named by a part of its name, changed something."""
        blocks = re.split(r"(?m)^(?=TASK \[|PLAY RECAP)", self.out)
        found = [block for block in blocks if block.startswith("TASK [") and task in block.splitlines()[0]]
        if not found:
            raise AssertionError(f"no task {task!r} in:\n{self.out}")
        return re.findall(r"(?m)^changed: \[([^]]+)\]", "".join(found))


def inventory() -> str:
    """The inventory of the scenario, which Molecule names."""
    named = os.environ.get("MOLECULE_INVENTORY_FILE", "")
    if not named:
        raise RuntimeError("MOLECULE_INVENTORY_FILE names no inventory: run this through Molecule")
    return named


def playbook_argv(variables: Json, place: Path, playbook: str = "site.yml", options: Sequence[str] = ()) -> list[str]:
    """The command that runs a playbook with variables, which go through a file: values may hold anything."""
    file = place / f"variables-{time.monotonic_ns()}.json"
    file.write_text(json.dumps(variables))
    return ["ansible-playbook", "-i", inventory(), playbook, "-e", f"@{file}", *options]


PLAIN = "ansible.builtin.default"  # tells each task of each host; what a person reads is flaskfleet.web.rollout


def playbook_environment(callback: str = PLAIN) -> dict[str, str]:
    settings = {
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
        "ANSIBLE_STDOUT_CALLBACK": callback,
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
    }
    settings["PYTHONUNBUFFERED"] = "1"  # tests read along
    # Molecule has its own idea of where roles and collections are; the project's is the one that is tested
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    return {**kept, **settings}


@contextlib.contextmanager
def begun(
    variables: Json,
    place: Path,
    playbook: str = "site.yml",
    options: Sequence[str] = (),
    callback: str = PLAIN,
) -> Iterator[subprocess.Popen[str]]:
    """Have a playbook run on the scenario's hosts, in a process group of its own, which is killed at the end."""
    with subprocess.Popen(
        playbook_argv(variables, place, playbook, options),
        cwd=REPOSITORY,
        env=playbook_environment(callback),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as run:
        try:
            yield run
        finally:
            if run.poll() is None:
                os.killpg(run.pid, signal.SIGKILL)


def play(
    variables: Json,
    place: Path,
    playbook: str = "site.yml",
    options: Sequence[str] = (),
    callback: str = PLAIN,
) -> Played:
    """Run a playbook to its end, which it has 15 minutes for."""
    began = time.monotonic()
    with begun(variables, place, playbook, options, callback) as run:
        out, _ = run.communicate(timeout=900)
    return Played(run.returncode, out, time.monotonic() - began, run.pid)


def hosts_of_inventory() -> list[Host]:
    """The hosts of the scenario."""
    argv = ["ansible-inventory", "-i", inventory(), "--list"]
    text = subprocess.run(
        argv, cwd=REPOSITORY, env=playbook_environment(), capture_output=True, text=True, check=True
    ).stdout
    data = json.loads(text)
    names = data.get("flask_app", {}).get("hosts") or sorted(data["_meta"]["hostvars"])
    return [Host(name) for name in names]


@dataclasses.dataclass
class Row:
    """One line of the table: what was done, on which host, and what its users met. Times in seconds."""

    what: str
    host: str
    seconds: float
    requests: int
    failed: int
    slowest: float
    slowest_is: str = ""


class Books:
    """Who was released and who was refused, and what users met during each thing that was done."""

    def __init__(self, hosts: Sequence[Host]) -> None:
        self.hosts = list(hosts)
        self.released: dict[str, str] = {}  # id -> version
        self.refused: set[str] = set()
        self.operations = 0
        self.rows: list[Row] = []
        self.loads: dict[str, Load] = {}
        self.reports: dict[str, Report] = {}

    def open(self, *options: str) -> None:
        """Let the users in, on every host."""
        self.loads = {host.name: host.load(*options).start() for host in self.hosts}

    def close(self) -> dict[str, Report]:
        """Send the users away, once; their reports."""
        if self.loads:
            stopped = on_all(self.hosts, lambda host: self.loads[host.name].stop())
            self.reports = {host.name: report for host, report in zip(self.hosts, stopped, strict=True)}
            self.loads = {}
        return self.reports

    @contextlib.contextmanager
    def row(self, what: str) -> Iterator[list[Row]]:
        """Count what users meet while something is done; the rows are there once it is."""
        began = time.monotonic()
        before = {name: load.report() for name, load in self.loads.items()}
        rows: list[Row] = []
        try:
            yield rows
        finally:
            for name, load in self.loads.items():
                now, then = load.report(), before[name]
                requests, failed = now.requests - then.requests, now.failed - then.failed
                rows.append(Row(what, name, time.monotonic() - began, requests, failed, now.recent, now.recent_is))
                if failed:
                    rows[-1].slowest_is += "\n" + "\n".join(now.failures[len(then.failures) :])
            self.rows += rows

    def released_to_all(self, answers: Sequence[Answer], version: str) -> str:
        """Note a release or a rollback that went well on every host; its id."""
        for host, answer in zip(self.hosts, answers, strict=True):
            assert answer.rc == 0, f"{host}: {answer.story}"
        (release,) = {str(answer.data["id"]) for answer in answers}
        return self.note(release, version)

    def note(self, release: str, version: str) -> str:
        self.released[release] = version
        self.operations += 1
        return release

    def table(self) -> str:
        lines = [f"{'seconds':>8} {'requests':>9} {'failed':>7} {'slowest':>8}  what was done"]
        lines += [
            f"{row.seconds:8.1f} {row.requests:9} {row.failed:7} {row.slowest:8.3f}  {row.what} ({row.host})"
            for row in self.rows
        ]
        return "\n".join([*lines, *(str(report) for report in self.reports.values())])

    def markdown(self) -> str:
        """The rows as a table for docs/reliability.md; times in seconds, of the slowest short request."""
        lines = ["| what was done | requests | failed | slowest |", "|---|---|---|---|"]
        lines += [f"| {row.what} | {row.requests} | {row.failed} | {row.slowest:.2f} |" for row in self.rows]
        return "\n".join(lines) + "\n"

    def save(self, name: str) -> None:
        """Keep the figures where docs can be written from them."""
        path = REPOSITORY / ".cache" / "reports" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".md").write_text(self.markdown())
        reports = [dataclasses.asdict(report) for report in self.reports.values()]
        path.write_text(json.dumps({"rows": [dataclasses.asdict(r) for r in self.rows], "reports": reports}, indent=1))

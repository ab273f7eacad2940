"""A host without systemd, network and root: files below a directory, units in a JSON file, a clock that we move."""

from __future__ import annotations

import contextlib
import fnmatch
import importlib
import io
import json
import os
import pkgutil
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import flaskctl as package
from flaskctl.cli import main
from flaskctl.host import Host

from tests.unit.flaskctl import strict
from tests.unit.flaskctl.given import TRACEBACK


class Rooms:
    """All rooms of flaskctl as one object: a name is looked for in each."""

    def __init__(self) -> None:
        names = [module.name for module in pkgutil.iter_modules(package.__path__)]
        self.modules = [importlib.import_module(f"flaskctl.{name}") for name in names]

    def __getattr__(self, name: str) -> Any:
        for module in self.modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AttributeError(name)


flaskctl = Rooms()
Json = dict[str, Any]
UNIT_PLACES = ("etc/systemd/system", "run/systemd/system")


class FakeHost(Host):
    """What a test sets: `broken` (release: how), `die_at` (a step), `pip_fails`, `root_user`, `systemd`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.systemd = 252
        self.last_pid = 4710
        self.moment = 0  # of the last start of a unit
        self.heard: dict[str, list[str]] = {}  # the sockets that a unit of a release got when it started
        self.root_user = True
        self.broken: dict[str, str] = {}
        self.die_at = ""
        self.pip_fails = ""
        self.contradictions: list[str] = []  # what pip check finds, this time and the next
        self.accounts: dict[str, Any] = {}
        self.command_says = ""
        self.commands: tuple[str, ...] = ()  # of packages, beside Flask's
        self.joined: dict[str, list[str]] = {}  # groups that somebody was put into, by name
        self.nameless = {os.getuid()}
        self.namespaces = True  # whether this host gives a unit any
        self.builds: list[dict[str, list[str]]] = []  # the settings of each unit in which something was built
        self.on_build: Callable[[Path], None] | None = None  # what pip does beside: it is given the tree
        self.mounts: list[str] = []
        self.slow = False  # takes long to stop
        self.bad_units: set[str] = set()  # with a setting that systemd refuses
        self.stubborn: set[str] = set()  # do not stop, whatever they are told
        self.unknown: set[str] = set()  # directives that this systemd does not know
        self.complained: list[Json] = []  # of units, in the journal
        self.calendars = {"daily", "*:*:0/5"}  # what systemd can read
        self.installed: dict[str, str] = {}  # what pip has put into a virtualenv, versions by names
        self.paths: dict[str, set[str]] = {}  # which a release has, where it has not all
        self.said = ""  # what the units of a release wrote to the journal, in the format short-unix
        self.calls: list[list[str]] = []
        self.environments: list[Mapping[str, str]] = []
        self.steps: list[str] = []
        self.nginx_down = False
        self.listens = {"127.0.0.1:5000"}
        self.addresses = ["10.0.0.5"]  # its own
        self.nginx_says = ""  # to nginx -T
        self.elsewhere: dict[str, Any] = {}  # by address what answers there in place of the app
        self.clock = 1_795_000_000.0
        self.clock_was_set = 0.0  # by somebody, in seconds
        self.units: Json = {}
        self.became: list[str] = []
        self.environ: dict[str, str] = {}
        self.free = 1 << 30
        self.queues = ""  # what ss says of the sockets that listen
        self.synced = True  # whether all that was written is on the disk
        self.verdict_said = ""  # what systemd said of a unit
        self.journal_synced = False  # whether the journal holds all that was said

    # --- systemd

    def set_unit(self, name: str, **properties: str) -> None:
        """Set properties of a unit, and put it behind the others."""
        known = {"Id": name, "LoadState": "loaded", "Result": "success", "MainPID": "0", **self.units.pop(name, {})}
        self.units[name] = {**known, **properties}

    def load_state(self, name: str) -> str:
        """Return whether systemd could load a unit that nobody has started: from its file, or that of its template."""
        if name in self.bad_units:
            return "bad-setting"
        template = re.sub(r"@[^.]+", "@", name)
        where = [self.root / place / unit for place in UNIT_PLACES for unit in (name, template)]
        return "loaded" if any(path.exists() for path in where) else "not-found"

    def active(self) -> list[str]:
        """Return the releases that serve, the one that started first in front."""
        names = [name for name, unit in self.units.items() if unit["ActiveState"] == "active"]
        return [match.group(1) for match in (re.match(r"hello@(\w+)\.service", name) for name in names) if match]

    def run(self, argv: Sequence[str], **kwargs: Any) -> Any:
        argv = [str(word) for word in argv]
        strict.check(argv, self.systemd)
        self.calls.append(argv)
        self.environments.append(kwargs.get("env") or {})
        done = flaskctl.Done
        if argv[0] == "systemctl":
            return self.run_systemctl(argv[1], argv[2:])
        if argv[0] == "journalctl":
            return self.run_journalctl(argv)
        if argv[0] == "systemd-run":
            return self.run_systemd_run(argv)
        said = {"nginx -T": self.nginx_says, "ss -Hlntx": self.queues}.get(" ".join(argv))
        if said is not None:
            return done(0 if said else 1, said)
        if argv[0] == "ssh-keygen":  # the real one: it reads files alone
            return super().run(argv, **kwargs)
        known: dict[str, dict[str, Any]] = {"userdel": self.accounts, "groupdel": self.joined}
        if argv[0] in known:
            return done(0 if known[argv[0]].pop(argv[1], None) else 6)
        if argv[:2] == ["systemd-analyze", "verify"]:
            return self.verify(argv[3:])
        if argv[:2] == ["systemd-analyze", "calendar"]:
            return done(0 if argv[-1] in self.calendars else 1, "", f"Failed to parse calendar {argv[-1]!r}")
        if argv[1:3] == ["-m", "venv"]:
            return self.make_venv(Path(argv[3]))
        if argv[:4] == ["python3", "-I", "-m", "compileall"]:
            self.compile(*argv[6:9:2], *argv[9:])
            return done(0)
        if argv[0] == "python3" or argv[0].endswith("/bin/python"):
            return self.run_python(argv)
        return done(127, "", f"{argv[0]} is not installed")

    def run_journalctl(self, argv: Sequence[str]) -> Any:
        done = flaskctl.Done
        if argv == ["journalctl", "--sync"]:
            self.journal_synced = True
            return done(0)
        if "short-unix" in argv:
            return done(0, self.said)
        if "json" in argv:
            units = {word.partition("=")[2] for word in argv if word.startswith("UNIT=")}
            said = [entry for entry in self.complained if entry["UNIT"] in units and self.root_user]
            return done(0, "".join(f"{json.dumps(entry)}\n" for entry in said))
        if argv[-2] == "_PID=1":
            return done(0, self.verdict_said)
        if argv[-2] == "-u":
            return done(0, f"{argv[-1]}: Main process exited, code=exited, status=3\n")
        if argv[-1].startswith("_SYSTEMD_UNIT=") and not self.journal_synced:
            return done(0)
        match = re.search(r"(?:@|try-|twin-)(\w+)\.service", " ".join(argv))
        return done(0, TRACEBACK.replace("{id}", match.group(1)) if match else "", "")

    def verify(self, paths: Sequence[str]) -> Any:
        """Read unit files as systemd-analyze does, drop-ins too; its exit code is of other things."""
        said = []
        for path in [Path(name) for name in paths]:
            for file in [path, *sorted(path.parent.glob(f"{path.name}.d/*.conf"))]:
                for number, line in enumerate(file.read_text().splitlines(), 1):
                    key, _, value = (part.strip() for part in line.partition("="))
                    if key in self.unknown:
                        said.append(f"{file}:{number}: Unknown key '{key}' in section [Service], ignoring.")
                    elif value == "maybe":
                        said.append(f"{file}:{number}: Failed to parse boolean value, ignoring: {value}")
            said.append(f"{path.name}: Command /nowhere is not executable: No such file or directory")
        said.append("/etc/systemd/system/other.service:3: Unknown key 'Foo' in section [Service], ignoring.")
        return flaskctl.Done(1, "", "\n".join(said))

    def run_systemd_run(self, argv: Sequence[str]) -> Any:
        """Start a transient service: one that is broken fails as it would by `systemctl start`."""
        name = next(word for word in argv if word.startswith("--unit=")).partition("=")[2]
        if name == "hello.build.service":
            return self.build(argv)
        how = next((how for release, how in self.broken.items() if release in name), "")
        if how == "systemd-run":
            return flaskctl.Done(1, "", "Unknown assignment: X=y")
        if how in ("import", "timeout"):
            self.set_unit(name, ActiveState="failed", Result="exit-code" if how == "import" else "timeout")
            return flaskctl.Done(1, "", f"Job for {name} failed.")
        self.set_unit(name, ActiveState="active", MainPID="4712")
        return flaskctl.Done(0)

    def make_venv(self, venv: Path) -> Any:
        (venv / "bin").mkdir()
        (venv / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
        for name in ("python", "flask", *self.commands):
            (venv / "bin" / name).write_text("")
            (venv / "bin" / name).chmod(0o755)
        packages = venv / "lib" / "python3.11" / "site-packages"
        (packages / "pkg" / "static").mkdir(parents=True)
        for name, version in self.installed.items():
            (packages / f"{name}-{version}.dist-info").mkdir()
        return flaskctl.Done(0)

    def build(self, argv: Sequence[str]) -> Any:
        """Run what is to run in the sandbox of a build; there the tree is called by the name of its place."""
        cut = list(argv).index("--")
        settings: dict[str, list[str]] = {}
        for word in argv[1:cut]:
            if word.startswith("--property="):
                _, key, value = word.split("=", 2)
                settings.setdefault(key, []).append(value)
        self.builds.append(settings)
        if not self.namespaces and "TemporaryFileSystem" in settings:
            return flaskctl.Done(226)
        words = list(argv[cut + 2 :])
        if words == ["true"]:
            return flaskctl.Done(0)
        tree, _, place = settings.get("BindPaths", [":"])[0].partition(":")
        words = [re.sub(rf"\A{re.escape(place)}(?=/|\Z)", tree, word) if place else word for word in words]
        lines = Path(settings["EnvironmentFile"][0]).read_text().splitlines()
        environment = dict(line.split("=", 1) for line in lines)
        environment = {key: json.loads(value) for key, value in environment.items()}
        cwd, groups = Path(settings["WorkingDirectory"][0]), settings.get("SupplementaryGroups", [])
        files = [cwd / words[at + 1] for at, word in enumerate(words) if word == "-r"]
        for path in (cwd, *files):
            if not self.readable(path, [self.group(name) for name in groups]):
                return flaskctl.Done(1, "", f"[Errno 13] Permission denied: '{path}'")
        done = self.run(words, env=environment, cwd=cwd)
        if self.on_build:
            self.on_build(Path(tree or words[0]))
        return done

    @staticmethod
    def readable(path: Path, groups: Sequence[int | None]) -> bool:
        """Tell whether a user of these groups alone may read a file, or go through a directory and read it."""
        wanted, now = 0o5 if path.is_dir() else 0o4, path.stat()
        mode = now.st_mode >> 3 if now.st_gid in groups else now.st_mode
        return mode & wanted == wanted

    def run_python(self, argv: Sequence[str]) -> Any:
        if "CS_GNU_LIBC_VERSION" in argv[-1]:
            return flaskctl.Done(0, '{"version": "3.11.2", "libc": "glibc 2.36"}')
        if not Path(argv[0]).exists():
            return flaskctl.Done(127)
        if "sys.version_info" in argv[3]:
            return flaskctl.Done(0, "3.11\n")
        if "importlib.metadata" in argv[3]:
            return flaskctl.Done(0, "hellopkg\n")
        if "pip" in argv and self.pip_fails and "install" in argv:
            return flaskctl.Done(1, "", self.pip_fails)
        if argv[4:] == ["check"] and self.contradictions:
            return flaskctl.Done(1, self.contradictions.pop(0))
        if "--target" in argv:
            (Path(argv[argv.index("--target") + 1]) / "hellopkg").mkdir(parents=True)
        return flaskctl.Done(0)

    def compile(self, home: str, final: str, *trees: str) -> None:
        """Leave byte code that says where its source will stand."""
        for tree in trees:
            for source in sorted(Path(tree).rglob("*.py")):
                (source.parent / "__pycache__").mkdir(exist_ok=True)
                made = source.parent / "__pycache__" / f"{source.stem}.cpython-311.pyc"
                made.write_text(str(source).replace(home, final, 1))

    def run_systemctl(self, verb: str, words: Sequence[str]) -> Any:
        names = [word for word in words if not word.startswith("--")]
        if verb == "--version":
            return flaskctl.Done(0, f"systemd {self.systemd} ({self.systemd}.1-1)\n")
        if verb == "show":
            return self.show_units(names, words[0].partition("=")[2].split(","))
        if verb in ("enable", "disable"):
            for name in names:
                self.set_unit(name, UnitFileState=f"{verb}d", ActiveState=self.state_of(name))
        if verb == "daemon-reload":
            for name, unit in self.units.items():
                if unit.get("NeedDaemonReload") == "yes":
                    self.units[name] = {**unit, "NeedDaemonReload": "no"}
        if verb == "reset-failed":
            return self.reset(names)
        if verb in ("start", "stop", "restart"):
            return self.change_units(verb, names, waits="--no-block" not in words)
        return flaskctl.Done(0)

    def state_of(self, name: str) -> str:
        return str(self.units.get(name, {}).get("ActiveState", "inactive"))

    def reset(self, names: Sequence[str]) -> Any:
        """Forget the failure of units; one that is not loaded is an error, a pattern that none matches is not."""
        for name in names:
            for unit in fnmatch.filter(list(self.units), name):
                if self.state_of(unit) == "failed":
                    self.set_unit(unit, ActiveState="inactive", Result="success")
        missing = [name for name in names if "*" not in name and name not in self.units]
        if missing:
            return flaskctl.Done(1, "", f"Failed to reset failed state of unit {missing[0]}.")
        return flaskctl.Done(0)

    def show_units(self, names: Sequence[str], asked: Sequence[str]) -> Any:
        found = [unit for name, unit in self.units.items() if any(fnmatch.fnmatchcase(name, word) for word in names)]
        for name in names:  # one that is named is shown, whether it is there or not
            if name not in self.units and not re.search(r"[*?[]", name):
                state = self.load_state(name)
                error = "" if state == "loaded" else f"org.freedesktop.systemd1 says: {state}"
                found.append({"Id": name, "LoadState": state, "LoadError": error, "ActiveState": "inactive"})
        shown = [{key: unit[key] for key in asked if key in unit} for unit in found]
        text = "\n\n".join("\n".join(f"{key}={value}" for key, value in unit.items()) for unit in shown)
        for release, how in self.broken.items():  # it says READY, and is gone at the second look
            gone = {"crash": f"hello@{release}.service", "worker process dies": f"hello.worker-1@{release}.service"}
            if gone.get(how) in self.units:
                self.set_unit(gone[how], ActiveState="failed")
        return flaskctl.Done(0, text + "\n")

    def change_units(self, verb: str, names: Sequence[str], waits: bool) -> Any:
        """Start or stop units as systemd 262 does: one that cannot be loaded holds all of the call back."""
        bad = [name for name in names if name in self.bad_units]
        if bad:
            return flaskctl.Done(5, "", f"Failed to {verb} {names[0]}: Unit {bad[0]} not loaded.")
        rc = 0
        for name in names:
            if verb in ("stop", "restart") and name in self.stubborn:
                rc = 1
            elif verb == "stop":
                if name in self.units:
                    self.set_unit(name, ActiveState="inactive" if waits else "deactivating", MainPID="0")
            else:
                rc = self.start_unit(name, verb) or rc
        return flaskctl.Done(rc, "", "Job failed." if rc else "")

    def start_unit(self, name: str, verb: str) -> int:
        how = next((how for release, how in self.broken.items() if release in name), "")
        if how in ("import", "timeout"):
            self.set_unit(name, ActiveState="activating", Result="exit-code" if how == "import" else "timeout")
            return 1
        if how == "socket" or (how == "worker process" and ".worker" in name):
            return 1
        if verb == "restart" or self.units.get(name, {}).get("ActiveState") != "active":
            self.last_pid += 1
            for other in self.sockets_of(name):  # Sockets= wants them
                if self.state_of(other) != "active":
                    self.start_unit(other, "start")
            self.moment += 1
            when = {
                name: str(self.moment) for name in ("ActiveEnterTimestampMonotonic", "ExecMainStartTimestampMonotonic")
            }
            self.set_unit(name, ActiveState="active", MainPID=str(self.last_pid), Result="success", **when)
            self.heard[name] = self.sockets_of(name)
        return 0

    def sockets_of(self, name: str) -> list[str]:
        """Return the socket units that the unit of a release gets: those that have a file and are not masked."""
        if not re.match(r"hello(@|\.twin-)", name):
            return []
        files = (self.root / UNIT_PLACES[0] / unit for unit in ("hello.socket", "hello.unix.socket"))
        return [path.name for path in files if path.exists() and not path.is_symlink()]

    def run_as(self, account: Any, argv: Sequence[str]) -> Any:
        """Run it as whoever runs the tests, below the root of this host."""
        self.calls.append(["as", str(account.uid), *argv])
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        return flaskctl.Done(done.returncode, done.stdout, done.stderr)

    def make_home(self, path: Path, account: Any) -> None:
        path.mkdir(mode=0o750, parents=True)

    def children(self, pid: int) -> set[str]:
        if "worker" in self.broken.values() and pid:
            self.broken = {release: "" for release in self.broken}
            return {"1", "2"}
        return {"2", "3"}

    # --- the rest of the machine

    def now(self) -> float:
        return self.clock + self.clock_was_set

    def ticks(self) -> float:
        return self.clock

    def sleep(self, seconds: float) -> None:
        self.clock += seconds

    def account(self, name: str) -> Any:
        return self.accounts.get(name)

    def group(self, name: str) -> int | None:
        """Return the group: an app's is that of its account."""
        return 990 if name in self.joined else self.accounts[name].gid if name in self.accounts else super().group(name)

    def members(self, group: str) -> list[str]:
        return self.joined.get(group, [])

    def mounts_below(self, path: Path) -> list[str]:
        return [point for point in self.mounts if point.startswith(f"{path}/")]

    def is_root(self) -> bool:
        return self.root_user

    def reads_journal(self) -> bool:
        return self.root_user

    def who(self) -> str:
        return "alice"

    def pid(self) -> int:
        return 4242

    def node_name(self) -> str:
        return "web1"

    def environment(self) -> Mapping[str, str]:
        return self.environ

    def python_program(self, python: str) -> str:
        return "/usr/bin/python3.11"

    def free_bytes(self, path: Path) -> int:
        return self.free

    def sync(self) -> None:
        self.synced = True

    def give_way(self) -> None:
        """Do nothing: this process would stay nice. A test has a child give way for real."""

    def processors(self) -> int:
        return 2

    def machine(self) -> str:
        return "x86_64"

    def python_version(self, python: str) -> str:
        return "3.11"

    def python_homes(self, python: str) -> list[str]:
        return ["/usr"] if "/" not in python else [os.path.dirname(os.path.dirname(python))]

    @contextlib.contextmanager
    def meanwhile(self, seconds: float, call: Callable[[], None]) -> Iterator[None]:
        """Nothing takes time here, but for what is slow."""
        if self.slow:
            call()
        yield

    def listening(self) -> set[str]:
        return self.listens

    def attached(self, argv: Sequence[str]) -> Any:
        strict.check(argv, self.systemd)
        self.became = list(argv)
        return flaskctl.Done(7, self.command_says)

    def become(self, argv: Sequence[str]) -> None:
        strict.check(argv, self.systemd)
        self.became = list(argv)

    def own_addresses(self) -> list[str]:
        return self.addresses

    def http_get(self, scheme: str, port: int, host: str, path: str, at: str = "", public: str = "") -> Any:
        """Answer as nginx does: by the oldest instance that still accepts, over the connection it has kept."""
        active = self.active()
        if at in self.elsewhere:
            return self.elsewhere[at]
        if self.nginx_down or not active:
            return flaskctl.Answer(0, "", "ConnectionRefusedError: [Errno 111] Connection refused")
        if active[0] in self.paths and path not in self.paths[active[0]]:
            return flaskctl.Answer(404, active[0], "no such page")
        bad = self.broken.get(active[0]) == "nginx"
        return flaskctl.Answer(500 if bad else 200, active[0], "boom" if bad else "ok")

    def checkpoint(self, name: str) -> None:
        assert name in flaskctl.CHECKPOINTS
        self.steps.append(name)
        if name in ("unpack", "venv-complete"):
            self.synced = False
        assert name != "publish" or self.synced, "what is published is on the disk"
        if name == self.die_at:
            # systemd outlives flaskctl
            (self.root / "systemd.json").write_text(json.dumps(self.units))
            os._exit(137)


FakeHostT = TypeVar("FakeHostT", bound=FakeHost)
SETTINGS_FILE = "/etc/flaskctl/hello.json"
UNITS = tuple(f"/etc/systemd/system/hello{end}" for end in (".socket", ".service", "@.service"))


SETTINGS = {
    "port": 5000,
    "keep_releases": 2,
    "verify": {"scheme": "http", "port": 80, "host": "example.com", "path": "/healthz"},
}


def with_app(host: FakeHostT) -> FakeHostT:
    """Make the app as the role does, without a release: its socket listens."""
    root = host.root
    for directory in ("etc/flaskctl", "etc/systemd/system", "etc/nginx/sites-enabled", "run/flaskctl", "srv/hello"):
        (root / directory).mkdir(parents=True, exist_ok=True)
    (root / "etc/flaskctl/hello.json").write_text(json.dumps(SETTINGS))
    (root / "etc/systemd/system/hello.socket").write_text("[Socket]\nListenStream=127.0.0.1:5000\n")
    (root / "etc/systemd/system/hello.service").write_text("[Service]\n")
    (root / "etc/systemd/system/hello@.service").write_text("[Service]\nUser=hello\n")
    site = root / "etc/nginx/sites-enabled/hello.conf"
    if not site.is_symlink():
        site.symlink_to("../sites-available/hello.conf")
    host.accounts["hello"] = flaskctl.Account(990, 990, "/nonexistent", "/usr/sbin/nologin")
    host.set_unit("hello.socket", ActiveState="active", UnitFileState="enabled")
    host.set_unit("hello.service", ActiveState="inactive", UnitFileState="enabled")
    host.set_unit("nginx.service", ActiveState="active", UnitFileState="enabled")
    return host


def note(host: FakeHost, *paths: str) -> None:
    """Put files that stand on the record, as the role does: without them the role never made the app."""
    record = host.root / "var/lib/flaskfleet/files.json"
    record.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(record.read_text()) if record.exists() else {}
    known.update({path: flaskctl.fingerprint(host.path(path)) for path in paths or (SETTINGS_FILE, *UNITS)})
    record.write_text(json.dumps(known))


def engines(host: FakeHost) -> Path:
    """Put two versions of flaskctl on the host, the launcher names the newer; return the older."""
    for version in ("aaa", "bbb"):
        file = host.root / f"usr/local/lib/flaskctl/{version}/flaskctl/cli.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")
        note(host, f"/usr/local/lib/flaskctl/{version}/flaskctl/cli.py")
    launcher = host.root / "usr/local/bin/flaskctl"
    launcher.parent.mkdir(parents=True, exist_ok=True)
    launcher.write_text('sys.path.insert(0, "/usr/local/lib/flaskctl/bbb")\n')
    return host.root / "usr/local/lib/flaskctl/aaa"


class Result:
    """What a command gave: exit code, standard output and error, and the JSON object if there is one."""

    def __init__(self, rc: int, out: str, err: str) -> None:
        self.rc, self.out, self.err = rc, out, err
        self.json: Json = json.loads(out) if out.startswith("{") else {}

    def __repr__(self) -> str:
        return f"rc={self.rc}\n{self.out}\n{self.err}"


def call(host: FakeHost, *argv: str, stdin: str | bytes = "") -> Result:
    out, err = io.StringIO(), io.StringIO()
    given = io.TextIOWrapper(io.BytesIO(stdin.encode() if isinstance(stdin, str) else stdin), "utf-8")
    rc = main(list(argv), host, given, out, err)
    return Result(rc, out.getvalue(), err.getvalue())


def killed(host: FakeHost, step: str, *argv: str, stdin: str = "") -> bool:
    """Run a command in a process of its own that dies at `step`, no `finally` runs; return whether it came to that."""
    child = os.fork()
    if not child:
        host.die_at = step
        try:
            call(host, *argv, stdin=stdin)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WEXITSTATUS(status) == 137:
        units = host.root / "systemd.json"
        host.units = json.loads(units.read_text())
        units.unlink()
    return os.WEXITSTATUS(status) == 137


def base(host: FakeHost) -> Path:
    return host.root / "srv/hello"


def links(host: FakeHost) -> tuple[str, str]:
    """Return what current and previous point to."""
    found = [
        os.path.basename(os.readlink(base(host) / n)) if (base(host) / n).is_symlink() else ""
        for n in ("current", "previous")
    ]
    return found[0], found[1]


def snapshot(root: Path) -> dict[str, object]:
    """Return every file of the host."""
    found: dict[str, object] = flaskctl.inventory(root)
    return found

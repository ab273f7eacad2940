"""This machine: with `programs` the only room that touches processes, the clock, the environment and the kernel."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from flaskctl.accounts import Account
from flaskctl.addresses import reachable
from flaskctl.checkpoints import CHECKPOINTS
from flaskctl.errors import Refused
from flaskctl.files import read_text
from flaskctl.layout import FAULT_INJECTION
from flaskctl.outbound import nameservers
from flaskctl.programs import Done, run_attached, run_program
from flaskctl.standing import listeners

if TYPE_CHECKING:
    import ssl

Units = dict[str, dict[str, str]]  # properties by unit name


STOPPED = ("inactive", "failed")  # ActiveState
# SD_MESSAGE_INVALID_CONFIGURATION in sd-messages.h: each such entry has CONFIG_FILE and CONFIG_LINE
INVALID_CONFIGURATION = "c772d24e9a884cbeb9ea12625c306c01"
MOST_WORDS = 5000  # lines of what an app says when it fails: the last ones tell why
ANSWER_SECONDS = 10.0  # how long an answer may take in all
NOBODY = 2**32 - 1  # the loginuid of what no person has started


def stopped(shown: Mapping[str, str]) -> bool:
    """Return whether a unit has stopped, from its properties; one that is on its way up or down has not."""
    return shown.get("ActiveState") in STOPPED


class Answer(NamedTuple):
    """One HTTP answer; status 0 when there was none, `body` then says why."""

    status: int
    release: str
    body: str
    location: str = ""


def runs_here(python: str) -> bool:
    """Tell whether an interpreter is the one that runs this."""
    found = shutil.which(python)
    return bool(found) and os.path.realpath(str(found)) == os.path.realpath(sys.executable)


def unverified() -> ssl.SSLContext:
    """Return how TLS is spoken to this machine itself: its certificate need not be one that it trusts."""
    import ssl

    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


class Host:
    """This machine. Tests put another one in its place: `root` moves all files, `run` is every process it starts."""

    root = Path("/")
    nameless: Collection[int] = range(61184, 65520)  # those that systemd makes for a unit (DynamicUser=)

    def path(self, absolute: str) -> Path:
        return self.root / absolute.lstrip("/")

    def run(self, argv: Sequence[str], **kwargs: Any) -> Done:
        """Run a program to its end, its output is text. One that is not there is rc 127."""
        return run_program(argv, **kwargs)

    def attached(self, argv: Sequence[str]) -> Done:
        """Run a program on our own input and output; return the end of what it said too, where no person reads it."""
        return run_attached(argv)

    def become(self, argv: Sequence[str]) -> None:
        os.execvp(argv[0], list(argv))

    def now(self) -> float:
        return time.time()

    def ticks(self) -> float:
        return time.monotonic()  # passes whatever is done to the clock: what a wait is measured with

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    @contextlib.contextmanager
    def meanwhile(self, seconds: float, call: Callable[[], None]) -> Iterator[None]:
        """Call something when what is done in the block lasts longer than that."""
        timer = threading.Timer(seconds, call)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()

    def is_root(self) -> bool:
        return os.geteuid() == 0

    def who(self) -> str:
        """Return the name of the person: who runs the playbook, who is behind sudo, who has logged in and called su."""
        told = self.environment().get("FLASKCTL_BY") or self.environment().get("SUDO_USER")
        login = read_text(self.path("/proc/self/loginuid")) or ""
        uid = int(login) if login.strip().isdigit() and int(login) != NOBODY else os.getuid()
        try:
            return told or pwd.getpwuid(uid).pw_name
        except KeyError:
            return str(uid)

    def account(self, name: str) -> Account | None:
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            return None
        return Account(found.pw_uid, found.pw_gid, found.pw_dir, found.pw_shell)

    def group(self, name: str) -> int | None:
        try:
            return grp.getgrnam(name).gr_gid
        except KeyError:
            return None

    def members(self, group: str) -> list[str]:
        """Return who was put into a group, beside those whose own it is."""
        try:
            return sorted(grp.getgrnam(group).gr_mem)
        except KeyError:
            return []

    def run_as(self, account: Account, argv: Sequence[str]) -> Done:
        """Run a program as a user of this host, with no right that is not the user's."""
        return self.run(argv, user=account.uid, group=account.gid, extra_groups=[], umask=0o027)

    def make_home(self, path: Path, account: Account) -> None:
        """Make a directory that belongs to a user, below one that is root's."""
        path.mkdir(mode=0o750)
        os.chown(path, account.uid, account.gid)

    def mounts_below(self, path: Path) -> list[str]:
        """Return what is mounted below a path in the host's own view: to erase it would erase what is mounted."""
        lines = (read_text(self.path("/proc/self/mountinfo")) or "").splitlines()
        points = [re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), line.split()[4]) for line in lines]
        return sorted(point for point in points if point.startswith(f"{path}/"))

    def resolvers(self) -> list[str]:
        """Return the addresses of the resolvers that programs of this host ask."""
        return nameservers(read_text(self.path("/etc/resolv.conf")) or "")

    def give_way(self) -> None:
        """Let whatever serves users have the processors first, from here on and in all that is started from here."""
        os.nice(15)

    def processors(self) -> int:
        return os.cpu_count() or 1

    def machine(self) -> str:
        return os.uname().machine

    def node_name(self) -> str:
        return os.uname().nodename

    def pid(self) -> int:
        return os.getpid()

    def environment(self) -> Mapping[str, str]:
        return os.environ

    def free_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).free

    def sync(self) -> None:
        """Have all that was written reach the disk."""
        os.sync()

    def python_version(self, python: str) -> str:
        """X.Y of an interpreter; asks a process only when it is not the one that runs here."""
        if runs_here(python):
            return f"{sys.version_info[0]}.{sys.version_info[1]}"
        return self.ask_python(python, "'%d.%d' % sys.version_info[:2]")

    def python_homes(self, python: str) -> list[str]:
        """Return the directories of an interpreter, links followed: program and libraries are run from there."""
        homes = [sys.base_prefix, sys.base_exec_prefix]
        if not runs_here(python):
            told = "'\\n'.join([sys.base_prefix, sys.base_exec_prefix, __import__('os').path.realpath(sys.executable)])"
            *homes, program = self.ask_python(python, told).splitlines()
            homes.append(os.path.dirname(program))
        return sorted({os.path.realpath(home) for home in homes})

    def python_program(self, python: str) -> str:
        """Return the program that a virtualenv of an interpreter has links to, links followed."""
        if runs_here(python):
            return os.path.realpath(sys.executable)
        return os.path.realpath(self.ask_python(python, "sys._base_executable"))

    def ask_python(self, python: str, expression: str) -> str:
        done = self.run([python, "-I", "-c", f"import sys; print({expression})"])
        if done.rc:
            raise Refused(f"{python} does not run", done.err.strip(), "install it, or name another Python")
        return done.out.strip()

    def systemd_version(self) -> int:
        match = re.match(r"systemd (\d+)", self.run(["systemctl", "--version"]).out)
        return int(match.group(1)) if match else 0

    def systemctl(self, *args: str) -> Done:
        return self.run(["systemctl", *args])

    def each(self, verb: str, *units: str) -> dict[str, str]:
        """Start, stop, restart, enable or disable units; return by unit the words of systemd for each that it refused.

        In one call a unit that cannot be loaded holds all others back (systemd 262). They start or stop side by side
        all the same: the calls that wait come when all have been asked. What stands then is for the caller to look at.
        """
        for unit in units if len(units) > 1 and verb in ("start", "stop") else ():
            self.systemctl(verb, "--no-block", unit)
        done = {unit: self.systemctl(verb, unit) for unit in units}
        return {unit: found.err.strip() for unit, found in done.items() if found.rc}

    def up(self, *units: str) -> list[str]:
        """Return which of the units are not stopped: starting and stopping ones too."""
        shown = self.show(*units) if units else {}
        return [unit for unit in units if not stopped(shown.get(unit, {}))]

    def show(self, *units: str) -> Units:
        """Return what systemd says of the units that match the names or patterns, in one call.

        A systemd that does not answer is a failure: nobody may take that for units that are stopped.
        """
        wanted = "Id,LoadState,LoadError,ActiveState,Result,UnitFileState,MainPID,NeedDaemonReload,ControlGroup"
        wanted += ",ActiveEnterTimestampMonotonic,ExecMainStartTimestampMonotonic,NRestarts"
        found: Units = {}
        done = self.systemctl("show", f"--property={wanted}", "--", *units)
        if done.rc:
            raise Refused("systemd does not say how its units stand", done.err.strip(), "systemctl is-system-running")
        for block in done.out.split("\n\n"):
            unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            found.update({unit["Id"]: unit} if "Id" in unit else {})
        return found

    def journal(self, unit: str, since: float) -> str:
        """Return what the unit's own processes wrote since then; what systemd said of it when they wrote nothing."""
        self.run(["journalctl", "--sync"])
        common = ["journalctl", "--no-pager", "-q", "-o", "cat", f"--lines={MOST_WORDS}", f"--since=@{since:.6f}"]
        text = self.run([*common, f"_SYSTEMD_UNIT={unit}"]).out
        return text if text.strip() else self.run([*common, "-u", unit]).out

    def verdict(self, unit: str, since: float) -> str:
        """Return what systemd said of a unit since then: of a process that the kernel has ended, nobody else tells."""
        return self.run(
            ["journalctl", "--no-pager", "-q", "-o", "cat", f"--since=@{since:.6f}", "_PID=1", f"UNIT={unit}"]
        ).out

    def reads_journal(self) -> bool:
        """Return whether whoever runs this may read what services wrote."""
        kept = [
            path for top in ("/var/log/journal", "/run/log/journal") for path in self.path(top).glob("*/system.journal")
        ]
        return any(os.access(path, os.R_OK) for path in kept)

    def journal_lines(self, units: Sequence[str], most: int) -> list[tuple[float, str]]:
        """Return what the processes of units wrote and systemd said of them, the last `most` lines of it.

        Each line comes with when that was, in seconds since the epoch.
        """
        own = [f"_SYSTEMD_UNIT={unit}" for unit in units]
        said = ["+", "_PID=1", *(f"UNIT={unit}" for unit in units)]
        argv = ["journalctl", "--no-pager", "-q", "-o", "short-unix", f"--lines={most}", *own, *said]
        lines = (line.split(" ", 3) for line in self.run(argv).out.splitlines())  # time, host, process, text
        whole = (words for words in lines if len(words) == 4 and re.fullmatch(r"\d+\.\d+", words[0]))
        return [(float(words[0]), words[3]) for words in whole]

    def complaints(self, units: Sequence[str]) -> list[dict[str, Any]]:
        """Return what systemd said since the boot of lines in the files of these units that it does not take.

        None for one who may not read the journal.
        """
        since_boot = ["journalctl", "-q", "--no-pager", "-o", "json", "-b", f"MESSAGE_ID={INVALID_CONFIGURATION}"]
        found = []
        for line in self.run([*since_boot, *(f"UNIT={unit}" for unit in units)]).out.splitlines():
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return [entry for entry in found if isinstance(entry, dict)]

    def children(self, pid: int) -> set[str]:
        """Return the processes that a master has forked; none where the kernel does not tell.

        The kernel lists them by the thread that forked, and not only the first one may (proc_pid_task(5)).
        """
        lists = self.path(f"/proc/{pid}/task").glob("*/children")
        return {child for path in lists for child in (read_text(path) or "").split()}

    def open_files(self, pid: int) -> set[str]:
        """Return what a process has open, as the kernel names it; nothing of one that has ended."""
        found = set()
        with contextlib.suppress(OSError):
            for path in self.path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):  # closed meanwhile
                    found.add(os.readlink(path))
        return found

    def listening(self) -> set[str]:
        """Return the IPv4 addresses and paths that systemd listens on; whoever may not look into it gets those of all.

        A socket unit whose address was changed under it stays "active" while systemd has closed its descriptor.
        """
        tcp, unix = (read_text(self.path(f"/proc/net/{name}")) or "" for name in ("tcp", "unix"))
        # the kernel goes on naming a path that somebody has removed
        return {at for at in listeners(tcp, unix, self.open_files(1)) if at[0] != "/" or self.path(at).is_socket()}

    def own_addresses(self) -> list[str]:
        """Return the addresses at which others reach this host; its own loopback where there is none."""
        said = {
            name: self.run(["ip", "-json", *words]).out
            for name, words in (
                ("addresses", ("-details", "address")),
                ("routes", ("-4", "route", "show", "default")),
                ("routes6", ("-6", "route", "show", "default")),
            )
        }
        return reachable(*(json.loads(text or "[]") for text in said.values())) or ["127.0.0.1"]

    def http_get(self, scheme: str, port: int, host: str, path: str, at: str = "127.0.0.1", public: str = "") -> Answer:
        """Ask the web server at one of this machine's addresses, as a client of `host` would.

        With `public` as a load balancer that was asked by this scheme: nginx believes that of this machine's loopback.
        """
        import http.client
        import socket

        connection = http.client.HTTPConnection(at, port, timeout=5)
        late: list[bool] = []
        headers = {"Host": host, "Connection": "close", "User-Agent": "flaskctl"}
        headers.update({"X-Forwarded-Proto": public} if public else {})
        try:
            loopback = ("::1" if ":" in at else "127.0.0.1", 0)
            sock = socket.create_connection((at, port), 5, loopback if public else None)

            def hang_up() -> None:  # an answer that trickles never meets the time that each part of it has
                late.append(True)
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

            with self.meanwhile(ANSWER_SECONDS, hang_up):
                if scheme == "https":
                    sock = unverified().wrap_socket(sock, server_hostname=host.partition(":")[0])
                connection.sock = sock
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                body, said = response.read(1000).decode("utf-8", "ignore"), response.headers
            if late:
                raise TimeoutError
            return Answer(response.status, said.get("X-Release", ""), body, said.get("Location", ""))
        except (OSError, http.client.HTTPException) as error:
            told = TimeoutError(f"no whole answer in {ANSWER_SECONDS:.0f} s") if late else error
            return Answer(0, "", f"{type(told).__name__}: {told}")
        finally:
            connection.close()

    def peer_certificates(self, address: Mapping[str, Any]) -> set[str]:
        """Return the SHA-256 of the certificate that is shown at each of this machine's addresses, as verify asks."""
        import hashlib
        import socket

        found = set()
        for at in self.own_addresses() if address.get("scheme") == "https" else ():
            name = str(address["host"]).partition(":")[0]
            with contextlib.suppress(OSError):
                plain = socket.create_connection((at, int(address["port"])), 5)
                with plain, unverified().wrap_socket(plain, server_hostname=name) as shown:
                    found.add(hashlib.sha256(shown.getpeercert(True) or b"").hexdigest())
        return found

    def checkpoint(self, name: str) -> None:
        """Be killed, or hang, where a test wants it; only where root made /run/flaskctl/allow-fault-injection."""
        assert name in CHECKPOINTS, name
        wanted = [self.environment().get(f"FLASKCTL_{how}_AT") for how in ("KILL", "HANG")]
        if name in wanted and self.path(FAULT_INJECTION).exists():
            if name == wanted[1]:
                time.sleep(3600)
            os.kill(self.pid(), signal.SIGKILL)

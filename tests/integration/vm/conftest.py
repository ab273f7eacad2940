"""The machine of the scenario `vm`: reached over SSH, switched off without a word and on again, with users on it."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.load.client import Load
from tests.load.fixtures import place, workshop
from tests.load.fleet import REPOSITORY, Books, Host, HostError, Played, Row, Workshop, hosts_of_inventory, play
from tools import vm

__all__ = ["place", "workshop"]

REPORTS = REPOSITORY / ".cache" / "reports"
PREFIX = "flask_gunicorn_nginx_"
USERS = ("--rate", "40")


class Server(Host):
    """The machine: commands go over SSH, as the user that cloud-init made, with sudo."""

    @property
    def machine(self) -> vm.Machine:
        found = vm.find(self.name)
        assert found, f"{self.name} is not on record"
        return found

    def argv(self, *words: str, environment: Mapping[str, str] | None = None) -> list[str]:
        settings = [f"{name}={value}" for name, value in (environment or {}).items()]
        return vm.ssh(self.machine, [shlex.join(["sudo", "env", *settings, *words])])

    def load(self, *options: str) -> Load:
        return Load("127.0.0.1", "--port", str(self.machine.http_port), *options)

    def shown(self, unit: str, name: str) -> str:
        return self.run(f"systemctl show -p {name} --value {unit}")

    @property
    def current(self) -> str:
        return self.run("basename $(readlink /srv/hello/current)")

    @property
    def unit(self) -> str:
        """The release that serves."""
        return f"hello@{self.current}.service"

    @property
    def control_group(self) -> str:
        return f"/sys/fs/cgroup{self.shown(self.unit, 'ControlGroup')}"

    @property
    def boot(self) -> str:
        return self.run("cat /proc/sys/kernel/random/boot_id")

    def eventually(self, what: Callable[[], bool], seconds: float = 60) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(HostError):
                if what():
                    return True
            if time.monotonic() > deadline:
                return False
            time.sleep(0.3)

    def serves(self) -> str:
        """Wait until the app answers through nginx; its version."""
        answers = self.eventually(lambda: bool(self.version()))
        assert answers, self.run("flaskctl hello status; systemctl --failed; journalctl -b -n 50", check=False)
        return self.version()

    def power_cut(self) -> None:
        """Take the power away, and switch on again."""
        vm.cut(self.name)
        vm.up(self.name)

    def reboot(self) -> None:
        before = self.boot
        self.run("systemctl reboot", check=False)
        assert self.eventually(lambda: self.boot != before, 180), "it does not come up again"
        vm.wait_until_up(self.machine)


class Bench:
    """The machine, the versions that are released to it, and the books of its users."""

    def __init__(self, server: Server, workshop: Workshop, place: Path) -> None:
        self.server, self.workshop, self.place = server, workshop, place
        self.books = Books([server])
        self.variables: dict[str, Any] = {}
        self.made = 0

    def source(self, files: Mapping[str, str | None] | None = None, append: str = "") -> str:
        """Make the next version, which is what is released from now on; its name."""
        self.made += 1
        version = f"v{self.made}"
        self.variables[f"{PREFIX}source"] = str(self.workshop.source(version, files, append, stylesheet=False))
        return version

    def archive(self, files: Mapping[str, str | None] | None = None) -> tuple[str, Path]:
        """Make the next version; its name and its archive."""
        version = self.source(files)
        return version, self.workshop.archive(Path(self.variables[f"{PREFIX}source"]))

    def play(self, playbook: str = "site.yml", *options: str, **variables: Any) -> Played:
        extra = {**self.variables, **{PREFIX + name: value for name, value in variables.items()}}
        return play(extra, self.place, playbook, options)

    def done(self, playbook: str = "site.yml", *options: str, **variables: Any) -> Played:
        played = self.play(playbook, *options, **variables)
        assert played.rc == 0, played.out
        return played

    @contextlib.contextmanager
    def users(self, what: str, *options: str) -> Iterator[list[Row]]:
        """Have users on the machine while something is done; not one of them may notice."""
        self.books.open(*(options or USERS))
        try:
            with self.books.row(what) as rows:
                time.sleep(2)
                yield rows
                time.sleep(2)
        finally:
            self.books.close()
        assert all(row.requests > 0 and not row.failed for row in rows), self.books.table()


@pytest.fixture(scope="session")
def server() -> Server:
    (host,) = hosts_of_inventory()
    return Server(host.name)


@pytest.fixture(scope="session")
def bench(server: Server, workshop: Workshop, place: Path) -> Iterator[Bench]:
    bench = Bench(server, workshop, place)
    BENCHES.append(bench)
    yield bench
    bench.books.save("vm")


BENCHES: list[Bench] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for bench in BENCHES:
        terminalreporter.write_sep("=", "what the users of the machine met")
        terminalreporter.write_line(bench.books.table())

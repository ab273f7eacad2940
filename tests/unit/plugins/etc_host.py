"""A host whose files config_files changes: a directory, a validator, a program that reads them."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils import file_record as file_record
from ansible_collections.flaskfleet.web.plugins.module_utils import file_transaction as file_transaction
from ansible_collections.flaskfleet.web.plugins.modules import config_files

Answer = dict[str, Any]
OLD, NEW, BAD = "old\n", "new\n", "bad\n"
REAL_COMMAND = file_transaction.Transaction.command
USER = pwd.getpwuid(os.geteuid()).pw_name
GROUP = grp.getgrgid(os.getegid()).gr_name
LONG_AGO = 1_000_000_000_000_000_000  # in nanoseconds


class Cut(BaseException):
    """A run that ends at once, as by SIGKILL: nothing catches this."""


class Host:
    """A directory as /etc, a validator that refuses `bad`, and a program that reads the files when it is told to."""

    def __init__(self, root: Path, run_program: Callable[..., Answer]) -> None:
        self.etc = root / "etc"
        self.site = self.etc / "available" / "hello.conf"
        self.enabled = self.etc / "enabled" / "hello.conf"
        self.default = self.etc / "enabled" / "default"
        self.kept = self.etc / "available" / "default.kept"
        self.main = self.etc / "main.conf"
        self.running = root / "running"
        self.log: list[str] = []
        self.apply_works: Callable[[], bool] = lambda: True
        self.run_program = run_program
        for path in (self.site, self.enabled):
            path.parent.mkdir(parents=True)
        self.site.write_text(OLD)
        self.site.chmod(0o640)
        self.main.write_text("a 1;\n    connections 768;\nb 2;\n")
        self.default.symlink_to("../available/default")
        self.foreign = self.etc / "enabled" / "other.conf"
        self.foreign.write_text("somebody else's\n")
        for path in self.etc.rglob("*"):
            os.utime(path, ns=(LONG_AGO, LONG_AGO), follow_symlinks=False)

    def run(self, content: str = NEW, check: bool = False, **more: Any) -> Answer:
        """Run the module with the set of files that the role has for a site."""
        arguments = {
            "files": [
                {"path": str(self.main), "regexp": r"^(\s*connections)\s+\d+;", "replace": r"\1 8192;"},
                {"path": str(self.default), "disabled_as": str(self.kept), "state": "disabled"},
                {"path": str(self.site), "content": content},
                {"path": str(self.enabled), "link": "../available/hello.conf"},
                {"path": str(self.etc / "deep" / "er" / "x.conf"), "content": "x\n", "mode": "0600"},
                {"path": str(self.etc / "gone" / "y.conf"), "state": "absent"},
            ],
            "validate": ["check-all", "-t"],
            "apply": ["reload-all"],
            **more,
        }
        return self.run_program(config_files, arguments, check=check)

    def tree(self, times: bool = True, root: Path | None = None) -> dict[str, tuple[Any, ...]]:
        """Return everything below /etc: kind, mode, owner, content, and when it was written."""
        root = root or self.etc
        found: dict[str, tuple[Any, ...]] = {}
        for path in sorted(root.rglob("*")):
            status = path.lstat()
            held = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None
            when = status.st_mtime_ns if times and path.is_file() and not path.is_symlink() else None
            found[str(path.relative_to(root))] = (status.st_mode, status.st_uid, status.st_gid, held, when)
        return found

    def command(self, argv: Sequence[str]) -> tuple[bool, str]:
        """Stand in for the commands: the first refuses `bad`, the second has the program read what is in place."""
        self.log.append(argv[0])
        if argv[0] == "check-all":
            bad = [path for path in sorted(self.etc.rglob("*")) if path.is_file() and path.read_bytes() == BAD.encode()]
            return not bad, f"bad in {bad[0]}, line 1" if bad else ""
        if self.apply_works():
            shutil.rmtree(self.running, ignore_errors=True)
            shutil.copytree(self.etc, self.running, symlinks=True)
            return True, ""
        return False, "cannot reload"

    def calls(self) -> list[str]:
        """Return the commands that ran since the last time."""
        found, self.log = self.log, []
        return found

    def markers(self) -> list[Path]:
        """Return what cut runs have left."""
        pattern = Path(file_transaction.UNFINISHED.format("*"))
        return list(pattern.parent.glob(pattern.name))

    def boot(self) -> None:
        """Lose what is in /run, and have the program read what is in place, unjudged."""
        shutil.rmtree(file_transaction.STATE_DIRECTORY, ignore_errors=True)
        shutil.rmtree(self.running, ignore_errors=True)
        shutil.copytree(self.etc, self.running, symlinks=True)

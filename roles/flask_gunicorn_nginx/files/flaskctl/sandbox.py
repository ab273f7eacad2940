"""Code that is not ours runs in a unit of its own: as a user without rights, which sees its work and little else."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flaskctl.app import App, apps
from flaskctl.errors import Refused
from flaskctl.files import erase, write
from flaskctl.layout import Layout
from flaskctl.outbound import shut_out
from flaskctl.programs import Done
from flaskctl.release import environment_file
from flaskctl.units import KNOWN_SINCE, literally

NOT_STARTED = 200  # systemd's own exit codes begin here (systemd.exec(5)): it could not make the sandbox
NOBODY, NOGROUP = "nobody", "nogroup"

# A compiler runs in it, and what it has made: nothing here is about memory or programs.
WALLS = (
    *(("NoNewPrivileges", "yes"), ("CapabilityBoundingSet", ""), ("RestrictSUIDSGID", "yes")),
    *(("LockPersonality", "yes"), ("KeyringMode", "private"), ("RestrictNamespaces", "yes"), ("UMask", "0022")),
    *(("SystemCallArchitectures", "native"), ("SystemCallFilter", "@system-service")),
    *(("SystemCallErrorNumber", "EPERM"), ("RestrictRealtime", "yes"), ("LimitCORE", "0"), ("TasksMax", "1024")),
    *(("ProtectSystem", "strict"), ("PrivateTmp", "yes"), ("PrivateDevices", "yes"), ("DevicePolicy", "closed")),
    *(("ProtectProc", "invisible"), ("ProtectClock", "yes"), ("ProtectHostname", "yes"), ("PrivateIPC", "yes")),
    *(("ProtectKernelLogs", "yes"), ("ProtectKernelModules", "yes"), ("ProtectKernelTunables", "yes")),
    *(("ProtectControlGroups", "yes"), ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6"), ("Nice", "15")),
    # where clouds hand out credentials, as in app@.service.j2
    (
        "IPAddressDeny",
        "169.254.0.0/16 fe80::/64 fd00:ec2::254 fd20:ce::254 100.100.100.200 192.0.0.192",
    ),
    # what it has left running ends with it, at once
    *(("KillSignal", "SIGKILL"), ("RuntimeMaxSec", "3600")),
)
# secrets that an administrator may have left readable
HIDDEN = ("/etc/ssh", "/etc/ssl/private", "/etc/letsencrypt", "/etc/flaskctl", "/var/backups", "/var/lib/cloud")
# all that is of /run: how names are resolved
RESOLVERS = ("/run/systemd/resolve", "/run/resolvconf", "/run/NetworkManager", "/run/nscd")


# how systemd ends a unit that it could not start: systemd.exec(5)
LACKS = {217: "no users of their own to builds (217/USER)", 226: "no namespaces to builds (226/NAMESPACE)"}
NESTING = "a container of LXD or Incus needs security.nesting=true"


def lack(code: int) -> str:
    return LACKS.get(code, f"builds no sandbox (systemd ends them with {code})")


class Sandbox:
    """Where a tree is made beside its place: `final` is that place, and what the tree is called within the sandbox.

    A host that gives no namespaces (a container without CAP_SYS_ADMIN), or no users that pass (one of LXD, whose
    AppArmor denies the locks of DynamicUser), gives builds no sandbox: the user nobody makes the tree in its place.
    """

    def __init__(self, app: App, final: Path, home: Path, shown: Collection[Path] = ()) -> None:
        self.app, self.final, self.home, self.shown = app, final, home, list(shown)
        self.tree, self.scratch, self.given = home / "tree", home / "scratch", home / "given"
        self.bare = self.began = False
        self.systemd = 0

    def __enter__(self) -> Sandbox:
        self.stop()  # of a flaskctl that was killed
        self.systemd = self.app.host.systemd_version()
        erase(self.home)
        self.home.mkdir(mode=0o700)
        for path, mode in ((self.tree, 0o777), (self.scratch, 0o777), (self.given, 0o755)):
            path.mkdir()
            path.chmod(mode)  # who may enter `home`, may: that is whoever builds, and root
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind:
            self.stop()
        with contextlib.suppress(OSError):
            erase(self.home)
        if kind and self.bare:
            with contextlib.suppress(OSError):
                erase(self.final)

    def stop(self) -> None:
        unit = self.app.build_unit
        if self.app.host.up(unit):
            self.app.host.each("stop", unit)
        if self.app.host.up(unit):
            raise Refused(f"{unit}, which builds, does not stop", remedy=self.app.as_root(f"systemctl status {unit}"))

    def copy_in(self, source: Path) -> Path:
        """Return a copy of a source that may be written to, made before anything runs: setuptools writes into it."""
        copy = self.scratch / "source"
        shutil.copytree(source, copy, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o777 if path.is_dir() or path.stat().st_mode & 0o111 else 0o666)
        return copy

    def run(self, argv: Sequence[str], environment: Mapping[str, str], cwd: Path, network: bool) -> Done:
        """Run a program to its end, and all that it has started."""
        write(self.home / "environment", environment_file(environment), 0o600)
        done = self.start(argv, cwd, network)
        # nothing of a package has run yet: no build can ask for less of a sandbox
        if not self.began and done.rc >= NOT_STARTED and self.start(["true"], cwd, network).rc >= NOT_STARTED:
            self.go_without(done.rc)
            done = self.start(argv, cwd, network)
            if done.rc >= NOT_STARTED and self.start(["true"], cwd, network).rc >= NOT_STARTED:
                why = self.app.as_root(f"journalctl -u {self.app.build_unit}")
                what = f"systemd cannot start a build on this host: it gives {lack(done.rc)}"
                raise Refused(what, done.err.strip(), f"{why} tells why; {NESTING}")
        self.began = True
        return done

    def go_without(self, code: int) -> None:
        """Build as nobody where there is no sandbox, in the place itself."""
        account = self.app.host.account(NOBODY)
        if not account:
            raise Refused("this host gives builds no sandbox, and has no user nobody", remedy=f"adduser {NOBODY}")
        self.bare = True
        erase(self.tree)
        self.tree = self.final
        self.home.chmod(0o711)
        self.app.host.make_home(self.tree, account)
        self.app.warnings.append(
            f"this host gives {lack(code)}: what is built runs as the user nobody, and sees what any user of this host"
            " and the app's own group may see"
        )

    def start(self, argv: Sequence[str], cwd: Path, network: bool) -> Done:
        host = self.app.host
        settings = [*WALLS, *(self.as_nobody() if self.bare else self.apart())]
        settings += [] if network else [("PrivateNetwork", "yes")]
        settings += [("IPAddressAllow", address) for address in shut_out(settings, host.resolvers())]
        settings += [("EnvironmentFile", str(self.home / "environment")), ("WorkingDirectory", str(cwd))]
        words = ["systemd-run", "--quiet", "--wait", "--collect", "--pipe", f"--unit={self.app.build_unit}"]
        words += [f"--property={key}={value}" for key, value in settings if KNOWN_SINCE.get(key, 0) <= self.systemd]
        # by env: systemd-run looks for a program itself, and the Python of what is being built stands within alone
        return host.run([*words, *literally(["/usr/bin/env", *argv], self.systemd)], input="")

    def as_nobody(self) -> list[tuple[str, str]]:
        # a host that gives no user of its own may well give mounts, and then all else is read-only
        written = [("ReadWritePaths", str(path)) for path in (self.tree, self.scratch)]
        return [("User", NOBODY), ("Group", NOGROUP), *self.group(), ("ProtectHome", "yes"), *written, *self.hidden()]

    def group(self) -> list[tuple[str, str]]:
        """Return the setting by which a build runs the virtualenv that it is for: its app alone may read that."""
        name = self.app.name
        return [("SupplementaryGroups", name)] if self.app.host.group(name) is not None else []

    def apart(self) -> list[tuple[str, str]]:
        """Return the settings of a user of its own, which sees nothing of the app but what it works on."""
        name = f"_build{hashlib.sha256(self.app.name.encode()).hexdigest()[:16]}"
        shown = [("BindReadOnlyPaths", f"-{path}") for path in (*RESOLVERS, self.given, *self.shown)]
        return [
            *(("DynamicUser", "yes"), ("User", name), *self.group(), ("ProtectHome", "tmpfs")),
            *(("TemporaryFileSystem", f"{path}") for path in ("/run", "/dev/shm:mode=1777", self.app.base)),  # nosec B108: of the unit
            *(("BindPaths", f"{self.tree}:{self.final}"), ("BindPaths", str(self.scratch))),
            *shown,
            *self.hidden(),
        ]

    def hidden(self) -> list[tuple[str, str]]:
        """Return the settings that hide secrets, and the other apps of this host."""
        others = [Layout(self.app.host.path, name) for name in apps(self.app.host) if name != self.app.name]
        paths = [*HIDDEN, *self.app.data_dirs(self.app.name)]
        paths += [path for other in others for path in (other.base, *other.data_dirs(other.name))]
        return [("InaccessiblePaths", f"-{path}") for path in paths]

    def makers(self) -> Collection[int]:
        """Return the users that the tree may belong to."""
        account = self.app.host.account(NOBODY) if self.bare else None
        return [account.uid] if account else self.app.host.nameless

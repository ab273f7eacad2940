"""One app as it stands on this host, read and never changed: what the commands share. Plus its audit log."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from flaskctl import Json
from flaskctl.errors import Refused
from flaskctl.files import read_json, read_text, write_json
from flaskctl.host import Host, Units, stopped
from flaskctl.layout import RELEASE_ID, SETTINGS, Layout, unix_socket
from flaskctl.plan import Intent, Release, State, lineage, rollback_target
from flaskctl.texts import utc
from flaskctl.units import service_settings


class App(Layout):
    """One app: its files, its units, and the commands on them. A command returns its answer, or raises Refused."""

    def __init__(self, host: Host, name: str, dry: bool = False, said: str = "") -> None:
        super().__init__(host.path, name)
        self.host, self.dry, self.said = host, dry, said
        self.by = host.who()  # the person; a rollout says who runs it
        self.warnings: list[str] = []
        self.tell: Callable[[str], None] = self.warnings.append  # what a person who waits is to know at once
        self.repairs: list[str] = []
        self.signed_by = ""  # who signed the archive, where the host asks for that
        self.wheels: Path | None = None  # from where pip installs, in place of an index

    def settings(self) -> Json:
        settings = read_json(self.settings_file)
        if settings is None:
            here = ", ".join(apps(self.host)) or "none"
            raise Refused(f"no app {self.name} on this host", remedy=f"apps here: {here}")
        return settings

    @property
    def socket(self) -> str:
        """Return the socket unit on which releases are to be reached."""
        return self.unix_unit if (read_json(self.settings_file) or {}).get("socket") else self.port_unit

    @property
    def former(self) -> list[str]:
        """Return the other socket unit, where it still stands: the app moves, or a move was cut."""
        other = self.port_unit if self.socket == self.unix_unit else self.unix_unit
        return [other] if (self.units_dir / other).exists() else []

    def address(self, unit: str) -> str:
        """Return where one of the socket units is to listen; an older role's settings may not say it."""
        port = (read_json(self.settings_file) or {}).get("port")
        return unix_socket(self.name) if unit == self.unix_unit else f"127.0.0.1:{port}" if port else ""

    def is_job(self, unit: str) -> bool:
        """Whether it is a scheduled job: that ends by itself, and no release cuts it."""
        return unit.endswith(".service") and (self.units_dir / unit.replace(".service", ".timer")).exists()

    def processes(self, release: str, suffix: str) -> list[str]:
        """Return the units of a release's workers (".service") or schedules (".timer")."""
        found = sorted(path.name for path in self.units_dir.glob(f"{self.name}.*@{release}{suffix}"))
        return [unit for unit in found if not self.is_job(unit)]

    def look_inside(self) -> None:
        """Refuse to tell of releases to one who may not see them: nothing may be taken for not there."""
        if self.releases_dir.is_dir() and not os.access(self.releases_dir, os.R_OK):
            what = f"the releases of {self.name} are for root and the group {self.name} alone"
            raise Refused(what, remedy=self.as_root(self.said))

    def manifest(self, release: str | None) -> Json | None:
        self.look_inside()
        return read_json(self.releases_dir / release / "manifest.json") if release else None

    def linked(self, name: str) -> str | None:
        """Return the release that `current` or `previous` points to, if it is there."""
        try:
            release = os.path.basename(os.readlink(self.base / name))
        except OSError:
            return None
        return release if self.manifest(release) else None

    def releases(self) -> list[Release]:
        """Return the complete releases, newest first."""
        self.look_inside()
        found = []
        for home in self.releases_dir.glob("[0-9a-f]*"):
            manifest = self.manifest(home.name)
            if manifest and RELEASE_ID.match(home.name):
                refused = (read_json(home / "refused.json") or {}).get("why", "")
                keys = ("when", "by", "from", "revision", "archive_sha256", "venv")
                found.append(
                    Release(home.name, *(str(manifest.get(key, "")) for key in keys))._replace(refused=refused)
                )
        return sorted(found, key=lambda release: (release.when, release.id), reverse=True)

    def units(self, *more: str) -> Units:
        figures = [self.metrics_timer] if (read_json(self.settings_file) or {}).get("metrics") else []
        return self.host.show(self.socket, *self.former, *more, self.service, *figures, *self.unit_patterns())

    def release_of(self, unit: str) -> str | None:
        """Return the release of a unit of its server, of a process or a schedule; None for any other unit."""
        match = re.match(rf"{self.name}(?:\.[a-z0-9-]+)?@([0-9a-f]{{12}})\.(?:service|timer)\Z", unit)
        return match.group(1) if match else None

    def state(self, units: Units | None = None) -> State:
        running: dict[str, None] = {}
        active, jobs = [], []
        for unit, shown in sorted((units or self.units()).items()):
            release = self.release_of(unit)
            if not release or stopped(shown):
                continue
            if self.is_job(unit):
                jobs.append(release)
                continue
            running[release] = None
            if unit == self.unit(release) and shown.get("ActiveState") == "active":
                active.append(release)
        found = read_json(self.intent_file) or {}
        to, how = str(found.get("to")), found.get("how") or "activate"
        intent = (
            Intent(to, found.get("from"), found.get("previous"), how, found.get("began") or "")
            if RELEASE_ID.match(to)
            else None
        )
        links = self.linked("current"), self.linked("previous")
        return State(*links, tuple(running), tuple(active), tuple(jobs), intent)

    def in_use(self) -> set[str]:
        """Return the releases from which something runs; while a command of `run` does, each may be that."""
        units = self.host.show(*self.unit_patterns(), self.command_unit("*") + ".service")
        state = self.state(units)
        up = {unit for unit, shown in units.items() if not stopped(shown)}
        standbys = {unit.rpartition("-")[2].partition(".")[0] for unit in up if fnmatch(unit, self.standby_unit("*"))}
        everything = any(fnmatch(unit, self.command_unit("*")) for unit in up)
        every = (path.name for path in self.releases_dir.glob("*") if everything)
        return {*state.running, *state.jobs, *standbys, *every}

    def events(self) -> list[Json]:
        """Return the lines of the audit log; none for one who may not read it."""
        found = []
        with contextlib.suppress(PermissionError):
            for line in (read_text(self.audit_file) or "").splitlines():
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return [event for event in found if isinstance(event, dict)]

    def moves(self) -> list[Json]:
        """Return what moved traffic, by the audit log."""
        return [event for event in self.events() if event.get("event") in ("activate", "rollback")]

    def last_activated(self) -> str | None:
        line = lineage(self.events(), None, None)
        return line[-1] if line and self.manifest(line[-1]) else None

    def rollback_to(self, state: State, releases: Sequence[Release]) -> str | None:
        current = state.current or self.last_activated()
        line = lineage(self.events(), state.previous, current)
        return rollback_target(line, current, [release.id for release in releases if not release.refused])

    def find(self, wanted: str) -> str:
        """Return the id of the release with this id, or with this unique beginning of one."""
        ids = [release.id for release in self.releases()]
        matches = [release for release in ids if wanted and release.startswith(wanted)]
        if len(matches) == 1:
            return matches[0]
        what = f"{wanted} is the beginning of {len(matches)} releases"
        what = what if matches else f"{self.name} has no release {wanted}"
        raise Refused(what, remedy=f"releases here: {', '.join(ids) or 'none'}")

    def socket_state(self, units: Units) -> Json:
        """Return whether systemd listens for the app; stale: not where the unit file and the settings say."""
        shown = units.get(self.socket, {})
        active = shown.get("ActiveState") == "active"
        wanted = {*self.listens(self.socket), *filter(None, [self.address(self.socket)])}
        stale = active and not wanted <= self.host.listening()
        return {
            "active": active,
            "enabled": shown.get("UnitFileState") == "enabled",
            "stale": stale,
            "former": self.former,
        }

    def listens(self, unit: str) -> list[str]:
        """Return the addresses that stand in a socket unit."""
        text = read_text(self.units_dir / unit) or ""
        return re.findall(r"(?m)^ListenStream=([0-9.]+:\d+|/\S+)\s*$", text)

    def is_deaf(self, units: Units, release: str) -> bool:
        """Whether a release that runs has not the socket: that was opened after the release had started."""
        opened = units.get(self.socket, {}).get("ActiveEnterTimestampMonotonic") or 0
        began = units.get(self.unit(release), {}).get("ExecMainStartTimestampMonotonic") or 0
        return 0 < int(began) < int(opened)

    def where(self, state: State, units: Units) -> Json:
        """Return the part of an answer that says where the host stands."""
        return {
            "current": state.current,
            "previous": state.previous,
            "active": list(state.active),
            "socket": self.socket_state(units),
            "service": {"enabled": units.get(self.service, {}).get("UnitFileState") == "enabled"},
        }

    def audit(self, event: str, release: str | None, **more: Any) -> None:
        entry: Json = {"when": utc(self.host.now()), "event": event, "release": release, "by": self.by}
        manifest = self.manifest(release) or {}
        entry.update({key: manifest[key] for key in ("from", "revision") if manifest.get(key)})
        try:
            self.audit_file.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.audit_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
            with open(descriptor, "a", encoding="utf-8") as file:
                file.write(json.dumps({**entry, **more}) + "\n")
        except OSError as error:  # a full /var/log must not stop a rollback
            self.warnings.append(f"not in the audit log: {error}")

    def reload(self) -> None:
        """Have systemd read all unit files anew."""
        done = self.host.systemctl("daemon-reload")
        if done.rc:
            self.warnings.append(f"systemd has not read its units anew: {done.err.strip()}")

    def as_root(self, command: str) -> str:
        """Return a command as this person has to type it for root to run it."""
        person = not self.host.is_root() or self.host.environment().get("SUDO_USER", "root") != "root"
        return f"sudo {command}" if person else command

    def look_at_nginx(self) -> str:
        """Return what tells a person what is wrong with nginx."""
        return f"{self.as_root('nginx -t')}; systemctl status nginx"

    def unit_texts(self, unit: str) -> list[str]:
        """Return a release's unit file and its drop-ins, in systemd's order."""
        template = self.units_dir / self.unit("")
        if not template.exists():
            raise Refused(f"{template} is missing", remedy="run the playbook: it writes the units")
        drop_ins = [path for name in (template.name, unit) for path in (self.units_dir / f"{name}.d").glob("*.conf")]
        by_name = {path.name: path for path in drop_ins}  # that of the instance wins
        return [path.read_text("utf-8") for path in (template, *(by_name[name] for name in sorted(by_name)))]

    def service_settings(self, release: str) -> list[tuple[str, str]]:
        """Return what stands in [Service] of a release's unit, as far as this host's systemd knows it."""
        unit = self.unit(release)
        return list(service_settings(unit, self.unit_texts(unit), self.host.systemd_version()))

    def mark_refused(self, release: str, why: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: the audit log may still take it
            write_json(self.releases_dir / release / "refused.json", {"when": utc(self.host.now()), "why": why}, 0o600)
        self.audit("refuse", release, why=why)


def apps(host: Host) -> list[str]:
    return sorted(path.stem for path in host.path(SETTINGS).glob("*.json"))

"""Every path and the name of every unit, and nothing else. What the role knows of them too stands in vars/main.yml."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

APP_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
RELEASE_ID = re.compile(r"[0-9a-f]{12}\Z")

WEB = "web"  # what the web server is called beside the app's processes; their units have it in SyslogIdentifier

LAUNCHER = "/usr/local/bin/flaskctl"
ENGINES = "/usr/local/lib/flaskctl"  # one directory for each version that is in use
SETTINGS = "/etc/flaskctl"
# what the role made: by path the fingerprint of a file or a link, "directory"; by `user NAME` the account's ids;
# by `line PATH` the lines before and after that it changed in a file of somebody else
RECORD = "/var/lib/flaskfleet/files.json"
RECORD_LOCK = "/run/flaskfleet/config_files.lock"
SOCKETS = "/run/flaskfleet-apps"  # Unix sockets, of the apps that are to have one: nobody but root makes one there
TIMER_STAMPS = "/var/lib/systemd/timers"  # systemd's own: when each timer that is Persistent= ran last
UNITS = "/etc/systemd/system"
PASSING_UNITS = "/run/systemd/system"  # gone with a reboot
WEBROOT = "/var/www/html"  # where certbot answers challenges, and nginx looks for them
TLS = "/var/lib/flaskfleet/tls"  # certificates of directories: a file for each app, the key in it
AUTHORITIES = (
    "/var/lib/flaskfleet/authorities.pem"  # what certbot trusts, where a directory has an authority of its own
)
LETSENCRYPT = "/etc/letsencrypt"  # certbot's
SBOM = "sbom.json"  # in the directory of a release: what it is made of
FAULT_INJECTION = "/run/flaskctl/allow-fault-injection"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def release_path(app: str, release: str) -> str:
    """Return the directory of a release, as units and commands name it."""
    return f"/srv/{app}/releases/{release}"


def unix_socket(app: str) -> str:
    """Return the path of an app's Unix socket."""
    return f"{SOCKETS}/{app}.sock"


def data_path(app: str, name: str) -> str:
    """Return a path in the directory that an app keeps its data in, as the app names it."""
    return f"/var/lib/{app}/{name}"


class Layout:
    """The paths and the names of the units of one app. `at` says where a path of the host is, in a test elsewhere."""

    def __init__(self, at: Callable[[str], Path], name: str) -> None:
        self.name, self.at = name, at
        self.base = at(f"/srv/{name}")
        self.releases_dir, self.venvs_dir = self.base / "releases", self.base / "venvs"
        self.wheels_dir = self.base / "wheels"  # of each virtualenv that was made without an index
        # nginx looks there for static files: 1, 2 and so on, each a release; a link to one of the directories
        self.kept_link, self.kept_dirs = self.base / "kept", (self.base / ".kept.a", self.base / ".kept.b")
        self.intent_file, self.rollout_file = self.base / "activating.json", self.base / "rollout.json"
        self.drained_file, self.page_file = self.base / "drained", self.base / "maintenance.html"  # nginx looks at them
        self.settings_file = at(f"{SETTINGS}/{name}.json")
        self.signers_file = at(f"{SETTINGS}/{name}.signers")  # whose archives it takes; anybody's without that file
        self.audit_file = at(f"/var/log/flaskctl/{name}.jsonl")
        self.lock_file = at(f"/run/flaskctl/{name}.lock")
        self.record_file, self.record_lock_file = at(RECORD), at(RECORD_LOCK)
        self.units_dir, self.passing_units_dir = at(UNITS), at(PASSING_UNITS)
        self.nginx_logs_dir = at("/var/log/nginx")
        self.access_logs = tuple(self.nginx_logs_dir / f"{name}.access.log{end}" for end in ("", ".1"))
        self.cache_dir = at(f"/var/lib/nginx/flaskfleet-{name}")  # answers of the app; nginx makes it
        self.certificate_file, self.request_file = at(f"{TLS}/{name}.pem"), at(f"{TLS}/{name}.json")
        self.account_file = at(f"{TLS}/{name}.ini")  # by what a directory knows the account; a secret
        self.certificate_lock_file = at(f"/run/flaskctl/{name}.certificate.lock")
        self.authorities_file = at(AUTHORITIES)
        lineage = f"flaskfleet-{name}"  # certbot's word for a certificate and those that came before it
        self.lineage_dir = at(f"{LETSENCRYPT}/live/{lineage}")
        self.lineage_conf = at(f"{LETSENCRYPT}/renewal/{lineage}.conf")
        self.renewal_service, self.renewal_timer = (f"{name}.certificate.{kind}" for kind in ("service", "timer"))
        self.metrics_service, self.metrics_timer = (f"{name}.metrics.{kind}" for kind in ("service", "timer"))
        self.textfile_name = f"flaskfleet-{name}.prom"  # of node_exporter's collector
        self.launcher, self.engines_dir = at(LAUNCHER), at(ENGINES)
        # one of the two stands, and both while an app moves from a port to a Unix socket or back
        self.port_unit, self.unix_unit = f"{name}.socket", f"{name}.unix.socket"
        self.service = f"{name}.service"  # what starts at boot
        self.build_unit = f"{name}.build.service"  # one at a time: whoever builds has the app's lock

    def live_logs(self) -> list[Path]:
        """Return the logs of the app to which nginx writes."""
        return [self.nginx_logs_dir / f"{self.name}.{what}.log" for what in ("access", "error")]

    def nginx_logs(self) -> list[Path]:
        """Return what nginx has logged of the app, what logrotate has made of it too."""
        name = re.compile(rf"{self.name}\.(access|error)\.log([.-]\d+)*(\.(gz|bz2|xz|zst))?\Z")
        return sorted(path for path in self.nginx_logs_dir.glob(f"{self.name}.*") if name.match(path.name))

    def site_path(self, settings: Mapping[str, Any]) -> str:
        """Return where nginx reads the app's site; settings that an older role wrote do not say it."""
        return settings.get("site") or f"/etc/nginx/sites-enabled/{self.name}.conf"

    def data_dirs(self, name: str) -> list[Path]:
        """Return where an app may keep what it writes; the second is systemd's for a user of its own making."""
        return [self.at(f"/var/lib/{name}"), self.at(f"/var/lib/private/{name}")]

    def unit(self, release: str) -> str:
        """Return the unit that serves a release."""
        return f"{self.name}@{release}.service"

    def process_unit(self, process: str, release: str, kind: str = "service") -> str:
        """Return the unit of one of a release's own processes; kind: service or timer."""
        return f"{self.name}.{process}@{release}.{kind}"

    def timer_stamp(self, timer: str) -> Path:
        """Return the file whose time is when systemd takes a timer to have run last."""
        return self.at(f"{TIMER_STAMPS}/stamp-{timer}")

    def process_patterns(self, process: str) -> list[str]:
        """Return patterns of the units of one process, of whatever release; `web` is the web server."""
        web = [self.unit("*"), self.trial_unit("*"), self.standby_unit("*")] if process == WEB else []
        return [*web, f"{self.name}.{process}@*", f"{self.name}.{process}-[0-9]*@*"]

    def standby_unit(self, release: str) -> str:
        """Return the unit that serves in place of a release while that is restarted."""
        return f"{self.name}.twin-{release}.service"

    def trial_unit(self, release: str) -> str:
        """Return the unit that tries a release on a socket of its own."""
        return f"{self.name}.try-{release}.service"

    def command_unit(self, pid: object) -> str:
        """Return the unit of a command that `run` runs, without its suffix."""
        return f"{self.name}-run-{pid}"

    def unit_patterns(self) -> list[str]:
        """Return patterns of all units of releases: of the server, of processes, of trials, of a restart."""
        return [f"{self.name}{end}" for end in ("@*.service", ".*@*", ".try-*.service", ".twin-*.service")]

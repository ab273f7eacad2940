"""What a release is: its configuration, what of that is refused, its id, its files' texts. Pure functions."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from flaskctl import Json
from flaskctl.errors import Refused
from flaskctl.layout import APP_NAME, release_path

SHA256 = re.compile(r"[0-9a-f]{64}\Z")


RESERVED = {"FLASKFLEET_RELEASE", "FLASKFLEET_TRY", "CREDENTIALS_DIRECTORY", "NOTIFY_SOCKET"} | {
    f"LISTEN_{x}" for x in ("FDS", "PID", "FDNAMES")
}


# systemd drops a whole EnvironmentFile for one character that it holds invalid: surrogates and noncharacters
UNFIT = re.compile(
    "[\ud800-\udfff\ufdd0-\ufdef" + "".join(chr(p << 16 | 0xFFFE | n) for p in range(17) for n in (0, 1)) + "]"
)


MAX_ENTRY = 128 * 1024  # bytes of NAME=value and its end, in the kernel: MAX_ARG_STRLEN


MAX_CREDENTIAL = 1024**2  # bytes, in systemd


# With the archive, environment and credentials these are the id. A new one must not count while it is as it was
# before: every host would get another id, and a `stage` without a configuration a second release.
IDENTITY = ("gunicorn_conf", "requirements", "server_requirements", "static_dir", "service", "processes")
IDENTITY_IF_SET = ("writable", "python")


class Config(NamedTuple):
    """What `stage` is told beside the archive. What follows python says how to build, or who: no part of the id."""

    # a default that can be written to is one for all, and nobody writes to it
    gunicorn_conf: str = ""
    environment: dict[str, str] = {}
    credentials: dict[str, str] = {}
    requirements: str = "requirements.txt"
    server_requirements: str = ""  # the role's own Gunicorn, for a source that names none
    static_dir: str = ""
    service: str = ""
    processes: dict[str, dict[str, str]] = {}  # name: service text, timer text
    writable: list[str] = []  # directories beside the code, by path in the source
    python: str = "python3"
    index_url: str = ""
    ca_bundle: str = ""
    wheelhouse: bool = False  # the control node sends the wheels: this host asks no index
    only_binary: bool = False  # no package is built: each is to have a wheel
    build_set: str = ""  # the role's own setuptools and the like, locked, for sources of which all is
    build_requirements: str = ""  # the file in the source that locks what it is built with
    static_asked: bool = False  # static_dir was set by a person, and so has to be there
    notes: dict[str, str] = {}  # by, from, revision

    def set_names(self) -> list[str]:
        """Return the names among IDENTITY_IF_SET that count."""
        return [name for name in IDENTITY_IF_SET if getattr(self, name) != DEFAULTS[name]]


DEFAULTS = Config._field_defaults


def parse_config(text: str) -> Config:
    """Read the configuration, a JSON object. Refused names what is wrong in it; a value is never shown."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise Refused(f"the configuration is not JSON: {error}") from None
    unknown = sorted(set(data) - set(Config._fields)) if isinstance(data, dict) else ["no JSON object"]
    if unknown:
        remedy = f"known: {', '.join(Config._fields)}"
        raise Refused(f"unknown in the configuration: {', '.join(unknown)}", remedy=remedy)
    for name, value in data.items():
        if name == "processes":
            ok = isinstance(value, dict) and all(APP_NAME.match(p) and is_process(units) for p, units in value.items())
            wanted = 'an object of {"service": text, "timer": text} objects, with names like `worker`'
        elif name == "writable":
            ok, wanted = are_directories(value), "a list of directories inside the source, none within another"
        elif name in ("environment", "credentials", "notes"):
            ok, wanted = is_text_map(value), "an object of strings"
        elif name in ("static_asked", "wheelhouse", "only_binary"):
            ok, wanted = isinstance(value, bool), "true or false"
        else:
            ok, wanted = isinstance(value, str), "a string"
        if not ok:
            raise Refused(f"{name} in the configuration must be {wanted}")
    config = Config(**data)
    check_environment(config.environment)
    check_credentials(config.credentials)
    for name in ("requirements", "static_dir", "build_requirements"):
        path = PurePosixPath(data.get(name, ""))
        if path.is_absolute() or ".." in path.parts:
            raise Refused(f"{name} must be a path inside the source, not {str(path)!r}")
    return config


def is_text_map(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(k, str) and isinstance(v, str) for k, v in value.items())


def are_directories(value: object) -> bool:
    """Tell whether these are paths of directories inside something, none of them within another."""
    if not isinstance(value, list) or not all(isinstance(name, str) and name and "\0" not in name for name in value):
        return False
    paths = [PurePosixPath(name) for name in value]
    inside = all(path.parts and not path.is_absolute() and ".." not in path.parts for path in paths)
    return inside and not any(one in other.parents or one == other for one, other in permutations(paths, 2))


def is_process(value: object) -> bool:
    return is_text_map(value) and isinstance(value, dict) and {"service"} <= set(value) <= {"service", "timer"}


def check_environment(environment: Mapping[str, str]) -> None:
    """Refuse what systemd would skip, misread or fail on; by name, since the value may be a secret."""
    for name, value in environment.items():
        where = f"environment variable {name!r}"
        if not re.match(r"[A-Za-z_][A-Za-z0-9_]*\Z", name):
            raise Refused(f"{where}: the name must be letters, digits and _, and not begin with a digit")
        if name in RESERVED:
            raise Refused(f"{where} is set by systemd for each release", remedy="take it out of the environment")
        if "\0" in value:
            raise Refused(f"{where}: the value holds a NUL byte, which no environment can carry")
        if UNFIT.search(value):
            raise Refused(f"{where}: the value holds a character that systemd does not take for UTF-8 text")
        if len(name) + 1 + len(value.encode()) + 1 > MAX_ENTRY:
            raise Refused(f"{where}: longer than 128 KiB, no process can be started with it", remedy="use a credential")


def check_credentials(credentials: Mapping[str, str]) -> None:
    """Refuse what systemd would not load, or what could leave the directory or the line it stands in."""
    for name, value in credentials.items():
        if not re.match(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}\Z", name):
            raise Refused(f"credential {name!r}: the name must be letters, digits, _ . and -, 64 at most")
        if UNFIT.search(value):
            raise Refused(f"credential {name!r}: the value holds a character that is not UTF-8 text")
        if len(value.encode()) > MAX_CREDENTIAL:
            raise Refused(f"credential {name!r}: larger than 1 MiB, which systemd refuses")


def environment_file(environment: Mapping[str, str]) -> str:
    """Return the text of an EnvironmentFile= that gives back each value byte for byte."""
    return "".join(f"{name}={quoted(value)}\n" for name, value in sorted(environment.items()))


def quoted(value: str) -> str:
    for special in '\\"`$':  # the backslash first
        value = value.replace(special, "\\" + special)
    return f'"{value}"'


def credentials_drop_in(app: str, release: str, credentials: Iterable[str]) -> str:
    lines = (f"LoadCredential={n}:{release_path(app, release)}/credentials/{n}" for n in sorted(credentials))
    return "\n".join(["# written by flaskctl with the release", "[Service]", *lines, ""])


def python_drop_in(homes: Iterable[str]) -> str:
    """Return the drop-in that lets a release run the Python that it was made from; nothing where it may already."""
    there = [r"/usr", r"/bin", r"/sbin", r"/lib\w*"]
    lines = []
    for home in sorted(homes):
        if not re.match(rf"({'|'.join(there)})(/|\Z)", home):
            there.append(re.escape(home))
            lines.append(f"ExecPaths={home}".replace("%", "%%"))
    header = ["# written by flaskctl: where the Python of this release stands", "[Service]"]
    return "\n".join([*header, *lines, ""]) if lines else ""


def canonical(data: object) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":")).encode()


def release_id(archive_sha256: str, config: Config) -> str:
    """Return the identity of code plus configuration: the same input gives the same id, on every host.

    The id is public; PBKDF2 makes it dear to guess a short secret from it.
    """
    secret = canonical({"environment": config.environment, "credentials": config.credentials})
    parts: Json = {name: getattr(config, name) for name in IDENTITY}
    parts.update({name: getattr(config, name) for name in config.set_names()})
    parts["archive_sha256"] = archive_sha256
    parts["secret"] = hashlib.pbkdf2_hmac("sha256", secret, b"flaskctl " + archive_sha256.encode(), 100_000).hex()
    return hashlib.sha256(canonical(parts)).hexdigest()[:12]


def changes(old: Config, new: Config) -> Json:
    """Return which names differ between two configurations; never a value."""
    result: Json = {}
    for field in ("environment", "credentials"):
        was, now = getattr(old, field), getattr(new, field)
        entry = {
            "added": sorted(set(now) - set(was)),
            "removed": sorted(set(was) - set(now)),
            "changed": sorted(name for name in set(was) & set(now) if was[name] != now[name]),
        }
        if any(entry.values()):
            result[field] = entry
    names = (*IDENTITY, *IDENTITY_IF_SET)
    settings = [name for name in names if getattr(old, name) != getattr(new, name)]
    return {**result, "settings": settings} if settings else result


def static_target(home: Path, static_dir: str) -> str | None:
    """Return where the link to the static files of a release points, relative to the release; None: no such link."""
    packages = sorted((home / "venv" / "lib").glob("python3*/site-packages"))
    candidates = [tree / static_dir for tree in (home / "app", home / "site", *packages)] if static_dir else []
    return next((str(path.relative_to(home)) for path in candidates if path.is_dir()), None)


def release_files(config: Config) -> dict[str, tuple[str, int]]:
    """Return the files of a release that come from its configuration: text and mode by name."""
    files = {
        "gunicorn.conf.py": (config.gunicorn_conf, 0o640),
        "environment": (environment_file(config.environment), 0o600),
    }
    return {**files, **{f"credentials/{name}": (value, 0o600) for name, value in config.credentials.items()}}

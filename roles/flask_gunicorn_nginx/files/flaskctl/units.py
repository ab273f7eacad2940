"""Reads the units that the role's templates wrote, and makes calls of systemd-run of them. Pure functions."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Iterable, Iterator, Sequence

from flaskctl.layout import PATH, release_path

# what belongs to the server, its socket and its supervision; a command in the same sandbox has no use for it
NOT_SERVER = r"(?!Type|Notify|Exec(?!Paths)|Sockets|Restart|Timeout|KillMode|Watchdog|OOMPolicy|RemainAfter)\w"


# what belongs to the shared socket, or would start again what shall be seen to fail
NOT_TRIED = r"(?!Sockets|Restart|Exec(?!Paths))\w"


# a directory in /run that the releases share must not go when one stops; the units of an older role do not say it
PRESERVE = "--property=RuntimeDirectoryPreserve=yes"


KNOWN_SINCE = {"NoExecPaths": 248, "ExecPaths": 248, "PrivateIPC": 248, "SocketBindDeny": 249, "SocketBindAllow": 249}


def specified(unit: str, text: str, percent: str = "%") -> str:
    """Return a unit's text with what systemd would put for its specifiers."""
    app, release = unit[: -len(".service")].split("@")
    specifiers = {"%i": release, "%I": release, "%p": app, "%n": unit, "%N": f"{app}@{release}", "%%": percent}
    return re.sub(r"%[iIpnN%]", lambda match: specifiers[match.group()], text)


def service_settings(unit: str, texts: Iterable[str], systemd: int) -> Iterator[tuple[str, str]]:
    """Yield what stands in [Service] of a release's unit, as a transient unit of this systemd may be given it.

    `unit` is app@release.service, `texts` its file and drop-ins, `systemd` the version of the one that runs.
    """
    section = ""
    for line in re.split(r"[\n\r]", re.sub(r"\\\n", " ", "\n".join(texts))):  # systemd knows no other ends of lines
        key, equals, value = (part.strip() for part in line.partition("="))
        if line.startswith("["):
            section = line.strip()
        elif section == "[Service]" and equals and key[0] not in "#;" and KNOWN_SINCE.get(key, 0) <= systemd:
            yield key, specified(unit, value)


def shuts_all(settings: Iterable[tuple[str, str]]) -> bool:
    """Return whether nothing runs but from the paths that are named, as the units of an older role said."""
    return any(key == "NoExecPaths" and "/" in value.split() for key, value in settings)


def mount_points(settings: Iterable[tuple[str, str]]) -> list[str]:
    """Return where the settings of a unit mount something: systemd makes these paths on the host where they are not."""
    found = []
    for key, value in settings:
        if key not in ("BindPaths", "BindReadOnlyPaths", "MountImages", "TemporaryFileSystem"):
            continue
        words = shlex.shlex(value, posix=True)
        words.whitespace_split, words.escape, words.commenters = True, "", ""
        with contextlib.suppress(ValueError):  # a quote without an end: systemd takes nothing of it either
            for word in words:
                fields = [part.replace("\\:", ":") for part in re.split(r"(?<!\\):", word.lstrip("-+"))]
                here = 0 if key == "TemporaryFileSystem" or len(fields) < 2 or not fields[1] else 1
                found.append(os.path.normpath(fields[here]))
    return found


def lies_on(path: str, points: Iterable[str]) -> bool:
    """Return whether a path is one of the mount points, leads to one, or lies below one."""
    return any(f"{point}/".startswith(f"{path}/") or f"{path}/".startswith(f"{point}/") for point in points)


def literally(command: Sequence[str], systemd: int) -> list[str]:
    """Return the end of a systemd-run call for `command`, each word as it stands: an older one expands $NAME."""
    if systemd >= 254:
        return ["--expand-environment=no", "--", *command]
    return ["--", *(word.replace("$", "$$") for word in command)]


def properties(settings: Iterable[tuple[str, str]], wanted: str) -> Iterator[str]:
    """Yield the options of systemd-run for the settings whose names match.

    Of addresses it takes a word such as `localhost` alone, where a unit file may have others beside it.
    """
    for key, value in settings:
        if re.match(wanted, key):
            each = value.split() if key in ("IPAddressAllow", "IPAddressDeny") and value else [value]
            yield from (f"--property={key}={word}" for word in each)


def try_argv(unit: str, texts: Iterable[str], systemd: int, name: str, how: str) -> list[str]:
    """Return the systemd-run call that starts the release of `unit` under another name, on a socket of its own.

    Type=notify is among the settings: so the call ends when the release has passed its gate, or has failed.
    """
    settings = list(service_settings(unit, texts, systemd))
    argv = ["systemd-run", "--quiet", f"--unit={name}"]
    argv += properties(settings, NOT_TRIED)
    argv += [PRESERVE, f"--setenv=FLASKFLEET_TRY={how}"]
    # Gunicorn's quick shutdown: nobody is connected, and the graceful one takes a second
    argv.append("--property=KillSignal=SIGQUIT")
    return argv + literally(
        [word for key, value in settings if key == "ExecStart" for word in shlex.split(value)], systemd
    )


def run_argv(unit: str, texts: Iterable[str], systemd: int, command: Sequence[str], name: str, tty: bool) -> list[str]:
    """Return the systemd-run call for `command` with the user, sandbox, environment and credentials of `unit`."""
    app, release = unit[: -len(".service")].split("@")
    argv = ["systemd-run", "--quiet", "--wait", "--collect", "--pty" if tty else "--pipe", f"--unit={name}"]
    settings = service_settings(unit, texts, systemd)
    argv += properties(settings, NOT_SERVER)
    argv.append(PRESERVE)
    argv.append(f"--setenv=PATH={release_path(app, release)}/venv/bin:{PATH}")
    return argv + literally(command, systemd)

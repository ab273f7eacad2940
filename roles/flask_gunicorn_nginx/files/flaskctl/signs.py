"""What shows a wall: the words of an app that met it, and the settings of a unit that make it one. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Settings = Sequence[tuple[str, str]]  # what stands in [Service], in order
Stands = Callable[[Settings, str], bool]

OFF = ("", "no", "default", "all")
WORDS = {"true": "yes", "on": "yes", "1": "yes", "false": "no", "off": "no", "0": "no"}

DENIED = r"(?:Permission denied|Operation not permitted)"
READ_ONLY = r"Read-only file system"
NONE = r"No such file or directory"
EPERM = r"\[Errno 1\] Operation not permitted"
END = r"(?=['\u2019\"\s:,)]|$)"  # of a path
CODE = r"/srv/[^/\s]+/releases/\w+/(?:app|site)/"
SERVERS = r"(/(?:var/)?run/(?:postgresql|redis|mysqld|memcached|rabbitmq)\b[^\s'\"]*)"
METADATA = r"(169\.254\.\d+\.\d+|fe80::[\da-f:]*|fd00:ec2::254|fd20:ce::254|100\.100\.100\.200|192\.0\.0\.192)"
ADDRESS = r"((?:\d+\.){3}\d+|(?:[\da-f]{1,4}:){3,7}[\da-f]{1,4}|[\da-f:]+::[\da-f]+)"
# where an app writes, or where a setting has let it
OF_ITS_OWN = (
    r"(/tmp|/var/tmp|/dev/shm|/run/[^/\s']+|/var/(?:lib|cache|log)/[^/\s']+"
    r"|/(?!usr/|s?bin/|lib|proc/|srv/[^/\s]+/(?:releases|venvs)/)[^'\s:]+)"
)
LATE = r"(?:timed out|timeout|ETIMEDOUT|EPERM|Operation not permitted)"


def about(words: str, path: str) -> str:
    """Return what finds a path and what was wrong with it, as Python, Node, Go, C and shells put the two."""
    return rf"{words}(?::|, \w+) ['\"\u2018]?{path}|{path}['\"\u2019]?(?:: | \(){words}"


def beside(tail: str) -> str:
    """Return what finds a path beside the code; the app starts there, so that a relative one is there too."""
    whole = about(rf"(?:{DENIED}|{READ_ONLY})", rf"{CODE}{tail}")
    relative = rf"(?:\./)?(?![/.]){tail}"
    return rf"{whole}|{READ_ONLY}: ['\"]{relative}|['\"\u2018]{relative}['\"\u2019]: {READ_ONLY}"


def within(call: str, words: str) -> str:
    """Return what finds a call and the error that it ended with: in its line, or where a traceback ends."""
    return rf"(?:{call})[^\n]*?(?:(?:\n[ \t][^\n]*)*\n[^\n]*?)?{words}"


def running(path: str) -> str:
    """Return what finds a program or library that could not be run: of a file the words would be the same."""
    python = rf"in _execute_child\n(?:.*\n){{1,3}}?\w+Error: .*Permission denied: '{path}/"
    others = (
        rf"sh: (?:line )?\d+: {path}/\S+: Permission denied|spawn {path}/\S+ EACCES|fork/exec {path}/\S+: permission"
    )
    return rf"{python}|{others}|{path}/\S+: (?:failed to map segment|failed to execute)|" + within(
        r"os\.(?:exec|posix_spawn|spawn)\w+\(", rf"Permission denied: '{path}/"
    )


def normal(value: str) -> str:
    return WORDS.get(value.strip().lower(), value.strip())


def made_by(directive: str) -> Stands:
    """Return whether settings make a wall: what a systemd does not know, or somebody has switched off, is none."""

    def stands(settings: Settings, _what: str) -> bool:
        return next((normal(value) not in OFF for key, value in reversed(settings) if key == directive), False)

    return stands


def always(_settings: Settings, _what: str) -> bool:
    return True


def may_not_run(settings: Settings, what: str) -> bool:
    """Return whether nothing runs from a path, by the settings or, as hosts mount it, by itself."""
    shut = {word.lstrip("-+") for key, value in settings if key == "NoExecPaths" for word in value.split()}
    return what in ("/tmp", "/var/tmp", "/dev/shm") or any(f"{what}/".startswith(f"{path}/") for path in shut)  # nosec B108: words

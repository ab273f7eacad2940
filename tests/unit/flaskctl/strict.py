"""What the programs of a host take, word by word: a call that they would refuse is an error of the test.

Nobody agrees to anything here. A new verb, option, property or name of a unit is written down first, and the contract
tests (tests/integration/default/test_host_contract.py) hold the real programs to the same words.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

ID = r"[0-9a-f]{12}"
UNIT = re.compile(
    r"nginx\.service|certbot\.(?:service|timer)|[a-z][a-z0-9-]{0,30}\.(?:certificate|metrics)\.(?:service|timer)"
    r"|(?P<app>[a-z][a-z0-9-]{0,30})(?:"
    rf"(?:\.unix)?\.socket|\.service|@{ID}\.service|\.[a-z][a-z0-9-]*@{ID}\.(?:service|timer)"
    rf"|\.(?:try|twin)-{ID}\.service|\.build\.service|-run-\d+(?:\.service)?)\Z"
)
PATTERN = re.compile(r"[a-z][a-z0-9-]*(?:@\*\.service|\.\*@\*|\.(?:try|twin)-\*\.service|-run-\*\.service)\Z")
RESET_PATTERN = re.compile(r"[a-z][a-z0-9-]*(?:\.|@)\*\Z")
UNIT_PROPERTIES = {
    *("Id", "LoadState", "LoadError", "ActiveState", "Result", "UnitFileState", "MainPID", "NeedDaemonReload"),
    *("ControlGroup", "NRestarts"),
    *("ActiveEnterTimestampMonotonic", "ExecMainStartTimestampMonotonic"),
}
# by verb: its options, and what it may be given the names of
SYSTEMCTL = {
    "daemon-reload": (set(), None),
    "disable": (set(), UNIT),
    "enable": (set(), UNIT),
    "reload": (set(), UNIT),
    "reset-failed": (set(), (UNIT, RESET_PATTERN)),
    "restart": (set(), UNIT),
    "show": ({"--property"}, (UNIT, PATTERN)),
    "start": ({"--no-block"}, UNIT),
    "stop": ({"--no-block"}, UNIT),
}
# of [Service], that a transient unit may be given
SERVICE_PROPERTIES = {
    *("AmbientCapabilities", "BindPaths", "BindReadOnlyPaths", "CapabilityBoundingSet", "CPUWeight", "Environment"),
    *("EnvironmentFile", "ExecPaths", "Group", "IPAddressAllow", "IPAddressDeny", "KillMode", "KillSignal"),
    *("LimitNOFILE", "LoadCredential", "MemoryMax", "Nice", "NoExecPaths", "NoNewPrivileges", "NotifyAccess"),
    *(
        "PrivateIPC",
        "PrivateTmp",
        "ProcSubset",
        "ProtectProc",
        "ProtectSystem",
        "RuntimeDirectory",
        "RuntimeDirectoryPreserve",
    ),
    *(
        "Slice",
        "SupplementaryGroups",
        "SocketBindAllow",
        "SocketBindDeny",
        "StateDirectory",
        "StateDirectoryMode",
        "SyslogIdentifier",
    ),
    *(
        "TemporaryFileSystem",
        "DynamicUser",
        "DevicePolicy",
        "InaccessiblePaths",
        "ReadWritePaths",
        "KeyringMode",
        "LimitCORE",
    ),
    *("LockPersonality", "PrivateDevices", "PrivateNetwork", "ProtectClock", "ProtectControlGroups", "ProtectHome"),
    *("ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules", "ProtectKernelTunables", "RestrictRealtime"),
    *("RestrictAddressFamilies", "RestrictNamespaces", "RestrictSUIDSGID", "RuntimeMaxSec", "SystemCallFilter"),
    *("SystemCallArchitectures", "SystemCallErrorNumber", "TasksMax"),
    *("TimeoutStartSec", "TimeoutStopSec", "Type", "UMask", "User", "WatchdogSec", "WorkingDirectory"),
}
WORDS = {"any", "localhost", "link-local", "multicast"}  # systemd-run takes them alone
JOURNALCTL = (
    *(r"--no-pager", r"-q", r"-o (?:cat|short-unix)", r"--since=@\d+\.\d{6}", r"_SYSTEMD_UNIT=\S+", r"-u \S+"),
    *(r"--lines=\d+", r"--unit=\S+", r"--output=short-iso", r"--follow", r"--sync"),
    *(r"-o json", r"-b", r"MESSAGE_ID=[0-9a-f]{32}", r"UNIT=\S+", r"_PID=1", r"\+"),
)
OPENSSL = (
    *(r"version", r"verify", r"pkey -pubout -passin pass:", r"x509 -noout -enddate -subject -issuer -in \S+"),
    *(r"x509 -noout -subject -issuer -dates -text", r"x509 -noout -pubkey", r"x509 -noout -checkhost \S+"),
    r"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -sha256 -days \d+ -subj /CN=self-signed"
    r" -addext subjectAltName=DNS:\S+ -keyout /dev/stdout",
)
CERTBOT = (
    r"delete --non-interactive --cert-name flaskfleet-\S+",
    r"certonly --non-interactive --agree-tos --no-eff-email --email \S+ --cert-name flaskfleet-\S+"
    r" --key-type (?:ecdsa|rsa)(?: --config \S+)?(?: --server \S+)? --force-renewal --renew-with-new-domains"
    r" --deploy-hook /usr/local/bin/flaskctl \S+ certificate(?: --webroot --webroot-path /var/www/html"
    r"| --manual --preferred-challenges dns --manual-auth-hook \S+ --manual-cleanup-hook \S+)(?: --domain \S+)+",
)
SSH_KEYGEN = (r"-Y find-principals -s /\S+ -f /\S+", r"-Y verify -I \S+ -n flaskfleet -s /\S+ -f /\S+")
UFW = (r"allow \d+/tcp comment flaskfleet", r"delete allow \d+/tcp")
WHEELS = r"(?: --only-binary :all:)?"
PIP = (
    *(rf"install{WHEELS} -r \S+", rf"install{WHEELS} \S+", r"uninstall -y(?: \S+)*", r"check"),
    rf"install --require-hashes --no-build-isolation(?: --use-pep517)?{WHEELS}(?: --no-deps)? -r \S+",
    rf"install --require-hashes(?: --no-deps)?{WHEELS} -r \S+",
    r"install --target \S+ --require-hashes --no-deps --only-binary :all: -r \S+",
    r"install --no-deps --target \S+(?: --no-build-isolation --use-pep517)? \S+",
    rf"install{WHEELS} -c \S+(?: [][\w.-]+)+",
)


class Refused(AssertionError):
    """The real program would not take this."""


def refuse(argv: Sequence[str], what: str) -> None:
    raise Refused(f"{what}: {' '.join(argv)}")


def check(argv: Sequence[str], systemd: int) -> None:
    """Raise Refused for a call that no host would carry out."""
    program = argv[0].rpartition("/")[2]
    if "-m" in argv[:3] and argv[argv.index("-m") + 1] == "venv":
        program = "venv"
    known = CHECKS.get(program)
    if known is None:
        refuse(argv, f"{program} is no program that flaskctl may call")
    else:
        known(argv, systemd)


def systemctl(argv: Sequence[str], systemd: int) -> None:
    if list(argv[1:]) == ["--version"]:
        return
    verb, words = argv[1], list(argv[2:])
    if verb not in SYSTEMCTL:
        refuse(argv, f"Unknown command verb {verb}")
    options, kinds = SYSTEMCTL[verb]
    cut = words.index("--") if "--" in words else len(words)
    given = [word for word in words[:cut] if word.startswith("-")]
    names = [word for word in words[:cut] if not word.startswith("-")] + words[cut + 1 :]
    for option in given:
        if option.partition("=")[0] not in options:
            refuse(argv, f"unrecognized option {option}")
    if verb == "show":
        asked = set(next(word for word in given if word.startswith("--property=")).partition("=")[2].split(","))
        if asked - UNIT_PROPERTIES:
            refuse(argv, f"no property of a unit: {asked - UNIT_PROPERTIES}")
    allowed = kinds if isinstance(kinds, tuple) else (kinds,)
    for name in names:
        if not any(kind and kind.match(name) for kind in allowed):
            refuse(argv, f"no name of a unit that {verb} is given: {name}")
    if bool(names) != (kinds is not None):
        refuse(argv, "Too few arguments" if kinds else "Too many arguments")


def journalctl(argv: Sequence[str], systemd: int) -> None:
    line = " ".join(argv[1:])
    if not re.fullmatch(f"(?:(?:{'|'.join(JOURNALCTL)})(?: |$))+", line):
        refuse(argv, "unrecognized option")


def systemd_run(argv: Sequence[str], systemd: int) -> None:
    cut = list(argv).index("--")
    plain = {"--quiet", "--wait", "--collect", "--pty", "--pipe"}
    plain |= {"--expand-environment=no"} if systemd >= 254 else set()
    for word in argv[1:cut]:
        option, _, value = word.partition("=")
        if option == "--unit":
            if not UNIT.match(value):
                refuse(argv, f"no name of a unit: {value}")
        elif option == "--property":
            key = value.partition("=")[0]
            if key not in SERVICE_PROPERTIES:
                refuse(argv, f"Unknown assignment: {key}")
            if key.startswith("IPAddress") and len(value.split()) > 1 and WORDS & set(value.partition("=")[2].split()):
                refuse(argv, f"Failed to parse IP address prefix: {value}")
        elif option == "--setenv":
            if not re.match(r"[A-Z_]+=", value):
                refuse(argv, f"no variable: {value}")
        elif word not in plain:
            refuse(argv, f"unrecognized option {word}")
    if not argv[cut + 1 :]:
        refuse(argv, "Command line to execute required")


def python(argv: Sequence[str], systemd: int) -> None:
    if argv[1] != "-I":
        refuse(argv, "a Python of a release runs isolated")
    if argv[2] == "-c":
        return
    if list(argv[2:4]) == ["-m", "pip"]:
        if not any(re.fullmatch(form, " ".join(argv[4:])) for form in PIP):
            refuse(argv, "no such option of pip")
    else:
        refuse(argv, "the Python of a virtualenv runs pip, and nothing else")


def host_python(argv: Sequence[str], systemd: int) -> None:
    """The host's own Python compiles, and tells what it is."""
    if list(argv[1:3]) != ["-I", "-c"]:
        compileall(argv, systemd)


def compileall(argv: Sequence[str], systemd: int) -> None:
    if list(argv[1:5]) != ["-I", "-m", "compileall", "-q"] or [argv[5], argv[7]] != ["-s", "-p"] or len(argv) < 10:
        refuse(argv, "no such option of compileall")


def exactly(*form: str) -> Callable[[Sequence[str], int], None]:
    """Return a check for one form of a call, a regular expression for each word."""

    def checks(argv: Sequence[str], systemd: int) -> None:
        if len(argv) != len(form) or not all(re.fullmatch(f, word) for f, word in zip(form, argv, strict=True)):
            refuse(argv, "unrecognized option")

    return checks


def one_of(forms: Sequence[str]) -> Callable[[Sequence[str], int], None]:
    """Return a check for some forms of a call, each a regular expression of the words after the program."""

    def checks(argv: Sequence[str], systemd: int) -> None:
        if not any(re.fullmatch(form, " ".join(argv[1:])) for form in forms):
            refuse(argv, "unrecognized option")

    return checks


def systemd_analyze(argv: Sequence[str], systemd: int) -> None:
    files = argv[3:]
    verifies = list(argv[1:3]) == ["verify", "--man=no"] and files
    if not verifies or not all(path.startswith("/") and UNIT.match(path.rpartition("/")[2]) for path in files):
        exactly("systemd-analyze", "calendar", "--", ".+")(argv, systemd)


CHECKS: Mapping[str, Callable[[Sequence[str], int], None]] = {
    "systemctl": systemctl,
    "journalctl": journalctl,
    "systemd-run": systemd_run,
    "python": python,
    "python3": host_python,
    "venv": exactly(r"\S+", "-m", "venv", r"/\S+"),
    "systemd-analyze": systemd_analyze,
    "dpkg-query": exactly("dpkg-query", "--search", r"/\S+"),
    "userdel": exactly("userdel", "[a-z][a-z0-9-]*"),
    "groupdel": exactly("groupdel", "[a-z][a-z0-9-]*"),
    "nginx": exactly("nginx", "-[tT]"),
    "ss": one_of((r"-Hltnp sport = :\d+", "-Hlntx")),
    "openssl": one_of(OPENSSL),
    "certbot": one_of(CERTBOT),
    "ssh-keygen": one_of(SSH_KEYGEN),
    "nft": exactly("nft", "-j", "list", "ruleset"),
    "ufw": one_of(UFW),
}

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Try the sandbox of nginx on a host before it is armed: would nginx start in it, and serve every site?

It counts from nginx's next start, so nobody would notice before a reboot that a site in /home is not served any more.
Two things are tried, in a unit with the settings that nginx.service will have then: `nginx -t`, and whether what the
configuration of all sites names can still be read, written and reached. What is possible outside and not inside is a
reason to leave the sandbox off. Part of the program of flaskfleet.web.host: Python 3.9, the standard library alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ansible_collections.flaskfleet.web.plugins.module_utils.host_facts import read
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_config import CONFIGURATION, Directive, directives
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_needs import Need, defaults, needs

Json = dict[str, Any]

PYTHON = "/usr/bin/python3"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # su leaves one without sbin
UNITS = "/run/systemd/system"
# Emptied by a reboot, which may bring another kernel or systemd: what was tried before counts no more then.
STATE = "/run/flaskfleet"
SAID = re.compile(r"\[(?:emerg|alert|crit)\] (?:\d+#\d+: )?(.+)")  # what nginx says, without its process
SHOWN = 10
NOT_STARTED = "systemd does not start a unit in it:"
LINKS_LOOKED_AT = 2000  # entries of a site's directory

# What a unit says of its processes and not of what they may do; Exec* but ExecPaths, NoExecPaths and ExecSearchPath.
PROCESS = re.compile(
    r"Exec(Start|Stop|Reload|Condition)\w*|Type|PIDFile|BusName|GuessMainPID|RemainAfterExit|NotifyAccess|Sockets"
    r"|FileDescriptor\w+|Standard\w+|TTY\w+|Restart\w*|StartLimit\w+|Timeout\w+|Watchdog\w+|RuntimeMaxSec|Kill\w+"
    r"|\w*Signal|SendSIG\w+|SuccessExitStatus|RuntimeDirectoryPreserve"
)
# RuntimeDirectoryPreserve: the end of the trial must not take away what the nginx that runs has in /run
UNIT = """\
[Unit]
Description=Trial of the sandbox of nginx
DefaultDependencies=no
CollectMode=inactive-or-failed

[Service]
{settings}
Type=oneshot
RuntimeDirectoryPreserve=yes
TimeoutStartSec=60
StandardInput=file:{directory}/question
StandardOutput=file:{directory}/answer
ExecStart={python} -I -
"""

# Runs outside and inside, with QUESTION before it: what may be done with paths, as root and as nginx's workers.
PROBE = r"""
import json, os, pwd, subprocess

def seen(path):
    may = [letter for letter, how in zip("rwx", (os.R_OK, os.W_OK, os.X_OK)) if os.access(path, how)]
    try:
        status = os.stat(path)
    except OSError:
        return ["", None]
    return ["".join(may), [status.st_dev, status.st_ino]]

def all_seen():
    return {path: seen(path) for path in QUESTION["paths"]}

def as_user(name):
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        return {path: ["", None] for path in QUESTION["paths"]}
    here, there = os.pipe()
    if os.fork() == 0:
        try:
            os.initgroups(name, user.pw_gid)
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            with open(there, "w") as pipe:
                json.dump(all_seen(), pipe)
        finally:
            os._exit(0)
    os.close(there)
    with open(here) as pipe:
        return json.load(pipe)

answer = {"root": all_seen()}
answer["worker"] = as_user(QUESTION["user"]) if os.geteuid() == 0 else answer["root"]
if QUESTION["nginx"]:
    done = subprocess.run([QUESTION["nginx"], "-t"], stdin=subprocess.DEVNULL, capture_output=True)
    answer["code"], answer["said"] = done.returncode, done.stderr.decode("utf-8", "replace")
print(json.dumps(answer))
"""


# deciding: pure functions


def next_start(cat: str, path: str, content: str) -> list[str]:
    """Return the settings nginx.service will have, from its files, with the drop-in `path` holding `content`.

    `cat` has them as `systemctl cat` does, each below a line with its path.

    Drop-ins count in the order of their names, whichever directory they are in: a later one wins.
    """
    parts = re.split(r"(?m)^# (/.+\.(?:service|conf))$\n?", cat)
    unit = [text for name, text in zip(parts[1::2], parts[2::2]) if name.endswith(".service")]
    dropins = {name: text for name, text in zip(parts[1::2], parts[2::2]) if name.endswith(".conf")}
    dropins[path] = content
    ordered = [dropins[name] for name in sorted(dropins, key=os.path.basename)]
    return [line for text in [*unit, *ordered] for line in settings(text)]


def settings(text: str) -> Iterator[str]:
    """Return what a unit says of the sandbox of its processes, `Name=value` each."""
    section = ""
    for line in re.split(r"[\n\r]", re.sub(r"\\\n", " ", text)):  # systemd knows no other ends of lines
        line = line.strip()
        name, equals, _value = line.partition("=")
        if line.startswith("["):
            section = line
        elif section == "[Service]" and equals and line[0] not in "#;" and not PROCESS.fullmatch(name.strip()):
            yield line


Seen = Mapping[str, Mapping[str, Any]]
DONE = {"read": "read", "write": "written", "connect": "reached"}
USERS = ("root", "worker")
MAY = {"read": "rx", "write": "w", "connect": "w"}


def possible(need: Need, seen: Seen) -> dict[str, set[str]]:
    """Return what root and the workers may do of what is needed; to reach what is in a directory is to read that."""
    letters = set("rx" if need.same and need.how != "write" else MAY[need.how])
    return {user: letters & set(seen[user][need.path][0]) for user in (("worker",) if need.worker else USERS)}


def may(allowed: Mapping[str, set[str]]) -> list[list[str]]:
    """Return it in an order of its own."""
    return [sorted(letters) for _user, letters in sorted(allowed.items())]


def lost(need: Need, outside: Seen, inside: Seen) -> bool:
    """Tell whether nginx could do with a path outside what it cannot do inside."""
    could, can = possible(need, outside), possible(need, inside)
    return any(
        could[user] - can[user]
        or (could[user] and need.same and outside[user][need.path][1] != inside[user][need.path][1])
        for user in could
    )


def reasons(every: Iterable[Need], outside: Seen, inside: Seen) -> list[str]:
    """Return why nginx would not start inside, or not serve a site, one sentence each."""
    found: dict[str, str] = {}
    for need in every:
        if lost(need, outside, inside):
            path = need.shown or need.path
            found.setdefault(path, f"{path} could not be {DONE[need.how]} ({need.where})")
    said = SAID.findall(str(inside.get("said", "")))
    if inside.get("code", 0) and not any(f'"{path}"' in line for path in found for line in said):
        return [f"nginx would not start: {' '.join(said) or inside.get('said')}", *found.values()]
    return list(found.values())


def not_granted(every: Iterable[Directive], lines: Sequence[str]) -> list[str]:
    """Return what nginx's workers would ask the kernel for in vain: `nginx -t` does not try it."""
    wants = {each.name: each.args[0] for each in every if each.args and not each.context}
    said = [line.partition("=") for line in lines]
    most = next((value.split(":")[-1] for name, _, value in reversed(said) if name == "LimitNOFILE"), "")
    files = wants.get("worker_rlimit_nofile", "")
    found = []
    if files.isdigit() and most.isdigit() and int(files) > int(most):
        found.append(f"worker_rlimit_nofile {files} could not be had (LimitNOFILE {most}: `systemctl edit nginx`)")
    capabilities = " ".join(value for name, _, value in said if name == "CapabilityBoundingSet")
    if wants.get("worker_priority", "").startswith("-") and capabilities and "CAP_SYS_NICE" not in capabilities:
        found.append(f"worker_priority {wants['worker_priority']} could not be had (CAP_SYS_NICE)")
    return found


def warning(why: Sequence[str], sandboxed: bool) -> str:
    """Return what a person has to know of a sandbox that is left off."""
    more = f"; and {len(why) - SHOWN} more" if len(why) > SHOWN else ""
    if why[0].startswith(NOT_STARTED):
        return (
            f"nginx is left without its sandbox: {why[0]}. A container of LXD or Incus needs security.nesting=true for"
            " one; with flask_gunicorn_nginx_harden_nginx: false this is not said again."
        )
    text = (
        f"nginx is left without its sandbox, because in it {'; '.join(why[:SHOWN])}{more}. Move that (sites to /srv"
        " or /var/www, certificates to /etc/ssl, logs to /var/log/nginx, caches to /var/lib/nginx, sockets to /run), or"
        " set flask_gunicorn_nginx_harden_nginx: false, and this is not said again."
    )
    return text + (" nginx still runs in its sandbox: until `systemctl restart nginx`." if sandboxed else "")


# trying


class Done(NamedTuple):
    """What came of a command."""

    code: int
    out: str
    err: str


def run(argv: Sequence[str], data: str = "") -> Done:
    """Run a command; one that is not there has the shell's exit code for it."""
    environment = {**os.environ, "PATH": PATH}
    try:
        done = subprocess.run(argv, input=data.encode(), capture_output=True, check=False, env=environment)
    except OSError as error:
        return Done(127, "", str(error))
    return Done(done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace"))


def settled(need: Need) -> Need | None:
    """Return a need as it stands on this host: of what is not there yet, the directory in which it would be made."""
    path = os.path.normpath(need.path)
    if os.path.exists(path):
        return need._replace(path=path, same=need.same and os.path.isdir(path))
    if need.guess:
        return None
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return need._replace(path=path, same=True, above=True, shown=need.shown or need.path)


def leads_to(path: str) -> list[str]:
    """Return the part of the tree a path leads to: not more, or each release of an app would be another place."""
    return os.path.realpath(path).split("/")[1:4]


def links(need: Need) -> Iterator[Need]:
    """Return the symbolic links below a site's directory that lead out of it."""
    todo, looked_at = [need.path], 0
    top = os.path.realpath(need.path)
    while todo and looked_at < LINKS_LOOKED_AT:
        with contextlib.suppress(OSError), os.scandir(todo.pop(0)) as entries:
            for entry in entries:
                looked_at += 1
                if entry.is_dir(follow_symlinks=False):
                    todo.append(entry.path)
                elif entry.is_symlink() and os.path.commonpath([top, os.path.realpath(entry.path)]) != top:
                    yield Need(entry.path, "read", f"a link in the {need.where}", worker=True)


def standing_needs(every: Iterable[Need]) -> list[Need]:
    """Return the needs as they stand on this host, with the links of the sites."""
    found = [need for need in map(settled, every) if need]
    sites = [need for need in found if need.worker and need.how == "read" and need.same and not need.above]
    below = [link for site in sites for link in links(site)]
    return list(dict.fromkeys([*found, *(need for need in map(settled, below) if need)]))


def script(paths: Iterable[str], user: str, nginx: str | None) -> str:
    """Return the probe with its question."""
    question = json.dumps({"paths": sorted(set(paths)), "user": user, "nginx": nginx})
    return f"import json\nQUESTION = json.loads({question!r})\n{PROBE}"


def try_outside(paths: Iterable[str], user: str) -> Json:
    """Return what the probe says without a sandbox: in this process, another Python would be a tenth of all this."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(script(paths, user, None), {})  # nosec B102: a constant of this file
    found: Json = json.loads(said.getvalue())
    return found


def try_inside(lines: Sequence[str], probe: str) -> tuple[Json | None, str]:
    """Return what the probe says under these settings, or None and why systemd did not run it.

    A unit in a file and not `systemd-run`, which knows fewer settings than a unit may have, and refuses those.
    """
    name = f"flaskfleet-nginx-trial-{os.getpid()}.service"
    unit = os.path.join(UNITS, name)
    os.makedirs(STATE, mode=0o700, exist_ok=True)
    os.makedirs(UNITS, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE) as directory:
        with open(os.path.join(directory, "question"), "w", encoding="utf-8") as file:
            file.write(probe)
        try:
            with open(unit, "w", encoding="utf-8") as file:
                file.write(UNIT.format(settings="\n".join(lines), directory=directory, python=PYTHON))
            done = run(["systemctl", "start", name])
        finally:
            with contextlib.suppress(OSError):
                os.unlink(unit)
        with contextlib.suppress(ValueError):
            return json.loads(read(os.path.join(directory, "answer"))), ""
    said = run(["journalctl", "--no-pager", "--quiet", "--output=cat", "--lines=20", f"--unit={name}"]).out
    failed = [line for line in said.splitlines() if re.search(r"[Ff]ailed (to|at)", line)]
    return None, " ".join(failed[:2]) or done.err.strip()


def in_sandbox() -> bool:
    """Tell whether the nginx that runs now is in a sandbox such as this one."""
    pid = run(["systemctl", "show", "--property=MainPID", "nginx.service"]).out.strip().partition("=")[2]
    try:
        apart = os.readlink(f"/proc/{pid}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
    except OSError:
        return False
    return apart and "NoNewPrivs:\t1" in read(f"/proc/{pid}/status")


def trial(dump: str, said: str, asked: Json, cat: str, check: bool) -> list[str]:
    """Return why nginx would not be well in the sandbox, from a trial or from the same one before."""
    own = directives("".join(f"{name} {value};\n" for name, value in asked["site"].items()))
    every = [*directives(dump), *(each._replace(file="the site of this app") for each in own)]
    built = defaults(said)
    wanted = standing_needs(needs(every, built))
    user = next((each.args[0] for each in every if each.name == "user" and each.args), built.get("user", "nobody"))
    paths = [need.path for need in wanted]
    outside = try_outside(paths, user)
    lines = next_start(cat, asked["path"], asked["content"])

    could = [(need.path, need.how, leads_to(need.path), may(possible(need, outside))) for need in wanted]
    key = hashlib.sha256(json.dumps([dump, lines, sorted(could)]).encode()).hexdigest()
    kept = os.path.join(STATE, "nginx-sandbox.json")
    with contextlib.suppress(ValueError):
        before = json.loads(read(kept))
        if before["key"] == key:
            return list(before["reasons"])
    inside, why = try_inside(lines, script(paths, user, shutil.which("nginx", path=PATH) if dump else None))
    if inside is None:
        return [f"{NOT_STARTED} {why}"]  # maybe only this time, so it is not kept
    found = [*not_granted(every, lines), *reasons(wanted, outside, inside)]
    if not check:
        with open(f"{kept}.new", "w", encoding="utf-8") as file:
            json.dump({"key": key, "reasons": found}, file)
        os.replace(f"{kept}.new", kept)
    return found


def configuration(said: str) -> Done:
    """Return what `nginx -T` says; `said` is what `nginx -V` does, empty without nginx."""
    return run(["nginx", "-T"]) if said else Done(0, "", "")


def judge(asked: Json | None, said: str, dump: Done, cat: str, check: bool) -> tuple[str, list[str]]:
    """Return the text that the drop-in is to have, empty for none, and what a person has to be told.

    Without a verdict the drop-in stays as it is.
    """
    if not asked or not asked["content"]:
        return "", []
    stands = read(asked["path"])
    if not said and os.path.isdir(CONFIGURATION):
        return stands, []  # somebody's configuration waits for nginx: asked again when it is installed
    if dump.code:
        why = " ".join(SAID.findall(dump.err)) or dump.err.strip()
        return stands, [f"nginx's sandbox is left as it is and cannot be tried, because `nginx -t` fails: {why}"]
    try:
        found = trial(dump.out, said, asked, cat, check)
    except (OSError, ValueError) as error:
        found = [f"nothing could be tried: {error}"]
    return ("", [warning(found, in_sandbox())]) if found else (asked["content"], [])

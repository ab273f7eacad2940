"""One call of flaskctl: the command line goes to a command, its answer comes out as text or JSON, with an exit code."""

from __future__ import annotations

import argparse
import errno
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO

from flaskctl import Json
from flaskctl.activate import activate, rollback
from flaskctl.advisories import audit
from flaskctl.app import App, apps
from flaskctl.bake import bake
from flaskctl.certificate import certificate
from flaskctl.complete import complete
from flaskctl.diagnosis import explain, told_once
from flaskctl.doctor import doctor
from flaskctl.errors import Refused
from flaskctl.files import FULL, read_json
from flaskctl.host import Host
from flaskctl.lock import parse_holder
from flaskctl.marks import drain, maintenance, undrain
from flaskctl.metrics import all_metrics, metrics
from flaskctl.options import parse
from flaskctl.prune import prune
from flaskctl.remove import remove
from flaskctl.restart import restart
from flaskctl.rollout import lock, unlock
from flaskctl.run import logs, run_command, start
from flaskctl.sbom import sbom
from flaskctl.stage import Sent, stage
from flaskctl.status import list_releases, status
from flaskctl.texts import printable
from flaskctl.traffic import Limits
from flaskctl.verify import verify

ARCHIVE_NEEDED = 3  # exit codes
VULNERABLE = 4


def text_of(path: str | None, stdin: IO[str]) -> str | None:
    try:
        return stdin.read() if path == "-" else Path(path).read_text("utf-8") if path else None
    except UnicodeError:
        raise Refused(f"{'standard input' if path == '-' else path} is not UTF-8 text") from None


def given_on_stdin(options: argparse.Namespace, stdin: IO[str]) -> tuple[Path | IO[bytes] | None, str | None]:
    """Return archive and configuration of `stage`; both can come on standard input, the configuration as a line."""
    if options.archive != "-":
        return Path(options.archive) if options.archive else None, text_of(options.config, stdin)
    raw = stdin.buffer  # type: ignore[attr-defined]  # of a text stream: the archive is none
    try:
        config = raw.readline().decode() if options.config == "-" else text_of(options.config, stdin)
    except UnicodeError:
        raise Refused("the configuration is not UTF-8 text") from None
    return io.BytesIO(raw.read()), config


def carry_out(options: argparse.Namespace, app: App, stdin: IO[str]) -> Json:
    """Run one command; return its answer."""
    tty = stdin.isatty() and sys.stdout.isatty()
    holder = parse_holder(getattr(options, "holder", None))
    commands: dict[str, Callable[[], Json]] = {
        "status": lambda: status(app, getattr(options, "drift", False), getattr(options, "traffic", False)),
        "metrics": lambda: metrics(app, Path(options.textfile) if options.textfile else None),
        "doctor": lambda: doctor(app),
        "releases": lambda: list_releases(app),
        "stage": lambda: stage(
            app, *given_on_stdin(options, stdin), options.sha256, options.how, holder, sent(options)
        ),
        "activate": lambda: activate(app, options.id, holder),
        "rollback": lambda: rollback(app, options.id, holder),
        "restart": lambda: restart(app, holder),
        "lock": lambda: lock(app, holder),
        "unlock": lambda: unlock(app, holder, options.force, options.keep),
        "verify": lambda: verify(app, options.id),
        "bake": lambda: bake(app, options.seconds, limits(options)),
        "drain": lambda: drain(app, options.seconds),
        "undrain": lambda: undrain(app),
        "maintenance": lambda: maintenance(app, options.mode, text_of(options.page, stdin)),
        "certificate": lambda: certificate(app, options.temporary, text_of(options.account, stdin)),
        "prune": lambda: prune(app, options.keep),
        "sbom": lambda: sbom(app, options.release, options.json),
        "audit": lambda: audit(app, text_of(options.known, stdin), options.known, options.release),
        "logs": lambda: logs(app, options.follow, options.lines, options.json, options.process),
        "run": lambda: run_command(app, options.words, options.release, tty, options.json),
        "start": lambda: start(app),
        "remove": lambda: remove(app, options.purge),
    }
    return commands[options.command]()


def sent(options: argparse.Namespace) -> Sent:
    wheels = Path(options.wheels) if options.wheels else None
    return Sent(options.signature, wheels, options.wheels_sha256, options.wheels_signature)


def limits(options: argparse.Namespace) -> Limits:
    return Limits(options.max_errors, options.max_slower, options.min_requests)


def main(argv: Sequence[str], host: Host, stdin: IO[str], stdout: IO[str], stderr: IO[str]) -> int:
    """Run one command; return the exit code. With --json, all that there is to say is one object on `stdout`."""
    if argv[:1] == ["--complete"]:
        stdout.write("".join(f"{word}\n" for word in complete(host, argv[1:])))
        return 0
    as_json = "--json" in argv[: list(argv).index("--") if "--" in argv else None]
    answer: Json = {"app": None, "command": None, "changed": False}
    warnings: list[str] = []
    failure = None

    def at_once(what: str) -> None:
        stderr.write(printable(f"flaskctl: {what}\n"))
        stderr.flush()

    try:
        code = call(argv, host, stdin, answer, warnings, warnings.append if as_json else at_once)
    except Refused as error:
        failure = error
    except KeyboardInterrupt:
        failure = Refused("interrupted", remedy="the next stage, activate or rollback finishes or undoes what was cut")
    except OSError as error:
        what = f"{error.filename or answer['command']}: {error.strerror}"
        failure = Refused(what, remedy=FULL if error.errno == errno.ENOSPC else "")
    if failure:
        code = failure.code
        answer.update(failed=True, msg=failure.msg, detail=failure.detail, remedy=failure.remedy)
    answer.update({name: printable(answer[name]) for name in ("msg", "detail", "remedy") if answer.get(name)})
    warnings = [printable(warning) for warning in warnings]
    if as_json:
        stdout.write(json.dumps({**answer, "warnings": warnings}) + "\n")
        return code
    stderr.write("".join(f"flaskctl: warning: {warning}\n" for warning in warnings))
    if failure:
        stderr.write(printable(story(failure)))
    elif answer["msg"]:
        stdout.write(answer["msg"] + "\n")
    return code


def call(
    argv: Sequence[str], host: Host, stdin: IO[str], answer: Json, warnings: list[str], tell: Callable[[str], None]
) -> int:
    """Run one command and fill its answer in, as far as it comes; return the exit code."""
    options = parse(argv)
    answer.update(app=options.app, command=options.command)
    if options.command == "apps":
        found = apps(host)
        answer.update(apps=found, msg="\n".join(found) or "no app on this host")
        return 0
    if options.app is None:
        answer.update(all_metrics(host, warnings))
        return 0
    app = App(host, options.app, options.dry_run, " ".join(["flaskctl", *argv]))
    app.warnings, app.tell = warnings, tell
    try:
        answer.update(carry_out(options, app, stdin))
    except (Refused, OSError, KeyboardInterrupt):
        if options.command in ("stage", "activate"):
            # what was refused has the rollout lock all the same, or is refused for one
            answer["lease"] = read_json(app.rollout_file)
        raise
    if options.command == "run":
        return ended(app, answer, options.json)
    if answer.get("found"):
        return VULNERABLE
    needed = answer.get("archive_needed") or answer.get("wheels_needed")
    return ARCHIVE_NEEDED if needed and not options.dry_run else 0


def ended(app: App, answer: Json, as_json: bool) -> int:
    """Return the exit code of the command that `run` ran, and say so in the answer, with the walls that it met."""
    code = int(answer["rc"])
    said, settings = f"{answer['stdout']}\n{answer['stderr']}", app.service_settings(answer["id"]) if code else []
    if code and as_json:
        detail, remedy = explain(app.name, said, "", settings)
        answer.update(failed=True, msg=f"the command ended with exit code {code}", detail=detail, remedy=remedy)
    elif code:  # what it said stands there already
        app.warnings += told_once(app.name, said, settings)
    return code


def story(failure: Refused) -> str:
    """Return a failure as a person reads it."""
    detail = "".join(f"  {line}\n" for line in failure.detail.splitlines())
    remedy = f"remedy: {failure.remedy}\n" if failure.remedy else ""
    return f"flaskctl: {failure.msg}\n{detail}{remedy}"


def run() -> int:
    """Run as the program."""
    os.umask(0o022)
    return main(sys.argv[1:], Host(), sys.stdin, sys.stdout, sys.stderr)

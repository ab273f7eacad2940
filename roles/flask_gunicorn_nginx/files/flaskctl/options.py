"""The options of the command line, and nothing of what they do."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from flaskctl import VERSION
from flaskctl.errors import Usage
from flaskctl.layout import APP_NAME
from flaskctl.traffic import Limits

EPILOG = """\
exit codes:
  0   done, or nothing to do
  1   refused, or failed: the message says what, why and what to do
  2   wrong usage
  3   stage --sha256: the archive itself is needed, or the wheels for it
  4   audit: a package has a known vulnerability
  75  another flaskctl holds the app's lock, or another the rollout lock: the message says who, and since when
  `run` gives the exit code of the command it ran

at three in the morning:
  flaskctl hello status               what serves, and what is wrong
  flaskctl hello rollback             back to the release before this one; needs no network
  flaskctl hello releases             what there is to go back to
  flaskctl hello logs -n 200          what the app said; --process worker for one process
  flaskctl hello run -- flask shell   a command in the current release: its user, sandbox, environment
"""


OF_ALL = ("apps", "metrics")  # what stands in place of an app, and is of all

# add(name, what it does, arguments with what they mean)
Adder = Callable[..., argparse.ArgumentParser]


class Parser(argparse.ArgumentParser):
    """Usage errors as Refused: with --json they are an answer too."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message, remedy=f"{self.prog} --help")


def parser() -> Parser:
    """Return the parser of the whole command line."""
    shared = Parser(add_help=False, argument_default=argparse.SUPPRESS)
    shared.add_argument("--json", action="store_true", help="answer with one JSON object")
    shared.add_argument("--dry-run", action="store_true", help="say what would change, change nothing")
    main = Parser(
        prog="flaskctl",
        description="Release, roll back and look after a Flask app on this host. `flaskctl apps` lists the apps,"
        " `flaskctl metrics` tells the figures of all.",
        epilog=EPILOG,
        parents=[shared],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    here = Path(__file__).parent.parent
    main.add_argument("--version", action="version", version=f"flaskctl {VERSION}, {here}", help="say it, and end")
    main.add_argument("app", metavar="APP", help="the name of the app")
    commands = main.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, text: str, **arguments: str) -> argparse.ArgumentParser:
        sentence = f"{text[0].upper()}{text[1:]}{'' if text.endswith('?') else '.'}"
        command = commands.add_parser(name, help=text, description=sentence, parents=[shared])
        for argument, meaning in arguments.items():
            command.add_argument(argument, metavar=argument.upper(), nargs="?", help=meaning)
        return command

    add_release_commands(add)
    add_nginx_commands(add)
    add_other_commands(add)
    return main


def commands_of(main: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parser of each command."""
    return next(action.choices for action in main._actions if isinstance(action, argparse._SubParsersAction))


def add_release_commands(add: Adder) -> None:
    """Add what stages a release, moves traffic, and holds off other rollouts."""
    status = add("status", "what serves, where a rollback would go, what is wrong")
    status.add_argument("--drift", action="store_true", help="read each file of the release: does one differ?")
    status.add_argument(
        "--traffic", action="store_true", help="with --json: the requests before and after the last activation"
    )
    metrics = add("metrics", "the app in figures, in the text format of Prometheus")
    metrics.add_argument(
        "--textfile", metavar="FILE", help="put them there, for node_exporter's textfile collector; ends in .prom"
    )
    add("doctor", "which walls of its sandbox the release that serves has met, and what opens them")
    add("releases", "the releases on this host")
    stage = add(
        "stage",
        "put a release on this host; nothing that is served changes",
        archive="a .tar.gz of the source, - for standard input; without: that of --sha256, or of the current release",
    )
    stage.add_argument("--sha256", metavar="HEX", help="its checksum; alone, asks whether the archive is needed")
    stage.add_argument(
        "--config", metavar="FILE", help="configuration, JSON, - for standard input, as a line; default: the current"
    )
    stage.add_argument("--signature", metavar="FILE", help="of the archive, by ssh-keygen -Y sign; or its text")
    stage.add_argument("--wheels-signature", metavar="FILE", help="that of the wheels")
    stage.add_argument("--wheels", metavar="FILE", help="what an earlier `stage` has asked the control node for")
    stage.add_argument("--wheels-sha256", metavar="HEX", help="its checksum")
    stage.add_argument(
        "--try",
        dest="how",
        choices=("import", "health"),
        help="start it too, on a socket of its own: does it import, is it healthy? Refused if not",
    )
    activate = add("activate", "start a staged release, switch to it, drain the old one")
    activate.add_argument("id", metavar="ID", help="the id of a release, or its beginning")
    rollback = add("rollback", "go back to the release before this one", id="go back to this one instead")
    restart = add("restart", "give the current release fresh processes (after updates, say); no request waits")
    lock = add("lock", "take the rollout lock: no other rollout may stage until `unlock`")
    unlock = add("unlock", "release the rollout lock")
    unlock.add_argument("--force", action="store_true", help="that of another rollout, which is dead")
    unlock.add_argument("--keep", metavar="N", type=int, help="prune before, and keep so many releases")
    for command in (stage, activate, rollback, restart, lock, unlock):
        command.add_argument("--holder", metavar="JSON", help='the rollout: {"id", "by", "from", "pid", "since"}')


def add_nginx_commands(add: Adder) -> None:
    """Add what asks nginx, reads its log, or has it answer in place of the app."""
    add("verify", "ask through nginx whether this very release answers", id="default: the current release")
    bake = add("bake", "watch the real traffic: is it worse than before the last activation?")
    bake.add_argument("--seconds", metavar="N", type=int, required=True, help="for so long, and compare with as long")
    limits = Limits()
    for option, kind, default, meaning in (
        ("--max-errors", float, limits.errors, "so many percentage points more may fail with 5xx"),
        ("--max-slower", float, limits.slower, "95 of 100 requests may take so many times as long"),
        ("--min-requests", int, limits.requests, "with fewer before or after, do not judge"),
    ):
        bake.add_argument(option, metavar="N", type=kind, default=default, help=f"{meaning}; default: {default:g}")
    drain = add("drain", "have the readiness path answer 503, for load balancers; go on serving")
    drain.add_argument("--seconds", metavar="N", type=int, default=0, help="wait so long for them to notice")
    add("undrain", "have the readiness path answer again what the app's health path does")
    certificate = add("certificate", "fetch a certificate where one is due, check it, and have nginx take it")
    certificate.add_argument(
        "--temporary", action="store_true", help="none is fetched: a site that has none gets one to start with"
    )
    certificate.add_argument("--account", metavar="FILE", help="key_id and hmac_key of the account, JSON; - for input")
    maintenance = add("maintenance", "answer every path of the app with 503 and a page; its health path not")
    maintenance.add_argument("mode", choices=("on", "off"), help="on, until off, whatever happens to the host")
    maintenance.add_argument("--page", metavar="FILE", help="the page, HTML; default: a plain one")


def add_other_commands(add: Adder) -> None:
    """Add what cleans up, and what hands over to another program."""
    prune = add("prune", "remove old releases; the current one, the one a rollback goes to and the newest stay")
    prune.add_argument(
        "--keep", metavar="N", type=int, help="how many stay, all counted; default: the app's own setting"
    )
    sbom = add("sbom", "what a release is made of: a bill of materials, CycloneDX 1.6, JSON")
    audit = add("audit", "which packages of a release have a known vulnerability")
    audit.add_argument(
        "--known", metavar="FILE", required=True, help="what is known: pip-audit's JSON, or OSV's; - for standard input"
    )
    for command in (sbom, audit):
        command.add_argument("--release", metavar="ID", help="of this release; default: the current one")
    logs = add("logs", "what the app wrote to the journal")
    logs.add_argument("-f", "--follow", action="store_true", help="go on with what comes")
    logs.add_argument("-n", "--lines", metavar="N", type=int, default=100, help="how many lines; default: 100")
    logs.add_argument("--process", metavar="NAME", help="of one process alone: web, or a worker's or schedule's name")
    run = add("run", "run a command as the release runs: its user, sandbox, environment, credentials")
    run.add_argument("--release", metavar="ID", help="in this release; default: the current one")
    run.add_argument("words", metavar="-- COMMAND ...", nargs="*", help="looked up in the release's virtualenv first")
    add("start", "start the current release; what systemd does at boot and on the first connection")
    remove = add("remove", "take the app off this host; its data in /var/lib and nginx's logs of it stay")
    remove.add_argument("--purge", action="store_true", help="remove these too")


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line. What follows `--` is never looked at: it is the command of `run`."""
    cut = argv.index("--") if "--" in argv else len(argv)
    ours, words = list(argv[:cut]), list(argv[cut + 1 :])
    told = [word for word in ours if not word.startswith("-")]
    if told in [[word] for word in OF_ALL]:
        return argparse.Namespace(app=None, command=told[0], json="--json" in ours, dry_run=False)
    options = parser().parse_args(ours or ["--help"])
    options.json, options.dry_run = "--json" in ours, "--dry-run" in ours
    options.command = options.command or "status"
    if options.command == "run":
        options.words += words
    elif words:
        raise Usage(f"{options.command} takes no command")
    if not APP_NAME.match(options.app):
        raise Usage(f"{options.app!r} is no name of an app", remedy="flaskctl apps")
    return options

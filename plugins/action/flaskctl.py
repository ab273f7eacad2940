# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""`flaskctl` on the control node: what to ask the host's flaskctl, and what its answer means to Ansible."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.common.text.converters import to_bytes
from ansible_collections.flaskfleet.web.plugins.lookup.holder import taken_over, user
from ansible_collections.flaskfleet.web.plugins.module_utils.source import mask
from ansible_collections.flaskfleet.web.plugins.plugin_utils.signing import Unsigned, signature
from ansible_collections.flaskfleet.web.plugins.plugin_utils.stdin_program import NOT_FOUND, StdinAction, answer_in
from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheel_tags import Unfit
from ansible_collections.flaskfleet.web.plugins.plugin_utils.wheelhouse import wheels_for

Json = dict[str, Any]

FLASKCTL = "/usr/local/bin/flaskctl"
ARCHIVE_NEEDED = 3
# an archive up to so many bytes goes along with the question whether it is needed: one round trip less
SMALL = 256 * 1024
# what a file of the control node is to flaskctl, which reads it from standard input
SENT_AS = {"stage": "archive", "maintenance": "page"}
WHEELS = ("wheels", "wheels_sha256", "wheels_signature")
# which options each command takes besides `app`
# what a person asks on the host is not here: FOR_PEOPLE in tests/unit/plugins/test_flaskctl_options.py
TAKES: dict[str, set[str]] = {
    "status": {"drift", "traffic"},
    "stage": {"src", "archive", "sha256", "config", "try", "holder", "signature", "signing_key", *WHEELS},
    "activate": {"release", "holder"},
    "rollback": {"release", "holder"},
    "verify": {"release"},
    "prune": {"keep"},
    "remove": {"purge"},
    "bake": {"seconds", "max_errors", "max_slower", "min_requests"},
    "restart": {"holder"},
    "drain": {"seconds"},
    "undrain": set(),
    "maintenance": {"mode", "page", "src"},
    "certificate": {"temporary", "account"},
    "lock": {"holder"},
    "unlock": {"holder", "force", "keep"},
}
SPEC: dict[str, Json] = {
    "app": {"type": "str", "required": True},
    "command": {"type": "str", "required": True, "choices": sorted(TAKES)},
    "release": {"type": "str"},
    "src": {"type": "path"},
    "archive": {"type": "str"},
    "sha256": {"type": "str"},
    "config": {"type": "str", "no_log": True},
    "account": {"type": "str", "no_log": True},
    "signing_key": {"type": "path"},
    "signature": {"type": "str"},
    **dict.fromkeys(WHEELS, {"type": "str"}),
    "try": {"type": "str", "choices": ["import", "health"]},
    "holder": {"type": "str"},
    "force": {"type": "bool", "default": False},
    "temporary": {"type": "bool", "default": False},
    "keep": {"type": "int"},
    "seconds": {"type": "int"},
    "mode": {"type": "str", "choices": ["on", "off"]},
    "page": {"type": "str"},
    "max_errors": {"type": "float"},
    "max_slower": {"type": "float"},
    "min_requests": {"type": "int"},
    "purge": {"type": "bool", "default": False},
    "drift": {"type": "bool", "default": False},
    "traffic": {"type": "bool", "default": False},
}


# in check mode what these would do is predicted for an app that is not there
PREDICTED = ("stage", "activate", "prune", "lock", "unlock")


class ActionModule(StdinAction):  # type: ignore[misc]
    """One task, and one question to a host that has the release already."""

    def run(self, tmp: Any = None, task_vars: Json | None = None) -> Json:
        """Return the answer of flaskctl; where it was asked twice, of what only the first one told as well."""
        result: Json = super().run(tmp, task_vars)
        self.host_name = (task_vars or {}).get("inventory_hostname", "the host")
        _validated, params = self.validate_argument_spec(argument_spec=SPEC)
        wrong = problem(params, release_known=not self._task.check_mode)
        if wrong:
            return {**result, "failed": True, "msg": f"{wrong}."}
        page, src = params["command"] == "maintenance", params["src"] or ""
        if src and not os.path.isfile(src):
            return {**result, "failed": True, "msg": f"There is no file {os.path.abspath(src)} on the control node."}
        src = src if page or not self._task.check_mode else ""
        content = Path(src).read_bytes() if src and (page or os.path.getsize(src) <= SMALL) else None
        try:
            answer = self.send(params, src, content)
        except (Unfit, Unsigned) as error:
            return {**result, "failed": True, "changed": False, "msg": str(error)}
        except OSError as error:
            what = f"On the control node, {error.filename}: {error.strerror}."
            return {**result, "failed": True, "changed": False, "msg": what}
        return {**result, **answer}

    def send(self, params: Json, src: str, content: bytes | None) -> Json:
        """Ask, and send what the host asks for: the archive, and the wheels for it."""
        key = params["signing_key"] or ""
        if src and key and params["command"] == "stage":
            params = {**params, "signature": signature(src, key)}
        answer = self.ask(params, content)
        over = takeover(params, answer) if answer.get("failed") else ""
        if over:
            whose = str(answer["msg"]).splitlines()[0]
            self._display.display(f"This run takes over: {whose}; that process is dead.")
            params["holder"] = over
            answer = self.ask(params, content)
        if src and answer.get("archive_needed"):
            path = self._connection._shell.join_path(self.directory(), os.path.basename(src))
            self._transfer_file(src, path)
            params = {**params, "archive": path}
            answer.update(self.ask(params))
            content = None
        if src and answer.get("wheels_needed"):
            answer = self.with_wheels(params, content, src, answer["wheels_needed"])
        return answer

    def with_wheels(self, params: Json, content: bytes | None, src: str, told: Json) -> Json:
        """Fetch the wheels that the host asks for, send them, and ask it again."""
        wheels = wheels_for(src, json.loads(params["config"]), told, self.host_name)
        key = params["signing_key"] or ""
        signed = signature(str(wheels.path), key) if key else None
        path = self._connection._shell.join_path(self.directory(), "wheels.tar.gz")
        self._transfer_file(str(wheels.path), path)
        given = dict(zip(WHEELS, (path, wheels.sha256, signed), strict=True))
        answer = self.ask({**params, **given}, content)
        if answer.get("wheels_needed"):
            return {**answer, "failed": True, "msg": f"The host does not take the wheels: {answer.get('msg')}."}
        return answer

    def ask(self, params: Json, content: bytes | None = None) -> Json:
        """Call flaskctl once, and return its answer as Ansible's result; `content` is that of a file to send."""
        dry_run = bool(self._task.check_mode)
        if content is not None:
            params = {**params, SENT_AS[params["command"]]: "-"}
        config = params["config"] if params["config"] is not None else ""
        # a line, because the archive may follow it
        line = to_bytes(config).replace(b"\n", b" ") + b"\n" if params["command"] == "stage" else b""
        data = line + (content or b"") or to_bytes(params["account"] or "") or b"\n"
        # who did it is who runs the playbook, not whom the host lets in
        done = self.call(["env", f"FLASKCTL_BY={user()}", FLASKCTL, *arguments(params, dry_run)], data)
        if done.code == NOT_FOUND:
            return without_flaskctl(params, dry_run)
        result = understood(*done)
        if dry_run and params["command"] in PREDICTED and str(result.get("msg")).startswith(unknown(params["app"])):
            return without_flaskctl(params, dry_run)
        prepared = difference(params["app"], result.pop("diff", None))
        if prepared:
            result["diff"] = {"prepared": prepared}
        return {key: value for key, value in result.items() if key != "warnings" or value}


def takeover(arguments: Mapping[str, Any], answer: Mapping[str, Any]) -> str:
    """Return the holder that takes the lease over, when it was refused for that of a dead rollout from here."""
    lease, holder = answer.get("lease"), arguments.get("holder")
    if not isinstance(lease, Mapping) or not holder:
        return ""
    me = json.loads(holder)
    old = taken_over(lease, me)
    return json.dumps({**me, "takes_over": old}) if old else ""


def problem(params: Json, release_known: bool) -> str:
    """Return what is wrong with the combination of options, or nothing.

    `release_known` is false where only a prediction is asked for: the id of a release is not known then.
    """
    command = params["command"]
    every = set().union(*TAKES.values())
    stray = sorted(name for name in every - TAKES[command] if params[name] not in (None, False))
    if stray:
        return f"command {command} takes no {' and no '.join(stray)}"
    if command == "activate" and release_known and not params["release"]:
        return "command activate needs release: the id that stage returned"
    if command == "bake" and params["seconds"] is None:
        return "command bake needs seconds"
    if command == "maintenance" and not params["mode"]:
        return "command maintenance needs mode"
    if command == "maintenance" and params["page"] and params["src"]:
        return "command maintenance takes either page or src"
    if command == "lock" and not params["holder"]:
        return "command lock needs holder"
    if command == "unlock" and bool(params["holder"]) == params["force"]:
        return "command unlock needs either holder or force"
    return ""


def arguments(params: Json, dry_run: bool) -> list[str]:
    """Return the arguments for flaskctl; no secret is among them, these go to standard input."""
    given = ["--json", *(["--dry-run"] if dry_run else []), params["app"], params["command"]]
    for name in ("keep", "seconds", "page", "max_errors", "max_slower", "min_requests"):
        if params[name] is not None:
            given += [f"--{name.replace('_', '-')}", str(params[name])]
    given += [f"--{name}" for name in ("purge", "force", "drift", "traffic", "temporary") if params[name]]
    if params["holder"]:
        given += ["--holder", params["holder"]]
    for name in ("sha256", "signature", *WHEELS):
        given += [f"--{name.replace('_', '-')}", params[name]] if params[name] else []
    if params["try"]:
        given += ["--try", params["try"]]
    if params["config"] is not None:
        given += ["--config", "-"]
    if params["account"]:
        given += ["--account", "-"]
    return given + [params[name] for name in ("archive", "release", "mode") if params[name]]


def unknown(app: str) -> str:
    """Return how flaskctl says that it does not know an app."""
    return f"no app {app} on this host"


def without_flaskctl(params: Json, dry_run: bool) -> Json:
    """Return the answer for a host that has no flaskctl, or in check mode not this app.

    Nothing is left to remove there. In check mode the tasks before this one would have installed both, so releasing
    to it is predicted; what only makes sense where there is an app, such as a rollback, is not.
    """
    app, command = params["app"], params["command"]
    answer = {"app": app, "command": command, "changed": False, "predicted": True}
    if command == "remove":
        gone: Json = {"others": [], "data_of": [], "removed": [], "left": []}
        return {**answer, **gone, "predicted": dry_run, "msg": f"{app} is not on this host."}
    if not dry_run or command not in PREDICTED:
        remedy = "The role flaskfleet.web.flask_gunicorn_nginx installs it: run site.yml."
        return {"failed": True, "changed": False, "msg": f"{FLASKCTL} is not on this host. {remedy}"}
    return {
        **answer,
        "changed": command in ("stage", "activate"),
        "msg": f"{app} would be installed on this host for the first time.",
        "archive_needed": command == "stage",
        "wheels_needed": None,
        "id": None,
        "current": None,
        "previous": None,
        "active": [],
        "lacks": [],
        "staged": False,
        "tried": False,
        "verified": False,
        "certificate": "",
        "certificate_unused": False,
        "lease": None,
        "repairs": [],
        "releases": [],
        "socket": {"active": False, "enabled": False, "stale": False, "former": []},
        "service": {"enabled": False},
        "python": None,
        "venv": {"key": None, "built": True},
    }


def story(answer: Json) -> str:
    """Return message, evidence and remedy of a failure as one text for a person."""
    parts = (str(answer.get(key) or "").strip("\n") for key in ("msg", "detail", "remedy"))
    text: str = mask("\n\n".join(part for part in parts if part))
    return text


def difference(app: str, diff: Any) -> str:
    """Return flaskctl's diff, which holds names and never values, as lines for --diff."""
    if not isinstance(diff, dict):
        return ""
    lines = []
    for field, label in (("environment", "environment variable"), ("credentials", "credential")):
        names = diff.get(field) or {}
        for key, sign in (("removed", "-"), ("added", "+"), ("changed", "~")):
            lines += [f"{sign} {label} {name}" for name in names.get(key, [])]
    lines += [f"~ {name}" for name in diff.get("settings", [])]
    return "\n".join([f"{app}: how the release differs from the one that serves", *lines, ""]) if lines else ""


def understood(code: int, out: str, err: str) -> Json:
    """Return flaskctl's answer as Ansible's result; `failed` in it says whether the task fails.

    An answer that is no JSON is a failure whatever the exit code: a traceback of flaskctl, a usage message, a killed
    process.
    """
    answer = answer_in(out)
    if answer is None:
        words = "\n".join(text.strip("\n") for text in (err, out) if text.strip())
        return {
            "failed": True,
            "changed": False,
            "rc": code,
            "msg": mask(f"flaskctl ended with exit code {code} and gave no answer.\n\n{words}".rstrip()),
        }
    result = {**answer, "changed": bool(answer.get("changed", False))}
    if answer.get("command") == "stage" or code == ARCHIVE_NEEDED:
        result["archive_needed"] = bool(answer.get("archive_needed", code == ARCHIVE_NEEDED))
    failed = bool(answer.get("failed")) or code not in (0, ARCHIVE_NEEDED)
    if not failed:
        return {key: value for key, value in result.items() if key != "failed"}
    # only a failure has an rc: Ansible takes one that is not 0 for a failure by itself
    result.update(failed=True, rc=code)
    # the whole story is in msg, and Ansible prints every key: a traceback is long enough to be read once
    result = {key: value for key, value in result.items() if key not in ("detail", "remedy")}
    result["msg"] = story(answer) or f"flaskctl ended with exit code {code}"
    if err.strip() and err.strip() not in result["msg"]:
        result["stderr"] = mask(err.strip())
    return result

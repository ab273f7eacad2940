#!/usr/bin/python
# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Call the host's release engine and tell its answer in Ansible's terms."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flaskctl
short_description: Stage, activate, roll back and remove releases of an app on a host
version_added: 0.1.0
description:
  - Runs C(/usr/local/bin/flaskctl), the release engine that the role C(flaskfleet.web.flask_gunicorn_nginx) installs,
    and returns its answer.
  - When it fails, the message holds all that it said, the traceback of the app that would not start included, and what
    to do.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
    details:
      - Runs C(flaskctl --dry-run). On a host that has no C(flaskctl) yet a first installation is predicted.
  diff_mode:
    description: Returns what has changed or would change in C(diff) mode.
    support: partial
    details:
      - Shows what C(flaskctl) says of a difference. Of environment variables and credentials that is only the names.
  idempotent:
    description: A second run with the same input changes nothing.
    support: full
options:
  app:
    description:
      - The name of the app.
    type: str
    required: true
  command:
    description:
      - What to do. V(status) and V(verify) only read. V(remove) is done at once on a host that has no C(flaskctl).
      - V(bake) watches the real traffic for O(seconds) and fails where it is worse than before the last activation.
      - After V(drain) the readiness path answers 503 until V(undrain), so that a load balancer sends no more requests,
        while the app serves those that come. V(maintenance) has nginx answer for the app.
      - V(restart) gives the current release fresh processes, and no request waits.
      - V(lock) takes the lease of the app for O(holder), so that no other rollout can begin there, and V(unlock)
        ends it.
    type: str
    required: true
    choices: [status, stage, activate, rollback, verify, prune, remove, lock, unlock, bake, drain, undrain,
      maintenance, restart]
  release:
    description:
      - The id of a release, or the beginning of it. Required with O(command=activate); O(command=rollback) without it
        goes to the previous good release, O(command=verify) without it asks for the current one.
    type: str
  src:
    description:
      - The path of the archive on the control node. With O(command=stage) and O(sha256), a host that has not the
        release is sent it.
    type: path
  archive:
    description:
      - The path of the archive on the host. For O(command=stage); without it and O(sha256) the current release is
        staged again, which mends it.
    type: path
  sha256:
    description:
      - The SHA-256 of the archive. With O(command=stage) and without O(src) and O(archive) the answer tells in
        RV(archive_needed) whether the host has to be sent the archive at all.
    type: str
  config:
    description:
      - The configuration of the release as one JSON text. For O(command=stage).
      - One text, because Ansible hides each value below a secret option from all output, and short values such as V(1)
        would make every message unreadable.
    type: str
  try:
    description:
      - With O(command=stage), start the release too, in its own sandbox and on a socket of its own, without traffic.
        V(import) sees that the app starts, V(health) asks its health path as well. One that fails is refused with the
        app's own words. The current release is not tried, and no release a second time.
    type: str
    choices: [import, health]
  holder:
    description:
      - Which rollout this belongs to, a JSON text of an object with C(id), C(by), C(from), C(pid) and C(since). For
        O(command=lock), O(command=unlock), O(command=stage), O(command=activate), O(command=rollback) and
        O(command=restart).
      - Each of them but V(unlock) takes the lease or gives a sign of life, and fails with RV(rc) 75 where another
        rollout has it; V(stage) only where the release is not the current one. With C(takes_over) in the object, the
        lease of the rollout with that id passes to this one.
    type: str
  force:
    description:
      - With O(command=unlock), end the lease of whatever rollout has it.
    type: bool
    default: false
  seconds:
    description:
      - With O(command=bake), how long to watch. As much time before the last activation is what it is compared with.
      - With O(command=drain), how long to wait, when it was not drained yet, for load balancers to notice.
    type: int
  mode:
    description:
      - With O(command=maintenance), V(on) to answer every path of the app with 503 and a page, V(off) to serve again.
        The health path, when it is not V(/), answers all the time.
    type: str
    choices: ["on", "off"]
  page:
    description:
      - With O(command=maintenance) and O(mode=on), a file on the host that holds the page. Without it a plain one.
    type: path
  max_errors:
    description:
      - With O(command=bake), by how many percentage points the share of answers with status 5xx may grow.
        Without it V(1).
    type: float
  max_slower:
    description:
      - With O(command=bake), how many times as long 95 of 100 requests may take. Without it V(2). Less than 0.05
        seconds more is never too much.
    type: float
  min_requests:
    description:
      - With O(command=bake), how many requests before and after are enough to judge. Without it V(50). With fewer, it
        passes and says so.
    type: int
  drift:
    description:
      - With O(command=status), compare each file of the current release with what was deployed. Without it only the
        configuration files are.
    type: bool
    default: false
  keep:
    description:
      - How many releases stay. For O(command=prune).
    type: int
  purge:
    description:
      - With O(command=remove), remove the data of the app in C(/var/lib) too.
    type: bool
    default: false
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Stage the release
  flaskfleet.web.flaskctl:
    app: hello
    command: stage
    src: "{{ __archive.path }}"
    sha256: "{{ __archive.sha256 }}"
    config: "{{ __release_config | ansible.builtin.to_json }}"
  register: __staged

- name: Let the release answer requests
  flaskfleet.web.flaskctl:
    app: hello
    command: activate
    release: "{{ __staged.id }}"

- name: Go back to the release before
  flaskfleet.web.flaskctl:
    app: hello
    command: rollback
"""

RETURN = r"""
archive_needed:
  description: Whether the host had to be sent the archive, or has to be where O(src) was not given. It is no failure.
  returned: O(command=stage)
  type: bool
predicted:
  description: That the host has no C(flaskctl) yet, so that the answer is what a first installation would give.
  returned: check mode on such a host
  type: bool
verified:
  description: Whether the release is the current one already and answers through nginx, so that V(verify) need not ask.
  returned: O(command=stage)
  type: bool
tried:
  description: Whether the release has passed O(try) on this host, now or before.
  returned: O(command=stage)
  type: bool
id:
  description: The id of the release that was staged, activated or asked for. None when it is predicted.
  returned: O(command=stage), O(command=activate), O(command=rollback), O(command=restart)
  type: str
before:
  description: "The traffic before: C(requests) that went to the app, C(errors) of them, C(p95) in seconds."
  returned: O(command=bake)
  type: dict
after:
  description: The traffic in the time that was watched, in the same words.
  returned: O(command=bake)
  type: dict
judged:
  description: Whether there were requests enough, before and after, to judge.
  returned: O(command=bake)
  type: bool
drained:
  description: Whether the readiness path answers 503 for O(command=drain).
  returned: O(command=status), O(command=drain), O(command=undrain), O(command=maintenance)
  type: bool
maintenance:
  description: Whether nginx answers for the app.
  returned: O(command=status), O(command=drain), O(command=undrain), O(command=maintenance)
  type: bool
drift:
  description: What differs from what was deployed, a path or a few words each.
  returned: O(command=status)
  type: list
  elements: str
restart_pending:
  description: The libraries of the running processes that an update has replaced; none where not root asks.
  returned: O(command=status)
  type: list
  elements: str
certificate_days:
  description: How many days the certificate is valid, none without TLS.
  returned: O(command=status)
  type: int
workers:
  description: How many workers the web server of the current release has.
  returned: O(command=status)
  type: int
failed_units:
  description: The units of the app, and nginx, that have failed.
  returned: O(command=status)
  type: list
  elements: str
problems:
  description: All that is wrong, each in a sentence with what to do.
  returned: O(command=status)
  type: list
  elements: str
lease:
  description: Which rollout has the lease of the app, since when, and when it gave its last sign of life; or none.
  returned: O(command=status), O(command=stage), O(command=lock), O(command=unlock), and failure for another's lease
  type: dict
rc:
  description: The exit code of C(flaskctl), V(75) where another process or another rollout is at work.
  returned: failure
  type: int
current:
  description: The id of the release that answers requests, or none.
  returned: success
  type: str
previous:
  description: The id of the release that O(command=rollback) would go to, or none.
  returned: success
  type: str
msg:
  description:
    - What was done, in a sentence.
    - For a failure the whole story, what failed, the evidence (the traceback of the app, for example) and what to do.
  returned: always
  type: str
"""

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.flaskfleet.web.plugins.module_utils.source import mask

FLASKCTL = "/usr/local/bin/flaskctl"
ARCHIVE_NEEDED = 3
# which options each command takes besides `app`
TAKES: dict[str, set[str]] = {
    "status": {"drift"},
    "stage": {"archive", "sha256", "config", "try", "holder"},
    "activate": {"release", "holder"},
    "rollback": {"release", "holder"},
    "verify": {"release"},
    "prune": {"keep"},
    "remove": {"purge"},
    "bake": {"seconds", "max_errors", "max_slower", "min_requests"},
    "restart": {"holder"},
    "drain": {"seconds"},
    "undrain": set(),
    "maintenance": {"mode", "page"},
    "lock": {"holder"},
    "unlock": {"holder", "force"},
}


def problem(params: dict[str, Any], release_known: bool) -> str:
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
    if command == "lock" and not params["holder"]:
        return "command lock needs holder"
    if command == "unlock" and bool(params["holder"]) == params["force"]:
        return "command unlock needs either holder or force"
    return ""


def arguments(params: dict[str, Any], dry_run: bool) -> list[str]:
    """Return the arguments for flaskctl; the configuration is not among them, it goes to standard input."""
    given = ["--json", *(["--dry-run"] if dry_run else []), params["app"], params["command"]]
    for name in ("keep", "seconds", "page", "max_errors", "max_slower", "min_requests"):
        if params[name] is not None:
            given += [f"--{name.replace('_', '-')}", str(params[name])]
    given += [f"--{name}" for name in ("purge", "force", "drift") if params[name]]
    if params["holder"]:
        given += ["--holder", params["holder"]]
    if params["sha256"]:
        given += ["--sha256", params["sha256"]]
    if params["try"]:
        given += ["--try", params["try"]]
    if params["config"] is not None:
        given += ["--config", "-"]
    return given + [params[name] for name in ("archive", "release", "mode") if params[name]]


def without_flaskctl(params: dict[str, Any], dry_run: bool) -> dict[str, Any] | None:
    """Return the answer for a host that has no flaskctl, None when there can be none.

    Nothing is left to remove there. In check mode the tasks before this one would have installed flaskctl, so releasing
    to it is predicted; what only makes sense where there is an app, such as a rollback, is not.
    """
    app, command = params["app"], params["command"]
    answer = {"app": app, "command": command, "changed": False, "predicted": True}
    if command == "remove":
        return {**answer, "predicted": dry_run, "others": [], "msg": f"{app} is not on this host."}
    if not dry_run or command not in ("stage", "activate", "prune", "lock", "unlock"):
        return None
    return {
        **answer,
        "changed": command in ("stage", "activate"),
        "msg": f"{app} would be installed on this host for the first time.",
        "archive_needed": command == "stage",
        "id": None,
        "current": None,
        "previous": None,
        "active": [],
        "staged": False,
        "tried": False,
        "verified": False,
        "lease": None,
        "repairs": [],
        "releases": [],
        "socket": {"active": False, "enabled": False, "stale": False},
        "service": {"enabled": False},
        "nginx": None,
        "openssl": None,
        "systemd": None,
        "python": None,
        "ipv6": os.path.exists("/proc/net/if_inet6"),
        "venv": {"key": None, "built": True},
    }


def story(answer: dict[str, Any]) -> str:
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


def understood(code: int, out: str, err: str) -> dict[str, Any]:
    """Return flaskctl's answer as Ansible's result; `failed` in it says whether the task fails.

    An answer that is no JSON is a failure whatever the exit code: a traceback of flaskctl, a usage message, a killed
    process.
    """
    try:
        answer = json.loads(out)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
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


def main() -> None:
    """Run as a module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "command": {"type": "str", "required": True, "choices": sorted(TAKES)},
            "release": {"type": "str"},
            "archive": {"type": "path"},
            "sha256": {"type": "str"},
            "config": {"type": "str", "no_log": True},
            "try": {"type": "str", "choices": ["import", "health"]},
            "holder": {"type": "str"},
            "force": {"type": "bool", "default": False},
            "keep": {"type": "int"},
            "seconds": {"type": "int"},
            "mode": {"type": "str", "choices": ["on", "off"]},
            "page": {"type": "path"},
            "max_errors": {"type": "float"},
            "max_slower": {"type": "float"},
            "min_requests": {"type": "int"},
            "purge": {"type": "bool", "default": False},
            "drift": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    installed = os.path.exists(FLASKCTL)
    wrong = problem(module.params, installed or not module.check_mode)
    if wrong:
        module.fail_json(msg=f"{wrong}.")
    if not installed:
        answer = without_flaskctl(module.params, module.check_mode)
        if answer is None:
            module.fail_json(
                msg=f"{FLASKCTL} is not on this host. The role flaskfleet.web.flask_gunicorn_nginx installs it:"
                " run site.yml."
            )
        else:
            module.exit_json(**answer)
    code, out, err = module.run_command(
        [FLASKCTL, *arguments(module.params, module.check_mode)],
        data=module.params["config"],
        binary_data=True,  # no line break added to the JSON text
        environ_update={"LC_ALL": "C.UTF-8"},
        handle_exceptions=True,
    )
    result = understood(code, out, err)
    for warning in result.pop("warnings", []):
        module.warn(warning)
    prepared = difference(module.params["app"], result.pop("diff", None))
    if prepared:
        result["diff"] = {"prepared": prepared}
    if result.pop("failed", False):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()

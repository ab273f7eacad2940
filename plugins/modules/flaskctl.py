#!/usr/bin/python
# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The documentation of `flaskctl`, which is an action: plugins/action/flaskctl.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: flaskctl
short_description: Stage, activate, roll back and remove releases of an app on a host
version_added: 0.1.0
description:
  - Runs C(/usr/local/bin/flaskctl), the release engine that the role C(flaskfleet.web.flask_gunicorn_nginx) installs,
    and returns its answer. It is an action plugin, and the host is sent nothing but the command.
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
      - V(certificate) fetches a certificate where one is due, checks it, and has nginx take it.
      - V(lock) acquires the rollout lock of the app for O(holder), so that no other rollout can begin there, and
        V(unlock) ends it.
    type: str
    required: true
    choices: [status, stage, activate, rollback, verify, prune, remove, lock, unlock, bake, drain, undrain,
      maintenance, certificate, restart]
  release:
    description:
      - The id of a release, or the beginning of it. Required with O(command=activate); O(command=rollback) without it
        goes to the previous good release, O(command=verify) without it asks for the current one.
    type: str
  src:
    description:
      - The path of the archive on the control node. With O(command=stage) and O(sha256), a host that has not the
        release is sent it. A small one goes along with the question.
      - With O(command=maintenance) and O(mode=on), the path of a page on the control node, HTML.
    type: path
  archive:
    description:
      - The path of the archive on the host. For O(command=stage); without it and O(sha256) the current release is
        staged again, which mends it.
    type: str
  signing_key:
    description:
      - The key on the control node that signs what is sent, or its public half, where an agent has it. For
        O(command=stage).
    type: path
  signature:
    description:
      - The signature of the archive, or the path on the host of a file that holds it. O(signing_key) makes it.
    type: str
  wheels_signature:
    description:
      - That of O(wheels).
    type: str
  wheels:
    description:
      - The path on the host of the wheels that an earlier call has asked for. For O(command=stage), which with O(src)
        sends and names them by itself.
    type: str
  wheels_sha256:
    description:
      - The SHA-256 of O(wheels).
    type: str
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
      - Each of them but V(unlock) acquires the rollout lock or gives a sign of life, and fails with RV(rc) 75 where
        another rollout has it; V(stage) only where the release is not the current one. With C(takes_over) in the
        object, the lock of the rollout with that id passes to this one.
    type: str
  force:
    description:
      - With O(command=unlock), end the lock of whatever rollout has it.
    type: bool
    default: false
  temporary:
    description:
      - With O(command=certificate), fetch none. A site that has none gets one to start with.
    type: bool
    default: false
  account:
    description:
      - With O(command=certificate), C(key_id) and C(hmac_key) by which the directory knows whose account it is, JSON.
        It goes to flaskctl through standard input, and is kept on the host in a file that only root may read.
    type: str
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
      - With O(command=maintenance) and O(mode=on), a file on the host that holds the page. Without it and O(src) a
        plain one.
    type: str
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
        passes and says so; with fewer before, without waiting for those after.
    type: int
  drift:
    description:
      - With O(command=status), compare each file of the current release with what was deployed. Without it only the
        configuration files are.
    type: bool
    default: false
  traffic:
    description:
      - With O(command=status), tell what the app had to do before its last activation, and since.
    type: bool
    default: false
  keep:
    description:
      - How many releases stay, all counted. For O(command=prune), and for O(command=unlock), which prunes with it
        before the lock ends.
    type: int
  purge:
    description:
      - With O(command=remove), remove the data of the app in C(/var/lib) and what nginx logged of it too.
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
  description: Whether the host has to be sent the archive, where it was not. It is no failure.
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
traffic:
  description:
    - The requests that the app had in each step of some seconds, and how many of them failed, from five minutes before
      the last activation to five minutes after it; and when that was, in seconds of the epoch.
  returned: O(command=status) with O(traffic)
  type: dict
certificate_self_signed:
  description: Whether nobody else has signed the certificate, none without TLS.
  returned: O(command=status)
  type: bool
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
  description: Which rollout has the lock of the app, since when, and when it gave its last sign of life; or none.
  returned: O(command=status), O(command=stage), O(command=activate), O(command=lock), O(command=unlock)
  type: dict
beyond:
  description: The releases that stay beside those that O(keep) asks for, each with the reason.
  returned: O(command=prune), and O(command=unlock) with O(keep)
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

# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Ask a host in one round trip what would take several tasks to find out.

A program that its action (plugins/action/host.py) sends to the host: a JSON object in, one out, Python 3.9.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: host
short_description: Tell what a host is and has
version_added: 0.1.0
description:
  - Tells which distribution a host runs, how some packages, users and services stand on it, and what its nginx can do.
    It changes nothing.
  - It also tries a sandbox for nginx before that is armed, in the state that nginx will have at its next start.
  - Tasks that would find nothing to do can then be skipped, each of which starts Python on the host, loads the package
    lists or asks systemd.
attributes:
  check_mode:
    description: Can run in C(check_mode) and return changed status prediction without modifying target.
    support: full
  diff_mode:
    description: Returns what has changed or would change in C(diff) mode.
    support: none
  idempotent:
    description: A second run with the same input changes nothing.
    support: full
extends_documentation_fragment: flaskfleet.web.site
options:
  packages:
    description:
      - Names of Debian packages.
    type: list
    elements: str
    default: []
  users:
    description:
      - Names of users.
    type: list
    elements: str
    default: []
  services:
    description:
      - Names of systemd units, such as V(nginx.service).
    type: list
    elements: str
    default: []
  schedules:
    description:
      - Times as C(OnCalendar) of a systemd timer has them. RV(unreadable_schedules) tells which this host cannot read.
    type: list
    elements: str
    default: []
  app:
    description:
      - The name of an app. RV(foreign) tells what stands under it and is not on the record of what the role made, a
        user, a group and units among it.
    type: str
    default: ""
  claim:
    description:
      - The file whose entry in the record says that the role has begun to make the app here.
    type: str
    default: ""
  paths:
    description:
      - The files that the role would make for the app, and for all apps of a host.
    type: list
    elements: str
    default: []
  directories:
    description:
      - The directories that the role would make for the app.
    type: list
    elements: str
    default: []
  launcher:
    description:
      - The path of flaskctl. RV(engine) tells which version it starts.
    type: str
    default: ""
  current:
    description:
      - The link to the release of the app that serves. RV(released) tells whether there is one, RV(current) which.
    type: str
    default: ""
  port:
    description:
      - The port that the app is to listen on. RV(holders) tells who has it.
    type: int
    default: 0
  edits:
    description:
      - Files of others in which the role changes lines.
    type: list
    elements: str
    default: []
  tree:
    description:
      - The directory below which the role makes files for all apps of a host.
    type: str
    default: ""
  units:
    description:
      - The path of the app's units, without their suffix.
    type: str
    default: ""
  nginx_sandbox:
    description:
      - A drop-in of C(nginx.service) that is to be tried. A short-lived unit with the settings that nginx will have at
        its next start runs C(nginx -t), and looks whether what the configuration of all sites names can be read,
        written and reached there as it can be now.
      - What was found is kept until the next boot, so that nothing is started where nothing has changed.
    type: dict
    suboptions:
      path:
        description:
          - Where the drop-in is, or is to be.
        type: str
        required: true
      content:
        description:
          - What it is to hold. Where this is empty, no sandbox is wanted.
        type: str
        required: true
      site:
        description:
          - Directives of nginx that are to come with a site of one's own, by name, such as C(ssl_certificate).
        type: dict
        default: {}
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Ask the host what it is
  flaskfleet.web.host:
    packages: [nginx, python3-venv]
    users: [hello]
    services: [nginx.service]
  register: __host

- name: Install nginx
  ansible.builtin.apt:
    name: nginx
  when: __host.missing_packages | length > 0
"""

RETURN = r"""
distribution:
  description: The name of the distribution with its version, as people read it.
  returned: always
  type: str
  sample: Debian GNU/Linux 12 (bookworm)
debian:
  description: Whether it is Debian or made from it.
  returned: always
  type: bool
systemd:
  description: Whether systemd is PID 1.
  returned: always
  type: bool
missing_packages:
  description: The packages that are not installed.
  returned: always
  type: list
  elements: str
users:
  description: For each user that exists its home directory and its shell.
  returned: always
  type: dict
  sample: {hello: {home: /nonexistent, shell: /usr/sbin/nologin}}
services:
  description: For each of the services that were asked for, whether it runs and whether it starts at boot.
  returned: always
  type: dict
  sample: {nginx.service: {active: true, enabled: true}}
released:
  description: Whether a release of the app serves, or did.
  returned: always
  type: bool
holders:
  description: Who listens on the ports that the app and nginx need. Where nginx does not run, on those of its other
    sites too.
  returned: always
  type: list
  elements: dict
  sample: [{port: 80, address: 0.0.0.0, process: apache2, pid: 4711, unit: apache2.service}]
nginx_site:
  description: Where the text of the site goes (C(file)) and where nginx reads it (C(read)), what else has to be there
    for it (C(files)), which other sites have its names (C(clashes)), what nginx says of that (C(said)), the ports of
    all sites (C(listens)), the server for all other names (C(catch_all)), the group of its workers (C(group)), the
    default site that is to go aside (C(aside)), and what is in its way (C(problems)).
  returned: always
  type: dict
listening:
  description: The TCP ports on which something listens.
  returned: always
  type: list
  elements: int
nginx:
  description: The version of nginx, or none.
  returned: always
  type: str
  sample: 1.22.1
openssl:
  description: The version of OpenSSL that nginx runs with, or none.
  returned: always
  type: str
  sample: 3.0.17
ipv6:
  description: Whether the host has IPv6.
  returned: always
  type: bool
unreadable_schedules:
  description: Which of the schedules systemd cannot read.
  returned: always
  type: list
  elements: str
noexec:
  description: Where the file system is mounted that releases would be on, if no program may be run there.
  returned: always
  type: str
  sample: /srv
foreign:
  description: What stands under the app's name and was not made by the role, one thing an entry, as people read it.
  returned: always
  type: list
  elements: str
  sample: ["user shop (uid 1001, home /home/shop, shell /bin/bash)", "/srv/shop"]
engine:
  description: The version of the flaskctl that is installed, a hash of its files; empty where it is not whole.
  returned: always
  type: str
  sample: 1f0a3b5c7d9e
current:
  description: The name of what O(current) links to, or none.
  returned: always
  type: str
  sample: 4f0c1d2e3a4b
altered:
  description: What is on the record of what the role made, or of the current release and made from its configuration,
    and is not as it was left.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The path.
      type: str
    kind:
      description: What stands there now, V(file), V(link), V(absent) or V(other).
      type: str
    text:
      description: What it holds; none of a file that not everybody may read.
      type: str
    wrote:
      description: What was written, where that is known.
      type: str
    standing:
      description: Mode and owner of a file, in numbers.
      type: str
    release:
      description: Whether it is a file of the current release.
      type: bool
    words:
      description: What became of it.
      type: str
nginx_dropin:
  description: The text that the drop-in of O(nginx_sandbox) is to have. Where nginx would not start in it, or not
    serve a site, it is empty, and a warning names the paths. Where that cannot be told, it is what stands there.
  returned: always
  type: str
"""

import functools
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from ansible_collections.flaskfleet.web.plugins.module_utils.alterations import alterations, edits_undone
from ansible_collections.flaskfleet.web.plugins.module_utils.engine import whole
from ansible_collections.flaskfleet.web.plugins.module_utils.host_facts import (
    cat,
    installed,
    loaded,
    ports,
    read,
    release,
    standing,
    versions,
)
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_catch_all import written
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_sandbox import configuration, judge
from ansible_collections.flaskfleet.web.plugins.module_utils.ownership import foreign, recorded
from ansible_collections.flaskfleet.web.plugins.module_utils.port_holders import holders, listening
from ansible_collections.flaskfleet.web.plugins.module_utils.site_answers import Nginx
from ansible_collections.flaskfleet.web.plugins.module_utils.site_answers import answers as site_answers

OS_RELEASE = "/etc/os-release"
ROOTS_PATH = ":/usr/sbin:/sbin"  # su leaves a PATH without it
NGINX = "nginx.service"
SYSTEMD = "/run/systemd/system"  # systemd's own test: sd_booted(3)
# of each service, in one question: its state, what it listens on, its files
SHOWN = "Id,Names,ActiveState,UnitFileState,LoadState,Listen,FragmentPath,DropInPaths"


def accounts(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return home and shell of each user that exists."""
    found = {}
    for name in names:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        found[name] = {"home": user.pw_dir, "shell": user.pw_shell}
    return found


def ask(argv: Sequence[str]) -> str:
    """Return what a command says; it may fail in part, and not be there at all."""
    environment = {**os.environ, "PATH": os.environ.get("PATH", "/usr/bin") + ROOTS_PATH}
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment)
    except OSError:
        return ""
    return (done.stdout + done.stderr).decode("utf-8", "replace")


def noexec(path: str) -> str:
    """Return where the file system is mounted on which a path is, or would be, if nothing may be run there."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    path = os.path.realpath(path)
    if not os.statvfs(path).f_flag & os.ST_NOEXEC:
        return ""
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def linked(path: str) -> str | None:
    """Return the name of the directory that a link leads to, if it is there."""
    return os.path.basename(os.readlink(path)) if os.path.islink(path) and os.path.isdir(path) else None


def readable(when: str) -> bool:
    """Return whether systemd can read a time; where there is no systemd-analyze, whoever starts the timer hears."""
    try:
        return (
            subprocess.run(["systemd-analyze", "calendar", "--", when], capture_output=True, check=False).returncode
            == 0
        )
    except OSError:
        return True


def differences(params: dict[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """Return what somebody has changed of what the role made, and warnings about what is lost with none of it."""
    record = recorded() if params["app"] else {}
    found = alterations(record, params["paths"], params["tree"], params["current"], params["units"])
    told = [f"{item['path']} was deleted: a release puts it back" for item in found if item["kind"] == "absent"]
    for path, lines in edits_undone(record, params["edits"]):
        what = ", ".join(f"`{line.strip()}`" for line in lines)
        told.append(
            f"somebody has changed {what} in {path}, which flask_gunicorn_nginx had set. It stays as it is;"
            " -e flask_gunicorn_nginx_overwrite=true sets it again"
        )
    return found, told


def answer(params: dict[str, Any], check: bool) -> dict[str, Any]:
    """Return all that was asked."""
    packages, users, services = (params[name] for name in ("packages", "users", "services"))
    said = release(read(OS_RELEASE))
    query = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status} ${Provides}\n"]
    shown = ask(["systemctl", "show", f"--property={SHOWN}", *services]) if services else ""
    units = standing(services, shown)
    built = ask(["nginx", "-V"])
    dump = configuration(built)
    nginx = Nginx(built, dump, cat(shown, NGINX), units.get(NGINX, {}).get("active", False))
    dropin, warnings = judge(params["nginx_sandbox"], built, dump, nginx.unit, check)
    sockets = listening()
    who = functools.partial(holders, tables=sockets, shown=shown, ask=ask)
    site, held, said_of_site = site_answers(params, nginx, who, ask)
    warnings += said_of_site
    have = installed(ask(query), bool(versions(built)["nginx"]) and NGINX in loaded(shown))
    app = [params[name] for name in ("app", "claim")]
    paths = [*params["paths"], *(written(site) if site else [])]
    changed, told = differences({**params, "paths": paths})
    warnings += told
    return {
        "changed": False,
        "distribution": said.get("PRETTY_NAME") or said.get("ID") or "an unknown system",
        "debian": "debian" in [said.get("ID"), *said.get("ID_LIKE", "").split()],
        "systemd": os.path.isdir(SYSTEMD),
        "missing_packages": [name for name in packages if name not in have],
        "users": accounts(users),
        "services": units,
        "released": os.path.lexists(params["current"]),
        "listening": sorted(set().union(*map(ports, sockets))),
        "holders": held,
        "nginx_site": site,
        **versions(built),
        "ipv6": bool(read("/proc/net/if_inet6")),
        "unreadable_schedules": [when for when in params["schedules"] if not readable(when)],
        "engine": whole(params["launcher"]) if params["launcher"] else "",
        "current": linked(params["current"]),
        "noexec": noexec(params["current"]) if params["current"] else "",
        "foreign": foreign(*app, paths, params["directories"], ask) if params["app"] else [],
        "altered": changed,
        "nginx_dropin": dropin,
        **({"warnings": warnings} if warnings else {}),
    }


def main() -> None:
    """Run on the host."""
    given = json.load(sys.stdin)
    json.dump(answer(given["params"], given["check"]), sys.stdout)


if __name__ == "__main__":
    main()

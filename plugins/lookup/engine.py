# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The files of flaskctl, the release engine, as they are to stand on a host."""

from __future__ import annotations

DOCUMENTATION = r"""
name: engine
short_description: The files of flaskctl
version_added: 0.1.0
author: Flask Fleet contributors (@flaskfleet)
description:
  - Returns the files of the package C(flaskctl) as entries of the module M(flaskfleet.web.config_files), in a directory
    that is named by their content, and last the launcher that names this directory.
  - So an update is one file that changes, and a flaskctl that runs meanwhile never mixes two versions.
  - There are none where the host has this version already, whole.
options:
  _terms:
    description:
      - The path of the launcher, the directory below which each version has one of its own, and the version that the
        host has, RV(flaskfleet.web.host#module:engine).
    type: list
    elements: str
    required: true
"""

EXAMPLES = r"""
- name: Install flaskctl
  flaskfleet.web.config_files:
    files: "{{ query('flaskfleet.web.engine', '/usr/local/bin/flaskctl', '/usr/local/lib/flaskctl', __host.engine) }}"
"""

RETURN = r"""
_raw:
  description: Dictionaries with path, content and mode.
  type: list
  elements: dict
"""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible_collections.flaskfleet.web.plugins.module_utils.engine import DIRECTORY, version

PACKAGE = Path(__file__).parents[2] / "roles" / "flask_gunicorn_nginx" / "files" / "flaskctl"
# The umask is for the byte code, which Python writes when root calls it first: everybody is to read that.
LAUNCHER = """\
#!/usr/bin/python3 -IS
import os
import sys

os.umask(0o022)
sys.path.insert(0, "{directory}")
from flaskctl.cli import run

sys.exit(run())
"""


@functools.lru_cache
def rooms(package: Path = PACKAGE) -> Mapping[str, str]:
    """Return the text of each file of the package by its name."""
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(package.glob("*.py"))}


def entries(launcher: str, engines: str, files: Mapping[str, str], has: str = "") -> list[dict[str, str]]:
    """Return the files, the launcher last: until it is there, the version before is whole and in use."""
    wanted = version(files, LAUNCHER)
    if has == wanted:
        return []
    directory = f"{engines}/{wanted}"
    found = [{"path": f"{directory}/flaskctl/{name}", "content": text, "mode": "0644"} for name, text in files.items()]
    return [*found, {"path": launcher, "content": LAUNCHER.replace(DIRECTORY, directory), "mode": "0755"}]


class LookupModule(LookupBase):  # type: ignore[misc]
    """The lookup."""

    def run(self, terms: Sequence[str], variables: Any = None, **kwargs: Any) -> list[dict[str, str]]:
        """Return the entries."""
        if len(terms) != 3:
            raise AnsibleError(
                "engine wants the path of the launcher, the directory of the versions, what the host has"
            )
        launcher, engines, has = terms
        return entries(launcher, engines, rooms(), has)

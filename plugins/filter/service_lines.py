# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What the settings of a service say of the paths that its app writes to: nothing runs from there."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ansible_collections.flaskfleet.web.plugins.plugin_utils.statsd import address

DOCUMENTATION = r"""
name: service_lines
short_description: Write the settings of a service as lines of its unit
version_added: 0.1.0
description:
  - Turns the variable C(flask_gunicorn_nginx_service_settings) into lines of a unit. Before them is the C(NoExecPaths)
    of all that the app may write, by the role or by these settings, less what they open, and the C(IPAddressAllow) of
    the address to which Gunicorn sends its figures.
  - A path in C(ExecPaths) that nothing has shut is left out, for systemd takes such a path out of the read-only file
    system.
positional: name, statsd_host
options:
  _input:
    description: The settings, by systemd's names.
    type: dict
    required: true
  name:
    description: The name of the app.
    type: str
    required: true
  statsd_host:
    description: Where Gunicorn sends its figures, as its setting of that name has it.
    type: str
    default: ""
author:
  - Flask Fleet contributors (@flaskfleet)
"""

EXAMPLES = r"""
- name: Show what the unit of an app says that writes to a directory of its own
  ansible.builtin.debug:
    msg: "{{ {'ReadWritePaths': '/srv/media'} | flaskfleet.web.service_lines('shop') }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

# where systemd makes the directories that are named in a setting
DIRECTORIES = {
    "CacheDirectory": "/var/cache",
    "ConfigurationDirectory": "/etc",
    "LogsDirectory": "/var/log",
    "RuntimeDirectory": "/run",
}


def words(value: str) -> list[str]:
    """Return the words of a value, as systemd reads them."""
    lexer = shlex.shlex(value, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    try:
        return list(lexer)
    except ValueError:  # a quote without an end: systemd takes nothing of it
        return []


def path_of(word: str) -> str:
    """Return the path that a word names, without what may stand before it."""
    return word.lstrip("-+").rstrip("/") or "/"


def made_writable(key: str, word: str) -> str:
    """Return which path a word of a setting lets the app write to; none where it does not."""
    if key in DIRECTORIES:
        return f"{DIRECTORIES[key]}/{word.partition(':')[0].strip('/')}"
    fields = path_of(word).split(":")
    if key == "BindPaths":
        return path_of(fields[1] if len(fields) > 1 and fields[1] else fields[0])
    return path_of(fields[0]) if key in ("ReadWritePaths", "TemporaryFileSystem") else ""


def below(path: str, others: list[str]) -> bool:
    return any(path == other or path.startswith(f"{other.rstrip('/')}/") for other in others)


def quoted(path: str) -> str:
    return path if not set(path) & set(" \"'\\") else '"' + path.replace("\\", "\\\\").replace('"', '\\"') + '"'


def service_lines(settings: Mapping[str, Any], name: str, statsd_host: Any = "") -> list[str]:
    """Return the lines; those of the settings come last, so that they count."""
    pairs = [
        (key, str(value))
        for key, held in sorted(settings.items())
        for value in (held if isinstance(held, (list, tuple)) else [held])
    ]
    opened = [path_of(word) for key, value in pairs if key == "ExecPaths" for word in words(value)]
    shut = {f"/var/lib/{name}": "", "/tmp": "", "/var/tmp": "", "/dev/shm": "-"}  # nosec B108: of the unit
    found = [made_writable(key, word) for key, value in pairs for word in words(value)]
    shut.update({path: "-" for path in found if path not in ("", "/", *shut)})
    # of a path that is both, systemd takes NoExecPaths
    left = [quoted(may_lack + path) for path, may_lack in shut.items() if not below(path, opened)]
    lines = [f"NoExecPaths={' '.join(left)}"] if left else []
    statsd = address(statsd_host)
    lines += [f"IPAddressAllow={statsd}"] if statsd else []
    own = [path_of(word) for key, value in pairs if key == "NoExecPaths" for word in words(value)]
    for key, value in pairs:
        if key == "ExecPaths" and value:
            value = " ".join(quoted(word) for word in words(value) if below(path_of(word), [*shut, *own]))
            lines += [f"{key}={value}"] if value else []
        else:
            lines.append(f"{key}={value}")
    return lines


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """Return the filter by its name."""
        return {"service_lines": service_lines}

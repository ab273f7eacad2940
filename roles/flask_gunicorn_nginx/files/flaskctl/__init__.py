"""flaskctl: the release engine of Flask Fleet, on the host.

A release (code, dependencies, configuration) is immutable; systemd holds the socket that two releases can share. So a
release is staged beside the one that serves, started on the same socket, proves itself there, and only then becomes
`current`; the old one is drained. A rollback is the same with an older id. This is the only program that moves traffic.

How to read it: `switch` is the heart; `plan` decides what it does, `host` does it, `app` is what the commands share.
Each room says in its first sentence what may stand in it. Standard library only, Python 3.9 and newer.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]
VERSION = "0.1.0"  # that of the collection, galaxy.yml

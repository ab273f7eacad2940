"""The versions of flaskctl on this host: which of them go. The role puts them there."""

from __future__ import annotations

import re

from flaskctl.app import App
from flaskctl.files import erase, read_text
from flaskctl.layout import ENGINES
from flaskctl.record import recorded


def prune_engines(app: App) -> None:
    """Remove each version that the launcher does not name. One that runs has read all of itself when it started."""
    named = re.search(rf'"{ENGINES}/([0-9a-f]+)"', read_text(app.launcher) or "")
    old = [path for path in app.engines_dir.glob("*") if named and path.name != named.group(1)]
    for path in old:
        app.host.checkpoint("prune-engine")
        erase(path)
    if old:
        forget_engines(app, [f"{ENGINES}/{path.name}" for path in old])


def forget_engines(app: App, directories: list[str]) -> None:
    """Take these directories and what stands in them out of the record."""
    with recorded(app) as record:
        for name in list(record):
            if f"{name}/".startswith(tuple(f"{directory}/" for directory in directories)):
                del record[name]

"""The record of what the role made on this host: what is not in it is not ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from flaskctl.app import App
from flaskctl.files import read_json, write_json
from flaskctl.lock import LOCK_SECONDS, open_lock, wait_for_lock


@contextlib.contextmanager
def recorded(app: App) -> Iterator[dict[str, str]]:
    """Give the record to change; the playbook's tasks wait meanwhile, as this does for them."""
    with open_lock(app.record_lock_file) as file:
        wait_for_lock(app, file, LOCK_SECONDS, "a playbook changes files of this host")
        before = read_json(app.record_file) or {}
        after = dict(before)
        yield after
        if after != before:
            write_json(app.record_file, after)


def on_record(app: App) -> bool:
    """Return whether the role made this app here: it noted the settings before it made anything else."""
    return recorded_name(app, app.settings_file) in (read_json(app.record_file) or {})


def recorded_name(app: App, path: Path) -> str:
    return f"/{path.relative_to(app.host.root)}"


def record_account(app: App) -> None:
    """Note the app's user, where it is the one that the role made."""
    account, who = app.host.account(app.name), f"user {app.name}"
    if app.dry or not account or not account.as_made() or not on_record(app):
        return
    with recorded(app) as record:
        record[who] = str(account)

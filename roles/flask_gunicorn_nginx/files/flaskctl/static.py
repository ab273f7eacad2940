"""The links through which nginx finds the static files of the releases before. Nothing else is done here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from flaskctl.app import App
from flaskctl.files import erase, link
from flaskctl.layout import RELEASE_ID


def have_served(app: App) -> list[str]:
    """Return the releases that are here and have served users, the last one first."""
    moved = [str(event.get("release")) for event in app.moves()]
    # by the links too: an audit log may be lost
    known = [*moved, *filter(None, [app.linked("previous"), app.linked("current")])]
    return [name for name in dict.fromkeys(reversed(known)) if RELEASE_ID.match(name) and app.manifest(name)]


def link_kept(app: App) -> None:
    """Number the releases that have served: a page loaded from one of them asks for the files that it came with.

    The one that serves is among them before another takes its place.
    """
    wanted = {str(number): f"../releases/{name}" for number, name in enumerate(have_served(app), 1)}
    found: dict[str, str] = {}
    with contextlib.suppress(OSError):
        found = {path.name: os.readlink(path) for path in app.kept_link.iterdir()}
    if found == wanted:
        return
    try:
        replace_all(app, wanted)
    except OSError as error:  # a rollback must go on a full disk too
        app.warnings.append(f"a page of an older release may miss a static file: {error.strerror}")


def replace_all(app: App, wanted: Mapping[str, str]) -> None:
    """Put other links in place, all in one step: no file is missing in between."""
    stands = os.readlink(app.kept_link) if app.kept_link.is_symlink() else ""
    beside = next(path for path in app.kept_dirs if path.name != stands)
    erase(beside)
    beside.mkdir(mode=0o751)  # others go through it: nginx
    for number, target in wanted.items():
        os.symlink(target, beside / number)
    if not stands:
        erase(app.kept_link)
    link(app.kept_link, beside.name)
    for path in app.kept_dirs:
        if path != beside:
            erase(path)

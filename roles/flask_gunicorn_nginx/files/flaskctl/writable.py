"""Directories that an app writes to beside its code: they stand with its data, and each release has a link to them."""

from __future__ import annotations

import os
from pathlib import Path

from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import erase
from flaskctl.layout import data_path
from flaskctl.release import Config


def missing_writable(app: App, config: Config) -> list[str]:
    """Return which of these directories do not stand where the links of a release lead."""
    kept = [data_path(app.name, name) for name in config.writable]
    return [path for path in kept if not app.at(path).is_dir()]


def link_writable(app: App, code: Path, config: Config) -> None:
    """Put a link in the place of each, and what the source holds there into a directory that is not there yet."""
    for name in config.writable:
        place, kept = code / name, data_path(app.name, name)
        linked = place.is_symlink() and os.readlink(place) == kept
        if place.is_symlink() and not linked or place.exists() and not place.is_dir():
            what = f"flask_gunicorn_nginx_writable names {name}, which is no directory in the source"
            raise Refused(what, remedy="name the directory that the app writes to")
        # of a src layout a directory is named as in the package, too
        seeds = (path for path in (place, code / "src" / name) if path.is_dir() and not path.is_symlink())
        make_directory(app, app.at(kept), None if linked else next(seeds, None))
        if not linked:
            erase(place)
            place.parent.mkdir(parents=True, exist_ok=True)
            os.symlink(kept, place)


def link_writable_of_package(app: App, site: Path, config: Config) -> None:
    """Put the same links into the project as it is installed, where that has the place: an instance folder, say."""
    for name in config.writable:
        place, kept = site / name.removeprefix("src/"), data_path(app.name, name)
        linked = place.is_symlink() and os.readlink(place) == kept
        if place.parent.is_dir() and not linked:
            erase(place)
            os.symlink(kept, place)


def make_directory(app: App, kept: Path, seed: Path | None) -> None:
    """Make a directory of the app's data, with what `seed` holds, where there is none.

    Its user does it: the directory above belongs to the app, whose links there could lead root anywhere.
    """
    if kept.is_dir():  # or a link to one, on a larger disk for example
        return
    if os.path.lexists(kept):
        raise Refused(f"{kept} is no directory, and {app.name} is to write there", remedy=f"move {kept} away")
    account = app.host.account(app.name)
    if account is None:
        raise Refused(f"there is no user {app.name} on this host", remedy="deploy with the role, which makes it")
    data = app.data_dirs(app.name)[0]
    if not data.exists():
        app.host.make_home(data, account)
    beside = str(kept.with_name(f".{kept.name}.new"))
    fill = ["cp", "-RT", "--", str(seed), beside] if seed else ["mkdir", "--", beside]
    whole = ["mv", "-T", "--", beside, str(kept)]
    for argv in (["mkdir", "-p", "--", str(kept.parent)], ["rm", "-rf", "--", beside], fill, whole):
        done = app.host.run_as(account, argv)
        if done.rc:
            raise Refused(f"{kept} cannot be made for {app.name} to write to", done.err.strip(), f"look at {data}")

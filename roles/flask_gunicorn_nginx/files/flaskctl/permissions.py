"""Who may read what stands of an app: root and its own user; nginx its static files; other users and apps nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from flaskctl.app import App

LOG_READERS = "adm"  # as logrotate has nginx's logs


def closed_mode(mode: int, leads: bool) -> int:
    """Return the mode of what other users may not read; one that leads to static files they may go through, blindly."""
    return (mode & 0o751) | 0o051 if leads else mode & 0o750


def close(path: Path, gid: int, public: Collection[Path]) -> None:
    """Have a file or tree readable by its owner and a group alone, and what is in `public` by everybody.

    Where nothing in it is public a directory is closed itself: what is below needs no look.
    """
    now = os.lstat(path)
    if stat.S_ISLNK(now.st_mode):
        return
    if path in public:
        open_to_all(path)
        return
    leads = any(path in each.parents for each in public)
    restrict(path, gid, closed_mode(stat.S_IMODE(now.st_mode), leads))
    for entry in sorted(os.listdir(path)) if leads else ():
        close(path / entry, gid, public)


def restrict(path: Path, gid: int, mode: int, dry: bool = False) -> bool:
    """Give a path its mode, and its group where that may do something with it; return whether it had others.

    The group comes first: at no time does a process of the app lose what it may read.
    """
    now = os.lstat(path)
    group = gid if mode & 0o070 else now.st_gid
    if (stat.S_IMODE(now.st_mode), now.st_gid) == (mode, group):
        return False
    if not dry:
        os.chown(path, -1, group)
        os.chmod(path, mode)
    return True


def open_to_all(path: Path) -> None:
    """Let everybody read a directory of static files again that was closed while no release had it."""
    if path.stat().st_mode & 0o005 == 0o005:
        return
    for directory, folders, files in os.walk(path):
        for each in [Path(directory), *(Path(directory, name) for name in [*folders, *files])]:
            if not each.is_symlink():
                mode = stat.S_IMODE(each.stat().st_mode)
                each.chmod(mode | (mode & 0o500) >> 6)


def static_of(home: Path) -> list[Path]:
    """Return the link by which nginx finds the static files of a release, and the directory that it leads to.

    The link is named where there is none too: so each release is a passage, with every entry closed by itself.
    """
    link = home / "static"
    return [link, *([Path(os.path.realpath(link))] if link.is_dir() else [])]


def close_release(app: App, home: Path) -> None:
    """Close a release that is being made, before anybody finds it."""
    account, home = app.host.account(app.name), Path(os.path.realpath(home))
    if account:
        close(home, account.gid, static_of(home))


def close_what_was_open(app: App) -> list[str]:
    """Close what an older flaskctl has left open to all, in a dry run too in words; return what that is.

    The directory above all goes last: as long as it is open nobody has come to the end of this.
    """
    account, base = app.host.account(app.name), app.base
    opened = False
    if account and app.releases_dir.is_dir():
        opened = restrict(base, account.gid, passage(base), dry=True)
    if opened and not app.dry:
        close_app(app)
    found = [str(base)] if opened else []
    found += [f"nginx's logs of {app.name}"] if close_logs(app) else []
    return [f"closed {what} to the other users of this host" for what in found]


def close_app(app: App) -> None:
    """Close all that stands of the app; nginx goes through it to static files and to the page of a maintenance.

    What else somebody keeps beside the releases is theirs.
    """
    account = app.host.account(app.name)
    if account is None or not app.base.is_dir():
        return
    base = Path(os.path.realpath(app.base))
    public = [path for home in base.glob("releases/*") for path in static_of(home)]
    for path in [base / name for name in ("releases", "venvs") if (base / name).is_dir()]:
        close(path, account.gid, public)
    restrict(base, account.gid, passage(base))


def passage(path: Path) -> int:
    """Return the mode of a directory through which others may go."""
    return closed_mode(stat.S_IMODE(path.stat().st_mode), True)


def close_logs(app: App) -> bool:
    """Make nginx's logs of the app before nginx does, who would let everybody read them; True where some were open."""
    directory, gid = app.nginx_logs_dir, app.host.group(LOG_READERS)
    if not directory.is_dir() or gid is None:
        return False
    for path in app.live_logs() if not app.dry else ():
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        except FileExistsError:
            continue
        share(path, gid, 0o640)
    opened = [path for path in app.nginx_logs() if not path.is_symlink() and path.stat().st_mode & 0o027]
    for path in opened if not app.dry else ():
        share(path, gid, stat.S_IMODE(path.stat().st_mode) & 0o640)
    return bool(opened)


def share(path: Path, gid: int, mode: int) -> None:
    """Give a file a group and a mode; through its descriptor, because nginx's workers may write to the directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        os.fchown(descriptor, -1, gid)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)

"""Who may read what stands of an app: root and its own user; nginx its static files; other users and apps nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection
from pathlib import Path

from flaskctl.app import App

LOG_READERS = "adm"  # as logrotate has nginx's logs


def closed_mode(mode: int, passage: bool) -> int:
    """Return the mode of what other users may not read; a passage is a directory that they may go through, blindly."""
    return (mode & 0o751) | 0o051 if passage else mode & 0o750


def close(path: Path, gid: int, public: Collection[Path]) -> bool:
    """Have a file or tree readable by its owner and a group alone, and what is in `public` by everybody.

    Where nothing in it is public a directory is closed itself: what is below needs no look. Returns whether something
    changed. The group comes first: at no time does a process of the app lose what it may read.
    """
    now = os.lstat(path)
    if stat.S_ISLNK(now.st_mode) or path in public:
        return False
    passage = any(path in each.parents for each in public)
    mode = closed_mode(stat.S_IMODE(now.st_mode), passage)
    changed = False
    if mode & 0o070 and now.st_gid != gid:
        os.chown(path, -1, gid)
        changed = True
    if stat.S_IMODE(now.st_mode) != mode:
        os.chmod(path, mode)
        changed = True
    for entry in sorted(os.listdir(path)) if passage else ():
        changed = close(path / entry, gid, public) or changed
    return changed


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


def close_to_others(app: App) -> bool:
    """Close all that stands of the app, and nginx's logs of it; return whether something was open."""
    account = app.host.account(app.name)
    if account is None or not app.base.is_dir():
        return False
    base = Path(os.path.realpath(app.base))
    public = [path for home in base.glob("releases/*") for path in static_of(home)]
    # nginx looks there for static files and for the files of a maintenance; what else somebody keeps there is theirs
    changed = close_passage(base, account.gid)
    for name in ("releases", "venvs"):
        path = base / name
        if path.is_dir():
            # nothing is public before the first release with static files: nobody has a way in
            changed = close(path, account.gid, public) or changed
    return close_logs(app) or changed


def close_passage(path: Path, gid: int) -> bool:
    now = path.stat()
    wanted = closed_mode(stat.S_IMODE(now.st_mode), passage=True)
    if (stat.S_IMODE(now.st_mode), now.st_gid) == (wanted, gid):
        return False
    os.chown(path, -1, gid)
    os.chmod(path, wanted)
    return True


def close_logs(app: App) -> bool:
    """Make nginx's logs of the app before nginx does, who would let everybody read them; True where some were open."""
    directory, gid = app.nginx_logs_dir, app.host.group(LOG_READERS)
    if not directory.is_dir() or gid is None:
        return False
    for path in app.live_logs():
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))
        except FileExistsError:
            continue
        share(path, gid, 0o640)
    opened = [path for path in app.nginx_logs() if not path.is_symlink() and path.stat().st_mode & 0o027]
    for path in opened:
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

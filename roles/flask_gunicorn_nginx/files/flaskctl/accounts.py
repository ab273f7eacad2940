"""A user of this host, and whether it looks as the role makes one. Pure functions."""

from __future__ import annotations

from typing import NamedTuple

FIRST_PERSON = 1000  # uid: below are those of the system (UID_MIN in login.defs)


class Account(NamedTuple):
    """A user of this host."""

    uid: int
    gid: int
    home: str
    shell: str

    def as_made(self) -> bool:
        """Return whether it looks as the role makes it: a system user without home and shell."""
        return self.uid < FIRST_PERSON and self.home == "/nonexistent" and self.shell == "/usr/sbin/nologin"

    def __str__(self) -> str:
        return f"uid {self.uid}, gid {self.gid}"

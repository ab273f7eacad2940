"""How a command fails: what, the evidence, and what a person can do about it. Nothing else stands here."""

from __future__ import annotations


class Refused(Exception):
    """flaskctl will not, or could not: what, the evidence, and what a person can do about it."""

    code = 1

    def __init__(self, msg: str, detail: str = "", remedy: str = "") -> None:
        super().__init__(msg)
        self.msg, self.detail, self.remedy = msg, detail, remedy


class Usage(Refused):
    """The command line makes no sense."""

    code = 2


class Busy(Refused):
    """Another flaskctl holds the lock, or another rollout the rollout lock."""

    code = 75

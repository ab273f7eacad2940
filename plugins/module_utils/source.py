# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""The three forms in which a person names the code to release.

The filter that refuses bad settings and the module that packs the code must agree on what a source is, so the one
parser is here. Standard library only, and Python 3.9: Ansible copies this file to where the module runs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

# a URL's user and password: pip, git and curl print them back in their errors
_CREDENTIALS = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)(?P<user>[^\s/@:'\"]*)(?P<password>:[^\s/@'\"]*)?@")
# what Unicode assigns to nobody: systemd drops a line that holds one
NONCHARACTERS = "\ufdd0-\ufdef" + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
# What ends a line to systemd, pip or Python, is obeyed by a terminal, or is no text: no value on one line has any.
CONTROL = re.compile(f"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff{NONCHARACTERS}]")
_GIT_URL = re.compile(r"(https|http|ssh|git|file)://[^\s]+")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_./+-]*")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"
_REQUIREMENT = re.compile(
    rf"(?P<name>{_NAME})\s*(?:\[\s*{_NAME}(?:\s*,\s*{_NAME})*\s*\])?\s*"
    r"(?:(?P<version>(?:===|==|~=|!=|<=|>=|<|>)[^;@/]*)|@\s*(?P<url>[A-Za-z][A-Za-z0-9+.-]*://\S+))?"
    r"\s*(?:;\s*(?P<marker>.*))?"
)
_HASH = re.compile(r"\s--hash=[a-z0-9]+:[0-9a-f]+")

FORMS = (
    "Give a directory (an absolute path, or one that starts with ./), a git revision"
    " (git+https://HOST/PROJECT.git@REVISION) or a requirement (hello==1.2.0, and others after a space)."
)


class SourceError(ValueError):
    """The source cannot be used; the text says why and what to give instead."""


@dataclass(frozen=True)
class Source:
    """What was named: `kind` is directory, git or requirement; `location` a path, a URL, or lines of requirements."""

    kind: str
    location: str
    revision: str = ""
    subdirectory: str = ""
    pinned: bool = True


def mask(text: str) -> str:
    """Return `text` with the user and password of every URL in it replaced: it may go to a log."""

    def hidden(match: re.Match[str]) -> str:
        if match["password"] is None and match["scheme"].lower().endswith("ssh://"):
            return match[0]  # git@ is a login name that everybody knows, not a secret
        return f"{match['scheme']}***@"

    return _CREDENTIALS.sub(hidden, text)


def secrets_of(url: str) -> set[str]:
    """Return the passwords and tokens in a URL, except those too short to be searched for in a text."""
    found = _CREDENTIALS.match(url)
    if found is None:
        return set()
    parts = [found["password"] or ""] if found["password"] else [found["user"]]
    if found["scheme"].lower().endswith("ssh://"):
        parts = [found["password"] or ""]
    return {part.lstrip(":") for part in parts if len(part) > 6}


def without_credentials(url: str) -> str:
    """Return `url` without user and password: the identity of a repository, whoever reads it."""
    return _CREDENTIALS.sub(lambda match: match["scheme"], url)


def parse(text: str) -> Source:
    """Tell which of the three forms `text` has.

    A requirement never contains a slash outside of a URL after `@`, so a relative path needs one (`./app`,
    `files/app`). Raises SourceError with a message that names the remedy.
    """
    if not text.strip():
        raise SourceError(f"the source is empty. {FORMS}")
    if CONTROL.search(text):
        raise SourceError("the source contains a line break or another control character. " + FORMS)
    if text != text.strip():
        raise SourceError(f"{mask(text)!r} has a space at an end: remove it")
    if text.startswith("git+"):
        return _git(text)
    several = _several(text)
    if several:
        return several
    bare = _HASH.sub("", text)
    match = _REQUIREMENT.fullmatch(bare)
    if match:
        return Source("requirement", text, pinned=_pinned(match))
    if text.startswith("-"):
        raise SourceError(f"{mask(text)!r} looks like an option of pip. {FORMS}")
    if "://" in text:
        raise SourceError(f"{mask(text)!r} is a URL of a form that is not known here. {FORMS}")
    if "/" not in text and not text.startswith((".", "~")):
        raise SourceError(f"{text!r} is neither a path nor a requirement. {FORMS}")
    return Source("directory", text)


def _pinned(requirement: re.Match[str]) -> bool:
    return bool(requirement["url"]) or bool(re.match(r"={2,3}[^*,]+$", (requirement["version"] or "").strip()))


def _several(text: str) -> Source | None:
    """Return a source of more than one requirement, as pip's command line takes them: hello==1.2.0 gevent==25.9.1."""
    words = re.sub(r"\s+(?=--hash=)", "\0", text).split()
    found = [_REQUIREMENT.fullmatch(_HASH.sub("", word.replace("\0", " "))) for word in words]
    matches = [match for match in found if match]
    if len(words) < 2 or len(matches) < len(words) or not re.search(r"\w", matches[0]["version"] or ""):
        return None
    bare = [match["name"] for match in matches if not match["url"] and not re.search(r"\w", match["version"] or "")]
    if bare:
        raise SourceError(f"{mask(text)!r} names no version of {', '.join(bare)}: write {bare[0]}==VERSION")
    lines = [word.replace("\0", " ") for word in words]
    return Source("requirement", "\n".join(lines), pinned=all(map(_pinned, matches)))


def _git(text: str) -> Source:
    url, _hash, fragment = text[len("git+") :].partition("#")
    if not _GIT_URL.fullmatch(url):
        raise SourceError(
            f"{mask(text)!r} is not a git URL that is known here."
            " Write git+https://, git+ssh:// or git+file:// and then HOST/PROJECT.git@REVISION."
        )
    scheme, _sep, rest = url.partition("://")
    host, _slash, path = rest.partition("/")
    path, at, revision = path.rpartition("@")
    if not at:
        raise SourceError(
            f"{mask(text)!r} names no revision. Add @ and a tag, a branch or a commit after the repository,"
            " such as @v1.0."
        )
    if not _REVISION.fullmatch(revision) or ".." in revision:
        raise SourceError(f"{revision!r} is not a git revision. Give a tag, a branch or a commit after the last @.")
    subdirectory = ""
    if fragment:
        key, _equals, subdirectory = fragment.partition("=")
        if key != "subdirectory" or not subdirectory:
            raise SourceError(f"'#{fragment}' is not known. After # only subdirectory=PATH can stand.")
        subdirectory = subdirectory.rstrip("/")
        if subdirectory.startswith("/") or ".." in subdirectory.split("/"):
            raise SourceError(f"the subdirectory {subdirectory!r} leaves the repository. Give a path inside it.")
    return Source("git", f"{scheme}://{host}/{path}", revision, subdirectory)

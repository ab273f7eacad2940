"""Visitors of any app: each walks through the visits that a file names, over and over, and looks at each answer.

A visit is a request of a real page: `path`; `form` or `json` to send; `headers`; the `status` it is to have (200);
words that are to be there (`says`), or for which it is made again and again (`until`: a job is done); and what to
remember of it, a pattern with one group a name (`finds`: the token of a form). In what is sent `{NAME}` stands for
what was remembered, and `{unique}` for a word that each walk has of its own. Cookies are kept during a walk, so that
whoever logged in at the old release goes on with the new one.

    python3 -m tests.load.visitors VISITS.json 127.0.0.1 --host shop.test --users get=2,get-new=2
"""

from __future__ import annotations

import functools
import json
import re
import secrets
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.load.client import Answer, Connection, Crowd, Failed, main

Visit = dict[str, Any]

PATIENCE = 30.0  # seconds for which a visitor asks for the end of a job


class Walk:
    """One visitor on its way through the visits, with its cookies and what it remembers."""

    def __init__(self, visits: Sequence[Visit]) -> None:
        self.visits = visits
        self.begin()

    def begin(self) -> None:
        self.place = 0
        self.cookies: dict[str, str] = {}
        self.known = {"unique": secrets.token_hex(6)}
        self.since = 0.0

    async def step(self, connection: Connection) -> Answer:
        """The next visit; whoever met a failure begins anew."""
        visit = self.visits[self.place]
        try:
            answer = await self.visit(connection, visit)
            self.place += 0 if self.waits(visit, answer) else 1
        except Exception:
            self.begin()
            raise
        if self.place == len(self.visits):
            self.begin()
        return answer

    async def visit(self, connection: Connection, visit: Visit) -> Answer:
        sent, headers = self.request(visit)
        path = self.filled(visit["path"])
        answer = await connection.request("GET" if sent is None else "POST", path, [sent] if sent else [], headers)
        text = answer.body.decode("utf-8", "replace")
        if answer.status != visit.get("status", 200):
            raise Failed(f"status {answer.status}", f"{path}: {text[:200]!r}", answer)
        if visit.get("says", "") not in text:
            raise Failed("wrong body", f"{path} does not say {visit['says']!r}: {text[:200]!r}", answer)
        for name, pattern in visit.get("finds", {}).items():
            found = re.search(pattern, text)
            if not found:
                raise Failed("wrong body", f"{path} has no {name}: {text[:200]!r}", answer)
            self.known[name] = found[1]
        for cookie in filter(None, answer.headers.get("set-cookie", "").split("\n")):
            name, _, value = cookie.split(";")[0].partition("=")
            self.cookies[name.strip()] = value
        return answer

    def waits(self, visit: Visit, answer: Answer) -> bool:
        """Tell whether a visit is to be made again, for what it waits for is not there yet."""
        text, now = answer.body.decode("utf-8", "replace"), time.monotonic()
        if visit.get("until", "") in text:
            self.since = 0.0
            return False
        self.since = self.since or now
        if now - self.since > PATIENCE:
            raise Failed(
                "never done", f"{visit['path']} does not come to say {visit['until']!r}: {text[:200]!r}", answer
            )
        return True

    def request(self, visit: Visit) -> tuple[bytes | None, str]:
        """What a visit sends, None for one that only asks, and its headers."""
        headers = dict(visit.get("headers", {}))
        body = None
        if "form" in visit:
            body = urlencode({name: self.filled(value) for name, value in visit["form"].items()}).encode()
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        elif "json" in visit:
            body = self.filled(json.dumps(visit["json"])).encode()
            headers["Content-Type"] = "application/json"
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        return body, "".join(f"{name}: {value}\r\n" for name, value in headers.items())

    def filled(self, text: str) -> str:
        for name, value in self.known.items():
            text = text.replace(f"{{{name}}}", value)
        return text


class Visitors(Crowd):
    """A crowd whose users are visitors: `get` keeps its connection, `get-new` has a new one for each visit."""

    def __init__(self, visits: Sequence[Visit], *options: Any, **more: Any) -> None:
        super().__init__(*options, **more)
        self.visits = visits

    def begin(self, kind: str) -> Callable[[Connection], Awaitable[Answer]]:
        return Walk(self.visits).step


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], functools.partial(Visitors, json.loads(Path(sys.argv[1]).read_text()))))

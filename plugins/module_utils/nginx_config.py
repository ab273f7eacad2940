# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""What nginx's configuration says, as `nginx -T` prints it: its sites, which of them answers, and where it reads them.

Pure functions. Part of the program of flaskfleet.web.host, and by a link of flaskctl: Python 3.9, the standard library
alone.
"""

from __future__ import annotations

import functools
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

CONFIGURATION = "/etc/nginx"


class Directive(NamedTuple):
    """One directive of nginx. `context` names the blocks around it, each by its name and a number of its own."""

    name: str
    args: tuple[str, ...]
    file: str = ""
    context: tuple[tuple[str, int], ...] = ()


# the text

TOKEN = re.compile(
    r"""
    ^\#[ ]configuration[ ]file[ ](?P<file>[^\n]+):$  # nginx -T begins each file so
    | \#[^\n]*
    | (?P<mark>[;{}])
    | (?P<quoted>"(?:\\.|[^"\\])*" | '(?:\\.|[^'\\])*')
    | (?P<word>(?:\$\{ | \\. | [^\s;{])+)
    """,
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)
BRACE = re.compile(r"[{}]")


def after_block(text: str, position: int) -> int:
    """Return the end of a block of program text (Lua) that began before `position`; only its braces are known."""
    depth = 1
    for brace in BRACE.finditer(text, position):
        depth += 1 if brace[0] == "{" else -1
        if not depth:
            return brace.end()
    return len(text)


@functools.lru_cache(maxsize=2)
def directives(text: str) -> tuple[Directive, ...]:
    """Return what a configuration says, as `nginx -T` prints it. A host is asked several things of the same text."""
    return tuple(read_directives(text))


def read_directives(text: str) -> Iterator[Directive]:
    """Yield one directive after the other."""
    file, words, position, number = "", [], 0, 0
    context: list[tuple[str, int]] = []
    while token := TOKEN.search(text, position):
        position = token.end()
        if token["file"]:
            file = token["file"]
        elif token["quoted"] or token["word"]:
            word = token["word"] or token["quoted"][1:-1]
            words.append(re.sub(r"""\\([\s"'\\;{}])""", r"\1", word) if "\\" in word else word)
        elif token["mark"] == "}":
            del context[-1:]
            words = []
        elif token["mark"] and words:
            yield Directive(words[0], tuple(words[1:]), file, tuple(context))
            if token["mark"] == "{" and words[0].endswith("_by_lua_block"):
                position = after_block(text, position)
            elif token["mark"] == "{":
                number += 1
                context.append((words[0], number))
            words = []


# where it is read


def matches(pattern: str, path: str) -> bool:
    """Tell whether `include` with this pattern reads a file."""
    parts = os.path.normpath(os.path.join(CONFIGURATION, pattern)).split("/")
    names = path.split("/")
    hidden = any(name.startswith(".") for name in names)  # no pattern finds them
    return len(parts) == len(names) and not hidden and all(map(fnmatchcase, names, parts))


def blocks(every: Sequence[Directive], path: str, seen: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Return the names of the blocks around each `include` that reads a file; the first file is in none."""
    found = []
    for each in every:
        if each.name == "include" and each.args and each.file not in seen and matches(each.args[0], path):
            inner = tuple(name for name, _number in each.context)
            outer = blocks(every, each.file, (*seen, path)) or [()]
            found += [(*around, *inner) for around in outer]
    return found


def is_read(every: Sequence[Directive], path: str) -> bool:
    """Tell whether nginx reads a site at this path."""
    return ("http",) in blocks(every, path)


# sites


class Listen(NamedTuple):
    """An address that a site listens on; "*" and "::" are any."""

    address: str
    port: int
    default: bool = False
    both: bool = False  # "::" takes IPv4 too


class Server(NamedTuple):
    """A site."""

    file: str
    names: tuple[str, ...]
    listens: tuple[Listen, ...]

    def __str__(self) -> str:
        """Return it as people read it."""
        listens = ", ".join(f"{':'.join(filter(None, [at(each.address), str(each.port)]))}" for each in self.listens)
        return f"{' '.join(self.names) or 'a site without a name'} on {listens} ({self.file})"


PORT = re.compile(r"(?:(?P<address>\[[^]]+\]|[^:\[\]]+):)?(?P<first>\d+)(?:-(?P<last>\d+))?")
ANY = {"": "*", "*": "*", "0.0.0.0": "*", "localhost": "127.0.0.1"}  # nosec B104: read, not bound


def at(address: str) -> str:
    """Return an address as it stands before a port; nothing for any address of IPv4."""
    return "" if address == "*" else f"[{address}]" if ":" in address else address


def plain(address: str) -> str:
    """Return the one way to write an address."""
    address = address.strip("[]")
    try:
        return str(ipaddress.ip_address(address)) if address not in ANY else ANY[address]
    except ValueError:
        return ANY.get(address, address)


def listens(args: Sequence[str]) -> list[Listen]:
    """Return what a directive `listen` says; nothing of a socket with a path."""
    if not args or args[0].startswith("unix:"):
        return []
    found = PORT.fullmatch(args[0])
    address = plain((found["address"] or "") if found else args[0])
    first = int(found["first"]) if found else 80
    last = int(found["last"] or first) if found else 80
    default = "default_server" in args or "default" in args
    return [Listen(address, port, default, "ipv6only=off" in args) for port in range(first, last + 1)]


def servers(every: Sequence[Directive]) -> list[Server]:
    """Return the sites in the order in which nginx reads them."""
    found: dict[tuple[str, tuple[tuple[str, int], ...]], list[Directive]] = {}
    around = {each.file: blocks(every, each.file) or [()] for each in every if each.name == "server"}
    for each in every:
        names = tuple(name for name, _number in each.context)
        if names[-1:] == ("server",) and any((*outer, *names) == ("http", "server") for outer in around[each.file]):
            found.setdefault((each.file, each.context), []).append(each)
            if each.name == "include" and each.args:  # of a snippet what stands in no block of its own
                found[each.file, each.context] += [
                    more for more in every if not more.context and matches(each.args[0], more.file)
                ]
    return [
        Server(
            file,
            tuple(name.lower() for each in own if each.name == "server_name" for name in each.args),
            tuple(one for each in own if each.name == "listen" for one in listens(each.args)) or (Listen("*", 80),),
        )
        for (file, _context), own in found.items()
    ]


def rank(pattern: str, name: str) -> tuple[int, int] | None:
    """Return how well a server_name fits, the smallest best; None where it does not."""
    if pattern.startswith("~"):
        try:
            fits = re.search(pattern[1:], name)
        except re.error:  # PCRE knows more
            fits = None
        return (3, 0) if fits else None
    if pattern == name or pattern == f".{name}":
        return (0, 0)
    if pattern.startswith(("*.", ".")):
        return (1, -len(pattern)) if name.endswith(pattern.lstrip("*")) else None
    if pattern.endswith(".*"):
        return (2, -len(pattern)) if name.startswith(pattern[:-1]) else None
    return None


def listening(every: Sequence[Server], address: str, port: int) -> list[tuple[Server, Listen]]:
    """Return the sites among which nginx chooses for a connection to this address: who names it goes first."""
    pairs = [(server, listen) for server in every for listen in server.listens if listen.port == port]
    of_any = [pair for pair in pairs if pair[1].address == ("::" if ":" in address else "*")]
    of_both = [pair for pair in pairs if pair[1].both]
    return [pair for pair in pairs if pair[1].address == address] or of_any or of_both


def chosen(every: Sequence[Server], address: str, port: int, name: str) -> Server | None:
    """Return the site that answers for this name at this address, as nginx chooses it."""
    candidates = listening(every, plain(address), port)
    fits = [
        (fit, position)
        for position, (server, _listen) in enumerate(candidates)
        for fit in (rank(pattern, name.lower()) for pattern in server.names)
        if fit
    ]
    if fits:
        return candidates[min(fits)[1]][0]
    return next((server for server, listen in candidates if listen.default), candidates[0][0] if candidates else None)

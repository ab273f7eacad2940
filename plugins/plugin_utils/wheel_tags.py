# Copyright: Flask Fleet contributors
# SPDX-License-Identifier: MIT
"""Which wheels a host's Python can install, from what the host told of it. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MARKERS = frozenset(
    """
    implementation_name implementation_version os_name platform_machine platform_python_implementation
    platform_release platform_system platform_version python_full_version python_version sys_platform
    """.split()
)
# names that wheels had before manylinux_X_Y, by the minor version of glibc 2 that they stand for
OLD_NAMES = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
OLDEST = {"x86_64": 5, "i686": 5}  # of other architectures there are none for a glibc before 2.17
WORD = r"[A-Za-z0-9_.+-]*"


class Unfit(Exception):
    """No wheels can be sent; the text says why and what to do."""


def checked(facts: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return what a host told of its Python: what goes into commands here is words alone, whoever runs that host."""
    markers = facts.get("markers")
    plain = {name: facts.get(name) for name in ("key", "arch", "libc", "threads", "version")}
    words = [*plain.values(), *(markers.values() if isinstance(markers, Mapping) else [None])]
    known = isinstance(markers, Mapping) and set(markers) == MARKERS
    if not known or not all(isinstance(word, str) and re.fullmatch(rf"{WORD}( {WORD})?", word) for word in words):
        raise Unfit(f"{host} does not tell what its Python is: {str(facts)[:200]}")
    if not re.fullmatch(r"glibc 2\.\d+", str(plain["libc"])):
        raise Unfit(
            f"The Python of {host} is made for another C library than glibc, and no wheels are fetched for that. Set"
            " flask_gunicorn_nginx_wheelhouse to false for it, and give it an index: flask_gunicorn_nginx_pip."
        )
    return {**plain, "markers": dict(markers or {})}


def platforms(arch: str, libc: str) -> list[str]:
    """Return the platforms of the wheels that run on an architecture with a glibc, the closest first."""
    newest = int(libc.rpartition(".")[2])
    found = []
    for minor in range(newest, OLDEST.get(arch, 17) - 1, -1):
        found.append(f"manylinux_2_{minor}_{arch}")
        found += [f"{OLD_NAMES[minor]}_{arch}"] if minor in OLD_NAMES else []
    return [*found, f"linux_{arch}"]


def restrictions(facts: Mapping[str, Any]) -> list[str]:
    """Return the options by which pip looks for what that Python can install, and not this one."""
    name = facts["markers"]["implementation_name"]
    short = {"cpython": "cp", "pypy": "pp"}.get(name, name)
    major, minor, _patch = facts["version"].split(".")
    threads = [f"--abi=cp{major}{minor}t", "--abi=none"] if facts["threads"] else []
    places = [f"--platform={each}" for each in platforms(facts["arch"], facts["libc"])]
    return [
        "--only-binary=:all:",
        f"--implementation={short}",
        f"--python-version={facts['version']}",
        *threads,
        *places,
    ]


def runs_there(wheel: str, facts: Mapping[str, Any], here: Mapping[str, Any]) -> bool:
    """Tell whether a wheel that was built on this machine, by its file name, runs with the Python of a host.

    One for a platform holds code that was linked against the libraries of `here`: those of the host may not be older.
    """
    python, abi, platform = wheel[: -len(".whl")].split("-")[-3:]
    major, minor, _patch = facts["version"].split(".")
    if platform == "any" and abi == "none":
        return bool({f"py{major}", f"py{major}{minor}", f"cp{major}{minor}"} & set(python.split(".")))
    same = ("arch", "threads")
    older = int(here["libc"].rpartition(".")[2]) <= int(facts["libc"].rpartition(".")[2])
    version = here["version"].split(".")[:2] == [major, minor]
    return version and older and all(here[name] == facts[name] for name in same)


def described(facts: Mapping[str, Any]) -> str:
    """Return a host's Python as people read it."""
    name = facts["markers"]["platform_python_implementation"]
    return f"{name} {facts['version']} on {facts['arch']} with {facts['libc']}"

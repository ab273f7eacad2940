"""Versions as PEP 440 orders them, and whether the marker of a requirement holds. Pure functions."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

VERSION = re.compile(
    r"v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)(?:[-_.]?(?P<pre>alpha|beta|preview|pre|rc|a|b|c)[-_.]?(?P<n>\d*))?"
    r"(?:-(?P<implied>\d+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<m>\d*))?(?:[-_.]?(?P<dev>dev)[-_.]?(?P<k>\d*))?"
    r"(?:\+(?P<local>[a-z0-9._-]+))?\Z"
)
PRE = {"a": 0, "alpha": 0, "b": 1, "beta": 1}  # any other is a candidate
FINAL = (9, 0)
OF_VERSIONS = ("python_version", "python_full_version", "implementation_version")


def version_key(text: str) -> tuple[Any, ...]:
    """Return what orders versions; what is none comes before all."""
    found = VERSION.match(text.strip().lower())
    if not found:
        return (-1, (), FINAL, 0, 0, ())
    release = tuple(int(part) for part in re.sub(r"(\.0+)+\Z", "", found["release"]).split("."))
    pre = (PRE.get(found["pre"], 2), int(found["n"] or 0)) if found["pre"] else FINAL
    post = int(found["implied"] or found["m"] or 0) if found["implied"] or found["post"] else -1
    dev: float = int(found["k"] or 0) if found["dev"] else float("inf")
    if found["dev"] and pre == FINAL and post < 0:
        pre = (-1, 0)  # 1.0.dev1 is older than 1.0a1
    parts = re.split(r"[._-]", found["local"] or "")
    local = tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts if part)
    return (int(found["epoch"] or 0), release, pre, post, dev, local)


def holds(marker: str, environment: Mapping[str, str]) -> bool:
    """Tell whether a marker holds; one that cannot be read does, for a requirement too many is better than one less."""
    text = re.sub(r"~=", ">=", re.sub(r"===", "==", marker.strip()))
    try:
        return truth(ast.parse(text, mode="eval").body, environment)
    except (SyntaxError, ValueError):
        return True


def truth(node: ast.expr, environment: Mapping[str, str]) -> bool:
    if isinstance(node, ast.BoolOp):
        values = [truth(each, environment) for each in node.values]
        return all(values) if isinstance(node.op, ast.And) else any(values)
    if not isinstance(node, ast.Compare) or len(node.ops) != 1:
        raise ValueError(ast.dump(node))
    sides = [node.left, node.comparators[0]]
    names = [each.id for each in sides if isinstance(each, ast.Name)]
    one, other = (word(each, environment) for each in sides)
    operator = type(node.ops[0])
    if operator in (ast.In, ast.NotIn):
        return (one in other) is (operator is ast.In)
    ordered = [version_key(each) for each in (one, other)] if set(names) & set(OF_VERSIONS) else [one, other]
    return compared(operator, *ordered)


def compared(operator: type[ast.cmpop], one: Any, other: Any) -> bool:
    """Return the outcome of a comparison; `<=` and the like are made of the two that all have."""
    equal, less = bool(one == other), bool(one < other)
    outcomes = {ast.Eq: equal, ast.NotEq: not equal, ast.Lt: less, ast.LtE: less or equal}
    return {**outcomes, ast.Gt: not less and not equal, ast.GtE: not less}[operator]


def word(node: ast.expr, environment: Mapping[str, str]) -> str:
    if isinstance(node, ast.Name) and node.id in environment:
        return environment[node.id]
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    raise ValueError(ast.dump(node))

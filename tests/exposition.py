"""Prometheus' text format (0.0.4), read as strictly as Prometheus reads it: what is no line of it is an error."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)?\}})? (NaN|[+-]Inf|[+-]?[0-9.]+(?:e[+-]?[0-9]+)?)")
ESCAPES = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}


@dataclass(frozen=True)
class Sample:
    labels: dict[str, str]
    value: float


@dataclass
class Family:
    kind: str
    help: str
    samples: list[Sample] = field(default_factory=list)


def unescaped(text: str) -> str:
    return re.sub(r'\\["\\n]', lambda found: ESCAPES[found[0]], text)


def families(text: str) -> dict[str, Family]:
    """Return the metrics by name; each must have a HELP and a TYPE before its samples, and stand in one place."""
    found: dict[str, Family] = {}
    helps: dict[str, str] = {}
    last = ""
    assert text.endswith("\n"), "the last line has no end"
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            _, _, name, words = line.split(" ", 3)
            assert name not in helps, f"two HELP: {line}"
            helps[name] = unescaped(words)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helps and name not in found and kind in ("gauge", "counter"), line
            found[name], last = Family(kind, helps[name]), name
        else:
            match = SAMPLE.fullmatch(line)
            assert match, f"no line of the format: {line!r}"
            assert match[1] == last, f"not below its TYPE: {line}"
            labels = {each.partition("=")[0]: unescaped(each.partition("=")[2][1:-1]) for each in split(match[2] or "")}
            assert labels not in [sample.labels for sample in found[last].samples], f"twice: {line}"
            found[last].samples.append(Sample(labels, float(match[3])))
    return found


def split(labels: str) -> list[str]:
    return re.findall(LABEL, labels)

"""What is known of vulnerabilities, by pip-audit or OSV, held against what is installed. And the command audit."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from flaskctl import Json
from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.requirements import normalized
from flaskctl.sbom import sbom_of
from flaskctl.texts import table
from flaskctl.versions import version_key


class Finding(NamedTuple):
    """One vulnerability of one package."""

    package: str
    version: str
    id: str
    aliases: tuple[str, ...]
    fixed: tuple[str, ...]  # in which versions


class Known(NamedTuple):
    """What a file tells: findings, and of what it tells: None where it is about whatever there is."""

    findings: list[Finding]
    covers: set[tuple[str, str]] | None


def read_known(text: str, name: str, installed: Mapping[str, str]) -> Known:
    """Read a file in one of the two formats; Refused where it is none."""
    try:
        data = json.loads(text)
        if isinstance(data, dict) and isinstance(data.get("dependencies"), list):
            return from_pip_audit(data["dependencies"], installed)
        if isinstance(data, list) and data and all("name" in each for each in data):  # an older pip-audit
            return from_pip_audit(data, installed)
        records = data.get("vulns", [data]) if isinstance(data, dict) else data
        if records == [] or all("id" in record and "affected" in record for record in records):
            return Known(list(from_osv(records, installed)), None)
    except (ValueError, TypeError, KeyError, AttributeError):
        pass
    raise Refused(
        f"{name} holds neither what pip-audit tells nor advisories of OSV",
        remedy="pip-audit --format json --requirement requirements.txt --output FILE, or a list of OSV records",
    )


def from_pip_audit(dependencies: list[Any], installed: Mapping[str, str]) -> Known:
    """Return what is told of the very versions that are installed."""
    findings, covers = [], set()
    for each in dependencies:
        name, version = normalized(str(each["name"])), str(each.get("version", ""))
        here = installed.get(name, "")
        if not version or version_key(version) != version_key(here):
            continue
        covers.add((name, here))
        for known in each.get("vulns", []):
            aliases = tuple(map(str, known.get("aliases", [])))
            findings.append(Finding(name, here, str(known["id"]), aliases, tuple(map(str, known["fix_versions"]))))
    return Known(findings, covers)


def from_osv(records: list[Any], installed: Mapping[str, str]) -> Iterator[Finding]:
    """Yield those that a record of the ecosystem PyPI says are affected."""
    for record in records:
        for affected in record["affected"] if not record.get("withdrawn") else ():
            package = affected.get("package", {})
            name = normalized(str(package.get("name", "")))
            version = installed.get(name)
            if version is None or package.get("ecosystem") != "PyPI":
                continue
            ranges = [each["events"] for each in affected.get("ranges", []) if each.get("type") != "GIT"]
            named = version_key(version) in map(version_key, affected.get("versions", []))
            if named or any(within(version, events) for events in ranges):
                fixed = {str(event["fixed"]) for events in ranges for event in events if "fixed" in event}
                later = sorted((each for each in fixed if version_key(each) > version_key(version)), key=version_key)
                yield Finding(name, version, str(record["id"]), tuple(record.get("aliases", [])), tuple(later))


def within(version: str, events: list[Mapping[str, str]]) -> bool:
    """Tell whether a version lies between where something came in and where it went."""

    def when(event: Mapping[str, str]) -> tuple[Any, ...]:
        ((_kind, at),) = event.items()
        return version_key("0.dev0" if at == "0" else at)

    inside, here = False, version_key(version)
    for event in sorted(events, key=when):
        if "introduced" in event:
            inside = inside or here >= when(event)
        elif "fixed" in event:
            inside = inside and here < when(event)
        elif "last_affected" in event:
            inside = inside and here <= when(event)
    return inside


def audit(app: App, text: str | None, name: str, release: str | None) -> Json:
    """Tell which packages of a release have a known vulnerability."""
    if text is None:
        raise Refused("what is known of vulnerabilities?", remedy="--known FILE: pip-audit --format json --output FILE")
    found, bill = sbom_of(app, release)
    installed = {str(each["name"]): str(each["version"]) for each in bill["components"]}
    known = read_known(text, name, installed)
    unknown = [] if known.covers is None else [pair for pair in installed.items() if pair not in known.covers]
    if unknown:
        words = ", ".join(" ".join(pair) for pair in unknown)
        app.warnings.append(f"{name} tells nothing of {words}: make it of what this release holds")
    findings = sorted(dict.fromkeys(known.findings))
    rows = [
        (each.package, each.version, each.id, f"fixed in {', '.join(each.fixed)}" if each.fixed else "not fixed yet")
        for each in findings
    ]
    none = f"none of {len(installed)} packages has a vulnerability that {name} knows of"
    return {"id": found, "found": [each._asdict() for each in findings], "msg": table(rows) if rows else none}

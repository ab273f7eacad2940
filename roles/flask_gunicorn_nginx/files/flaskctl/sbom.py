"""What a release is made of, as a bill of materials (CycloneDX 1.6): read from its files, nothing of it runs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from flaskctl import VERSION, Json
from flaskctl.app import App
from flaskctl.errors import Refused
from flaskctl.files import read_json, read_text
from flaskctl.layout import SBOM
from flaskctl.packages import metadata_in
from flaskctl.release import Config, parse_config
from flaskctl.requirements import normalized, requirement_files, requirement_lines, requirement_name, venv_base
from flaskctl.versions import holds
from flaskctl.wheels import hashes_of

if TYPE_CHECKING:
    from email.message import Message

LONGEST = 100  # characters of a License field that names one; longer ones are its text
REQUIREMENT = re.compile(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:\[([^\]]*)\])?[^;]*(?:;(.*))?\Z", re.DOTALL)


class Package(NamedTuple):
    """What is installed, by its metadata."""

    name: str  # as pip compares names
    version: str
    metadata: Message

    @property
    def purl(self) -> str:
        from urllib.parse import quote  # here and below: `status` has no use for them

        return f"pkg:pypi/{self.name}@{quote(self.version, safe='')}"


def packages_of(venv: Path) -> dict[str, Package]:
    """Return the packages of a virtualenv by their names."""
    import email.parser

    parse = email.parser.HeaderParser().parsestr
    found = metadata_in(venv).items()
    return {name: Package(name, version, parse(text)) for name, (version, text) in sorted(found)}


def licenses_of(metadata: Message) -> list[Json]:
    """Return the licenses of a package by its own word: an expression, or names."""
    expression = metadata.get("License-Expression")
    if expression:
        return [{"expression": str(expression)}]
    classifiers = [str(each).split(" :: ")[-1] for each in metadata.get_all("Classifier", []) if "License :: " in each]
    named = [each for each in classifiers if each != "OSI Approved"]
    field = str(metadata.get("License") or "").strip()
    named = named or ([field] if field and field != "UNKNOWN" and len(field) <= LONGEST and "\n" not in field else [])
    return [{"license": {"name": each}} for each in dict.fromkeys(named)]


def graph(packages: Mapping[str, Package], asked: Iterable[str], environment: Mapping[str, str]) -> dict[str, set[str]]:
    """Return by package which others it needs here; `asked` are requirements of the source, for their extras."""
    texts = {name: [str(each) for each in p.metadata.get_all("Requires-Dist", [])] for name, p in packages.items()}
    lines = {name: [found for text in each if (found := REQUIREMENT.match(text))] for name, each in texts.items()}
    extras: dict[str, set[str]] = {name: {""} for name in packages}
    everything = [*(each for found in lines.values() for each in found), *filter(None, map(REQUIREMENT.match, asked))]
    for found in everything:
        wanted = {normalized(extra.strip()) for extra in (found[2] or "").split(",") if extra.strip()}
        extras.get(normalized(found[1]), set()).update(wanted)
    edges: dict[str, set[str]] = {name: set() for name in packages}
    for name, found_lines in lines.items():
        for found in found_lines:
            other, marker = normalized(found[1]), found[3] or ""
            needed = not marker or any(holds(marker, {**environment, "extra": extra}) for extra in extras[name])
            if other in packages and other != name and needed:
                edges[name].add(other)
    return edges


def environment_of(venv: Path, machine: str) -> dict[str, str]:
    """Return what markers ask of the Python of a virtualenv, from the file that says which it is."""
    found = re.search(r"(?m)^version(?:_info)? *= *([\d.]+)", read_text(venv / "pyvenv.cfg") or "")
    full = found[1].rstrip(".") if found else ".".join(map(str, sys.version_info[:3]))
    python = {"python_full_version": full, "python_version": ".".join(full.split(".")[:2])}
    same = {"platform_python_implementation": "CPython", "implementation_name": "cpython", "os_name": "posix"}
    return {**python, **same, "sys_platform": "linux", "platform_system": "Linux", "platform_machine": machine}


def known_hashes(app: App, lines: Iterable[str], key: str) -> dict[str, str]:
    """Return the SHA-256 of what was installed, by NAME==VERSION: where a lock has several, that is not known."""
    found = {}
    for line in lines:
        pinned = re.match(r"([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*==\s*([^\s;]+)", line)
        hashes = set(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
        if pinned and len(hashes) == 1:
            found[f"{normalized(pinned[1])}=={pinned[2]}"] = hashes.pop()
    return {**found, **hashes_of(app.wheels_dir / venv_base(key))}


def document(app: App, home: Path, manifest: Json, config: Config) -> Json:
    """Return the bill of materials of a release that stands in `home`."""
    import uuid

    packages = packages_of(app.venvs_dir / str(manifest["venv"]))
    lines = source_lines(home, config)
    edges = graph(packages, lines, environment_of(app.venvs_dir / str(manifest["venv"]), app.host.machine()))
    hashes = known_hashes(app, lines, str(manifest["venv"]))
    refs = {name: package.purl for name, package in packages.items()}
    needed = {other for others in edges.values() for other in others}
    # what nobody else asks for was asked for by the app, or serves it
    first = [name for name in packages if name not in needed]
    ref = f"{app.name}@{manifest['id']}"
    whole = {ref: first, **{refs[name]: sorted(edges[name]) for name in packages}}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, f'{ref} {json.dumps(sorted(refs.values()))}')}",
        "version": 1,
        "metadata": {
            "timestamp": manifest["when"],
            "tools": {"components": [{"type": "application", "name": "flaskctl", "version": VERSION}]},
            "component": {
                "type": "application",
                "bom-ref": ref,
                "name": app.name,
                "version": manifest["id"],
                "hashes": [{"alg": "SHA-256", "content": manifest["archive_sha256"]}],
                "properties": [
                    {"name": f"flaskfleet:{name}", "value": str(manifest[name])}
                    for name in ("revision", "by", "from", "python")
                    if manifest.get(name)
                ],
            },
        },
        "components": [component(package, hashes) for package in packages.values()],
        "dependencies": [{"ref": name, "dependsOn": [refs[each] for each in others]} for name, others in whole.items()],
    }


def component(package: Package, hashes: Mapping[str, str]) -> Json:
    found: Json = {"type": "library", "bom-ref": package.purl, "name": package.name, "version": package.version}
    found["purl"] = package.purl
    sha256, licenses = hashes.get(f"{package.name}=={package.version}"), licenses_of(package.metadata)
    found.update({"hashes": [{"alg": "SHA-256", "content": sha256}]} if sha256 else {})
    return {**found, **({"licenses": licenses} if licenses else {})}


def source_lines(home: Path, config: Config) -> list[str]:
    """Return the requirements of the source and of the role's own server."""
    texts = [config.server_requirements]
    if (home / "app" / config.requirements).is_file():
        texts += requirement_files(home / "app", config.requirements).values()
    return [line for text in texts for line in requirement_lines(text) if requirement_name(line)]


def sbom_of(app: App, release: str | None) -> tuple[str, Json]:
    """Return a release and its bill of materials; of one that an older flaskctl has made it is made now."""
    app.settings()
    wanted = app.find(release) if release else app.linked("current")
    manifest = app.manifest(wanted)
    if not wanted or manifest is None:
        raise Refused(f"{app.name} has no current release", remedy=f"--release ID: flaskctl {app.name} releases")
    home = app.releases_dir / wanted
    kept = read_json(home / SBOM)
    if kept is None:
        if not app.host.is_root():
            raise Refused("this reads what only root may", remedy=app.as_root(app.said))
        kept = document(app, home, manifest, parse_config(read_text(home / "config.json") or "{}"))
    return wanted, kept


def sbom(app: App, release: str | None, as_json: bool) -> Json:
    """Show the bill of materials of a release: as the answer itself for a person, within it for a program."""
    found, bill = sbom_of(app, release)
    text = json.dumps(bill, indent=1, sort_keys=True)
    return {"id": found, "sbom": bill, "msg": f"{len(bill['components'])} packages" if as_json else text}

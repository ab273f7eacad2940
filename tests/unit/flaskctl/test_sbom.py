"""The bill of materials of a release: what is in it, that it is CycloneDX 1.6, and what an audit makes of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.unit.flaskctl.fake_host import FakeHost, base, call, flaskctl
from tests.unit.flaskctl.given import archive, config

Stage = Callable[..., str]
METADATA = {
    "flask-3.1.3.dist-info": "Name: Flask\nVersion: 3.1.3\nLicense-Expression: BSD-3-Clause\n"
    'Requires-Dist: werkzeug>=3.1\nRequires-Dist: importlib-metadata>=3.6; python_version < "3.12"\n'
    'Requires-Dist: asgiref>=3.2; extra == "async"\nRequires-Dist: nothere\n'
    'Requires-Dist: local; python_version < "3.10"\n',
    "Werkzeug-3.1.9.dist-info": "Name: Werkzeug\nVersion: 3.1.9\nClassifier: License :: OSI Approved :: BSD License\n",
    "importlib_metadata-8.7.1.dist-info": "Name: importlib_metadata\nVersion: 8.7.1\nLicense: Apache-2.0\n",
    "asgiref-3.8.dist-info": f"Name: asgiref\nVersion: 3.8\nLicense: {'long ' * 40}\n",
    "local-1.0+deb.1.dist-info": "Name: local\nVersion: 1.0+deb.1\nLicense: UNKNOWN\n",
    "zope.event-5.0-py3.11.egg-info": "",
    "broken": "",
}
LOCK = (
    f"flask[async]==3.1.3 --hash=sha256:{'a' * 64}\nwerkzeug==3.1.9 \\\n  --hash=sha256:{'b' * 64}"
    f" \\\n  --hash=sha256:{'c' * 64}\nasgiref==3.8 --hash=sha256:{'d' * 64}\n"
)


@pytest.fixture
def released(host: FakeHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A current release with these packages."""
    real = host.run

    def run(argv: Any, **kwargs: Any) -> Any:
        done = real(argv, **kwargs)
        if list(argv[1:3]) == ["-m", "venv"]:
            Path(argv[3], "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.11.2\n")
            for name, text in METADATA.items():
                info = Path(argv[3]) / "lib/python3.11/site-packages" / name
                info.mkdir(parents=True)
                (info / "METADATA").write_text(text)
        return done

    monkeypatch.setattr(host, "run", run)
    path = archive(tmp_path / "v1.tar.gz", {"app.py": "", "requirements.txt": LOCK})
    staged = call(host, "hello", "stage", str(path), "--config", "-", "--json", stdin=config()).json
    assert call(host, "hello", "activate", staged["id"]).rc == 0
    return str(staged["id"])


def bill(host: FakeHost, *more: str) -> dict[str, Any]:
    """What flaskctl shows."""
    answer = call(host, "hello", "sbom", *more)
    assert answer.rc == 0, answer
    found: dict[str, Any] = json.loads(answer.out)
    return found


def test_it_is_valid_by_the_schema_of_cyclonedx_1_6(host: FakeHost, released: str) -> None:
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(bill(host)))
    assert error is None, error
    broken = {**bill(host), "components": [{"name": "x"}]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(broken)), "the schema is asked"


def test_it_names_each_package_with_what_is_known_of_it(host: FakeHost, released: str) -> None:
    found = bill(host)
    assert found["metadata"]["component"]["name"] == "hello" and found["metadata"]["component"]["version"] == released
    by_name = {each["name"]: each for each in found["components"]}
    assert sorted(by_name) == ["asgiref", "flask", "importlib-metadata", "local", "werkzeug", "zope-event"]
    assert by_name["flask"]["purl"] == "pkg:pypi/flask@3.1.3" and by_name["local"]["purl"].endswith("@1.0%2Bdeb.1")
    assert by_name["flask"]["hashes"] == [{"alg": "SHA-256", "content": "a" * 64}]
    assert "hashes" not in by_name["werkzeug"], "which of the two it was is not known"
    licenses = {name: each.get("licenses") for name, each in by_name.items()}
    assert licenses["flask"] == [{"expression": "BSD-3-Clause"}]
    assert licenses["werkzeug"] == [{"license": {"name": "BSD License"}}]
    assert licenses["importlib-metadata"] == [{"license": {"name": "Apache-2.0"}}]
    assert licenses["asgiref"] is licenses["local"] is licenses["zope-event"] is None


def test_the_graph_is_that_of_this_python_and_of_the_extras_that_were_asked_for(host: FakeHost, released: str) -> None:
    graph = {each["ref"].partition("@")[0]: each["dependsOn"] for each in bill(host)["dependencies"]}
    names = {ref: [each.partition("@")[0].rpartition("/")[2] for each in others] for ref, others in graph.items()}
    assert names["pkg:pypi/flask"] == ["asgiref", "importlib-metadata", "werkzeug"]
    assert names["hello"] == ["flask", "local", "zope-event"]


def test_it_is_kept_with_the_release_is_no_drift_and_is_made_for_an_older_one(host: FakeHost, released: str) -> None:
    kept = base(host) / "releases" / released / "sbom.json"
    first = bill(host)
    assert json.loads(kept.read_text()) == first
    status = call(host, "hello", "status", "--drift", "--json").json
    assert not status["drift"], status["drift"]
    kept.unlink()
    assert bill(host, "--release", released[:6]) == first
    assert not call(host, "hello", "status", "--drift", "--json").json["drift"], "one of an older flaskctl has none"


def test_nothing_of_the_virtualenv_is_run_for_it(host: FakeHost, released: str) -> None:
    host.calls.clear()
    bill(host)
    (base(host) / "releases" / released / "sbom.json").unlink()
    bill(host)
    assert host.calls == []


def test_wheels_of_the_control_node_tell_the_hash(host: FakeHost, released: str) -> None:
    key = json.loads((base(host) / "releases" / released / "manifest.json").read_text())["venv"]
    (base(host) / "wheels" / key).mkdir(parents=True)
    (base(host) / "wheels" / key / "requirements.txt").write_text(f"werkzeug==3.1.9 --hash=sha256:{'e' * 64}\n")
    (base(host) / "releases" / released / "sbom.json").unlink()
    found = {each["name"]: each.get("hashes") for each in bill(host)["components"]}
    assert found["werkzeug"] == [{"alg": "SHA-256", "content": "e" * 64}]


def test_without_a_release_there_is_none(host: FakeHost) -> None:
    assert call(host, "hello", "sbom").rc == 1


# --- audit

PIP_AUDIT = {
    "dependencies": [
        {
            "name": "Werkzeug",
            "version": "3.1.9",
            "vulns": [{"id": "PYSEC-1", "fix_versions": ["3.2"], "aliases": ["C"]}],
        },
        {"name": "flask", "version": "3.1.3", "vulns": []},
        {"name": "asgiref", "version": "3.7", "vulns": [{"id": "PYSEC-2", "fix_versions": [], "aliases": []}]},
        {"name": "zope.event", "skip_reason": "not on the index"},
    ],
    "fixes": [],
}


def osv(name: str, *events: dict[str, str], ecosystem: str = "PyPI", **more: Any) -> dict[str, Any]:
    """An advisory."""
    package = {"ecosystem": ecosystem, "name": name}
    affected = {"package": package, "ranges": [{"type": "ECOSYSTEM", "events": [*events]}], **more}
    return {"id": "GHSA-1", "aliases": ["CVE-1"], "affected": [affected]}


def audited(host: FakeHost, known: Any, *more: str) -> Any:
    """Audit the current release."""
    return call(host, "hello", "audit", "--known", "-", *more, stdin=json.dumps(known))


def test_an_audit_tells_each_vulnerability_in_a_line_and_by_its_exit_code(host: FakeHost, released: str) -> None:
    found = audited(host, PIP_AUDIT)
    assert (found.rc, found.out) == (4, "werkzeug  3.1.9  PYSEC-1  fixed in 3.2\n")
    assert "tells nothing of asgiref 3.8, importlib-metadata 8.7.1, local 1.0+deb.1, zope-event 5.0" in found.err
    answer = audited(host, PIP_AUDIT, "--json").json
    assert answer["found"] == [
        {"package": "werkzeug", "version": "3.1.9", "id": "PYSEC-1", "aliases": ["C"], "fixed": ["3.2"]}
    ]
    assert audited(host, PIP_AUDIT["dependencies"]).rc == 4, "what an older pip-audit wrote"


@pytest.mark.parametrize(
    ("known", "rc"),
    [
        (osv("werkzeug", {"introduced": "0"}, {"fixed": "3.1.10"}), 4),
        (osv("Werkzeug", {"introduced": "0"}, {"fixed": "3.1.9"}), 0),
        (osv("werkzeug", {"introduced": "3.1.10"}), 0),
        (osv("werkzeug", {"introduced": "3.0"}, {"last_affected": "3.1.9"}), 4),
        (osv("werkzeug", {"introduced": "0"}, {"fixed": "1.0"}, {"introduced": "3.0"}), 4),
        (osv("werkzeug", {"introduced": "0"}, ecosystem="npm"), 0),
        (osv("nothere", {"introduced": "0"}), 0),
        (osv("werkzeug", versions=["3.1.8", "3.1.9.0"]), 4),
        ({**osv("werkzeug", {"introduced": "0"}), "withdrawn": "2026-01-01T00:00:00Z"}, 0),
        ([osv("flask", {"introduced": "0"}), osv("werkzeug", {"introduced": "9"})], 4),
        ({"vulns": [osv("flask", {"introduced": "0"})]}, 4),
        ([], 0),
    ],
)
def test_an_advisory_of_osv_counts_where_it_says_so(host: FakeHost, released: str, known: Any, rc: int) -> None:
    assert audited(host, known).rc == rc


@pytest.mark.parametrize(
    "known", ["", "{", "[1]", "{}", '{"vulns": 3}', '[{"id": "x"}]', '{"dependencies": [{}]}', "null"]
)
def test_a_file_that_tells_nothing_of_vulnerabilities_is_refused(host: FakeHost, released: str, known: str) -> None:
    answer = call(host, "hello", "audit", "--known", "-", "--json", stdin=known)
    assert answer.rc == 1 and "holds neither" in answer.json["msg"], answer


# --- versions and markers


def test_versions_are_in_the_order_of_pep_440() -> None:
    order = ["nonsense", "0.9", "1.0.dev1", "1.0a1.dev2", "1.0a1", "1.0b2", "1.0rc1", "1.0", "1.0+deb.1", "1.0.post1"]
    order += ["1.0.1", "1.10", "2!0.1"]
    assert sorted(reversed(order), key=flaskctl.version_key) == order
    assert flaskctl.version_key("v1.0.0-RC1") == flaskctl.version_key("1rc1")
    assert flaskctl.version_key("1.0-1") == flaskctl.version_key("1.0.post1")


@pytest.mark.parametrize(
    ("marker", "held"),
    [
        ('python_version < "3.10"', True),
        ('python_full_version >= "3.9.10"', False),
        ("'linux' in sys_platform and (extra == 'a' or extra == 'b')", True),
        ('sys_platform not in "win32, darwin"', True),
        ('python_version ~= "3.8" and platform_machine != "x86_64"', False),
        ('implementation_name === "cpython"', True),
        ('os.name == "nt"', True),
        ("((", True),
    ],
)
def test_a_marker_holds_as_pip_has_it(marker: str, held: bool) -> None:
    environment = {"python_version": "3.9", "python_full_version": "3.9.2", "sys_platform": "linux", "extra": "b"}
    more = {"platform_machine": "x86_64", "implementation_name": "cpython"}
    assert flaskctl.holds(marker, {**environment, **more}) is held

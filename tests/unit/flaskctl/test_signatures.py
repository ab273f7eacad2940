"""A host with a list of signers takes what these have signed, as it is, and nothing else; with the real ssh-keygen."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.flaskfleet.web.plugins.plugin_utils import signing

from tests.unit.flaskctl.fake_host import FakeHost, base, call, note
from tests.unit.flaskctl.given import archive, config

Stage = Callable[..., str]
LOCK = {"requirements.txt": "flask==3.0.3 --hash=sha256:0\n"}


def new_key(path: Path) -> str:
    """Make a key; return its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().strip()


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the keys of ada, who is allowed, and of mallory, who is not."""
    home = tmp_path_factory.mktemp("keys")
    for name in ("ada", "mallory"):
        new_key(home / name)
    return home


@pytest.fixture
def signers(host: FakeHost, keys: Path) -> Path:
    path = host.root / "etc/flaskctl/hello.signers"
    path.write_text(f"bob@example.com,b@example.com ssh-ed25519 AAAA\nada@example.com {(keys / 'ada.pub').read_text()}")
    path.chmod(0o644)
    return path


def sign(path: Path, key: Path, namespace: str = "flaskfleet") -> Path:
    """Sign a file by hand, as the remedy says it."""
    Path(f"{path}.sig").unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-n", namespace, "-f", str(key), str(path)], check=True)
    return Path(f"{path}.sig")


def stage_file(host: FakeHost, path: Path, *more: str, **changes: Any) -> Any:
    return call(host, "hello", "stage", str(path), "--config", "-", "--json", *more, stdin=config(**changes))


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return archive(tmp_path / "v1.tar.gz", {"app.py": "1", **LOCK})


def test_what_an_allowed_signer_has_signed_is_taken_and_noted(
    host: FakeHost, signers: Path, keys: Path, code: Path
) -> None:
    answer = stage_file(host, code, "--signature", str(sign(code, keys / "ada")))
    assert answer.rc == 0, answer
    manifest = json.loads((base(host) / "releases" / answer.json["id"] / "manifest.json").read_text())
    assert manifest["signed_by"] == "ada@example.com"
    assert not [*base(host).glob(".signature-*")]


@pytest.mark.parametrize(
    ("signed", "words"),
    [
        ("not at all", "is not signed, and hello takes only what"),
        ("by mallory", "was not signed, as it is, by anybody named in"),
        ("for something else", "was not signed, as it is"),
        ("something else", "was not signed, as it is"),
        ("with rubbish", "was not signed, as it is"),
        ("with a file that is not there", "was not signed, as it is"),
    ],
)
def test_anything_else_is_refused_before_anything_is_unpacked(
    host: FakeHost, signers: Path, keys: Path, code: Path, tmp_path: Path, signed: str, words: str
) -> None:
    made = {
        "by mallory": lambda: sign(code, keys / "mallory"),
        "for something else": lambda: sign(code, keys / "ada", "git"),
        "something else": lambda: sign(archive(tmp_path / "v2.tar.gz", LOCK), keys / "ada"),
        "with rubbish": lambda: code,
        "with a file that is not there": lambda: tmp_path / "gone",
    }
    if signed == "with rubbish":
        (tmp_path / "rubbish").write_text("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n")
        made[signed] = lambda: tmp_path / "rubbish"
    more = ["--signature", str(made[signed]())] if signed in made else []
    answer = stage_file(host, code, *more)
    assert answer.rc == 1 and words in answer.json["msg"] and answer.json["remedy"], answer
    assert not [*(base(host) / "releases").glob("*")] and not [*base(host).glob(".signature-*")]
    assert not [argv for argv in host.calls if "venv" in argv]


def test_without_a_list_nothing_is_asked_for(host: FakeHost, code: Path) -> None:
    assert stage_file(host, code).rc == 0
    assert not [argv for argv in host.calls if argv[0] == "ssh-keygen"]


def test_a_list_that_others_can_change_tells_nothing(host: FakeHost, signers: Path, keys: Path, code: Path) -> None:
    signers.chmod(0o664)
    answer = stage_file(host, code, "--signature", str(sign(code, keys / "ada")))
    assert answer.rc == 1 and "can be changed by others than root" in answer.json["msg"]


def test_what_stands_already_is_rolled_back_to_and_configured_anew_without_a_signature(
    host: FakeHost, stage: Stage, signers: Path, keys: Path, tmp_path: Path
) -> None:
    signers.rename(signers.with_suffix(".later"))
    first, second = stage("v1"), stage("v2")
    signers.with_suffix(".later").rename(signers)
    for release in (first, second):
        assert call(host, "hello", "activate", release).rc == 0
    assert call(host, "hello", "rollback").json is None or call(host, "hello", "status", "--json").rc == 0
    plain = stage_file(host, tmp_path / "v1.tar.gz")
    assert plain.rc == 0 and not plain.json["changed"], "a small archive comes along with each question"
    again = stage_file(host, tmp_path / "v1.tar.gz", environment={"NEWER": "1"})
    assert again.rc == 0 and again.json["changed"], "the code stands already"
    again = call(host, "hello", "stage", "--config", "-", "--json", stdin=config(environment={"NEW": "1"}))
    assert again.rc == 0 and again.json["staged"], again


def test_wheels_have_to_be_signed_too(host: FakeHost, signers: Path, keys: Path, code: Path, tmp_path: Path) -> None:
    by_ada = ["--signature", str(sign(code, keys / "ada"))]
    key = stage_file(host, code, *by_ada, wheelhouse=True).json["wheels_needed"]["key"]
    wheels = archive(tmp_path / "w.tar.gz", {"key": key, "requirements.txt": "", "wheels/x.whl": ""})
    answer = stage_file(host, code, *by_ada, "--wheels", str(wheels), wheelhouse=True)
    assert answer.rc == 1 and "w.tar.gz is not signed" in answer.json["msg"], answer
    assert not [*(base(host) / "wheels").glob("*")]
    more = ["--wheels", str(wheels), "--wheels-signature", str(sign(wheels, keys / "ada"))]
    assert stage_file(host, code, *by_ada, *more, wheelhouse=True).rc == 0


def test_the_list_goes_with_the_app(host: FakeHost, signers: Path) -> None:
    note(host)
    note(host, "/etc/flaskctl/hello.signers")
    assert call(host, "hello", "remove").rc == 0
    assert not signers.exists()


# --- the control node


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(signing, "CACHE", str(tmp_path / "signatures"))
    return tmp_path / "signatures"


def test_the_control_node_signs_what_the_host_takes_once_for_a_file_and_a_key(
    host: FakeHost, signers: Path, keys: Path, code: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = signing.signature(str(code), str(keys / "ada"))
    assert stage_file(host, code, "--signature", text).rc == 0, "the text itself will do"
    monkeypatch.setattr(signing, "made", lambda *_words: pytest.fail("signed twice"))
    assert signing.signature(str(code), str(keys / "ada")) == text
    monkeypatch.setattr(signing, "made", lambda *_words: "another")
    assert signing.signature(str(code), str(keys / "mallory")) == "another"


def test_a_key_that_is_not_there_or_wants_a_passphrase_is_a_sentence(keys: Path, code: Path, cache: Path) -> None:
    with pytest.raises(signing.Unsigned, match="There is no key /nowhere/key"):
        signing.signature(str(code), "/nowhere/key")
    locked = keys / "locked"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", str(locked)], check=True)
    with pytest.raises(signing.Unsigned, match=r"locked does not sign: .* ssh-add"):
        signing.signature(str(code), str(locked))
    with pytest.raises(signing.Unsigned, match="locked"):
        signing.signature(str(code), str(locked))

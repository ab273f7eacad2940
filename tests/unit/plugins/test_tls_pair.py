"""Each certificate and key that a site could not use is named in a sentence, as the real openssl sees it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from ansible_collections.flaskfleet.web.plugins.module_utils.nginx_sandbox import run  # as the host is asked with it
from ansible_collections.flaskfleet.web.plugins.module_utils.tls_pair import certificates, faults, of_site

from tests.pki import ISSUER, NOW, ROOT, Signed, sign

NAMES = ("a.test", "www.a.test")
GOOD = sign("a.test", ISSUER, NAMES)
OTHER = sign("a.test", ISSUER, NAMES)
OWN = sign("a.test", None, NAMES)


def judged(place: Path, chain: Sequence[Signed], key: str, names: Sequence[str] = NAMES) -> list[str]:
    (place / "chain.pem").write_text("".join(each.pem for each in chain))
    (place / "key.pem").write_text(key)
    found = faults(str(place / "chain.pem"), str(place / "key.pem"), names, NOW.timestamp(), run)
    return [fault.replace(f"{place}/", "") for fault in found]


@pytest.mark.parametrize(
    ("chain", "key"),
    [
        ([GOOD, ISSUER], GOOD.key_pem()),
        ([GOOD, ISSUER, ROOT], GOOD.key_pem()),
        ([GOOD, ROOT, ISSUER], GOOD.key_pem()),  # as clients take it, in whatever order
        ([OWN], OWN.key_pem()),
        ([sign("a.test", ISSUER, ("*.a.test", "a.test")), ISSUER], None),
    ],
)
def test_what_a_site_can_use_has_no_fault(tmp_path: Path, chain: list[Signed], key: str | None) -> None:
    assert judged(tmp_path, chain, key or chain[0].key_pem()) == []


@pytest.mark.parametrize(
    ("chain", "key", "fault"),
    [
        ([GOOD, ISSUER], OTHER.key_pem(), "key.pem is not the key of chain.pem"),
        ([ISSUER, GOOD], GOOD.key_pem(), "key.pem is not the key of chain.pem"),
        ([GOOD, ISSUER], GOOD.key_pem("secret"), "key.pem cannot be read: it holds no key, or one with a password"),
        ([GOOD, ISSUER], "", "key.pem cannot be read: it holds no key"),
        ([], GOOD.key_pem(), "chain.pem cannot be read: it holds no certificate"),
        ([sign("a.test", ISSUER, NAMES, -9, -2), ISSUER], None, "chain.pem has expired: it ended on 20"),
        ([sign("a.test", ISSUER, NAMES, 2, 9), ISSUER], None, "chain.pem is not valid yet: it begins on 20"),
        ([sign("a.test", ISSUER, ("a.test",)), ISSUER], None, "chain.pem is not for www.a.test"),
        ([sign("a.test", ISSUER, ("*.a.test",)), ISSUER], None, "chain.pem is not for a.test"),
        ([GOOD], GOOD.key_pem(), "chain.pem is not complete: the certificate of CN = An issuer, which signed it"),
        ([GOOD, sign("Another", ROOT)], GOOD.key_pem(), "chain.pem is not complete: the certificate of CN = An issuer"),
    ],
)  # fmt: skip
def test_what_it_cannot_use_is_said_with_the_name_of_the_file(
    tmp_path: Path, chain: list[Signed], key: str | None, fault: str
) -> None:
    (found,) = judged(tmp_path, chain, chain[0].key_pem() if key is None else key)[:1] or [""]
    assert found.replace("CN=An", "CN = An").startswith(fault), found


def test_a_name_is_missing_whatever_the_exit_code_of_openssl(tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_text(GOOD.pem + ISSUER.pem + GOOD.key_pem())
    both = str(tmp_path / "both.pem")
    for code in (0, 1):

        def of_version(argv: Sequence[str], text: str, code: int = code) -> tuple[int, str, str]:
            _code, out, said = run(argv, text)
            return (code if "NOT match" in out else _code), out, said

        assert faults(both, both, ["a.test", "c.test"], NOW.timestamp(), of_version) == [f"{both} is not for c.test"]


def test_an_issuer_that_has_ended_is_named(tmp_path: Path) -> None:
    old = sign("An old issuer", ROOT, (), -90, -1)
    (fault,) = judged(tmp_path, [sign("a.test", old, NAMES), old], "")[-1:]
    assert fault.startswith("in chain.pem the certificate of") and "An old issuer has expired" in fault


@pytest.mark.parametrize("missing", ["chain.pem", "key.pem"])
def test_a_file_that_is_not_there_is_named_and_nothing_else(tmp_path: Path, missing: str) -> None:
    judged(tmp_path, [GOOD, ISSUER], GOOD.key_pem())
    (tmp_path / missing).unlink()
    paths = str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")
    assert faults(*paths, NAMES, 0, run) == [f"{tmp_path}/{missing} cannot be read: No such file or directory"]


def test_without_openssl_nothing_is_known(tmp_path: Path) -> None:
    judged(tmp_path, [GOOD], OTHER.key_pem())
    paths = str(tmp_path / "chain.pem"), str(tmp_path / "key.pem")
    assert faults(*paths, NAMES, 0, lambda argv, text: (127, "", "not installed")) == []


def test_a_file_of_certificate_and_key_is_read_as_nginx_reads_it(tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_text(GOOD.pem + ISSUER.pem + GOOD.key_pem())
    both = str(tmp_path / "both.pem")
    assert faults(both, both, NAMES, NOW.timestamp(), run) == []
    assert [each.authority for each in certificates(Path(both).read_text(), run)] == [False, True]


def test_a_pair_that_the_site_has_stops_no_release_and_a_new_one_does(tmp_path: Path) -> None:
    asked = {"path": str(tmp_path / "no.pem"), "key": str(tmp_path / "no.key"), "names": ["a.test"]}
    stands = json.dumps({"certificate": asked["path"]})
    for settings, refused in (("", True), ("{}", True), ("[]", True), ('{"certificate": ""}', True), (stands, False)):
        problems, warnings = of_site(asked, settings, 0, run)
        assert bool(problems) is refused and bool(warnings) is not refused
        assert f"{tmp_path}/no.pem cannot be read: No such file or directory" in (problems + warnings)[0]
    assert of_site({**asked, "path": ""}, "", 0, run) == of_site(None, "", 0, run) == ([], [])

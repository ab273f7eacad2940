"""A host image is rebuilt exactly when what goes into it changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tools import images
from tools.run import ROOT, Problem


@pytest.mark.parametrize("name", sorted(images.HOSTS))
def test_the_same_inputs_give_the_same_hash_and_no_other_host_shares_it(name: str) -> None:
    assert images.inputs(name) == images.inputs(name)
    assert [other for other in images.HOSTS if images.inputs(other) == images.inputs(name)] == [name]


def test_another_package_gives_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.inputs("debian12")
    monkeypatch.setattr(images, "PACKAGES", (*images.PACKAGES, "vim"))
    assert images.inputs("debian12") != before


def test_another_suite_gives_another_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    before = images.inputs("debian12")
    monkeypatch.setitem(images.HOSTS, "debian12", replace(images.HOSTS["debian12"], suite="trixie"))
    assert images.inputs("debian12") != before


def test_an_unknown_host_is_refused_with_those_there_are() -> None:
    with pytest.raises(Problem, match="No such test host: debian10. There are: debian11, .*ubuntu2604"):
        images.ensure(["debian12", "debian10"])


def test_an_archive_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "published", lambda mirror, suite: False)
    with pytest.raises(Problem) as refused:
        images.sources("ubuntu2404")
    assert str(refused.value) == "ubuntu2404 cannot be built here: http://archive.ubuntu.com/ubuntu did not answer."


def test_the_first_mirror_that_has_the_suite_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    archive = images.Archive("keyring", ("http://one.test/a", "http://two.test/a"), "http://one.test/s")
    monkeypatch.setitem(images.HOSTS, "debian11", images.Host(archive, "old", "old-security"))
    monkeypatch.setattr(images, "published", lambda mirror, suite: mirror != "http://one.test/a")
    assert images.sources("debian11") == [
        "deb http://two.test/a old main",
        "deb http://two.test/a old-updates main",
        "deb http://one.test/s old-security main",
    ]


def test_a_suite_that_is_not_published_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "published", lambda mirror, suite: "-updates" not in suite)
    assert images.sources("ubuntu2404")
    assert not [line for line in images.sources("ubuntu2404") if "updates" in line]


def test_where_debian_is_published_is_left_to_mmdebstrap() -> None:
    assert images.sources("debian12") == []


@pytest.mark.parametrize("name", sorted(images.HOSTS))
def test_only_hosts_that_say_so_accept_an_expired_archive(name: str) -> None:
    accepts = f"--aptopt={images.EXPIRED}" in images.command(name, [])
    assert accepts == (name in {"debian11", "testing"})


@pytest.mark.parametrize("name", sorted(images.HOSTS))
def test_a_host_has_what_the_role_and_ssh_need_and_not_what_the_role_installs(name: str) -> None:
    include = next(part for part in images.command(name, []) if part.startswith("--include="))
    packages = include.removeprefix("--include=").split(",")
    assert {"systemd-sysv", "python3", "sudo", "openssh-server"} <= set(packages)
    assert not {"nginx", "python3-venv", "python3-apt"} & set(packages)


def test_the_key_of_ubuntus_archive_is_in_the_repository() -> None:
    keys = list((ROOT / images.UBUNTU.keyring).glob("*.asc"))
    assert keys and all("BEGIN PGP PUBLIC KEY BLOCK" in key.read_text() for key in keys)

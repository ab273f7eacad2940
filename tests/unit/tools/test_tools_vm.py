"""Machines of the scenario `vm`: their disks, and the command that each is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tools import disks, images, vm
from tools.run import Problem

MACHINE = vm.Machine("vm-debian12", "debian12", 2022, 2080)


def test_only_loopback_leads_to_a_machine() -> None:
    argv = vm.command(MACHINE, disks.Disk(Path("/d")), "tcg", Path("/c"))
    (network,) = (word for word in argv if word.startswith("user,"))
    ways = [part for part in network.split(",") if part.startswith("hostfwd=")]
    assert ways == ["hostfwd=tcp:127.0.0.1:2022-:22", "hostfwd=tcp:127.0.0.1:2080-:80"]


@pytest.mark.parametrize(
    ("may", "says", "found"),
    [
        (True, b"[    0.000000] Linux version 6.1", "kvm"),
        (True, b"Probing EDD (edd=off to disable)... ok", "tcg"),  # and there it stays: KVM within a virtual machine
        (True, None, "tcg"),
        (False, b"Linux version", "tcg"),
    ],
)
def test_kvm_is_used_where_a_kernel_runs_with_it(
    monkeypatch: pytest.MonkeyPatch, may: bool, says: bytes | None, found: str
) -> None:
    def run(argv: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        if says is None or b"EDD" in says:
            raise subprocess.TimeoutExpired(argv, 1, output=says)
        return subprocess.CompletedProcess(argv, 0, says)

    monkeypatch.setattr("tools.vm.os.access", lambda path, mode: may)
    monkeypatch.setattr("tools.vm.subprocess.run", run)
    vm.accelerator.cache_clear()
    assert vm.accelerator(Path("/k")) == found
    vm.accelerator.cache_clear()


def test_a_disk_is_another_one_when_something_in_it_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    before = disks.inputs("debian12", "ssh-ed25519 A")
    assert before == disks.inputs("debian12", "ssh-ed25519 A")
    assert before != disks.inputs("debian12", "ssh-ed25519 B")
    assert before != disks.inputs("debian13", "ssh-ed25519 A")
    monkeypatch.setattr(disks, "PACKAGES", (*disks.PACKAGES, "ufw"))
    assert before != disks.inputs("debian12", "ssh-ed25519 A")


def test_a_disk_comes_from_the_archive_of_the_containers() -> None:
    argv = disks.command("debian12", Path("/r"))
    host = images.HOSTS["debian12"]
    assert argv[0] == "mmdebstrap" and f"--keyring={host.archive.keyring}" in argv
    assert argv[-2:] == [host.suite, "/r"], "mmdebstrap knows the archive itself"


def test_the_user_of_a_cloud_has_a_key_and_the_archive_stays() -> None:
    (text,) = (text for name, text in disks.files("ssh-ed25519 A\n").items() if name.endswith("user-data"))
    assert text.startswith("#cloud-config\n")
    data = yaml.safe_load(text)
    assert data["ssh_authorized_keys"] == ["ssh-ed25519 A"]
    assert data["apt"] == {"preserve_sources_list": True}


def test_an_unknown_disk_is_told_with_those_that_there_are() -> None:
    with pytest.raises(Problem, match=r"No such disk: plan9. There are: debian12, debian13"):
        disks.ensure("plan9")


def test_qemu_is_installed_by_its_debian_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(
        "tools.disks.shutil.which", lambda name, path=None: "/x" if name in ("mke2fs", "apt-get") else None
    )
    monkeypatch.setattr("tools.disks.os.geteuid", lambda: 0)
    monkeypatch.setattr("tools.disks.platform.machine", lambda: "x86_64")
    monkeypatch.setattr(disks, "apt_install", asked.extend)
    disks.install_programs()
    assert asked == ["qemu-system-x86", "qemu-utils"]
    monkeypatch.setattr("tools.disks.os.geteuid", lambda: 1000)
    with pytest.raises(Problem, match="sudo apt install qemu-system-x86 qemu-utils"):
        disks.install_programs()
    monkeypatch.setattr("tools.disks.platform.machine", lambda: "aarch64")
    with pytest.raises(Problem, match="aarch64"):
        disks.install_programs()


def test_a_machine_is_the_process_on_record_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disks, "PLACE", tmp_path)
    assert vm.find("vm-debian12") is None
    vm.record("vm-debian12").write_text("{half")
    assert vm.find("vm-debian12") is None
    another = vm.Machine("vm-debian12", "debian12", 1, 2, pid=os.getpid(), started_at="0")
    assert not another.runs, "a process that has the number of one that is gone"
    vm.cut("vm-debian12")  # and so it is not killed


def test_molecule_is_told_how_a_machine_is_reached(tmp_path: Path) -> None:
    vm.write_instances([MACHINE], tmp_path / "instances.yml")
    (told,) = yaml.safe_load((tmp_path / "instances.yml").read_text())
    assert told["instance"] == "vm-debian12" and (told["address"], told["port"]) == ("127.0.0.1", 2022)
    assert told["user"] != "root"

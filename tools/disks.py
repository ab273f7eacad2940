"""Build the disk of a virtual machine: what a small server in a cloud has when it is handed over.

Of the same archives as the containers of tools/images.py, with what those have not: a kernel, AppArmor, cloud-init,
which makes the user at the first boot, and a resolver that listens at 127.0.0.53. qemu starts the kernel itself, so
that a disk needs no boot loader. A disk is built once and used until something that goes into it changes; machines
write to a layer above it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path

from tools import images
from tools.run import CACHE, LOGS, Problem, apt_install, need, output, step

PLACE = CACHE / "vm"
KEY = PLACE / "key"
KINDS = ("debian12", "debian13")
# the programs that disks and machines need of this machine, and the packages that have them
PROGRAMS = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "mke2fs": "e2fsprogs"}
PACKAGES = (
    *images.PACKAGES,
    "linux-image-cloud-amd64",
    "initramfs-tools",
    "apparmor",
    "cloud-init",
    "systemd-resolved",
    "libnss-resolve",
    "e2fsprogs",
)
SIZE = "8G"  # of which the file has only what was written
FILES = {
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/systemd/network/10-wired.network": "[Match]\nName=en*\n\n[Network]\nDHCP=yes\n",
    # the network is there before cloud-init, and the archive stays the one that the disk was made from
    "etc/cloud/cloud.cfg.d/90-here.cfg": "datasource_list: [NoCloud, None]\nnetwork: {config: disabled}\n",
    "var/lib/cloud/seed/nocloud/meta-data": "instance-id: flaskfleet\nlocal-hostname: server\n",
}
USER_DATA = """\
#cloud-config
ssh_authorized_keys:
  - {key}
apt:
  preserve_sources_list: true
manage_etc_hosts: true
locale: C.UTF-8
"""
USER = "debian"  # as Debian's cloud-init calls it: a key, no password, sudo without one


@dataclass(frozen=True)
class Disk:
    """A disk, and the kernel that is on it, which qemu loads by itself."""

    home: Path

    @property
    def image(self) -> Path:
        """The file system."""
        return self.home / "disk.ext4"

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.home / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """What the kernel starts with."""
        return self.home / "initrd.img"

    @property
    def stamp(self) -> Path:
        """What it was made from; written last."""
        return self.home / "made-from"


def search_path() -> str:
    """PATH with what only root runs, as a rule."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def install_programs() -> None:
    """Make sure that qemu and what makes file systems are there."""
    if platform.machine() != "x86_64":
        raise Problem(f"Virtual machines are made for x86_64, and this machine is {platform.machine()}.")
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program, path=search_path()) is None]
    if not missing:
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise Problem(f"Virtual machines need qemu: sudo apt install {' '.join(missing)}.")
    apt_install(missing)


def key() -> Path:
    """The key of the person who releases to the machines, made once."""
    PLACE.mkdir(parents=True, exist_ok=True)
    if not KEY.exists():
        argv = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "deploy", "-f", str(KEY)]
        if output(argv) is None:
            raise Problem("ssh-keygen made no key: install an SSH client (on Debian or Ubuntu: openssh-client).")
    return KEY


def files(public_key: str) -> dict[str, str]:
    """What is written to a disk beside its packages."""
    return {**FILES, "var/lib/cloud/seed/nocloud/user-data": USER_DATA.format(key=public_key.strip())}


def inputs(kind: str, public_key: str) -> str:
    """A short hash of everything that goes into a disk, except what the archive publishes that day."""
    recipe = [images.inputs(kind), PACKAGES, files(public_key), SIZE]
    return hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]


def command(kind: str, root: Path) -> list[str]:
    """The mmdebstrap command that makes the files of a disk."""
    host = images.HOSTS[kind]
    return [
        "mmdebstrap",
        "--variant=important",
        f"--include={','.join(PACKAGES)}",
        f"--keyring={host.archive.keyring}",
        f'--customize-hook=chroot "$1" systemctl mask --quiet {" ".join(images.MASKED)}',
        '--customize-hook=chroot "$1" systemctl enable --quiet systemd-networkd systemd-resolved',
        *([f"--aptopt={images.EXPIRED}"] if host.may_be_expired else []),
        host.suite,
        str(root),
        *images.sources(kind),
    ]


def build(kind: str, disk: Disk, public_key: str) -> None:
    """Make a disk: its files, then a file system of them."""
    root, log = disk.home / "root", LOGS / f"disk-{kind}.log"
    shutil.rmtree(disk.home, ignore_errors=True)
    disk.home.mkdir(parents=True)
    for layer in PLACE.glob(f"*-{kind}.qcow2"):
        layer.unlink()  # it means nothing above another disk
    fail = f"The disk {kind} could not be built."
    need(command(kind, root), log, fail, {"LC_ALL": "C.UTF-8"})
    for name, text in files(public_key).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    # as Ubuntu has it: whoever asks for a name asks the resolver of this machine
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    (root / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    for wanted, pattern in ((disk.kernel, "vmlinuz-*"), (disk.initrd, "initrd.img-*")):
        shutil.copy(next((root / "boot").glob(pattern)), wanted)
    need(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk.image), SIZE], log, fail, {"PATH": search_path()})
    shutil.rmtree(root)
    disk.stamp.write_text(inputs(kind, public_key))


def ensure(kind: str) -> Disk:
    """Make sure that the disk of a kind of host is there and current."""
    if kind not in KINDS:
        raise Problem(f"No such disk: {kind}. There are: {', '.join(KINDS)}.")
    install_programs()
    public_key = key().with_suffix(".pub").read_text()
    disk = Disk(PLACE / kind)
    with images.one_builder():
        if disk.stamp.exists() and disk.stamp.read_text() == inputs(kind, public_key):
            return disk
        if os.geteuid() != 0:
            raise Problem("A disk has files of every owner, so root makes it: sudo make vm.")
        images.install_builder([images.HOSTS[kind].archive])
        with step(f"building the disk {kind}"):
            build(kind, disk, public_key)
    return disk

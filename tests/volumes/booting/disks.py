"""Three disks that boot: BIOS with an MBR, BIOS with a GPT, and EFI."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path
from typing import NamedTuple

from tests.support.tools import run
from tests.volumes.booting import parts as boot_parts

SIZE = 144 << 20
_MIB = 1 << 20
_ESP_SIZE = 36 * _MIB
"""The smallest with enough clusters for FAT32."""


class BootDisk(NamedTuple):
    """A disk: where it is, how it starts, what its console must say, and its layout's name."""

    path: Path
    efi: bool
    line: str
    name: str


class Parts(NamedTuple):
    """What all disks share: a tree for the root volume, and GRUB's cores."""

    tree: Path
    bios: bytes
    efi: Path
    line: str


def make_parts(at: Path) -> Parts:
    """The tree holds the kernel, the initramfs, and a file whose hash the console must say."""
    tree = at / "tree"
    (tree / "boot").mkdir(parents=True)
    shutil.copy(boot_parts.kernel(), tree / "boot" / "vmlinuz")
    (tree / "boot" / "initrd").write_bytes(boot_parts.initramfs())
    proof = random.Random(4).randbytes(3 * _MIB)
    (tree / "proof").write_bytes(proof)
    efi = at / "BOOTX64.EFI"
    efi.write_bytes(boot_parts.grub_image("x86_64-efi", at))
    line = f"booted with {hashlib.sha256(proof).hexdigest()}"
    return Parts(tree, boot_parts.grub_image("i386-pc", at), efi, line)


def make_disk(name: str, parts: Parts, at: Path) -> BootDisk:
    """The disk ``"mbr"``, ``"gpt"`` or ``"efi"``."""
    disk = at / f"{name}.raw"
    with open(disk, "wb") as file:
        file.truncate(SIZE)
    {"mbr": _mbr, "gpt": _gpt, "efi": _efi}[name](disk, parts)
    return BootDisk(disk, name == "efi", parts.line, name)


def _mbr(disk: Path, parts: Parts) -> None:
    """GRUB's core lies between the MBR and the first partition."""
    _partition(disk, "label: dos\nlabel-id: 0x4a5b6c7d\nstart=2048, type=83, bootable\n")
    _root_volume(disk, parts, _MIB, SIZE - _MIB)
    boot_parts.install_grub(disk, parts.bios, 1)


def _gpt(disk: Path, parts: Parts) -> None:
    """GRUB's core has a partition of its own."""
    bios_boot = "21686148-6449-6E6F-744E-656564454649"
    _partition(disk, f"label: gpt\nstart=2048, size=2048, type={bios_boot}\nstart=4096, type=L\n")
    _root_volume(disk, parts, 2 * _MIB, SIZE - 3 * _MIB)
    boot_parts.install_grub(disk, parts.bios, 2048)


def _efi(disk: Path, parts: Parts) -> None:
    """GRUB is a file on the EFI system partition."""
    sectors = _ESP_SIZE // 512
    script = f"label: gpt\nstart=2048, size={sectors}, type=U\nstart={2048 + sectors}, type=L\n"
    _partition(disk, script)
    _root_volume(disk, parts, _MIB + _ESP_SIZE, SIZE - _ESP_SIZE - 2 * _MIB)
    system = disk.with_suffix(".esp")
    with open(system, "wb") as file:
        file.truncate(_ESP_SIZE)
    run(["mkfs.fat", "-F", "32", "-s", "1", system])
    run(["mmd", "-i", system, "::/EFI", "::/EFI/BOOT"])
    run(["mcopy", "-i", system, parts.efi, "::/EFI/BOOT/BOOTX64.EFI"])
    with open(disk, "r+b") as file:
        file.seek(_MIB)
        file.write(system.read_bytes())
    system.unlink()


def _partition(disk: Path, script: str) -> None:
    layout = disk.with_suffix(".sfdisk")
    layout.write_text(script)
    with open(layout) as file:
        run(["sh", "-c", 'exec sfdisk --quiet "$1" <"$2"', "sh", disk, file.name])


def _root_volume(disk: Path, parts: Parts, offset: int, size: int) -> None:
    run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-U", boot_parts.ROOT_UUID, "-L", "root", "-d",
         parts.tree, "-E", f"offset={offset}", disk, f"{size // 1024}k"]
    )  # fmt: skip

"""Volumes and disks that are written to a device of other sectors: what cannot be used there is
said, by all who write one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

import aipimage
from tests.support import loop_device
from tests.support.tools import mounted, require_programs, run
from tests.volumes.restoring.made import MIB

SMALL, LARGE = 512, 4096
NOT_READ, MOUNT = "Windows takes it for not formatted there", "it cannot be mounted there"
VOLUMES = {
    "xfs 512": (320, ("mkfs.xfs", "-q", "-f", "-s", "size=512"), SMALL, "sectors of 512", MOUNT),
    "xfs 4096": (320, ("mkfs.xfs", "-q", "-f", "-s", "size=4096"), SMALL, "", ""),
    "ext 1k": (64, ("mke2fs", "-q", "-F", "-b", "1024"), SMALL, "blocks of 1024", MOUNT),
    "ext 2k": (64, ("mke2fs", "-q", "-F", "-b", "2048"), SMALL, "blocks of 2048", MOUNT),
    "ext4 4k": (64, ("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096"), SMALL, "", ""),
    "ntfs 512": (64, ("mkntfs", "-q", "-F", "-f"), SMALL, "sectors of 512", MOUNT),
    "fat32 512": (64, ("mkfs.fat", "-F", "32"), SMALL, "sectors of 512", MOUNT),
    "fat16 512": (64, ("mkfs.fat", "-F", "16"), SMALL, "sectors of 512", MOUNT),
    "exfat 512": (64, ("mkfs.exfat",), SMALL, "sectors of 512", MOUNT),
    "btrfs": (128, ("mkfs.btrfs", "-q"), SMALL, "", ""),
    "swap": (64, ("mkswap",), SMALL, "", ""),
    "ntfs 4096": (64, ("mkntfs", "-qFf", "-s", "4096"), LARGE, "sectors of 4096", NOT_READ),
    "fat32 4096": (300, ("mkfs.fat", "-F", "32", "-S", "4096"), LARGE, "sectors of 4096", NOT_READ),
    "exfat 4096": (64, ("mkfs.exfat",), LARGE, "sectors of 4096", NOT_READ),
    "xfs 4096 to 512": (320, ("mkfs.xfs", "-q", "-f"), LARGE, "", ""),
    "luks": (64, ("cryptsetup", "-q", "luksFormat", "--pbkdf", "pbkdf2", "--pbkdf-force-iterations",
                  "1000", "--key-file", "/etc/hostname"), SMALL, "comes from sectors of 512",
             "what is in it may not be usable there"),
}  # fmt: skip


def volume_on(directory: Path, mib: int, words: Sequence[str], sector: int) -> Path:
    """An image of a volume that was made on a device of such sectors."""
    require_programs(words[0])
    volume = directory / "s.img"
    with open(volume, "wb") as file:
        file.truncate(mib * MIB)
    with loop_device(volume, "--sector-size", str(sector)) as device:
        run([*words, device])
        aipimage.create(directory / "s.aiv", [device], compress="zstd:1")
    return directory / "s.aiv"


@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume_on_a_device_of_other_sectors(tmp_path: Path, name: str) -> None:
    """``restorevolume``, ``restoredisk`` of a disk that is one volume, and ``convert`` say the
    same; where they say nothing it can be mounted.
    """
    mib, words, sector, *wanted = VOLUMES[name]
    image, target = volume_on(tmp_path, mib, words, sector), tmp_path / "t.img"
    with open(target, "wb") as file:
        file.truncate(mib * MIB)
    other = LARGE + SMALL - sector
    with aipimage.open(image) as opened:
        with loop_device(target, "--sector-size", str(other)) as device:
            told = [
                opened.restore_volume(device).warnings,
                opened.restore(device).warnings,
                aipimage.convert(image, device, format="raw", overwrite=True).warnings,
            ]
            if not wanted[0] and name != "swap":
                with mounted(target, tmp_path / "mnt", "-o", "ro"):
                    pass
        for warnings in told:
            assert len(warnings) == bool(wanted[0]), warnings
            for each in warnings:
                assert all(part in each for part in wanted)
                assert f"{device} has sectors of {other}" in each
        # A device of its own sectors, or a file, is no reason to say anything.
        with loop_device(target, "--sector-size", str(sector)) as device:
            assert opened.restore_volume(device).warnings == ()
            assert opened.restore(device).warnings == ()
        assert opened.restore_volume(tmp_path / "file").warnings == ()


@pytest.mark.parametrize("sector", [SMALL, LARGE])
def test_a_partition_table_on_a_disk_of_other_sectors(tmp_path: Path, sector: int) -> None:
    """It counts in sectors: those that it was written for, whatever the file was read as."""
    require_programs("sfdisk")
    disk, target = tmp_path / "d.img", tmp_path / "t.img"
    for path in (disk, target):
        with open(path, "wb") as file:
            file.truncate(64 * MIB)
    with loop_device(disk, "--sector-size", str(sector)) as device:
        run(["sh", "-c", f"printf 'label: gpt\\n,\\n' | sfdisk -q {device}"])
    # The image is made of the file, which does not tell the sectors.
    aipimage.create(tmp_path / "d.aiv", [disk])
    with aipimage.open(tmp_path / "d.aiv") as opened:
        for there in (SMALL, LARGE):
            with loop_device(target, "--sector-size", str(there)) as device:
                told = [
                    opened.restore(device).warnings,
                    aipimage.convert(disk, device, format="raw", overwrite=True).warnings,
                ]
            for warnings in told:
                assert len(warnings) == (there != sector), warnings
                assert all(f"the disk had sectors of {sector} bytes" in each for each in warnings)

"""What is said of disks of many kinds: firmware, system, and why."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from aipimage.vmdk.guest import GuestInfo, examine, starting_disk
from aipimage.vmdk.guest.info import UNKNOWN, system_of
from aipimage.vmdk.guest.parttypes import ARCHITECTURES, BIOS_BOOT, EFI_SYSTEM, LINUX, WINDOWS
from tests.support.tools import require_programs, run
from tests.vmdk.guest import made as disks
from tests.vmdk.guest.made import MIB, disk_of, fat, ntfs, report
from tests.volumes.tables.made import gpt_pieces, mbr_sector, source_of


@pytest.fixture(autouse=True)
def _tools() -> None:
    require_programs("sfdisk", "mkfs.fat", "mmd", "mcopy", "mkntfs", "ntfscp", "mke2fs", "mkswap")


def info_of(path: Path) -> GuestInfo:
    return report(path).info


def ext4(path: Path, size: int = 8 * MIB) -> Path:
    with open(path, "wb") as file:
        file.truncate(size)
    run(["mke2fs", "-q", "-F", "-t", "ext4", path])
    return path


def test_windows_on_a_bios(tmp_path: Path) -> None:
    volume = ntfs(tmp_path / "v", ["bootmgr"], "-p", "2048", "-H", "255", "-S", "63")
    script = "label: dos\nstart=2048, size=16384, type=7, bootable\n"
    path = disk_of(tmp_path / "d", script, {MIB: volume}, disks.CODE)
    info = info_of(path)
    assert (info.firmware, info.bios, info.efi, info.starts) == ("bios", True, False, True)
    assert info.firmware_reason == (
        "the first sector has boot code, and partition 1 is active, with a boot sector"
    )
    assert (info.family, info.architecture) == ("windows", "")
    assert info.family_reason == "partition 1 is NTFS with bootmgr"
    assert (info.os_id, info.os_type, info.os_name) == (120, "windows9_64Guest", "Windows (64-bit)")
    assert info.reasons == (
        "The first sector has boot code, and partition 1 is active, with a boot sector.",
        "Partition 1 is NTFS with bootmgr.",
    )


def test_an_old_windows(tmp_path: Path) -> None:
    volume = ntfs(tmp_path / "v", ["NTLDR"], "-p", "63", "-H", "255", "-S", "63")
    script = "label: dos\nstart=63, size=16384, type=7, bootable\n"
    info = info_of(disk_of(tmp_path / "d", script, {63 * 512: volume}, disks.CODE))
    assert (info.firmware, info.family, info.os_type) == ("bios", "windows", "winXPProGuest")
    assert info.family_reason == "partition 1 is NTFS with ntldr"


def test_windows_on_efi(tmp_path: Path) -> None:
    """As its setup makes it; the protective MBR has Windows' boot code, which means nothing."""
    esp = fat(tmp_path / "e", ["EFI", "EFI/Microsoft", "EFI/Boot", "EFI/Boot/bootx64.efi"])
    volume = ntfs(tmp_path / "v", ["bootmgr", "Program Files (x86)"])
    script = (
        f"label: gpt\nstart=2048, size=16384, type={disks.ESP}\n"
        f"start=18432, size=2048, type={disks.RESERVED}\n"
        f"start=20480, size=16384, type={disks.BASIC}\n"
    )
    path = disk_of(tmp_path / "d", script, {MIB: esp, 10 * MIB: volume})
    with open(path, "r+b") as file:
        file.write(disks.CODE)
    info = info_of(path)
    assert (info.firmware, info.bios, info.efi, info.has_boot_code) == ("efi", False, True, True)
    assert info.firmware_reason == (
        "partition 1 is an EFI system partition with \\EFI\\microsoft, \\EFI\\boot"
    )
    assert (info.family, info.architecture, info.os_id) == ("windows", "x86-64", 120)
    assert "Partition 2 is of the type: reserved by Microsoft." in info.reasons
    assert [volume.filesystem for volume in info.volumes] == ["fat12", "", "ntfs"]


def test_linux_that_both_can_start(tmp_path: Path) -> None:
    """As cloud images are: a core of GRUB for a BIOS, and an EFI system partition."""
    esp = fat(tmp_path / "e", ["EFI", "EFI/debian", "EFI/BOOT", "EFI/BOOT/BOOTX64.EFI"])
    core = tmp_path / "core"
    core.write_bytes(disks.CODE)
    script = (
        f"label: gpt\nstart=2048, size=2048, type={disks.BIOS_BOOT}\n"
        f"start=4096, size=16384, type={disks.ESP}\nstart=20480, size=16384, type={disks.LINUX}\n"
    )
    pieces = {MIB: core, 2 * MIB: esp, 10 * MIB: ext4(tmp_path / "v")}
    path = disk_of(tmp_path / "d", script, pieces)
    with open(path, "r+b") as file:
        file.write(disks.CODE[:150] + b"GRUB ")
    info = info_of(path)
    assert (info.firmware, info.bios, info.efi) == ("efi", True, True)
    assert info.firmware_reason == (
        "partition 2 is an EFI system partition with \\EFI\\debian, \\EFI\\boot; a BIOS could "
        "start it too: the first sector has code of GRUB, and partition 1 holds the core of a boot "
        "loader"
    )
    assert (info.family, info.family_reason) == ("linux", "partition 3 is ext4")
    assert (info.architecture, info.os_id) == ("x86-64", 101)
    script = script.replace("label: gpt", "label: dos").replace(disks.BIOS_BOOT, "83")
    script = script.replace(disks.ESP, "ef").replace(disks.LINUX, "83, bootable")
    mixed = info_of(disk_of(tmp_path / "m", script, pieces, disks.CODE[:150] + b"GRUB "))
    assert (mixed.scheme, mixed.firmware, mixed.efi) == ("mbr", "bios", True)
    assert "EFI firmware could start it too: partition 2" in mixed.firmware_reason


def test_system_of_a_disk_with_both(tmp_path: Path) -> None:
    """Data of the one does not outweigh a system of the other; of two systems the larger counts."""
    data = ntfs(tmp_path / "n", [], size=20 * MIB)
    root = ext4(tmp_path / "v")
    script = (
        f"label: gpt\nstart=2048, size=40960, type={disks.BASIC}\n"
        f"start=43008, size=16384, type={disks.LINUX}\n"
    )
    path = disk_of(tmp_path / "d", script, {MIB: data, 21 * MIB: root})
    info = info_of(path)
    assert (info.family, info.family_reason) == ("linux", "partition 2 is ext4")
    assert (info.firmware, info.starts) == (None, False)
    assert info.firmware_reason == "nothing to start from was found"
    system = ntfs(tmp_path / "w", ["bootmgr"], size=20 * MIB)
    both = info_of(disk_of(path, script, {MIB: system, 21 * MIB: root}))
    assert both.family == "windows"
    assert both.family_reason == "partition 1 is NTFS with bootmgr; there is linux too"


def test_a_volume_without_a_table(tmp_path: Path) -> None:
    swap = tmp_path / "s"
    with open(swap, "wb") as file:
        file.truncate(8 * MIB)
    run(["mkswap", swap])
    info = info_of(swap)
    assert (info.scheme, info.family, info.firmware) == ("none", "linux", None)
    assert [(each.number, each.filesystem) for each in info.volumes] == [(0, "swap")]
    floppy = info_of(fat(tmp_path / "f", [], 1_474_560))
    assert (floppy.scheme, floppy.firmware, floppy.family) == ("none", "bios", None)
    assert not floppy.starts
    assert (floppy.has_boot_code, floppy.system) == (True, UNKNOWN)


def test_an_efi_partition_without_a_loader(tmp_path: Path) -> None:
    script = f"label: gpt\nstart=2048, size=16384, type={disks.ESP}\n"
    empty = fat(tmp_path / "e", [])
    info = info_of(disk_of(tmp_path / "d", script, {MIB: empty}))
    assert (info.firmware, info.efi, info.starts) == ("efi", False, False)
    assert "no loader was found" in info.firmware_reason
    other = fat(tmp_path / "o", ["EFI", "EFI/BOOT", "EFI/BOOT/BOOTAA64.EFI"])
    script = script.replace(disks.ESP, disks.BASIC)
    path = disk_of(tmp_path / "d", script, {MIB: other})
    info = info_of(path)
    assert (info.firmware, info.efi, info.architecture) == ("efi", True, "arm64")
    assert "it is not an EFI system partition" in info.firmware_reason
    assert "made for arm64" in report(path).warnings[0]


def test_sector_size_is_that_of_the_table() -> None:
    size = 64 * MIB
    for sector_size in (512, 4096):
        pieces = gpt_pieces(size, {1: (256, 1000)}, 4096)
        info = examine(source_of(size, pieces, sector_size))
        assert (info.sector_size, info.scheme) == (4096, "gpt")
    assert examine(source_of(size, {}, 4096)).sector_size == 4096
    assert examine(source_of(size, {0: mbr_sector([(0, 0x83, 2048, 100)])})).sector_size == 512


def test_which_disk_starts(tmp_path: Path) -> None:
    swap = examine(source_of(MIB, {0: mbr_sector([(0, 0x82, 64, 100)])}))
    system = examine(source_of(MIB, {0: mbr_sector([(0x80, 0x83, 64, 100)], code=disks.CODE)}))
    assert (swap.family, swap.starts, swap.firmware) == ("linux", False, None)
    assert (system.starts, system.firmware) == (True, "bios")
    assert system.firmware_reason == "the first sector has boot code, and partition 1 is active"
    data = examine(source_of(MIB, {0: mbr_sector([(0, 0x07, 64, 100)], code=disks.CODE)}))
    assert (data.starts, data.firmware) == (False, "bios")
    assert data.firmware_reason == "the first sector has boot code, but no partition is active"
    assert starting_disk([swap, data, system, system]) == 2
    assert starting_disk([swap]) is None
    assert starting_disk([]) is None


def test_names_for_an_appliance() -> None:
    assert system_of(None, "", False) == UNKNOWN
    assert system_of("linux", "x86", False).os_type == "other3xLinuxGuest"
    assert system_of("linux", "arm64", False).os_type == "other3xLinux64Guest"
    assert system_of("windows", "x86-64", True).os_type == "winXPPro64Guest"
    assert system_of("windows", "x86", False).os_id == 119


def test_types_are_those_of_sfdisk() -> None:
    """Numbers and GUIDs as util-linux knows them."""
    known = set()
    for label in ("gpt", "dos"):
        text = run(["sfdisk", "--label", label, "--list-types"])
        known |= set(re.findall(r"^ *([0-9A-Fa-f-]{36}|[0-9a-f]{1,2})  ", text, re.MULTILINE))
    known = {f"0x{int(each, 16):02x}" if len(each) < 3 else each.lower() for each in known}
    ours = {*EFI_SYSTEM, BIOS_BOOT, *WINDOWS, *LINUX, *ARCHITECTURES}
    assert ours - known - {"0x42"} == set()
    names = run(["sfdisk", "--label", "gpt", "--list-types"]).lower()
    assert all(f"{each}  linux" in names for each in LINUX if len(each) == 36)


@pytest.mark.parametrize(("size", "bits"), [(2, 12), (16, 16), (40, 32)])
def test_names_on_fat_are_those_of_mdir(size: int, bits: int, tmp_path: Path) -> None:
    """Long and short ones, more than a cluster holds, some of them deleted."""
    from aipimage.io.blocks.sources import open_source
    from aipimage.vmdk.guest.fatnames import FatNames
    from aipimage.volumes.filesystems.fat import PARSER
    from aipimage.volumes.view import VolumeView

    path = fat(tmp_path / "v", ["EFI"], size * MIB, "-F", str(bits), "-s", "1")
    run(["mlabel", "-i", path, "::A LABEL"])
    for number in range(40):
        name = f"a long name of number {number}" if number % 3 else f"SHORT{number}"
        run(["mmd", "-i", path, f"::/EFI/{name}"])
    for number in (1, 3, 30):
        name = f"a long name of number {number}" if number % 3 else f"SHORT{number}"
        run(["mrd", "-i", path, f"::/EFI/{name}"])
    told = subprocess.run(
        ["mdir", "-b", "-i", path, "::/EFI"], check=True, capture_output=True, text=True, timeout=60
    ).stdout
    source = open_source(path)
    view = VolumeView(source, 0, source.size)
    filesystem = PARSER.probe(view)
    assert filesystem is not None
    assert filesystem.kind == f"fat{bits}"
    names = FatNames(view, filesystem.details)  # type: ignore[arg-type]
    found = names.of("efi")
    assert found is not None
    theirs = [line.removeprefix("::/EFI/").rstrip("/") for line in told.splitlines()]
    assert [each.text for each in found] == theirs
    assert len(found) == 37
    assert all(each.is_directory for each in found)
    assert [each.text for each in names.of() or []] == ["EFI"]
    assert names.of("EFI", "short3") is None
    assert names.of("EFI", "short6") == []
    source.close()

"""What reads a volume besides its live file system: suspended systems, volume managers, snapshots,
sprouted file systems. What they may need is never left out.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from aipimage.io.blocks.sources import open_source
from aipimage.volumes.filesystems.opaque import FROM_END
from aipimage.volumes.survey import DiskSurvey, survey
from tests.support import loop_device
from tests.support.sources import SparseSource
from tests.support.tools import mounted, require_programs, run
from tests.volumes.containers.made import free_of, wipe
from tests.volumes.fat.built import fat16
from tests.volumes.ntfs.small import PAGING, small_volume
from tests.volumes.restoring.made import MIB, hashes_in, tree_of
from tests.volumes.tables.made import mbr_sector

FAT_TYPE, SWAP_TYPE, NTFS_TYPE, DYNAMIC = 0x06, 0x82, 0x07, 0x42
START = 2048


def fat_at(start: int) -> dict[int, bytes]:
    return {start * 512: fat16(clusters=8000).head_bytes()}


def swap_at(start: int, signature: bytes) -> dict[int, bytes]:
    header = bytearray(4096)
    header[1024:1032] = (1).to_bytes(4, "little") + (255).to_bytes(4, "little")
    header[4086:4096] = signature
    return {start * 512: bytes(header)}


def mbr_disk(*parts: tuple[int, int, int, dict[int, bytes]]) -> DiskSurvey:
    """Partitions of (type, first sector, sectors, content)."""
    rows = [(0, type_, start, count) for type_, start, count, _ in parts]
    pieces = {0: mbr_sector(rows)}
    for _, _, _, content in parts:
        pieces |= content
    return survey(SparseSource(64 * MIB, pieces))


@pytest.mark.parametrize(
    ("signature", "whole"),
    [
        (b"S1SUSPEND\0", True),
        (b"S2SUSPEND\0", True),
        (b"ULSUSPEND\0", True),
        (b"LINHIB0001", True),
        (b"SWAPSPACE2", False),
    ],
)
def test_a_suspended_system_has_all_volumes_of_its_disk(signature: bytes, whole: bool) -> None:
    found = mbr_disk(
        (FAT_TYPE, START, 20_000, fat_at(START)),
        (SWAP_TYPE, 40_960, 2048, swap_at(40_960, signature)),
    )
    fat, swap = found.volumes
    assert (fat.whole_because is not None) == whole
    assert (swap.whole_because is not None) == whole
    if whole:
        assert fat.whole_because == "a suspended system, in volume 2, may have it in use"
        assert found.free.total == 0
    else:
        assert found.free.total > 0


def test_a_hibernated_windows_has_the_other_volumes_too() -> None:
    data = small_volume()
    record = 32 * 512 + PAGING["hiberfil.sys"] * 1024
    # The first run of its content is behind the header of the attribute $DATA (0x80).
    at = record + int.from_bytes(data[record + 20 : record + 22], "little")
    while data[at : at + 4] != b"\x80\0\0\0":
        at += int.from_bytes(data[at + 4 : at + 8], "little")
    pairs = at + int.from_bytes(data[at + 32 : at + 34], "little")
    sizes = data[pairs]
    place = pairs + 1 + (sizes & 15)
    cluster = int.from_bytes(data[place : place + (sizes >> 4)], "little")
    for head, whole in ((b"hibr", True), (b"\0\0\0\0", False)):
        data[cluster * 512 : cluster * 512 + 4] = head
        found = mbr_disk(
            (NTFS_TYPE, START, 4096, {START * 512: bytes(data)}),
            (FAT_TYPE, 8192, 20_000, fat_at(8192)),
        )
        assert [each.whole_because is not None for each in found.volumes] == [whole, whole]


def test_a_partition_of_dynamic_disks_is_taken_whole() -> None:
    """What begins there may go on elsewhere, and another volume may come after its first part."""
    for type_, whole in ((DYNAMIC, True), (FAT_TYPE, False)):
        (found,) = mbr_disk((type_, START, 20_000, fat_at(START))).volumes
        assert found.filesystem is not None
        assert (found.filesystem.kind, found.whole_because is not None) == ("fat16", whole)


@pytest.mark.parametrize(
    ("guid", "reason"),
    [
        ("af9b60a0-1431-4f62-bc68-3311714a69ad", "dynamic disks"),
        ("e75caf8f-f680-4cee-afa3-b001e56efc2d", "storage pool"),
        ("52414944-0000-11aa-aa11-00306543ecac", "array of macOS"),
        ("53746f72-6167-11aa-aa11-00306543ecac", "Core Storage"),
        ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", ""),
    ],
)
def test_types_of_a_gpt_whose_content_lies_elsewhere(
    guid: str, reason: str, tmp_path: Path
) -> None:
    require_programs("sgdisk")
    disk = tmp_path / "d.img"
    with open(disk, "wb") as file:
        file.truncate(64 * MIB)
    run(["sgdisk", "-n", "1:2048:+20M", "-t", f"1:{guid}", disk])
    with open(disk, "r+b") as file:
        for offset, data in fat_at(START).items():
            file.seek(offset)
            file.write(data)
    source = open_source(disk)
    (found,) = survey(source).volumes
    source.close()
    assert (found.whole_because is None) == (not reason)
    assert reason in (found.whole_because or "")


@pytest.mark.parametrize("signature", FROM_END, ids=lambda each: f"{each.kind} {each.offset}")
def test_a_member_of_an_array_by_firmware(signature: object) -> None:
    """Its first member begins with the array's table, and with the first stripe of each volume."""
    kind, back, magic = signature  # type: ignore[misc]
    size = 64 * MIB + 512
    pieces = {0: mbr_sector([(0, FAT_TYPE, START, 20_000)]), size - back: magic} | fat_at(START)
    found = survey(SparseSource(size, pieces))
    assert found.doubt == f"the disk is a member of an array ({kind})"
    assert found.free.total == 0


def test_a_seed_is_read_by_what_grew_from_it(tmp_path: Path) -> None:
    """A sprouted Btrfs writes to its own device only, and reads what the seed calls used."""
    require_programs("mkfs.btrfs", "btrfs", "btrfstune")
    seed, sprout, place = tmp_path / "seed", tmp_path / "sprout", tmp_path / "mnt"
    for path in (seed, sprout):
        with open(path, "wb") as file:
            file.truncate(200 * MIB)
    run(["mkfs.btrfs", "-q", "--rootdir", tree_of(tmp_path / "tree"), seed])
    run(["btrfstune", "-S", "1", seed])
    place.mkdir()
    with loop_device(seed) as first, loop_device(sprout) as second:
        run(["mount", first, place])
        try:
            run(["btrfs", "device", "add", "-f", second, place])
            run(["mount", "-o", "remount,rw", place])
            (place / "new").write_bytes(random.Random(1).randbytes(5 * MIB))
            wanted = hashes_in(place)
        finally:
            run(["umount", place])
    source = open_source(seed)
    (volume,) = survey(source).volumes
    source.close()
    assert volume.whole_because is None
    free = free_of(volume.allocation, volume.size)
    assert sum(length for _, length in free) > 100 * MIB
    wipe(seed, free)
    with loop_device(seed), loop_device(sprout) as second:
        run(["btrfs", "device", "scan"])
        run(["mount", "-o", "ro", second, place])
        try:
            assert hashes_in(place) == wanted
        finally:
            run(["umount", place])
    # What grew has two devices, and each alone is taken whole.
    source = open_source(sprout)
    (volume,) = survey(source).volumes
    source.close()
    assert "2 devices" in (volume.whole_because or "")


def test_a_journal_on_another_device(tmp_path: Path) -> None:
    """The volume alone is read while the journal is empty; the journal is kept."""
    require_programs("mke2fs", "e2fsck")
    volume, journal = tmp_path / "volume", tmp_path / "journal"
    for path, mib in ((volume, 64), (journal, 16)):
        with open(path, "wb") as file:
            file.truncate(mib * MIB)
    with loop_device(volume) as first, loop_device(journal) as second:
        run(["mke2fs", "-q", "-F", "-b", "4096", "-O", "journal_dev", second])
        run(["mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-J", f"device={second}", first])
        for name, whole in ((first, False), (second, True)):
            source = open_source(name)
            (found,) = survey(source).volumes
            source.close()
            assert (found.whole_because is not None) == whole, found.whole_because
        with mounted(volume, tmp_path / "mnt", "-o", f"journal_path={second}"):
            source = open_source(first)
            (found,) = survey(source).volumes
            source.close()
            assert found.whole_because is not None

"""FAT12, FAT16 and FAT32: what is exact, and every doubt that makes a volume whole."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.fat import PARSER
from aipimage.volumes.filesystems.fat.table import entries_of
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.soon import SOON
from tests.support.sources import SparseSource
from tests.support.surveyed import surveyed, used_of
from tests.volumes.fat.built import END, FatVolume, fat12, fat16, fat32

ALL = [fat12(), fat16(), fat32()]
KINDS = ["fat12", "fat16", "fat32"]


def used(volume: FatVolume) -> list[int]:
    """Numbers of the clusters that are in use."""
    return (np.flatnonzero(used_of(surveyed(PARSER, volume.source())[1])) + 2).tolist()


def refused(volume: FatVolume, reason: str) -> None:
    """The volume is told to be FAT, and taken whole for that reason."""
    with pytest.raises(LayoutError, match=reason):
        surveyed(PARSER, volume.source())


def is_fat(volume: FatVolume) -> bool:
    source = volume.source()
    return PARSER.probe(VolumeView(source, 0, source.size)) is not None


@pytest.mark.parametrize("volume", ALL, ids=KINDS)
def test_what_is_free_and_what_is_said(volume: FatVolume) -> None:
    filesystem, allocation = surveyed(PARSER, volume.but(tail=5000 * 512).source())
    assert filesystem.kind == f"fat{volume.bits}"
    assert (filesystem.uuid, filesystem.label) == ("1234-ABCD", "")
    assert filesystem.size == volume.size
    assert filesystem.cluster_size == 512
    used_entries = sum(entry != 0 for entry in volume.entries)
    assert allocation.free.total == (volume.clusters - used_entries) * 512
    last = len(volume.entries)
    assert allocation.used_end == volume.data_start + last * 512
    assert used(volume) == [at for at, entry in enumerate(volume.entries, 2) if entry]
    # What lies before the clusters and behind the last one is kept.
    ranges = np.concatenate(list(allocation.free.ranges(0, volume.size + 5000 * 512)))
    assert int(ranges[0, 0]) >= volume.data_start
    assert int(ranges[-1].sum()) == volume.size


@pytest.mark.parametrize("bits", [12, 16, 32])
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_entries_are_decoded_as_one_by_one(bits: int, data: st.DataObject) -> None:
    values = data.draw(st.lists(st.integers(0, (1 << bits) - 1), min_size=2, max_size=50))
    packed = sum(value << bits * at for at, value in enumerate(values))
    raw = np.frombuffer(packed.to_bytes(-(-len(values) * bits // 8), "little"), np.uint8)
    first = data.draw(st.integers(0, len(values) - 1))
    found = entries_of(raw, bits, first, len(values) - first)
    assert found.tolist() == [value & 0x0FFFFFFF for value in values[first:]]


@pytest.mark.parametrize("volume", ALL, ids=KINDS)
def test_all_that_is_not_zero_is_in_use(volume: FatVolume) -> None:
    """Bad clusters, reserved values and chains that lead nowhere."""
    bits = volume.bits
    odd = tuple(value & END[bits] for value in (1, 0x0FFFFFF7, 0x0FFFFFF0, 0x0FFFFFF8, 2, 0))
    entries = (END[bits], *odd, 0x0FFF_FFF6 & END[bits], 3)
    assert used(volume.but(entries=entries)) == [2, 3, 4, 5, 6, 7, 9, 10]


def test_the_upper_bits_of_fat32_mean_nothing() -> None:
    entries = (0xFFFF_FFFF, 0xF000_0000, 0x1000_0000, 0xF000_0003)
    assert used(fat32(entries=entries, first=0xFFFF_FFFF)) == [2, 5]


def test_the_label_is_that_of_the_root_directory() -> None:
    long_name, gone = b"Ax" + bytes(9) + b"\x0f", b"\xe5LD        \x08"
    label = b"\x05 \x8eTEST    \x28"
    root = b"".join(part.ljust(32, b"\0") for part in (long_name, gone, label))
    for volume in ALL:
        assert surveyed(PARSER, volume.but(root=root).source())[0].label == "Õ ÄTEST"
    directory = b"FOLDER     \x18".ljust(32, b"\0")
    assert surveyed(PARSER, fat16(root=directory).source())[0].label == ""
    control = b"\x1b[2J       \x08".ljust(32, b"\0")
    assert surveyed(PARSER, fat16(root=control).source())[0].label == "?[2J"


def test_the_label_of_fat32_may_lie_in_a_later_cluster() -> None:
    entries = (3, END[32])
    file = b"FILE       \x20".ljust(32, b"\0") * 16
    root = file + b"LATER      \x08".ljust(32, b"\0")
    volume = fat32(entries=entries)
    source = volume.source()
    data = bytearray(source.pieces[0]) + bytes(512)
    data[volume.data_start : volume.data_start + len(root)] = root
    source.pieces[0] = bytes(data)
    assert surveyed(PARSER, source)[0].label == "LATER"


@pytest.mark.parametrize("volume", ALL, ids=KINDS)
@pytest.mark.parametrize("sectors", [-1, 1, 70_000])
def test_a_volume_that_is_taken_whole_for_its_size_has_its_label(
    volume: FatVolume, sectors: int
) -> None:
    """It is cut off, one sector too large, or has more clusters than its tables have entries."""
    named = volume.but(root=b"CAMERA     \x08".ljust(32, b"\0"))
    total = named.size // 512 + max(sectors, 0)
    small = total if total < 1 << 16 and volume.bits != 32 else 0
    boot = ((19, struct.pack("<H", small)), (32, struct.pack("<I", 0 if small else total)))
    source = named.but(boot=boot).source()
    source.size = named.size + (sectors * 512 if abs(sectors) > 1 or sectors < 0 else 0)
    filesystem = PARSER.probe(VolumeView(source, 0, source.size))
    assert filesystem is not None
    assert filesystem.label == "CAMERA"
    with pytest.raises(LayoutError, match=r"and it has|too many|too small"):
        surveyed(PARSER, source)


def test_a_root_directory_that_runs_in_a_circle_ends() -> None:
    file = b"FILE       \x20".ljust(32, b"\0") * 16
    assert surveyed(PARSER, fat32(entries=(2,), root=file).source())[0].label == ""


@pytest.mark.parametrize(
    ("clusters", "kind", "notes"),
    [
        (4083, "fat12", 0),
        (4084, "fat12", 0),
        (4085, "fat16", 1),
        (4086, "fat16", 1),
        (4087, "fat16", 0),
        (65_524, "fat16", 0),
    ],
)
def test_the_type_follows_from_the_count(clusters: int, kind: str, notes: int) -> None:
    bits = int(kind[3:])
    volume = fat16(bits=bits, clusters=clusters, entries=(END[bits],))
    filesystem, allocation = surveyed(PARSER, volume.source())
    assert filesystem.kind == kind
    assert len(allocation.notes) == notes
    assert {2} <= set(used(volume)) <= {2, 3}


def test_where_drivers_disagree_both_readings_are_kept() -> None:
    """Windows reads 4,085 and 4,086 clusters as FAT12, all others as FAT16."""
    entries = [0] * 4085
    entries[0], entries[3000] = 0xFFFF, 0x0123
    assert {2, 3002} <= set(used(fat16(clusters=4085, entries=tuple(entries))))
    # The same as FAT12: the high byte of FAT16's entry 1 is the low one of entry 2.
    narrow = [0] * 4085
    narrow[0], narrow[3999] = 0xFFF, 0x321
    volume = fat16(clusters=4085, bits=12, entries=tuple(narrow), fat_sectors=16)
    assert {2, 4001} <= set(used(volume))


def test_too_many_clusters_for_16_bits() -> None:
    refused(fat16(clusters=65_525, entries=(0xFFFF,)), "65,525 clusters are too many")


def test_class_45_entries_of_12_16_and_32_bits_are_not_mixed_up() -> None:
    """The last cluster alone is in use: any slip of width or of the two first entries shows."""
    for volume in ALL:
        for clusters in (volume.clusters, volume.clusters - 1, volume.clusters - 7):
            entries = [0] * clusters
            entries[0] = entries[-1] = END[volume.bits]
            changed = volume.but(clusters=clusters, entries=tuple(entries))
            assert used(changed) == [2, clusters + 1]


def test_class_46_a_count_of_clusters_that_overflows() -> None:
    most = struct.pack("<I", 0xFFFF_FFFF)
    wide = fat32(boot=((32, most),))
    refused(wide, "its boot sector says")
    # Where the size is there, the FAT cannot hold the clusters, or they are too many for 28 bits.
    huge = SparseSource(0xFFFF_FFFF * 512, dict(wide.source().pieces))
    with pytest.raises(LayoutError, match="clusters are too many"):
        surveyed(PARSER, huge)
    fewer = fat32(boot=((32, struct.pack("<I", 0x0FFF_0000)),)).source()
    with pytest.raises(LayoutError, match="too small for"):
        surveyed(PARSER, SparseSource(0x0FFF_0000 * 512, dict(fewer.pieces)))


def test_class_46_tables_as_large_as_the_volume() -> None:
    refused(fat32(boot=((36, struct.pack("<I", 0xFFFF_FFFF)),)), "no room for clusters")
    refused(fat16(boot=((22, b"\xff\xff"),)), "no room for clusters")
    refused(fat16(boot=((16, b"\xff"), (22, b"\xff\0"))), "no room for clusters")
    refused(fat16(boot=((14, b"\xff\xff"),)), "no room for clusters")


@pytest.mark.parametrize("volume", ALL, ids=KINDS)
def test_class_46_a_table_too_small_for_the_clusters(volume: FatVolume) -> None:
    entries = {12: 340, 16: 254, 32: 126}[volume.bits]
    base = volume.but(sector=512, fat_sectors=1, entries=(END[volume.bits],))
    if volume.bits == 16:
        base = base.but(fat_sectors=17)
        entries = 17 * 256 - 2
    assert used(base.but(clusters=entries)) == [2] if volume.bits != 12 else True
    if volume.bits == 12:
        assert used(base.but(clusters=339)) == [2]
    refused(base.but(clusters=entries + 1), "is too small for")


@pytest.mark.parametrize("sector", [512, 1024, 2048, 4096])
@pytest.mark.parametrize("per_cluster", [1, 8, 128])
@pytest.mark.parametrize("fats", [1, 2, 3, 4])
def test_class_48_sizes_that_are_rare(sector: int, per_cluster: int, fats: int) -> None:
    for volume in ALL:
        changed = volume.but(sector=sector, per_cluster=per_cluster, fats=fats)
        assert len(used(changed)) == len(used(volume))


def test_class_48_fat32_of_few_clusters() -> None:
    """Linux, Windows, mtools and fsck.fat all go by the 16-bit size of the tables, which is 0."""
    for clusters in (1, 4000, 4085, 65_524, 65_525):
        volume = fat32(clusters=clusters, entries=(END[32],))
        assert surveyed(PARSER, volume.source())[0].kind == "fat32"
        assert used(volume) == [2]


def test_class_48_layouts_without_what_most_have() -> None:
    # No backup boot sector, one said that was never written, one sector that is reserved.
    assert used(fat32(backup=0)) == used(fat32())
    assert used(fat32(backup=0, boot=((50, b"\x05\0"),))) == used(fat32())
    assert used(fat32(reserved=2, backup=0, boot=((50, b"\x06\0"),))) == used(fat32())
    assert used(fat12(media=0xF0)) == used(fat12())
    # No extended boot signature: then bit 1 of the state is anything.
    assert used(fat12(boot=((0x25, b"\x02\0"),))) == used(fat12())


def test_class_48_one_fat_in_force() -> None:
    """Mirroring is off: the other table is old, and what it calls used is kept beside."""
    old = ((0, 4 * 40, b"\xff\xff\xff\x0f"),)
    volume = fat32(flags=0x81, tables=old)
    assert used(volume) == [*used(fat32()), 40]
    assert surveyed(PARSER, volume.source())[1].notes
    other = fat32(flags=0x81, tables=((1, 4 * 40, b"\xff\xff\xff\x0f"),))
    assert used(other) == [*used(fat32()), 40]
    refused(fat32(flags=0x82), "FAT number 2 is in force, of 2")
    assert used(fat32(flags=0x01)) == used(fat32())


@pytest.mark.parametrize("volume", ALL, ids=KINDS)
def test_tables_that_differ(volume: FatVolume) -> None:
    for number, at in ((0, 9), (1, 9), (1, (volume.clusters + 2) * volume.bits // 8 - 1)):
        refused(volume.but(tables=((number, at, b"\x77"),)), "its FATs 0 and 1 differ")
    refused(volume.but(fats=3, tables=((2, 30, b"\x77"),)), "its FATs 0 and 2 differ")
    # What lies behind the last entry may be anything.
    behind = -(-(volume.clusters + 2) * volume.bits // 8) + 1
    assert used(volume.but(tables=((1, behind, b"\x77"),))) == used(volume)


def test_class_50_a_volume_that_had_errors() -> None:
    refused(fat16(first=0xBFFF), "errors were met")
    refused(fat32(first=0x0BFF_FFFF), "errors were met")
    for volume in ALL:
        state = 0x41 if volume.bits == 32 else 0x25
        refused(volume.but(boot=((state, b"\x02"),)), "boot sector says that errors")
        refused(volume.but(boot=((state, b"\x03"),)), "boot sector says that errors")


def test_class_50_the_table_in_force_is_asked() -> None:
    dirty = struct.pack("<I", 0x07FF_FFFF)
    for number, notes in ((0, 1), (1, 2)):
        volume = fat32(flags=0x81, tables=((number, 4, dirty),))
        assert len(surveyed(PARSER, volume.source())[1].notes) == notes


def test_a_backup_that_disagrees() -> None:
    refused(fat32(boot=((13, b"\x02"),), clusters=301), "backup of it disagree")
    refused(fat32(boot=((44, b"\x03"),)), "backup of it disagree")
    # Serial, label, state and boot code are not compared.
    assert used(fat32(boot=((67, b"\1\2\3\4"), (100, b"code")))) == used(fat32())


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (510, b"\0\0", "no signature"),
        (11, b"\x80\0", "sectors of 128"),
        (11, b"\0\x20", "sectors of 8,192"),
        (13, b"\0", "clusters of 0"),
        (13, b"\3", "clusters of 3"),
        (14, b"\0\0", "zero for reserved"),
        (16, b"\0", "zero for fats"),
        (21, b"\x11", "media 0x11"),
        (17, b"\x01\0", "not whole sectors"),
        (17, b"\0\0", "not whole sectors"),
        (21, b"\xf9", "does not begin with the media"),
        (19, b"\x20\0", "no room for clusters"),
        (19, b"\xff\xff", "and it has"),
    ],
)
def test_fields_out_of_range(at: int, value: bytes, reason: str) -> None:
    refused(fat16(boot=((at, value),)), reason)


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (42, b"\1\0", "unknown version"),
        (17, b"\x10\0", "unknown version"),
        (44, b"\0\0\0\0", "root directory begins in cluster 0"),
        (36, b"\0\0\0\0", "zero for fat"),
        (44, struct.pack("<I", 302), "root directory begins in cluster 302"),
    ],
)
def test_fields_of_fat32_out_of_range(at: int, value: bytes, reason: str) -> None:
    refused(fat32(backup=0, boot=((at, value),)), reason)


def test_a_root_directory_that_is_free() -> None:
    refused(fat32(entries=(0, END[32])), "calls the root directory free")


def test_sectors_that_cannot_be_read() -> None:
    volume = fat32()
    table = volume.reserved * 512
    for bad, reason in (((table, 512), "cannot be read"), ((6 * 512, 512), "cannot be read")):
        source = SparseSource(volume.size, {0: volume.head_bytes()}, bad=(bad,))
        with pytest.raises(LayoutError, match=reason):
            surveyed(PARSER, source)
    # Where only the label cannot be read, there is none.
    source = SparseSource(volume.size, {0: volume.head_bytes()}, bad=((volume.data_start, 512),))
    assert surveyed(PARSER, source)[0].label == ""


def test_what_is_no_fat() -> None:
    assert not is_fat(fat16(boot=((3, b"NTFS    "),)))
    assert not is_fat(fat16(boot=((3, b"EXFAT   "),)))
    assert not is_fat(fat32(boot=((3, b"-FVE-FS-"),)))
    to_go = bytes.fromhex("3bd66749292ed84a8399f6a339e3d001")
    assert not is_fat(fat32(boot=((3, b"MSWIN4.1"), (424, to_go))))
    assert not is_fat(fat16(boot=((54, b"HPFS    "),)))
    nothing = SparseSource(1 << 20, {})
    assert PARSER.probe(VolumeView(nothing, 0, nothing.size)) is None
    short = SparseSource(100, {})
    assert PARSER.probe(VolumeView(short, 0, 100)) is None
    unreadable = SparseSource(1 << 20, {}, bad=((0, 512),))
    assert PARSER.probe(VolumeView(unreadable, 0, unreadable.size)) is None


def test_an_old_volume_without_a_name_is_told_by_its_numbers() -> None:
    assert used(fat12(boot=((0x26, bytes(28)),))) == used(fat12())


def test_the_largest_fat32_takes_little_time() -> None:
    """4 TB in clusters of 16 KiB: nearly 2^28 entries."""
    count = 0x0FFF_FFF0
    volume = fat32(clusters=count, sector=4096, per_cluster=4, fats=1, entries=(END[32],))
    head = volume.but(clusters=300, fat_sectors=volume.table_sectors)
    boot = bytearray(head.boot_sector())
    boot[32:36] = struct.pack("<I", volume.size // 4096)
    pieces = {
        0: bytes(boot),
        6 * 4096: bytes(boot),
        8 * 4096: head.but(fat_sectors=1).table(),
        8 * 4096 + 4 * (count + 1): struct.pack("<I", END[32]),
    }
    source = SparseSource(volume.size, pieces)
    began = time.process_time()
    allocation = surveyed(PARSER, source)[1]
    took = time.process_time() - began
    assert isinstance(allocation.free, ClusterMap)
    assert allocation.free.free_clusters == count - 2
    assert took < SOON, took

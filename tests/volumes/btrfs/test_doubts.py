"""Btrfs volumes built by hand, wrong in one thing: in any doubt the whole volume is in use."""

from __future__ import annotations

import random
import struct

import pytest

from aipimage.errors import SourceError
from aipimage.io.blocks.sources import UnreadableRangeError
from aipimage.volumes.view import LayoutError
from tests.volumes.btrfs.built import (
    DATA,
    METADATA,
    MIB,
    NODE,
    SECTOR,
    SIZE,
    SYSTEM,
    Volume,
    sealed,
)
from tests.volumes.btrfs.surveyed import Change, chunk, survey


def item(name: str, at: int, key: tuple[int, int, int] | None = None, body: bytes = b"") -> Change:
    """Exchange an item's key or body, or both."""

    def change(volume: Volume) -> None:
        node = volume.nodes[name]
        before, data = node.items[at]
        node.items[at] = key or before, body or data
        if name in ("low", "high"):
            volume.point("extent", "low", "high")

    return change


def field(name: str, value: int) -> Change:
    """Write a field of the superblock."""
    return lambda volume: volume.superblock.update({name: value})


def node(name: str, **values: int) -> Change:
    """Set fields of a node."""

    def change(volume: Volume) -> None:
        for key, value in values.items():
            setattr(volume.nodes[name], key, value)

    return change


def children(*names: str) -> Change:
    """Let the extent tree's root point elsewhere."""
    return lambda volume: volume.point("extent", *names)


def one_sector_a_group(volume: Volume) -> None:
    """Extents as they are, and block groups that say something else."""
    for part in ("low", "high"):
        for at, (key, body) in enumerate(volume.nodes[part].items):
            if key[1] == 192:
                item(part, at, None, struct.pack("<Q", SECTOR) + body[8:])(volume)


def unaccounted(volume: Volume) -> None:
    """The device tree is at another place than its extent; all sums are right."""
    place, roots = METADATA + 3 * MIB, volume.nodes["root"].items
    for at, (key, body) in enumerate(roots):
        if key[0] == 4:
            roots[at] = key, body[:176] + struct.pack("<Q", place) + body[184:]
    volume.nodes["device"].address = place


def data_at(length: int, at: int = -3) -> Change:
    """Give an extent of data another length."""

    def change(volume: Volume) -> None:
        key, body = volume.nodes["high"].items[at]
        assert key[1] == 168
        item("high", at, (key[0], 168, length), body)(volume)

    return change


EXTENT = struct.pack("<QQQ", 1, 9, 1)


CASES: list[tuple[str, Change, str]] = [
    ("log tree of nothing", field("log_root", METADATA), "does not have the checksum"),
    ("log tree of level 8", field("log_root_level", 8), "out of range"),
    ("zoned", field("incompat_flags", 0x1341), "zoned"),
    ("extent tree v2", field("incompat_flags", 0x2341), "version 2 of the extent tree"),
    ("stripe tree", field("incompat_flags", 0x4341), "RAID stripe tree"),
    ("unknown incompat", field("incompat_flags", 0x20341), "features that are not known"),
    ("unknown compat_ro", field("compat_ro_flags", 0x13), "features that are not known"),
    ("unknown compat", field("compat_flags", 1), "features that are not known"),
    ("old back references", field("incompat_flags", 0x340), "features that are not known"),
    ("metadata dump", field("flags", 1 | 1 << 33), "conversion that was not finished"),
    ("error flag", field("flags", 5), "flags report an error"),
    ("two devices", field("num_devices", 2), "one of 2 devices"),
    ("no device", field("num_devices", 0), "one of 0 devices"),
    ("checksum kind", field("csum_type", 9), "unknown kind of checksum"),
    ("other checksum", field("csum_type", 1), "does not have the checksum"),
    ("sector of none", field("sectorsize", 0), "not possible"),
    ("sector of 3000", field("sectorsize", 3000), "not possible"),
    ("node of none", field("nodesize", 0), "not possible"),
    ("node of 128 KiB", field("nodesize", 1 << 17), "not possible"),
    ("petabyte", field("device_bytes", 1 << 50), "bytes and its volume"),
    ("small device", field("device_bytes", MIB), "size that is not possible"),
    ("nothing used", field("bytes_used", 0), "size that is not possible"),
    ("other total", field("bytes_used", 100 * SECTOR), "another number of used bytes|more than"),
    ("other place", field("bytenr", 64 * MIB), "another device"),
    ("level 8", field("root_level", 8), "out of range"),
    ("level 1", field("root_level", 1), "not the one that is wanted"),
    ("system chunks", field("sys_chunk_array_size", 2049), "out of range"),
    ("system chunks cut", field("sys_chunk_array_size", 90), "cut off"),
    ("no system chunks", field("sys_chunk_array_size", 0), "no chunks"),
    ("future chunks", field("chunk_root_generation", 10), "out of range"),
    ("device id", field("devid", 2), "another device"),
    ("root outside", field("root", 1 << 60), "outside of all chunks"),
    ("root between sectors", field("root", METADATA + 12), "points between sectors"),
    ("chunk of RAID1", chunk("data", kind=1 | 1 << 4), "one device cannot hold"),
    ("chunk of no kind", chunk("data", kind=0), "one device cannot hold"),
    ("chunk with a stripe more", chunk("data", places=[MIB, 9 * MIB]), "cannot hold"),
    ("chunk behind the device", chunk("data", places=[SIZE - MIB]), "past the end of the device"),
    ("chunk wraps around", chunk("data", places=[2**64 - MIB]), "past the end of the device"),
    ("chunk of none", chunk("data", length=0), "inside of a sector"),
    ("chunk of 2**63", chunk("data", length=1 << 63), "inside of a sector"),
    ("chunk between sectors", chunk("data", places=[56 * MIB + 512]), "inside of a sector"),
    ("chunks overlap", chunk("data", places=[3 * MIB]), "two chunks overlap"),
    ("copies overlap", chunk("metadata", places=[4 * MIB, 6 * MIB]), "two chunks overlap"),
    ("chunks of two minds", chunk("system", places=[12 * MIB, 3 * MIB]), "disagree"),
    ("chunk elsewhere", chunk("data", places=[30 * MIB]), "device tree and its chunk tree"),
    ("chunk cut", item("chunk", 1, None, bytes(50)), "chunk is cut off"),
    ("chunk kind", item("chunk", 1, (7, 228, SYSTEM)), "keys of its chunk|another kind"),
    ("chunk item", item("chunk", 3, (256, 229, 0)), "unknown kind"),
    ("device item", item("chunk", 0, None, bytes(98)), "disagree about the device"),
    ("device extents", item("device", 0, (2, 204, 0)), "keys of its device tree|another device"),
    ("extents overlap", data_at(SECTOR * 70), "two extents overlap"),
    ("extent of no sector", data_at(SECTOR * 3 + 512), "inside of a sector"),
    ("extent of none", data_at(0), "inside of a sector"),
    ("extent wraps around", data_at(2**64 - SECTOR), "in no block group"),
    ("extent behind its group", data_at(20 * MIB, -1), "in no block group"),
    ("extent too short", data_at(SECTOR), "a block group says"),
    ("extent elsewhere", item("high", -1, (1 << 50, 168, SECTOR)), "in no block group"),
    ("extent of no kind", item("high", -1, None, bytes(24)), "not possible where it is"),
    ("extent cut", item("high", -1, None, bytes(8)), "cut off"),
    ("node among data", item("high", -1, (DATA + 12 * MIB, 169, 0), EXTENT), "not possible"),
    ("data among nodes", item("low", 2, (METADATA + NODE, 168, NODE), EXTENT), "not possible"),
    ("extent item of old", item("high", -1, (DATA + 12 * MIB, 180, 0)), "unknown kind"),
    ("not skinny", field("incompat_flags", 0x241), "not possible where it is"),
    ("groups in two trees", field("compat_ro_flags", 0b1011), "no block group tree"),
    ("group of other numbers", one_sector_a_group, "a block group says"),
    ("node of no extent", unaccounted, "calls a tree node free"),
    ("a leaf twice", children("low", "low"), "do not ascend"),
    ("leaves turned around", children("high", "low"), "do not ascend"),
    ("another tree", node("low", owner=7), "not the one that is wanted"),
    ("another level", node("low", level=1), "not the one that is wanted|empty"),
    ("another generation", node("low", generation=8), "another generation"),
    ("another future", node("root", generation=10), "another generation"),
    ("empty node", node("high", items=[]), "empty node"),  # type: ignore[arg-type]
    ("free of two minds", item("free", -1, (DATA + 14 * MIB, 199, MIB)), "disagree"),
    ("free across groups", item("free", -1, (DATA + 14 * MIB, 199, 9 * MIB)), "across the end"),
    ("free of 2**64", item("free", -1, (DATA + 14 * MIB, 199, 2**64 - SECTOR)), "past all"),
    ("free of half sectors", item("free", -1, (DATA + 14 * MIB, 199, 700)), "inside of a sector"),
    ("free of another kind", item("free", -1, (DATA + 14 * MIB, 201, MIB)), "unknown kind"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_doubt_takes_the_whole_volume(change: Change, reason: str) -> None:
    volume = Volume()
    change(volume)
    with pytest.raises(LayoutError, match=reason):
        survey(volume.source())


def test_class_44_an_undersized_bitmap_takes_the_whole_volume() -> None:
    volume = Volume()
    items = volume.nodes["free"].items
    at = next(i for i, (key, _) in enumerate(items) if key[1] == 200)
    items[at] = items[at][0], items[at][1][:-1]
    reason = "bitmap of free space is 127 bytes long where its range needs 128"
    with pytest.raises(LayoutError, match=reason):
        survey(volume.source())


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0x60, 500, "more items than it can hold"),
        (0x60, 2**32 - 1, "more items than it can hold"),
        (101 + 17, 5000, "items that overlap"),
        (101 + 21, 2**32 - 1, "items that overlap"),
        (0x38, 0, "never written"),
    ],
)
@pytest.mark.parametrize("name", ["chunk", "root", "device", "low", "free"])
def test_class_42_items_that_run_out_of_their_node(
    name: str, place: int, value: int, reason: str
) -> None:
    volume = Volume()
    blocks = volume.blocks()
    at = 1 + list(volume.nodes).index(name)
    changed = bytearray(blocks[at])
    struct.pack_into("<I", changed, place, value)
    blocks[at] = sealed(bytes(changed))
    with pytest.raises(LayoutError, match=reason):
        survey(volume.source(blocks))


def test_class_49_a_tree_that_points_at_itself_is_read_once() -> None:
    """Every node says that all of its children are itself, down seven levels."""
    volume = Volume()
    root = volume.nodes["extent"]
    root.level = 7
    root.children = [((at, 0, 0), root.address) for at in range(100)]
    for at, (key, body) in enumerate(volume.nodes["root"].items):
        if key[0] == 2:
            volume.nodes["root"].items[at] = key, body[:238] + b"\7" + body[239:]
    with pytest.raises(LayoutError, match="not the one that is wanted"):
        survey(volume.source())


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0x48, 8, "disagrees with the first"),
        (0x50, METADATA, "disagrees with the first"),
        (0x30, 65536, "disagrees with the first"),
        (0x40, 0, "is missing"),
    ],
)
def test_class_50_a_superblock_copy_of_another_commit(place: int, value: int, reason: str) -> None:
    source = Volume().source()
    copy = bytearray(source.pieces[64 * MIB])
    struct.pack_into("<Q", copy, place, value)
    source.pieces[64 * MIB] = sealed(bytes(copy))
    with pytest.raises(LayoutError, match=f"copy at 64 MiB {reason}"):
        survey(source)


def test_a_flipped_bit_anywhere_in_what_is_read_takes_the_whole_volume() -> None:
    volume = Volume(block_group_tree=True)
    rng = random.Random(1)
    for at, _ in enumerate(volume.blocks()):
        for _ in range(20):
            blocks = volume.blocks()
            block = bytearray(blocks[at])
            # 28 bytes behind a checksum of four mean nothing.
            place = rng.choice([*range(4), *range(32, 0x40), *range(0x48, len(block))])
            block[place] ^= 1 << rng.randrange(8)
            blocks[at] = bytes(block)
            with pytest.raises(LayoutError):
                survey(volume.source(blocks))


def test_an_unreadable_node_takes_the_whole_volume_and_other_errors_are_told() -> None:
    source = Volume().source()
    whole, failing = source.read_into, [UnreadableRangeError("bad", 0, 1), SourceError("gone")]

    def read(buffer: bytearray, offset: int) -> None:
        if offset >= MIB:
            raise failing[0]
        whole(buffer, offset)

    source.read_into = read  # type: ignore[assignment, method-assign]
    with pytest.raises(LayoutError, match="cannot be read"):
        survey(source)
    failing.pop(0)
    with pytest.raises(SourceError, match="gone"):
        survey(source)

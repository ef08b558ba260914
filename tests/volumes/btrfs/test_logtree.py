"""Btrfs log trees made by hand: what they keep, and what makes them doubtful."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from aipimage.volumes.view import LayoutError
from tests.volumes.btrfs.built import (
    DATA,
    GENERATION,
    LOG,
    LOG_AT,
    LOG_EXTENTS,
    METADATA,
    MIB,
    NODE,
    SECTOR,
    SYSTEM,
    Key,
    Node,
    Volume,
    file_extent,
    root_item,
)
from tests.volumes.btrfs.surveyed import survey

Change = Callable[[Volume], None]


def logged() -> Volume:
    """A volume with a log."""
    volume = Volume()
    volume.add_log()
    return volume


def free_ranges(volume: Volume) -> set[int]:
    """The free sectors of a volume."""
    found = survey(volume.source())
    return {
        sector
        for rows in found.free.ranges(0, volume.source().size)
        for start, length in rows.tolist()
        for sector in range(start // SECTOR, (start + length) // SECTOR)
    }


def sectors(volume: Volume, address: int, length: int) -> set[int]:
    """Where a range of logical addresses lies, all copies."""
    chunk = volume.chunk_of(address)
    return {
        (place + address - chunk.start) // SECTOR + at
        for place in chunk.places
        for at in range(length // SECTOR)
    }


def test_nodes_and_extents_of_the_log_are_kept_at_all_places() -> None:
    volume = logged()
    kept = set()
    for address, length in [(node.address, NODE) for node in volume.log.values()] + LOG_EXTENTS:
        kept |= sectors(volume, address, length)
    assert free_ranges(volume) == free_ranges(Volume()) - kept
    assert len(kept) == 2 * 2 + sum(length for _, length in LOG_EXTENTS) // SECTOR
    assert survey(volume.source()).notes == (
        f"in use: 1 log tree with 2 extents were read; {len(kept) * SECTOR:,} bytes are kept "
        "beyond its map",
    )


def test_a_log_of_many_levels_and_trees() -> None:
    """A second subvolume, whose tree has a node above two leaves."""
    volume = logged()
    one, other = (
        Node(
            LOG_AT + at * NODE,
            LOG,
            items=[((at, 108, 0), file_extent(1, DATA + 15 * MIB + at * SECTOR, SECTOR))],
            generation=GENERATION + 1,
        )
        for at in (20, 30)
    )
    top = Node(LOG_AT + 40 * NODE, LOG, level=1, generation=GENERATION + 1)
    top.children = [(node.items[0][0], node.address) for node in (one, other)]
    volume.log["log root"].items.append(((LOG, 132, 256), root_item(top)))
    volume.log |= {"one": one, "other": other, "top": top}
    kept = set()
    for at in (20, 30):
        kept |= sectors(volume, DATA + 15 * MIB + at * SECTOR, SECTOR)
        kept |= sectors(volume, LOG_AT + at * NODE, NODE)
    kept |= sectors(volume, top.address, NODE)
    assert free_ranges(volume) == free_ranges(logged()) - kept


def test_an_extent_that_the_commit_has_too_is_nothing_more() -> None:
    """A file that was cloned and forced to the disk names what others have."""
    volume = logged()
    address, length = volume.data[3]
    volume.log["log"].items[-1] = (259, 108, 0), file_extent(1, address, length)
    assert free_ranges(volume) == free_ranges(logged())


def test_an_empty_log_keeps_its_node() -> None:
    volume = logged()
    volume.log["log root"].items = []
    del volume.log["log"]
    assert free_ranges(volume) == free_ranges(Volume()) - sectors(volume, LOG_AT, NODE)


def log_node(name: str, **values: object) -> Change:
    """Change attributes of a node."""

    def change(volume: Volume) -> None:
        for field, value in values.items():
            setattr(volume.log[name], field, value)

    return change


def log_item(at: int, key: Key | None, body: bytes | None = None) -> Change:
    """Replace an item of the log tree, or its key."""

    def change(volume: Volume) -> None:
        items = volume.log["log"].items
        items[at] = key or items[at][0], items[at][1] if body is None else body

    return change


def moved(name: str, address: int) -> Change:
    """Put a node elsewhere, and let what names it name it there."""

    def change(volume: Volume) -> None:
        volume.log[name].address = address
        if name == "log root":
            volume.superblock["log_root"] = address
        else:
            volume.log["log root"].items = [((LOG, 132, 5), root_item(volume.log[name]))]

    return change


def elsewhere(volume: Volume) -> None:
    volume.log["log root"].items = [
        ((LOG, 132, 5), root_item(Node(FAR, LOG, generation=GENERATION + 1)))
    ]


def named_twice(volume: Volume) -> None:
    items = volume.log["log root"].items
    items.append(((LOG, 132, 6), items[0][1]))


def itself(volume: Volume) -> None:
    """The log root tree names itself as a log tree."""
    volume.log["log root"].items[0] = (LOG, 132, 5), root_item(volume.log["log root"])


def shared(volume: Volume) -> None:
    """Two trees have a leaf in common."""
    leaf = volume.log["log"]
    tops = [Node(LOG_AT + at * NODE, LOG, level=1, generation=GENERATION + 1) for at in (20, 30)]
    for top in tops:
        top.children = [(leaf.items[0][0], leaf.address)]
    volume.log |= {"top": tops[0], "other top": tops[1]}
    volume.log["log root"].items = [
        ((LOG, 132, 5 + at), root_item(top)) for at, top in enumerate(tops)
    ]


def old_root(volume: Volume) -> None:
    body = bytearray(volume.log["log root"].items[0][1])
    struct.pack_into("<Q", body, 160, GENERATION)
    volume.log["log root"].items[0] = (LOG, 132, 5), bytes(body)


def high_root(volume: Volume) -> None:
    volume.log["log"].level = 9
    volume.log["log root"].items[0] = (LOG, 132, 5), root_item(volume.log["log"])
    volume.log["log"].level = 0


FAR = 1 << 62
CASES: list[tuple[str, Change, str]] = [
    ("root of the commit", log_node("log root", generation=GENERATION), "another generation"),
    ("root of the future", log_node("log root", generation=GENERATION + 2), "another generation"),
    ("leaf of the commit", log_node("log", generation=GENERATION), "another generation"),
    ("tree of the commit", old_root, "another generation"),
    ("tree of level 9", high_root, "impossible level"),
    ("another owner", log_node("log", owner=5), "not the one that is wanted"),
    ("root of another kind", log_node("log root", items=[((5, 132, 0), bytes(439))]), "unknown"),
    ("root cut", log_node("log root", items=[((LOG, 132, 5), bytes(100))]), "cut off"),
    ("a tree twice", named_twice, "begin at the same node"),
    ("itself", itself, "belongs to two log trees|unknown"),
    ("a leaf of two trees", shared, "belongs to two log trees"),
    ("between sectors", moved("log", LOG_AT + 2 * NODE + 512), "between sectors"),
    ("in no chunk", elsewhere, "outside of all chunks"),
    ("among data", moved("log", DATA + 15 * MIB), "lies among data"),
    ("in a chunk of the system", moved("log root", SYSTEM + MIB // 2), "lies among data"),
    ("in use", moved("log", METADATA + NODE), "calls|something else|checksum|wanted"),
    ("unknown item", log_item(0, (258, 2, 0)), "items of an unknown kind"),
    ("unknown extent", log_item(1, None, file_extent(3, 0, 0)), "extent of an unknown kind"),
    ("encrypted", log_item(1, None, file_extent(1, 0, 0)[:17] + b"\1" + bytes(35)), "unknown kind"),
    ("extent cut", log_item(1, None, file_extent(1, DATA, SECTOR)[:52]), "cut off"),
    ("inline cut", log_item(5, None, bytes(20)), "cut off"),
    ("extent of no sector", log_item(1, None, file_extent(1, DATA + 512, SECTOR)), "inside of a"),
    ("extent of none", log_item(1, None, file_extent(1, DATA, 0)), "inside of a sector"),
    ("extent in no chunk", log_item(1, None, file_extent(1, FAR, SECTOR)), "no block group"),
    ("extent too long", log_item(1, None, file_extent(1, DATA, 17 * MIB)), "no block group"),
    ("wraps", log_item(1, None, file_extent(1, DATA, 2**64 - SECTOR)), "no block group"),
    ("extent among nodes", log_item(1, None, file_extent(1, LOG_AT, SECTOR)), "no block group"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_class_50_a_doubtful_log_takes_the_whole_volume(change: Change, reason: str) -> None:
    volume = logged()
    change(volume)
    with pytest.raises(LayoutError, match=reason):
        survey(volume.source())

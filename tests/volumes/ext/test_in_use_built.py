"""ext4 volumes in use that were written by hand: what is kept, and what is refused."""

from __future__ import annotations

from collections.abc import Collection

import pytest

from tests.volumes.ext.built import (
    BITMAPS,
    BLOCK,
    DESCRIPTORS,
    JOURNAL,
    JOURNAL_INODE_AT,
    MMP,
    Built,
)
from tests.volumes.ext.made import look, reason
from tests.volumes.journals.built import Built as Journal

RECOVER = {"s_feature_incompat": 0x3C6}
"""filetype, recover, extents, 64bit, mmp and flex_bg."""


def with_blocks(used: Collection[int] = (), free: Collection[int] = ()) -> Built:
    """A volume in use in which some more blocks are used, or free."""
    built = Built()
    built.free = built.free.difference(used).union(free)
    built._superblock()
    built._descriptors()
    return built.set(**RECOVER)


def logged(built: Built, group: int) -> list[tuple[int, bytes]]:
    """The blocks that a change of a group's bitmap writes."""
    return [
        (number, bytes(built.data[number * BLOCK : (number + 1) * BLOCK]))
        for number in (DESCRIPTORS, BITMAPS + group)
    ]


def put(built: Built, journal: Journal) -> Built:
    """Put a journal into a volume."""
    built.data[JOURNAL * BLOCK : (JOURNAL + 8) * BLOCK] = journal.data
    return built


def free_blocks(built: Built) -> set[int]:
    rows = [rows.tolist() for rows in look(built.source())[1].free.ranges(0, 4 << 20)]
    return {
        block
        for part in rows
        for start, length in part
        for block in range(start // BLOCK, (start + length) // BLOCK)
    }


def journal() -> Journal:
    return Journal(blocks=8, start=1, sequence=5)


@pytest.mark.parametrize("csum", range(4))
def test_class_50_the_union(csum: int) -> None:
    """Used by the map on the disk, by that after the replay, by a copy that never counts, or named:
    each is kept, and nothing else.
    """
    plain = Built()
    disk = {3200, 3201}
    after, cut_off, named = {3210, 3212}, {3220}, 3230
    assert plain.free >= disk | after | cut_off | {named}
    ring = Journal(csum, blocks=8)
    ring.transaction(logged(with_blocks(after), 3))
    ring.transaction(
        [*logged(with_blocks(after | cut_off), 3)[1:], (named, bytes(BLOCK))], (), False
    )
    volume = put(with_blocks(disk), ring)
    assert free_blocks(volume) == plain.free - disk - after - cut_off - {named}
    note = look(volume.source())[1].notes
    # The volume's blocks on the disk, the copy's, and the one that is named.
    assert note == (f"in use: its journal was read, 1 transaction; {4 * BLOCK:,} bytes are kept "
                    "beyond its map",)  # fmt: skip


def test_class_50_an_empty_journal_of_a_volume_in_use() -> None:
    volume = put(with_blocks(), Journal(blocks=8).superblock(x1c=0))
    assert free_blocks(volume) == Built().free
    assert "0 transactions; 0 bytes" in look(volume.source())[1].notes[0]


def test_class_50_fast_commits_that_leave_no_room() -> None:
    """Fast commits are after a ring that is of at least 1,024 blocks."""
    assert "no room for others" in (
        reason(put(with_blocks(), Journal(blocks=8, fast=2)).source()) or ""
    )


def test_class_50_what_a_journal_must_not_change() -> None:
    """Size, shape and places; and errors that it brings."""
    for name, value, wanted in (
        ("s_blocks_count_lo", 3899, "another size or shape"),
        ("s_reserved_gdt_blocks", 1, "another size or shape"),
        ("s_state", 3, "marked as having errors"),
        ("s_feature_incompat", 0x3C7, "feature compression"),
    ):
        changed = with_blocks().set(**{name: value})
        ring = journal().transaction([(1, bytes(changed.data[1024:2048]))])
        assert wanted in (reason(put(with_blocks(), ring).source()) or "")
    moved = with_blocks()
    moved.put("<I", moved.descriptor(3) + 4, 30)
    ring = journal().transaction(logged(moved, 3)[:1])
    assert reason(put(with_blocks(), ring).source()) == (
        "its journal moves a bitmap or an inode table"
    )


def test_class_47_maps_that_disagree_after_the_replay() -> None:
    """A bitmap without its descriptor has a wrong checksum and count; one that calls the journal
    free is refused.
    """
    ring = journal().transaction(logged(with_blocks({3210}), 3)[1:])
    assert "bitmap of its group 3" in (reason(put(with_blocks(), ring).source()) or "")
    changed = with_blocks(free={JOURNAL})
    ring = journal().transaction(logged(changed, 0))
    assert "call blocks of its journal free" in (reason(put(with_blocks(), ring).source()) or "")


def test_class_50_journals_elsewhere_are_taken_whole() -> None:
    for fields in (
        {"s_journal_inum": 0, "s_journal_dev": 0x801},
        {"s_journal_inum": 0},
        {"s_feature_compat": 0},
    ):
        found = reason(with_blocks().set(**fields).source())
        assert found == "its journal cannot be trusted: it lies on another device"


@pytest.mark.parametrize("state", [0, 2, 3, 5])
def test_class_50_other_states_stay_refused(state: int) -> None:
    assert reason(with_blocks().set(s_state=state).source()) is not None


def test_class_50_a_host_that_claims_it() -> None:
    volume = put(with_blocks(), journal().superblock(x1c=0))
    assert reason(volume.source()) is None
    volume.put("<I", MMP * BLOCK + 4, 1)
    assert reason(volume.source()) == "a host has it mounted, or did not unmount it"


def test_class_43_journals_with_broken_maps() -> None:
    """Its own extents: holes, blocks that are not there, reserved ones, loops."""
    at = JOURNAL_INODE_AT + 40
    for form, offset, value, wanted in (
        ("<H", 0, 0, "cannot be read"), ("<H", 6, 6, "too deep"), ("<I", 12, 1, "a hole"),
        ("<H", 16, 0, "without content"), ("<H", 16, 40_000, "without content"),
        ("<H", 18, 1, "out of range"), ("<I", 20, 3899, "out of range"), ("<H", 16, 7, "blocks of"),
    ):  # fmt: skip
        volume = put(with_blocks(), journal().superblock(x1c=0))
        volume.put(form, at + offset, value)
        found = reason(volume.source())
        assert found is not None
        assert wanted in found, (offset, value)
    itself = with_blocks().put("<H", at + 6, 5).put("<IIHH", at + 12, 0, JOURNAL, 0, 0)
    itself.put("<HHHHIIIHH", JOURNAL * BLOCK, 0xF30A, 1, 84, 5, 0, 0, JOURNAL, 0, 0)
    assert "contradict" in (reason(itself.source()) or "")


def test_class_50_journals_of_listed_blocks() -> None:
    """As ext3 has them; one with a hole is shorter than its superblock says."""
    ring = journal().transaction([(3230, bytes(BLOCK))])
    volume = put(with_blocks(), ring)
    volume.put("<I", JOURNAL_INODE_AT + 32, 0)
    volume.put("<15I", JOURNAL_INODE_AT + 40, *range(JOURNAL, JOURNAL + 8), *[0] * 7)
    assert 3230 not in free_blocks(volume)
    hole = put(with_blocks(), ring).put("<I", JOURNAL_INODE_AT + 32, 0)
    hole.put("<15I", JOURNAL_INODE_AT + 40, JOURNAL, 0, *range(JOURNAL + 2, JOURNAL + 8), *[0] * 7)
    assert "blocks of" in (reason(hole.source()) or "")

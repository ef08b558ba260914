"""Journals of ext4 that are good, cut off, damaged and hostile."""

from __future__ import annotations

import struct

import pytest

from aipimage.volumes.journals.jbd2.fastcommit import FastCommits, fast_commits
from aipimage.volumes.journals.jbd2.scan import Transactions, scan
from aipimage.volumes.journals.jbd2.superblock import journal_of
from aipimage.volumes.journals.redirected import RedirectedSource
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource
from tests.volumes.journals.built import BLOCK, BLOCKS, LIMIT, MAGIC, Built, added


def block(fill: int) -> bytes:
    return bytes([fill]) * BLOCK


def read(built: Built) -> tuple[Transactions, FastCommits]:
    blocks = built.reader()
    journal = journal_of(blocks.read(0)[0].tobytes(), BLOCK, blocks.count)
    log = scan(journal, blocks, LIMIT)
    return log, fast_commits(journal, blocks, log.sequence)


def after(built: Built) -> dict[int, bytes]:
    """The blocks that come from the journal, as a volume would be read."""
    blocks = built.reader()
    log, _ = read(built)
    view = blocks._view
    source = RedirectedSource(view, BLOCK, log.moved(blocks))
    found = {}
    for number in log.moved(blocks).blocks.tolist():
        data = bytearray(BLOCK)
        # The volume of the test is smaller than the file system that the journal speaks of.
        assert (number + 1) * BLOCK <= source.size
        source.read_into(data, number * BLOCK)
        found[number] = bytes(data)
    return found


def refused(built: Built) -> str:
    with pytest.raises(LayoutError) as caught:
        read(built)
    return str(caught.value)


CSUMS = [(csum, is_64bit) for csum in range(4) for is_64bit in (False, True)]


@pytest.mark.parametrize("uuids", [False, True])
@pytest.mark.parametrize(("csum", "is_64bit"), CSUMS)
def test_all_forms_of_tags(csum: int, is_64bit: bool, uuids: bool) -> None:
    """Several descriptors, escapes, a block that is written twice; the last copy counts."""
    built = Built(csum, is_64bit, uuids=uuids)
    escaped = struct.pack(">I", MAGIC) + b"\x07" * (BLOCK - 4)
    built.transaction([(100 + index, block(index)) for index in range(12)])
    built.transaction([(103, escaped), (50, block(77))])
    wanted = {100 + index: block(index) for index in range(12)} | {103: escaped, 50: block(77)}
    assert after(built) == wanted
    log, _ = read(built)
    assert (log.complete, log.sequence) == (2, built.sequence + 2)


@pytest.mark.parametrize("csum", range(4))
def test_revoked_blocks(csum: int) -> None:
    """Revoked in a later transaction or in its own: not replayed; written after: replayed."""
    built = Built(csum)
    built.transaction([(60, block(1)), (61, block(2)), (62, block(3))])
    built.transaction([(62, block(4)), (63, block(5))], revoked=[60, 61, 63])
    built.transaction([(61, block(6))])
    assert after(built) == {61: block(6), 62: block(4)}
    log, _ = read(built)
    assert {60, 61, 63} <= set(log.revoked[:, 0].tolist())


@pytest.mark.parametrize("csum", range(4))
@pytest.mark.parametrize("sequence", [1, 0xFFFFFFFE])
def test_rings_that_go_round(csum: int, sequence: int) -> None:
    """Over the end of the ring within a transaction, and over that of the sequence numbers."""
    built = Built(csum, start=BLOCKS - 9, sequence=sequence)
    for turn in range(4):
        built.transaction([(70 + index, block(10 * turn + index)) for index in range(4)])
    assert built.at < 20
    assert after(built) == {70 + index: block(30 + index) for index in range(4)}


@pytest.mark.parametrize("csum", range(4))
def test_class_50_transactions_that_are_not_complete(csum: int) -> None:
    """Without its commit a transaction does not count, but what it names is known."""
    built = Built(csum).transaction([(80, block(1))])
    built.transaction([(80, block(2)), (81, block(3))], commit=False)
    log, _ = read(built)
    assert after(built) == {80: block(1)}
    assert (log.complete, sorted(log.blocks.tolist())) == (1, [80, 80, 81])


def test_class_50_older_turns_of_the_ring_do_not_count() -> None:
    old = Built(sequence=3).transaction([(80, block(9))]).transaction([(81, block(9))])
    built = Built(sequence=7)
    built.data[BLOCK:] = old.data[BLOCK:]
    built.transaction([(82, block(1))])
    assert after(built) == {82: block(1)}


@pytest.mark.parametrize("csum", [1, 2, 3])
def test_class_50_a_commit_that_is_torn(csum: int) -> None:
    """The last one ends the journal; one with others after it is damage."""
    built = Built(csum).transaction([(80, block(1))]).transaction([(80, block(2))])
    commit = built.at - 1
    built.data[commit * BLOCK + 16] ^= 1
    assert after(built) == {80: block(1)}
    built.transaction([(80, block(3))])
    assert "others follow" in refused(built)


@pytest.mark.parametrize("csum", [2, 3])
def test_class_50_damaged_descriptors_and_blocks(csum: int) -> None:
    """A wrong checksum below a commit is damage; of an older turn, it is the end."""
    built = Built(csum).transaction([(80, block(1))]).transaction([(81, block(2))])
    for at in (4, 5):
        built.data[at * BLOCK + 600] ^= 1
        assert "wrong checksum" in refused(built)
        built.data[at * BLOCK + 600] ^= 1
    built.data[4 * BLOCK + 600] ^= 1
    struct.pack_into(">Q", built.data, 6 * BLOCK + 48, 10)
    assert after(built) == {80: block(1)}


def test_class_50_version_1_covers_the_blocks() -> None:
    built = Built(1).transaction([(80, block(1))]).transaction([(81, block(2))])
    built.data[5 * BLOCK + 600] ^= 1
    assert after(built) == {80: block(1)}
    built.transaction([(82, block(2))])
    assert "others follow" in refused(built)


def test_class_50_blocks_that_are_not_there() -> None:
    """In a complete transaction it is damage; one that was cut off may name anything."""
    built = Built(0).transaction([(LIMIT, block(1))])
    assert "block that is not there" in refused(built)
    built = Built(0).transaction([(80, block(1))]).transaction([(1 << 40, block(1))], commit=False)
    assert after(built) == {80: block(1)}


def test_class_45_counts_that_drive_reads() -> None:
    """A ring that is full of itself, revoked blocks past the end of their block."""
    built = Built(0).transaction([(80, block(1))], commit=False)
    built.data[BLOCK:] = built.data[BLOCK : 2 * BLOCK] * (BLOCKS - 1)
    assert "more than can be looked at" in refused(built)
    built = Built(0).transaction([(80, block(1))], revoked=[3])
    for count in (0, 15, BLOCK + 1, 0xFFFFFFFF):
        struct.pack_into(">I", built.data, BLOCK + 12, count)
        assert "revoked blocks in it is damaged" in refused(built)


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"x0": 0}, "no superblock"), ({"x4": 1}, "no superblock"), ({"x0c": 4096}, "blocks of"),
        ({"x0c": 0}, "blocks of"), ({"x10": BLOCKS + 1}, "blocks of"), ({"x10": 0}, "blocks of"),
        ({"x14": 0}, "from 0 on"), ({"x14": BLOCKS}, "blocks of"), ({"x1c": BLOCKS}, "begins at"),
        ({"x14": 5}, "begins at"), ({"x20": 5}, "ended by an error"),
        ({"x24": 2}, "not known (0x2)"), ({"x28": 0x53}, "not known (0x40)"),
        ({"x2c": 1}, "not known (0x1)"), ({"x28": 0x1B}, "two kinds"), ({"x24": 1}, "two kinds"),
        ({"x50": 0}, "unknown kind"), ({"x28": 0x33}, "no room for others"),
    ],
)  # fmt: skip
def test_class_50_superblocks_that_make_no_sense(fields: dict[str, int], wanted: str) -> None:
    assert wanted in refused(Built().transaction([(80, block(1))]).superblock(**fields))


def test_class_50_a_superblock_with_a_wrong_checksum() -> None:
    built = Built()
    built.data[0x30] ^= 1
    assert refused(built) == "its superblock has a wrong checksum"


def test_class_50_flags_that_are_not_known() -> None:
    built = Built(0).transaction([(80, block(1))])
    built.data[BLOCK + 12 + 7] |= 0x10
    assert "flags that are not known" in refused(built)


def fast(built: Built) -> list[tuple[int, int]]:
    return [(int(first), int(count)) for first, count in read(built)[1].ranges]


def made(**more: int) -> Built:
    return Built(fast=16, blocks=1024 + 16, **more).transaction([(80, block(1))])


def test_class_50_fast_commits() -> None:
    """All that they name, also after the last one that is whole; extents without content too."""
    built = made().fast_commit(0, added(900, 5), (4, bytes(20)))
    built.fast_commit(1, added(1000, 32768 + 7), tail=False)
    assert fast(built) == [(900, 5), (1000, 7)]
    assert read(built)[1].commits == 1
    inode = bytes(40) + b"some"
    assert read(made().fast_commit(0, (6, bytes(4) + inode)))[1].inodes == [inode]


def test_class_50_fast_commits_of_another_time() -> None:
    """Before another transaction they do not count; features that are not known are refused."""
    built = made().fast_commit(0, added(900, 5))
    built.transaction([(81, block(1))])
    assert fast(built) == []
    built = made().fast_commit(0, added(900, 5))
    struct.pack_into("<I", built.data, (built.last + 1) * BLOCK + 4, 1)
    assert "features that are not known" in refused(built)


@pytest.mark.parametrize("tag", [0, 10, 0xFFFF])
def test_class_50_fast_commits_end_at_what_is_no_tag(tag: int) -> None:
    built = made().fast_commit(0, added(900, 5), (tag, bytes(4)), added(950, 5))
    assert fast(built) == [(900, 5)]
    built = made().fast_commit(0, added(900, 5))
    struct.pack_into("<H", built.data, (built.last + 1) * BLOCK + 14, 0xFFFF)
    assert fast(built) == []


def test_redirected_reads_at_any_place() -> None:
    """Pieces of blocks, over their edges, equal those of the whole."""
    built = Built(0).transaction(
        [(4, struct.pack(">I", MAGIC) * 256), (5, block(9)), (9, block(8))]
    )
    blocks = built.reader()
    source = blocks._view.source
    assert isinstance(source, SparseSource)
    moved = read(built)[0].moved(blocks)
    found = RedirectedSource(VolumeView(source, 0, source.size), BLOCK, moved)
    whole = bytearray(source.size)
    source.read_into(whole, 0)
    for number, data in after(built).items():
        whole[number * BLOCK : (number + 1) * BLOCK] = data
    for start in range(3 * BLOCK - 3, 11 * BLOCK, 333):
        for length in (1, 2, 5, 1000, 1024, 3000):
            part = bytearray(length)
            found.read_into(part, start)
            assert part == whole[start : start + length]

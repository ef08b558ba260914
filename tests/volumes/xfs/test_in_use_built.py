"""XFS volumes in use that were written by hand: logs that make nonsense of a good volume."""

from __future__ import annotations

import struct

import pytest

from aipimage.volumes.view import LayoutError
from tests.volumes.journals.builtlog import Built, buffer, intent, transaction
from tests.volumes.xfs.built import UUID, Volume
from tests.volumes.xfs.judge import free_runs, look

CHUNK = 128


def in_use(volume: Volume, *items: list[bytes]) -> Volume:
    """Put a log with one transaction into a volume."""
    log = Built(blocks=128, uuid=UUID).record(transaction(1, items))
    start = volume.log_start * volume.block
    volume.image[start : start + len(log.ring)] = log.ring
    return volume


def change(volume: Volume, name: str, offset: int, form: str, *values: int) -> list[bytes]:
    """A buffer item that changes fields of a structure."""
    start, length, _ = volume.places[name]
    data = bytearray(volume.image[start : start + length])
    struct.pack_into(form, data, offset, *values)
    first, last = offset // CHUNK, (offset + struct.calcsize(form) - 1) // CHUNK
    chunks = {
        number: bytes(data[number * CHUNK : (number + 1) * CHUNK])
        for number in range(first, last + 1)
    }
    return buffer(start // 512, length // 512, chunks)


def refused(*changes: tuple[str, int, str, int]) -> str:
    volume = Volume()
    items = [change(volume, *each) for each in changes]
    with pytest.raises(LayoutError) as caught:
        look(in_use(volume, *items).source())
    return str(caught.value)


def test_class_50_a_change_that_changes_nothing() -> None:
    """The map is that of the volume; the checksums are made right after the replay."""
    volume = Volume()
    wanted = free_runs(look(volume.source())[1], look(volume.source())[0]).tolist()
    item = change(volume, "agf 0", 200, ">I", 0)
    filesystem, allocation = look(in_use(volume, item).source())
    assert free_runs(allocation, filesystem).tolist() == wanted
    assert allocation.notes == (
        "in use: its log was read, 1 transaction; 0 bytes are kept beyond its map",
    )


def test_class_50_what_is_named_or_announced_is_kept() -> None:
    """A buffer in a free block, and an extent whose freeing was not finished."""
    volume = Volume()
    runs = free_runs(look(volume.source())[1], look(volume.source())[0]).tolist()
    plain = {block for start, count in runs for block in range(start, start + count)}
    named, freed = max(plain), min(plain)
    items = [buffer(2 * named, 1, {0: bytes(CHUNK)}), intent(0x1236, 3, [(freed, 1)])]
    filesystem, allocation = look(in_use(volume, *items).source())
    found = free_runs(allocation, filesystem).tolist()
    kept = {block for start, count in found for block in range(start, start + count)}
    assert plain - kept == {named, freed}
    assert "; 2,048 bytes are kept" in allocation.notes[0]


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ((("agf 0", 16, ">I", 3),), "not of its tree and level"),
        ((("agf 0", 20, ">I", 2),), "not of its tree and level|same block"),
        ((("agf 0", 28, ">I", 9),), "not of its tree and level"),
        ((("agf 0", 16, ">I", 511),), "not of its tree and level"),
        ((("agf 0", 16, ">I", 1 << 31),), "leads out|lies outside"),
        ((("agf 0", 52, ">I", 1),), "counts|longest"),
        ((("agf 1", 8, ">I", 0),), "not that of its group"),
        ((("agfl 0", 36, ">I", 0),), "outside of its allocation group"),
        ((("bno 0 0 0", 56, ">I", 1),), "lies outside|not that of the block below|key"),
    ],
    ids=str,
)
def test_class_49_trees_that_make_no_sense_after_the_replay(
    changes: tuple[tuple[str, int, str, int], ...], wanted: str
) -> None:
    """Roots and leaves that lead astray, counts that are not so."""
    found = refused(*changes)
    assert any(part in found for part in wanted.split("|")), found


@pytest.mark.parametrize(
    ("offset", "form", "value"),
    [(8, ">Q", 900), (88, ">I", 1), (96, ">I", 60), (212, ">I", 3), (48, ">Q", 40)],
)
def test_class_50_another_size_or_shape(offset: int, form: str, value: int) -> None:
    """Of the superblock only counts may change, such as those of free blocks."""
    found = refused(("sb 0", offset, form, value), ("agf 0", 200, ">I", 0))
    assert "another size or shape" in found or "allocation group" in found
    volume = Volume()
    items = [change(volume, "sb 0", 144, ">Q", 5), change(volume, "agf 0", 200, ">I", 0)]
    assert look(in_use(volume, *items).source())[1].free.total


@pytest.mark.parametrize("extent", [(1 << 40, 1), (511, 5), (2 << 9, 1)])
def test_class_46_announced_blocks_that_are_not_there(extent: tuple[int, int]) -> None:
    volume = Volume()
    item = change(volume, "agf 0", 200, ">I", 0)
    with pytest.raises(LayoutError, match="block that is not there"):
        look(in_use(volume, item, intent(0x1236, 3, [extent])).source())


def test_class_50_version_4_is_taken_whole() -> None:
    volume = Volume(4)
    item = change(volume, "agf 0", 100, ">I", 0)
    with pytest.raises(LayoutError, match="is of version 4 of XFS"):
        look(in_use(volume, item).source())
    head = struct.pack("<HHHHqII", 0x123C, 2, 18 << 11, 1, 0, 1, 2)
    frozen = in_use(Volume(4), [head, bytes(volume.image[CHUNK : 2 * CHUNK])])
    assert "frozen" in look(frozen.source())[1].notes[0]

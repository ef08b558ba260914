"""A fuzz target for NTFS: an input is what is looked at of a small volume, part behind part."""

from __future__ import annotations

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.ntfs import PARSER
from aipimage.volumes.model import BEST_EFFORT, SAFE, Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource
from tests.volumes.journals.ntfslog import built
from tests.volumes.journals.ntfslog.built import Log, change
from tests.volumes.ntfs import small as ntfs_small
from tests.volumes.ntfs.edited import (
    Editor,
    inside,
    list_entry,
    mapping_pairs,
    outside,
    restart_pages,
)

SIZE = 16 << 20
"""Bytes of the source: a changed boot sector may tell of a larger volume."""
JOURNAL_HEAD = 8192
PARTS = (*ntfs_small.PIECES, (ntfs_small.JOURNAL, JOURNAL_HEAD))
"""Where the parts of an input lie."""
_RECORDS = (b"FILE", b"INDX", b"RSTR", b"CHKD", b"RCRD")


def source_of(data: bytes) -> SparseSource:
    """The volume that an input stands for."""
    pieces, at = {}, 0
    for offset, length in PARTS:
        pieces[offset] = data[at : at + length]
        at += length
    rest = ntfs_small.JOURNAL + JOURNAL_HEAD
    # Behind the first pages the journal is full of ones, like the first volume's.
    pieces[rest] = b"\xff" * (ntfs_small.JOURNAL_BYTES - JOURNAL_HEAD)
    return SparseSource(SIZE, {offset: piece for offset, piece in pieces.items() if piece})


def fuzz_ntfs(data: bytes) -> None:
    """Probe and read the map, with and without the paging files, and by best effort."""
    for leave_out, in_use in ((False, SAFE), (True, SAFE), (False, BEST_EFFORT)):
        source = source_of(data)
        view = VolumeView(source, 0, source.size)
        filesystem = PARSER.probe(view)
        assert source.bytes_read <= 256 << 10
        if filesystem is None:
            return
        assert PARSER.allocation is not None
        try:
            allocation = PARSER.allocation(view, filesystem, SurveyOptions(leave_out, in_use))
        except LayoutError:
            continue
        assert source.bytes_read <= 64 << 20
        assert filesystem.size <= source.size
        _check(allocation, source)


def _check(allocation: Allocation, source: SparseSource) -> None:
    """Ranges ascend, lie in the volume, and leave what was read to find them."""
    there = allocation.free
    assert isinstance(there, ClusterMap)
    before, total = 0, 0
    for rows in there.ranges(0, source.size):
        for offset, length in rows.tolist():
            assert before <= offset
            assert length > 0
            before, total = offset + length, total + length
    assert before <= there.count * there.cluster_size <= source.size
    assert total == there.total
    assert allocation.used_end <= source.size
    mft = int.from_bytes(_read(source, 48, 8), "little")
    mirror = int.from_bytes(_read(source, 56, 8), "little")
    kept = {0, mft, mirror}
    assert not any(next(there.free_runs(at, at + 1), None) is not None for at in kept)


def _read(source: SparseSource, offset: int, length: int) -> bytes:
    data = bytearray(length)
    source.read_into(data, offset)
    return bytes(data)


def input_of(volume: bytes | bytearray) -> bytes:
    """The input that stands for a volume."""
    return b"".join(bytes(volume[offset : offset + length]) for offset, length in PARTS)


def seeds() -> list[bytes]:
    """The volume as it is; with a journal of Windows; with run lists in other records."""
    plain, closed, lists = Editor(), Editor(), Editor()
    closed.journal(restart_pages((6, 0, 2), (5, 0, 2)))
    first = outside(0x80, mapping_pairs([(32, 150)]), 0, 150, 99 * 1024, 214 * 512)
    second = outside(0x80, mapping_pairs([(182, 64)]), 150, 64, 0, 0, instance=3)
    lists.new_record(65, 0, second)
    entries = list_entry(0x80, 0, 0, 9) + list_entry(0x80, 150, 65, 3)
    lists.replace(0, 0x80, inside(0x20, entries, 8) + first)
    return [input_of(editor.data) for editor in (plain, closed, lists, _in_use())]


def _in_use() -> Editor:
    """The volume with an open journal, whose pages are so small that a change reaches them."""
    log = Log(ntfs_small.JOURNAL_BYTES, page=1024)
    bitmap, mft = ntfs_small.BITMAP // 512, ntfs_small.MFT // 512
    entries = [built.attribute_entry(0, 0x80), built.attribute_entry(6, 0x80)]
    log.add(change(built.ATTRIBUTES, redo_data=built.table(entries)))
    at = log.add(
        change(built.DIRTY, redo_data=built.table([built.dirty_entry(24, 0, log.lsns[0], [mft])]))
    )
    log.add(
        change(built.SET_BITS, built.CLEAR_BITS, *[built.bits(1300, 5)] * 2, built.BITMAP_PLACE,
               clusters=[bitmap])
    )  # fmt: skip
    runs = outside(0x80, mapping_pairs([(1310, 3), (1320, 2)]), 0, 5, 2560)
    where = {"vcn": 128, "clusters": [mft + 128]}
    log.add(change(built.CREATE, built.DELETE, runs, record_at=352, **where))
    log.add(
        change(
            built.PAIRS, built.PAIRS, b"\x21\1\1\0", b"\0", record_at=352, attribute_at=68, **where
        )
    )
    log.checkpoint(dirty=at)
    editor = Editor()
    editor.journal(bytes(log.data()))
    return editor


def repair(data: bytes) -> bytes:
    """Make the fix-ups right, and the mirror like the MFT, so that what lies behind them is
    reached.
    """
    changed, at = bytearray(data), 0
    places = {}
    for offset, length in PARTS:
        places[offset] = at
        steps = [ntfs_small.NODE] if offset in ntfs_small.ROOT_NODES else [1024]
        if offset == ntfs_small.JOURNAL:
            steps.append(ntfs_small.NODE)
        for step in steps:
            for start in range(at, at + length, step):
                record = bytes(changed[start : start + step])
                if record[:4] in _RECORDS and len(record) == step and _protectable(record):
                    changed[start : start + step] = _resealed(record)
        at += length
    mft, mirror = places[ntfs_small.MFT], places[ntfs_small.MIRROR]
    if len(changed) >= mirror + 4096:
        changed[mirror : mirror + 4096] = changed[mft : mft + 4096]
    return bytes(changed)


def _protectable(record: bytes) -> bool:
    offset, words = int.from_bytes(record[4:6], "little"), int.from_bytes(record[6:8], "little")
    return words == len(record) // 512 + 1 and offset + 2 * words <= 510


def _resealed(record: bytes) -> bytes:
    """Write the number into the last words, whose own content the array keeps already."""
    kept = int.from_bytes(record[4:6], "little")
    out = bytearray(record)
    for tail in range(510, len(out), 512):
        out[tail : tail + 2] = out[kept : kept + 2]
    return bytes(out)

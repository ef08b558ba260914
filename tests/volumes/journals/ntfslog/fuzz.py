"""Fuzz the reader of NTFS's journals: whole journals of small pages."""

from __future__ import annotations

from functools import cache

from aipimage.volumes.journals.ntfslog.reading import OpenLog
from aipimage.volumes.journals.ntfslog.restart import restart_pages, shape_of
from aipimage.volumes.view import LayoutError
from tests.volumes.journals.ntfslog import built
from tests.volumes.journals.ntfslog.built import Log, change

SIZE, PAGE = 40 << 10, 1024


def fuzz_ntfslog(data: bytes) -> None:
    """``data``: the start of a journal, tried as it is, and with the fix-ups made right."""
    whole = data[:SIZE].ljust(SIZE, b"\xff")
    for attempt in (whole, resealed(whole)):
        _drive(attempt)


def _drive(data: bytes) -> None:
    """Nothing is read past the end, and there are no more records than have room."""

    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(data)
        return data[offset : offset + length]

    try:
        log = OpenLog(read, shape_of(restart_pages(data), len(data)))
        for each in log.changes():
            assert len(each.redo_data) + len(each.undo_data) <= 2 * len(data)
            assert log.records <= len(data) // 48
    except LayoutError:
        pass


def resealed(data: bytes) -> bytes:
    """Put the number of each page that has room for fix-ups into its last words."""
    out = bytearray(data)
    for at in range(0, len(out), PAGE):
        kept, words = (
            int.from_bytes(out[at + place : at + place + 2], "little") for place in (4, 6)
        )
        if words == PAGE // 512 + 1 and kept + 2 * words <= 510:
            for tail in range(at + 510, at + PAGE, 512):
                out[tail : tail + 2] = out[at + kept : at + kept + 2]
    return bytes(out)


@cache
def seeds_ntfslog() -> list[bytes]:
    """Journals of both versions, in the ring and in a copy, with every table."""
    return [_seed(version, copy) for version in ((1, 1), (2, 0)) for copy in (False, True)]


def _seed(version: tuple[int, int], copy: bool) -> bytes:
    log = Log(SIZE, version, PAGE)
    log.add(change(built.ATTRIBUTES, redo_data=built.table([built.attribute_entry(6, 0x80)])))
    log.add(change(built.NAMES, redo_data=built.names((24, "$I30"))))
    dirty = built.table([built.dirty_entry(24, 0, log.lsns[0], [5, 6])])
    at = log.add(change(built.DIRTY, redo_data=dirty))
    log.add(change(built.SET_BITS, built.CLEAR_BITS, *[built.bits(9, 3)] * 2, clusters=[5]))
    log.add(change(built.NONRESIDENT, redo_data=bytes(1500), clusters=[7]))
    log.checkpoint(dirty=at)
    return bytes(log.data(copy=copy))

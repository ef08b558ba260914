"""The journal of NTFS: what is read of one that was written by hand, and what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from aipimage.volumes.journals.ntfslog import layout
from aipimage.volumes.journals.ntfslog.operations import Change
from aipimage.volumes.journals.ntfslog.reading import OpenLog
from aipimage.volumes.journals.ntfslog.restart import restart_pages, shape_of
from aipimage.volumes.journals.ntfslog.tables import (
    DirtyPage,
    OpenAttribute,
    OpenTransaction,
    attribute_names,
    dirty_pages,
    open_attributes,
    transactions,
)
from aipimage.volumes.view import LayoutError
from tests.volumes.journals.ntfslog import built
from tests.volumes.journals.ntfslog.built import Log, change
from tests.volumes.ntfs.edited import protect, unprotect


def opened(data: bytes | bytearray) -> OpenLog:
    """The reader of a journal."""

    def read(offset: int, length: int) -> bytes:
        assert 0 <= offset <= offset + length <= len(data)
        return bytes(data[offset : offset + length])

    return OpenLog(read, shape_of(restart_pages(bytes(data[: 128 << 10])), len(data)))


def changes_of(data: bytes | bytearray) -> list[Change]:
    return list(opened(data).changes())


def reason_of(data: bytes | bytearray) -> str:
    """Why a journal is not read."""
    with pytest.raises(LayoutError) as caught:
        changes_of(data)
    return str(caught.value)


@pytest.mark.parametrize("copy", [False, True], ids=["in the ring", "in a copy"])
@pytest.mark.parametrize("version", [(1, 1), (2, 0)], ids=["1.1", "2.0"])
@pytest.mark.parametrize("page", [1024, 4096])
def test_records_of_many_turns(page: int, version: tuple[int, int], copy: bool) -> None:
    """All from the oldest one on, whether they span pages, wrap, or leave the rest of a page."""
    chance = random.Random(page)
    log = Log(64 * page, version, page, turn=3, start=2)
    wanted = []
    for number in range(600):
        data = chance.randbytes(chance.choice([0, 8, 100, 3 * page]))
        wanted.append((log.add(change(built.NONRESIDENT, redo_data=data, clusters=[number])), data))
        if chance.random() < 0.05:
            log.skip()
    log.checkpoint()
    assert log.turn > 5
    for back in (1, 2, 9, 25):
        found = changes_of(log.data(oldest=wanted[-back][0], copy=copy))
        assert [each.redo_data for each in found] == [data for _, data in wanted[-back:]]
        assert found[-1].clusters == (599,)


def test_the_older_restart_page_may_need_more() -> None:
    log = small()
    data = log.data(oldest=log.lsns[2], older=log.lsns[1])
    assert len(changes_of(data)) == len(log.lsns) - 2
    assert len(changes_of(log.data(oldest=log.lsns[2]))) == len(log.lsns) - 3
    assert len(changes_of(log.data(oldest=log.lsns[2], older=8))) == len(log.lsns) - 3, (
        "overwritten"
    )


def small(version: tuple[int, int] = (1, 1)) -> Log:
    """A journal of a few records, the last of which is a checkpoint."""
    log = Log(64 << 10 if version == (1, 1) else 256 << 10, version)
    for number in range(5):
        log.add(change(built.RESIDENT, built.RESIDENT, b"new", b"old", clusters=[number]))
    log.checkpoint()
    return log


def test_what_a_change_says() -> None:
    log = Log()
    log.add(
        change(
            built.SET_BITS,
            built.CLEAR_BITS,
            built.bits(5, 6),
            b"undo it!",
            0x40,
            1,
            2,
            3,
            4,
            [7, 8],
        )
    )
    log.checkpoint()
    (found,) = changes_of(log.data())
    operations = layout.SET_BITS, layout.CLEAR_BITS
    data = built.bits(5, 6), b"undo it!"
    assert found == Change(*operations, *data, 0x40, 1, 2, 1536, 4, (7, 8))
    assert [layout.OPERATIONS[operation] for operation, _ in found.sides] == [
        "SetBitsInNonresidentBitMap",
        "ClearBitsInNonresidentBitMap",
    ]


@pytest.mark.parametrize("version", [0, 1])
def test_tables(version: int) -> None:
    """Each of both versions, whose entries differ in their sizes."""
    entries = [
        built.attribute_entry(0, 0x80, 9, version),
        built.attribute_entry(6, 0x80, 9, version),
    ]
    places = [24, 24 + len(entries[0])]
    found = open_attributes(built.table(entries))
    assert found == dict(zip(places, (OpenAttribute(0, 0x80), OpenAttribute(6, 0x80)), strict=True))
    pages = [
        built.dirty_entry(24, 3, 77, [5, 6, 7], version),
        built.dirty_entry(64, 9, 78, [1, 2, -1], version),
    ]
    assert list(dirty_pages(built.table(pages))) == [
        DirtyPage(24, 3, 77, (5, 6, 7)),
        DirtyPage(64, 9, 78, (1, 2, -1)),
    ]
    assert list(transactions(built.table([built.transaction_entry(5, 8)]))) == [
        OpenTransaction(1, 5, 8)
    ]
    assert list(attribute_names(built.names((24, "$I30"), (64, "$O")))) == [
        (24, "$I30".encode("utf-16-le")),
        (64, "$O".encode("utf-16-le")),
    ]


def test_open_attributes_are_followed() -> None:
    """From the table, its names, and those that are opened after it."""
    log = Log()
    log.add(change(built.ATTRIBUTES, redo_data=built.table([built.attribute_entry(5, 0xA0)])))
    log.add(change(built.NAMES, redo_data=built.names((24, "$I30"))))
    name = "$SDS".encode("utf-16-le")
    log.add(change(built.OPEN, built.NOOP, built.attribute_entry(9, 0x80), name, target=64))
    log.checkpoint()
    reader = opened(log.data())
    assert len(list(reader.changes())) == 3
    assert reader.attributes == {
        24: OpenAttribute(5, 0xA0, "$I30".encode("utf-16-le")),
        64: OpenAttribute(9, 0x80, name),
    }


def test_a_record_whose_last_page_was_not_written_is_none() -> None:
    """As when the machine stops while it is written, whatever lies in that place."""
    for stale in (b"\xff" * 4096, None):
        log = small()
        before = log.data()
        log.add(change(built.NONRESIDENT, redo_data=bytes(6000)))
        data = log.data(current=log.lsns[-2])
        last = (log.at - 1) // 4096 * 4096
        data[last : last + 4096] = stale or before[last : last + 4096]
        if stale is None:
            page = bytearray(log.pages[last])
            page[8:16] = page[32:40] = (3).to_bytes(8, "little")
            data[last : last + 4096] = protect(bytes(page))
        assert len(changes_of(data)) == 5


def test_class_50_a_gap() -> None:
    """A page in the middle that is missing or cut short, though what follows is there."""
    log = Log()
    for _ in range(300):
        log.add(change(built.RESIDENT, redo_data=bytes(100)))
    log.checkpoint()
    whole = log.data()
    assert len(changes_of(whole)) == 300
    at = log.first + 3 * 4096
    for spoilt in (b"\xff" * 4096, bytes(whole[at : at + 3000]) + bytes(1096)):
        data = bytearray(whole)
        data[at : at + 4096] = spoilt
        assert "cannot be read past" in reason_of(data)
        early = log.data(current=log.lsns[0])
        early[at : at + 4096] = spoilt
        # The checkpoint is also after the gap.
        assert "cannot be read past" in reason_of(early)


def test_class_50_records_after_the_last_one_that_can_be_read() -> None:
    log = small()
    for _ in range(100):
        log.add(change(built.RESIDENT, redo_data=bytes(100)))
    data = log.data(current=log.checkpoint_lsn)
    data[log.first + 4096 : log.first + 8192] = b"\xff" * 4096
    assert "has a gap" in reason_of(data)


def made(data: bytes, kind: int = 1, checkpoint: bool = True) -> bytearray:
    """A journal with one record more."""
    log = Log()
    log.add(change(built.NOOP))
    log.add(data, kind)
    if checkpoint:
        log.checkpoint()
    return log.data()


def opened_table(data: bytes) -> bytearray:
    """A journal with a table of open attributes."""
    return made(change(built.ATTRIBUTES, redo_data=data))


def _table(at: int, value: bytes) -> bytes:
    data = bytearray(built.table([built.attribute_entry(5, 0x80)]))
    data[at : at + len(value)] = value
    return bytes(data)


_NAMED = change(built.RESIDENT, clusters=[1])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda: made(b"", kind=3), "unknown type 3"),
        (lambda: made(change(0x26)), "an operation that is not known"),
        (lambda: made(change(0, 0xFFFF)), "an operation that is not known"),
        (lambda: made(bytes(8)), "is cut short"),
        (lambda: made(_NAMED[:14] + b"\xff\xff" + _NAMED[16:]), "clusters past its end"),
        (lambda: made(change(7, redo_data=b"x" * 8)[:-8]), "data past its end"),
        (lambda: made(_NAMED[:24] + b"\xff" * 8 + _NAMED[32:]), "clusters past its end"),
        (lambda: made(change(0), checkpoint=False), "no checkpoint"),
        (lambda: made(bytes(8), kind=2), "is cut short"),
        (lambda: made(bytes([9]) + bytes(111), kind=2), "version 9.0"),
        (lambda: small().data(name="Other"), "not that of NTFS alone"),
        (lambda: small().data(oldest=0x123456), "does not hold the record"),
        (lambda: small().data(current=1 << 40), "cannot be read past"),
        (lambda: opened_table(bytes(8)), "table in its journal is cut"),
        (lambda: opened_table(_table(2, b"\xff\xff")), "runs out"),
        (lambda: opened_table(_table(0, b"\0\0")), "runs out"),
        (lambda: opened_table(_table(4, b"\7\0")), "has 7 entries"),
        (lambda: made(change(built.OPEN, redo_data=bytes(30))), "open attributes of 30 bytes"),
        (lambda: made(change(built.NAMES, redo_data=b"\x18\0\xff\0")), "runs out of its table"),
    ],
)  # fmt: skip
def test_class_42_what_does_not_fit_is_refused(data: Callable[[], bytearray], reason: str) -> None:
    assert reason in reason_of(data())


def test_class_50_tables_that_name_what_is_gone() -> None:
    """A dirty page or transaction whose first record is older than the oldest one that is there."""
    for lost in (True, False):
        for kind in (built.DIRTY, built.TRANSACTIONS):
            log = Log()
            old = log.add(change(built.NOOP))
            oldest = log.add(change(built.NOOP))
            first = old if lost else oldest
            entry = built.dirty_entry(24, 0, first, [5])
            if kind == built.TRANSACTIONS:
                entry = built.transaction_entry(first, first)
            at = log.add(change(kind, redo_data=built.table([entry])))
            log.checkpoint(**({"dirty": at} if kind == built.DIRTY else {"open_": at}))
            data = log.data(oldest=oldest)
            if lost:
                assert "no longer holds all" in reason_of(data)
            else:
                assert len(changes_of(data)) == 2


@pytest.mark.parametrize(
    ("at", "value", "reason"),
    [
        (20, b"\x01\x10\0\0", "log pages of 4097"),
        (20, b"\0\0\0\0", "log pages of 0"),
        (64 + 16, b"\x40\0\0\0", "turns in 64 bits"),
        (64 + 16, b"\0\0\0\0", "turns in 0 bits"),
        (64 + 22, b"\xff\xff", "clients past its end"),
        (64 + 24, b"\xff" * 7 + b"\x7f", "bytes says that it has"),
        (64 + 24, b"\0" * 8, "bytes says that it has"),
        (64 + 36, b"\x31\0", "headers of 49"),
        (64 + 38, b"\0\0", "begins at byte 0"),
        (64 + 38, b"\xf8\x0f", "begins at byte 4088"),
        (128 + 18, b"\0\0", "not that of NTFS alone"),
        (28, b"\3\0", "of version 3.1"),
    ],
)
def test_class_4_numbers_of_restart_pages(at: int, value: bytes, reason: str) -> None:
    data = small().data()
    for place in (0, 4096):
        page = unprotect(bytes(data[place : place + 4096]))
        page[at : at + len(value)] = value
        data[place : place + 4096] = protect(bytes(page))
        if place == 0:
            assert reason_of(data)
    assert reason in reason_of(data)


def test_copies_for_places_that_are_not_there_count_for_nothing() -> None:
    log = small()
    for place in (0, 3 * 4096, 4096 * 4 + 1, 1 << 40, -4096):
        data = log.data()
        page = bytearray(log.pages[log.first])
        page[8:16] = place.to_bytes(8, "little", signed=True)
        data[2 * 4096 : 3 * 4096] = protect(bytes(page))
        assert len(changes_of(data)) == 5

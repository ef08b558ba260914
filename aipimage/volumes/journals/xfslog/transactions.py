"""The transactions in the records of an XFS log.

A transaction is a header and items, an item a list of regions; each is cut into operations, and
those of several transactions may lie between each other. What was not committed before the head
never happened. Linux, xlog_recover_process_data.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from aipimage.volumes.journals.xfslog import layout
from aipimage.volumes.journals.xfslog.records import Record
from aipimage.volumes.view import LayoutError

PENDING_MAX = 192 << 20
"""Bytes of transactions that are not committed yet: some times more than a driver lets grow."""
_REGION_COST = 160
"""Bytes that a region takes beside its content."""
_DAMAGED = "a transaction in its log is damaged"


@dataclass(slots=True)
class Item:
    """An item: the first region says what it is, and how many there are."""

    regions: list[bytes | bytearray] = field(default_factory=list)
    count: int = 0

    @property
    def kind(self) -> int:
        """Its type."""
        return int.from_bytes(self.regions[0][:2], "little")


class Transaction(NamedTuple):
    """A committed transaction.

    Attributes:
        lsn: of the record in which it began. items: in the order in which they were written.
    """

    lsn: int
    items: list[Item]


@dataclass(slots=True)
class _Open:
    lsn: int
    header: bytes = b""
    items: list[Item] = field(default_factory=list)
    size: int = 0


class _Collector:
    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._pending = 0

    def add(self, record: Record) -> Iterator[Transaction]:
        """Take the operations of a record; yield what they commit."""
        data, at = record.data, 0
        for _ in range(record.operations):
            if at + layout.OPERATION.size > len(data):
                raise LayoutError(_DAMAGED)
            number, length, client, flags, _ = layout.OPERATION.unpack_from(data, at)
            at += layout.OPERATION.size
            if client not in (layout.CLIENT_TRANSACTION, layout.CLIENT_LOG):
                raise LayoutError("its log holds an operation of something unknown")
            if at + length > len(data):
                raise LayoutError(_DAMAGED)
            region = data[at : at + length]
            at += length
            done = self._operation(number, flags, region, record.lsn)
            if done is not None:
                yield done

    def _operation(self, number: int, flags: int, region: bytes, lsn: int) -> Transaction | None:
        found = self._open.get(number)
        if found is None:
            if flags & layout.START:
                self._open[number] = _Open(lsn)
            return None
        flags &= ~layout.END
        if flags & layout.WAS_CONTINUED:
            flags &= ~layout.CONTINUE
        if flags in (0, layout.CONTINUE):
            self._grow(found, len(region))
            _add(found, region)
        elif flags == layout.WAS_CONTINUED:
            self._grow(found, len(region))
            _continue(found, region)
        elif flags == layout.COMMIT:
            del self._open[number]
            self._pending -= found.size
            return _finished(found)
        else:
            raise LayoutError("its log holds an operation with unknown flags")
        return None

    def _grow(self, found: _Open, count: int) -> None:
        found.size += count + _REGION_COST
        self._pending += count + _REGION_COST
        if self._pending > PENDING_MAX:
            raise LayoutError("a transaction in its log is larger than can be looked at")


def _add(found: _Open, region: bytes) -> None:
    """A new region: of the transaction's header, of the last item, or of a new one."""
    if not region:
        return
    if not found.items:
        if int.from_bytes(region[:4], "little") != layout.TRANSACTION_MAGIC:
            raise LayoutError(_DAMAGED)
        _header(found, region)
        return
    last = found.items[-1]
    if last.count and last.count == len(last.regions):
        last = Item()
        found.items.append(last)
    if not last.count:
        last.count = int.from_bytes(region[2:4], "little")
        if not 0 < last.count <= layout.REGIONS_MAX or len(region) < 4:
            raise LayoutError("an item in its log has an impossible size")
    last.regions.append(region)


def _continue(found: _Open, region: bytes) -> None:
    """The rest of a region that began in the record before."""
    if not found.items:
        _header(found, region)
        return
    regions = found.items[-1].regions
    if not regions:
        raise LayoutError(_DAMAGED)
    if not isinstance(regions[-1], bytearray):
        regions[-1] = bytearray(regions[-1])
    regions[-1] += region


def _header(found: _Open, region: bytes) -> None:
    found.header += region
    if len(found.header) > layout.TRANSACTION_HEADER:
        raise LayoutError(_DAMAGED)
    if len(found.header) == layout.TRANSACTION_HEADER:
        found.items.append(Item())


def _finished(found: _Open) -> Transaction:
    items = [item for item in found.items if item.count]
    if any(item.count != len(item.regions) for item in items):
        raise LayoutError(_DAMAGED)
    return Transaction(found.lsn, items)


def transactions(records: Iterable[Record]) -> Iterator[Transaction]:
    """Yield the committed transactions of records, in the order in which they were committed.

    Raises:
        LayoutError: an operation is not understood, or items are not complete.
    """
    collector = _Collector()
    for record in records:
        yield from collector.add(record)

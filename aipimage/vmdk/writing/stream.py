"""streamOptimized: a compressed disk that is written from front to back, without seeking.

Source: VMware "Virtual Disk Format 5.0" technical note, "Stream-Optimized Compressed Sparse
Extents". After header and descriptor come grains, each after its marker, and after the last
grain of a table that table; then directory, footer and end-of-stream marker. Tables without grains
are left out: their entry in the directory is 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from aipimage.errors import RequestError
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.reading.device import Device
from aipimage.io.system.buffers import thread_buffer
from aipimage.io.system.pipeline import executor_for
from aipimage.io.system.progress import ProgressCallback, Reporter
from aipimage.vmdk.deflate import Compressor
from aipimage.vmdk.descriptor import format_descriptor
from aipimage.vmdk.feed import BATCH_BYTES, GRAIN_BYTES, FeedBatch, GrainFeed, Numbers
from aipimage.vmdk.layout import (
    DESCRIPTOR_SECTORS,
    GD_AT_END,
    GRAIN,
    GRAIN_MARKER,
    MAX_SECTORS_32,
    SECTOR,
    TABLE_ENTRIES,
    MarkerType,
    SparseFlags,
    SparseHeader,
    encode_marker,
    encode_sparse_header,
)
from aipimage.vmdk.writing.plan import (
    DEFAULT_HARDWARE,
    DiskOptions,
    DiskPlan,
    new_identity,
    plan_disk,
)
from aipimage.vmdk.writing.tables import (
    entries_text,
    no_entries,
    table_runs,
    verified_entries,
    verified_number,
    verified_table,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

Append = Callable[[Sequence["Buffer"]], None]
"""Takes buffers that follow each other, and keeps none of them."""
OVERHEAD = 128
_FLAGS = SparseFlags.NEWLINE_TEST | SparseFlags.COMPRESSED | SparseFlags.MARKERS
_TABLE_SECTORS = TABLE_ENTRIES * 4 // SECTOR
_PADDING = [bytes(-size % SECTOR) for size in range(SECTOR)]
_TAIL_SECTORS = 4 + _TABLE_SECTORS
"""Sectors at most after the last grain, beside the directory: a table, and four markers."""


class Packed(NamedTuple):
    """Grains of a batch, each with its marker and padded to whole sectors, one after the other.

    Attributes:
        numbers: of the grains. sectors: of each, in ``data``. end, unreadable: see
            :class:`aipimage.vmdk.feed.Grains`.
    """

    numbers: Numbers
    sectors: Numbers
    data: bytes
    end: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class GrainPacker:
    """What the workers do: read a batch, and compress its grains."""

    feed: GrainFeed
    compressor: Compressor

    def __call__(self, batch: FeedBatch) -> Packed:
        grains = self.feed.load(batch, thread_buffer("vmdk_grains", BATCH_BYTES))
        compress, data = self.compressor.compress, grains.data
        parts: list[bytes] = []
        sizes: list[int] = []
        for number, row in zip(grains.numbers.tolist(), grains.rows.tolist(), strict=True):
            packed = compress(data[row * GRAIN_BYTES : (row + 1) * GRAIN_BYTES])
            size = len(packed) + GRAIN_MARKER.size
            parts += (
                GRAIN_MARKER.pack(number * GRAIN, len(packed)),
                packed,
                _PADDING[size % SECTOR],
            )
            sizes.append(-(-size // SECTOR))
        sectors = np.array(sizes, np.int64)
        return Packed(grains.numbers, sectors, b"".join(parts), grains.end, grains.unreadable)


class StreamWriter:
    """Puts a streamOptimized disk together.

    Args:
        append: where the bytes go.
        plan: of a ``streamOptimized`` disk.

    Attributes:
        position: sectors so far. grains: so far.
    """

    def __init__(self, append: Append, plan: DiskPlan) -> None:
        self._append, self._plan = append, plan
        sectors = plan.capacity // SECTOR
        self._header = SparseHeader(
            3, int(_FLAGS), sectors, GRAIN, 1, DESCRIPTOR_SECTORS, TABLE_ENTRIES, 0, GD_AT_END,
            OVERHEAD, compression=1,
        )  # fmt: skip
        self._directory = no_entries(self._header.tables)
        self._entries = no_entries()
        self._table: int | None = None
        self.position = self.grains = 0

    def begin(self) -> None:
        """Write header and descriptor."""
        text = embedded_descriptor(self._plan)
        filler = bytes((OVERHEAD - 1 - DESCRIPTOR_SECTORS) * SECTOR)
        self._put([encode_sparse_header(self._header), text, filler])

    def add(self, packed: Packed) -> None:
        """Write grains, which come in ascending order, and the tables that end before them.

        Raises:
            RequestError: the file would pass 2 TiB.
        """
        numbers, sectors = packed.numbers, packed.sectors
        if not len(numbers):
            return
        self._check_room(int(sectors.sum()), len(numbers))
        ends = np.cumsum(sectors)
        view = memoryview(packed.data)
        parts: list[Buffer] = []
        at = 0
        for table, low, high in table_runs(numbers):
            parts += self._table_before(table)
            end = int(ends[high - 1])
            self._entries[numbers[low:high] % TABLE_ENTRIES] = (
                self.position - at + ends[low:high] - sectors[low:high]
            )
            parts.append(view[at * SECTOR : end * SECTOR])
            self.position += end - at
            at = end
        self.grains += len(numbers)
        self._append(parts)

    def finish(self) -> int:
        """Write the last table, directory, footer and end-of-stream marker; return the sectors of
        the whole.
        """
        parts = self._ended_table()
        directory = self._directory.tobytes()
        directory += bytes(-len(directory) % SECTOR)
        size = len(directory) // SECTOR
        footer = replace(self._header, gd_offset=self.position + 1)
        parts += [
            _metadata(size, MarkerType.GRAIN_DIRECTORY),
            directory,
            _metadata(1, MarkerType.FOOTER),
            encode_sparse_header(footer),
            _metadata(0, MarkerType.EOS),
        ]
        self.position += size + 4
        self._append(parts)
        return self.position

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs to continue at this position."""
        return {
            "position": self.position,
            "grains": self.grains,
            "table": self._table,
            "entries": entries_text(self._entries),
            "directory": entries_text(self._directory),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Resume where :meth:`state` was asked for; ``FormatError`` where that is not possible."""
        self.position = verified_number(state, "position", OVERHEAD, MAX_SECTORS_32)
        self.grains = verified_number(state, "grains", 0, self._header.grains)
        self._table = verified_table(state, self._header.tables)
        self._entries = verified_entries(state, "entries", TABLE_ENTRIES)
        self._directory = verified_entries(state, "directory", self._header.tables)

    def _put(self, parts: list[Buffer]) -> None:
        self.position += sum(memoryview(part).nbytes for part in parts) // SECTOR
        self._append(parts)

    def _check_room(self, sectors: int, grains: int) -> None:
        directory = -(-self._directory.nbytes // SECTOR)
        # Before each of the grains a table may end.
        tables = grains * (_TABLE_SECTORS + 1)
        if self.position + sectors + tables + directory + _TAIL_SECTORS > MAX_SECTORS_32:
            raise RequestError(
                f"{self._plan.name}: a streamOptimized file would pass 2 TiB, which its tables "
                "cannot reach; use twoGbMaxExtentSparse or a flat disk"
            )

    def _table_before(self, table: int) -> list[Buffer]:
        """Begin a table; return the bytes of the one before."""
        if table == self._table:
            return []
        parts = self._ended_table()
        self._table = table
        return parts

    def _ended_table(self) -> list[Buffer]:
        if self._table is None:
            return []
        self._directory[self._table] = self.position + 1
        data = self._entries.tobytes()
        self._entries[:] = 0
        self._table = None
        self.position += 1 + _TABLE_SECTORS
        return [_metadata(_TABLE_SECTORS, MarkerType.GRAIN_TABLE), data]


def embedded_descriptor(plan: DiskPlan) -> bytes:
    """The descriptor of a disk in one file, filled up to the sectors reserved for it."""
    text = format_descriptor(plan.descriptor).encode()
    room = DESCRIPTOR_SECTORS * SECTOR
    if len(text) > room:
        raise RuntimeError(f"internal error: a descriptor of {len(text)} bytes in {room}")
    return text.ljust(room, b"\0")


def _metadata(sectors: int, kind: MarkerType) -> bytes:
    return encode_marker(sectors, 0, kind).ljust(SECTOR, b"\0")


@dataclass(frozen=True, slots=True)
class StreamResult:
    """What :func:`stream_disk` wrote.

    Attributes:
        size: bytes of the stream. capacity: bytes of the disk. grains: that were stored, of 64 KiB.
        cid: its ``CID``. unreadable: bytes that the source could not read; they are zeros.
        warnings: what the user should look at.
    """

    size: int
    capacity: int
    grains: int
    cid: int
    unreadable: int
    warnings: tuple[str, ...]


def stream_disk(
    source: BlockSource | Device,
    append: Append,
    *,
    name: str = "disk.vmdk",
    adapter: str = "lsilogic",
    hardware: int = DEFAULT_HARDWARE,
    cid: int | None = None,
    level: str = "fast",
    threads: int | None = None,
    executor: Executor | None = None,
    progress: ProgressCallback | None = None,
) -> StreamResult:
    """Write a source as a streamOptimized disk in one pass: the same bytes for the same source,
    options and ``cid``.

    Args:
        source: a device of an image, or any block source. append: called from this thread, with
            buffers that follow each other. name: the disk's file name, for its descriptor.
        The others: see :func:`aipimage.vmdk.writing.job.write_vmdk`.

    Raises:
        RequestError: it is not possible as asked. IntegrityError: the image is damaged, or data of
            it was lost. SourceError: the source cannot be read. CancelledError: the callback said
            so. What ``append`` raises.
    """
    feed = GrainFeed(source)
    options = DiskOptions("streamOptimized", adapter, hardware, cid, None, level)
    identity = new_identity(cid)
    plan = plan_disk(name, feed.name, feed.size, feed.sector_size, options, identity)
    writer = StreamWriter(append, plan)
    reporter = Reporter("convert", feed.size, progress)
    packer = GrainPacker(feed, Compressor(level))
    unreadable = feed.unreadable
    writer.begin()
    with executor_for(executor, threads, "vmdk") as (pool, in_flight):
        for packed in feed.run(packer, pool, in_flight):
            writer.add(packed)
            unreadable += packed.unreadable
            reporter.report(min(packed.end * GRAIN_BYTES, feed.size), writer.position * SECTOR)
    size = writer.finish() * SECTOR
    reporter.report(feed.size, size, final=True)
    return StreamResult(
        size,
        plan.capacity,
        writer.grains,
        identity.cid,
        unreadable,
        (*plan.warnings, *unreadable_warning(unreadable)),
    )


def unreadable_warning(unreadable: int) -> tuple[str, ...]:
    """What there is to say of bytes that a source could not read."""
    if not unreadable:
        return ()
    sectors = -(-unreadable // SECTOR)
    noun = "sector" if sectors == 1 else "sectors"
    return (f"{sectors} {noun} of the source could not be read, and are zeros on the disk",)

"""The increment of one device: what to look at, and what becomes of what changed (docs/format.md,
section 9.4).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.errors import AipImageError, IncompleteError, RequestError
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.digest import block_digest
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.changes.forms import changes_from
from aipimage.io.creating.imagewriter import ImageWriter
from aipimage.io.creating.request import CreateRequest
from aipimage.io.creating.results import DeviceChanges
from aipimage.io.increment.grouping import Built, FrameMaker, Group
from aipimage.io.increment.parent import Parent, ParentUnusableError, reading_parent
from aipimage.io.increment.plan import (
    changed_use,
    compared_pieces,
    compared_ranges,
    freed_blocks,
    freed_pieces,
    must_take,
    sample_offsets,
    tracked_pieces,
    without,
)
from aipimage.io.increment.scan import Method, Scanned, Scanner, ScanPiece
from aipimage.io.increment.update import DeviceUpdate
from aipimage.io.system.pipeline import in_order
from aipimage.ranges import ByteRanges, aligned, difference, joined, no_ranges

if TYPE_CHECKING:
    from aipimage.io.changes.forms import ChangedLike


class Increment(Protocol):
    """What the work on one device needs of the job that it is a part of."""

    @property
    def request(self) -> CreateRequest:
        """What was asked for."""

    def warn(self, text: str) -> None:
        """Add a warning to the result."""

    def wait(self, length: int) -> None:
        """Keep the rate that was asked for before ``length`` more bytes are read."""

    def progressed(self, number: int, offset: int) -> None:
        """Report how far a device is, in bytes."""

    def note(self, number: int, runs: npt.NDArray[np.void]) -> None:
        """Remember what changed without data, for the next checkpoint (section 11)."""

    def note_unreadable(self, number: int, ranges: list[tuple[int, int]]) -> None:
        """Remember what of a source could not be read, in bytes, for the result."""

    def checkpoint_due(self) -> bool:
        """Whether it is time for a checkpoint."""

    def checkpoint(self, number: int, sector: int) -> None:
        """Write one if it is time."""


class DeviceWork:
    """The increment of one device.

    Args:
        maker: makes frames of changed clusters. update: takes the changes of this device.
        number: of the device in the new image.
    """

    def __init__(
        self,
        job: Increment,
        parent: Parent,
        maker: FrameMaker,
        writer: ImageWriter,
        update: DeviceUpdate,
        number: int,
        source: BlockSource,
    ) -> None:
        self._job, self._parent, self._maker = job, parent, maker
        self._writer, self._update = writer, update
        self._number, self._source = number, source
        self._old, self._options = parent.devices[number], job.request.options
        self._grain = self._options.grain
        self._stripe = 1 << writer.header.stripe_shift
        self._read = self._changed = 0

    def run(self, told: object, executor: Executor, in_flight: int, start: int) -> DeviceChanges:
        """Look at everything from byte ``start`` on, and write what changed.

        Args:
            told: what the caller says has changed; ``None`` for nothing.
        """
        with reading_parent():
            take = _united(
                must_take(self._source, self._old, self._grain),
                changed_use(self._source, self._old),
            )
        method, changed, reason = self._method(take, told)
        take = aligned(_united(take, changed), self._grain, self._source.size)
        old = self._old
        parent = old if old is not None and self._parent_has_data(method) else None
        scanner = Scanner(
            self._source,
            parent,
            self._grain,
            self._update.digest_view is not None,
            self._options.stop_on_error,
        )
        freed = freed_blocks(self._source, take)
        pieces = self._pieces(method, take, freed, start)
        scanned = in_order(executor, scanner.scan, pieces, in_flight)
        for built in in_order(executor, self._maker.build, self._groups(scanned), in_flight):
            self._take(built, scanner)
        return DeviceChanges(method.value, self._read, self._changed, reason)

    # What to look at

    def _method(self, take: ByteRanges, told: object) -> tuple[Method, ByteRanges, str | None]:
        """How to find out what changed; the ranges that are known to have; why not better."""
        if self._old is None:
            self._job.warn(f"{self._source.name}: the parent does not have it; all was taken")
            return Method.FULL, no_ranges(), "the parent does not have it"
        if told is None:
            return self._comparison(), no_ranges(), None
        ranges, reason = self._trusted(take, cast("ChangedLike", told))
        if reason is None:
            return Method.TRACKED, ranges, None
        self._job.warn(f"{self._source.name}: {reason}; all of it was compared instead")
        return self._comparison(), no_ranges(), reason

    def _trusted(self, take: ByteRanges, told: ChangedLike) -> tuple[ByteRanges, str | None]:
        """The ranges that are said to have changed, and why they are not to be used, if so."""
        ids = self._parent.ids
        storage = self._job.request.storage
        changes = changes_from(told, self._source.size, storage, parent=ids[0])
        ranges = self._with_tail(changes.ranges, changes.size)
        if changes.doubt is not None:
            return ranges, changes.doubt
        if changes.since not in (None, *ids):
            return ranges, f"the change tracker counts from another image, {changes.since}"
        if changes.since is None and not self._parent.sure[self._number]:
            return ranges, "the parent was found by the disk's name only; name the image to vouch"
        wrong = self._sampled(_united(take, ranges))
        if wrong is not None:
            return ranges, f"the change tracker missed a change at byte {wrong}"
        return ranges, None

    def _with_tail(self, ranges: ByteRanges, watched: int | None) -> ByteRanges:
        """What lies after the watched part counts as changed."""
        size = self._source.size
        if watched is None or watched >= size:
            return ranges
        return _united(ranges, np.array([(watched, size - watched)], np.uint64))

    def _comparison(self) -> Method:
        digests = self._update.digest_view is not None
        wanted = self._options.compare
        if wanted == "digests" and not digests:
            raise RequestError(f"{self._parent.path}: has no block digests; compare with its data")
        return Method.DIGESTS if digests and wanted != "data" else Method.DATA

    def _parent_has_data(self, method: Method) -> bool:
        """Whether the parent's data can be read; without it digests find whole blocks only."""
        try:
            self._parent.check_files()
        except IncompleteError as error:
            if method == Method.DATA:
                raise ParentUnusableError(str(error)) from error
            self._job.warn(f"{error}; the new image cannot be restored without it")
            return False
        return True

    def _pieces(
        self, method: Method, take: ByteRanges, freed: ByteRanges, start: int
    ) -> Iterator[ScanPiece]:
        freed, take = _past(freed, start), _past(difference(take, freed), start)
        if method in (Method.TRACKED, Method.FULL):
            pieces = self._taken_pieces(method, take, freed)
        else:
            assert self._old is not None
            ranges = without(compared_ranges(self._source, self._old, take, start), freed)
            view = self._update.digest_view if method == Method.DIGESTS else None
            pieces = heapq.merge(
                compared_pieces(self._number, ranges, take, method, view),
                freed_pieces(self._number, freed),
                key=lambda piece: int(piece.segments[0, 0]),
            )
        # The parent's map and digests are read while the pieces are cut.
        with reading_parent():
            for piece in pieces:
                if piece.method != Method.FREED:
                    self._job.wait(int(piece.segments[:, 1].sum()))
                yield piece

    def _taken_pieces(
        self, method: Method, take: ByteRanges, freed: ByteRanges
    ) -> Iterator[ScanPiece]:
        """Pieces of what is known to have changed; none reaches across what became free."""
        wide = c.BLOCK if self._update.digest_view is not None else self._grain
        low = 0
        for row in range(len(freed)):
            high = int(np.searchsorted(take[:, 0], freed[row, 0], "left"))
            yield from tracked_pieces(self._number, take[low:high], wide, self._source.size, method)
            yield from freed_pieces(self._number, freed[row : row + 1])
            low = high
        yield from tracked_pieces(self._number, take[low:], wide, self._source.size, method)

    def _sampled(self, take: ByteRanges) -> int | None:
        """Compare a random sample of what is called unchanged; return where it is not."""
        assert self._old is not None
        view = self._update.digest_view
        wide = c.BLOCK if view is not None else self._grain
        end = min(self._old.size, self._source.size)
        end -= end % wide
        now, was = bytearray(wide), bytearray(wide)
        for offset in sample_offsets(take, wide, end, self._source):
            try:
                self._source.read_into(now, offset)
            except AipImageError:
                continue  # A bad sector is not a change; the parent's content stays.
            with reading_parent():
                if view is not None:
                    same = view.read(offset // c.BLOCK, 1).tobytes() == _block_digest(now)
                else:
                    self._old.read_into(was, offset)
                    same = now == was
            if not same:
                return offset
        return None

    # From clusters to frames

    def _groups(self, scanned: Iterator[Scanned]) -> Iterator[Group]:
        """Put the changes of several pieces together, until they are some frames."""
        group = Group()
        for each in scanned:
            self._job.progressed(self._number, int(each.piece.segments[-1].sum()))
            at = int(each.piece.segments[0, 0])
            if group.scanned:
                # Where a stripe ends between two pieces, a checkpoint may stand.
                end = int(group.scanned[-1].piece.segments[-1].sum())
                boundary = at - at % self._stripe
                group.boundary = boundary if boundary >= end else None
                due = self._job.checkpoint_due() and group.boundary is not None
                if group.is_full or due:
                    yield self._numbered(group)
                    group = Group()
            group.scanned.append(each)
            group.size += each.payload.nbytes
            group.runs += len(each.runs) + len(each.blocks) // 64
        if group.scanned:
            # Its boundary is before its last piece, and none may follow it.
            group.boundary = None
            yield self._numbered(group)

    def _numbered(self, group: Group) -> Group:
        """Frames are numbered in the order in which they are written (section 5)."""
        frames = -(-group.size // self._writer.header.frame_size)
        numbers = self._writer.records.numbers
        group.first = numbers.claim(RecordType.FRAME, frames) if frames else 0
        return group

    def _take(self, built: Built, scanner: Scanner) -> None:
        group = built.group
        self._writer.add_frames(built.data, built.frames)
        if built.buffer is not None:
            self._maker.buffers.give(built.buffer)
        position = group.first * self._writer.header.frame_sectors
        for each in group.scanned:
            position = self._map(each, position)
            if each.buffer is not None:
                scanner.buffers.give(each.buffer)
        if group.boundary is not None:
            self._job.checkpoint(self._number, group.boundary // SECTOR)

    def _map(self, scanned: Scanned, position: int) -> int:
        runs = scanned.runs
        is_data = runs["kind"] == Kind.DATA
        lengths = np.where(is_data, runs["length"], np.uint64(0))
        positions = np.where(is_data, np.uint64(position) + np.cumsum(lengths) - lengths, 0)
        self._update.replace(runs, positions.astype(np.uint64))
        self._update.set_digests(scanned.blocks, scanned.digests)
        self._job.note(self._number, runs[~is_data])
        self._job.note_unreadable(self._number, scanned.unreadable)
        self._read += scanned.read
        # What became free was not taken, and costs nothing.
        runs = runs[runs["kind"] != Kind.UNUSED]
        total = int(runs["length"].sum())
        if len(runs) and int(runs[-1]["start"]) + int(runs[-1]["length"]) == self._update.sectors:
            # The last sector of a device can be cut short.
            self._changed -= self._update.sectors * SECTOR - self._source.size
        self._changed += total * SECTOR
        return position + int(lengths.sum())


def _past(ranges: ByteRanges, start: int) -> ByteRanges:
    """What of some ranges lies at ``start`` or after it."""
    return difference(ranges, np.array([(0, start)], np.uint64)) if start else ranges


def _united(a: ByteRanges, b: ByteRanges) -> ByteRanges:
    """All of both sets, which may overlap."""
    return joined(np.concatenate((a, b)))


def _block_digest(block: bytearray) -> bytes:
    return bytes(c.BLOCK_DIGEST) if _core.is_zero(block) else block_digest(block)

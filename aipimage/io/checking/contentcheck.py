"""What a device reads as, compared with what was sealed beside it: its block digests, and where its
frames say that their sectors are from (docs/format.md, sections 6.1, 8 and 13).

A device is taken in the order of its map, some blocks at a time, so that a frame is decompressed
once for its own check and for these. The digests are read by the thread that plans.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage import _core
from aipimage.errors import AipImageError
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.layers import Digests
from aipimage.io.checking.placecheck import PlaceCheck
from aipimage.io.index.devicemap import Piece
from aipimage.io.index.digests import DigestView
from aipimage.io.reading.bulkread import Cuts, cut_frames, frame_runs
from aipimage.io.records.frames import FailedFrame, FrameRun, OpenedRun, read_run
from aipimage.io.system.buffers import Buffers

if TYPE_CHECKING:
    from aipimage.io.reading.device import Device

BLOCK_SECTORS = c.BLOCK // SECTOR
_BLOCKS_AT_ONCE = 64
_DIFFERING_MAX = 1 << 16
Frame = tuple[int, int]
"""Index of the origin, and number."""
Bools = npt.NDArray[np.bool_]
Blocks = tuple[int, int]
"""The first block, and how many."""


class Span(NamedTuple):
    """Some blocks that follow each other, and the pieces of the map that cover them.

    ``digests``: what was sealed of them, ``None`` where that is not to be compared.
    """

    first: int
    blocks: int
    pieces: list[Piece]
    digests: Digests | None = None

    @property
    def has_data(self) -> bool:
        """Whether frames are needed."""
        return any(piece.kind == Kind.DATA for piece in self.pieces)


@dataclass(slots=True)
class ContentFound:
    """What a worker found.

    Attributes:
        failed: frames that it looked at and that are not whole, each with the index of its
            origin. runs: what was read.
        differing: blocks whose digests are not those of their content.
        misplaced: frames whose extents are elsewhere than the map has them.
    """

    device: int
    failed: list[tuple[int, FailedFrame]] = field(default_factory=list)
    runs: list[tuple[int, FrameRun]] = field(default_factory=list)
    differing: list[Blocks] = field(default_factory=list)
    misplaced: list[Frame] = field(default_factory=list)


class Scope(NamedTuple):
    """What of an image is looked at.

    Attributes:
        own: origins whose frames its own file holds. written: those of its own runs, whose extents
            name devices by the numbers that they have in this image.
        read: origins whose frames are read. every: compare each block, not only those of which the
            file has frames or digests.
        chosen: whether a frame is looked at; a sample chooses some, and without one all are.
        kept: whether frames are there at all; a merge drops some, and that a map leads to one is
            found elsewhere.
    """

    own: Callable[[int], bool]
    written: Callable[[int], bool]
    read: Callable[[int], bool]
    every: bool
    chosen: Callable[[int, int], bool] | None
    kept: Callable[[int, FrameRun], bool]


def spans_of(device: Device) -> Iterator[Span]:
    """The whole device: single blocks, or many that one piece covers."""
    pending: list[Piece] = []
    for first, rows in device.map.walk():
        at = first
        for length, position, origin, kind in rows.tolist():
            piece = Piece(at, length, kind, origin, position)
            at += length
            while piece.length:
                taken, piece = _cut(piece)
                block, inside = divmod(taken.start, BLOCK_SECTORS)
                pending.append(taken)
                if (inside + taken.length) % BLOCK_SECTORS == 0:
                    yield Span(block, -(-(inside + taken.length) // BLOCK_SECTORS), pending)
                    pending = []
    if pending:
        yield Span(pending[0].start // BLOCK_SECTORS, 1, pending)


def _cut(piece: Piece) -> tuple[Piece, Piece]:
    """Whole blocks from the start of a piece on, or what it has of one; and the rest."""
    inside = piece.start % BLOCK_SECTORS
    whole = 0 if inside else piece.length // BLOCK_SECTORS
    whole = min(whole, _BLOCKS_AT_ONCE) if piece.kind == Kind.DATA else whole
    taken = whole * BLOCK_SECTORS or min(piece.length, BLOCK_SECTORS - inside)
    position = piece.position + taken if piece.kind == Kind.DATA else 0
    rest = Piece(piece.start + taken, piece.length - taken, piece.kind, piece.origin, position)
    return piece._replace(length=taken), rest


class ContentCheck:
    """The check of one device.

    Args:
        view: its digests, ``None`` where it has none, or they are damaged.
    """

    def __init__(self, device: Device, view: DigestView | None, scope: Scope) -> None:
        self._device, self._image, self._scope = device, device.image, scope
        self._view = view
        self._own_layers = [
            view.layer_tree(index)
            for index, ref in enumerate(view.layer_refs if view else ())
            if view is not None and self._image.segments.holds(ref.origin)
        ]
        self._buffers = Buffers()
        self.found = ContentFound(device.index)

    def plan(self) -> Iterator[list[Span]]:
        """Yield work for :meth:`check`; what needs no frame is compared on the way, and put into
        ``found``.

        Raises:
            FormatError, IntegrityError: the map or the digests are damaged.
        """
        work: list[Span] = []
        blocks = 0
        for span in spans_of(self._device):
            if not span.has_data:
                self._without_data(span)
            elif self._is_wanted(span):
                if blocks + span.blocks > _BLOCKS_AT_ONCE and work:
                    yield work
                    work, blocks = [], 0
                work.append(span._replace(digests=self._digests(span)))
                blocks += span.blocks
        if work:
            yield work

    def _digests(self, span: Span) -> Digests | None:
        return self._view.read(span.first, span.blocks) if self._view is not None else None

    def _without_data(self, span: Span) -> None:
        """Its blocks are zeros, and so must be their digests."""
        if self._view is None or any(piece.kind == Kind.LOST for piece in span.pieces):
            return
        found: set[int] = set()
        for first, count in list(self._view.described(span.first, span.blocks)):
            raw = np.frombuffer(self._view.read(first, count).tobytes(), "<u8").reshape(-1, 2)
            found.update((np.flatnonzero(raw.any(axis=1)) + first).tolist())
            if len(found) > _DIFFERING_MAX:
                break
        self.found.differing += [(block, 1) for block in sorted(found)]

    def _is_wanted(self, span: Span) -> bool:
        data = [piece for piece in span.pieces if piece.kind == Kind.DATA]
        if any(self._scope.own(piece.origin) for piece in data):
            return True
        if self._view is None:
            return False
        return self._scope.every or any(
            len(leaf.blocks) and leaf.blocks[-1] >= span.first
            for tree in self._own_layers
            for leaf in tree.leaves(span.first, span.first + span.blocks)
            if _meets(leaf.blocks, span)
        )

    # In a worker

    def check(self, work: list[Span]) -> ContentFound:
        """Read, verify and open the frames of some spans, and compare what they make."""
        return _Worker(self._device, self._scope, self._buffers, work).run()


def _meets(blocks: np.ndarray[tuple[int], np.dtype[np.uint64]], span: Span) -> bool:
    low, high = blocks.searchsorted((span.first, span.first + span.blocks))
    return bool(low < high)


class _Worker:
    def __init__(
        self, device: Device, scope: Scope, buffers: Buffers, work: Sequence[Span]
    ) -> None:
        self._device, self._image, self._scope = device, device.image, scope
        self._buffers, self._work = buffers, work
        self._blocks = sum(span.blocks for span in work)
        self._buffer = buffers.take(self._blocks * c.BLOCK)
        self._view = memoryview(self._buffer)[: self._blocks * c.BLOCK]
        self._missing = np.zeros(self._blocks, np.bool_)
        self._pieces: list[Piece] = []
        self._is_read: list[bool] = []
        self._places: list[tuple[int, int, int]] = []
        self._found = ContentFound(device.index)

    def run(self) -> ContentFound:
        try:
            self._collect()
            cuts = cut_frames(self._pieces, self._places, self._image.header.frame_size)
            self._read(cuts)
            self._compare()
            return self._found
        finally:
            del self._view
            self._buffers.give(self._buffer)

    def _placed(self) -> Iterator[tuple[int, Span]]:
        """Each span, and its first block in the view."""
        at = 0
        for span in self._work:
            yield at, span
            at += span.blocks

    def _collect(self) -> None:
        """Which pieces have data, and where it belongs in the view; what has none is zeros."""
        for at, span in self._placed():
            for piece in span.pieces:
                place = at * c.BLOCK + piece.start * SECTOR - span.first * c.BLOCK
                if piece.kind == Kind.DATA:
                    self._pieces.append(piece)
                    self._is_read.append(self._is_wanted(piece, span))
                    self._places.append((0, place, piece.length * SECTOR))
                elif piece.kind == Kind.LOST:
                    self._missing[place // c.BLOCK] = True
                else:
                    self._view[place : place + piece.length * SECTOR] = bytes(piece.length * SECTOR)

    def _is_wanted(self, piece: Piece, span: Span) -> bool:
        """Frames of others are read for what is compared with them."""
        return self._scope.own(piece.origin) or (
            span.digests is not None and self._scope.read(piece.origin)
        )

    def _read(self, cuts: Cuts) -> None:
        """Fill the view; blocks of which a part is not there are missing."""
        present = np.zeros(len(cuts.number), np.bool_)
        wanted = np.flatnonzero(self._chosen(cuts))
        chosen = cuts.chosen(wanted)
        for origin in np.unique(chosen.origin).tolist():
            low, high = chosen.origin.searchsorted((origin, origin + 1)).tolist()
            part = chosen.chosen(slice(low, high))
            # A table that is damaged, or a file that is missing: both are looked at by themselves.
            with contextlib.suppress(AipImageError):
                for _, run, rows in frame_runs(self._image, part):
                    if self._scope.kept(origin, run):
                        own = self._read_run(origin, run, part, rows)
                        present[wanted[low + rows.start : low + rows.stop]] = own
        place, length = cuts.place[~present], cuts.length[~present]
        for at, size in zip(place.tolist(), length.tolist(), strict=True):
            self._missing[at // c.BLOCK : (at + size - 1) // c.BLOCK + 1] = True

    def _chosen(self, cuts: Cuts) -> Bools:
        wanted = np.array(self._is_read, np.bool_)[cuts.piece]
        if self._scope.chosen is not None:
            keys = zip(cuts.origin.tolist(), cuts.number.tolist(), strict=True)
            wanted &= np.array([self._scope.chosen(*key) for key in keys], np.bool_)
        return wanted

    def _read_run(self, origin: int, run: FrameRun, cuts: Cuts, rows: slice) -> Bools:
        """Read and open the frames of a run; return which of its cuts are in their places."""
        self._found.runs.append((origin, run))
        copies, present = cuts.copies(rows, run)
        buffer = self._buffers.take(run.length)
        number = cuts.number[rows]
        for opened in read_run(self._image, run, memoryview(buffer), copies, self._view):
            failed = opened.failed
            present &= ~np.isin(number, [each.number for each in failed])
            if opened.data and self._scope.own(origin):
                failed = failed + self._misplaced(origin, opened, cuts, rows)
            failed = sorted(failed, key=lambda each: each.number)
            self._found.failed += [(origin, each) for each in failed]
        self._buffers.give(buffer)
        return present

    def _misplaced(
        self, origin: int, opened: OpenedRun, cuts: Cuts, rows: slice
    ) -> list[FailedFrame]:
        """Note frames whose extents are not where the map has their sectors (section 6.1); return
        those whose extents are wrong by themselves.
        """
        device = self._device.index if self._scope.written(origin) else None
        check = PlaceCheck(opened, self._image.records.tag, self._image.header.frame_size, device)
        numbers = cuts.number[rows]
        of_run = (numbers >= opened.run.first) & (
            numbers < opened.run.first + len(opened.run.entries)
        )
        pieces = [self._pieces[at] for at in np.unique(cuts.piece[rows][of_run]).tolist()]
        failed, misplaced = check.compare(pieces)
        self._found.misplaced += [(origin, number) for number in misplaced]
        return failed

    def _compare(self) -> None:
        """Compare the blocks that are there with their digests, which are made with one call."""
        expected = np.zeros((self._blocks, c.BLOCK_DIGEST), np.uint8)
        numbers = np.zeros(self._blocks, np.int64)
        wanted = np.zeros(self._blocks, np.bool_)
        for at, span in self._placed():
            end = at + span.blocks
            numbers[at:end] = np.arange(span.first, span.first + span.blocks)
            if span.digests is not None:
                digests = np.ascontiguousarray(span.digests).view(np.uint8)
                expected[at:end], wanted[at:end] = digests.reshape(span.blocks, -1), True
        self._zero_end()
        wanted &= ~self._missing
        found = _core.block_digests(self._view, np.packbits(wanted, bitorder="little"))
        differing = numbers[wanted & (found != expected).any(axis=1)]
        self._found.differing += [(block, 1) for block in differing.tolist()]

    def _zero_end(self) -> None:
        """What pads the last sector of a device is not its content."""
        last = self._work[-1]
        beyond = (last.first + last.blocks) * c.BLOCK - self._device.size
        if beyond > 0:
            self._view[self._view.nbytes - beyond :] = bytes(beyond)

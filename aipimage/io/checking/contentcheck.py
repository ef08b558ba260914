"""What a device reads as, compared with what was sealed beside it: its block digests, and where its
frames say that their sectors are from (docs/format.md, sections 6.1, 8 and 13).

A device is taken in the order of its map, some blocks at a time, so that a frame is decompressed
once for its own check and for these. The digests are read by the thread that plans.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aipimage import _core
from aipimage.errors import AipImageError
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.layers import Digests
from aipimage.format.tables import decode_frame_extents, unpack_at
from aipimage.io.index.devicemap import Piece
from aipimage.io.index.digests import DigestView
from aipimage.io.reading.bulkread import Wanted, frame_runs, places_of
from aipimage.io.records.codec import BytesLike
from aipimage.io.records.frames import FrameRun, OpenedFrame, read_frames
from aipimage.io.system.buffers import Buffers

if TYPE_CHECKING:
    from aipimage.io.reading.device import Device

BLOCK_SECTORS = c.BLOCK // SECTOR
_BLOCKS_AT_ONCE = 64
_DIFFERING_MAX = 1 << 16
_NO_DIGEST = bytes(c.BLOCK_DIGEST)
Frame = tuple[int, int]
"""Index of the origin, and number."""
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
        frames: all that it looked at, ``None`` for each that is whole. runs: what was read.
        differing: blocks whose digests are not those of their content.
        misplaced: frames whose extents are elsewhere than the map has them.
    """

    device: int
    frames: dict[Frame, OpenedFrame | None] = field(default_factory=dict)
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
        chosen: whether a frame is looked at; a sample chooses some. kept: whether frames are there
            at all; a merge drops some, and that a map leads to one is found elsewhere.
    """

    own: Callable[[int], bool]
    written: Callable[[int], bool]
    read: Callable[[int], bool]
    every: bool
    chosen: Callable[[int, int], bool]
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
        for first, count in list(self._view.told(span.first, span.blocks)):
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
        self._size = self._image.header.frame_size
        self._taken: list[bytearray] = []
        self._view = self._take(sum(span.blocks for span in work) * c.BLOCK)
        self._plain: dict[Frame, BytesLike | None] = {}
        self._pieces: dict[Frame, list[Piece]] = {}
        self._wanted = Wanted(self._size)
        self._found = ContentFound(device.index)

    def _take(self, length: int) -> memoryview:
        self._taken.append(self._buffers.take(length))
        return memoryview(self._taken[-1])[:length]

    def run(self) -> ContentFound:
        try:
            self._collect()
            self._read()
            for at, span in self._placed():
                if span.digests is not None:
                    self._compare(span, self._view[at : at + span.blocks * c.BLOCK])
            return self._found
        finally:
            self._plain.clear()
            for buffer in self._taken:
                self._buffers.give(buffer)

    def _placed(self) -> Iterator[tuple[int, Span]]:
        at = 0
        for span in self._work:
            yield at, span
            at += span.blocks * c.BLOCK

    def _collect(self) -> None:
        """Which frames are needed, and what of the device each of them holds."""
        for at, span in self._placed():
            self._wanted.add(span.pieces, span.first * c.BLOCK, at, span.blocks * c.BLOCK)
            for piece in span.pieces:
                if piece.kind == Kind.DATA and self._is_read(piece, span):
                    for key in self._frames_of(piece):
                        if self._scope.chosen(*key):
                            self._pieces.setdefault(key, []).append(piece)

    def _is_read(self, piece: Piece, span: Span) -> bool:
        """Frames of others are read for what is compared with them."""
        return self._scope.own(piece.origin) or (
            span.digests is not None and self._scope.read(piece.origin)
        )

    def _frames_of(self, piece: Piece) -> Iterator[Frame]:
        first = piece.position * SECTOR // self._size
        last = ((piece.position + piece.length) * SECTOR - 1) // self._size
        return ((piece.origin, number) for number in range(first, last + 1))

    def _read(self) -> None:
        for _, keys in groupby(sorted(self._pieces), key=lambda key: key[0]):
            # A table that is damaged, or a file that is missing: both are looked at by themselves.
            with contextlib.suppress(AipImageError):
                for origin, run in frame_runs(self._image, list(keys)):
                    if self._scope.kept(origin, run):
                        self._read_run(origin, run)

    def _read_run(self, origin: int, run: FrameRun) -> None:
        places = places_of(self._image, origin, run, self._view, self._wanted.starts)
        self._found.runs.append((origin, run))
        for opened in read_frames(self._image, run, self._take, self._take, places):
            key = origin, opened.number
            self._found.frames[key] = opened if opened.error is not None else None
            if opened.error is not None:
                continue
            self._plain[key] = None if opened.is_placed else opened.plain
            if self._scope.own(origin) and not self._is_where_mapped(key, opened):
                self._found.misplaced.append(key)

    def _is_where_mapped(self, key: Frame, opened: OpenedFrame) -> bool:
        """Whether the extents of a frame are where the map has its sectors (section 6.1)."""
        try:
            extents = _extents_of(opened, self._plain_length(opened))
        except AipImageError as error:
            self._found.frames[key] = opened._replace(error=error)
            return True
        device = self._device.index if self._scope.written(key[0]) else None
        start = key[1] * self._size // SECTOR
        return all(_agree(extents, piece, start, device) for piece in self._pieces[key])

    def _plain_length(self, opened: OpenedFrame) -> int:
        return self._size if opened.is_placed else len(opened.plain)

    # Comparing

    def _compare(self, span: Span, view: memoryview) -> None:
        missing: set[int] = set()
        for piece in span.pieces:
            offset = piece.start * SECTOR - span.first * c.BLOCK
            part = view[offset : offset + piece.length * SECTOR]
            if piece.kind == Kind.DATA:
                missing |= {(offset + each) // c.BLOCK for each in self._fill(piece, part)}
            elif piece.kind == Kind.LOST:
                missing.add(offset // c.BLOCK)
            else:
                part[:] = bytes(part.nbytes)
        # What pads the last sector of a device is not its content, nor is what follows it.
        end = self._device.size - span.first * c.BLOCK
        if end < view.nbytes:
            view[end:] = bytes(view.nbytes - end)
        assert span.digests is not None
        rows = [row for row in range(span.blocks) if row not in missing]
        for row, found in zip(rows, _digests_of(view, rows), strict=True):
            if span.digests[row].tobytes() != found:
                self._found.differing.append((span.first + row, 1))

    def _fill(self, piece: Piece, view: memoryview) -> Iterator[int]:
        """Put the frames of a piece where they belong; yield the place of each part that is not
        there, at least one for each block.
        """
        at, position = 0, piece.position * SECTOR
        while at < view.nbytes:
            number, inside = divmod(position, self._size)
            length = min(self._size - inside, view.nbytes - at)
            plain = self._plain.get((piece.origin, number), _NOTHING)
            if plain is not None:
                part = memoryview(plain)[inside : inside + length]
                if part.nbytes < length:
                    yield from (*range(at, at + length, c.BLOCK), at + length - 1)
                else:
                    view[at : at + length] = part
            at, position = at + length, position + length


_NOTHING = b""


def _digests_of(view: memoryview, rows: Sequence[int]) -> Iterator[bytes]:
    """The block digests of some blocks, which are made with one call (section 8)."""
    found = _core.blake3_many(view, [(row * c.BLOCK, c.BLOCK) for row in rows]) if rows else ()
    for row, each in zip(rows, found, strict=True):
        is_zero = _core.is_zero(view[row * c.BLOCK : (row + 1) * c.BLOCK])
        yield _NO_DIGEST if is_zero else each[: c.BLOCK_DIGEST].tobytes()


def _extents_of(opened: OpenedFrame, plain_length: int) -> list[tuple[int, int]]:
    """(device and sector in one number, sectors) of each extent."""
    data = opened.extents
    if len(data) == c.FRAME_EXTENT:
        at, sectors = int.from_bytes(data[:8], "little"), int.from_bytes(data[8:], "little")
        if sectors * SECTOR == plain_length:
            # Most frames have one extent, which is looked at without numpy.
            return [(at, sectors)]
    found = decode_frame_extents(data, plain_length)
    return [(int(at), int(sectors)) for at, sectors in found.tolist()]


def _agree(
    extents: Sequence[tuple[int, int]], piece: Piece, start: int, device: int | None
) -> bool:
    """Whether what a piece has of a frame lies where the frame's extents say.

    Args:
        start: packed position of the frame. device: that it must be on, ``None`` for any.
    """
    packed, low, high = start, piece.position, piece.position + piece.length
    for at, sectors in extents:
        if packed < high and packed + sectors > low:
            number, sector = unpack_at(at)
            if sector - packed != piece.start - piece.position or device not in (None, number):
                return False
        packed += sectors
    return True

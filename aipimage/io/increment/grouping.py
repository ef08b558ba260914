"""Changed clusters of several pieces become frames together: changes lie scattered, and small
frames would cost more than they hold (docs/format.md, section 6).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from aipimage.extents import Kind
from aipimage.format.tables import FRAME_ENTRY_DTYPE, FrameEntries, pack_at
from aipimage.io.increment.scan import Scanned
from aipimage.io.records.records import FrameWhere, RecordBuilder
from aipimage.io.system.buffers import Buffers

GROUP = 1 << 20
"""Bytes of changed clusters that are made into frames together."""
GROUP_PIECES = 256
"""Pieces in a group at most, so that a disk in which nothing changed is not gathered as a whole."""
GROUP_RUNS = 50_000
"""Runs after which a group ends, so that those without data fit into one checkpoint."""


@dataclass(slots=True)
class Group:
    """Changed clusters of some pieces that become frames together."""

    scanned: list[Scanned] = field(default_factory=list)
    size: int = 0
    runs: int = 0
    first: int = 0
    boundary: int | None = None
    """Byte offset up to which everything of the device is done, where a checkpoint may stand."""

    @property
    def is_full(self) -> bool:
        """Whether no further piece should be added."""
        pieces = len(self.scanned)
        return self.size >= GROUP or pieces >= GROUP_PIECES or self.runs >= GROUP_RUNS


@dataclass(slots=True)
class Built:
    group: Group
    data: memoryview
    frames: FrameEntries
    buffer: bytearray | None


class FrameMaker:
    """The worker's side of a group: its clusters to sealed frames."""

    def __init__(self, builder: RecordBuilder, level: int | None, frame_size: int) -> None:
        self._builder, self._level, self._size = builder, level, frame_size
        self.buffers = Buffers()

    def build(self, group: Group) -> Built:
        """Build the records of a group's frames one after the other."""
        if not group.size:
            return Built(group, memoryview(b""), np.empty(0, FRAME_ENTRY_DTYPE), None)
        packed = _joined([each.payload for each in group.scanned if each.payload.nbytes])
        where = _where(group.scanned)
        cut = len(where.runs) + -(-packed.nbytes // self._size)
        buffer = self.buffers.take(self._builder.frames_room(packed.nbytes, self._size, cut))
        frames = self._builder.build_frames(
            memoryview(buffer), group.first, packed, self._size, where, self._level
        )
        data = memoryview(buffer)[: int(frames["record_length"].sum())]
        return Built(group, data, frames, buffer)


def _joined(parts: list[memoryview]) -> memoryview:
    return parts[0] if len(parts) == 1 else memoryview(b"".join(parts))


def _where(scanned: list[Scanned]) -> FrameWhere:
    """Where all that is kept is from."""
    rows = np.concatenate([each.runs for each in scanned])
    rows = rows[rows["kind"] == Kind.DATA]
    runs = np.column_stack((rows["start"], rows["length"]))
    return FrameWhere(runs, pack_at(scanned[0].piece.device, 0))

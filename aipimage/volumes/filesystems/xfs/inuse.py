"""An XFS volume whose log is open: one that was frozen, that crashed, or that is in use.

A freeze writes everything to its place, and then the superblock to the log once more, so that a
mount of a snapshot looks for files that were deleted while they were open. So where the log holds
nothing but superblocks, the trees on the disk are the truth. Else the log is replayed into an
overlay, and the trees are read there.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.xfs.superblock import Superblock
from aipimage.volumes.journals.notes import IN_USE, check_still
from aipimage.volumes.journals.overlay import Overlay
from aipimage.volumes.journals.xfslog import layout
from aipimage.volumes.journals.xfslog.records import Log
from aipimage.volumes.journals.xfslog.replay import Replay, Result, Shape
from aipimage.volumes.journals.xfslog.ring import Ring
from aipimage.volumes.journals.xfslog.transactions import Transaction, transactions
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

FROZEN = f"{IN_USE}it was frozen or idle, and its log holds nothing but its superblock"
_UNLIKE = ("fdblocks", "lsn")
"""What of a superblock a log may change."""


class OpenLog(NamedTuple):
    """What an open log says.

    Attributes:
        lsn: the log sequence number that no structure can have reached. overlay: the volume after
            the replay, to be closed; ``None`` where it is that on the disk. result: of the replay.
    """

    lsn: int
    overlay: Overlay | None
    result: Result | None


def read_log(view: VolumeView, superblock: Superblock, options: SurveyOptions) -> OpenLog:
    """Read a log that was not replayed; ``LayoutError`` where it is not understood."""
    check_still(options)
    size = superblock.blocksize
    ring = Ring(view, superblock.logstart * size, superblock.logblocks * size)
    log = Log(ring, (superblock.uuid,), superblock.version == 5)
    span = log.open_span()
    if all(map(_is_of_superblock, transactions(log.records(span)))):
        return OpenLog(span.lsn, None, None)
    if superblock.version != 5:
        raise LayoutError("its log was not replayed, and is of version 4 of XFS")
    overlay = Overlay(view)
    try:
        shape = Shape(
            size, superblock.inodesize, superblock.agblocks, superblock.dblocks,
            superblock.meta_uuid, superblock.uuid != superblock.meta_uuid,
        )  # fmt: skip
        result = Replay(overlay, shape, lambda: transactions(log.records(span))).run()
    except BaseException:
        overlay.close()
        raise
    return OpenLog(span.lsn, overlay, result)


def check_same(before: Superblock, after: Superblock) -> None:
    """Refuse a log that gives the volume another size or shape."""
    for name in Superblock._fields:
        if name not in _UNLIKE and getattr(before, name) != getattr(after, name):
            raise LayoutError("its log gives it another size or shape")


def named_runs(superblock: Superblock, result: Result) -> npt.NDArray[np.uint64]:
    """The blocks that a log names, and those that something unfinished is about: (first, blocks).

    Raises:
        LayoutError: they are not inside of the volume.
    """
    size, bits = superblock.blocksize, (superblock.agblocks - 1).bit_length()
    first = result.places[:, 0] // size
    rows = [np.column_stack((first, -(-result.places.sum(axis=1) // size) - first))]
    pending = []
    for start, count in result.pending:
        group, inside = divmod(start, 1 << bits)
        if group >= superblock.agcount or inside + count > superblock.agblocks:
            raise LayoutError("its log announces something about a block that is not there")
        pending.append((group * superblock.agblocks + inside, count))
    rows.append(np.array(pending, np.int64).reshape(-1, 2))
    found = np.concatenate(rows)
    if (found.sum(axis=1) > superblock.dblocks).any():
        raise LayoutError("its log names a block that is not there")
    return found.astype(np.uint64)


def _is_of_superblock(transaction: Transaction) -> bool:
    """Whether nothing but the superblock was changed."""
    for item in transaction.items:
        if item.kind != layout.BUFFER or len(item.regions[0]) < layout.BUFFER_FORMAT.size:
            return False
        _, _, flags, _, block, _ = layout.BUFFER_FORMAT.unpack_from(item.regions[0])
        if block or flags >> layout.TYPE_SHIFT != layout.TYPE_SUPERBLOCK:
            return False
    return True

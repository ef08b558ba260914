"""An XFS volume whose log is open: one that was frozen, that crashed, or that is in use.

A freeze writes everything to its place, and then the superblock to the log once more, so that a
mount of a snapshot looks for files that were deleted while they were open. So where the log holds
nothing but superblocks, the trees on the disk are the truth.
"""

from __future__ import annotations

from typing import NamedTuple

from aipimage.volumes.filesystems.xfs.superblock import Superblock
from aipimage.volumes.journals.notes import check_still
from aipimage.volumes.journals.xfslog import layout
from aipimage.volumes.journals.xfslog.records import Log, Span
from aipimage.volumes.journals.xfslog.ring import Ring
from aipimage.volumes.journals.xfslog.transactions import Transaction, transactions
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

_FROZEN = "in use: it was frozen or idle, and its log holds nothing but its superblock"


class OpenLog(NamedTuple):
    """What an open log says.

    Attributes:
        lsn: the log sequence number that no structure can have reached. note: for the user.
    """

    lsn: int
    note: str


def read_log(view: VolumeView, superblock: Superblock, options: SurveyOptions) -> OpenLog:
    """Read a log that was not replayed; ``LayoutError`` where it is not understood."""
    check_still(options)
    size = superblock.blocksize
    ring = Ring(view, superblock.logstart * size, superblock.logblocks * size)
    log = Log(ring, (superblock.uuid,), superblock.version == 5)
    span = log.open_span()
    if not _is_frozen(log, span):
        raise LayoutError("its log was not replayed: it was not unmounted, or not cleanly")
    return OpenLog(span.lsn, _FROZEN)


def _is_frozen(log: Log, span: Span) -> bool:
    return all(map(_is_of_superblock, transactions(log.records(span))))


def _is_of_superblock(transaction: Transaction) -> bool:
    """Whether nothing but the superblock was changed."""
    for item in transaction.items:
        if item.kind != layout.BUFFER or len(item.regions[0]) < layout.BUFFER_FORMAT.size:
            return False
        _, _, flags, _, block, _ = layout.BUFFER_FORMAT.unpack_from(item.regions[0])
        if block or flags >> layout.TYPE_SHIFT != layout.TYPE_SUPERBLOCK:
            return False
    return True

"""An NTFS volume that cannot be trusted: what can be found of what may be in use in it.

This is done only where a user asks for it: without a journal that is understood, nothing says that
it is all. Kept is the union of what $Bitmap calls used, of the runs of every FILE record, whether
or not it is in use, and of what records of the journal name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from aipimage.ranges import joined
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.bitmap import open_bitmap, read_bitmap
from aipimage.volumes.filesystems.ntfs.directory import Directory
from aipimage.volumes.filesystems.ntfs.journal import journal_of, journal_stream, log_of
from aipimage.volumes.filesystems.ntfs.loose import Row, runs_of_record
from aipimage.volumes.filesystems.ntfs.named import NamedClusters
from aipimage.volumes.filesystems.ntfs.paging import verify_awake
from aipimage.volumes.filesystems.ntfs.runs import ClusterRuns, as_array, together
from aipimage.volumes.filesystems.ntfs.state import verified_flags
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.journals.notes import IN_USE, check_still
from aipimage.volumes.journals.ntfslog.reading import OpenLog
from aipimage.volumes.journals.ntfslog.restart import usual_shapes
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError

_PIECE = 1 << 20
_GATHERED = 1 << 16
"""Runs that are gathered before they are joined."""


def read_best_effort(mft: Mft, why: str, options: SurveyOptions) -> Allocation:
    """Return the clusters of a volume that nothing names.

    Args:
        why: the map is not trusted.

    Raises:
        LayoutError: a Windows is asleep in it, it may change, its version is not known, or its
            bitmap cannot be read.
    """
    check_still(options)
    verified_flags(mft)
    root = Directory(mft, mft.base_record(layout.ROOT), "the root directory")
    verify_awake(mft, root)
    bitmap = open_bitmap(mft)
    free = read_bitmap(mft, bitmap)
    total = free.total
    for runs in (*_of_files(mft), *_of_system(mft, bitmap), *_of_journal(mft, bitmap)):
        free.set_used_runs(runs)
    note = (
        f"{IN_USE}what may be free was found by best effort, since {why}; "
        f"{total - free.total:,} bytes are kept beyond its map"
    )
    return Allocation(free, free.used_end(), notes=(note,))


def _of_files(mft: Mft) -> Iterator[ClusterRuns]:
    """The runs of all FILE records, as far as each can be followed."""
    size = mft.geometry.record_size
    step = max(1, _PIECE // size)
    rows: list[Row] = []
    for first in range(0, mft.records, step):
        for data in mft.read_records(first, min(step, mft.records - first)):
            rows += runs_of_record(data)
        if len(rows) > _GATHERED:
            yield _inside(mft, rows)
            rows = []
    yield _inside(mft, rows)


def _inside(mft: Mft, rows: list[Row]) -> ClusterRuns:
    """Runs that lie in the volume."""
    kept = [row for row in rows if sum(row) <= mft.geometry.clusters]
    return joined(np.array(kept, np.uint64).reshape(-1, 2))


def _of_system(mft: Mft, bitmap: Stream) -> Iterator[ClusterRuns]:
    """The MFT, its mirror, the journal and the bitmap, with the parts that lie in other records."""
    streams = [mft.data, bitmap]
    with contextlib.suppress(LayoutError):
        record = mft.base_record(layout.MFT_MIRROR)
        streams.append(mft.stream(record, layout.DATA, b"", "the MFT's mirror"))
    with contextlib.suppress(LayoutError):
        streams.append(journal_stream(mft))
    yield together([as_array(stream.runs) for stream in streams])


def _of_journal(mft: Mft, bitmap: Stream) -> Iterator[ClusterRuns]:
    """What the records of the journal name, wherever they lie in it."""
    named = NamedClusters(mft, bitmap)
    for log in _logs(mft):
        # A piece that cannot be read ends it.
        with contextlib.suppress(LayoutError):
            for change in log.scattered():
                with contextlib.suppress(LayoutError):
                    named.add(change, None)
    yield named.runs()


def _logs(mft: Mft) -> Iterator[OpenLog]:
    """The journal as its restart pages say that it is; where they cannot be read, in each shape in
    which Windows writes it.
    """
    try:
        stream = journal_stream(mft)
    except LayoutError:
        return
    try:
        journal = journal_of(mft)
        if journal.pages:
            yield journal.open_log(mft)
    except LayoutError:
        for shape in usual_shapes(stream.initialised):
            with contextlib.suppress(LayoutError):
                yield log_of(mft, stream, shape)

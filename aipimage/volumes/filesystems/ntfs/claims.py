"""What files say of the clusters that are theirs: a stale bitmap contradicts them."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from aipimage.ranges import are_disjoint, joined
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.paging import PagingFile
from aipimage.volumes.filesystems.ntfs.records import Record, decode_record
from aipimage.volumes.filesystems.ntfs.runs import ClusterRuns, as_array, decode_runs, together
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.view import LayoutError

SAMPLES, SAMPLE_BYTES = 16, 64 << 10
"""Pieces of the MFT that are looked at, and the bytes of each."""


def claimed_by(
    mft: Mft, streams: Iterable[Stream], paging: Iterable[PagingFile], changed: Iterable[int] = ()
) -> ClusterRuns:
    """The clusters of all files that are looked at, but not of ``paging``.

    Args:
        changed: numbers of further records that are looked at.
    """
    without = {file.number for file in paging}
    return joined(
        together(
            [
                claimed_by_system(mft, streams),
                claimed_by_samples(mft, without),
                claimed_by_records(mft, changed, without),
            ]
        )
    )


def claimed_by_system(mft: Mft, streams: Iterable[Stream]) -> ClusterRuns:
    """The clusters of the first 16 files, and those of ``streams`` that lie in other records.

    Raises:
        LayoutError: a cluster belongs to two of them.
    """
    count = min(layout.SYSTEM_RECORDS, mft.records)
    rows = [
        runs
        for number, data in enumerate(mft.read_records(0, count))
        if (record := decode_record(data, number)).in_use
        for runs in claims(mft, record)
    ]
    runs = together(rows)
    if not are_disjoint(runs):
        raise LayoutError("two files of the system share clusters")
    # What follows in other records is added now; what is in the first ones is there twice.
    return joined(together([runs, *(as_array(stream.runs) for stream in streams)]))


def claimed_by_samples(mft: Mft, without: Collection[int]) -> ClusterRuns:
    """The clusters of the files in some pieces of the MFT, the last records among them, but not of
    files whose first record is in ``without``.
    """
    per_piece = max(1, SAMPLE_BYTES // mft.geometry.record_size)
    last = (mft.records - 1) // per_piece
    rows = [
        runs
        for piece in sorted({last * at // (SAMPLES - 1) for at in range(SAMPLES)})
        for record in _records(mft, piece * per_piece, per_piece)
        if record.number not in without and record.base.number not in without
        for runs in claims(mft, record)
    ]
    return joined(together(rows))


def claimed_by_records(mft: Mft, numbers: Iterable[int], without: Collection[int]) -> ClusterRuns:
    """The clusters of some records that are in use."""
    rows = [
        runs
        for number in sorted(numbers)
        for record in _records(mft, number, 1)
        if record.number not in without and record.base.number not in without
        for runs in claims(mft, record)
    ]
    return joined(together(rows))


def _records(mft: Mft, first: int, count: int) -> Iterable[Record]:
    """Those of a piece that are in use; records that never were need not be FILE records."""
    count = min(count, mft.records - first)
    for number, data in enumerate(mft.read_records(first, count), first):
        if data[:4] == layout.FILE_MAGIC and data[22] & layout.IN_USE:
            yield decode_record(data, number)


def claims(mft: Mft, record: Record) -> Iterable[ClusterRuns]:
    """The clusters of the attributes that lie in a record."""
    for attribute in record.attributes:
        if attribute.value is None:
            what = f"FILE record {record.number}"
            yield as_array(list(decode_runs(attribute, mft.geometry.clusters, what)))

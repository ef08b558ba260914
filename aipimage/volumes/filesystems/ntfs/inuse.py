"""An NTFS volume whose journal is open: one that is in use, or that crashed.

Windows replays $LogFile when it mounts the volume: it repeats every change since the oldest page
that was not written, and takes back those of transactions that had not ended. What is in use then
is called so by $Bitmap as it lies on the disk, or by a change of its bits in the journal, to be
repeated or to be taken back: a change reaches the journal before it reaches its place. Kept is the
union of these, and every cluster that the journal names otherwise.
"""

from __future__ import annotations

from aipimage.ranges import intersection
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.bitmap import open_bitmap, read_bitmap, verify_claims
from aipimage.volumes.filesystems.ntfs.claims import claimed_by
from aipimage.volumes.filesystems.ntfs.directory import Directory
from aipimage.volumes.filesystems.ntfs.journal import Journal
from aipimage.volumes.filesystems.ntfs.named import NamedClusters
from aipimage.volumes.filesystems.ntfs.paging import PagingFile, paging_files, without_claimed
from aipimage.volumes.filesystems.ntfs.runs import ClusterRuns
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.journals.notes import check_still, in_use_note
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError

_RECORDS_MAX = 1 << 16
"""FILE records changed by a journal whose clusters are compared with the map."""


def read_in_use(mft: Mft, journal: Journal, root: Directory, options: SurveyOptions) -> Allocation:
    """Return the free clusters of a volume whose journal is open.

    Args:
        root: its root directory, in which no Windows was found asleep.

    Raises:
        LayoutError: the journal is not understood, or what it makes of the volume is in doubt.
    """
    check_still(options)
    bitmap = open_bitmap(mft)
    named = NamedClusters(mft, bitmap)
    try:
        log = journal.open_log(mft)
        for change in log.changes():
            named.add(change, log.attributes.get(change.target))
    except LayoutError as error:
        raise LayoutError(f"its journal cannot be trusted: {error}") from error
    runs = named.runs()
    free = read_bitmap(mft, bitmap)
    total = free.total
    free.set_used_runs(runs)
    note = in_use_note("journal", log.records, total - free.total, unit="record")
    paging = paging_files(mft, root) if options.leave_out_paging else []
    changed = sorted(named.records)[:_RECORDS_MAX]
    claimed = claimed_by(mft, _own(mft, journal, bitmap), paging, _present(mft, changed))
    verify_claims(free, claimed)
    left_out = _left_out(without_claimed(paging, claimed), runs, free)
    return Allocation(free, free.used_end(), tuple(file.name for file in left_out), (note,))


def _own(mft: Mft, journal: Journal, bitmap: Stream) -> list[Stream]:
    record = mft.base_record(layout.MFT_MIRROR)
    mirror = mft.stream(record, layout.DATA, b"", "the MFT's mirror").verified_plain()
    return [mft.data, mirror, journal.stream, bitmap]


def _present(mft: Mft, numbers: list[int]) -> list[int]:
    """Without records that are past the end of the MFT as it is on the disk."""
    return [number for number in numbers if number < mft.records]


def _left_out(paging: list[PagingFile], named: ClusterRuns, free: ClusterMap) -> list[PagingFile]:
    """Mark paging files as free of which the journal names no cluster, so that they lie where the
    disk says.
    """
    found = [file for file in paging if not len(intersection(named, file.runs))]
    for file in found:
        free.set_free_runs(file.runs)
    return found

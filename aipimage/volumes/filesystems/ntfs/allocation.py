"""What an NTFS volume is, and its allocation map."""

from __future__ import annotations

from aipimage.ranges import joined
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.besteffort import read_best_effort
from aipimage.volumes.filesystems.ntfs.bitmap import open_bitmap, read_bitmap
from aipimage.volumes.filesystems.ntfs.boot import Geometry, decode_geometry, is_ntfs
from aipimage.volumes.filesystems.ntfs.claims import claimed_by
from aipimage.volumes.filesystems.ntfs.copies import keep_shadow_copies, shadow_copies_of
from aipimage.volumes.filesystems.ntfs.directory import Directory
from aipimage.volumes.filesystems.ntfs.inuse import read_in_use
from aipimage.volumes.filesystems.ntfs.journal import journal_of
from aipimage.volumes.filesystems.ntfs.paging import paging_files, verify_awake, without_claimed
from aipimage.volumes.filesystems.ntfs.records import decode_record
from aipimage.volumes.filesystems.ntfs.runs import together
from aipimage.volumes.filesystems.ntfs.state import verify_mirror, verify_volume
from aipimage.volumes.filesystems.ntfs.streams import Mft
from aipimage.volumes.model import BEST_EFFORT, Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView


def probe(view: VolumeView) -> FileSystem | None:
    """See ``Parser.probe``; the UUID is the serial number in 16 digits, as ``blkid`` prints it."""
    try:
        sector = view.read(0, layout.BOOT_BYTES)
    except LayoutError:
        return None
    if not is_ntfs(sector):
        return None
    uuid = f"{int.from_bytes(sector[72:80], 'little'):016X}"
    try:
        geometry = decode_geometry(sector)
    except LayoutError:
        return FileSystem("ntfs", uuid=uuid)
    # The sector after the clusters, with the copy of the boot sector, belongs to it.
    whole = geometry.size + geometry.sector_size
    size = whole if whole <= view.size else geometry.size
    label = _label(view, geometry)
    return FileSystem("ntfs", label, uuid, size, geometry.cluster_size, geometry)


def _label(view: VolumeView, geometry: Geometry) -> str:
    """The name in $Volume, if it is where every volume has it; else none."""
    at = geometry.mft * geometry.cluster_size + layout.VOLUME * geometry.record_size
    try:
        record = decode_record(view.read(at, geometry.record_size), layout.VOLUME)
    except LayoutError:
        return ""
    names = record.all_of(layout.VOLUME_NAME)
    value = names[0].value if names else None
    text = (value or b"").decode("utf-16-le", "replace")
    return text.split("\0", 1)[0].rstrip()


def allocation(view: VolumeView, found: FileSystem, options: SurveyOptions) -> Allocation:
    """See ``Parser.allocation``."""
    geometry = found.details
    if not isinstance(geometry, Geometry):
        # What the probe saw and could not use: the same bytes say why.
        view.allow(layout.BOOT_BYTES)
        geometry = decode_geometry(view.read(0, layout.BOOT_BYTES))
    if geometry.size > view.size:
        raise LayoutError(f"it covers {geometry.size:,} bytes of a partition of {view.size:,}")
    copies = shadow_copies_of(view)
    if copies is None:
        return _live(view, geometry, options)
    # What is in a paging file may be read through a copy.
    made = _live(view, geometry, options._replace(leave_out_paging=False))
    if not isinstance(made.free, ClusterMap):
        raise RuntimeError("internal error: an NTFS volume without its map")
    note = keep_shadow_copies(view, geometry, copies, made.free)
    return made._replace(
        used_end=made.free.used_end(),
        notes=(*made.notes, note),
        fixed="its shadow copies read clusters where they are",
    )


def _live(view: VolumeView, geometry: Geometry, options: SurveyOptions) -> Allocation:
    """The map of the live file system."""
    mft = Mft(view, geometry)
    try:
        return _trusted(mft, options)
    except LayoutError as error:
        if options.in_use != BEST_EFFORT:
            raise
        return read_best_effort(mft, str(error), options)


def _trusted(mft: Mft, options: SurveyOptions) -> Allocation:
    """The map of a volume whose structures agree."""
    journal = journal_of(mft)
    if journal.is_closed:
        mirror = verify_mirror(mft)
    verify_volume(mft)
    root = Directory(mft, mft.base_record(layout.ROOT), "the root directory")
    verify_awake(mft, root)
    if not journal.is_closed:
        return read_in_use(mft, journal, root, options)
    bitmap = open_bitmap(mft)
    paging = paging_files(mft, root) if options.leave_out_paging else []
    claimed = claimed_by(mft, [mft.data, mirror, journal.stream, bitmap], paging)
    left_out = without_claimed(paging, claimed)
    claimed = joined(together([claimed, *(file.runs for file in left_out)]))
    free = read_bitmap(mft, bitmap, claimed)
    for file in left_out:
        free.set_free_runs(file.runs)
    return Allocation(free, free.used_end(), tuple(file.name for file in left_out))

"""What an NTFS volume is, and its allocation map."""

from __future__ import annotations

from aipimage.ranges import intersection, joined
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.bitmap import open_bitmap, read_bitmap
from aipimage.volumes.filesystems.ntfs.boot import Geometry, decode_geometry, is_ntfs
from aipimage.volumes.filesystems.ntfs.claims import claimed_by_samples, claimed_by_system
from aipimage.volumes.filesystems.ntfs.directory import Directory
from aipimage.volumes.filesystems.ntfs.journal import verify_journal
from aipimage.volumes.filesystems.ntfs.paging import paging_files, verify_awake
from aipimage.volumes.filesystems.ntfs.records import decode_record
from aipimage.volumes.filesystems.ntfs.runs import together
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.filesystems.shadowcopies import verify_none
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
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
    verify_none(view)
    mft = Mft(view, geometry)
    mirror = _verify_mirror(mft)
    _verify_volume(mft)
    log = verify_journal(mft)
    root = Directory(mft, mft.base_record(layout.ROOT), "the root directory")
    verify_awake(mft, root)
    bitmap = open_bitmap(mft)
    paging = paging_files(mft, root) if options.leave_out_paging else []
    system = claimed_by_system(mft, [mft.data, mirror, log, bitmap])
    others = claimed_by_samples(mft, {file.number for file in paging})
    claimed = joined(together([system, others]))
    left_out = [file for file in paging if not len(intersection(claimed, file.runs))]
    claimed = joined(together([claimed, *(file.runs for file in left_out)]))
    free = read_bitmap(mft, bitmap, claimed)
    for file in left_out:
        free.set_free_runs(file.runs)
    return Allocation(free, free.used_end(), tuple(file.name for file in left_out))


def _verify_mirror(mft: Mft) -> Stream:
    """Return $MFTMirr's content, which repeats the first four records of the MFT; Windows 10 no
    longer keeps any further ones up to date where clusters have room for them.
    """
    record = mft.base_record(layout.MFT_MIRROR)
    stream = mft.stream(record, layout.DATA, b"", "the MFT's mirror").verified_plain()
    if stream.resident or not stream.runs or stream.runs[0].cluster != mft.geometry.mirror:
        raise LayoutError("the MFT's mirror is not where the boot sector says")
    size = mft.geometry.record_size
    mft.view.allow(layout.MIRRORED * size)
    data = stream.read(0, layout.MIRRORED * size)
    for number, original in enumerate(mft.read_records(0, layout.MIRRORED)):
        copy = data[number * size : (number + 1) * size]
        # Taken apart, since what follows the used bytes and the fix-ups may differ.
        if decode_record(copy, number) != decode_record(original, number):
            raise LayoutError(f"the MFT's mirror has another FILE record {number}")
    return stream


def _verify_volume(mft: Mft) -> None:
    """Check version and flags in $VOLUME_INFORMATION."""
    record = mft.base_record(layout.VOLUME)
    value = mft.value(record, layout.VOLUME_INFORMATION, b"", "$Volume")
    if len(value) < layout.INFORMATION.size:
        raise LayoutError("$Volume is cut short")
    major, minor, flags = layout.INFORMATION.unpack_from(value)
    if (major, minor) not in layout.VERSIONS:
        raise LayoutError(f"it is of NTFS version {major}.{minor}")
    if flags & layout.IS_DIRTY:
        raise LayoutError("it is marked as dirty")
    if flags & layout.CHKDSK_UNDERWAY:
        raise LayoutError("a run of chkdsk was cut short in it")

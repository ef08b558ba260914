"""What a volume says of its own state: the copy of its first records, version and flags."""

from __future__ import annotations

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.records import decode_record
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.view import LayoutError


def verify_mirror(mft: Mft) -> Stream:
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


def verify_volume(mft: Mft) -> None:
    """Check version and flags in $VOLUME_INFORMATION."""
    flags = verified_flags(mft)
    if flags & layout.IS_DIRTY:
        raise LayoutError("it is marked as dirty")
    if flags & layout.CHKDSK_UNDERWAY:
        raise LayoutError("a run of chkdsk was cut short in it")


def verified_flags(mft: Mft) -> int:
    """The flags of a volume whose version is known."""
    record = mft.base_record(layout.VOLUME)
    value = mft.value(record, layout.VOLUME_INFORMATION, b"", "$Volume")
    if len(value) < layout.INFORMATION.size:
        raise LayoutError("$Volume is cut short")
    major, minor, flags = layout.INFORMATION.unpack_from(value)
    if (major, minor) not in layout.VERSIONS:
        raise LayoutError(f"it is of NTFS version {major}.{minor}")
    return int(flags)

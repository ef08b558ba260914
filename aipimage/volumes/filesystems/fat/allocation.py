"""Telling a FAT volume, and its allocation map."""

from __future__ import annotations

from aipimage.volumes.filesystems.bitlocker import is_bitlocker
from aipimage.volumes.filesystems.fat.geometry import (
    Geometry,
    check_backup,
    claimed_geometry,
    verified_geometry,
)
from aipimage.volumes.filesystems.fat.inuse import keep_named
from aipimage.volumes.filesystems.fat.label import find_label
from aipimage.volumes.filesystems.fat.layout import (
    BOOT_BYTES,
    SIGNATURE,
    BootSector,
    decode_boot_sector,
)
from aipimage.volumes.filesystems.fat.table import declare, is_marked_dirty, read_map
from aipimage.volumes.journals.notes import check_still, dirty_note
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

_OTHERS = (b"NTFS    ", b"EXFAT   ")
"""OEM names of volumes that have a boot sector of nearly the same form."""
_OTHER_TYPES = (b"HPFS    ", b"JFS     ")
_TYPES = (b"FAT12   ", b"FAT16   ", b"FAT32   ", b"FAT     ")
_DIRTY, _ERRORS = 0x01, 0x02


def probe(view: VolumeView) -> FileSystem | None:
    """See :class:`aipimage.volumes.model.Parser`."""
    try:
        data = view.read(0, BOOT_BYTES)
    except LayoutError:
        return None
    boot = decode_boot_sector(data)
    if not _is_fat(boot, data):
        return None
    uuid = f"{boot.serial >> 16:04X}-{boot.serial & 0xFFFF:04X}" if boot.serial else ""
    try:
        geometry = claimed_geometry(boot)
    except LayoutError:
        return FileSystem(_claimed_kind(boot), uuid=uuid, details=boot)
    label = find_label(view, geometry, boot.root_cluster)
    try:
        verified_geometry(boot, view.size)
    except LayoutError:
        # Taken whole: sizes that do not fit say nothing, but its name helps who looks for it.
        return FileSystem(_claimed_kind(boot), label, uuid, details=boot)
    return FileSystem(
        geometry.kind, label, uuid, geometry.size, geometry.cluster_size, details=boot
    )


def _is_fat(boot: BootSector, data: bytes) -> bool:
    """Whether it says so by name, or the numbers and the start are those of one."""
    if boot.oem in _OTHERS or is_bitlocker(data) or data[54:62] in _OTHER_TYPES:
        return False
    if boot.type in _TYPES:
        return True
    starts = boot.jump[0] in (0xEB, 0xE9) or boot.signature == SIGNATURE
    sizes = boot.sector_size in (512, 1024, 2048, 4096)
    power = boot.sectors_per_cluster.bit_count() == 1
    counts = 0 not in (boot.reserved, boot.fats, boot.fat_sectors)
    return starts and sizes and power and counts and (boot.media >= 0xF8 or boot.media == 0xF0)


def _claimed_kind(boot: BootSector) -> str:
    """What a boot sector calls itself whose numbers make no sense."""
    if boot.is_32:
        return "fat32"
    return "fat12" if boot.type == b"FAT12   " else "fat16"


def allocation(view: VolumeView, filesystem: FileSystem, options: SurveyOptions) -> Allocation:
    """See :class:`aipimage.volumes.model.Parser`."""
    boot = filesystem.details
    if not isinstance(boot, BootSector):
        raise RuntimeError("internal error: these are not the details of a FAT volume")
    geometry = verified_geometry(boot, view.size)
    if boot.has_extension and boot.state & _ERRORS:
        raise LayoutError("its boot sector says that errors were met")
    view.allow(BOOT_BYTES)
    if boot.is_32:
        check_backup(view, boot)
    declare(view, geometry)
    # Linux sets bit 0 while a volume is mounted for writing, whatever else the sector holds.
    in_use = is_marked_dirty(view, geometry, boot.media) or bool(boot.state & _DIRTY)
    if in_use:
        check_still(options)
    found = read_map(view, geometry, may_differ=in_use)
    if boot.is_32 and any(
        True for _ in found.free_runs(boot.root_cluster - 2, boot.root_cluster - 1)
    ):
        raise LayoutError("its FAT calls the root directory free")
    notes = _notes(geometry)
    if in_use:
        notes += (dirty_note("FATs", keep_named(view, boot, geometry, found)),)
    return Allocation(found, found.used_end(), notes=notes)


def _notes(geometry: Geometry) -> tuple[str, ...]:
    if len(geometry.entry_bits) > 1:
        return (
            f"with {geometry.clusters:,} clusters it is FAT12 for some systems and FAT16 for "
            "others: what either calls used is kept",
        )
    if geometry.active is not None:
        return ("its FATs are not kept equal: what any of them calls used is kept",)
    return ()

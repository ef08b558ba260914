"""The boot region of an exFAT volume, verified."""

from __future__ import annotations

from aipimage.volumes.filesystems.exfat.layout import (
    BOOT_BYTES,
    CHECKED_SECTORS,
    CLUSTER_SHIFT_MAX,
    CLUSTERS_MAX,
    FAT_ENTRY_BYTES,
    FIRST_CLUSTER,
    FLAG_DIRTY,
    FLAG_MEDIA_FAILURE,
    FLAG_SECOND_FAT,
    JUMP,
    REGION_SECTORS,
    SIGNATURE,
    BootSector,
    boot_checksum,
    checksum_sector,
    decode_boot_sector,
    without_state,
)
from aipimage.volumes.view import LayoutError, VolumeView


def verify_layout(boot: BootSector, volume_size: int) -> None:
    """Check every field that says where something lies (section 3.1).

    Args:
        volume_size: bytes that there are.

    Raises:
        LayoutError: a field is out of its range, or the parts do not fit.
    """
    _check_fields(boot)
    if boot.size > volume_size:
        raise LayoutError(f"its boot sector says {boot.size:,} bytes, and it has {volume_size:,}")
    if boot.fat_offset < 2 * REGION_SECTORS:
        raise LayoutError("its FAT begins inside of the boot regions")
    needed = (boot.clusters + FIRST_CLUSTER) * FAT_ENTRY_BYTES
    if boot.fat_length << boot.sector_shift < needed:
        raise LayoutError(f"its FAT is too small for {boot.clusters:,} clusters")
    if boot.fat_offset + boot.fats * boot.fat_length > boot.heap_offset:
        raise LayoutError("its clusters begin before the end of its FAT")
    sectors = boot.heap_offset + (boot.clusters << boot.cluster_shift)
    if sectors > boot.volume_length:
        raise LayoutError(f"its {boot.clusters:,} clusters end past its last sector")
    if not FIRST_CLUSTER <= boot.root_cluster < boot.clusters + FIRST_CLUSTER:
        raise LayoutError(f"its root directory begins in cluster {boot.root_cluster:,}")


def claimed_size(boot: BootSector) -> int:
    """Bytes that a boot sector claims; 0 where its sectors have no possible size."""
    return boot.size if 9 <= boot.sector_shift <= 12 else 0


def _check_fields(boot: BootSector) -> None:
    if boot.jump != JUMP or boot.signature != SIGNATURE or any(boot.zeros):
        raise LayoutError("its boot sector is not one of exFAT")
    if boot.revision >> 8 != 1:
        raise LayoutError(f"it is of revision {boot.revision:#06x} of exFAT")
    if not 9 <= boot.sector_shift <= 12:
        raise LayoutError(f"its boot sector says sectors of 2^{boot.sector_shift} bytes")
    if boot.sector_shift + boot.cluster_shift > CLUSTER_SHIFT_MAX:
        raise LayoutError("its boot sector says clusters of more than 32 MiB")
    if not 0 < boot.clusters <= CLUSTERS_MAX:
        raise LayoutError(f"its boot sector says {boot.clusters:,} clusters")
    if boot.fats not in (1, 2):
        raise LayoutError(f"its boot sector says {boot.fats} FATs")


def verify_state(boot: BootSector) -> None:
    """Look at VolumeFlags (section 3.1.13).

    Raises:
        LayoutError: its medium failed, or it was not taken down and has two FATs.
    """
    if boot.flags & FLAG_DIRTY and boot.fats != 1:
        raise LayoutError("it was not unmounted, and has two FATs")
    if boot.flags & FLAG_MEDIA_FAILURE:
        raise LayoutError("its boot sector says that its medium failed")
    if boot.flags & FLAG_SECOND_FAT and boot.fats != 2:
        raise LayoutError("its second FAT is in force, and it has one")


def verify_regions(view: VolumeView, boot: BootSector) -> None:
    """Check the main boot region's checksum, and compare it with the backup (sections 3.2 to 3.4).

    Raises:
        LayoutError: a checksum is wrong, or the two differ in more than what may be old.
    """
    size = REGION_SECTORS << boot.sector_shift
    view.allow(2 * size)
    main, backup = view.read(0, size), view.read(size, size)
    checked = CHECKED_SECTORS << boot.sector_shift
    if decode_boot_sector(main[:BOOT_BYTES]) != boot:
        raise LayoutError("its boot sector changed while it was looked at")
    total = boot_checksum(main[:checked])
    if main[checked:] != checksum_sector(total, boot.sector_size):
        raise LayoutError("the checksum of its boot region is wrong")
    if without_state(main[: boot.sector_size]) != without_state(backup[: boot.sector_size]):
        raise LayoutError("its boot sector and the backup of it disagree")
    if without_state(main[:checked]) != without_state(backup[:checked]):
        total = boot_checksum(backup[:checked])
    if backup[checked:] != checksum_sector(total, boot.sector_size):
        raise LayoutError("the checksum of its backup boot region is wrong")

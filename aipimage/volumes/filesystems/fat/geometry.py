"""Where the parts of a FAT volume lie: every number of the boot sector passes a check here."""

from __future__ import annotations

from typing import NamedTuple

from aipimage.volumes.filesystems.fat.layout import (
    BOOT_BYTES,
    ENTRY_BYTES,
    SIGNATURE,
    BootSector,
    decode_boot_sector,
)
from aipimage.volumes.view import LayoutError, VolumeView

FAT12_MAX = 4084
"""Clusters of the largest FAT12 volume (fatgen103, FAT Type Determination)."""
FAT12_MAX_WINDOWS = 4086
"""The same for Windows' own driver, which takes two sizes for FAT12 that are FAT16 elsewhere."""
FAT16_MAX = 65_524
FAT32_MAX = 0x0FFF_FFF5
"""Numbers from 0x0FFFFFF7 on have another meaning, and 0 and 1 are not used."""
_MIRRORING_OFF = 0x80
_ACTIVE = 0x0F


class Geometry(NamedTuple):
    """A verified layout, in bytes from the start of the volume.

    Attributes:
        entry_bits: widths in which the table may have to be read: one, or both 12 and 16 at the two
            sizes where drivers disagree.
        sector_size, cluster_size: bytes. fat_start: the first table. fat_size: bytes of each.
        fats: tables. active: the one that is in force, where the others are not kept equal; else
            ``None``.
        root_start, root_size: of the root directory of FAT12 and FAT16; the size is 0 for FAT32.
        data_start: byte of cluster 2. clusters: how many. size: bytes of the file system.
    """

    entry_bits: tuple[int, ...]
    sector_size: int
    cluster_size: int
    fat_start: int
    fat_size: int
    fats: int
    active: int | None
    root_start: int
    root_size: int
    data_start: int
    clusters: int
    size: int

    @property
    def kind(self) -> str:
        """As Linux and ``blkid`` call it."""
        return f"fat{self.entry_bits[-1]}"


def verified_geometry(boot: BootSector, volume_size: int) -> Geometry:
    """Return the layout that a boot sector describes, within a volume of so many bytes.

    Raises:
        LayoutError: a field is out of its range, or the parts do not fit.
    """
    found = claimed_geometry(boot)
    size, fat_size, clusters = found.size, found.fat_size, found.clusters
    if size > volume_size:
        raise LayoutError(f"its boot sector says {size:,} bytes, and it has {volume_size:,}")
    if clusters < 1:
        raise LayoutError("its tables leave no room for clusters")
    if clusters > (FAT32_MAX if boot.is_32 else FAT16_MAX):
        raise LayoutError(f"{clusters:,} clusters are too many for its FAT")
    if fat_size * 8 < (clusters + 2) * found.entry_bits[-1]:
        raise LayoutError(f"its FAT of {fat_size:,} bytes is too small for {clusters:,} clusters")
    if boot.is_32 and not 2 <= boot.root_cluster < clusters + 2:
        raise LayoutError(f"its root directory begins in cluster {boot.root_cluster:,}")
    return found


def claimed_geometry(boot: BootSector) -> Geometry:
    """Return the layout that a boot sector describes, whether or not its parts fit together.

    Raises:
        LayoutError: a field alone is out of its range.
    """
    _check_fields(boot)
    size = boot.sectors * boot.sector_size
    root_size = boot.root_entries * ENTRY_BYTES
    fat_start, fat_size = boot.reserved * boot.sector_size, boot.fat_sectors * boot.sector_size
    root_start = fat_start + boot.fats * fat_size
    data_start = root_start + root_size
    cluster_size = boot.sectors_per_cluster * boot.sector_size
    clusters = (size - data_start) // cluster_size
    return Geometry(
        _entry_bits(boot.is_32, clusters), boot.sector_size, cluster_size, fat_start, fat_size,
        boot.fats, _verified_active(boot), root_start, root_size, data_start, clusters, size,
    )  # fmt: skip


def _check_fields(boot: BootSector) -> None:
    """The rules of fatgen103, Boot Sector and BPB, each for a field alone."""
    if boot.signature != SIGNATURE:
        # What lacks it, such as a partition of an Atari, may also number its clusters otherwise.
        raise LayoutError("its boot sector has no signature 55 AA")
    if boot.sector_size not in (512, 1024, 2048, 4096):
        raise LayoutError(f"its boot sector says sectors of {boot.sector_size:,} bytes")
    if boot.sectors_per_cluster not in (1, 2, 4, 8, 16, 32, 64, 128):
        raise LayoutError(f"its boot sector says clusters of {boot.sectors_per_cluster} sectors")
    for name in ("reserved", "fats", "fat_sectors", "sectors"):
        if not getattr(boot, name):
            raise LayoutError(f"its boot sector says zero for {name.replace('_', ' ')}")
    if boot.media < 0xF8 and boot.media != 0xF0:
        raise LayoutError(f"its boot sector says media {boot.media:#04x}")
    if boot.is_32:
        if boot.version or boot.root_entries:
            raise LayoutError("it is of an unknown version of FAT32")
    elif not boot.root_entries or boot.root_entries * ENTRY_BYTES % boot.sector_size:
        # Drivers round a part of a sector differently, and then find the clusters elsewhere.
        raise LayoutError(f"its root directory of {boot.root_entries} entries is not whole sectors")


def _entry_bits(is_32: bool, clusters: int) -> tuple[int, ...]:
    """The width of a table's entries follows from the count of clusters alone (fatgen103, FAT Type
    Determination). But whatever has no 16-bit size of its tables is FAT32, for all drivers and with
    any count: no other type has a place where the size could be.
    """
    if is_32:
        return (32,)
    if clusters <= FAT12_MAX:
        return (12,)
    return (12, 16) if clusters <= FAT12_MAX_WINDOWS else (16,)


def _verified_active(boot: BootSector) -> int | None:
    if not boot.flags & _MIRRORING_OFF:
        return None
    active = boot.flags & _ACTIVE
    if active >= boot.fats:
        raise LayoutError(f"its FAT number {active} is in force, of {boot.fats}")
    return active


def check_backup(view: VolumeView, boot: BootSector) -> None:
    """Compare a FAT32 boot sector with its backup, where there is one.

    Raises:
        LayoutError: they describe different layouts.
    """
    if not 0 < boot.backup < boot.reserved:
        return
    data = view.read(boot.backup * boot.sector_size, BOOT_BYTES)
    backup = decode_boot_sector(data)
    # Many a formatter says that there is one, and writes none.
    if backup.signature == SIGNATURE and any(data[:11]) and backup.shape != boot.shape:
        raise LayoutError("its boot sector and the backup of it disagree")

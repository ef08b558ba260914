"""The boot sector of NTFS and what follows from it: sizes and places of a volume."""

from __future__ import annotations

from dataclasses import dataclass

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.view import LayoutError


@dataclass(frozen=True, slots=True)
class Geometry:
    """A boot sector whose numbers fit together.

    Attributes:
        sector_size, cluster_size, record_size: bytes; the last of a FILE record. sectors: of the
            volume, without the one after it that holds the copy of the boot sector. clusters: of
            the volume. mft, mirror: first clusters of $MFT and $MFTMirr. serial: number.
    """

    sector_size: int
    cluster_size: int
    record_size: int
    sectors: int
    clusters: int
    mft: int
    mirror: int
    serial: int

    @property
    def size(self) -> int:
        """Bytes of the sectors that clusters are cut from."""
        return self.sectors * self.sector_size


def is_ntfs(sector: bytes) -> bool:
    """Whether a first sector bears the name of the file system ("$Boot", OEM name)."""
    at = layout.BOOT_MAGIC_AT
    return sector[at : at + len(layout.BOOT_MAGIC)] == layout.BOOT_MAGIC


def decode_geometry(sector: bytes) -> Geometry:
    """Read a boot sector ("NTFS Documentation", file $Boot).

    Raises:
        LayoutError: a number is out of range.
    """
    fields = layout.BOOT.unpack_from(sector)
    sector_size, per_cluster, sectors, mft, mirror, per_record, _, serial = fields
    if sector_size not in layout.SECTOR_SIZES:
        raise LayoutError(f"its boot sector says sectors of {sector_size} bytes")
    cluster_size = sector_size * _verified_cluster_sectors(per_cluster)
    if cluster_size > layout.CLUSTER_MAX or cluster_size % 512:
        raise LayoutError(f"its boot sector says clusters of {cluster_size} bytes")
    record_size = _verified_record_size(per_record, cluster_size)
    clusters = sectors * sector_size // cluster_size
    if not 0 < clusters <= layout.CLUSTERS_MAX:
        raise LayoutError(f"its boot sector says {clusters} clusters")
    if mft >= clusters or mirror >= clusters:
        raise LayoutError("its boot sector places the MFT or its mirror past the volume's end")
    return Geometry(sector_size, cluster_size, record_size, sectors, clusters, mft, mirror, serial)


def _verified_cluster_sectors(value: int) -> int:
    """Sectors of a cluster: as they are up to 128; above 243, a power of two for what is missing to
    256 (clusters above 64 KiB, Windows 10 version 1709 and newer).
    """
    sectors = value if value <= 128 else 1 << (256 - value) if value >= 244 else 0
    if not sectors or sectors & (sectors - 1):
        raise LayoutError(f"its boot sector says {value} sectors a cluster")
    return sectors


def _verified_record_size(value: int, cluster_size: int) -> int:
    """Bytes of a FILE record: clusters, or 2 to the power of the negated number."""
    size = value * cluster_size if value > 0 else 1 << -value
    if not layout.RECORD_MIN <= size <= layout.RECORD_MAX or size & (size - 1):
        raise LayoutError(f"its boot sector says FILE records of {size} bytes")
    return size

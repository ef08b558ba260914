"""Whether a superblock can be trusted."""

from __future__ import annotations

from typing import Any

from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.superblock import Superblock, fields_of, superblock_of
from aipimage.volumes.view import LayoutError

GROUPS_MAX = 1 << 21
"""Block groups that are looked at: 256 TiB in blocks of 4 KiB."""
_ALL_ONES = 0xFFFFFFFF


def verified_superblock(data: bytes, size: int, in_use: bool = False) -> Superblock:
    """Return a superblock that can be trusted, of a volume of ``size`` bytes; ``in_use``: its
    journal may be open.

    Raises:
        LayoutError: it says that the file system is not clean, uses a feature that is not known
            here, or states numbers that contradict each other or the volume.
    """
    fields = fields_of(data)
    _check_features(fields)
    _check_checksum(fields, data)
    _check_state(fields, in_use)
    found = superblock_of(fields)
    _check_geometry(found, fields, size)
    return found


def readable_superblock(data: bytes, size: int) -> Superblock:
    """Return a superblock by which files can be found, of a volume of ``size`` bytes, whatever it
    says of its state.

    Raises:
        LayoutError: as :func:`verified_superblock`.
    """
    fields = fields_of(data)
    _check_features(fields)
    _check_checksum(fields, data)
    found = superblock_of(fields)
    _check_geometry(found, fields, size)
    return found


def _check_features(fields: dict[str, Any]) -> None:
    if fields["s_rev_level"] > 1:
        raise LayoutError(f"its revision {fields['s_rev_level']} is not known")
    if fields["s_feature_incompat"] & layout.INCOMPAT_JOURNAL_DEV:
        raise LayoutError("it is the journal of another volume")
    unknown = {
        "compat": fields["s_feature_compat"] & layout.COMPAT_LAZY_BG,
        "incompat": fields["s_feature_incompat"] & ~layout.INCOMPAT_KNOWN,
        "ro_compat": fields["s_feature_ro_compat"] & ~layout.RO_KNOWN,
    }
    for kind, bits in unknown.items():
        if bits:
            bit = bits & -bits
            name = layout.FEATURE_NAMES.get((kind, bit), f"{kind} 0x{bit:x}")
            raise LayoutError(f"it uses the feature {name}, which is not understood")


def _check_checksum(fields: dict[str, Any], data: bytes) -> None:
    """ext4 Data Structures, "Super Block", s_checksum and s_checksum_type."""
    if not fields["s_feature_ro_compat"] & layout.RO_METADATA_CSUM:
        return
    if fields["s_checksum_type"] != 1:
        raise LayoutError(f"its checksums are of the unknown type {fields['s_checksum_type']}")
    if crc32c(data[: layout.SUPERBLOCK_CHECKSUM_AT], _ALL_ONES) != fields["s_checksum"]:
        raise LayoutError("its superblock has a wrong checksum")


def _check_state(fields: dict[str, Any], in_use: bool) -> None:
    """Only what a full check would be skipped for is clean, as in e2fsck: the valid flag and no
    other. With a journal the flag stays set while the volume is mounted, and the recover feature
    tells; without one it is cleared. A volume whose journal is clean and whose flag is not set was
    mounted unchecked: what made it invalid is still there.
    """
    if fields["s_feature_incompat"] & layout.INCOMPAT_RECOVER and not in_use:
        raise LayoutError("its journal was not replayed")
    state = fields["s_state"]
    if state & layout.STATE_ERROR:
        raise LayoutError("it is marked as having errors")
    if not state & layout.STATE_VALID:
        raise LayoutError("it was not cleanly unmounted")
    if state != layout.STATE_VALID:
        raise LayoutError(f"its state 0x{state:x} is not known")


def _check_geometry(found: Superblock, fields: dict[str, Any], size: int) -> None:
    block_size = found.block_size
    if found.blocks * block_size > size:
        raise LayoutError(
            f"it has {found.blocks * block_size:,} bytes, and its volume only {size:,}"
        )
    if found.groups > GROUPS_MAX:
        raise LayoutError(f"it has {found.groups:,} block groups, more than are looked at")
    # With 1 KiB blocks, block 0 is the boot area; with bigalloc it is part of the first cluster.
    first = 1 if block_size == 1024 and found.ratio == 1 else 0
    if found.first_data_block != first:
        raise LayoutError(f"its first data block is {found.first_data_block}, not {first}")
    clusters = found.clusters_per_group
    if (
        not 8 <= clusters <= 8 * block_size
        or clusters % 8
        or found.blocks_per_group != clusters * found.ratio
    ):
        raise LayoutError(f"its groups of {clusters:,} clusters are out of range")
    _check_inodes(found)
    if found.reserved_gdt > block_size // 4:
        raise LayoutError(f"it reserves {found.reserved_gdt:,} blocks for descriptors, too many")
    if found.first_meta_bg > found.desc_blocks:
        raise LayoutError(f"its first meta block group {found.first_meta_bg:,} is out of range")


def _check_inodes(found: Superblock) -> None:
    inode_size, per_group = found.inode_size, found.inodes_per_group
    if not layout.INODE_SIZE_MIN <= inode_size <= found.block_size or inode_size & (inode_size - 1):
        raise LayoutError(f"its inodes of {inode_size} bytes are out of range")
    if not 0 < per_group <= 8 * found.block_size:
        raise LayoutError(f"its groups of {per_group:,} inodes are out of range")
    if per_group * found.groups != found.inodes_count:
        raise LayoutError(
            f"it counts {found.inodes_count:,} inodes, and its groups have "
            f"{per_group * found.groups:,}"
        )

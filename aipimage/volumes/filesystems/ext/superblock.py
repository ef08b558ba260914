"""The superblock: what it says, and whether it can be trusted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.crc import crc32c
from aipimage.volumes.view import LayoutError

GROUPS_MAX = 1 << 21
"""Block groups that are looked at: 256 TiB in blocks of 4 KiB."""
_ALL_ONES = 0xFFFFFFFF
_LOG_BLOCK_SIZE_MAX = 6
_LOG_CLUSTER_SIZE_MAX = 20


@dataclass(frozen=True, slots=True)
class Superblock:
    """A superblock whose numbers fit each other and the volume.

    Attributes:
        block_size: bytes. blocks: of the file system, ``first_data_block`` of them before group 0.
        ratio: blocks of a cluster, which is what a bit of a bitmap stands for.
        groups: block groups. blocks_per_group, clusters_per_group, inodes_per_group: of each.
        inode_size: bytes. itable_blocks: of each group's inode table.
        desc_size: bytes of a group descriptor. desc_blocks: blocks that hold one copy of all.
        reserved_gdt: blocks behind each copy, for more descriptors.
        first_meta_bg: the first block of descriptors that lies in its own groups (meta_bg);
            ``desc_blocks`` where none does.
        free_blocks: of the whole file system. seed: of all checksums (metadata_csum).
        backup_groups: the groups with copies where they are listed (sparse_super2).
    """

    block_size: int
    blocks: int
    first_data_block: int
    ratio: int
    groups: int
    blocks_per_group: int
    clusters_per_group: int
    inodes_count: int
    inodes_per_group: int
    inode_size: int
    itable_blocks: int
    desc_size: int
    desc_blocks: int
    reserved_gdt: int
    first_meta_bg: int
    free_blocks: int
    compat: int
    incompat: int
    ro_compat: int
    uuid: bytes
    seed: int
    backup_groups: tuple[int, ...]
    journal_inum: int
    journal_is_elsewhere: bool
    mmp_block: int

    @property
    def clusters(self) -> int:
        """Of all groups; the last one may be cut by the end of the file system."""
        return -(-(self.blocks - self.first_data_block) // self.ratio)

    @property
    def superblock_block(self) -> int:
        """The block that the superblock lies in."""
        return layout.SUPERBLOCK_OFFSET // self.block_size

    @property
    def has_metadata_csum(self) -> bool:
        """Whether all structures have checksums."""
        return bool(self.ro_compat & layout.RO_METADATA_CSUM)

    @property
    def has_group_checksums(self) -> bool:
        """Whether descriptors have checksums: only then do their flags mean anything."""
        return bool(self.ro_compat & (layout.RO_METADATA_CSUM | layout.RO_GDT_CSUM))


def fields_of(data: bytes) -> dict[str, Any]:
    """The fields of a superblock of 1,024 bytes, as Python numbers and bytes."""
    record = np.frombuffer(data, layout.SUPERBLOCK)[0]
    return {
        name: bytes(record[name]) if record[name].dtype.kind == "V" else record[name].tolist()
        for name in layout.SUPERBLOCK.names or ()
    }


def claimed_geometry(fields: dict[str, Any]) -> tuple[int, int, int]:
    """Bytes of a block and of a cluster, and blocks, unverified; all 0 where they are nonsense."""
    log_block, log_cluster = fields["s_log_block_size"], fields["s_log_cluster_size"]
    if log_block > _LOG_BLOCK_SIZE_MAX or log_cluster > _LOG_CLUSTER_SIZE_MAX:
        return 0, 0, 0
    is_bigalloc = fields["s_feature_ro_compat"] & layout.RO_BIGALLOC
    return 1024 << log_block, 1024 << (log_cluster if is_bigalloc else log_block), _blocks(fields)


def verified_superblock(data: bytes, size: int) -> Superblock:
    """Return a superblock that can be trusted, of a volume of ``size`` bytes.

    Raises:
        LayoutError: it says that the file system is not clean, uses a feature that is not known
            here, or states numbers that contradict each other or the volume.
    """
    fields = fields_of(data)
    _check_features(fields)
    _check_checksum(fields, data)
    _check_state(fields)
    found = _geometry(fields)
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
    if crc32c.one(data[: layout.SUPERBLOCK_CHECKSUM_AT], _ALL_ONES) != fields["s_checksum"]:
        raise LayoutError("its superblock has a wrong checksum")


def _check_state(fields: dict[str, Any]) -> None:
    """Only what a full check would be skipped for is clean, as in e2fsck: the valid flag and no
    other. With a journal the flag stays set while the volume is mounted, and the recover feature
    tells; without one it is cleared. A volume whose journal is clean and whose flag is not set was
    mounted unchecked: what made it invalid is still there.
    """
    if fields["s_feature_incompat"] & layout.INCOMPAT_RECOVER:
        raise LayoutError("its journal was not replayed")
    state = fields["s_state"]
    if state & layout.STATE_ERROR:
        raise LayoutError("it is marked as having errors")
    if not state & layout.STATE_VALID:
        raise LayoutError("it was not cleanly unmounted")
    if state != layout.STATE_VALID:
        raise LayoutError(f"its state 0x{state:x} is not known")


def _blocks(fields: dict[str, Any]) -> int:
    high = fields["s_blocks_count_hi"] << 32 if _is_64bit(fields) else 0
    return int(high | fields["s_blocks_count_lo"])


def _is_64bit(fields: dict[str, Any]) -> bool:
    return bool(fields["s_feature_incompat"] & layout.INCOMPAT_64BIT)


def _geometry(fields: dict[str, Any]) -> Superblock:
    """Everything that later numbers are divided by or shifted with is verified here."""
    block_size, cluster_size, blocks = claimed_geometry(fields)
    per_group, first = fields["s_blocks_per_group"], fields["s_first_data_block"]
    inodes_per_group, inode_size = fields["s_inodes_per_group"], _inode_size(fields)
    desc_size = fields["s_desc_size"] if _is_64bit(fields) else layout.DESC_SIZE_MIN
    _check_units(fields, block_size, cluster_size, desc_size)
    if not first < blocks or not per_group:
        raise LayoutError(f"it has {blocks:,} blocks from {first:,} on, {per_group:,} in a group")
    groups = -(-(blocks - first) // per_group)
    desc_blocks = -(-groups // (block_size // desc_size))
    uses_meta_bg = fields["s_feature_incompat"] & layout.INCOMPAT_META_BG
    high_free = fields["s_free_blocks_count_hi"] << 32 if _is_64bit(fields) else 0
    return Superblock(
        block_size=block_size,
        blocks=blocks,
        first_data_block=first,
        ratio=cluster_size // block_size,
        groups=groups,
        blocks_per_group=per_group,
        clusters_per_group=fields["s_clusters_per_group"],
        inodes_count=fields["s_inodes_count"],
        inodes_per_group=inodes_per_group,
        inode_size=inode_size,
        itable_blocks=-(-inodes_per_group * inode_size // block_size),
        desc_size=desc_size,
        desc_blocks=desc_blocks,
        reserved_gdt=fields["s_reserved_gdt_blocks"],
        first_meta_bg=fields["s_first_meta_bg"] if uses_meta_bg else desc_blocks,
        free_blocks=high_free | fields["s_free_blocks_count_lo"],
        compat=fields["s_feature_compat"],
        incompat=fields["s_feature_incompat"],
        ro_compat=fields["s_feature_ro_compat"],
        uuid=fields["s_uuid"],
        seed=_seed(fields),
        backup_groups=tuple(fields["s_backup_bgs"]),
        journal_inum=fields["s_journal_inum"],
        journal_is_elsewhere=bool(fields["s_journal_dev"] or any(fields["s_journal_uuid"])),
        mmp_block=fields["s_mmp_block"],
    )


def _inode_size(fields: dict[str, Any]) -> int:
    return layout.INODE_SIZE_MIN if fields["s_rev_level"] == 0 else int(fields["s_inode_size"])


def _seed(fields: dict[str, Any]) -> int:
    if fields["s_feature_incompat"] & layout.INCOMPAT_CSUM_SEED:
        return int(fields["s_checksum_seed"])
    return crc32c.one(fields["s_uuid"], _ALL_ONES)


def _check_units(
    fields: dict[str, Any], block_size: int, cluster_size: int, desc_size: int
) -> None:
    if not block_size:
        raise LayoutError("its block size is out of range")
    is_bigalloc = fields["s_feature_ro_compat"] & layout.RO_BIGALLOC
    if cluster_size < block_size or (
        not is_bigalloc and fields["s_log_cluster_size"] != fields["s_log_block_size"]
    ):
        raise LayoutError("its cluster size does not fit its block size")
    least = layout.DESC_SIZE_64BIT_MIN if _is_64bit(fields) else layout.DESC_SIZE_MIN
    if not least <= desc_size <= layout.DESC_SIZE_MAX or desc_size & (desc_size - 1):
        raise LayoutError(f"its group descriptors of {desc_size} bytes are out of range")
    if not _is_64bit(fields) and fields["s_blocks_count_hi"]:
        raise LayoutError("it has more than 2^32 blocks without the feature 64bit")


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
    if (
        not layout.INODE_SIZE_MIN <= inode_size <= found.block_size
        or inode_size & (inode_size - 1)
    ):  # fmt: skip
        raise LayoutError(f"its inodes of {inode_size} bytes are out of range")
    if not 0 < per_group <= 8 * found.block_size:
        raise LayoutError(f"its groups of {per_group:,} inodes are out of range")
    if per_group * found.groups != found.inodes_count:
        raise LayoutError(
            f"it counts {found.inodes_count:,} inodes, and its groups have "
            f"{per_group * found.groups:,}"
        )

"""The superblock: what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from aipimage.volumes.crc32c import crc32c
from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.view import LayoutError

_ALL_ONES = 0xFFFFFFFF
_LOG_BLOCK_SIZE_MAX = 6
_LOG_CLUSTER_SIZE_MAX = 20


@dataclass(frozen=True, slots=True)
class Superblock:
    """A superblock in units that can be computed with.

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


def _blocks(fields: dict[str, Any]) -> int:
    high = fields["s_blocks_count_hi"] << 32 if _is_64bit(fields) else 0
    return int(high | fields["s_blocks_count_lo"])


def _is_64bit(fields: dict[str, Any]) -> bool:
    return bool(fields["s_feature_incompat"] & layout.INCOMPAT_64BIT)


def superblock_of(fields: dict[str, Any]) -> Superblock:
    """The superblock of these fields; only what numbers are divided by is verified.

    Raises:
        LayoutError: a size that nothing can be computed with.
    """
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


def has_superblock(sb: Superblock) -> npt.NDArray[np.bool_]:
    """Which groups begin with a superblock, the primary one included."""
    if sb.compat & layout.COMPAT_SPARSE_SUPER2:
        listed = np.zeros(sb.groups, np.bool_)
        listed[[0, *(group for group in sb.backup_groups if group < sb.groups)]] = True
        return listed
    if not sb.ro_compat & layout.RO_SPARSE_SUPER:
        return np.ones(sb.groups, np.bool_)
    sparse = np.zeros(sb.groups, np.bool_)
    sparse[:2] = True
    for base in (3, 5, 7):
        power = base
        while power < sb.groups:
            sparse[power] = True
            power *= base
    return sparse


def _inode_size(fields: dict[str, Any]) -> int:
    return layout.INODE_SIZE_MIN if fields["s_rev_level"] == 0 else int(fields["s_inode_size"])


def _seed(fields: dict[str, Any]) -> int:
    if fields["s_feature_incompat"] & layout.INCOMPAT_CSUM_SEED:
        return int(fields["s_checksum_seed"])
    return crc32c(fields["s_uuid"], _ALL_ONES)


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

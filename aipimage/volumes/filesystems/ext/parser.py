"""From a volume to its file system and its free clusters."""

from __future__ import annotations

import uuid
from typing import Any

from aipimage.volumes.filesystems.ext import layout
from aipimage.volumes.filesystems.ext.bitmaps import read_map
from aipimage.volumes.filesystems.ext.groups import read_groups
from aipimage.volumes.filesystems.ext.inuse import is_open, read_in_use
from aipimage.volumes.filesystems.ext.journal import Places, check_journal, check_mmp
from aipimage.volumes.filesystems.ext.placement import fixed_ranges
from aipimage.volumes.filesystems.ext.superblock import claimed_geometry, fields_of
from aipimage.volumes.filesystems.ext.trust import verified_superblock
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView


def probe(view: VolumeView) -> FileSystem | None:
    """Return what the superblock at byte 1,024 says, unverified; ``None`` where there is none."""
    try:
        data = view.read(layout.SUPERBLOCK_OFFSET, layout.SUPERBLOCK_SIZE)
    except LayoutError:
        return None
    fields = fields_of(data)
    if fields["s_magic"] != layout.MAGIC:
        return None
    block_size, cluster_size, blocks = claimed_geometry(fields)
    return FileSystem(
        kind=_kind(fields),
        label=_label(fields["s_volume_name"]),
        uuid=str(uuid.UUID(bytes=fields["s_uuid"])) if any(fields["s_uuid"]) else "",
        size=min(blocks * block_size, view.size),
        cluster_size=cluster_size,
        details=data,
    )


def allocation(view: VolumeView, filesystem: FileSystem, options: SurveyOptions) -> Allocation:
    """Return the free clusters of a file system that agrees with itself.

    Its end is that of the file system and not of the last cluster in use: a volume that is shorter
    than its superblock says is not mounted.

    Raises:
        LayoutError: why the whole volume is taken.
        SourceError: the volume cannot be read.
    """
    data = filesystem.details
    if not isinstance(data, bytes):
        raise RuntimeError("internal error: a file system that another parser found")
    if is_open(data):
        return read_in_use(view, data, options)
    sb = verified_superblock(data, view.size)
    groups = read_groups(view, sb)
    fixed = fixed_ranges(sb, groups)
    free = read_map(view, sb, groups, fixed)
    places = Places(sb, fixed, free)
    check_journal(view, sb, groups, places)
    check_mmp(view, sb, places)
    return Allocation(free, used_end=sb.blocks * sb.block_size)


def _kind(fields: dict[str, Any]) -> str:
    """Tell the generations apart by the features that each driver knows, as ``blkid`` does."""
    incompat, ro_compat = fields["s_feature_incompat"], fields["s_feature_ro_compat"]
    if incompat & layout.INCOMPAT_JOURNAL_DEV:
        return "jbd"
    if ro_compat & ~layout.EXT3_RO or incompat & ~layout.EXT3_INCOMPAT:
        return "ext4"
    return "ext3" if fields["s_feature_compat"] & layout.COMPAT_HAS_JOURNAL else "ext2"


def _label(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode("utf-8", "replace").rstrip()

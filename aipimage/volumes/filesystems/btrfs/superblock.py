"""Btrfs: the superblock and its copies ("On-disk Format", Superblock)."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np

from aipimage.volumes.filesystems.btrfs import checksums, layout
from aipimage.volumes.model import FileSystem
from aipimage.volumes.view import LayoutError, VolumeView


@dataclass(frozen=True, slots=True)
class Superblock:
    """A superblock all of whose numbers were looked at.

    Attributes:
        node_fsid: what tree nodes bear; not what users see where the volume got a new UUID.
        device_bytes: what of the volume the file system covers.
        log_root: where the log root tree begins; 0 where there is none.
        system_chunks: items of the chunk tree that are needed to read the chunk tree.
        skinny: whether extents of tree blocks have items of their own kind.
        free_space_tree: whether it says what the extent tree says.
        Else as in struct btrfs_super_block.
    """

    generation: int
    root: int
    root_level: int
    chunk_root: int
    chunk_root_level: int
    chunk_root_generation: int
    log_root: int
    log_root_level: int
    bytes_used: int
    sectorsize: int
    nodesize: int
    csum_type: int
    devid: int
    device_uuid: bytes
    device_bytes: int
    node_fsid: bytes
    system_chunks: bytes
    skinny: bool
    free_space_tree: bool
    block_group_tree: bool


def probe(view: VolumeView) -> FileSystem | None:
    """See ``Parser.probe``."""
    try:
        data = view.read(layout.SUPERBLOCKS[0], layout.SUPERBLOCK_BYTES)
    except LayoutError:
        return None
    raw = _fields(data)
    if raw["magic"].tobytes() != layout.MAGIC:
        return None
    label = raw["label"].tobytes().split(b"\0")[0].decode(errors="replace").rstrip()
    sectorsize = int(raw["sectorsize"])
    return FileSystem(
        "btrfs",
        label,
        str(uuid.UUID(bytes=raw["fsid"].tobytes())),
        size=min(int(raw["device_bytes"]), view.size),
        cluster_size=sectorsize if _is_sector_size(sectorsize) else 0,
        details=data,
    )


def read_superblock(view: VolumeView, data: bytes) -> Superblock:
    """Return what the superblock ``data`` says, compared with its copies.

    Raises:
        LayoutError: it is damaged, says what the parser does not know, or disagrees with a copy.
    """
    raw = _fields(data)
    _verify_checksum(raw, data, "its superblock")
    _verify_features(raw)
    _verify_geometry(view, raw)
    view.allow(len(layout.SUPERBLOCKS) * layout.SUPERBLOCK_BYTES)
    for offset in layout.SUPERBLOCKS[1:]:
        if offset + layout.SUPERBLOCK_BYTES < int(raw["device_bytes"]):
            _verify_copy(raw, view.read(offset, layout.SUPERBLOCK_BYTES), offset)
    incompat, compat_ro = int(raw["incompat_flags"]), int(raw["compat_ro_flags"])
    both = layout.FREE_SPACE_TREE_FLAG | layout.FREE_SPACE_TREE_VALID
    numbers = (
        "generation", "root", "root_level", "chunk_root", "chunk_root_level",
        "chunk_root_generation", "log_root", "log_root_level", "bytes_used", "sectorsize",
        "nodesize", "csum_type", "devid", "device_bytes",
    )  # fmt: skip
    return Superblock(
        **{name: int(raw[name]) for name in numbers},
        device_uuid=raw["device_uuid"].tobytes(),
        node_fsid=_node_fsid(raw),
        system_chunks=raw["sys_chunk_array"].tobytes()[: int(raw["sys_chunk_array_size"])],
        skinny=bool(incompat & layout.SKINNY_METADATA),
        free_space_tree=compat_ro & both == both,
        block_group_tree=bool(compat_ro & layout.BLOCK_GROUP_TREE_FLAG),
    )


def _fields(data: bytes) -> Any:
    return np.frombuffer(data, layout.SUPERBLOCK)[0]


def _is_sector_size(size: int) -> bool:
    return 2048 <= size <= 65536 and size.bit_count() == 1


def _node_fsid(raw: Any) -> bytes:
    has_own = int(raw["incompat_flags"]) & layout.METADATA_UUID
    data: bytes = raw["metadata_uuid" if has_own else "fsid"].tobytes()
    return data


def _verify_checksum(raw: Any, data: bytes, name: str) -> None:
    if int(raw["csum_type"]) not in checksums.KINDS:
        raise LayoutError(f"{name} names an unknown kind of checksum")
    block = np.frombuffer(data, np.uint8).reshape(1, -1)
    if not checksums.all_match(int(raw["csum_type"]), block):
        raise LayoutError(f"{name} does not have the checksum that it bears")


def _verify_features(raw: Any) -> None:
    incompat = int(raw["incompat_flags"])
    for flag, reason in layout.INCOMPAT_WHOLE.items():
        if incompat & flag:
            raise LayoutError(reason)
    unknown = (
        incompat & ~layout.INCOMPAT_KNOWN
        or int(raw["compat_ro_flags"]) & ~layout.COMPAT_RO_KNOWN
        or int(raw["compat_flags"])
    )
    if unknown or not incompat & layout.MIXED_BACKREF:
        raise LayoutError("it has features that are not known here")
    if int(raw["flags"]) & ~layout.FLAGS_KNOWN:
        raise LayoutError("its flags report an error or a conversion that was not finished")
    if int(raw["num_devices"]) != 1:
        raise LayoutError(f"it is one of {int(raw['num_devices'])} devices of its file system")


def _verify_geometry(view: VolumeView, raw: Any) -> None:
    sector, node = int(raw["sectorsize"]), int(raw["nodesize"])
    if not _is_sector_size(sector) or not sector <= node <= 65536 or node.bit_count() != 1:
        raise LayoutError(f"sectors of {sector} and nodes of {node} bytes are not possible")
    size = int(raw["device_bytes"])
    if size > view.size:
        raise LayoutError(f"it has {size} bytes and its volume {view.size}")
    if size <= layout.RESERVED or not 0 < int(raw["bytes_used"]) <= size:
        raise LayoutError("its superblock gives a size that is not possible")
    if int(raw["bytenr"]) != layout.SUPERBLOCKS[0] or raw["device_fsid"].tobytes() != _node_fsid(
        raw
    ):
        raise LayoutError("its superblock is that of another device")
    levels = (int(raw[name]) for name in ("root_level", "chunk_root_level", "log_root_level"))
    if (
        max(levels) >= layout.LEVELS_MAX
        or int(raw["sys_chunk_array_size"]) > layout.SYSTEM_CHUNKS_MAX
        or int(raw["chunk_root_generation"]) > int(raw["generation"])
    ):
        raise LayoutError("its superblock has a field out of range")


def _verify_copy(raw: Any, data: bytes, offset: int) -> None:
    """A commit writes all copies, so that one of another generation means a write that was cut
    off, or of a disk that lost one.
    """
    copy, name = _fields(data), f"its superblock copy at {offset >> 20} MiB"
    if copy["magic"].tobytes() != layout.MAGIC:
        raise LayoutError(f"{name} is missing")
    _verify_checksum(copy, data, name)
    same = ("fsid", "generation", "root", "chunk_root", "bytes_used", "device_bytes", "nodesize")
    if int(copy["bytenr"]) != offset or any(copy[field] != raw[field] for field in same):
        raise LayoutError(f"{name} disagrees with the first one")

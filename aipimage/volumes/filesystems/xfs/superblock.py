"""The XFS superblock: geometry, and which features a parser has to know.

"XFS Algorithms & Data Structures", section Superblocks. The limits are those which the format gives
to its fields, as far as they make a difference to where free space is found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.crc32c import crc32c_rows
from aipimage.volumes.filesystems.xfs import layout
from aipimage.volumes.filesystems.xfs.layout import SUPERBLOCK, Records
from aipimage.volumes.view import LayoutError, VolumeView

_AG_BLOCKS_MIN = 64
_AG_BYTES_MAX = 1 << 40
_LOG_BYTES_MAX = 1 << 31


class Superblock(NamedTuple):
    """What a superblock says; every number was checked against the others.

    Attributes:
        version: 4 or 5. blocksize, sectsize, inodesize: bytes. dblocks: blocks in all. agblocks:
            blocks of each allocation group but the last. logstart: first block of the log, counted
            from the start of the volume; logblocks: its length. rootblock: block of the root inode.
        uuid: of the file system. meta_uuid: the one that its structures bear.
        lazy: whether counters of free blocks are only summed up in allocation groups.
        log_v2, rmap, reflink, finobt, realtime: whether it has them.
    """

    version: int
    blocksize: int
    sectsize: int
    inodesize: int
    dblocks: int
    agblocks: int
    agcount: int
    logstart: int
    logblocks: int
    rootblock: int
    fdblocks: int
    uuid: bytes
    meta_uuid: bytes
    lsn: int
    lazy: bool
    log_v2: bool
    rmap: bool
    reflink: bool
    finobt: bool
    realtime: bool

    @property
    def size(self) -> int:
        """Bytes of the volume that it covers."""
        return self.dblocks * self.blocksize

    @property
    def header_blocks(self) -> int:
        """Blocks that the four header sectors of an allocation group take."""
        return -(-4 * self.sectsize // self.blocksize)

    def lengths(self, groups: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Blocks of allocation groups; the last one may be shorter."""
        return np.minimum(self.agblocks, self.dblocks - groups * self.agblocks)


def read_superblock(view: VolumeView) -> Superblock:
    """Return the primary superblock; ``LayoutError`` where it is wrong, or says that the volume is
    not to be used as it is.
    """
    raw = layout.records(view.read_array(0, 512)[None], SUPERBLOCK)[0]
    _require(bytes(raw["magic"]) == layout.SUPERBLOCK_MAGIC, "its superblock has no magic")
    _check_sizes(raw)
    _check_features(raw)
    if _version(raw) == 5:
        sector = view.read_array(0, int(raw["sectsize"]))[None]
        check_crc(sector, 224, "the checksum of its superblock is wrong")
    found = _decoded(raw)
    _check_groups(raw, found)
    if found.size > view.size:
        raise LayoutError(f"its file system has {found.size:,} bytes, and the volume {view.size:,}")
    return found


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise LayoutError(reason)


def _version(raw: np.void) -> int:
    return int(raw["versionnum"]) & layout.VERSION_MASK


def _check_sizes(raw: np.void) -> None:
    """Sizes are powers of two, told twice."""
    version = _version(raw)
    _require(version in (4, 5), f"version {version} of XFS is not known")
    for name, log, low, high in (
        ("blocksize", "blocklog", 10 if version == 5 else 9, 16),
        ("sectsize", "sectlog", 9, 15),
        ("inodesize", "inodelog", 8, 11),
    ):
        size, bits = int(raw[name]), int(raw[log])
        _require(
            low <= bits <= high and size == 1 << bits, f"its {name} is {size}, and {log} {bits}"
        )
    _require(raw["sectsize"] <= raw["blocksize"], "its sectors are larger than its blocks")
    bits = int(raw["blocklog"]) - int(raw["inodelog"])
    _require(
        bits >= 0 and raw["inopblog"] == bits and raw["inopblock"] == 1 << bits,
        "its inodes do not fill its blocks",
    )


def _features2(raw: np.void) -> int:
    """Some kernels wrote the field 4 bytes too far on; then the two are to be joined."""
    if not int(raw["versionnum"]) & layout.VERSION_MOREBITS:
        return 0
    return int(raw["features2"]) | int(raw["bad_features2"])


def _check_features(raw: np.void) -> None:
    _require(not raw["inprogress"], "it is still being made, or grown")
    _require(not raw["shared_vn"], "it is shared in a way that is not known")
    unknown = _features2(raw) & ~layout.FEATURES2_KNOWN
    if _version(raw) == 5:
        incompat, log = int(raw["features_incompat"]), int(raw["features_log_incompat"])
        _require(not incompat & layout.NEEDSREPAIR, "it is marked as in need of repair")
        unknown |= incompat & ~layout.INCOMPAT_KNOWN
        unknown |= int(raw["features_ro_compat"]) & ~layout.RO_KNOWN
        unknown |= log & ~layout.LOG_INCOMPAT_KNOWN
    _require(not unknown, f"it has features that are not known ({unknown:#x})")
    _require(int(raw["logstart"]) != 0, "its log lies on another device")


def _decoded(raw: np.void) -> Superblock:
    version, version_bits = _version(raw), int(raw["versionnum"])
    ro_compat = int(raw["features_ro_compat"]) if version == 5 else 0
    incompat = int(raw["features_incompat"]) if version == 5 else 0
    low_bits = int(raw["agblklog"])
    agblocks = int(raw["agblocks"])
    meta_uuid = raw["meta_uuid"] if incompat & layout.META_UUID else raw["uuid"]

    def linear(block: int) -> int:
        """A block number of the file system is (group << agblklog | block of the group)."""
        group, inside = divmod(block, 1 << low_bits)
        _require(inside < agblocks, f"block {block:#x} lies in no allocation group")
        return group * agblocks + inside

    _require(
        low_bits <= 32 and agblocks >= _AG_BLOCKS_MIN and low_bits == (agblocks - 1).bit_length(),
        f"its allocation groups have {agblocks} blocks, and agblklog is {low_bits}",
    )
    return Superblock(
        version=version, blocksize=int(raw["blocksize"]), sectsize=int(raw["sectsize"]),
        inodesize=int(raw["inodesize"]), dblocks=int(raw["dblocks"]), agblocks=agblocks,
        agcount=int(raw["agcount"]),
        logstart=linear(int(raw["logstart"])), logblocks=int(raw["logblocks"]),
        rootblock=linear(int(raw["rootino"]) >> int(raw["inopblog"])),
        fdblocks=int(raw["fdblocks"]), uuid=raw["uuid"].tobytes(), meta_uuid=meta_uuid.tobytes(),
        lsn=int(raw["lsn"]), lazy=version == 5 or bool(_features2(raw) & layout.LAZYSBCOUNT),
        log_v2=version == 5 or bool(version_bits & layout.VERSION_LOGV2),
        rmap=bool(ro_compat & layout.RO_RMAPBT), reflink=bool(ro_compat & layout.RO_REFLINK),
        finobt=bool(ro_compat & layout.RO_FINOBT), realtime=bool(raw["rblocks"]),
    )  # fmt: skip


def _check_groups(raw: np.void, found: Superblock) -> None:
    """The allocation groups cover all blocks, and the log lies inside of one of them."""
    full = (found.agcount - 1) * found.agblocks
    _require(
        found.agcount > 0
        and found.agblocks * found.blocksize <= _AG_BYTES_MAX
        and full + _AG_BLOCKS_MIN <= found.dblocks <= full + found.agblocks,
        f"{found.agcount} allocation groups of {found.agblocks} blocks do not make "
        f"{found.dblocks} blocks",
    )
    group, inside = divmod(found.logstart, found.agblocks)
    room = min(found.agblocks, found.dblocks - group * found.agblocks)
    _require(
        0 < found.logblocks * found.blocksize <= _LOG_BYTES_MAX
        and inside >= found.header_blocks
        and inside + found.logblocks <= room,
        f"its log of {found.logblocks} blocks lies in no allocation group",
    )
    _require(found.rootblock < found.dblocks, "its root directory lies behind its end")


def check_crc(rows: npt.NDArray[np.uint8], offset: int, reason: str) -> None:
    """Compare the CRC-32C of rows, taken with zeros in its own place at ``offset``."""
    stored = np.ascontiguousarray(rows[:, offset : offset + 4]).view("<u4")[:, 0]
    blank = rows.copy()
    blank[:, offset : offset + 4] = 0
    if (crc32c_rows(blank) ^ np.uint32(0xFFFFFFFF) != stored).any():
        raise LayoutError(reason)


def check_copies(primary: Superblock, sectors: npt.NDArray[np.uint8]) -> None:
    """Compare the superblocks of allocation groups with what is the same in all of them.

    How many groups there are is not: growing writes it to the primary first.
    """
    raw: Records = layout.records(sectors, SUPERBLOCK)
    agree = (
        (raw["magic"] == layout.SUPERBLOCK_MAGIC)
        & (raw["blocksize"] == primary.blocksize)
        & (raw["sectsize"] == primary.sectsize)
        & (raw["agblocks"] == primary.agblocks)
        & (raw["logblocks"] == primary.logblocks)
        & ((raw["versionnum"] & layout.VERSION_MASK) == primary.version)
    )
    if not agree.all():
        raise LayoutError("its superblocks disagree")
    if primary.version == 5:
        check_crc(sectors, 224, "the checksum of a copy of its superblock is wrong")

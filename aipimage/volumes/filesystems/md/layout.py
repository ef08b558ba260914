"""Superblocks of Linux software RAID (md), versions 0.90 and 1.0 to 1.2, and of its bitmap.

Source: Linux, include/uapi/linux/raid/md_p.h (mdp_super_t, struct mdp_superblock_1) and
drivers/md/md-bitmap.h (bitmap_super_t); md(4). Sectors are of 512 bytes.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from aipimage.volumes.view import LayoutError

SECTOR = 512
MAGIC = 0xA92B4EFC
SUPERBLOCK = 4096
MAX_SECTOR = (1 << 64) - 1
ROLES_MAX = (SUPERBLOCK - 256) // 2

# Bits of the feature map of version 1.
BITMAP_OFFSET, RECOVERY_OFFSET, RESHAPE_ACTIVE, BAD_BLOCKS = 1, 2, 4, 8
REPLACEMENT, RAID0_LAYOUT, BITMAP_VERSIONED = 16, 4096, 256
# State of the array and of a disk, and where the words lie, in version 0.90.
CLEAN_90, BITMAP_PRESENT_90 = 1, 1 << 8
ACTIVE_90, SYNC_90, FAULTY_90 = 1 << 1, 1 << 2, 1 << 0
_THIS_DISK_90, _CHECKSUM_90 = 992, 38

_VERSION_1 = struct.Struct("<IIII16s32sQiiQIIiIQIIIIQQQQII16sBBHiQQQII")
_VERSION_1_LENGTH = 256


class Member(NamedTuple):
    """What a superblock says of the array and of the disk that it lies on.

    Attributes:
        version: ``"0.90"``, ``"1.0"``, … uuid: of the array, as ``blkid`` prints it. name: of the
            array. level: 1 for mirrors, -1 for linear. disks: of the array. data: first byte of
            its content on this disk. size: bytes of content. bitmap: where the bitmap lies, bytes;
            0 without one. bitmap_uuid: what the bitmap must have.
        refused: why the content of this disk cannot be trusted; empty where it can.
    """

    version: str
    uuid: str
    name: str
    level: int
    disks: int
    data: int
    size: int
    bitmap: int
    bitmap_uuid: bytes
    refused: str


def places(size: int) -> list[tuple[str, int]]:
    """Return (version, byte of the superblock) for a disk of ``size`` bytes (md(4))."""
    sectors = size // SECTOR
    found = [("1.1", 0), ("1.2", 8 * SECTOR)]
    if sectors >= 16:
        found.append(("1.0", ((sectors - 16) & ~7) * SECTOR))
    if sectors >= 256:
        found.append(("0.90", ((sectors & ~127) - 128) * SECTOR))
    return [(version, at) for version, at in found if at + SUPERBLOCK <= size]


def bears_magic(data: bytes, version: str) -> bool:
    """Whether a superblock of that version is there, whatever else it says."""
    number, major = struct.unpack_from("<II", data)
    if version == "0.90":
        return number in (MAGIC, int.from_bytes(MAGIC.to_bytes(4, "little"), "big"))
    return (number, major) == (MAGIC, 1)


def decode(data: bytes, version: str, at: int, size: int) -> Member:
    """Decode the superblock at byte ``at`` of a disk of ``size`` bytes.

    Raises:
        LayoutError: its checksum or a number in it is wrong.
    """
    return _decode_90(data, at) if version == "0.90" else _decode_1(data, version, at, size)


def _decode_1(data: bytes, version: str, at: int, size: int) -> Member:
    (
        _, _, features, _, uuid, name, _, level, _, content, _, disks, bitmap, _, _, _, _, _, _,
        data_offset, data_size, own, _, number, _, _, _, _, _, _, _, _, resync, crc, roles,
    ) = _VERSION_1.unpack_from(data)  # fmt: skip
    if roles > ROLES_MAX:
        raise LayoutError(f"its superblock names {roles} disks")
    if _checksum_1(data[: _VERSION_1_LENGTH + 2 * roles]) != crc:
        raise LayoutError("its superblock has a wrong checksum")
    if own * SECTOR != at:
        raise LayoutError("its superblock says another place than its own")
    has_bitmap = bool(features & BITMAP_OFFSET)
    length = content if level == 1 else data_size
    role = 0xFFFF if number >= roles else struct.unpack_from("<H", data, 256 + 2 * number)[0]
    refused = _refused_1(features, resync, role, disks)
    return Member(
        version,
        _dashed(uuid),
        name.split(b"\0")[0].decode("utf-8", "replace"),
        level,
        disks,
        data_offset * SECTOR,
        min(length, data_size) * SECTOR,
        at + bitmap * SECTOR if has_bitmap else 0,
        uuid,
        refused,
    )


def _checksum_1(data: bytes) -> int:
    words = data[:216] + bytes(4) + data[220:]
    whole = len(words) // 4 * 4
    total = int(np.frombuffer(words[:whole], "<u4").sum(dtype=np.uint64))
    total += int.from_bytes(words[whole:], "little")
    return ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF


def _refused_1(features: int, resync: int, role: int, disks: int) -> str:
    known = BITMAP_OFFSET | RECOVERY_OFFSET | RESHAPE_ACTIVE | BAD_BLOCKS | REPLACEMENT
    known |= RAID0_LAYOUT | BITMAP_VERSIONED
    if features & RESHAPE_ACTIVE:
        return "its array is being reshaped"
    if features & (RECOVERY_OFFSET | REPLACEMENT):
        return "it is being rebuilt"
    if features & BAD_BLOCKS:
        return "its array knows of bad blocks on it"
    if features & ~known:
        return "its array has features that are not known"
    if resync != MAX_SECTOR:
        return "its array is not clean"
    return "" if role < disks else "it is not an active member of its array"


def _decode_90(data: bytes, at: int) -> Member:
    order: str = "<" if int.from_bytes(data[:4], "little") == MAGIC else ">"
    words = np.frombuffer(data[:SUPERBLOCK], f"{order}u4")
    total = int(words.sum(dtype=np.uint64)) - int(words[_CHECKSUM_90])
    if ((total & 0xFFFFFFFF) + (total >> 32)) & 0xFFFFFFFF != int(words[_CHECKSUM_90]):
        raise LayoutError("its superblock has a wrong checksum")
    major, minor = int(words[1]), int(words[2])
    level = int(words[7].astype(np.int32))
    state, disk_state = int(words[33]), int(words[_THIS_DISK_90 + 4])
    content = int(words[8]) * 1024
    active = disk_state & (ACTIVE_90 | SYNC_90 | FAULTY_90) == ACTIVE_90 | SYNC_90
    refused = ""
    if (major, minor) != (0, 90):
        refused = "its array is being reshaped"
    elif state & ~BITMAP_PRESENT_90 != CLEAN_90:
        refused = "its array is not clean"
    elif not active or int(words[_THIS_DISK_90 + 3]) >= int(words[10]):
        refused = "it is not an active member of its array"
    # A bitmap has the words of the UUID in the order of the machine.
    uuid = words[[5, 13, 14, 15]]
    bitmap = at + SUPERBLOCK if state & BITMAP_PRESENT_90 else 0
    return Member(
        "0.90",
        _dashed(uuid.astype(">u4").tobytes()),
        "",
        level,
        int(words[10]),
        0,
        content if content <= at else 0,
        bitmap,
        uuid.astype("<u4").tobytes(),
        refused,
    )


def _dashed(uuid: bytes) -> str:
    text = uuid.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))

"""Contents that are known by name only, and taken whole.

A kind is named as ``blkid`` names it. Source of the signatures: util-linux,
libblkid/src/superblocks, and for ZFS the ZFS On-Disk Specification, 1.2.
"""

from __future__ import annotations

import numpy as np

from aipimage.volumes.filesystems.signatures import Signature, first_of
from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.view import LayoutError, VolumeView

# Of four bytes or more, so that they hardly occur by chance.
FROM_START = (
    Signature("bcache", 0x1018, bytes.fromhex("c68573f64e1a45ca8265f57f48ba6d81")),
    Signature("bcachefs", 0x1018, bytes.fromhex("c68573f666ce90a9d96a60cf803df7ef")),
    Signature("LVM1_member", 0, b"HM\x01\x00"),
    Signature("LVM1_member", 0, b"HM\x02\x00"),
    Signature("stratis", 0x204, b"!Stra0tis\x86\xff\x02^\x41rh"),
    Signature("stratis", 0x1204, b"!Stra0tis\x86\xff\x02^\x41rh"),
    Signature("ceph_bluestore", 0, b"bluestore block device"),
    Signature("DM_verity_hash", 0, b"verity\0\0"),
    Signature("DM_integrity", 0, b"integrt\0"),
    Signature("vdo", 0, b"dmvdo001"),
    Signature("DM_snapshot_cow", 0, b"SnAp"),
    Signature("storage_spaces", 0, b"SPACEDB "),
    Signature("ReFS", 0, b"\0\0\0ReFS\0"),
    Signature("hpfs", 0x2000, bytes.fromhex("49e895f9")),
    Signature("f2fs", 0x400, bytes.fromhex("1020f5f2")),
    Signature("erofs", 0x400, bytes.fromhex("e2e1f5e0")),
    Signature("squashfs", 0, b"hsqs"),
    Signature("squashfs", 0, b"sqsh"),
    Signature("cramfs", 0, bytes.fromhex("453dcd28")),
    Signature("romfs", 0, b"-rom1fs-"),
    Signature("apfs", 0x20, b"NXSB"),
    Signature("befs", 0x220, b"1SFB"),
    Signature("jfs", 0x8000, b"JFS1"),
    Signature("iso9660", 0x8001, b"CD001"),
    Signature("udf", 0x8001, b"BEA01"),
    Signature("reiserfs", 0x10034, b"ReIsEr"),
    Signature("reiserfs", 0x2034, b"ReIsEr"),
    Signature("reiser4", 0x10000, b"ReIsEr4"),
    Signature("gfs2", 0x10000, bytes.fromhex("0116197000000001")),
    *(Signature("ocfs2", 0x400 << shift, b"OCFSV2") for shift in range(4)),
    *(
        Signature("ufs", start + 0x55C, bytes.fromhex(magic))
        for start in (0x2000, 0x10000)
        for magic in ("54190100", "00011954", "19015419", "19540119")
    ),
)
# The same with places in bytes from the end: fake RAID has its superblock there.
FROM_END = (
    Signature("isw_raid_member", 1024, b"Intel Raid ISM Cfg Sig. "),
    Signature("ddf_raid_member", 512, bytes.fromhex("de11de11")),
    Signature("ddf_raid_member", 512, bytes.fromhex("11de11de")),
    Signature("nvidia_raid_member", 1024, b"NVIDIA"),
    Signature("lsi_mega_raid_member", 512, b"$XIDE$"),
    Signature("adaptec_raid_member", 512, bytes.fromhex("37fc4d1e")),
    Signature("hpt45x_raid_member", 11 * 512, bytes.fromhex("f316785a")),
    Signature("hpt45x_raid_member", 11 * 512, bytes.fromhex("fd16785a")),
    *(
        Signature("promise_fasttrack_raid_member", sectors * 512, b"Promise Technology, Inc.")
        for sectors in (16, 63, 255, 256, 399, 591, 675, 735, 911, 951, 974, 991)
    ),
)
_ZFS_LABEL, _ZFS_UBERBLOCKS, _ZFS_LENGTH, _ZFS_SLOT = 0x4000, 0x20000, 0x20000, 1024
_ZFS_MAGIC, _ZFS_ENOUGH = 0x00BAB10C, 4


def probe(view: VolumeView) -> FileSystem | None:
    """A volume with one of the signatures."""
    try:
        found = first_of(view, FROM_START + _placed(view.size))
        kind = found.kind if found else "zfs_member" if _is_zfs(view) else ""
    except LayoutError:
        return None
    return FileSystem(kind, size=view.size) if kind else None


def _placed(size: int) -> tuple[Signature, ...]:
    size -= size % 512
    return tuple(
        Signature(kind, size - back, magic) for kind, back, magic in FROM_END if back <= size
    )


def _is_zfs(view: VolumeView) -> bool:
    """A label with a list of names and some uberblocks; alone, either may be a remnant."""
    if view.size < _ZFS_UBERBLOCKS + _ZFS_LENGTH:
        return False
    label = view.read(_ZFS_LABEL, 512)
    if label[0] != 1 or b"\0\0\0\x07version\0" not in label:
        return False
    slots = view.read_array(_ZFS_UBERBLOCKS, _ZFS_LENGTH).view(np.uint64)
    firsts = slots[:: _ZFS_SLOT // 8]
    magic = np.isin(firsts, np.array([_ZFS_MAGIC, _swapped(_ZFS_MAGIC)], np.uint64))
    return int(magic.sum()) >= _ZFS_ENOUGH


def _swapped(value: int) -> int:
    return int.from_bytes(value.to_bytes(8, "little"), "big")


PARSER = Parser("opaque", probe, whole_because="it is not known in detail")

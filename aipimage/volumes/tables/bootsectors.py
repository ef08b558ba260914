"""What the first sectors of a disk are where they are not an MBR: a volume's, or another
table's.
"""

from __future__ import annotations

from aipimage.volumes.tables import mbr
from aipimage.volumes.view import LayoutError, VolumeView

_BLOCKS = (512, 1024, 2048, 4096)
_DASD = {b"\xe5\xd6\xd3\xf1", b"\xd3\xd5\xe7\xf1", b"\xc3\xd4\xe2\xf1"}
"""VOL1, LNX1, CMS1 in EBCDIC (Linux, block/partitions/ibm.c)."""
_BSD_MAGIC = (0x82564557).to_bytes(4, "little")
_SUN_MAGIC, _SGI_MAGIC, _AIX_MAGIC = b"\xda\xbe", b"\x0b\xe5\xa9\x41", b"\xc9\xc2\xd4\xc1"
_SIGNS = (
    (0, b"XFSB"),
    (0, b"LUKS\xba\xbe"),
    (512, b"LABELONE"),
    (1024 + 56, b"\x53\xef"),
    (4096 - 10, b"SWAPSPACE2"),
    (65536 + 64, b"_BHRfS_M"),
    ((1 << 20) + 512, b"\x0d\xd0\x01\xc0"),
)
"""Where well-known contents of a partition have their magic: offset in bytes, bytes."""


def other_table(view: VolumeView, head: bytes) -> str | None:
    """Return the name of a partition table that is known by its look alone, or ``None``.

    Sun: 0xDABE at 508, all 16-bit words XOR to 0. SGI: 0x0BE5A941 at 0. Apple: ``ER`` at 0
    and ``PM`` in the next block. BSD: 0x82564557 in the second sector. AIX: its IPL record. DASD: a
    volume label in the third block. All as in Linux, block/partitions.
    """
    if head[:4] == _SGI_MAGIC:
        return "SGI"
    if head[:4] == _AIX_MAGIC:
        return "AIX"
    if head[508:510] == _SUN_MAGIC and not _xor_of(head):
        return "Sun"
    if head[:2] == b"ER" and any(_peek(view, block, 2) == b"PM" for block in _BLOCKS):
        return "Apple"
    if _BSD_MAGIC in (head[64:68], _peek(view, 512, 4)):
        return "BSD"
    if any(_peek(view, 2 * block, 4) in _DASD for block in _BLOCKS):
        return "DASD"
    return None


def _xor_of(sector: bytes) -> int:
    """XOR of the 16-bit words of a sector."""
    total = 0
    for at in range(0, 512, 2):
        total ^= int.from_bytes(sector[at : at + 2], "big")
    return total


def _peek(view: VolumeView, offset: int, length: int) -> bytes:
    """Some bytes, or none where the disk ends or cannot be read."""
    try:
        return view.read(offset, length)
    except LayoutError:
        return b""


def volume_sector(view: VolumeView, head: bytes) -> tuple[str, bool] | None:
    """Return the kind of volume whose boot sector this is, and whether the volume is really there:
    boot code that was copied over a former volume still has its parameters (GRUB keeps them).
    """
    if head[3:11] == b"NTFS    ":
        return "NTFS", _has_mft(view, head)
    if head[3:11] == b"EXFAT   ":
        return "exFAT", _has_exfat_region(view, head)
    if head[3:11] == b"-FVE-FS-":
        return "BitLocker", True
    if _is_fat(head):
        return "FAT", _has_fat(view, head)
    return None


def _has_mft(view: VolumeView, head: bytes) -> bool:
    """Whether the first record of $MFT is where an NTFS boot sector says."""
    sector, shift = _u16(head, 11), head[13]
    # Above 128 the field is a negated power of two.
    per_cluster = shift if shift <= 128 else 1 << 256 - shift
    place = int.from_bytes(head[48:56], "little") * per_cluster * sector
    return _peek(view, place, 4) in (b"FILE", b"BAAD")


def _has_exfat_region(view: VolumeView, head: bytes) -> bool:
    """Whether an extended boot sector follows (exFAT specification, section 3.2)."""
    shift = head[108]
    return 9 <= shift <= 12 and _peek(view, (2 << shift) - 4, 4) == b"\0\0\x55\xaa"


def _is_fat(head: bytes) -> bool:
    """Whether the parameter block of FAT is one (Microsoft FAT specification, section 3.1)."""
    sector, cluster, media = _u16(head, 11), head[13], head[21]
    sectors = _u16(head, 19) or int.from_bytes(head[32:36], "little")
    return (
        sector in _BLOCKS
        and cluster > 0
        and cluster & (cluster - 1) == 0
        and _u16(head, 14) > 0
        and head[16] > 0
        and (media == 0xF0 or media >= 0xF8)
        and sectors > 0
    )


def _has_fat(view: VolumeView, head: bytes) -> bool:
    """Whether a FAT begins after the reserved sectors: its first entry holds the media byte."""
    first = _peek(view, _u16(head, 14) * _u16(head, 11), 2)
    return len(first) == 2 and (first[0] == 0xF0 or first[0] >= 0xF8) and first[1] == 0xFF


def _u16(head: bytes, at: int) -> int:
    return int.from_bytes(head[at : at + 2], "little")


def has_content(view: VolumeView, offset: int, extended: bool) -> bool:
    """Whether something known begins at a byte of the disk: a boot sector, a file system."""
    if mbr.has_magic(_peek(view, offset, 512)):
        return True
    return not extended and any(
        _peek(view, offset + at, len(magic)) == magic for at, magic in _SIGNS
    )


def is_blank(view: VolumeView, start: int, end: int) -> bool:
    """Whether a range of the disk, or its first MiB, holds nothing but zeros."""
    length = min(end - start, 1 << 20)
    data = _peek(view, start, length)
    return len(data) == length and not any(data)

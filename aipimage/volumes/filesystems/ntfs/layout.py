"""Structures of NTFS as they lie on a disk: places, sizes and flags, and no logic.

Sources: the Linux-NTFS project's "NTFS Documentation" (its concepts, attributes and files), whose
sections are named in brackets; Microsoft's "NTFS Technical Reference". Little-endian throughout.
"""

from __future__ import annotations

from struct import Struct

# $Boot: the BIOS parameter block and what follows it.
BOOT_BYTES = 512
BOOT_MAGIC = b"NTFS    "
BOOT_MAGIC_AT = 3
BOOT = Struct("<11xHB26xQQQbxxxbxxxQ")
"""Sector size, clusters' sectors, sectors of the volume, first clusters of $MFT and $MFTMirr,
clusters of a FILE record and of an index record (or the negated logarithm of the bytes), serial."""
SECTOR_SIZES = (256, 512, 1024, 2048, 4096)
CLUSTER_MAX = 2 << 20
RECORD_MIN, RECORD_MAX = 512, 64 << 10
CLUSTERS_MAX = 1 << 40

# Fix-ups: see aipimage/volumes/fixups.py.
FILE_MAGIC, INDEX_MAGIC = b"FILE", b"INDX"

# FILE record, header.
RECORD = Struct("<16xHHHHII8s")
"""Sequence number, hard links, offset of the first attribute, flags, bytes used, bytes allocated,
reference to the base record."""
RECORD_BYTES = RECORD.size + 2
IN_USE, IS_DIRECTORY = 1, 2

# Attribute, header.
ATTRIBUTE = Struct("<IIBBHHH")
"""Type, length, whether it is non-resident, characters and offset of its name, flags, instance."""
RESIDENT = Struct("<16xIH")
"""Length and offset of the value."""
NON_RESIDENT = Struct("<16xqqHBxxxxxqqq")
"""First and last VCN, offset of the mapping pairs, compression unit, bytes allocated, bytes of the
data, bytes initialised."""
ATTRIBUTES_END = 0xFFFFFFFF
COMPRESSED, ENCRYPTED, SPARSE = 0x00FF, 0x4000, 0x8000

# Attribute types.
ATTRIBUTE_LIST, VOLUME_NAME, VOLUME_INFORMATION = 0x20, 0x60, 0x70
DATA, INDEX_ROOT, INDEX_ALLOCATION = 0x80, 0x90, 0xA0

# $ATTRIBUTE_LIST, entry.
LIST_ENTRY = Struct("<IHBBQ8sH")
"""Type, length, characters and offset of the name, first VCN, reference to the record, instance."""
LIST_MAX = 256 << 10

# Files of the system, by their record.
MFT, MFT_MIRROR, LOG_FILE, VOLUME, ROOT, BITMAP, BOOT_FILE = 0, 1, 2, 3, 5, 6, 7
SYSTEM_RECORDS = 16
MIRRORED = 4

# $VOLUME_INFORMATION.
INFORMATION = Struct("<8xBBH")
"""Major and minor version, flags."""
VERSIONS = ((1, 1), (1, 2), (2, 0), (3, 0), (3, 1))
IS_DIRTY, CHKDSK_UNDERWAY = 0x0001, 0x4000

# $INDEX_ROOT, header of a node, entry, and $FILE_NAME as its key.
ROOT_OF_INDEX = Struct("<III")
"""Type of the indexed attribute, collation rule, bytes of an index record."""
NODE = Struct("<IIIB")
"""Offset of the entries, offset past their last byte, bytes allocated, flags."""
NODE_IN_ROOT, NODE_IN_RECORD = 16, 24
ENTRY = Struct("<8xHHH")
"""After the reference to the file: length, length of the key, flags."""
ENTRY_BYTES = 16
HAS_CHILD, IS_LAST = 1, 2
INDEX_OF_NAMES = 0x30
KEY_NAME_AT, KEY_BYTES = 64, 66

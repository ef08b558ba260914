"""Structures of shadow copies on a volume; all numbers are little-endian."""

from __future__ import annotations

import struct

import numpy as np

IDENTIFIER = bytes.fromhex("6b87083876c1484eb7ae04046e6cc752")
VERSIONS = (1, 2)
BLOCK = 16 << 10
"""Bytes of a block, of data as of structures."""

HEADER_AT = 0x1E00
"""Byte of the volume ("Volume header"); on NTFS inside of $Boot, whatever the sizes of sectors and
clusters."""
HEADER = struct.Struct("<16sII24xQ8x16s16s")
"""Identifier, version, record type, place of the catalogue in bytes, identifiers of this volume and
of the one that keeps what was overwritten.
"""
VOLUME, CATALOGUE, DESCRIPTORS, STORE, RANGES, BITMAP = 1, 2, 3, 4, 5, 6
"""Record types ("Store block record types")."""

BLOCK_HEAD = struct.Struct("<16sIIQQQ")
"""Identifier, version, record type, place in the store, place in the volume, place of the next
block in the volume or 0 ("Catalog block header", "Store block header").
"""
HEAD_BYTES = 128

ENTRY_BYTES = 128
ENTRY_KIND = struct.Struct("<Q")
UNUSED, COPY, PLACES = (0, 1), 2, 3
"""Kinds of entries of the catalogue."""
ENTRY_COPY = struct.Struct("<8xQ16sQQQ")
"""Bytes of the volume, identifier of the store, sequence, flags, time as a FILETIME ("Catalog entry
type 0x02").
"""
ENTRY_PLACES = struct.Struct("<8xQ16sQQQ16xQ")
"""Places of the descriptors, the identifier, places of header, ranges, bitmap and the bitmap of the
copy before ("Catalog entry type 0x03").
"""

DESCRIPTOR = np.dtype(
    [
        ("original", "<u8"),
        ("relative", "<u8"),
        ("place", "<u8"),
        ("flags", "<u4"),
        ("sectors", "<u4"),
    ]
)
"""Byte of the volume that is kept, byte of the store, byte of the volume where it is kept, flags,
and of an overlay a bit for each 512 bytes ("Block descriptor").
"""
FORWARDER, OVERLAY, NOT_USED = 1, 2, 4
FLAGS_KNOWN = 0xFF
SECTOR = 512
RANGE = np.dtype([("place", "<u8"), ("relative", "<u8"), ("size", "<u8")])
"""What of the volume a store occupies ("Store block range entry")."""

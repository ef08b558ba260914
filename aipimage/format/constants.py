"""Constants of the `.aiv` format; tests compare each with the text of docs/format.md."""

from __future__ import annotations

from enum import IntEnum, IntFlag

MAJOR, MINOR = 1, 0

# Section 3
HEADER_MAGIC = b"\x89AIV\r\n\x1a\n"
CORE_FIXED = 120
CORE_TAIL = 64
CORE_MIN = CORE_FIXED + CORE_TAIL
CORE_MAX = 1_048_576
SECTION_FEATURE_NAMES, SECTION_CREATOR = 1, 2
DIGEST_BLAKE3 = 1

# Section 4
KEY_AREA_LENGTH = 4096
KEY_COPIES = 2
TAG = 16
SUITE_NONE, SUITE_AES_128_GCM, SUITE_AES_256_GCM, SUITE_AES_256_GMAC = range(4)

# Section 5
RECORD_MAGIC = b"AIVR"
RECORD_HEADER = 40
CHECK = 16
BODY_MAX = 4_456_448
PLAIN_MAX = 4_194_304
REFERENCE = 64
FRAME_EXTENT = 12
ZSTD_WINDOW_MAX = 8 * 1024 * 1024

# Sections 6 to 8
LEAF_FRAMES = 1024
INDEX_ENTRIES = 512
INDEX_LEVELS = 8
MAP_LEVELS = 8
INLINE_EXTENTS = 16
POSITION_LIMIT = 1 << 56
FRAMES_MAX = POSITION_LIMIT >> 3
"""Frames of an origin: the smallest frame holds 8 of the sectors below that limit."""
BLOCK = 65_536
BLOCK_DIGEST = 16
LAYER_ENTRIES = 4096
LAYERS_MAX = 16

# Sections 9 to 12
METADATA_MAX = 1_048_576
METADATA_DEPTH = 32
DEVICES_MAX = 1024
DEVICE_SIZE_MAX = 1 << 57
ORIGINS_MAX = 8192
NAMED_MAX = 65_535
"""Origins that an image names, all pages together: a column of 16 bits numbers them."""
NAME_MAX = 255
REPLACED_MAX = 4096
CHAIN_MAX = 4096
STREAM_MAX = (1 << 63) - 1
SEGMENTS_MAX = 65_536
TRAILER_MAGIC = b"AIVTRAIL"
TRAILER = 256
SPARE_GAP = 4096
"""Zero bytes at both ends of the spare area: more than a sector of any disk."""
SPARE_MIN = 8803
PART_MAGIC, PART_END_MAGIC = b"AIVPART1", b"AIVPEND1"
PART_RECORD = 128
PARTS_MAX = 65_536

ZERO_ID = bytes(16)
ZERO_DIGEST = bytes(32)


class RecordType(IntEnum):
    """Section 5."""

    FRAME = 1
    TABLE_LEAF = 2
    INDEX = 3
    MAP = 4
    DIGEST_LEAF = 5
    METADATA = 6
    CHECKPOINT = 7
    CONTINUATION = 8
    SEGMENTS = 9
    SEAL = 10
    DIGEST_LAYER = 11
    LAYER_LEAF = 12


class Codec(IntEnum):
    """Section 5."""

    NONE = 0
    ZSTD = 1


class Incompatible(IntFlag):
    """Section 3.1."""

    SEALED_RECORDS = 1
    ZSTD = 2
    FOREIGN_ORIGINS = 4
    DIGEST_LAYERS = 8


class Compatible(IntFlag):
    """Section 3.1."""

    BLOCK_DIGESTS = 1
    CHECKPOINTS = 2


FEATURE_NAMES: dict[tuple[int, int], str] = {
    (0, 0): "sealed-records",
    (0, 1): "zstd",
    (0, 2): "foreign-origins",
    (0, 3): "digest-layers",
    (1, 0): "block-digests",
    (1, 1): "checkpoints",
}
"""(kind, bit) to name, as in the feature name table."""


class ImageKind(IntEnum):
    """Section 9."""

    FULL = 1
    INCREMENTAL = 2
    DIFFERENTIAL = 3

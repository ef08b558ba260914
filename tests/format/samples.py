"""Valid values of every structure, each using every field that it has."""

from __future__ import annotations

import numpy as np

from aipimage.extents import Kind, extent_array
from aipimage.format import constants as c
from aipimage.format.checkpoint import NOTE_DTYPE, Checkpoint, Continuation
from aipimage.format.digest import digest
from aipimage.format.header import Header
from aipimage.format.keyarea import STATE_PASSWORD, Slot
from aipimage.format.layers import Layer, LayerLeaf
from aipimage.format.mappage import MapPage, page_sectors
from aipimage.format.origins import OriginEntry
from aipimage.format.parts import PartFooter, PartHeader
from aipimage.format.record import NO_REFERENCE, RecordHeader, Reference, encode_record_header
from aipimage.format.seal import Seal, SealDevice
from aipimage.format.segments import Segment
from aipimage.format.tables import IndexEntry, encode_frame_entry, encode_frame_extents
from aipimage.format.trailer import Trailer

STRIPE_SHIFT, FANOUT_SHIFT, FRAME_SIZE = 20, 2, 65_536
STRIPE = page_sectors(0, STRIPE_SHIFT, FANOUT_SHIFT)
STREAM = 1 << 20


def some_id(number: int) -> bytes:
    """Return the id that stands for ``number`` in these samples."""
    return digest(b"id %d" % number)[:16]


def ref(number: int, offset: int = 4096, length: int = 300) -> Reference:
    """Return a reference of the origin ``some_id(1)``."""
    return Reference(some_id(1), offset, length, 512, digest(b"record %d" % number))


PLAIN_HEADER = Header(
    some_id(1), some_id(2), -1, compatible=3, incompatible=2, creator="aipimage 0.1.0"
)
SEALED_HEADER = Header(
    some_id(1),
    some_id(2),
    1_700_000_000_000_000,
    c.SUITE_AES_256_GCM,
    incompatible=c.Incompatible.SEALED_RECORDS | c.Incompatible.FOREIGN_ORIGINS,
    key_commitment=digest(b"commitment"),
    creator="größer",
    header_mac=digest(b"mac"),
)
RECORD = RecordHeader(c.RecordType.FRAME, c.Codec.ZSTD, 2, 100 + 24 + 16, 1024, some_id(1), 7)
EXTENTS = encode_frame_extents([5, (3 << 48) + 9], [1, 1])


def whole_record(header: RecordHeader = RECORD) -> bytes:
    """Return a record with a body of the stated length and the right check."""
    body = (b"\xa5" * header.body_length)[: header.body_length]
    data = encode_record_header(header) + body
    return data + digest(data)[: c.CHECK]


FRAME_ENTRIES = [(4096, 65_536 + 68, FRAME_SIZE, digest(b"a")), (99_999, 300, 512, digest(b"b"))]
LEAF_ENTRIES = b"".join(encode_frame_entry(*entry) for entry in FRAME_ENTRIES)
INDEX = [IndexEntry(0, ref(1)), IndexEntry(1024, ref(2, 9000))]
LAYER = Layer(ref(1), ref(2), limit=70, entries=4097, depth=2, base_name=b"0.aiv")
LAYER_LEAF = LayerLeaf(
    np.array([16, 17, 1 << 40], np.uint64), np.frombuffer(bytes(range(32)) + bytes(16), "V16")
)
MAP_PAGE = MapPage(
    device=1, level=2, first=0, sectors=3 * STRIPE + 11,
    extents=extent_array([
        (STRIPE, 0, 0, Kind.PAGE), (500, 70_000, 1, Kind.DATA), (48, 0, 0, Kind.UNREADABLE),
        (500, 5, 0, Kind.DATA), (STRIPE - 1048, 0, 0, Kind.UNUSED), (STRIPE, 0, 0, Kind.ZERO),
        (11, 0, 0, Kind.PAGE),
    ]),
    origins=(some_id(1), some_id(2)), refs=(ref(1), ref(2)),
    entries=tuple(
        OriginEntry(each, some_id(3), 0, NO_REFERENCE, b"0.aiv")
        for each in sorted((some_id(1), some_id(3)))
    ),
)  # fmt: skip
DEVICES = (
    SealDevice(1_000_000, 512, 0, 1000, 500, 400, 50, 4, ref(3), ref(4)),
    SealDevice(4096, 4096, 1, 0, 8, 0, 0, 0, ref(5)),
)
ORIGINS = (
    OriginEntry(some_id(1), some_id(1), 2, ref(6)),
    OriginEntry(some_id(2), some_id(3), 1, ref(7), "größer.aiv".encode()),
)
FULL_SEAL = Seal(
    some_id(1), some_id(2), c.ImageKind.FULL, digest(b"header"), 9, ref(8), ref(9), DEVICES, ORIGINS
)
INCREMENT_SEAL = Seal(
    some_id(1), some_id(2), c.ImageKind.INCREMENTAL, digest(b"header"), 9, ref(8), ref(9), DEVICES,
    ORIGINS, some_id(4), digest(b"parent"), 6, 5, c.ImageKind.DIFFERENTIAL, (ref(10), ref(11)),
)  # fmt: skip
DIFFERENTIAL_SEAL = Seal(
    some_id(1), some_id(2), c.ImageKind.DIFFERENTIAL, digest(b"header"), 9, ref(8), ref(9),
    DEVICES[1:], ORIGINS[:1], some_id(4), digest(b"parent"), 6, 5, c.ImageKind.FULL,
)  # fmt: skip
SEGMENTS = [
    Segment(*row)
    for row in sorted(
        [(some_id(1), 0, 5000, 0), (some_id(1), 6000, 100, 5000), (some_id(2), 5000, 77, 9000)]
    )
]
NOTES = [(0, 8, Kind.UNUSED), ((1 << 48) + 5, 3, Kind.UNREADABLE)]
CHECKPOINT = Checkpoint(1, 4096, np.array(NOTES, NOTE_DTYPE), 77, digest(b"running"))
CONTINUATION = Continuation(some_id(1), 70_000, 1_700_000_000_000_000, 78, digest(b"going on"))
TRAILER = Trailer(
    STREAM,
    ref(1, STREAM - 12_000),
    some_id(1),
    some_id(2),
    digest(b"header"),
    ref(2, STREAM - 13_000),
    spare_length=9000,
)
PART_HEADER = PartHeader(some_id(1), 2, 1 << 30)
PART_FOOTER = PartFooter(some_id(1), 2, 1 << 30, 4096, True)
SLOT = Slot(STATE_PASSWORD, 65_536, 3, 4, some_id(5), 1_700_000_000_000_000, "größer")

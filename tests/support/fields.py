"""The fields of every structure of a small image, as (name, offset, bytes), from docs/format.md."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from aipimage.format.constants import RecordType
from tests.support.forge import Record, origin_places


class Field(NamedTuple):
    """An unsigned little-endian field, or an id or digest of 16 or 32 bytes."""

    name: str
    at: int
    size: int


def _fields(base: int, layout: str, prefix: str = "") -> list[Field]:
    """``"name:size name:size"`` one after the other from ``base`` on."""
    found = []
    for word in layout.split():
        name, size = word.split(":")
        found.append(Field(prefix + name, base, int(size)))
        base += int(size)
    return found


REFERENCE = "origin:16 offset:8 record_length:4 plain_length:4 digest:32"
CORE = _fields(
    0,
    "magic:8 major:2 minor:2 core_length:4 incompatible:8 compatible:8 file_id:16 chain_id:16 "
    "created:8 suite:1 frame_shift:1 stripe_shift:1 fanout_shift:1 digest:1 key_copies:1 "
    "reserved1:2 key_area_length:4 reserved2:4 key_commitment:32 "
    "section_type:2 section_reserved:2 section_length:4 feature_kind:1 feature_bit:1",
)
TRAILER = (
    _fields(0, "magic:8 major:2 minor:2 reserved1:4 stream_length:8")
    + _fields(24, REFERENCE, "seal.")
    + _fields(88, REFERENCE, "segments.")
    + _fields(152, "file_id:16 image_id:16 spare_length:8 header_digest:32")
)
_SEAL = (
    "image_id:16 chain_id:16 parent_id:16 parent_digest:32 sequence:4 parent_sequence:4 kind:1 "
    "parent_kind:1 device_count:2 origin_count:2 replaced_count:2 header_digest:32 record_count:8"
)
_DEVICE = (
    "size:8 sector_size:4 map_level:1 reserved1:3 unused:8 zero:8 data:8 unreadable:8 lost:8 "
    "reserved2:8"
)
_ORIGIN = "origin:16 holder:16 frame_count:8"
_MAP = (
    "first:8 sectors:8 device:4 extent_count:4 ref_count:4 origin_count:2 entry_count:2 level:1 "
    "reserved:3"
)


def fields_of(record: Record) -> list[Field]:
    """The fields of a page, leaf or seal; of repeated ones the first, second and last."""
    makers = {
        RecordType.SEAL: _seal_fields,
        RecordType.MAP: _map_fields,
        RecordType.TABLE_LEAF: _leaf_fields,
        RecordType.INDEX: _index_fields,
        RecordType.DIGEST_LEAF: _digest_fields,
        RecordType.METADATA: _metadata_fields,
        RecordType.CHECKPOINT: _checkpoint_fields,
    }
    return list(makers[RecordType(record.type)](record.plain))


def _ends(count: int) -> list[int]:
    return sorted({0, 1, count - 1} & set(range(count)))


def _seal_fields(plain: bytes) -> Iterator[Field]:
    devices, origins = struct.unpack_from("<HH", plain, 90)
    yield from _fields(0, _SEAL)
    yield from _fields(136, REFERENCE, "description.")
    yield from _fields(200, REFERENCE, "result.")
    for n in _ends(devices):
        at = 264 + 192 * n
        yield from _fields(at, _DEVICE, f"device{n}.")
        yield from _fields(at + 64, REFERENCE, f"device{n}.map_root.")
        yield from _fields(at + 128, REFERENCE, f"device{n}.digest_root.")
    places = origin_places(plain, 264 + 192 * devices, origins)
    for n in _ends(origins):
        at = places[n]
        yield from _fields(at, _ORIGIN, f"origin{n}.")
        yield from _fields(at + 40, REFERENCE, f"origin{n}.table_root.")
        yield from _fields(at + 104, "name_length:1", f"origin{n}.")


def _map_fields(plain: bytes) -> Iterator[Field]:
    yield from _fields(0, _MAP)
    count, refs = struct.unpack_from("<II", plain, 20)
    at = 36
    for n in range(struct.unpack_from("<H", plain, 28)[0]):
        yield Field("origins", at + 16 * n, 16)
        at += 16
    for name, size in (("lengths", 8), ("steps", 8), ("origin_index", 2), ("kinds", 1)):
        yield from (Field(name, at + size * n, size) for n in _ends(count))
        at += size * count
    for n in _ends(refs):
        yield from _fields(at + 64 * n, REFERENCE, f"ref{n}.")


def _leaf_fields(plain: bytes) -> Iterator[Field]:
    yield from _fields(0, "first:8 count:4 reserved:4")
    for n in _ends((len(plain) - 16) // 48):
        layout = "offset:8 record_length:4 plain_length:4 digest:32"
        yield from _fields(16 + 48 * n, layout, f"frame{n}.")


def _index_fields(plain: bytes) -> Iterator[Field]:
    yield from _fields(0, "level:4 count:4")
    for n in _ends((len(plain) - 8) // 72):
        yield from _fields(8 + 72 * n, "key:8 " + REFERENCE, f"entry{n}.")


def _digest_fields(plain: bytes) -> Iterator[Field]:
    yield from _fields(0, "first:8 count:4 reserved:4 digest:16")


def _metadata_fields(plain: bytes) -> Iterator[Field]:
    yield from (Field("text", at, 1) for at in _ends(len(plain)))


def _checkpoint_fields(plain: bytes) -> Iterator[Field]:
    yield from _fields(0, "device:4 count:4 sector:8")


def boundary_values(old: bytes) -> list[bytes]:
    """About twenty values of a field's width, the old one left out."""
    bits = 8 * len(old)
    now, top = int.from_bytes(old, "little"), (1 << bits) - 1
    values = {0, 1, 2, 3, 4, 7, 8, 9, 255, 256, 511, 512, 513, 4096, 65_535, 65_536, 1 << 31}
    values |= {top, top - 1, top >> 1, (top >> 1) + 1, (1 << 56) - 1, 1 << 57, 1 << 47}
    values |= {now + 1, now - 1, now * 2, now // 2, now ^ (1 << (bits - 1)), now + 512}
    if bits > 64:
        values = {0, 1, top, now ^ 1, now ^ (1 << (bits - 1)), (top // 255) * 0x55}
    return [v.to_bytes(len(old), "little") for v in sorted(values) if 0 <= v <= top and v != now]

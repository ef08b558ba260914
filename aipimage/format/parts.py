"""Part headers and footers of a split image: docs/format.md, section 12."""

from __future__ import annotations

import struct
from typing import NamedTuple

from aipimage.errors import FormatError, IncompleteError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.digest import digest
from aipimage.format.gates import verified_equal, verified_limit, verified_range, verified_zero

_FIELDS = struct.Struct("<8s16sIIQQ48s")
_LAST = 1


class PartHeader(NamedTuple):
    """What each part begins with."""

    set_id: bytes
    number: int
    start: int


class PartFooter(NamedTuple):
    """What each part ends with; ``last`` says that no part follows."""

    set_id: bytes
    number: int
    start: int
    length: int
    last: bool


def encode_part_header(header: PartHeader) -> bytes:
    """Return 128 bytes."""
    return _encode(c.PART_MAGIC, header.set_id, header.number, 0, header.start, 0)


def decode_part_header(data: bytes | memoryview) -> PartHeader:
    """Decode the first 128 bytes of a part."""
    set_id, number, flags, start, length = _decode(data, c.PART_MAGIC, "part header")
    verified_equal((flags, length), (0, 0), "reserved field of a part header")
    return PartHeader(set_id, number, start)


def encode_part_footer(footer: PartFooter) -> bytes:
    """Return 128 bytes."""
    flags = _LAST if footer.last else 0
    return _encode(
        c.PART_END_MAGIC, footer.set_id, footer.number, flags, footer.start, footer.length
    )


def decode_part_footer(data: bytes | memoryview) -> PartFooter:
    """Decode the last 128 bytes of a part."""
    set_id, number, flags, start, length = _decode(data, c.PART_END_MAGIC, "part footer")
    verified_limit(flags, _LAST, "flags of a part footer")
    verified_range(length, 1, c.STREAM_MAX - start, "length of a part")
    return PartFooter(set_id, number, start, length, bool(flags & _LAST))


def _encode(magic: bytes, set_id: bytes, number: int, flags: int, start: int, length: int) -> bytes:
    body = _FIELDS.pack(magic, set_id, number, flags, start, length, b"")
    return body + digest(body)


def _decode(data: bytes | memoryview, magic: bytes, what: str) -> tuple[bytes, int, int, int, int]:
    if len(data) != c.PART_RECORD:
        raise IncompleteError(f"the {what} is cut short")
    found, set_id, number, flags, start, length, reserved = _FIELDS.unpack_from(data)
    if found != magic:
        # What begins as a part and does not end as one was cut short; the rest is not a part at
        # all.
        refusal = IncompleteError if magic == c.PART_END_MAGIC else FormatError
        raise refusal(f"there is no {what} where one must be: the part is cut short or foreign")
    if digest(data[:96]) != data[96:]:
        raise IntegrityError(f"the {what} is damaged: its digest does not match")
    verified_range(number, 1, c.PARTS_MAX, "number of a part")
    verified_limit(start, c.STREAM_MAX, "start of a part")
    verified_zero(reserved, what)
    return set_id, number, flags, start, length

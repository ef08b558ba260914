"""The smallest image of docs/format.md, section 16, made by the library and told field by field.

``python -m tests.format.smallest`` prints the text of the section.
"""

from __future__ import annotations

import io
import platform
from collections.abc import Iterator
from unittest import mock

from aipimage.format import constants as c
from aipimage.format.record import decode_record_header, payload_length
from aipimage.format.seal import decode_seal
from aipimage.format.trailer import Trailer, decode_trailer, trailer_copy
from aipimage.io.creating import heading
from aipimage.io.creating.options import CreateOptions
from aipimage.io.increment.create import create_image
from aipimage.io.records.walk import walk_records
from aipimage.io.stream.spare import metadata_copies
from tests.support.deterministic import deterministic

CONTENT = b"The smallest image holds one sector.".ljust(512, b".")
_WIDTH = 16


class _Stream:
    """Bytes, as a walk reads them."""

    name = "smallest"

    def __init__(self, data: bytes) -> None:
        self.data, self.size = data, len(data)

    def pread(self, length: int, offset: int) -> bytearray:
        return bytearray(self.data[offset : offset + length])


def build() -> bytes:
    """One device of one sector, plain, nothing compressed, no block digests."""
    out = io.BytesIO()
    options = CreateOptions(compress="none", block_digests=False)
    with (
        deterministic(seed=16),
        mock.patch.object(platform, "node", return_value="host"),
        mock.patch.object(heading, "__version__", "1"),
    ):
        create_image(out, [io.BytesIO(CONTENT)], options)
    return out.getvalue()


def pieces(data: bytes) -> Iterator[tuple[str, int, int]]:
    """(title, start, end) of every piece of the image, without gaps."""
    length = int.from_bytes(data[12:16], "little")
    yield "header core: fixed fields (3)", 0, c.CORE_FIXED
    yield "header core: sections (3)", c.CORE_FIXED, length - c.CORE_TAIL
    yield "header core: `header_mac`, `header_digest`", length - c.CORE_TAIL, length
    trailer = decode_trailer(data[-c.TRAILER :], len(data))
    end = trailer.records_end
    for records in walk_records(_Stream(data), length, end, 0):
        for walked in records:
            yield from _record_pieces(walked.offset, bytes(walked.data))
    yield from _spare_pieces(data, trailer)
    yield "trailer (10)", len(data) - c.TRAILER, len(data)


def _spare_pieces(data: bytes, trailer: Trailer) -> Iterator[tuple[str, int, int]]:
    seal = decode_seal(data[trailer.seal.offset + c.RECORD_HEADER : trailer.records_end - c.CHECK])
    start, copies = trailer.records_end, metadata_copies(trailer, seal.description, seal.result)
    places = [
        ("4096 zero bytes", start),
        ("copy of the header core", trailer.core_copy),
        ("copy of metadata 0", copies[0]),
        ("copy of metadata 1", copies[1]),
        ("copy of seal 0", trailer.seal_copy),
        ("copy of the trailer", trailer_copy(len(data))),
        ("4096 zero bytes", len(data) - c.TRAILER - c.SPARE_GAP),
    ]
    ends = [*(at for _, at in places[1:]), len(data) - c.TRAILER]
    for (name, at), end in zip(places, ends, strict=True):
        yield f"spare area: {name} (10.1)", at, end


def _record_pieces(at: int, data: bytes) -> Iterator[tuple[str, int, int]]:
    header = decode_record_header(data)
    name = c.RecordType(header.type).name.lower().replace("_", " ")
    payload = at + c.RECORD_HEADER + payload_length(header, 0)
    yield f"{name} {header.number}: record header (5)", at, at + c.RECORD_HEADER
    yield f"{name} {header.number}: payload", at + c.RECORD_HEADER, payload
    end = at + len(data) - c.CHECK
    if payload < end:
        yield f"{name} {header.number}: extents (6.1)", payload, end
    yield f"{name} {header.number}: check", end, at + len(data)


def section() -> str:
    """The text of section 16 after its first paragraph."""
    data = build()
    lines = ["```"]
    for title, start, end in pieces(data):
        lines.append(f"# {title}")
        lines += _hex_lines(data, start, end)
    return "\n".join([*lines, "```", ""])


def _hex_lines(data: bytes, start: int, end: int) -> Iterator[str]:
    skipped = False
    for at in range(start, end, _WIDTH):
        row = data[at : min(end, at + _WIDTH)]
        same = start < at and at + _WIDTH < end and row == data[at - _WIDTH : at]
        if not same:
            text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
            yield f"{at:06x}  {row.hex(' '):<47}  {text}"
        elif not skipped:
            yield "*"
        skipped = same


if __name__ == "__main__":
    print(section(), end="")

"""Where the parts of an image's end lie, in its bytes (docs/format.md, section 10)."""

from __future__ import annotations

TRAILER = 256
GAP = 4096
WAYS = ("trailer", "copy")


def records_end(data: bytes | bytearray | memoryview) -> int:
    """Where the spare area begins, as the trailer says."""
    end = len(data) - TRAILER
    return end - int.from_bytes(data[end + 184 : end + 192], "little")


def spare_length(data: bytes | bytearray | memoryview) -> int:
    """Bytes of the spare area: what every image costs beside its records and trailer."""
    return len(data) - TRAILER - records_end(data)


def trailer_copy(data: bytes | bytearray | memoryview) -> int:
    """Where the copy of the trailer begins."""
    return len(data) - 2 * TRAILER - GAP


def damage_trailers(data: bytearray) -> None:
    """Flip a bit of the trailer's digest, and of its copy's."""
    for at in (len(data), trailer_copy(data) + TRAILER):
        data[at - 1] ^= 1


def damage_seals(data: bytearray) -> None:
    """Flip a bit of the seal record's check, and of its copy's."""
    for at in (records_end(data), trailer_copy(data)):
        data[at - 1] ^= 1

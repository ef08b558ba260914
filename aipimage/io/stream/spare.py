"""Taking what is damaged from its copy in the spare area (docs/format.md, section 10.1).

A stream that was healed returns the right bytes to every later read. Nothing is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from aipimage.errors import FormatError, IntegrityError, UnsupportedError, reworded
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.header import Header, decode_core, decode_core_length
from aipimage.format.record import (
    NO_REFERENCE,
    Reference,
    decode_record_header,
    verified_against,
    verified_record,
)
from aipimage.format.trailer import Trailer, decode_trailer, spare_length, trailer_copy

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from aipimage.io.stream.instream import InStream

WHOLE = "the image reads whole from the other copy; repairing makes a new image with both"

_KINDS = {RecordType.SEGMENTS: "segments record"}


class Healable(Protocol):
    """A stream whose bytes can be put right for its readers."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def size(self) -> int:
        """Bytes."""

    @property
    def first_piece(self) -> int:
        """Bytes of it that lie in its first part, all where it is not split."""

    def pread(self, length: int, offset: int) -> bytearray:
        """Return exactly ``length`` bytes."""

    def heal(self, offset: int, data: bytes, what: str) -> None:
        """Return ``data`` to every later read at ``offset``; it is the copy of ``what``."""


def read_trailer(stream: Healable) -> Trailer:
    """The trailer, or its copy where it is damaged.

    Raises:
        IncompleteError: there is none. IntegrityError, FormatError: it is wrong, and the copy too.
    """
    size = stream.size
    try:
        end = stream.pread(min(c.TRAILER, size), max(0, size - c.TRAILER))
        return decode_trailer(memoryview(end), size)
    except UnsupportedError:
        raise
    except (FormatError, IntegrityError) as error:
        copy = _trailer_copy(stream)
        if copy is None and isinstance(error, IntegrityError):
            raise reworded(error, f"{error}, and there is no whole copy: repair it") from error
        if copy is None:
            raise
        stream.heal(size - c.TRAILER, copy, "trailer")
        return decode_trailer(copy, size)


def _trailer_copy(stream: Healable) -> bytes | None:
    at = trailer_copy(stream.size)
    if at < c.CORE_MIN:
        return None
    copy = bytes(stream.pread(c.TRAILER, at))
    with contextlib.suppress(FormatError, IntegrityError):
        decode_trailer(copy, stream.size)
        return copy
    return None


def healed_core(stream: Healable) -> Header | None:
    """The header from the copy of the core, which takes the original's place; ``None`` where no
    whole copy is found.
    """
    with contextlib.suppress(FormatError, IntegrityError):
        trailer = read_trailer(stream)
        core = _copied_core(stream, trailer)
        header = decode_core(core)
        if header.header_digest == trailer.header_digest:
            stream.heal(0, core, "header")
            return header
    return None


def _copied_core(stream: Healable, trailer: Trailer) -> bytes:
    head = bytes(stream.pread(c.CORE_FIXED, trailer.core_copy))
    length = min(decode_core_length(head), trailer.segments_copy - trailer.core_copy)
    return bytes(stream.pread(length, trailer.core_copy))


def heal_record(
    stream: Healable, ref: Reference, kind: RecordType, place: int, copy: int, tag: int
) -> bool:
    """Put the copy of a record in the original's place, if it is the one that ``ref`` means.

    Args:
        place, copy: where original and copy begin in the stream.
    """
    with contextlib.suppress(FormatError, IntegrityError):
        data = bytes(stream.pread(ref.record_length, copy))
        verified_against(data, ref, kind, tag)
        stream.heal(place, data, _KINDS.get(kind, kind.name.lower()))
        return True
    return False


def metadata_copies(trailer: Trailer, description: Reference, result: Reference) -> tuple[int, int]:
    """Where the copies of the two metadata records begin."""
    second = trailer.segments_copy - result.record_length
    return second - description.record_length, second


def healed_warnings(name: str, healed: Sequence[str]) -> tuple[str, ...]:
    """Sentences on what was read from its copy."""
    return tuple(
        f"{name}: its {what} is damaged and was read from its copy; repair the image to have "
        "both again"
        for what in healed
    )


# Verification


def spare_damage(
    stream: InStream, trailer: Trailer, places: Sequence[tuple[str, Reference, int]] | None
) -> Iterator[str]:
    """Yield what is damaged of the originals and copies of core, trailer, and small records.

    Args:
        places: (what, reference, place of the original) of description and result; ``None``
            where they are unknown without keys, so that only their copies are looked at.
    """
    yield from _trailers(stream, trailer)
    yield from _cores(stream, trailer)
    yield from _compared(stream, "seal", trailer.seal, trailer.seal.offset, trailer.seal_copy)
    if trailer.segments != NO_REFERENCE:
        ref = trailer.segments
        yield from _compared(stream, "segments record", ref, ref.offset, trailer.segments_copy)
    if places is None:
        yield from _walked(stream, trailer)
    else:
        yield from _metadata(stream, trailer, places)
    yield from _gaps(stream, trailer)


def _sides(first: bool, second: bool, what: str) -> Iterator[str]:
    if not first:
        yield f"the {what} is damaged" + (f"; {WHOLE}" if second else ", and so is its copy")
    elif not second:
        yield f"the copy of the {what} in the spare area is damaged; {WHOLE}"


def _trailers(stream: InStream, trailer: Trailer) -> Iterator[str]:
    size = stream.size
    sides = [stream.pread_raw(c.TRAILER, at) for at in (size - c.TRAILER, trailer_copy(size))]
    first, second = (_is_trailer(side, size) for side in sides)
    yield from _sides(first, second, "trailer")


def _is_trailer(data: Buffer, size: int) -> bool:
    with contextlib.suppress(FormatError, IntegrityError):
        decode_trailer(memoryview(data), size)
        return True
    return False


def _cores(stream: InStream, trailer: Trailer) -> Iterator[str]:
    first, second = (_is_core(stream, at, trailer) for at in (0, trailer.core_copy))
    yield from _sides(first, second, "header")


def _is_core(stream: InStream, at: int, trailer: Trailer) -> bool:
    with contextlib.suppress(FormatError, IntegrityError):
        length = decode_core_length(bytes(stream.pread_raw(c.CORE_FIXED, at)))
        core = decode_core(bytes(stream.pread_raw(length, at)))
        return core.header_digest == trailer.header_digest
    return False


def _compared(stream: InStream, what: str, ref: Reference, place: int, copy: int) -> Iterator[str]:
    first, second = (_is_record(stream, ref, at) for at in (place, copy))
    yield from _sides(first, second, what)


def _is_record(stream: InStream, ref: Reference, at: int) -> bool:
    with contextlib.suppress(FormatError, IntegrityError):
        data = memoryview(stream.pread_raw(ref.record_length, at))
        return verified_record(data) == ref.digest
    return False


def _metadata(
    stream: InStream, trailer: Trailer, places: Sequence[tuple[str, Reference, int]]
) -> Iterator[str]:
    (first, description, at), (second, result, other) = places
    copies = metadata_copies(trailer, description, result)
    core = copies[0] - trailer.core_copy
    lengths = [core, description.record_length, result.record_length]
    lengths += [trailer.segments.record_length, trailer.seal.record_length]
    if core < c.CORE_MIN or spare_length(*lengths) != trailer.spare_length:
        yield "the spare area has another length than its copies"
        return
    yield from _compared(stream, first, description, at, copies[0])
    yield from _compared(stream, second, result, other, copies[1])


def _walked(stream: InStream, trailer: Trailer) -> Iterator[str]:
    """Whether two whole records lie between the copies of core and segments."""
    try:
        header = decode_core(_copied_core(stream, trailer))
        at, tag = trailer.core_copy + header.core_length, c.TAG if header.suite else 0
        for _ in range(2):
            head = decode_record_header(bytes(stream.pread_raw(c.RECORD_HEADER, at)), tag)
            verified_record(memoryview(stream.pread_raw(head.record_length, at)))
            at += head.record_length
        is_whole = at == trailer.segments_copy
    except (FormatError, IntegrityError):
        is_whole = False
    if not is_whole:
        yield f"a copy of the metadata in the spare area is damaged; {WHOLE}"


def _gaps(stream: InStream, trailer: Trailer) -> Iterator[str]:
    for at in (trailer.records_end, stream.size - c.TRAILER - c.SPARE_GAP):
        if any(stream.pread_raw(c.SPARE_GAP, at)):
            yield "the spare area has other bytes than zeros at an end; nothing is lost by it"

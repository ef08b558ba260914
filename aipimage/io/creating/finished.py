"""A partial image that is whole and only lacks its name, since its writer was stopped between the
trailer and the rename (docs/format.md, sections 11 and 12).

It is neither resumed nor cut: after a check of every record it gets its name as it is. Only a
trailer that a power cut lost is written again, from its copy in the spare area.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aipimage.errors import FormatError, IntegrityError
from aipimage.extents import SECTOR
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.header import Header
from aipimage.format.keyarea import encode_key_area
from aipimage.format.metadata import decode_metadata
from aipimage.format.parts import PartFooter, decode_part_footer
from aipimage.format.record import NO_REFERENCE
from aipimage.format.seal import Seal
from aipimage.format.trailer import Trailer, decode_trailer, encode_spare, trailer_copy
from aipimage.io.creating.results import DeviceChanges
from aipimage.io.records.keys import ChainKeys
from aipimage.io.stream.instream import InStream
from aipimage.io.stream.opening import read_key_area
from aipimage.io.stream.partial import PartialStream
from aipimage.io.stream.tail import Tail, check_twins


@dataclass(frozen=True, slots=True)
class FinishedImage:
    """A whole image that is still called ``….partial``.

    Attributes:
        length: bytes of the stream.
        lost_trailer: its bytes, where the trailer's place holds something else.
        unreadable, warnings, changes: as in :class:`~aipimage.io.creating.results.CreateResult`; of
            unreadable ranges the first 1000.
    """

    stream: PartialStream
    length: int
    lost_trailer: bytes | None
    trailer: Trailer
    seal: Seal
    unreadable: tuple[tuple[int, int, int], ...]
    warnings: tuple[str, ...]
    changes: tuple[DeviceChanges, ...]

    @property
    def parts(self) -> int:
        """Number of files."""
        return len(self.stream.files)

    def give_names(self, overwrite: bool) -> None:
        """Make it durable and give its files their names. A lost trailer is written before.

        Raises:
            TargetError: the name is in use. StorageError: it stays ``….partial``.
        """
        if self.lost_trailer is not None:
            self.stream.rewrite(self.lost_trailer, self.length - c.TRAILER)
        self.stream.give_names(self.length, overwrite)


def finished_stream(stream: PartialStream, header: Header) -> InStream | None:
    """The stream of this image, where it ends in its trailer or has the trailer's copy, and in
    parts has its last footer; ``None`` where it was not finished.
    """
    files, footers = list(stream.files), list(stream.footers)
    length = stream.size
    if footers:
        last = _own_footer(stream, len(footers) - 1)
        if last is None or last.start != footers[-1].start:
            return None
        footers[-1], length = last, last.start + last.length
    places = (length - c.TRAILER, trailer_copy(length))
    view = InStream(stream.name, files[: len(footers) or 1], footers, length)
    return view if any(_is_trailer(view, header, place) for place in places) else None


def read_finished(
    stream: PartialStream, view: InStream, header: Header, keys: ChainKeys | None
) -> FinishedImage:
    """Trailer, seal and result of a finished image; only the trailer may be its copy.

    Raises:
        FormatError, IntegrityError: one of them is damaged, or a part is not complete.
    """
    for index in range(len(view.footers)):
        footer = view.footers[index]._replace(last=index + 1 == len(view.footers))
        if _own_footer(stream, index) != footer:
            raise IntegrityError(f"{stream.files[index].name}: the footer of the part is damaged")
    if len(stream.files) != len(view.files):
        raise FormatError(f"{stream.files[-1].name}: is not a part of it")
    tail = Tail(view)
    trailer = tail.trailer()
    check_twins(header, trailer)
    seal = tail.seal(header, trailer, keys)
    opened = tail.records(keys).fetch(seal.result, RecordType.METADATA)
    if damaged := [what for what in view.healed if what != "trailer"]:
        raise IntegrityError(f"damaged: {', '.join(damaged)}")
    _check_key_areas(view, header)
    _check_spare(view, header, trailer, seal)
    values = decode_metadata(opened.plain)
    warnings = values.get("warnings", [])
    return FinishedImage(
        stream,
        view.size,
        bytes(view.pread(c.TRAILER, view.size - c.TRAILER)) if view.healed else None,
        trailer,
        seal,
        tuple(_unreadable(row, seal) for row in _rows(values, "unreadable")),
        tuple(map(str, warnings if isinstance(warnings, list) else [])),
        tuple(map(_changes, _rows(values, "changes"))),
    )


def _check_key_areas(stream: InStream, header: Header) -> None:
    """Both copies are whole (section 4.2)."""
    if not header.suite:
        return
    wanted = encode_key_area(read_key_area(stream, header)[0]) * c.KEY_COPIES
    if stream.pread(len(wanted), header.core_length) != wanted:
        raise IntegrityError("a copy of its key area is damaged")


def _check_spare(stream: InStream, header: Header, trailer: Trailer, seal: Seal) -> None:
    """The spare area has the copies of section 10.1, and no other byte."""
    names = [seal.description, seal.result, trailer.segments, trailer.seal]
    copies = [stream.pread(header.core_length, 0)]
    copies += [stream.pread(ref.record_length, ref.offset) for ref in names if ref != NO_REFERENCE]
    end = stream.size - c.TRAILER
    wanted = encode_spare(list(map(bytes, copies)), bytes(stream.pread(c.TRAILER, end)))
    if stream.pread(end - trailer.records_end, trailer.records_end) != wanted:
        raise IntegrityError("its spare area is damaged")


def _rows(values: dict[str, Any], name: str) -> list[Any]:
    """A list of the result; without a suite no key is needed to write one."""
    rows = values.get(name)
    if not isinstance(rows, list):
        raise FormatError(f"its result has no list {name!r}")
    return rows


def _unreadable(row: object, seal: Seal) -> tuple[int, int, int]:
    """(device, offset, length) in bytes."""
    match row:
        case [int(device), int(first), int(sectors)] if 0 <= device < len(seal.devices):
            size = seal.devices[device].size
            if 0 <= first * SECTOR < size and 0 < sectors <= -(-size // SECTOR) - first:
                return device, first * SECTOR, min(sectors * SECTOR, size - first * SECTOR)
    raise FormatError("its result names an unreadable range that cannot be")


def _changes(row: object) -> DeviceChanges:
    match row:
        case {"method": str(method), "read": int(read), "changed": int(changed), "reason": reason}:
            if reason is None or isinstance(reason, str):
                return DeviceChanges(method, read, changed, reason)
    raise FormatError("its result says of changes what cannot be")


def _own_footer(stream: PartialStream, index: int) -> PartFooter | None:
    """The footer that a part ends with, which fits its size; ``None`` where there is none."""
    file = stream.open_files[index]
    size = file.size()
    try:
        footer = decode_part_footer(file.pread(c.PART_RECORD, max(0, size - c.PART_RECORD)))
    except (FormatError, IntegrityError):
        return None
    return footer if footer.length + 2 * c.PART_RECORD == size else None


def _is_trailer(stream: InStream, header: Header, place: int) -> bool:
    """Whether the trailer of this image, or its copy, stands at a place of the stream."""
    if place < header.records_start:
        return False
    try:
        trailer = decode_trailer(bytes(stream.pread(c.TRAILER, place)), stream.size)
    except (FormatError, IntegrityError):
        return False
    return trailer.header_digest == header.header_digest

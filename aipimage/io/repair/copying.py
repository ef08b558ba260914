"""Copying the whole records of a damaged image as they are, checked once more on the way."""

from __future__ import annotations

from aipimage.errors import AipImageError, FormatError, IntegrityError
from aipimage.format import constants as c
from aipimage.format.record import decode_record_header, verified_record
from aipimage.io.merge.assemble import Assembly
from aipimage.io.repair.addresses import Addresses, MovedRecords
from aipimage.io.repair.survey import Survey
from aipimage.io.system.progress import Reporter

_CHUNK = 4 << 20


def copy_whole(
    survey: Survey, addresses: Addresses, assembly: Assembly, reporter: Reporter
) -> None:
    """Append all spans, in the order of the stream.

    Raises:
        IntegrityError: a record that was whole is not so any more.
    """
    for span in addresses.spans:
        at = 0
        while at < span.length:
            at += _copy_some(survey, span, at, assembly)
            reporter.report(span.place + at, assembly.stream.position)


def _copy_some(survey: Survey, span: MovedRecords, at: int, assembly: Assembly) -> int:
    stream, tag = survey.stream, survey.beginning.reader.tag
    length = min(span.length - at, _CHUNK + c.BODY_MAX)
    data = memoryview(stream.pread(length, span.place + at))
    used = count = 0
    while used < length and used < _CHUNK:
        try:
            header = decode_record_header(data[used:], tag)
            if used + header.record_length > length:
                break
            verified_record(data[used : used + header.record_length])
        except AipImageError as error:
            raise IntegrityError(
                f"{stream.name}: a record at byte {span.place + at + used} was whole a moment "
                "ago and is not now; copy the file from the failing disk first"
            ) from error
        used += header.record_length
        count += 1
    if not used:
        raise FormatError(f"{stream.name}: its segments record contradicts its records")
    assembly.copy([(span.origin, span.address + at, used)], data[:used], count)
    return used

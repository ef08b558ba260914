"""Header and keys of a damaged image; without its header, what can be known from the rest
(docs/format.md, sections 3 and 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from aipimage.errors import AipImageError, FormatError, IntegrityError, UnsupportedError
from aipimage.format import constants as c
from aipimage.format.constants import Incompatible, RecordType
from aipimage.format.header import Header
from aipimage.format.keyarea import KeyArea
from aipimage.format.seal import Seal, decode_seal
from aipimage.io.blocks.containers import HEAD, TAIL, other_than_image
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.records import RecordReader, no_references
from aipimage.io.repair.scan import FoundRecord, RecordScanner
from aipimage.io.repair.stream import SalvageStream
from aipimage.io.stream.opening import read_header, read_key_area, unlock_header


@dataclass(slots=True)
class Beginning:
    """Where a stream's records begin, and how they are read.

    Attributes:
        header: as it was; made up where it is lost (``is_made_up``).
        chain_known: whether the chain id is the right one. origins: that records may have.
    """

    header: Header
    keys: ChainKeys | None
    key_area: KeyArea | None
    reader: RecordReader
    is_made_up: bool = False
    chain_known: bool = True
    origins: frozenset[bytes] = frozenset()


def read_beginning(stream: SalvageStream, password: str | None) -> Beginning:
    """Read header and key area, or make up a header for an image without encryption.

    Raises:
        PasswordError: missing, not wanted or wrong. UnsupportedError: of a newer version.
        FormatError, IntegrityError: it is not known how the records are to be read.
    """
    try:
        header = read_header(stream)
    except UnsupportedError:
        raise
    except AipImageError as error:
        return _without_header(stream, password, error)
    keys = unlock_header(stream, header, password)
    area = read_key_area(stream, header)[0] if keys else None
    return Beginning(header, keys, area, _reader(keys))


def _reader(keys: ChainKeys | None) -> RecordReader:
    return RecordReader(no_references, keys)


def _other(stream: SalvageStream) -> str | None:
    """What the file is, if it is known to be something else."""
    head, tail = stream.pread(HEAD, 0), stream.pread(TAIL, max(0, stream.size - TAIL))
    return other_than_image(stream.name, stream.size, bytes(head), bytes(tail))


def _without_header(stream: SalvageStream, password: str | None, error: AipImageError) -> Beginning:
    """The records of a plain image show what its header said."""
    if password is not None:
        raise IntegrityError(
            f"{stream.name}: its header is damaged, and with it what the keys are derived from; "
            "put the header of an intact copy in its place"
        ) from error
    reader = _reader(None)
    scanner = RecordScanner(stream, reader, None)
    seal, counts, largest, first = _sampled(stream, scanner)
    if not counts:
        text = _other(stream) or (
            "is not an .aiv image, or a damaged one: there is no header, and no record that can be "
            "read without one"
        )
        raise FormatError(f"{stream.name}: {text}") from error
    file_id = max(counts, key=lambda origin: counts[origin])
    frame_shift = max(12, (max(largest, 1) - 1).bit_length())
    header = Header(
        file_id,
        seal.chain_id if seal else file_id,
        0,
        c.SUITE_NONE,
        int(Incompatible.ZSTD),
        0,
        frame_shift,
        core_length=first,
        header_digest=seal.header_digest if seal else c.ZERO_DIGEST,
    )
    origins = frozenset(counts)
    return Beginning(header, None, None, reader, True, seal is not None, origins)


def _sampled(
    stream: SalvageStream, scanner: RecordScanner
) -> tuple[Seal | None, dict[bytes, int], int, int]:
    """The last seal, how many records each origin has, the largest frame, the first place."""
    seal: Seal | None = None
    counts: dict[bytes, int] = {}
    largest, first = 0, stream.size
    for record in scanner.scan(0, stream.size):
        first = min(first, record.place)
        counts[record.header.origin] = counts.get(record.header.origin, 0) + 1
        if record.header.type == RecordType.FRAME:
            largest = max(largest, record.header.plain_length)
        seal = _seal_of(record) or seal
    return seal, counts, largest, first


def _seal_of(record: FoundRecord) -> Seal | None:
    if record.header.type != RecordType.SEAL:
        return None
    try:
        return decode_seal(record.opened.plain)
    except AipImageError:
        return None


def with_shifts(beginning: Beginning, siblings: Sequence[Header]) -> Beginning:
    """Take the shifts from another image of the chain, which has the same (section 3)."""
    for sibling in siblings:
        if sibling.chain_id == beginning.header.chain_id and beginning.chain_known:
            header = replace(
                beginning.header,
                frame_shift=sibling.frame_shift,
                stripe_shift=sibling.stripe_shift,
                fanout_shift=sibling.fanout_shift,
            )
            return replace(beginning, header=header)
    return beginning

"""Directory entries of exFAT: sets of a file, its stream extension and its name.

exFAT specification, sections 6.3, 6.4, 7.4, 7.6 and 7.7.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from aipimage.files.errors import DamagedVolumeError

ENTRY_SIZE, SET_MAX = 32, 256
END, FILE, STREAM, NAME, IN_USE, SECONDARY = 0x00, 0x85, 0xC0, 0xC1, 0x80, 0x40
HAS_CLUSTERS, IS_CONTIGUOUS = 0x1, 0x2
_FILE = struct.Struct("<BBHHxxIIIBBBBB7x")
"""EntryType, SecondaryCount, SetChecksum, FileAttributes, CreateTimestamp, LastModifiedTimestamp,
LastAccessedTimestamp, Create10msIncrement, LastModified10msIncrement, CreateUtcOffset,
LastModifiedUtcOffset, LastAccessedUtcOffset.
"""
_STREAM = struct.Struct("<BBxBHxxQxxxxIQ")
"""EntryType, GeneralSecondaryFlags, NameLength, NameHash, ValidDataLength, FirstCluster,
DataLength.
"""


class FileSet(NamedTuple):
    """A verified set: its fields, in their units.

    Attributes:
        name: as text. attributes: as of FAT. created, modified, accessed: stamps, with hundredths
            of a second and the offset as they are stored.
        valid, size: bytes that were written, and that it has. cluster: the first one, or 0.
        is_contiguous: its clusters follow each other, whatever the table says.
    """

    name: str
    attributes: int
    created: tuple[int, int, int]
    modified: tuple[int, int, int]
    accessed: tuple[int, int]
    valid: int
    size: int
    cluster: int
    is_contiguous: bool


def sets_of(pieces: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Yield (byte of the volume, bytes) of the sets of a directory, which may go on in the next
    piece; ``pieces`` are (byte of the volume, bytes).
    """
    set_, at, missing = b"", 0, 0
    for place, data in pieces:
        for inside in range(0, len(data) - ENTRY_SIZE + 1, ENTRY_SIZE):
            kind = data[inside]
            if kind == END:
                if set_:
                    yield at, set_
                return
            if kind & IN_USE and kind & SECONDARY and missing:
                set_ += data[inside : inside + ENTRY_SIZE]
                missing -= 1
            else:
                if set_ and missing:
                    yield at, set_  # cut short: its checksum shows it
                set_, missing = b"", 0
            if kind == FILE:
                set_, at = data[inside : inside + ENTRY_SIZE], place + inside
                missing = min(data[inside + 1], SET_MAX - 1)
            if set_ and not missing:
                yield at, set_
                set_ = b""
    if set_:
        yield at, set_


def decode_set(data: bytes) -> FileSet:
    """Decode a set.

    Raises:
        DamagedVolumeError: its checksum is wrong, or an entry is missing.
    """
    (
        kind, count, checksum, attributes, created, modified, accessed, created_ms, modified_ms,
        created_utc, modified_utc, accessed_utc,
    ) = _FILE.unpack_from(data)  # fmt: skip
    if kind != FILE or len(data) != (count + 1) * ENTRY_SIZE or count < 2:
        raise DamagedVolumeError("damaged: a directory entry is cut short")
    if set_checksum(data) != checksum:
        raise DamagedVolumeError("damaged: a directory entry has a wrong checksum")
    kind, flags, letters, _, valid, cluster, size = _STREAM.unpack_from(data, ENTRY_SIZE)
    if kind != STREAM or valid > size:
        raise DamagedVolumeError("damaged: a directory entry does not say where its file is")
    return FileSet(
        _name(data, letters), attributes, (created, created_ms, created_utc),
        (modified, modified_ms, modified_utc), (accessed, accessed_utc), valid, size,
        cluster if flags & HAS_CLUSTERS else 0, bool(flags & IS_CONTIGUOUS),
    )  # fmt: skip


def _name(data: bytes, letters: int) -> str:
    parts = [
        data[at + 2 : at + ENTRY_SIZE]
        for at in range(2 * ENTRY_SIZE, len(data), ENTRY_SIZE)
        if data[at] == NAME
    ]
    name = b"".join(parts)[: 2 * letters]
    if not letters or len(name) != 2 * letters:
        raise DamagedVolumeError("damaged: a part of a name is missing")
    return name.decode("utf-16-le", "surrogatepass")


def set_checksum(data: bytes) -> int:
    """The checksum of a set (section 6.3.3, figure 2)."""
    total = 0
    for at, byte in enumerate(data):
        if at not in (2, 3):
            total = ((total << 15 | total >> 1) + byte) & 0xFFFF
    return total

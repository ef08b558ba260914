"""The header of a hosted sparse extent, the footer that beats it, and the embedded descriptor."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aipimage.errors import FormatError, IncompleteError, LimitError, UnsupportedError
from aipimage.vmdk.descriptor import TEXT_MAX, Descriptor, parse_descriptor
from aipimage.vmdk.extents.files import ExtentFile
from aipimage.vmdk.layout import (
    GD_AT_END,
    INCOMPATIBLE_FLAGS,
    KNOWN_FLAGS,
    SECTOR,
    SPARSE_MAGIC,
    TABLE_ENTRIES,
    MarkerType,
    SparseFlags,
    SparseHeader,
    decode_marker,
    decode_sparse_header,
)

FOOTER_WINDOW = 1 << 20
"""Bytes before the end of the file in which the footer is looked for: what was appended to the file
on its way is after it."""


@dataclass(frozen=True, slots=True)
class Hosted:
    """What a hosted sparse extent says of itself.

    Attributes:
        header: the footer where there is one. warnings: what is not as it should be, and does not
            change what is read.
    """

    header: SparseHeader
    warnings: tuple[str, ...]


def read_hosted(file: ExtentFile) -> Hosted:
    """Return header or footer, every number checked.

    Where the header says that its grain directory is at the end (the note, "Stream-Optimized
    Compressed Sparse Extents"), all comes from the footer, as in qemu.

    Raises:
        FormatError: not a hosted sparse extent, or damaged. IncompleteError: cut short.
        UnsupportedError, LimitError: see ``layout.decode_sparse_header``.
    """
    header = decode_sparse_header(bytes(file.read(0, SECTOR, "the header")), file.name)
    warnings: list[str] = []
    if header.gd_offset == GD_AT_END:
        header = _footer(file, header, warnings)
    if header.unclean:
        warnings.append(f"{file.name}: was not closed after it was last written")
    return Hosted(_verified(header, file.name), tuple(warnings))


def _verified(header: SparseHeader, name: str) -> SparseHeader:
    if header.flags & INCOMPATIBLE_FLAGS & ~KNOWN_FLAGS:
        raise UnsupportedError(f"{name}: unknown VMDK flags {header.flags:#x}; get a newer release")
    if header.compressed and not header.flags & SparseFlags.MARKERS:
        raise UnsupportedError(f"{name}: compressed grains without markers have no length")
    if header.table_entries != TABLE_ENTRIES:
        # The note, "Hosted Sparse Extents": "numGTEsPerGT ... is always 512".
        raise UnsupportedError(
            f"{name}: grain tables of {header.table_entries} entries; all known ones have 512"
        )
    return header


def _footer(file: ExtentFile, header: SparseHeader, warnings: list[str]) -> SparseHeader:
    """Find the footer: the last sector but one, or a little before it."""
    sectors = file.size // SECTOR
    first = max(1, sectors - FOOTER_WINDOW // SECTOR)
    tail = memoryview(file.read(first * SECTOR, (sectors - first) * SECTOR, "the footer"))
    for index in range(sectors - first - 1, 0, -1):
        block = bytes(tail[index * SECTOR : (index + 1) * SECTOR])
        marker = tail[(index - 1) * SECTOR : index * SECTOR]
        if block[:4] != SPARSE_MAGIC or not _is_marker(marker, MarkerType.FOOTER):
            continue
        footer = decode_sparse_header(block, f"{file.name} (footer)")
        if not 0 < footer.gd_offset < first + index:
            raise FormatError(f"{file.name}: the footer does not say where the grain directory is")
        _look_behind(file, tail[(index + 1) * SECTOR :], warnings)
        if (footer.capacity, footer.grain_size) != (header.capacity, header.grain_size):
            warnings.append(f"{file.name}: header and footer differ; the footer is used")
        if not footer.descriptor_offset:
            footer = replace(
                footer,
                descriptor_offset=header.descriptor_offset,
                descriptor_size=header.descriptor_size,
            )
        return footer
    raise IncompleteError(
        f"{file.name}: has no footer where its header says that there is one: it was cut short; "
        "copy it again"
    )


def _is_marker(block: memoryview, kind: MarkerType) -> bool:
    _, size, found = decode_marker(bytes(block[:16]))
    return size == 0 and found == kind


def _look_behind(file: ExtentFile, rest: memoryview, warnings: list[str]) -> None:
    if len(rest) < SECTOR or any(rest[:SECTOR]):
        warnings.append(f"{file.name}: has no end-of-stream marker; some importers refuse it")
    if len(rest) > SECTOR:
        warnings.append(f"{file.name}: has {len(rest) - SECTOR} bytes after its end")


def embedded_descriptor(file: ExtentFile, header: SparseHeader) -> Descriptor:
    """Return the descriptor that lies in a sparse extent (the note, "The Descriptor File").

    Raises:
        FormatError: there is none, as in the extents of a split disk, or it is damaged.
        LimitError: its size is over the limit (hostile-inputs class 40).
    """
    if not header.descriptor_offset or not header.descriptor_size:
        raise FormatError(
            f"{file.name}: is one extent of a disk and no disk by itself; open the descriptor, "
            "the small .vmdk file that names it"
        )
    if header.descriptor_size > TEXT_MAX // SECTOR:
        raise LimitError(f"{file.name}: a descriptor of {header.descriptor_size} sectors")
    data = file.read(
        header.descriptor_offset * SECTOR, header.descriptor_size * SECTOR, "the descriptor"
    )
    return parse_descriptor(
        bytes(data), file.name, embedded=True, create_type=embedded_type(header)
    )


def embedded_type(header: SparseHeader) -> str:
    """The ``createType`` of a disk in one file, as its header has it."""
    return "streamOptimized" if header.compressed else "monolithicSparse"

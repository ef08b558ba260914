"""A hosted sparse extent as a whole, plain or a stream."""

from __future__ import annotations

from collections.abc import Callable

from aipimage.errors import FormatError
from aipimage.vmdk.layout import (
    SECTOR,
    MarkerType,
    SparseFlags,
    SparseHeader,
    decode_marker,
    unpack_sparse_header,
)
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.header import AT, Shape, at_end, check_header, shape_of
from aipimage.vmdk.linting.job import LintJob
from aipimage.vmdk.linting.sparse import (
    Tables,
    check_gaps,
    check_space,
    check_tables,
    intervals_of,
    load_tables,
)
from aipimage.vmdk.linting.stream import Walk, walk_stream


def check_hosted(
    job: LintJob,
    checked: CheckedFile,
    *,
    sectors: int | None = None,
    create_type: str = "",
    embedded: Callable[[SparseHeader], tuple[int | None, str]] | None = None,
) -> None:
    """Check an extent that begins with a sparse header.

    Args:
        sectors: its size as the descriptor's line says it. create_type: of its disk.
        embedded: checks the descriptor inside of it and returns (sectors, create_type); without
            it the extent should have none.
    """
    header = check_header(checked)
    if header is None:
        return
    if checked.size % SECTOR:
        checked.add("file-size", f"{checked.size} bytes are not a whole number of sectors")
    if embedded is not None:
        sectors, create_type = embedded(header)
    elif header.descriptor_offset or header.descriptor_size:
        checked.add(
            "descriptor-in-extent",
            "an extent of a split disk has a descriptor of its own",
            AT["descriptor"],
        )
    _check_against_descriptor(checked, header, sectors, create_type)
    shape = shape_of(checked, header)
    if shape is None:
        return
    gd = _directory_place(checked, header, shape)
    tables = None
    if gd is not None:
        tables = load_tables(checked, shape, gd, header.rgd_offset, _pieces(checked, header))
    if tables is not None:
        _check_loaded(job, checked, shape, tables)
    if header.compressed and header.flags & SparseFlags.MARKERS and _has_overhead(checked, shape):
        walk_stream(job, Walk(checked, shape, checked.read(0, SECTOR), tables))


def _pieces(checked: CheckedFile, header: SparseHeader) -> list[tuple[int, int]]:
    pieces = [(0, 1)]
    if header.descriptor_offset and header.descriptor_size:
        end = header.descriptor_offset + header.descriptor_size
        if end <= header.overhead and end * SECTOR <= checked.size:
            pieces.append((header.descriptor_offset, end))
    return pieces


def _check_against_descriptor(
    checked: CheckedFile, header: SparseHeader, sectors: int | None, create_type: str
) -> None:
    if sectors is not None and sectors != header.capacity:
        checked.add(
            "extent-capacity",
            f"the header says {header.capacity} sectors, the descriptor {sectors}",
            AT["capacity"],
        )
    if create_type and (create_type.lower() == "streamoptimized") != header.compressed:
        kind = "compressed" if header.compressed else "not compressed"
        checked.add(
            "create-type-header",
            f"the grains are {kind}, createType is {create_type[:40]}",
            AT["flags"],
        )


def _directory_place(checked: CheckedFile, header: SparseHeader, shape: Shape) -> int | None:
    """The sector of the grain directory; the footer says it where the header does not."""
    if not at_end(header):
        return header.gd_offset
    total = checked.size // SECTOR
    for sector in (total - 2, total - 1):
        if sector < 2:
            continue
        try:
            footer = unpack_sparse_header(checked.read(sector * SECTOR, SECTOR), checked.path)
        except FormatError:
            continue
        before = checked.read((sector - 1) * SECTOR, 16)
        if decode_marker(before)[1:] != (0, MarkerType.FOOTER):
            checked.add(
                "footer-marker",
                f"no footer marker before the footer at sector {sector}",
                (sector - 1) * SECTOR,
            )
        return footer.gd_offset
    checked.add(
        "footer-missing",
        "no footer at the end of the file, and the header says that it has "
        "where the grain directory is",
        AT["gd"],
    )
    return None


def _has_overhead(checked: CheckedFile, shape: Shape) -> bool:
    """Whether overHead can be gone by; where it cannot, that has been found."""
    return 1 <= shape.overhead <= checked.size // SECTOR


def _check_front(checked: CheckedFile, shape: Shape, tables: Tables) -> None:
    intervals = intervals_of(shape, tables)
    front = intervals[intervals[:, 0] < shape.overhead]
    if (end := int(front[:, 1].max())) > shape.overhead:
        checked.add(
            "overhead",
            f"overHead is {shape.overhead}, metadata ends at sector {end}",
            AT["overhead"],
        )
    check_gaps(checked, front, shape.overhead)


def _check_loaded(job: LintJob, checked: CheckedFile, shape: Shape, tables: Tables) -> None:
    if _has_overhead(checked, shape):
        _check_front(checked, shape, tables)
    if not shape.stream and (missing := int((tables.directory == 0).sum())) > 0:
        checked.add(
            "table-missing", f"{missing} grain tables are not allocated", tables.at * SECTOR
        )
    seen = check_tables(checked, shape, tables)
    if not shape.stream:
        job.grains += seen.stored
        check_space(checked, shape, tables, seen)

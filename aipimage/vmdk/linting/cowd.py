"""COWD extents (``vmfsSparse``): the note, "ESX Server Sparse Extents"."""

from __future__ import annotations

from aipimage.vmdk.cowdlayout import AT, HEADER_SECTORS, unpack_cowd_header
from aipimage.vmdk.layout import CAPACITY_MAX, COWD_MAGIC, ESX_TABLE_ENTRIES, GRAIN_MAX, SECTOR
from aipimage.vmdk.linting.codes import Severity
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.header import TABLES_MAX, Shape
from aipimage.vmdk.linting.job import LintJob
from aipimage.vmdk.linting.sparse import check_space, check_tables, intervals_of, load_tables


def check_cowd(job: LintJob, checked: CheckedFile, sectors: int | None = None) -> None:
    """Check an extent whose line in the descriptor says ``sectors``."""
    data = checked.read(0, HEADER_SECTORS * SECTOR)
    if len(data) < HEADER_SECTORS * SECTOR or data[:4] != COWD_MAGIC:
        checked.add("extent-kind", "no COWD extent begins here", 0)
        return
    header = unpack_cowd_header(data)
    flags, capacity = header.flags, header.capacity
    if header.version != 1:
        checked.add("header-version", f"version {header.version}, and not 1", AT["version"])
    if flags != 3:
        # Readers refuse flags that they do not know.
        severity: Severity | None = "error" if flags & ~3 else None
        text = f"flags {flags:#x}, and not 3"
        checked.add("header-flags", text, AT["flags"], severity=severity)
    if header.unclean:
        checked.add("header-unclean", "the file was not closed after the last write", AT["unclean"])
    if sectors is not None and sectors != capacity:
        checked.add(
            "extent-capacity",
            f"the header says {capacity} sectors, the descriptor {sectors}",
            AT["capacity"],
        )
    shape = _shape(checked, capacity, header.grain_size, header.gd_entries)
    if shape is None:
        return
    tables = load_tables(checked, shape, header.gd_offset, 0, [(0, HEADER_SECTORS)])
    if tables is not None:
        seen = check_tables(checked, shape, tables)
        job.grains += seen.stored
        end = max(seen.end, int(intervals_of(shape, tables)[:, 1].max()))
        if header.free_sector < end:
            checked.add(
                "free-sector",
                f"freeSector is {header.free_sector}, what is stored ends at sector {end}",
                AT["free_sector"],
            )
        check_space(checked, shape, tables, seen)


def _shape(checked: CheckedFile, capacity: int, grain: int, entries: int) -> Shape | None:
    if not 1 <= grain <= GRAIN_MAX or grain & (grain - 1):
        checked.add("grain-size", f"grains of {grain} sectors", AT["grain_size"])
        return None
    if not 0 < capacity <= CAPACITY_MAX:
        checked.add("capacity-limit", f"{capacity} sectors", AT["capacity"])
        return None
    tables = -(-capacity // (grain * ESX_TABLE_ENTRIES))
    # One more than is needed is there where a writer counts what is left over, and nothing is.
    if entries not in (tables, tables + 1):
        checked.add(
            "directory-size",
            f"a directory of {entries} entries; the capacity needs {tables}",
            AT["gd_entries"],
        )
    if tables > TABLES_MAX:
        text = f"{tables} grain tables, over {TABLES_MAX}"
        checked.add("directory-limit", text, AT["gd_entries"])
        return None
    return Shape(capacity, grain, ESX_TABLE_ENTRIES, tables, aligned=False)

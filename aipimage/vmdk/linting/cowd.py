"""COWD extents (``vmfsSparse``): the note, "ESX Server Sparse Extents"."""

from __future__ import annotations

import struct

from aipimage.vmdk.layout import CAPACITY_MAX, COWD_MAGIC, GRAIN_MAX, SECTOR
from aipimage.vmdk.linting.codes import Severity
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.header import TABLES_MAX, Shape
from aipimage.vmdk.linting.job import Job
from aipimage.vmdk.linting.sparse import check_space, check_tables, intervals_of, load_tables

_HEADER = struct.Struct("<4s7I")
_HEADER_SECTORS = 4
_ENTRIES = 4096
_AT = {"version": 4, "flags": 8, "capacity": 12, "grain": 16, "gd": 20, "tables": 24, "free": 28}
_UNCLEAN = 1648
"""Byte of ``uncleanShutdown``."""


def check_cowd(job: Job, checked: CheckedFile, sectors: int | None = None) -> None:
    """Check an extent whose line in the descriptor says ``sectors``."""
    data = checked.read(0, _HEADER_SECTORS * SECTOR)
    if len(data) < _HEADER_SECTORS * SECTOR or data[:4] != COWD_MAGIC:
        checked.add("extent-kind", "no COWD extent begins here", 0)
        return
    _, version, flags, capacity, grain, gd, entries, free = _HEADER.unpack_from(data)
    if version != 1:
        checked.add("header-version", f"version {version}, and not 1", _AT["version"])
    if flags != 3:
        # Readers refuse flags that they do not know.
        severity: Severity | None = "error" if flags & ~3 else None
        text = f"flags {flags:#x}, and not 3"
        checked.add("header-flags", text, _AT["flags"], severity=severity)
    if int.from_bytes(data[_UNCLEAN : _UNCLEAN + 4], "little"):
        checked.add("header-unclean", "the file was not closed after the last write", _UNCLEAN)
    if sectors is not None and sectors != capacity:
        checked.add(
            "extent-capacity", f"the header says {capacity} sectors, the descriptor {sectors}",
            _AT["capacity"],
        )  # fmt: skip
    shape = _shape(checked, capacity, grain, entries)
    if shape is None:
        return
    tables = load_tables(checked, shape, gd, 0, [(0, _HEADER_SECTORS)])
    if tables is not None:
        seen = check_tables(checked, shape, tables)
        job.grains += seen.stored
        end = max(seen.end, int(intervals_of(shape, tables)[:, 1].max()))
        if free < end:
            checked.add(
                "free-sector", f"freeSector is {free}, what is stored ends at sector {end}",
                _AT["free"],
            )  # fmt: skip
        check_space(checked, shape, tables, seen)


def _shape(checked: CheckedFile, capacity: int, grain: int, entries: int) -> Shape | None:
    if not 1 <= grain <= GRAIN_MAX or grain & (grain - 1):
        checked.add("grain-size", f"grains of {grain} sectors", _AT["grain"])
        return None
    if not 0 < capacity <= CAPACITY_MAX:
        checked.add("capacity-limit", f"{capacity} sectors", _AT["capacity"])
        return None
    tables = -(-capacity // (grain * _ENTRIES))
    # One more than is needed is there where a writer counts what is left over, and nothing is.
    if entries not in (tables, tables + 1):
        checked.add(
            "directory-size", f"a directory of {entries} entries; the capacity needs {tables}",
            _AT["tables"],
        )  # fmt: skip
    if tables > TABLES_MAX:
        checked.add("directory-limit", f"{tables} grain tables, over {TABLES_MAX}", _AT["tables"])
        return None
    return Shape(capacity, grain, _ENTRIES, tables, aligned=False)

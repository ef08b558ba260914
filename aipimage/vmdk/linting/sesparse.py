"""seSparse extents, of which VMware has published no description: what qemu 7.2 reads.

Source: block/vmdk.c of qemu, "SESparse". Entries have 64 bits, the four topmost say what they are.
"""

from __future__ import annotations

import itertools

import numpy as np

from aipimage.vmdk.layout import ESX_TABLE_ENTRIES, SECTOR, SESPARSE_MAGIC
from aipimage.vmdk.linting.findings import CheckedFile
from aipimage.vmdk.linting.job import LintJob
from aipimage.vmdk.linting.space import WINDOW
from aipimage.vmdk.sesparselayout import (
    AT,
    CAPACITY_MAX,
    REPLAY_AT,
    RESERVED_AT,
    SE_GRAIN,
    TABLE_SECTORS,
    VERSION,
    VOLATILE_MAGIC,
    unpack_se_header,
    unpack_se_volatile,
)

_REGIONS = (
    "volatile header",
    "journal header",
    "journal",
    "grain directory",
    "grain tables",
    "free bitmap",
    "backmap",
    "grains",
)
_SLICE = 4096
Regions = dict[str, tuple[int, int]]


def check_sesparse(job: LintJob, checked: CheckedFile, sectors: int | None = None) -> None:
    """Check an extent whose line in the descriptor says ``sectors``."""
    data = checked.read(0, SECTOR)
    if len(data) < SECTOR or int.from_bytes(data[:8], "little") != SESPARSE_MAGIC:
        checked.add("extent-kind", "no seSparse extent begins here", 0)
        return
    version, capacity, grain, table, flags, reserved, places = unpack_se_header(data)
    if version != VERSION:
        checked.add("header-version", f"version {version:#x}, and not {VERSION:#x}", AT["version"])
    if grain != SE_GRAIN:
        text = f"grains of {grain} sectors, and not {SE_GRAIN}"
        checked.add("grain-size", text, AT["grain_size"])
    if table != TABLE_SECTORS:
        text = f"grain tables of {table} sectors, not {TABLE_SECTORS}"
        checked.add("table-entries", text, AT["table_size"])
    if flags:
        # What these would mean is not published, so readers refuse them.
        checked.add("header-flags", f"unknown flags {flags:#x}", AT["flags"], severity="error")
    if reserved:
        text = "reserved bytes of the header are not zero"
        checked.add("header-reserved", text, AT["reserved"], severity="error")
    if sectors is not None and sectors != capacity:
        checked.add(
            "extent-capacity",
            f"the header says {capacity} sectors, the descriptor {sectors}",
            AT["capacity"],
        )
    regions: Regions = dict(zip(_REGIONS, places, strict=True))
    _check_regions(checked, regions)
    _check_volatile(checked, regions["volatile header"][0])
    if not 0 < capacity <= CAPACITY_MAX:
        checked.add("capacity-limit", f"{capacity} sectors", AT["capacity"])
    elif grain == SE_GRAIN and table == TABLE_SECTORS:
        _check_tables(job, checked, regions, capacity)


def _check_regions(checked: CheckedFile, regions: Regions) -> None:
    total = -(-checked.size // SECTOR)
    for name, (start, size) in regions.items():
        # Tables and grains are allocated as they are needed; the others are there from the start.
        if start + (0 if name in ("grain tables", "grains") else size) > total:
            checked.add(
                "region-range", f"the {name}, {size} sectors at {start}; the file has {total}"
            )
    placed = sorted((start, start + size, name) for name, (start, size) in regions.items() if size)
    for (_, end, one), (start, _, other) in itertools.pairwise(placed):
        if start < end:
            checked.add(
                "metadata-overlap", f"the {one} and the {other} share sectors", start * SECTOR
            )


def _check_volatile(checked: CheckedFile, sector: int) -> None:
    data = checked.read(sector * SECTOR, SECTOR) if sector * SECTOR < checked.size else b""
    found = unpack_se_volatile(data) if len(data) == SECTOR else None
    if found is None or found.magic != VOLATILE_MAGIC:
        checked.add("volatile-header", "the volatile header is damaged", sector * SECTOR)
        return
    if found.replay:
        checked.add(
            "journal-dirty",
            "the journal holds writes that are not in the tables; let ESX open "
            "the disk and close it",
            sector * SECTOR + REPLAY_AT,
        )
    if found.reserved:
        text = "reserved bytes of the volatile header are not zero"
        checked.add("header-reserved", text, sector * SECTOR + RESERVED_AT, severity="error")


def _check_tables(job: LintJob, checked: CheckedFile, regions: Regions, capacity: int) -> None:
    count = -(-capacity // (SE_GRAIN * ESX_TABLE_ENTRIES))
    start, size = regions["grain directory"]
    if size * SECTOR < count * 8:
        checked.add("directory-size", f"a directory of {size} sectors for {count} tables")
        return
    if (start + size) * SECTOR > checked.size:
        return
    used = np.zeros(min(regions["grain tables"][1] // TABLE_SECTORS, 1 << 22), np.uint8)
    taken = np.zeros(min(checked.size // SECTOR // SE_GRAIN + 1, 8 * WINDOW), np.uint8)
    for first in range(0, count, _SLICE):
        length = min(_SLICE, count - first)
        data = checked.read(start * SECTOR + first * 8, length * 8)
        entries = np.frombuffer(data, "<u8").astype(np.uint64)
        for row in np.flatnonzero(entries).tolist():
            place = _table_place(checked, regions, used, int(entries[row]), first + row)
            if place is not None:
                _check_table(job, checked, regions, taken, place, first + row, capacity)


def _table_place(
    checked: CheckedFile, regions: Regions, used: np.ndarray, entry: int, number: int
) -> int | None:
    """The sector of a table, or a finding."""
    index = entry & 0xFFFF_FFFF
    at = regions["grain directory"][0] * SECTOR + number * 8
    place = regions["grain tables"][0] + index * TABLE_SECTORS
    if entry >> 32 != 0x1000_0000:
        checked.add("entry-state", f"entry {number} of the directory is {entry:#x}", at)
    elif index >= len(used) or (place + TABLE_SECTORS) * SECTOR > checked.size:
        checked.add("table-range", f"grain table {number} is at sector {place}", at)
    elif used[index]:
        checked.add("table-shared", f"grain table {number} is another's, at sector {place}", at)
    else:
        used[index] = 1
        return place
    return None


def _check_table(
    job: LintJob,
    checked: CheckedFile,
    regions: Regions,
    taken: np.ndarray,
    place: int,
    number: int,
    capacity: int,
) -> None:
    data = checked.read(place * SECTOR, TABLE_SECTORS * SECTOR)
    entries = np.frombuffer(data, "<u8").astype(np.uint64)
    left = max(-(-capacity // SE_GRAIN) - number * ESX_TABLE_ENTRIES, 0)
    _check_entries(checked, entries, place, number, left)
    where = np.flatnonzero(entries[:left] >> np.uint64(60) == 3)
    some = entries[where]
    # The number of a grain: twelve low bits above, the others below.
    index = ((some >> np.uint64(48)) & np.uint64(0xFFF)) | (
        (some & np.uint64(0xFFFF_FFFF_FFFF)) << np.uint64(12)
    )
    grains = (checked.size // SECTOR - regions["grains"][0]) // SE_GRAIN
    bad = index >= np.uint64(max(grains, 0))
    _grain(checked, "grain-range", bad, where, place, number, "does not lie in the file")
    good = index[~bad].astype(np.int64)
    good = good[good < len(taken)]
    again = _taken_again(taken, good)
    _grain(checked, "grain-shared", again, where[~bad][: len(good)], place, number, "is another's")
    job.grains += len(where)


def _check_entries(
    checked: CheckedFile, entries: np.ndarray, place: int, number: int, left: int
) -> None:
    """Every entry is of a known kind, and those past the last of the disk, ``left``, are empty."""
    kinds = entries >> np.uint64(60)
    unknown = np.flatnonzero((kinds > 3) | ((kinds == 0) & (entries != 0)))
    if len(unknown):
        at = int(unknown[0])
        checked.add(
            "entry-state",
            f"entry {at} of grain table {number} is {int(entries[at]):#x}",
            place * SECTOR + 8 * at,
            len(unknown),
        )
    if (entries[left:] != 0).any():
        checked.add(
            "entry-past-end",
            f"grain table {number} has grains past the end of the disk",
            place * SECTOR + 8 * left,
        )


def _taken_again(taken: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Which grains were taken before, and take all of them."""
    _, first = np.unique(good, return_index=True)
    again = np.ones(len(good), bool)
    again[first] = False
    again |= taken[good] != 0
    taken[good] = 1
    return again


def _grain(
    checked: CheckedFile,
    code: str,
    bad: np.ndarray,
    where: np.ndarray,
    place: int,
    number: int,
    what: str,
) -> None:
    if (count := int(np.count_nonzero(bad))) > 0:
        at = int(where[np.flatnonzero(bad)[0]])
        text = f"grain {number * ESX_TABLE_ENTRIES + at} {what}"
        checked.add(code, text, place * SECTOR + 8 * at, count)

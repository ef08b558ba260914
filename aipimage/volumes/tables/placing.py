"""Where partitions shall lie on another disk: checks that the tables' own writers share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from aipimage.errors import RequestError
from aipimage.io.blocks.sources import BlockSource
from aipimage.volumes.patches import Patch
from aipimage.volumes.tables import mbr
from aipimage.volumes.tables.model import PartitionTable, gaps_between
from aipimage.volumes.view import LayoutError, VolumeView

Placements = Mapping[int, tuple[int, int]]
"""Number of a partition (or of an extended one): start and size in bytes."""


@dataclass(frozen=True, slots=True)
class NewIds:
    """Identifiers that a clone got; none are secret.

    Attributes:
        signature: of the MBR, eight hex digits, or empty where it stays. disk_guid: of the GPT, or
            empty. guids: of GPT partitions by number. All in lower case.
    """

    signature: str = ""
    disk_guid: str = ""
    guids: dict[int, str] = field(default_factory=dict)


class Rewrite(NamedTuple):
    """What to write to a target over the bytes that were copied from the source.

    Attributes:
        patches: (offset, bytes), whole logical sectors, disjoint and ascending.
        clear: (start, size) in bytes, in no partition and no patch: remains of the table as it was,
            which must be zeros so that no system takes them for another one.
        new_ids: what changed of them; ``None`` where nothing did.
    """

    patches: list[Patch]
    clear: list[tuple[int, int]]
    new_ids: NewIds | None = None


class Span(NamedTuple):
    """A range of sectors; ``what`` lies there, for messages."""

    start: int
    end: int
    what: str


def view_of(source: BlockSource) -> VolumeView:
    """A view for reading a table's records again."""
    return VolumeView(source, 0, source.size, 8 << 20)


def read_sector(view: VolumeView, offset: int, size: int) -> bytes:
    """Return a sector of the source, which ``read_table`` could read before."""
    try:
        return view.read(offset, size)
    except LayoutError as error:
        raise RequestError(f"{view.source.name}: the partition table changed: {error}") from error


def in_sectors(table: PartitionTable, placements: Placements) -> dict[int, tuple[int, int]]:
    """Return placements as (first sector, sectors) of those that change.

    Raises:
        RequestError: no such partition, its place is not certain, or not whole sectors.
    """
    known = {part.number: part for part in table.partitions}
    outer = {part.number: part for part in table.extended}
    found = {}
    for number, (start, size) in placements.items():
        part = known.get(number) or outer.get(number)
        if part is None:
            raise RequestError(f"partition {number} is not in the table and cannot be placed")
        if start % table.sector_size or size % table.sector_size or size <= 0 or start <= 0:
            raise RequestError(
                f"partition {number} cannot lie at byte {start} with {size} bytes: that is not "
                f"whole sectors of {table.sector_size} bytes after the first"
            )
        if (part.start, part.size) == (start, size):
            continue
        doubt = known[number].doubt if number in known else None
        if doubt:
            raise RequestError(f"partition {number} cannot be moved or resized: {doubt}")
        found[number] = start // table.sector_size, size // table.sector_size
    return found


def refuse_overlaps(moved: Iterable[Span], others: Iterable[Span]) -> None:
    """Raise ``RequestError`` where a span that moves shares sectors with any other one."""
    moving = list(moved)
    standing = list(others)
    for index, one in enumerate(moving):
        for other in [*moving[index + 1 :], *standing]:
            if one.start < other.end and other.start < one.end:
                raise RequestError(f"{one.what} would overlap {other.what}; choose another place")


def refuse_outside(spans: Iterable[Span], low: int, high: int, sector: int) -> None:
    """Raise ``RequestError`` where a span is not within the sectors from ``low`` to ``high``."""
    for span in spans:
        if span.start < low or span.end > high:
            raise RequestError(
                f"{span.what} would lie at bytes {span.start * sector} to {span.end * sector}, and "
                f"the disk has room from {low * sector} to {high * sector}"
            )


def cleared(
    remains: Iterable[tuple[int, int]], kept: Iterable[tuple[int, int]], size: int
) -> list[tuple[int, int]]:
    """Return what of ``remains`` lies on a disk of ``size`` bytes and outside of ``kept``; the
    arguments as (start, end), the result as (start, size).
    """
    old = [(start, min(end, size)) for start, end in remains if start < min(end, size)]
    elsewhere = [(low, low + length) for low, length in gaps_between(old, size)]
    return gaps_between([*elsewhere, *kept], size)


def new_signature(sector: bytes, entropy: bytes) -> bytes:
    """Return the sector with a disk signature that is neither 0 nor the one it has."""
    value = int.from_bytes(entropy, "little")
    old = int.from_bytes(sector[mbr.SIGNATURE], "little")
    while value in (0, old):
        value = (value + 0x9E3779B9) & 0xFFFFFFFF
    return sector[:440] + value.to_bytes(4, "little") + sector[444:]

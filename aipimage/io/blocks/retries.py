"""Reading around sectors that the medium cannot deliver."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from aipimage.io.blocks.model import BlockSource, UnreadableRangeError
from aipimage.io.system.storage import flat_view

if TYPE_CHECKING:
    from typing_extensions import Buffer


def read_with_retries(
    source: BlockSource, buffer: Buffer, offset: int, *, sector: int = 512, retries: int = 2
) -> list[tuple[int, int]]:
    """Fill `buffer` from `offset`, reading around what the medium cannot deliver.

    The whole range is tried 1 + `retries` times. Then it is halved, at multiples of `sector` on the
    source, down to single sectors, each part read once: by then every bad sector has had its tries,
    as part of the reads above it. So a range of n sectors costs at most `retries` + 2n - 1 reads.
    Sectors that stay unreadable are zeros in `buffer`.

    Returns:
        the unreadable ranges (offset on the source, length) in bytes, ascending and merged.

    Raises:
        SourceError: a failure that other sectors would share, such as a source that shrank.
    """
    view = flat_view(buffer)
    if not view.nbytes:
        return []
    for _ in range(retries):
        with contextlib.suppress(UnreadableRangeError):
            source.read_into(view, offset)
            return []
    bad: list[tuple[int, int]] = []
    # A stack, not recursion; the left half is pushed last, so ranges come in ascending order.
    todo = [(offset, offset + view.nbytes)]
    while todo:
        start, end = todo.pop()
        part = view[start - offset : end - offset]
        try:
            source.read_into(part, start)
        except UnreadableRangeError:
            halves = _halves(start, end, sector)
            todo += halves
            if not halves:
                part[:] = bytes(part.nbytes)
                append_merged(bad, start, end - start)
    return bad


def _halves(start: int, end: int, sector: int) -> list[tuple[int, int]]:
    """Split at the sector boundary below the middle, right part first; none for a sector."""
    middle = (start + end) // 2 // sector * sector
    if middle <= start:
        # The range may begin inside a sector: then its first boundary is the only one.
        middle = (start // sector + 1) * sector
    return [(middle, end), (start, middle)] if middle < end else []


def append_merged(ranges: list[tuple[int, int]], start: int, length: int) -> None:
    """Add a range after the others, joined to the last one where the two touch."""
    if ranges and sum(ranges[-1]) == start:
        start, length = ranges[-1][0], ranges.pop()[1] + length
    ranges.append((start, length))

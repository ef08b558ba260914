"""What the tests of containers share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from aipimage.io.blocks.sources import BlockSource, open_source
from aipimage.volumes.filesystems.registry import Found, parsers, probe_volume
from aipimage.volumes.model import Allocation, FileSystem, Parser, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource

Ranges = list[tuple[int, int]]


def looked_at(source: BlockSource) -> Found:
    """What the registry makes of a whole source, with no error of ours in it."""
    found = probe_volume(VolumeView(source, 0, source.size, 0), SurveyOptions())
    _, allocation, because = found
    said = " ".join((because or "", *allocation.notes))
    assert "internal error" not in said, said
    check_ranges(allocation, source.size)
    return found


def looked_at_file(path: Path) -> Found:
    """The same for a file."""
    source = open_source(path)
    try:
        return looked_at(source)
    finally:
        source.close()


def allocation_of(parser: Parser, source: BlockSource) -> tuple[FileSystem, Allocation]:
    """The map by one parser alone; ``LayoutError`` where there is a doubt."""
    view = VolumeView(source, 0, source.size)
    filesystem = parser.probe(view)
    assert filesystem is not None
    assert parser.allocation is not None
    view.allow(1 << 20)
    allocation = parser.allocation(view, filesystem, SurveyOptions())
    check_ranges(allocation, source.size)
    return filesystem, allocation


def why_whole(parser: Parser, pieces: dict[int, bytes], size: int) -> str:
    """Why a volume is taken whole."""
    try:
        _, allocation = allocation_of(parser, SparseSource(size, pieces))
    except LayoutError as error:
        return str(error)
    raise AssertionError(f"{allocation.free.total} bytes are called free")


def check_ranges(allocation: Allocation, size: int) -> None:
    """Free ranges ascend, are disjoint, not empty, and inside of the volume."""
    before = total = 0
    for rows in allocation.free.ranges(0, size):
        assert (rows[:, 1] > 0).all()
        ends = np.concatenate((np.array([before], np.uint64), rows[:, 0] + rows[:, 1]))
        assert (rows[:, 0] >= ends[:-1]).all()
        before, total = int(ends[-1]), total + int(rows[:, 1].sum())
    assert before <= size
    assert total == allocation.free.total


def free_of(allocation: Allocation, size: int) -> Ranges:
    """What is free, as (first byte, bytes), joined."""
    rows = [tuple(row) for part in allocation.free.ranges(0, size) for row in part.tolist()]
    return joined(rows)


def joined(rows: Sequence[tuple[int, int]]) -> Ranges:
    """Ranges sorted and joined."""
    found: Ranges = []
    for offset, length in sorted(rows):
        if found and sum(found[-1]) == offset:
            found[-1] = found[-1][0], found[-1][1] + length
        else:
            found.append((offset, length))
    return found


def wipe(path: Path, ranges: Ranges) -> None:
    """Write 0xA5 over ranges of a file."""
    with open(path, "r+b") as file:
        for offset, length in ranges:
            file.seek(offset)
            file.write(b"\xa5" * length)


def parser_of(name: str) -> Parser:
    """A parser by its name."""
    return next(parser for parser in parsers() if parser.name == name)

"""Fuzz the Btrfs parser: the superblock and nodes of small volumes, at their places."""

from __future__ import annotations

from functools import cache

from aipimage.volumes.filesystems.btrfs import PARSER
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.volumes.btrfs.built import MIB, NODE, SIZE, Pieces, Volume, sealed

RESERVED = [(0, MIB), (64 * MIB, 64 * MIB + 65536)]


def fuzz_btrfs(data: bytes) -> None:
    """``data``: the blocks of a volume that has all trees, one behind the other."""
    for attempt in {data, repaired(data)}:
        check(_volume().source(_blocks(attempt)))


def seeds() -> list[bytes]:
    """Volumes with and without a free space tree, a block group tree and a log."""
    kinds = [Volume(groups, free) for groups in (True, False) for free in (True, False)]
    kinds.append(Volume())
    kinds[-1].add_log()
    return [
        volume.packed_superblock()
        + b"".join(
            nodes[name].packed() if name in nodes else bytes(NODE)
            for name in _volume().nodes | _volume().log
        )
        for volume in kinds
        for nodes in (volume.nodes | volume.log,)
    ]


def repaired(data: bytes) -> bytes:
    """The same blocks with their checksums right."""
    return b"".join(sealed(block) for block in _blocks(data))


def check(source: Pieces) -> Allocation | None:
    """Make a map; whatever is called free must be inside of the volume, and not reserved."""
    view = VolumeView(source, 0, source.size)
    found = PARSER.probe(view)
    if found is None or PARSER.allocation is None:
        return None
    try:
        made = PARSER.allocation(view, found, SurveyOptions())
    except LayoutError:
        return None
    end = total = 0
    for rows in made.free.ranges(0, SIZE):
        for start, length in rows.tolist():
            assert end <= start
            assert length > 0
            end, total = start + length, total + length
            assert all(end <= low or high <= start for low, high in RESERVED)
    assert end <= found.size <= SIZE
    assert total == made.free.total
    return made


@cache
def _volume() -> Volume:
    volume = Volume(block_group_tree=True)
    volume.add_log()
    return volume


def _blocks(data: bytes) -> list[bytes]:
    """Cut or fill up to whole blocks, as many as the volume has."""
    count = 1 + len(_volume().all_nodes())
    data = data[: count * NODE].ljust(count * NODE, b"\0")
    return [data[at : at + NODE] for at in range(0, len(data), NODE)]

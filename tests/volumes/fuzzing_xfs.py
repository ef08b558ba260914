"""Fuzz the XFS parser: all structures of small volumes, at their places."""

from __future__ import annotations

import copy
from functools import cache

from aipimage.volumes.filesystems.xfs import PARSER
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.volumes.xfs_builder import Volume

VERSIONS = (5, 4)


def fuzz_xfs(data: bytes) -> None:
    """``data``: a byte that chooses the version, then the structures one behind the other.

    They are tried as they are, and with their checksums made right.
    """
    base = _volume(VERSIONS[data[0] % 2 if data else 0])
    volume = copy.copy(base)
    volume.image = bytearray(base.image)
    at = 1
    for start, length, _ in base.places.values():
        piece = data[at : at + length]
        volume.image[start : start + len(piece)] = piece
        at += length
    check(volume)
    for name in volume.places:
        if volume.image != base.image:
            volume.seal(name)
    check(volume)


def seeds() -> list[bytes]:
    """A volume of each version."""
    return [
        bytes([index])
        + b"".join(
            bytes(volume.image[start : start + length])
            for start, length, _ in volume.places.values()
        )
        for index, volume in enumerate(map(_volume, VERSIONS))
    ]


def check(volume: Volume) -> Allocation | None:
    """Make a map; what is called free must be what the unharmed volume calls free, inside of the
    volume, and not in a place where there is a structure.
    """
    source = volume.source()
    view = VolumeView(source, 0, source.size)
    found = PARSER.probe(view)
    if found is None or PARSER.allocation is None:
        return None
    try:
        made = PARSER.allocation(view, found, SurveyOptions())
    except LayoutError:
        return None
    end = total = 0
    reserved = volume.headers * volume.block
    for rows in made.free.ranges(0, source.size):
        for start, length in rows.tolist():
            assert max(end, reserved) <= start
            assert length > 0
            end, total = start + length, total + length
    assert end <= found.size <= source.size
    assert total == made.free.total
    return made


@cache
def _volume(version: int) -> Volume:
    return Volume(version)

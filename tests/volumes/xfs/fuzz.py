"""Fuzz the XFS parser: all structures of small volumes, at their places."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cache

from aipimage.volumes.filesystems.xfs import PARSER
from aipimage.volumes.model import SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.volumes.xfs.built import Volume

VERSIONS = (5, 4)


def fuzz_xfs(data: bytes) -> None:
    """``data``: a byte that chooses the version, then the structures one behind the other.

    They are tried as they are, and with their checksums made right.
    """
    base = _volume(VERSIONS[data[0] % 2 if data else 0])
    volume = copy.copy(base)
    volume.image = bytearray(base.image)
    at = 1
    for start, length in _pieces(base):
        piece = data[at : at + length]
        volume.image[start : start + len(piece)] = piece
        at += length
    found = check(volume)
    if found is not None and base.version == 5:
        assert found == check(base)
    for name in volume.places:
        volume.seal(name)
    check(volume)


def seeds() -> list[bytes]:
    """A volume of each version."""
    return [
        bytes([index])
        + b"".join(bytes(volume.image[start : start + length]) for start, length in _pieces(volume))
        for index, volume in enumerate(map(_volume, VERSIONS))
    ]


def check(volume: Volume) -> list[tuple[int, int]] | None:
    """Make a map; return what is called free, which must be inside of the volume, in its order, and
    outside of the first headers.
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
    free: list[tuple[int, int]] = []
    end = volume.headers * volume.block
    for rows in made.free.ranges(0, source.size):
        for start, length in rows.tolist():
            assert end <= start
            assert length > 0
            end = start + length
            free.append((start, length))
    assert end <= found.size <= source.size
    assert sum(length for _, length in free) == made.free.total
    return free


@cache
def _volume(version: int) -> Volume:
    return Volume(version, fanout=8)


def _pieces(volume: Volume) -> Iterator[tuple[int, int]]:
    """What is looked at: (offset, length). Of most blocks of the log only the first words are."""
    for name, (start, length, _) in volume.places.items():
        is_plain = name.startswith("log ") and int(name[4:]) not in (18, 19)
        yield start, 8 if is_plain else length

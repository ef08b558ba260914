"""Hostile class 1 for every structure: each truncation length, and bytes behind the end."""

from __future__ import annotations

import pytest

from aipimage.errors import AipImageError, FormatError, IncompleteError
from aipimage.format.header import decode_core, decode_core_length
from aipimage.format.parts import decode_part_footer, decode_part_header
from aipimage.format.trailer import decode_trailer
from tests.format import samples
from tests.format.structures import ALL, BY_NAME, Structure

OPEN_ENDED = {"record_header", "reference"}
"""Decoded from the front of a longer buffer: what follows them is not theirs."""

WHOLE_ROWS = {"segments": 40}
"""A prefix of whole rows is a valid list: its length is bound by the record that holds it."""

BY_STRUCTURE = pytest.mark.parametrize("structure", ALL, ids=lambda structure: structure.name)


@BY_STRUCTURE
def test_class_01_every_truncation_is_refused(structure: Structure) -> None:
    """Cut as it is, and cut with the digests recomputed."""
    for length in range(len(structure.sample)):
        if length and length % WHOLE_ROWS.get(structure.name, length + 1) == 0:
            continue
        cut = structure.sample[:length]
        for data in (cut, structure.repair(cut)):
            with pytest.raises(AipImageError):
                structure.decode(data)


@BY_STRUCTURE
@pytest.mark.parametrize("filler", [b"\0", b"\xff"])
def test_class_01_trailing_bytes_are_refused(structure: Structure, filler: bytes) -> None:
    """One byte to one kibibyte more than the structure's counts say."""
    for length in (*range(1, 130), 192, 256, 512, 1024):
        data = structure.sample + filler * length
        if structure.name in OPEN_ENDED:
            assert structure.reencode(structure.decode(data), data) == structure.sample
            continue
        for hostile in (data, structure.repair(data)):
            with pytest.raises(AipImageError):
                structure.decode(hostile)


def test_class_01_fewer_segments_are_a_valid_list() -> None:
    """The rows that a cut leaves whole decode to the first rows, and to nothing else."""
    structure = BY_NAME["segments"]
    for count in range(1, len(samples.SEGMENTS)):
        assert structure.decode(structure.sample[: 40 * count]) == samples.SEGMENTS[:count]


@BY_STRUCTURE
def test_memoryview_decodes_like_bytes(structure: Structure) -> None:
    """Readers slice a buffer without copying it; truncated views are refused just so."""
    if structure.name.startswith("header"):
        pytest.skip("a header core is read as bytes")
    view = memoryview(structure.sample)
    value = structure.decode(view)
    assert structure.reencode(value, structure.sample) == structure.sample
    with pytest.raises(AipImageError):
        structure.decode(view[:-1])


def test_truncation_is_reported_as_incomplete() -> None:
    """What a caller shows to a person: an image cut short is incomplete, not damaged."""
    with pytest.raises(IncompleteError):
        decode_core_length(b"\x89AIV")
    with pytest.raises(IncompleteError):
        decode_trailer(BY_NAME["trailer"].sample[:-1], samples.STREAM)
    with pytest.raises(IncompleteError):
        decode_trailer(bytes(256), samples.STREAM)
    for decode in (decode_part_header, decode_part_footer):
        with pytest.raises(IncompleteError):
            decode(bytes(127))


def test_trailer_must_stand_where_the_stream_ends() -> None:
    """A whole image followed by foreign bytes, or cut at a copy of its own trailer."""
    for length in (0, 256, samples.STREAM - 1, samples.STREAM + 1, 1 << 63):
        with pytest.raises(FormatError):
            decode_trailer(BY_NAME["trailer"].sample, length)


def test_header_followed_by_foreign_bytes_is_refused() -> None:
    """The core is cut out by its own length: a longer or shorter piece is an error."""
    for data in (samples.some_id(1), b""):
        with pytest.raises(IncompleteError):
            decode_core(data)

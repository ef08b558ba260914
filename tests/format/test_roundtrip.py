"""decode(encode(x)) == x for any value that the format can hold, and encode is deterministic."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aipimage.extents import Kind
from aipimage.format import constants as c
from aipimage.format import tables
from aipimage.format.checkpoint import (
    Checkpoint,
    Continuation,
    decode_checkpoint,
    decode_continuation,
    encode_checkpoint,
    encode_continuation,
)
from aipimage.format.digest import digest
from aipimage.format.header import Header, decode_core, decode_core_length, encode_core
from aipimage.format.mappage import MapPage, decode_map_page, encode_map_page
from aipimage.format.parts import (
    PartFooter,
    PartHeader,
    decode_part_footer,
    decode_part_header,
    encode_part_footer,
    encode_part_header,
)
from aipimage.format.record import (
    NO_REFERENCE,
    RecordHeader,
    Reference,
    decode_record_header,
    decode_reference,
    encode_record_header,
    encode_reference,
    payload_length,
    verified_against,
    verified_record,
)
from aipimage.format.seal import Seal, decode_seal, encode_seal
from aipimage.format.segments import Segment, decode_segments, encode_segments
from aipimage.format.trailer import Trailer, decode_trailer, encode_trailer
from tests.format import samples
from tests.format import strategies as own
from tests.format.structures import ALL, Structure, decode_whole_record


@pytest.mark.parametrize("structure", ALL, ids=lambda structure: structure.name)
def test_samples_use_every_field(structure: Structure) -> None:
    """The samples of the other modules are valid, and encode to the same bytes each time."""
    value = structure.decode(structure.sample)
    assert structure.reencode(value, structure.sample) == structure.sample
    assert structure.reencode(value, structure.sample) == structure.sample


@given(own.headers())
def test_header(header: Header) -> None:
    encoded = encode_core(header, header.header_mac)
    assert encoded == encode_core(header, header.header_mac)
    assert decode_core_length(encoded[: c.CORE_FIXED]) == len(encoded)
    found = decode_core(encoded)
    assert found == replace(header, core_length=len(encoded), header_digest=encoded[-32:])
    assert found.records_start == len(encoded) + (8192 if header.suite else 0)


@given(own.record_headers(), st.sampled_from((0, 16)))
def test_record_header(header: RecordHeader, tag: int) -> None:
    header = header._replace(body_length=header.body_length + tag)
    encoded = encode_record_header(header)
    assert len(encoded) == c.RECORD_HEADER
    assert decode_record_header(encoded, tag) == header
    assert payload_length(header, tag) >= 1


@given(st.sampled_from(list(c.RecordType)), own.sized(16), own.counts(64))
def test_whole_record_of_every_type(kind: int, origin: bytes, number: int) -> None:
    header = RecordHeader(kind, c.Codec.NONE, 0, 40 + c.TAG, 40, origin, number)
    data = samples.whole_record(header)
    assert decode_whole_record(data) == (header, b"\xa5" * header.body_length)
    assert verified_record(data) == digest(data[: -c.CHECK])
    ref = Reference(origin, 4096, len(data), 40, verified_record(data))
    assert verified_against(data, ref, kind, c.TAG) == header


@given(own.references() | st.just(NO_REFERENCE), own.sized(5))
def test_reference(ref: Reference, before: bytes) -> None:
    assert len(encode_reference(ref)) == c.REFERENCE
    assert decode_reference(before + encode_reference(ref), len(before)) == ref


@given(own.trailers())
def test_trailer(trailer: Trailer) -> None:
    encoded = encode_trailer(trailer)
    assert len(encoded) == c.TRAILER
    assert decode_trailer(encoded, trailer.stream_length) == trailer


@given(own.seals())
def test_seal(seal: Seal) -> None:
    encoded = encode_seal(seal)
    assert encoded == encode_seal(seal)
    assert decode_seal(encoded) == seal


@given(own.segment_lists())
def test_segments(segments: list[Segment]) -> None:
    length = max(segment.stream_start + segment.length for segment in segments)
    assert decode_segments(encode_segments(segments), length) == segments


@given(own.checkpoints())
def test_checkpoint(checkpoint: Checkpoint) -> None:
    encoded = encode_checkpoint(checkpoint)
    assert encoded == encode_checkpoint(checkpoint)
    found = decode_checkpoint(encoded)
    assert found[:2] == checkpoint[:2]
    assert found[3:] == checkpoint[3:]
    np.testing.assert_array_equal(found.notes, checkpoint.notes)


@given(
    own.ids(),
    st.integers(1, c.STREAM_MAX),
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.integers(1, c.STREAM_MAX),
    st.binary(min_size=32, max_size=32),
)
def test_continuation(
    previous: bytes, length: int, time: int, records: int, running: bytes
) -> None:
    continuation = Continuation(previous, length, time, records, running)
    assert decode_continuation(encode_continuation(continuation)) == continuation


@given(own.sized(16), st.integers(1, c.PARTS_MAX), st.data(), st.booleans())
def test_parts(set_id: bytes, number: int, data: st.DataObject, last: bool) -> None:
    start = data.draw(st.integers(0, c.STREAM_MAX - 1))
    length = data.draw(st.integers(1, c.STREAM_MAX - start))
    header = PartHeader(set_id, number, start)
    footer = PartFooter(set_id, number, start, length, last)
    assert len(encode_part_header(header)) == len(encode_part_footer(footer)) == c.PART_RECORD
    assert decode_part_header(encode_part_header(header)) == header
    assert decode_part_footer(encode_part_footer(footer)) == footer


@given(own.map_pages())
def test_map_page(page: MapPage) -> None:
    encoded = encode_map_page(page)
    assert encoded == encode_map_page(page)
    found = decode_map_page(encoded, samples.STRIPE_SHIFT, samples.FANOUT_SHIFT)
    for name in ("device", "level", "first", "sectors", "origins", "refs"):
        assert getattr(found, name) == getattr(page, name)
    for column in ("length", "kind", "position", "origin"):
        np.testing.assert_array_equal(found.extents[column], page.extents[column])


def test_map_page_steps_wrap_around() -> None:
    """A data extent that lies before the one before it has a step modulo 2^64."""
    page = samples.MAP_PAGE
    found = decode_map_page(
        encode_map_page(page), samples.STRIPE_SHIFT, samples.FANOUT_SHIFT
    ).extents
    assert found["position"][found["kind"] == Kind.DATA].tolist() == [70_000, 5]


@given(own.frame_entries(), st.integers(0, 1000))
def test_table_leaf(entries: list[tuple[int, int, int, bytes]], leaf: int) -> None:
    body = b"".join(tables.encode_frame_entry(*entry) for entry in entries)
    encoded = tables.encode_table_leaf(leaf * c.LEAF_FRAMES, body)
    first, found = tables.decode_table_leaf(encoded, samples.FRAME_SIZE)
    assert first == leaf * c.LEAF_FRAMES
    assert [(*row.tolist()[:3], bytes(row["digest"])) for row in found] == entries


@given(
    st.integers(1, c.INDEX_LEVELS), st.dictionaries(own.counts(64), own.references(), min_size=1)
)
def test_index_page(level: int, refs: dict[int, Reference]) -> None:
    entries = [tables.IndexEntry(key, ref) for key, ref in sorted(refs.items())]
    assert tables.decode_index(tables.encode_index(level, entries)) == (level, entries)


@given(st.integers(0, 1000), st.lists(own.sized(16), min_size=1, max_size=16))
def test_digest_leaf(leaf: int, digests: list[bytes]) -> None:
    encoded = tables.encode_digest_leaf(leaf * 16, b"".join(digests))
    assert tables.decode_digest_leaf(encoded, 20) == (leaf * 16, b"".join(digests))


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(0, (1 << 48) - 1))))
def test_places(rows: list[tuple[int, int]]) -> None:
    """Section 6.1: the device in the upper 16 bits, the sector in the lower 48."""
    at = [tables.pack_at(device, sector) for device, sector in rows]
    assert at == [device * 2**48 + sector for device, sector in rows]
    assert [tables.unpack_at(each) for each in at] == rows
    assert tables.devices_of(np.array(at, np.uint64)).tolist() == [device for device, _ in rows]


@given(st.lists(st.tuples(st.integers(0, 1023), own.counts(40), st.integers(1, 1000)), min_size=1))
def test_frame_extents(rows: list[tuple[int, int, int]]) -> None:
    at = [tables.pack_at(device, sector) for device, sector, _ in rows]
    sectors = [count for _, _, count in rows]
    encoded = tables.encode_frame_extents(at, sectors)
    assert len(encoded) == c.FRAME_EXTENT * len(rows)
    found = tables.decode_frame_extents(encoded, 512 * sum(sectors))
    assert found["at"].tolist() == at
    assert found["sectors"].tolist() == sectors

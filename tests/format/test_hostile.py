"""Named tests for the classes of hostile input that a decoder alone can refuse.

Truncation (class 1) is in test_truncation; codecs, parts, chains and keys have their own tests.
"""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aipimage.errors import FormatError, LimitError, UnsupportedError
from aipimage.extents import EXTENT_DTYPE, Kind, extent_array
from aipimage.format import constants as c
from aipimage.format import tables
from aipimage.format.digest import digest
from aipimage.format.header import decode_core, encode_core
from aipimage.format.mappage import decode_map_page, encode_map_page
from aipimage.format.record import (
    NO_REFERENCE,
    Reference,
    decode_record_header,
    decode_reference,
    encode_record_header,
    encode_reference,
    verified_against,
)
from aipimage.format.seal import decode_seal, encode_seal
from aipimage.format.segments import Segment, decode_segments, encode_segments
from aipimage.format.trailer import decode_trailer, encode_trailer
from tests.format import samples
from tests.format.samples import FANOUT_SHIFT, STRIPE_SHIFT, ref, some_id
from tests.format.structures import BY_NAME, decode_whole_record, patched, sealed_by_digest
from tests.support.soon import SOON

MEBIBYTE = 1024 * 1024
U32, U64 = (1 << 32) - 1, (1 << 64) - 1


@contextmanager
def at_most(mebibytes: int, seconds: float = 2.0) -> Iterator[None]:
    """Fail where the block allocates or lasts longer than it may."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - began < max(seconds, SOON)
    assert peak < mebibytes * MEBIBYTE


def refused(name: str, changes: dict[str, int], error: type[Exception] = FormatError) -> None:
    """Decode a patched sample within 1 MiB and expect ``error``."""
    structure = BY_NAME[name]
    hostile = patched(structure, changes)
    structure.decode(structure.sample)
    with at_most(1), pytest.raises(error):
        structure.decode(hostile)


def map_page(data: bytes) -> Any:
    """Decode a map page with the shifts of the samples."""
    return decode_map_page(data, STRIPE_SHIFT, FANOUT_SHIFT)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("reference", {"offset": U64 - 299}),
        ("reference", {"offset": (1 << 63) - 1}),
        ("table_leaf", {"frames[1].offset": U64 - 299}),
        ("table_leaf", {"frames[0].offset": U64, "frames[0].record_length": U32}),
        ("table_leaf", {"first": (1 << 64) - 1024}),
        ("digest_leaf", {"first": (1 << 64) - 16}),
        ("frame_extents", {"extents[0].at": (1 << 48) - 1, "extents[0].sectors": 2}),
        ("map_page", {"first": (1 << 64) - (1 << 15)}),
        ("checkpoint", {"notes[0].at": (1 << 48) - 1, "notes[0].sectors": 2}),
        ("checkpoint", {"notes[0].sectors": U64}),
        ("continuation", {"length": U64}),
        ("segments", {"segments[1].length": U64, "segments[1].stream_start": 1}),
        ("segments", {"segments[1].origin_start": U64 - 70}),
        ("trailer", {"seal.offset": U64 - 299}),
        ("trailer", {"stream_length": U64}),
        ("part_footer", {"start": (1 << 63) - 1, "length": U64}),
        ("part_footer", {"start": 1, "length": (1 << 63) - 1}),
        ("seal_increment", {"parent_sequence": U32, "sequence": 0}),
        ("record_header", {"body_length": U32}),
    ],
)
def test_class_02_offset_length_wrap_around(name: str, changes: dict[str, int]) -> None:
    """An end that is small only because its sum wrapped around."""
    refused(name, changes)


def test_class_02_sums_of_map_lengths_wrap_around() -> None:
    """Lengths that sum to the page's range modulo 2^64 only: each of them is possible."""
    shifts, sectors = (30, 8), 1 << 48
    count = (1 << 16) + 1
    page = replace(
        samples.MAP_PAGE,
        level=4,
        sectors=sectors,
        origins=(),
        refs=(),
        extents=extent_array([(sectors, 0, 0, Kind.ZERO)]),
    )
    assert decode_map_page(encode_map_page(page), *shifts).sectors == sectors
    wrapping = np.repeat(page.extents, count)
    assert int(wrapping["length"].sum()) == sectors
    with pytest.raises(FormatError):
        decode_map_page(encode_map_page(replace(page, extents=wrapping)), *shifts)


def test_class_02_sum_of_device_sectors_wraps_around() -> None:
    """Counts that sum to the device's size modulo 2^64 only."""
    device = samples.DEVICES[1]
    refused("seal_full", {"devices[1].unused": U64, "devices[1].zero": device.zero + 1})


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("header_plain", {"frame_shift": 0}),
        ("header_plain", {"stripe_shift": 0}),
        ("header_plain", {"fanout_shift": 0}),
        ("seal_full", {"devices[0].sector_size": 0}),
        ("seal_full", {"devices[0].size": 0}),
        ("map_page", {"sectors": 0}),
        ("map_page", {"lengths[1]": 0}),
        ("table_leaf", {"frames[0].plain_length": 0}),
        ("record_header", {"plain_length": 0}),
        ("record_header", {"body_length": 0}),
        ("segments", {"segments[0].length": 0}),
        ("part_footer", {"length": 0}),
        ("part_header", {"number": 0}),
        ("frame_extents", {"extents[0].sectors": 0, "extents[1].sectors": 2}),
        ("checkpoint", {"notes[0].sectors": 0}),
    ],
)
def test_class_03_zero_divisors(name: str, changes: dict[str, int]) -> None:
    """Sizes and lengths that something divides by, or walks by, are never zero."""
    refused(name, changes)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("header_plain", {"core_length": U32}),
        ("header_plain", {"names.length": U32}),
        ("header_plain", {"creator.length": U32}),
        ("record_header", {"body_length": c.BODY_MAX + 1}),
        ("record_header", {"plain_length": c.PLAIN_MAX + 1}),
        ("record_header", {"extent_count": 0xFFFF}),
        ("table_leaf", {"count": U32}),
        ("digest_leaf", {"count": U32}),
        ("index_page", {"count": U32}),
        ("checkpoint", {"count": U32}),
        ("map_page", {"extent_count": U32}),
        ("map_page", {"ref_count": U32}),
        ("map_page", {"origin_count": 0xFFFF}),
        ("seal_full", {"device_count": 0xFFFF}),
        ("seal_full", {"origin_count": 0xFFFF}),
        ("seal_full", {"replaced_count": 0xFFFF}),
        ("seal_full", {"origins[0].frame_count": U64}),
    ],
)
def test_class_04_huge_counts(name: str, changes: dict[str, int]) -> None:
    """A count in a small structure allocates nothing by itself."""
    refused(name, changes)


LARGEST: list[tuple[str, Callable[[], Any]]] = [
    ("header", lambda: decode_core(_stuffed_header())),
    ("map page of extents", lambda: map_page(_stuffed_map_page(Kind.ZERO))),
    ("map page of pages", lambda: map_page(_stuffed_map_page(Kind.PAGE))),
    ("segments", lambda: decode_segments(_stuffed_segments(c.SEGMENTS_MAX), c.STREAM_MAX)),
    ("seal", lambda: decode_seal(_stuffed_seal())),
    ("map page of entries", lambda: map_page(_page_of_entries())),
]


def _stuffed_header() -> bytes:
    """A core of the greatest length, made of empty sections of a type that nobody knows."""
    sections = struct.pack("<HHI", 99, 0, 0) * ((c.CORE_MAX - c.CORE_MIN) // 8)
    data = bytearray(encode_core(replace(samples.PLAIN_HEADER, incompatible=0)))
    data[12:16] = (c.CORE_MIN + len(sections)).to_bytes(4, "little")
    return sealed_by_digest(32)(bytes(data[: c.CORE_FIXED]) + sections + bytes(64))


def _stuffed_map_page(kind: Kind) -> bytes:
    """A page of 220,000 extents, or of as many pages as its range has room for."""
    span = 1 << (STRIPE_SHIFT - 9)
    count = 16_384 if kind == Kind.PAGE else (c.PLAIN_MAX - 32) // 19
    rows = np.zeros(count, EXTENT_DTYPE)
    rows["length"], rows["kind"] = span if kind == Kind.PAGE else 1, kind
    page = replace(
        samples.MAP_PAGE,
        level=7,
        sectors=int(rows["length"].sum()),
        extents=rows,
        origins=(),
        refs=(ref(1),) * (count if kind == Kind.PAGE else 0),
    )
    return encode_map_page(page)


def _stuffed_segments(count: int) -> bytes:
    origin = some_id(1)
    return encode_segments([Segment(origin, 2 * at, 1, at) for at in range(count)])


def _stuffed_seal() -> bytes:
    other = samples.ORIGINS[1]
    origins = [other._replace(origin=struct.pack("<QQ", 1, n)) for n in range(8191)]
    origins.insert(0, samples.ORIGINS[0])
    return encode_seal(
        replace(
            samples.INCREMENT_SEAL,
            devices=samples.DEVICES[:1] * 1024,
            origins=tuple(origins),
            replaced=(ref(1),) * 4096,
        )
    )


def _page_of_entries() -> bytes:
    entry = samples.ORIGINS[1]._replace(name=b"n" * c.NAME_MAX)
    origins = [entry._replace(origin=struct.pack(">QQ", 1, n)) for n in range(c.ORIGINS_MAX)]
    return encode_map_page(replace(samples.MAP_PAGE, entries=tuple(origins)))


@pytest.mark.parametrize("decode", [row[1] for row in LARGEST], ids=[row[0] for row in LARGEST])
def test_class_04_largest_structures_stay_small(decode: Callable[[], Any]) -> None:
    """Everything at its limit at once is decoded in bounded time and memory."""
    with at_most(64, seconds=20):  # tracing slows down; the time is measured without it
        decode()
    began = time.process_time()
    decode()
    assert time.process_time() - began < SOON


def test_class_04_one_segment_too_many() -> None:
    """The limit of section 15 is checked before the rows are decoded."""
    data = _stuffed_segments(c.SEGMENTS_MAX) + bytes(40)
    with at_most(1), pytest.raises(LimitError):
        decode_segments(data, c.STREAM_MAX)


def test_class_05_frames_share_bytes() -> None:
    """Frames that lie on each other: one small record would stand for a thousand frames."""
    refused("table_leaf", {"frames[1].offset": samples.FRAME_ENTRIES[0][0]})
    end = samples.FRAME_ENTRIES[0][0] + samples.FRAME_ENTRIES[0][1]
    refused("table_leaf", {"frames[1].offset": end - 1})
    structure = BY_NAME["table_leaf"]
    structure.decode(patched(structure, {"frames[1].offset": end}))
    entry = tables.encode_frame_entry(4096, 300, 512, digest(b"same"))
    with pytest.raises(FormatError):
        tables.decode_table_leaf(tables.encode_table_leaf(0, entry * 1024), 65_536)


def test_class_05_segments_share_bytes() -> None:
    """Segments that overlap among the addresses, or that read one place of the stream twice."""
    origin = some_id(1)
    decode_segments(encode_segments([Segment(origin, 0, 10, 0), Segment(origin, 10, 9, 10)]), 99)
    for second in (Segment(origin, 9, 9, 10), Segment(origin, 10, 9, 9), Segment(origin, 0, 10, 0)):
        with pytest.raises(FormatError):
            decode_segments(encode_segments([Segment(origin, 0, 10, 0), second]), 99)
    many = [Segment(some_id(1), 10 * at, 10, 0) for at in range(5000)]
    with pytest.raises(FormatError):
        decode_segments(encode_segments(many), 1 << 40)


def test_class_05_trailer_records_overlap() -> None:
    """The seal and the segments of a trailer are two records, not one read twice."""
    seal = samples.TRAILER.seal
    refused("trailer", {"segments.offset": seal.offset})
    refused("trailer", {"segments.offset": seal.offset - 1})
    refused("trailer", {"segments.offset": seal.offset + seal.record_length - 1})


def test_class_05_page_extents_expand() -> None:
    """A child page describes exactly its own range: no two extents can share one page."""
    span = 1 << (STRIPE_SHIFT - 9)
    refused("map_page", {"lengths[0]": span + 1, "lengths[1]": 499})
    refused("map_page", {"lengths[0]": 2 * span})
    refused("map_page", {"ref_count": 1})
    refused("map_page", {"kinds[0]": Kind.ZERO})


@pytest.mark.parametrize("offset", [0, 8, 120, 183])
def test_class_06_record_in_the_header(offset: int) -> None:
    """No record can begin before the end of the smallest header."""
    refused("reference", {"offset": offset})
    refused("table_leaf", {"frames[0].offset": offset})
    refused("trailer", {"segments.offset": offset})


def test_class_06_record_past_the_end() -> None:
    """A record reaches at most to where the spare area begins."""
    seal = samples.TRAILER.seal
    last = samples.TRAILER.records_end - seal.record_length
    decode_trailer(
        encode_trailer(replace(samples.TRAILER, seal=seal._replace(offset=last))), samples.STREAM
    )
    for offset in (last + 1, samples.STREAM, samples.STREAM * 2):
        refused("trailer", {"seal.offset": offset})
    refused("segments", {"segments[2].stream_start": samples.STREAM})


def test_class_06_record_that_is_not_the_one_referred_to() -> None:
    """A reference to another record, type, origin or length is refused, whatever the digest."""
    data = samples.whole_record()
    good = Reference(samples.RECORD.origin, 4096, len(data), 1024, digest(data[:-16]))
    assert verified_against(data, good, c.RecordType.FRAME, c.TAG) == samples.RECORD
    for bad in (
        good._replace(origin=some_id(9)),
        good._replace(record_length=len(data) + 1),
        good._replace(plain_length=512),
    ):
        with pytest.raises(FormatError):
            verified_against(data, bad, c.RecordType.FRAME, c.TAG)
    with pytest.raises(FormatError):
        verified_against(data, good, c.RecordType.MAP, c.TAG)


def test_class_06_record_longer_than_it_states() -> None:
    """Bytes between the body and the check, under a digest that covers them."""
    data = samples.whole_record()[: -c.CHECK] + b"more"
    with pytest.raises(FormatError):
        decode_whole_record(data + digest(data)[: c.CHECK])


def test_class_06_image_is_its_own_parent() -> None:
    """The shortest cycle of a chain."""
    refused("seal_increment", {"parent_id": int.from_bytes(some_id(1), "little")})


def test_class_08_index_entries_ascend() -> None:
    """Doubled and unsorted keys."""
    for keys in ((0, 0), (1024, 0), (U64, U64), (U64, 0)):
        refused("index_page", {"entries[0].key": keys[0], "entries[1].key": keys[1]})


def test_class_08_segments_ascend() -> None:
    """Unsorted segments: binary search would miss some."""
    for order in ((1, 0, 2), (0, 2, 1), (2, 1, 0), (0, 0, 1)):
        rows = [samples.SEGMENTS[at] for at in order]
        with pytest.raises(FormatError):
            decode_segments(encode_segments(rows), samples.STREAM)


def test_class_08_origin_named_twice() -> None:
    """Two tables for one origin: which of them counts would be a guess."""
    refused("seal_full", {"origins[1].origin": int.from_bytes(some_id(1), "little")})


def test_class_08_origin_entries_of_a_page() -> None:
    """They ascend, and a name that could lead anywhere else is no name."""
    refused("map_page", {"entries[1].origin": 1})
    refused("map_page", {"entries[0].holder": 0})
    refused("map_page", {"entries[0].frame_count": 1})
    refused("map_page", {"entry_count": 8193}, LimitError)
    for name in (b"", b".", b"..", b"/etc/passwd", b"a/b", b"a\\b", b"a\0b", b"\xff.aiv"):
        assert samples.ORIGINS[1]._replace(name=name).file_name == ""
    assert samples.ORIGINS[1].file_name == "größer.aiv"


def test_class_08_the_seal_lists_itself_first() -> None:
    """What its own image wrote cannot be read without."""
    refused("seal_full", {"origins[0].origin": int.from_bytes(some_id(9), "little")})
    refused("seal_full", {"origins[0].holder": int.from_bytes(some_id(9), "little")})


def test_class_08_frames_ascend() -> None:
    """Frames are numbered in the order in which they were written."""
    refused("table_leaf", {"frames[0].offset": 1 << 40})


def test_class_09_tiny_seal_declares_a_petabyte() -> None:
    """A petabyte is a legal size; deciding so takes a kibibyte. Over the limit is refused."""
    sectors = (1 << 50) // 512
    device = replace(
        samples.DEVICES[0], size=1 << 50, unused=sectors, zero=0, data=0, unreadable=0, lost=0
    )
    data = encode_seal(replace(samples.FULL_SEAL, devices=(device,)))
    with at_most(1, seconds=0.05):
        assert decode_seal(data).devices[0].sectors == sectors
    refused("seal_full", {"devices[0].size": (1 << 57) + 1}, LimitError)


def test_class_09_tiny_map_page_covers_a_petabyte() -> None:
    """One extent of zeros over 2^41 sectors, in a page of under a hundred bytes."""
    sectors = 1 << 41
    page = replace(
        samples.MAP_PAGE,
        level=4,
        sectors=sectors,
        origins=(),
        refs=(),
        entries=(),
        extents=extent_array([(sectors, 0, 0, Kind.ZERO)]),
    )
    data = encode_map_page(page)
    assert len(data) < 100
    with at_most(1, seconds=0.05):
        assert decode_map_page(data, 26, 6).sectors == sectors


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("header_plain", {"major": 2}),
        ("header_plain", {"major": 0}),
        ("trailer", {"major": 2}),
        ("header_plain", {"suite": 4}),
        ("header_plain", {"digest": 2}),
        ("record_header", {"codec": 2}),
        ("record_header", {"codec": 255}),
    ],
)
def test_class_10_unknown_version_and_codec(name: str, changes: dict[str, int]) -> None:
    """What needs a newer release says so, and is not called damage."""
    refused(name, changes, UnsupportedError)


@pytest.mark.parametrize("bit", [4, 31, 32, 63])
def test_class_10_unknown_incompatible_flag_is_named(bit: int) -> None:
    """The image is refused by the name that its own name table has for the bit."""
    changes = {"incompatible": 1 << bit, "names[0].bit": bit}
    hostile = patched(BY_NAME["header_plain"], changes)
    with pytest.raises(UnsupportedError, match=rf"\b{bit}\b.*zstd"):
        decode_core(hostile)
    with pytest.raises(UnsupportedError, match=rf"\b{bit}\b"):
        decode_core(patched(BY_NAME["header_plain"], {"incompatible": 1 << bit}))


def test_class_10_feature_name_cannot_write_to_a_terminal() -> None:
    """The name comes from a stranger: control characters do not reach the message."""
    name = int.from_bytes(b"\x1b[2J\nall is well\xe2\x80\xae", "little")
    changes = {"incompatible": 16, "names[0].bit": 4, "names[0].name": name}
    with pytest.raises(UnsupportedError) as caught:
        decode_core(patched(BY_NAME["header_plain"], changes))
    assert str(caught.value).isprintable()
    assert str(caught.value).isascii()


def test_class_10_unknown_compatible_flags_and_sections_are_skipped() -> None:
    """What a reader may ignore is ignored: later minor versions stay readable."""
    plain = BY_NAME["header_plain"]
    assert decode_core(patched(plain, {"compatible": U64, "minor": 7})).minor == 7
    assert decode_core(patched(plain, {"creator.type": 77})).creator == ""
    assert decode_core(patched(plain, {"names.type": 0xFFFF})).creator == "aipimage 0.1.0"


def test_class_10_broken_sections_are_refused() -> None:
    """Sections fill the space exactly; text is UTF-8."""
    for changes in (
        {"creator.length": 13},
        {"creator.length": 15},
        {"names.length": 47},
        {"creator.text": 0xFF},
        {"names[0].name": 0xFF},
    ):
        refused("header_plain", changes)


def test_class_10_record_of_unknown_type() -> None:
    """A walk skips it, so its header decodes; no reference may lead to it."""
    header = samples.RECORD._replace(type=13, codec=2, extent_count=0)
    assert decode_record_header(encode_record_header(header), c.TAG) == header
    data = samples.whole_record(header)
    found = Reference(header.origin, 4096, len(data), 1024, digest(data[:-16]))
    for kind in c.RecordType:
        with pytest.raises(FormatError):
            verified_against(data, found, kind, c.TAG)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("map_page", {"kinds[5]": 6}),
        ("checkpoint", {"notes[1].kind": 6}),
        ("part_footer", {"flags": 2}),
        ("seal_full", {"kind": 4}),
        ("seal_increment", {"parent_kind": 4}),
    ],
)
def test_class_10_unknown_kinds_and_flags(name: str, changes: dict[str, int]) -> None:
    """Values of closed lists that are not on the list."""
    refused(name, changes)


def test_class_30_empty_associated_data() -> None:
    """A record whose body is empty, or a tag and nothing else, is refused before any key is used.

    Suite 3 authenticates its plain bytes as associated data: a body without them would be a tag
    over the header alone.
    """
    empty = samples.RECORD._replace(codec=0, extent_count=0, plain_length=1)
    for body in (0, 1, c.TAG - 1, c.TAG):
        with pytest.raises(FormatError):
            decode_record_header(encode_record_header(empty._replace(body_length=body)), c.TAG)
    decode_record_header(encode_record_header(empty._replace(body_length=c.TAG + 1)), c.TAG)
    only_extents = samples.RECORD._replace(body_length=c.TAG + 24)
    with pytest.raises(FormatError):
        decode_record_header(encode_record_header(only_extents), c.TAG)


def test_class_30_every_field_of_a_record_header_is_bound() -> None:
    """Section 4.6 authenticates the 40 bytes: two headers never share an encoding."""
    encodings = {encode_record_header(samples.RECORD)}
    for field, value in samples.RECORD._asdict().items():
        other: Any = some_id(5) if isinstance(value, bytes) else value + 1
        encodings.add(encode_record_header(samples.RECORD._replace(**{field: other})))
    assert len(encodings) == 1 + len(samples.RECORD)


def test_class_30_no_reference_is_all_zeros_only() -> None:
    """A reference with one byte set is a reference, and must then be a possible one."""
    assert decode_reference(encode_reference(NO_REFERENCE)) == NO_REFERENCE
    for at in range(c.REFERENCE):
        data = bytearray(c.REFERENCE)
        data[at] = 1
        with pytest.raises(LimitError):
            decode_reference(bytes(data))

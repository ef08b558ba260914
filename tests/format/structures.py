"""Every encoded structure behind one interface: what the generic tests and the fuzz targets drive.

A :class:`Structure` knows a valid sample, where its fields lie, and three functions: ``repair``
recomputes the digests after a change, ``decode`` decodes, ``reencode`` gives the bytes of a value.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from aipimage.format import checkpoint, parts, record, tables
from aipimage.format import constants as c
from aipimage.format.digest import digest
from aipimage.format.header import Header, decode_core, encode_core, encode_core_body
from aipimage.format.layers import decode_layer, decode_layer_leaf, encode_layer, encode_layer_leaf
from aipimage.format.mappage import decode_map_page, encode_map_page
from aipimage.format.origins import OriginEntry
from aipimage.format.seal import Seal, decode_seal, encode_seal
from aipimage.format.segments import decode_segments, encode_segments
from aipimage.format.trailer import Trailer, decode_trailer, encode_trailer
from tests.format import layout, samples
from tests.format.layout import Columns, Field, placed, reference, under


@dataclass(frozen=True)
class Structure:
    """``reencode`` also gets the bytes that were decoded, for what a reader may skip."""

    name: str
    sample: bytes
    fields: tuple[Field, ...]
    decode: Callable[[Any], Any]
    reencode: Callable[[Any, bytes], bytes]
    repair: Callable[[bytes], bytes] = bytes


def sealed_by_digest(length: int) -> Callable[[bytes], bytes]:
    """Return a repair function for structures that end in ``length`` bytes of their digest."""

    def repair(data: bytes) -> bytes:
        return data[:-length] + digest(data[:-length])[:length] if len(data) >= length else data

    return repair


def _reencode_header(value: Header, original: bytes) -> bytes:
    """Sections of unknown types are no part of the value: they are taken from the original."""
    fixed = encode_core_body(value)[: c.CORE_FIXED]
    fixed = fixed[:12] + struct.pack("<I", value.core_length) + fixed[16:]
    sections = original[c.CORE_FIXED : -c.CORE_TAIL]
    return fixed + sections + value.header_mac + value.header_digest


def _header_fields(header: Header) -> tuple[Field, ...]:
    names = sum(bin(bits).count("1") for bits in (header.incompatible, header.compatible))
    entries = [under(f"names[{n}]", layout.FEATURE_NAME) for n in range(names)]
    creator: Columns = (("creator.text", len(header.creator.encode())),)
    return placed(
        layout.HEADER,
        under("names", layout.SECTION),
        *entries,
        under("creator", layout.SECTION),
        creator,
        layout.HEADER_TAIL,
    )


def _header(name: str, header: Header) -> Structure:
    return Structure(
        name,
        encode_core(header, header.header_mac),
        _header_fields(header),
        decode_core,
        _reencode_header,
        sealed_by_digest(32),
    )


def decode_whole_record(data: bytes) -> tuple[record.RecordHeader, bytes]:
    """Decode a record through a reference that its maker wrote, true in every field."""
    kind, length, plain = data[4:5], data[8:12], data[12:16]
    stated = record.record_length(int.from_bytes(length, "little"))
    found = record.Reference(
        data[16:32], 4096, stated, int.from_bytes(plain, "little"), digest(data[: -c.CHECK])
    )
    header = record.verified_against(data, found, int.from_bytes(kind, "little"), c.TAG)
    return header, data[c.RECORD_HEADER : -c.CHECK]


def _reencode_record(value: tuple[record.RecordHeader, bytes], _: bytes) -> bytes:
    data = record.encode_record_header(value[0]) + value[1]
    return data + digest(data)[: c.CHECK]


def _records() -> list[Structure]:
    body: Columns = (("body", samples.RECORD.body_length), ("check", c.CHECK))
    return [
        Structure(
            "record_header", record.encode_record_header(samples.RECORD),
            placed(layout.RECORD_HEADER), lambda data: record.decode_record_header(data, c.TAG),
            lambda value, _: record.encode_record_header(value),
        ),
        Structure(
            "record", samples.whole_record(), placed(layout.RECORD_HEADER, body),
            decode_whole_record, _reencode_record, sealed_by_digest(c.CHECK),
        ),
        Structure(
            "reference", record.encode_reference(samples.ref(1)), placed(layout.REFERENCE),
            record.decode_reference, lambda value, _: record.encode_reference(value),
        ),
    ]  # fmt: skip


def _indexed(name: str, count: int, columns: Columns) -> list[Columns]:
    return [under(f"{name}[{n}]", columns) for n in range(count)]


def _tables() -> list[Structure]:
    entry: Columns = (("key", 8), *reference("ref"))
    return [
        Structure(
            "frame_extents",
            samples.EXTENTS,
            placed(*_indexed("extents", 2, layout.FRAME_EXTENT)),
            lambda data: tables.decode_frame_extents(data, 1024),
            lambda value, _: tables.encode_frame_extents(value["at"], value["sectors"]),
        ),
        Structure(
            "table_leaf",
            tables.encode_table_leaf(2048, samples.LEAF_ENTRIES),
            placed(layout.LEAF, *_indexed("frames", 2, layout.FRAME_ENTRY)),
            lambda data: tables.decode_table_leaf(data, samples.FRAME_SIZE),
            lambda value, _: tables.encode_table_leaf(value[0], value[1].tobytes()),
        ),
        Structure(
            "index_page",
            tables.encode_index(2, samples.INDEX),
            placed(layout.INDEX, *_indexed("entries", 2, entry)),
            tables.decode_index,
            lambda value, _: tables.encode_index(*value),
        ),
        Structure(
            "digest_leaf",
            tables.encode_digest_leaf(16, b"\x11" * 16 + b"\x22" * 16),
            placed(layout.LEAF, (("digests[0]", 16), ("digests[1]", 16))),
            lambda data: tables.decode_digest_leaf(data, samples.STRIPE_SHIFT),
            lambda value, _: tables.encode_digest_leaf(*value),
        ),
    ]


def _layers() -> list[Structure]:
    count = len(samples.LAYER_LEAF.blocks)
    columns = [
        tuple((f"{name}[{n}]", width) for n in range(count))
        for name, width in (("blocks", 8), ("digests", 16))
    ]
    return [
        Structure(
            "digest_layer",
            encode_layer(samples.LAYER),
            placed(
                reference("base"),
                reference("tree"),
                layout.LAYER_TAIL,
                (("base_name", len(samples.LAYER.base_name)),),
            ),
            decode_layer,
            lambda value, _: encode_layer(value),
        ),
        Structure(
            "layer_leaf",
            encode_layer_leaf(samples.LAYER_LEAF),
            placed(layout.LEAF, *columns),
            decode_layer_leaf,
            lambda value, _: encode_layer_leaf(value),
        ),
    ]


def _entries(name: str, entries: Sequence[OriginEntry]) -> list[Columns]:
    return [layout.origin_entry(f"{name}[{n}]", each.name) for n, each in enumerate(entries)]


def _map_page() -> Structure:
    page = samples.MAP_PAGE
    count = len(page.extents)
    columns = [
        tuple((f"{name}[{n}]", width) for n in range(count))
        for name, width in (("lengths", 8), ("steps", 8), ("origin_index", 2), ("kinds", 1))
    ]
    origins: Columns = tuple((f"origins[{n}]", 16) for n in range(len(page.origins)))
    refs = [reference(f"refs[{n}]") for n in range(len(page.refs))]
    return Structure(
        "map_page",
        encode_map_page(page),
        placed(layout.MAP_PAGE, origins, *columns, *refs, *_entries("entries", page.entries)),
        lambda data: decode_map_page(data, samples.STRIPE_SHIFT, samples.FANOUT_SHIFT),
        lambda value, _: encode_map_page(value),
    )


def _seal(name: str, seal: Seal) -> Structure:
    device = (*layout.SEAL_DEVICE, *reference("map_root"), *reference("digest_root"))
    fields = placed(
        layout.SEAL,
        reference("description"),
        reference("result"),
        *_indexed("devices", len(seal.devices), device),
        *_entries("origins", seal.origins),
        *_indexed("replaced", len(seal.replaced), layout.REFERENCE),
    )
    return Structure(
        name, encode_seal(seal), fields, decode_seal, lambda value, _: encode_seal(value)
    )


def _decode_trailer(data: bytes) -> Trailer:
    """Decode as the end of a stream of the stated length, so that the later checks are reached."""
    return decode_trailer(data, int.from_bytes(data[16:24], "little"))


def _trailer(name: str, trailer: Trailer) -> Structure:
    fields = placed(layout.TRAILER, reference("seal"), reference("segments"), layout.TRAILER_TAIL)
    return Structure(
        name,
        encode_trailer(trailer),
        fields,
        _decode_trailer,
        lambda value, _: encode_trailer(value),
        sealed_by_digest(32),
    )


def _streams() -> list[Structure]:
    rows = _indexed("segments", len(samples.SEGMENTS), layout.SEGMENT)
    return [
        Structure(
            "segments", encode_segments(samples.SEGMENTS), placed(*rows),
            lambda data: decode_segments(data, samples.STREAM),
            lambda value, _: encode_segments(value),
        ),
        Structure(
            "checkpoint", checkpoint.encode_checkpoint(samples.CHECKPOINT),
            placed(layout.CHECKPOINT, *_indexed("notes", 2, layout.NOTE)),
            checkpoint.decode_checkpoint, lambda value, _: checkpoint.encode_checkpoint(value),
        ),
        Structure(
            "continuation", checkpoint.encode_continuation(samples.CONTINUATION),
            placed(layout.CONTINUATION), checkpoint.decode_continuation,
            lambda value, _: checkpoint.encode_continuation(value),
        ),
        _trailer("trailer", samples.TRAILER),
        _trailer("trailer_bare", replace(samples.TRAILER, segments=record.NO_REFERENCE)),
        Structure(
            "part_header", parts.encode_part_header(samples.PART_HEADER), placed(layout.PART),
            parts.decode_part_header, lambda value, _: parts.encode_part_header(value),
            sealed_by_digest(32),
        ),
        Structure(
            "part_footer", parts.encode_part_footer(samples.PART_FOOTER), placed(layout.PART),
            parts.decode_part_footer, lambda value, _: parts.encode_part_footer(value),
            sealed_by_digest(32),
        ),
    ]  # fmt: skip


ALL = (
    _header("header_plain", samples.PLAIN_HEADER),
    _header("header_sealed", samples.SEALED_HEADER),
    *_records(),
    *_tables(),
    *_layers(),
    _map_page(),
    _seal("seal_full", samples.FULL_SEAL),
    _seal("seal_increment", samples.INCREMENT_SEAL),
    _seal("seal_differential", samples.DIFFERENTIAL_SEAL),
    *_streams(),
)
BY_NAME = {structure.name: structure for structure in ALL}


def patched(structure: Structure, changes: dict[str, int]) -> bytes:
    """Return the sample with the named fields set to numbers and its digests recomputed."""
    data = bytearray(structure.sample)
    fields = {field.name: field for field in structure.fields}
    for name, value in changes.items():
        field = fields[name]
        data[field.offset : field.offset + field.width] = value.to_bytes(field.width, "little")
    return structure.repair(bytes(data))

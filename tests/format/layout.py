"""The layouts of docs/format.md as data: (name, width) in the order in which they stand.

This is the third copy of each layout, next to the text and the struct formats. test_spec compares
it with both, so that no test here can go wrong together with the code it tests.
"""

from __future__ import annotations

from typing import NamedTuple


class Field(NamedTuple):
    """A field at ``offset`` of an encoded structure, ``width`` bytes long."""

    name: str
    offset: int
    width: int


Columns = tuple[tuple[str, int], ...]

REFERENCE: Columns = (
    ("origin", 16),
    ("offset", 8),
    ("record_length", 4),
    ("plain_length", 4),
    ("digest", 32),
)
HEADER: Columns = (
    ("magic", 8), ("major", 2), ("minor", 2), ("core_length", 4), ("incompatible", 8),
    ("compatible", 8), ("file_id", 16), ("chain_id", 16), ("created", 8), ("suite", 1),
    ("frame_shift", 1), ("stripe_shift", 1), ("fanout_shift", 1), ("digest", 1),
    ("key_copies", 1), ("reserved", 2), ("key_area_length", 4), ("reserved", 4),
    ("key_commitment", 32),
)  # fmt: skip
HEADER_TAIL: Columns = (("header_mac", 32), ("header_digest", 32))
SECTION: Columns = (("type", 2), ("reserved", 2), ("length", 4))
FEATURE_NAME: Columns = (("kind", 1), ("bit", 1), ("name", 46))
RECORD_HEADER: Columns = (
    ("magic", 4),
    ("type", 1),
    ("codec", 1),
    ("extent_count", 2),
    ("body_length", 4),
    ("plain_length", 4),
    ("origin", 16),
    ("number", 8),
)
FRAME_EXTENT: Columns = (("at", 8), ("sectors", 4))
LEAF: Columns = (("first", 8), ("count", 4), ("reserved", 4))
FRAME_ENTRY: Columns = (("offset", 8), ("record_length", 4), ("plain_length", 4), ("digest", 32))
INDEX: Columns = (("level", 4), ("count", 4))
LAYER_TAIL: Columns = (("limit", 8), ("entries", 8), ("depth", 4), ("name_length", 4))
MAP_PAGE: Columns = (
    ("first", 8),
    ("sectors", 8),
    ("device", 4),
    ("extent_count", 4),
    ("ref_count", 4),
    ("origin_count", 2),
    ("entry_count", 2),
    ("level", 1),
    ("reserved", 3),
)
SEAL: Columns = (
    ("image_id", 16), ("chain_id", 16), ("parent_id", 16), ("parent_digest", 32), ("sequence", 4),
    ("parent_sequence", 4), ("kind", 1), ("parent_kind", 1), ("device_count", 2),
    ("origin_count", 2), ("replaced_count", 2), ("header_digest", 32), ("record_count", 8),
)  # fmt: skip
SEAL_DEVICE: Columns = (
    ("size", 8),
    ("sector_size", 4),
    ("map_level", 1),
    ("reserved", 3),
    ("unused", 8),
    ("zero", 8),
    ("data", 8),
    ("unreadable", 8),
    ("lost", 8),
    ("reserved", 8),
)
ORIGIN_ENTRY: Columns = (("origin", 16), ("holder", 16), ("frame_count", 8))
SEGMENT: Columns = (("origin", 16), ("origin_start", 8), ("length", 8), ("stream_start", 8))
CHECKPOINT: Columns = (("device", 4), ("count", 4), ("sector", 8), ("records", 8), ("running", 32))
NOTE: Columns = (("at", 8), ("sectors", 8), ("kind", 8))
CONTINUATION: Columns = (
    ("previous", 16),
    ("length", 8),
    ("time", 8),
    ("records", 8),
    ("running", 32),
)
TRAILER: Columns = (("magic", 8), ("major", 2), ("minor", 2), ("reserved", 4), ("stream_length", 8))
TRAILER_TAIL: Columns = (
    ("file_id", 16),
    ("image_id", 16),
    ("spare_length", 8),
    ("header_digest", 32),
    ("trailer_digest", 32),
)
PART: Columns = (
    ("magic", 8),
    ("set_id", 16),
    ("number", 4),
    ("flags", 4),
    ("start", 8),
    ("length", 8),
    ("reserved", 48),
    ("digest", 32),
)


def under(prefix: str, columns: Columns) -> Columns:
    """Return ``columns`` with their names under ``prefix``."""
    return tuple((f"{prefix}.{name}", width) for name, width in columns)


def reference(name: str) -> Columns:
    """Return the columns of the reference ``name``."""
    return under(name, REFERENCE)


def origin_entry(name: str, file_name: bytes) -> Columns:
    """Return the columns of an origin entry with a hint."""
    return under(
        name,
        (
            *ORIGIN_ENTRY,
            *reference("table_root"),
            ("name_length", 1),
            *((("name", len(file_name)),) if file_name else ()),
        ),
    )


def placed(*groups: Columns) -> tuple[Field, ...]:
    """Lay the groups one after the other from offset 0."""
    fields: list[Field] = []
    offset = 0
    for name, width in (column for group in groups for column in group):
        fields.append(Field(name, offset, width))
        offset += width
    return tuple(fields)

"""Every field of every structure at boundary values, with the digests recomputed.

Either the decoder refuses with a typed error, or what it returns encodes to exactly these bytes:
nothing is misread, nothing unforeseen is raised, nothing large is allocated.
"""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Iterator

import pytest

from aipimage.errors import AipImageError
from aipimage.format import constants as c
from tests.format.layout import Field
from tests.format.structures import ALL, BY_NAME, Structure, patched
from tests.support.soon import SOON

MEMORY = 64 * 1024 * 1024

LIMITS = (
    c.CORE_MIN, c.CORE_MAX, c.PLAIN_MAX, c.BODY_MAX, c.METADATA_MAX, c.DEVICES_MAX, c.ORIGINS_MAX,
    c.DEVICE_SIZE_MAX, c.DEVICE_SIZE_MAX // 512, c.CHAIN_MAX, c.REPLACED_MAX, c.PARTS_MAX,
    c.SEGMENTS_MAX, c.INDEX_LEVELS, c.MAP_LEVELS, c.STREAM_MAX, c.POSITION_LIMIT, c.FRAMES_MAX,
    c.LEAF_FRAMES, c.INDEX_ENTRIES, c.LAYER_ENTRIES, c.LAYERS_MAX,
)  # fmt: skip
POWERS = (3, 4, 7, 8, 9, 12, 15, 16, 20, 22, 24, 31, 32, 47, 48, 56, 57, 62, 63)

CASES = [
    pytest.param(structure, field, id=f"{structure.name}-{field.name}@{field.offset}")
    for structure in ALL
    for field in structure.fields
]


def boundary_values(width: int, present: int) -> list[int]:
    """Return the values to try in a field of ``width`` bytes that holds ``present``."""
    if width == 1:
        return list(range(256))
    end = 1 << 8 * width
    sign = end >> 1
    values = {0, 1, 2, 3, end - 1, end - 2, end - 3, sign - 1, sign, sign + 1}
    values |= {limit + step for limit in LIMITS for step in (-1, 0, 1)}
    values |= {(1 << power) + step for power in POWERS for step in (-1, 0, 1)}
    values |= {present + step for step in (-512, -256, -1, 1, 256, 512)}
    values |= {(end - amount) % end for amount in (present, present + 1, 256, 512, 4096, c.TRAILER)}
    values |= {1 << bit for bit in range(0, 8 * width, max(8, width))}
    return sorted(value for value in values if 0 <= value < end)


def outcomes(structure: Structure, field: Field) -> Iterator[tuple[int, bytes]]:
    """Yield each boundary value of a field and the bytes of the structure that holds it."""
    here = slice(field.offset, field.offset + field.width)
    present = int.from_bytes(structure.sample[here], "little")
    for value in boundary_values(field.width, present):
        data = bytearray(structure.sample)
        data[here] = value.to_bytes(field.width, "little")
        yield value, structure.repair(bytes(data))


def check_decodes_or_refuses(structure: Structure, data: bytes) -> None:
    """Decode within the bounds of time and memory; what is accepted re-encodes to ``data``."""
    tracemalloc.reset_peak()
    before, began = tracemalloc.get_traced_memory()[0], time.process_time()
    message = "accepted"
    try:
        value = structure.decode(data)
    except AipImageError as error:
        message = str(error)
    else:
        assert structure.reencode(value, data) == data
    assert message.isprintable(), "a refusal is one clear sentence"
    assert time.process_time() - began < SOON
    assert tracemalloc.get_traced_memory()[1] - before < MEMORY


@pytest.fixture(scope="module", autouse=True)
def _traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


@pytest.mark.parametrize(("structure", "field"), CASES)
def test_field_at_boundary_values(structure: Structure, field: Field) -> None:
    """At least twenty values, none of which is misread."""
    tried = 0
    for value, data in outcomes(structure, field):
        tried += 1
        try:
            check_decodes_or_refuses(structure, data)
        except Exception as error:
            error.add_note(f"{structure.name}.{field.name} = {value} (0x{value:x})")
            raise
    assert tried >= 20


@pytest.mark.parametrize("structure", ALL, ids=lambda structure: structure.name)
def test_fields_cover_every_byte(structure: Structure) -> None:
    """The fields lie one after the other, from the first byte to the last."""
    at = 0
    for field in structure.fields:
        assert field.offset == at
        assert field.width > 0
        at += field.width
    assert at == len(structure.sample)


@pytest.mark.parametrize("structure", ALL, ids=lambda structure: structure.name)
def test_reserved_fields_must_be_zero(structure: Structure) -> None:
    """Section 1: a reader refuses an image in which a reserved bit is not zero."""
    for field in structure.fields:
        if field.name.split(".")[-1] == "reserved":
            for bit in range(8 * field.width):
                data = bytearray(structure.sample)
                data[field.offset + bit // 8] |= 1 << bit % 8
                with pytest.raises(AipImageError):
                    structure.decode(structure.repair(bytes(data)))


DIGESTED = [structure for structure in ALL if structure.repair is not bytes]


@pytest.mark.parametrize("structure", DIGESTED, ids=lambda structure: structure.name)
def test_every_flipped_bit_is_noticed(structure: Structure) -> None:
    """Where a structure bears its own digest, damage to any bit of it is refused."""
    for bit in range(8 * len(structure.sample)):
        data = bytearray(structure.sample)
        data[bit // 8] ^= 1 << bit % 8
        assert refused_by(structure, bytes(data)), bit


def refused_by(structure: Structure, data: bytes) -> bool:
    """Tell whether the decoder refuses ``data`` with a typed error."""
    try:
        structure.decode(data)
    except AipImageError:
        return True
    return False


ONE_DATA = {"kinds[3]": 0, "steps[3]": 0}
"""Leaves the map page one data extent, of 500 sectors."""

# What is accepted up to the limit and refused beyond it; other fields change along where the text
# ties them together.
BOUNDS: list[tuple[str, str, dict[str, int], list[int], list[int]]] = [
    ("header_plain", "major", {}, [1], [0, 2, 0xFFFF]),
    ("header_plain", "minor", {}, [0, 1, 0xFFFF], []),
    ("header_plain", "frame_shift", {"stripe_shift": 30}, [12, 16, 22], [0, 11, 23, 255]),
    ("header_plain", "stripe_shift", {}, [20, 26, 30], [0, 19, 31, 255]),
    ("header_plain", "stripe_shift", {"frame_shift": 22}, [23, 30], [20, 21, 22]),
    ("header_plain", "fanout_shift", {}, [2, 6, 8], [0, 1, 9, 255]),
    ("header_plain", "suite", {}, [0], [1, 2, 3, 4, 255]),
    ("header_sealed", "suite", {}, [1, 2, 3], [0, 4, 255]),
    ("header_plain", "digest", {}, [1], [0, 2, 255]),
    ("header_plain", "key_copies", {}, [0], [1, 2]),
    ("header_sealed", "key_copies", {}, [2], [0, 1, 3]),
    ("header_plain", "key_area_length", {}, [0], [4096]),
    ("header_sealed", "key_area_length", {}, [4096], [0, 4095, 8192]),
    ("header_plain", "incompatible", {}, [0, 2, 4, 6, 8, 14], [1, 16, 1 << 31, 1 << 63]),
    ("header_plain", "compatible", {}, [0, 3, 4, (1 << 64) - 1], []),
    ("record_header", "type", {}, [1], [2, 10, 11, 12]),
    ("record_header", "type", {"extent_count": 0}, [0, 1, 2, 10, 12, 13, 255], []),
    ("record_header", "codec", {}, [1], [0, 2, 255]),
    ("record_header", "codec", {"type": 12, "extent_count": 0}, [1], [0, 2, 255]),
    ("record_header", "codec", {"type": 13, "extent_count": 0}, [1, 2, 255], [0]),
    ("record_header", "body_length", {}, [41, c.BODY_MAX], [0, 40, c.BODY_MAX + 1, (1 << 32) - 1]),
    ("record_header", "plain_length", {}, [1, c.PLAIN_MAX], [0, c.PLAIN_MAX + 1, (1 << 32) - 1]),
    ("reference", "offset", {}, [184, (1 << 63) - 301], [0, 183, (1 << 63) - 300, (1 << 64) - 1]),
    ("reference", "record_length", {}, [57, c.BODY_MAX + 56], [0, 56, c.BODY_MAX + 57]),
    ("reference", "plain_length", {}, [1, c.PLAIN_MAX], [0, c.PLAIN_MAX + 1]),
    ("table_leaf", "first", {}, [0, 1024, (1 << 49) - 1024], [1, 1023, 1 << 49, (1 << 64) - 1024]),
    ("table_leaf", "frames[0].plain_length", {}, [512, 65_536], [0, 511, 66_048]),
    ("index_page", "level", {}, [1, 8], [0, 9]),
    ("digest_leaf", "first", {}, [0, 16, (1 << 41) - 16], [1, 15, 1 << 41]),
    ("digest_layer", "depth", {}, [1, 2, 16], [0, 17, (1 << 32) - 1]),
    ("digest_layer", "limit", {}, [0, 1 << 41], [(1 << 41) + 1, 1 << 63, (1 << 64) - 1]),
    ("digest_layer", "entries", {}, [1, 1 << 41], [0, (1 << 41) + 1, (1 << 64) - 1]),
    ("layer_leaf", "first", {}, [16], [0, 15, 17, (1 << 64) - 1]),
    ("layer_leaf", "count", {}, [3], [0, 2, 4, 4096, 4097, (1 << 32) - 1]),
    ("layer_leaf", "blocks[0]", {"first": 0}, [0], [1, 17, 18]),
    ("layer_leaf", "blocks[1]", {}, [17, (1 << 40) - 1], [0, 16, 1 << 40, (1 << 64) - 1]),
    ("layer_leaf", "blocks[2]", {}, [18, (1 << 41) - 1], [17, 1 << 41, 1 << 63, (1 << 64) - 1]),
    ("map_page", "level", {}, [1, 2, 7], [0, 8, 255]),
    ("map_page", "device", {}, [0, 1023], [1024, (1 << 32) - 1]),
    ("map_page", "first", {}, [0, 1 << 15, (1 << 48) - (1 << 15)], [1, 1 << 14, 1 << 48, 1 << 63]),
    ("map_page", "steps[1]", ONE_DATA, [0, (1 << 56) - 500], [(1 << 56) - 499, 1 << 56, 1 << 63]),
    ("map_page", "origin_index[1]", {}, [0, 1], [2, 3, 0xFFFF]),
    ("map_page", "kinds[5]", {}, [0, 1, 2, 3, 5], [4, 6, 255]),
    ("seal_full", "kind", {}, [1], [0, 2, 3, 4]),
    ("seal_increment", "kind", {}, [1, 2], [0, 3, 4]),
    ("seal_increment", "kind", {"parent_kind": 1}, [1, 2, 3], [0, 4]),
    ("seal_increment", "parent_kind", {}, [1, 2, 3], [0, 4]),
    ("seal_increment", "sequence", {}, [6, 7, 4095], [5, 4096]),
    ("seal_increment", "sequence", {"parent_sequence": 4094}, [4095], [4094, 4096]),
    ("seal_differential", "kind", {}, [1, 2, 3], [0, 4]),
    ("seal_differential", "parent_kind", {}, [1], [0, 2, 3, 4]),
    ("seal_differential", "sequence", {}, [6], [5, 7]),
    ("seal_differential", "sequence", {"parent_sequence": 4094}, [4095], [4094, 4096]),
    ("seal_differential", "sequence", {"parent_sequence": 4095}, [], [4096]),
    ("seal_differential", "sequence", {"parent_sequence": (1 << 32) - 1}, [], [0]),
    ("seal_full", "devices[0].sector_size", {}, [512, 4096, 65_536], [0, 1, 513, 1 << 17]),
    ("seal_full", "devices[0].size", {}, [999_937, 1_000_448], [0, 999_936, 1_000_449]),
    ("seal_full", "devices[1].size", {"devices[1].zero": 1 << 48}, [1 << 57], [(1 << 57) + 1]),
    ("seal_full", "devices[0].map_level", {}, [0, 7], [8, 255]),
    ("seal_full", "origins[0].frame_count", {}, [1, 1 << 53], [0, (1 << 53) + 1, (1 << 64) - 1]),
    ("segments", "segments[0].length", {}, [1], [0, 1 << 20, (1 << 64) - 1]),
    ("checkpoint", "device", {}, [0, 1023], [1024, (1 << 32) - 1]),
    ("checkpoint", "sector", {}, [0, 1 << 48], [(1 << 48) + 1, (1 << 64) - 1]),
    ("checkpoint", "notes[0].kind", {}, [0, 1, 3], [2, 4, 5, 6, 1 << 32, (1 << 64) - 1]),
    ("checkpoint", "notes[0].at", {}, [(1 << 48) - 8, 1023 << 48], [(1 << 48) - 7, 1024 << 48]),
    ("checkpoint", "notes[0].sectors", {}, [1, 1 << 48], [0, (1 << 48) + 1, (1 << 64) - 1]),
    ("continuation", "length", {}, [1, (1 << 63) - 1], [0, 1 << 63, (1 << 64) - 1]),
    ("continuation", "previous", {}, [1], [0]),
    ("checkpoint", "records", {}, [1, (1 << 63) - 1], [0, 1 << 63, (1 << 64) - 1]),
    ("continuation", "records", {}, [1, (1 << 63) - 1], [0, 1 << 63, (1 << 64) - 1]),
    ("trailer_bare", "stream_length", {}, [1 << 20, (1 << 63) - 1], [0, 256, 1 << 63]),
    ("part_header", "number", {}, [1, 65_536], [0, 65_537]),
    ("part_header", "start", {}, [0, (1 << 63) - 1], [1 << 63]),
    ("part_footer", "length", {"start": (1 << 63) - 2}, [1], [0, 2, 1 << 63, (1 << 64) - 1]),
    ("part_footer", "flags", {}, [0, 1], [2, 3, 1 << 31]),
]


@pytest.mark.parametrize(
    ("name", "field", "along", "accepted", "refused"),
    BOUNDS,
    ids=[f"{name}-{field}-{at}" for at, (name, field, *_) in enumerate(BOUNDS)],
)
def test_limit_is_exact(
    name: str, field: str, along: dict[str, int], accepted: list[int], refused: list[int]
) -> None:
    """The last value within a limit is accepted, the first one over it is refused."""
    structure = BY_NAME[name]
    for value in accepted:
        structure.decode(patched(structure, {**along, field: value}))
    for value in refused:
        assert refused_by(structure, patched(structure, {**along, field: value})), value

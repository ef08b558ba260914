"""The text and the code say the same: sections cited, constants, and layouts."""

from __future__ import annotations

import re
import struct

import pytest

from aipimage.extents import Kind
from aipimage.format import (
    checkpoint,
    header,
    layers,
    mappage,
    origins,
    parts,
    record,
    seal,
    segments,
    tables,
    trailer,
)
from aipimage.format import constants as c
from tests.format import layout
from tests.format.layout import Columns
from tests.format.markdown import MINUS, ROOT, TEXT, TIMES, number, rows, sections, width

_NUMBER = r"\d+(?:\.\d+)?"
_CITED = re.compile(
    rf"(?:\b[Ss]ections?\s+|docs/format\.md`*,\s+)({_NUMBER}(?:(?:,\s+|\s+(?:and|to)\s+){_NUMBER})*)"
)
_FOREIGN = re.compile(r"RFC \d+,? (?:\w+ ){0,2}$")
_OURS = re.compile(r"docs/format\.md`*,\s+$|docs/format\.md`*,\s+section")
OTHERS = {ROOT / "aipimage" / name for name in ("files", "volumes", "vmdk")}
"""Here the formats of others are cited; ours is named by its file."""


def citations() -> list[tuple[str, str]]:
    """Return (file, section number) for each citation under aipimage/ and csrc/."""
    found = []
    files = [*(ROOT / "aipimage").rglob("*.py"), *(ROOT / "csrc").rglob("*.[ch]")]
    for path in sorted(files):
        text = re.sub(r"\s*\n[ #*]*", " ", path.read_text(encoding="utf-8"))
        for match in _CITED.finditer(text):
            if not OTHERS.isdisjoint(path.parents) and not _OURS.search(
                text[max(0, match.start() - 30) : match.end()]
            ):
                continue
            if not _FOREIGN.search(text[max(0, match.start() - 30) : match.start()]):
                name = str(path.relative_to(ROOT))
                found += [(name, cited) for cited in re.findall(_NUMBER, match[1])]
    return found


def test_every_cited_section_exists() -> None:
    """A citation that leads nowhere is worse than none."""
    assert [row for row in citations() if row[1] not in sections()] == []


def test_every_format_module_cites_its_section() -> None:
    """The text promises it: each module cites the section that it encodes."""
    citing = {name for name, _ in citations()}
    for path in (ROOT / "aipimage" / "format").glob("*.py"):
        if path.name != "__init__.py":
            assert str(path.relative_to(ROOT)) in citing, path.name


def table_limits() -> dict[str, str]:
    """Return the limits of section 15: two columns of (what, limit) side by side."""
    return {row[at]: row[at + 1] for row in rows("15", "what") for at in (0, 3) if row[at]}


LIMITS = {
    "header core": c.CORE_MAX,
    "frame, plain": c.PLAIN_MAX,
    "record body": c.BODY_MAX,
    "page, plain": c.PLAIN_MAX,
    "metadata": c.METADATA_MAX,
    "index levels": c.INDEX_LEVELS,
    "devices": c.DEVICES_MAX,
    "device size": c.DEVICE_SIZE_MAX,
    "entries of a page or seal": c.ORIGINS_MAX,
    "origins that an image names": c.NAMED_MAX,
    "file name, hint": c.NAME_MAX,
    "chain": c.CHAIN_MAX,
    "parts": c.PARTS_MAX,
    "segments": c.SEGMENTS_MAX,
    "map levels": c.MAP_LEVELS,
    "stream": c.STREAM_MAX,
    "packed position": c.POSITION_LIMIT - 1,
    "digest layers": c.LAYERS_MAX,
    "digests of a layer leaf": c.LAYER_ENTRIES,
}
OF_THE_KEY_AREA = {"slots", "Argon2id memory", "Argon2id passes, lanes"}
"""Their decoder has tests of its own."""


@pytest.mark.parametrize("what", LIMITS)
def test_limit_of_section_15(what: str) -> None:
    """The code's limit is the text's."""
    assert number(table_limits()[what]) == LIMITS[what]


def test_every_limit_of_section_15_is_compared() -> None:
    """A limit that the text gains needs a constant."""
    assert set(table_limits()) == set(LIMITS) | OF_THE_KEY_AREA


def quoted(section: str, name: str) -> str:
    """Return what the row of the field ``name`` says in its last column."""
    return next(row[-1] for row in rows(section, "offset") if f"`{name}`" in row[2])


def test_magics() -> None:
    """Each magic, as bytes or as text."""
    assert bytes.fromhex(quoted("3", "magic").strip("`")) == c.HEADER_MAGIC
    assert quoted("5", "magic") == f"`{c.RECORD_MAGIC.decode()}`"
    assert quoted("10", "magic") == f"`{c.TRAILER_MAGIC.decode()}`"
    head, foot = (cell.split("`")[3].encode() for cell in rows("12", "offset")[0][2:])
    assert (head, foot) == (c.PART_MAGIC, c.PART_END_MAGIC)


def test_version() -> None:
    """The title's version is the one that is written."""
    assert f"version {c.MAJOR}.{c.MINOR}\n" in TEXT
    assert number(quoted("3", "major")) == c.MAJOR
    assert number(quoted("3", "minor")) == c.MINOR


def test_record_types() -> None:
    """The list of section 5: two pairs of columns side by side."""
    listed = {int(row[at]): row[at + 1] for row in rows("5", "type") for at in (0, 4)}
    names = {
        c.RecordType.FRAME: "frame",
        c.RecordType.TABLE_LEAF: "frame table leaf",
        c.RecordType.INDEX: "index page",
        c.RecordType.MAP: "map page",
        c.RecordType.DIGEST_LEAF: "block digest leaf",
        c.RecordType.METADATA: "metadata",
        c.RecordType.CHECKPOINT: "checkpoint",
        c.RecordType.CONTINUATION: "continuation",
        c.RecordType.SEGMENTS: "segments",
        c.RecordType.SEAL: "seal",
        c.RecordType.DIGEST_LAYER: "block digest layer",
        c.RecordType.LAYER_LEAF: "layer leaf",
    }
    assert listed == names
    assert set(listed) == set(c.RecordType)


def test_feature_bits() -> None:
    """Names, bits and flags of section 3.1."""
    kinds = {"incompatible": 0, "compatible": 1}
    listed = {(kinds[row[0]], int(row[1])): row[2].strip("`") for row in rows("3.1", "kind")}
    assert listed == c.FEATURE_NAMES
    flags = {(0, flag.bit_length() - 1): flag.name for flag in c.Incompatible}
    flags |= {(1, flag.bit_length() - 1): flag.name for flag in c.Compatible}
    assert {key: name.replace("-", "_").upper() for key, name in listed.items()} == flags


def test_suites() -> None:
    """The numbers of section 4.1."""
    names = {int(row[0]): row[1] for row in rows("4.1", "suite")}
    assert names == {
        c.SUITE_NONE: "none",
        c.SUITE_AES_128_GCM: "AES-128-GCM",
        c.SUITE_AES_256_GCM: "AES-256-GCM",
        c.SUITE_AES_256_GMAC: "AES-256-GMAC",
    }


def test_extent_kinds() -> None:
    """The kinds of section 7."""
    assert {int(row[0]): row[1] for row in rows("7", "kind")} == {
        kind: kind.name.lower() for kind in Kind
    }


def test_section_types() -> None:
    """The sections of the header core."""
    listed = [int(row[0]) for row in rows("3", "section type")]
    assert listed == [c.SECTION_FEATURE_NAMES, c.SECTION_CREATOR]


PHRASES = [
    ("3", "{:,} to {:,}", (c.CORE_MIN, c.CORE_MAX)),
    ("3", "{}: BLAKE3-256", (c.DIGEST_BLAKE3,)),
    ("3", "{} with a suite, else 0", (c.KEY_COPIES,)),
    ("3", "length of one key area copy: {} with a suite", (c.KEY_AREA_LENGTH,)),
    ("4.6", "then the {}-byte tag", (c.TAG,)),
    ("4.6", "the {} bytes of the record header", (c.RECORD_HEADER,)),
    ("5", "{} none, {} one Zstandard frame", (c.Codec.NONE, c.Codec.ZSTD)),
    ("5", "at most {:,}", (c.BODY_MAX,)),
    ("5", "after decoding; 1 to {:,}", (c.PLAIN_MAX,)),
    ("5", "the first {} bytes of the record digest", (c.CHECK,)),
    ("5", f"{{}} {TIMES} `extent_count` bytes of extents", (c.FRAME_EXTENT,)),
    ("5", "a window of at most {} MiB", (c.ZSTD_WINDOW_MAX >> 20,)),
    ("5", "**Reference** ({} bytes)", (c.REFERENCE,)),
    ("6.2", "(a multiple of {0}), u32 `count` (1 to {0})", (c.LEAF_FRAMES,)),
    ("6.2", "{} bytes: u64 `offset`", (tables.FRAME_ENTRY_DTYPE.itemsize,)),
    ("6.3", "u32 `level` (1 to {}), u32 `count` (1 to {})", (c.INDEX_LEVELS, c.INDEX_ENTRIES)),
    ("7", "0 to {}", (c.MAP_LEVELS - 1,)),
    ("7", "a walk ends after {} steps", (c.MAP_LEVELS,)),
    ("7", "more than {} extents", (c.INLINE_EXTENTS,)),
    ("7", "No extent ends beyond position 2^{}", (c.POSITION_LIMIT.bit_length() - 1,)),
    ("8", "blocks of {:,} bytes", (c.BLOCK,)),
    ("8", "the first {} bytes of H(block)", (c.BLOCK_DIGEST,)),
    ("8.1", "type {}, that is a **layer**", (c.RecordType.DIGEST_LAYER,)),
    ("8.1", "A layer leaf (type {})", (c.RecordType.LAYER_LEAF,)),
    ("8.1", "plus 1; at most {}", (c.LAYERS_MAX,)),
    ("8.1", "u32 `count` (1 to {}), u32 reserved", (c.LAYER_ENTRIES,)),
    ("8.1", f"`count` {TIMES} {{}} bytes digests", (layers.DIGEST_DTYPE.itemsize,)),
    ("9", "{} full, {} incremental, {} differential", tuple(c.ImageKind)),
    ("9", "1 to {}", (c.DEVICES_MAX,)),
    ("7", "at most {}", (c.ORIGINS_MAX,)),
    ("8.1", "at most {}", (c.NAME_MAX,)),
    ("9", "1 to {}", (c.ORIGINS_MAX,)),
    ("10", "at least {:,}", (c.SPARE_MIN,)),
    ("10.1", "{} zero bytes | header core", (c.SPARE_GAP,)),
    ("10.1", "begins {:,} bytes before the end of the stream", (2 * c.TRAILER + c.SPARE_GAP,)),
    ("9", "at most {}", (c.REPLACED_MAX,)),
    ("9.1", "bytes, 1 to 2^{}", (c.DEVICE_SIZE_MAX.bit_length() - 1,)),
    ("9.2", "at most {} MiB, nested at most {} deep", (c.METADATA_MAX >> 20, c.METADATA_DEPTH)),
    ("9.3", "At most {:,} entries", (c.SEGMENTS_MAX,)),
    ("2", "the last {} bytes of the stream", (c.TRAILER,)),
    ("12", "{:,} parts at most", (c.PARTS_MAX,)),
    ("12", "part footer, {} bytes each", (c.PART_RECORD,)),
]


@pytest.mark.parametrize(("section", "phrase", "values"), PHRASES)
def test_number_in_a_sentence(section: str, phrase: str, values: tuple[int, ...]) -> None:
    """The numbers that stand outside of tables, in the words around them."""
    said = phrase.format(*(int(value) for value in values))
    assert re.search(rf"(?<![\d,]){re.escape(said)}(?![\d])", sections()[section]), said


def test_every_constant_is_compared_with_the_text() -> None:
    """A new constant needs a row above; the names left out are sums or the zero values."""
    source = (ROOT / "aipimage" / "format" / "constants.py").read_text(encoding="utf-8")
    names = {
        name
        for line in re.findall(r"^([A-Z][A-Z_0-9, ]+?)(?:: .*?)? =", source, re.MULTILINE)
        for name in line.split(", ")
    }
    tests = (ROOT / "tests" / "format" / "test_spec.py").read_text(encoding="utf-8")
    derived = {"CORE_FIXED", "CORE_TAIL", "FRAMES_MAX", "ZERO_ID", "ZERO_DIGEST"}
    assert {name for name in names if f"c.{name}" not in tests} <= derived
    assert c.CORE_MIN == c.CORE_FIXED + c.CORE_TAIL
    assert c.FRAMES_MAX * (1 << 12) // 512 == c.POSITION_LIMIT


def columns_of(section: str) -> list[tuple[int, int, str]]:
    """Return (offset, width, name) for the rows of a field table that have a fixed place."""
    found = []
    for row in rows(section, "offset"):
        size = width(row[1])
        if row[0].isdigit() and size is not None:
            names = re.findall(r"`(\w+)`", row[2]) or ["reserved"]
            found.append((int(row[0]), size, names[0]))
    return found


def laid(*groups: Columns) -> list[tuple[int, int, str]]:
    """Return (offset, width, name) of the layout's columns."""
    return [(field.offset, field.width, field.name) for field in layout.placed(*groups)]


TABLES: list[tuple[str, list[tuple[int, int, str]]]] = [
    ("3", laid(layout.HEADER)),
    ("5", laid(layout.RECORD_HEADER)),
    ("7", laid(layout.MAP_PAGE)),
    ("7.1", laid(layout.ORIGIN_ENTRY, (("table_root", 64), ("name_length", 1)))),
    ("8.1", laid((("base", 64), ("tree", 64)), layout.LAYER_TAIL)),
    ("9", laid(layout.SEAL, (("description", 64), ("result", 64)))),
    ("10", laid(layout.TRAILER, (("seal", 64), ("segments", 64)), layout.TRAILER_TAIL)),
]


@pytest.mark.parametrize(("section", "fields"), TABLES, ids=[section for section, _ in TABLES])
def test_layout_is_the_table_of_the_text(section: str, fields: list[tuple[int, int, str]]) -> None:
    """Offset, width and name of every row; a row of two fields is named by the first."""
    said = columns_of(section)
    if section == "10":  # one row holds both major and minor
        assert said[1] == (8, 4, "major")
        said[1:2] = [(8, 2, "major"), (10, 2, "minor")]
    if section in ("5", "7"):  # variable columns
        said = [row for row in said if row[0] < fields[-1][0] + fields[-1][1]]
    assert said == fields


def test_layout_of_parts_is_the_table_of_the_text() -> None:
    """Header and footer share one layout; the name is in either column."""
    said = [(int(row[0]), width(row[1])) for row in rows("12", "offset")]
    assert said == [(field.offset, field.width) for field in layout.placed(layout.PART)]
    for row, (name, _) in zip(rows("12", "offset"), layout.PART, strict=True):
        assert f"`{name}`" in row[2] + row[3] or name in ("reserved", "digest")


def test_layout_of_the_header_tail() -> None:
    """Negative offsets count from the end of the core."""
    tail = [
        (int(row[0].replace(MINUS, "-")), width(row[1]), row[2].strip("`"))
        for row in rows("3", "offset")
        if row[0].startswith(MINUS)
    ]
    total = sum(size for _, size in layout.HEADER_TAIL)
    assert tail == [(at - total, size, name) for at, size, name in laid(layout.HEADER_TAIL)]
    assert total == c.CORE_TAIL


SEAL_TABLES: list[tuple[str, Columns]] = [
    ("device field", (*layout.SEAL_DEVICE, ("map_root", 64), ("digest_root", 64)))
]


@pytest.mark.parametrize(("first", "columns"), SEAL_TABLES)
def test_layout_of_seal_entries(first: str, columns: Columns) -> None:
    """Tables without offsets: names and types in their order."""
    said: list[tuple[str, int]] = []
    for row in rows("9.1", first):
        names = re.findall(r"`(\w+)`", row[0]) or ["reserved"]
        size = width(row[1])
        assert size is not None
        said += [(name, size) for name in names]
        if "three reserved bytes follow" in row[2]:
            said.append(("reserved", 3))
    assert tuple(said) == columns
    stated = "192"
    assert sum(size for _, size in said) == int(stated)
    assert f"{stated} bytes {TIMES} " in sections()["9"]


PROSE: list[tuple[str, Columns]] = [
    ("3", layout.SECTION), ("3", layout.FEATURE_NAME), ("5", layout.REFERENCE),
    ("6.1", layout.FRAME_EXTENT), ("6.2", layout.LEAF), ("6.2", layout.FRAME_ENTRY),
    ("6.3", layout.INDEX), ("6.3", (("key", 8),)), ("8", layout.LEAF),
    ("8.1", layout.LEAF), ("9.3", layout.SEGMENT), ("11", layout.CHECKPOINT), ("11", layout.NOTE),
]  # fmt: skip


def test_layout_of_a_continuation() -> None:
    """Told in a sentence, too, with a signed time."""
    first = r"id `previous` origin, u64 `length`: .*?, i64 `time`, "
    last = r"u64 `records` and 32 bytes `running`"
    assert re.search(first + last, sections()["11"], re.DOTALL)


@pytest.mark.parametrize(("section", "columns"), PROSE)
def test_layout_told_in_a_sentence(section: str, columns: Columns) -> None:
    """The types and names stand in this order; a digest is named by its type."""
    types = {1: "u8", 2: "u16", 4: "u32", 8: "u64", 16: "id", 32: "32 bytes"}
    words: list[str] = []
    for name, size in columns:
        if name in ("reserved", "digest"):
            words.append(rf"(?:{types.get(size)} )?{name}")
        elif name == "name":
            words.append(f"{size} bytes UTF-8 name")
        else:
            words.append(f"{types[size]} `{name}`")
    assert re.search(".*?".join(words), sections()[section], re.DOTALL)


def struct_widths(text: str) -> list[int]:
    """Return the width of each field of a struct format."""
    assert text[0] == "<"
    return [struct.calcsize("<" + item) for item in re.findall(r"\d*[a-zA-Z]", text)]


STRUCTS: list[tuple[struct.Struct, Columns]] = [
    (header._FIXED, layout.HEADER),
    (header._SECTION, layout.SECTION),
    (header._NAME, layout.FEATURE_NAME),
    (record._HEADER, layout.RECORD_HEADER),
    (record._REFERENCE, layout.REFERENCE),
    (tables._LEAF, layout.LEAF),
    (tables._INDEX, layout.INDEX),
    (tables._KEY, (("key", 8),)),
    (layers._LAYER, layout.LAYER_TAIL),
    (layers._LEAF, layout.LEAF),
    (mappage._HEADER, layout.MAP_PAGE),
    (seal._HEAD, layout.SEAL),
    (seal._DEVICE, layout.SEAL_DEVICE),
    (origins._FIXED, layout.ORIGIN_ENTRY),
    (segments._SEGMENT, layout.SEGMENT),
    (checkpoint._HEAD, layout.CHECKPOINT),
    (checkpoint._CONTINUATION, layout.CONTINUATION),
    (trailer._HEAD, layout.TRAILER),
    (trailer._IDS, layout.TRAILER_TAIL[:-1]),
    (parts._FIELDS, layout.PART[:-1]),
]


@pytest.mark.parametrize(("made", "columns"), STRUCTS)
def test_struct_format_has_the_widths_of_the_layout(made: struct.Struct, columns: Columns) -> None:
    """Little-endian, unsigned but for times, without padding."""
    assert struct_widths(made.format) == [size for _, size in columns]
    signed = [at for at, kind in enumerate(re.findall(r"[a-zA-Z]", made.format)) if kind in "bhilq"]
    times = [at for at, (name, _) in enumerate(columns) if name in ("created", "time")]
    assert signed == times


def test_numpy_rows_have_the_layout() -> None:
    """The structures that are decoded without a struct."""
    for dtype, columns in (
        (tables.FRAME_EXTENT_DTYPE, layout.FRAME_EXTENT),
        (tables.FRAME_ENTRY_DTYPE, layout.FRAME_ENTRY),
        (checkpoint.NOTE_DTYPE, layout.NOTE),
    ):
        assert dtype.names is not None
        assert [(name, dtype[name].itemsize) for name in dtype.names] == list(columns)
        assert dtype.itemsize == sum(size for _, size in columns)
        assert all(dtype[name].byteorder in "=|<" for name in dtype.names)

"""Vectors of single images that every reader of version 1.0 must read."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any

import zstandard

from tests.vectors.keyareas import PASSWORD_SLOT, RECOVERY_SLOT
from tests.vectors.kit import DAMAGED, PASSWORD, Vector, read_as, written
from tests.vectors.primitives import UNUSED, flip, in_parts, noise, put

MIB = 1 << 20
RECOVERY_KEY = "b7xk-9qmz-4t2f-w8cd-hr6v-3n5p-y1ga"


def disks() -> list[bytes]:
    """A small device, one of an odd size with many extents, and one of several stripes."""
    small = noise(4096, "a") + bytes(4096) + b"text " * 200
    striped = bytearray(MIB + 30 * 1024 + 77)
    for n in range(20):
        striped[n * 1024 : n * 1024 + 512] = noise(512, f"b{n}")
        striped[MIB + n * 1024 : MIB + n * 1024 + 512] = noise(512, f"c{n}")
    far = bytearray(3 * MIB)
    far[2 * MIB : 2 * MIB + 600] = noise(600, "d")
    return [small, bytes(striped), bytes(far)]


SMALL = [noise(1024, "e"), noise(1024, "f")]

# Name: (section, what it is for, arguments of the recipe).
WHOLE_DISKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "plain": ("2", "Three devices without a suite, codec or block digests.", {}),
    "zstd": ("5", "Records of codec 1.", {"zstd": True}),
    "aes-256": ("4", "Suite 2, and codec 1 below it.", {"suite": 2, "zstd": True}),
    "aes-128": ("4", "Suite 1.", {"suite": 1}),
    "authenticated": ("4", "Suite 3: records carry a tag and are not encrypted.",
        {"suite": 3, "zstd": True}),
    "digests": ("8", "Block digests in trees over leaves.", {"digests": True}),
    "resumed": ("11", "A run that continues another, and leaves after their stripes.",
        {"digests": True, "resume_after": 5, "zstd": True}),
    "resumed-aes-256": ("11", "A resumed image with a suite: each run has keys of its own.",
        {"suite": 2, "resume_after": 5}),
}  # fmt: skip


def good() -> Iterator[Vector]:
    """All of them."""
    for name, (section, about, arguments) in WHOLE_DISKS.items():
        yield read_as(name, section, about, written(name, disks(), **arguments))
    yield from _kinds()
    yield from _parts()
    yield from _trees()
    yield from _keys()
    yield from _unknown()
    yield from _headers()
    yield from _tolerated()


def _kinds() -> Iterator[Vector]:
    """Section 7: what is not data, and not zero."""
    devices = disks()
    devices[0] = bytes(4096) + devices[0][4096:]
    yield read_as(
        "unreadable",
        "7",
        "Extents of kind 3, which read as zeros.",
        written("unreadable", devices, unreadable=(0, 0, 8)),
    )
    devices = [noise(2048, "u") + bytes(4096) + noise(1000, "v")]
    yield read_as(
        "unused",
        "7",
        "Extents of kind 0, which read as zeros.",
        written("unused", devices, marked=((0, 4, 8, UNUSED),)),
    )


def _parts() -> Iterator[Vector]:
    """Section 12."""
    writer = written("split", disks(), suite=2, zstd=True)
    parts = in_parts(bytes(writer.stream), writer.file_id, 16_000)
    suffixes = ["", *(f".{number:03d}" for number in range(2, len(parts) + 1))]
    files = dict(zip(suffixes, parts, strict=True))
    yield read_as("split", "12", "An image in parts, with a suite.", writer, files=files)


def _trees() -> Iterator[Vector]:
    """Maps and trees of several levels."""
    deep = bytearray(70 * MIB)
    for stripe in (0, 64, 65, 69):
        for n in range(20):
            at = stripe * MIB + n * 1024
            deep[at : at + 512] = bytes([stripe + 1, n]) * 256
    for n in range(4, 8):
        for place in range(6):
            at = n * MIB + place * 1024
            deep[at : at + 512] = bytes([n, place + 100]) * 256
    yield read_as(
        "deep-map",
        "7",
        "A map with a root of level 4, pages of levels 0 and 1 below it, and levels left out.",
        written("deep-map", [bytes(deep)], zstd=True),
    )
    yield read_as(
        "deep-index",
        "6.3",
        "A tree of block digests with index pages of levels 1 to 8.",
        written("deep-index", [stripes(5)], zstd=True, digests=True, tree_level=8),
    )
    yield read_as(
        "second-leaf",
        "6.2",
        "1030 frames: a table of two leaves and an index page; each frame but 1 is shorter than a "
        "frame can be.",
        written("second-leaf", [many_sectors(1030)], zstd=True, frame_sectors=1),
    )
    yield read_as(
        "short-frames",
        "6",
        "Frames of 3 sectors where 8 would fit: packed positions are left out.",
        written("short-frames", [noise(10_000, "short")], frame_sectors=3),
    )


def stripes(count: int) -> bytes:
    """A device with some data in each stripe."""
    content = bytearray(count * MIB)
    for stripe in range(count):
        content[stripe * MIB : stripe * MIB + 512] = bytes([stripe + 1]) * 512
    return bytes(content)


def many_sectors(count: int) -> bytes:
    """Sectors that differ and compress."""
    return b"".join(struct.pack("<H", n + 1) * 256 for n in range(count))


def _keys() -> Iterator[Vector]:
    """Section 4.2 and 4.3."""
    slots = (("first", PASSWORD_SLOT), (RECOVERY_KEY, RECOVERY_SLOT), (PASSWORD, PASSWORD_SLOT))
    for name, about, password in (
        ("third-slot", "Three used slots; the password is that of the last.", PASSWORD),
        ("recovery-key", "A slot of state 2, opened by a recovery key.", RECOVERY_KEY),
    ):
        writer = written("slots", SMALL, suite=2, slots=slots)
        yield read_as(name, "4.3", about, writer, password=password)
    for name, about, changes, verify in (
        ("key-copy-damaged", "Copy 0 of the key area is damaged: copy 1 is used, and verification "
            "reports it.", {"stored key area 0": flip(100)}, DAMAGED),
        ("key-copies-differ", "Both copies of the key area are whole and differ under one "
            "generation: copy 0 is used, and verification reports it.",
            {"key area 1": put(32, "256x")}, DAMAGED),
        ("key-copy-newer", "Copy 1 of the key area has the greater generation and the only slot; "
            "copy 0 has none.", {"key area 0": put(32, "256x"), "key area 1": put(8, "Q", 2)},
            "whole"),
    ):  # fmt: skip
        writer = written(name, SMALL, suite=2, changes=changes)
        yield read_as(name, "4.2", about, writer, verify=verify, keyless=verify)


def _unknown() -> Iterator[Vector]:
    """What a later minor version may add."""
    yield read_as(
        "minor",
        "3",
        "A minor version above 0, in header and trailer.",
        written("minor", SMALL, minor=7),
    )
    yield read_as(
        "unknown-records",
        "5",
        "Records of unknown types, to which nothing leads.",
        written("unknown-records", SMALL, strays=(13, 255)),
    )
    yield read_as(
        "unknown-section",
        "3",
        "A header section of an unknown type.",
        written("unknown-section", SMALL, sections=((900, b"\xff later"),)),
    )
    yield read_as(
        "compatible-feature",
        "3.1",
        "An unknown compatible feature without a name.",
        written("compatible-feature", SMALL, changes={"core": put(24, "Q", 1 << 50)}),
    )


def _name(kind: int, bit: int, name: bytes) -> bytes:
    return struct.pack("<BB46s", kind, bit, name)


def _headers() -> Iterator[Vector]:
    """Section 3: oddities that are no error."""
    odd = _name(7, 1, b"a kind that does not exist") + _name(1, 200, b"a bit that does not exist")
    twice = _name(1, 0, b"earlier") + _name(1, 0, b"block-digests")
    for name, about, arguments in (
        ("names-odd", "Entries of the name table for a kind and a bit that do not exist.",
            {"changes": {"names": lambda _: odd}}),
        ("names-twice", "Two entries of the name table for one bit.",
            {"changes": {"names": lambda _: twice}, "digests": True}),
        ("names-missing", "Features in use without a name table.",
            {"changes": {"names": lambda _: b""}, "zstd": True}),
        ("section-twice", "A creator section that occurs twice.",
            {"sections": ((2, b"the later one"),)}),
        ("no-sections", "A header core of 184 bytes, without sections.",
            {"changes": {"names": lambda _: b"", "creator": lambda _: b""}}),
    ):  # fmt: skip
        yield read_as(name, "3", about, written(name, SMALL, **arguments))


def _tolerated() -> Iterator[Vector]:
    """Rules that bind the writer alone."""
    checked = zstandard.ZstdCompressor(write_checksum=True)
    plain = b"\1" * 3584
    yield read_as(
        "zstd-checksum",
        "5",
        "A Zstandard frame with a content checksum.",
        written(
            "zstd-checksum",
            [plain],
            zstd=True,
            changes={"frame payload": lambda _: checked.compress(plain)},
        ),
    )
    yield read_as(
        "metadata-is-32-deep",
        "9.2",
        "Metadata nested 32 deep, the object counted.",
        written("metadata-is-32-deep", SMALL, changes={"description": nested(32)}),
    )
    padded = noise(512, "padding")
    yield read_as(
        "padding",
        "1",
        "A device of 100 bytes whose sector is not padded with zeros.",
        written("padding", [padded], changes={"seal": put(264, "Q", 100)}),
        devices=[padded[:100]],
    )
    twins = [noise(3000, "twins")] * 2
    yield read_as(
        "twins",
        "7",
        "Two devices that share packed sectors: both are read, and "
        "verification reports the one that contradicts the frames.",
        written("twins", twins, twins=True),
        verify=DAMAGED,
    )


def nested(depth: int) -> Any:
    """A change of metadata: an object and arrays, so many deep together."""
    return lambda _: (
        json.dumps({"a": 0}).encode().replace(b"0", b"[" * (depth - 1) + b"]" * (depth - 1))
    )

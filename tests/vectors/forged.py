"""Vectors of single images in which one field was falsified before it was digested and sealed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import zstandard

from tests.vectors.good import MIB, SMALL, many_sectors, nested
from tests.vectors.kit import DAMAGED, PASSWORD, WHOLE, Case, Vector, refused, written
from tests.vectors.primitives import LOST, Change, flip, noise, put

SEAL_DEVICE, SEAL_ORIGIN = 264, 264 + 2 * 192
SEALED = {"suite": 2}
RESUMED = {"resume_after": 1}

HEADERS = {
    "class-03-zero-frame-size": Case("3", "A frame size of one byte.",
        "LimitError", "open", {"core": put(73, "B", 0)}, keyless=DAMAGED),
    "class-03-zero-fanout": Case("3", "A fan-out of one page.",
        "LimitError", "open", {"core": put(75, "B", 0)}, keyless=DAMAGED),
    "stripe-below-frame": Case("3", "A stripe of less than a frame size.",
        "FormatError", "open", {"core": put(73, "BB", 21, 20)}, keyless=DAMAGED),
    "class-10-version": Case("3", "Another major version.",
        "UnsupportedError", "open", {"core": put(8, "H", 2)}, keyless=DAMAGED),
    "class-10-feature": Case("3.1", "An unknown incompatible feature.",
        "UnsupportedError", "open", {"core": put(16, "Q", 1 << 40)}, keyless=DAMAGED),
    "class-10-digest": Case("3", "Another digest than BLAKE3-256.",
        "UnsupportedError", "open", {"core": put(76, "B", 2)}, keyless=DAMAGED),
    "class-10-reserved": Case("3", "A reserved field of the header is not zero.",
        "FormatError", "open", {"core": put(84, "I", 1)}, keyless=DAMAGED),
    "suite-unknown": Case("4.1", "A suite that does not exist.",
        "UnsupportedError", "open", {"core": put(72, "B", 9)}, keyless=DAMAGED),
    "suite-without-feature": Case("3.1", "A suite without the feature `sealed-records`.",
        "FormatError", "open", {"core": put(16, "Q", 0)}, SEALED, keyless=DAMAGED),
    "feature-without-suite": Case("3.1", "The feature `sealed-records` without a suite.",
        "FormatError", "open", {"core": put(16, "Q", 1)}, keyless=DAMAGED),
    "key-area-length": Case("3", "A key area of another length.",
        "FormatError", "open", {"core": put(80, "I", 8192)}, SEALED, keyless=DAMAGED),
    "key-copies-without-suite": Case("3", "Key areas are announced without a suite.",
        "FormatError", "open", {"core": put(77, "B", 2)}, keyless=DAMAGED),
    "names-not-utf-8": Case("3", "A name of a feature that is not UTF-8.",
        "FormatError", "open", {"names": lambda _: b"\1\1\xff" + bytes(45)}, keyless=DAMAGED),
    "names-cut": Case("3", "A name table whose length is not a multiple of 48.",
        "FormatError", "open", {"names": lambda _: bytes(47)}, keyless=DAMAGED),
    "creator-not-utf-8": Case("3", "A creator that is not UTF-8.",
        "FormatError", "open", {"creator": lambda _: b"\xc3"}, keyless=DAMAGED),
    "section-too-long": Case("3", "A header section that ends beyond the core.",
        "FormatError", "open", {"core": put(124, "I", 1 << 20)}, keyless=DAMAGED),
    "section-reserved": Case("3", "The reserved field of a header section is not zero.",
        "FormatError", "open", {"core": put(122, "H", 1)}, keyless=DAMAGED),
}  # fmt: skip

KEYS = {
    "class-25-memory": Case("4.3", "A slot that asks for 2 TiB of memory.",
        "LimitError", "open", {"key area": put(32 + 4, "I", 1 << 31)}, SEALED, keyless=DAMAGED),
    "class-25-passes": Case("4.3", "A slot that asks for a million passes.",
        "LimitError", "open", {"key area": put(32 + 8, "I", 1 << 20)}, SEALED, keyless=DAMAGED),
    "slot-lanes": Case("4.3", "A slot with no lanes.",
        "LimitError", "open", {"key area": put(32 + 12, "I", 0)}, SEALED, keyless=DAMAGED),
    "slots-cost": Case("4.3", "Slots that are each within their bounds and together cost too much.",
        "LimitError", "open", {"key area": put(32 + 4, "II", 1 << 20, 7)}, SEALED,
        keyless=DAMAGED),
    "slot-state": Case("4.3", "A slot of a state that does not exist.",
        "FormatError", "open", {"key area": put(32, "B", 3)}, SEALED, keyless=DAMAGED),
    "slot-kdf": Case("4.3", "A slot of a key derivation that does not exist.",
        "UnsupportedError", "open", {"key area": put(33, "B", 2)}, SEALED, keyless=DAMAGED),
    "slot-not-free": Case("4.3", "A free slot that is not all zeros.",
        "FormatError", "open", {"key area": put(32 + 256 + 100, "B", 1)}, SEALED, keyless=DAMAGED),
    "key-area-reserved": Case("4.2", "A reserved byte of the key area is not zero.",
        "FormatError", "open", {"key area": put(2080, "B", 1)}, SEALED, keyless=DAMAGED),
    "key-area-chain": Case("4.2", "Key areas of another chain.",
        "FormatError", "open", {"key area": put(16, "B", 1)}, SEALED, keyless=DAMAGED),
    "key-copy-malformed": Case("4.2", "Copy 1 of the key area has a right digest and a reserved "
        "byte that is not zero.",
        "FormatError", "open", {"key area 1": put(2080, "B", 1)}, SEALED, keyless=DAMAGED),
    "key-copies-damaged": Case("4.2", "Both copies of the key area are damaged.",
        "IntegrityError", "open",
        {"stored key area 0": flip(9), "stored key area 1": flip(9)}, SEALED, keyless=DAMAGED),
    "no-slot": Case("4.2", "A key area without a used slot.",
        "PasswordError", "open", {"key area": put(32, "256x")}, SEALED),
    "class-26-commitment": Case("4.3", "The commitment of a slot is another one.",
        "PasswordError", "open", {"key area": put(32 + 64, "B", 0)}, SEALED),
    "slot-wrapped": Case("4.3", "The wrapped key of a slot was falsified.",
        "PasswordError", "open", {"key area": flip(32 + 120)}, SEALED),
    "key-commitment": Case("4.4", "The key commitment of the header is another one.",
        "PasswordError", "open", {"core": flip(88)}, SEALED),
    "class-28-header-mac": Case("4.5", "The MAC of the header is another one.",
        "IntegrityError", "open", {"mac": put(0, "Q", 0)}, SEALED),
    "tag-seal": Case("4.6", "The tag of the seal is wrong under a right digest.",
        "IntegrityError", "open", {"seal sealed": flip(-1)}, SEALED),
    "tag-segments": Case("4.6", "The tag of the segments record is wrong under a right digest.",
        "IntegrityError", "open", {"segments sealed": flip(-1)}, {**SEALED, **RESUMED}),
    "tag-page": Case("4.6", "The tag of a map page is wrong under a right digest.",
        "IntegrityError", "read", {"map 0 sealed": flip(-1)}, SEALED),
    "tag-table": Case("4.6", "The tag of a frame table leaf is wrong under a right digest.",
        "IntegrityError", "read", {"table 0 sealed": flip(-1)}, SEALED),
    "tag-frame": Case("4.6", "The tag of a frame is wrong under a right digest.",
        "IntegrityError", "read", {"frame sealed": flip(-1)}, SEALED),
    "tag-frame-authenticated": Case("4.6", "Suite 3: a frame was falsified under a right digest.",
        "IntegrityError", "read", {"frame sealed": flip(100)}, {"suite": 3}),
}  # fmt: skip

RECORDS = {
    "type-unknown": Case("5", "A map root that is a record of an unknown type.",
        "UnsupportedError", "read", {"map 0 header": put(4, "B", 13)}),
    "type-other": Case("5", "A map root that is a frame table leaf by its type.",
        "FormatError", "read", {"map 0 header": put(4, "B", 2)}),
    "codec-unknown": Case("5", "A frame of an unknown codec.",
        "UnsupportedError", "read", {"frame header": put(5, "B", 2)}),
    "frame-number": Case("5", "A frame whose number is not its place in the table.",
        "FormatError", "read", {"frame header": put(32, "Q", 5)}),
    "frame-origin": Case("5", "A frame of another origin than that of its table.",
        "FormatError", "read", {"frame header": flip(16)}),
    "page-with-extents": Case("5", "A map page with frame extents.",
        "FormatError", "read", {"map 0 header": put(6, "H", 1)}),
    "zstd-bytes-after": Case("5", "One byte after the Zstandard frame of a record.",
        "IntegrityError", "read",
        {"frame payload": lambda _: zstandard.compress(b"\1" * 3584) + b"\0"}, {"zstd": True}),
    "frame-table-first": Case("6.2", "A second leaf of a frame table that begins elsewhere.",
        "FormatError", "read", {"table 1": put(0, "Q", 2048)},
        {"devices": [many_sectors(1025)], "zstd": True, "frame_sectors": 1}),
    "frame-count": Case("6.2", "A frame table with more frames than the seal says.",
        "FormatError", "read", {"seal": put(SEAL_ORIGIN + 32, "Q", 1)}),
    "class-08-frames-descend": Case("6.2", "Frames of a table that do not ascend in the stream.",
        "FormatError", "read",
        {"table 0": lambda d: d[:16] + d[64:112] + d[16:64] + d[112:]}),
    "table-reserved": Case("6.2", "The reserved field of a frame table leaf is not zero.",
        "FormatError", "read", {"table 0": put(12, "I", 1)}),
    "one-leaf-index": Case("6.3", "A frame table of one leaf with an index page over it.",
        "FormatError", "read", {}, {"one_leaf_index": True}),
    "frame-extents": Case("6.1", "Frame extents that name another place than the map.",
        "IntegrityError", "verify", {"frame extents": put(0, "Q", 1)}),
}  # fmt: skip


def _descending(data: bytes) -> bytes:
    """Two keys of an index page exchanged."""
    return data[:8] + data[80:88] + data[16:80] + data[8:16] + data[88:]


TREES = {
    "index-descends": Case("6.3", "Keys of an index page that do not ascend.",
        "FormatError", "verify", {"index 1": _descending},
        {"devices": [noise(512, "x") + bytes(2 * MIB) + noise(512, "y")], "digests": True}),
    "index-level": Case("6.3", "An index page of another level than its place.",
        "FormatError", "verify", {"index 1": put(0, "I", 2)},
        {"devices": [noise(512, "x") + bytes(2 * MIB) + noise(512, "y")], "digests": True}),
    "block-digest": Case("8", "A block digest that is not that of the content.",
        "IntegrityError", "verify", {"digests": flip(16)}, {"digests": True}),
    "block-digests-aligned": Case("8", "A leaf of block digests that begins inside of a stripe.",
        "FormatError", "verify", {"digests": put(0, "Q", 1)}, {"digests": True}),
}  # fmt: skip

MAPS = {
    "class-04-extents": Case("7", "A page that counts four thousand million extents.",
        "FormatError", "read", {"map 0": put(20, "I", 0xFFFF_FFFF)}),
    "class-10-map-kind": Case("7", "An extent of a kind that does not exist.",
        "FormatError", "read", {"map 0": put(-1, "B", 6)}),
    "map-device": Case("7", "A page of another device.",
        "FormatError", "read", {"map 0": put(16, "I", 9)}),
    "map-first": Case("7", "A root that begins at another sector.",
        "FormatError", "read", {"map 0": put(0, "Q", 8)}),
    "map-level": Case("7", "A root of another level than the seal says.",
        "FormatError", "read", {"map 0": put(32, "B", 1)}),
    "map-reserved": Case("7", "A reserved byte of a page is not zero.",
        "FormatError", "read", {"map 0": put(33, "B", 1)}),
    "map-length-zero": Case("7", "An extent of no sectors.",
        "FormatError", "read", {"map 0": put(52, "QQ", 0, 2)},
        {"devices": [noise(512, "l") + bytes(512)]}),
    "map-lengths": Case("7", "Extents that do not sum to the sectors of their page.",
        "FormatError", "read", {"map 0": put(52, "Q", 1)}),
    "map-origin-index": Case("7", "A data extent of an origin that its page does not list.",
        "FormatError", "read", {"map 0": put(-3, "H", 1)}),
    "map-step": Case("7", "An extent of kind zero with a step.",
        "FormatError", "read", {"map 0": put(52 + 16 + 8, "Q", 1)},
        {"devices": [noise(512, "s") + bytes(512)]}),
    "map-position": Case("7", "A data extent of frames that do not exist.",
        "FormatError", "read", {"map 0": put(-11, "Q", 1 << 20)}),
    "map-origin-unknown": Case("7.1", "A data extent of an origin that nothing tells of.",
        "FormatError", "read", {"map 0": flip(36)}),
    "short-frame-position": Case("6", "A data extent of packed positions that a short frame leaves "
        "out.", "FormatError", "read", {"map 0": put(-11, "Q", 3)},
        {"devices": [noise(512, "p")], "frame_sectors": 1}),
    "child-first": Case("7", "A page that states another range than the reference to it.",
        "FormatError", "read", {"map 0": put(0, "Q", 2048)},
        {"devices": [b"".join(noise(512, f"n{n}") + bytes(512) for n in range(12)) + bytes(MIB)]}),
    "lost": Case("7", "An extent of kind lost: it was kept and is damaged.",
        "IntegrityError", "read", {}, {"marked": ((0, 0, 1, LOST),)}, verify=WHOLE),
}  # fmt: skip

SEALS = {
    "class-02-offset-wraps": Case("5", "A reference whose end is beyond 2^64.",
        "LimitError", "open", {"seal": put(SEAL_DEVICE + 64 + 16, "Q", (1 << 64) - 8)}),
    "class-03-empty-device": Case("9.1", "A device of no bytes.",
        "LimitError", "open", {"seal": put(SEAL_DEVICE, "Q", 0)}),
    "class-04-devices": Case("9", "65,535 devices.",
        "LimitError", "open", {"seal": put(90, "H", 65_535)}),
    "class-04-frames": Case("9", "2^60 frames of an origin.",
        "LimitError", "open", {"seal": put(SEAL_ORIGIN + 32, "Q", 1 << 60)}),
    "class-06-record-at-the-header": Case("5", "A reference that leads into the header.",
        "LimitError", "open", {"seal": put(SEAL_DEVICE + 64 + 16, "Q", 0)}),
    "class-06-record-past-the-end": Case("5", "A reference that leads beyond the records.",
        "FormatError", "read", {"seal": put(SEAL_DEVICE + 64 + 16, "Q", 1 << 40)}),
    "class-09-petabyte": Case("9.1", "A petabyte of which the counts say nothing.",
        "FormatError", "open", {"seal": put(SEAL_DEVICE, "Q", 1 << 50)}),
    "counts": Case("9.1", "Sectors of five kinds that do not add up to those of the device.",
        "FormatError", "open", {"seal": put(SEAL_DEVICE + 16, "Q", 1)}),
    "sector-size": Case("9.1", "A sector size that is not a power of two.",
        "FormatError", "open", {"seal": put(SEAL_DEVICE + 8, "I", 520)}),
    "device-reserved": Case("9.1", "A reserved byte of a device is not zero.",
        "FormatError", "open", {"seal": put(SEAL_DEVICE + 13, "B", 1)}),
    "map-level-root": Case("9.1", "A root of a level that no map has.",
        "LimitError", "open", {"seal": put(SEAL_DEVICE + 12, "B", 8)}),
    "image-id": Case("9", "A seal that names another image than its own.",
        "FormatError", "open", {"seal": flip(0)}),
    "seal-chain": Case("9", "A seal of another chain than its header.",
        "FormatError", "open", {"seal": flip(16)}),
    "seal-header": Case("9", "A seal of another header.",
        "FormatError", "open", {"seal": flip(96)}),
    "kind": Case("9", "A kind of image that does not exist.",
        "FormatError", "open", {"seal": put(88, "B", 4)}),
    "increment-of-nothing": Case("9", "An increment without a parent.",
        "FormatError", "open", {"seal": put(88, "B", 2)}),
    "sequence": Case("9", "A full image that begins a chain as its number 5.",
        "FormatError", "open", {"seal": put(80, "I", 5)}),
    "parent-digest-alone": Case("9", "A parent's digest without a parent.",
        "FormatError", "open", {"seal": put(48, "B", 1)}),
    "first-origin": Case("9", "A seal whose first origin is not that of the image.",
        "FormatError", "open", {"seal": flip(SEAL_ORIGIN)}),
    "seal-too-long": Case("9", "A byte after the last field of the seal.",
        "FormatError", "open", {"seal": lambda d: d + b"\0"}),
    "metadata-is-deep": Case("9.2", "A description that is nested 40 deep.",
        "FormatError", "verify", {"description": nested(40)}),
    "metadata-is-33-deep": Case("9.2", "A description that is nested 33 deep.",
        "FormatError", "verify", {"description": nested(33)}),
    "metadata-is-a-list": Case("9.2", "A description that is no object.",
        "FormatError", "verify", {"description": lambda _: b"[]"}),
    "metadata-is-not-utf-8": Case("9.2", "A result that is not UTF-8.",
        "FormatError", "verify", {"result": lambda _: b'{"a":"\xff"}'}),
}  # fmt: skip


def _rows(*order: int) -> Change:
    """Entries of a segments record in another order."""
    return lambda d: b"".join(d[40 * n : 40 * n + 40] for n in order)


def _field(row: int, at: int, value: int) -> Change:
    return put(40 * row + at, "Q", value)


ENDS = {
    "class-05-segments-overlap": Case("9.3", "Segments that overlap in the stream.",
        "FormatError", "open", {"segments": lambda d: d[:32] + d[72:80] + d[40:72] + d[72:]},
        RESUMED),
    "segments-descend": Case("9.3", "Segments that do not ascend.",
        "FormatError", "open", {"segments": _rows(1, 0)}, RESUMED),
    "segment-of-nothing": Case("9.3", "A segment of no bytes.",
        "FormatError", "open", {"segments": _field(0, 24, 0)}, RESUMED),
    "segment-past-the-end": Case("9.3", "A segment that ends after the records.",
        "FormatError", "open", {"segments": _field(1, 24, 1 << 40)}, RESUMED),
    "trailer-of-another-file": Case("10", "A trailer that names another file.",
        "FormatError", "open", {"trailer": put(152, "Q", 1)}, keyless=DAMAGED),
    "trailer-minor": Case("10", "A trailer of another minor version than the header.",
        "FormatError", "open", {"trailer": put(10, "H", 1)}, keyless=DAMAGED),
    "trailer-major": Case("10", "A trailer of another major version than the header.",
        "UnsupportedError", "open", {"trailer": put(8, "H", 2)}, keyless=DAMAGED),
    "trailer-reserved": Case("10", "The reserved field of the trailer is not zero.",
        "FormatError", "open", {"trailer": put(12, "I", 1)}, keyless=DAMAGED),
    "trailer-image": Case("10", "A trailer that names another image than the seal.",
        "FormatError", "open", {"trailer": flip(168)}, keyless=None),
    "trailer-header": Case("10", "A trailer with the digest of another header.",
        "FormatError", "open", {"trailer": flip(192)}, keyless=DAMAGED),
    "spare-length": Case("10", "A spare area that does not begin where the seal ends.",
        "FormatError", "open", {"trailer": put(184, "Q", 8900)}, keyless=DAMAGED),
    "spare-length-small": Case("10", "A spare area that cannot hold its copies.",
        "LimitError", "open", {"trailer": put(184, "Q", 8192)}, keyless=DAMAGED),
    "checkpoint-running": Case("11", "A checkpoint with another running digest.",
        "IntegrityError", "verify", {"checkpoint": flip(24)}, RESUMED, keyless=DAMAGED),
    "checkpoint-records": Case("11", "A checkpoint with another number of records.",
        "IntegrityError", "verify", {"checkpoint": put(16, "Q", 9)}, RESUMED, keyless=DAMAGED),
    "continuation-running": Case("11", "A continuation with another running digest.",
        "IntegrityError", "verify", {"continuation": flip(40)}, RESUMED, keyless=DAMAGED),
    "continuation-place": Case("11", "A continuation that says it stands elsewhere.",
        "IntegrityError", "verify", {"continuation": put(16, "Q", 999)}, RESUMED,
        keyless=DAMAGED),
    "checkpoint-running-sealed": Case("11", "With a suite: a checkpoint with another running "
        "digest, which keyless verification cannot see.",
        "IntegrityError", "verify", {"checkpoint": flip(24)}, {**SEALED, **RESUMED}),
}  # fmt: skip

FORGED = HEADERS | KEYS | RECORDS | TREES | MAPS | SEALS | ENDS


def forged() -> Iterator[Vector]:
    """All of them."""
    for name, case in FORGED.items():
        arguments: dict[str, Any] = {"devices": SMALL, **case.recipe}
        if "map-" in name or name == "short-frame-position":
            arguments.setdefault("fanout_shift", 2)
        writer = written(name, changes=case.changes, **arguments)
        yield refused(
            name,
            case.section,
            case.about,
            {"": bytes(writer.stream)},
            case.error,
            case.on,
            password=writer.recipe.password,
            keyless=case.keyless,
            verify=case.verify,
            devices=arguments["devices"] if case.on == "verify" else None,
        )
    yield from bombs()
    yield from passwords()


def bombs() -> Iterator[Vector]:
    """Zstandard frames that lie or ask for too much."""
    zeros = [bytes(512) + b"\1" * 3584, bytes(100)]
    half = zstandard.compress(b"\1" * 1792)
    whole = zstandard.compress(b"\1" * 3584)
    payloads = {
        "class-11-bomb": ("more than 64 MiB where 3584 bytes are stated",
            zstandard.compress(bytes(64 * MIB))),
        "class-12-size": ("a frame without a content size",
            zstandard.ZstdCompressor(write_content_size=False).compress(b"\1" * 3584)),
        "class-13-window": ("a window above 8 MiB",
            b"\x28\xb5\x2f\xfd\x80\xa8" + struct.pack("<I", 3584) + b"\x03\x70\0\1"),
        "class-14-two-frames": ("two frames", half * 2),
        "class-14-skippable": ("a skippable frame before the other",
            struct.pack("<III", 0x184D2A50, 4, 0) + whole),
        "class-15-dictionary": ("a frame that needs a dictionary",
            b"\x28\xb5\x2f\xfd\x61\x07" + struct.pack("<H", 3584 - 256) + b"\1\0\0"),
    }  # fmt: skip
    for name, (about, payload) in payloads.items():
        changes: dict[str, Change] = {"frame payload": lambda _, payload=payload: payload}
        writer = written(name, zeros, zstd=True, changes=changes)
        about = f"A payload of codec 1: {about}."
        yield refused(name, "5", about, {"": bytes(writer.stream)}, "IntegrityError", "read")


def passwords() -> Iterator[Vector]:
    """Section 4.7."""
    plain, sealed = written("plain", SMALL), written("password", SMALL, suite=2)
    for name, about, writer, password in (
        ("password-unwanted", "A password for an image without a suite.", plain, PASSWORD),
        ("password-missing", "No password for an image with a suite.", sealed, None),
        ("password-wrong", "A wrong password.", sealed, PASSWORD.upper()),
    ):
        files = {"": bytes(writer.stream)}
        yield refused(
            name, "4.7", about, files, "PasswordError", "open", password=password, keyless=WHOLE
        )

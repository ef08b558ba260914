"""The frame of every image that the vectors have: header, records, seal, spare area and trailer.

Written from docs/format.md alone; it shares no code with the package. Ids, salts and nonces follow
from a seed, so that the same call gives the same bytes (as long as the Zstandard library compresses
alike). Each method cites the section that it follows.
"""

from __future__ import annotations

import hmac
import json
import struct
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.vectors.keyareas import PASSWORD_SLOT, key_area, slot
from tests.vectors.primitives import (
    CHECKPOINT,
    CONTINUATION,
    DATA,
    FRAME,
    LAYER,
    LOST,
    METADATA,
    NONE,
    SEAL,
    SEGMENTS,
    UNREADABLE,
    UNUSED,
    ZERO,
    Change,
    Extent,
    h,
    hkdf,
)

KEY_BYTES = (0, 16, 32, 32)
FULL, INCREMENTAL, DIFFERENTIAL = 1, 2, 3
FEATURES = [
    (0, 0, b"sealed-records"),
    (0, 1, b"zstd"),
    (0, 2, b"foreign-origins"),
    (0, 3, b"digest-layers"),
    (1, 0, b"block-digests"),
    (1, 1, b"checkpoints"),
]


class Entry(NamedTuple):
    """Section 7.1."""

    origin: bytes
    holder: bytes
    frame_count: int
    table_root: bytes
    name: bytes = b""

    def packed(self) -> bytes:
        """As it is stored."""
        fixed = struct.pack("<16s16sQ", self.origin, self.holder, self.frame_count)
        return fixed + self.table_root + bytes([len(self.name)]) + self.name


@dataclass
class Recipe:
    """What image to write; ``changes`` falsifies what is written, by name, before it is digested.

    Attributes:
        resume_after: begin a second origin after so many frames.
        unreadable: device, sector, sectors. marked: likewise, and the kind that they have.
        slots: passwords and states of key slots, in place of one for ``password``.
        sections: types and contents of further header sections. strays: types of records to which
            nothing leads.
        frame_sectors: of every frame, fewer than a frame can have.
        parent, kind: of an increment. file: the name that others have as a hint of it.
        share: pages of earlier images are referred to where they say the same.
        layers: block digests are laid over those of the parent.
        layer_entries: digests of a leaf of a layer.
        tree_level: trees of block digests have at least so many levels of index pages.
        one_leaf_index: the table of frames has an index page over its only leaf.
        whole: nothing of the parent is referred to.
        twins: devices of equal content share their frames.
        entries: falsifies the list of entries of each map page. copied: of what a merge copies.
    """

    devices: list[bytes]
    suite: int = 0
    zstd: bool = False
    password: str | None = None
    digests: bool = False
    resume_after: int | None = None
    unreadable: tuple[int, int, int] | None = None
    changes: dict[str, Change] = field(default_factory=dict)
    memory: int = 8192
    frame_shift: int = 12
    stripe_shift: int = 20
    fanout_shift: int = 2
    seed: str = ""
    minor: int = 0
    slots: tuple[tuple[str, int], ...] = ()
    sections: tuple[tuple[int, bytes], ...] = ()
    strays: tuple[int, ...] = ()
    marked: tuple[tuple[int, int, int, int], ...] = ()
    frame_sectors: int = 0
    parent: Stream | None = None
    kind: int = FULL
    file: bytes = b""
    share: bool = False
    layers: bool = False
    layer_entries: int = 4096
    tree_level: int = 0
    one_leaf_index: bool = False
    whole: bool = False
    twins: bool = False
    entries: Callable[[list[Entry]], list[Entry]] = field(default=list)
    copied: Callable[[list[tuple[bytes, bytes]]], list[tuple[bytes, bytes]]] = field(default=list)


class Stream:
    """One image being written; ``stream`` is what there is of it.

    Attributes:
        own: reference to whole record, of all that it has. below: references of a record.
        rows: the extents of each device. known: entries of all origins that the map names.
        written: pages by what they say. roots: of map and digests of each device.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.stream, self.ids = recipe, bytearray(), 0
        self.file_id, self.chain_id = self.random(16), self.random(16)
        self.chain_key = self.random(32)
        if recipe.parent is not None:
            self.chain_id, self.chain_key = recipe.parent.chain_id, recipe.parent.chain_key
        self.origin, self.numbers = self.file_id, defaultdict[int, int](int)
        self.records, self.sequence = 0, 0
        self.runs = [self.file_id]
        self.placed: list[list[int | bytes]] = []
        self.spare: dict[str, bytes] = {}
        """Section 10.1: what is kept twice, by its name."""
        self.own: dict[bytes, bytes] = {}
        self.below: dict[bytes, list[bytes]] = {}
        self.rows: list[list[Extent]] = []
        self.known: dict[bytes, Entry] = {}
        self.written: dict[object, bytes] = {}
        self.roots: list[tuple[int, bytes, bytes]] = []
        self.seal_ref, self.seal_parts = NONE, list[bytes]()

    def random(self, length: int) -> bytes:
        """Bytes in place of random ones."""
        self.ids += 1
        return blake3(f"{self.recipe.seed}/{self.ids}".encode()).digest(length)

    def changed(self, name: str, data: bytes) -> bytes:
        """The falsified form, where the recipe has one."""
        return self.recipe.changes.get(name, lambda same: same)(data)

    # Sections 3 and 4

    def features(self) -> tuple[int, int]:
        """Section 3.1: incompatible and compatible bits."""
        r = self.recipe
        incompatible = (
            bool(r.suite)
            | r.zstd << 1
            | (r.parent is not None and not r.whole) << 2
            | r.layers << 3
        )
        return incompatible, r.digests | (r.resume_after is not None) << 1

    def header(self) -> None:
        """Header core and key areas."""
        r, sealed = self.recipe, bool(self.recipe.suite)
        bits = self.features()
        names = b"".join(
            struct.pack("<BB46s", kind, bit, name)
            for kind, bit, name in FEATURES
            if bits[kind] >> bit & 1
        )
        names, creator = self.changed("names", names), self.changed("creator", b"tests/vectors")
        sections = b"".join(
            struct.pack("<HHI", kind, 0, len(body)) + body
            for kind, body in ((1, names), (2, creator), *r.sections)
            if body
        )
        commitment = bytes(32)
        if sealed:
            commitment = hkdf(self.chain_key, self.chain_id, b"aiv1 chain commitment")
        body = struct.pack(
            "<8sHHIQQ16s16sqBBBBBBHII32s", b"\x89AIV\r\n\x1a\n", 1, r.minor,
            120 + len(sections) + 64, *bits, self.file_id, self.chain_id, 1_700_000_000_000_000,
            r.suite, r.frame_shift, r.stripe_shift, r.fanout_shift, 1, 2 if sealed else 0, 0,
            4096 if sealed else 0, 0, commitment,
        ) + sections  # fmt: skip
        body = self.changed("core", body)
        core = body + self.header_mac(body)
        core = self.spare["core"] = core + h(core)
        self.header_digest = self.running = core[-32:]
        self.stream += core
        if sealed:
            self.stream += self.key_areas()

    def header_mac(self, body: bytes) -> bytes:
        """Section 4.5."""
        if not self.recipe.suite:
            return bytes(32)
        key = hkdf(self.chain_key, self.file_id, b"aiv1 header" + bytes([self.recipe.suite]))
        return self.changed("mac", hmac.digest(key, body, sha256))

    def key_areas(self) -> bytes:
        """Section 4.2."""
        r = self.recipe
        assert r.password is not None
        slots = [
            slot(self.chain_id, self.chain_key, password, state, r.memory, self.random)
            for password, state in r.slots or ((r.password, PASSWORD_SLOT),)
        ]
        return key_area(self.chain_id, slots, self.changed)

    # Section 5

    def record(
        self,
        kind: int,
        plain: bytes,
        extents: bytes = b"",
        name: str = "",
        below: Iterable[bytes] = (),
    ) -> bytes:
        """Append a record; return the reference to it."""
        plain = self.changed(name, plain)
        payload, codec = plain, 0
        if self.recipe.zstd:
            packed = self.changed(f"{name} payload", zstandard.compress(plain, 3))
            if len(packed) < len(plain):
                payload, codec = packed, 1
        inside = payload + self.changed(f"{name} extents", extents)
        number, self.numbers[kind] = self.numbers[kind], self.numbers[kind] + 1
        header = struct.pack(
            "<4sBBHII16sQ",
            b"AIVR",
            kind,
            codec,
            len(extents) // 12,
            len(inside) + (16 if self.recipe.suite else 0),
            len(plain),
            self.origin,
            number,
        )
        header = self.changed(f"{name} header", header)
        whole = header + self.changed(f"{name} sealed", self.sealed(header, inside))
        offset = len(self.stream)
        self.append(self.origin, offset, whole + h(whole)[:16])
        self.spare[name] = bytes(self.stream[offset:])
        ref = struct.pack("<16sQII32s", self.origin, offset, len(whole) + 16, len(plain), h(whole))
        self.own[ref], self.below[ref] = self.spare[name], [each for each in below if any(each)]
        return ref

    def append(self, origin: bytes, offset: int, record: bytes) -> None:
        """A record of this address; sections 9.3 and 11."""
        last = self.placed[-1] if self.placed else [b"", 0, 0, 0]
        length = len(record)
        if last[0] == origin and int(last[1]) + int(last[2]) == offset:
            last[2] = int(last[2]) + length
        else:
            self.placed.append([origin, offset, length, len(self.stream)])
        self.stream += record
        self.records += 1
        self.running = h(self.running + h(record[:-16]))

    def sealed(self, header: bytes, inside: bytes) -> bytes:
        """Section 4.6."""
        suite = self.recipe.suite
        if not suite:
            return inside
        purpose = b"aiv1 data" if header[4] == FRAME else b"aiv1 metadata"
        key = hkdf(self.chain_key, self.origin, purpose + bytes([suite]), KEY_BYTES[suite])
        nonce = header[4:5] + bytes(3) + header[32:40]
        associated = b"aiv1" + bytes([suite]) + self.chain_id + header
        if suite == 3:
            return inside + AESGCM(key).encrypt(nonce, b"", associated + inside)
        return AESGCM(key).encrypt(nonce, inside, associated)

    # Section 11

    def checkpoint(self, device: int, sector: int) -> None:
        """All before this place is written."""
        point = struct.pack("<IIQQ32s", device, 0, sector, self.records, self.running)
        self.record(CHECKPOINT, point, name="checkpoint")

    def go_on(self) -> None:
        """Begin the run that continues the one before."""
        previous, self.origin = self.origin, self.random(16)
        self.numbers.clear()
        self.runs.append(self.origin)
        body = struct.pack(
            "<16sQqQ32s",
            previous,
            len(self.stream),
            1_700_000_100_000_000,
            self.records,
            self.running,
        )
        self.record(CONTINUATION, body, name="continuation")

    # Sections 9 and 10

    def segments(self) -> bytes:
        """Section 9.3."""
        if len({place[0] for place in self.placed}) == 1:
            return NONE
        body = b"".join(struct.pack("<16sQQQ", *row) for row in sorted(self.placed))
        ref = self.record(SEGMENTS, body, name="segments")
        return self.changed("segments reference", ref)

    def metadata(self, values: object, name: str) -> bytes:
        """Section 9.2."""
        return self.record(METADATA, json.dumps(values).encode(), name=name)

    def describe(self) -> bytes:
        """Sections 9.2 and 11."""
        devices = [
            {"name": f"disk{n}", "size": len(content), "sector_size": 512, "source": "vector"}
            for n, content in enumerate(self.recipe.devices)
        ]
        kind = {FULL: "full", INCREMENTAL: "incremental", DIFFERENTIAL: "differential"}
        said: dict[str, object] = {
            "created": "2023-11-14T22:13:20Z",
            "kind": kind[self.recipe.kind],
            "devices": devices,
        }
        parent = self.recipe.parent
        if parent is not None:
            said |= {
                "parent_id": parent.origin.hex(),
                "parent_digest": parent.seal_ref[32:].hex(),
                "parent_sequence": parent.sequence,
                "parent_kind": parent.recipe.kind,
            }
        return self.metadata(said, "description")

    def ancestry(self) -> bytes:
        """Section 9: what the seal says of the parent, and the kinds."""
        parent = self.recipe.parent
        if parent is None:
            return struct.pack("<48xIIBB", self.sequence, 0, self.recipe.kind, 0)
        return struct.pack(
            "<16s32sIIBB",
            parent.origin,
            parent.seal_ref[32:],
            self.sequence,
            parent.sequence,
            self.recipe.kind,
            parent.recipe.kind,
        )

    def finish(self, described: bytes, entries: list[Entry], replaced: list[bytes]) -> None:
        """Result, segments, seal, spare area and trailer."""
        result = self.metadata({"finished": "2023-11-14T22:15:00Z", "unreadable": []}, "result")
        segments = self.segments()
        devices = [self.device_entry(number) for number in range(len(self.rows))]
        seal = (
            self.origin
            + self.chain_id
            + self.ancestry()
            + struct.pack("<HHH", len(devices), len(entries), len(replaced))
            + self.header_digest
            + struct.pack("<Q", self.records)
            + described
            + result
            + b"".join(devices)
            + b"".join(entry.packed() for entry in entries)
            + b"".join(replaced)
        )
        self.seal_ref = self.record(SEAL, seal, name="seal")
        self.seal_parts = [described, result]
        self.trailer(segments)

    def device_entry(self, number: int) -> bytes:
        """Section 9.1."""
        level, root, digests = self.roots[number]
        counts = [
            sum(row[0] for row in self.rows[number] if row[2] == kind)
            for kind in (UNUSED, ZERO, DATA, UNREADABLE, LOST)
        ]
        size = len(self.recipe.devices[number])
        return struct.pack("<QIB3s5QQ", size, 512, level, b"", *counts, 0) + root + digests

    def trailer(self, segments: bytes) -> None:
        """Sections 10 and 10.1."""
        names = ["core", "description", "result", *(["segments"] if any(segments) else []), "seal"]
        copies = b"".join(self.changed(f"copy of {name}", self.spare[name]) for name in names)
        spare = 4096 + len(copies) + 256 + 4096
        body = struct.pack(
            "<8sHHIQ", b"AIVTRAIL", 1, self.recipe.minor, 0, len(self.stream) + spare + 256
        )
        body += self.seal_ref + segments
        body += struct.pack("<16s16sQ32s", self.file_id, self.origin, spare, self.header_digest)
        body = self.changed("trailer", body)
        trailer = body + h(body)
        self.stream += bytes(4096) + copies + self.changed("copy of trailer", trailer)
        self.stream += bytes(4096) + trailer

    def entry_of(self, origin: bytes, frame_count: int, table_root: bytes) -> Entry:
        """Of an own run."""
        return Entry(origin, self.origin, frame_count, table_root, self.recipe.file)

    def is_layer(self, ref: bytes) -> bool:
        """Whether a reference leads to a layer, of this image or of one before it."""
        found: Stream | None = self
        while found is not None:
            if ref in found.own:
                return found.own[ref][4] == LAYER
            found = found.recipe.parent
        return False

"""A writer of ``.aiv`` images from docs/format.md alone; it shares no code with the package.

Ids, salts and nonces follow from a seed, so that the same call gives the same bytes (as long as the
Zstandard library compresses alike). Each method cites the section that it follows.
"""

from __future__ import annotations

import hmac
import json
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby

import zstandard
from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, AESGCMSIV
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

FRAME, LEAF, INDEX, MAP, DIGESTS, METADATA, CHECKPOINT, CONTINUATION, SEGMENTS, SEAL = range(1, 11)
ZERO, DATA, UNREADABLE, PAGE = 1, 2, 3, 4
NONE = bytes(64)
KEY_BYTES = (0, 16, 32, 32)
FEATURES = [
    (0, 0, b"sealed-records"),
    (0, 1, b"zstd"),
    (1, 0, b"block-digests"),
    (1, 1, b"checkpoints"),
]
Change = Callable[[bytes], bytes]
Extent = tuple[int, int, int, bytes]
"""Length, packed position or page number, kind, origin; sectors."""


def h(data: bytes) -> bytes:
    """Section 1."""
    return blake3(data).digest()


def hkdf(key: bytes, salt: bytes, info: bytes, length: int = 32) -> bytes:
    """HKDF-SHA-256."""
    return HKDF(SHA256(), length, salt, info).derive(key)


@dataclass
class Recipe:
    """What image to write; ``changes`` falsifies plain records before they are sealed, by name."""

    devices: list[bytes]
    suite: int = 0
    zstd: bool = False
    password: str | None = None
    digests: bool = False
    resume_after: int | None = None
    """Begin a second origin after so many frames."""
    unreadable: tuple[int, int, int] | None = None
    """Device, sector, sectors."""
    changes: dict[str, Change] = field(default_factory=dict)
    memory: int = 8192
    frame_shift: int = 12
    stripe_shift: int = 20
    fanout_shift: int = 2
    seed: str = ""


class Writer:
    """One image being written; ``stream`` is what there is of it."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe, self.stream, self.ids = recipe, bytearray(), 0
        self.file_id, self.chain_id = self.random(16), self.random(16)
        self.chain_key = self.random(32)
        self.origin, self.numbers = self.file_id, dict.fromkeys(range(1, 11), 0)
        self.records = 0
        self.frames: dict[bytes, list[bytes]] = {self.file_id: []}
        self.origin_ids, self.starts = [self.file_id], [0]
        self.pages: list[bytes] = []
        self.stripe, self.open_stripe = 1 << (recipe.stripe_shift - 9), -1
        self.leaves: dict[tuple[int, int], bytes] = {}
        self.spare: dict[str, bytes] = {}
        """Section 10.1: what is kept twice, by its name."""

    def random(self, length: int) -> bytes:
        """Bytes in place of random ones."""
        self.ids += 1
        return blake3(f"{self.recipe.seed}/{self.ids}".encode()).digest(length)

    def changed(self, name: str, data: bytes) -> bytes:
        """The falsified form, where the recipe has one."""
        return self.recipe.changes.get(name, lambda same: same)(data)

    # Sections 3 and 4

    def header(self) -> None:
        """Header core and key areas."""
        r, sealed = self.recipe, bool(self.recipe.suite)
        incompatible = (1 if sealed else 0) | (2 if r.zstd else 0)
        compatible = (1 if r.digests else 0) | (2 if r.resume_after is not None else 0)
        names = b"".join(
            struct.pack("<BB46s", kind, bit, name)
            for kind, bit, name in FEATURES
            if (compatible if kind else incompatible) >> bit & 1
        )
        sections = b"".join(
            struct.pack("<HHI", kind, 0, len(body)) + body
            for kind, body in ((1, names), (2, b"tests/vectors"))
            if body
        )
        commitment = bytes(32)
        if sealed:
            commitment = hkdf(self.chain_key, self.chain_id, b"aiv1 chain commitment")
        body = struct.pack(
            "<8sHHIQQ16s16sqBBBBBBHII32s", b"\x89AIV\r\n\x1a\n", 1, 0, 120 + len(sections) + 64,
            incompatible, compatible, self.file_id, self.chain_id, 1_700_000_000_000_000, r.suite,
            r.frame_shift, r.stripe_shift, r.fanout_shift, 1, 2 if sealed else 0, 0,
            4096 if sealed else 0, 0, commitment,
        ) + sections  # fmt: skip
        body = self.changed("core", body)
        mac = bytes(32)
        if sealed:
            info = b"aiv1 header" + bytes([r.suite])
            key = hkdf(self.chain_key, self.file_id, info)
            mac = self.changed("mac", hmac.digest(key, body, sha256))
        core = self.spare["core"] = body + mac + h(body + mac)
        self.header_digest = self.running = core[-32:]
        self.stream += core
        if sealed:
            self.stream += self.key_area() * 2

    def key_area(self) -> bytes:
        """Sections 4.2 and 4.3."""
        body = b"AIVKEYS1" + struct.pack("<Q", 1) + self.chain_id + self.slot() + bytes(7 * 256)
        body = self.changed("key area", body + bytes(1984))
        return body + h(body)

    def slot(self) -> bytes:
        """Section 4.3."""
        r, salt, nonce = self.recipe, self.random(16), self.random(12)
        assert r.password is not None
        head = struct.pack("<BBHIII16sq24s", 1, 1, 0, r.memory, 1, 1, salt, 0, b"vector")
        p = Argon2id(salt=salt, length=32, iterations=1, lanes=1, memory_cost=r.memory).derive(
            r.password.encode()
        )
        wrap_key = hkdf(p, self.chain_id, b"aiv1 slot wrap")
        commitment = hkdf(p, self.chain_id, b"aiv1 slot commitment")
        wrapped = AESGCMSIV(wrap_key).encrypt(
            nonce, self.chain_key, b"aiv1 slot" + self.chain_id + head
        )
        return head + commitment + nonce + wrapped + bytes(100)

    # Section 5

    def record(self, kind: int, plain: bytes, extents: bytes = b"", name: str = "") -> bytes:
        """Append a record; return the reference to it."""
        plain = self.changed(name, plain)
        payload, codec = plain, 0
        if self.recipe.zstd:
            packed = self.changed(f"{name} payload", zstandard.compress(plain, 3))
            if len(packed) < len(plain):
                payload, codec = packed, 1
        inside = payload + extents
        number, self.numbers[kind] = self.numbers[kind], self.numbers[kind] + 1
        header = struct.pack(
            "<4sBBHII16sQ", b"AIVR", kind, codec, len(extents) // 12,
            len(inside) + (16 if self.recipe.suite else 0), len(plain), self.origin, number,
        )  # fmt: skip
        whole = header + self.sealed(header, inside)
        offset = len(self.stream)
        self.stream += whole + h(whole)[:16]
        self.spare[name] = bytes(whole) + h(whole)[:16]
        self.records += 1
        self.running = h(self.running + h(whole))
        return struct.pack("<16sQII32s", self.origin, offset, len(whole) + 16, len(plain), h(whole))

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

    # Sections 6 to 8

    def device(self, number: int) -> list[Extent]:
        """Write the frames of a device; return its extents, one a run of equal kind."""
        content = self.padded(number)
        kept = [n for n in range(len(content) // 512) if any(content[512 * n : 512 * n + 512])]
        size = (1 << self.recipe.frame_shift) // 512
        positions: dict[int, tuple[bytes, int]] = {}
        for sectors in self.portions(kept, size):
            if sectors[0] // self.stripe != self.open_stripe:
                self.end_stripe(number)
                self.open_stripe = sectors[0] // self.stripe
            if self.recipe.resume_after == sum(map(len, self.frames.values())):
                self.resume(number, sectors[0])
            position = len(self.frames[self.origin]) * size
            self.frame(number, sectors, content)
            positions |= {s: (self.origin, position + i) for i, s in enumerate(sectors)}
        self.end_stripe(number)
        return self.extents(number, len(content) // 512, positions)

    def portions(self, kept: list[int], size: int) -> Iterator[list[int]]:
        """The sectors of each frame; with checkpoints none has sectors of two stripes."""
        if self.recipe.resume_after is None:
            stripes = [kept]
        else:
            stripes = [list(group) for _, group in groupby(kept, lambda s: s // self.stripe)]
        for stripe in stripes:
            yield from (stripe[at : at + size] for at in range(0, len(stripe), size))

    def end_stripe(self, device: int) -> None:
        """With checkpoints a leaf of block digests stands behind the frames of its stripe."""
        r, stripe, self.open_stripe = self.recipe, self.open_stripe, -1
        if r.resume_after is not None and r.digests and stripe >= 0:
            leaf = self.digest_leaves(device)[stripe * self.stripe // 128]
            self.leaves[device, stripe * self.stripe // 128] = self.record(DIGESTS, leaf)

    def padded(self, number: int) -> bytes:
        """Whole sectors, without what could not be read."""
        content = self.recipe.devices[number]
        content += bytes(-len(content) % 512)
        if self.recipe.unreadable and self.recipe.unreadable[0] == number:
            _, first, count = self.recipe.unreadable
            content = content[: 512 * first] + bytes(512 * count) + content[512 * (first + count) :]
        return content

    def frame(self, device: int, sectors: list[int], content: bytes) -> None:
        """Section 6.1."""
        runs: list[list[int]] = []
        for sector in sectors:
            if runs and sum(runs[-1]) == sector:
                runs[-1][1] += 1
            else:
                runs.append([sector, 1])
        extents = b"".join(struct.pack("<QI", device << 48 | s, n) for s, n in runs)
        plain = b"".join(content[512 * s : 512 * s + 512] for s in sectors)
        self.frames[self.origin].append(self.record(FRAME, plain, extents, "frame"))

    def extents(
        self, device: int, count: int, positions: dict[int, tuple[bytes, int]]
    ) -> list[Extent]:
        """Section 7: (length, position, kind, origin), neighbours joined."""
        bad = range(0)
        if self.recipe.unreadable and self.recipe.unreadable[0] == device:
            bad = range(self.recipe.unreadable[1], sum(self.recipe.unreadable[1:]))
        rows: list[Extent] = []
        for sector in range(count):
            origin, position = positions.get(sector, (b"", 0))
            kind = DATA if origin else UNREADABLE if sector in bad else ZERO
            rows.append((1, position, kind, origin))
        return joined(rows)

    def table(self, origin: bytes) -> bytes:
        """Section 6.2; a vector has fewer than 1024 frames."""
        refs = self.frames[origin]
        if not refs:
            return NONE
        leaf = struct.pack("<QII", 0, len(refs), 0) + b"".join(ref[16:] for ref in refs)
        return self.record(LEAF, leaf, name="table")

    def map(self, device: int, extents: list[Extent]) -> tuple[int, bytes]:
        """Section 7: (level, reference to the root)."""
        sectors = sum(row[0] for row in extents)
        level = 0
        while self.span(level) < sectors:
            level += 1
        self.pages = []
        rows = self.rows(device, extents, level, 0, sectors)
        return level, self.page(device, level, 0, sectors, rows)

    def span(self, level: int) -> int:
        """Sectors of a page."""
        return 1 << (self.recipe.stripe_shift + level * self.recipe.fanout_shift - 9)

    def rows(
        self, device: int, extents: list[Extent], level: int, first: int, count: int
    ) -> list[Extent]:
        """The list of a page: that of its children, or references to them."""
        if level == 0:
            return cut(extents, first, count)
        found: list[Extent] = []
        for start in range(first, first + count, self.span(level - 1)):
            length = min(self.span(level - 1), first + count - start)
            rows = self.rows(device, extents, level - 1, start, length)
            if len(rows) > 16:
                self.pages.append(self.page(device, level - 1, start, length, rows))
                rows = [(length, len(self.pages) - 1, PAGE, b"")]
            found += rows
        return joined(found)

    def page(self, device: int, level: int, first: int, sectors: int, rows: list[Extent]) -> bytes:
        """One page."""
        origins = sorted({row[3] for row in rows if row[2] == DATA})
        steps, expected = [], 0
        for length, position, kind, _ in rows:
            steps.append((position - expected) % (1 << 64) if kind == DATA else 0)
            expected = position + length if kind == DATA else expected
        refs = [self.pages[row[1]] for row in rows if row[2] == PAGE]
        head = struct.pack(
            "<QQIIIHHB3s", first, sectors, device, len(rows), len(refs), len(origins), 0, level, b""
        )
        columns = [
            b"".join(struct.pack("<Q", row[0]) for row in rows),
            b"".join(struct.pack("<Q", step) for step in steps),
            b"".join(
                struct.pack("<H", origins.index(row[3]) if row[2] == DATA else 0) for row in rows
            ),
            bytes(row[2] for row in rows),
        ]
        return self.record(MAP, head + b"".join([*origins, *columns, *refs]), name=f"map {level}")

    def digest_leaves(self, device: int) -> dict[int, bytes]:
        """Section 8, by the first block."""
        content = self.padded(device)
        content += bytes(-len(content) % 65_536)
        blocks = [content[at : at + 65_536] for at in range(0, len(content), 65_536)]
        digests = [h(block)[:16] if any(block) else bytes(16) for block in blocks]
        step = 1 << (self.recipe.stripe_shift - 16)
        leaves = {}
        for first in range(0, len(digests), step):
            leaf = b"".join(digests[first : first + step])
            if any(leaf):
                leaves[first] = struct.pack("<QII", first, len(leaf) // 16, 0) + leaf
        return leaves

    def digest_tree(self, device: int) -> bytes:
        """Section 8."""
        leaves = [
            (first, self.leaves.get((device, first)) or self.record(DIGESTS, leaf))
            for first, leaf in self.digest_leaves(device).items()
        ]
        if len(leaves) < 2:
            return leaves[0][1] if leaves else NONE
        entries = b"".join(struct.pack("<Q", key) + ref for key, ref in leaves)
        return self.record(INDEX, struct.pack("<II", 1, len(leaves)) + entries, name="index")

    # Section 11

    def resume(self, device: int, sector: int) -> None:
        """A checkpoint, and the run that goes on from it."""
        at = sector - sector % self.stripe
        point = struct.pack("<IIQQ32s", device, 0, at, self.records, self.running)
        self.record(CHECKPOINT, point, name="checkpoint")
        previous, self.origin = self.origin, self.random(16)
        self.numbers = dict.fromkeys(range(1, 11), 0)
        self.frames[self.origin] = []
        self.origin_ids.append(self.origin)
        self.starts.append(len(self.stream))
        body = struct.pack(
            "<16sQqQ32s", previous, len(self.stream), 1_700_000_100_000_000, self.records,
            self.running,
        )  # fmt: skip
        self.record(CONTINUATION, body, name="continuation")

    def segments(self) -> bytes:
        """Section 9.3."""
        if len(self.origin_ids) == 1:
            return NONE
        ends = [*self.starts[1:], len(self.stream)]
        rows = sorted(
            (origin, start, end - start, start)
            for origin, start, end in zip(self.origin_ids, self.starts, ends, strict=True)
        )
        body = b"".join(struct.pack("<16sQQQ", *row) for row in rows)
        return self.record(SEGMENTS, body, name="segments")

    # Sections 9 and 10

    def metadata(self, values: object, name: str) -> bytes:
        """Section 9.2."""
        return self.record(METADATA, json.dumps(values).encode(), name=name)

    def write(self) -> bytes:
        """The whole stream."""
        r = self.recipe
        self.header()
        devices = [
            {"name": f"disk{n}", "size": len(content), "sector_size": 512, "source": "vector"}
            for n, content in enumerate(r.devices)
        ]
        described = {"created": "2023-11-14T22:13:20Z", "kind": "full", "devices": devices}
        description = self.metadata(described, "description")
        extents = [self.device(number) for number in range(len(r.devices))]
        entries = [self.device_entry(n, rows) for n, rows in enumerate(extents)]
        image_id = self.origin
        tables = [
            struct.pack("<16s16sQ", origin, image_id, len(self.frames[origin])) + self.table(origin)
            + bytes(1)
            for origin in reversed(self.origin_ids)
        ]  # fmt: skip
        result = self.metadata({"finished": "2023-11-14T22:15:00Z", "unreadable": []}, "result")
        segments = self.segments()
        seal = struct.pack(
            "<16s16s16s32sIIBBHHH32sQ", image_id, self.chain_id, bytes(16), bytes(32), 0, 0, 1, 0,
            len(entries), len(tables), 0, self.header_digest, self.records,
        )  # fmt: skip
        ref = self.record(
            SEAL, seal + description + result + b"".join(entries) + b"".join(tables), name="seal"
        )
        self.trailer(ref, segments, image_id)
        return bytes(self.stream)

    def device_entry(self, number: int, rows: list[Extent]) -> bytes:
        """Section 9.1."""
        level, root = self.map(number, rows)
        counts = [sum(row[0] for row in rows if row[2] == kind) for kind in (0, 1, 2, 3, 5)]
        digests = self.digest_tree(number) if self.recipe.digests else NONE
        size = len(self.recipe.devices[number])
        return struct.pack("<QIB3s5QQ", size, 512, level, b"", *counts, 0) + root + digests

    def trailer(self, seal: bytes, segments: bytes, image_id: bytes) -> None:
        """Sections 10 and 10.1."""
        names = ["core", "description", "result", *(["segments"] if any(segments) else []), "seal"]
        copies = b"".join(self.spare[name] for name in names)
        spare = 4096 + len(copies) + 256 + 4096
        body = struct.pack("<8sHHIQ", b"AIVTRAIL", 1, 0, 0, len(self.stream) + spare + 256)
        body += seal + segments
        body += struct.pack("<16s16sQ32s", self.file_id, image_id, spare, self.header_digest)
        body = self.changed("trailer", body)
        trailer = body + h(body)
        self.stream += bytes(4096) + copies + trailer + bytes(4096) + trailer


def joined(rows: list[Extent]) -> list[Extent]:
    """Neighbours that continue each other as one."""
    found: list[Extent] = []
    for length, position, kind, origin in rows:
        if found and kind != PAGE and found[-1][2:] == (kind, origin):
            before = found[-1]
            if kind != DATA or before[1] + before[0] == position:
                found[-1] = (before[0] + length, before[1], kind, origin)
                continue
        found.append((length, position, kind, origin))
    return found


def cut(extents: list[Extent], first: int, count: int) -> list[Extent]:
    """The extents of a range."""
    found: list[Extent] = []
    at = 0
    for length, position, kind, origin in extents:
        low, high = max(at, first), min(at + length, first + count)
        if low < high:
            shift = low - at if kind == DATA else 0
            found.append((high - low, position + shift, kind, origin))
        at += length
    return found


def in_parts(stream: bytes, file_id: bytes, room: int) -> list[bytes]:
    """Section 12."""
    parts = []
    for number, start in enumerate(range(0, len(stream), room), 1):
        piece = stream[start : start + room]
        last = start + room >= len(stream)
        head = struct.pack("<8s16sIIQQ48s", b"AIVPART1", file_id, number, 0, start, 0, b"")
        foot = struct.pack(
            "<8s16sIIQQ48s", b"AIVPEND1", file_id, number, last, start, len(piece), b""
        )
        parts.append(head + h(head) + piece + foot + h(foot))
    return parts

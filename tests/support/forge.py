"""A forger with all keys: one record's plain content is replaced, and every digest, tag, reference,
the seal and the trailer are made anew, so that the checks behind them are reached.

Works on images as first written (one origin). Pages are taken apart with plain ``struct`` rules of
docs/format.md, never with the library's decoders: a forged page need not be decodable.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import zstandard
from blake3 import blake3

from aipimage.format.constants import RecordType
from aipimage.io.records.keys import ChainKeys
from tests.support.ends import GAP, TRAILER, records_end
from tests.support.memory import MemorySystem

Change = Callable[[bytes], bytes]
HEADER = struct.Struct("<4sBBHII16sQ")
REFERENCE = struct.Struct("<16sQII32s")
FRAME_ENTRY = struct.Struct("<QII32s")


def digest(data: bytes) -> bytes:
    """H of section 1."""
    return blake3(data).digest()


@dataclass(frozen=True)
class Record:
    """A record in plain form; ``payload`` where the stored bytes do not follow from it."""

    type: int
    codec: int
    origin: bytes
    number: int
    plain: bytes
    extents: bytes
    offset: int
    length: int
    digest: bytes
    payload: bytes | None = None


class Forger:
    """An unsplit image taken apart.

    Attributes:
        core: of the header. areas: key areas as they are. records: all of them, the seal last.
    """

    def __init__(self, data: bytes, keys: ChainKeys | None = None) -> None:
        self.data, self.keys = data, keys
        length = struct.unpack_from("<I", data, 12)[0]
        areas = struct.unpack_from("<I", data, 80)[0] * data[77]
        self.core, self.areas = data[:length], data[length : length + areas]
        self.suite = data[72]
        self.records = list(self._walk(length + areas, records_end(data)))

    def _walk(self, at: int, end: int) -> Iterator[Record]:
        while at < end:
            _, kind, codec, extents, body, plain, origin, number = HEADER.unpack_from(self.data, at)
            whole = self.data[at : at + 40 + body]
            inside = self._opened(whole)
            stored, tail = (
                inside[: len(inside) - 12 * extents],
                inside[len(inside) - 12 * extents :],
            )
            if codec:
                stored = zstandard.ZstdDecompressor().decompress(stored, max_output_size=plain)
            length = 40 + body + 16
            yield Record(kind, codec, origin, number, stored, tail, at, length, digest(whole))
            at += length

    def _opened(self, whole: bytes) -> bytes:
        if self.keys is None:
            return whole[40:]
        return bytes(self.keys.cipher(whole[16:32]).open(whole[:40], whole[40:]))

    def forge(
        self,
        index: int | None,
        change: Change,
        *,
        trailer: Change | None = None,
        core: Change | None = None,
    ) -> bytes:
        """Return an image whose record ``index`` has other plain content; all else follows."""
        return self.forge_record(
            index,
            lambda record: replace(record, plain=change(record.plain)),
            trailer=trailer,
            core=core,
        )

    def forge_record(
        self,
        index: int | None,
        change: Callable[[Record], Record],
        *,
        trailer: Change | None = None,
        core: Change | None = None,
    ) -> bytes:
        """The same for any part of a record, its header included."""
        head = self._core(core) + self.areas
        out, moved = bytearray(head), {}
        running = head[: len(head) - len(self.areas)][-32:]
        for at, record in enumerate(self.records):
            plain = bound(record.type, self._references(record, moved, head), running)
            fixed = replace(record, plain=plain)
            fixed = change(fixed) if at == index else fixed
            built = self.build(fixed)
            running = digest(running + digest(built[:-16]))
            moved[record.offset] = (len(out), built, len(fixed.plain))
            out += built
        return bytes(out) + self._end(moved, len(out), head, trailer)

    def _core(self, change: Change | None) -> bytes:
        if change is None:
            return self.core
        body = change(self.core[:-64])
        mac = self.keys.header_mac(body) if self.keys and len(body) > 48 else bytes(32)
        return body + mac + digest(body + mac)

    def build(self, record: Record) -> bytes:
        """Store a record: compress, seal, digest."""
        payload = record.payload
        if payload is None:
            payload = record.plain
            if record.codec:
                payload = zstandard.ZstdCompressor(level=3).compress(record.plain)
        inside = payload + record.extents
        tag = 16 if self.keys else 0
        header = HEADER.pack(
            b"AIVR",
            record.type,
            record.codec,
            len(record.extents) // 12,
            len(inside) + tag,
            len(record.plain),
            record.origin,
            record.number,
        )
        if self.keys is not None:
            sealed = bytearray(len(inside) + tag)
            self.keys.cipher(record.origin).seal_into(header, inside, memoryview(sealed))
            inside = bytes(sealed)
        return header + inside + digest(header + inside)[:16]

    # References

    def reference(self, built: bytes, offset: int, plain_length: int) -> bytes:
        """The 64 bytes that lead to a built record."""
        return REFERENCE.pack(built[16:32], offset, len(built), plain_length, digest(built[:-16]))

    def _references(
        self, record: Record, moved: dict[int, tuple[int, bytes, int]], head: bytes
    ) -> bytes:
        """The plain content with every reference to a moved record put right."""
        plain = bytearray(record.plain)
        for at in reference_places(record):
            old = REFERENCE.unpack_from(plain, at)[1]
            if old:
                offset, built, length = moved[old]
                plain[at : at + 64] = self.reference(built, offset, length)
        if record.type == RecordType.TABLE_LEAF:
            for at in range(16, len(plain), 48):
                offset, built, length = moved[FRAME_ENTRY.unpack_from(plain, at)[0]]
                entry = FRAME_ENTRY.pack(offset, len(built), length, digest(built[:-16]))
                plain[at : at + 48] = entry
        if record.type == RecordType.SEAL:
            plain[96:128] = head[: len(head) - len(self.areas)][-32:]
        return bytes(plain)

    def _end(
        self, moved: dict[int, tuple[int, bytes, int]], at: int, head: bytes, change: Change | None
    ) -> bytes:
        """Spare area and trailer behind records that end at ``at`` (sections 10 and 10.1)."""
        seal = self.records[-1]
        named = [moved[REFERENCE.unpack_from(seal.plain, each)[1]][1] for each in (136, 200)]
        core = head[: len(head) - len(self.areas)]
        copies = b"".join([core, *named, moved[seal.offset][1]])
        spare = 2 * GAP + len(copies) + TRAILER
        trailer = self._trailer(moved, at + spare + TRAILER, spare, core, change)
        return bytes(GAP) + copies + trailer + bytes(GAP) + trailer

    def _trailer(
        self,
        moved: dict[int, tuple[int, bytes, int]],
        length: int,
        spare: int,
        core: bytes,
        change: Change | None,
    ) -> bytes:
        body = bytearray(self.data[-TRAILER:-32])
        offset, built, plain_length = moved[self.records[-1].offset]
        body[16:24] = struct.pack("<Q", length)
        body[24:88] = self.reference(built, offset, plain_length)
        body[184:192] = struct.pack("<Q", spare)
        body[192:224] = core[-32:]
        if change is not None:
            body = bytearray(change(bytes(body)))
        return bytes(body) + digest(bytes(body))

    def indexes(self, kind: int) -> list[int]:
        """Positions of the records of a type."""
        return [index for index, record in enumerate(self.records) if record.type == kind]


def bound(kind: int, plain: bytes, running: bytes) -> bytes:
    """A checkpoint or continuation with the running digest before it (section 11)."""
    place = {RecordType.CHECKPOINT: 24, RecordType.CONTINUATION: 40}.get(RecordType(kind))
    return plain if place is None else plain[:place] + running + plain[place + 32 :]


def reference_places(record: Record) -> list[int]:
    """Where references lie in a record's plain content."""
    plain = record.plain
    if record.type == RecordType.INDEX:
        return [at + 8 for at in range(8, len(plain), 72)]
    if record.type == RecordType.MAP:
        count, refs = struct.unpack_from("<II", plain, 20)
        first = 36 + 16 * struct.unpack_from("<H", plain, 28)[0] + 19 * count
        entries = struct.unpack_from("<H", plain, 30)[0]
        places = origin_places(plain, first + 64 * refs, entries)
        return [first + 64 * n for n in range(refs)] + [at + 40 for at in places]
    if record.type == RecordType.SEAL:
        devices, origins = struct.unpack_from("<HH", plain, 90)
        first = 264 + 192 * devices
        return (
            [136, 200]
            + [264 + 192 * n + at for n in range(devices) for at in (64, 128)]
            + [at + 40 for at in origin_places(plain, first, origins)]
        )
    return []


def origin_places(plain: bytes, first: int, count: int) -> list[int]:
    """Where the entries of origins begin (section 7.1)."""
    places = []
    for _ in range(count):
        places.append(first)
        first += 105 + plain[first + 104]
    return places


def put(offset: int, data: bytes) -> Change:
    """A change that overwrites bytes."""

    def change(plain: bytes) -> bytes:
        end = offset % len(plain) + len(data)
        return plain[: offset % len(plain)] + data + plain[end:]

    return change


def system_with(data: bytes, path: str) -> MemorySystem:
    """A disk that holds one image."""
    return MemorySystem({path: data})

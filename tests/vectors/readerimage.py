"""The reader from the text alone: trailer, segments, seal, maps, frames, chains.

``Image(path, password)`` opens an image, and ``Image.devices()`` reads it.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from struct import iter_unpack
from typing import NamedTuple

from tests.vectors.reader import (
    DATA,
    FRAME,
    INDEX,
    LEAF,
    LOST,
    MAP,
    MIB,
    NONE,
    PAGE,
    SEAL,
    SEGMENTS,
    Core,
    Entry,
    Ref,
    Refusal,
    chain_key,
    core_of,
    entries_of,
    fields,
    h,
    hkdf,
    load,
    need,
    plain_of,
    reference,
    refuse,
    within,
)


class Trailer(NamedTuple):
    """Section 10."""

    minor: int
    seal: Ref
    segments: Ref | None
    file_id: bytes
    image_id: bytes
    spare: int
    header_digest: bytes


def trailer_of(stream: bytes) -> Trailer:
    """The trailer, or its copy where it is not valid."""
    first, second = stream[-256:], stream[-4608:-4352]
    for data in (first, second):
        if data[:8] == b"AIVTRAIL" and h(data[:224]) == data[224:]:
            return parsed(data, len(stream))
    kind = "Integrity" if first[:8] == b"AIVTRAIL" else "Incomplete"
    return refuse(kind, "no valid trailer, nor a copy")


def parsed(data: bytes, size: int) -> Trailer:
    major, minor, reserved, length = fields("HHIQ", data, 8)
    need(major == 1, "major of the trailer", "Unsupported")
    need(reserved == 0, "reserved field of the trailer")
    need(length == size, "length of the stream", "Incomplete")
    seal, segments = reference(data, 24), reference(data, 88)
    file_id, image_id, spare, header = fields("16s16sQ32s", data, 152)
    within(spare, 8803, 1 << 63, "spare area")
    if seal is None:
        refuse("Format", "a trailer without a seal")
    return Trailer(minor, seal, segments, file_id, image_id, spare, header)


class Held:
    """A file: its stream, and where addresses lie in it (section 9.3)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream, first = load(path)
        stream = self.stream
        need(stream[:8] == b"\x89AIV\r\n\x1a\n" or stream[-256:-248] == b"AIVTRAIL", "not an image")
        self.core = self._core()
        self.head = len(self.core.data) + (8192 if self.core.suite else 0)
        need(self.head <= first, "the header reaches beyond the first part")

    def _core(self) -> Core:
        try:
            return core_of(self.stream)
        except Refusal as refusal:
            if refusal.kind != "IntegrityError":
                raise
            trailer = trailer_of(self.stream)
            copy = self.stream[len(self.stream) - 256 - trailer.spare + 4096 :]
            core = core_of(copy)
            need(core.data[-32:] == trailer.header_digest, "copy of the header", "Integrity")
            return core

    def check_mac(self, key: bytes) -> None:
        """Section 4.5."""
        core = self.core
        mac_key = hkdf(key, core.file_id, b"aiv1 header" + bytes([core.suite]))
        mac = hmac.digest(mac_key, core.data[:-64], sha256)
        need(hmac.compare_digest(mac, core.data[-64:-32]), "header MAC", "Integrity")

    def read_end(self, key: bytes) -> None:
        """Trailer and segments."""
        trailer = self.trailer = trailer_of(self.stream)
        told = (trailer.minor, trailer.file_id, trailer.header_digest)
        need(told == (self.core.minor, self.core.file_id, self.core.data[-32:]), "trailer")
        self.end = len(self.stream) - 256 - trailer.spare
        need(trailer.seal.offset + trailer.seal.record == self.end, "the seal is not the last")
        self.rows = [(self.core.file_id, 0, self.end, 0)]
        if trailer.segments is not None:
            copy = len(self.stream) - 4608 - trailer.seal.record - trailer.segments.record
            self.rows = self._rows(self.small(trailer.segments, SEGMENTS, copy, key))

    def _rows(self, data: bytes) -> list[tuple[bytes, int, int, int]]:
        need(len(data) % 40 == 0, "segments record")
        rows = list(iter_unpack("<16sQQQ", data))
        within(len(rows), 1, 65_536, "segments")
        for _, _, length, place in rows:
            need(length and place + length <= self.end, "a segment is empty or too long")
        for a, b in pairwise(rows):
            need(a[:2] < b[:2] and (a[0] != b[0] or a[1] + a[2] <= b[1]), "segments")
        placed = sorted((place, length) for _, _, length, place in rows)
        for (a, n), (b, _) in pairwise(placed):
            need(a + n <= b, "segments overlap in the stream")
        return rows

    def small(self, ref: Ref, kind: int, copy: int, key: bytes) -> bytes:
        """A record that is kept twice, from its place in the stream (section 10.1)."""
        for at in (ref.offset, copy):
            record = self.stream[at : at + ref.record]
            if h(record[:-16]) == ref.digest and record[-16:] == ref.digest[:16]:
                break
        return plain_of(record, ref, kind, self.core, key)[0]

    def holds(self, origin: bytes) -> bool:
        return any(row[0] == origin for row in self.rows)

    def find(self, origin: bytes, offset: int, length: int) -> bytes | None:
        for found, start, size, place in self.rows:
            if found == origin and start <= offset and offset + length <= start + size:
                at = place + offset - start
                need(at >= self.head, "a record in the header")
                return self.stream[at : at + length]
        return None


class Device(NamedTuple):
    """Section 9.1."""

    size: int
    level: int
    root: Ref


class Image:
    """An image that was opened."""

    def __init__(self, path: Path, password: str | None) -> None:
        self.file = Held(path)
        core = self.core = self.file.core
        need(core.suite or password is None, "no password is wanted", "Password")
        need(not core.suite or password is not None, "no password", "Password")
        self.key = b""
        if core.suite and password is not None:
            areas = self.file.stream[len(core.data) :][:8192]
            self.key = chain_key(core, areas, password)
            self.file.check_mac(self.key)
        self.file.read_end(self.key)
        trailer = self.file.trailer
        copy = len(self.file.stream) - 4608 - trailer.seal.record
        self._seal(self.file.small(trailer.seal, SEAL, copy, self.key), trailer)
        self.others: list[Held] | None = None
        self.strangers: dict[bytes, Refusal] = {}
        self.tables: dict[bytes, list[Ref]] = {}
        self.frames: dict[Ref, bytes] = {}

    def _seal(self, data: bytes, trailer: Trailer) -> None:
        """Section 9."""
        image_id, chain_id, parent, digest = fields("16s16s16s32s", data)
        sequence, parents, kind, parent_kind, devices, origins, replaced = fields(
            "IIBBHHH", data, 80
        )
        within(devices, 1, 1024, "devices")
        within(origins, 1, 8192, "origins")
        within(replaced, 0, 4096, "replaced images")
        within(sequence, 0, 4095, "sequence")
        need(len(data) >= 264 + 192 * devices, "the seal is cut short")
        told = (image_id, chain_id, data[96:128], trailer.seal.origin)
        wanted = (trailer.image_id, self.core.chain_id, self.core.data[-32:], image_id)
        need(told == wanted, "the seal belongs to another image")
        need(kind in (1, 2, 3) and parent_kind < 4, "kind")
        need(bool(parent_kind) == any(parent) and parent != image_id, "parent")
        need(parent_kind or (not any(digest) and not parents and kind == 1), "no parent")
        need(kind != 3 or parent_kind == 1, "a differential image of no full one")
        lowest = parents + 1 if parent_kind else 0
        need(sequence >= lowest if replaced else sequence == lowest, "sequence")
        need(reference(data, 136) and reference(data, 200), "no metadata")
        self.list = [self._device(data[264 + 192 * n :][:192]) for n in range(devices)]
        self.listed, at = entries_of(data, 264 + 192 * devices, origins)
        need(len(data) == at + 64 * replaced, "length of the seal")
        need(self.listed[0][:2] == (image_id, image_id), "first origin of the seal")
        self.known = {each.origin: each for each in self.listed}

    def _device(self, data: bytes) -> Device:
        size, sector, level, reserved = fields("QIB3s", data)
        counts, root = fields("6Q", data, 16), reference(data, 64)
        within(size, 1, 1 << 57, "size of a device")
        within(level, 0, 7, "level of a map")
        need(sector in [512 << n for n in range(8)], "sector size")
        need(not any(reserved) and not counts[5], "reserved bytes of a device")
        need(sum(counts[:5]) == -(-size // 512), "counts of a device")
        reference(data, 128)
        if root is None:
            refuse("Format", "a device without a map")
        return Device(size, level, root)

    # Records, of this file and of others (sections 9.3, 9.4 and 16)

    def fetch(self, ref: Ref, kind: int) -> tuple[bytes, bytes, bytes]:
        """Record header, plain payload, extents."""
        found = []
        if self.file.holds(ref.origin):
            found = [self.file.find(ref.origin, ref.offset, ref.record)]
            need(found[0] is not None, "a place that this file does not hold")
        else:
            places = [each.find(ref.origin, ref.offset, ref.record) for each in self._others()]
            found = [place for place in places if place is not None]
            if not found and ref.origin in self.strangers:
                raise self.strangers[ref.origin]
            need(found, "an image of the chain is missing", "Incomplete")
        right = [each for each in found if each and h(each[:-16]) == ref.digest]
        need(right, "a record is damaged", "Integrity")
        return right[0][:40], *plain_of(right[0], ref, kind, self.core, self.key)

    def _others(self) -> list[Held]:
        if self.others is None:
            self.others = []
            for path in sorted(self.file.path.parent.glob("*.aiv")):
                if path != self.file.path:
                    self._add(path)
        return self.others

    def _add(self, path: Path) -> None:
        assert self.others is not None
        try:
            held = Held(path)
            if held.core.chain_id != self.core.chain_id:
                return
            own, other = self.core, held.core
            same = (other.suite, other.commitment) == (own.suite, own.commitment)
            try:
                need(same, "another suite or key", "Password")
                need(other.shifts == own.shifts, "other sizes")
            except Refusal as refusal:
                self.strangers[other.file_id] = refusal
                return
            if self.key:
                held.check_mac(self.key)
            held.read_end(self.key)
        except Refusal:
            return
        self.others.append(held)

    # Maps (section 7)

    def learn(self, entries: list[Entry]) -> None:
        for each in entries:
            need(self.known.setdefault(each.origin, each) == each, "an origin is told differently")

    def runs_of(self, origin: bytes, entries: list[Entry]) -> list[Entry]:
        """Section 7.1: the runs of the image that an origin is a run of."""
        holders = [each.holder for each in entries if each.origin == origin]
        need(holders, "nothing tells of the image of a page")
        return [each for each in entries if each.holder == holders[0]]

    def devices(self) -> list[bytes]:
        """The content of all devices."""
        return [self.device(number) for number in range(len(self.list))]

    def device(self, number: int) -> bytes:
        size, level, root = self.list[number]
        content, sectors = bytearray(-(-size // 512) * 512), -(-size // 512)
        runs = self.runs_of(root.origin, self.listed)
        self._page(number, root, runs, (0, sectors), level, True, content)
        return bytes(content[:size])

    def _page(
        self,
        number: int,
        ref: Ref,
        runs: list[Entry],
        area: tuple[int, int],
        level: int,
        is_root: bool,
        content: bytearray,
    ) -> None:
        data = self.fetch(ref, MAP)[1]
        first, sectors, device, extents, refs, origins, told, own = fields("QQIIIHHB", data)
        need((first, sectors) == area and device == number, "a page of another place")
        need(own == level if is_root else own < level, "a page of another level")
        need(not any(data[33:36]), "reserved bytes of a page")
        within(told, 0, 8192, "entries of a page")
        at = 36 + 16 * origins
        columns = at + 19 * extents
        need(len(data) >= columns + 64 * refs, "a page is cut short")
        names = [data[place : place + 16] for place in range(36, at, 16)]
        need(len(set(names)) == origins, "an origin is listed twice")
        lengths = fields(f"{extents}Q", data, at)
        steps = fields(f"{extents}Q", data, at + 8 * extents)
        indexes = fields(f"{extents}H", data, at + 16 * extents)
        kinds = data[at + 18 * extents : columns]
        below = [reference(data, columns + 64 * n) for n in range(refs)]
        entries, end = entries_of(data, columns + 64 * refs, told)
        need(end == len(data), "length of a page")
        need(all(a.origin < b.origin for a, b in pairwise(entries)), "entries that do not ascend")
        need(0 not in lengths and sum(lengths) == sectors, "lengths of a page")
        need(all(kind <= LOST for kind in kinds) and kinds.count(PAGE) == refs, "kinds of a page")
        self.learn(entries)
        place = 0
        pages = iter(below)
        for length, step, index, kind in zip(lengths, steps, indexes, kinds, strict=True):
            if kind == DATA:
                need(index < origins, "origin of an extent")
                place = (place + step) % (1 << 64)
                need(place + length <= 1 << 56, "position")
                told_here = {each.origin: each for each in (*runs, *entries)}
                need(names[index] in told_here, "an origin that nothing tells of")
                self._data(told_here[names[index]], place, length, first * 512, content)
                place += length
            else:
                need(step == 0 and index == 0, "step or origin of an extent without data")
            if kind == LOST:
                refuse("Integrity", "an extent was lost")
            if kind == PAGE:
                child = next(pages)
                if child is None:
                    refuse("Format", "an empty reference")
                is_own = any(child.origin == each.origin for each in runs)
                next_runs = runs if is_own else self.runs_of(child.origin, entries)
                self._page(number, child, next_runs, (first, length), own, False, content)
            first += length

    # Frames (section 6)

    def _data(self, entry: Entry, place: int, length: int, at: int, content: bytearray) -> None:
        size = (1 << self.core.shifts[0]) // 512
        while length:
            number, inside = divmod(place, size)
            need(number < entry.frames, "a position of no frame")
            plain = self._frame(entry, number)
            taken = min(length, len(plain) // 512 - inside)
            need(taken > 0, "a position that a frame leaves out")
            content[at : at + 512 * taken] = plain[512 * inside : 512 * (inside + taken)]
            at, place, length = at + 512 * taken, place + taken, length - taken

    def _frame(self, entry: Entry, number: int) -> bytes:
        if entry.origin not in self.tables:
            assert entry.table is not None
            self.tables[entry.origin] = self._table(entry, entry.table)
        ref = self.tables[entry.origin][number]
        if ref not in self.frames:
            head, plain, extents = self.fetch(ref, FRAME)
            need(fields("Q", head, 32)[0] == number, "number of a frame")
            need(len(plain) % 512 == 0 and len(plain) <= 1 << self.core.shifts[0], "a frame")
            rows = list(iter_unpack("<QI", extents))
            need(rows and all(n for _, n in rows), "extents of a frame")
            need(512 * sum(n for _, n in rows) == len(plain), "extents of a frame")
            self.frames[ref] = plain
        return self.frames[ref]

    def _table(self, entry: Entry, root: Ref) -> list[Ref]:
        """Section 6.2."""
        leaves = [(0, root)] if entry.frames <= 1024 else self._leaves(root, None)
        found: list[Ref] = []
        for key, leaf in leaves:
            data = self.fetch(leaf, LEAF)[1]
            first, count, reserved = fields("QII", data)
            need(first == key == len(found) and reserved == 0, "a leaf of another place")
            need(count == min(1024, entry.frames - first), "frames of a leaf")
            need(len(data) == 16 + 48 * count, "length of a leaf")
            end = 184
            for offset, record, plain, digest in iter_unpack("<QII32s", data[16:]):
                need(offset >= end and 57 <= record <= 5 * MIB, "frames that do not ascend")
                end = offset + record
                found.append(Ref(entry.origin, offset, record, plain, digest))
        need(len(found) == entry.frames, "number of frames")
        return found

    def _leaves(self, ref: Ref, level: int | None) -> list[tuple[int, Ref]]:
        """Section 6.3: keys and references of the leaves below an index page."""
        data = self.fetch(ref, INDEX)[1]
        own, count = fields("II", data)
        within(own, 1, 8, "level of an index page")
        within(count, 1, 512, "entries of an index page")
        need(level in (None, own) and len(data) == 8 + 72 * count, "an index page")
        found: list[tuple[int, Ref]] = []
        for at in range(8, len(data), 72):
            key, child = fields("Q", data, at)[0], reference(data, at + 8)
            if child is None or data[at + 8 : at + 72] == NONE:
                refuse("Format", "an empty reference")
            found += [(key, child)] if own == 1 else self._leaves(child, own - 1)
        keys = [key for key, _ in found]
        need(keys == sorted(set(keys)), "keys that do not ascend")
        return found

"""A forger of whole chains: what is changed in one image is followed into those that build on it.

Every digest, tag, reference, seal, parent digest and trailer of all files is made anew, so that
nothing but the rule that was broken can give the change away.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

from aipimage.format.constants import RecordType
from aipimage.io.records.keys import ChainKeys
from tests.support.ends import GAP, TRAILER
from tests.support.forge import (
    FRAME_ENTRY,
    REFERENCE,
    Change,
    Forger,
    Record,
    digest,
    reference_places,
)

_EVERY = -1
Place = tuple[bytes, int]
Built = tuple[int, bytes, int]
RecordChange = Callable[[Record], Record]


class ChainForger:
    """Unsplit images of one writing run each, oldest first; no two of them have one id.

    Attributes:
        files: taken apart.
    """

    def __init__(self, images: Sequence[bytes], keys: ChainKeys | None = None) -> None:
        self.files = [Forger(each, keys) for each in images]

    def forge(
        self,
        file: int,
        index: int | None = None,
        change: RecordChange | None = None,
        *,
        core: Change | None = None,
        trailer: Change | None = None,
    ) -> list[bytes]:
        """All images, with another record, core or trailer of one of them; without an index each of
        its records is changed.
        """
        moved: dict[Place, Built] = {}
        seals: dict[bytes, bytes] = {}
        found = []
        for number, each in enumerate(self.files):
            here = number == file
            writer = _Writer(each, moved, seals)
            wanted = _EVERY if index is None else index
            found.append(
                writer.write(
                    wanted if here else None,
                    change or _same,
                    core if here else None,
                    trailer if here else None,
                )
            )
        return found


def _same(record: Record) -> Record:
    return record


class _Writer:
    def __init__(
        self, forger: Forger, moved: dict[Place, Built], seals: dict[bytes, bytes]
    ) -> None:
        self._forger, self._moved, self._seals = forger, moved, seals

    def write(
        self, index: int | None, change: RecordChange, core: Change | None, trailer: Change | None
    ) -> bytes:
        forger = self._forger
        core_bytes = forger._core(core)
        out = bytearray(core_bytes + forger.areas)
        for at, record in enumerate(forger.records):
            fixed = replace(record, plain=self._plain(record, core_bytes[-32:]))
            fixed = change(fixed) if index in (at, _EVERY) else fixed
            built = forger.build(fixed)
            self._moved[record.origin, record.offset] = (len(out), built, len(fixed.plain))
            if record.type == RecordType.SEAL:
                self._seals[record.origin] = digest(built[:-16])
            out += built
        return bytes(out) + self._end(len(out), core_bytes, trailer)

    def _plain(self, record: Record, header_digest: bytes) -> bytes:
        """The plain content with every reference to a moved record put right."""
        plain = bytearray(record.plain)
        for at in [*reference_places(record), *_layer_places(record)]:
            origin, offset = REFERENCE.unpack_from(plain, at)[:2]
            if (origin, offset) in self._moved:
                plain[at : at + 64] = self._reference(origin, offset)
        if record.type == RecordType.TABLE_LEAF:
            for at in range(16, len(plain), 48):
                offset, built, length = self._moved[
                    record.origin, FRAME_ENTRY.unpack_from(plain, at)[0]
                ]
                entry = FRAME_ENTRY.pack(offset, len(built), length, digest(built[:-16]))
                plain[at : at + 48] = entry
        if record.type == RecordType.SEAL:
            plain[96:128] = header_digest
            parent = bytes(plain[32:48])
            if parent in self._seals:
                plain[48:80] = self._seals[parent]
        return bytes(plain)

    def _reference(self, origin: bytes, offset: int) -> bytes:
        place, built, length = self._moved[origin, offset]
        return self._forger.reference(built, place, length)

    def _end(self, at: int, core: bytes, change: Change | None) -> bytes:
        """Spare area and trailer behind records that end at ``at`` (sections 10 and 10.1)."""
        last = self._forger.records[-1]
        places = [REFERENCE.unpack_from(last.plain, each)[:2] for each in (136, 200)]
        records = [self._moved[each][1] for each in (*places, (last.origin, last.offset))]
        copies = b"".join([core, *records])
        spare = 2 * GAP + len(copies) + TRAILER
        trailer = self._trailer(at + spare + TRAILER, spare, core[-32:], change)
        return bytes(GAP) + copies + trailer + bytes(GAP) + trailer

    def _trailer(
        self, length: int, spare: int, header_digest: bytes, change: Change | None
    ) -> bytes:
        body = bytearray(self._forger.data[-TRAILER:-32])
        last = self._forger.records[-1]
        body[16:24] = struct.pack("<Q", length)
        body[24:88] = self._reference(last.origin, last.offset)
        body[184:192] = struct.pack("<Q", spare)
        body[192:224] = header_digest
        if change is not None:
            body = bytearray(change(bytes(body)))
        return bytes(body) + digest(bytes(body))


def _layer_places(record: Record) -> list[int]:
    """A digest layer refers to what lies below it and to its own tree."""
    return [0, 64] if record.type == RecordType.DIGEST_LAYER else []

"""One image being written: header, records in order, tables, maps, seal, spare area, trailer
(docs/format.md, sections 1 to 11).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aipimage.extents import ExtentArray, Kind
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.header import Header, encode_core, encode_core_body
from aipimage.format.keyarea import KeyArea, encode_key_area
from aipimage.format.metadata import encode_metadata
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.seal import Seal, SealDevice, encode_seal
from aipimage.format.segments import Segment, encode_segments
from aipimage.format.tables import FrameEntries, IndexEntry, encode_digest_leaf
from aipimage.format.trailer import Trailer, encode_spare, encode_trailer, spare_length
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.blocks.usedsource import gap_extents
from aipimage.io.index.mapbuild import MapBuilder
from aipimage.io.index.origins import NamedOrigins
from aipimage.io.index.trees import IndexBuilder, TableBuilder
from aipimage.io.records.codec import PAGE_LEVEL
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.records import RecordWriter
from aipimage.io.records.running import Running
from aipimage.io.stream.outstream import OutStream


@dataclass(slots=True)
class DeviceResult:
    """What the seal says of a device that is complete."""

    size: int
    sector_size: int
    map_level: int
    counts: list[int]
    map_root: Reference
    digest_root: Reference


@dataclass(slots=True)
class EarlierOrigin:
    """The run that a resumed one continues (section 11): its frames stay in use."""

    origin: bytes
    table: TableBuilder
    length: int


@dataclass(slots=True)
class PlaceInChain:
    """The seal's fields about the parent (section 9); the defaults begin a chain."""

    kind: ImageKind = ImageKind.FULL
    parent_id: bytes = c.ZERO_ID
    parent_digest: bytes = c.ZERO_DIGEST
    parent_kind: int = 0
    sequence: int = 0
    parent_sequence: int = 0

    @classmethod
    def of(cls, seal: Seal) -> PlaceInChain:
        """What a seal says."""
        return cls(
            ImageKind(seal.kind),
            seal.parent_id,
            seal.parent_digest,
            seal.parent_kind,
            seal.sequence,
            seal.parent_sequence,
        )


class ImageWriter:
    """Writes the records of an image in order, from one thread.

    Args:
        running: over what the stream has already, or its beginning; checkpoints need it.

    Attributes:
        origins: what map extents number: this run first, then earlier ones, then the parent's.
        core: the header core as it stands in the stream.
    """

    def __init__(
        self,
        stream: OutStream,
        header: Header,
        keys: ChainKeys | None,
        numbers: RecordNumbers,
        running: Running | None = None,
    ) -> None:
        self.stream, self.header = stream, header
        compressed = header.incompatible & c.Incompatible.ZSTD
        self.records = RecordWriter(
            stream, numbers, keys, PAGE_LEVEL if compressed else None, running
        )
        self.origins = NamedOrigins(self.records.origin)
        self.core = encode_core(header, header.header_mac)
        self._small: dict[Reference, memoryview] = {}
        self.earlier: list[EarlierOrigin] = []
        self.records_before = 0
        self._table = TableBuilder(self.records)
        self._devices: list[DeviceResult] = []
        self._map: MapBuilder | None = None
        self._source: BlockSource | None = None
        self._digests: DigestBuilder | None = None

    # The beginning

    def write_header(self, key_area: KeyArea | None) -> None:
        """Write the header core and, with a suite, both copies of the key area."""
        areas = [encode_key_area(key_area)] * c.KEY_COPIES if key_area else []
        self.stream.append([self.core, *areas])

    def write_metadata(self, values: Mapping[str, Any]) -> Reference:
        """Write a metadata record (section 9.2)."""
        ref, data = self.records.write_whole(RecordType.METADATA, encode_metadata(values))
        self.keep_small(ref, data)
        return ref

    def keep_small(self, ref: Reference, data: memoryview) -> None:
        """Keep a record that is to be in the spare area too."""
        self._small[ref] = data

    # Devices

    def begin_device(self, size: int, source: BlockSource | None = None) -> None:
        """Begin the next device, of ``size`` bytes; ``source`` may know what of it is free."""
        device = len(self._devices)
        self._source = source
        self._map = MapBuilder(
            self.records,
            device,
            -(-size // 512),
            self.origins,
            self.header.stripe_shift,
            self.header.fanout_shift,
        )
        block_digests = self.header.compatible & c.Compatible.BLOCK_DIGESTS
        self._digests = (
            DigestBuilder(self.records, self.header.stripe_shift) if block_digests else None
        )

    @property
    def position(self) -> int:
        """Sectors of the current device that are mapped."""
        return self._building().position

    def add_frames(self, data: memoryview, frames: FrameEntries) -> None:
        """Append frames that lie one after the other in ``data``, in the order of their numbers."""
        if len(frames):
            placed = frames.copy()
            digests = np.ascontiguousarray(frames["digest"]).tobytes()
            placed["offset"] += np.uint64(self.records.append(data, digests))
            self._table.add(placed)

    def add_extents(self, extents: ExtentArray) -> None:
        """Map the next sectors of the current device."""
        self._building().add(extents)

    def add_run(self, sectors: int, kind: Kind) -> None:
        """Map the next sectors of the current device, which have no data."""
        self._building().add_run(sectors, kind)

    def add_gap(self, sector: int) -> None:
        """Map what lies before a sector and is not mapped yet: it has no data."""
        for extents in gap_extents(self._source, self.position, sector):
            self.add_extents(extents)

    def add_digests(self, first: int, digests: bytes) -> None:
        """Add block digests from block ``first`` on; blocks that are left out are zeros."""
        if self._digests is not None:
            self._digests.add(first, digests)

    def reuse_digest_leaf(self, first: int, ref: Reference) -> None:
        """Keep a block digest leaf of an earlier origin in use (section 11)."""
        if self._digests is not None:
            self._digests.reuse(first, ref)

    def end_stripe_before(self, block: int) -> None:
        """Write the digest leaf of an earlier stripe than that of ``block``."""
        if self._digests is not None:
            self._digests.end_before(block)

    def flush_digests(self) -> None:
        """Write the digest leaf of a complete stripe, before a checkpoint."""
        if self._digests is not None:
            self._digests.flush()

    def end_device(self, size: int, sector_size: int) -> DeviceResult:
        """The whole device is mapped: write its roots."""
        builder = self._building()
        result = DeviceResult(
            size,
            sector_size,
            builder.root_level,
            [int(n) for n in builder.counts],
            builder.finish(),
            self._digests.finish() if self._digests else NO_REFERENCE,
        )
        self.add_device(result)
        self._map = self._digests = None
        return result

    def add_device(self, result: DeviceResult) -> None:
        """Add a device whose roots are written already, as an increment's are."""
        self._devices.append(result)

    def _building(self) -> MapBuilder:
        if self._map is None:
            raise RuntimeError("internal error: no device is being written")
        return self._map

    # The end

    def finish(
        self,
        description: Reference,
        result: Mapping[str, Any],
        place: PlaceInChain,
        image_id: bytes,
    ) -> bytes:
        """Write tables, result, segments, seal and trailer; return the image digest."""
        origins = [*self._finish_tables(image_id), *self.origins.reached_from(self._roots())]
        result_ref = self.write_metadata(result)
        segments = self._write_segments()
        seal = Seal(
            image_id, self.header.chain_id, place.kind, self.header.header_digest,
            self.records_before + self.records.count, description, result_ref,
            tuple(_seal_device(device) for device in self._devices), tuple(origins),
            place.parent_id, place.parent_digest, place.sequence, place.parent_sequence,
            place.parent_kind,
        )  # fmt: skip
        return self.write_end(seal, segments)

    def _roots(self) -> Iterator[Reference]:
        for device in self._devices:
            yield from (device.map_root, device.digest_root)

    def write_end(self, seal: Seal, segments: Reference) -> bytes:
        """Write seal, spare area and trailer; return the image digest."""
        ref, record = self.records.write_whole(RecordType.SEAL, encode_seal(seal))
        names = [seal.description, seal.result, *([segments] if segments != NO_REFERENCE else [])]
        copies: list[bytes | memoryview] = [self.core]
        copies += [*(self._small[name] for name in names), record]
        spare = spare_length(*map(len, copies))
        trailer = encode_trailer(
            Trailer(
                self.stream.position + spare + c.TRAILER,
                ref,
                self.header.file_id,
                seal.image_id,
                self.header.header_digest,
                segments,
                spare_length=spare,
            )
        )
        self.stream.append([encode_spare(copies, trailer)])
        # A trailer says that the image is finished, also to the reader of a partial file: where a
        # power cut leaves one, all before it is there.
        self.stream.sync()
        self.stream.append([trailer])
        return ref.digest

    def write_segments(self, segments: Sequence[Segment]) -> Reference:
        """Write the segments record (section 9.3)."""
        body = encode_segments(list(segments))
        ref, data = self.records.write_whole(RecordType.SEGMENTS, body)
        self.keep_small(ref, data)
        return ref

    def _finish_tables(self, holder: bytes) -> list[OriginEntry]:
        tables = [(self.records.origin, self._table)]
        tables += [(earlier.origin, earlier.table) for earlier in self.earlier]
        return [
            OriginEntry(origin, holder, table.frame_count, table.finish())
            for origin, table in tables
        ]

    def _write_segments(self) -> Reference:
        """Only a resumed file needs them; they cover the seal, which is not written yet, to the
        trailer.
        """
        if not self.earlier:
            return NO_REFERENCE
        rows = []
        start = 0
        for earlier in self.earlier:
            rows.append(Segment(earlier.origin, start, earlier.length - start, start))
            start = earlier.length
        here = self.stream.position
        rows.append(Segment(self.records.origin, start, here - start, start))
        return self.write_segments(sorted(rows))


class DigestBuilder:
    """The block digests of one device, a leaf for each stripe (section 8)."""

    def __init__(self, records: RecordWriter, stripe_shift: int) -> None:
        self._records, self._index = records, IndexBuilder(records)
        self._per_leaf = 1 << (stripe_shift - 16)
        self._first, self._leaf = 0, bytearray()

    def end_before(self, block: int) -> None:
        """Begin the stripe of a block; the leaf of the one before is written then."""
        stripe = block - block % self._per_leaf
        if stripe != self._first:
            self.flush()
            self._first = stripe

    def add(self, first: int, digests: bytes) -> None:
        """Add digests of blocks of one stripe, in ascending order."""
        self.end_before(first)
        at = (first - self._first) * c.BLOCK_DIGEST
        self._leaf.extend(bytes(at - len(self._leaf)))
        self._leaf += digests

    def reuse(self, first: int, ref: Reference) -> None:
        """Take over a leaf that is written already."""
        self._index.add(IndexEntry(first, ref))

    def flush(self) -> None:
        """Write the current leaf unless it is only zeros."""
        leaf, self._leaf = bytes(self._leaf), bytearray()
        if any(leaf):
            ref = self._records.write(RecordType.DIGEST_LEAF, encode_digest_leaf(self._first, leaf))
            self._index.add(IndexEntry(self._first, ref))

    def finish(self) -> Reference:
        """Write what is left and return the root, or none where all is zeros."""
        self.flush()
        return self._index.finish()


def sealed_header(header: Header, keys: ChainKeys | None) -> Header:
    """Return the header with commitment, MAC, length and digest filled in."""
    if keys is not None:
        header = replace(header, key_commitment=keys.key_commitment())
        header = replace(header, header_mac=keys.header_mac(encode_core_body(header)))
    core = encode_core(header, header.header_mac)
    return replace(header, core_length=len(core), header_digest=core[-32:])


def _seal_device(device: DeviceResult) -> SealDevice:
    counts = np.asarray(device.counts)
    return SealDevice(
        device.size,
        device.sector_size,
        device.map_level,
        int(counts[Kind.UNUSED]),
        int(counts[Kind.ZERO]),
        int(counts[Kind.DATA]),
        int(counts[Kind.UNREADABLE]),
        int(counts[Kind.LOST]),
        device.map_root,
        device.digest_root,
    )

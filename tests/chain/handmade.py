"""Chains of small images of one device, built by hand, so that any of them can be wrong."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from aipimage.extents import EXTENT_DTYPE, Kind
from aipimage.format import constants as c
from aipimage.format.constants import ImageKind, RecordType
from aipimage.format.header import Header
from aipimage.format.keyarea import SLOTS, KeyArea
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.format.seal import Seal
from aipimage.format.segments import Segment
from aipimage.format.tables import FRAME_ENTRY_DTYPE, encode_frame_extents
from aipimage.io.creating.imagewriter import DeviceResult, ImageWriter, PlaceInChain, sealed_header
from aipimage.io.index.mapbuild import MapBuilder
from aipimage.io.index.mapupdate import MapUpdate
from aipimage.io.index.origins import Renumbering
from aipimage.io.records import keys as keyring
from aipimage.io.records.keys import ChainKeys, Suite
from aipimage.io.records.numbering import RecordNumbers
from aipimage.io.records.walk import walk_records
from aipimage.io.stream.outstream import PipeStream
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import Image, open_image
from tests.support.images import CHEAP, PASSWORD
from tests.support.memory import ROOT, MemorySystem

FRAME = 4096
"""Bytes of a frame and of a cluster here."""
START = 1_700_000_000
Changes = Mapping[int, bytes]
"""Byte offset, a multiple of 4096, to new content."""


@dataclass(frozen=True)
class Made:
    """An image that was made, and what its device holds."""

    path: str
    image_id: bytes
    digest: bytes
    kind: ImageKind
    sequence: int
    content: bytes

    @property
    def hex(self) -> str:
        """Its id as the library shows it."""
        return self.image_id.hex()


class Maker:
    """Makes images of one chain.

    Attributes:
        files: where they are put, path to content.
    """

    def __init__(self, system: MemorySystem | None = None, *, sealed: bool = False) -> None:
        self.system = system or MemorySystem()
        self.files = self.system.files
        self.chain_id, self.count = RecordNumbers().origin, 0
        self.keys: ChainKeys | None = None
        self.key_area: KeyArea | None = None
        if sealed:
            self.new_key()

    def new_key(self) -> None:
        """Protect the images that are made from now on by a new key."""
        key = keyring.new_chain_key()
        self.keys = ChainKeys(key, self.chain_id, Suite.AES_256_GCM)
        slot = keyring.wrap_chain_key(PASSWORD, key, self.chain_id, parameters=CHEAP)
        self.key_area = KeyArea(1, self.chain_id, (slot, *[None] * (SLOTS - 1)))

    @property
    def password(self) -> str | None:
        """What opens the images."""
        return PASSWORD if self.keys else None

    @property
    def storage(self) -> Storage:
        """What they are read through."""
        return Storage(self.system)

    def open(self, made: Made | str, **more: Any) -> Image:
        """Open an image."""
        path = made if isinstance(made, str) else made.path
        return open_image(path, self.password, storage=self.storage, **more)

    def path(self, name: str) -> str:
        """Where an image of this name lies."""
        return f"{ROOT}/{name}.aiv"

    def remove(self, *images: Made) -> None:
        """Remove the files of some images."""
        for made in images:
            del self.files[made.path]

    # Images

    def full(self, name: str, content: bytes, parent: Made | None = None, **forged: Any) -> Made:
        """A full image; with a parent one that stands inside the chain."""
        return self.image(name, ImageKind.FULL, parent, None, {0: content}, len(content), **forged)

    def increment(
        self,
        name: str,
        parent: Made,
        changes: Changes,
        *,
        size: int | None = None,
        kind: ImageKind = ImageKind.INCREMENTAL,
        **forged: Any,
    ) -> Made:
        """An image of what changed."""
        size = len(parent.content) if size is None else size
        return self.image(name, kind, parent, parent, changes, size, **forged)

    def image(
        self,
        name: str,
        kind: ImageKind,
        parent: Made | None,
        base: Made | None,
        changes: Changes,
        size: int,
        *,
        image_id: bytes | None = None,
        place: Mapping[str, Any] | None = None,
        created: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Made:
        """Write an image.

        Args:
            parent: what it names. base: what it takes its map from.
            place: other values for fields of the seal.
        """
        target = io.BytesIO()
        writer = self.writer(target, image_id)
        self.count += 1
        created = created or f"2023-11-14T22:{self.count // 60:02}:{self.count % 60:02}+00:00"
        values = {"created": created, "kind": kind.name.lower(), "devices": [{"name": "disk"}]}
        description = writer.write_metadata(values)
        chosen = _place(kind, parent)
        if base is not None:
            with self.open(base) as image:
                writer.origins.inherit(image.origins, image.file_name)
                writer.add_device(_updated(writer, image, changes, size))
        else:
            _write_whole(writer, changes[0])
        chosen = replace(chosen, **(place or {}))
        own = writer.records.origin
        digest = writer.finish(description, result or {"finished": "now"}, chosen, own)
        self.files[self.path(name)] = bytearray(target.getvalue())
        content = bytearray(base.content[:size] if base else b"").ljust(size, b"\0")
        for at, data in changes.items():
            content[at : at + len(data)] = data
        return Made(
            self.path(name), own, digest, chosen.kind, chosen.sequence, bytes(content[:size])
        )

    def thin(self, count: int, below: Made, place: Mapping[str, Any] | None = None) -> list[Made]:
        """Increments one on the other in which nothing changed: many of them are made soon.

        Args:
            place: other values for fields of all their seals.
        """
        with self.open(below) as image:
            entry, origins = image.devices[0].entry, image.origins
            name = image.file_name
        counts = [entry.unused, entry.zero, entry.data, entry.unreadable, 0, entry.lost]
        device = DeviceResult(
            entry.size, 512, entry.map_level, counts, entry.map_root, NO_REFERENCE
        )
        made = [below]
        for number in range(count):
            target = io.BytesIO()
            writer = self.writer(target)
            description = writer.write_metadata({"created": "2023-11-15T00:00:00Z"})
            writer.add_device(device)
            chosen = _place(ImageKind.INCREMENTAL, made[-1])
            writer.origins.inherit(origins, name)
            chosen, own = replace(chosen, **(place or {})), writer.records.origin
            digest = writer.finish(description, {}, chosen, own)
            path = self.path(f"thin{number:05}")
            self.files[path] = bytearray(target.getvalue())
            made.append(Made(path, own, digest, chosen.kind, chosen.sequence, below.content))
        return made[1:]

    def writer(self, target: io.BytesIO, image_id: bytes | None = None) -> ImageWriter:
        """A writer whose header is written."""
        numbers = RecordNumbers()
        if image_id is not None:
            numbers.origin = image_id
        incompatible = int(c.Incompatible.FOREIGN_ORIGINS)
        if self.keys is not None:
            incompatible |= int(c.Incompatible.SEALED_RECORDS)
        suite = int(self.keys.suite) if self.keys else 0
        header = Header(
            numbers.origin,
            self.chain_id,
            START * 1_000_000,
            suite,
            incompatible,
            0,
            12,
            20,
            2,
            creator="tests",
        )
        header = sealed_header(header, self.keys)
        writer = ImageWriter(PipeStream(target), header, self.keys, numbers)
        writer.write_header(self.key_area)
        return writer

    def merged(
        self,
        name: str,
        run: Sequence[Made],
        *,
        keep: Callable[[int], bool] | None = None,
        place: Mapping[str, Any] | None = None,
        spare: Mapping[Reference, bytes] | None = None,
    ) -> Made:
        """A merged image of a run: the records of its files one after the other.

        Args:
            keep: tells by number which frames of all but the last stay; the others are dropped.
            place: other values for fields of the seal.
            spare: records that ``place`` refers to and the file does not hold, for the spare area.
        """
        target = io.BytesIO()
        writer = self.writer(target)
        for ref, record in (spare or {}).items():
            writer.keep_small(ref, memoryview(record))
        own = writer.records.origin
        description = writer.write_metadata({"created": "2030-01-01T00:00:00Z", "kind": "merged"})
        segments: list[Segment] = []
        seals: list[Seal] = []
        replaced: list[Reference] = []
        for made in run:
            with self.open(made) as image:
                seals.append(image.seal)
                replaced += [*image.seal.replaced, image.trailer.seal]
                segments += _copied(writer, image, _all if made is run[-1] else keep or _all)
        first, last = seals[0], seals[-1]
        result = writer.write_metadata({"finished": "now"})
        segments += _around(own, writer.stream.position, segments)
        segment_ref = writer.write_segments(sorted(segments))
        fields: dict[str, Any] = {
            "image_id": own,
            "kind": first.kind,
            "header_digest": writer.header.header_digest,
            "description": description,
            "result": result,
            "parent_id": first.parent_id,
            "parent_digest": first.parent_digest,
            "parent_kind": first.parent_kind,
            "parent_sequence": first.parent_sequence,
            "replaced": tuple(replaced),
        }
        origins = (OriginEntry(own, own, 0, NO_REFERENCE), *last.origins)
        seal: Seal = replace(last, origins=origins, **(fields | dict(place or {})))
        digest = writer.write_end(seal, segment_ref)
        self.files[self.path(name)] = bytearray(target.getvalue())
        kind = ImageKind(seal.kind)
        return Made(self.path(name), own, digest, kind, seal.sequence, run[-1].content)


def _place(kind: ImageKind, parent: Made | None) -> PlaceInChain:
    if parent is None:
        return PlaceInChain(kind)
    return PlaceInChain(
        kind, parent.image_id, parent.digest, parent.kind, parent.sequence + 1, parent.sequence
    )


def _all(_: int) -> bool:
    return True


# Devices


def _write_whole(writer: ImageWriter, content: bytes) -> None:
    """A device with all its clusters that are not zeros."""
    writer.begin_device(len(content))
    for at in range(0, len(content), FRAME):
        writer.add_extents(_kept(writer, at, content[at : at + FRAME]))
    writer.end_device(len(content), 512)


def _updated(writer: ImageWriter, image: Image, changes: Changes, size: int) -> DeviceResult:
    """The device of a parent with changes."""
    old = image.devices[0]
    builder = MapBuilder(writer.records, 0, -(-size // 512), writer.origins, 20, 2)
    numbers = Renumbering(image.origins, writer.origins.number)
    update = MapUpdate(old.map, old.entry, builder, numbers)
    for at in sorted(changes):
        _keep_to(update, at // 512, old.entry.sectors)
        for start in range(0, len(changes[at]), FRAME):
            update.replace(_kept(writer, at + start, changes[at][start : start + FRAME]))
    _keep_to(update, min(-(-size // 512), old.entry.sectors), old.entry.sectors)
    _keep_to(update, -(-size // 512), old.entry.sectors)
    root = update.finish()
    counts = [int(count) for count in update.counts]
    return DeviceResult(size, 512, builder.root_level, counts, root, NO_REFERENCE)


def _keep_to(update: MapUpdate, sector: int, old_end: int) -> None:
    if update.position < min(sector, old_end):
        update.keep_to(min(sector, old_end))
    if sector > update.position:
        update.replace(_row(sector - update.position, 0, Kind.ZERO))


def _kept(writer: ImageWriter, at: int, cluster: bytes) -> np.ndarray:
    """Write a cluster as a frame of its own, and return its extent."""
    sectors = -(-len(cluster) // 512)
    if not any(cluster):
        return _row(sectors, 0, Kind.ZERO)
    plain = cluster.ljust(sectors * 512, b"\0")
    records = writer.records
    out = memoryview(bytearray(records.builder.room(len(plain), 1)))
    number = records.numbers.claim(RecordType.FRAME)
    extents = encode_frame_extents([at // 512], [sectors])
    built = records.builder.build_into(out, RecordType.FRAME, plain, None, number, extents)
    writer.add_frames(out[: built.length], np.array([(0, *built)], FRAME_ENTRY_DTYPE))
    return _row(sectors, number * FRAME // 512, Kind.DATA)


def _row(sectors: int, position: int, kind: Kind) -> np.ndarray:
    return np.array([(sectors, position, 0, kind)], EXTENT_DTYPE)


# Merging


def _copied(writer: ImageWriter, image: Image, keep: Callable[[int], bool]) -> list[Segment]:
    """Copy the records of a file with their addresses; return where they lie now."""
    segments: list[Segment] = []
    stream, end = image.stream, image.trailer.records_end
    for records in walk_records(stream, image.header.records_start, end, image.records.tag):
        for walked in records:
            kind, number = walked.header.type, walked.header.number
            if kind == RecordType.SEGMENTS or (kind == RecordType.FRAME and not keep(number)):
                continue
            address = _address(image, walked.header.origin, walked.offset)
            here = writer.stream.position
            writer.stream.append([walked.data])
            segments.append(Segment(walked.header.origin, address, walked.data.nbytes, here))
    return segments


def _address(image: Image, origin: bytes, offset: int) -> int:
    """The address of what lies at an offset of the stream."""
    for segment in image.segments._by_origin[origin]:
        inside = offset - segment.stream_start
        if 0 <= inside < segment.length:
            return segment.origin_start + inside
    return offset  # the seal, which no segment covers


def _around(own: bytes, end: int, others: list[Segment]) -> list[Segment]:
    """Segments of a file's own origin, at their own offsets: what the others leave of it."""
    found: list[Segment] = []
    at = 0
    for start, length in [*sorted((each.stream_start, each.length) for each in others), (end, 0)]:
        if start > at:
            found.append(Segment(own, at, start - at, at))
        at = start + length
    return found

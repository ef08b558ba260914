"""Every single bit of an image, in minutes: which code meets a flipped bit, and only that code.

Reading and verifying reach the bytes of a record in three ways only: by a reference, through
``RecordReader.fetch`` and ``open``; in runs of frames, through ``open_run``; or by walking,
through ``walk_records`` and ``verified_record``. ``trace`` opens, reads and verifies a whole image
and notes each record that was fetched; a test checks that these, the records found by walking
only, the header, key areas, trailer and parts are every byte there is. So a bit of a record needs
that record opened in these ways, not all others, and each is met by the library's own code.
A sample of bits is checked the long way round as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from aipimage.errors import AipImageError
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.record import Reference, verified_record
from aipimage.format.tables import FRAME_ENTRY_DTYPE
from aipimage.io.records import walk
from aipimage.io.records.frames import FrameRun, open_run
from aipimage.io.records.keys import ChainKeys
from aipimage.io.records.records import RecordReader
from aipimage.io.stream.instream import InStream, open_stream
from aipimage.io.stream.opening import read_header, read_key_area, unlock_header
from aipimage.io.stream.spare import read_trailer, spare_damage
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import Image, open_image
from tests.support.images import (
    PATH,
    flipped,
    keyless_finds,
    outcome,
    password_of,
    read_all,
    remember_derivations,
    verify_finds,
)
from tests.support.memory import MemorySystem

PART = "part record"


class Region(NamedTuple):
    """Bytes of one file that one kind of check covers; ``start`` and ``length`` in that file."""

    what: str
    path: str
    start: int
    length: int
    record: tuple[int, int] = (0, 0)
    """(stream offset, length) of the record that these bytes are a piece of."""


class Subject:
    """An image in memory whose bytes change under the library's feet."""

    def __init__(self, name: str, files: Mapping[str, bytes]) -> None:
        self.system = MemorySystem(files)
        self.storage = Storage(self.system)
        self.password = password_of(name)
        self.stream: InStream = open_stream(self.storage, PATH)
        self.header = read_header(self.stream)
        self.area = read_key_area(self.stream, self.header)[0] if self.header.suite else None
        self.keys: ChainKeys | None = unlock_header(self.stream, self.header, self.password)
        self.records = RecordReader(lambda _, at, length: self.stream.pread(length, at), self.keys)
        self.trailer = read_trailer(self.stream)
        self.references = trace(self)
        self.numbers = {each.offset: each.header.number for each in self.walked()}

    @property
    def tag(self) -> int:
        """Bytes of a tag."""
        return self.records.tag

    def walked(self) -> Iterator[walk.Walked]:
        """Every record of the stream."""
        end = self.trailer.records_end
        for found in walk.walk_records(self.stream, self.header.records_start, end, self.tag):
            yield from found

    def regions(self) -> list[Region]:
        """All bytes of all files, each in one region."""
        found = list(self._pieces("core", 0, self.header.core_length))
        for copy in range(self.header.key_copies):
            at = self.header.core_length + copy * c.KEY_AREA_LENGTH
            found += self._pieces(f"key area {copy}", at, c.KEY_AREA_LENGTH)
        for record in self.walked():
            found += self._pieces("record", record.offset, record.data.nbytes)
        found += self._pieces("spare", self.trailer.records_end, self.trailer.spare_length)
        found += self._pieces("trailer", self.stream.size - c.TRAILER, c.TRAILER)
        for footer, file in zip(self.stream.footers, self.stream.files, strict=False):
            found.append(Region(PART, file.name, 0, c.PART_RECORD))
            found.append(Region(PART, file.name, c.PART_RECORD + footer.length, c.PART_RECORD))
        return found

    def _pieces(self, what: str, offset: int, length: int) -> Iterator[Region]:
        """A range of the stream in the file, or in the parts, that hold it."""
        if not self.stream.footers:
            yield Region(what, PATH, offset, length, (offset, length))
            return
        for footer, file in zip(self.stream.footers, self.stream.files, strict=True):
            low = max(offset, footer.start)
            high = min(offset + length, footer.start + footer.length)
            if low < high:
                at = c.PART_RECORD + low - footer.start
                yield Region(what, file.name, at, high - low, (offset, length))


def trace(subject: Subject) -> dict[int, tuple[Reference, int]]:
    """Open, read and fully verify; return every reference followed, by stream offset."""
    followed: dict[int, tuple[Reference, int]] = {}
    real = RecordReader.open

    def tracing(self: RecordReader, data: memoryview, ref: Reference, kind: Any) -> Any:
        # An image that was never resumed: an address is the place in the stream.
        known = followed.setdefault(ref.offset, (ref, int(kind)))
        assert known == (ref, int(kind)), "two references to one place"
        return real(self, data, ref, kind)

    with (
        mock.patch.object(RecordReader, "open", tracing),
        open_image(PATH, subject.password, storage=subject.storage) as image,
    ):
        _read_and_verify(image)
        names = zip(("description", "result"), image.metadata_records.references, strict=True)
        subject.metadata = [(name, ref, image.locate(ref)) for name, ref in names]
    return followed


def _read_and_verify(image: Image) -> None:
    assert sum(map(len, read_all(image))) == sum(device.size for device in image.devices)
    _ = image.metadata
    assert image.verify(threads=1).ok


def fails(action: Any) -> bool:
    """Whether it raises a typed error; any other exception goes on."""
    try:
        action()
    except AipImageError:
        return True
    return False


def escapes(subject: Subject, region: Region) -> list[str]:
    """Flip each bit of a region in turn; return what was not found."""
    data = subject.system.files[region.path]
    check = _CHECKS.get(region.what, _check_record)
    missed = []
    for bit in range(region.start * 8, (region.start + region.length) * 8):
        with flipped(data, bit):
            missed += [f"{why}: bit {bit} of {region}" for why in check(subject, region, bit)]
    return missed


def _check_part(subject: Subject, region: Region, bit: int) -> list[str]:
    # The first step of opening and of every verification.
    return [] if fails(lambda: _opened_stream(subject)) else ["opens"]


def _opened_stream(subject: Subject) -> None:
    open_stream(subject.storage, PATH).close()


def _check_ends(subject: Subject, region: Region, bit: int) -> list[str]:
    """The copy of header or trailer opens the same image, and verification tells."""
    missed = _check_spare(subject, region, bit)
    with open_image(PATH, subject.password, storage=subject.storage) as image:
        if image.trailer != subject.trailer or image.header != subject.header:
            missed.append("opens as another image")
    if not keyless_finds(subject.system):
        missed.append("keyless verification")
    return missed


def _check_spare(subject: Subject, region: Region, bit: int) -> list[str]:
    """What both verifications compare; each of all bits with a whole verification is too much."""
    if not any(spare_damage(subject.stream, subject.trailer, subject.metadata)):
        return ["verification"]
    keyless = any(spare_damage(subject.stream, subject.trailer, None))
    return [] if keyless else ["keyless verification"]


def _check_key_area(subject: Subject, region: Region, bit: int) -> list[str]:
    """The other copy has the same keys, and both verifications report this one."""
    copy = int(region.what[-1])
    area, damaged = read_key_area(subject.stream, subject.header)
    missed = [] if damaged == (copy,) else ["verification"]
    return missed if area == subject.area else [*missed, "other keys"]


def _check_record(subject: Subject, region: Region, bit: int) -> list[str]:
    missed = []
    offset, length = region.record
    if offset in subject.references:
        ref, kind = subject.references[offset]
        if not fails(lambda: subject.records.fetch(ref, kind)):  # type: ignore[arg-type]
            missed.append("reading")
        if kind == RecordType.FRAME and not _run_finds(subject, ref):
            missed.append("verification")
    # Only a changed record header can make a walk see another length.
    inside = (bit >> 3) - region.start
    whole = inside >= c.RECORD_HEADER and region.length == length
    end = offset + length if whole else subject.trailer.records_end
    if not fails(lambda: _walk_first(subject, offset, end)):
        missed.append("walking")
    return missed


def _run_finds(subject: Subject, ref: Reference) -> bool:
    """Whether verification, which opens frames in runs, reports this one."""
    entry = np.array([ref[1:]], FRAME_ENTRY_DTYPE)
    run = FrameRun(ref.origin, subject.numbers[ref.offset], entry)
    data = memoryview(subject.records.read(ref.origin, ref.offset, ref.record_length))
    return bool(open_run(subject.records, run, data).failed)


def _walk_first(subject: Subject, offset: int, end: int) -> None:
    first = next(walk.walk_records(subject.stream, offset, end, subject.tag))[0]
    verified_record(first.data)


_CHECKS = {
    PART: _check_part,
    "core": _check_ends,
    "spare": _check_spare,
    "trailer": _check_ends,
    "key area 0": _check_key_area,
    "key area 1": _check_key_area,
}


def run_share(name: str, files: dict[str, bytes], share: int, shares: int) -> tuple[int, list[str]]:
    """One process's part of the work: (bits flipped, what was missed)."""
    remember_derivations()
    subject = Subject(name, files)
    with mock.patch.object(walk, "_CHUNK", 1):  # one record at a time
        regions = subject.regions()[share::shares]
        missed = [text for region in regions for text in escapes(subject, region)]
    subject.stream.close()
    return sum(region.length for region in regions) * 8, missed


def run_sample(
    name: str, files: dict[str, bytes], contents: Sequence[bytes], count: int, seed: int
) -> list[str]:
    """Random bits the long way: open, read all, verify fully and without keys."""
    remember_derivations()
    chance, missed = random.Random(seed), []
    system = MemorySystem(files)
    paths = sorted(files)
    for _ in range(count):
        path = chance.choices(paths, [len(files[p]) for p in paths])[0]
        bit = chance.randrange(len(files[path]) * 8)
        with flipped(system.files[path], bit):
            outcome(system, contents, password_of(name))
            if not verify_finds(system, password_of(name)):
                missed.append(f"full verification: bit {bit} of {path}")
            if not keyless_finds(system):
                missed.append(f"keyless verification: bit {bit} of {path}")
    return missed

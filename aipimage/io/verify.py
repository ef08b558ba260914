"""Checking an image: full, sampled, keyless (docs/format.md, section 13).

A full verification goes down from the seal to every page and frame, and remembers which bytes of
the stream it has seen; what is left (checkpoints, pages that a resume made dead) is walked
afterwards, so that every byte was looked at.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aipimage.errors import AipImageError, IntegrityError, RequestError
from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.record import NO_REFERENCE, Reference, verified_record
from aipimage.format.tables import (
    FrameEntries,
    decode_digest_leaf,
    decode_frame_extents,
)
from aipimage.format.trailer import decode_trailer
from aipimage.io.coverage import Coverage
from aipimage.io.instream import InStream, open_stream
from aipimage.io.opening import read_header, read_key_area
from aipimage.io.pipeline import executor_for, in_order
from aipimage.io.progress import ProgressCallback, Reporter
from aipimage.io.storage import DEFAULT, Storage
from aipimage.io.trees import FrameTable, IndexReader
from aipimage.io.walk import Walked, walk_records

if TYPE_CHECKING:
    from aipimage.io.image import Image

_RUN = 2 << 20
_DAMAGE_MAX = 1000


class Damage(NamedTuple):
    """Something that is not as it was sealed.

    Attributes:
        what: one sentence. origin, frame: which frame, where it is one.
        ranges: (device, offset, length) in bytes that cannot be read because of it, the first 100.
    """

    what: str
    origin: int | None = None
    frame: int | None = None
    ranges: tuple[tuple[int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What a verification found.

    Attributes:
        mode: ``"full"``, ``"sample"`` or ``"keyless"``. frames: frames checked. bytes: stored bytes
            checked.
        damage: at most 1000 findings; empty means that all that was checked is whole.
    """

    mode: str
    frames: int
    bytes: int
    seconds: float
    damage: tuple[Damage, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.damage


def verify_image(
    image: Image, sample: float | None, executor: Executor | None, threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:  # fmt: skip
    """Verify an opened image; the public form is :meth:`aipimage.Image.verify`."""
    if sample is not None and not 0 < sample <= 100:
        raise RequestError(f"a sample of {sample} percent is not possible; give over 0 to 100")
    return _Verifier(image, sample, progress).run(executor, threads)


class _Run(NamedTuple):
    """Frames that lie next to each other, so that one read brings them."""

    table: FrameTable
    origin: int
    first: int
    entries: FrameEntries


class _Verifier:
    def __init__(
        self, image: Image, sample: float | None, progress: ProgressCallback | None
    ) -> None:
        self._image, self._sample = image, sample
        self._reporter = Reporter("verify", image.stored, progress)
        self._covered = Coverage()
        self._damage: list[Damage] = []
        self._bad_frames: dict[int, list[int]] = {}
        self._frames = self._bytes = 0

    def run(self, executor: Executor | None, threads: int | None) -> VerifyResult:
        """Check pages, frames, and with a full verification all other bytes."""
        image = self._image
        image.records.on_fetch = self._saw
        try:
            self._check(self._check_metadata, "metadata")
            for device in image.devices:
                step = partial(self._check_device, device.index)
                self._check(step, f"map of device {device.index}")
            with executor_for(executor, threads, "verify") as (pool, in_flight):
                for findings in in_order(pool, self._check_run, self._runs(), in_flight):
                    self._take(findings)
            if self._sample is None:
                self._check(self._check_rest, "stream")
                self._check_key_copies()
        finally:
            image.records.on_fetch = None
        self._locate_bad_frames()
        self._reporter.report(image.stored, self._bytes, final=True)
        mode = "full" if self._sample is None else "sample"
        seconds = time.monotonic() - self._reporter.started
        return VerifyResult(mode, self._frames, self._bytes, seconds, tuple(self._damage))

    def _saw(self, ref: Reference) -> None:
        self._covered.add(self._image.locate(ref), ref.record_length)
        self._bytes += ref.record_length

    def _check(self, step: Callable[[], None], what: str) -> None:
        try:
            step()
        except (IntegrityError, AipImageError) as error:
            self._add(Damage(f"{what}: {error}"))

    def _add(self, damage: Damage) -> None:
        if len(self._damage) < _DAMAGE_MAX:
            self._damage.append(damage)

    # Pages

    def _check_metadata(self) -> None:
        self._image.reload_metadata()

    def _check_device(self, index: int) -> None:
        """Every map page, the sums of the seal, and every block digest page."""
        device, tables = self._image.devices[index], self._image.tables
        counts = np.zeros(len(Kind), np.uint64)
        limits = np.array([t.frame_count for t in tables], np.uint64) * np.uint64(
            self._image.header.frame_sectors
        )
        device.map.forget()
        for _, block in device.map.walk():
            np.add.at(counts, block["kind"], block["length"])
            data = block[block["kind"] == Kind.DATA]
            if (data["position"] + data["length"] > limits[data["origin"]]).any():
                raise IntegrityError("an extent points behind the last frame")
        entry = device.entry
        sums = [entry.unused, entry.zero, entry.data, entry.unreadable, 0, entry.lost]
        if counts.tolist() != sums:
            raise IntegrityError(
                "the map and the seal disagree about how much there is of each kind"
            )
        if entry.digest_root != NO_REFERENCE:
            self._check_digests(entry.digest_root, entry.sectors)

    def _check_digests(self, root: Reference, sectors: int) -> None:
        image = self._image
        stripe = image.header.stripe_shift
        index = IndexReader(image.records, root, RecordType.DIGEST_LEAF)
        blocks = -(-sectors * SECTOR // c.BLOCK)
        for key, ref in index.leaves(image.is_leaf(root, RecordType.DIGEST_LEAF)):
            first, digests = decode_digest_leaf(
                image.records.fetch(ref, RecordType.DIGEST_LEAF).plain, stripe
            )
            if (key is not None and key != first) or first + len(
                digests
            ) // c.BLOCK_DIGEST > blocks:
                raise IntegrityError("a block digest leaf is not the one that its place needs")

    # Frames

    def _runs(self) -> Iterator[_Run]:
        for index, table in enumerate(self._image.tables):
            table.forget()
            for leaf in range(table.leaf_count()):
                try:
                    entries = table.leaf(leaf)
                except AipImageError as error:
                    self._add(Damage(f"frame table: {error}", index))
                    continue
                yield from self._leaf_runs(table, index, leaf * c.LEAF_FRAMES, entries)

    def _leaf_runs(
        self, table: FrameTable, index: int, first: int, entries: FrameEntries
    ) -> Iterator[_Run]:
        rows = np.arange(len(entries))
        if self._sample is not None:
            wanted = np.array([random.random() * 100 < self._sample for _ in rows], bool)
            rows = rows[wanted]
        start = 0
        for at in range(1, len(rows) + 1):
            if at < len(rows) and self._joins(entries, int(rows[start]), int(rows[at])):
                continue
            if at > start:
                low, high = int(rows[start]), int(rows[at - 1]) + 1
                yield _Run(table, index, first + low, entries[low:high])
            start = at

    def _joins(self, entries: FrameEntries, first: int, row: int) -> bool:
        """Whether frame ``row`` follows right behind the one before it, and the run is not too
        long.
        """
        before = entries[row - 1]
        adjacent = entries["offset"][row] == before["offset"] + before["record_length"]
        length = int(entries["offset"][row]) - int(entries["offset"][first])
        return bool(adjacent) and row - 1 >= first and 0 <= length < _RUN

    def _check_run(self, run: _Run) -> tuple[_Run, list[tuple[int, str]]]:
        """In a worker: read a run, verify and open each frame; return the frames that are
        damaged.
        """
        image = self._image
        start = int(run.entries["offset"][0])
        last = run.entries[-1]
        length = int(last["offset"]) + int(last["record_length"]) - start
        try:
            data = memoryview(image.records.read(run.table.origin, start, length))
        except AipImageError as error:
            return run, [(run.first + row, str(error)) for row in range(len(run.entries))]
        bad: list[tuple[int, str]] = []
        for row, (offset, size, plain, found) in enumerate(run.entries.tolist()):
            ref = Reference(run.table.origin, offset, size, plain, found)
            try:
                opened = image.records.open(
                    data[offset - start : offset - start + size], ref, RecordType.FRAME
                )
                if opened.header.number != run.first + row:
                    raise IntegrityError("it bears another number than its place")
                decode_frame_extents(opened.extents, plain)
            except AipImageError as error:
                bad.append((run.first + row, str(error)))
        return run, bad

    def _take(self, result: tuple[_Run, list[tuple[int, str]]]) -> None:
        run, bad = result
        start = int(run.entries["offset"][0])
        length = int(run.entries["record_length"].sum())
        self._covered.add(self._image.locate_address(run.table.origin, start, length), length)
        self._frames += len(run.entries)
        self._bytes += length
        for number, reason in bad:
            self._bad_frames.setdefault(run.origin, []).append(number)
            self._add(Damage(f"frame {number}: {reason}", run.origin, number))
        self._reporter.report(self._bytes, self._bytes)

    def _locate_bad_frames(self) -> None:
        """Say which ranges of which device each damaged frame takes with it."""
        if not self._bad_frames:
            return
        ranges: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
        for device in self._image.devices:
            try:
                for first, block in device.map.walk():
                    self._match(device.index, first, block, ranges)
            except AipImageError:
                # Damage of the map itself was told already.
                continue
        self._damage = [
            d._replace(ranges=tuple(ranges.get((d.origin, d.frame), ())))
            if d.origin is not None and d.frame is not None
            else d
            for d in self._damage
        ]

    def _match(
        self,
        device: int,
        first: int,
        block: np.ndarray,
        ranges: dict[tuple[int, int], list[tuple[int, int, int]]],
    ) -> None:
        frame = self._image.header.frame_sectors
        starts = first + np.cumsum(block["length"]) - block["length"]
        for origin, numbers in self._bad_frames.items():
            rows = block[(block["kind"] == Kind.DATA) & (block["origin"] == origin)]
            at = starts[(block["kind"] == Kind.DATA) & (block["origin"] == origin)]
            for number in numbers:
                low, high = np.uint64(number * frame), np.uint64((number + 1) * frame)
                ends = rows["position"] + rows["length"]
                for row in np.flatnonzero((rows["position"] < high) & (ends > low)).tolist():
                    begin = max(int(low), int(rows["position"][row]))
                    end = min(int(high), int(ends[row]))
                    offset = int(at[row]) + begin - int(rows["position"][row])
                    found = ranges.setdefault((origin, number), [])
                    if len(found) < 100:
                        found.append((device, offset * SECTOR, (end - begin) * SECTOR))

    # Everything else

    def _check_rest(self) -> None:
        image = self._image
        stream, header = image.stream, image.header
        self._covered.add(image.trailer.seal.offset, image.trailer.seal.record_length)
        if image.trailer.segments != NO_REFERENCE:
            self._covered.add(image.trailer.segments.offset, image.trailer.segments.record_length)
        for start, end in self._covered.gaps(header.records_start, stream.size - c.TRAILER):
            for records in walk_records(stream, start, end, image.records.tag):
                for walked in records:
                    self._bytes += walked.data.nbytes
                    self._check(
                        partial(_check_dead, image, walked), f"record at byte {walked.offset}"
                    )

    def _check_key_copies(self) -> None:
        if not self._image.header.suite:
            return
        try:
            _, damaged = read_key_area(self._image.stream, self._image.header)
        except AipImageError as error:
            self._add(Damage(str(error)))
            return
        for copy in damaged:
            self._add(
                Damage(
                    f"copy {copy} of the key area is damaged; change a password to write it anew"
                )
            )


def _check_dead(image: Image, walked: Walked) -> None:
    """A record that nothing refers to: its check, and with keys its tag."""
    verified_record(walked.data)
    if walked.header.type in set(RecordType):
        image.records.open_unreferenced(walked.data)


def verify_keyless(
    path: str, *, executor: Executor | None = None, threads: int | None = None,
    progress: ProgressCallback | None = None, storage: Storage = DEFAULT,
) -> VerifyResult:  # fmt: skip
    """Check every stored byte against the digests beside it, without any key (section 13).

    Finds damage; does not find tampering by somebody who recomputes digests.

    Raises:
        FormatError, IncompleteError: it is no whole image. IntegrityError: header or trailer are
            damaged.
    """
    with open_stream(storage, path) as stream:
        return _keyless(stream, executor, threads, progress)


def _keyless(
    stream: InStream,
    executor: Executor | None,
    threads: int | None,
    progress: ProgressCallback | None,
) -> VerifyResult:
    reporter = Reporter("verify", stream.size, progress)
    damage: list[Damage] = []
    header = read_header(stream)
    try:
        tail = stream.pread(min(c.TRAILER, stream.size), max(0, stream.size - c.TRAILER))
        trailer = decode_trailer(memoryview(tail), stream.size)
        if trailer.header_digest != header.header_digest:
            damage.append(Damage("header and trailer belong to different images"))
        if header.suite:
            _, damaged = read_key_area(stream, header)
            damage += [Damage(f"copy {copy} of the key area is damaged") for copy in damaged]
    except AipImageError as error:
        raise type(error)(f"{stream.name}: {error}") from error
    frames, done = 0, header.records_start
    tag = c.TAG if header.suite else 0
    last = b""
    try:
        with executor_for(executor, threads, "verify") as (pool, in_flight):
            walk = walk_records(stream, header.records_start, stream.size - c.TRAILER, tag)
            for checked in in_order(pool, _check_walked, _pieces(walk), in_flight):
                frames += checked.frames
                done += checked.length
                damage += [Damage(f"record at byte {offset} is damaged") for offset in checked.bad]
                last = checked.last_digest
                reporter.report(done, done)
    except AipImageError as error:
        damage.append(Damage(str(error)))
    if not damage and last != trailer.seal.digest:
        damage.append(Damage("the last record is not the seal that the trailer names"))
    reporter.report(stream.size, done, final=True)
    return VerifyResult(
        "keyless",
        frames,
        done + c.TRAILER,
        time.monotonic() - reporter.started,
        tuple(damage[:_DAMAGE_MAX]),
    )


class _Checked(NamedTuple):
    frames: int
    length: int
    bad: list[int]
    last_digest: bytes


def _pieces(walk: Iterator[list[Walked]]) -> Iterator[list[Walked]]:
    """Pieces small enough that all threads are busy."""
    for records in walk:
        for at in range(0, len(records), 32):
            yield records[at : at + 32]


def _check_walked(records: list[Walked]) -> _Checked:
    bad, last = [], b""
    for walked in records:
        try:
            last = verified_record(walked.data)
        except IntegrityError:
            bad.append(walked.offset)
    frames = sum(walked.header.type == RecordType.FRAME for walked in records)
    return _Checked(frames, sum(walked.data.nbytes for walked in records), bad, last)

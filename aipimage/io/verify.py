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
import numpy.typing as npt

from aipimage.errors import AipImageError, FormatError, IntegrityError, RequestError
from aipimage.extents import SECTOR, ExtentArray, Kind
from aipimage.format import constants as c
from aipimage.format.constants import RecordType
from aipimage.format.record import NO_REFERENCE, Reference, verified_record
from aipimage.format.tables import decode_digest_leaf, decode_frame_extents
from aipimage.io.buffers import thread_buffer
from aipimage.io.coverage import Coverage
from aipimage.io.frames import FrameRun, OpenedFrame, open_frames
from aipimage.io.gaps import Gaps
from aipimage.io.opening import read_key_area
from aipimage.io.pipeline import executor_for, in_order
from aipimage.io.progress import ProgressCallback, Reporter
from aipimage.io.trees import IndexReader, split_runs
from aipimage.io.walk import Walked, walk_records

if TYPE_CHECKING:
    from aipimage.io.image import Image

DAMAGE_MAX = 1000
_RANGES_MAX = 100


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


class _Findings(NamedTuple):
    """What a worker says of a run: the frames that are damaged, and why."""

    origin: int
    run: FrameRun
    bad: list[tuple[int, str]]
    was_read: bool


class _Verifier:
    def __init__(
        self, image: Image, sample: float | None, progress: ProgressCallback | None
    ) -> None:
        self._image, self._sample = image, sample
        self._reporter = Reporter("verify", image.stored, progress)
        self._covered = Coverage()
        self._gaps = Gaps(len(image.tables), image.header.frame_sectors)
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
            for device in image.devices:
                step = partial(self._gaps.check, device.map)
                self._check(step, f"map of device {device.index}")
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
        if len(self._damage) < DAMAGE_MAX:
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

    def _runs(self) -> Iterator[tuple[int, FrameRun]]:
        for index, table in enumerate(self._image.tables):
            table.forget()
            for leaf in range(table.leaf_count()):
                try:
                    entries = table.leaf(leaf)
                except AipImageError as error:
                    self._add(Damage(f"frame table: {error}", index))
                    if len(self._damage) >= DAMAGE_MAX:
                        # A seal can claim more leaves than anybody can look for.
                        return
                    continue
                self._gaps.add(index, leaf * c.LEAF_FRAMES, entries)
                rows = np.arange(len(entries))
                if self._sample is not None:
                    rows = self._chosen(rows)
                for run in split_runs(table.origin, leaf * c.LEAF_FRAMES, entries, rows):
                    yield index, run

    def _chosen(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """A random sample of some frames, at least one."""
        assert self._sample is not None
        wanted = np.array([random.random() * 100 < self._sample for _ in rows])
        wanted[random.randrange(len(rows))] = True
        chosen: npt.NDArray[np.int64] = rows[wanted]
        return chosen

    def _check_run(self, work: tuple[int, FrameRun]) -> _Findings:
        """In a worker: read a run, verify and open each frame; return those that are damaged."""
        image, (origin, run) = self._image, work
        try:
            data = image.read_stored(run.origin, run.start, thread_buffer("run", run.length))
        except AipImageError as error:
            numbers = range(run.first, run.first + len(run.entries))
            return _Findings(origin, run, [(number, str(error)) for number in numbers], False)
        bad: list[tuple[int, str]] = []
        for opened in open_frames(image.records, run, data):
            reason = opened.error or _extents_error(opened)
            if reason is not None:
                bad.append((opened.number, str(reason)))
        return _Findings(origin, run, bad, True)

    def _take(self, found: _Findings) -> None:
        run = found.run
        if found.was_read:
            start = self._image.locate_address(run.origin, run.start, run.length)
            self._covered.add(start, run.length)
        self._frames += len(run.entries)
        self._bytes += run.length
        for number, reason in found.bad:
            self._bad_frames.setdefault(found.origin, []).append(number)
            self._add(Damage(f"frame {number}: {reason}", found.origin, number))
        self._reporter.report(self._bytes, self._bytes)

    def _locate_bad_frames(self) -> None:
        """Say which ranges of which device each damaged frame takes with it."""
        if self._bad_frames:
            ranges = ranges_of_frames(self._image, self._bad_frames)
            self._damage = [
                d._replace(ranges=tuple(ranges.get((d.origin, d.frame), ())))
                if d.origin is not None and d.frame is not None
                else d
                for d in self._damage
            ]

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


def _extents_error(opened: OpenedFrame) -> AipImageError | None:
    """Whether the extents of a frame sum to its length; most frames have one, looked at quickly."""
    extents = opened.extents
    if len(extents) == c.FRAME_EXTENT:
        sectors = int.from_bytes(extents[8:12], "little")
        return None if sectors * SECTOR == len(opened.plain) else FormatError("its extent is wrong")
    try:
        decode_frame_extents(extents, len(opened.plain))
    except AipImageError as error:
        return error
    return None


def ranges_of_frames(
    image: Image, frames: dict[int, list[int]]
) -> dict[tuple[int, int], list[tuple[int, int, int]]]:
    """Return (device, offset, length) in bytes for each (origin, number) of some frames."""
    ranges: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    size = image.header.frame_sectors
    for device in image.devices:
        try:
            for first, block in device.map.walk():
                for origin, numbers in frames.items():
                    _match(device.index, first, block, origin, numbers, size, ranges)
        except AipImageError:
            # Damage of the map itself was told already.
            continue
    return ranges


def _match(
    device: int, first: int, block: ExtentArray, origin: int, numbers: list[int], size: int,
    ranges: dict[tuple[int, int], list[tuple[int, int, int]]],
) -> None:  # fmt: skip
    """Add the ranges of one block of extents that lie in the frames ``numbers`` of an origin."""
    starts = first + np.cumsum(block["length"]) - block["length"]
    mine = (block["kind"] == Kind.DATA) & (block["origin"] == origin)
    rows, at = block[mine], starts[mine]
    ends = rows["position"] + rows["length"]
    for number in numbers:
        low, high = number * size, (number + 1) * size
        for row in np.flatnonzero((rows["position"] < high) & (ends > low)).tolist():
            begin = max(low, int(rows["position"][row]))
            end = min(high, int(ends[row]))
            offset = int(at[row]) + begin - int(rows["position"][row])
            found = ranges.setdefault((origin, number), [])
            if len(found) < _RANGES_MAX:
                found.append((device, offset * SECTOR, (end - begin) * SECTOR))

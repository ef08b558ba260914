"""What the steps of one verification share: the image, what is whole so far, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

import numpy as np

from aipimage.errors import AipImageError
from aipimage.format import constants as c
from aipimage.format.origins import OriginEntry
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.io.checking.coverage import Coverage
from aipimage.io.checking.findings import Findings, FrameMarks, Sample
from aipimage.io.checking.results import Damage
from aipimage.io.checking.runningcheck import RecordOrder
from aipimage.io.index.gaps import Gaps, Positions
from aipimage.io.reading.image import ImageReader
from aipimage.io.records.damage import damage_text
from aipimage.io.records.frames import FrameRun
from aipimage.io.stream.segmentmap import SegmentMap
from aipimage.io.system.progress import ProgressCallback, Reporter


class CheckedOrigin(NamedTuple):
    """What the verification of the file that holds an origin found of its frames.

    Attributes:
        table_root, frame_count: of the frame table that was walked. gaps: see :class:`Gaps`.
    """

    table_root: Reference
    frame_count: int
    gaps: tuple[Positions, Positions]

    def is_of(self, entry: OriginEntry) -> bool:
        """Whether a seal says the same of the origin."""
        return (self.table_root, self.frame_count) == (entry.table_root, entry.frame_count)


class Verification:
    """The state of one verification of one image.

    Args:
        sample: percent of the frames; ``None`` for all.
        known: by index, origins that other files hold and that were verified there.
        direct: indexes of origins that other files hold, whose frames are to be read from there.
        every: compare all blocks of the devices with their digests, also those of which other files
            have all frames.

    Attributes:
        foreign, limits: of each origin by index, whether another file holds it, and the packed
            sector after its last frame.
        used: indexes of the origins that the maps name. foreign_pages: whether pages of the map
            lie in other files.
        covered: bytes of the stream that were looked at. frames, bytes: how many were checked.
    """

    def __init__(
        self,
        image: ImageReader,
        sample: float | None,
        progress: ProgressCallback | None,
        known: Mapping[int, CheckedOrigin] | None = None,
        direct: Collection[int] = (),
        every: bool = False,
    ) -> None:
        self.image, self.direct = image, direct
        self.is_sample, self.every, self.known = sample is not None, every, known or {}
        self.reporter = Reporter("verify", image.stored, progress)
        self.covered = Coverage()
        self.order = RecordOrder(image)
        self.gaps = Gaps(image.header.frame_sectors)
        for index, origin in self.known.items():
            self.gaps.take(index, origin.gaps)
        self.limits = np.empty(0, np.uint64)
        self.foreign = np.empty(0, np.bool_)
        self.know_origins()
        self.used: set[int] = set()
        self.foreign_pages = False
        self.damage = Findings()
        self.frames_done = FrameMarks()
        self.sample = Sample(sample)
        self.frames = self.bytes = 0

    def check(self, step: Callable[[], None], what: str) -> None:
        """Run a step; an error that it raises is a finding about ``what``."""
        try:
            step()
        except AipImageError as error:
            text = damage_text(error).removeprefix(f"{self.image.path}: ")
            self.damage.add(Damage(f"{what}: {text}"))

    def saw(self, ref: Reference) -> None:
        """A page or record was read, and is what its reference says."""
        if self.image.segments.holds(ref.origin):
            place = self.image.locate(ref)
            self.covered.add(place, ref.record_length)
            self.order.add(place, ref.digest)
            self.bytes += ref.record_length
        else:
            self.foreign_pages = True

    def report(self) -> None:
        """Report how far the verification is."""
        self.reporter.report(self.bytes, self.bytes)

    def know_origins(self) -> None:
        """Note which origins other files hold, and where each ends: pages name more of them."""
        image = self.image
        more = image.origins.entries()[len(self.foreign) :]
        if more:
            foreign = [not image.segments.holds(entry.origin) for entry in more]
            ends = [entry.frame_count * image.header.frame_sectors for entry in more]
            self.foreign = np.concatenate([self.foreign, np.array(foreign, np.bool_)])
            self.limits = np.concatenate([self.limits, np.array(ends, np.uint64)])

    def checked(self) -> dict[bytes, CheckedOrigin]:
        """What was found of each origin that the image's own file holds."""
        self.know_origins()
        return {
            entry.origin: CheckedOrigin(entry.table_root, entry.frame_count, self.gaps.of(index))
            for index, entry in enumerate(self.image.origins.entries())
            if not self.foreign[index]
        }

    def is_read(self, origin: int) -> bool:
        """Whether the frames of an origin are looked at here."""
        return not self.foreign[origin] or origin in self.direct

    def droppable(self, origin: bytes) -> SegmentMap | None:
        """Where the frames of an origin lie; ``None`` where none can be dropped, because the file
        was written in one go.
        """
        image = self.image
        if not image.segments.holds(origin):
            return image.foreign.holder(origin).segments
        return None if image.trailer.segments == NO_REFERENCE else image.segments

    def count(self, origin: int, run: FrameRun) -> None:
        """Count the frames of a run that were not looked at before, and what they take."""
        leaf, row = divmod(run.first, c.LEAF_FRAMES)
        done = self.frames_done.of_leaf(origin, leaf)[row : row + len(run.entries)]
        self.frames += int((~done).sum())
        self.bytes += int(run.entries["record_length"][~done].sum())
        if not self.foreign[origin]:
            self._cover(run)

    def _cover(self, run: FrameRun) -> None:
        """What could not be read was looked at too, and is a finding already."""
        segments = self.image.segments
        if segments.covers(run.origin, run.start, run.length):
            self.covered.add(segments.locate(run.origin, run.start, run.length), run.length)

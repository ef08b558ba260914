"""The new map of each device of a repaired image, and what of the devices is lost (docs/format.md,
sections 7 and 11).
"""

from __future__ import annotations

import numpy as np

from aipimage.extents import Kind
from aipimage.format.record import Reference
from aipimage.format.seal import SealDevice
from aipimage.format.tables import SECTOR_LIMIT, pack_at
from aipimage.io.index.mapbuild import MapBuilder
from aipimage.io.merge.assemble import Assembly
from aipimage.io.reading.image import ImageReader
from aipimage.io.records.records import RecordReader
from aipimage.io.repair.doubts import Doubts
from aipimage.io.repair.facts import Facts
from aipimage.io.repair.mapping import DeviceMapping, MapOrigins
from aipimage.io.repair.report import LostRanges
from aipimage.io.repair.survey import Survey
from aipimage.io.repair.timeline import Timeline


class DeviceMaker:
    """Maps the devices in their order.

    Args:
        records: of this file, by their addresses, and of other files of the chain.
        origins: those that the new map names.
        trust_pages: whether sizes of pages are known, so that old map pages can be read.
        zero_lost: what is lost becomes unreadable instead.

    Attributes:
        lost: of the devices mapped so far.
    """

    def __init__(
        self,
        survey: Survey,
        facts: Facts,
        records: RecordReader,
        origins: MapOrigins,
        parent: ImageReader | None,
        doubts: Doubts,
        trust_pages: bool,
        zero_lost: bool,
    ) -> None:
        self._survey, self._facts, self._records = survey, facts, records
        self._origins, self._parent, self._doubts = origins, parent, doubts
        self._trust_pages, self._zero_lost = trust_pages, zero_lost
        self._line: Timeline | None = None
        self.lost = LostRanges()

    def make(self, index: int, assembly: Assembly, digest_root: Reference) -> SealDevice:
        """Write the map of a device; return what the seal says of the device."""
        if index == 0:
            self._line = self._timeline()
        facts, header = self._facts.devices[index], self._survey.beginning.header
        mapping = DeviceMapping(
            self._survey,
            self._facts,
            self._records,
            self._origins,
            self._line,
            self._parent,
            index,
            self._trust_pages,
        )
        builder = MapBuilder(
            assembly.records,
            index,
            facts.sectors,
            self._origins.names,
            header.stripe_shift,
            header.fanout_shift,
        )
        self._add_all(builder, index, mapping)
        counts = np.asarray(builder.counts).tolist()
        self._compare_counts(index, counts)
        return SealDevice(
            facts.size,
            facts.sector_size,
            builder.root_level,
            counts[Kind.UNUSED],
            counts[Kind.ZERO],
            counts[Kind.DATA],
            counts[Kind.UNREADABLE],
            counts[Kind.LOST],
            builder.finish(),
            digest_root,
        )

    def _add_all(self, builder: MapBuilder, index: int, mapping: DeviceMapping) -> None:
        """Map all extents, and note what is lost and what of the old map was of use."""
        for rows in self._doubts.marked(index, mapping.extents()):
            at = builder.position
            for length, _, _, kind in rows.tolist():
                if kind == Kind.LOST:
                    self.lost.add(index, at, length)
                at += length
            if self._zero_lost:
                rows = rows.copy()
                rows["kind"][rows["kind"] == Kind.LOST] = Kind.UNREADABLE
            builder.add(rows)
        if mapping.root_found:
            self._facts.used.append(f"map of device {index}")
        elif mapping.pages:
            self._facts.used.append(f"some map pages of device {index}")

    def _compare_counts(self, index: int, counts: list[int]) -> None:
        """Where nothing is lost a map still says as much of each kind as the seal counts."""
        entry = self._facts.devices[index].entry
        if entry is None or counts[Kind.LOST] or self.lost.sectors:
            return
        sealed = (entry.unused, entry.zero, entry.data, entry.unreadable)
        kinds = (Kind.UNUSED, Kind.ZERO, Kind.DATA, Kind.UNREADABLE)
        if sealed != tuple(counts[kind] for kind in kinds) and not entry.lost:
            self._facts.warnings.append(
                f"device {index}: its map has other amounts of data and zeros than the seal "
                "counts; compare what was saved with another copy"
            )

    def _timeline(self) -> Timeline | None:
        if not self._facts.in_order:
            return None
        own = self._facts.own
        counts = {each.origin: each.frame_count for each in own.seal.origins} if own else {}
        return Timeline(self._survey, counts, self._complete_at(), self._unreadable())

    def _complete_at(self) -> int | None:
        """The place of a record that is written once all devices are done."""
        origins = list(self._survey.runs)
        found = [
            seal.ref.offset for seal in self._survey.seals if seal.seal.image_id == origins[-1]
        ]
        least = 1 if len(origins) == 1 else 0
        found += [
            ref.offset
            for (origin, number), (ref, _) in self._survey.metadata.items()
            if origin == origins[-1] and number >= least
        ]
        return min(found, default=None)

    def _unreadable(self) -> list[tuple[int, int, int]]:
        """What the result says could not be read from the sources."""
        rows = self._facts.result.get("unreadable")
        found: list[tuple[int, int, int]] = []
        for row in rows if isinstance(rows, list) else []:
            if (
                isinstance(row, list)
                and len(row) == 3
                and all(isinstance(each, int) and 0 <= each < SECTOR_LIMIT for each in row)
                and row[0] < len(self._facts.devices)
                and row[2] > 0
            ):
                found.append((pack_at(row[0], row[1]), row[2], int(Kind.UNREADABLE)))
        return found

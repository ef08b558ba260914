"""What an increment writes of one device: its new map and digests (docs/format.md, 7, 8.1, 9.4)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from aipimage.extents import EXTENT_DTYPE, SECTOR, ExtentArray, Kind
from aipimage.format import constants as c
from aipimage.format.record import NO_REFERENCE, Reference
from aipimage.io.creating.imagewriter import DeviceResult, ImageWriter
from aipimage.io.increment.parent import reading_parent
from aipimage.io.index.digests import DigestView
from aipimage.io.index.layerbuild import LayerBuilder
from aipimage.io.index.mapbuild import MapBuilder
from aipimage.io.index.mapupdate import MapUpdate
from aipimage.io.index.origins import Renumbering
from aipimage.io.reading.device import Device
from aipimage.io.reading.image import ImageReader


class _NewMap:
    """The map of a device that the parent does not have; like :class:`MapUpdate`."""

    def __init__(self, builder: MapBuilder) -> None:
        self._builder = builder

    @property
    def counts(self) -> npt.NDArray[np.uint64]:
        return self._builder.counts

    @property
    def position(self) -> int:
        return self._builder.position

    def keep_to(self, sector: int) -> None:
        self._builder.add_run(sector - self._builder.position, Kind.ZERO)

    def replace(self, extents: ExtentArray) -> None:
        self._builder.add(extents)

    def finish(self) -> Reference:
        self.keep_to(self._builder.sectors)
        return self._builder.finish()


class DeviceUpdate:
    """Takes the changed runs of one device in ascending order; all else is as in the parent.

    Args:
        number: of the device in the new image. old: its device in the parent, or ``None``.
        parent: the image that ``old`` belongs to.
        digests: whether block digests are kept.
    """

    def __init__(
        self,
        writer: ImageWriter,
        number: int,
        size: int,
        sector_size: int,
        parent: ImageReader,
        old: Device | None,
        digests: bool,
    ) -> None:
        self._size, self._sector_size, self._old = size, sector_size, old
        self.sectors = -(-size // SECTOR)
        header = writer.header
        self._builder = MapBuilder(
            writer.records,
            number,
            self.sectors,
            writer.origins,
            header.stripe_shift,
            header.fanout_shift,
        )
        self._map: MapUpdate | _NewMap = _NewMap(self._builder)
        root, blocks = NO_REFERENCE, 0
        if old is not None:
            numbers = Renumbering(parent.origins, writer.origins.number)
            self._map = MapUpdate(old.map, old.entry, self._builder, numbers, old.index != number)
            root, blocks = old.entry.digest_root, -(-old.size // c.BLOCK)
        self.digest_view = self._layers = None
        if digests:
            with reading_parent():
                self.digest_view = DigestView(parent.records, root, blocks, header.stripe_shift)
                base = DigestView(parent.records, root, blocks, header.stripe_shift)
            self._layers = LayerBuilder(writer.records, base, -(-size // c.BLOCK))

    def replace(self, runs: npt.NDArray[np.void], positions: npt.NDArray[np.uint64]) -> None:
        """Map changed runs (``RUN_DTYPE``), those with data at packed ``positions`` of the origin
        that the writer writes.
        """
        if not len(runs):
            return
        rows = np.zeros(len(runs), EXTENT_DTYPE)
        rows["length"], rows["kind"] = runs["length"], runs["kind"]
        rows["position"] = positions
        self.replace_extents(runs["start"].tolist(), rows)

    def replace_extents(self, starts: Sequence[int], rows: ExtentArray) -> None:
        """Map extents that begin at the sectors ``starts``."""
        firsts = np.array(starts, np.uint64)
        ends = firsts + rows["length"]
        within = 0
        if isinstance(self._map, MapUpdate) and self._old is not None:
            end = min(self._old.entry.sectors, self.sectors)
            within = int(np.searchsorted(ends, end, "right"))
            with reading_parent():
                self._map.overlay(firsts[:within], rows[:within])
        if within < len(rows):
            self._replace_one_by_one(starts[within:], ends[within:], rows[within:])

    def _replace_one_by_one(
        self, starts: Sequence[int], ends: npt.NDArray[np.uint64], rows: ExtentArray
    ) -> None:
        # Neighbours are handed on together: each call looks up the parent's pages.
        apart = np.flatnonzero(ends[:-1] != np.array(starts[1:], np.uint64)) + 1
        bounds = [0, *apart.tolist(), len(rows)]
        with reading_parent():
            for low, high in pairwise(bounds):
                self._keep_to(starts[low])
                self._map.replace(rows[low:high])

    def _keep_to(self, sector: int) -> None:
        """Keep what the parent has; past its end there were zeros."""
        old_end = self._old.entry.sectors if self._old is not None else sector
        if self._map.position < min(sector, old_end):
            self._map.keep_to(min(sector, old_end))
        grown = sector - self._map.position
        if grown > 0:
            self._map.replace(np.array([(grown, 0, 0, Kind.ZERO)], EXTENT_DTYPE))

    def set_digests(self, blocks: npt.NDArray[np.uint64], digests: object) -> None:
        """Say what the digests of some blocks are now, in ascending order."""
        if self._layers is not None and len(blocks):
            with reading_parent():
                self._layers.set(blocks, digests)

    def finish(self) -> DeviceResult:
        """Keep the rest, write the roots."""
        self._keep_to(self.sectors)
        with reading_parent():
            root = self._map.finish()
            digest_root = self._layers.finish() if self._layers is not None else NO_REFERENCE
        return DeviceResult(
            self._size,
            self._sector_size,
            self._builder.root_level,
            [int(count) for count in self._map.counts],
            root,
            digest_root,
        )

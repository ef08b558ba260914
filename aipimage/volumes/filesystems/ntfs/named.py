"""Clusters that a journal names: those that it changes, and those that it gives and takes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from aipimage.ranges import joined
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.loose import (
    Row,
    pairs_before,
    runs_of_attributes,
    runs_of_logged_record,
    runs_of_pairs,
)
from aipimage.volumes.filesystems.ntfs.runs import ClusterRuns
from aipimage.volumes.filesystems.ntfs.streams import Mft, Stream
from aipimage.volumes.journals.ntfslog import layout as ntfslog
from aipimage.volumes.journals.ntfslog.operations import Change
from aipimage.volumes.journals.ntfslog.tables import OpenAttribute, dirty_pages
from aipimage.volumes.view import LayoutError

_GATHERED = 1 << 16
"""Runs that are gathered before they are joined."""
_BITMAP = (layout.BITMAP, layout.DATA)
_OF_RECORDS = {ntfslog.INITIALIZE, ntfslog.DEALLOCATE, ntfslog.WRITE_END}
_OF_RUNS = {ntfslog.UPDATE_MAPPING_PAIRS, ntfslog.SET_SIZES}
_PLACING = {layout.ATTRIBUTE_LIST, layout.DATA}
"""Types of the attributes that say where a file lies."""


class NamedClusters:
    """Gathers what the changes of a journal name.

    Args:
        mft, bitmap: of the volume, as they lie on it.

    Attributes:
        records: numbers of the FILE records that are changed.
    """

    def __init__(self, mft: Mft, bitmap: Stream) -> None:
        self._mft, self._bitmap = mft, bitmap
        self._clusters = mft.geometry.clusters
        self._joined: ClusterRuns = np.empty((0, 2), np.uint64)
        self._rows: list[Row] = []
        self.records: set[int] = set()

    def runs(self) -> ClusterRuns:
        """All of them, ascending and disjoint."""
        fresh = np.array(self._rows, np.uint64).reshape(-1, 2)
        self._joined, self._rows = joined(np.concatenate((self._joined, fresh))), []
        return self._joined

    def add(self, change: Change, opened: OpenAttribute | None) -> None:
        """Take what one change names.

        Args:
            opened: its target, where that is known.

        Raises:
            LayoutError: it names what is not there, or is of a kind that is not followed.
        """
        self._add_all((cluster, 1) for cluster in change.clusters if cluster >= 0)
        number = self._record_of(change)
        if number is not None:
            self.records.add(number)
            if number == layout.BITMAP and any(_moves(*side) for side in change.sides):
                raise LayoutError("its journal changes where its bitmap lies")
        for operation, data in change.sides:
            self._add_side(change, operation, data, opened, number)
        if len(self._rows) > _GATHERED:
            self.runs()

    def _add_side(
        self, change: Change, operation: int, data: bytes, opened: OpenAttribute | None,
        number: int | None,
    ) -> None:  # fmt: skip
        if operation == ntfslog.HOT_FIX:
            raise LayoutError("its journal moves bad clusters")
        if operation in (ntfslog.SET_BITS, ntfslog.CLEAR_BITS):
            self._add_bits(change, data, opened)
        elif operation == ntfslog.DELETE_DIRTY:
            self._add_all(ntfslog.CLUSTERS.iter_unpack(data[: len(data) // 16 * 16]))
        elif operation == ntfslog.DIRTY_PAGE_TABLE:
            for page in dirty_pages(data):
                self._add_all((cluster, 1) for cluster in page.clusters if cluster >= 0)
        elif operation == ntfslog.INITIALIZE:
            self._add_loose(runs_of_logged_record(data))
        elif operation in (ntfslog.CREATE_ATTRIBUTE, ntfslog.WRITE_END):
            self._add_loose(runs_of_attributes(data))
        elif operation == ntfslog.UPDATE_MAPPING_PAIRS and number is not None:
            before = self._pairs_before(change, number)
            if before is not None:
                self._add_loose(runs_of_pairs(before + data))

    def _add_bits(self, change: Change, data: bytes, opened: OpenAttribute | None) -> None:
        """Bits of $Bitmap that are set or cleared, which name their clusters themselves."""
        if len(data) < ntfslog.BITS.size:
            if data:
                raise LayoutError("its journal changes bits that it does not name")
            return
        if not change.clusters:
            raise LayoutError("its journal changes bits, and does not say where they lie")
        is_ours = self._is_in(self._bitmap, change)
        if opened is not None and is_ours != ((opened.file, opened.type) == _BITMAP):
            raise LayoutError("its journal places the bitmap elsewhere")
        if not is_ours:
            return
        first, count = ntfslog.BITS.unpack_from(data)
        at = change.vcn * self._mft.geometry.cluster_size + change.cluster_at + change.record_at
        self._add_all([(8 * at + first, count)])

    def _is_in(self, stream: Stream, change: Change) -> bool:
        """Whether the first cluster of a change is that of a stream at its VCN."""
        size = self._mft.geometry.cluster_size
        if not change.clusters:
            return False
        place = next(stream.places(change.vcn * size, 1), None)
        return place is not None and place[0] == change.clusters[0] * size

    def _record_of(self, change: Change) -> int | None:
        """Number of the FILE record that a change is of; ``None`` where it is of none."""
        if not self._is_in(self._mft.data, change):
            return None
        geometry = self._mft.geometry
        at = change.vcn * geometry.cluster_size + change.cluster_at
        return at // geometry.record_size

    def _pairs_before(self, change: Change, number: int) -> bytes | None:
        """The mapping pairs of an attribute up to the place where they change, by what lies on the
        disk; ``None`` where that is not to be seen.
        """
        if number >= self._mft.records:
            return None
        record = self._mft.read_records(number, 1)[0]
        return pairs_before(record, change.record_at, change.attribute_at)

    def _add_loose(self, rows: Iterable[Row]) -> None:
        """Runs of a list that may be older than what lies before it."""
        self._rows += [row for row in rows if row[0] + row[1] <= self._clusters]

    def _add_all(self, rows: Iterable[Row]) -> None:
        for first, count in rows:
            if first + count > self._clusters:
                raise LayoutError(f"its journal names the cluster {first + count - 1:,}")
            self._rows.append((first, count))


def _moves(operation: int, data: bytes) -> bool:
    """Whether an operation on a FILE record may change where its content lies."""
    if operation == ntfslog.CREATE_ATTRIBUTE:
        return int.from_bytes(data[:4], "little") in _PLACING
    return operation in _OF_RECORDS | _OF_RUNS

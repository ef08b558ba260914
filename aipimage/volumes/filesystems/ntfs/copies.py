"""What of an NTFS volume its shadow copies need: clusters that the live $Bitmap may call free."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.filesystems.ntfs.bitmap import open_bitmap, read_bitmap
from aipimage.volumes.filesystems.ntfs.boot import Geometry, decode_geometry
from aipimage.volumes.filesystems.ntfs.streams import Mft
from aipimage.volumes.shadowcopies.copies import ShadowCopies, ShadowCopy, read_shadow_copies
from aipimage.volumes.view import LayoutError, VolumeView


def shadow_copies_of(view: VolumeView) -> ShadowCopies | None:
    """Read the shadow copies of a volume; ``LayoutError`` where they are not understood."""
    try:
        return read_shadow_copies(view)
    except LayoutError as error:
        raise _not_understood(error) from error


def keep_shadow_copies(
    view: VolumeView, geometry: Geometry, found: ShadowCopies, free: ClusterMap
) -> str:
    """Mark as used what shadow copies need; return a note for the user.

    Of each copy that is its store, all blocks that its bitmap does not call unused, and all that
    its own $Bitmap calls used, as the copy reads it.

    Raises:
        LayoutError: a copy is not understood.
    """
    before = free.total
    try:
        for ranges in found.needed():
            free.set_used_runs(_clusters(ranges, geometry))
        for copy in found.copies:
            for runs in _used(_map_of(copy, geometry)):
                free.set_used_runs(runs)
    except LayoutError as error:
        raise _not_understood(error) from error
    count = len(found.copies)
    which = f"its {count} shadow copies are" if count != 1 else "its shadow copy is"
    return f"{which} kept: {before - free.total:,} bytes beyond its map"


def _not_understood(error: LayoutError) -> LayoutError:
    return LayoutError(f"its shadow copies (VSS) are not understood: {error}")


def _clusters(ranges: npt.NDArray[np.uint64], geometry: Geometry) -> npt.NDArray[np.uint64]:
    """Ranges of bytes as runs of clusters, widened to whole ones and cut at the end."""
    size = np.uint64(geometry.cluster_size)
    stops = (ranges[:, 0] + ranges[:, 1] + size - np.uint64(1)) // size
    stops = np.minimum(stops, np.uint64(geometry.clusters))
    first = np.minimum(ranges[:, 0] // size, stops)
    return np.column_stack((first, stops - first))


def _map_of(copy: ShadowCopy, geometry: Geometry) -> ClusterMap:
    """What was free in a copy, as its own $Bitmap says."""
    view = VolumeView(copy.source, 0, copy.size)
    own = decode_geometry(view.read(0, layout.BOOT_BYTES))
    if own.cluster_size != geometry.cluster_size or own.clusters > geometry.clusters:
        raise LayoutError("one of them is of a volume of another size")
    if own.size > copy.size:
        raise LayoutError("one of them is cut off")
    mft = Mft(view, own)
    return read_bitmap(mft, open_bitmap(mft))


def _used(free: ClusterMap) -> Iterator[npt.NDArray[np.uint64]]:
    """The runs between those that are free."""
    end = 0
    for runs in free.free_runs(0, free.count):
        starts = np.concatenate(([np.uint64(end)], runs.sum(axis=1, dtype=np.uint64)))
        yield np.column_stack((starts[:-1], runs[:, 0] - starts[:-1]))
        end = int(starts[-1])
    yield np.array([(end, free.count - end)], np.uint64)

"""Telling an exFAT volume, and its allocation map."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.exfat.bitmap import (
    bitmap_length,
    bitmap_pieces,
    bitmap_runs,
    fill,
    verified_bitmaps,
)
from aipimage.volumes.filesystems.exfat.chain import Fat, Run, check_disjoint, whole_chain
from aipimage.volumes.filesystems.exfat.directory import Root, read_root
from aipimage.volumes.filesystems.exfat.inuse import keep_named
from aipimage.volumes.filesystems.exfat.layout import (
    BOOT_BYTES,
    FIRST_CLUSTER,
    FLAG_DIRTY,
    NAME,
    BootSector,
    decode_boot_sector,
)
from aipimage.volumes.filesystems.exfat.region import (
    claimed_size,
    verify_layout,
    verify_regions,
    verify_state,
)
from aipimage.volumes.filesystems.exfat.walk import Walk
from aipimage.volumes.journals.notes import check_still, dirty_note
from aipimage.volumes.model import Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView

_LABEL_MOST = 16 << 10
"""Bytes of the root directory in which the label is looked for: mostly it is the first entry."""
_UPCASE_MAX = 2 * 65_536
"""Bytes of an up-case table that has an entry for each character (section 7.2)."""


def probe(view: VolumeView) -> FileSystem | None:
    """See :class:`aipimage.volumes.model.Parser`."""
    try:
        data = view.read(0, BOOT_BYTES)
    except LayoutError:
        return None
    boot = decode_boot_sector(data)
    if boot.name != NAME:
        return None
    uuid = f"{boot.serial >> 16:04X}-{boot.serial & 0xFFFF:04X}" if boot.serial else ""
    try:
        verify_layout(boot, max(view.size, claimed_size(boot)))
    except LayoutError:
        return FileSystem("exfat", uuid=uuid, details=boot)
    label = _label(view, boot)
    if boot.size > view.size:
        # Taken whole: its name helps who looks for it.
        return FileSystem("exfat", label, uuid, details=boot)
    return FileSystem("exfat", label, uuid, boot.size, boot.cluster_size, boot)


def _label(view: VolumeView, boot: BootSector) -> str:
    try:
        return read_root(view, boot, _LABEL_MOST).label
    except LayoutError:
        return ""


def allocation(view: VolumeView, filesystem: FileSystem, options: SurveyOptions) -> Allocation:
    """See :class:`aipimage.volumes.model.Parser`."""
    boot = filesystem.details
    if not isinstance(boot, BootSector):
        raise RuntimeError("internal error: these are not the details of an exFAT volume")
    verify_layout(boot, view.size)
    verify_state(boot)
    in_use = bool(boot.flags & FLAG_DIRTY)
    if in_use:
        check_still(options)
    verify_regions(view, boot)
    root = read_root(view, boot, past_end=in_use)
    fat = Fat(view, boot)
    found = ClusterMap(boot.cluster_size, boot.clusters, boot.heap_start, boot.size)
    bitmaps = [bitmap_runs(boot, entry, fat) for entry in verified_bitmaps(boot, root)]
    view.allow(len(bitmaps) * bitmap_length(boot))
    fill(found, [bitmap_pieces(view, boot, runs) for runs in bitmaps])
    own = [*root.runs, *_upcase_runs(boot, root, fat), *(run for runs in bitmaps for run in runs)]
    files = Walk(view, boot, fat, in_use).run(root.entries)
    if in_use:
        named = np.concatenate((np.array(own, np.uint64), files))
        kept = keep_named(view, boot, root, named, found)
        return Allocation(found, found.used_end(), notes=(dirty_note("FAT", kept),))
    _check_used(found, own)
    _check_files(found, files)
    return Allocation(found, found.used_end(), notes=_notes(boot, root))


def _upcase_runs(boot: BootSector, root: Root, fat: Fat) -> list[Run]:
    """Where the up-case table lies, which every volume has once (section 7.2)."""
    if len(root.upcases) != 1:
        raise LayoutError(f"its root directory names {len(root.upcases)} up-case tables")
    table = root.upcases[0]
    if not 0 < table.length <= _UPCASE_MAX:
        raise LayoutError(f"its up-case table is {table.length:,} bytes long")
    return whole_chain(fat, table.first_cluster, -(-table.length // boot.cluster_size))


def _check_used(found: ClusterMap, own: list[Run]) -> None:
    """Raise ``LayoutError`` where the bitmap calls free what the file system itself lies in."""
    check_disjoint(own)
    rows = np.array(own, np.uint64)
    rows[:, 0] -= np.uint64(FIRST_CLUSTER)
    before = found.free_clusters
    found.set_used_runs(rows)
    if found.free_clusters != before:
        raise LayoutError("the bitmap calls free what the file system itself lies in")


def _check_files(found: ClusterMap, claimed: npt.NDArray[np.uint64]) -> None:
    """Raise ``LayoutError`` where the bitmap calls free what a file or directory lies in."""
    claimed[:, 0] -= np.uint64(FIRST_CLUSTER)
    before = found.free_clusters
    found.set_used_runs(claimed)
    if found.free_clusters != before:
        raise LayoutError("the bitmap calls free what files lie in")


def _notes(boot: BootSector, root: Root) -> tuple[str, ...]:
    notes = []
    if boot.fats != 1:
        notes.append("it has two allocation bitmaps: what any of them calls used is kept")
    if not root.ended:
        notes.append("its root directory is so large that not all files were compared")
    return tuple(notes)

"""The root directory of an exFAT volume: where bitmap, up-case table and label are named."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.exfat.chain import Fat, Run, check_disjoint
from aipimage.volumes.filesystems.exfat.layout import (
    ENTRY_BITMAP,
    ENTRY_BYTES,
    ENTRY_END,
    ENTRY_LABEL,
    ENTRY_UPCASE,
    Allocated,
    BootSector,
    decode_allocated,
    decode_label,
)
from aipimage.volumes.view import VolumeView

SEARCH_MOST = 16 << 20
"""Bytes of a root directory that are searched. They may come to 256 MiB; but what is looked for is
written when a volume is made."""
_KINDS = (ENTRY_BITMAP, ENTRY_UPCASE, ENTRY_LABEL)
_PIECE = 1 << 20


class Root(NamedTuple):
    """What a root directory holds.

    Attributes:
        bitmaps, upcases: entries of allocation bitmaps and up-case tables, all that there are.
        label: of the volume. runs: clusters of the directory, as far as it was searched.
        entries: all of it that was searched, in pieces. ended: whether that was all.
    """

    bitmaps: list[Allocated]
    upcases: list[Allocated]
    label: str
    runs: list[Run]
    entries: list[npt.NDArray[np.uint8]]
    ended: bool


def read_root(
    view: VolumeView, boot: BootSector, most: int = SEARCH_MOST, past_end: bool = False
) -> Root:
    """Search the first ``most`` bytes of the root directory (section 6.2); ``boot`` is verified.

    Args:
        past_end: look at what follows the mark of its end too, since not every driver stops there.

    Raises:
        LayoutError: it cannot be read, or its clusters are not a chain.
    """
    clusters = max(1, min(boot.clusters, most // boot.cluster_size))
    runs: list[Run] = []
    found: list[npt.NDArray[np.uint8]] = []
    ended = False
    for run in Fat(view, boot).runs(boot.root_cluster, clusters):
        runs.append(run)
        ended |= _search(view, boot, run, most, found, past_end)
        if ended and not past_end:
            break
    check_disjoint(runs)
    return _root_of(found, runs, ended or sum(count for _, count in runs) < clusters)


def _search(
    view: VolumeView,
    boot: BootSector,
    run: Run,
    most: int,
    found: list[npt.NDArray[np.uint8]],
    past_end: bool,
) -> bool:
    """Gather the entries of a run of clusters; return whether the directory ends here."""
    ended = False
    start, length = boot.cluster_start(run[0]), run[1] * boot.cluster_size
    length = min(length, most)
    for at in range(0, length, _PIECE):
        piece = min(_PIECE, length - at)
        view.allow(piece)
        entries = view.read_array(start + at, piece).reshape(-1, ENTRY_BYTES)
        ends = np.flatnonzero(entries[:, 0] == ENTRY_END)
        ended |= len(ends) > 0
        found.append(entries[: ends[0]].copy() if len(ends) and not past_end else entries)
        if ended and not past_end:
            break
    return ended


def _of_kinds(entries: npt.NDArray[np.uint8]) -> list[bytes]:
    rows = entries[np.isin(entries[:, 0], _KINDS)]
    # Of these a volume has three or four. More are a mistake, which the first of them show as well.
    return [row.tobytes() for row in rows[:64]]


def _root_of(entries: list[npt.NDArray[np.uint8]], runs: list[Run], ended: bool) -> Root:
    found = [row for piece in entries for row in _of_kinds(piece)]
    bitmaps = [decode_allocated(row) for row in found if row[0] == ENTRY_BITMAP]
    upcases = [decode_allocated(row) for row in found if row[0] == ENTRY_UPCASE]
    labels = [decode_label(row) for row in found if row[0] == ENTRY_LABEL]
    return Root(bitmaps, upcases, labels[0] if labels else "", runs, entries, ended)

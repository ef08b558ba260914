"""Run lists: where the clusters of an attribute lie."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.volumes.filesystems.ntfs.records import Attribute
from aipimage.volumes.view import LayoutError

RUNS_MAX = 1 << 18
"""Runs of an attribute that are looked at."""
ClusterRuns = npt.NDArray[np.uint64]
"""Shape (n, 2): first cluster, and clusters."""


class Run(NamedTuple):
    """Clusters that follow each other.

    Attributes:
        vcn: of the first within its attribute. cluster: of the volume; -1 for a hole.
        length: clusters.
    """

    vcn: int
    cluster: int
    length: int


def decode_runs(attribute: Attribute, clusters: int, what: str) -> Iterator[Run]:
    """Read mapping pairs ("Data Runs") of a volume of ``clusters``.

    Raises:
        LayoutError: a run that is empty, begins before cluster 0 or ends behind the last one; no
            end mark; or another number of clusters than the header tells.
    """
    pairs, at, vcn, cluster = attribute.pairs, 0, attribute.first, 0
    end = attribute.last + 1
    while at < len(pairs) and pairs[at]:
        count_bytes, offset_bytes = pairs[at] & 15, pairs[at] >> 4
        middle = at + 1 + count_bytes
        stop = middle + offset_bytes
        if not 0 < count_bytes <= 8 or offset_bytes > 8 or stop > len(pairs):
            raise LayoutError(f"the run list of {what} runs out of its record")
        count = int.from_bytes(pairs[at + 1 : middle], "little", signed=True)
        if count <= 0 or vcn + count > end:
            raise LayoutError(f"the run list of {what} has a run of {count} clusters")
        if offset_bytes:
            cluster += int.from_bytes(pairs[middle:stop], "little", signed=True)
            if cluster < 0 or cluster + count > clusters:
                raise LayoutError(f"the run list of {what} leads out of the volume")
        yield Run(vcn, cluster if offset_bytes else -1, count)
        vcn, at = vcn + count, stop
    if at >= len(pairs) or vcn != end:
        raise LayoutError(f"the run list of {what} has {vcn} clusters where {end} are told")


def as_array(runs: Sequence[Run]) -> ClusterRuns:
    """The clusters of runs that are not holes."""
    rows = [(run.cluster, run.length) for run in runs if run.cluster >= 0]
    return np.array(rows, np.uint64).reshape(-1, 2)


def merged(runs: Sequence[ClusterRuns]) -> tuple[ClusterRuns, bool]:
    """Return all runs, ascending and joined, and whether any cluster was in two of them."""
    rows = np.concatenate(runs) if runs else np.empty((0, 2), np.uint64)
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    if not len(rows):
        return rows, False
    ends = np.maximum.accumulate(rows[:, 0] + rows[:, 1])
    heads = np.flatnonzero(np.append(True, rows[1:, 0] > ends[:-1]))
    tails = np.append(heads[1:] - 1, len(rows) - 1)
    first = rows[heads, 0]
    overlap = bool((rows[1:, 0] < ends[:-1]).any())
    return np.column_stack((first, ends[tails] - first)), overlap


def overlapping(a: ClusterRuns, b: ClusterRuns) -> bool:
    """Whether runs, each ascending and disjoint, have a cluster in common."""
    if not len(a) or not len(b):
        return False
    before = np.searchsorted(a[:, 0], b[:, 0] + b[:, 1], "left") - 1
    last = a[np.maximum(before, 0)]
    return bool(((before >= 0) & (last[:, 0] + last[:, 1] > b[:, 0])).any())


def clusters_of(
    runs: Sequence[Run], starts: Sequence[int], offset: int, length: int, cluster_size: int
) -> Iterator[tuple[int, int]]:
    """Yield (byte of the volume, or -1 for a hole; bytes) of a range of an attribute; it ends early
    where the runs do. ``starts``: the VCNs of the runs.
    """
    end = offset + length
    at = max(0, bisect_right(starts, offset // cluster_size) - 1)
    while offset < end and at < len(runs):
        vcn, cluster, count = runs[at]
        inside = offset - vcn * cluster_size
        piece = min(count * cluster_size - inside, end - offset)
        yield (-1 if cluster < 0 else cluster * cluster_size + inside), piece
        offset, at = offset + piece, at + 1

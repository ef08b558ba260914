"""Run lists: where the clusters of an attribute lie."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aipimage.ranges import no_ranges
from aipimage.volumes.filesystems.ntfs.records import Attribute
from aipimage.volumes.view import LayoutError

RUNS_MAX = 1 << 18
"""Runs of an attribute that are looked at."""
ClusterRuns = npt.NDArray[np.uint64]
"""Shape (n, 2): first cluster, and clusters; see also :mod:`aipimage.ranges`."""


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
        LayoutError: a run that is empty, begins before cluster 0 or ends past the last one; no
            end mark; or another number of clusters than the header says.
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
        raise LayoutError(f"the run list of {what} has {vcn} clusters, and its header says {end}")


def as_array(runs: Sequence[Run]) -> ClusterRuns:
    """The clusters of runs that are not holes."""
    rows = [(run.cluster, run.length) for run in runs if run.cluster >= 0]
    return np.array(rows, np.uint64).reshape(-1, 2)


def together(runs: Sequence[ClusterRuns]) -> ClusterRuns:
    """All runs in one array, as they come."""
    return np.concatenate([no_ranges(), *runs])


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

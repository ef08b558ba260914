"""What ``ntfsclone`` and ``ntfsinfo`` know of a volume, beside what we read of it.

``ntfsclone`` walks every file, compares the clusters that it saw with $Bitmap and refuses a volume
where they differ; the image that it writes tells exactly which clusters are in use.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from aipimage.io.blocks.sources import open_source
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.ntfs import PARSER
from aipimage.volumes.model import SAFE, Allocation, FileSystem, SurveyOptions
from aipimage.volumes.view import VolumeView
from tests.support.tools import run

Used = npt.NDArray[np.bool_]
_HEADER_BYTES, _GAP = 50, 0


def ntfsclone_used(volume: Path, scratch: Path) -> Used:
    """Which clusters are in use, from the commands of an image that ntfsclone writes."""
    image = scratch / "truth.ntfsclone"
    run(["ntfsclone", "--quiet", "--overwrite", image, "--save-image", volume])
    data = image.read_bytes()
    image.unlink()
    assert data[:16] == b"\0ntfsclone-image", data[:16]
    size = int.from_bytes(data[18:22], "little")
    count = int.from_bytes(data[30:38], "little")
    at = int.from_bytes(data[46:50], "little")
    used, cluster = np.zeros(count, np.bool_), 0
    while at < len(data):
        if data[at] == _GAP:
            cluster += int.from_bytes(data[at + 1 : at + 9], "little")
            at += 9
        else:
            # The last command is the copy of the boot sector, behind all clusters.
            if cluster < count:
                used[cluster] = True
            cluster, at = cluster + 1, at + 1 + size
    return used


def ntfsinfo_free(volume: Path) -> int:
    """How many clusters are free."""
    found = re.search(r"Free Clusters:\s+(\d+)", run(["ntfsinfo", "--mft", "--force", volume]))
    assert found is not None
    return int(found[1])


def partclone_used(volume: Path, scratch: Path) -> int:
    """How many clusters partclone calls used; it takes its time, whatever the size."""
    words = ["partclone.ntfs", "-c", "-F", "-L", scratch / "log", "-s", volume, "-O"]
    text = run([*words, scratch / "partclone"])
    found = re.search(r"Space in use:.*= (\d+) Blocks", text)
    assert found is not None, text
    return int(found[1])


def surveyed(
    volume: Path,
    offset: int = 0,
    size: int | None = None,
    leave_out_paging: bool = False,
    in_use: str = SAFE,
) -> tuple[FileSystem, Allocation]:
    """What the parser makes of a file; ``LayoutError`` where that is the whole volume."""
    source = open_source(volume)
    try:
        view = VolumeView(source, offset, source.size - offset if size is None else size)
        filesystem = PARSER.probe(view)
        assert filesystem is not None
        assert PARSER.allocation is not None
        return filesystem, PARSER.allocation(
            view, filesystem, SurveyOptions(leave_out_paging, in_use)
        )
    finally:
        source.close()


def used_of(allocation: Allocation) -> Used:
    """Which clusters a map calls in use."""
    there = allocation.free
    assert isinstance(there, ClusterMap)
    used = np.ones(there.count, np.bool_)
    for rows in there.ranges(0, there.size):
        for offset, length in rows.tolist():
            assert offset % there.cluster_size == length % there.cluster_size == 0
            used[offset // there.cluster_size : (offset + length) // there.cluster_size] = False
    return used


def compare(volume: Path, scratch: Path) -> Allocation:
    """Assert that our map of a volume is exactly ntfsclone's; return it."""
    filesystem, allocation = surveyed(volume)
    wanted, found = ntfsclone_used(volume, scratch), used_of(allocation)
    assert filesystem.size == volume.stat().st_size
    assert len(found) == len(wanted)
    assert not (wanted & ~found).any(), "clusters in use are called free"
    assert (wanted == found).all(), "free clusters are called in use"
    assert ntfsinfo_free(volume) == int((~found).sum())
    last = int(np.flatnonzero(found)[-1]) + 1
    end = filesystem.size if last == len(found) else last * filesystem.cluster_size
    assert allocation.used_end == end
    return allocation

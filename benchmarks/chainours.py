"""Ours on chains: what aipimage does, for a fresh process each through ``measure.call``.

As in ``ours.py``, ``measure.timed`` marks what counts; what was made is checked against the disk
outside of it.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

import measure
import numpy as np
import numpy.typing as npt
from ours import MISSING, imported, without
from states import CLUSTER, Offsets, Overlay

GENERATION = 7
"""Seed of which clusters the images of a chain change."""


def increment(
    path: str,
    source: str,
    parent: str,
    check: str,
    changed: str | None = None,
    compare: str = "auto",
) -> dict[str, Any]:
    """Make an incremental image, of the clusters listed in ``changed`` or by comparing.

    ``check`` lists clusters that are compared with the disk afterwards.
    """
    library = imported()
    if library is None:
        return MISSING
    ranges = None if changed is None else _ranges(np.fromfile(changed, np.uint64))
    without(path)
    with measure.timed():
        made = library.create(
            path,
            [source],
            compress="zstd:1",
            parent=parent,
            changed=ranges,
            compare=compare,
            include_free=True,
        )
    found = made.changes[0]
    if found.method != (compare if changed is None else "tracked"):
        return {"note": f"changes found by {found.method!r}: {found.reason}"}
    if note := _wrong(path, check, Overlay(source)):
        return {"note": note}
    return {"size": os.path.getsize(path), "changed": found.changed, "read": found.read}


def _ranges(offsets: Offsets) -> npt.NDArray[np.uint64]:
    """Return the ranges of clusters in bytes, as a change tracker gives them."""
    return np.column_stack((offsets, np.full(len(offsets), CLUSTER, np.uint64)))


def _wrong(path: str, check: str, disk: Overlay) -> str:
    """Return a note if an image of a disk has other data at one of the offsets in ``check``."""
    library, one, two = imported(), bytearray(CLUSTER), bytearray(CLUSTER)
    with library.open(path) as image:
        raw = image.devices[0].open()
        for place in np.fromfile(check, np.uint64).tolist():
            raw.readinto_at(one, place)
            disk.read_into(two, place)
            if one != two:
                return f"WRONG DATA at {place}"
    return ""


def build_chain(
    folder: str,
    full: str,
    source: str,
    pool: str,
    state: str,
    count: int,
    each: int,
    used: bool = False,
) -> dict[str, Any]:
    """Build ``count`` increments on a full image, each of ``each`` clusters out of a pool.

    With ``used`` they keep used clusters only, as the full image then does.

    The last state of the disk is written down in ``state``, for ``Overlay.load``. The values
    ``first`` and ``last`` are the median seconds of the first and of the last 20 increments.
    """
    library = imported()
    if library is None:
        return MISSING
    rng, clusters = np.random.default_rng(GENERATION), np.fromfile(pool, np.uint64)
    overlay, parent, size = Overlay(source), full, 0
    seconds: list[float] = []
    for generation in range(1, count + 1):
        offsets = np.sort(rng.choice(clusters, each, replace=False))
        overlay.change(offsets, generation)
        path = os.path.join(folder, f"{generation:04}.aiv")
        start = time.perf_counter()
        with measure.timed():
            made = library.create(
                path,
                [overlay],
                compress="zstd:1",
                parent=parent,
                changed=_ranges(offsets),
                include_free=not used,
            )
        seconds.append(time.perf_counter() - start)
        if made.changes[0].method != "tracked":
            return {"note": f"image {generation} was not tracked: {made.changes[0].reason}"}
        parent, size = path, size + os.path.getsize(path)
    overlay.save(state)
    ends = {"first": seconds[:20], "last": seconds[-20:]}
    return {"size": size, **{name: statistics.median(each) for name, each in ends.items()}}


def open_both(full: str, newest: str, place: int, count: int) -> dict[str, Any]:
    """Open a full image and the newest of its chain by turns, many times in this one process.

    For each there are the median seconds of opening, of opening with a first read of 4 KiB at
    ``place``, and how many times the files are read for either.
    """
    library = imported()
    if library is None:
        return MISSING
    paths = {"full": full, "newest": newest}
    seconds: dict[str, list[float]] = {}
    for name in list(paths) * count:
        start = time.perf_counter()
        with library.open(paths[name]) as image:
            opened = time.perf_counter()
            image.devices[0].open().readinto_at(bytearray(CLUSTER), place)
            seconds.setdefault(name, []).append(opened - start)
            seconds.setdefault(f"{name}, first read", []).append(time.perf_counter() - start)
    values: dict[str, Any] = {name: statistics.median(each) for name, each in seconds.items()}
    for name, path in paths.items():
        values[f"{name}: reads"] = _file_reads(path, place)
    return values


def _file_reads(path: str, place: int) -> list[int]:
    """Count the reads of files that opening takes, and those of opening and a first read."""
    from aipimage.io.system.storage import Storage, SystemCalls
    from aipimage.volumes.image import open_image

    class Counting(SystemCalls):
        """Real system calls; reads are counted."""

        reads = 0

        def preadv(self, descriptor: int, buffers: Sequence[memoryview], offset: int) -> int:
            self.reads += 1
            return super().preadv(descriptor, buffers, offset)

    calls = Counting()
    with open_image(path, storage=Storage(calls)) as image:
        opening = calls.reads
        image.devices[0].open().readinto_at(bytearray(CLUSTER), place)
        return [opening, calls.reads]


def merge(target: str, paths: list[str], source: str, state: str, check: str) -> dict[str, Any]:
    """Merge a run of images, and compare the outcome with the last state of the disk."""
    library = imported()
    if library is None or not hasattr(library, "merge"):
        return {"note": "aipimage.merge does not exist"}
    with measure.timed():
        library.merge(target, paths)
    disk = Overlay(source)
    disk.load(state)
    return {"size": os.path.getsize(target), "note": _wrong(target, check, disk)}

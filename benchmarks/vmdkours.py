"""Ours on virtual disks, and the limit of reading compressed ones; through ``measure.call``.

As in ``ours.py``, ``measure.timed`` marks what counts; what was made is checked outside of it.
"""

from __future__ import annotations

import importlib
import os
import struct
from collections.abc import Iterator
from typing import Any

import measure
import numpy as np
from limits import CLUSTER, PIECE, on_threads
from ours import MISSING, imported, without

SECTOR = 512
GRAIN = 64 * 1024
Grains = list[tuple[int, int]]
"""(place in the file, bytes) of compressed grains."""


def _vmdk() -> Any:
    """Import the package of virtual disks before any clock runs; None where there is none."""
    if imported() is None:
        return None
    try:
        package = importlib.import_module("aipimage.vmdk")
    except ImportError:
        return None
    return package if hasattr(package, "write") and hasattr(package, "open") else None


def write(target: str, image: str, subformat: str, level: str = "fast") -> dict[str, Any]:
    """Write the first disk of an image as a virtual disk, without an intermediate file."""
    library, vmdk = imported(), _vmdk()
    if vmdk is None:
        return MISSING
    without(target)
    with measure.timed(), library.open(image) as opened:
        vmdk.write(target, opened.devices[0], subformat=subformat, level=level)
    return {"size": os.path.getsize(target)}


def read(path: str, source: str) -> dict[str, Any]:
    """Create an image of used clusters at zstd level 1, of a virtual disk or of a raw file."""
    library, vmdk = imported(), _vmdk()
    if vmdk is None:
        return MISSING
    without(path)
    with measure.timed():
        opened = vmdk.open(source) if source.endswith(".vmdk") else library.open_source(source)
        try:
            library.create(path, [opened], compress="zstd:1")
        finally:
            opened.close()
    return {"size": os.path.getsize(path)}


def compare(path: str, image: str, check: str) -> dict[str, Any]:
    """Compare clusters of a virtual disk, listed in ``check``, with the image it was made of."""
    library, vmdk = imported(), _vmdk()
    if vmdk is None:
        return MISSING
    one, two = bytearray(CLUSTER), bytearray(CLUSTER)
    with vmdk.open(path) as disk, library.open(image) as opened:
        raw = opened.devices[0].open()
        for place in np.fromfile(check, np.uint64).tolist():
            disk.read_into(one, place)
            raw.readinto_at(two, place)
            if one != two:
                return {"note": f"WRONG DATA at {place}"}
    return {}


# --- the limit --------------------------------------------------------------------------------


def inflate(path: str, threads: int = 2) -> dict[str, Any]:
    """Limit of reading a streamOptimized disk: inflate its grains, and drop what they hold."""
    from isal import isal_zlib

    handle = os.open(path, os.O_RDONLY)
    runs = iter(list(_runs(_grains(handle))))

    def work(number: int) -> int:
        view, total = memoryview(bytearray(PIECE)), 0
        for run in runs:
            start, end = run[0][0], sum(run[-1])
            if os.preadv(handle, [view[: end - start]], start) != end - start:
                raise OSError(f"{path}: short read")
            for place, size in run:
                data = view[place - start : place - start + size]
                total += len(isal_zlib.decompress(data, bufsize=GRAIN))
        return total

    with measure.timed():
        total = on_threads(threads, work)
    os.close(handle)
    return {"bytes": total}


def _grains(handle: int) -> Iterator[tuple[int, int]]:
    """Walk the markers from the header on, up to the one that ends the stream."""
    (overhead,) = struct.unpack("<Q", os.pread(handle, 8, 64))
    place, end = overhead * SECTOR, os.fstat(handle).st_size
    while place < end:
        value, size, kind = struct.unpack("<QII", os.pread(handle, 16, place))
        if size:
            yield place + 12, size
            place += -(-(12 + size) // SECTOR) * SECTOR
        elif kind:
            place += (1 + value) * SECTOR
        else:
            return


def _runs(grains: Iterator[tuple[int, int]]) -> Iterator[Grains]:
    """Gather neighbours that one read of at most ``PIECE`` bytes gets."""
    run: Grains = []
    for place, size in grains:
        if run and place + size - run[0][0] > PIECE:
            yield run
            run = []
        run.append((place, size))
    if run:
        yield run

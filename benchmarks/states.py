"""Later states of a disk, without a second copy of it.

``rewritten`` changes clusters of the disk file itself and puts them back afterwards; what they held
is kept beside the disk meanwhile, so that ``put_back`` mends a disk whose run was killed.
``Overlay`` is a block source that shows some clusters changed; a chain of hundreds of images is
made of it. Whatever is written is random: it cannot be compressed, and tells one place and
generation from every other.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

CLUSTER = 4096
Offsets = npt.NDArray[np.uint64]
"""Byte offsets of clusters on a disk."""


def content(offset: int, generation: int) -> bytes:
    """Return what a cluster at a byte offset holds since a generation, which counts from 1."""
    return random.Random(offset << 16 | generation).randbytes(CLUSTER)


# --- changing the disk itself -----------------------------------------------------------------


@contextlib.contextmanager
def rewritten(disk: Path, offsets: Offsets) -> Iterator[None]:
    """Let clusters of a disk file hold other bytes for the length of a block.

    They are to hold data: where a hole was, zeros would be left.
    """
    info, undo = disk.stat(), _undo_file(disk)
    with disk.open("r+b", buffering=0) as file:
        kept = b"".join(os.pread(file.fileno(), CLUSTER, place) for place in offsets.tolist())
        partial = undo.with_name(undo.name + ".partial")
        partial.write_bytes(offsets.astype("<u8").tobytes() + kept)
        os.utime(partial, ns=(info.st_atime_ns, info.st_mtime_ns))
        partial.replace(undo)
        try:
            write_changed(file.fileno(), offsets)
            yield
        finally:
            put_back(disk)


def write_changed(handle: int, offsets: Offsets) -> None:
    """Write the first generation of changed clusters into an open disk file."""
    for place in offsets.tolist():
        os.pwrite(handle, content(place, 1), place)


def put_back(disk: Path) -> None:
    """Undo what ``rewritten`` did to a disk file, if anything is left to undo."""
    undo = _undo_file(disk)
    if not undo.exists():
        return
    kept, mtime = undo.read_bytes(), undo.stat().st_mtime_ns
    count = len(kept) // (8 + CLUSTER)
    with disk.open("r+b", buffering=0) as file:
        for number, place in enumerate(np.frombuffer(kept, "<u8", count).tolist()):
            start = 8 * count + number * CLUSTER
            os.pwrite(file.fileno(), kept[start : start + CLUSTER], place)
        file.flush()
        os.fsync(file.fileno())
    os.utime(disk, ns=(mtime, mtime))
    undo.unlink()


def _undo_file(disk: Path) -> Path:
    return disk.with_name(disk.name + ".undo")


# --- showing a disk changed -------------------------------------------------------------------


class Overlay:
    """A block source (see ``aipimage.BlockSource``): a file in which some clusters differ."""

    sector_size = 512

    def __init__(self, disk: str) -> None:
        self.name = disk
        self._file = os.open(disk, os.O_RDONLY)
        self.size = os.fstat(self._file).st_size
        self._changed: dict[int, int] = {}
        """The generation of each changed cluster, by its number."""

    def change(self, offsets: Offsets, generation: int) -> None:
        """Let clusters hold the content of a generation from now on."""
        self._changed.update(dict.fromkeys((offsets // CLUSTER).tolist(), generation))

    def read_into(self, buffer: Any, offset: int) -> None:
        """Fill all of ``buffer`` from ``offset``."""
        view = memoryview(buffer)
        end = offset + view.nbytes
        if os.preadv(self._file, [view], offset) != view.nbytes:
            raise OSError(f"{self.name}: short read")
        for cluster in range(offset // CLUSTER, -(-end // CLUSTER)):
            if generation := self._changed.get(cluster):
                place = cluster * CLUSTER
                low, high = max(place, offset), min(place + CLUSTER, end)
                data = content(place, generation)
                view[low - offset : high - offset] = data[low - place : high - place]

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield the whole range: with the ranges of a tracker nobody asks for holes."""
        yield start, min(end, self.size) - start

    def fingerprint(self) -> dict[str, int | str]:
        """Return the size alone: nothing is resumed here."""
        return {"kind": "overlay", "size": self.size}

    def close(self) -> None:
        """Close the file beneath; a second call does nothing."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    # What was changed, from process to process

    def save(self, path: str) -> None:
        """Write down which clusters are changed since when."""
        np.save(path, np.array(list(self._changed.items()), np.uint64).reshape(-1, 2))

    def load(self, path: str) -> None:
        """Show the clusters changed that ``save`` has written down."""
        rows = np.load(path)
        self._changed.update(zip(rows[:, 0].tolist(), rows[:, 1].tolist(), strict=True))

"""Block sources for tests: sparse ones of any size, and ones with bad sectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from aipimage.io.blocks.sources import UnreadableRangeError
from aipimage.volumes.view import VolumeView

if TYPE_CHECKING:
    from typing_extensions import Buffer


class SparseSource:
    """A source of ``size`` bytes that is zero but for some pieces, without taking any space.

    Args:
        pieces: bytes by their offset; must not overlap.
        bad: (offset, length) that cannot be read.
    """

    sector_size = 512

    def __init__(
        self,
        size: int,
        pieces: dict[int, bytes],
        bad: tuple[tuple[int, int], ...] = (),
        name: str = "sparse",
    ) -> None:
        self.name, self.size, self.bad = name, size, bad
        self.pieces = dict(sorted(pieces.items()))
        self.bytes_read = 0

    def read_into(self, buffer: Buffer, offset: int) -> None:
        view = memoryview(buffer).cast("B")
        end = offset + view.nbytes
        for start, length in self.bad:
            if start < end and start + length > offset:
                raise UnreadableRangeError(f"{self.name}: bad sectors", offset, view.nbytes)
        view[:] = bytes(view.nbytes)
        self.bytes_read += view.nbytes
        for start, data in self.pieces.items():
            low, high = max(start, offset), min(start + len(data), end)
            if low < high:
                view[low - offset : high - offset] = data[low - start : high - start]

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        ranges = [(at, len(data)) for at, data in self.pieces.items()]
        for at, length in sorted([*ranges, *self.bad]):
            low, high = max(at, start), min(at + length, end)
            if low < high:
                yield low, high - low
                start = high

    def fingerprint(self) -> dict[str, int | str]:
        return {"kind": "sparse", "size": self.size}

    def close(self) -> None:
        """Nothing to give up."""

    def content(self, offset: int, length: int) -> bytes:
        """What reads there, with zeros for bad sectors."""
        good, self.bad = self.bad, ()
        data = bytearray(length)
        self.read_into(data, offset)
        self.bad = good
        for start, bad_length in good:
            low, high = max(start, offset), min(start + bad_length, offset + length)
            if low < high:
                data[low - offset : high - offset] = bytes(high - low)
        return bytes(data)


def view_of(data: bytes, size: int | None = None) -> VolumeView:
    """A volume of ``size`` bytes that begins with ``data``; by default that is all of it."""
    size = len(data) if size is None else size
    return VolumeView(SparseSource(size, {0: data}), 0, size)

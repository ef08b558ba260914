"""Chains on a disk in memory: sources that change, and what every image of a chain must satisfy."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from aipimage.extents import SECTOR, Kind
from aipimage.format import constants as c
from aipimage.format.digest import digest
from aipimage.io.blocks.sources import UnreadableRangeError
from aipimage.io.creating.results import CreateResult
from aipimage.io.increment.create import create_image
from aipimage.io.index.digests import DigestView
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.image import Image, open_image
from tests.support.images import options
from tests.support.memory import ROOT


def at(name: str) -> str:
    """The path of a file on the disk in memory."""
    return f"{ROOT}/{name}"


class Disk:
    """A block source over bytes that a test changes; ``bad`` sectors cannot be read.

    Attributes:
        mark: counts changes, as the time of a file does. reads: (offset, length) of each read.
        holes: whether it tells which aligned 4 KiB are zeros, as a sparse file does.
    """

    sector_size = 512

    def __init__(self, data: bytes, name: str = "sda", holes: bool = False) -> None:
        self.name, self.data, self.holes = name, bytearray(data), holes
        self.mark = 0
        self.bad: list[tuple[int, int]] = []
        self.reads: list[tuple[int, int]] = []
        self.on_read: Any = None

    @property
    def size(self) -> int:
        """Bytes now."""
        return len(self.data)

    def write(self, offset: int, data: bytes) -> None:
        """Change bytes, within the disk."""
        assert offset + len(data) <= self.size
        self.data[offset : offset + len(data)] = data
        self.mark += 1

    def resize(self, size: int) -> None:
        """Cut the end off, or add zeros."""
        del self.data[size:]
        self.data.extend(bytes(size - self.size))
        self.mark += 1

    def read_into(self, buffer: Any, offset: int) -> None:
        """Fill ``buffer``."""
        if self.on_read is not None:
            self.on_read(offset)
        view = memoryview(buffer).cast("B")
        assert 0 <= offset <= offset + view.nbytes <= self.size
        self.reads.append((offset, view.nbytes))
        for start, length in self.bad:
            if start < offset + view.nbytes and start + length > offset:
                raise UnreadableRangeError(f"{self.name}: bad", offset, view.nbytes)
        view[:] = memoryview(self.data)[offset : offset + view.nbytes]

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """All of it, or what is not in holes."""
        end = min(end, self.size)
        if not self.holes:
            if start < end:
                yield start, end - start
            return
        for low in range(start - start % 4096, end, 4096):
            if any(self.data[low : low + 4096]):
                first = max(low, start)
                yield first, min(low + 4096, end) - first

    def fingerprint(self) -> dict[str, int | str]:
        """Size and mark."""
        return {"kind": "disk", "size": self.size, "mark": self.mark}

    def close(self) -> None:
        """Nothing."""

    def content(self) -> bytes:
        """All bytes, zeros where they cannot be read."""
        data = bytearray(self.data)
        for start, length in self.bad:
            stop = min(start + length, len(data))
            data[start:stop] = bytes(max(0, stop - start))
        return bytes(data)


def make(
    system: SystemCalls,
    name: str,
    disks: Sequence[Any],
    parent: str | None = None,
    protected: str = "plain",
    **changes: Any,
) -> CreateResult:
    """Make an image; ``parent`` is the name of its file, or "" for the directory."""
    if parent is not None:
        changes["parent"] = at(parent) if parent else ROOT
    chosen = options(protected, **changes)
    return create_image(at(name), list(disks), chosen, None, Storage(system))


def opened(system: SystemCalls, name: str, password: str | None = None, **more: Any) -> Image:
    """Open an image of the disk in memory."""
    return open_image(at(name), password, storage=Storage(system), **more)


def check(
    system: SystemCalls,
    name: str,
    contents: Sequence[bytes],
    password: str | None = None,
    bad: Sequence[tuple[int, int]] = (),
    verify: bool = True,
) -> None:
    """The image is bit-exact: reads, extents, counts, block digests and a full verification agree.

    Args:
        bad: (offset, length) of the first device that must be marked as unreadable, and no others.
    """
    with opened(system, name, password) as image:
        assert [device.size for device in image.devices] == [len(each) for each in contents]
        for device, content in zip(image.devices, contents, strict=True):
            assert device.open().readall() == content, f"{name}: other content"
            check_extents(device, content)
            check_digests(image, device.index, content)
        told = [(e.start, e.length) for e in image.extents(0, Kind.UNREADABLE)]
        assert told == list(bad)
        if verify:
            found = image.verify(threads=1)
            assert found.ok, found.damage


def check_extents(device: Any, content: bytes) -> None:
    """Extents follow each other, say zero only of zeros, and the seal counts them right."""
    position, counts = 0, dict.fromkeys(Kind, 0)
    for extent in device.extents():
        assert extent.start == position
        position += extent.length
        counts[extent.kind] += -(-extent.length // SECTOR) * SECTOR
        if extent.kind != Kind.DATA:
            assert not any(content[extent.start : position])
    assert position == len(content)
    for kind in (Kind.UNUSED, Kind.ZERO, Kind.DATA, Kind.UNREADABLE, Kind.LOST):
        assert device.bytes_of(kind) == counts[kind], kind


def check_digests(image: Image, device: int, content: bytes) -> None:
    """The block digests are those of what is read, as section 8 wants it."""
    if not image.header.compatible & c.Compatible.BLOCK_DIGESTS:
        return
    root, blocks = image.seal.devices[device].digest_root, -(-len(content) // c.BLOCK)
    view = DigestView(image.records, root, blocks, image.header.stripe_shift)
    found = view.read(0, blocks).tobytes()
    wanted = b"".join(_digest(content[at : at + c.BLOCK]) for at in range(0, blocks << 16, 1 << 16))
    wrong = [n for n in range(blocks) if found[16 * n : 16 * n + 16] != wanted[16 * n :][:16]]
    assert not wrong, f"digests of blocks {wrong} are stale"


def _digest(block: bytes) -> bytes:
    padded = block + bytes(c.BLOCK - len(block))
    return digest(padded)[: c.BLOCK_DIGEST] if any(block) else bytes(c.BLOCK_DIGEST)


def scattered(size: int, count: int, seed: int = 0) -> bytearray:
    """Zeros with some pieces of random length, half of them compressible."""
    chance, data = random.Random(seed), bytearray(size)
    for _ in range(count):
        change(data, chance)
    return data


def change(data: bytearray, chance: random.Random) -> tuple[int, int]:
    """Change a random piece of some bytes in place; return where."""
    length = min(len(data), chance.choice((1, 100, 512, 4096, 5000, 20_000)))
    start = chance.randrange(len(data) - length + 1)
    kind = chance.randrange(3)
    new = (chance.randbytes(length), b"ab" * length, bytes(length))[kind][:length]
    data[start : start + length] = new
    return start, length

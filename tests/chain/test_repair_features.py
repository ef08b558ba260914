"""Repairing an image of a later version: what is not known here is not claimed to be rebuilt."""

from __future__ import annotations

import struct
from pathlib import Path

import aipimage
from aipimage.format.constants import Compatible
from tests.chain.damaged import check, repaired
from tests.vectors.writer import Recipe, Writer

DISK = bytes(range(256)) * 1024
LATER = 1 << 40 | 1 << 63
"""Compatible feature bits that no version has given a meaning."""


def of_a_later_version() -> bytes:
    """An image with block digests and features that a reader may do without."""

    def change(core: bytes) -> bytes:
        (known,) = struct.unpack_from("<Q", core, 24)
        return core[:24] + struct.pack("<Q", known | LATER) + core[32:]

    recipe = Recipe([DISK], digests=True, zstd=True, frame_shift=16, changes={"core": change})
    return Writer(recipe).write()


def test_it_is_read(tmp_path: Path) -> None:
    """Compatible features that are not known do not matter to a reader (class 10)."""
    path = tmp_path / "later.aiv"
    path.write_bytes(of_a_later_version())
    with aipimage.open(path) as image:
        assert image.header.compatible & LATER == LATER
        assert image.verify().ok
        assert image.devices[0].open().read() == DISK


def test_what_is_not_known_is_not_claimed(tmp_path: Path) -> None:
    """Whole or damaged: the repaired image says the features that it has, and no other."""
    whole = of_a_later_version()
    for damage in (None, len(whole) // 2):
        data = bytearray(whole)
        if damage is not None:
            data[damage] ^= 1
        result = repaired(tmp_path, bytes(data))
        check(result, [DISK])
        with aipimage.open(result.path) as image:
            assert not image.header.compatible & LATER
            known = Compatible.BLOCK_DIGESTS | Compatible.CHECKPOINTS
            assert not image.header.compatible & ~int(known)

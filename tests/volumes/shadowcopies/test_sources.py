"""Shadow copies as block sources, block by block against libvshadow."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest

from aipimage.volumes.shadowcopies import descriptors
from aipimage.volumes.shadowcopies.copies import read_shadow_copies
from aipimage.volumes.view import LayoutError, VolumeView
from tests.support.sources import SparseSource
from tests.volumes.shadowcopies.built import (
    BLOCK,
    FORWARDER,
    HEADER_AT,
    NOT_USED,
    OVERLAY,
    Copy,
    head,
    put,
    volume_header,
)

BLOCKS = 96
DATA = 40
"""The blocks before this one are data, the others are for stores."""
NONE = bytes(BLOCKS // 8)


def volume(*copies: Copy, seed: int = 1) -> bytearray:
    """A volume of random bytes with copies whose structures begin at its block 60."""
    data = bytearray(random.Random(seed).randbytes(BLOCKS * BLOCK))
    # What libvshadow looks at to learn the size of the volume.
    boot = b"\xeb\x52\x90NTFS    " + struct.pack("<HB", 512, 8)
    boot = boot.ljust(40, b"\0") + struct.pack("<Q", BLOCKS * BLOCK // 512 - 1)
    boot = boot.ljust(64, b"\0") + b"\xf6\0\0\0\xf4"
    data[:512] = data[-512:] = boot.ljust(510, b"\0") + b"\x55\xaa"
    put(data, iter(range(60 * BLOCK, BLOCKS * BLOCK, BLOCK)), list(copies))
    return data


def sources(data: bytes) -> list[bytes]:
    """The content of each copy, the oldest first."""
    source = SparseSource(len(data), {0: bytes(data)})
    found = read_shadow_copies(VolumeView(source, 0, len(data)))
    assert found is not None
    contents = []
    for copy in found.copies:
        content = bytearray(copy.size)
        copy.source.read_into(content, 0)
        contents.append(bytes(content))
    return contents


def by_libvshadow(data: bytes) -> list[bytes]:
    """The same as libvshadow reads it."""
    pyvshadow = pytest.importorskip("pyvshadow")
    opened = pyvshadow.volume()
    opened.open_file_object(io.BytesIO(bytes(data)))
    contents = []
    for number in range(opened.get_number_of_stores()):
        store = opened.get_store(number)
        contents.append(
            b"".join(store.read_buffer_at_offset(BLOCK, at * BLOCK) for at in range(BLOCKS))
        )
    opened.close()
    return contents


def kept(block: int, place: int, flags: int = 0, bits: int = 0) -> tuple[int, int, int, int, int]:
    """A descriptor in numbers of blocks; of a forwarder ``place`` is that to which it leads."""
    if flags & FORWARDER:
        return block * BLOCK, place * BLOCK, 0, flags, 0
    return block * BLOCK, (place - DATA) * BLOCK, place * BLOCK, flags, bits


def block(data: bytes, number: int) -> bytes:
    return bytes(data[number * BLOCK : (number + 1) * BLOCK])


def test_a_block_is_that_of_the_copy_or_of_a_newer_one_or_of_the_volume() -> None:
    data = volume(Copy([kept(3, 40)], NONE), Copy([kept(3, 41), kept(4, 42)], NONE))
    old, new = sources(data)
    assert [block(old, at) for at in (3, 4, 5)] == [block(data, at) for at in (40, 42, 5)]
    assert [block(new, at) for at in (3, 4, 5)] == [block(data, at) for at in (41, 42, 5)]
    assert by_libvshadow(data) == [old, new]


def test_the_last_of_two_descriptors_counts_and_those_not_used_do_not() -> None:
    data = volume(Copy([kept(3, 40), kept(3, 41), kept(5, 42, NOT_USED)], NONE))
    (found,) = sources(data)
    assert [block(found, at) for at in (3, 5)] == [block(data, at) for at in (41, 5)]
    assert by_libvshadow(data) == [found]


def test_an_overlay_has_some_sectors_of_the_newest_copy_alone() -> None:
    rows = [kept(3, 40), kept(3, 41, OVERLAY, 0b101), kept(3, 42, OVERLAY, 1 << 31)]
    data = volume(Copy(rows, NONE), Copy([], NONE))
    old, _ = sources(data)
    wanted = bytearray(block(data, 40))
    for sector in (0, 2, 31):
        wanted[sector * 512 : sector * 512 + 512] = block(data, 41)[sector * 512 :][:512]
    assert block(old, 3) == wanted
    assert by_libvshadow(data)[0] == old


def test_a_forwarder_leads_to_another_block_of_the_next_newer_copy() -> None:
    data = volume(Copy([kept(3, 7, FORWARDER)], NONE), Copy([kept(7, 41)], NONE))
    old, _ = sources(data)
    assert block(old, 3) == block(data, 41)
    assert by_libvshadow(data)[0] == old


def test_a_copy_after_a_forwarder_is_renamed() -> None:
    """What is kept of the block to which a copy was led is the copy itself, overwritten."""
    data = volume(Copy([kept(3, 7, FORWARDER), kept(7, 41)], NONE))
    (found,) = sources(data)
    assert [block(found, at) for at in (3, 7)] == [block(data, at) for at in (41, 7)]
    assert by_libvshadow(data) == [found]


def test_what_the_newest_copy_does_not_use_is_zero() -> None:
    bits = bytearray(NONE)
    bits[1] = 0b110
    before = bytearray(NONE)
    before[1] = 0b100
    for copy, zeros in (
        (Copy([kept(9, 40)], bytes(bits)), [10]),
        (Copy([], bytes(bits)), [9, 10]),
        (Copy([], bytes(bits), bytes(before)), [10]),
    ):
        data = volume(copy)
        (found,) = sources(data)
        assert [at for at in range(DATA) if not any(block(found, at))] == zeros
        assert by_libvshadow(data) == [found]


def test_small_reads_are_parts_of_large_ones() -> None:
    data = volume(
        Copy([kept(3, 40, OVERLAY, 0xF0F0), kept(5, 44)], NONE), Copy([kept(4, 42)], NONE)
    )
    source = SparseSource(len(data), {0: bytes(data)})
    copies = read_shadow_copies(VolumeView(source, 0, len(data)))
    assert copies is not None
    whole = sources(data)[0]
    chance = random.Random(3)
    for _ in range(200):
        at, length = chance.randrange(2 * BLOCK, 7 * BLOCK), chance.randrange(3 * BLOCK)
        part = bytearray(length)
        copies.copies[0].source.read_into(part, at)
        assert part == whole[at : at + length]


@pytest.mark.parametrize("seed", range(60))
def test_chains_of_copies_by_chance(seed: int) -> None:
    """Plain blocks and blocks not used, in many copies, as libvshadow reads them."""
    chance = random.Random(seed)
    copies = []
    for _ in range(chance.randrange(1, 6)):
        rows = [
            kept(chance.randrange(1, DATA), chance.randrange(DATA, 60), chance.choice((0, 0, 0, 4)))
            for _ in range(chance.randrange(30))
        ]
        unused = bytes(chance.randrange(256) for _ in range(BLOCKS // 8))
        before = bytes(chance.randrange(256) for _ in range(BLOCKS // 8))
        copies.append(Copy(rows, unused, chance.choice((None, before))))
    data = volume(*copies, seed=seed)
    assert sources(data) == by_libvshadow(data)


def refused(data: bytes) -> str:
    """Why copies are not understood."""
    with pytest.raises(LayoutError) as caught:
        needed(data)
    return str(caught.value)


def needed(data: bytes) -> set[int]:
    """The blocks that the copies of a volume need."""
    source = SparseSource(len(data), {0: bytes(data)})
    found = read_shadow_copies(VolumeView(source, 0, len(data)))
    assert found is not None
    rows = np.concatenate(list(found.needed())) // np.uint64(BLOCK)
    return {at for first, count in rows.tolist() for at in range(first, first + count)}


def test_copies_that_make_no_sense() -> None:
    far = (3 * BLOCK, 0, BLOCKS * BLOCK, 0, 0)
    for rows, why in (
        ([far], "outside of the volume"),
        ([(1 << 63, 0, BLOCK, 0, 0)], "outside of the volume"),
        ([(512, 0, BLOCK, 0, 0)], "outside of the volume"),
        ([(BLOCK, 512, 0, FORWARDER, 0)], "leads into another one"),
        ([kept(3, 40, OVERLAY | FORWARDER)], "leads elsewhere and is kept too"),
        ([kept(3, 40, 0x100)], "unknown flags"),
    ):
        assert why in refused(volume(Copy(rows, NONE)))
    assert "larger than its volume" in refused(volume(Copy([], NONE, size=BLOCKS * BLOCK + 1)))
    ranges = [(BLOCK, 0, BLOCKS * BLOCK)]
    assert "store of one of them lies outside" in refused(volume(Copy([], NONE, ranges=ranges)))


def test_headers_that_make_no_sense() -> None:
    for header, why in (
        (volume_header(60 * BLOCK, storage=b"\x33" * 16), "on another volume"),
        (volume_header(60 * BLOCK, version=3), "unknown version"),
        (volume_header(60 * BLOCK, kind=2), "unknown version"),
        (volume_header(1 << 60), "wanted of a volume"),
        (volume_header(BLOCK), "not of the kind that is wanted"),
    ):
        data = volume(Copy([], NONE))
        data[HEADER_AT : HEADER_AT + 512] = header
        assert why in refused(data)


def test_catalogues_that_make_no_sense() -> None:
    data = volume(Copy([kept(3, 40)], NONE))
    catalogue = int.from_bytes(data[HEADER_AT + 48 : HEADER_AT + 56], "little")
    entries = catalogue + 128
    for at, value, why in (
        (catalogue, head(2, catalogue, catalogue), "does not end"),
        (catalogue, head(2, catalogue + BLOCK), "that of another place"),
        (catalogue, head(2, catalogue, version=9), "not of the kind"),
        (entries, (4).to_bytes(8, "little"), "an entry of the kind 4"),
        (entries, (1).to_bytes(8, "little"), "does not say where"),
        (entries + 256, bytes(data[entries : entries + 128]), "twice"),
        (entries + 48, b"\xff" * 8, "impossible time"),
        (entries + 128 + 8, (59 * BLOCK).to_bytes(8, "little"), "not of the kind"),
    ):
        changed = bytearray(data)
        changed[at : at + len(value)] = value
        assert why in refused(changed)
    data[entries : entries + 256] = bytes(256)
    source = SparseSource(len(data), {0: bytes(data)})
    assert read_shadow_copies(VolumeView(source, 0, len(data))) is None


def test_very_many_blocks_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descriptors, "DESCRIPTORS_MAX", 5)
    rows = [kept(at, 40) for at in range(1, 8)]
    assert "more than 5 blocks" in refused(volume(Copy(rows, NONE)))


def test_what_copies_need() -> None:
    """All blocks that a bitmap does not call unused, those that are kept, and the structures."""
    unused = bytearray(b"\xff" * (BLOCKS // 8))
    unused[1] = 0b1111_0011
    data = volume(
        Copy([kept(3, 40), kept(4, 6, FORWARDER)], bytes(unused), ranges=[(58 * BLOCK, 0, BLOCK)])
    )
    assert needed(data) == {3, 4, 6, 10, 11, 40, 58, *range(60, 65)}

"""Tests of the contracts that an embedder's own classes keep; they need no test framework.

Each function raises ``AssertionError`` with what is wrong, or returns nothing::

    from aipimage import testing

    testing.check_opener(MyBucket("backups"), {"disk.aiv": expected_bytes})
    testing.check_source(lambda: MySource("vm-7"), expected_bytes)
    testing.check_sink(lambda size: MySink(size), read_back)
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

from aipimage.io.blocks.checkedsource import SECTOR_SIZES, CheckedSource
from aipimage.io.blocks.sources import BlockSource
from aipimage.io.system.openers import FileAccess, Opener, RandomAccess

__all__ = ["check_opener", "check_sink", "check_source"]

_THREADS = 6
_READS = 50
_BLOCK = 65_536


def check_opener(opener: Opener, expected: Mapping[str, bytes]) -> None:
    """Check an :class:`aipimage.Opener` that has at least the names of ``expected``, with these
    contents: names, missing names, reads at any place and after the end, several at once.
    """
    assert isinstance(opener, Opener), "it lacks open(name) or names()"
    names = list(opener.names())
    assert all(isinstance(name, str) for name in names), (
        "names() returns something that is not a text"
    )
    for name in expected:
        assert name in names, f"names() does not return {name!r}"
    try:
        opener.open("there is no such name.aiv")
    except FileNotFoundError:
        pass
    else:
        raise AssertionError("opening a name that is not there does not raise FileNotFoundError")
    for name, content in expected.items():
        first, second = _access(opener, name), _access(opener, name)
        _check_access(first, content, name)
        first.close()
        _read_at_once(second, content, name)
        second.close()


def _access(opener: Opener, name: str) -> RandomAccess:
    opened: Any = opener.open(name)
    return opened if hasattr(opened, "readinto_at") else FileAccess(opened)


def _check_access(access: RandomAccess, content: bytes, name: str) -> None:
    assert access.size == len(content), f"{name}: size is {access.size}, not {len(content)}"
    for offset, length in _places(len(content)):
        buffer = bytearray(length)
        got = access.readinto_at(memoryview(buffer), offset)
        wanted = content[offset : offset + length]
        where = f"{name}: {length} bytes at offset {offset}"
        assert isinstance(got, int), f"{where}: readinto_at returns {got!r}"
        assert 0 <= got <= length, f"{where}: readinto_at says {got}"
        assert got or not wanted, f"{where}: nothing was read before the end"
        assert buffer[:got] == wanted[:got], f"{where}: other bytes"


def _places(size: int) -> list[tuple[int, int]]:
    """Ranges to read: the edges, after the end, and some in between."""
    chance = random.Random(size)
    found = [(0, 1), (0, _BLOCK), (max(0, size - 1), 1), (max(0, size - 1), 100), (size, 10)]
    found += [(size + 1000, 10), (0, 0)]
    return found + [
        (chance.randrange(size + 1), chance.randrange(1, 2 * _BLOCK)) for _ in range(_READS)
    ]


def _read_at_once(access: RandomAccess, content: bytes, name: str) -> None:
    _in_threads(lambda: _check_access(access, content, name))


def _in_threads(work: Callable[[], None]) -> None:
    """Do work in several threads at once; the first failure is raised."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(_THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def check_source(make: Callable[[], BlockSource], expected: bytes) -> None:
    """Check a :class:`aipimage.BlockSource` with this content: attributes, reads of any size and
    place by several threads, data ranges, fingerprint, closing twice.
    """
    source = make()
    assert isinstance(source, BlockSource), "members of aipimage.BlockSource are missing"
    assert source.sector_size in SECTOR_SIZES, f"its sector_size is {source.sector_size}"
    assert source.size == len(expected), f"its size is {source.size}, not {len(expected)}"
    # Raises SourceError, which says what is wrong, where an answer is against the contract.
    checked = CheckedSource(source)
    _check_ranges(checked, expected)
    _in_threads(lambda: _check_reads(checked, expected))
    again = make()
    assert source.fingerprint() == again.fingerprint(), "its fingerprint changes by itself"
    for each in (source, again):
        each.close()
        each.close()


def _check_reads(source: CheckedSource, expected: bytes) -> None:
    for offset, length in _places(len(expected)):
        wanted = expected[offset : offset + length]
        buffer = bytearray(b"\xa5" * len(wanted))
        if wanted:
            source.read_into(buffer, offset)
        assert buffer == wanted, f"{len(wanted)} bytes at offset {offset} are others"


def _check_ranges(source: CheckedSource, expected: bytes) -> None:
    size = len(expected)
    middle = size // 2
    for start, end in ((0, size), (middle, size), (0, middle), (middle, middle), (1, size)):
        at = start
        for offset, length in (*source.data_ranges(start, end), (end, 0)):
            gap = expected[at:offset]
            assert not any(gap), f"data_ranges({start}, {end}) leaves out data from byte {at} on"
            at = offset + length


def check_sink(make: Callable[[int], Any], read_back: Callable[[], bytes]) -> None:
    """Check a block sink: written, zeroed and discarded ranges, in any order, and its end.

    Args:
        make: opens a new sink of so many bytes, with ``writev(buffers, offset)``,
            ``zero(offset, length)``, ``discard(offset, length)``, ``finish()`` and ``abort()``.
        read_back: the bytes of what the last sink wrote, after ``finish``.
    """
    size = 5 * _BLOCK + 512
    data = os.urandom(size)
    sink = make(size)
    sink.writev([data[_BLOCK : _BLOCK + 100], data[_BLOCK + 100 : 2 * _BLOCK]], _BLOCK)
    sink.writev([data[:_BLOCK]], 0)
    sink.zero(2 * _BLOCK, _BLOCK)
    sink.writev([data[4 * _BLOCK :]], 4 * _BLOCK)
    sink.discard(3 * _BLOCK, _BLOCK)
    sink.finish()
    found = read_back()
    assert len(found) >= size, f"it has {len(found)} bytes, not {size}"
    assert found[: 2 * _BLOCK] == data[: 2 * _BLOCK], "what was written is not there"
    assert not any(found[2 * _BLOCK : 3 * _BLOCK]), "what was zeroed does not read as zeros"
    assert found[4 * _BLOCK : size] == data[4 * _BLOCK :], "the end is not there"
    make(size).abort()

"""Buffers that are used again."""

from __future__ import annotations

from aipimage.io.system import buffers
from aipimage.io.system.buffers import Buffers, thread_buffer

MIB = 1 << 20


def test_a_buffer_comes_back() -> None:
    """The smallest that fits, and none that is far too large."""
    pool = Buffers()
    small, large = pool.take(MIB), pool.take(3 * MIB)
    assert len(small) >= MIB
    assert len(large) >= 3 * MIB
    assert pool.take(MIB) is not small
    pool.give(large)
    pool.give(small)
    assert pool.take(MIB - 1000) is small
    assert pool.take(MIB // 2) is not large
    assert pool.take(2 * MIB) is large
    assert pool.take(2 * MIB) is not large


def test_small_buffers_are_not_kept() -> None:
    """The allocator is good at them, and a search among thousands is not."""
    pool = Buffers()
    buffer = pool.take(5000)
    assert len(buffer) == 5000
    pool.give(buffer)
    assert pool.take(5000) is not buffer
    assert len(pool.take(0)) == 0


def test_what_nobody_uses_is_bounded() -> None:
    """The oldest goes first."""
    pool = Buffers()
    taken = [pool.take(8 * MIB) for _ in range(12)]
    for buffer in taken:
        pool.give(buffer)
    again = [pool.take(8 * MIB) for _ in range(12)]
    kept = buffers._KEPT // (8 * MIB)
    assert sum(any(new is old for old in taken) for new in again) == kept
    assert any(new is taken[-1] for new in again)
    assert not any(new is taken[0] for new in again)


def test_a_thread_keeps_its_buffer() -> None:
    """Until it asks for a larger one."""
    first = thread_buffer("test", 1000)
    first[:3] = b"abc"
    assert thread_buffer("test", 500)[:3] == b"abc"
    assert len(thread_buffer("test", 500)) == 500
    assert thread_buffer("test", 2000)[:3] == bytes(3)

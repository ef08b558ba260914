"""Hostile class 61: a buffer is freed or resized while C works on it.

C runs without the GIL, so another thread can try to shrink the ``bytearray`` that C reads. The
wrappers hold the buffer's export until C is done; the other thread gets BufferError.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from aipimage import _core

SIZE = 4096
EXTENTS = [(0, 512), (1024, 512)]

# One call of every wrapper, given two buffers that someone tries to resize.
CALLS: dict[str, Callable[[bytearray, bytearray], object]] = {
    "aip_is_zero": lambda a, _: _core.is_zero(a),
    "aip_nonzero_bitmap": lambda a, _: _core.nonzero_bitmap(a, 512),
    "aip_nonzero_extents": lambda a, _: _core.nonzero_extents(a, 512),
    "aip_bitmap_combine": lambda a, b: _core.bitmap_and(a, b, SIZE * 8),
    "aip_bitmap_count": lambda a, _: _core.bitmap_count(a, SIZE * 8),
    "aip_bitmap_to_extents": lambda a, _: _core.bitmap_to_extents(a, SIZE * 8),
    "aip_compare_blocks": lambda a, b: _core.compare_blocks(a, b, 512),
    "aip_pack": lambda a, b: _core.pack(a, EXTENTS, b),
    "aip_unpack": lambda a, b: _core.unpack(a, EXTENTS, b),
}
WITH_ONE_BUFFER = {name for name in CALLS if name.startswith(("aip_is", "aip_nonzero"))} | {
    "aip_bitmap_count",
    "aip_bitmap_to_extents",
}


class Interrupting:
    """The C library, with an action just before one of its functions runs."""

    def __init__(self, lib: object, name: str, action: Callable[[], None]) -> None:
        self._lib, self._name, self._action = lib, name, action

    def __getattr__(self, name: str) -> object:
        if name == self._name:
            self._action()
        return getattr(self._lib, name)


@pytest.mark.parametrize("name", CALLS)
def test_resizing_while_c_works_raises_buffer_error(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffers = [bytearray(SIZE), bytearray(SIZE)]
    used = buffers[:1] if name in WITH_ONE_BUFFER else buffers
    refusals = 0

    def shrink() -> None:
        nonlocal refusals
        for buffer in used:
            for resize in (buffer.clear, lambda b=buffer: b.extend(bytes(SIZE)), buffer.pop):
                with pytest.raises(BufferError):
                    resize()
                refusals += 1

    monkeypatch.setattr(_core, "lib", Interrupting(_core.lib, name, shrink))
    CALLS[name](*buffers)
    assert refusals == 3 * len(used)
    # And the hold ends with the call.
    for buffer in buffers:
        buffer.clear()


def test_an_unfinished_iterator_holds_the_bitmap() -> None:
    bitmap = bytearray(b"\x55" * SIZE)
    steps = _core.iter_bitmap_extents(bitmap, SIZE * 8, 4)
    next(steps)
    with pytest.raises(BufferError):
        bitmap.clear()
    steps.close()
    bitmap.clear()


def test_a_thread_that_keeps_resizing_never_disturbs_a_result() -> None:
    buffer = bytearray(1 << 20)
    stop = threading.Event()

    def resize() -> None:
        while not stop.is_set():
            try:
                buffer.extend(bytes(4096))
                del buffer[-4096:]
            except BufferError:
                continue

    thread = threading.Thread(target=resize)
    thread.start()
    try:
        assert all(_core.is_zero(buffer) for _ in range(300))
    finally:
        stop.set()
        thread.join()


def test_a_view_outlives_the_name_of_its_buffer() -> None:
    assert _core.is_zero(memoryview(bytearray(SIZE)))
    assert _core.nonzero_extents(bytearray(SIZE), 512).shape == (0, 2)

"""Measure the C core: every function with the plain C variants and with the processor's best.

``python benchmarks/core.py`` prints GB/s, counting every byte read and written, of the best of
many runs, for buffers that stay in the processor's caches and for buffers that do not; then the
cost of a call on a tiny buffer. A function whose two columns agree has no variant of its own, or
has one that is not worth keeping. What AVX2 would give a function without a variant shows after
rebuilding the whole core with it, in the "scalar" column::

    CFLAGS="-mavx2 -mpopcnt" pip install -e . --no-build-isolation
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import numpy as np

from aipimage import _core

CLUSTER = 4096
MIB = 1 << 20
Case = tuple[str, Callable[[], object], int]


def best_seconds(run: Callable[[], object], budget: float) -> float:
    """Return the shortest time of one call within ``budget`` seconds: other load only adds."""
    run()  # The first run pays for memory that was never touched.
    best = float("inf")
    end = time.perf_counter() + budget
    while True:
        start = time.perf_counter()
        run()
        now = time.perf_counter()
        best = min(best, now - start)
        if now > end:
            return best


def cases(size: int) -> list[Case]:
    """Return (name, call, bytes read and written) for buffers of ``size`` bytes."""
    generator = np.random.default_rng(61)
    data = generator.integers(1, 256, size, dtype=np.uint8)
    # Written, not np.zeros: untouched memory is one page of zeros again and again, always in cache.
    zeros, target = np.full(size, 0, np.uint8), np.full(size, 1, np.uint8)
    same, mixed = data.copy(), data.copy()
    mixed.reshape(-1, CLUSTER)[::2] = 0
    # Sixteen runs of ones in a bitmap as large as the buffer, as an allocation bitmap has them.
    bitmap = np.zeros(size, np.uint8)
    bitmap.reshape(32, -1)[::2] = 255
    bits = size * 8
    runs = _core.bitmap_to_extents(bitmap, bits)
    extents = _core.nonzero_extents(mixed, CLUSTER) * np.uint64(CLUSTER)
    return [
        ("is_zero, zeros", lambda: _core.is_zero(zeros), size),
        ("nonzero_bitmap, zeros", lambda: _core.nonzero_bitmap(zeros, CLUSTER), size),
        ("nonzero_extents, zeros", lambda: _core.nonzero_extents(zeros, CLUSTER), size),
        ("nonzero_extents, half data", lambda: _core.nonzero_extents(mixed, CLUSTER), size),
        ("nonzero_extents, data", lambda: _core.nonzero_extents(data, CLUSTER), size),
        ("nonzero_extents, 512-byte", lambda: _core.nonzero_extents(zeros, 512), size),
        ("compare_blocks, equal", lambda: _core.compare_blocks(data, same, CLUSTER), 2 * size),
        ("bitmap_and", lambda: _core.bitmap_and(data, bitmap, bits), 3 * size),
        ("bitmap_count", lambda: _core.bitmap_count(data, bits), size),
        ("bitmap_to_extents, 16 runs", lambda: _core.bitmap_to_extents(bitmap, bits), size),
        ("extents_to_bitmap, 16 runs", lambda: _core.extents_to_bitmap(runs, bits), size),
        ("pack, half", lambda: _core.pack(data, extents, target), size),
        ("unpack, half", lambda: _core.unpack(data, extents, target), size),
        ("copy", lambda: _core.copy(target, 0, data, 0, size), 2 * size),
    ]


def tiny_cases() -> list[Case]:
    """Return calls on 512 bytes, in which the wrapper is all that costs."""
    data, target = bytes(512), bytearray(512)
    extents = np.array([[0, 512]], dtype=np.uint64)
    return [
        ("is_zero", lambda: _core.is_zero(data), 512),
        ("nonzero_extents", lambda: _core.nonzero_extents(data, 512), 512),
        ("bitmap_to_extents", lambda: _core.bitmap_to_extents(data, 4096), 512),
        ("pack", lambda: _core.pack(data, extents, target), 1024),
        ("unpack", lambda: _core.unpack(data, extents, target), 1024),
    ]


def measure(size: int, budget: float) -> dict[str, dict[str, float]]:
    """Return GB/s by name and variant for one size of buffer."""
    results: dict[str, dict[str, float]] = {}
    for name, run, moved in cases(size):
        results[name] = {}
        for forced in (True, False):
            _core.force_scalar(forced)
            rate = moved / best_seconds(run, budget) / 1e9
            results[name].setdefault(_core.implementation(), round(rate, 1))
    return results


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description="measure the C core")
    parser.add_argument("--seconds", type=float, default=0.4, help="for each figure")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 4, 256], help="MiB")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rates = {size: measure(size * MIB, options.seconds) for size in options.sizes}
    calls = {
        name: round(best_seconds(run, options.seconds) * 1e6, 2) for name, run, _ in tiny_cases()
    }
    if options.json:
        print(json.dumps({"gigabytes_a_second": rates, "microseconds_a_call": calls}, indent=2))
        return
    for size, table in rates.items():
        print(f"\n{size} MiB: GB/s")
        for name, row in table.items():
            columns = "".join(f"  {variant} {rate:8.1f}" for variant, rate in row.items())
            print(f"  {name:28s}{columns}")
    print("\n512 bytes: microseconds a call")
    for name, cost in calls.items():
        print(f"  {name:28s}  {cost:6.2f}")


if __name__ == "__main__":
    main()

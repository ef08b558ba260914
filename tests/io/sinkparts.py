"""Targets for sinks, and what was written to them."""

from __future__ import annotations

import itertools
from pathlib import Path

from aipimage.io.blocks.sinks import BlockSink

MIB = 1 << 20


def allocated(path: Path) -> int:
    return path.stat().st_blocks * 512


def fill(sink: BlockSink) -> bytes:
    """Write a little data and much nothing into a sink of 1 MiB; return what it must hold."""
    sink.write(b"a" * 4096, 0)
    sink.zero(4096, MIB // 2 - 4096)
    sink.write(memoryview(b"b" * 8192), MIB // 2)
    sink.zero(MIB // 2 + 8192, MIB // 2 - 8192)
    expected = bytearray(MIB)
    expected[:4096] = b"a" * 4096
    expected[MIB // 2 : MIB // 2 + 8192] = b"b" * 8192
    return bytes(expected)


fresh = itertools.count()

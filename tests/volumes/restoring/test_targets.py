"""What a restore leaves of a target: discarded ranges, and volumes that are not touched."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from aipimage.errors import TargetError
from aipimage.io.blocks.sinks import open_target
from tests.support import loop_device

MIB = 1 << 20


def test_discarding(tmp_path: Path) -> None:
    """A file reads as zeros there; a device is told of whole MiB, and keeps the rest, but for the
    ends of a long range, where an old superblock may lie.
    """
    path = tmp_path / "file"
    path.write_bytes(b"\xa5" * 8 * MIB)
    sink = open_target(path, 8 * MIB, force=True)
    sink.discard(0, 8 * MIB)
    sink.write(b"x", 8 * MIB - 1)
    sink.discard(0, 8 * MIB)
    sink.finish()
    assert path.read_bytes() == bytes(8 * MIB)
    path.write_bytes(b"\xa5" * 8 * MIB)
    with loop_device(path) as device:
        sink = open_target(device, 8 * MIB)
        sink.discard(MIB + 512, 6 * MIB)
        sink.discard(7 * MIB + 1024, 4096)
        sink.discard(7 * MIB + 8192, MIB - 8192)
        sink.finish()
    kept = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 512).all(axis=1)
    wanted = np.ones(16_384, np.bool_)
    wanted[2049:4097] = False
    wanted[3 * 2048 : 6 * 2048] = False
    wanted[6 * 2048 + 1 : 7 * 2048 + 1] = False
    assert (kept == wanted).all()


def test_a_mistyped_device_becomes_no_file() -> None:
    with pytest.raises(TargetError, match="no such device"):
        open_target("/dev/aipimage-there-is-none", MIB)
    assert not os.path.exists("/dev/aipimage-there-is-none.partial")


def test_a_volume_that_was_left_out_is_left_alone_on_a_device(tmp_path: Path) -> None:
    path = tmp_path / "device"
    path.write_bytes(b"\xa5" * 16 * MIB)
    with loop_device(path) as device:
        sink = open_target(device, 16 * MIB, untouched=[(4 * MIB, 6 * MIB), (8 * MIB, 16 * MIB)])
        sink.discard(2 * MIB, 14 * MIB)
        sink.finish()
    kept = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, MIB).all(axis=1)
    assert np.flatnonzero(~kept).tolist() == [2, 3, 6, 7]

"""Restores that move partitions: what is written where, and what is left when a call fails."""

from __future__ import annotations

import errno
import struct
from pathlib import Path

import aipimage
from aipimage.errors import AipImageError
from aipimage.io.reading.results import PartitionChange
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.restoreoptions import RestoreOptions
from aipimage.volumes.restoring.disk import restore_disk
from aipimage.volumes.restoring.planning import PartitionPlan, Placement
from aipimage.volumes.restoring.writes import writes_of
from tests.support.faults import FaultySystemCalls, each_fault
from tests.support.sources import SparseSource

MIB = 1 << 20


def moved_disk(tmp_path: Path) -> tuple[Path, dict[int, bytes]]:
    """An image of an MBR disk with two partitions and a gap, and what they hold by number."""
    head = bytearray(512)
    held = {1: b"one" * 1000, 2: b"two" * 1000}
    for row, (start, count) in enumerate(((8, 64), (1024, 128))):
        struct.pack_into("<B3sB3sII", head, 446 + 16 * row, 0, b"", 0x83, b"", start, count)
    head[510:] = b"\x55\xaa"
    pieces = {0: bytes(head), 8 * 512: held[1], 1024 * 512: held[2]}
    aipimage.create(tmp_path / "m.aiv", [SparseSource(MIB, pieces)])
    return tmp_path / "m.aiv", held


def test_class_57_every_call_fails_once(tmp_path: Path) -> None:
    """Whatever fails in a restore that moves partitions: an error of ours, and no target that
    looks whole; or all of it is right.
    """
    path, held = moved_disk(tmp_path)
    (tmp_path / "out").mkdir()
    target = tmp_path / "out" / "t.raw"

    def restored(system: SystemCalls) -> None:
        with aipimage.open(path) as image:
            asked = RestoreOptions(size=MIB // 2, threads=1)
            restore_disk(image, target, asked, storage=Storage(system))

    def clear() -> None:
        for each in target.parent.iterdir():
            each.unlink()

    failed = 0
    for fault in each_fault(restored, errnos=(errno.EIO, errno.ENOSPC)):
        clear()
        try:
            restored(FaultySystemCalls(fault))
        except AipImageError:
            failed += 1
            # The name may be there where only making it durable failed: then it is whole.
        if target.exists():
            data = target.read_bytes()
            start = int.from_bytes(data[470:474], "little") * 512
            assert start == 448 << 10
            assert data[start : start + 3000] == held[2]
            assert data[4096 : 4096 + 3000] == held[1]
    assert failed > 10
    clear()


def test_the_writes_of_a_plan() -> None:
    """What lies before the first change is one range; behind it partitions, and zeros between."""
    plan = PartitionPlan(
        30 * MIB,
        {1: Placement(MIB, MIB), 2: Placement(4 * MIB, 2 * MIB), 3: Placement(7 * MIB, MIB)},
        (
            PartitionChange(2, 5 * MIB, 4 * MIB, 4 * MIB, 2 * MIB),
            PartitionChange(3, 20 * MIB, MIB, 7 * MIB, MIB),
        ),
    )
    writes = writes_of(plan, 40 * MIB, [2])
    assert writes.placed == [(0, 4 * MIB, 0), (20 * MIB, MIB, 7 * MIB)]
    assert writes.copies == [(4 * MIB, 2, 2 * MIB)]
    assert writes.zeros == [(6 * MIB, MIB), (8 * MIB, 22 * MIB)]
    assert writes_of(PartitionPlan(30 * MIB, {}), 40 * MIB, []).placed == [(0, 30 * MIB, 0)]

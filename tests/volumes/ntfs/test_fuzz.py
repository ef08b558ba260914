"""The fuzz target for NTFS, for a moment, and what its inputs stand for."""

from __future__ import annotations

import random
import time

from tests.fuzz import mutate
from tests.volumes.ntfs import fuzz as fuzzing_ntfs
from tests.volumes.ntfs.edited import Editor
from tests.volumes.ntfs.small import FREE, SIZE


def test_seeds_stand_for_volumes_that_are_read() -> None:
    # The last one is in use: its journal names ten free clusters.
    for seed, kept in zip(fuzzing_ntfs.seeds(), (0, 0, 0, 10), strict=True):
        assert len(seed) <= mutate.LONGEST
        assert fuzzing_ntfs.repair(seed) == seed
        data = bytearray(SIZE)
        fuzzing_ntfs.source_of(seed).read_into(data, 0)
        assert Editor(data).free() == FREE - kept


def test_mutants_end_in_a_map_or_a_reason() -> None:
    mutate.loop(fuzzing_ntfs.fuzz_ntfs, fuzzing_ntfs.seeds(), 2)
    chance, end = random.Random(1), time.monotonic() + 3
    for data in mutate.mutants(fuzzing_ntfs.seeds(), 2):
        if time.monotonic() > end:
            break
        fuzzing_ntfs.fuzz_ntfs(fuzzing_ntfs.repair(data) if chance.random() < 0.8 else data)

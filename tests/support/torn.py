"""Volumes without a journal whose power was lost: of what was to be written, any part was."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np


def torn(before: Path, after: Path, into: Path, sector: int, seed: int) -> int:
    """Make a copy of a volume in which each sector is that of before or after by chance; return how
    many sectors were still to be written.
    """
    old, new = (np.fromfile(path, np.uint8).reshape(-1, sector) for path in (before, after))
    unlike = np.flatnonzero((old != new).any(axis=1))
    chance = random.Random(seed)
    # In runs, as a disk writes them.
    late: list[int] = []
    taken = False
    for index in unlike.tolist():
        taken ^= chance.random() < 0.2
        if taken:
            late.append(index)
    new[late] = old[late]
    new.tofile(into)
    return len(late)

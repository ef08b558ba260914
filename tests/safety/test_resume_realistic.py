"""Interrupted creations of realistic disks that are resumed (classes 29, 33 and 60)."""

from __future__ import annotations

import pytest

from tests.safety.memory import MemorySystem
from tests.safety.resuming import (
    chosen,
    digests_by_content,
    facts_of,
    interrupted,
    reads_of,
    run,
)
from tests.support.realistic import corpus_disk


@pytest.mark.parametrize(("name", "stops"), [("hundreds", 2), ("half-random", 4)])
@pytest.mark.parametrize("every", [1, 1 << 20])
def test_class_60_stopped_at_some_stripes(name: str, stops: int, every: int) -> None:
    """Whatever number of stripes lies between two checkpoints."""
    disk, empty = corpus_disk(name), MemorySystem()
    options = chosen(checkpoint_bytes=every)
    total = reads_of(empty, [disk], options)
    whole = MemorySystem()
    run(whole, [disk], options)
    expected, resumed = facts_of(whole), 0
    for reads in range(total // stops, total, total // stops):
        system = MemorySystem()
        assert interrupted(system, [disk], options, reads)
        resumed += run(system, [disk], chosen(checkpoint_bytes=every, resume=True)).resumed
        assert facts_of(system) == expected
    assert resumed
    assert expected.contents == [disk.content().tobytes()]
    assert expected.digests == [digests_by_content(expected.contents[0])]

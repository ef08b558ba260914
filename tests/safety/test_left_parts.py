"""What an interrupted split image left: gone on with, or replaced in full, never mixed with another
attempt's parts.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest

from aipimage.errors import TargetError
from aipimage.format import constants as c
from aipimage.io.creating.splitting import join_image, split_image
from aipimage.io.merge import copying as mergecopy
from aipimage.io.merge.job import merge_images
from aipimage.io.system.storage import Storage
from tests.support.memorychains import at
from tests.support.realistic_chains import Facts, RealisticChain, chain_of, facts_of
from tests.support.stopping import SharedMemory, Stop, stops

NEW = at("t.aiv")


def chain() -> RealisticChain:
    return chain_of("bad", 3, "zstd")


def merged(storage: Storage, resume: bool = True, progress: Any = None) -> Any:
    with mock.patch.object(mergecopy, "BATCH", 100_000):
        return merge_images(
            NEW,
            [at(f"{n}.aiv") for n in range(3)],
            split=200_000,
            resume=resume,
            threads=1,
            progress=progress,
            storage=storage,
        )


def wanted() -> Facts:
    system = SharedMemory(chain().files)
    merged(Storage(system))
    return facts_of(system, NEW, None)


def last_left() -> Stop:
    """The latest state in which no part bears its name."""
    found = [
        each
        for each in stops(lambda storage, _: merged(storage), chain().files, ways=("killed",))
        if not [path for path in each.files if path.startswith(NEW) and ".partial" not in path]
    ]
    assert len([path for path in found[-1].files if path.startswith(NEW)]) > 10
    return found[-1]


def test_parts_of_two_attempts_are_not_mixed() -> None:
    """Begun anew over the parts of an earlier attempt, stopped anywhere, and then gone on with."""
    facts, resumed = wanted(), 0
    for stop in stops(lambda storage, _: merged(storage, False), last_left().files, most=60):
        system = stop.system()
        if NEW not in system.files:
            resumed += merged(Storage(system)).resumed
            assert not [path for path in system.files if ".partial" in path]
        assert facts_of(system, NEW, None) == facts
    assert resumed > 5


@pytest.mark.parametrize("number", [2, 3, 4])
def test_a_foreign_part_in_between(number: int) -> None:
    """As a removal leaves it that was cut short, or somebody who copied files about."""
    system = last_left().system()
    data = bytearray(system.files[f"{NEW}.{number:03d}.partial"])
    other = SharedMemory(chain().files)
    merged(Storage(other))
    data[: c.PART_RECORD] = other.files[f"{NEW}.{number:03d}"][: c.PART_RECORD]
    system.files[f"{NEW}.{number:03d}.partial"] = data
    assert merged(Storage(system)).resumed
    assert facts_of(system, NEW, None) == wanted()
    assert not [path for path in system.files if ".partial" in path]


@pytest.mark.parametrize("size", [120_000, 500_000, None])
def test_begun_anew_in_other_parts(size: int | None) -> None:
    """Nothing of the parts before is left over."""
    chain = chain_of("bad", 2, "zstd")
    facts = facts_of(SharedMemory(chain.files), at("0.aiv"), None)

    def run(storage: Storage, progress: Any) -> None:
        split_image(at("0.aiv"), NEW, 200_000, storage=storage)

    named = 0
    for stop in stops(run, chain.files, ways=("killed", "power"), most=30):
        if NEW in stop.files:
            continue
        system = stop.system()
        named += any(path.startswith(NEW) and ".partial" not in path for path in stop.files)
        if size is None:
            join_image(at("0.aiv"), NEW, storage=Storage(system))
        else:
            split_image(at("0.aiv"), NEW, size, storage=Storage(system))
        assert facts_of(system, NEW, None) == facts
        assert not [path for path in system.files if ".partial" in path]
        made = [path for path in system.files if path.startswith(NEW)]
        assert (len(made) == 1) == (size is None)
    assert named


def test_named_parts_of_another_image_stay() -> None:
    """Only parts of the set that part 1 names are taken back."""
    chain = chain_of("bad", 2, "zstd")
    other = SharedMemory(chain.files)
    split_image(at("1.aiv"), NEW, 50_000, storage=Storage(other))
    theirs = bytes(other.files[f"{NEW}.002"])

    def run(storage: Storage, progress: Any) -> None:
        split_image(at("0.aiv"), NEW, 200_000, storage=storage)

    # All of part 1 was written, and nothing of part 2.
    begun = [each for each in stops(run, chain.files, ways=("killed",)) if NEW not in each.files]
    stop = [each for each in begun if not any(p.startswith(f"{NEW}.002") for p in each.files)][-1]
    assert len(stop.files[f"{NEW}.partial"]) > 100_000
    system = stop.system()
    system.files[f"{NEW}.002"] = bytearray(theirs)
    with pytest.raises(TargetError, match="is already there, from another split image"):
        split_image(at("0.aiv"), NEW, 200_000, storage=Storage(system))
    assert system.files[f"{NEW}.002"] == theirs

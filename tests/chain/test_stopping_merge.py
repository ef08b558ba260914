"""Merging realistic chains, stopped at every step, and begun again: the same image as in one go."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest import mock

import pytest

from aipimage.io.merge import copying as mergecopy
from aipimage.io.merge.job import merge_images
from aipimage.io.records import keys
from aipimage.io.system.storage import Storage
from tests.support.images import remember_derivations
from tests.support.memorychains import at
from tests.support.realistic_chains import (
    Facts,
    RealisticChain,
    chain_of,
    check_chain,
    check_disk,
    check_increment_on,
    facts_of,
)
from tests.support.stopping import WAYS, SharedMemory, Stop, stops

NEW = at("m.aiv")


class Case(NamedTuple):
    """What is merged.

    Attributes:
        disk: its name in the corpus. run: numbers of the images. most, ways: see ``stops``.
    """

    disk: str
    protected: str
    run: tuple[int, ...]
    remove: bool = False
    most: int = 14
    split: int | None = None
    ways: tuple[str, ...] = WAYS


CASES = {
    "between increments": Case("some", "zstd", (1, 2, 3)),
    "up to full": Case("some", "zstd", (0, 1, 2)),
    "removing": Case("used", "plain", (0, 1, 2, 3), remove=True),
    "encrypted": Case("bad", "aes", (1, 2), remove=True),
    "authenticated": Case("used and bad", "auth", (0, 1)),
    "from parts into parts": Case("some", "split", (1, 2, 3), remove=True, split=500_000),
    "many stripes": Case("hundreds", "zstd", (0, 1, 2), True, 12, ways=("killed", "power")),
}


@pytest.fixture(scope="module", autouse=True)
def derivations_are_remembered() -> Iterator[None]:
    """Derive each key once; the real function is put back for the other tests."""
    real = keys._slot_keys
    remember_derivations()
    yield
    keys._slot_keys = real


@pytest.fixture(autouse=True)
def small_batches() -> Any:
    """So that there are many points at which a merge can end."""
    with mock.patch.object(mergecopy, "BATCH", 150_000):
        yield


def merged(case: Case, chain: RealisticChain, storage: Storage, progress: Any = None) -> Any:
    return merge_images(
        NEW,
        [at(f"{n}.aiv") for n in case.run],
        password=chain.password,
        split=case.split,
        remove=case.remove,
        threads=1,
        progress=progress,
        storage=storage,
    )


def check(case: Case, chain: RealisticChain, system: SharedMemory, wanted: Facts) -> None:
    """The merged image is as wanted; what was not removed is as it was, and newer images read."""
    assert facts_of(system, NEW, chain.password) == wanted
    assert not [path for path in system.files if ".partial" in path]
    for path, data in chain.files.items():
        assert path not in system.files or system.files[path] == data, f"{path}: was changed"


def check_around(case: Case, chain: RealisticChain, system: SharedMemory) -> None:
    """What stands behind the merged images, and another increment on the merged one."""
    for number in range(case.run[-1] + 1, len(chain.disks)):
        check_disk(system, at(f"{number}.aiv"), chain.disks[number], chain.password)
    check_chain(system, NEW, chain.password)
    if case.remove:
        check_increment_on(system, NEW, chain.disks[case.run[-1]], chain.protected)


@functools.cache
def prepared(name: str) -> tuple[Case, RealisticChain, Facts]:
    case = CASES[name]
    chain = chain_of(case.disk, 5 if case.disk != "hundreds" else 4, case.protected)
    system = SharedMemory(chain.files)
    merged(case, chain, Storage(system))
    wanted = facts_of(system, NEW, chain.password)
    disk = chain.disks[case.run[-1]]
    assert wanted.content == (disk.digest(used=bool(disk.free)),)
    return case, chain, wanted


def points_left(case: Case, chain: RealisticChain, stop: Stop) -> None:
    """Before anything is done again: the last point and all outside of the run can be restored."""
    system = stop.system()
    whole = NEW in stop.files
    assert whole or not stop.done, stop.label
    if whole:
        check_disk(system, NEW, chain.disks[case.run[-1]], chain.password)
    for path, data in chain.files.items():
        if path not in stop.files:
            assert case.remove, f"{stop}: {path} is gone"
            assert whole, f"{stop}: {path} is gone"
        else:
            assert stop.files[path] == data, f"{stop}: {path} was changed"


@pytest.mark.parametrize("name", CASES)
def test_stopped_at_many_steps(name: str) -> None:
    check_all(name, CASES[name].most)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_stopped_at_every_step(name: str) -> None:
    check_all(name, 10**9)


def check_all(name: str, most: int) -> None:
    """Merge again after each stop."""
    case, chain, wanted = prepared(name)

    def run(storage: Storage, progress: Any) -> None:
        merged(case, chain, storage, progress)

    seen = []
    for stop in stops(run, chain.files, most=most, ways=case.ways):
        points_left(case, chain, stop)
        system = stop.system()
        if NEW not in stop.files:
            seen.append(bool(merged(case, chain, Storage(system)).resumed))
            check(case, chain, system, wanted)
            if len(seen) % 10 == 1:
                check_around(case, chain, system)
    assert sum(seen) > 2
    assert not all(seen)

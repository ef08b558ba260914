"""Creating images of realistic disks, full and incremental, stopped at many steps and resumed: all
that they hold is that of the image which was made in one go.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import pytest

from aipimage.io.increment import grouping
from aipimage.io.increment import plan as planning
from aipimage.io.increment.create import create_image
from aipimage.io.records import keys
from aipimage.io.system.storage import Storage
from tests.support.images import password_of, remember_derivations
from tests.support.memorychains import at
from tests.support.realistic import RealisticDisk, corpus_disk
from tests.support.realistic_chains import (
    Facts,
    chain_of,
    check_chain,
    check_increment_on,
    chosen,
    facts_of,
    source_of,
)
from tests.support.stopping import WAYS, SharedMemory, only_named, stops

NEW = at("new.aiv")
WAYS_TO_TELL: dict[str, dict[str, Any]] = {
    "tracked": {},
    "digests": {"compare": "digests"},
    "data": {"compare": "data"},
}


@pytest.fixture(scope="module", autouse=True)
def derivations_are_remembered() -> Iterator[None]:
    """Derive each key once; the real function is put back for the other tests."""
    real = keys._slot_keys
    remember_derivations()
    yield
    keys._slot_keys = real


class Case(NamedTuple):
    """What is imaged.

    Attributes:
        disks: of the corpus. protected: see ``PROTECTED``. told: how an increment finds its
            changes; a full image without. most, ways: see ``stops``.
    """

    disks: tuple[str, ...]
    protected: str
    told: str | None = None
    more: tuple[tuple[str, Any], ...] = ()
    most: int = 16
    ways: tuple[str, ...] = WAYS


TWO = ("killed", "power")
CASES = {
    "hundreds": Case(("hundreds",), "zstd", most=12, ways=("killed",)),
    "plain": Case(("some",), "plain"),
    "used": Case(("used",), "zstd", most=12),
    "bad and encrypted": Case(("bad",), "aes", most=12),
    "authenticated": Case(("used and bad",), "auth", most=12),
    "parts": Case(("whole sectors",), "split", most=20),
    "half-random": Case(("half-random",), "zstd"),
    "zeros": Case(("zeros",), "zstd"),
    "three disks": Case(("whole stripes", "a few bytes", "less than a stripe"), "zstd", most=12),
    "no block digests": Case(("some",), "aes", more=(("block_digests", False),), most=12, ways=TWO),
    "tracked": Case(("some",), "zstd", "tracked"),
    "tracked, used": Case(("used",), "aes", "tracked", most=12),
    "by digests": Case(("whole stripes",), "auth", "digests", most=12),
    "by digests, used and bad": Case(("used and bad",), "zstd", "digests", most=12),
    "by data": Case(("some",), "plain", "data", most=12),
    "by data, in parts": Case(("used",), "split", "data", most=12),
    "differential": Case(
        ("whole sectors",), "zstd", "tracked", (("kind", "differential"),), most=12
    ),
    "full in a chain": Case(("some",), "aes", "data", (("kind", "full"),), most=12, ways=TWO),
}


class Work:
    """One case: its files before, what it does, and what must come of it."""

    def __init__(self, case: Case) -> None:
        self.case, self.password = case, password_of(case.protected)
        self.files: dict[str, bytes] = {}
        self.more = dict(case.more) | {"checkpoint_bytes": 1}
        self.disks: list[RealisticDisk] = [corpus_disk(name) for name in case.disks]
        if case.told is not None:
            chain = chain_of(case.disks[0], 3, case.protected)
            full = self.more.get("kind") == "differential"
            self.files = {
                path: data for path, data in chain.files.items() if not path.startswith(at("2.aiv"))
            }
            self.disks = [chain.disks[2]]
            self.more |= WAYS_TO_TELL[case.told] | {"parent": at("0.aiv" if full else "1.aiv")}
            if case.told == "tracked":
                places = chain.places[1] + chain.places[2] if full else chain.places[2]
                size = chain.disks[2].size
                self.more["changed"] = [
                    (start, min(length, size - start)) for start, length in places if start < size
                ]
        whole = SharedMemory(self.files)
        self.run(Storage(whole), None, False)
        self.wanted: Facts = facts_of(whole, NEW, self.password)
        contents = tuple(disk.digest(used=bool(disk.free)) for disk in self.disks)
        assert self.wanted.content == contents

    def run(self, storage: Storage, progress: Any, resume: bool = True) -> Any:
        """Create, or go on."""
        options = chosen(self.case.protected, resume=resume, **self.more)
        return create_image(NEW, [source_of(d) for d in self.disks], options, progress, storage)

    def resume(self, system: SharedMemory) -> bool:
        """Go on; return whether that resumed. An image that only lacks its name is given that."""
        before = system.snapshot()
        result = self.run(Storage(system), None)
        if only_named(result):
            # Nothing is written, but for a trailer that the stop lost.
            after = sorted(system.snapshot().values())
            assert sum(a != b for a, b in zip(sorted(before.values()), after, strict=True)) <= 1
            return False
        return bool(result.resumed)

    def check(self, system: SharedMemory, as_full: bool = False) -> None:
        """The image is that which was made in one go, and nothing else was changed.

        Args:
            as_full: it may be a full image in place of an increment.
        """
        found = facts_of(system, NEW, self.password)
        if as_full:
            found = replace(found, place=self.wanted.place)
        assert found == self.wanted
        assert not [path for path in system.files if ".partial" in path]
        for path, data in self.files.items():
            assert system.files[path] == data, f"{path}: was changed"


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that increments have checkpoints."""
    monkeypatch.setattr(planning, "PIECE", 65_536)
    monkeypatch.setattr(grouping, "GROUP", 4096)


@pytest.mark.parametrize("name", CASES)
def test_stopped_at_many_steps(name: str) -> None:
    check_all(CASES[name], CASES[name].most)


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_stopped_at_every_step(name: str) -> None:
    check_all(CASES[name], 10**9)


def check_all(case: Case, most: int) -> None:
    """Resume after each stop; every tenth image gets another increment."""
    work, resumed = Work(case), []
    for number, stop in enumerate(stops(work.run, work.files, most=most, ways=case.ways)):
        system = stop.system()
        if NEW not in stop.files:
            assert not stop.done
            resumed.append(work.resume(system))
        # A parent that cannot be read for a moment is no parent: that image is a full one.
        work.check(system, as_full=stop.done and stop.way == "error")
        if number % 15 == 0:
            check_chain(system, NEW, work.password)
            if len(work.disks) == 1:
                check_increment_on(system, NEW, work.disks[0], case.protected)
    assert sum(resumed) > 1 or case.disks == ("zeros",)
    assert not all(resumed)


@pytest.mark.parametrize("name", ["plain", "parts", "by data"])
def test_a_trailer_is_the_last_to_be_there(name: str) -> None:
    """Without power before the names were given, anything that was not synced may be there or not;
    what has a trailer is whole all the same.
    """
    work, whole = Work(CASES[name]), 0
    for stop in stops(work.run, work.files, ways=("power",), shuffles=25, most=7):
        system = stop.system()
        if NEW not in stop.files:
            whole += not work.resume(system)
        work.check(system)
    assert whole


@pytest.mark.parametrize("name", ["plain", "bad and encrypted", "parts", "tracked", "by data"])
def test_stopped_twice(name: str) -> None:
    """A resumed creation is stopped in its turn."""
    work, twice = Work(CASES[name]), 0
    first = [s for s in stops(work.run, work.files, most=9, ways=TWO) if NEW not in s.files]
    # One that lacks nothing but its name is finished, and not resumed.
    first = [stop for stop in first if work.resume(stop.system())]
    for stop in first[len(first) // 2 :: 4][:2]:
        for again in stops(work.run, stop.files, most=9, ways=("killed", "power", "full")):
            system = again.system()
            if NEW not in again.files:
                twice += work.resume(system)
            work.check(system)
    assert twice > 2

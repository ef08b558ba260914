"""The tracker against a plain set, under threads, after crashes, and with damaged files."""

from __future__ import annotations

import copy
import itertools
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aipimage.errors import (
    AipImageError,
    FormatError,
    IntegrityError,
    LimitError,
    RequestError,
    StorageError,
    TargetError,
    UnsupportedError,
)
from aipimage.format.digest import digest
from aipimage.io.changes.chunkmap import CHUNK_GRANULES, Chunks, chunk_ranges, merged, set_ranges
from aipimage.io.changes.forms import Changes, changes_from
from aipimage.io.system.storage import DEFAULT, Storage
from aipimage.ranges import joined
from aipimage.tracking import ChangeTracker, Generation
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import Fault, FaultySystemCalls
from tests.support.memory import ROOT, MemorySystem

PATH = f"{ROOT}/t"
GRAIN = 512
IDS = [f"{n:032x}" for n in range(1, 200)]
DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


def granules(changes: Changes, grain: int = GRAIN) -> set[int]:
    """The granules of a set without a doubt."""
    assert changes.doubt is None
    return {
        granule
        for start, length in changes.ranges.tolist()
        for granule in range(start // grain, -(-(start + length) // grain))
    }


def with_image(tracker: ChangeTracker, consumer: str, image_id: str = IDS[0]) -> None:
    tracker.begin(consumer).commit(image_id)


def peek(tracker: ChangeTracker, consumer: str) -> Changes:
    """What a consumer would get; it counts again."""
    with tracker.begin(consumer) as generation:
        return generation.changes()


# Chunks

wide_rows = st.lists(
    st.tuples(st.integers(0, 3 * CHUNK_GRANULES), st.integers(0, 2 * CHUNK_GRANULES)), max_size=8
)


@given(st.lists(wide_rows, max_size=3))
def test_chunks(sets: list[list[tuple[int, int]]]) -> None:
    """Setting, joining and reading bits across the borders of chunks."""
    size = 5 * CHUNK_GRANULES * GRAIN
    all_chunks: list[Chunks] = []
    for rows in sets:
        chunks: Chunks = {}
        ranges = joined(np.array(rows, np.uint64).reshape(-1, 2) * np.uint64(GRAIN))
        set_ranges(chunks, ranges, GRAIN, size)
        assert np.array_equal(chunk_ranges(chunks, GRAIN, size), ranges)
        all_chunks.append(chunks)
    before = copy.deepcopy(all_chunks)
    every = np.array([row for rows in sets for row in rows], np.uint64).reshape(-1, 2)
    union = chunk_ranges(merged(all_chunks), GRAIN, size)
    assert np.array_equal(union, joined(every * np.uint64(GRAIN)))
    assert all_chunks == before


# The tracker against a set


@dataclass
class Model:
    """One consumer, with sets of granules."""

    since: str | None = None
    doubted: bool = True
    watched: int = 0
    watched_next: int = 0
    pending: set[int] = field(default_factory=set)
    frozen: set[int] | None = None
    distrusted: bool = False


class TrackerMachine(RuleBasedStateMachine):
    """Several consumers, rollbacks, resizes, reopening and crashes."""

    names = st.sampled_from(["a", "b", "c"])

    def __init__(self) -> None:
        super().__init__()
        self.system = MemorySystem()
        self.size = 40 * GRAIN
        self.tracker = ChangeTracker.create(PATH, self.size, GRAIN, storage=Storage(self.system))
        self.models: dict[str, Model] = {}
        self.generations: dict[str, Generation] = {}
        self.ids = iter(IDS)
        self.safe = True
        self.saved = self.kept()

    def kept(self) -> tuple[int, dict[str, Model]]:
        models = copy.deepcopy(self.models)
        for model in models.values():
            model.pending |= model.frozen or set()
            model.frozen, model.distrusted = None, False
        return self.size, models

    def touch(self, changed: set[int]) -> None:
        self.safe = False
        for model in self.models.values():
            model.pending |= changed

    @rule(at=st.integers(0, 40 * GRAIN), length=st.integers(0, 9 * GRAIN))
    def mark(self, at: int, length: int) -> None:
        if at + length > self.size:
            with pytest.raises(RequestError, match="cannot mark"):
                self.tracker.mark(at, length)
        else:
            self.tracker.mark(at, length)
            if length:
                self.touch(set(range(at // GRAIN, -(-(at + length) // GRAIN))))

    @rule(rows=st.lists(st.tuples(st.integers(0, 20 * GRAIN), st.integers(0, 999)), max_size=5))
    def mark_many(self, rows: list[tuple[int, int]]) -> None:
        if any(at + length > self.size for at, length in rows):
            with pytest.raises(RequestError, match="leaves the disk"):
                self.tracker.mark_many(rows)
        else:
            self.tracker.mark_many(rows)
            changed = {
                n for at, many in rows if many for n in range(at // GRAIN, -(-(at + many) // GRAIN))
            }
            if changed:
                self.touch(changed)

    @rule(size=st.integers(1, 60 * GRAIN))
    def resize(self, size: int) -> None:
        self.size = size
        self.tracker.resize(size)
        self.touch(set())
        for model in self.models.values():
            model.watched = min(model.watched, size)
            model.watched_next = min(model.watched_next, size)

    @rule(name=names)
    def begin(self, name: str) -> None:
        if name in self.generations:
            with pytest.raises(RequestError, match="open generation"):
                self.tracker.begin(name)
            return
        generation = self.generations[name] = self.tracker.begin(name)
        model = self.models.setdefault(name, Model())
        model.frozen, model.pending, model.distrusted = model.pending, set(), False
        model.watched_next = self.size
        if model.doubted:
            model.watched = self.size
        changes = generation.changes()
        assert (changes.size, changes.since) == (model.watched, model.since)
        if model.doubted:
            assert changes.doubt
            assert not len(changes.ranges)
        else:
            self.check(changes, model.frozen)

    def check(self, changes: Changes, expected: set[int]) -> None:
        assert changes.size
        inside = {n for n in expected if n * GRAIN < changes.size}
        assert granules(changes) == inside
        assert all(sum(row) <= changes.size for row in changes.ranges.tolist())

    @precondition(lambda self: self.generations)
    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.generations)))
        model, image_id = self.models[name], next(self.ids)
        self.generations.pop(name).commit(image_id)
        model.since, model.frozen, model.watched = image_id, None, model.watched_next
        model.doubted = model.doubted and model.distrusted

    @precondition(lambda self: self.generations)
    @rule(data=st.data())
    def rollback(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.generations)))
        self.generations.pop(name).rollback()
        model = self.models[name]
        model.pending |= model.frozen or set()
        model.frozen = None

    @rule(name=names)
    def forget(self, name: str) -> None:
        if name in self.generations or name not in self.models:
            with pytest.raises(RequestError):
                self.tracker.forget(name)
        else:
            self.tracker.forget(name)
            del self.models[name]

    def distrust(self) -> None:
        self.tracker.distrust("the filter was off.")
        self.safe = False
        for model in self.models.values():
            model.doubted = model.distrusted = True

    def save(self) -> None:
        self.tracker.save()
        self.safe, self.saved = True, self.kept()

    def reopen(self) -> None:
        self.tracker.close()
        self.saved = self.kept()
        self.safe = True
        self.opened()

    def crash(self) -> None:
        """The process is gone; the file is as it was."""
        self.system = MemorySystem(self.system.snapshot())
        self.opened()

    @rule(what=st.sampled_from(["save"] * 7 + ["reopen"] * 3 + ["crash", "distrust"]))
    def event(self, what: str) -> None:
        """Rare things in one rule, so that trust lasts long enough to be tested."""
        getattr(self, what)()

    def opened(self) -> None:
        self.tracker = ChangeTracker.open(PATH, storage=Storage(self.system))
        self.generations = {}
        size, models = self.saved
        self.size, self.models = size, copy.deepcopy(models)
        if not self.safe:
            for model in self.models.values():
                model.doubted = True
        assert self.tracker.size == self.size

    @invariant()
    def consumers(self) -> None:
        assert self.tracker.consumers == {n: model.since for n, model in self.models.items()}

    @invariant()
    def segments_are_few(self) -> None:
        ledger = self.tracker._ledger
        assert len(ledger._frozen) <= len(self.models) + len(self.generations)

    @invariant()
    def one_file(self) -> None:
        assert set(self.system.files) == {PATH}


TestTrackerMachine = TrackerMachine.TestCase
TestTrackerMachine.settings = settings(
    max_examples=120,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


# Generations


def test_a_block_that_fails_rolls_back() -> None:
    tracker = ChangeTracker(1 << 20, GRAIN)
    with_image(tracker, "a")
    tracker.mark(0, 1)

    def fail() -> None:
        with tracker.begin("a"):
            tracker.mark(GRAIN, 1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with tracker.begin("a") as generation:
        assert granules(generation.changes()) == {0, 1}
        generation.commit(IDS[1])
    assert granules(peek(tracker, "a")) == set()


def test_a_generation_ends_once() -> None:
    tracker = ChangeTracker(1 << 20, GRAIN)
    generation = tracker.begin("a")
    with pytest.raises(RequestError, match="not an image id"):
        generation.commit("the first")
    generation.commit(IDS[0])
    for again in (generation.rollback, lambda: generation.commit(IDS[1])):
        with pytest.raises(RequestError, match="already"):
            again()
    assert tracker.consumers == {"a": IDS[0]}


def test_no_image_yet() -> None:
    changes = changes_from(ChangeTracker(1 << 20, GRAIN).begin("nightly"), 1 << 20)
    assert changes.doubt == "consumer 'nightly' of the tracker has no image yet"


def test_what_was_cut_off_while_an_image_was_made_is_not_watched() -> None:
    tracker = ChangeTracker(1 << 20, GRAIN)
    with_image(tracker, "a")
    tracker.resize(2 << 20)
    assert peek(tracker, "a").size == 1 << 20
    generation = tracker.begin("a")
    tracker.resize(4096)
    tracker.resize(2 << 20)
    generation.commit(IDS[1])
    assert peek(tracker, "a").size == 4096
    with_image(tracker, "a", IDS[2])
    assert peek(tracker, "a").size == 2 << 20


def test_marks_behind_a_first_generation_are_kept_for_it() -> None:
    """Another consumer that is done with them does not drop or join them."""
    tracker = ChangeTracker(1 << 20, GRAIN)
    with_image(tracker, "a")
    tracker.mark(0, 1)
    first = tracker.begin("b")
    tracker.mark(GRAIN, 1)
    with_image(tracker, "a", IDS[1])
    tracker.mark(2 * GRAIN, 1)
    with_image(tracker, "a", IDS[2])
    first.commit(IDS[3])
    assert granules(peek(tracker, "b")) == {1, 2}
    second = tracker.begin("b")
    tracker.mark(3 * GRAIN, 1)
    assert granules(peek(tracker, "a")) == {3}
    second.commit(IDS[4])
    assert granules(peek(tracker, "b")) == {3}


@pytest.mark.parametrize("name", ["", "x" * 256, "ü" * 128, "\ud800"])
def test_names_that_are_not_usable(name: str) -> None:
    with pytest.raises(RequestError, match="name has 1 to 255 bytes"):
        ChangeTracker(512).begin(name)


def test_too_many_consumers() -> None:
    tracker = ChangeTracker(512)
    for number in range(256):
        tracker.begin(str(number)).rollback()
    with pytest.raises(RequestError, match="forget one"):
        tracker.begin("more")
    tracker.forget("7")
    tracker.begin("more")


def test_trust_that_is_withdrawn_while_an_image_is_made() -> None:
    """What was missed may be missing in that very image's successor."""
    tracker = ChangeTracker(1 << 20, GRAIN)
    with_image(tracker, "a")
    generation = tracker.begin("a")
    tracker.distrust("the filter was off.")
    generation.commit(IDS[1])
    doubted = tracker.begin("a")
    assert doubted.changes().doubt == "the filter was off."
    doubted.commit(IDS[2])
    assert granules(peek(tracker, "a")) == set()


@pytest.mark.parametrize(
    "range_", [(-1, 5), (0, -1), (512, 1), (0, 513), (513, 0), (-1, 0), (2**70, 1), (0, 2**70)]
)
def test_marks_that_leave_the_disk(range_: tuple[int, int]) -> None:
    with pytest.raises(RequestError, match="the tracked disk has 512 bytes"):
        ChangeTracker(512, 512).mark(*range_)


@pytest.mark.parametrize("granularity", [0, 500, 1 << 31])
def test_granularities_that_are_none(granularity: int) -> None:
    with pytest.raises(RequestError, match="power of two"):
        ChangeTracker(512, granularity)


def test_without_a_file_nothing_is_saved() -> None:
    with pytest.raises(RequestError, match="has no file"):
        ChangeTracker(512).save()
    with ChangeTracker(512) as tracker:
        tracker.mark(0, 1)
    for late in (lambda: tracker.mark(0, 1), lambda: tracker.begin("a"), tracker.save):
        with pytest.raises(RequestError, match="is closed"):
            late()


# Threads


def test_threads_lose_no_mark() -> None:
    """Many threads mark while generations come, are committed and rolled back."""
    count, threads, rounds = 4000, 4, 6
    tracker = ChangeTracker(count * threads * GRAIN, GRAIN)
    with_image(tracker, "a")
    with_image(tracker, "b")
    running = threading.Event()

    def marks(first: int) -> None:
        running.wait()
        own = range(first, first + count)
        for number in own[: count // 2]:
            tracker.mark(number * GRAIN, 1)
        for number in range(own[count // 2], own[-1] + 1, 100):
            last = min(number + 99, own[-1])
            tracker.mark_many([(each * GRAIN, 7) for each in range(number, last + 1)])

    workers = [threading.Thread(target=marks, args=(n * count,)) for n in range(threads)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for worker in workers:
            worker.start()
        running.set()
        ids = iter(IDS)
        seen: dict[str, set[int]] = {"a": set(), "b": set()}
        alive = True
        for turn in itertools.count():
            if not alive and turn >= rounds:
                break
            alive = any(worker.is_alive() for worker in workers)
            for name in ("a", "b")[: 1 + turn % 2]:
                with tracker.begin(name) as generation:
                    found = granules(generation.changes())
                    if turn % 3 != 2:
                        generation.commit(IDS[(turn + 1) % len(IDS)])
                        seen[name] |= found
    finally:
        sys.setswitchinterval(interval)
    assert next(ids)
    for name in seen:
        seen[name] |= granules(peek(tracker, name))
        assert seen[name] == set(range(count * threads))


def test_a_mark_is_cheap() -> None:
    tracker = ChangeTracker(1 << 40, 4096)
    calls = 0

    def noted(_: object, event: str, __: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(noted)
    try:
        for number in range(10_000):
            tracker.mark(number * 4096, 4096)
    finally:
        sys.setprofile(None)
    # Function calls, not time, which depends on the machine.
    assert calls < 15 * 10_000


# Files


def saved(marks: tuple[int, ...] = (1, 2, 70_000), *, name: str = "a") -> bytes:
    """The file of a tracker of 64 MiB with one consumer and some granules marked."""
    system = MemorySystem()
    with ChangeTracker.create(PATH, 64 << 20, GRAIN, storage=Storage(system)) as tracker:
        with_image(tracker, name)
        for mark in marks:
            tracker.mark(mark * GRAIN, 1)
    return bytes(system.files[PATH])


def opened(data: bytes, **options: object) -> ChangeTracker:
    storage = Storage(MemorySystem({PATH: data}))
    return ChangeTracker.open(PATH, storage=storage, **options)  # type: ignore[arg-type]


def read(data: bytes, parent: str | None = None, size: int = 64 << 20) -> Changes:
    return changes_from(PATH, size, Storage(MemorySystem({PATH: data})), parent=parent)


def test_what_was_closed_is_there_again() -> None:
    tracker = opened(saved(), size=64 << 20)
    changes = peek(tracker, "a")
    assert granules(changes) == {1, 2, 70_000}
    assert (changes.since, changes.size) == (IDS[0], 64 << 20)
    assert tracker.granularity == GRAIN


def test_the_path_of_a_file_is_a_form_of_changed() -> None:
    assert granules(read(saved())) == {1, 2, 70_000}
    assert read(saved()).since == IDS[0]
    assert read(saved(), size=(64 << 20) + 1).size == 64 << 20
    assert granules(read(saved(), size=2 * GRAIN)) == {1}


def test_the_file_of_several_consumers_needs_the_parent() -> None:
    system = MemorySystem()
    with ChangeTracker.create(PATH, 64 << 20, GRAIN, storage=Storage(system)) as tracker:
        with_image(tracker, "a", IDS[0])
        tracker.mark(0, 1)
        with_image(tracker, "b", IDS[1])
        tracker.mark(5 * GRAIN, 1)
    data = bytes(system.files[PATH])
    assert granules(read(data, IDS[0])) == {0, 5}
    assert granules(read(data, IDS[1])) == {5}
    for parent in (None, IDS[2]):
        with pytest.raises(RequestError, match="several consumers \\('a', 'b'\\)"):
            read(data, parent)


def test_files_that_give_a_doubt() -> None:
    system = MemorySystem()
    tracker = ChangeTracker.create(PATH, 64 << 20, GRAIN, storage=Storage(system))

    def doubt() -> str | None:
        return changes_from(PATH, 64 << 20, Storage(system)).doubt

    assert doubt() == "the tracker has seen no image yet"
    generation = tracker.begin("a")
    tracker.save()
    assert doubt() == "consumer 'a' of the tracker has no image yet"
    generation.commit(IDS[0])
    tracker.save()
    assert doubt() is None
    tracker.mark(0, 1)
    assert "still in use" in str(doubt())
    tracker.distrust("the filter was off.")
    tracker.save()
    assert doubt() == "the filter was off."
    system.files[PATH][-1] ^= 1
    assert "damaged" in str(doubt())


def test_a_file_not_closed_is_distrusted_until_the_next_image() -> None:
    system = MemorySystem({PATH: saved()})
    ChangeTracker.open(PATH, storage=Storage(system)).mark(0, 1)
    system = MemorySystem(system.snapshot())
    with ChangeTracker.open(PATH, storage=Storage(system)) as tracker:
        generation = tracker.begin("a")
        assert "not closed in order" in str(generation.changes().doubt)
        assert generation.changes().since == IDS[0]
    # Closing in order does not bring the trust back; only an image does.
    with ChangeTracker.open(PATH, storage=Storage(system)) as tracker:
        generation = tracker.begin("a")
        assert "not closed in order" in str(generation.changes().doubt)
        tracker.mark(9 * GRAIN, 1)
        generation.commit(IDS[1])
    assert granules(peek(opened(bytes(system.files[PATH])), "a")) == {9}


def test_a_disk_of_another_size() -> None:
    data = saved()
    system = MemorySystem({PATH: data})
    tracker = ChangeTracker.open(PATH, size=(64 << 20) + 512, storage=Storage(system))
    assert tracker.size == (64 << 20) + 512
    assert "this one has 67109376" in str(peek(tracker, "a").doubt)
    # Nobody may find the file trusted by giving the old size again.
    assert "not closed in order" in str(peek(opened(bytes(system.files[PATH])), "a").doubt)


def test_an_older_file() -> None:
    system = MemorySystem({PATH: saved()})
    tracker = ChangeTracker.open(PATH, storage=Storage(system))
    older = tracker.epoch
    tracker.mark(0, 1)
    tracker.close()
    newer = tracker.epoch
    assert older != newer
    now = bytes(system.files[PATH])
    assert granules(peek(opened(now, expected_epoch=newer), "a")) == {0, 1, 2, 70_000}
    assert "epoch" in str(peek(opened(now, expected_epoch=older), "a").doubt)
    assert "epoch" in str(peek(opened(saved(), expected_epoch=newer), "a").doubt)


def test_damaged_files() -> None:
    """Each flipped bit and each cut: an error, or a doubt where the size is given."""
    data = saved((1,))
    for at in itertools.chain(range(8, 700), range(700, len(data), 97)):
        broken = bytearray(data)
        broken[at] ^= 1 << at % 8
        with pytest.raises((FormatError, IntegrityError), match=PATH):
            opened(bytes(broken))
        assert "damaged" in str(peek(opened(bytes(broken), size=1 << 20), "a").doubt), at
        assert "damaged" in str(read(bytes(broken)).doubt)
    for length in itertools.chain(range(8, 600, 7), range(600, len(data), 211)):
        with pytest.raises((FormatError, IntegrityError), match=PATH):
            opened(data[:length])
        assert "damaged" in str(peek(opened(data[:length], size=1 << 20), "a").doubt)
    assert "damaged" in str(peek(opened(data + b"\0", size=1 << 20), "a").doubt)


def test_a_damaged_file_serves_again_after_an_image() -> None:
    data = bytearray(saved())
    data[600] ^= 1
    system = MemorySystem({PATH: bytes(data)})
    with ChangeTracker.open(PATH, size=1 << 20, storage=Storage(system)) as tracker:
        with_image(tracker, "b")
        tracker.mark(70_000, 1)
    tracker = opened(bytes(system.files[PATH]))
    assert (tracker.size, tracker.granularity) == (1 << 20, 65_536)
    assert granules(peek(tracker, "b"), 65_536) == {1}


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"AIVTRCK", b"\x89AIV\r\n\x1a\n" * 100])
def test_a_file_of_another_kind_is_never_touched(data: bytes) -> None:
    system = MemorySystem({PATH: data})
    with pytest.raises(FormatError, match="not the file of a change tracker"):
        ChangeTracker.open(PATH, size=1 << 20, storage=Storage(system))
    assert system.snapshot() == {PATH: data}
    assert not system.open_descriptors


def forged(data: bytes, at: int, new: bytes) -> bytes:
    """A file with some bytes exchanged and the right digests."""
    changed = bytearray(data)
    changed[at : at + len(new)] = new
    if at >= 512:
        changed[64:96] = digest(bytes(changed[512:]))
    changed[480:512] = digest(bytes(changed[:480]))
    return bytes(changed)


def number(value: int, size: int = 8) -> bytes:
    return value.to_bytes(size, "little")


# Content of saved(): one consumer (32 bytes and its name), counts of one segment, 2 chunk numbers.
@pytest.mark.parametrize(
    ("at", "new", "error"),
    [
        (8, b"\2", UnsupportedError),  # version
        (10, b"\0", LimitError),  # state
        (10, b"\3", LimitError),
        (11, b"\x08", LimitError),  # granularity
        (11, b"\xff", LimitError),
        (12, b"\1", FormatError),  # reserved
        (100, b"\1", FormatError),
        (16, number(0), LimitError),  # size
        (16, number(2**64 - 1), LimitError),
        (24, bytes(16), FormatError),  # epoch
        (40, number(2**63), LimitError),  # content length
        (40, number(100), FormatError),
        (48, number(0, 4), FormatError),  # consumers
        (48, number(2, 4), FormatError),
        (48, number(2**32 - 1, 4), LimitError),
        (52, number(0, 4), FormatError),  # segments
        (52, number(2**32 - 1, 4), LimitError),
        (56, number(1), FormatError),  # chunks
        (56, number(2**64 - 1), LimitError),
        (528, number(0), LimitError),  # watched
        (528, number((64 << 20) + 1), LimitError),
        (536, number(2, 4), LimitError),  # first segment
        (540, number(0, 2), LimitError),  # length of the name
        (540, number(65_535, 2), LimitError),
        (540, number(255, 2), FormatError),
        (542, number(65_535, 2), LimitError),  # length of the doubt
        (542, number(2000, 2), FormatError),
        (544, b"\xff", FormatError),  # name
        (545, number(1, 4), FormatError),  # chunks of the segment
        (545, number(2**32 - 1, 4), FormatError),
        (549, number(2), FormatError),  # chunk numbers
        (557, number(0), FormatError),
        (557, number(2**64 - 1), FormatError),
        (557, number(2**57 // (GRAIN * CHUNK_GRANULES) + 1), FormatError),
    ],
)
def test_forged_files(at: int, new: bytes, error: type[Exception]) -> None:
    assert granules(peek(opened(forged(saved(), 0, b"A")), "a")) == {1, 2, 70_000}
    with pytest.raises(error, match=PATH):
        opened(forged(saved(), at, new))


def test_a_newer_file_is_not_overwritten() -> None:
    system = MemorySystem({PATH: forged(saved(), 8, b"\2")})
    before = system.snapshot()
    for use in (
        lambda: ChangeTracker.open(PATH, size=1 << 20, storage=Storage(system)),
        lambda: changes_from(PATH, 1 << 20, Storage(system)),
    ):
        with pytest.raises(UnsupportedError, match="version 2"):
            use()
    assert system.snapshot() == before


@settings(max_examples=300, deadline=None)
@given(st.integers(8, 5000), st.binary(min_size=1, max_size=40), st.integers(1, 2**57))
def test_hostile_files(at: int, new: bytes, size: int) -> None:
    """With the right digests: a tracker that works, or a typed error."""
    data = forged(saved((1, 40_000)), at, new)
    try:
        tracker = opened(data)
    except AipImageError:
        return
    for name in [*tracker.consumers, "new"]:
        changes = peek(tracker, name)
        assert all(sum(row) <= tracker.size for row in changes.ranges.tolist())
    tracker.resize(size)
    tracker.mark(size - 1, 1)
    tracker.close()


def test_files_that_are_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "t"
    first = ChangeTracker.create(path, 1 << 20)
    with pytest.raises(TargetError, match="already there"):
        ChangeTracker.create(path, 1 << 20)
    for turn in range(2):
        with pytest.raises(TargetError, match="another process"):
            ChangeTracker.open(path)
        if turn == 0:
            first.mark(0, 1)
            first.save()
    first.close()
    first.close()
    ChangeTracker.open(path).close()
    with pytest.raises(StorageError, match="cannot open"):
        ChangeTracker.open(tmp_path / "none", size=512)


def test_saving_nothing_new_writes_nothing() -> None:
    system = MemorySystem({PATH: saved()})
    before = system.snapshot()
    with ChangeTracker.open(PATH, storage=Storage(system)) as tracker:
        tracker.save()
    assert system.snapshot() == before


# Faults and crashes


class Witness:
    """Does the same work each time, and knows which marks were accepted.

    Attributes:
        accepted: granules by the image that they count from.
    """

    def __init__(self, storage: Storage, path: str, note: Callable[[str], None]) -> None:
        self.storage, self.path, self.note = storage, path, note
        self.tracker: ChangeTracker | None = None

    def mark(self, granule: int) -> None:
        assert self.tracker
        self.tracker.mark(granule * GRAIN, 1)
        self.note(f"mark {granule}")

    def image(self, image_id: str, granule: int) -> None:
        """Marks while the image is made belong to the next one."""
        assert self.tracker
        with self.tracker.begin("a") as generation:
            self.note(f"begin {image_id}")
            self.mark(granule)
            generation.commit(image_id)

    def run(self) -> None:
        self.tracker = ChangeTracker.create(self.path, 1 << 20, GRAIN, storage=self.storage)
        self.mark(1)
        self.image(IDS[0], 2)
        self.mark(3)
        self.tracker.save()
        self.mark(4)
        self.tracker.close()
        self.tracker = ChangeTracker.open(self.path, size=1 << 20, storage=self.storage)
        self.mark(5)
        self.image(IDS[1], 6)
        self.tracker.save()
        self.image(IDS[2], 7)
        self.tracker.close()
        self.tracker = ChangeTracker.open(self.path, size=1 << 20, storage=self.storage)
        self.tracker.begin("b").commit(IDS[3])
        self.tracker.save()
        self.mark(8)
        self.tracker.resize((1 << 20) + 512)
        self.tracker.save()
        self.note("resized")
        self.tracker.close()


def owed(notes: Iterator[str] | tuple[str, ...], since: str | None) -> set[int]:
    """The granules that were acknowledged after the generation of an image began."""
    found: set[int] | None = None
    for note in notes:
        what, _, value = note.partition(" ")
        if what == "begin" and value == since:
            found = set()
        elif what == "mark" and found is not None:
            found.add(int(value))
    return found or set()


def trusted(storage: Storage, path: str, notes: tuple[str, ...], label: str) -> bool | None:
    """Whether what is there is trusted, after checking that it then lost nothing; None: no file."""
    if not storage.exists(path):
        return None
    try:
        tracker = ChangeTracker.open(path, storage=storage)
    except IntegrityError:
        # The head was torn, which shows; with the size the tracker goes on, distrusted.
        tracker = ChangeTracker.open(path, size=1 << 20, storage=storage)
        return peek(tracker, "a").doubt is None
    if "a" not in tracker.consumers:
        return False
    changes = peek(tracker, "a")
    if changes.doubt is not None:
        return False
    assert granules(changes) >= owed(notes, changes.since), label
    return True


def test_a_crash_at_every_call(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    recorder = RecordingSystemCalls(disk)
    Witness(Storage(recorder), str(disk / "t"), recorder.mark).run()
    results = []
    for state in crash_states(recorder, shuffles=6):
        files = {
            ROOT + n[len(str(disk)) :]: state.disk.data.get(i, b"")
            for n, i in state.disk.names.items()
        }
        storage = Storage(MemorySystem(files))
        result = trusted(storage, PATH, state.marks, state.label)
        results.append(result)
        if result is None:
            assert not state.marks, state.label
    assert results[-1] is True
    assert results.count(True) > 20
    assert results.count(False) > 20


@pytest.mark.parametrize("short", [False, True])
@pytest.mark.parametrize("permanent", [False, True])
def test_every_system_call_fails(short: bool, permanent: bool) -> None:
    """Whether the process goes on after the error, or ends."""
    counter = FaultySystemCalls(inner=MemorySystem())
    Witness(Storage(counter), PATH, lambda note: None).run()
    seen = set()
    for at in range(counter.total):
        memory = MemorySystem()
        system = FaultySystemCalls(Fault(at, short=short, permanent=permanent), inner=memory)
        notes: list[str] = []
        witness = Witness(Storage(system), PATH, notes.append)
        try:
            witness.run()
        except StorageError:
            seen.add("failed")
        else:
            assert "resized" in notes
        left = Storage(MemorySystem(memory.snapshot()))
        seen.add(str(trusted(left, PATH, tuple(notes), f"call {at}")))
        if witness.tracker is not None and not permanent:
            goes_on(witness, notes)
            left = Storage(MemorySystem(memory.snapshot()))
            seen.add(str(trusted(left, PATH, tuple(notes), f"call {at}, gone on")))
    assert {"failed", "True", "False"} <= seen


def goes_on(witness: Witness, notes: list[str]) -> None:
    """After an error the embedder marks, saves and closes."""
    tracker = witness.tracker
    assert tracker
    for work in (lambda: witness.mark(9), tracker.save, lambda: witness.mark(10), tracker.close):
        try:
            work()
        except (StorageError, RequestError):
            continue
    # A refused mark is remembered as long as the process lives, but is owed to nobody.
    assert all(note in ("resized",) or note.split()[0] in ("mark", "begin") for note in notes)


def test_saving_does_not_forget_a_mark_that_was_refused() -> None:
    memory = MemorySystem({PATH: saved(())})
    system = FaultySystemCalls(Fault(0, kinds=("fsync",)), inner=memory)
    tracker = ChangeTracker.open(PATH, storage=Storage(system))
    for _ in range(2):
        with pytest.raises(StorageError):
            tracker.mark(3 * GRAIN, 1)
    with pytest.raises(StorageError):
        tracker.save()
    assert "in use" in str(read(bytes(memory.files[PATH])).doubt)


# Documents


def test_the_example_in_the_documents(tmp_path: Path) -> None:
    text = (DOCS / "tracking.md").read_text("utf-8")
    code = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)[0]
    assert len(code.strip().splitlines()) <= 11
    (tmp_path / "disk.raw").write_bytes(bytes(1 << 20))
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[[65536, 65536]]\n"


def test_the_storage_that_is_used_by_default(tmp_path: Path) -> None:
    assert isinstance(DEFAULT, Storage)
    with ChangeTracker.create(tmp_path / "t", 1 << 20) as tracker:
        with_image(tracker, "a")
        tracker.mark(0, 1)
    assert granules(changes_from(tmp_path / "t", 1 << 20), 65_536) == {0}

"""The tracker against a plain set, under threads, after crashes, and with damaged files."""

from __future__ import annotations

import copy
import itertools
import sys
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aipimage.errors import RequestError
from aipimage.io.changes.chunkmap import CHUNK_GRANULES, Chunks, chunk_ranges, merged, set_ranges
from aipimage.io.changes.forms import Changes, changes_from
from aipimage.io.system.storage import Storage
from aipimage.ranges import joined
from aipimage.tracking import ChangeTracker, Generation
from tests.chain.tracked import GRAIN, IDS, PATH, granules, peek, with_image
from tests.support.memory import MemorySystem

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

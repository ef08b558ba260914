"""The file of a change tracker: written, read, forged and exchanged."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from aipimage.io.changes.chunkmap import CHUNK_GRANULES
from aipimage.io.changes.forms import changes_from
from aipimage.io.system.storage import Storage
from aipimage.tracking import ChangeTracker
from tests.chain.tracked import GRAIN, IDS, PATH, granules, number, peek, read, saved, with_image
from tests.support.memory import MemorySystem


def opened(data: bytes, **options: object) -> ChangeTracker:
    storage = Storage(MemorySystem({PATH: data}))
    return ChangeTracker.open(PATH, storage=storage, **options)  # type: ignore[arg-type]


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

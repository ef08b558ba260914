"""A change tracker whose calls fail or whose power goes."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from aipimage.errors import IntegrityError, RequestError, StorageError
from aipimage.io.changes.forms import changes_from
from aipimage.io.system.storage import DEFAULT, Storage
from aipimage.tracking import ChangeTracker
from tests.chain.tracked import GRAIN, IDS, PATH, granules, peek, read, saved, with_image
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import Fault, FaultySystemCalls
from tests.support.memory import ROOT, MemorySystem

DOCS = Path(__file__).resolve().parent.parent.parent / "docs"


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

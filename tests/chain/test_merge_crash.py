"""A merge that ends anywhere: nothing is lost, and the next one goes on (docs/format.md, 9.5)."""

from __future__ import annotations

import errno
import itertools
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from aipimage.errors import AipImageError, CancelledError, RequestError, StorageError, TargetError
from aipimage.format.constants import RecordType
from aipimage.io.merge import copying as mergecopy
from aipimage.io.merge.job import merge_images
from aipimage.io.records import keys
from aipimage.io.system import progress
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.image import open_image
from tests.chain.chains import Series, contents_over_time, copy_of, path_of, records_of, series
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import Fault, FaultySystemCalls, count_calls
from tests.support.images import PASSWORD, read_all, remember_derivations
from tests.support.memory import ROOT, MemorySystem

NAMES = ("zstd", "aes", "split")
PARTIAL = path_of("m") + ".partial"


@pytest.fixture(params=NAMES)
def five(request: pytest.FixtureRequest) -> Series:
    """A chain of five images."""
    return series(5, request.param)


@pytest.fixture(scope="module", autouse=True)
def derivations_are_remembered() -> Iterator[None]:
    """Derive each key once; the real function is put back for the other tests."""
    real = keys._slot_keys
    remember_derivations()
    yield
    keys._slot_keys = real


@pytest.fixture(autouse=True)
def small_batches() -> Any:
    """So that there are many points at which a merge of small images can end."""
    with mock.patch.object(mergecopy, "BATCH", 20_000):
        yield


def merge(made: Series, system: SystemCalls | None = None, **more: Any) -> Any:
    split = 16_384 if made.protection == "split" else None
    storage = Storage(system or made.system)
    return made.merge("m", (1, 2, 3), split=split, storage=storage, threads=1, **more)


def on(made: Series, files: dict[str, bytes]) -> Series:
    """The same chain with other files."""
    other = copy_of(made)
    other.system = MemorySystem(files)
    return other


def check_points(made: Series) -> None:
    """The last point of the run and all outside of it can be restored."""
    merged = path_of("m") in made.system.files
    for name, contents in ((0, "0"), ("m" if merged else 3, "3"), (4, "4")):
        with open_image(path_of(name), made.password, storage=Storage(made.system)) as image:
            assert read_all(image) == made.contents[contents]


def test_each_failing_call(five: Series) -> None:
    """Every system call fails once: nothing is lost, the same command then does it."""

    def run(system: SystemCalls) -> None:
        assert isinstance(system, FaultySystemCalls)
        system.inner = copy_of(five).system
        merge(five, system, remove=True)

    resumed = []
    # Of a split image there are as many calls again for each part.
    for at in range(0, count_calls(run), {"zstd": 2, "aes": 5, "split": 31}[five.protection]):
        made = copy_of(five)
        system = FaultySystemCalls(Fault(at, errno.EIO), inner=made.system)
        removing = False
        try:
            merge(five, system, remove=True)
        except AipImageError:
            removing = path_of("m") in made.system.files
        except OSError as error:
            pytest.fail(f"call {at}: {error!r}")
        check_points(made)
        if path_of("m") not in made.system.files:
            resumed.append(merge(made, remove=True).resumed)
            check_points(made)
        elif removing:
            # Whole and durable; what was to be removed is only in the way of disk space.
            assert not [name for name in made.system.files if name.endswith(".partial")]
    assert any(resumed)
    assert not all(resumed)


def test_power_fails_at_any_point(five: Series, tmp_path: Path) -> None:
    """On every disk that may be left: all points, and the merge can be done (again)."""
    for path, data in five.system.snapshot().items():
        (tmp_path / os.path.basename(path)).write_bytes(data)
    recorder = RecordingSystemCalls(tmp_path)
    on_disk = copy_of(five)
    split = 16_384 if five.protection == "split" else None
    merge_images(
        tmp_path / "m.aiv",
        [tmp_path / f"{k}.aiv" for k in (1, 2, 3)],
        password=five.password,
        split=split,
        remove=True,
        threads=1,
        storage=Storage(recorder),
    )
    recorder.mark("done")
    seen, resumed = set(), 0
    step = 7 if five.protection == "split" else 1
    for state in itertools.islice(crash_states(recorder, shuffles=2, tears=2), 0, None, step):
        files = {
            f"{ROOT}/{os.path.relpath(name, recorder.root)}": bytes(state.disk.data.get(inode, b""))
            for name, inode in state.disk.names.items()
        }
        made = on(on_disk, files)
        whole = path_of("m") in files
        seen.add(whole)
        assert whole or not state.marks, state.label
        if whole:
            with open_image(path_of("m"), five.password, storage=Storage(made.system)) as image:
                assert read_all(image) == five.contents["3"], state.label
            continue
        resumed += merge(made, remove=True).resumed
        check_points(made)
    assert seen == {True, False}
    assert resumed > 5


def stopped(made: Series, take: int) -> None:
    """Merge until so many batches were taken."""

    class StoppedError(Exception):
        pass

    real, count = mergecopy._verified, 0

    def stop(batch: mergecopy.Batch) -> mergecopy.Batch:
        nonlocal count
        count += 1
        if count > take:
            raise StoppedError
        return real(batch)

    with mock.patch.object(mergecopy, "_verified", stop), pytest.raises(StoppedError):
        merge(made)


def test_what_was_copied_is_not_written_again(five: Series) -> None:
    """Stopped twice, then finished: each record is written once, and no nonce serves two."""
    before = merge(copy_of(five))
    made, partials = copy_of(five), []
    for take in (2, 4):
        stopped(made, take)
        partials.append(sum(len(d) for p, d in made.system.files.items() if ".partial" in p))
    assert 0 < partials[0] < partials[1]
    system = FaultySystemCalls(inner=made.system)
    written = 0
    real = system.inner.pwritev

    def counting(descriptor: int, buffers: Any, offset: int) -> int:
        nonlocal written
        written += sum(view.nbytes for view in buffers)
        return real(descriptor, buffers, offset)

    with mock.patch.object(made.system, "pwritev", counting):
        result = merge(made, system)
    assert result.resumed
    assert not before.resumed
    assert written < before.bytes_copied + 40_000 - partials[1] // 2
    check_points(made)
    found = records_of(made.system, "m", made.password)
    origins = {key[0] for key in found if key[1] == RecordType.CONTINUATION}
    assert len(origins) == 2
    assert len(five.system.files) + len(open_files(made, "m")) == len(made.system.files)


def open_files(made: Series, name: object) -> list[str]:
    """The files of an image."""
    return [path for path in made.system.files if path.startswith(path_of(name))]


@pytest.mark.parametrize("protection", NAMES)
def test_own_records_of_the_first_attempt_are_written_anew(protection: str) -> None:
    """The rename fails, when the seal was written already: new keys, and no number twice."""
    made = series(5, protection)
    system = FaultySystemCalls(Fault(1, errno.EIO, ("replace",)), inner=made.system)
    with pytest.raises(StorageError):
        merge(made, system)
    left = {path.removesuffix(".partial"): data for path, data in made.system.snapshot().items()}
    assert path_of("m") in left
    first = records_of(MemorySystem(left), "m", made.password)
    result = merge(made)
    assert result.resumed
    check_points(made)
    second = records_of(made.system, "m", made.password)
    same = first.keys() & second.keys()
    assert all(first[key] == second[key] for key in same)
    own = {key[0] for key in first.keys() - second.keys()}
    assert len(own) == 1
    assert not own & {key[0] for key in second}


@pytest.mark.parametrize("change", ["cut", "torn", "other records", "no header"])
def test_a_partial_file_that_is_not_as_it_was(five: Series, change: str) -> None:
    """Whatever it holds, only what is the same again is kept."""
    made = copy_of(five)
    stopped(made, 4)
    data = made.system.files[PARTIAL]
    middle = len(data) * 5 // 6
    if change == "cut":
        del data[middle:]
    elif change == "torn":
        data[middle : middle + 512] = bytes(512)
    elif change == "other records":
        data[middle:] = made.system.files[path_of(4)][: len(data) - middle]
    else:
        del data[100:]
    result = merge(made)
    # A part is smaller than a batch: nothing of a first part that is damaged can be kept.
    assert result.resumed == (change != "no header" and five.protection != "split")
    check_points(made)


def test_a_partial_file_of_something_else(five: Series) -> None:
    """Another merge of the chain is replaced; what no merge of this chain left stays."""
    made = copy_of(five)
    stopped(made, 4)
    other = copy_of(made)
    if made.protection != "split":
        # The same name for another run: what both begin with is kept, the rest is not.
        other.merge("m", (2, 3, 4))
        other.check("m", made.contents["4"])
    other = copy_of(made)
    assert not merge(other, resume=False).resumed
    check_points(other)
    strange = series(2, five.protection, 9)
    for path, data in made.system.snapshot().items():
        if ".partial" in path:
            strange.system.files[path] = bytearray(data)
    split = 16_384 if five.protection == "split" else None
    before = strange.system.snapshot()
    with pytest.raises(TargetError, match="was not left by a merge of this chain"):
        strange.merge("m", (0, 1), split=split)
    assert strange.system.snapshot() == before
    assert not strange.merge("m", (0, 1), split=split, resume=False).resumed
    strange.check("m", strange.contents["1"])


@pytest.mark.parametrize("left", ["image", "note of another file", "text", "changed note"])
def test_what_no_merge_left_stays(five: Series, left: str) -> None:
    """Also an image of the same chain, which begins like the merged one, is not cut."""
    made = copy_of(five)
    stopped(made, 4)
    state, data = PARTIAL + ".state", made.system.files[path_of(1)]
    split = [path for path in made.system.files if path.startswith(path_of(1) + ".")]
    if left == "image":
        del made.system.files[state]
    if left in ("image", "note of another file"):
        for path in [path for path in made.system.files if path.endswith(".partial")]:
            del made.system.files[path]
        made.system.files[PARTIAL] = bytearray(data)
        for path in split:
            made.system.files[path.replace(path_of(1), path_of("m")) + ".partial"] = bytearray(
                made.system.files[path]
            )
    elif left == "text":
        made.system.files[PARTIAL] = bytearray(b"not an image at all, " * 999)
    else:
        text = json.loads(made.system.files[state].decode()) | {"request": "00" * 32}
        made.system.files[state] = bytearray(json.dumps(text).encode())
    before = made.system.snapshot()
    with pytest.raises(TargetError, match=r"m\.aiv\.partial: was not left by a merge"):
        merge(made)
    assert made.system.snapshot() == before
    assert not merge(made, resume=False).resumed
    check_points(made)


def test_a_header_whose_first_bytes_were_lost_is_written_again(five: Series) -> None:
    """Writes reach the disk in any order: zeros may stand before what was written later."""
    made = copy_of(five)
    stopped(made, 4)
    for path in [path for path in made.system.files if path.endswith(".partial")]:
        data = made.system.files.pop(path)
        if path == PARTIAL:
            made.system.files[path] = bytearray(8) + data[8:300]
    assert not merge(made).resumed
    check_points(made)


def test_another_part_size_is_refused() -> None:
    made = series(5, "split")
    stopped(made, 4)
    before = made.system.snapshot()
    for split, says in ((20_000, "another part size"), (None, "was begun in parts")):
        with pytest.raises(RequestError, match=says):
            made.merge("m", (1, 2, 3), split=split)
    assert made.system.snapshot() == before
    merge(made)
    check_points(made)


def test_cancelled_at_each_report(five: Series) -> None:
    """The clock runs fast, so that the callback is asked each time."""
    resumed = 0
    for most in range(1, 100):
        made, seen = copy_of(five), 0

        def callback(_: object, most: int = most) -> bool:
            nonlocal seen
            seen += 1
            return seen < most

        clock = iter(range(10**9))
        with mock.patch.object(progress, "time", mock.Mock(monotonic=lambda c=clock: next(c))):
            try:
                merge(made, progress=callback)
            except CancelledError:
                assert path_of("m") not in made.system.files
            else:
                break
        resumed += merge(made).resumed
        check_points(made)
    assert resumed > 3


def test_only_a_lost_race_takes_the_name(five: Series) -> None:
    """Somebody else makes a file of that name meanwhile: it stays."""
    made = copy_of(five)
    real: Callable[..., Any] = made.system.fsync

    def create(descriptor: int) -> None:
        made.system.files.setdefault(path_of("m"), bytearray(b"theirs"))
        real(descriptor)

    with mock.patch.object(made.system, "fsync", create), pytest.raises(RequestError):
        merge(made, remove=True)
    assert made.system.files[path_of("m")] == b"theirs"
    for name in range(5):
        made.check(name)


def test_overwriting() -> None:
    made = Series("aes")
    points = contents_over_time(3)
    for k, contents in enumerate(points):
        made.add(k, contents, k - 1 if k else None)
    made.system.files[path_of("m")] = bytearray(b"old")
    with pytest.raises(RequestError):
        made.merge("m", range(3))
    assert made.system.files[path_of("m")] == b"old"
    made.merge("m", range(3), overwrite=True)
    made.check("m", points[2])
    assert made.password == PASSWORD

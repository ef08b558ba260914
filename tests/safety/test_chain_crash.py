"""The power goes, or a call fails, at any point of what is done to a chain: no point in time that
could be restored before is lost (classes 57 to 60).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import pytest

from aipimage.errors import AipImageError
from aipimage.io.creating.results import CreateResult
from aipimage.io.increment import grouping
from aipimage.io.increment import plan as planning
from aipimage.io.increment.create import create_image
from aipimage.io.merge.job import merge_images
from aipimage.io.stream.passwords import change_password
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.retention import KeepRules, Point, carry_out
from aipimage.retention import plan as retention_plan
from aipimage.volumes.chain import find_chain
from aipimage.volumes.image import open_image
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import FaultySystemCalls, each_fault
from tests.support.images import CHEAP, PASSWORD, mixed, options
from tests.support.memory import ROOT, MemorySystem
from tests.support.memorychains import Disk, make

SIZE = (2 << 20) + 5000
WORDS = (None, PASSWORD, "new")


class Job(NamedTuple):
    """What is done to a chain.

    Attributes:
        files: before, by name. points: contents that can be restored before.
        run: the work in a directory. new: content that can be restored afterwards, too.
        gone: whether some of the points go on purpose.
    """

    files: Mapping[str, bytes]
    points: frozenset[bytes]
    run: Callable[[Storage, str], object]
    new: bytes | None = None
    gone: frozenset[bytes] = frozenset()


def disk(number: int = 3) -> Disk:
    """The disk at a point in time."""
    data = bytearray(SIZE)
    data[:9000] = mixed(9000)
    for step in range(1, number + 1):
        for start in range(step * 8192, SIZE - 4096, 100_000):
            data[start : start + 4096] = mixed(4096, step + 10)
    return Disk(bytes(data))


def chain(protected: str, count: int = 3) -> tuple[dict[str, bytes], frozenset[bytes]]:
    """Images 0 to ``count`` - 1, by name, and their contents."""
    system = MemorySystem()
    for number in range(count):
        parent = f"{number - 1}.aiv" if number else None
        make(system, f"{number}.aiv", [disk(number)], parent, protected)
    files = {os.path.basename(name): data for name, data in system.snapshot().items()}
    return files, frozenset(disk(number).content() for number in range(count))


def creating(protected: str, **more: object) -> Job:
    files, points = chain(protected)
    new = disk(3).content()

    def run(storage: Storage, directory: str) -> None:
        chosen = options(protected, checkpoint_bytes=1, parent=f"{directory}/2.aiv", **more)
        made = create_image(f"{directory}/3.aiv", [disk(3)], chosen, None, storage)
        assert made.parent_id is not None

    return Job(files, points, run, new)


def resuming(protected: str) -> Job:
    job = creating(protected)
    system = MemorySystem({f"{ROOT}/{name}": data for name, data in job.files.items()})
    source = disk(3)

    def stop(offset: int) -> None:
        if offset >= SIZE - 65_536:
            raise KeyboardInterrupt

    source.on_read = stop
    chosen = options(protected, checkpoint_bytes=1, parent=f"{ROOT}/2.aiv", threads=1)
    # Small pieces and groups, so that the first stripe is done when the last piece is read.
    with (
        mock.patch.object(planning, "PIECE", 65_536),
        mock.patch.object(grouping, "GROUP", 4096),
        pytest.raises(KeyboardInterrupt),
    ):
        create_image(f"{ROOT}/3.aiv", [source], chosen, None, Storage(system))
    files = {os.path.basename(name): data for name, data in system.snapshot().items()}
    assert "3.aiv.partial" in files

    def run(storage: Storage, directory: str) -> CreateResult:
        chosen = options(protected, checkpoint_bytes=1, parent=f"{directory}/2.aiv", resume=True)
        return create_image(f"{directory}/3.aiv", [disk(3)], chosen, None, storage)

    assert run(Storage(system), ROOT).resumed

    return Job(files, job.points, run, job.new)


def new_password() -> Job:
    files, points = chain("aes")

    def run(storage: Storage, directory: str) -> None:
        change_password(f"{directory}/1.aiv", PASSWORD, "new", parameters=CHEAP, storage=storage)

    return Job(files, points, run)


def merging(protected: str, remove: bool) -> Job:
    """The last two; with the inputs the point between is given up."""
    files, points = chain(protected, 4)
    word = PASSWORD if protected != "plain" else None

    def run(storage: Storage, directory: str) -> None:
        names = [f"{directory}/{n}.aiv" for n in (1, 2)]
        merge_images(f"{directory}/m.aiv", names, password=word, remove=remove, storage=storage)

    gone = frozenset([disk(1).content()]) if remove else frozenset()
    return Job(files, points - gone, run, None, gone)


def retaining(protected: str) -> Job:
    files, points = chain(protected, 5)
    word = PASSWORD if protected != "plain" else None
    gone = frozenset(disk(number).content() for number in range(3))

    def run(storage: Storage, directory: str) -> None:
        found = find_chain(directory, password=word, storage=storage)
        given = [
            Point(
                each.image_id,
                each.parent_id,
                each.kind,
                each.created,
                str(each.path),
                each.stored,
                each.replaces,
            )
            for each in found.members_of_tree
            if each.created is not None
        ]
        carry_out(
            retention_plan(given, KeepRules(last=2)),
            merge=lambda path, images: merge_images(
                path, [each.path for each in images], password=word, storage=storage
            ),
            remove=lambda point: storage.remove(point.path),
        )
        storage.sync_directory(directory)

    return Job(files, points - gone, run, None, gone)


JOBS: dict[str, Callable[[], Job]] = {
    "create": lambda: creating("plain"),
    "create by data, encrypted": lambda: creating("aes", compare="data"),
    "create tracked": lambda: creating("zstd", changed=[(0, SIZE)]),
    "create split": lambda: creating("split"),
    "resume": lambda: resuming("plain"),
    "resume encrypted": lambda: resuming("aes"),
    "password": new_password,
    "merge": lambda: merging("plain", False),
    "merge and remove": lambda: merging("aes", True),
    "retention": lambda: retaining("plain"),
}


def restorable(files: Mapping[str, bytes]) -> frozenset[bytes]:
    """The contents of all images that can be read; one that opens under its name is whole."""
    system = MemorySystem({f"{ROOT}/{name}": data for name, data in files.items()})
    found = set()
    for name in files:
        if name.endswith(".aiv"):
            for word in WORDS:
                try:
                    with open_image(f"{ROOT}/{name}", word, storage=Storage(system)) as image:
                        found.add(image.devices[0].open().readall())
                except AipImageError:
                    continue
    assert system.open_descriptors == 0
    return frozenset(found)


@pytest.mark.parametrize("name", JOBS)
def test_class_59_after_a_crash_at_any_point(tmp_path: Path, name: str) -> None:
    job = JOBS[name]()
    for file, data in job.files.items():
        (tmp_path / file).write_bytes(data)
    recorder = RecordingSystemCalls(tmp_path)
    job.run(Storage(recorder), str(tmp_path))
    recorder.mark("done")
    known: dict[int, frozenset[bytes]] = {}
    seen = set()
    for state in crash_states(recorder, shuffles=2, tears=2):
        files = {
            os.path.basename(path): bytes(state.disk.data.get(inode, b""))
            for path, inode in state.disk.names.items()
        }
        key = hash(frozenset(files.items()))
        if key not in known:
            known[key] = restorable(files)
        found = known[key]
        assert job.points <= found, f"{state.label}: a point is lost"
        wanted = job.points | job.gone | ({job.new} if job.new is not None else set())
        assert found <= wanted, f"{state.label}: there is something that never was"
        if state.marks and job.new is not None:
            assert job.new in found, f"{state.label}: acknowledged and lost"
        seen.add(found)
    assert len(seen) > 1 or not (job.new or job.gone)


@pytest.mark.parametrize("name", JOBS)
def test_class_57_a_call_fails(name: str) -> None:
    """Each call in turn, with an error, a full disk, or half of what was asked."""
    job = JOBS[name]()
    base = {f"{ROOT}/{file}": data for file, data in job.files.items()}

    def scenario(inner: SystemCalls) -> None:
        assert isinstance(inner, FaultySystemCalls)
        inner.inner = MemorySystem(base)
        job.run(Storage(inner), ROOT)

    faults = [
        *each_fault(scenario, errnos=(errno.EIO,)),
        *each_fault(scenario, errnos=(errno.ENOSPC,), kinds=("pwritev", "ftruncate", "open")),
        *each_fault(scenario, errnos=(0,), kinds=("pwritev", "preadv"), short=True),
    ]
    failed = 0
    step = max(1, len(faults) // 250)
    for fault in faults[::step]:
        system = MemorySystem(base)
        try:
            job.run(Storage(FaultySystemCalls(fault, inner=system)), ROOT)
            done = True
        except AipImageError:
            failed += 1
            done = False
        files = {os.path.basename(path): data for path, data in system.snapshot().items()}
        found = restorable(files)
        assert job.points <= found, f"{fault}: a point is lost"
        if done and job.new is not None:
            assert job.new in found, f"{fault}: reported as done"
        assert not done or not [each for each in files if each.endswith(".partial")], str(fault)
    assert failed > 5

"""Incremental and differential images: kinds, devices that come and go, targets.

The disks lie in memory but where a test is about files or processes.
"""

from __future__ import annotations

import io
import random
from typing import Any
from unittest import mock

import numpy as np
import pytest

from aipimage.errors import CancelledError, IncompleteError, RequestError, SourceError
from aipimage.io.increment.create import create_image
from aipimage.io.system import progress
from aipimage.io.system.storage import Storage
from tests.chain.increments import METHODS, altered, disk, given, made_of, stored_beside_copies
from tests.support.images import MIB, PASSWORD, options
from tests.support.memory import ROOT, MemorySystem
from tests.support.memorychains import Disk, at, check, make, opened

# Kinds


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("protected", ["plain", "zstd", "aes", "auth"])
def test_chains_of_every_kind_and_method(system: MemorySystem, method: str, protected: str) -> None:
    source, points = disk(), []
    word = PASSWORD if protected in ("aes", "auth") else None
    make(system, "0.aiv", [source], protected=protected)
    points.append(source.content())
    for number in range(1, 6):
        places = altered(source, number)
        kind, parent = ("differential", "0.aiv") if number == 4 else ("incremental", "")
        more: dict[str, Any] = given(method, places)
        if number == 4 and method == "tracked":
            more["changed"] = [(0, source.size)]
        made = make(system, f"{number}.aiv", [source], parent, protected, kind=kind, **more)
        assert made.kind == kind
        assert made.changes[0].reason is None
        assert made.changes[0].method == ("digests" if method == "auto" else method)
        points.append(source.content())
        assert not made.warnings
    for number, content in enumerate(points):
        check(system, f"{number}.aiv", [content], word)


def test_what_the_result_says(system: MemorySystem) -> None:
    source = Disk(bytes(range(256)) * 4096)
    first = make(system, "0.aiv", [source])
    assert (first.parent_id, first.sequence, first.kind) == (None, 0, "full")
    assert first.changes[0].method == "full"
    source.write(8192, b"x" * 4096)
    source.write(500_000, bytes(10))
    second = make(system, "1.aiv", [source], "0.aiv")
    assert (second.parent_id, second.sequence) == (first.image_id, 1)
    assert second.changes == (("digests", MIB, 8192, None),)
    assert (second.size, second.data, second.zero) == (MIB, MIB, 0)
    third = make(system, "2.aiv", [source], "1.aiv")
    assert third.changes[0].changed == 0
    assert third.sequence == 2
    assert stored_beside_copies(system, third) < 4000
    with opened(system, "2.aiv") as image:
        said = image.metadata["description"]
        assert said["kind"] == "incremental"
        assert said["parent_id"] == second.image_id
        assert said["parent_digest"] == second.digest
        assert image.metadata["result"]["changes"][0]["method"] == "digests"


def test_class_23_a_differential_on_an_increment_is_refused(system: MemorySystem) -> None:
    source = disk()
    make(system, "0.aiv", [source])
    make(system, "1.aiv", [source], "0.aiv")
    before = system.snapshot()
    with pytest.raises(RequestError, match="differential"):
        make(system, "2.aiv", [source], "1.aiv", kind="differential")
    assert system.snapshot() == before
    # In a directory the newest full one is the parent.
    made = make(system, "2.aiv", [source], "", kind="differential")
    with opened(system, "0.aiv") as image:
        assert made.parent_id == image.image_id


def test_a_full_image_inside_a_chain(system: MemorySystem) -> None:
    source = disk()
    make(system, "0.aiv", [source])
    altered(source)
    made = make(system, "1.aiv", [source], "0.aiv", kind="full")
    assert (made.kind, made.sequence, made.changes[0].method) == ("full", 1, "full")
    places = altered(source, 2)
    make(system, "2.aiv", [source], "1.aiv", changed=places)
    del system.files[at("0.aiv")]
    check(system, "1.aiv", [made_of(system, "1.aiv")])
    check(system, "2.aiv", [source.content()])


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "incremental"},
        {"kind": "differential"},
        {"kind": "other"},
        {"changed": [(0, 1)]},
        {"compare": "guess"},
        {"grain": 8192},
        {"grain": 0},
    ],
)
def test_requests_that_make_no_sense(system: MemorySystem, wrong: dict[str, Any]) -> None:
    with pytest.raises(RequestError):
        make(system, "0.aiv", [disk()], **wrong)
    assert not system.files


def test_digests_that_are_not_there_cannot_be_compared(system: MemorySystem) -> None:
    source = disk()
    make(system, "0.aiv", [source], block_digests=False)
    before = system.snapshot()
    with pytest.raises(RequestError, match="no block digests"):
        make(system, "1.aiv", [source], "0.aiv", compare="digests")
    assert system.snapshot() == before
    altered(source)
    made = make(system, "1.aiv", [source], "0.aiv")
    assert made.changes[0].method == "data"
    check(system, "1.aiv", [source.content()])


# Devices


def test_several_sources_with_changes_for_each(system: MemorySystem) -> None:
    disks = [disk(MIB + 512 * n, seed=n, name=f"sd{n}") for n in range(3)]
    make(system, "0.aiv", disks)
    places = [altered(each, n) for n, each in enumerate(disks)]
    changed = [places[0], None, np.array(places[2], np.int64)]
    made = make(system, "1.aiv", disks, "0.aiv", changed=changed)
    assert [each.method for each in made.changes] == ["tracked", "digests", "tracked"]
    check(system, "1.aiv", [each.content() for each in disks])
    before = system.snapshot()
    for wrong in (places[:2], {"sd0": places[0]}, 5):
        with pytest.raises(RequestError):
            make(system, "2.aiv", disks, "1.aiv", changed=wrong)
    assert system.snapshot() == before


def test_devices_that_come_go_and_change_places(system: MemorySystem) -> None:
    disks = [disk(MIB, seed=n, name=f"sd{n}") for n in range(4)]
    make(system, "0.aiv", disks[:2])
    for each in disks:
        altered(each, each.size)
    made = make(system, "1.aiv", disks[2::-1], "0.aiv")
    assert [each.method for each in made.changes] == ["full", "digests", "digests"]
    assert made.changes[0].reason == "the parent does not have it"
    check(system, "1.aiv", [each.content() for each in disks[2::-1]])
    made = make(system, "2.aiv", [disks[0], disks[3]], "1.aiv")
    assert [each.method for each in made.changes] == ["digests", "full"]
    check(system, "2.aiv", [disks[0].content(), disks[3].content()])
    altered(disks[3], 5)
    make(system, "3.aiv", [disks[3]], "2.aiv")
    check(system, "3.aiv", [disks[3].content()])


def test_sources_that_the_parent_does_not_have(system: MemorySystem) -> None:
    """By its place a lone source continues a lone device, whatever it is called: the user says so.
    In a directory it does not."""
    ours, other = disk(MIB), disk(MIB, seed=1, name="other")
    make(system, "0.aiv", [ours])
    made = make(system, "1.aiv", [other], "0.aiv")
    assert made.changes[0].method == "digests"
    check(system, "1.aiv", [other.content()])
    stranger = disk(MIB, seed=3, name="stranger")
    made = make(system, "2.aiv", [stranger, disk(512, name="another")], "0.aiv")
    assert made.kind == "full"
    assert made.sequence == 1
    assert "none of the sources" in made.warnings[0]
    assert "none of the sources" in str(made.changes[0].reason)
    made = make(system, "3.aiv", [disk(MIB, seed=4, name="nobody")], "")
    assert (made.kind, made.parent_id) == ("full", None)


SIZES = [
    (70_001, 70_000), (70_001, 512), (70_001, 1), (1, 70_001), (65_536, 65_537), (65_537, 65_536),
    (5000, 3 * MIB), (3 * MIB, 5000), (MIB + 4096, MIB + 512), (MIB, 2 * MIB), (4096, 4097),
    (12_288, 65_536), (65_536, 12_288), (8 * MIB + 1, 4 * MIB), (4 * MIB, 8 * MIB + 1),
]  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("before", "after"), SIZES)
def test_class_24_a_disk_that_changes_its_size(
    system: MemorySystem, method: str, before: int, after: int
) -> None:
    """There and back again; what it grows by is zeros at first, and once more with data."""
    source = Disk(random.Random(before).randbytes(before))
    make(system, "0.aiv", [source])
    sizes = [after, before, after, before]
    for number, size in enumerate(sizes, 1):
        old = source.size
        source.resize(size)
        if number > 2 and size > old:
            source.write(old, random.Random(number).randbytes(size - old))
        more = METHODS[method] | ({"changed": []} if method == "tracked" else {})
        made = make(system, f"{number}.aiv", [source], "", **more)
        assert made.kind == "incremental"
        assert made.size == size
        check(system, f"{number}.aiv", [source.content()])
    check(system, "0.aiv", [random.Random(before).randbytes(before)])


def test_growth_is_not_lost_beside_what_was_unreadable(system: MemorySystem) -> None:
    """Several reasons to take ranges overlap: the larger one counts."""
    source = disk(200_000)
    source.data[:] = random.Random(3).randbytes(200_000)
    source.bad = [(4096, 512), (196_608, 512)]
    make(system, "0.aiv", [source])
    source.bad = []
    source.resize(900_000)
    source.write(190_000, random.Random(4).randbytes(700_000))
    made = make(system, "1.aiv", [source], "0.aiv", changed=[(0, 900_000)])
    assert (made.changes[0].method, made.changes[0].changed) == ("tracked", 900_000)
    check(system, "1.aiv", [source.content()])


# Targets


def test_a_pipe_as_target(system: MemorySystem) -> None:
    source = disk()
    make(system, "0.aiv", [source])
    altered(source)
    target = io.BytesIO()
    made = create_image(target, [source], options(parent=ROOT), None, Storage(system))
    assert made.path is None
    assert made.kind == "incremental"
    system.files[at("1.aii")] = bytearray(target.getvalue())
    check(system, "1.aii", [source.content()])


def test_split_increments(system: MemorySystem) -> None:
    source = Disk(random.Random(1).randbytes(MIB))
    make(system, "0.aiv", [source], split=200_000)
    points = [source.content()]
    for number in (1, 2):
        source.write(number * 300_000, random.Random(number).randbytes(100_000))
        made = make(system, f"{number}.aii", [source], "", split=32_768, threads=2)
        assert made.parts > 3
        assert made.sequence == number
        points.append(source.content())
    for name, content in zip(("0.aiv", "1.aii", "2.aii"), points, strict=True):
        check(system, name, [content])
    del system.files[at("1.aii.002")]
    with pytest.raises(IncompleteError):
        made_of(system, "2.aii")


def test_compression_may_change_within_a_chain(system: MemorySystem) -> None:
    source = Disk(b"compressible " * 100_000)
    for number, name in enumerate(("zstd:1", "none", "zstd:5", "none")):
        parent = "" if number else None
        make(system, f"{number}.aiv", [source], parent, compress=name)
        check(system, f"{number}.aiv", [source.content()])
        source.write(number * 200_000, b"otherwise " * 10_000)


def test_nothing_is_left_behind_by_a_failure(system: MemorySystem) -> None:
    source = disk(9 * MIB, 300)
    make(system, "0.aiv", [source])
    altered(source, count=50)
    before = system.snapshot()

    def fail(offset: int) -> None:
        if offset > 5 * MIB:
            raise SourceError("gone")

    source.on_read = fail
    for method in ("digests", "data"):
        with pytest.raises(SourceError, match="gone"):
            make(system, "1.aiv", [source], "0.aiv", compare=method)
    assert system.snapshot() == before
    assert system.open_descriptors == 0


def test_a_cancelled_comparison_stops_soon(system: MemorySystem) -> None:
    """Also where nothing changed: progress is told as the disk is read."""
    source = disk(64 * MIB, 10)
    make(system, "0.aiv", [source])
    source.reads.clear()
    told = []

    def no(now: Any) -> bool:
        told.append(now.done)
        return len(told) < 3

    clock = iter(range(10**6))
    chosen = options(parent=at("0.aiv"))
    with (
        mock.patch.object(progress, "time", mock.Mock(monotonic=lambda: next(clock))),
        pytest.raises(CancelledError),
    ):
        create_image(at("1.aiv"), [source], chosen, no, Storage(system))
    assert len(told) == 3
    assert sum(length for _, length in source.reads) < 48 * MIB
    assert list(system.files) == [at("0.aiv")]

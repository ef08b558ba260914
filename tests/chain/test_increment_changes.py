"""What an increment is told of changes, and what it finds: trackers, holes, bad sectors."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest

import aipimage
from aipimage.errors import AipImageError, SourceError
from aipimage.extents import Extent, Kind
from aipimage.io.changes import forms as changes
from aipimage.io.changes.forms import ChangedBitmap, Changes, write_changes
from aipimage.io.increment import devicework
from aipimage.tracking import ChangeTracker
from tests.chain.increments import METHODS, ODD, altered, disk, given, made_of, stored_beside_copies
from tests.support.images import MIB
from tests.support.memory import MemorySystem
from tests.support.memorychains import Disk, change, check, make, scattered

# What changed


@pytest.mark.parametrize("grain", [512, 1024, 4096])
@pytest.mark.parametrize("method", ["tracked", "digests", "data"])
def test_a_change_costs_as_much_as_its_clusters(
    system: MemorySystem, method: str, grain: int
) -> None:
    source = Disk(random.Random(1).randbytes(4 * MIB))
    make(system, "0.aiv", [source], frame_shift=16)
    places = [(8 * 4096 * n + 700, 1) for n in range(1, 100)]
    for start, _ in places:
        source.write(start, bytes([source.data[start] ^ 255]))
    more = given(method, places)
    made = make(system, "1.aiv", [source], "0.aiv", grain=grain, threads=2, **more)
    assert made.changes[0].changed == 99 * grain
    blocks = len({start >> 16 for start, _ in places})
    # Beside the data: an extent of 12 bytes and one of the map's 19 for each change, two to keep.
    assert stored_beside_copies(system, made) < 99 * (grain + 80) + blocks * 60 + 4000
    check(system, "1.aiv", [source.content()])


def test_what_is_written_again_without_a_change(system: MemorySystem) -> None:
    """A comparison does not keep it; a tracker's word is taken."""
    source = Disk(random.Random(1).randbytes(MIB))
    make(system, "0.aiv", [source])
    compared = make(system, "1.aiv", [source], "0.aiv")
    tracked = make(system, "2.aiv", [source], "0.aiv", changed=[(0, 4096)])
    assert (compared.changes[0].changed, tracked.changes[0].changed) == (0, 4096)


def ranges(places: list[tuple[int, int]], size: int, folder: Path) -> dict[str, Any]:
    """The same changes in every form."""
    bits = np.zeros(-(-size // 512), np.bool_)
    for start, length in places:
        bits[start // 512 : -(-(start + length) // 512)] = True
    write_changes(folder / "set.chg", Changes(size, changes.ranges_within(places, size)), 512)
    rows, at_sector = [], 0
    edges = [*np.flatnonzero(np.diff(bits)) + 1, len(bits)]
    for edge in edges:
        length = (edge - at_sector) * 512
        rows.append(
            {
                "offset": int(at_sector * 512),
                "length": int(length),
                "type": int(bits[at_sector]),
                "description": "dirty" if bits[at_sector] else "clean",
            }
        )
        at_sector = edge
    (folder / "map.json").write_text(json.dumps(rows))

    class Mine:
        def changes(self) -> Changes:
            return Changes(size, changes.ranges_within(places, size))

    return {
        "pairs": places,
        "array": np.array(places, np.uint64),
        "extents": [Extent(start, length, Kind.DATA) for start, length in places],
        "bitmap": ChangedBitmap(bits, 512, size),
        "packed": ChangedBitmap(np.packbits(bits, bitorder="little"), 512, size),
        "changes": Changes(size, changes.ranges_within(places, size)),
        "object": Mine(),
        "file": str(folder / "set.chg"),
        "map": folder / "map.json",
    }


FORMS = ["pairs", "array", "extents", "bitmap", "packed", "changes", "object", "file", "map"]


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_changes(tmp_path: Path, form: str) -> None:
    size = 2 * MIB
    data = scattered(size, 30)
    raw = tmp_path / "d.raw"
    raw.write_bytes(data)
    aipimage.create(tmp_path / "0.aiv", [raw])
    chance = random.Random(7)
    places = [change(data, chance) for _ in range(6)]
    raw.write_bytes(data)
    told = ranges(places, size, tmp_path)[form]
    made = aipimage.create(tmp_path / "1.aiv", [raw], parent=tmp_path / "0.aiv", changed=told)
    assert made.changes[0].method == "tracked", made.changes
    with aipimage.open(tmp_path / "1.aiv") as image:
        assert image.devices[0].open().readall() == bytes(data)


def test_the_file_of_a_tracker(tmp_path: Path) -> None:
    data = scattered(MIB, 30)
    raw = tmp_path / "d.raw"
    raw.write_bytes(data)
    made = aipimage.create(tmp_path / "0.aiv", [raw])
    chance = random.Random(5)
    with ChangeTracker.create(tmp_path / "t", MIB, 4096) as tracker:
        for name in ("nightly", "weekly"):
            with tracker.begin(name) as generation:
                generation.commit(made.image_id if name == "nightly" else "1" * 32)
        tracker.mark(*change(data, chance))
    raw.write_bytes(data)
    made = aipimage.create(
        tmp_path / "1.aiv", [raw], parent=tmp_path / "0.aiv", changed=tmp_path / "t"
    )
    assert made.changes[0].method == "tracked"
    with aipimage.open(tmp_path / "1.aiv") as image:
        assert image.devices[0].open().readall() == bytes(data)


def test_generations_of_a_tracker(system: MemorySystem) -> None:
    """Committed, rolled back, counted from another image, and distrusted."""
    source = disk()
    tracker = ChangeTracker(source.size, 4096)

    def go(name: str, parent: str | None, commit: bool = True) -> Any:
        for place in altered(source, len(name) + int(name[0])):
            tracker.mark(*place)
        with tracker.begin("n") as generation:
            more = {"changed": generation} if parent is not None else {}
            made = make(system, name, [source], parent, **more)
            if commit:
                generation.commit(made.image_id)
        check(system, name, [source.content()])
        return made

    go("0.aiv", None)
    assert go("1.aiv", "0.aiv").changes[0].method == "tracked"
    assert go("2.aiv", "1.aiv", commit=False).changes[0].method == "tracked"
    assert go("3.aiv", "1.aiv").changes[0].method == "tracked"
    stale = go("4.aiv", "2.aiv")
    assert stale.changes[0].method == "digests"
    assert "another image" in stale.changes[0].reason
    assert "another image" in stale.warnings[0]
    tracker.distrust("somebody wrote past it")
    doubted = go("5.aiv", "4.aiv")
    assert doubted.changes[0][0::3] == ("digests", "somebody wrote past it")
    assert "somebody wrote past it" in doubted.warnings[0]
    assert go("6.aiv", "5.aiv").changes[0].method == "tracked"


@pytest.mark.parametrize("has_digests", [True, False])
def test_a_tracker_that_missed_many_changes(system: MemorySystem, has_digests: bool) -> None:
    """A sample of what it calls unchanged is compared: 20 % are found, but for 1 in 10^12."""
    size = 32 * MIB
    source = Disk(random.Random(2).randbytes(size))
    make(system, "0.aiv", [source], block_digests=has_digests)
    wide = 65_536 if has_digests else 4096
    # None of them lies next to what the tracker tells.
    for start in range(0, size, 5 * wide):
        source.write(start, bytes([source.data[start] ^ 1]))
    for number in range(3):
        made = make(system, f"{number + 1}.aiv", [source], "0.aiv", changed=[(17 * wide, 512)])
        method = "digests" if has_digests else "data"
        assert made.changes[0].method == method
        assert "missed a change" in str(made.changes[0].reason)
        assert "missed a change" in made.warnings[0]
        check(system, f"{number + 1}.aiv", [source.content()], verify=False)


def test_a_tracker_that_rounds_wrongly(system: MemorySystem) -> None:
    """One that leaves out the end of what changed is found next to what it did tell."""
    source = Disk(bytes(64 * MIB), holes=True)
    make(system, "0.aiv", [source])
    source.write(30 * MIB, b"x" * MIB)
    made = make(system, "1.aiv", [source], "0.aiv", changed=[(30 * MIB, MIB // 2)])
    assert made.changes[0].method == "digests"
    check(system, "1.aiv", [source.content()])


def test_a_right_tracker_is_not_doubted(system: MemorySystem) -> None:
    source = disk(16 * MIB, 300)
    make(system, "0.aiv", [source])
    for number in range(1, 8):
        made = make(system, f"{number}.aiv", [source], "", changed=altered(source, number, 30))
        assert made.changes[0].method == "tracked"
        assert made.changes[0].read < 16 * MIB // 2
    check(system, "7.aiv", [source.content()])


@pytest.mark.parametrize("wrong", [[(ODD, 1)], [(-1, 5)], [(0, ODD + 1)], "x", [(1,)], object()])
def test_changes_that_make_no_sense(system: MemorySystem, wrong: Any) -> None:
    source = disk()
    make(system, "0.aiv", [source])
    before = system.snapshot()
    with pytest.raises(AipImageError):
        make(system, "1.aiv", [source], "0.aiv", changed=wrong)
    assert system.snapshot() == before


# Holes and bad sectors


@pytest.mark.parametrize("method", METHODS)
def test_holes(system: MemorySystem, method: str) -> None:
    """Data that became a hole, and a hole that became data."""
    source = Disk(bytes(scattered(ODD, 40)), holes=True)
    make(system, "0.aiv", [source])
    holes = [(65_536 * n, 65_536) for n in range(0, 20, 3)]
    for start, length in holes:
        source.write(start, bytes(length))
    data = [(65_536 * n + 4096, 9000) for n in range(1, 30, 3)]
    for start, length in data:
        source.write(start, b"z" * length)
    made = make(system, "1.aiv", [source], "0.aiv", **given(method, sorted(holes + data)))
    check(system, "1.aiv", [source.content()])
    source.write(0, bytes(source.size))
    made = make(system, "2.aiv", [source], "1.aiv", **given(method, [(0, source.size)]))
    assert made.data == 0
    assert stored_beside_copies(system, made) < 6000
    check(system, "2.aiv", [source.content()])


@pytest.mark.parametrize("grain", [512, 4096])
@pytest.mark.parametrize("method", METHODS)
def test_unreadable_sectors(system: MemorySystem, method: str, grain: int) -> None:
    """They are marked where they are read, and read again in every image that follows."""
    source = disk()
    source.data[:] = random.Random(1).randbytes(ODD)
    make(system, "0.aiv", [source], grain=grain)
    source.bad = [(70_144, 512), (ODD - ODD % 512, ODD % 512), (2 * MIB - 512, 1024)]
    bad = sorted(source.bad)
    told = [(65_536, 8192), (2 * MIB - 4096, 8192), (ODD - 100, 100)]
    made = make(system, "1.aiv", [source], "0.aiv", grain=grain, **given(method, told))
    assert sorted(made.unreadable_ranges) == [(0, *each) for each in bad]
    assert made.unreadable == 4 * 512
    assert "4 sectors" in made.warnings[0]
    check(system, "1.aiv", [source.content()], bad=bad)
    # One became readable, without anybody writing there.
    source.bad = [(70_144, 512)]
    made = make(system, "2.aiv", [source], "1.aiv", grain=grain, **given(method, []))
    assert made.unreadable_ranges == ((0, 70_144, 512),)
    check(system, "2.aiv", [source.content()], bad=source.bad)
    source.bad = []
    make(system, "3.aiv", [source], "2.aiv", grain=grain, **given(method, []))
    check(system, "3.aiv", [source.content()])
    check(system, "1.aiv", [made_of(system, "1.aiv")], bad=bad)


def test_a_sector_gone_bad_beside_a_change_keeps_what_the_parent_has(system: MemorySystem) -> None:
    """A tracker calls it unchanged, and its block is read for the digest only."""
    source = disk()
    make(system, "0.aiv", [source])
    before = source.content()
    source.write(65_536, b"new" * 1000)
    source.bad = [(70_144, 512)]
    made = make(system, "1.aiv", [source], "0.aiv", changed=[(65_536, 3000)])
    assert (made.unreadable, made.unreadable_ranges) == (0, ())
    source.bad = []
    now = source.content()
    assert now[70_144:70_656] == before[70_144:70_656]
    check(system, "1.aiv", [now])
    # One that the tracker calls changed is marked.
    source.bad = [(70_144, 512)]
    made = make(system, "2.aiv", [source], "1.aiv", changed=[(65_536, 3000), (70_144, 512)])
    assert made.unreadable_ranges == ((0, 70_144, 512),)


def test_stop_on_error(system: MemorySystem) -> None:
    source = disk()
    make(system, "0.aiv", [source])
    source.bad = [(70_144, 512)]
    before = system.snapshot()
    with pytest.raises(SourceError):
        make(system, "1.aiv", [source], "0.aiv", stop_on_error=True)
    assert system.snapshot() == before


def test_class_62_a_source_that_shrinks(tmp_path: Path) -> None:
    raw = tmp_path / "d.raw"
    raw.write_bytes(scattered(9 * MIB, 200))
    aipimage.create(tmp_path / "0.aiv", [raw])
    job = devicework.DeviceWork.run

    def cut(self: Any, *args: Any) -> Any:
        with open(raw, "r+b") as file:
            file.truncate(5 * MIB)
        return job(self, *args)

    with (
        mock.patch.object(devicework.DeviceWork, "run", cut),
        pytest.raises(SourceError, match="shrank"),
    ):
        aipimage.create(tmp_path / "1.aiv", [raw], parent=tmp_path / "0.aiv")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.aiv", "d.raw"]

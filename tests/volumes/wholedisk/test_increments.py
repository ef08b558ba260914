"""Chains of images of a disk whose file systems live on: files come, go, and are rewritten.

Every state is copied as it was. Whatever way changes are found or told, an image must read as the
used part of its state, call unused what was free then, and cost what changed of what is in use.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage import Changes, CreateResult, Kind
from aipimage.ranges import joined
from aipimage.tracking import write_changes
from tests.cli.running import done
from tests.support import loop_device
from tests.support.tools import require_programs, run
from tests.volumes.wholedisk.made import (
    MIB,
    Disk,
    Mounted,
    Part,
    attached,
    check_copy,
    garbage,
    hashes_in,
    make_disk,
    mounted,
    pieces_of,
    populate,
    surveyed,
)
from tests.volumes.wholedisk.states import (
    GRAIN,
    History,
    State,
    change,
    differing,
    fill,
    ranges_of,
    scratch,
    state_of,
)

PARTS = [Part("ext4", 32), Part("xfs", 300), Part("ntfs", 32)]


def first(kind: str, place: Path) -> None:
    """The volume gets full."""
    fill(kind, place)


def second(kind: str, place: Path) -> None:
    """Most of it is freed; some files are new, some are others, some are gone."""
    (place / "fill.bin").unlink()
    run(["sync", "-f", place])
    populate(Mounted(place), (kind, "second"), files=8)
    scratch(place)


def third(kind: str, place: Path) -> None:
    """Full of the same bytes again, in clusters that were free."""
    fill(kind, place)


def fourth(kind: str, place: Path) -> None:
    """Freed once more; files are rewritten where they lie, and grow."""
    (place / "fill.bin").unlink()
    run(["sync", "-f", place])
    scratch(place)
    for path in sorted(place.glob("d1/*.bin")):
        with open(path, "r+b") as file:
            file.seek(path.stat().st_size // 2)
            file.write(random.Random(path.name).randbytes(6000))


@pytest.fixture(scope="module")
def states(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[State]]:
    """Four states of one disk."""
    directory = tmp_path_factory.mktemp("states")
    disk = make_disk(directory, "gpt", PARTS, tail=1)
    found: list[State] = []
    for number, step in enumerate((first, second, third, fourth)):
        change(disk, step)
        found.append(state_of(disk, number, found[-1] if found else None))
    disk.path.unlink()
    yield found
    shutil.rmtree(directory)


def by_comparing(path: Path, old: State, new: State, parent: Path, way: str) -> CreateResult:
    """An increment by comparison with digests or data."""
    return aipimage.create(path, [new.disk.path], parent=parent, compare=way)


def by_ranges(path: Path, old: State, new: State, parent: Path, _: str) -> CreateResult:
    """An increment of what differs, told as ranges."""
    changed = ranges_of(new.changed)
    return aipimage.create(path, [new.disk.path], parent=parent, changed=changed)


def by_bitmap(path: Path, old: State, new: State, parent: Path, _: str) -> CreateResult:
    """The same as a bitmap; and all that is free counts as written."""
    changed = new.changed | new.clusters
    bitmap = aipimage.ChangedBitmap(changed, GRAIN, new.disk.size)
    return aipimage.create(path, [new.disk.path], parent=parent, changed=bitmap)


def without_became_used(path: Path, old: State, new: State, parent: Path, _: str) -> CreateResult:
    """A tracker that missed every write to clusters that were free before."""
    changed = new.changed & ~old.clusters
    return aipimage.create(path, [new.disk.path], parent=parent, changed=ranges_of(changed))


WAYS = {
    "digests": by_comparing,
    "data": by_comparing,
    "ranges": by_ranges,
    "bitmap": by_bitmap,
    "incomplete": without_became_used,
}


def assert_reads_as(image: Path, state: State) -> None:
    """The image has the used part of a state, and calls all else unused."""
    with aipimage.open(image) as opened, open(state.seen, "rb") as seen:
        device = opened.devices[0]
        assert device.size == state.disk.size
        rows = [(extent.start, extent.length) for extent in device.extents(Kind.UNUSED)]
        assert np.array_equal(joined(np.array(rows, np.uint64).reshape(-1, 2)), state.free)
        kinds = {extent.kind for extent in device.extents()}
        assert kinds <= {Kind.DATA, Kind.ZERO, Kind.UNUSED}
        # What is a hole in both is zeros in both.
        kept = [(extent.start, extent.length) for extent in device.extents(Kind.DATA)]
        there = [(begin, len(data)) for begin, data in pieces_of(state.seen)]
        for start, length in [*kept, *there]:
            buffer = bytearray(length)
            device.read_into(buffer, start)
            assert buffer == os.pread(seen.fileno(), length, start), (start, length)


def chain_of(
    directory: Path, states: list[State], way: str
) -> tuple[list[Path], list[CreateResult]]:
    """A full image of the first state, and an increment for each of the others."""
    paths = [directory / f"i{number}.aiv" for number in range(len(states))]
    results = [aipimage.create(paths[0], [states[0].disk.path])]
    for number in range(1, len(states)):
        old, new = states[number - 1 : number + 1]
        results.append(WAYS[way](paths[number], old, new, paths[number - 1], way))
    return paths, results


def test_the_states_are_what_they_are_for(states: list[State]) -> None:
    """Clusters became used with the bytes that they had; others were written and freed."""
    old, full = states[1], states[2]
    same = ~full.changed
    for number in (1, 3):
        start, size = (value // GRAIN for value in old.disk.places[number])
        part = slice(start, start + size)
        assert (old.clusters & ~full.clusters & same)[part].sum() * GRAIN > 4 * MIB
    written = states[3].changed
    assert (written & states[3].clusters).sum() * GRAIN > 4 * MIB


@pytest.mark.parametrize("way", WAYS)
def test_each_point_is_its_state(states: list[State], tmp_path: Path, way: str) -> None:
    """Three generations deep, by every way to find or tell what changed."""
    paths, results = chain_of(tmp_path, states, way)
    method = way if way in ("digests", "data") else "tracked"
    for number, (path, result) in enumerate(zip(paths, results, strict=True)):
        assert not result.warnings
        if number:
            assert (result.kind, result.changes[0].method) == ("incremental", method)
        assert_reads_as(path, states[number])
    with aipimage.open(paths[-1]) as image:
        assert image.verify(chain=True).ok
    check_costs(states, results)
    shutil.rmtree(tmp_path)


def check_costs(states: list[State], results: list[CreateResult]) -> None:
    """What was freed costs nothing, and neither does what was written and freed again."""
    for state, result in zip(states[1:], results[1:], strict=True):
        assert result.stored < state.most + 250_000, (result.stored, state.most)
    # The first increment frees the most of two volumes.
    assert results[1].stored < 3 * MIB


@pytest.fixture(scope="module")
def chain(states: list[State], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Path]]:
    """A chain made through the command, with a file of changes."""
    directory = tmp_path_factory.mktemp("chain")
    paths = [directory / f"i{number}.aiv" for number in range(len(states))]
    done("createimage", "-o", paths[0], states[0].disk.path)
    for number in range(1, len(states)):
        new = states[number]
        changes = Changes(new.disk.size, joined(ranges_of(new.changed)))
        file = directory / f"changes{number}"
        write_changes(file, changes, GRAIN)
        ran = done(
            "createimage",
            "-o",
            paths[number],
            "--parent",
            paths[number - 1],
            "--changed",
            file,
            new.disk.path,
            "--json",
        )
        assert not ran.err
        assert ran.json["changes"][0]["method"] == "tracked"
    yield paths
    shutil.rmtree(directory)


@pytest.mark.parametrize("number", range(4))
def test_each_point_restored(
    states: list[State], chain: list[Path], tmp_path: Path, number: int
) -> None:
    """Every file system passes its check, and every file is there."""
    target = tmp_path / "t.raw"
    if number == 1:
        garbage(target, states[number].disk.size + MIB)
    done("restoredisk", chain[number], target, "--force", "--set-size")
    run(["cmp", target, states[number].seen])
    check_copy(states[number].disk, target)
    info = {
        volume["number"]: volume for volume in done("info", chain[number], "--json").json["volumes"]
    }
    for volume in surveyed(states[number].disk.path).volumes:
        assert info[volume.number]["used"] == volume.used
        assert info[volume.number]["kept_bytes"] <= volume.used * 1.02 + 65_536
    shutil.rmtree(tmp_path)


def test_merged(states: list[State], chain: list[Path], tmp_path: Path) -> None:
    """All of the chain as one image; and two increments as one, between the others."""
    work = tmp_path / "work"
    shutil.copytree(chain[0].parent, work)
    paths = [work / path.name for path in chain]
    done("merge", tmp_path / "all.aiv", *paths)
    assert_reads_as(tmp_path / "all.aiv", states[3])
    volumes = [
        done("info", path, "--json").json["volumes"] for path in (chain[3], tmp_path / "all.aiv")
    ]
    assert volumes[0] == volumes[1]
    assert done("verify", tmp_path / "all.aiv", "--json").json["ok"]
    done("merge", work / "two.aiv", *paths[1:3], "--remove")
    assert_reads_as(work / "two.aiv", states[2])
    assert_reads_as(paths[3], states[3])
    with aipimage.open(paths[3]) as image:
        assert image.verify(chain=True).ok
        image.restore(tmp_path / "t.raw")
    run(["cmp", tmp_path / "t.raw", states[3].seen])
    later = work / "later.aiv"
    aipimage.create(later, [states[0].disk.path], parent=work / "two.aiv")
    assert_reads_as(later, states[0])
    shutil.rmtree(tmp_path)


def test_a_differential_on_the_full_one(
    states: list[State], chain: list[Path], tmp_path: Path
) -> None:
    """Across states in between that it knows nothing of."""
    work = tmp_path / "work"
    work.mkdir()
    shutil.copyfile(chain[0], work / "i0.aiv")
    for number in (1, 3):
        path = work / f"d{number}.aiv"
        done(
            "createimage",
            "-o",
            path,
            "--kind",
            "differential",
            "--parent",
            work / "i0.aiv",
            states[number].disk.path,
        )
        assert_reads_as(path, states[number])
    shutil.rmtree(tmp_path)


def test_include_free_and_back(states: list[State], tmp_path: Path) -> None:
    """An increment that keeps free clusters has them all, and the next one drops them again."""
    a, b, c = (tmp_path / f"{name}.aiv" for name in "abc")
    disk = states[1].disk
    aipimage.create(a, [disk.path])
    result = aipimage.create(b, [disk.path], parent=a, include_free=True, changed=[])
    assert result.changes[0].method == "tracked"
    done("restoredisk", b, tmp_path / "t.raw")
    run(["cmp", tmp_path / "t.raw", disk.path])
    aipimage.create(c, [states[2].disk.path], parent=b)
    assert_reads_as(c, states[2])
    shutil.rmtree(tmp_path)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disk]:
    """A disk with three file systems that stays as it is."""
    directory = tmp_path_factory.mktemp("small")
    yield make_disk(directory, "gpt", [Part("ext4", 24), Part("fat32", 40), Part("ntfs", 24)])
    shutil.rmtree(directory)


def reads_as(image: Path, disk: Disk, kept: list[int] | None = None, free: bool = False) -> bool:
    """Whether an image has just the volumes that were asked for, with or without what is free."""
    data = np.fromfile(disk.path, np.uint8)
    unused = 0
    for volume in surveyed(disk.path).volumes:
        if kept is not None and volume.number not in kept:
            rows = np.array([(0, volume.size)], np.uint64)
        else:
            rows = np.concatenate([*volume.allocation.free.ranges(0, volume.size)])
            rows = rows[:0] if free else rows
        for start, length in rows.tolist():
            data[volume.start + start : volume.start + start + length] = 0
            unused += length
    with aipimage.open(image) as opened:
        found = bytearray(len(data))
        opened.devices[0].read_into(found, 0)
        assert opened.devices[0].bytes_of(Kind.UNUSED) == unused
    return np.array_equal(np.frombuffer(found, np.uint8), data)


@pytest.mark.parametrize("way", ["auto", "data", "tracked"])
def test_another_choice_each_time(small: Disk, tmp_path: Path, way: str) -> None:
    """Nothing changes but what is to be kept; a tracker has nothing to tell."""
    choices: list[list[int] | str | None] = [None, [2], [1, 2], None, [3], "free", [1], None]
    parent = None
    for number, choice in enumerate(choices):
        path = tmp_path / f"{number}.aiv"
        chosen = choice if isinstance(choice, list) else None
        result = aipimage.create(
            path,
            [small.path],
            parent=parent,
            compare="auto" if way == "tracked" else way,
            changed=[] if way == "tracked" and parent else None,
            volumes=chosen,
            include_free=choice == "free",
        )
        assert not result.warnings
        if parent is not None:
            wanted = "digests" if way == "auto" else way
            assert (result.kind, result.changes[0].method) == ("incremental", wanted)
        assert reads_as(path, small, chosen, choice == "free"), choice
        with aipimage.open(path) as image:
            assert [volume.number for volume in image.volumes if volume.kept] == (
                chosen or [1, 2, 3]
            )
        parent = path
    shutil.rmtree(tmp_path)


def test_a_disk_that_grows_and_shrinks(small: Disk, tmp_path: Path) -> None:
    """With its GPT moved to the new end; free space is followed in both images."""
    larger = Disk(tmp_path / "larger.raw", small.parts, small.places)
    run(["cp", "--sparse=always", small.path, larger.path])
    with open(larger.path, "r+b") as file:
        file.truncate(small.size + 24 * MIB)
    run(["sgdisk", "--move-second-header", larger.path])
    a, b, c = (tmp_path / f"{name}.aiv" for name in "abc")
    done("createimage", "-o", a, small.path)
    done("createimage", "-o", b, "--parent", a, larger.path)
    done("createimage", "-o", c, "--parent", b, small.path)
    assert reads_as(a, small)
    assert reads_as(b, larger)
    assert reads_as(c, small)
    assert max(b.stat().st_size, c.stat().st_size) < 100_000
    shutil.rmtree(tmp_path)


def test_an_ext4_that_is_in_use(tmp_path: Path) -> None:
    """The device that is mounted is taken whole, with a warning that says why; of a copy, such as a
    snapshot, the journal is read.
    """
    require_programs("blockdev")
    disk = make_disk(tmp_path, "gpt", [Part("ext4", 24), Part("fat32", 40)], tail=1)
    clean, dirty, later = (tmp_path / f"{name}.raw" for name in ("clean", "dirty", "later"))
    run(["cp", "--sparse=always", disk.path, clean])
    with attached(disk.path) as device, mounted("ext4", f"{device}p1", tmp_path / "mnt") as place:
        (place / "new.bin").write_bytes(random.Random(5).randbytes(3_000_000))
        run(["sync", "-f", place])
        run(["blockdev", "--flushbufs", device])
        disk.files[1] = hashes_in(place)
        run(["cp", "--sparse=always", disk.path, dirty])
        live = done("createimage", "-o", tmp_path / "live.aiv", device)
        (place / "new.bin").unlink()
    run(["cp", "--sparse=always", disk.path, later])
    a, b, c = (tmp_path / f"{name}.aiv" for name in "abc")
    assert not done("createimage", "-o", a, clean).err
    nothing = tmp_path / "changes"
    changes = Changes(disk.size, joined(ranges_of(differing(clean, dirty))))
    write_changes(nothing, changes, GRAIN)
    ran = done("createimage", "-o", b, "--parent", a, "--changed", nothing, dirty, "--json")
    text = "volume 1 (ext4) was taken whole: it is in use, and may change while it is read: "
    assert text in live.err
    assert "/mnt; take a snapshot" in live.err
    assert "taken whole: it is in use" in done("info", tmp_path / "live.aiv").out
    assert not ran.err
    assert ran.json["warnings"] == []
    assert ran.json["changes"][0]["method"] == "tracked"
    assert "in use: its journal was read, " in done("info", b).out
    volumes = done("info", b, "--json").json["volumes"]
    assert volumes[0]["used"] < volumes[0]["size"] * 3 // 4
    assert volumes[1]["whole_because"] == ""
    done("restorevolume", b, tmp_path / "v", "--volume", 1)
    run(["e2fsck", "-fy", tmp_path / "v"], codes=(0, 1))
    with (
        loop_device(tmp_path / "v", "--read-only") as device,
        mounted("ext4", device, tmp_path / "mnt", "ro") as place,
    ):
        assert hashes_in(place) == disk.files[1]
    assert not done("createimage", "-o", c, "--parent", b, later).err
    with aipimage.open(c) as image:
        unused = image.devices[0].bytes_of(Kind.UNUSED)
    assert unused == surveyed(later).free.total
    shutil.rmtree(tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(8))
def test_random_histories(tmp_path: Path, seed: int) -> None:
    """Twelve generations of five file systems, in every way to find or tell what changed."""
    history = History(seed)
    parts = [*PARTS, Part("btrfs", 128), Part("exfat", 16)]
    disk = make_disk(tmp_path, "gpt", parts, tail=1)
    before: State | None = None
    for number in range(12):
        change(disk, history.step)
        state = state_of(disk, number, before)
        for way, make in WAYS.items():
            path = tmp_path / f"{way}{number}.aiv"
            if before is None:
                result = aipimage.create(path, [state.disk.path])
            else:
                result = make(path, before, state, tmp_path / f"{way}{number - 1}.aiv", way)
                assert result.changes[0].method == (
                    way if way in ("digests", "data") else "tracked"
                )
                assert result.stored < state.most + 250_000
            assert not result.warnings
            assert_reads_as(path, state)
        if number % 4 == 3:
            done("restoredisk", path, tmp_path / "t.raw", "--force", "--set-size")
            check_copy(state.disk, tmp_path / "t.raw")
        if before is not None:
            before.disk.path.unlink()
            before.seen.unlink()
        before = state
    shutil.rmtree(tmp_path)

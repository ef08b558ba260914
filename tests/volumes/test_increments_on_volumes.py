"""Chains of images of a disk whose file systems live on: files come, go, and are rewritten.

Every state is copied as it was. Whatever way changes are found or told, an image must read as the
used part of its state, call unused what was free then, and cost what changed of what is in use.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import aipimage
from aipimage import Changes, CreateResult, Kind
from aipimage.io.changes.byteranges import ByteRanges, joined
from aipimage.tracking import write_changes
from tests.cli.helpers import done
from tests.support import loop_device
from tests.support.tools import require_programs, run
from tests.volumes.whole_disks import (
    MIB,
    PATTERN,
    Disk,
    Mounted,
    Part,
    attached,
    check_copy,
    hashes_in,
    look_at,
    make_disk,
    mounted,
    populate,
    surveyed,
)

GRAIN = 4096
PARTS = [Part("ext4", 32), Part("xfs", 300), Part("ntfs", 32)]
FILLED = ("ext4", "ntfs")
"""Kinds that are full at times, so that the same bytes come to lie in the same clusters again."""


@dataclass(frozen=True)
class State:
    """A disk as it was at one time.

    Attributes:
        disk: a copy, with the files that were there. free: bytes of it, as ranges.
        clusters: one element for each 4 KiB, whether they are entirely free.
    """

    disk: Disk
    free: ByteRanges
    clusters: np.ndarray


def state_of(disk: Disk, number: int) -> State:
    """Keep the disk as it is now."""
    path = disk.path.with_name(f"state{number}.raw")
    run(["cp", "--sparse=always", disk.path, path])
    kept = Disk(path, disk.parts, disk.places, dict(disk.files), dict(disk.blkid))
    look_at(kept)
    found = surveyed(path)
    assert all(volume.whole_because is None for volume in found.volumes)
    free = joined(np.concatenate(list(found.free.ranges(0, found.size))))
    clusters = np.zeros(found.size // GRAIN, np.bool_)
    for start, length in free.tolist():
        clusters[-(-start // GRAIN) : (start + length) // GRAIN] = True
    return State(kept, free, clusters)


def seen(state: State) -> np.ndarray:
    """What an image of a state must read as: zeros where it is free."""
    data = np.fromfile(state.disk.path, np.uint8)
    for start, length in state.free.tolist():
        data[start : start + length] = 0
    return data


def change(disk: Disk, step: Callable[[str, Path], None]) -> None:
    """Do something in every volume of a disk, through its driver."""
    with attached(disk.path) as device:
        for number, part in disk.parts.items():
            work = disk.path.parent / f"work{number}"
            with mounted(part.kind, f"{device}p{number}", work / "mnt") as place:
                step(part.kind, place)
                run(["sync", "-f", place])
                disk.files[number] = hashes_in(place)


def fill(kind: str, place: Path) -> None:
    """Write the same bytes as ever until a volume is full; into a large one 8 MiB."""
    data = PATTERN * 128
    with open(place / "fill.bin", "wb", buffering=0) as file, contextlib.suppress(OSError):
        for _ in range(1 << 16 if kind in FILLED else 128):
            assert file.write(data)


def scratch(place: Path) -> None:
    """Random bytes that reach the disk and are deleted again."""
    path = place / "scratch.bin"
    with open(path, "wb") as file:
        file.write(random.Random(str(place)).randbytes(4 * MIB))
        file.flush()
        os.fsync(file.fileno())
    path.unlink()


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
    found = []
    for number, step in enumerate((first, second, third, fourth)):
        change(disk, step)
        found.append(state_of(disk, number))
    disk.path.unlink()
    yield found
    shutil.rmtree(directory)


def changed_between(old: State, new: State) -> np.ndarray:
    """Which 4 KiB of the disks differ, as a tracker of all writes knows at least."""
    size = old.disk.size
    found = np.zeros(size // GRAIN, np.bool_)
    with open(old.disk.path, "rb") as a, open(new.disk.path, "rb") as b:
        for at in range(0, size, 16 * MIB):
            was = np.frombuffer(a.read(16 * MIB), np.uint64).reshape(-1, GRAIN // 8)
            now = np.frombuffer(b.read(16 * MIB), np.uint64).reshape(-1, GRAIN // 8)
            found[at // GRAIN : at // GRAIN + len(was)] = (was != now).any(1)
    return found


def ranges_of(clusters: np.ndarray) -> ByteRanges:
    """Set elements as ranges of bytes."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], clusters.view(np.int8), [0]))))
    pairs = edges.reshape(-1, 2).astype(np.uint64) * np.uint64(GRAIN)
    return np.column_stack((pairs[:, 0], pairs[:, 1] - pairs[:, 0]))


def by_comparing(path: Path, old: State, new: State, parent: Path, way: str) -> CreateResult:
    """An increment by comparison with digests or data."""
    return aipimage.create(path, [new.disk.path], parent=parent, compare=way)


def by_ranges(path: Path, old: State, new: State, parent: Path, _: str) -> CreateResult:
    """An increment of what differs, told as ranges."""
    changed = ranges_of(changed_between(old, new))
    return aipimage.create(path, [new.disk.path], parent=parent, changed=changed)


def by_bitmap(path: Path, old: State, new: State, parent: Path, _: str) -> CreateResult:
    """The same as a bitmap; and all that is free counts as written."""
    changed = changed_between(old, new) | new.clusters
    bitmap = aipimage.ChangedBitmap(changed, GRAIN, new.disk.size)
    return aipimage.create(path, [new.disk.path], parent=parent, changed=bitmap)


def without_became_used(
    path: Path, old: State, new: State, parent: Path, _: str
) -> CreateResult:  # fmt: skip
    """A tracker that missed every write to clusters that were free before."""
    changed = changed_between(old, new) & ~old.clusters
    return aipimage.create(path, [new.disk.path], parent=parent, changed=ranges_of(changed))


WAYS = {
    "digests": by_comparing, "data": by_comparing, "ranges": by_ranges, "bitmap": by_bitmap,
    "incomplete": without_became_used,
}  # fmt: skip


@pytest.fixture(scope="module")
def contents(states: list[State]) -> list[np.ndarray]:
    """What images of the states must read as."""
    return [seen(state) for state in states]


def assert_reads_as(image: Path, state: State, wanted: np.ndarray) -> None:
    """The image has the used part of a state, and calls all else unused."""
    with aipimage.open(image) as opened:
        device = opened.devices[0]
        assert device.size == len(wanted)
        rows = [(extent.start, extent.length) for extent in device.extents(Kind.UNUSED)]
        unused = joined(np.array(rows, np.uint64).reshape(-1, 2))
        assert np.array_equal(unused, state.free)
        at = 0
        for extent in device.extents():
            assert extent.start == at
            at += extent.length
            part = wanted[extent.start : at]
            if extent.kind != Kind.DATA:
                assert extent.kind in (Kind.UNUSED, Kind.ZERO)
                assert not part.any()
                continue
            buffer = bytearray(extent.length)
            device.read_into(buffer, extent.start)
            assert np.array_equal(np.frombuffer(buffer, np.uint8), part), extent
        assert at == len(wanted)


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
    same = ~changed_between(old, full)
    for number in (1, 3):
        start, size = (value // GRAIN for value in old.disk.places[number])
        part = slice(start, start + size)
        assert (old.clusters & ~full.clusters & same)[part].sum() * GRAIN > 4 * MIB
    written = changed_between(states[2], states[3])
    assert (written & states[3].clusters).sum() * GRAIN > 4 * MIB


@pytest.mark.parametrize("way", WAYS)
def test_each_point_is_its_state(
    states: list[State], contents: list[np.ndarray], tmp_path: Path, way: str
) -> None:
    """Three generations deep, by every way to find or tell what changed."""
    paths, results = chain_of(tmp_path, states, way)
    method = way if way in ("digests", "data") else "tracked"
    for number, (path, result) in enumerate(zip(paths, results, strict=True)):
        assert not result.warnings
        if number:
            assert (result.kind, result.changes[0].method) == ("incremental", method)
        assert_reads_as(path, states[number], contents[number])
    with aipimage.open(paths[-1]) as image:
        assert image.verify(chain=True).ok
    check_costs(states, contents, results)
    shutil.rmtree(tmp_path)


def check_costs(
    states: list[State], contents: list[np.ndarray], results: list[CreateResult]
) -> None:
    """What was freed costs nothing, and neither does what was written and freed again."""
    for number in range(1, len(states)):
        was, now = (contents[each].reshape(-1, GRAIN) for each in (number - 1, number))
        differ = (was != now).any(1)
        data = int((differ & now.any(1)).sum()) * GRAIN
        used = states[number - 1].clusters & ~states[number].clusters
        # Clusters that became used are kept again where the parent had left them out.
        most = data + int((used & now.any(1) & ~differ).sum()) * GRAIN
        result = results[number]
        assert result.stored < most + 250_000, (number, result.stored, most)
    # The first increment frees two volumes' worth of clusters.
    assert results[1].stored < 3 * MIB


@pytest.fixture(scope="module")
def chain(
    states: list[State], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Path]]:  # fmt: skip
    """A chain made through the command, with a file of changes."""
    directory = tmp_path_factory.mktemp("chain")
    paths = [directory / f"i{number}.aiv" for number in range(len(states))]
    done("createimage", "-o", paths[0], states[0].disk.path)
    for number in range(1, len(states)):
        old, new = states[number - 1 : number + 1]
        changes = Changes(new.disk.size, joined(ranges_of(changed_between(old, new))))
        file = directory / f"changes{number}"
        write_changes(file, changes, GRAIN)
        ran = done(
            "createimage", "-o", paths[number], "--parent", paths[number - 1], "--changed", file,
            new.disk.path, "--json",
        )  # fmt: skip
        assert not ran.err
        assert ran.json["changes"][0]["method"] == "tracked"
    yield paths
    shutil.rmtree(directory)


@pytest.mark.parametrize("number", range(4))
def test_each_point_restored(
    states: list[State], contents: list[np.ndarray], chain: list[Path], tmp_path: Path, number: int
) -> None:
    """Every file system passes its check, and every file is there."""
    target = tmp_path / "t.raw"
    with open(target, "wb") as file:
        for _ in range(0, states[number].disk.size, 4 * MIB):
            file.write(b"\xa5" * 4 * MIB)
    done("restoredisk", chain[number], target, "--force", "--set-size")
    assert np.array_equal(np.fromfile(target, np.uint8), contents[number])
    check_copy(states[number].disk, target)
    info = {
        volume["number"]: volume for volume in done("info", chain[number], "--json").json["volumes"]
    }
    for volume in surveyed(states[number].disk.path).volumes:
        assert info[volume.number]["used"] == volume.used
        assert info[volume.number]["kept_bytes"] <= volume.used * 1.02 + 65_536
    shutil.rmtree(tmp_path)


def test_merged(
    states: list[State], contents: list[np.ndarray], chain: list[Path], tmp_path: Path
) -> None:
    """All of the chain as one image; and two increments as one, between the others."""
    work = tmp_path / "work"
    shutil.copytree(chain[0].parent, work)
    paths = [work / path.name for path in chain]
    done("merge", tmp_path / "all.aiv", *paths)
    assert_reads_as(tmp_path / "all.aiv", states[3], contents[3])
    volumes = [
        done("info", path, "--json").json["volumes"] for path in (chain[3], tmp_path / "all.aiv")
    ]
    assert volumes[0] == volumes[1]
    assert done("verify", tmp_path / "all.aiv", "--json").json["ok"]
    done("merge", work / "two.aiv", *paths[1:3], "--remove")
    assert_reads_as(work / "two.aiv", states[2], contents[2])
    assert_reads_as(paths[3], states[3], contents[3])
    with aipimage.open(paths[3]) as image:
        assert image.verify(chain=True).ok
        image.restore(tmp_path / "t.raw")
    assert np.array_equal(np.fromfile(tmp_path / "t.raw", np.uint8), contents[3])
    later = work / "later.aiv"
    aipimage.create(later, [states[0].disk.path], parent=work / "two.aiv")
    assert_reads_as(later, states[0], contents[0])
    shutil.rmtree(tmp_path)


def test_a_differential_on_the_full_one(
    states: list[State], contents: list[np.ndarray], chain: list[Path], tmp_path: Path
) -> None:
    """Across states in between that it knows nothing of."""
    work = tmp_path / "work"
    work.mkdir()
    shutil.copyfile(chain[0], work / "i0.aiv")
    for number in (1, 3):
        path = work / f"d{number}.aiv"
        done(
            "createimage", "-o", path, "--kind", "differential", "--parent", work / "i0.aiv",
            states[number].disk.path,
        )  # fmt: skip
        assert_reads_as(path, states[number], contents[number])
    shutil.rmtree(tmp_path)


def test_include_free_and_back(
    states: list[State], contents: list[np.ndarray], tmp_path: Path
) -> None:
    """An increment that keeps free clusters has them all, and the next one drops them again."""
    a, b, c = (tmp_path / f"{name}.aiv" for name in "abc")
    raw = [np.fromfile(state.disk.path, np.uint8) for state in states[1:3]]
    aipimage.create(a, [states[1].disk.path])
    changed = ranges_of(changed_between(states[1], states[1]))
    result = aipimage.create(
        b, [states[1].disk.path], parent=a, include_free=True, changed=changed
    )  # fmt: skip
    assert result.changes[0].method == "tracked"
    with aipimage.open(b) as image:
        found = bytearray(len(raw[0]))
        image.devices[0].read_into(found, 0)
        assert np.array_equal(np.frombuffer(found, np.uint8), raw[0])
    del found
    aipimage.create(c, [states[2].disk.path], parent=b)
    assert_reads_as(c, states[2], contents[2])
    shutil.rmtree(tmp_path)


def test_a_mounted_ext4_is_taken_whole(tmp_path: Path) -> None:
    """With a warning that says why; the next image leaves free clusters out again."""
    require_programs("fsfreeze")
    disk = make_disk(tmp_path, "gpt", [Part("ext4", 24), Part("fat32", 40)], tail=1)
    clean, dirty, later = (tmp_path / f"{name}.raw" for name in ("clean", "dirty", "later"))
    run(["cp", "--sparse=always", disk.path, clean])
    with attached(disk.path) as device, mounted("ext4", f"{device}p1", tmp_path / "mnt") as place:
        (place / "new.bin").write_bytes(random.Random(5).randbytes(3_000_000))
        run(["sync", "-f", place])
        run(["blockdev", "--flushbufs", device])
        disk.files[1] = hashes_in(place)
        run(["cp", "--sparse=always", disk.path, dirty])
        (place / "new.bin").unlink()
    run(["cp", "--sparse=always", disk.path, later])
    a, b, c = (tmp_path / f"{name}.aiv" for name in "abc")
    assert not done("createimage", "-o", a, clean).err
    nothing = tmp_path / "changes"
    changes = Changes(disk.size, joined(ranges_of(_differing(clean, dirty))))
    write_changes(nothing, changes, GRAIN)
    ran = done("createimage", "-o", b, "--parent", a, "--changed", nothing, dirty, "--json")
    text = "volume 1 (ext4) was taken whole: its journal was not replayed"
    assert text in ran.err
    assert text in ran.json["warnings"][0]
    assert len(ran.json["warnings"]) == 1
    assert ran.json["changes"][0]["method"] == "tracked"
    assert "taken whole: its journal was not replayed" in done("info", b).out
    volumes = done("info", b, "--json").json["volumes"]
    assert volumes[0]["used"] == volumes[0]["size"]
    assert volumes[1]["whole_because"] == ""
    done("restorevolume", b, tmp_path / "v", "--volume", 1)
    start, size = disk.places[1]
    run(["cmp", "-n", str(size), "-i", f"0:{start}", tmp_path / "v", dirty])
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


def _differing(one: Path, other: Path) -> np.ndarray:
    a, b = (np.fromfile(path, np.uint8).reshape(-1, GRAIN) for path in (one, other))
    found = (a != b).any(1)
    assert isinstance(found, np.ndarray)
    return found

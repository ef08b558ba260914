"""NTFS volumes in use: what ntfsrecover makes of them, with and without what the map calls free."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

import aipimage
from tests.support import SAMPLES
from tests.support.tools import require_programs
from tests.volumes.journals.judge import hashes, without_free
from tests.volumes.journals.ntfslog import built
from tests.volumes.journals.ntfslog.built import Log, change
from tests.volumes.journals.ntfslog.judge import listed, told
from tests.volumes.ntfs.busy import Disk, replayed
from tests.volumes.ntfs.edited import unprotect
from tests.volumes.ntfs.judge import surveyed, used_of
from tests.volumes.ntfs.made import MIB, make, ntfs_3g, require_ntfs
from tests.volumes.ntfs.test_samples import disks, volumes

JOURNALS = {
    "dynamic.vhd.gz": 238,
    "dynamic.vhdx.gz": 231,
    "fixed.vhd.gz": 242,
    "fixed.vhdx.gz": 227,
    "ntfs_index.raw.gz": 514,
}
"""Samples with a journal of Windows, and the records that lead to its last one."""
STARTS = 4
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason="no samples beside this checkout")


def samples(scratch: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of each volume with a journal of Windows."""
    for name, data in disks(scratch, JOURNALS):
        for offset, size in volumes(data):
            if size and offset + size <= len(data):
                yield name, data[offset : offset + size]


@needs_samples
def test_records_are_what_ntfsrecover_lists(tmp_path: Path) -> None:
    """Every field of every record of journals that Windows wrote."""
    require_ntfs()
    require_programs("ntfsrecover")
    compared = {}
    for name, data in samples(tmp_path):
        (tmp_path / "volume").write_bytes(data)
        wanted = listed(tmp_path / "volume")
        found = Disk(data).records()
        assert [told(record) for record in found] == [
            wanted[record.lsn].only(told(record)) for record in found
        ]
        compared[name] = len(found)
    assert compared == JOURNALS


@needs_samples
def test_class_50_volumes_whose_bitmap_was_not_written(tmp_path: Path) -> None:
    """As if none of the bitmap had been written since some record: its bits come from the journal.
    Windows closed these volumes, so that what they were when it did is known.
    """
    require_ntfs()
    require_programs("ntfsrecover")
    volume, lost, compared = tmp_path / "volume", 0, 0
    for _, data in samples(tmp_path):
        whole = Disk(data)
        volume.write_bytes(data)
        with ntfs_3g(volume, tmp_path / "at", "ro,norecover") as at:
            wanted = hashes(at)
        records = whole.records()
        # ntfsrecover looks for a page before the first one.
        starts = [
            records[len(records) * part // STARTS + (0 if part else 40)] for part in range(STARTS)
        ]
        for start in starts:
            disk = Disk(data)
            disk.take_back_bits(disk.records(start.lsn))
            disk.reopen(start.lsn)
            volume.write_bytes(disk.data)
            lost += int((whole.used() & ~Disk(disk.data).used()).sum())
            _, allocation = surveyed(volume)
            ours = used_of(allocation)
            assert allocation.notes[0].startswith("in use: its journal was read, ")
            assert not (whole.used() & ~ours).any()
            if (found := replayed(volume, tmp_path / "at")) is None:
                continue
            compared += 1
            assert found[0] == wanted
            assert not (found[1] & ~ours).any()
            left = without_free(volume, allocation, tmp_path / "left")
            again = replayed(left, tmp_path / "at")
            assert again is not None
            assert again[0] == wanted
    assert lost > 20
    assert compared > 8


def crashed(
    tmp_path: Path, version: tuple[int, int], copy: bool, cluster: int = 4096, seed: int = 1
) -> tuple[Path, dict[str, str], Disk]:
    """A volume that was cut off: files were written, changed and deleted, of which $Bitmap and the
    FILE records on the disk know nothing, but the journal does. Returns what its files are after a
    replay, and the volume as it was afterwards.
    """
    chance = random.Random(seed)
    volume = make(tmp_path / "volume", 48 * MIB, "-c", str(cluster))
    with ntfs_3g(volume, tmp_path / "at") as at:
        for number in range(40):
            (at / f"old{number}").write_bytes(chance.randbytes(chance.randrange(60_000)))
    before = Disk(volume.read_bytes())
    with ntfs_3g(volume, tmp_path / "at") as at:
        for number in range(0, 40, 3):
            (at / f"old{number}").unlink()
        for number in range(40):
            (at / f"new{number}").write_bytes(chance.randbytes(chance.randrange(90_000)))
        for number in range(1, 40, 6):
            (at / f"old{number}").write_bytes(chance.randbytes(70_000))
        wanted = hashes(at)
    after = Disk(volume.read_bytes())
    log = journal_from(before, after, version)
    disk = Disk(bytes(after.data))
    for cluster in (before.used() != after.used()).nonzero()[0].tolist():
        disk.set_used(cluster, 1, bool(before.used()[cluster]))
    for number in changed_records(before, after):
        disk.put_record(number, before.record(number))
    disk.put_journal(log.data(copy=copy, copied=True))
    volume.write_bytes(disk.data)
    return volume, wanted, after


def changed_records(before: Disk, after: Disk) -> Iterator[int]:
    """FILE records of users that are in use at one of two times, and not the same."""
    for number in range(24, min(before.mft.records, after.mft.records)):
        if before.record(number) != after.record(number):
            yield number


def journal_from(before: Disk, after: Disk, version: tuple[int, int]) -> Log:
    """A journal that leads from one state of a volume to another one."""
    log = Log(len(after.journal_bytes()), version, start=4)
    log.add(change(built.NOOP))
    for _ in range(60):
        # ntfsrecover looks for a page before the first one that counts.
        log.add(change(built.NOOP, redo_data=bytes(100)))
    entries = [built.attribute_entry(0, 0x80), built.attribute_entry(6, 0x80)]
    at = log.add(change(built.ATTRIBUTES, redo_data=built.table(entries)))
    log.oldest = at
    log.checkpoint(attributes=at)
    cluster = after.cluster
    changed = (before.used() != after.used()).nonzero()[0].tolist()
    for number in changed:
        operations = (built.SET_BITS, built.CLEAR_BITS)
        redo, undo = operations if after.used()[number] else operations[::-1]
        page = number // 8 // cluster
        ((place, _),) = after.spans(after.bitmap, page * cluster, 1)
        data = built.bits(number - 8 * page * cluster, 1)
        where = {"vcn": page, "clusters": [place // cluster], "target": built.BITMAP_PLACE}
        log.add(change(redo, undo, data, data, **where))
    for number in changed_records(before, after):
        size = len(after.record(number))
        vcn, inside = divmod(number * size, cluster)
        places = [
            next(after.spans(after.mft.data, (vcn + index) * cluster, 1))[0] // cluster
            for index in range(max(1, size // cluster))
        ]
        new, old = (_logged(disk.record(number)) for disk in (after, before))
        where = {"vcn": vcn, "sector": inside // 512, "clusters": places}
        for redo, undo, data, undo_data in _steps(new, old):
            log.add(change(redo, undo, data, undo_data, **where))
    log.add(change(built.FORGET, built.COMPENSATION), transaction=0x18)
    return log


def _steps(new: bytes, old: bytes) -> Iterator[tuple[int, int, bytes, bytes]]:
    """How Windows logs that a FILE record becomes another one."""
    is_used, was_used = (bool(record[22] & 1) for record in (new, old))
    if is_used and was_used:
        yield built.NOOP, built.INITIALIZE, b"", old
    if is_used:
        undo = built.NOOP if was_used else built.DEALLOCATE
        yield built.INITIALIZE, undo, new, b""
    elif was_used:
        yield built.DEALLOCATE, built.INITIALIZE, b"", old


def _logged(record: bytes) -> bytes:
    """A FILE record as it is logged: without fix-ups, and without what is not in use."""
    data = unprotect(record)
    return bytes(data[: int.from_bytes(data[24:28], "little")])


@pytest.mark.parametrize("copy", [False, True], ids=["in the ring", "in a copy"])
@pytest.mark.parametrize("version", [(1, 1), (2, 0)], ids=["1.1", "2.0"])
def test_class_50_files_that_only_the_journal_knows(
    tmp_path: Path, version: tuple[int, int], copy: bool
) -> None:
    check_crashed(tmp_path, version, copy, 4096, 1)


@pytest.mark.parametrize("cluster", [512, 1024, 2048, 16384, 65536])
def test_class_50_clusters_of_other_sizes(tmp_path: Path, cluster: int) -> None:
    check_crashed(tmp_path, (1, 1), True, cluster, 2)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 23))
@pytest.mark.parametrize("cluster", [512, 4096, 65536])
def test_class_50_many_crashes(tmp_path: Path, cluster: int, seed: int) -> None:
    check_crashed(tmp_path, ((1, 1), (2, 0))[seed % 2], seed % 3 == 0, cluster, seed)


def check_crashed(
    tmp_path: Path, version: tuple[int, int], copy: bool, cluster: int, seed: int
) -> None:
    """Nothing is lost of a volume that was cut off, and ntfsrecover makes the same files of it
    without what its map calls free.
    """
    require_ntfs()
    require_programs("ntfsrecover")
    volume, wanted, after = crashed(tmp_path, version, copy, cluster, seed)
    _, allocation = surveyed(volume)
    ours = used_of(allocation)
    raw = Disk(volume.read_bytes()).used()
    lost = int((after.used() & ~raw).sum())
    assert lost * cluster > MIB, "the bitmap on the disk calls them free"
    assert not (after.used() & ~ours).any()
    assert int((~ours).sum()) > len(ours) // 2
    left = without_free(volume, allocation, tmp_path / "left")
    for each in (volume, left):
        found = replayed(each, tmp_path / "at")
        assert found is not None
        assert found[0] == wanted
        assert not (found[1] & ~ours).any()
    wanted_records = listed(volume)
    records = Disk(volume.read_bytes()).records()
    assert [told(each) for each in records] == [
        wanted_records[each.lsn].only(told(each)) for each in records
    ]


def test_increments_of_a_volume_that_is_in_use_clean_and_in_use_again(tmp_path: Path) -> None:
    """What became used between two images is taken whatever the map was made from."""
    require_ntfs()
    require_programs("ntfsrecover")
    volume, wanted, _ = crashed(tmp_path, (1, 1), copy=True)
    busy = volume.read_bytes()
    found = replayed(volume, tmp_path / "at")
    assert found is not None
    with ntfs_3g(volume.with_name("replayed"), tmp_path / "at", "recover") as at:
        (at / "after").write_bytes(b"written after the replay" * 4000)
        (at / "new1").unlink()
    clean = volume.with_name("replayed").read_bytes()
    parent = None
    for number, state in enumerate((busy, clean, busy, clean)):
        volume.write_bytes(state)
        image = tmp_path / f"{number}.aiv"
        aipimage.create(image, volume, parent=parent)
        parent = image
    for number, files in enumerate((wanted, None, wanted, None)):
        out = tmp_path / "out"
        with aipimage.open(tmp_path / f"{number}.aiv") as opened:
            opened.restore(out, force=True)
        assert len(out.read_bytes()) == len(busy)
        if files is None:
            with ntfs_3g(out, tmp_path / "at", "ro,norecover") as at:
                assert (at / "after").read_bytes() == b"written after the replay" * 4000
        else:
            again = replayed(out, tmp_path / "at")
            assert again is not None
            assert again[0] == files

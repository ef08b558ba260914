"""Appliances where something fails: every call in turn, cancelling, power, other writers."""

from __future__ import annotations

import errno
import io
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import aipimage
from aipimage.errors import (
    AipImageError,
    CancelledError,
    RequestError,
    SourceError,
    StorageError,
    TargetError,
)
from aipimage.io.system.storage import DEFAULT, Storage, SystemCalls
from aipimage.vmdk.ovf import OvaResult, write_ova, write_ovf
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import TRANSFERS, Fault, FaultySystemCalls, each_fault
from tests.support.sources import SparseSource
from tests.vmdk.ovf.made import FIXED, MIB, check_manifest, check_references, disk, take

if TYPE_CHECKING:
    from typing_extensions import Buffer

Write = Callable[..., OvaResult]
CHANGING = ("pwritev", "fsync", "flock", "replace", "unlink", "close")
FOLDER = ["a-disk1.vmdk", "a-disk2.vmdk", "a.mf", "a.ovf"]


def ova(folder: Path, system: SystemCalls | None = None, **more: object) -> OvaResult:
    """A small OVA in a folder."""
    storage = DEFAULT if system is None else Storage(system)
    options = {"cids": [1], "threads": 1, **FIXED, **more}
    return write_ova(folder / "a.ova", [disk(3 * MIB)], storage=storage, **options)  # type: ignore[arg-type]


def folder_of(folder: Path, system: SystemCalls | None = None, **more: object) -> OvaResult:
    """A small appliance of two disks as a folder."""
    storage = DEFAULT if system is None else Storage(system)
    options = {"cids": [1, 2], "threads": 1, **FIXED, **more}
    disks = [disk(3 * MIB), disk(3 * MIB, seed=1)]
    return write_ovf(folder / "a.ovf", disks, storage=storage, **options)  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, bytes]:
    """All files of a folder."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def check(folder: Path) -> None:
    """Whatever bears a final name is whole, and belongs to the same run."""
    if (folder / "a.ova").exists():
        taken = take(folder / "a.ova")
        check_manifest(taken.files)
        check_references(taken.files, taken.root)
    if (folder / "a.ovf").exists():
        order = ["a.ovf", "a.mf", "a-disk1.vmdk", "a-disk2.vmdk"]
        check_manifest({name: (folder / name).read_bytes() for name in order})


@pytest.mark.parametrize("write", [ova, folder_of])
@pytest.mark.parametrize("overwrite", [False, True])
def test_every_call_fails_once(tmp_path: Path, write: Write, overwrite: bool) -> None:
    """The old package, the new one, or nothing that looks like one; never a partial file."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder, cids in ((old, [8, 9]), (new, [1, 2])):
        folder.mkdir()
        write(folder, cids=cids[: 1 if write is ova else 2])
    contents = content(old), content(new)
    place = tmp_path / "place"

    def scenario(system: SystemCalls) -> None:
        shutil.rmtree(place, ignore_errors=True)
        if overwrite:
            shutil.copytree(old, place)
        else:
            place.mkdir()
        write(place, system, overwrite=overwrite)

    struck = 0
    # Finding out whether a file is in use reads many tables, which fail elsewhere.
    kinds = CHANGING if overwrite else ()
    for fault in each_fault(scenario, errnos=(errno.EIO, errno.ENOSPC), kinds=kinds):
        try:
            scenario(FaultySystemCalls(fault))
        except StorageError:
            struck += 1
        after = content(place)
        assert not [name for name in after if name.endswith(".partial")], fault
        if write is ova and overwrite:
            assert after in contents, fault
        elif after not in contents:
            assert "a.ovf" not in after, fault
            assert "a.ova" not in after, fault
        check(place)
    assert struck > 15


def test_short_and_interrupted_transfers_are_finished(tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    ova(whole)
    for at in range(8):
        for number in (0, errno.EINTR):
            place = tmp_path / f"{at}-{number}"
            place.mkdir()
            fault = Fault(at, number, TRANSFERS, short=number == 0)
            ova(place, FaultySystemCalls(fault))
            assert (place / "a.ova").read_bytes() == (whole / "a.ova").read_bytes()


@pytest.mark.parametrize("write", [ova, folder_of])
def test_cancelling_leaves_nothing(tmp_path: Path, write: Write) -> None:
    with pytest.raises(CancelledError):
        write(tmp_path, progress=lambda _: False)
    assert not os.listdir(tmp_path)
    write(tmp_path)
    before = content(tmp_path)
    with pytest.raises(CancelledError):
        write(tmp_path, progress=lambda _: False, overwrite=True)
    assert content(tmp_path) == before


def test_cancelling_a_pipe_in_either_pass() -> None:
    for limit, empty in ((1, True), (9 * MIB, False)):
        out = io.BytesIO()
        with pytest.raises(CancelledError):
            write_ova(
                out, [disk(8 * MIB)], progress=lambda told, limit=limit: told.done < limit, **FIXED
            )
        assert bool(out.getvalue()) != empty
        assert not out.getvalue().endswith(bytes(1024))


def test_hostile_59_a_crash_at_any_point(tmp_path: Path) -> None:
    """An OVA that is there is whole; a descriptor that is there has its own disks beside it."""
    cases: list[tuple[Write, bool]] = [
        (ova, False),
        (ova, True),
        (folder_of, False),
        (folder_of, True),
    ]
    for write, overwrite in cases:
        live = tmp_path / f"{'ova' if write is ova else 'folder'}-{overwrite}"
        live.mkdir()
        if overwrite:
            write(live, cids=[8] if write is ova else [8, 9])
        recorder = RecordingSystemCalls(live)
        write(live, recorder, overwrite=overwrite)
        recorder.mark("done")
        for number, state in enumerate(crash_states(recorder, shuffles=2, tears=1)):
            place = state.materialise(tmp_path / f"{live.name}-{number}")
            check(place)
            if "done" in state.marks or (overwrite and write is ova):
                assert (place / "a.ova").exists() or (place / "a.ovf").exists(), state.label
            shutil.rmtree(place)


def test_targets_that_are_refused(tmp_path: Path) -> None:
    taken = tmp_path / "a.ova"
    taken.write_bytes(b"old")
    with pytest.raises(TargetError, match="already there"):
        ova(tmp_path)
    ova(tmp_path, overwrite=True)
    check(tmp_path)
    (tmp_path / "dir").mkdir()
    with pytest.raises(RequestError, match="a directory"):
        write_ova(tmp_path / "dir", [disk()], overwrite=True, **FIXED)
    with pytest.raises(TargetError, match="no such directory"):
        write_ova(tmp_path / "no" / "a.ova", [disk()], **FIXED)
    with pytest.raises(TargetError, match="no such device"):
        write_ova("/dev/nosuch.ova", [disk()], **FIXED)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(RequestError, match="a named pipe"):
        write_ova(tmp_path / "fifo", [disk()], overwrite=True, **FIXED)
    assert sorted(os.listdir(tmp_path)) == ["a.ova", "dir", "fifo"]


def test_an_image_is_never_overwritten(tmp_path: Path) -> None:
    aipimage.create(tmp_path / "a.ova", [disk(MIB * 3)])
    before = (tmp_path / "a.ova").read_bytes()
    with pytest.raises(TargetError, match="is an image"):
        ova(tmp_path, overwrite=True)
    assert os.listdir(tmp_path) == ["a.ova"]
    assert (tmp_path / "a.ova").read_bytes() == before


def test_a_left_partial_file_is_replaced_and_one_in_use_is_not(tmp_path: Path) -> None:
    partial = tmp_path / "a.ova.partial"
    partial.write_bytes(b"left")
    ova(tmp_path)
    assert not partial.exists()
    with Storage().create(partial) as file:
        file.lock()
        with pytest.raises(TargetError, match="another process is writing it"):
            ova(tmp_path, overwrite=True)
    assert partial.exists()


def test_somebody_else_creates_the_target_meanwhile(tmp_path: Path) -> None:
    def meddle(_: object) -> None:
        (tmp_path / "a.ova").write_bytes(b"theirs")

    with pytest.raises(TargetError, match="another program created it"):
        ova(tmp_path, progress=meddle)
    assert os.listdir(tmp_path) == ["a.ova"]
    assert (tmp_path / "a.ova").read_bytes() == b"theirs"


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "a.ova").symlink_to(tmp_path / "real" / "b.ova")
    result = ova(tmp_path)
    assert result.path == str(tmp_path / "real" / "b.ova")
    assert (tmp_path / "a.ova").is_symlink()
    check(tmp_path)


def test_a_folder_where_any_file_is_there(tmp_path: Path) -> None:
    for name in FOLDER:
        (tmp_path / name).write_bytes(b"old")
        with pytest.raises(TargetError, match=name):
            folder_of(tmp_path)
        assert os.listdir(tmp_path) == [name]
        (tmp_path / name).unlink()


def test_a_stale_manifest_goes_with_the_appliance_that_it_was_of(tmp_path: Path) -> None:
    folder_of(tmp_path)
    with pytest.raises(TargetError, match=r"a\.mf: is already there"):
        folder_of(tmp_path, manifest="none")
    folder_of(tmp_path, manifest="none", overwrite=True)
    assert sorted(os.listdir(tmp_path)) == [name for name in FOLDER if name != "a.mf"]


class Changing(SparseSource):
    """A disk that has other content from the n-th read of its first piece on."""

    def __init__(self, after: int) -> None:
        super().__init__(3 * MIB, {0: b"a" * 5000})
        self._left = after

    def read_into(self, buffer: Buffer, offset: int) -> None:
        super().read_into(buffer, offset)
        self._left -= 1
        if self._left < 0:
            memoryview(buffer).cast("B")[0:1] = b"b"


def test_a_disk_that_changes_between_the_passes() -> None:
    once = Changing(1000)
    write_ova(io.BytesIO(), [once], cids=[1], **FIXED)
    reads = (1000 - once._left) // 2
    out = io.BytesIO()
    with pytest.raises(SourceError, match="changed while it was read"):
        write_ova(out, [Changing(reads)], cids=[1], **FIXED)
    assert not out.getvalue().endswith(bytes(1024)), "without its end nobody takes it for whole"


class Failing(io.RawIOBase):
    """A pipe whose reader goes away after some bytes; it takes at most 1000 a call."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.data = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer, /) -> int:
        taken = bytes(memoryview(data)[:1000])
        if len(self.data) + len(taken) > self.room:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")
        self.data += taken
        return len(taken)


def test_a_pipe_that_breaks_anywhere() -> None:
    whole = Failing(1 << 30)
    write_ova(whole, [disk(3 * MIB)], cids=[1], **FIXED)  # type: ignore[arg-type]
    check_manifest(take(bytes(whole.data)).files)
    for room in (0, 100, 1000, 5000, 7000, len(whole.data) // 2, len(whole.data) - 1):
        pipe = Failing(room)
        with pytest.raises(StorageError, match="Broken pipe"):
            write_ova(pipe, [disk(3 * MIB)], cids=[1], **FIXED)  # type: ignore[arg-type]
        assert whole.data.startswith(pipe.data)


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    class Broken(SparseSource):
        def read_into(self, buffer: Buffer, offset: int) -> None:
            raise SourceError("disk: gone")

    sources: Sequence[SparseSource] = [disk(), Broken(3 * MIB, {MIB: b"x"})]
    with pytest.raises(SourceError, match="gone"):
        write_ova(tmp_path / "a.ova", sources, **FIXED)
    with pytest.raises(SourceError, match="gone"):
        write_ovf(tmp_path / "a.ovf", sources, **FIXED)
    assert not os.listdir(tmp_path)


def test_a_failed_sync_is_final(tmp_path: Path) -> None:
    for at in range(3):
        system = FaultySystemCalls(Fault(at, errno.EIO, ("fsync",)))
        with pytest.raises(AipImageError):
            folder_of(tmp_path, system)
        assert not os.listdir(tmp_path)

"""Failing calls, power cuts, two writers: what bears a disk's name is whole (classes 57 to 60)."""

from __future__ import annotations

import errno
import threading
from pathlib import Path
from typing import Any

import pytest

from aipimage import StorageError, TargetError
from aipimage.errors import AipImageError
from aipimage.io.system.storage import DEFAULT, Storage, SystemCalls
from tests.support.crash import RecordingSystemCalls, crash_states
from tests.support.faults import TRANSFERS, FaultySystemCalls, each_fault
from tests.vmdk.writing.made import GRAIN, disk, small_batches, without_syncs, write

SOURCE = disk("tr.t", "....", "r..t")
KINDS: list[dict[str, Any]] = [
    {"subformat": "streamOptimized"},
    {"subformat": "monolithicSparse"},
    {"subformat": "monolithicFlat"},
    {"subformat": "twoGbMaxExtentSparse", "split": 4 * GRAIN},
]


@pytest.fixture(autouse=True)
def batches(monkeypatch: pytest.MonkeyPatch) -> None:
    small_batches(monkeypatch)
    without_syncs(monkeypatch)


def contents(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir()}


def emptied(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    for each in folder.iterdir():
        each.unlink()


@pytest.fixture(params=KINDS, ids=lambda kind: kind["subformat"])
def kind(request: pytest.FixtureRequest) -> dict[str, Any]:
    return dict(request.param)


@pytest.mark.parametrize("resume", [False, True])
def test_class_57_each_call_fails(kind: dict[str, Any], resume: bool, tmp_path: Path) -> None:
    """An error of ours, nothing under the disk's name that is not whole, and no file left over
    unless it is for a resume.
    """
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / "d.vmdk", SOURCE, **kind)
    whole = contents(tmp_path / "whole")
    folder = tmp_path / "disk"
    more = {"resume": True, "checkpoint_bytes": 1, "checkpoint_seconds": 1e9} if resume else {}

    def scenario(system: SystemCalls) -> None:
        emptied(folder)
        write(folder / "d.vmdk", SOURCE, storage=Storage(system), **kind, **more)

    struck = 0
    # With a resume each fault costs three disks.
    errnos = (errno.EIO,) if resume else (errno.EIO, errno.ENOSPC)
    for fault in each_fault(scenario, errnos=errnos):
        system = FaultySystemCalls(fault)
        try:
            scenario(system)
        except AipImageError:
            struck += 1
        left = contents(folder)
        if "d.vmdk" in left:
            files = {n: d for n, d in left.items() if not n.endswith((".state", ".names"))}
            assert files == whole, str(fault)
        elif not resume:
            assert not left, str(fault)
        else:
            write(folder / "d.vmdk", SOURCE, **kind, **more)
            assert contents(folder) == whole, str(fault)
    assert struck > 30


def test_class_57_interrupted_and_short_calls(kind: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / "d.vmdk", SOURCE, **kind)
    folder = tmp_path / "disk"

    def scenario(system: SystemCalls) -> None:
        emptied(folder)
        write(folder / "d.vmdk", SOURCE, storage=Storage(system), **kind)

    faults = [
        *each_fault(scenario, errnos=(errno.EINTR,)),
        *each_fault(scenario, errnos=(0,), kinds=TRANSFERS, short=True),
    ]
    for fault in faults:
        scenario(FaultySystemCalls(fault))
        assert contents(folder) == contents(tmp_path / "whole"), str(fault)


@pytest.mark.parametrize("resume", [False, True])
def test_class_59_power_cuts(kind: dict[str, Any], resume: bool, tmp_path: Path) -> None:
    """After every prefix of what was done: what bears the name is whole, what was promised is
    there, and with checkpoints the work goes on to the same bytes.
    """
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / "d.vmdk", SOURCE, **kind)
    whole = contents(tmp_path / "whole")
    (tmp_path / "disk").mkdir()
    recorder = RecordingSystemCalls(tmp_path / "disk")
    more = {"resume": True, "checkpoint_bytes": 1, "checkpoint_seconds": 1e9} if resume else {}
    write(tmp_path / "disk" / "d.vmdk", SOURCE, storage=Storage(recorder), **kind, **more)
    recorder.mark("done")
    resumed = seen = 0
    for state in crash_states(recorder, shuffles=1, tears=1):
        if resume and state.point % 3:
            continue
        folder = tmp_path / "after"
        state.materialise(folder)
        found = contents(folder)
        if "d.vmdk" in found:
            seen += 1
            assert {name: found[name] for name in whole} == whole, state.label
        else:
            assert not state.marks, state.label
            if resume and not (found.keys() & whole.keys()):
                result = write(folder / "d.vmdk", SOURCE, **kind, **more)
                resumed += result.resumed
                assert contents(folder) == whole, state.label
        emptied(folder)
        folder.rmdir()
    assert seen > 0
    assert not resume or resumed > 3


def test_class_59_the_old_disk_or_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    write(folder / "d.vmdk", disk("t"))
    old = (folder / "d.vmdk").read_bytes()
    recorder = RecordingSystemCalls(folder)
    write(folder / "d.vmdk", SOURCE, storage=Storage(recorder), overwrite=True)
    recorder.mark("done")
    new = (folder / "d.vmdk").read_bytes()
    for number, state in enumerate(crash_states(recorder)):
        found = state.materialise(tmp_path / f"{number}") / "d.vmdk"
        assert found.read_bytes() in ([new] if state.marks else [old, new]), state.label


def test_class_60_two_writers(kind: dict[str, Any], tmp_path: Path) -> None:
    """The second is refused while the first works, and disturbs nothing; also when it resumes."""
    refused = []

    class Meddled(type(SOURCE)):  # type: ignore[misc]
        def read_into(self, buffer: Any, offset: int) -> None:
            if not refused:
                for more in ({}, {"resume": True}):
                    with pytest.raises(TargetError, match="another process is writing it"):
                        write(tmp_path / "d.vmdk", SOURCE, **kind, **more)
                refused.append(threading.get_ident())
            super().read_into(buffer, offset)

    state = tmp_path / "d.vmdk.partial.state"
    write(tmp_path / "d.vmdk", Meddled(SOURCE.size, SOURCE.pieces), threads=1, **kind)
    assert refused
    assert not state.exists()
    (tmp_path / "whole").mkdir()
    write(tmp_path / "whole" / "d.vmdk", SOURCE, **kind)
    for name, data in contents(tmp_path / "whole").items():
        assert (tmp_path / name).read_bytes() == data


def test_class_60_left_over_files_of_nobody_are_replaced(
    kind: dict[str, Any], tmp_path: Path
) -> None:
    result = write(tmp_path / "d.vmdk", SOURCE, **kind)
    whole = contents(tmp_path)
    for name in result.files:
        Path(name).rename(name + ".partial")
        Path(name + ".partial").write_bytes(b"rubbish" * 100_000)
    (tmp_path / "d.vmdk.partial.state").write_bytes(b"{}")
    write(tmp_path / "d.vmdk", SOURCE, **kind)
    assert contents(tmp_path) == whole


def test_somebody_else_was_quicker(kind: dict[str, Any], tmp_path: Path) -> None:
    """A file that appeared meanwhile is not replaced."""

    class Meddled(type(SOURCE)):  # type: ignore[misc]
        def read_into(self, buffer: Any, offset: int) -> None:
            (tmp_path / "d.vmdk").write_bytes(b"theirs")
            super().read_into(buffer, offset)

    with pytest.raises(TargetError, match="meanwhile"):
        write(tmp_path / "d.vmdk", Meddled(SOURCE.size, SOURCE.pieces), **kind)
    assert contents(tmp_path) == {"d.vmdk": b"theirs"}


def test_a_pipe_that_breaks() -> None:
    class Broken:
        name = "broken"

        def write(self, data: bytes) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

        def flush(self) -> None:
            pass

    with pytest.raises(StorageError, match="broken"):
        write(Broken(), SOURCE, subformat="streamOptimized", storage=DEFAULT)

"""Plain bytes as targets: files that stay sparse and are resumed, streams, devices."""

from __future__ import annotations

import contextlib
import errno
import io
import json
import os
import random
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import aipimage
from aipimage import ConvertOptions
from aipimage.converting import rawfile
from aipimage.converting.convert import convert
from aipimage.converting.raw import RawStream
from aipimage.errors import CancelledError, IntegrityError, RequestError, StorageError, TargetError
from aipimage.io.reading.copying import BATCH, copy_blocks
from aipimage.io.system.progress import Progress
from aipimage.io.system.storage import Storage
from tests.support import loop_device
from tests.support.faults import Fault, FaultySystemCalls, each_fault
from tests.support.sources import SparseSource

MIB = 1 << 20


def alternating(size: int, seed: int = 1) -> bytes:
    """Pieces of data and of zeros of many lengths."""
    chance = random.Random(seed)
    data = bytearray()
    while len(data) < size:
        data += chance.randbytes(chance.choice((1, 511, 4096, 65_536, 300_000)))
        data += bytes(chance.choice((1, 512, 4096, 70_000, 200_000)))
    return bytes(data[:size])


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16 MiB and some odd bytes."""
    path = tmp_path_factory.mktemp("converting") / "disk.raw"
    path.write_bytes(alternating(16 * MIB + 777))
    return path


@pytest.fixture(scope="module")
def image(disk: Path) -> Path:
    """An image of it."""
    path = disk.with_name("disk.aiv")
    aipimage.create(path, disk)
    return path


@pytest.mark.parametrize("kind", ["raw", "aiv"])
def test_to_a_file(kind: str, disk: Path, image: Path, tmp_path: Path) -> None:
    """All bytes, holes where zeros are, nothing else left; the result says what was written."""
    source = disk if kind == "raw" else image
    seen: list[Progress] = []
    made = aipimage.convert(source, tmp_path / "a.img", progress=seen.append)
    assert (tmp_path / "a.img").read_bytes() == disk.read_bytes()
    assert [each.name for each in tmp_path.iterdir()] == ["a.img"]
    assert (made.source_format, made.format, made.size) == (kind, "raw", disk.stat().st_size)
    assert made.stored == (tmp_path / "a.img").stat().st_blocks * 512
    assert made.stored < made.size
    assert 0 < made.data < made.size
    assert made.files == (str(tmp_path / "a.img"),)
    assert (made.disks, made.unreadable, made.resumed) == ((0,), 0, False)
    assert seen[-1].done == seen[-1].total == made.size


@pytest.mark.parametrize("kind", ["raw", "aiv"])
def test_to_a_stream(kind: str, disk: Path, image: Path) -> None:
    """All bytes, zeros too, also into one that takes only some bytes at a time."""

    class Slow(io.BytesIO):
        def write(self, data: Any) -> int:
            return super().write(memoryview(data)[:100_000])

    for stream in (io.BytesIO(), Slow()):
        made = aipimage.convert(disk if kind == "raw" else image, stream, format="raw")
        assert stream.getvalue() == disk.read_bytes()
        assert (made.target, made.files) == (None, ())


def test_a_stream_needs_a_format(disk: Path) -> None:
    with pytest.raises(RequestError, match="a stream has no name that shows the format"):
        aipimage.convert(disk, io.BytesIO())
    with pytest.raises(RequestError, match="only a file can be resumed"):
        aipimage.convert(disk, io.BytesIO(), format="raw", resume=True)


def test_a_stream_that_fails_is_a_storage_error(disk: Path) -> None:
    with open("/dev/full", "wb", buffering=0) as full, pytest.raises(StorageError) as raised:
        aipimage.convert(disk, full, format="raw")
    assert raised.value.errno == errno.ENOSPC


def test_what_is_there_is_kept_unless_asked(disk: Path, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.img"
    target.write_bytes(b"precious")
    with pytest.raises(TargetError, match="is already there; choose another name or replace it"):
        aipimage.convert(disk, target)
    assert target.read_bytes() == b"precious"
    aipimage.convert(image, target, overwrite=True)
    assert target.read_bytes() == disk.read_bytes()
    assert os.listdir(tmp_path) == ["a.img"]


@pytest.mark.parametrize("link", [None, "link.img"])
def test_the_source_is_no_target(link: str | None, disk: Path, tmp_path: Path) -> None:
    source = tmp_path / "disk.raw"
    source.write_bytes(disk.read_bytes())
    target = source
    if link is not None:
        target = tmp_path / link
        os.link(source, target)
    with pytest.raises(RequestError, match="is the source itself, or a file of it"):
        aipimage.convert(source, target, overwrite=True)
    assert source.read_bytes() == disk.read_bytes()


def test_parts_of_an_image_are_no_targets(disk: Path, tmp_path: Path) -> None:
    aipimage.create(tmp_path / "a.aiv", disk, split=MIB, compress="none")
    part = tmp_path / "a.aiv.002"
    before = part.read_bytes()
    with pytest.raises(RequestError, match="is the source itself, or a file of it"):
        aipimage.convert(tmp_path / "a.aiv", part, format="raw", overwrite=True)
    assert part.read_bytes() == before


def test_unreadable_sectors_become_zeros_and_are_counted(tmp_path: Path) -> None:
    """Told of when they are met, and when an image remembers them."""
    data = random.Random(3).randbytes(3 * MIB)
    source = SparseSource(8 * MIB, {4096: data}, ((8192, 1024), (2 * MIB, 512)))
    aipimage.create(tmp_path / "a.aiv", source)
    made = aipimage.convert(tmp_path / "a.aiv", tmp_path / "a.img")
    assert made.unreadable == 1536
    assert (tmp_path / "a.img").read_bytes() == source.content(0, 8 * MIB)
    stream = io.BytesIO()
    sink = RawStream(stream, source.size)
    copied = copy_blocks(source, 0, sink)
    sink.finish()
    assert copied.unreadable == 1536
    assert stream.getvalue() == source.content(0, 8 * MIB)


def test_only_data_is_read(tmp_path: Path) -> None:
    """A disk of 3 TiB with two pieces of data takes no time."""
    pieces = {5 * MIB + 512: b"x" * 70_000, (3 << 40) - 4096: b"y" * 4096}
    source = SparseSource(3 << 40, pieces)
    target = tmp_path / "large.img"
    made = _copied(source, target)
    assert source.bytes_read == 70_000 + 4096
    assert made.written == 70_000 + 4096
    with target.open("rb") as file:
        for offset, data in pieces.items():
            file.seek(offset - 512 if offset > 512 else 0)
            assert file.read(len(data) + 512) == bytes(512) + data
    assert target.stat().st_size == 3 << 40
    assert target.stat().st_blocks * 512 < MIB


def _copied(source: SparseSource, target: Path) -> Any:
    sink = rawfile.open_raw_file(
        target, source.size, {}, source.read_into, overwrite=False, resume=False, storage=Storage()
    )
    copied = copy_blocks(source, 0, sink)
    sink.finish()
    return copied


def test_memory_is_bounded(tmp_path: Path) -> None:
    """Crumbs all over a large disk are read in many batches, none larger than its buffer."""
    crumbs = {at * 3 * MIB: b"z" * 512 for at in range(2000)}
    made = _copied(SparseSource(6000 * MIB, crumbs), tmp_path / "a.img")
    assert made.written == 2000 * 512


# Interrupted, and resumed


def stopped(source: Path, target: Path, after: int, **options: Any) -> None:
    """Cancel once so many bytes were written."""
    with pytest.raises(CancelledError):
        aipimage.convert(
            source, target, progress=lambda now: now.stored < after, threads=1, **options
        )


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkpoint before every write, and a look at the callback after each batch."""
    monkeypatch.setattr(rawfile, "CHECKPOINT_BYTES", 1)
    monkeypatch.setattr("aipimage.io.system.progress._TICK", 0)


def test_cancelled_before_a_checkpoint_leaves_nothing(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aipimage.io.system.progress._TICK", 0)
    stopped(disk, tmp_path / "a.img", MIB)
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("kind", ["raw", "aiv"])
def test_resumed(kind: str, disk: Path, image: Path, tmp_path: Path) -> None:
    """It goes on behind what was durable; what the interrupted run wrote later is written anew."""
    source, target = disk if kind == "raw" else image, tmp_path / "a.img"
    stopped(source, target, 2 * MIB)
    assert sorted(os.listdir(tmp_path)) == ["a.img.partial", "a.img.partial.state"]
    done = json.loads((tmp_path / "a.img.partial.state").read_text())["done"]
    partial = tmp_path / "a.img.partial"
    with partial.open("r+b") as file:
        # As after a power cut: behind the checkpoint there may be anything.
        file.seek(done)
        file.write(b"\xff" * (file.seek(0, os.SEEK_END) - done))
    made = aipimage.convert(source, target, resume=True)
    assert made.resumed
    assert made.data < aipimage.convert(source, tmp_path / "b.img").data
    assert target.read_bytes() == disk.read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["a.img", "b.img"]


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("kind", ["raw", "aiv", "vmdk"])
@pytest.mark.parametrize("spelling", ["relative", "through a link", "with dots"])
def test_resumed_however_the_path_is_written(
    kind: str,
    spelling: str,
    disk: Path,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = {"raw": disk, "aiv": image, "vmdk": tmp_path / "d.vmdk"}[kind]
    wanted = disk.read_bytes()
    if kind == "vmdk":
        wanted = wanted[: 16 * MIB]
        (tmp_path / "whole.raw").write_bytes(wanted)
        aipimage.convert(tmp_path / "whole.raw", source, format="vmdk")
    stopped(source, tmp_path / "a.img", 2 * MIB)
    assert (tmp_path / "a.img.partial.state").exists()
    monkeypatch.chdir(source.parent)
    (tmp_path / "link").symlink_to(source.parent)
    again = {
        "relative": source.name,
        "through a link": tmp_path / "link" / source.name,
        "with dots": f"../{source.parent.name}/{source.name}",
    }[spelling]
    assert aipimage.convert(again, tmp_path / "a.img", resume=True).resumed
    assert (tmp_path / "a.img").read_bytes() == wanted


@pytest.mark.usefixtures("eager")
def test_another_source_is_not_gone_on_with(disk: Path, image: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.img"
    stopped(disk, target, 2 * MIB)
    before = (tmp_path / "a.img.partial").read_bytes()
    with pytest.raises(RequestError, match="was begun with another source or other options"):
        aipimage.convert(image, target, resume=True)
    assert (tmp_path / "a.img.partial").read_bytes() == before
    assert not aipimage.convert(image, target).resumed
    assert target.read_bytes() == disk.read_bytes()
    assert os.listdir(tmp_path) == ["a.img"]


@pytest.mark.usefixtures("eager")
def test_what_was_changed_meanwhile_is_not_gone_on_with(disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.img"
    stopped(disk, target, 2 * MIB)
    with (tmp_path / "a.img.partial").open("r+b") as file:
        file.write(b"\xff" * MIB)
    with pytest.raises(RequestError, match="is not what the source has"):
        aipimage.convert(disk, target, resume=True)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize(
    "state", [b"", b"{", b"[]", b"\xff" * 9, b"{}", b'{"done": 1}', b"[" * 60_000]
)
def test_any_state_is_understood_or_left(state: bytes, disk: Path, tmp_path: Path) -> None:
    """What is no state of ours begins anew, or is refused; nothing else leaves."""
    target = tmp_path / "a.img"
    stopped(disk, target, 2 * MIB)
    (tmp_path / "a.img.partial.state").write_bytes(state)
    try:
        made = aipimage.convert(disk, target, resume=True)
    except RequestError:
        made = aipimage.convert(disk, target)
    assert not made.resumed
    assert target.read_bytes() == disk.read_bytes()


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("done", [-1, 1 << 60, 1.5, "1", None, True])
def test_a_place_that_cannot_be_begins_anew(done: Any, disk: Path, tmp_path: Path) -> None:
    target = tmp_path / "a.img"
    stopped(disk, target, 2 * MIB)
    state = tmp_path / "a.img.partial.state"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"done": done}))
    made = aipimage.convert(disk, target, resume=True)
    assert not made.resumed
    assert target.read_bytes() == disk.read_bytes()


def test_every_failing_call_leaves_the_truth(disk: Path, image: Path, tmp_path: Path) -> None:
    """Class 57: the k-th system call fails, for every k. Under the final name there is nothing, or
    all of it; what can be resumed ends the same.
    """
    small = tmp_path / "small.raw"
    small.write_bytes(disk.read_bytes()[: 3 * MIB])
    room = tmp_path / "room"
    room.mkdir()
    target = room / "a.img"
    wanted = small.read_bytes()
    with mock.patch.object(rawfile, "CHECKPOINT_BYTES", MIB):

        def run(system: Any, **options: Any) -> None:
            for each in room.iterdir():
                each.unlink()
            asked = ConvertOptions(threads=1, **options)
            convert(small, target, asked, storage=Storage(system))

        for fault in each_fault(run, errnos=(errno.EIO,)):
            system = FaultySystemCalls(fault)
            with contextlib.suppress(StorageError, aipimage.SourceError, RequestError):
                run(system)
            if target.exists():
                assert target.read_bytes() == wanted, fault
            made = aipimage.convert(small, target, resume=True, overwrite=True)
            assert target.read_bytes() == wanted, fault
            assert os.listdir(room) == ["a.img"], (fault, made)


def test_a_failed_sync_is_final(disk: Path, tmp_path: Path) -> None:
    """Class 58: nobody knows what is on the disk then, so nothing is left to go on from."""
    system = FaultySystemCalls(Fault(4, errno.EIO, ("fsync",)))
    with (
        mock.patch.object(rawfile, "CHECKPOINT_BYTES", 1),
        pytest.raises(StorageError, match="durable"),
    ):
        convert(disk, tmp_path / "a.img", ConvertOptions(), storage=Storage(system))
    assert not list(tmp_path.iterdir())


def test_damage_of_an_image_leaves_nothing(image: Path, tmp_path: Path) -> None:
    data = bytearray(image.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bad.aiv").write_bytes(data)
    with pytest.raises(IntegrityError):
        aipimage.convert(tmp_path / "bad.aiv", tmp_path / "a.img")
    assert os.listdir(tmp_path) == ["bad.aiv"]


def test_a_missing_directory_is_told(disk: Path, tmp_path: Path) -> None:
    with pytest.raises(TargetError, match="no such directory; make it first"):
        aipimage.convert(disk, tmp_path / "no" / "a.img")
    with pytest.raises(TargetError, match="there is no such device"):
        aipimage.convert(disk, "/dev/no-such.img")


@pytest.mark.parametrize("kind", ["raw", "aiv"])
def test_to_a_device(kind: str, disk: Path, image: Path, tmp_path: Path) -> None:
    """Zeros too, whatever the device held; a larger one is told of, a smaller one refused."""
    source = disk if kind == "raw" else image
    size = disk.stat().st_size
    (tmp_path / "large").write_bytes(b"\xee" * (20 * MIB))
    (tmp_path / "small").write_bytes(bytes(8 * MIB))
    with loop_device(tmp_path / "large") as device:
        made = aipimage.convert(source, device)
        with pytest.raises(RequestError, match="only a file can be resumed"):
            aipimage.convert(source, device, resume=True)
        content = Path(device).read_bytes()
    assert content[:size] == disk.read_bytes()
    assert not any(content[19 * MIB :])
    assert "is larger than the disk" in made.warnings[-1]
    with loop_device(tmp_path / "small") as device, pytest.raises(TargetError, match="too small"):
        aipimage.convert(source, device)


def test_batches_end_where_grains_do() -> None:
    """Pieces are cut at multiples of a batch, so that no compressed grain is inflated twice."""
    source = SparseSource(16 * MIB, {MIB + 65_536: b"a" * (9 * MIB)})
    starts: list[int] = []
    read = source.read_into
    source.read_into = lambda buffer, offset: (starts.append(offset), read(buffer, offset))  # type: ignore[method-assign,assignment]
    copy_blocks(source, 0, RawStream(io.BytesIO(), source.size), threads=1)
    assert all(start % BATCH == 0 for start in sorted(starts)[1:])

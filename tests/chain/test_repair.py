"""Repairing: what is whole is kept, what is not is lost and said to be, and never other data."""

from __future__ import annotations

import contextlib
import io
import os
import random
import time
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import aipimage
from aipimage import Kind
from aipimage.errors import (
    AipImageError,
    CancelledError,
    FormatError,
    IntegrityError,
    PasswordError,
    RequestError,
    TargetError,
)
from aipimage.format.constants import RecordType
from aipimage.format.record import RecordHeader, encode_record_header
from aipimage.io.increment.create import create_image
from tests.chain.damaged import (
    DISKS,
    FORMS,
    PASSWORD,
    Part,
    allowed,
    check,
    cuts,
    header_of,
    lost_within,
    made,
    options,
    parts_of,
    password_of,
    repaired,
)
from tests.support.ends import records_end
from tests.support.soon import SOON

PLAIN = ("zstd", "none", "authenticate", "no checkpoints")


@pytest.fixture(scope="module", params=list(FORMS))
def form(request: pytest.FixtureRequest) -> str:
    """Each form of an image."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """An image of each form."""
    directory = tmp_path_factory.mktemp("repair")
    return {form: made(directory / f"{form}.aiv", form) for form in FORMS}


def check_hit(
    target: Path, form: str, original: bytes, damaged: bytes, start: int, end: int
) -> aipimage.RepairResult:
    """Repair after damage from ``start`` to ``end``: only what it hit may be lost."""
    result = repaired(target, damaged, password_of(form))
    check(result, password=password_of(form))
    if form in PLAIN:
        assert lost_within(result, *allowed(parts_of(original, form), start, end))
    return result


def test_a_whole_image(form: str, images: dict[str, bytes], tmp_path: Path) -> None:
    """Nothing is lost, everything of the index is used, and the old image stays as it is."""
    result = repaired(tmp_path, images[form], password_of(form))
    check(result, password=password_of(form))
    assert result.ok
    assert not result.lost
    assert not result.warnings
    assert not result.frames_lost
    used = {"header", "trailer", "seal", "description", "result", "frame tables"}
    assert used | {f"map of device {number}" for number in range(3)} == set(result.used)
    assert (tmp_path / "damaged.aiv").read_bytes() == images[form]
    with (
        aipimage.open(tmp_path / "out.aiv", password_of(form)) as new,
        aipimage.open(tmp_path / "damaged.aiv", password_of(form)) as old,
    ):
        assert (new.chain_id, new.kind) == (old.chain_id, old.kind)
        assert new.image_id == result.image_id != old.image_id
        assert [ref.digest.hex() for ref in new.seal.replaced] == [old.digest]
        assert new.metadata["description"]["repaired"]["of"] == old.image_id
        assert [device.entry.digest_root for device in new.devices] == [
            device.entry.digest_root for device in old.devices
        ]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["zstd", "no checkpoints", "aes-256"])
def test_cut_anywhere(name: str, images: dict[str, bytes], tmp_path: Path) -> None:
    """All frames before the cut are kept, and all that checkpoints tell."""
    data = images[name]
    parts = parts_of(data, name)
    start = header_of(data).records_start
    step = 997 if name == "zstd" else len(data)
    for length in cuts(data, parts, step):
        if length < parts[header_of(data).key_copies + 1].end:
            with pytest.raises(AipImageError):
                repaired(tmp_path, data[:length], password_of(name))
            continue
        assert length > start
        result = repaired(tmp_path, data[:length], password_of(name))
        check(result, password=password_of(name))
        whole = [part for part in parts if part.kind == RecordType.FRAME and part.end <= length]
        assert result.frames == len(whole)
        if name != "aes-256":
            assert lost_within(result, *allowed(parts, length, len(data)))
        if length >= parts[-2].start:
            assert result.ok


def test_each_structure_flipped(form: str, images: dict[str, bytes], tmp_path: Path) -> None:
    """A flipped byte in each structure costs that structure at most; three places in each."""
    data = images[form]
    chance = random.Random(4)
    for part in chosen(parts_of(data, form), 4, chance):
        for at in {part.start, chance.randrange(part.start, part.end), part.end - 1}:
            damaged = bytearray(data)
            damaged[at] ^= 1 << chance.randrange(8)
            if part.start == 0:
                flipped_header(tmp_path, form, bytes(damaged))
                continue
            result = check_hit(tmp_path, form, data, bytes(damaged), part.start, part.end)
            if part.kind == RecordType.FRAME:
                assert result.frames_lost == 1
                assert result.lost_bytes <= 8192
            else:
                assert result.ok, (part, result)


def _is_core(data: bytes) -> bool:
    """Whether the header of an image is whole."""
    with contextlib.suppress(AipImageError):
        return bool(header_of(data))
    return False


def flipped_header(target: Path, form: str, damaged: bytes) -> None:
    """A header that has a copy is no loss. Without both nothing is lost of a plain image; an
    encrypted one is refused.
    """
    result = repaired(target, damaged, password_of(form))
    check(result, password=password_of(form))
    assert result.ok
    both = bytearray(damaged)
    both[records_end(both) + 4096] ^= 1
    if _is_core(damaged):
        return  # It was a key area, or the spare area.
    damaged = bytes(both)
    if password_of(form):
        with pytest.raises(AipImageError, match="header"):
            repaired(target, damaged, password_of(form))
        return
    result = repaired(target, damaged)
    check(result)
    assert result.ok
    assert any("header" in each for each in result.warnings)


def chosen(parts: list[Part], each: int, chance: random.Random) -> list[Part]:
    """Some structures of each kind."""
    found: list[Part] = []
    for kind in sorted({part.kind for part in parts}):
        fitting = [part for part in parts if part.kind == kind]
        found += chance.sample(fitting, min(each, len(fitting)))
    return found


def test_all_of_the_index_lost(form: str, images: dict[str, bytes], tmp_path: Path) -> None:
    """Frames alone are enough for a full image: every record but them and the first is gone."""
    data = bytearray(images[form])
    parts = parts_of(images[form], form)
    keep = (0, RecordType.FRAME)
    for part in parts[:-1]:
        first = part.start == header_of(images[form]).records_start
        if part.kind not in keep and not first:
            data[part.start : part.end] = bytes(part.end - part.start)
    data[parts[-1].start :] = bytes(len(data) - parts[-1].start)
    result = repaired(tmp_path, bytes(data), password_of(form))
    check(result, password=password_of(form))
    frames = [part for part in parts if part.kind == RecordType.FRAME]
    assert result.frames == len(frames)
    # What lies behind the last frame may have been more of them.
    if form in PLAIN:
        assert lost_within(result, frames[-1].high, 1 << 64)


@pytest.mark.parametrize("size", [512, 5000, 65_536])
def test_zeroed_ranges(form: str, size: int, images: dict[str, bytes], tmp_path: Path) -> None:
    """A bad sector, a page, a large hole, anywhere behind the header."""
    data = images[form]
    chance = random.Random(size)
    for _ in range(8):
        at = chance.randrange(header_of(data).records_start, len(data) - size)
        damaged = data[:at] + bytes(size) + data[at + size :]
        check_hit(tmp_path, form, data, damaged, at, at + size)


def test_many_holes(form: str, images: dict[str, bytes], tmp_path: Path) -> None:
    """Damage in many places at once; whatever else is lost, nothing is wrong."""
    chance = random.Random(9)
    for count in (3, 20, 60):
        damaged = bytearray(images[form])
        low = header_of(images[form]).records_start
        for _ in range(count):
            at = chance.randrange(low, len(damaged) - 512)
            damaged[at : at + 512] = chance.randbytes(512)
        try:
            result = repaired(tmp_path, bytes(damaged), password_of(form))
        except FormatError:
            assert count == 60  # Everything that tells of devices may be gone.
            continue
        check(result, password=password_of(form), whole=False)


def test_description_and_seal_lost(images: dict[str, bytes], tmp_path: Path) -> None:
    """The sizes of the devices are taken from what is found, and the result says so."""
    data = bytearray(images["zstd"])
    parts = parts_of(images["zstd"], "zstd")
    for part in parts:
        if part.kind in (RecordType.METADATA, RecordType.SEAL):
            data[part.start + 50] ^= 1
    data[parts[-1].start :] = bytes(len(data) - parts[-1].start)
    result = repaired(tmp_path, bytes(data))
    check(result, whole=False)
    assert any("sizes of the devices" in each for each in result.warnings)
    assert result.frames == sum(part.kind == RecordType.FRAME for part in parts)


def test_stuffed(images: dict[str, bytes], form: str, tmp_path: Path) -> None:
    """Foreign bytes between records, and own records that come again, cost nothing."""
    data = images[form]
    parts = parts_of(data, form)
    chance = random.Random(3)
    records = [part for part in parts if part.kind]
    frames = [part for part in records if part.kind == RecordType.FRAME]
    for _ in range(6):
        at = chance.choice(records).start
        again = chance.choice(frames)
        for more in (b"AIVR" * 50, chance.randbytes(777), data[again.start : again.end]):
            result = repaired(tmp_path, data[:at] + more + data[at:], password_of(form))
            check(result, password=password_of(form))
            assert result.ok
            assert result.frames_lost == 0


def test_foreign_records(images: dict[str, bytes], tmp_path: Path) -> None:
    """Records of another image, whole by themselves, are not taken for those of this one."""
    other = made(tmp_path / "other.aiv", "zstd", [bytes(4096) + DISKS[0][:2_000_000][::-1]])
    data = images["zstd"]
    parts = [part for part in parts_of(data, "zstd") if part.kind]
    strange = [part for part in parts_of(other, "zstd") if part.kind]
    chance = random.Random(7)
    run = b"".join(other[part.start : part.end] for part in strange)
    for more in (run, *(other[p.start : p.end] for p in chosen(strange, 2, chance))):
        at = chance.choice(parts).start
        result = repaired(tmp_path, data[:at] + more + data[at:])
        check(result)
        assert result.ok


def test_records_cut_out(images: dict[str, bytes], form: str, tmp_path: Path) -> None:
    """Whole records that are missing without a trace: what lies behind is not moved."""
    data = images[form]
    parts = parts_of(data, form)
    records = [part for part in parts if part.kind]
    chance = random.Random(8)
    for _ in range(6):
        first = chance.randrange(len(records) - 8)
        low, high = records[first].start, records[first + chance.randrange(1, 8)].start
        damaged = data[:low] + data[high:]
        check_hit(tmp_path, form, data, damaged, low, high)


def test_an_image_within_an_image(tmp_path: Path) -> None:
    """A damaged frame that holds whole records of another image, as a disk with images does."""
    inner = made(tmp_path / "inner.aiv", "none", [DISKS[1]])
    content = bytes(4096) + inner
    content += bytes(-len(content) % 4096)
    outer = made(tmp_path / "outer.aiv", "none", [content])
    chance = random.Random(2)
    for part in chosen(parts_of(outer, "none"), 12, chance):
        if part.kind == RecordType.FRAME:
            damaged = outer[: part.start] + b"\0" + outer[part.start + 1 :]
            result = repaired(tmp_path, damaged)
            check(result, [content])
            assert result.frames_lost == 1
            assert result.lost_bytes <= 8192


@pytest.mark.parametrize("name", ["zstd", "aes-256"])
def test_interrupted(name: str, tmp_path: Path) -> None:
    """A ``.partial`` file, as a stopped creation leaves it."""

    def stop(progress: aipimage.Progress) -> bool:
        return progress.done < 2_500_000

    target = tmp_path / "new.aiv"
    with mock.patch("aipimage.io.system.progress._TICK", 0.0), pytest.raises(CancelledError):
        create_image(target, [io.BytesIO(each) for each in DISKS], options(name), stop)
    result = repaired(tmp_path, tmp_path / "new.aiv.partial", password_of(name))
    check(result, password=password_of(name))
    assert result.frames
    assert 0 < result.lost_bytes < sum(map(len, DISKS))
    assert (tmp_path / "new.aiv.partial").exists()


def resumed(path: Path, form: str) -> bytes:
    """An image of three runs."""
    for stop_at in (1_200_000, 2_700_000, None):

        def go_on(progress: aipimage.Progress, end: int | None = stop_at) -> bool:
            return end is None or progress.done < end

        try:
            with mock.patch("aipimage.io.system.progress._TICK", 0.0):
                sources: list[Any] = [io.BytesIO(each) for each in DISKS]
                create_image(path, sources, options(form, resume=True), go_on)
        except CancelledError:
            assert stop_at is not None
    return path.read_bytes()


@pytest.mark.parametrize("name", ["zstd", "authenticate"])
def test_resumed(name: str, tmp_path: Path) -> None:
    """An image of several runs: cut, with holes, and without its segments."""
    data = resumed(tmp_path / "resumed.aiv", name)
    parts = parts_of(data, name)
    runs = [part for part in parts if part.kind == RecordType.CONTINUATION]
    assert len(runs) == 2
    chance = random.Random(5)
    check_hit(tmp_path, name, data, data, 0, 0)
    for length in (*range(9001, len(data), 30_011), *(run.start for run in runs)):
        if length > header_of(data).records_start + 2000:
            check_hit(tmp_path, name, data, data[:length], length, len(data))
    for part in chosen(parts, 4, chance):
        if part.start > 0:
            damaged = bytearray(data)
            damaged[part.start + 45] ^= 4
            end = part.end
            if part.kind == RecordType.CONTINUATION:
                continue
            check_hit(tmp_path, name, data, bytes(damaged), part.start, end)
    for run in runs:
        damaged = bytearray(data)
        damaged[run.start + 45] ^= 4
        result = repaired(tmp_path, bytes(damaged), password_of(name))
        check(result, password=password_of(name))
        assert result.ok  # The segments record knows the run all the same.


def split(path: Path, form: str) -> list[Path]:
    """A split image: its parts."""
    create_image(path, [io.BytesIO(each) for each in DISKS], options(form, split=65_536))
    return sorted(path.parent.glob(path.name + "*"))


@pytest.mark.parametrize("name", ["none", "aes-256"])
def test_parts(name: str, tmp_path: Path) -> None:
    """A missing part is a hole; a damaged header or footer of a part is none at all."""
    password = password_of(name)
    parts = split(tmp_path / "s.aiv", name)
    contents = [part.read_bytes() for part in parts]
    assert len(parts) > 4
    result = repaired(tmp_path, parts[2], password)
    check(result, password=password)
    assert result.ok
    assert not result.warnings
    for number in (1, 2, len(parts) - 1):
        parts[number].unlink()
        result = repaired(tmp_path, parts[0], password)
        check(result, password=password)
        assert number == len(parts) - 1 or result.lost_bytes
        assert number == len(parts) - 1 or any("missing" in each for each in result.warnings)
        parts[number].write_bytes(contents[number])
    for number in (0, 1, len(parts) - 1):
        for at in (20, -20):
            damaged = bytearray(contents[number])
            damaged[at] ^= 1
            parts[number].write_bytes(damaged)
            result = repaired(tmp_path, parts[0], password)
            check(result, password=password)
            assert result.ok, (number, at, result)
            parts[number].write_bytes(contents[number])
    parts[1].write_bytes(contents[1][:30_000])
    result = repaired(tmp_path, parts[0], password)
    check(result, password=password)
    assert result.lost_bytes > 0
    parts[1].write_bytes(contents[1])


def test_odd_parts(tmp_path: Path) -> None:
    """A part that is there twice, one of another image, and a set without its first part."""
    parts = split(tmp_path / "s.aiv", "none")
    (tmp_path / "s.aiv.900").write_bytes(parts[1].read_bytes())
    (tmp_path / "t").mkdir()
    strange = split(tmp_path / "t" / "s.aiv", "none")
    (tmp_path / "s.aiv.901").write_bytes(strange[2].read_bytes())
    result = repaired(tmp_path, parts[0])
    check(result)
    assert result.ok
    assert any("again" in each for each in result.warnings)
    assert any("another image" in each for each in result.warnings)
    parts[0].unlink()
    result = repaired(tmp_path, parts[0])
    check(result)
    assert result.lost_bytes
    # It has a copy in the last part.
    assert "header" in result.used


def test_zero_lost(images: dict[str, bytes], tmp_path: Path) -> None:
    """Lost ranges read as zeros, and are told from zeros by their kind."""
    data = bytearray(images["zstd"])
    frame = [part for part in parts_of(images["zstd"], "zstd") if part.kind == 1][5]
    data[frame.start + 60] ^= 1
    result = repaired(tmp_path, bytes(data), zero_lost=True)
    assert result.lost_bytes
    assert not result.ok
    with aipimage.open(result.path) as image:
        assert image.verify().ok
        for device, offset, length in result.lost:
            file = image.devices[device].open()
            file.seek(offset)
            assert file.read(length) == bytes(length)
            found = list(image.devices[device].extents(Kind.UNREADABLE))
            assert (offset, length, Kind.UNREADABLE) in [tuple(each) for each in found]
        assert image.devices[0].bytes_of(Kind.LOST) == 0


def test_again_and_again(images: dict[str, bytes], tmp_path: Path) -> None:
    """A repaired image that is damaged is repaired like any other, with its index or without."""
    chance = random.Random(6)
    for round_ in range(6):
        data = images["zstd"]
        for step in range(3):
            damaged = bytearray(data)
            at = chance.randrange(header_of(data).records_start, len(data) - 2000)
            damaged[at : at + 2000] = bytes(2000)
            if round_ % 2 and step == 2:
                del damaged[-chance.randrange(1, 3000) :]
            result = repaired(tmp_path, bytes(damaged))
            check(result)
            data = (tmp_path / "out.aiv").read_bytes()
        assert result.lost_bytes < 200_000


def test_hostile_headers(images: dict[str, bytes], tmp_path: Path) -> None:
    """A file full of record headers that promise much takes time by its size, not its square."""
    data = images["zstd"]
    header = header_of(data)
    fake = encode_record_header(
        RecordHeader(RecordType.MAP, 1, 0, 4_000_000, 4_000_000, header.file_id, 7)
    )
    whole = data[: parts_of(data, "zstd")[4].end]
    for filling in (fake, b"AIVR", fake[:38]):
        started = time.process_time()
        result = repaired(tmp_path, whole + filling * ((8 << 20) // len(filling)))
        assert time.process_time() - started < SOON
        check(result)
    (tmp_path / "x.aiv").write_bytes(b"AIVR" * (1 << 20))
    with pytest.raises(FormatError):
        repaired(tmp_path, tmp_path / "x.aiv")


def test_refused(images: dict[str, bytes], tmp_path: Path) -> None:
    """What cannot be, before anything is written."""
    source = tmp_path / "damaged.aiv"
    source.write_bytes(images["aes-256"])
    with pytest.raises(PasswordError):
        repaired(tmp_path, source)
    with pytest.raises(PasswordError):
        repaired(tmp_path, source, "wrong")
    with pytest.raises(PasswordError):
        repaired(tmp_path, images["zstd"], PASSWORD)
    with pytest.raises(RequestError, match="itself"):
        aipimage.repair(source, source)
    (tmp_path / "there.aiv").write_bytes(b"precious")
    with pytest.raises(TargetError):
        aipimage.repair(source, tmp_path / "there.aiv")
    assert (tmp_path / "there.aiv").read_bytes() == b"precious"
    with pytest.raises(AipImageError):
        repaired(tmp_path, b"")
    with pytest.raises(AipImageError):
        repaired(tmp_path, random.Random(1).randbytes(100_000))
    with pytest.raises(CancelledError), mock.patch("aipimage.io.system.progress._TICK", 0.0):
        repaired(tmp_path, images["zstd"], progress=lambda _: False)
    assert not list(tmp_path.glob("out*"))


def test_tampered(images: dict[str, bytes], tmp_path: Path) -> None:
    """With keys, a record whose digest was recomputed is damage all the same."""
    from aipimage.format.digest import digest

    for name in ("aes-256", "authenticate"):
        data = bytearray(images[name])
        frame = [part for part in parts_of(images[name], name) if part.kind == 1][7]
        data[frame.start + 70] ^= 1
        data[frame.end - 16 : frame.end] = digest(bytes(data[frame.start : frame.end - 16]))[:16]
        data[-300] ^= 1
        result = repaired(tmp_path, bytes(data), PASSWORD)
        check(result, password=PASSWORD)
        assert 0 < result.lost_bytes <= 8192


def test_unreadable_file(images: dict[str, bytes], tmp_path: Path) -> None:
    """Where the disk with the image has bad sectors, the rest of it is read."""
    import errno

    from aipimage.io.system.storage import Storage, SystemCalls

    part = [part for part in parts_of(images["none"], "none") if part.kind == 1][20]

    class Failing(SystemCalls):
        def preadv(self, descriptor: int, buffers: Any, offset: int) -> int:
            hit = offset < part.start + 600 and offset + buffers[0].nbytes > part.start + 500
            if hit and os.readlink(f"/proc/self/fd/{descriptor}").endswith("damaged.aiv"):
                raise OSError(errno.EIO, "bad sector")
            return super().preadv(descriptor, buffers, offset)

    (tmp_path / "damaged.aiv").write_bytes(images["none"])
    storage = Storage(Failing())
    try:
        result = repaired(tmp_path, tmp_path / "damaged.aiv", storage=storage)
    except IntegrityError:
        raise AssertionError("a bad sector stops a repair") from None
    check(result)
    assert result.frames_lost in (1, 2)
    assert any("could not be read" in each for each in result.warnings)

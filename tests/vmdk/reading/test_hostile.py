"""Virtual disks made to do harm: hostile-inputs, classes 36 to 40, and mutations of good ones."""

from __future__ import annotations

import os
import random
import resource
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from aipimage import vmdk
from aipimage.errors import AipImageError, FormatError, IncompleteError, LimitError, RequestError
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.vmdk.descriptor import TEXT_MAX, ExtentLine
from aipimage.vmdk.extents.tables import DIRECTORY_MAX
from aipimage.vmdk.inflate import _with_zlib, inflate
from aipimage.vmdk.layout import GRAIN, SECTOR, encode_marker
from tests.support.soon import SOON
from tests.vmdk.reading.built import (
    GRAIN_BYTES,
    Plain,
    Stream,
    content,
    noise,
    raw_stream,
    text,
    written,
    zlib_stream,
)
from tests.vmdk.reading.made import read_whole

CAPACITY = 12 * GRAIN
SOME = {number: noise(GRAIN_BYTES, number) for number in (0, 3, 4, 11)}


@contextmanager
def little() -> Iterator[None]:
    """Within 2 s of this process, and 256 MiB more of memory than before."""
    began, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - began < SOON
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 << 10


class Watched(SystemCalls):
    """Notes what is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.opened: list[str] = []

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        self.opened.append(os.path.realpath(path))
        return super().open(path, flags, mode)


def flat_text(name: str, kind: str = "FLAT") -> str:
    return text(ExtentLine("RW", 8, kind, name, 0), kind="monolithicFlat")


# Class 36: extent paths that reach other files.


@pytest.mark.parametrize("kind", ["FLAT", "SPARSE", "VMFS", "VMFSSPARSE", "SESPARSE"])
@pytest.mark.parametrize(
    "name",
    [
        "/etc/passwd", "../secret", "sub/secret", "./sub/secret", "./../secret", "..", ".",
        "..\\secret", ".\\..\\secret", "./", ".//", "././..",
        "C:\\secret", "c:secret", "\\\\host\\share\\secret", "//host/secret", "/dev/sda",
    ],
)  # fmt: skip
def test_class_36_names_of_other_folders(tmp_path: Path, name: str, kind: str) -> None:
    home = tmp_path / "home"
    (home / "sub").mkdir(parents=True)
    for place in (tmp_path, home / "sub", home):
        written(place / "secret", b"top secret".ljust(8 * SECTOR, b"!"))
    system = Watched()
    disk = written(home / "d.vmdk", flat_text(name, kind))
    with pytest.raises(RequestError, match="allow_outside"):
        vmdk.open(disk, storage=Storage(system))
    assert set(system.opened) == {str(disk)}


def test_class_36_links_that_lead_outside(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    secret = written(tmp_path / "secret", noise(8 * SECTOR))
    (home / "d-flat.vmdk").symlink_to(secret)
    disk = written(home / "d.vmdk", flat_text("d-flat.vmdk"))
    system = Watched()
    with pytest.raises(RequestError, match="allow_outside"):
        vmdk.open(disk, storage=Storage(system))
    assert str(secret) not in system.opened
    with vmdk.open(disk, allow_outside=True) as source:
        assert read_whole(source) == secret.read_bytes()
    # A link to a file in the same folder is that file under another name.
    written(home / "real", noise(8 * SECTOR, 1))
    (home / "d-flat.vmdk").unlink()
    (home / "d-flat.vmdk").symlink_to("real")
    with vmdk.open(disk) as source:
        assert read_whole(source) == noise(8 * SECTOR, 1)


def test_class_36_pipes_directories_and_devices(tmp_path: Path) -> None:
    disk = written(tmp_path / "d.vmdk", flat_text("d-flat.vmdk"))
    os.mkfifo(tmp_path / "d-flat.vmdk")
    with pytest.raises(RequestError, match="named pipe"):
        vmdk.open(disk)
    (tmp_path / "d-flat.vmdk").unlink()
    (tmp_path / "d-flat.vmdk").mkdir()
    with pytest.raises(RequestError, match="directory"):
        vmdk.open(disk)
    (tmp_path / "d-flat.vmdk").rmdir()
    (tmp_path / "d-flat.vmdk").symlink_to("/dev/zero")
    with pytest.raises(RequestError):
        vmdk.open(disk)


def test_class_36_allowed_outside(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    written(other / "d-flat.vmdk", noise(8 * SECTOR))
    for name in ("other/d-flat.vmdk", str(other / "d-flat.vmdk")):
        with vmdk.open(written(tmp_path / "d.vmdk", flat_text(name)), allow_outside=True) as source:
            assert read_whole(source) == noise(8 * SECTOR)


def test_class_36_an_embedded_descriptor_names_nothing(tmp_path: Path) -> None:
    told = text(ExtentLine("RW", CAPACITY, "FLAT", "/etc/passwd", 0))
    system = Watched()
    disk = written(tmp_path / "d.vmdk", Plain(CAPACITY, SOME, descriptor=told).build())
    with vmdk.open(disk, storage=Storage(system)) as source:
        assert read_whole(source) == content(CAPACITY, SOME)
    assert set(system.opened) == {str(disk)}


# Class 37: what data look like decides nothing.


@pytest.mark.parametrize("nested", ["descriptor", "plain", "stream"])
def test_class_37_flat_data_that_look_like_a_disk(tmp_path: Path, nested: str) -> None:
    inner = {
        "descriptor": flat_text("/etc/passwd").encode().ljust(8 * SECTOR, b"\0"),
        "plain": Plain(CAPACITY, SOME).build()[: 8 * SECTOR],
        "stream": Stream(CAPACITY, SOME).build()[: 8 * SECTOR],
    }[nested]
    written(tmp_path / "d-flat.vmdk", inner)
    for kind in ("FLAT", "VMFS"):
        with vmdk.open(written(tmp_path / "d.vmdk", flat_text("d-flat.vmdk", kind))) as source:
            assert read_whole(source) == inner


def test_class_37_grains_that_look_like_a_disk(tmp_path: Path) -> None:
    inner = flat_text("/etc/passwd").encode().ljust(GRAIN_BYTES, b"\0")
    for disk in (Plain(GRAIN, {0: inner}), Stream(GRAIN, {0: inner})):
        with vmdk.open(written(tmp_path / "d.vmdk", disk.build())) as source:
            assert read_whole(source) == inner


@pytest.mark.parametrize("data", [b"", b"K", b"KDMV", b"\0" * 5000, noise(5000), b"# Disk Desc"])
def test_class_37_what_is_no_disk_is_not_read_as_raw(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(FormatError):
        vmdk.open(written(tmp_path / "d.vmdk", data))


# Class 38: sizes of grains and of the directory.


@pytest.mark.parametrize("grain", [0, 3, 127, 1 << 14, 1 << 31, (1 << 64) - 1, 1 << 63])
def test_class_38_grain_size(tmp_path: Path, grain: int) -> None:
    data = Plain(CAPACITY, SOME, changes={"grain_size": grain}).build()
    with little(), pytest.raises(LimitError):
        vmdk.open(written(tmp_path / "d.vmdk", data))


@pytest.mark.parametrize("entries", [0, 1, 511, 513, 1 << 20, (1 << 32) - 1])
def test_class_38_entries_of_a_table(tmp_path: Path, entries: int) -> None:
    data = Plain(CAPACITY, SOME, changes={"table_entries": entries}).build()
    with little(), pytest.raises(FormatError, match="entries"):
        vmdk.open(written(tmp_path / "d.vmdk", data))


@pytest.mark.parametrize("capacity", [1 << 40, (1 << 55) - 1, 1 << 55, 1 << 63, (1 << 64) - 1])
def test_class_38_capacity(tmp_path: Path, capacity: int) -> None:
    """A small file that tells of a petabyte has no directory for it."""
    data = Plain(CAPACITY, SOME, changes={"capacity": capacity}).build()
    with little(), pytest.raises(FormatError):
        vmdk.open(written(tmp_path / "d.vmdk", data))


def test_class_38_directory_over_the_limit_in_a_large_sparse_file(tmp_path: Path) -> None:
    capacity = (DIRECTORY_MAX + 1) * 512 * GRAIN
    path = written(
        tmp_path / "d.vmdk", Plain(CAPACITY, SOME, changes={"capacity": capacity}).build()
    )
    os.truncate(path, 1 << 40)
    with little(), pytest.raises(LimitError, match="grain directory"):
        vmdk.open(path)


@pytest.mark.parametrize("place", [1 << 20, 1 << 55, (1 << 63) - 1, (1 << 64) - 2])
def test_class_38_directory_outside_of_the_file(tmp_path: Path, place: int) -> None:
    data = Plain(CAPACITY, SOME, changes={"gd_offset": place}).build()
    with little(), pytest.raises(FormatError):
        vmdk.open(written(tmp_path / "d.vmdk", data))


def test_class_38_many_entries_for_one_table(tmp_path: Path) -> None:
    """Half a petabyte of tables, all the same one: the file has no room for so many."""
    tables = 1 << 20
    capacity = tables * 512 * GRAIN
    path = written(
        tmp_path / "d.vmdk", Plain(CAPACITY, SOME, changes={"capacity": capacity}).build()
    )
    with path.open("r+b") as file:
        file.seek(21 * SECTOR)
        file.write(b"\x40\0\0\0" * tables)
    with little(), pytest.raises(FormatError, match="more tables"):
        vmdk.open(path)


def test_class_38_tables_outside_of_the_file_show_when_they_are_read(tmp_path: Path) -> None:
    capacity = 2 * 512 * GRAIN
    for place in (1 << 20, (1 << 32) - 1):
        disk = Plain(capacity, {0: noise(GRAIN_BYTES)}, directory={1: place})
        with vmdk.open(written(tmp_path / "d.vmdk", disk.build())) as source:
            source.read_into(bytearray(GRAIN_BYTES), 0)
            with pytest.raises(IncompleteError, match="a grain table"):
                source.read_into(bytearray(SECTOR), 512 * GRAIN_BYTES)
            with pytest.raises(IncompleteError, match="a grain table"):
                list(source.pieces(0, source.size))


@pytest.mark.parametrize("place", [1 << 20, (1 << 32) - 1])
def test_class_38_grains_outside_of_the_file_show_when_they_are_read(
    tmp_path: Path, place: int
) -> None:
    plain = Plain(CAPACITY, {0: noise(GRAIN_BYTES), 1: place})
    stream = Stream(CAPACITY, SOME, entry=lambda at: at if at == GRAIN else place)
    for disk, bad in ((plain, 1), (stream, 3)):
        with vmdk.open(written(tmp_path / "d.vmdk", disk.build())) as source:
            source.read_into(bytearray(GRAIN_BYTES), 0)
            assert list(source.pieces(0, source.size))
            for count in (SECTOR, GRAIN_BYTES):
                with pytest.raises(IncompleteError, match="a grain at byte"):
                    source.read_into(bytearray(count), bad * GRAIN_BYTES)


def test_class_38_a_file_cut_anywhere(tmp_path: Path) -> None:
    """Either an error, or the same data as before: never others."""
    for disk in (
        Plain(CAPACITY, SOME),
        Stream(CAPACITY, SOME),
        Stream(CAPACITY, SOME, footer=False),
    ):
        data, expected = disk.build(), content(CAPACITY, SOME)
        for length in [*range(0, len(data), len(data) // 60), len(data) - 1, len(data) - SECTOR]:
            try:
                with vmdk.open(written(tmp_path / "d.vmdk", data[:length])) as source:
                    assert read_whole(source) == expected
            except AipImageError:
                continue


# Class 39: geometry leads to no loop.


def test_class_39_geometry_is_not_computed_with(tmp_path: Path) -> None:
    for value in ("0", "-1", "99999999999999999999", "x"):
        told = text(ExtentLine("RW", CAPACITY, "SPARSE", "x")) + "".join(
            f'ddb.geometry.{name} = "{value}"\n' for name in ("cylinders", "heads", "sectors")
        )
        disk = written(tmp_path / "d.vmdk", Plain(CAPACITY, SOME, descriptor=told).build())
        with little(), vmdk.open(disk) as source:
            assert read_whole(source) == content(CAPACITY, SOME)


def test_class_39_a_disk_of_no_sectors(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="without a single sector"):
        vmdk.open(written(tmp_path / "e.vmdk", text(kind="custom")))
    with pytest.raises(FormatError, match="without a single sector"):
        vmdk.open(written(tmp_path / "z.vmdk", text(ExtentLine("RW", 0, "ZERO"), kind="custom")))


def test_class_39_the_largest_disk_of_zeros(tmp_path: Path) -> None:
    lines = [ExtentLine("RW", 1 << 40, "ZERO")] * 1000
    with little(), vmdk.open(written(tmp_path / "d.vmdk", text(*lines, kind="custom"))) as source:
        assert not list(source.data_ranges(0, source.size))
        buffer = bytearray(b"\xff" * 4096)
        source.read_into(buffer, source.size - 4096)
        assert not any(buffer)


# Class 40: markers of grains, and descriptors of any size.


@pytest.mark.parametrize(
    ("marker", "message"),
    [
        (lambda sector, size: encode_marker(sector + GRAIN, size), "has a marker of sector"),
        (lambda sector, size: encode_marker(1 << 63, size), "has a marker of sector"),
        (lambda sector, size: encode_marker(sector, 0), "0 compressed bytes"),
        (lambda sector, size: encode_marker(sector, (1 << 32) - 1), "4294967295 compressed bytes"),
        (lambda sector, size: encode_marker(sector, 2 * GRAIN_BYTES + 1), "compressed bytes"),
        (lambda sector, size: encode_marker(sector, 2 * GRAIN_BYTES), "past the end"),
        (lambda sector, size: encode_marker(sector, size - 9), "damaged"),
        (lambda sector, size: encode_marker(sector, 1), "less than two bytes"),
    ],
)
def test_class_40_markers(tmp_path: Path, marker: object, message: str) -> None:
    disk = Stream(CAPACITY, {3: noise(GRAIN_BYTES)})
    disk.marker = lambda sector, size: marker(sector, size)[:12]  # type: ignore[operator]
    with vmdk.open(written(tmp_path / "d.vmdk", disk.build())) as source:
        for length in (SECTOR, GRAIN_BYTES):
            with little(), pytest.raises(FormatError, match=message):
                source.read_into(bytearray(length), 3 * GRAIN_BYTES)
        # What is beside it can be read.
        source.read_into(bytearray(GRAIN_BYTES), 0)


@pytest.mark.parametrize("compress", [zlib_stream, raw_stream])
@pytest.mark.parametrize(
    "grain", [bytes(64 << 20), bytes(GRAIN_BYTES + 1), noise(GRAIN_BYTES - 1), b""]
)
def test_class_40_streams_of_another_length(tmp_path: Path, grain: bytes, compress: object) -> None:
    """A bomb of 64 MiB, one byte more, one byte less, and nothing."""
    disk = Stream(CAPACITY, {3: grain}, compress=compress)  # type: ignore[arg-type]
    with vmdk.open(written(tmp_path / "d.vmdk", disk.build())) as source:
        for length in (SECTOR, GRAIN_BYTES):
            with little(), pytest.raises(FormatError, match="the grain of sector 384"):
                source.read_into(bytearray(length), 3 * GRAIN_BYTES)


def test_class_40_a_stream_that_asks_for_a_dictionary(tmp_path: Path) -> None:
    def with_dictionary(data: bytes) -> bytes:
        stream = zlib.compressobj(zdict=b"dictionary" * 10)
        return stream.compress(data) + stream.flush()

    disk = Stream(CAPACITY, {3: noise(GRAIN_BYTES)}, compress=with_dictionary)
    with (
        vmdk.open(written(tmp_path / "d.vmdk", disk.build())) as source,
        pytest.raises(FormatError, match="dictionary"),
    ):
        read_whole(source)


def test_class_40_every_flipped_bit_of_a_small_zlib_stream_is_seen() -> None:
    """Or changes nothing; and both decoders agree on what is a good stream."""
    plain = b"green bottles " * 20
    stream = zlib_stream(plain)
    for bit in range(len(stream) * 8):
        flipped = bytearray(stream)
        flipped[bit // 8] ^= 1 << bit % 8
        room = bytearray(len(plain))
        try:
            length = inflate(flipped, memoryview(room))
        except FormatError:
            continue
        assert (length, bytes(room)) == (len(plain), plain)


@pytest.mark.parametrize("compress", [zlib_stream, raw_stream])
@pytest.mark.parametrize("room", [0, 1, 999, 1000, 1001, 5000])
def test_class_40_both_decoders_agree(compress: object, room: int) -> None:
    stream: bytes = compress(noise(1000))  # type: ignore[operator]
    slow = _with_zlib(15 if compress is zlib_stream else -15)
    for data in (stream, stream + b"more", stream[:-1], stream[: len(stream) // 2], b""):
        if room < 1000 or len(data) < len(stream):
            with pytest.raises(FormatError):
                inflate(data, memoryview(bytearray(room)))
            with pytest.raises(FormatError):
                slow(data, room)
        else:
            into = bytearray(room)
            assert inflate(data, memoryview(into)) == 1000
            assert into[:1000] == slow(data, room) == noise(1000)


def test_class_40_a_huge_file_that_begins_like_a_descriptor(tmp_path: Path) -> None:
    path = written(tmp_path / "d.vmdk", flat_text("d-flat.vmdk"))
    for size in (5 << 30, TEXT_MAX + 1):
        os.truncate(path, size)
        with little(), pytest.raises(LimitError, match="begins like a descriptor"):
            vmdk.open(path)


def test_class_40_an_embedded_descriptor_of_any_size(tmp_path: Path) -> None:
    for size in (TEXT_MAX // SECTOR + 1, 1 << 40, (1 << 64) - 1):
        data = Plain(CAPACITY, SOME, changes={"descriptor_size": size}).build()
        with little(), pytest.raises(LimitError, match="descriptor"):
            vmdk.open(written(tmp_path / "d.vmdk", data))
    for place in (1 << 40, (1 << 64) - 1):
        data = Plain(CAPACITY, SOME, changes={"descriptor_offset": place}).build()
        with little(), pytest.raises(IncompleteError, match="the descriptor"):
            vmdk.open(written(tmp_path / "d.vmdk", data))


def test_class_40_no_footer_where_the_header_promises_one(tmp_path: Path) -> None:
    data = Stream(CAPACITY, SOME).build()
    with pytest.raises(IncompleteError, match="no footer"):
        vmdk.open(written(tmp_path / "d.vmdk", data[:-1024]))
    for place in (0, (1 << 64) - 1, 1 << 40):
        bad = Stream(CAPACITY, SOME, footer_changes={"gd_offset": place}).build()
        with pytest.raises(FormatError, match="grain directory"):
            vmdk.open(written(tmp_path / "d.vmdk", bad))


@pytest.mark.parametrize("kind", ["plain", "stream", "descriptor"])
def test_class_40_mutations_give_typed_errors_or_data(tmp_path: Path, kind: str) -> None:
    """Nothing but ``AipImageError`` leaves, whatever the bytes are."""
    chance = random.Random(f"mutate {kind}")
    written(tmp_path / "d-flat.vmdk", noise(8 * SECTOR))
    made = {
        "plain": Plain(CAPACITY, SOME).build(),
        "stream": Stream(CAPACITY, SOME).build(),
        "descriptor": flat_text("d-flat.vmdk").encode(),
    }[kind]
    opened = 0
    for _ in range(300):
        data = bytearray(made)
        # Metadata are at the front and at the end.
        where = [*range(min(len(data), 40 * SECTOR)), *range(max(len(data) - 4096, 0), len(data))]
        for _ in range(chance.choice((1, 1, 2, 8))):
            place, value = chance.choice(where), chance.choice((0, 1, 0xFF, chance.randrange(256)))
            length = chance.choice((1, 1, 4, 8))
            data[place : place + length] = bytes([value]) * min(length, len(data) - place)
        try:
            with vmdk.open(written(tmp_path / "m.vmdk", bytes(data))) as source:
                opened += 1
                list(source.pieces(0, min(source.size, 1 << 30)))
                source.read_into(bytearray(min(source.size, 1 << 20)), 0)
        except AipImageError:
            continue
    assert opened > 10

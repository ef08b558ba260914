"""Extents and their composition, and what the note allows beside what qemu writes."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from aipimage import vmdk
from aipimage.errors import FormatError, IncompleteError, SourceError, UnsupportedError
from aipimage.vmdk.descriptor import ExtentLine
from aipimage.vmdk.extents.pool import OPEN_AT_ONCE
from aipimage.vmdk.layout import GRAIN, SECTOR, SparseFlags
from aipimage.vmdk.pieces import State
from tests.vmdk.reading.built import (
    GRAIN_BYTES,
    PLAIN,
    Plain,
    Stream,
    content,
    noise,
    raw_stream,
    text,
    written,
    zlib_stream,
)
from tests.vmdk.reading.made import check_reading, read_whole

TWELVE = {number: noise(GRAIN_BYTES, number) for number in (0, 1, 2, 5, 6, 11)}
CAPACITY = 12 * GRAIN


def test_custom_disk_of_every_kind_of_extent(tmp_path: Path) -> None:
    """FLAT at an offset, SPARSE, ZERO, VMFS, RDONLY, in one disk and in this order."""
    flat, rest = noise(40 * SECTOR, 1), noise(33 * SECTOR, 2)
    written(tmp_path / "a-flat.vmdk", noise(7 * SECTOR, 3) + flat)
    sparse = Plain(300, {1: noise(GRAIN_BYTES, 4)}, descriptor=None)
    written(tmp_path / "a-s002.vmdk", sparse.build())
    written(tmp_path / "a-f003.vmdk", rest)
    told = text(
        ExtentLine("RW", 40, "FLAT", "a-flat.vmdk", 7),
        ExtentLine("RW", 300, "SPARSE", "a-s002.vmdk"),
        ExtentLine("RW", 129, "ZERO"),
        ExtentLine("RDONLY", 33, "VMFS", "a-f003.vmdk"),
        kind="custom",
    )
    expected = flat + content(300, sparse.grains) + bytes(129 * SECTOR) + rest
    with vmdk.open(written(tmp_path / "a.vmdk", told.replace("\n", "\r\n"))) as source:
        assert source.subformat == "custom"
        check_reading(source, expected)


def test_more_extents_than_are_kept_open(tmp_path: Path) -> None:
    count = 3 * OPEN_AT_ONCE
    parts = [noise((number + 1) * SECTOR, number) for number in range(count)]
    lines = []
    for number, part in enumerate(parts):
        written(tmp_path / f"d-f{number}.vmdk", part)
        lines.append(ExtentLine("RW", number + 1, "FLAT", f"d-f{number}.vmdk", 0))
    with vmdk.open(written(tmp_path / "d.vmdk", text(*lines, kind="custom"))) as source:
        check_reading(source, b"".join(parts))
        # One that is exchanged while it is closed is seen.
        (tmp_path / "new").write_bytes(parts[0])
        (tmp_path / "new").rename(tmp_path / "d-f0.vmdk")
        with pytest.raises(SourceError, match=r"d-f0\.vmdk: was replaced"):
            source.read_into(bytearray(SECTOR), 0)


def test_holes_of_a_flat_extent_are_zeros(tmp_path: Path) -> None:
    flat = tmp_path / "h-flat.vmdk"
    with flat.open("wb") as file:
        file.truncate(8 << 20)
        file.seek(3 << 20)
        file.write(noise(1 << 20))
    told = text(ExtentLine("RW", (8 << 20) // SECTOR, "FLAT", flat.name, 0), kind="monolithicFlat")
    with vmdk.open(written(tmp_path / "h.vmdk", told)) as source:
        check_reading(source, flat.read_bytes())
        assert sum(length for _, length in source.data_ranges(0, source.size)) < 2 << 20


@pytest.mark.parametrize("compress", [zlib_stream, raw_stream], ids=["zlib", "deflate"])
def test_stream(tmp_path: Path, compress: object) -> None:
    disk = Stream(CAPACITY, TWELVE, compress=compress)  # type: ignore[arg-type]
    with vmdk.open(written(tmp_path / "s.vmdk", disk.build())) as source:
        assert source.subformat == "streamOptimized"
        assert not source.warnings
        check_reading(source, content(CAPACITY, TWELVE))


@pytest.mark.parametrize("behind", [0, SECTOR, 10_000, 1 << 19])
@pytest.mark.parametrize("eos", [True, False])
def test_the_footer_is_found_before_what_follows_it(tmp_path: Path, behind: int, eos: bool) -> None:
    disk = Stream(CAPACITY, TWELVE, eos=eos, behind=b"\x07" * behind)
    with vmdk.open(written(tmp_path / "s.vmdk", disk.build())) as source:
        assert read_whole(source) == content(CAPACITY, TWELVE)
        assert any("end-of-stream" in text for text in source.warnings) is not eos
        assert bool(source.warnings) is (not eos or behind > 0)


def test_the_footer_beats_the_header(tmp_path: Path) -> None:
    disk = Stream(CAPACITY, TWELVE, changes={"capacity": 77}, footer_changes={"capacity": CAPACITY})
    with vmdk.open(written(tmp_path / "s.vmdk", disk.build())) as source:
        assert source.size == CAPACITY * SECTOR
        assert any("the footer is used" in text for text in source.warnings)


def test_a_stream_without_footer_says_so_in_its_header(tmp_path: Path) -> None:
    """As qemu writes them: the header has the place of the directory."""
    disk = Stream(CAPACITY, TWELVE, footer=False, eos=False)
    with vmdk.open(written(tmp_path / "s.vmdk", disk.build())) as source:
        assert read_whole(source) == content(CAPACITY, TWELVE)


@pytest.mark.parametrize("length", [100 * SECTOR, GRAIN_BYTES], ids=["short", "filled up"])
def test_the_last_grain_may_be_short(tmp_path: Path, length: int) -> None:
    capacity = 2 * GRAIN + 100
    last = noise(100 * SECTOR).ljust(length, b"\0")
    disk = Stream(capacity, {1: noise(GRAIN_BYTES, 8), 2: last})
    with vmdk.open(written(tmp_path / "s.vmdk", disk.build())) as source:
        check_reading(source, content(capacity, disk.grains))


def test_an_inner_grain_may_not_be_short(tmp_path: Path) -> None:
    disk = Stream(CAPACITY, {3: noise(GRAIN_BYTES - 1)})
    with vmdk.open(written(tmp_path / "s.vmdk", disk.build())) as source:
        with pytest.raises(FormatError, match="less than a grain"):
            source.read_into(bytearray(SECTOR), 3 * GRAIN_BYTES)
        source.read_into(bytearray(GRAIN_BYTES), 0)


def test_grains_in_any_order_in_the_file(tmp_path: Path) -> None:
    """Tables decide, not the order of what is stored, nor gaps of any length."""
    pieces = {number: noise(GRAIN_BYTES, number) for number in range(12)}
    data = bytearray(Stream(CAPACITY, pieces).build())
    table = data.index(struct.pack("<I", GRAIN) + struct.pack("<I", GRAIN + 129))
    places = list(struct.unpack_from("<12I", data, table))
    # Move the grains 2 and 9 behind all else, and swap 4 with 5 in the file.
    for number in (2, 9):
        block = data[places[number] * SECTOR : places[number] * SECTOR + 130 * SECTOR]
        places[number] = len(data) // SECTOR
        data += block
    four, five = places[4] * SECTOR, places[5] * SECTOR
    data[four : four + 129 * SECTOR], data[five : five + 129 * SECTOR] = (
        data[five : five + 129 * SECTOR],
        data[four : four + 129 * SECTOR],
    )
    places[4], places[5] = places[5], places[4]
    struct.pack_into("<12I", data, table, *places)
    with vmdk.open(written(tmp_path / "s.vmdk", bytes(data))) as source:
        check_reading(source, content(CAPACITY, pieces))


def test_incompressible_and_unusually_long_streams(tmp_path: Path) -> None:
    """A stream may be longer than its grain, here by many empty blocks in front."""

    def padded(data: bytes) -> bytes:
        stream = zlib.compressobj(0, zlib.DEFLATED, -15)
        empty = b"\0\0\0\xff\xff" * 9000
        return empty + stream.compress(data) + stream.flush()

    disk = Stream(CAPACITY, TWELVE, compress=padded)
    with vmdk.open(written(tmp_path / "s.vmdk", disk.build())) as source:
        check_reading(source, content(CAPACITY, TWELVE), reads=10)


def test_entry_one_is_zeros_only_with_its_flag(tmp_path: Path) -> None:
    flags = PLAIN | SparseFlags.ZEROED_GRAINS
    grains: dict[int, bytes | int] = {0: noise(GRAIN_BYTES), 1: 1, 3: 1}
    disk = Plain(CAPACITY, grains, flags=flags, changes={"version": 2})
    with vmdk.open(written(tmp_path / "z.vmdk", disk.build())) as source:
        check_reading(source, content(CAPACITY, grains))
        (rows,) = source.pieces(0, source.size)
        states = [State.DATA, State.ZERO, State.ABSENT, State.ZERO, State.ABSENT]
        assert rows[:, 2].tolist() == states


def test_the_redundant_directory_serves_where_there_is_no_other(tmp_path: Path) -> None:
    only = {"gd_offset": 0, "rgd_offset": 21}
    flags = PLAIN | SparseFlags.REDUNDANT_TABLE
    with vmdk.open(
        written(tmp_path / "r.vmdk", Plain(CAPACITY, TWELVE, flags=flags, changes=only).build())
    ) as source:
        assert read_whole(source) == content(CAPACITY, TWELVE)
    with pytest.raises(FormatError, match="does not say where the grain directory is"):
        vmdk.open(written(tmp_path / "n.vmdk", Plain(CAPACITY, TWELVE, changes=only).build()))


def test_a_renamed_disk_opens(tmp_path: Path) -> None:
    """The name in the embedded descriptor is ignored: it is ``other-name.vmdk`` here."""
    with vmdk.open(written(tmp_path / "new.vmdk", Plain(CAPACITY, TWELVE).build())) as source:
        assert read_whole(source) == content(CAPACITY, TWELVE)
        assert source.members[0].files == (str(tmp_path / "new.vmdk"),)


def test_the_header_of_a_single_file_is_taken_at_its_word(tmp_path: Path) -> None:
    told = text(ExtentLine("RW", CAPACITY - 5, "SPARSE", "x"))
    disk = Plain(CAPACITY, TWELVE, descriptor=told)
    with vmdk.open(written(tmp_path / "a.vmdk", disk.build())) as source:
        assert source.size == CAPACITY * SECTOR
        assert any("the header counts" in text for text in source.warnings)


@pytest.mark.parametrize("told", [CAPACITY - GRAIN, CAPACITY + 1])
def test_split_extents_of_another_size_are_refused(tmp_path: Path, told: int) -> None:
    disk = Plain(CAPACITY, TWELVE, descriptor=None)
    for number in (1, 2):
        written(tmp_path / f"d-s{number}.vmdk", disk.build())
    lines = [ExtentLine("RW", told, "SPARSE", f"d-s{number}.vmdk") for number in (1, 2)]
    with pytest.raises(FormatError, match="belongs to another disk"):
        vmdk.open(written(tmp_path / "d.vmdk", text(*lines, kind="twoGbMaxExtentSparse")))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (ExtentLine("RW", 63, "FLAT", "/dev/sda", 0), "fullDevice"),
        (ExtentLine("RW", 63, "FLAT", r"\\.\PhysicalDrive0", 0), "partitionedDevice"),
        (ExtentLine("RW", 63, "VMFSRDM", "x-rdm.vmdk"), "vmfsRawDeviceMap"),
        (ExtentLine("RW", 63, "VMFSRAW", "x-raw.vmdk"), "custom"),
        (ExtentLine("NOACCESS", 63, "FLAT", "x-flat.vmdk", 0), "custom"),
        (ExtentLine("RW", 63, "VMFSFUTURE", "x.vmdk"), "custom"),
    ],
)
def test_raw_devices_and_unknown_extents_are_refused(
    tmp_path: Path, line: ExtentLine, kind: str
) -> None:
    with pytest.raises(UnsupportedError):
        vmdk.open(written(tmp_path / "d.vmdk", text(line, kind=kind)))


def test_missing_and_short_extents_are_named(tmp_path: Path) -> None:
    told = text(ExtentLine("RW", 100, "FLAT", "d-flat.vmdk", 2), kind="monolithicFlat")
    disk = written(tmp_path / "d.vmdk", told)
    with pytest.raises(IncompleteError, match=r"d\.vmdk: its extent 'd-flat\.vmdk' is missing"):
        vmdk.open(disk)
    written(tmp_path / "d-flat.vmdk", bytes(102 * SECTOR - 1))
    with pytest.raises(IncompleteError, match=r"d-flat\.vmdk: has 52223 bytes, .* says 52224"):
        vmdk.open(disk)


def test_a_delta_without_its_parent(tmp_path: Path) -> None:
    told = text(ExtentLine("RW", CAPACITY, "SPARSE", "x"), parent=0xABCD_0123)
    disk = written(tmp_path / "d.vmdk", Plain(CAPACITY, TWELVE, descriptor=told).build())
    with pytest.raises(IncompleteError, match="abcd0123"):
        vmdk.open(disk)
    with vmdk.open(disk, parents=False) as source:
        assert read_whole(source) == content(CAPACITY, TWELVE)


def test_an_extent_alone_is_no_disk(tmp_path: Path) -> None:
    disk = written(tmp_path / "d-s001.vmdk", Plain(CAPACITY, TWELVE, descriptor=None).build())
    with pytest.raises(FormatError, match="open the descriptor"):
        vmdk.open(disk)


def test_versions_and_flags_that_are_not_known(tmp_path: Path) -> None:
    newer = Plain(CAPACITY, TWELVE, changes={"version": 4}).build()
    with pytest.raises(UnsupportedError, match="version 4"):
        vmdk.open(written(tmp_path / "v.vmdk", newer))
    with pytest.raises(UnsupportedError, match="flags"):
        vmdk.open(written(tmp_path / "f.vmdk", Plain(CAPACITY, TWELVE, flags=1 << 20).build()))
    unmarked = Stream(CAPACITY, TWELVE, flags=PLAIN | SparseFlags.COMPRESSED).build()
    with pytest.raises(UnsupportedError, match="without markers"):
        vmdk.open(written(tmp_path / "m.vmdk", unmarked))
    dirty = Plain(CAPACITY, TWELVE, changes={"unclean": True}).build()
    with vmdk.open(written(tmp_path / "u.vmdk", dirty)) as source:
        assert any("not closed" in text for text in source.warnings)

"""The bytes that the writers make, looked at by offsets and by nothing of ours."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import pytest

from aipimage.vmdk.descriptor import parse_descriptor
from aipimage.vmdk.writing.sparse import sparse_layout
from tests.vmdk.writing.made import (
    CID,
    GRAIN,
    disk,
    entries_at,
    grains_of,
    grains_of_sparse,
    grains_of_stream,
    header_at,
    write,
)

MIXED = disk("t..rz.t", "." * 600, "rt", "." * 30, "t")


def stream_of(path: Path, source: object = MIXED, **more: object) -> bytes:
    write(path, source, subformat="streamOptimized", **more)
    return path.read_bytes()


def test_stream_header_and_descriptor(tmp_path: Path) -> None:
    data = stream_of(tmp_path / "d.vmdk")
    header = header_at(data, 0)
    capacity = 640 * 128
    assert header == (
        b"KDMV", 3, 0x30001, capacity, 128, 1, 20, 512, 0, 2**64 - 1, 128, 0, b"\n \r\n", 1
    )  # fmt: skip
    text = data[512 : 21 * 512]
    assert text.startswith(b"# Disk DescriptorFile\n")
    assert text.count(b"\0") == len(text) - len(text.rstrip(b"\0")) > 8000
    assert data[21 * 512 : 128 * 512] == bytes(107 * 512)
    lines = text.rstrip(b"\0").decode().splitlines()
    assert {"version=1", "CID=1234abcd", "parentCID=ffffffff"} <= set(lines)
    assert 'createType="streamOptimized"' in lines
    assert f'RW {capacity} SPARSE "d.vmdk"' in lines
    assert 'ddb.adapterType = "lsilogic"' in lines
    assert 'ddb.virtualHWVersion = "11"' in lines
    assert 'ddb.toolsVersion = "2147483647"' in lines


def test_stream_from_the_first_marker_to_the_last(tmp_path: Path) -> None:
    """A walk over the markers: grains ascend, each table follows its grains, and directory, footer
    and end of stream close the file.
    """
    data = stream_of(tmp_path / "d.vmdk")
    at, grains, tables, kinds = 128, {}, {}, []
    first_of_table: dict[int, int] = {}
    while at * 512 < len(data):
        value, size, kind = struct.unpack_from("<QII", data, at * 512)
        if size:
            stored = data[at * 512 + 12 : at * 512 + 12 + size]
            sectors = -(-(size + 12) // 512)
            assert not any(data[at * 512 + 12 + size : (at + sectors) * 512])
            assert value % 128 == 0
            assert all(value // 128 > number for number in grains)
            grains[value // 128] = zlib.decompress(stored)
            first_of_table[value // 128] = at
            at += sectors
            kinds.append("grain")
            continue
        assert data[at * 512 + 16 : at * 512 + 512] == bytes(496)
        kinds.append(str(kind))
        if kind == 1:
            assert value == 4
            rows = entries_at(data, at + 1, 512)
            number = min(first_of_table) // 512
            assert {number * 512 + row: s for row, s in enumerate(rows) if s} == first_of_table
            tables[number] = at + 1
            first_of_table = {}
        elif kind == 2:
            assert value == 1
            assert entries_at(data, at + 1, 2) == [tables[0], tables[1]]
            directory = at + 1
        elif kind == 3:
            assert value == 1
            footer = header_at(data, at + 1)
            assert footer == header_at(data, 0)._replace(gd_offset=directory)
        else:
            assert (value, kind) == (0, 0)
            assert (at + 1) * 512 == len(data)
        at += 1 + value
    assert kinds == ["grain"] * 3 + ["1"] + ["grain"] * 3 + ["1", "2", "3", "0"]
    assert grains == grains_of(MIXED) == grains_of_stream(data)


def test_an_empty_stream(tmp_path: Path) -> None:
    """Header, descriptor, directory, footer, end: no table."""
    data = stream_of(tmp_path / "d.vmdk", disk("." * 16))
    assert len(data) == (128 + 2 + 2 + 1) * 512
    assert entries_at(data, 129, 1) == [0]
    assert header_at(data, 131).gd_offset == 129
    assert data[-512:] == bytes(512)


def test_a_stream_without_a_seek_is_the_same(tmp_path: Path) -> None:
    """A pipe has write() and nothing else; a raw one takes what it likes."""

    class Pipe:
        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, part: bytes) -> int:
            taken = memoryview(part)[:70_001]
            self.data += taken
            return len(taken)

        def flush(self) -> None:
            pass

    pipe = Pipe()
    result = write(pipe, MIXED, subformat="streamOptimized")  # type: ignore[arg-type]
    data = stream_of(tmp_path / "disk.vmdk")
    assert pipe.data == data
    assert (result.path, result.files, result.stored) == (None, (), len(data))


def test_padding_of_a_stream(tmp_path: Path) -> None:
    """An odd size is filled up to whole MiB, and the result says so."""
    odd = disk("t.t", tail=1536)
    result = write(tmp_path / "d.vmdk", odd, subformat="streamOptimized")
    assert result.capacity == 1 << 20
    assert any("larger than its source" in text for text in result.warnings)
    assert grains_of_stream((tmp_path / "d.vmdk").read_bytes()) == grains_of(odd)


def test_random_grains_are_longer_in_a_stream(tmp_path: Path) -> None:
    data = stream_of(tmp_path / "d.vmdk", disk("r" * 16))
    assert struct.unpack_from("<QI", data, 128 * 512)[1] > GRAIN
    assert grains_of_stream(data) == grains_of(disk("r" * 16))


@pytest.mark.parametrize("level", ["fast", "dense"])
def test_the_same_bytes_again(level: str, tmp_path: Path) -> None:
    """Whatever the threads do, and whatever the batches are."""
    one = stream_of(tmp_path / "d.vmdk", level=level, threads=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aipimage.vmdk.feed._WINDOW", 1)
        (tmp_path / "d.vmdk").unlink()
        assert stream_of(tmp_path / "d.vmdk", level=level, threads=5) == one


def test_plain_sparse_layout(tmp_path: Path) -> None:
    write(tmp_path / "d.vmdk", MIXED)
    data = (tmp_path / "d.vmdk").read_bytes()
    # 640 grains: two tables of 4 sectors, a directory of one sector, all twice.
    assert header_at(data, 0) == (
        b"KDMV", 1, 3, 640 * 128, 128, 1, 20, 512, 21, 30, 128, 0, b"\n \r\n", 0
    )  # fmt: skip
    assert entries_at(data, 21, 3) == [22, 26, 0]
    assert entries_at(data, 30, 3) == [31, 35, 0]
    found = grains_of_sparse(data)
    assert found == grains_of(MIXED)
    assert len(data) == 128 * 512 + len(found) * GRAIN
    assert list(found) == sorted(found)
    assert b'createType="monolithicSparse"' in data[512 : 21 * 512]


def test_split_extents_have_no_descriptor(tmp_path: Path) -> None:
    source = disk("t" * 5, "...", "r" * 5)
    result = write(tmp_path / "d.vmdk", source, subformat="twoGbMaxExtentSparse", split=4 * GRAIN)
    names = ["d-s001.vmdk", "d-s002.vmdk", "d-s003.vmdk", "d-s004.vmdk", "d.vmdk"]
    assert [Path(name).name for name in result.files] == names
    found: dict[int, bytes] = {}
    for index, name in enumerate(names[:4]):
        data = (tmp_path / name).read_bytes()
        header = header_at(data, 0)
        assert (header.descriptor_offset, header.descriptor_size, header.rgd_offset) == (0, 0, 1)
        assert header.capacity == (512 if index < 3 else 128)
        found |= {index * 4 + n: grain for n, grain in grains_of_sparse(data).items()}
    assert found == grains_of(source)
    lines = (tmp_path / "d.vmdk").read_text().splitlines()
    assert [line for line in lines if line.startswith("RW")] == [
        f'RW {512 if name != "d-s004.vmdk" else 128} SPARSE "{name}"' for name in names[:4]
    ]


@pytest.mark.parametrize(
    ("subformat", "line"),
    [("monolithicFlat", 'RW 1797 FLAT "d-flat.vmdk" 0'), ("vmfs", 'RW 1797 VMFS "d-flat.vmdk"')],
)
def test_flat(subformat: str, line: str, tmp_path: Path) -> None:
    """As large as the source, to the sector; zeros are holes."""
    source = disk("t", "." * 12, "r", tail=5 * 512)
    result = write(tmp_path / "d.vmdk", source, subformat=subformat)
    flat = tmp_path / "d-flat.vmdk"
    assert flat.read_bytes() == source.content(0, source.size)
    assert flat.stat().st_blocks * 512 <= 3 * GRAIN
    assert line in (tmp_path / "d.vmdk").read_text().splitlines()
    assert (result.capacity, result.warnings) == (source.size, ())


def test_split_flat(tmp_path: Path) -> None:
    source = disk("tr.r", "..", "tz", tail=512)
    write(tmp_path / "d.vmdk", source, subformat="twoGbMaxExtentFlat", split=3 * GRAIN)
    parts = [(tmp_path / f"d-f00{number}.vmdk").read_bytes() for number in (1, 2, 3)]
    assert [len(part) for part in parts] == [3 * GRAIN, 3 * GRAIN, 2 * GRAIN + 512]
    assert b"".join(parts) == source.content(0, source.size)
    lines = (tmp_path / "d.vmdk").read_text().splitlines()
    assert 'RW 257 FLAT "d-f003.vmdk" 0' in lines


def test_default_split_is_that_of_the_note(tmp_path: Path) -> None:
    from tests.support.sources import SparseSource

    edge = 4_192_256 * 512
    source = SparseSource(edge + GRAIN, {edge - 512: b"a" * 1024})
    write(tmp_path / "d.vmdk", source, subformat="twoGbMaxExtentSparse")
    first, second = ((tmp_path / f"d-s00{n}.vmdk").read_bytes() for n in (1, 2))
    assert (header_at(first, 0).capacity, header_at(second, 0).capacity) == (4_192_256, 128)
    assert grains_of_sparse(first) == {32_751: b"\0" * (GRAIN - 512) + b"a" * 512}
    assert grains_of_sparse(second) == {0: (b"a" * 512).ljust(GRAIN, b"\0")}


def test_identity(tmp_path: Path) -> None:
    """The last 32 bits of longContentID are the CID; a new disk gets a new one."""
    for name, cid in [("a", CID), ("b", None), ("c", None)]:
        write(tmp_path / f"{name}.vmdk", disk("t"), cid=cid)
    said = [
        parse_descriptor((tmp_path / f"{name}.vmdk").read_bytes()[512 : 21 * 512], name)
        for name in "abc"
    ]
    assert said[0].cid == CID
    assert len({each.cid for each in said}) == 3
    for each in said:
        assert each.ddb["longContentID"].endswith(f"{each.cid:08x}")
        assert len(each.ddb["longContentID"]) == 32
        assert each.parent_cid == 0xFFFF_FFFF


def test_a_random_cid_is_never_one_with_a_meaning(monkeypatch: pytest.MonkeyPatch) -> None:
    from aipimage.io.system import entropy
    from aipimage.vmdk.writing.plan import new_identity

    given = iter([b"\xff\xff\xff\xff", b"\xff\xff\xff\xfe", b"\xff\xff\xff\xfd", bytes(12)])
    monkeypatch.setattr(entropy, "random_bytes", lambda count: next(given))
    assert new_identity(None).cid == 0xFFFF_FFFD


@pytest.mark.parametrize("sectors", [1, 128 * 512, 128 * 512 + 1, 6_442_450_944, 2**41])
@pytest.mark.parametrize("descriptor", [0, 20])
def test_nothing_overlaps_in_a_layout(sectors: int, descriptor: int) -> None:
    layout = sparse_layout(sectors, descriptor)
    tables = -(-sectors // 65_536)
    directory = -(-tables * 4 // 512)
    assert layout.rgd == 1 + descriptor
    assert layout.rgt == layout.rgd + directory
    assert layout.gd == layout.rgt + 4 * tables
    assert layout.gt == layout.gd + directory
    assert 0 <= layout.overhead - (layout.gt + 4 * tables) < 128
    assert layout.overhead % 128 == 0


def test_options_in_the_descriptor(tmp_path: Path) -> None:
    write(tmp_path / "d.vmdk", disk("t"), adapter="ide", hardware=7)
    data = (tmp_path / "d.vmdk").read_bytes()
    ddb = parse_descriptor(data[512 : 21 * 512], "d").ddb
    assert (ddb["adapterType"], ddb["virtualHWVersion"], ddb["geometry.heads"]) == (
        "ide",
        "7",
        "16",
    )


def test_a_binary_file_object(tmp_path: Path) -> None:
    with io.BytesIO() as target:
        write(target, MIXED, subformat="streamOptimized")  # type: ignore[arg-type]
        assert grains_of_stream(target.getvalue()) == grains_of(MIXED)

"""What is refused, before anything is written."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

import aipimage
from aipimage import CancelledError, Progress, RequestError, TargetError
from aipimage.io.blocks.sources import open_source
from aipimage.vmdk.deflate import Compressor
from aipimage.vmdk.writing import sparse, stream
from aipimage.vmdk.writing.plan import DiskOptions, new_identity, plan_disk
from tests.support.sources import SparseSource
from tests.vmdk.writing.made import CID, GRAIN, disk, raw_file, write

SOURCE = disk("t.rt")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"subformat": "vhdx"}, "unknown sub-format"),
        ({"adapter": "pvscsi"}, "unknown adapter"),
        ({"hardware": 2}, "hardware version"),
        ({"cid": 0xFFFF_FFFF}, "CID"),
        ({"cid": 0xFFFF_FFFE}, "CID"),
        ({"cid": -1}, "cid=-1 is not possible"),
        ({"split": 1 << 20}, "cannot be split"),
        ({"split": 0, "subformat": "twoGbMaxExtentFlat"}, "split=0 is not possible"),
        ({"split": 65_537, "subformat": "twoGbMaxExtentSparse"}, "multiple of 65536"),
        ({"level": "best"}, "unknown level"),
        ({"threads": 0}, "threads=0 is not possible"),
    ],
)
def test_options(options: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=says):
        write(tmp_path / "d.vmdk", SOURCE, **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ['a"b.vmdk', "a\nb.vmdk", "a\udc80.vmdk", "a\tb.vmdk", "a\r.vmdk"])
def test_names_that_a_descriptor_cannot_hold(name: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="a descriptor cannot name"):
        write(tmp_path / name, SOURCE)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", [0, 511, 513])
def test_whole_sectors_only(size: int, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="whole sectors"):
        write(tmp_path / "d.vmdk", SparseSource(size, {}))


def test_sectors_of_4096_bytes(tmp_path: Path) -> None:
    source = disk("t")
    source.sector_size = 4096
    with pytest.raises(RequestError, match="sectors of 4096 bytes"):
        write(tmp_path / "d.vmdk", source)


def test_too_many_extents(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="65537 extents"):
        write(
            tmp_path / "d.vmdk",
            SparseSource(65_537 * GRAIN, {}),
            subformat="twoGbMaxExtentFlat",
            split=GRAIN,
        )


def test_a_petabyte_is_flat(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="use a flat one"):
        write(tmp_path / "d.vmdk", SparseSource((1 << 50) + 512, {}))


def test_a_pipe_takes_a_stream_only() -> None:
    with pytest.raises(RequestError, match="use streamOptimized"):
        write(io.BytesIO(), SOURCE)
    with pytest.raises(RequestError, match="cannot be resumed"):
        write(io.BytesIO(), SOURCE, subformat="streamOptimized", resume=True)


def test_a_split_extent_must_stay_below_two_tebibytes(tmp_path: Path) -> None:
    source = SparseSource(5 << 40, {})
    with pytest.raises(RequestError, match="2 TiB"):
        write(tmp_path / "d.vmdk", source, subformat="twoGbMaxExtentSparse", split=2 << 40)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("subformat", ["monolithicSparse", "streamOptimized"])
def test_a_file_that_passes_two_tebibytes(
    subformat: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Found out on the way: an error that offers other sub-formats, and nothing is left."""
    monkeypatch.setattr(sparse, "MAX_SECTORS_32", 128 + 3 * 128)
    monkeypatch.setattr(stream, "MAX_SECTORS_32", 128 + 3 * 128 + 40)
    write(tmp_path / "fits.vmdk", disk("r.rr"), subformat=subformat)
    with pytest.raises(RequestError, match=r"would pass 2 TiB.*flat"):
        write(tmp_path / "d.vmdk", disk("r.rrr"), subformat=subformat)
    assert [each.name for each in tmp_path.iterdir()] == ["fits.vmdk"]


def test_known_before_to_pass_two_tebibytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image says how much data it has: nothing is even created."""
    aipimage.create(tmp_path / "i.aiv", [disk("r" * 9)])
    monkeypatch.setattr(sparse, "MAX_SECTORS_32", 128 + 8 * 128)

    def never(*args: object) -> None:
        raise AssertionError("a file was made")

    monkeypatch.setattr("aipimage.vmdk.writing.files.DiskFiles.create", never)
    with (
        aipimage.open(tmp_path / "i.aiv") as image,
        pytest.raises(RequestError, match="would pass 2 TiB"),
    ):
        write(tmp_path / "d.vmdk", image.devices[0])


# What is there already


@pytest.mark.parametrize("name", ["d.vmdk", "d-flat.vmdk"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_several_files_are_never_replaced(name: str, overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"old")
    with pytest.raises(TargetError):
        write(tmp_path / "d.vmdk", SOURCE, subformat="monolithicFlat", overwrite=overwrite)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [(name, b"old")]


def test_overwriting(tmp_path: Path) -> None:
    path = tmp_path / "d.vmdk"
    path.write_bytes(b"old")
    with pytest.raises(TargetError, match="already there"):
        write(path, SOURCE)
    assert path.read_bytes() == b"old"
    write(path, SOURCE, overwrite=True)
    assert path.read_bytes()[:4] == b"KDMV"
    assert list(tmp_path.iterdir()) == [path]


def test_an_image_is_never_overwritten(tmp_path: Path) -> None:
    aipimage.create(tmp_path / "i.aiv", [SOURCE])
    before = (tmp_path / "i.aiv").read_bytes()
    with (
        aipimage.open(tmp_path / "i.aiv") as image,
        pytest.raises(TargetError, match="is an image itself"),
    ):
        write(tmp_path / "i.aiv", image.devices[0], overwrite=True)
    assert (tmp_path / "i.aiv").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "subformat"), [("s.vmdk", "monolithicSparse"), ("s-flat.vmdk", "monolithicFlat")]
)
def test_the_source_is_never_overwritten(name: str, subformat: str, tmp_path: Path) -> None:
    path = raw_file(SOURCE, tmp_path / name)
    source = open_source(path)
    with pytest.raises(TargetError):
        write(tmp_path / "s.vmdk", source, subformat=subformat, overwrite=True)
    source.close()
    assert path.read_bytes() == SOURCE.content(0, SOURCE.size)


def test_other_kinds_of_targets(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(TargetError, match="not a regular file"):
        write(tmp_path / "folder", SOURCE, overwrite=True)
    with pytest.raises(TargetError, match="no such directory"):
        write(tmp_path / "missing" / "d.vmdk", SOURCE)
    with pytest.raises(TargetError, match="no such device"):
        write("/dev/no-such-disk-here", SOURCE)
    with pytest.raises(RequestError, match="pass a file name"):
        write(f"{tmp_path}/", SOURCE)


def test_cancelled(tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        write(tmp_path / "d.vmdk", disk("t" * 400), progress=_cancel)
    assert not list(tmp_path.iterdir())


def _cancel(progress: Progress) -> bool:
    """Take longer than the time between two calls, so that there is one before the end."""
    return progress.done == progress.total


def test_progress_ends_at_the_size(tmp_path: Path) -> None:
    seen = []
    write(tmp_path / "d.vmdk", SOURCE, progress=seen.append)
    assert (seen[-1].done, seen[-1].total, seen[-1].phase) == (SOURCE.size, SOURCE.size, "convert")


def test_a_plan_covers_the_disk_without_gaps() -> None:
    for sectors in (1, 127, 128, 129, 4_192_256, 4_192_257, 9_999_999):
        for subformat in ("twoGbMaxExtentSparse", "twoGbMaxExtentFlat"):
            plan = plan_disk(
                "d.vmdk", "s", sectors * 512, 512, DiskOptions(subformat), new_identity(CID)
            )
            assert sum(extent.sectors for extent in plan.extents) * 512 == plan.capacity
            at = 0
            for extent in plan.extents:
                assert extent.first * 128 == at
                assert 0 < extent.sectors <= 4_192_256
                at += extent.sectors


def test_without_the_fast_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib does the work where isal or deflate are not installed."""
    import sys
    import zlib

    monkeypatch.setitem(sys.modules, "isal", None)
    monkeypatch.setitem(sys.modules, "deflate", None)
    for level in ("fast", "dense"):
        compressor = Compressor(level)
        assert compressor.name.startswith("zlib")
        assert zlib.decompress(compressor.compress(b"abc" * 1000)) == b"abc" * 1000


def test_levels() -> None:
    """Dense is smaller than fast, and no larger than zlib's level 6."""
    import zlib

    data = b"".join(b"%d %x;" % (n * n, n * 7919) for n in range(6000))[:GRAIN]
    fast, dense = (Compressor(level).compress(data) for level in ("fast", "dense"))
    assert zlib.decompress(fast) == zlib.decompress(dense) == data
    assert len(dense) < len(fast)
    assert len(dense) <= len(zlib.compress(data, 6))

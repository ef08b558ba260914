"""What a disk is said to be: contents that contradict each other, parsers that fail, metadata."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import aipimage
from aipimage.errors import FormatError, RequestError, SourceError
from aipimage.io.blocks.sources import BinaryFileSource
from aipimage.volumes.described import TEXT_MAX, volumes_of
from aipimage.volumes.filesystems import registry
from aipimage.volumes.model import FileSystem, Parser
from aipimage.volumes.survey import survey
from aipimage.volumes.view import LayoutError, VolumeView
from tests.volumes.tables import fuzz as fuzzing_tables

MIB = 1 << 20


def source(data: bytes) -> BinaryFileSource:
    return BinaryFileSource(io.BytesIO(data), name="disk")


def parser(kind: str, error: Exception | None = None, expected: str = "") -> Parser:
    """A family that finds itself everywhere, and whose map cannot be read."""

    def allocation(*_: object) -> Any:
        assert error is not None
        raise error

    return Parser(
        kind, lambda view: FileSystem(kind), None if error is None else allocation, expected
    )


def surveyed(*parsers: Parser) -> tuple[str, str | None]:
    with mock.patch.object(registry, "parsers", return_value=parsers):
        [volume] = survey(source(bytes(MIB))).volumes
    assert volume.used == MIB
    return volume.filesystem.kind if volume.filesystem else "", volume.whole_because


def test_a_volume_that_looks_like_two_things_is_taken_whole() -> None:
    doubt = LayoutError("not asked")
    assert surveyed(parser("ext4", doubt), parser("xfs", doubt)) == (
        "ext4",
        "it looks like ext4 and xfs",
    )
    assert surveyed(parser("fat32", doubt), parser("bitlocker", None, "encrypted")) == (
        "bitlocker",
        "encrypted",
    )


def test_a_reason_is_that_of_the_parser() -> None:
    assert surveyed(parser("xfs", LayoutError("its log is torn"))) == ("xfs", "its log is torn")
    assert surveyed() == ("", "nothing known is in it")


def test_a_mistake_of_ours_leaves_no_volume_without_a_backup() -> None:
    kind, reason = surveyed(parser("xfs", IndexError("7")))
    assert kind == "xfs"
    assert reason == "internal error in reading its map (IndexError('7'))"


def test_a_source_that_fails_is_no_doubt() -> None:
    with pytest.raises(SourceError, match="gone"):
        surveyed(parser("xfs", SourceError("gone")))


def test_a_view_reads_nothing_beyond_its_volume_or_its_budget() -> None:
    view = VolumeView(source(bytes(range(256)) * 16), 1024, 2048, 1000)
    assert view.read(1, 3) == b"\x01\x02\x03"
    for offset, length in ((2040, 9), (-1, 4), (0, -1), (1 << 70, 1)):
        with pytest.raises(LayoutError, match="are wanted of a volume"):
            view.read(offset, length)
    with pytest.raises(LayoutError, match="more than can be looked at"):
        view.read(0, 998)
    view.allow(1)
    assert len(view.read(0, 998)) == 998
    assert view.part(512, 1024).offset == 1536
    with pytest.raises(LayoutError):
        view.part(1025, 1024)
    with pytest.raises(RuntimeError, match="internal error"):
        VolumeView(source(bytes(4096)), 4000, 97)


def test_sectors_that_cannot_be_read_are_a_doubt() -> None:
    class Bad(BinaryFileSource):
        def read_into(self, buffer: Any, offset: int) -> None:
            raise aipimage.io.blocks.sources.UnreadableRangeError("bad", offset, 1)

    found = survey(Bad(io.BytesIO(bytes(MIB)), name="disk"))
    assert found.free.total == 0
    assert found.table.doubt is not None or not any(each.filesystem for each in found.volumes)


def test_what_was_imaged_is_told_by_the_image(tmp_path: Path) -> None:
    disk = bytearray(fuzzing_tables.chain_disk())
    path = tmp_path / "a.aiv"
    aipimage.create(path, io.BytesIO(bytes(disk)))
    found = aipimage.survey(io.BytesIO(bytes(disk)))
    assert found.volumes
    with aipimage.open(path) as image:
        assert image.volumes == found.volumes
        for each, kept in zip(image.volumes, image.kept_bytes(), strict=True):
            low, high = each.start, each.start + each.size
            data = [
                min(high, extent.start + extent.length) - max(low, extent.start)
                for extent in image.devices[0].extents(aipimage.Kind.DATA)
                if extent.start < high and extent.start + extent.length > low
            ]
            assert kept == sum(data)


@pytest.mark.parametrize("change", [
    {"number": "2"}, {"start": -512}, {"size": 1.5}, {"kept": 1}, {"label": None}, {"notes": "a"},
    {"left_out": [1]}, {"active": "yes"}, {"start": 1 << 62}, {"size": True}, {"number": None},
])  # fmt: skip
def test_volumes_that_a_stranger_wrote_are_an_error_of_the_format(change: dict[str, Any]) -> None:
    good = {"number": 1, "start": 512, "size": 1024, "kept": True}
    assert len(volumes_of(0, 4096, {"volumes": [good]}, "x")) == 1
    with pytest.raises(FormatError, match="x: "):
        volumes_of(0, 4096, {"volumes": [good | change]}, "x")
    for hopeless in ({"volumes": {}}, {"volumes": [1]}, {"volumes": [{"number": 1}]}):
        with pytest.raises(FormatError):
            volumes_of(0, 4096, hopeless, "x")


def test_a_volume_that_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    disk = fuzzing_tables.chain_disk()
    for wrong in ([9], [1, 77]):
        with pytest.raises(RequestError, match="has no volume"):
            aipimage.create(tmp_path / "a.aiv", io.BytesIO(disk), volumes=wrong)
    with pytest.raises(RequestError, match="for each source"):
        aipimage.create(tmp_path / "a.aiv", io.BytesIO(disk), volumes=[[1], [1]])
    with pytest.raises(RequestError, match="for each source"):
        aipimage.create(tmp_path / "a.aiv", io.BytesIO(disk), volumes=[])
    assert list(tmp_path.iterdir()) == []


def test_text_of_a_disk_is_cut_and_fit_for_json() -> None:
    label = "\ud800" + "x" * 400
    found = (Parser("xfs", lambda view: FileSystem("xfs", label)),)
    with mock.patch.object(registry, "parsers", return_value=found):
        info = aipimage.survey(io.BytesIO(bytes(MIB))).volumes[0]
    assert len(info.label) == TEXT_MAX
    info.label.encode()

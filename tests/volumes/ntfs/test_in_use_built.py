"""A small NTFS volume with a journal written by hand: what each kind of record keeps, and what is
refused.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import aipimage
from aipimage.errors import OptionError
from aipimage.io.blocks.sources import BinaryFileSource
from aipimage.volumes.clusters import ClusterMap
from aipimage.volumes.filesystems.ntfs import PARSER, layout
from aipimage.volumes.model import Allocation, SurveyOptions
from aipimage.volumes.view import LayoutError, VolumeView
from tests.cli.running import invoke
from tests.volumes.journals.ntfslog import built
from tests.volumes.journals.ntfslog.built import Log, bits, change, table
from tests.volumes.ntfs import small
from tests.volumes.ntfs.edited import Editor, inside, mapping_pairs, outside

FREE = 1300
"""A cluster in the middle of a free run."""
BITMAP_CLUSTER, MFT_CLUSTER = small.BITMAP // 512, small.MFT // 512
_BITS = {"clusters": [BITMAP_CLUSTER], "target": built.BITMAP_PLACE}
_RUNS = outside(layout.DATA, mapping_pairs([(FREE, 3), (FREE + 7, 2)]), 0, 5, 2560)
_GIVEN = {FREE, FREE + 1, FREE + 2, FREE + 7, FREE + 8}


def in_use(*changes: bytes, editor: Editor | None = None, version: int = 1) -> Editor:
    """The volume with an open journal of some changes."""
    editor = editor or Editor()
    log = Log(small.JOURNAL_BYTES)
    entries = [built.attribute_entry(0, 0x80, version=version)]
    entries.append(built.attribute_entry(6, 0x80, version=version))
    log.add(change(built.ATTRIBUTES, redo_data=table(entries)))
    for each in changes:
        log.add(each)
    log.checkpoint(version=version)
    editor.journal(bytes(log.data()))
    return editor


def kept(allocation: Allocation) -> set[int]:
    """Clusters that are free in the plain volume, and used here."""
    return _free(Editor().survey()) - _free(allocation)


def _free(allocation: Allocation) -> set[int]:
    there = allocation.free
    assert isinstance(there, ClusterMap)
    runs = [row for rows in there.free_runs(0, there.count) for row in rows.tolist()]
    return {cluster for first, count in runs for cluster in range(first, first + count)}


def of_record(number: int) -> dict[str, object]:
    """Where a change of a FILE record is."""
    return {"vcn": 2 * number, "clusters": [MFT_CLUSTER + 2 * number], "target": built.MFT_PLACE}


def logged(number: int, attribute: bytes) -> bytes:
    """A FILE record as it is logged, with other content."""
    editor = Editor()
    editor.replace(number, layout.DATA, attribute)
    record = editor.record(number)
    return bytes(record[: int.from_bytes(record[24:28], "little")])


def pairs_of(number: int) -> tuple[int, int, bytes]:
    """(offset of $DATA in a record, of its mapping pairs in it, the pairs)."""
    at, length = Editor().find(number, layout.DATA)
    return at, 64, bytes(Editor().record(number)[at + 64 : at + length])


def _piece(undo: bool) -> bytes:
    """The end of a list is replaced: what comes before it is on the disk."""
    at, pairs, _ = pairs_of(66)
    # The file has its first run at 0x847 = 2119; the piece begins where the list ends.
    piece = bytes([0x21, 3]) + (FREE - 2119).to_bytes(2, "little", signed=True) + b"\0"
    data = (b"", piece) if undo else (piece, b"")
    where = {"record_at": at, "attribute_at": pairs + 4}
    return change(built.PAIRS, built.PAIRS, *data, **of_record(66), **where)  # type: ignore[arg-type]


def _dirty(clusters: list[int], version: int = 1) -> bytes:
    entry = built.dirty_entry(24, 0, 0, clusters, version)
    return change(built.DIRTY, redo_data=table([entry]))


NAMING = {
    "bits that are set": (
        lambda: change(built.SET_BITS, built.CLEAR_BITS, *[bits(FREE, 9)] * 2, **_BITS),
        set(range(FREE, FREE + 9)),
    ),
    "bits that are cleared": (
        lambda: change(built.CLEAR_BITS, built.SET_BITS, *[bits(FREE, 9)] * 2, **_BITS),
        set(range(FREE, FREE + 9)),
    ),
    "bits that are cleared again": (
        lambda: change(built.CLEAR_BITS, built.COMPENSATION, bits(FREE, 9), **_BITS),
        set(range(FREE, FREE + 9)),
    ),
    "bits of another bitmap": (
        lambda: change(
            built.SET_BITS, built.CLEAR_BITS, *[bits(FREE, 9)] * 2, clusters=[FREE + 20], target=999
        ),
        {FREE + 20},
    ),
    "clusters that are changed": (
        lambda: change(built.NONRESIDENT, redo_data=b"x", clusters=[FREE, FREE + 5, -1]),
        {FREE, FREE + 5},
    ),
    "dirty pages": (
        lambda: _dirty([FREE, -1, FREE + 2]),
        {FREE, FREE + 2},
    ),
    "dirty pages of version 0": (
        lambda: _dirty([FREE], 0),
        {FREE},
    ),
    "pages that are dirty no more": (
        lambda: change(10, redo_data=struct.pack("<QQQQ", FREE, 2, FREE + 9, 1)),
        {FREE, FREE + 1, FREE + 9},
    ),
    "a new FILE record": (
        lambda: change(built.INITIALIZE, built.DEALLOCATE, logged(64, _RUNS), **of_record(64)),
        _GIVEN,
    ),
    "a deleted FILE record": (
        lambda: change(built.DEALLOCATE, built.INITIALIZE, b"", logged(64, _RUNS), **of_record(64)),
        _GIVEN,
    ),
    "a new attribute": (
        lambda: change(built.CREATE, built.DELETE, _RUNS, **of_record(64), record_at=352),
        _GIVEN,
    ),
    "a deleted attribute": (
        lambda: change(built.DELETE, built.CREATE, b"", _RUNS, **of_record(64), record_at=352),
        _GIVEN,
    ),
    "the end of a record": (
        lambda: change(4, 4, inside(0x30, b"name") + _RUNS, b"", **of_record(64), record_at=352),
        _GIVEN,
    ),
    "a piece of a list": (lambda: _piece(undo=False), {FREE, FREE + 1, FREE + 2}),
    "a piece of a list that is taken back": (lambda: _piece(undo=True), {FREE, FREE + 1, FREE + 2}),
    "nothing": (lambda: change(built.RESIDENT, built.RESIDENT, b"x", b"y", **of_record(64)), set()),
}  # fmt: skip


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("name", NAMING)
def test_what_a_record_keeps(name: str, version: int) -> None:
    made, wanted = NAMING[name]
    found = in_use(made(), version=version).survey()
    assert kept(found) == wanted
    count = f"{512 * len(wanted):,} bytes"
    assert found.notes == (
        f"in use: its journal was read, 3 records; {count} are kept beyond its map",
    )


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "bits past the end": (
        lambda: change(built.SET_BITS, built.NOOP, bits(small.CLUSTERS - 1, 2), **_BITS),
        "names the cluster 3,071",
    ),
    "many bits": (lambda: change(built.SET_BITS, 0, bits(7, 0xFFFFFFFF), **_BITS), "cluster"),
    "bits without a place": (
        lambda: change(built.SET_BITS, 0, bits(7, 1), target=built.BITMAP_PLACE),
        "does not say where they lie",
    ),
    "bits without a number": (lambda: change(built.SET_BITS, 0, bytes(4), **_BITS), "not name"),
    "bits elsewhere": (
        lambda: change(built.SET_BITS, 0, bits(7, 1), target=built.BITMAP_PLACE, clusters=[FREE]),
        "places the bitmap elsewhere",
    ),
    "another file at the bitmap's place": (
        lambda: change(built.SET_BITS, 0, bits(7, 1), clusters=[BITMAP_CLUSTER]),
        "places the bitmap elsewhere",
    ),
    "a cluster past the end": (
        lambda: change(built.NONRESIDENT, clusters=[small.CLUSTERS]), "names the cluster 3,071",
    ),
    "a dirty page past the end": (
        lambda: _dirty([1 << 62]),
        "names the cluster",
    ),
    "bad clusters": (lambda: change(built.HOT_FIX), "moves bad clusters"),
    "the bitmap grows": (
        lambda: change(built.SIZES, built.SIZES, bytes(24), bytes(24), **of_record(6)),
        "changes where its bitmap lies",
    ),
    "the bitmap moves": (
        lambda: change(built.CREATE, built.DELETE, _RUNS, **of_record(6)),
        "changes where its bitmap lies",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_class_50_what_is_not_followed_is_taken_whole(name: str) -> None:
    made, reason = REFUSED[name]
    said = in_use(made()).reason()
    assert said.startswith("its journal cannot be trusted: ")
    assert reason in said


def test_other_changes_of_the_bitmaps_own_record_are_followed() -> None:
    """As when Windows gives it a longer $STANDARD_INFORMATION."""
    new = inside(0x10, bytes(72))
    made = change(built.CREATE, built.DELETE, new, **of_record(6))  # type: ignore[arg-type]
    assert kept(in_use(made).survey()) == set()


def test_class_50_files_that_nothing_calls_used() -> None:
    """A bit is clear that the journal does not name: what lies there is in doubt."""
    editor = Editor()
    cluster = 2119
    editor.data[small.BITMAP + cluster // 8] &= ~(1 << cluster % 8)
    assert "neither the bitmap nor the journal" in in_use(editor=editor).reason()
    named = change(built.SET_BITS, built.CLEAR_BITS, *[bits(cluster, 1)] * 2, **_BITS)
    assert not _free(in_use(named, editor=editor).survey()) - _free(Editor().survey())


def test_paging_files_are_left_out_unless_the_journal_names_them() -> None:
    plain = in_use().survey(leave_out_paging=True)
    assert set(plain.left_out) == {"pagefile.sys", "swapfile.sys"}
    _, _, pairs = pairs_of(64)
    first = int.from_bytes(pairs[2:4], "little")
    named = in_use(change(built.NONRESIDENT, clusters=[first])).survey(leave_out_paging=True)
    assert set(plain.left_out) - set(named.left_out) == {"pagefile.sys"}
    assert first in _free(plain)
    assert first not in _free(named)


# By best effort


def test_best_effort_is_not_done_by_itself() -> None:
    editor = in_use(change(built.HOT_FIX))
    assert "moves bad clusters" in editor.reason()
    found = editor.survey(in_use="best-effort")
    assert found.notes[0].startswith(
        "in use: what may be free was found by best effort, since its "
    )
    assert kept(found) == set()


def test_what_best_effort_keeps() -> None:
    """What is in the bitmap, in any FILE record, in use or not, or in any record of the journal."""
    editor = Editor()
    editor.patch(3, 24 + 10, b"\1\0", layout.VOLUME_INFORMATION)
    editor.replace(64, layout.DATA, _RUNS)
    record = editor.record(64)
    record[22] &= ~1
    editor.put(64, bytes(record))
    named = change(built.SET_BITS, built.CLEAR_BITS, *[bits(FREE + 40, 2)] * 2, **_BITS)
    editor = in_use(change(built.HOT_FIX), named, editor=editor)
    assert "marked as dirty" in editor.reason()
    found = editor.survey(in_use="best-effort")
    assert kept(found) == {*_GIVEN, FREE + 40, FREE + 41}
    # Restart pages that are lost.
    editor.journal(bytes(8192))
    assert kept(editor.survey(in_use="best-effort")) == {*_GIVEN, FREE + 40, FREE + 41}
    # A journal of which nothing is left, and a record that is cut short.
    editor.journal(bytes(small.JOURNAL_BYTES))
    place = small.MFT + 64 * small.RECORD
    editor.data[place + 1022 : place + 1024] = b"no"
    found = editor.survey(in_use="best-effort")
    assert kept(found) == _GIVEN


@pytest.mark.parametrize("version", [(1, 1), (2, 0)], ids=["1.1", "2.0"])
@pytest.mark.parametrize("copy", [False, True], ids=["in the ring", "in a copy"])
def test_journals_without_restart_pages(version: tuple[int, int], copy: bool) -> None:
    """By best effort they are read as Windows writes them."""
    log = Log(small.JOURNAL_BYTES, version)
    log.add(change(built.NONRESIDENT, redo_data=bytes(5000), clusters=[FREE]))
    log.add(change(built.SET_BITS, built.CLEAR_BITS, *[bits(FREE + 9, 2)] * 2, **_BITS))
    log.checkpoint()
    editor = Editor()
    editor.journal(bytes(log.data(copy=copy)))
    editor.journal(bytes(8192))
    assert "does not begin with a restart page" in editor.reason()
    assert kept(editor.survey(in_use="best-effort")) == {FREE, FREE + 9, FREE + 10}


def test_best_effort_does_not_wake_what_is_asleep() -> None:
    editor = in_use(change(built.HOT_FIX))
    editor.data[2119 * 512 : 2119 * 512 + 4] = b"hibr"
    for way in ("safe", "best-effort", "whole"):
        assert _reason(editor, way) == "Windows is hibernated in it"
    editor = in_use(change(built.HOT_FIX))
    editor.patch(3, 24 + 8, bytes([9, 9]), layout.VOLUME_INFORMATION)
    assert "version 9.9" in _reason(editor, "best-effort")


def test_whole_is_whole() -> None:
    editor = in_use()
    assert kept(editor.survey()) == set()
    assert "volumes in use are to be taken whole" in _reason(editor, "whole")
    assert Editor().survey(in_use="whole").free.total == Editor().survey().free.total


@pytest.mark.parametrize("way", ["safe", "best-effort"])
def test_what_may_change_is_whole(way: str) -> None:
    """Whatever is asked for: no journal says what a volume will be that is written to."""
    source = BinaryFileSource(io.BytesIO(in_use().data))
    view = VolumeView(source, 0, source.size)
    found = PARSER.probe(view)
    assert found is not None
    assert PARSER.allocation is not None
    options = SurveyOptions(in_use=way, changing=lambda: "it is mounted")
    with pytest.raises(LayoutError, match="may change while it is read: it is mounted"):
        PARSER.allocation(view, found, options)


def _reason(editor: Editor, way: str) -> str:
    try:
        editor.survey(in_use=way)
    except LayoutError as error:
        return str(error)
    return ""


# Images


@pytest.mark.parametrize("way", ["safe", "best-effort", "whole"])
def test_images_of_a_volume_in_use(tmp_path: Path, way: str) -> None:
    """The command and the library; what they say, and how much they keep."""
    named = change(built.SET_BITS, built.CLEAR_BITS, *[bits(FREE, 9)] * 2, **_BITS)
    volume = tmp_path / "volume"
    editor = in_use(named)
    editor.data[FREE * 512 : (FREE + 30) * 512] = b"!" * (30 * 512)
    volume.write_bytes(editor.data)
    image, again = tmp_path / "a.aiv", tmp_path / "b.aiv"
    result = aipimage.create(image, volume, volumes_in_use=way)
    assert any("taken whole" in text for text in result.warnings) == (way == "whole")
    ran = invoke("createimage", "-o", again, "--volumes-in-use", way, volume)
    assert ran.code == 0, ran.err
    for path in (image, again):
        with aipimage.open(path) as opened:
            opened.restore(tmp_path / "out", force=True)
            (about,) = opened.volumes
        data = (tmp_path / "out").read_bytes()
        assert data[FREE * 512 : (FREE + 9) * 512] == b"!" * (9 * 512)
        rest = data[(FREE + 9) * 512 : (FREE + 30) * 512]
        assert rest == (b"!" if way == "whole" else b"\0") * (21 * 512)
        assert ("in use: its journal was read" in str(about)) == (way != "whole")


def test_other_ways_are_refused(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.write_bytes(in_use().data)
    with pytest.raises(OptionError, match="volumes_in_use"):
        aipimage.create(tmp_path / "a.aiv", volume, volumes_in_use="quick")
    ran = invoke("createimage", "-o", tmp_path / "a.aiv", "--volumes-in-use", "quick", volume)
    assert ran.code == 2
    assert not (tmp_path / "a.aiv").exists()

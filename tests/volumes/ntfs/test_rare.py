"""What is rare and right in NTFS, what says that its bitmap may be stale, and paging files."""

from __future__ import annotations

import io

import numpy as np
import pytest

from aipimage.io.blocks.sources import BinaryFileSource
from aipimage.volumes.filesystems.ntfs import PARSER, layout, paging
from aipimage.volumes.journals.ntfslog import layout as ntfslog
from aipimage.volumes.view import VolumeView
from tests.volumes.ntfs.edited import (
    Editor,
    inside,
    list_entry,
    mapping_pairs,
    outside,
    protect,
    restart_pages,
    unprotect,
)
from tests.volumes.ntfs.small import BITMAP, CLUSTERS, FREE, LEAF, MFT, NODE, PAGING, RECORD

DATA = layout.DATA
CLEAN, NO_CLIENT = ntfslog.VOLUME_IS_CLEAN, ntfslog.NO_CLIENT


# Class 48: legal, and rare


def test_class_48_an_mft_whose_run_list_goes_on_in_another_record() -> None:
    editor = Editor()
    first, second = (
        outside(DATA, mapping_pairs([(32, 150)]), 0, 150, 99 * 1024, 214 * 512),
        outside(DATA, mapping_pairs([(182, 64)]), 150, 64, 0, 0, instance=3),
    )
    editor.new_record(65, 0, second)
    entries = list_entry(DATA, 0, 0, 9) + list_entry(DATA, 150, 65, 3)
    editor.replace(0, DATA, inside(layout.ATTRIBUTE_LIST, entries, 8) + first)
    assert editor.reason() == ""
    assert editor.free() == FREE
    # The record that goes on must lie in what is known of the MFT without it.
    for clusters in (66, 131):
        short = outside(DATA, mapping_pairs([(32, clusters)]), 0, clusters, 99 * 1024, 214 * 512)
        rest = mapping_pairs([(32 + clusters, 214 - clusters)])
        editor = Editor()
        editor.new_record(65, 0, outside(DATA, rest, clusters, 214 - clusters, 0, 0, instance=3))
        entries = list_entry(DATA, 0, 0, 9) + list_entry(DATA, clusters, 65, 3)
        editor.replace(0, DATA, inside(layout.ATTRIBUTE_LIST, entries, 8) + short)
        assert "a hole where it must hold data" in editor.reason()


def test_class_42_an_mft_that_is_told_of_in_circles() -> None:
    editor = Editor()
    first = outside(DATA, mapping_pairs([(32, 150)]), 0, 150, 99 * 1024, 214 * 512)
    entries = list_entry(DATA, 0, 0, 9) + list_entry(DATA, 150, 0, 9) * 9
    editor.replace(0, DATA, inside(layout.ATTRIBUTE_LIST, entries, 8) + first)
    assert editor.reason() == "the attribute list of FILE record 0 is wrong"


def _spread_bitmap(editor: Editor) -> list[tuple[int, int]]:
    """Move the bitmap of three times as many clusters to three places, backwards."""
    editor.data += bytes(10_000 * 512 - len(editor.data))
    editor.data[40:48] = (9999).to_bytes(8, "little")
    places = [(2600, 1), (2500, 1), (2400, 1)]
    for cluster, _ in places:
        editor.use(cluster, 1)
    old = bytearray(editor.data[BITMAP : BITMAP + 512])
    # Bits behind the last cluster of old were set.
    for cluster in range(CLUSTERS, 512 * 8):
        old[cluster // 8] &= ~(1 << cluster % 8)
    whole = bytes(old) + bytes(1024)
    for index, (cluster, _) in enumerate(places):
        editor.data[cluster * 512 : cluster * 512 + 512] = whole[index * 512 : index * 512 + 512]
    return places


def test_class_48_a_bitmap_in_pieces_and_records() -> None:
    editor = Editor()
    places = _spread_bitmap(editor)
    editor.replace(6, DATA, outside(DATA, mapping_pairs(places), 0, 3, 1256))
    wanted = FREE - 3 + 9999 - CLUSTERS
    assert editor.free() == wanted
    parts = [
        outside(DATA, mapping_pairs(places[:1]), 0, 1, 1256, 1536, instance=5),
        outside(DATA, mapping_pairs(places[1:]), 1, 2, 0, 0, instance=6),
    ]
    editor.new_record(65, 6, *parts)
    entries = list_entry(DATA, 0, 65, 5) + list_entry(DATA, 1, 65, 6)
    editor.replace(6, DATA, inside(layout.ATTRIBUTE_LIST, entries))
    assert editor.free() == wanted


def test_class_48_an_attribute_list_outside_of_its_record() -> None:
    editor = Editor()
    part = outside(DATA, mapping_pairs([(BITMAP // 512, 1)]), 0, 1, 384)
    editor.new_record(65, 6, part)
    entries = list_entry(DATA, 0, 65, 9)
    editor.data[2500 * 512 : 2500 * 512 + len(entries)] = entries
    editor.use(2500, 1)
    where = outside(layout.ATTRIBUTE_LIST, mapping_pairs([(2500, 1)]), 0, 1, len(entries))
    editor.replace(6, DATA, where)
    assert editor.free() == FREE - 1


def test_class_48_a_bitmap_longer_than_its_volume() -> None:
    editor = Editor()
    pairs = mapping_pairs([(BITMAP // 512, 1)])
    editor.replace(6, DATA, outside(DATA, pairs, 0, 1, 512))
    assert editor.free() == FREE


def test_class_48_a_partition_without_room_for_the_second_boot_sector() -> None:
    editor = Editor()
    del editor.data[CLUSTERS * 512 :]
    assert editor.free() == FREE


def test_class_48_versions_and_a_volume_without_a_name() -> None:
    for version in ((1, 1), (1, 2), (3, 0), (3, 1)):
        editor = Editor()
        editor.patch(3, 24 + 8, bytes(version), layout.VOLUME_INFORMATION)
        assert editor.reason() == ""
    editor = Editor()
    editor.patch(3, 24 + 8, b"\x04\0", layout.VOLUME_INFORMATION)
    assert editor.reason() == "it is of NTFS version 4.0"
    editor = Editor()
    editor.replace(3, layout.VOLUME_NAME, b"")
    source = BinaryFileSource(io.BytesIO(editor.data))
    found = PARSER.probe(VolumeView(source, 0, source.size))
    assert found is not None
    assert found.label == ""
    assert editor.reason() == ""


def test_class_48_flags_that_leave_the_bitmap_right() -> None:
    for flags in (0x0002, 0x0004, 0x0008, 0x0010, 0x0020, 0x8000):
        editor = Editor()
        editor.patch(3, 24 + 10, flags.to_bytes(2, "little"), layout.VOLUME_INFORMATION)
        assert editor.reason() == ""


@pytest.mark.parametrize(
    "pages",
    [
        restart_pages((5, NO_CLIENT, 0), (5, NO_CLIENT, 0)),
        restart_pages((5, 0, CLEAN), (5, 0, CLEAN)),
        restart_pages((6, NO_CLIENT, CLEAN), (5, 0, 0)),
        restart_pages((5, 0, 0), (6, 0, CLEAN)),
        restart_pages((5, NO_CLIENT, 0), (5, NO_CLIENT, 0), magic=b"CHKD"),
    ],
)
def test_class_48_journals_that_windows_closed(pages: bytes) -> None:
    editor = Editor()
    editor.journal(pages)
    assert editor.reason() == ""


# Class 50: what is on the disk may be stale


@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        (restart_pages((5, 0, 0), (5, 0, 0)), "its journal cannot be trusted"),
        (restart_pages((6, 0, 0), (5, NO_CLIENT, CLEAN)), "its journal cannot be trusted"),
        (restart_pages((5, 0, CLEAN), (6, 0, 0)), "its journal cannot be trusted"),
        (restart_pages((5, 0, CLEAN), (5, 0, 0)), "its journal cannot be trusted"),
        (restart_pages((5, 0, CLEAN), (5, 0, CLEAN), version=(2, 0)), "cannot be trusted"),
        (restart_pages((5, 0, CLEAN), (5, 0, CLEAN), version=(3, 0)), "of version 3.0"),
        (restart_pages((5, 1, CLEAN), (5, 0, CLEAN)), "a client that is not there"),
        (restart_pages((5, 0, CLEAN))[:4000], "restart page"),
        (restart_pages((5, 0, CLEAN)) + bytes(4096), "restart page"),
        (restart_pages((5, 0, CLEAN)) + restart_pages((6, 0, CLEAN))[:2048] + bytes(2048), "whole"),
        (b"RCRD" + bytes(4096), "does not begin with a restart page"),
        (bytes(8192), "does not begin with a restart page"),
        (b"\xff" * 8192 + b"RCRD", "does not begin with a restart page"),
        (b"RSTR" + bytes(4096), "pages of 0 bytes"),
    ],
)
def test_class_50_a_journal_that_was_not_replayed(pages: bytes, reason: str) -> None:
    editor = Editor()
    editor.journal(pages)
    assert reason in editor.reason()


def test_class_50_restart_pages_that_do_not_fit() -> None:
    good = unprotect(restart_pages((5, 0, CLEAN))[:4096])
    for at, value in (
        (16, b"\0\x20\0\0"),
        (16, b"\xff\xff\xff\xff"),
        (16, b"\0\0\x01\0"),
        (16, b"\x01\x10\0\0"),
        (24, b"\0\0"),
        (24, b"\xff\xff"),
        (24, b"\x41\0"),
        (24, b"\xf8\x0f"),
    ):
        page = good.copy()
        page[at : at + len(value)] = value
        editor = Editor()
        editor.journal(protect(bytes(page)) * 2)
        assert editor.reason(), (at, value)


def test_class_50_flags_of_the_volume() -> None:
    for flags, reason in ((0x0001, "it is marked as dirty"), (0x4000, "a run of chkdsk")):
        editor = Editor()
        editor.patch(3, 24 + 10, flags.to_bytes(2, "little"), layout.VOLUME_INFORMATION)
        assert reason in editor.reason()


def test_class_50_a_hibernated_windows() -> None:
    at = 2119 * 512
    for header, reason in (
        (b"hibr", "Windows is hibernated in it"),
        (b"HIBR", "Windows is hibernated in it"),
        (b"wake", ""),
        (b"RSTR", ""),
        (b"\0\0\0\0", ""),
    ):
        editor = Editor()
        editor.data[at : at + 4] = header
        assert editor.reason() == reason
    number = PAGING["hiberfil.sys"]
    for attribute, reason in (
        (outside(DATA, mapping_pairs([(None, 16)]), 0, 16, 8192, flags=0x8000), ""),
        (outside(DATA, mapping_pairs([(2119, 16)]), 0, 16, 8192, initialised=0), ""),
        (outside(DATA, mapping_pairs([(2119, 16)]), 0, 16, 8192, flags=1), "compressed"),
        (outside(DATA, mapping_pairs([(2119, 16)]), 0, 16, 8192, flags=0x4000), "encrypted"),
    ):
        editor = Editor()
        editor.data[at : at + 4] = b"hibr"
        editor.replace(number, DATA, attribute)
        assert reason in editor.reason()
        assert bool(reason) == bool(editor.reason())
    editor = Editor()
    editor.replace(number, DATA, inside(DATA, b"hibr"))
    assert "too short" in editor.reason()


def test_class_50_a_hibernation_file_that_cannot_be_read() -> None:
    number = PAGING["hiberfil.sys"]
    for change in (
        lambda editor: editor.patch(number, 22, b"\0\0"),
        lambda editor: editor.patch(number, 16, b"\x09\0"),
        lambda editor: editor.replace(number, DATA, b""),
        lambda editor: editor.data.__setitem__(MFT + number * RECORD, 0),
        lambda editor: editor.data.__setitem__(LEAF, 0),
        lambda editor: editor.data.__setitem__(LEAF + NODE - 1, 0x77),
    ):
        editor = Editor()
        change(editor)
        assert editor.reason()


@pytest.mark.parametrize("cluster", [0, 15, 32, 245, 1535, 1543, 2054, 437, 415, 951, 2055, 2119])
def test_class_50_a_bitmap_that_files_contradict(cluster: int) -> None:
    editor = Editor()
    editor.data[BITMAP + cluster // 8] &= ~(1 << cluster % 8)
    assert editor.reason() == "the bitmap calls clusters free that belong to files"


# Paging files; what is kept of a hibernation file would be all of the one here.


def test_the_beginning_of_a_hibernation_file_is_kept() -> None:
    kept, without = Editor().survey(), Editor().survey(leave_out_paging=True)
    assert set(without.left_out) == set(PAGING) - {"hiberfil.sys"}
    assert without.free.total - kept.free.total == (32 + 12) * 512


@pytest.fixture
def whole_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paging, "_KEPT", 0)


@pytest.mark.usefixtures("whole_files")
def test_paging_files_are_left_out_when_asked() -> None:
    kept, without = Editor().survey(), Editor().survey(leave_out_paging=True)
    assert kept.left_out == ()
    assert set(without.left_out) == set(PAGING)
    assert without.free.total - kept.free.total == (32 + 16 + 12) * 512
    free = np.concatenate(list(without.free.ranges(2055 * 512, 2147 * 512))) // 512
    wanted = [(2055, 8), (2071, 8), (2087, 8), (2103, 8), (2119, 28)]
    assert sum(length for _, length in wanted) == int(free[:, 1].sum())
    assert {tuple(row) for row in free.tolist()} == set(wanted)


@pytest.mark.usefixtures("whole_files")
@pytest.mark.parametrize("name", PAGING)
def test_a_paging_file_that_is_odd_is_kept(name: str) -> None:
    number = PAGING[name]
    count = {"pagefile.sys": 8, "hiberfil.sys": 16, "swapfile.sys": 8}[name]
    for odd in (
        outside(DATA, mapping_pairs([(2071, count)]), 0, count, 4096, flags=1),
        outside(DATA, mapping_pairs([(2071, count)]), 0, count, 4096, flags=0x8000),
        outside(DATA, mapping_pairs([(2071, count - 1), (None, 1)]), 0, count, 4096),
        outside(DATA, mapping_pairs([(2063, count)]), 0, count, 4096),
        outside(DATA, mapping_pairs([(424, count)]), 0, count, 4096),
        outside(DATA, mapping_pairs([(40, count)]), 0, count, 4096),
        inside(DATA, bytes(200)),
    ):
        editor = Editor()
        editor.replace(number, DATA, odd)
        if name == "hiberfil.sys" and editor.reason():
            # Whether Windows is asleep must be known, or all is taken.
            continue
        assert name not in editor.survey(leave_out_paging=True).left_out
    for at, value in ((18, b"\2\0"), (22, b"\3\0")):
        editor = Editor()
        editor.patch(number, at, value)
        left_out = editor.survey(leave_out_paging=True).left_out
        assert set(left_out) == set(PAGING) - {name}


@pytest.mark.usefixtures("whole_files")
def test_paging_files_that_share_clusters_are_kept() -> None:
    editor = Editor()
    attribute = outside(DATA, mapping_pairs([(2119, 16)]), 0, 16, 8192)
    editor.replace(PAGING["swapfile.sys"], DATA, attribute)
    assert editor.survey(leave_out_paging=True).left_out == ()


@pytest.mark.usefixtures("whole_files")
def test_two_files_of_one_name_are_kept() -> None:
    """In another case of letters: Windows would take either, Linux makes both."""
    editor = Editor()
    at = editor.data.index("pages".encode("utf-16-le"), LEAF)
    node = unprotect(bytes(editor.data[LEAF : LEAF + NODE]))
    inside_node = at - LEAF
    name = "PAGEFILE.SYS".encode("utf-16-le")
    # The folder "pages" becomes a second name; what lies behind it in the node moves.
    entry = inside_node - 66 - 16
    length = int.from_bytes(node[entry + 8 : entry + 10], "little")
    grown = -(-(16 + 66 + len(name)) // 8) * 8
    new = bytearray(node[entry:inside_node] + name).ljust(grown, b"\0")
    new[8:10], new[10:12] = grown.to_bytes(2, "little"), (66 + len(name)).to_bytes(2, "little")
    new[16 + 64] = 12
    node[entry : entry + length] = new
    end = int.from_bytes(node[28:32], "little") + grown - length
    node[28:32] = end.to_bytes(4, "little")
    editor.data[LEAF : LEAF + NODE] = protect(bytes(node[:NODE]))
    left_out = editor.survey(leave_out_paging=True).left_out
    assert set(left_out) == set(PAGING) - {"pagefile.sys"}

"""Damage to NTFS, class by class (hostile-inputs): the whole volume is taken, with the reason."""

from __future__ import annotations

import struct

import pytest

from aipimage.volumes.filesystems.ntfs import layout
from aipimage.volumes.fixups import fixed_up
from aipimage.volumes.view import LayoutError
from tests.volumes.ntfs.edited import (
    BASE,
    FLAGS,
    Editor,
    inside,
    list_entry,
    mapping_pairs,
    outside,
    protect,
    unprotect,
)
from tests.volumes.ntfs.small import BITMAP, BOOT, CLUSTERS, FREE, LEAF, MFT, MIRROR, NODE, RECORD

DATA = layout.DATA
BITMAP_AT = BITMAP // 512


def test_the_undamaged_volume_is_read() -> None:
    assert Editor().reason() == ""
    assert Editor().free() == FREE


@pytest.mark.parametrize(
    ("offset", "words", "reason"),
    [
        (48, 0, "fix-ups"),
        (48, 2, "fix-ups"),
        (48, 4, "fix-ups"),
        (48, 0xFFFF, "fix-ups"),
        (0xFFFE, 3, "fix-ups"),
        (1022, 3, "fix-ups"),
        (506, 3, "fix-ups"),
        (47, 3, "fix-ups"),
        (0, 3, "fix-ups"),
        (0xFFFF, 0xFFFF, "fix-ups"),
    ],
)
def test_class_41_fix_ups_past_the_buffer(offset: int, words: int, reason: str) -> None:
    values = struct.pack("<HH", offset, words)
    for at in (MFT, MFT + 6 * RECORD, MFT + 5 * RECORD, MIRROR, LEAF):
        editor = Editor()
        editor.data[at + 4 : at + 8] = values
        assert reason in editor.reason()


def test_class_41_a_torn_record() -> None:
    for number in (0, 1, 2, 3, 5, 6):
        editor = Editor()
        editor.data[MFT + number * RECORD + 1022] ^= 1
        assert "not written as a whole" in editor.reason()


def test_class_41_no_array_changes_itself() -> None:
    for size in (512, 1024, 4096, 65536):
        words = size // 512 + 1
        for offset in range(600):
            data = b"FILE" + struct.pack("<HH", offset, words) + bytes(size - 8)
            try:
                assert len(fixed_up(data, b"FILE", "it")) == size
                assert offset + 2 * words <= 510
            except LayoutError:
                assert offset + 2 * words > 510 or offset < 8 or offset % 2


@pytest.mark.parametrize("number", [0, 2, 3, 5, 6])
@pytest.mark.parametrize(
    ("at", "value"),
    [
        (20, b"\xff\xff"),
        (20, b"\0\0"),
        (20, b"\x08\0"),
        (20, b"\x39\0"),
        (20, b"\xf8\x03"),
        (24, b"\xff\xff\xff\xff"),
        (24, b"\0\0\0\0"),
        (24, b"\x40\0\0\0"),
        (24, b"\x01\x04\0\0"),
        (28, b"\0\0\0\0"),
        (28, b"\0\x08\0\0"),
    ],
)
def test_class_42_offsets_in_a_record(number: int, at: int, value: bytes) -> None:
    editor = Editor()
    editor.patch(number, at, value)
    assert editor.reason()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (4, b"\0\0\0\0"),
        (4, b"\x07\0\0\0"),
        (4, b"\xff\xff\xff\xff"),
        (4, b"\0\x04\0\0"),
        (4, b"\xf8\xff\xff\x7f"),
        (8, b"\x02"),
        (9, b"\xff"),
        (32, b"\xff\xff"),
        (32, b"\0\0"),
        (32, b"\x50\x01"),
    ],
)
def test_class_42_offsets_in_an_attribute(at: int, value: bytes) -> None:
    for number in (0, 1, 2, 6):
        editor = Editor()
        editor.patch(number, at, value, DATA)
        assert editor.reason()


@pytest.mark.parametrize(
    ("at", "value"),
    [(16, b"\xff\xff\xff\xff"), (20, b"\xff\xff"), (16, b"\x40\0\0\0"), (20, b"\x28\0")],
)
def test_class_42_values_that_run_out_of_their_attribute(at: int, value: bytes) -> None:
    for number, kind in ((3, layout.VOLUME_INFORMATION), (5, layout.INDEX_ROOT)):
        editor = Editor()
        editor.patch(number, at, value, kind)
        assert editor.reason()


def _bitmap_by_list(editor: Editor, entries: bytes, *parts: bytes) -> None:
    """Move what tells where $Bitmap lies to record 65, behind an attribute list."""
    editor.new_record(65, 6, *parts)
    editor.replace(6, DATA, inside(layout.ATTRIBUTE_LIST, entries))


def _bitmap_part(instance: int = 9) -> bytes:
    return outside(DATA, mapping_pairs([(BITMAP_AT, 1)]), 0, 1, 384, instance=instance)


def test_class_42_attribute_lists() -> None:
    right = list_entry(DATA, 0, 65, 9)
    good = Editor()
    _bitmap_by_list(good, right, _bitmap_part())
    assert good.free() == FREE
    other_name = bytearray(right)
    other_name[6], other_name[7] = 255, 26
    short, long = bytearray(right), bytearray(right)
    short[4:6], long[4:6] = b"\0\0", b"\0\x01"
    for entries in (
        b"", right[:-7], right + right[:20], bytes(other_name), bytes(short), bytes(long),
        right + right, list_entry(DATA, 1, 65, 9), list_entry(DATA, 0, 65, 8),
        list_entry(DATA, 0, 65, 9, sequence=2), list_entry(DATA, 0, 64, 9),
        list_entry(DATA, 0, 6, 9), list_entry(DATA, 0, 5000, 9), list_entry(DATA, 0, 2**48 - 1, 9),
        list_entry(DATA, 0, 0, 1), list_entry(layout.ATTRIBUTE_LIST, 0, 6, 9),
    ):  # fmt: skip
        editor = Editor()
        _bitmap_by_list(editor, entries, _bitmap_part())
        assert editor.reason(), entries


def test_class_42_a_list_that_names_a_record_of_another_file() -> None:
    for at, value in ((BASE, b"\x07"), (BASE + 6, b"\x55"), (FLAGS, b"\0"), (BASE, bytes(8))):
        editor = Editor()
        _bitmap_by_list(editor, list_entry(DATA, 0, 65, 9), _bitmap_part())
        editor.patch(65, at, value)
        assert editor.reason()


def test_class_42_a_list_that_lies_in_a_hole_or_is_too_long() -> None:
    for pairs, size in (
        (mapping_pairs([(None, 1)]), 32),
        (mapping_pairs([(3000, 1)]), 513),
        (mapping_pairs([(10, 3000)]), 3000 * 512),
    ):
        editor = Editor()
        count = 3000 if size > 1000 else 1
        editor.replace(6, DATA, outside(layout.ATTRIBUTE_LIST, pairs, 0, count, size))
        assert editor.reason()


@pytest.mark.parametrize(
    ("pairs", "reason"),
    [
        (b"\x11\x01\xff\0", "leads out"),
        (b"\x11\x00\x10\0", "a run of 0 clusters"),
        (b"\x11\xff\x10\0", "a run of -1 clusters"),
        (b"\x11\x02\x10\0", "a run of 2 clusters"),
        (b"\x81\x01" + b"\xff" * 7 + b"\x7f\0", "leads out"),
        (b"\x81\x01" + b"\0" * 7 + b"\x80\0", "leads out"),
        (b"\x88" + b"\xff" * 7 + b"\x7f" + b"\x01" * 8 + b"\0", "a run of"),
        (b"\x91\x01" + b"\x01" * 9 + b"\0", "runs out"),
        (b"\x19" + b"\x01" * 9 + b"\x10\0", "runs out"),
        (b"\x21\x01" + (CLUSTERS).to_bytes(2, "little") + b"\0", "leads out"),
        (b"\x10\x05\0", "runs out"),
        (b"\x01\x01\0", "sparse"),
        (b"\0", "0 clusters, and its header says 1"),
        (b"\x43\x01\0\0" + BITMAP_AT.to_bytes(4, "little"), "and its header says 1"),
        (b"\x44" * 20, "a run of"),
        (b"\xff" * 40, "runs out"),
    ],
)
def test_class_43_run_lists_that_wrap_or_go_negative(pairs: bytes, reason: str) -> None:
    editor = Editor()
    # Those without an end mark run to the end of the attribute.
    editor.replace(6, DATA, outside(DATA, pairs, 0, 1, 384))
    assert reason in editor.reason()


def test_class_43_deltas_that_lead_back_are_signed() -> None:
    editor = Editor()
    editor.use(400, 1)
    pairs = mapping_pairs([(BITMAP_AT, 1), (400, 1)])
    assert pairs == b"\x21\x01\xb5\x01\x11\x01\xdb\0"
    editor.replace(6, DATA, outside(DATA, pairs, 0, 2, 384))
    assert editor.free() == FREE - 1


def test_class_43_vcns_and_sizes_that_contradict() -> None:
    pairs = mapping_pairs([(BITMAP_AT, 1)])
    for attribute in (
        outside(DATA, pairs, 1, 1, 384),
        outside(DATA, pairs, -1, 1, 384),
        outside(DATA, pairs, 0, 2, 384),
        outside(DATA, pairs, 0, 1, 384, allocated=1024),
        outside(DATA, pairs, 0, 1, -1),
        outside(DATA, pairs, 0, 1, 513),
        outside(DATA, pairs, 0, 1, 384, initialised=385),
        outside(DATA, pairs, 2**62, 2**61, 384, 1024),
        outside(DATA, pairs, 0, 1, 384, flags=1),
        outside(DATA, pairs, 0, 1, 384, flags=0x8000),
        outside(DATA, pairs, 0, 1, 384, flags=0x4000),
        outside(DATA, pairs, 0, 1, 384, name="x"),
    ):
        editor = Editor()
        editor.replace(6, DATA, attribute)
        assert editor.reason()


def test_class_43_files_of_the_system_that_overlap() -> None:
    editor = Editor()
    editor.replace(6, DATA, outside(DATA, mapping_pairs([(40, 1)]), 0, 1, 384))
    assert editor.reason() == "two files of the system share clusters"


def test_class_43_a_crafted_mft_or_mirror() -> None:
    for number in range(4):
        editor = Editor()
        editor.data[MIRROR + number * RECORD + 18] ^= 1
        assert f"another FILE record {number}" in editor.reason()
    for number, kind in ((0, DATA), (1, DATA)):
        editor = Editor()
        at = editor.find(number, kind)[0]
        first = editor.record(number)[at + 64 : at + 70]
        editor.patch(number, 64, first[:2] + bytes([first[2] ^ 1]) + first[3:], kind)
        assert editor.reason()
    editor = Editor()
    editor.replace(0, DATA, outside(DATA, mapping_pairs([(32, 1), (40, 213)]), 0, 214, 99 * 1024))
    assert editor.reason()


def test_class_43_boot_sectors() -> None:
    for at, value in (
        (11, b"\0\0"), (11, b"\x01\x02"), (11, b"\0\x20"), (13, b"\0"), (13, b"\x03"),
        (13, b"\x81"), (13, b"\xf3"), (13, b"\xf0"), (13, b"\xf4"), (40, b"\0" * 8),
        (40, b"\xff" * 8),
        (40, (1 << 40).to_bytes(8, "little")), (40, (3073).to_bytes(8, "little")),
        (48, b"\xff" * 8), (48, b"\x21" + bytes(7)), (48, bytes(8)), (56, b"\xff" * 8),
        (56, b"\x20" + bytes(7)), (64, b"\0"), (64, b"\x80"), (64, b"\xe0"), (64, b"\x7f"),
        (64, b"\xf7"), (64, b"\x03"), (64, b"\x04"),
    ):  # fmt: skip
        editor = Editor()
        editor.data[BOOT + at : BOOT + at + len(value)] = value
        assert editor.reason(), (at, value)


def test_class_44_an_under_sized_bitmap() -> None:
    pairs = mapping_pairs([(BITMAP_AT, 1)])
    for size, initialised in ((383, 383), (0, 0), (8, 8), (384, 383), (384, 0)):
        editor = Editor()
        editor.replace(6, DATA, outside(DATA, pairs, 0, 1, size, initialised=initialised))
        assert (
            editor.reason() == f"the bitmap is {initialised} bytes long where its volume needs 384"
        )
    editor = Editor()
    editor.replace(6, DATA, outside(DATA, b"\0", 0, 0, 0))
    assert "0 bytes" in editor.reason()
    editor = Editor()
    # A volume that grew, whose bitmap did not.
    editor.data += bytes(512 * 512)
    editor.data[40:48] = (CLUSTERS + 512).to_bytes(8, "little")
    assert "384 bytes long where its volume needs 448" in editor.reason()


def test_class_45_names_are_counted_in_words() -> None:
    length = Editor().find(5, layout.INDEX_ROOT)[1]
    # "$I30" is four characters, eight bytes: as many bytes as the first of these would still fit.
    for characters in (length - 24, length // 2, 255, 8, 2):
        changed = Editor()
        changed.patch(5, 9, bytes([min(characters, 255)]), layout.INDEX_ROOT)
        assert changed.reason()


def test_class_45_a_name_of_an_entry_that_runs_out_of_its_key() -> None:
    # The first entry of the root's first node: its key begins at byte 16, the name's length is
    # the 65th byte of that; as bytes 255 characters would fit, as words they do not.
    first = LEAF + 24 + int.from_bytes(Editor().data[LEAF + 24 : LEAF + 28], "little")
    editor = Editor()
    key = int.from_bytes(editor.data[first + 10 : first + 12], "little")
    editor.data[first + 16 + 64] = key - 66
    assert "a name in the index" in editor.reason()
    editor.data[first + 16 + 64] = (key - 66) // 2 + 1
    assert "a name in the index" in editor.reason()


def test_class_45_an_update_sequence_array_is_counted_in_words() -> None:
    for words in (2, 6):  # bytes of one sector, and bytes where three words are needed
        editor = Editor()
        editor.data[MFT + 6 : MFT + 8] = words.to_bytes(2, "little")
        assert "fix-ups" in editor.reason()


def _root_with_last_child(child: int) -> Editor:
    """The end of the root directory's index leads to another node."""
    editor = Editor()
    at, length = editor.find(5, layout.INDEX_ROOT)
    editor.patch(5, at + length - 8, child.to_bytes(8, "little"))
    return editor


def test_the_root_directory_is_a_tree() -> None:
    assert _root_with_last_child(16).reason() == ""
    for child in (0, 8, 7, 17, 24, 1 << 40, (1 << 64) - 1):
        assert _root_with_last_child(child).reason(), child


def test_a_node_that_leads_to_itself() -> None:
    editor = Editor()
    node = unprotect(bytes(editor.data[LEAF : LEAF + NODE]))
    first = 24 + int.from_bytes(node[24:28], "little")
    length = int.from_bytes(node[first + 8 : first + 10], "little")
    # The first entry becomes the end, and has the node itself as its child.
    node[first + 10 : first + 14] = b"\0\0\x03\0"
    node[first + length - 8 : first + length] = (16).to_bytes(8, "little")
    editor.data[LEAF : LEAF + NODE] = protect(bytes(node))
    assert editor.reason() == "the index of the root directory is not a tree"


def test_names_out_of_order() -> None:
    editor = Editor()
    at = editor.data.index("another".encode("utf-16-le"), LEAF)
    editor.data[at : at + 2] = b"z\0"
    assert editor.reason() == "the index of the root directory is not in order"

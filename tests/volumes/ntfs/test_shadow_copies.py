"""Volume shadow copies read what the live file system calls free: such volumes are taken whole."""

from __future__ import annotations

from pathlib import Path

import pytest

import aipimage
from tests.volumes.ntfs.edited import Editor
from tests.volumes.ntfs.small import FREE, small_volume

HEADER_AT = 0x1E00
IDENTIFIER = bytes.fromhex("6b87083876c1484eb7ae04046e6cc752")
OWN, OTHER, NONE = b"\x11" * 16, b"\x22" * 16, bytes(16)
WHY = "shadow copies (VSS) in it may need what its file system calls free"


def header(catalogue: int, storage: bytes = OWN, version: int = 1, kind: int = 1) -> bytes:
    """The volume header as Windows writes it, in 512 bytes."""
    numbers = version.to_bytes(4, "little") + kind.to_bytes(4, "little")
    places = (HEADER_AT, HEADER_AT, 0, catalogue, 300 << 20)
    return (
        IDENTIFIER
        + numbers
        + b"".join(place.to_bytes(8, "little") for place in places)
        + OWN
        + storage
    ).ljust(512, b"\0")


def catalogue(*kinds: int) -> bytes:
    """A block of the catalogue with entries of these kinds: 1 unused, 2 and 3 a shadow copy."""
    block = IDENTIFIER + (1).to_bytes(4, "little") + (2).to_bytes(4, "little") + bytes(104)
    entries = b"".join(kind.to_bytes(8, "little").ljust(128, b"\5") for kind in kinds)
    return (block + entries).ljust(0x4000, b"\0")


def volume(head: bytes, blocks: bytes = b"") -> bytes:
    """A small NTFS volume with shadow copies; the catalogue lies where a file could."""
    data = small_volume()
    data[HEADER_AT : HEADER_AT + len(head)] = head
    data[0x100000 : 0x100000 + len(blocks)] = blocks
    return bytes(data)


def test_a_volume_with_shadow_copies_is_taken_whole_and_says_so(tmp_path: Path) -> None:
    source, image, back = tmp_path / "c.img", tmp_path / "c.aiv", tmp_path / "c.out"
    data = bytearray(volume(header(0x100000), catalogue(2, 3, 1)))
    # What was deleted, and lies in a cluster that the shadow copy still reads.
    data[2600 * 512 : 2601 * 512] = b"deleted!" * 64
    source.write_bytes(data)
    result = aipimage.create(image, source)
    assert any(WHY in warning for warning in result.warnings)
    with aipimage.open(image) as opened:
        assert opened.volumes[0].whole_because == WHY
        assert opened.volumes[0].used == len(data)
        opened.restore(back)
    assert back.read_bytes() == data


def test_without_shadow_copies_what_is_free_is_left_out(tmp_path: Path) -> None:
    source = tmp_path / "c.img"
    source.write_bytes(volume(header(0)))
    (found,) = aipimage.survey(source).volumes
    assert (found.whole_because, found.used) == ("", len(small_volume()) - FREE * 512)


@pytest.mark.parametrize(
    "head",
    [
        header(0x100000),
        header(0x100000, version=2),
        header(1 << 60),
        header(0, storage=OTHER),
        header(0, version=3),
        header(0, kind=0),
    ],
    ids=[
        "a catalogue",
        "version 2",
        "out of the volume",
        "kept on another volume",
        "unknown",
        "no header",
    ],
)
def test_every_doubt_about_shadow_copies(head: bytes) -> None:
    editor = Editor()
    editor.data[HEADER_AT : HEADER_AT + len(head)] = head
    assert editor.reason() == WHY


@pytest.mark.parametrize("head", [header(0, storage=NONE), header(0), bytes(512)])
def test_no_doubt(head: bytes) -> None:
    editor = Editor()
    editor.data[HEADER_AT : HEADER_AT + len(head)] = head
    assert editor.reason() == ""


def test_paging_files_are_kept_too_where_shadow_copies_may_read_them(tmp_path: Path) -> None:
    source, image = tmp_path / "c.img", tmp_path / "c.aiv"
    source.write_bytes(volume(header(0x100000), catalogue(2)))
    aipimage.create(image, source, leave_out_paging=True)
    with aipimage.open(image) as opened:
        assert opened.volumes[0].left_out == ()

"""Volume shadow copies read what the live file system calls free: that is kept too."""

from __future__ import annotations

import contextlib
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import numpy.typing as npt
import pytest

import aipimage
from aipimage.errors import RequestError, UnsupportedError
from aipimage.io.blocks.sources import open_source
from aipimage.volumes.restoring.limits import limits_of
from aipimage.volumes.survey import survey
from tests.support.surveyed import digests, write_files
from tests.support.tools import PATH, require_programs
from tests.volumes.ntfs.edited import Editor
from tests.volumes.ntfs.made import MIB, make, ntfs_3g, require_ntfs
from tests.volumes.ntfs.small import FREE, small_volume
from tests.volumes.shadowcopies.built import BLOCK, HEADER_AT, Copy, put, volume_header

WHY = "its shadow copies (VSS) are not understood: "
MARK = b"a place for shadow copies"
Bools = npt.NDArray[np.bool_]


def bitmap(volume: Path) -> Bools:
    """Which blocks of 16 KiB have a cluster in use, as ntfscat reads $Bitmap."""
    words = ["ntfscat", "-f", str(volume), "$Bitmap"]
    done = subprocess.run(words, check=True, stdout=subprocess.PIPE, env={"PATH": PATH})
    bits = np.unpackbits(np.frombuffer(done.stdout, np.uint8), bitorder="little")
    clusters = volume.stat().st_size // 4096
    return bits[:clusters].astype(np.bool_).reshape(-1, BLOCK // 4096).any(axis=1)


def packed(unused: Bools) -> bytes:
    return np.packbits(unused, bitorder="little").tobytes()


class Made:
    """A volume with two shadow copies, made from what it was at three moments.

    Attributes:
        path: of the volume. states: its bytes at the moments. contents: digests of the files.
        used: blocks in use. own: blocks of the stores.
    """

    def __init__(self, tmp_path: Path, seed: int, size: int = 64 * MIB) -> None:
        self.path = make(tmp_path / "volume", size, "-c", "4096")
        self._chance, self._at = Random(seed), tmp_path / "at"
        self.states: list[bytes] = []
        self.contents: list[dict[str, str]] = []
        self.used: list[Bools] = []
        for step in range(3):
            with ntfs_3g(self.path, self._at) as at:
                self._use(at, step)
                self.contents.append(digests(at))
            self.states.append(self.path.read_bytes())
            self.used.append(bitmap(self.path))
        self.own = self._own()
        self._put()

    def _use(self, at: Path, step: int) -> None:
        if not step:
            (at / "store").write_bytes(MARK.ljust(4096, b"!") * (12 * MIB // 4096))
        for path in sorted(at.glob("files*/*")):
            what = self._chance.randrange(4)
            if what == 0:
                path.unlink()
            elif what == 1:
                with path.open("r+b") as file:
                    file.write(self._chance.randbytes(5000))
        write_files(at / f"files{step}", self._chance, "a", 60, 200_000)

    def _own(self) -> list[int]:
        """The blocks of the file that was made for the stores."""
        data = np.frombuffer(self.states[2], np.uint8).reshape(-1, 4096)
        wanted = np.frombuffer(MARK.ljust(4096, b"!"), np.uint8)
        found = (data == wanted).all(axis=1).reshape(-1, BLOCK // 4096).all(axis=1)
        return np.flatnonzero(found).tolist()

    def _put(self) -> None:
        """Copy what was overwritten, as Windows does before each write."""
        volume = bytearray(self.states[2])
        area: Iterator[int] = iter([number * BLOCK for number in self.own])
        mine = np.zeros(len(volume) // BLOCK, np.bool_)
        mine[self.own] = True
        copies = []
        for step in range(2):
            before, after = (
                np.frombuffer(state, np.uint8).reshape(-1, BLOCK)
                for state in self.states[step:][:2]
            )
            needed = np.any(self.used[: step + 1], axis=0)
            changed = (before != after).any(axis=1) & needed & ~mine
            rows = []
            for number in np.flatnonzero(changed).tolist():
                place = next(area)
                volume[place : place + BLOCK] = before[number].tobytes()
                rows.append((number * BLOCK, len(rows) * BLOCK, place, 0, 0))
            unused = packed(~self.used[step] | mine)
            copies.append(Copy(rows, unused, packed(~self.used[0] | mine) if step else None))
        put(volume, area, copies)
        self.path.write_bytes(volume)

    def compare(self, content: bytes, step: int) -> None:
        """A copy has all blocks that were in use."""
        found, wanted = (
            np.frombuffer(data, np.uint8).reshape(-1, BLOCK).copy()
            for data in (content, self.states[step])
        )
        for data in (found, wanted):
            data[0, HEADER_AT : HEADER_AT + 512] = 0
        there = self.used[step].copy()
        there[self.own] = False
        assert np.array_equal(found[there], wanted[there])


def by_libvshadow(path: Path) -> list[bytes]:
    """The content of all copies."""
    pyvshadow = pytest.importorskip("pyvshadow")
    opened = pyvshadow.volume()
    opened.open(str(path))
    found = []
    for number in range(opened.get_number_of_stores()):
        store = opened.get_store(number)
        parts = iter(lambda store=store: store.read_buffer(MIB), b"")  # type: ignore[misc]
        found.append(b"".join(parts))
    opened.close()
    return found


@pytest.mark.parametrize("seed", [1, 2])
def test_files_of_every_copy_after_a_restore(tmp_path: Path, seed: int) -> None:
    """Of the live volume and of its copies all files are whole, and free space is left out."""
    same_after_restore(tmp_path, seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 23))
def test_files_of_every_copy_of_more_volumes(tmp_path: Path, seed: int) -> None:
    same_after_restore(tmp_path, seed)


def same_after_restore(tmp_path: Path, seed: int) -> None:
    require_ntfs()
    require_programs("ntfscat")
    made = Made(tmp_path, seed)
    image, back = tmp_path / "v.aiv", tmp_path / "back"
    result = aipimage.create(image, made.path)
    assert not result.warnings
    with aipimage.open(image) as opened:
        (volume,) = opened.volumes
        assert volume.whole_because == ""
        assert volume.used < volume.size * 3 // 4
        (note,) = volume.notes
        assert note.startswith("its 2 shadow copies are kept: ")
        assert not note.startswith("its 2 shadow copies are kept: 0 ")
        for step, copy in enumerate(volume.shadow_copies):
            content = bytearray(copy.size)
            copy.source.read_into(content, 0)
            made.compare(content, step)
            assert copy.identifier == str(uuid.UUID(bytes=bytes([step + 1]) * 16))
            assert copy.created.year == 2022
        opened.restore(back)
    with ntfs_3g(back, tmp_path / "at", "ro") as at:
        assert digests(at).keys() == made.contents[2].keys()
        assert {name: digest for name, digest in digests(at).items() if name != "store"} == {
            name: digest for name, digest in made.contents[2].items() if name != "store"
        }
    for step, content in enumerate(by_libvshadow(back)):
        made.compare(content, step)
        dumped = tmp_path / "dumped"
        dumped.write_bytes(content)
        with ntfs_3g(dumped, tmp_path / "at", "ro") as at:
            found = digests(at)
        wanted = made.contents[step]
        assert {name for name in found if found[name] != wanted.get(name)} <= {"store"}
        assert found.keys() == wanted.keys()


# By hand.


def volume_with(head: bytes) -> bytes:
    """A small NTFS volume with the header of shadow copies."""
    data = small_volume()
    data[HEADER_AT : HEADER_AT + len(head)] = head
    return bytes(data)


def test_copies_that_are_not_understood_take_the_whole_volume(tmp_path: Path) -> None:
    source, image, back = tmp_path / "c.img", tmp_path / "c.aiv", tmp_path / "c.out"
    data = bytearray(volume_with(volume_header(0x100000)))
    # What was deleted, and lies in a cluster that the shadow copy still reads.
    data[2600 * 512 : 2601 * 512] = b"deleted!" * 64
    source.write_bytes(data)
    result = aipimage.create(image, source)
    assert any(WHY in warning for warning in result.warnings)
    with aipimage.open(image) as opened:
        (volume,) = opened.volumes
        assert volume.whole_because.startswith(WHY)
        assert volume.used == len(data)
        with pytest.raises(UnsupportedError, match="its shadow copies cannot be read"):
            _ = volume.shadow_copies
        opened.restore(back)
    assert back.read_bytes() == data


def test_without_shadow_copies_what_is_free_is_left_out(tmp_path: Path) -> None:
    source, image = tmp_path / "c.img", tmp_path / "c.aiv"
    source.write_bytes(volume_with(volume_header(0)))
    (found,) = aipimage.survey(source).volumes
    assert (found.whole_because, found.used) == ("", len(small_volume()) - FREE * 512)
    with pytest.raises(RequestError, match="of an opened image"):
        _ = found.shadow_copies
    aipimage.create(image, source)
    with aipimage.open(image) as opened:
        assert opened.volumes[0].shadow_copies == ()


@pytest.mark.parametrize(
    "head",
    [
        volume_header(0x100000),
        volume_header(0x100000, version=2),
        volume_header(1 << 60),
        volume_header(0, storage=b"\x22" * 16),
        volume_header(0, version=3),
        volume_header(0, kind=0),
    ],
    ids=[
        "no catalogue there",
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
    assert editor.reason().startswith(WHY)


@pytest.mark.parametrize(
    "head", [volume_header(0, storage=bytes(16)), volume_header(0), bytes(512)]
)
def test_no_doubt(head: bytes) -> None:
    editor = Editor()
    editor.data[HEADER_AT : HEADER_AT + len(head)] = head
    assert editor.reason() == ""


def small_with_copy() -> bytearray:
    """A small volume whose copy has everything in place; the stores lie where nothing is."""
    data = small_volume()
    area = iter(range(80 * BLOCK, 94 * BLOCK, BLOCK))
    put(data, area, [Copy([], bytes(len(data) // BLOCK // 8 + 1))])
    return data


def test_paging_files_are_kept_too_where_shadow_copies_may_read_them(tmp_path: Path) -> None:
    source, image = tmp_path / "c.img", tmp_path / "c.aiv"
    source.write_bytes(small_with_copy())
    aipimage.create(image, source, leave_out_paging=True)
    with aipimage.open(image) as opened:
        assert opened.volumes[0].left_out == ()
        assert opened.volumes[0].whole_because == ""
        assert opened.volumes[0].notes[0].startswith("its shadow copy is kept: ")
        (copy,) = opened.volumes[0].shadow_copies
        content = bytearray(copy.size)
        copy.source.read_into(content, 0)
    assert content == source.read_bytes()


def test_a_copy_whose_own_bitmap_cannot_be_read(tmp_path: Path) -> None:
    """Its block 0 is kept, and holds nothing."""
    data = small_volume()
    area = iter(range(80 * BLOCK, 94 * BLOCK, BLOCK))
    empty = next(area)
    put(data, area, [Copy([(0, 0, empty, 0, 0)], bytes(len(data) // BLOCK // 8 + 1))])
    source = tmp_path / "c.img"
    source.write_bytes(data)
    (found,) = aipimage.survey(source).volumes
    assert found.whole_because.startswith(WHY)


def test_a_volume_with_shadow_copies_stays_as_large_as_it_is(tmp_path: Path) -> None:
    """Made smaller, its clusters would move, and the copies read them where they were."""
    path = tmp_path / "c.img"
    for data, why in ((small_volume(), ""), (small_with_copy(), "its shadow copies read clusters")):
        path.write_bytes(data)
        with contextlib.closing(open_source(path)) as source:
            (volume,) = survey(source).volumes
            assert limits_of(source, volume).why.startswith(why)
            assert bool(limits_of(source, volume).why) == bool(why)

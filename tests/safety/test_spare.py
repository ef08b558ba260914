"""What is written once is kept a second time: damage in either place costs nothing (docs/format.md,
section 10.1).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

import aipimage
from aipimage.errors import AipImageError, FormatError, IntegrityError
from aipimage.format.record import NO_REFERENCE
from aipimage.io.checking.keyless import verify_keyless
from aipimage.io.stream.spare import metadata_copies
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import Image, open_image
from tests.support.ends import GAP, TRAILER, records_end, trailer_copy
from tests.support.images import remember_derivations
from tests.support.memory import ROOT, MemorySystem
from tests.vectors import kit

PATH = f"{ROOT}/image.aiv"
NAMES = ("plain", "zstd", "resumed", "resumed-aes-256", "authenticated")
PARTS = ("core", "description", "result", "segments", "seal", "trailer")


class Kept(NamedTuple):
    """Where something lies twice."""

    what: str
    length: int
    original: int
    copy: int


class Subject:
    """A frozen vector in memory."""

    def __init__(self, name: str) -> None:
        [self.data] = kit.files(f"good-{name}").values()
        self.says = kit.header(f"good-{name}")
        self.system = MemorySystem({PATH: self.data})
        self.storage = Storage(self.system)
        remember_derivations()
        with self.open() as image:
            self.kept = {each.what: each for each in _kept(image)}

    def open(self) -> Image:
        return open_image(PATH, self.says["password"], storage=self.storage)

    def put(self, *flipped: int) -> None:
        """The vector with some bytes changed."""
        data = bytearray(self.data)
        for at in flipped:
            data[at] ^= 0x21
        self.system.files[PATH] = data

    def check_content(self, image: Image) -> None:
        found = [sha256(device.open().readall()).hexdigest() for device in image.devices]
        assert found == self.says["devices"]


def _kept(image: Image) -> Iterator[Kept]:
    trailer, seal = image.trailer, image.seal
    copies = metadata_copies(trailer, seal.description, seal.result)
    yield Kept("core", image.header.core_length, 0, trailer.core_copy)
    for what, ref, copy in zip(
        ("description", "result"), image.metadata_records.references, copies, strict=True
    ):
        yield Kept(what, ref.record_length, image.locate(ref), copy)
    if trailer.segments != NO_REFERENCE:
        ref = trailer.segments
        yield Kept("segments", ref.record_length, ref.offset, trailer.segments_copy)
    yield Kept("seal", trailer.seal.record_length, trailer.seal.offset, trailer.seal_copy)
    size = image.stream.size
    yield Kept("trailer", TRAILER, size - TRAILER, trailer_copy(bytes(size)))


@cache
def subject(name: str) -> Subject:
    return Subject(name)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", PARTS)
@pytest.mark.parametrize("side", ["original", "copy"])
def test_any_flipped_byte_costs_nothing(name: str, what: str, side: str) -> None:
    """Every byte: it opens as the same image, with all that it says of itself. Some: all content,
    and both verifications tell where.
    """
    it = subject(name)
    if what not in it.kept:
        pytest.skip("it has no segments")
    kept = it.kept[what]
    start = kept.original if side == "original" else kept.copy
    it.put()
    with it.open() as image:
        told, metadata = (image.trailer, image.header, image.seal), image.metadata
    for at in range(kept.length):
        it.put(start + at)
        with it.open() as image:
            assert (image.trailer, image.header, image.seal) == told
            assert image.metadata == metadata
            _warned(image, what if side == "original" else None)
            if at % 97 == 0:
                it.check_content(image)
                _tells(image.verify(threads=1).damage, what)
                _tells(verify_keyless(PATH, threads=1, storage=it.storage).damage, None)


def _warned(image: Image, what: str | None) -> None:
    """Of what was read from its copy, and of nothing else."""
    word = {"core": "header", "segments": "segments record", None: ""}.get(what, what)
    word = "metadata" if word in ("description", "result") else word
    said = f"{PATH}: its {word} is damaged and was read from its copy; repair the image"
    assert len(image.warnings) == (what is not None)
    assert all(each.startswith(said) for each in image.warnings)


def _tells(damage: tuple[aipimage.Damage, ...], what: str | None) -> None:
    assert damage
    if what is not None:
        word = {"core": "header", "segments": "segments record"}.get(what, what)
        assert any(word in each.what and "reads whole" in each.what for each in damage), damage


@pytest.mark.parametrize("name", NAMES)
def test_the_gaps_are_looked_at(name: str) -> None:
    it = subject(name)
    for start in (records_end(it.data), len(it.data) - TRAILER - GAP):
        for at in (start, start + 7, start + GAP - 1):
            it.put(at)
            with it.open() as image:
                assert not image.verify(threads=1).ok
            assert not verify_keyless(PATH, threads=1, storage=it.storage).ok


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["core", "segments", "seal", "trailer"])
def test_damage_in_both_places_is_named(name: str, what: str) -> None:
    it = subject(name)
    if what not in it.kept:
        pytest.skip("it has no segments")
    kept = it.kept[what]
    it.put(kept.original + kept.length - 1, kept.copy + kept.length - 1)
    with pytest.raises((FormatError, IntegrityError)) as caught:
        it.open()
    assert str(caught.value).startswith(PATH)
    assert "repair" in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["description", "result"])
def test_metadata_lost_in_both_places_stops_nothing(name: str, what: str, tmp_path: Path) -> None:
    it = subject(name)
    kept = it.kept[what]
    it.put(kept.original + 60, kept.copy + 60)
    with it.open() as image:
        assert image.metadata[what] == {}
        [warning] = image.warnings
        assert warning.startswith(PATH)
        assert what in warning
        assert "repair" in warning
        it.check_content(image)
        assert not image.verify(threads=1).ok
        image.restore(str(tmp_path / "out"), device=0, threads=1)
    assert sha256((tmp_path / "out").read_bytes()).hexdigest() == it.says["devices"][0]


@pytest.mark.parametrize("name", NAMES)
def test_a_lost_sector_in_the_spare_area_or_before_it(name: str) -> None:
    """A bad block of 4 KiB anywhere takes at most one of two."""
    it = subject(name)
    low = it.kept["seal"].original
    for start in range(low - low % 512, len(it.data), 512):
        data = bytearray(it.data)
        data[start : start + 4096] = bytes(len(data[start : start + 4096]))
        it.system.files[PATH] = data
        with contextlib.ExitStack() as stack:
            if start < low:
                # Tables and pages of so small an image lie beside its seal.
                stack.enter_context(contextlib.suppress(AipImageError))
            it.check_content(stack.enter_context(it.open()))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", PARTS)
def test_a_repaired_image_is_whole_again(name: str, what: str, tmp_path: Path) -> None:
    it = subject(name)
    if what not in it.kept:
        pytest.skip("it has no segments")
    kept = it.kept[what]
    it.put(kept.original + kept.length // 2)
    broken, out = tmp_path / "broken.aiv", tmp_path / "out.aiv"
    broken.write_bytes(it.system.files[PATH])
    result = aipimage.repair(broken, out, password=it.says["password"])
    assert result.lost_bytes == 0
    with aipimage.open(out, it.says["password"]) as image:
        it.check_content(image)
        assert image.metadata["description"]["created"] == "2023-11-14T22:13:20Z"
        assert image.verify().ok
    assert aipimage.verify_keyless(out).ok


@pytest.mark.parametrize("name", NAMES)
def test_a_cut_stream_is_incomplete(name: str) -> None:
    """Also where it is cut right behind the copy of the trailer, or at its start."""
    it = subject(name)
    size, copy = len(it.data), trailer_copy(it.data)
    for end in (size - 1, size - TRAILER, copy + TRAILER, copy, records_end(it.data), size - 4096):
        it.system.files[PATH] = bytearray(it.data[:end])
        with pytest.raises(aipimage.IncompleteError):
            it.open()
    it.system.files[PATH] = bytearray(it.data + b"\0" * 10)
    with pytest.raises(aipimage.IncompleteError):
        it.open()

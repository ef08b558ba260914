"""Verification and restoring agree: what verifies comes back bit by bit, and what does not come
back does not verify; whatever of a chain was changed, with every digest made anew.
"""

from __future__ import annotations

import contextlib
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import pytest

from aipimage.errors import AipImageError
from aipimage.format.constants import RecordType
from aipimage.format.origins import OriginEntry
from aipimage.format.record import encode_reference
from aipimage.io.merge.job import merge_images
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.safety.chainforge import ChainForger, RecordChange
from tests.support.fields import CORE, TRAILER, Field, boundary_values, fields_of
from tests.support.forge import Change, Record, origin_places, put
from tests.support.images import password_of, remember_derivations
from tests.support.memory import ROOT, MemorySystem
from tests.support.memorychains import Disk, at, make

NAMES = ("a", "b", "c")
SIZE = (2 << 20) + 65_536 * 3 + 700
"""Three stripes, the last one short, and a block that ends inside of a sector."""
TARGET = f"{ROOT}/restored"


@dataclass(frozen=True)
class Chain:
    """A full image and two increments of one disk, and what it held at last."""

    files: tuple[bytes, ...]
    content: bytes
    protected: str

    @property
    def password(self) -> str | None:
        return password_of(self.protected)

    @property
    def forger(self) -> ChainForger:
        return ChainForger(self.files, _keys(self))


def _keys(chain: Chain) -> Any:
    if chain.password is None:
        return None
    with opened(chain.files, chain, "c") as image:
        return image.keys


def opened(files: Sequence[bytes], chain: Chain, name: str) -> Any:
    system = MemorySystem({at(f"{n}.aiv"): each for n, each in zip(NAMES, files, strict=True)})
    return open_image(at(f"{name}.aiv"), chain.password, storage=Storage(system))


@cache
def chain_of(protected: str, layers: bool = True) -> Chain:
    """Data of all kinds; changes within a block, over several, to zeros, and at the end."""
    remember_derivations()
    chance = random.Random(5)
    data = bytearray(SIZE)
    for start in range(0, SIZE, 200_000):
        piece = chance.randbytes(40_000) + b"text " * 9_000
        data[start : start + len(piece)] = piece[: SIZE - start]
    data[-300:] = chance.randbytes(300)
    disk, system = Disk(bytes(data)), MemorySystem()
    make(system, "a.aiv", [disk], None, protected, block_digests=layers)
    for number, (name, parent) in enumerate((("b", "a"), ("c", "b")), 1):
        for start in (4096 * number, 300_000 * number, 1_900_000 + 9000 * number):
            disk.write(start, chance.randbytes(6000))
        disk.write(600_000 * number, bytes(5000))
        disk.write(SIZE - 200 * number, chance.randbytes(100))
        more: dict[str, Any] = {"encrypt": None} if password_of(protected) else {}
        more["block_digests"] = layers
        make(system, f"{name}.aiv", [disk], f"{parent}.aiv", protected, **more)
    files = tuple(bytes(system.files[at(f"{name}.aiv")]) for name in NAMES)
    return Chain(files, disk.content(), protected)


class Verdict(NamedTuple):
    """``restored``: what a restore gave, or the error. ``found``: what verification found."""

    restored: bytes | AipImageError
    found: str


def verdict(chain: Chain, files: Sequence[bytes | None], name: str = "c") -> Verdict:
    """Verify an image with its chain, and restore it, each from files that nobody has open."""
    there = {at(f"{n}.aiv"): f for n, f in zip(NAMES, files, strict=True) if f is not None}
    found = ""
    try:
        storage = Storage(MemorySystem(there))
        with open_image(at(f"{name}.aiv"), chain.password, storage=storage) as image:
            result = image.verify(chain=True, threads=1)
            found = "" if result.ok else str(result.damage[0])
    except AipImageError as error:
        found = str(error)
    system = MemorySystem(there)
    storage = Storage(system)
    try:
        with open_image(at(f"{name}.aiv"), chain.password, storage=storage) as image:
            image.restore(TARGET, threads=1, storage=storage)
        return Verdict(bytes(system.files[TARGET]), found)
    except AipImageError as error:
        return Verdict(error, found)


def check(chain: Chain, files: Sequence[bytes | None], what: object) -> bool:
    """Both agree; return whether the chain is whole."""
    found = verdict(chain, files)
    if isinstance(found.restored, AipImageError):
        assert found.found, (what, found.restored)
        return False
    if not found.found:
        assert found.restored == chain.content, (what, "other data, and verification says whole")
    return not found.found


@pytest.mark.parametrize("protected", ["plain", "zstd", "aes"])
def test_whole(protected: str) -> None:
    """The forger changes nothing where it is asked for nothing."""
    chain = chain_of(protected)
    assert check(chain, chain.files, "as they are")
    forged = chain.forger.forge(0)
    if protected == "plain":
        assert tuple(forged) == chain.files
    assert check(chain, forged, "as forged")


# Fields


class Mutation(NamedTuple):
    """What is forged: of a file, and of a record, its core or its trailer."""

    file: int
    record: int | None
    field: Field
    value: bytes
    part: str

    def apply(self, forger: ChainForger) -> list[bytes]:
        change: Change = put(self.field.at, self.value)
        if self.part == "core":
            return forger.forge(self.file, core=change)
        if self.part == "trailer":
            return forger.forge(self.file, trailer=change)
        return forger.forge(self.file, self.record, _on_plain(change))


def _on_plain(change: Change) -> RecordChange:
    return lambda record: replace(record, plain=change(record.plain))


def mutations(forger: ChainForger) -> Iterator[Mutation]:
    """Every field of every structure, with values at the edges."""
    for number, file in enumerate(forger.files):
        for field in CORE[3:]:
            if field.at + field.size <= len(file.core) - 64:
                old = file.core[field.at : field.at + field.size]
                yield from (Mutation(number, None, field, v, "core") for v in boundary_values(old))
        for field in TRAILER:
            old = file.data[-256:][field.at : field.at + field.size]
            for value in boundary_values(old):
                yield Mutation(number, None, field, value, "trailer")
        for index, record in enumerate(file.records):
            for field in _fields(record):
                old = record.plain[field.at : field.at + field.size]
                for value in boundary_values(old):
                    yield Mutation(number, index, field, value, "record")


def _fields(record: Record) -> Iterator[Field]:
    if record.type == RecordType.DIGEST_LAYER:
        yield from (Field("limit", 128, 8), Field("entries", 136, 8), Field("depth", 144, 4))
    elif record.type == RecordType.LAYER_LEAF:
        yield from (Field("first", 0, 8), Field("count", 8, 4), Field("block", 16, 8))
        yield Field("digest", len(record.plain) - 16, 16)
    elif record.type not in (RecordType.FRAME, RecordType.METADATA, RecordType.SEGMENTS):
        yield from fields_of(record)


def _tried(protected: str, count: int) -> None:
    chain = chain_of(protected)
    forger = chain.forger
    every = list(mutations(forger))
    whole = 0
    for mutation in random.Random(count).sample(every, min(count, len(every))):
        whole += check(chain, mutation.apply(forger), mutation)
    assert whole < count // 2, "most changes are found"


@pytest.mark.parametrize("protected", ["plain", "aes"])
def test_fields(protected: str) -> None:
    """Some of all fields of headers, trailers, seals, pages, tables and digests."""
    _tried(protected, 60)


@pytest.mark.long
@pytest.mark.parametrize("protected", ["plain", "zstd", "aes", "auth"])
def test_all_fields(protected: str) -> None:
    _tried(protected, 1 << 30)


@pytest.mark.parametrize("field", ["frame_shift", "stripe_shift", "fanout_shift", "suite"])
@pytest.mark.parametrize("file", [0, 1, 2])
@pytest.mark.parametrize("protected", ["plain", "aes"])
def test_class_of_sizes(protected: str, file: int, field: str) -> None:
    """An image whose header counts otherwise than those of its chain (section 3)."""
    chain = chain_of(protected)
    forger = chain.forger
    place = next(each for each in CORE if each.name == field)
    old = forger.files[file].core[place.at]
    for value in {old - 1, old + 1, 0, 1, 2, 3} & set(range(256)) - {old}:
        files = forger.forge(file, core=put(place.at, bytes([value])))
        assert not check(chain, files, (field, value))


# Frames, their tables and extents


def frames(forger: ChainForger, file: int) -> list[int]:
    return forger.files[file].indexes(RecordType.FRAME)


@pytest.mark.parametrize("file", [0, 1, 2])
def test_extents_elsewhere(file: int) -> None:
    """A frame says that its sectors are from another place, or another device (section 6.1)."""
    chain = chain_of("plain")
    forger = chain.forger
    for index in random.Random(file).sample(frames(forger, file), 2):
        for shift in (1, 8, 1 << 48):
            files = forger.forge(file, index, lambda record, s=shift: _shifted(record, s))
            found = verdict(chain, files)
            assert "names other sectors" in found.found
            assert found.restored == chain.content


def _shifted(record: Record, shift: int) -> Record:
    first, sectors = struct.unpack_from("<QI", record.extents)
    return replace(record, extents=struct.pack("<QI", first + shift, sectors) + record.extents[12:])


@pytest.mark.parametrize("file", [0, 1, 2])
def test_content_elsewhere(file: int) -> None:
    """A frame with other content, which only the block digests know better."""
    chain = chain_of("plain")
    forger = chain.forger
    for index in random.Random(file).sample(frames(forger, file), 2):
        for offset in (0, 77, 400):
            files = forger.forge(file, index, _on_plain(put(offset, b"\x5a\x5b")))
            assert "block digests" in verdict(chain, files).found
            check(chain, files, (file, index))


def test_without_digests_content_is_what_it_is() -> None:
    """Nobody can tell then; but that it comes back."""
    chain = chain_of("plain", layers=False)
    files = chain.forger.forge(2, frames(chain.forger, 2)[0], _on_plain(put(0, b"\x5a\x5b")))
    found = verdict(chain, files)
    assert found.found == ""
    assert isinstance(found.restored, bytes)


@pytest.mark.parametrize("kind", [RecordType.DIGEST_LEAF, RecordType.LAYER_LEAF])
def test_wrong_digests(kind: RecordType) -> None:
    """One digest, of each file that has some; the finding names device and range."""
    chain = chain_of("plain")
    forger = chain.forger
    tried = 0
    for file, name in enumerate(NAMES):
        for index in forger.files[file].indexes(kind):
            files = forger.forge(file, index, _on_plain(put(-1, b"\x5a")))
            with opened(files, chain, name) as image:
                for result in (image.verify(threads=1), image.verify(chain=True, threads=1)):
                    [damage] = [each for each in result.damage if "block digests" in each.what]
                    [(device, start, length)] = damage.ranges
                    assert (device, start % 65_536) == (0, 0)
                    assert length == min(65_536, SIZE - start)
            tried += 1
    assert tried >= 2


def test_a_digest_of_what_has_none() -> None:
    """A block of zeros with a digest, and data without one."""
    chain = chain_of("plain")
    forger = chain.forger
    index = forger.files[0].indexes(RecordType.DIGEST_LEAF)[0]
    digests = forger.files[0].records[index].plain[16:]
    rows = [digests[n : n + 16] for n in range(0, len(digests), 16)]
    assert bytes(16) not in rows[:1]
    files = forger.forge(0, index, _on_plain(put(16, bytes(16))))
    assert "block digests" in verdict(chain, files).found
    empty = next(n for n, row in enumerate(rows) if not any(row))
    files = forger.forge(0, index, _on_plain(put(16 + 16 * empty, b"\1" * 16)))
    assert "block digests" in verdict(chain, files).found


def test_samples_compare_what_they_look_at() -> None:
    """All of it at 100 percent; less at less, and never something that is right."""
    chain = chain_of("plain")
    forger = chain.forger
    index = frames(forger, 0)[5]
    files = forger.forge(0, index, lambda record: _shifted(record, 8))
    with opened(files, chain, "a") as image:
        assert not image.verify(sample=100, threads=1).ok
        found = [image.verify(sample=10, threads=1) for _ in range(5)]
        assert all(each.ok or "names other sectors" in each.damage[0].what for each in found)
    with opened(chain.files, chain, "c") as image:
        assert all(image.verify(sample=20, chain=True, threads=1).ok for _ in range(5))


# What the seal says of origins of others


def _entries(record: Record) -> list[int]:
    """Where a page or the seal tells of origins (section 7.1)."""
    plain = record.plain
    if record.type == RecordType.MAP:
        extents, refs, names, entries = struct.unpack_from("<IIHH", plain, 20)
        return origin_places(plain, 36 + 16 * names + 19 * extents + 64 * refs, entries)
    if record.type == RecordType.SEAL:
        devices, entries = struct.unpack_from("<HH", plain, 90)
        return origin_places(plain, 264 + 192 * devices, entries)
    return []


def _origins_of_others(forger: ChainForger, file: int) -> set[bytes]:
    own = forger.files[file].records[-1].origin
    found = {
        record.plain[place : place + 16]
        for record in forger.files[file].records
        for place in _entries(record)
    }
    return found - {own}


def _told(chain: Chain) -> dict[bytes, OriginEntry]:
    """What the last image says of all origins that its map names."""
    with opened(chain.files, chain, "c") as image:
        for _ in image.devices[0].map.walk():
            pass
        return {each.origin: each for each in image.origins.entries()}


def _retold(origin: bytes, at: int, new: bytes) -> RecordChange:
    """Whatever tells of an origin says something else of it, all alike."""

    def change(record: Record) -> Record:
        plain = bytearray(record.plain)
        for place in _entries(record):
            if plain[place : place + 16] == origin:
                plain[place + at : place + at + len(new)] = new
        return replace(record, plain=bytes(plain))

    return change


@pytest.mark.parametrize("chained", [False, True])
@pytest.mark.parametrize("change", [-1, 1, 1024, 1 << 30])
def test_frame_counts_of_others(change: int, chained: bool) -> None:
    """The reader believes the count; so somebody must have compared it (section 7.1)."""
    chain = chain_of("plain")
    forger = chain.forger
    origins = _origins_of_others(forger, 2)
    assert len(origins) == 2
    for origin in sorted(origins):
        count = _told(chain)[origin].frame_count + change
        files = forger.forge(2, None, _retold(origin, 32, struct.pack("<Q", count)))
        assert not check(chain, files, (origin, change))
        with opened(files, chain, "c") as image:
            assert not image.verify(threads=1, chain=chained).ok


def test_frame_tables_exchanged() -> None:
    """The last image gives the table of one origin to another."""
    chain = chain_of("plain")
    forger = chain.forger
    for origin in _origins_of_others(forger, 2):
        entries = _told(chain).values()
        other = next(each for each in entries if each.origin != origin and each.frame_count)
        new = struct.pack("<Q", other.frame_count) + encode_reference(other.table_root)
        assert not check(chain, forger.forge(2, None, _retold(origin, 32, new)), origin)


# Files


def test_files_of_a_chain() -> None:
    """Missing, doubled, exchanged, from another time, cut, without an end."""
    chain = chain_of("plain")
    a, b, c = chain.files
    other = Chain(tuple(ChainForger(chain.files).forge(0)), chain.content, "plain")
    younger = chain.forger.forge(1, frames(chain.forger, 1)[0], _on_plain(put(0, b"\x5a\x5b")))
    for files in (
        [None, b, c], [a, None, c], [None, None, c], [b, a, c], [a, a, c], [b, b, c],
        [a, b[:-1], c], [a[: len(a) // 2], b, c], [a, b"", c], [b"", b"", c],
        [a, younger[1], c], [a, younger[1], younger[2]], [a, b, younger[2]], [*other.files[:2], c],
    ):  # fmt: skip
        check(chain, files, [None if each is None else len(each) for each in files])


# Other users of a chain


@pytest.mark.parametrize("field", ["frame_shift", "stripe_shift", "fanout_shift"])
@pytest.mark.parametrize("file", [0, 1])
def test_others_refuse_other_sizes_too(file: int, field: str) -> None:
    """Merging refuses; an increment is refused, right, or as little whole as its parent."""
    chain = chain_of("plain")
    forger = chain.forger
    place = next(each for each in CORE if each.name == field)
    value = bytes([forger.files[file].core[place.at] + 1])
    files = forger.forge(file, core=put(place.at, value))
    system = MemorySystem({at(f"{n}.aiv"): each for n, each in zip(NAMES, files, strict=True)})
    paths = [at(f"{name}.aiv") for name in NAMES]
    with pytest.raises(AipImageError, match="other sizes"):
        merge_images(at("m.aiv"), paths, storage=Storage(system))
    assert at("m.aiv") not in system.files
    disk = Disk(chain.content)
    disk.write(1000, b"new")
    try:
        make(system, "d.aiv", [disk], "c.aiv", "plain")
    except AipImageError:
        assert at("d.aiv") not in system.files
        return
    with open_image(at("d.aiv"), storage=Storage(system)) as image:
        if image.verify(chain=True, threads=1).ok:
            assert image.devices[0].open().readall() == disk.content()
            return
        # As where a file is missing: the new image is whole in itself.
        with pytest.raises(AipImageError, match="other sizes"):
            image.devices[0].open().readall()


# One file


def test_one_file() -> None:
    """Without its chain a full image is judged as its restore goes."""
    chain = chain_of("plain")
    content = _content_of_the_first(chain)
    alone = ChainForger(chain.files[:1])
    every = list(mutations(alone))
    for mutation in random.Random(8).sample(every, 60):
        [file] = mutation.apply(alone)
        system = MemorySystem({at("a.aiv"): file})
        storage = Storage(system)
        try:
            with open_image(at("a.aiv"), storage=storage) as image:
                whole = image.verify(threads=1).ok
                image.restore(TARGET, threads=1, storage=storage)
        except AipImageError:
            with (
                contextlib.suppress(AipImageError),
                open_image(at("a.aiv"), storage=storage) as image,
            ):
                assert not image.verify(threads=1).ok, mutation
            continue
        if whole:
            assert system.files[TARGET] == content, mutation


def _content_of_the_first(chain: Chain) -> bytes:
    with opened(chain.files, chain, "a") as image:
        found: bytes = image.devices[0].open().readall()
        return found

"""Repairs of mutants: one either fails with a typed error and leaves nothing, or makes an image
that verifies and that reads as the original did wherever the report does not say that it is lost.
"""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache, partial

import pytest

from aipimage.errors import AipImageError
from aipimage.format.constants import RecordType
from aipimage.io.repair import RepairResult, repair_image
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.support.fields import boundary_values, fields_of
from tests.support.forge import Forger, Record, put
from tests.support.images import PATH, image_files, mixed
from tests.support.memory import ROOT, MemorySystem

OUT = f"{ROOT}/out.aiv"
DISKS = (mixed(1_300_000, 1) + bytes(700_000) + mixed(200_300, 2), mixed(150_000, 3))
Mutant = tuple[str, bytes]


@cache
def original(name: str) -> bytes:
    return image_files(name, DISKS, checkpoint_bytes=300_000)[PATH]


def repaired(data: bytes, zero_lost: bool = False) -> tuple[MemorySystem, RepairResult | None]:
    """Repair; an error must be a typed one and leave nothing behind."""
    system = MemorySystem({PATH: data})
    try:
        result = repair_image(PATH, OUT, zero_lost=zero_lost, storage=Storage(system))
    except AipImageError as error:
        told = str(error)
    else:
        assert set(system.files) == {PATH, OUT}
        assert system.open_descriptors == 0
        return system, result
    assert PATH in told or OUT in told
    assert set(system.files) == {PATH}
    return system, None


def check(mutant: Mutant, zero_lost: bool = False) -> RepairResult | None:
    """The law of this file."""
    system, result = repaired(mutant[1], zero_lost)
    if result is None:
        return None
    with open_image(OUT, storage=Storage(system)) as image:
        found = image.verify(threads=1)
        assert found.ok, (mutant[0], found.damage)
        for device, content in zip(image.devices, DISKS, strict=False):
            wanted = bytearray(content)
            lost = [(at, length) for number, at, length in result.lost if number == device.index]
            at = 0
            for start, length in [*lost, (device.size, 0)]:
                got = bytearray(start - at)
                device.read_into(got, at)
                same = min(len(got), max(0, len(wanted) - at))
                assert got[:same] == wanted[at : at + same], (mutant[0], device.index, at)
                at = start + length
    return result


# Mutants


def damaged(data: bytes, chance: random.Random) -> Mutant:
    """Bytes as disks, copies and cables damage them."""
    found = bytearray(data)
    at = chance.randrange(len(data))
    size = chance.choice((1, 16, 512, 4096, 30_000))
    other = chance.randrange(len(data))
    kind = chance.choice(("flip", "zeros", "noise", "moved", "cut", "inserted", "dropped"))
    if kind == "flip":
        found[at] ^= 1 << chance.randrange(8)
    elif kind == "zeros":
        found[at : at + size] = bytes(len(found[at : at + size]))
    elif kind == "noise":
        found[at : at + size] = chance.randbytes(len(found[at : at + size]))
    elif kind == "moved":
        piece = found[other : other + size]
        found[at : at + len(piece)] = piece
    elif kind == "cut":
        del found[at:]
    elif kind == "inserted":
        found[at:at] = chance.randbytes(size)
    else:
        del found[at : at + size]
    return f"{kind} at {at}, {size} bytes", bytes(found)


def forged_field(forger: Forger, chance: random.Random) -> Mutant:
    """A field of a page or of the seal, with every digest made anew."""
    kinds = (
        RecordType.SEAL,
        RecordType.MAP,
        RecordType.TABLE_LEAF,
        RecordType.DIGEST_LEAF,
        RecordType.CHECKPOINT,
    )
    index = chance.choice(forger.indexes(chance.choice(kinds)))
    record = forger.records[index]
    field = chance.choice(list(fields_of(record)))
    value = chance.choice(boundary_values(record.plain[field.at : field.at + field.size]))
    return f"{record.type} {field}: {value.hex()}", forger.forge(index, put(field.at, value))


def exchanged_entries(forger: Forger, chance: random.Random) -> Mutant:
    """Entries of a frame table, in whole or in part."""
    index = chance.choice(forger.indexes(RecordType.TABLE_LEAF))
    count = (len(forger.records[index].plain) - 16) // 48
    first, second = chance.sample(range(count), 2)
    start, size = chance.choice(((0, 48), (0, 8), (8, 4), (16, 32)))

    def change(plain: bytes) -> bytes:
        data = bytearray(plain)
        low, high = 16 + 48 * first + start, 16 + 48 * second + start
        data[low : low + size], data[high : high + size] = (
            data[high : high + size],
            data[low : low + size],
        )
        return bytes(data)

    return f"entries {first} and {second}, {size} bytes", forger.forge(index, change)


def strange_metadata(forger: Forger, chance: random.Random) -> Mutant:
    """A description or a result that no reader takes, or that says nothing."""
    index = chance.choice(forger.indexes(RecordType.METADATA))
    deep = b'{"devices":' * chance.choice((33, 2000)) + b"1"
    text = chance.choice(
        (b"", b"[]", b"{}", b"{", b"\xff", deep, deep + b"}" * deep.count(b"{"), b'{"devices":1}',
         json.dumps({"devices": [{"size": chance.choice((0, -1, 1 << 60, "x", 512))}]}).encode())
    )  # fmt: skip
    return f"metadata {text[:40]!r}", forger.forge(index, lambda _: text or b" ")


def strange_frame(forger: Forger, chance: random.Random) -> Mutant:
    """Another content, extents from elsewhere, another number, with its digest and its table."""
    index = chance.choice(forger.indexes(RecordType.FRAME))

    def change(record: Record) -> Record:
        kind = chance.choice(("content", "extents", "device", "number"))
        at, sectors = struct.unpack_from("<QI", record.extents)
        if kind == "content":
            return replace(record, plain=put(chance.randrange(500), b"\x5a\x5b")(record.plain))
        if kind == "number":
            return replace(record, number=record.number + chance.choice((1, 1000)))
        moved = at + (1 << 48 if kind == "device" else chance.choice((1, 8, 800)))
        return replace(record, extents=struct.pack("<QI", moved, sectors) + record.extents[12:])

    return f"frame {index}", forger.forge_record(index, change)


def mutants(name: str, count: int) -> Iterator[Mutant]:
    data = original(name)
    forger = Forger(data)
    chance = random.Random(f"{name} {count}")
    makers: list[Callable[[], Mutant]] = [
        partial(damaged, data, chance),
        partial(forged_field, forger, chance),
        partial(exchanged_entries, forger, chance),
        partial(strange_metadata, forger, chance),
        partial(strange_frame, forger, chance),
    ]
    for number in range(count):
        yield makers[number % len(makers)]()


@pytest.mark.parametrize("name", ["plain", "zstd"])
def test_mutants(name: str) -> None:
    """Most are saved, and many without any loss."""
    results = [check(mutant, number % 4 == 3) for number, mutant in enumerate(mutants(name, 50))]
    saved = [each for each in results if each is not None]
    assert len(saved) > 40
    assert sum(each.ok for each in saved) > 15


@pytest.mark.long
@pytest.mark.parametrize("name", ["plain", "zstd"])
def test_many_mutants(name: str) -> None:
    for number, mutant in enumerate(mutants(name, 750)):
        check(mutant, number % 4 == 3)


def test_exchanged_entries_cost_nothing() -> None:
    """The frames say themselves which ones they are: the table is written anew."""
    forger = Forger(original("plain"))
    chance = random.Random(1)
    for _ in range(8):
        result = check(exchanged_entries(forger, chance))
        assert result is not None
        assert result.ok


def test_a_deep_description_costs_nothing() -> None:
    forger = Forger(original("plain"))
    text = b'{"devices":' + b"[" * 40 + b"]" * 40 + b"}"
    for index in forger.indexes(RecordType.METADATA):
        result = check(("deep", forger.forge(index, lambda _: text)))
        assert result is not None
        assert result.ok


def test_what_contradicts_itself_is_lost() -> None:
    """A frame whose content is not that of the block digests; and only that."""
    forger = Forger(original("plain"))
    index = forger.indexes(RecordType.FRAME)[7]
    result = check(("content", forger.forge(index, put(100, b"other"))))
    assert result is not None
    assert not result.ok
    assert 0 < result.lost_bytes <= 65_536
    assert any("contradicted" in each for each in result.warnings)


@pytest.mark.parametrize("zero_lost", [False, True])
def test_digests_of_what_is_lost(zero_lost: bool) -> None:
    """Where what is lost reads as zeros, its digests are not those of the content any more."""
    data = bytearray(original("plain"))
    record = Forger(bytes(data)).records
    frame = next(each for each in record if each.type == RecordType.FRAME)
    data[frame.offset + 60] ^= 1
    result = check(("flip", bytes(data)), zero_lost)
    assert result is not None
    assert result.lost_bytes
    assert any("digests were left out" in each for each in result.warnings) == zero_lost

"""Every field of a real image at boundary values, with digests, MACs and tags made anew."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest

from aipimage import verify_keyless
from aipimage.errors import AipImageError
from aipimage.format.constants import RecordType
from aipimage.io.records.keys import ChainKeys
from aipimage.io.stream.instream import open_stream
from aipimage.io.stream.opening import read_header, unlock_header
from aipimage.io.system.storage import Storage
from aipimage.volumes.image import open_image
from tests.support import fields
from tests.support.forge import Change, Forger, put
from tests.support.images import (
    MIB,
    PATH,
    image_files,
    mixed,
    password_of,
    read_all,
    remember_derivations,
    sparse,
)
from tests.support.limits import bound_memory, in_processes, time_bound
from tests.support.memory import MemorySystem

CONTENTS = [mixed(20_000), sparse(MIB + 65_536, 49_152), bytes(5000)]
NAMES = ("plain", "zstd", "aes", "auth")
# Fields that say what is where: who holds the keys and makes all digests anew makes another image.
CHANGES_DATA = ("lengths", "steps", "kinds", "device0.size", "device1.size", "device2.size")


def forger_of(name: str) -> Forger:
    remember_derivations()
    data = image_files(name, CONTENTS, checkpoint_bytes=1)[PATH]
    return Forger(data, keys_of(name, data))


def keys_of(name: str, data: bytes) -> ChainKeys | None:
    with open_stream(Storage(MemorySystem({PATH: data})), PATH) as stream:
        return unlock_header(stream, read_header(stream), password_of(name))


def findings(data: bytes, name: str, what: str) -> list[str]:
    """Open, read, verify in all ways; return what must not be."""
    found: list[str] = []
    storage = Storage(MemorySystem({PATH: data}))
    try:
        with time_bound():
            readable, verified = _read_and_verify(storage, password_of(name))
        if readable == "other data" and what.rsplit(" ", 1)[-1] not in CHANGES_DATA:
            found.append(f"{what}: silently other data")
        if readable == "refused" and verified:
            found.append(f"{what}: verification calls an image whole that cannot be read")
    except Exception as error:
        found.append(f"{what}: {type(error).__name__}: {error}")
    return found


def _read_and_verify(storage: Storage, password: str | None) -> tuple[str, bool]:
    """Return ("same", "other data" or "refused", whether a full verification is content)."""
    with contextlib.suppress(AipImageError):
        verify_keyless(PATH, threads=1, storage=storage)
    try:
        image = open_image(PATH, password, storage=storage)
    except AipImageError:
        return "refused", False
    with image:
        try:
            _ = image.metadata
            if sum(device.size for device in image.devices) > 1 << 26:
                return _read_ends(image), image.verify(threads=1).ok
            readable = "same" if read_all(image) == CONTENTS else "other data"
        except AipImageError:
            readable = "refused"
        return readable, image.verify(threads=1).ok


def _read_ends(image: Any) -> str:
    """A device that is said to be huge: its first and last bytes."""
    for device in image.devices:
        for offset in (0, device.size // 2, device.size - 512):
            device.read_into(bytearray(512), offset)
    return "other data"


def forged(forger: Forger, index: int | None, change: Change, part: str) -> bytes:
    if part == "trailer":
        return forger.forge(None, change, trailer=change)
    if part == "core":
        return forger.forge(None, change, core=change)
    return forger.forge(index, change)


def structures(forger: Forger) -> list[tuple[str, int | None, bytes, list[fields.Field]]]:
    """Every structure once or twice: (name, record index, plain bytes, fields)."""
    found: list[tuple[str, int | None, bytes, list[fields.Field]]] = [
        ("core", None, forger.core, fields.CORE),
        ("trailer", None, forger.data[-256:], fields.TRAILER),
    ]
    kinds = set(RecordType) - {RecordType.FRAME, RecordType.CONTINUATION, RecordType.SEGMENTS}
    for kind in sorted(kinds):
        for index in {*forger.indexes(kind)[:1], *forger.indexes(kind)[-1:]}:
            record = forger.records[index]
            found.append((kind.name, index, record.plain, fields.fields_of(record)))
    return found


def check_share(name: str, share: int, shares: int) -> tuple[int, list[str]]:
    forger = forger_of(name)
    bound_memory()
    count, found = 0, []
    cases = [
        (part, index, plain, field, value)
        for part, index, plain, listed in structures(forger)
        for field in listed
        for value in fields.boundary_values(plain[field.at : field.at + field.size])
    ]
    for part, index, _, field, value in cases[share::shares]:
        count += 1
        data = forged(forger, index, put(field.at, value), part)
        found += findings(data, name, f"{value.hex()} in {part} {index} {field.name}")
    return count, found


@pytest.mark.parametrize("name", NAMES)
def test_every_field_at_boundary_values(name: str) -> None:
    results = in_processes(check_share, [(name, share, 2) for share in range(2)])
    assert sum(count for count, _ in results) > 3000
    found = [text for _, texts in results for text in texts]
    assert not found, f"{len(found)} findings: " + "; ".join(found[:10])


@pytest.mark.parametrize("name", NAMES)
def test_a_forged_image_without_a_change_is_whole(name: str) -> None:
    """The forger itself: its images pass every check, so that what fails fails for the change."""
    forger = forger_of(name)
    data = forger.forge(None, lambda plain: plain)
    assert not findings(data, name, "nothing")
    storage = Storage(MemorySystem({PATH: data}))
    assert _read_and_verify(storage, password_of(name)) == ("same", True)


@pytest.mark.parametrize("name", NAMES)
def test_verification_compares_the_map_with_the_sizes_of_frames(name: str) -> None:
    """Section 13: the map is checked against the frame tables. A map that points behind the end of
    a short frame cannot be read, and a full verification says so."""
    data = forged(forger_of(name), None, put(73, bytes([13])), "core")
    assert not findings(data, name, "a greater frame size")

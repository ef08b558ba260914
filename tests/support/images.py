"""Small images in memory, and the questions that every safety test asks of one."""

from __future__ import annotations

import contextlib
import io
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aipimage import verify_keyless
from aipimage.errors import AipImageError
from aipimage.io.creating.options import CreateOptions
from aipimage.io.creating.results import CreateResult
from aipimage.io.increment.create import create_image
from aipimage.io.records import keys
from aipimage.io.records.keys import Argon2Parameters
from aipimage.io.system.storage import Storage, SystemCalls
from aipimage.volumes.image import Image, open_image
from tests.support.memory import ROOT, MemorySystem

PATH = f"{ROOT}/d.aiv"
PASSWORD = "correct horse"
CHEAP = Argon2Parameters(memory=8192, passes=1, lanes=1)
MIB = 1 << 20

PROTECTED: dict[str, dict[str, Any]] = {
    "plain": {"compress": "none"},
    "zstd": {"compress": "zstd:1"},
    "aes": {"encrypt": "aes-256", "password": PASSWORD, "compress": "zstd:1"},
    "auth": {"encrypt": "authenticate", "password": PASSWORD, "compress": "none"},
    "split": {"encrypt": "aes-128", "password": PASSWORD, "compress": "zstd:1", "split": 16_384},
}
"""Options by name; the keys are the names that tests are parametrised with."""

_real_slot_keys = keys._slot_keys
_known: dict[tuple[object, ...], tuple[bytes, bytes]] = {}
_known_lock = threading.Lock()


def remember_derivations() -> None:
    """Derive each (password, salt, costs, chain) once in this process: the answers are the same."""

    def remembering(slot: keys.Slot, secret: bytes, chain_id: bytes) -> tuple[bytes, bytes]:
        place = (secret, slot.salt, slot.memory, slot.passes, slot.lanes, chain_id)
        with _known_lock:
            if place not in _known:
                _known[place] = _real_slot_keys(slot, secret, chain_id)
            return _known[place]

    keys._slot_keys = remembering


def options(name: str = "plain", **changes: Any) -> CreateOptions:
    """Options of :data:`PROTECTED` for small images: cheap keys, small frames and stripes."""
    values: dict[str, Any] = {"argon2": CHEAP, "frame_shift": 12, "stripe_shift": 20, "threads": 1}
    return CreateOptions(**(values | PROTECTED[name] | changes))


def password_of(name: str) -> str | None:
    """The password that options of this name need."""
    return PROTECTED[name].get("password")


def mixed(size: int, seed: int = 0) -> bytes:
    """Random, compressible and zero clusters in turn."""
    chance = random.Random(seed)
    parts: list[bytes] = []
    while sum(map(len, parts)) < size:
        kind = chance.randrange(3)
        parts.append((chance.randbytes(4096), chance.randbytes(64) * 64, bytes(4096))[kind])
    return b"".join(parts)[:size]


def sparse(size: int, every: int = 65_536, seed: int = 0) -> bytes:
    """Zeros with one random 4 KiB cluster at each multiple of ``every``."""
    data, chance = bytearray(size), random.Random(seed)
    for at in range(0, size - 4095, every):
        data[at : at + 4096] = chance.randbytes(4096)
    return bytes(data)


def create(
    system: SystemCalls,
    contents: Sequence[bytes],
    chosen: CreateOptions,
    path: str = PATH,
    progress: Any = None,
) -> CreateResult:
    """Image some bytes."""
    sources = [io.BytesIO(content) for content in contents]
    return create_image(path, sources, chosen, progress, Storage(system))


def image_files(name: str, contents: Sequence[bytes], **changes: Any) -> dict[str, bytes]:
    """Return the files of an image: path to content."""
    system = MemorySystem()
    create(system, contents, options(name, **changes))
    return system.snapshot()


def read_all(image: Image) -> list[bytes]:
    """Every byte of every device."""
    return [device.open().readall() for device in image.devices]


def contents_of(system: SystemCalls, password: str | None = None, path: str = PATH) -> list[bytes]:
    """Open and read everything."""
    with open_image(path, password, storage=Storage(system)) as image:
        return read_all(image)


def verify_finds(system: SystemCalls, password: str | None = None, path: str = PATH) -> bool:
    """Whether a full verification finds damage."""
    try:
        with open_image(path, password, storage=Storage(system)) as image:
            return not image.verify(threads=1).ok
    except AipImageError:
        return True


def keyless_finds(system: SystemCalls, path: str = PATH) -> bool:
    """Whether a verification without keys finds damage."""
    try:
        return not verify_keyless(path, threads=1, storage=Storage(system)).ok
    except AipImageError:
        return True


def outcome(
    system: SystemCalls, contents: Sequence[bytes], password: str | None = None
) -> AipImageError | None:
    """Open and read everything: the typed error, or ``None`` when all is as it was.

    Anything else, and bytes that differ, fail the test.
    """
    try:
        found = contents_of(system, password)
    except AipImageError as error:
        return error
    assert found == list(contents), "silent corruption"
    return None


@contextlib.contextmanager
def flipped(data: bytearray, bit: int) -> Iterator[None]:
    """One bit turned over, for a while."""
    data[bit >> 3] ^= 1 << (bit & 7)
    try:
        yield
    finally:
        data[bit >> 3] ^= 1 << (bit & 7)


class ArraySource:
    """A block source over bytes that a test may change, with a fingerprint of its choice."""

    sector_size = 512

    def __init__(self, data: bytes, mark: int = 0) -> None:
        self.name, self.data, self.mark = "array", bytearray(data), mark
        self.on_read: Any = None

    @property
    def size(self) -> int:
        """Bytes now."""
        return len(self.data)

    def read_into(self, buffer: Any, offset: int) -> None:
        """Fill ``buffer``."""
        if self.on_read is not None:
            self.on_read(offset)
        view = memoryview(buffer).cast("B")
        view[:] = memoryview(self.data)[offset : offset + view.nbytes]

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """All of it."""
        if start < min(end, self.size):
            yield start, min(end, self.size) - start

    def fingerprint(self) -> dict[str, int | str]:
        """Size and mark."""
        return {"kind": "array", "size": self.size, "mark": self.mark}

    def close(self) -> None:
        """Nothing."""


def assert_whole(
    files: Mapping[str, bytes],
    contents: Sequence[bytes],
    password: str | None = None,
    path: str = PATH,
) -> None:
    """The image in ``files`` is whole: it reads as ``contents``, and both verifications agree."""
    system = MemorySystem(files)
    assert contents_of(system, password, path) == list(contents)
    assert not verify_finds(system, password, path)
    assert not keyless_finds(system, path)

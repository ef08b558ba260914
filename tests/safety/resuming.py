"""Interrupted creations of realistic disks: what they leave, cut anywhere, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from blake3 import blake3

from aipimage.format import constants as c
from aipimage.io.chain.digests import DigestView
from aipimage.io.create import CreateOptions, CreateResult, create_image
from aipimage.io.image import Image, open_image
from aipimage.io.sources import BlockSource
from aipimage.io.storage import Storage, SystemCalls
from tests.safety.images import CHEAP, PASSWORD, PATH
from tests.safety.memory import MemorySystem
from tests.support.realistic import SMALL, RealisticDisk

PARTIAL = PATH + ".partial"
PROTECTED: dict[str, dict[str, Any]] = {
    "plain": {"compress": "zstd:1"},
    "aes": {"compress": "zstd:1", "encrypt": "aes-256", "password": PASSWORD},
    "gmac": {"compress": "none", "encrypt": "authenticate", "password": PASSWORD},
}


class StoppedError(Exception):
    """What a test stops a creation with."""


class Facts(NamedTuple):
    """What an image says of its devices: content, extents with their kinds, block digests."""

    contents: list[bytes]
    extents: list[list[tuple[int, int, str]]]
    digests: list[bytes]


def chosen(name: str = "plain", **changes: Any) -> CreateOptions:
    """Options for realistic disks, with cheap keys."""
    values = {**SMALL, "threads": 1, "argon2": CHEAP, **PROTECTED[name], **changes}
    return CreateOptions(**values)


def run(
    system: SystemCalls, sources: Sequence[BlockSource], options: CreateOptions, path: str = PATH
) -> CreateResult:
    """Create."""
    return create_image(path, list(sources), options, None, Storage(system))


def stop_at(disks: Sequence[RealisticDisk], reads: int) -> None:
    """Let the disks' n-th read from now on raise; no number of reads does with -1."""
    left = reads

    def count(offset: int) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise StoppedError

    for disk in disks:
        disk.on_read = None if reads < 0 else count


def interrupted(
    system: SystemCalls, disks: Sequence[RealisticDisk], options: CreateOptions, reads: int,
    path: str = PATH, used: bool = False,
) -> bool:  # fmt: skip
    """Create until the n-th read; return whether it was interrupted."""
    stop_at(disks, reads)
    try:
        run(system, given(disks, used), options, path)
    except StoppedError:
        return True
    finally:
        stop_at(disks, -1)
    return False


def given(disks: Sequence[RealisticDisk], used: bool) -> list[BlockSource]:
    """The disks as sources, ``used`` without their free space."""
    return [disk.used() if used else disk for disk in disks]


def reads_of(
    base: MemorySystem, disks: Sequence[RealisticDisk], options: CreateOptions, path: str = PATH,
    used: bool = False,
) -> int:  # fmt: skip
    """How many reads a creation takes."""
    count = 0

    def note(offset: int) -> None:
        nonlocal count
        count += 1

    for disk in disks:
        disk.on_read = note
    run(MemorySystem(base.snapshot()), given(disks, used), options, path)
    stop_at(disks, -1)
    return count


def facts_of(system: SystemCalls, password: str | None = None, path: str = PATH) -> Facts:
    """Read everything, after a full verification that must find nothing."""
    with open_image(path, password, storage=Storage(system)) as image:
        verified = image.verify(threads=1)
        assert verified.ok, verified.damage[:3]
        return Facts(
            [bytes(device.open().readall()) for device in image.devices],
            [
                [(each.start, each.length, each.kind.name) for each in device.extents()]
                for device in image.devices
            ],
            [_digests_of(image, index) for index in range(len(image.devices))],
        )


def _digests_of(image: Image, index: int) -> bytes:
    device = image.devices[index]
    blocks = -(-device.size // c.BLOCK)
    shift = image.header.stripe_shift
    view = DigestView(image.records, device.entry.digest_root, blocks, shift)
    return view.read(0, blocks).tobytes()


def digests_by_content(content: bytes) -> bytes:
    """The block digests of a device as docs/format.md, section 8, has them."""
    content += bytes(-len(content) % c.BLOCK)
    blocks = [content[at : at + c.BLOCK] for at in range(0, len(content), c.BLOCK)]
    return b"".join(blake3(each).digest(16) if any(each) else bytes(16) for each in blocks)
